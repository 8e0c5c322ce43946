"""Day 57 · Credit: from one reward an answer to one advantage a token.

All arrays are (N, T), one row an answer; `targets` is −100 outside of the answers (rollout.py).
Left out: rewards in the middle of an answer, which `gae` would take, and states shared by answers.
"""

import numpy as np

from llm.functions.logps import IGNORE


def last_tokens(targets):
    """(N, T) bool: True at the last token of each answer; a row without an answer has none."""
    counted = targets != IGNORE
    later = np.cumsum(counted[:, ::-1], axis=1)[:, ::-1]         # tokens from here to the end
    return counted & (later == 1)


def token_rewards(scores, logps, reference, targets, beta):
    """−β·(ln π − ln ρ) at each token of the answer, and the answer's score at its last one.

    scores (N,); logps, reference (N, T) of the sampled tokens under policy and reference. The sum
    over an answer is score − β·ln(π/ρ) of the whole answer. An answer without tokens gets nothing.
    Raises ValueError on shapes that do not fit.
    Source: Ziegler et al. (2019), eq. 2, written token by token.
    """
    scores = np.asarray(scores, logps.dtype)
    if not logps.shape == reference.shape == targets.shape or scores.shape != logps.shape[:1]:
        raise ValueError(f"scores {scores.shape}, logps {logps.shape}, reference "
                         f"{reference.shape} and targets {targets.shape} do not belong together: "
                         "wanted (N,) and three times (N, T)")
    penalty = np.asarray(beta, logps.dtype) * (logps - reference)
    return (np.where(targets != IGNORE, -penalty, 0)
            + np.where(last_tokens(targets), scores[:, None], 0))


def gae(rewards, values, done, gamma=1.0, lam=0.95):
    """Generalised advantage estimates, (N, T), from the last token to the first.

    δ_t = r_t + γ·V_{t+1} − V_t and A_t = δ_t + γλ·A_{t+1}; where done[t], nothing that comes later
    counts, neither V_{t+1} nor A_{t+1}. values[t]: what V expects before token t is chosen. Behind
    the last column there is nothing. 7 FLOPs a token.
    Raises ValueError on shapes that differ, and on γ or λ outside [0, 1].
    Source: Schulman et al. (2016), eq. 16; (2017), eq. 11 and 12.
    """
    if not rewards.shape == values.shape == done.shape or rewards.ndim != 2:
        raise ValueError(f"rewards {rewards.shape}, values {values.shape} and done {done.shape} "
                         "must have one shape (N, T)")
    if not (0 <= gamma <= 1 and 0 <= lam <= 1):
        raise ValueError(f"gamma {gamma} and lam {lam} must be in [0, 1]")
    advantages = np.zeros_like(rewards)
    ahead = value = np.zeros(len(rewards), rewards.dtype)          # A and V of the token after
    for t in reversed(range(rewards.shape[1])):
        goes_on = ~done[:, t]
        delta = rewards[:, t] + gamma * value * goes_on - values[:, t]
        advantages[:, t] = ahead = delta + gamma * lam * ahead * goes_on
        value = values[:, t]
    return advantages


def whiten(x, counted):
    """(x − mean) / standard deviation over the entries that count; 0 at the others.

    Where all that count are equal there is nothing to learn from them: all zeros, and not rounding
    errors divided by each other. Raises ValueError on shapes that differ.
    """
    if x.shape != counted.shape:
        raise ValueError(f"x {x.shape} and counted {counted.shape} must have one shape")
    out, chosen = np.zeros_like(x), x[counted].astype(np.float64)
    if chosen.size and np.ptp(chosen) > 0:
        out[counted] = (chosen - chosen.mean()) / chosen.std()
    return out
