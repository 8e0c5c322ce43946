"""Day 59 · GRPO: several answers to one prompt judge each other, and no value head is needed.

An answer's advantage is its reward less the mean reward of its group: the answers to one prompt.
The clip and the ratio are day 57's. The KL stands in the loss and not in the reward. As there,
`experience` is the iterator of batches that `fit` takes. Left out: sampling again for prompts
whose group has learned nothing, a wider clip upwards, and rewards inside of an answer.
"""

from dataclasses import dataclass

import numpy as np

from llm.align.kl import k1
from llm.align.ppo import answer_logps
from llm.align.rollout import rollout
from llm.functions.logps import IGNORE, token_logps
from llm.grad.tensor import no_grad, primitive

BASELINES, SHARES = ("group", "others"), ("answer", "token", "constant")
FAR = 20.0                     # nats; e²⁰ is half a billion


def group_advantages(rewards, baseline="group", divide=True):
    """rewards (P, G), G answers to each of P prompts -> advantages (P, G), float64.

    baseline: "group" subtracts the mean of the whole group, "others" that of the other G − 1
    answers. divide: by the standard deviation of the group (of its G rewards, not G − 1). A group
    of equal rewards has advantages of exactly 0, for it has nothing to tell.
    Raises ValueError for another shape, G < 2, rewards that are not finite, another baseline.
    Source: Shao et al. (2024), section 4.1.2; without the division: Liu et al. (2025), section 3.
    """
    rewards = np.asarray(rewards, np.float64)
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(f"rewards {rewards.shape}: wanted (P, G) with G ≥ 2 answers to each of P "
                         "prompts; an answer alone is its own mean, and nothing could be learned")
    if not np.isfinite(rewards).all():
        raise ValueError(f"rewards from {rewards.min()} to {rewards.max()}: all must be finite. "
                         "Give an answer that cannot be judged the reward 0")
    if baseline not in BASELINES:
        raise ValueError(f"baseline {baseline!r}: wanted one of {BASELINES}")
    G = rewards.shape[1]
    equal = np.ptp(rewards, axis=1, keepdims=True) == 0             # (P, 1)
    away = np.where(equal, 0, rewards - rewards.mean(axis=1, keepdims=True))
    if baseline == "others":
        away = away * (G / (G - 1))
    return away / np.where(equal, 1, rewards.std(axis=1, keepdims=True)) if divide else away


def token_weights(targets, share="answer", n=None):
    """How much each token counts, (N, T) float64: 0 where targets is −100.

    "answer": each answer 1/N, shared by its own tokens (GRPO). "token": each token of the batch the
    same (DAPO). "constant": each token 1/(N·n), n the most tokens an answer may have (Dr. GRPO).
    An answer without tokens has no weight. Raises ValueError on another share, and n < 1 there.
    Source: Shao et al. (2024), eq. 3; Yu et al. (2025), section 3.3; Liu et al. (2025), section 3.
    """
    if share not in SHARES:
        raise ValueError(f"share {share!r}: wanted one of {SHARES}")
    if share == "constant" and (n is None or n < 1):
        raise ValueError(f"share 'constant' needs n ≥ 1, the most tokens of an answer, not {n}")
    counted = targets != IGNORE
    length, N = counted.sum(axis=1, keepdims=True), len(targets)    # (N, 1)
    if share == "answer":
        return counted / (N * np.maximum(length, 1))
    return counted / (max(int(length.sum()), 1) if share == "token" else N * n)


def objective(logps, old, reference, advantages, weights, clip=0.2, beta=0.0):
    """Σ w·(β·k3 − min(q·A, clip(q, 1 − ε, 1 + ε)·A)), q = exp(logps − old): the loss of GRPO.

    logps, old (under the policy that has sampled), reference, weights (0 where nothing counts):
    (N, T); advantages (N,), one an answer. Returns a scalar of the type of logps and the slope.
    Both are finite for any finite input: from a log-ratio of FAR on, exp goes on along its tangent.
    20 FLOPs and two exp a token. Raises ValueError on misfit shapes, a clip or a beta below 0.
    Source: Shao et al. (2024), eq. 3 and 4; the tangent is ours.
    """
    if (not logps.shape == old.shape == reference.shape == weights.shape or logps.ndim != 2
            or np.shape(advantages) != logps.shape[:1]):
        raise ValueError(f"objective: logps {logps.shape}, old {old.shape}, reference "
                         f"{reference.shape} and weights {weights.shape} must be (N, T), and "
                         f"advantages {np.shape(advantages)} (N,)")
    if not (clip >= 0 and beta >= 0):
        raise ValueError(f"objective: clip {clip} and beta {beta} must be at least 0")
    counted, A = weights > 0, np.asarray(advantages)[:, None]       # (N, T), (N, 1)
    with np.errstate(over="ignore", invalid="ignore"):              # where nothing counts
        d, u = logps - old, reference - logps                       # ln q, ln ρ/π
        near, close = np.minimum(d, FAR), np.minimum(u, FAR)
        rise, pull = np.exp(near), np.expm1(close)
        ratio, k3 = rise * (1 + (d - near)), pull + (pull + 1) * (u - close) - u
        plain, held = ratio * A, np.clip(ratio, 1 - clip, 1 + clip) * A
        loss = beta * k3 - np.minimum(plain, held)
        slope = -beta * pull - np.where(plain > held, 0, rise * A)
        loss = (weights * loss)[counted].sum(dtype=np.float64)
        slope = np.where(counted, weights * slope, 0).astype(logps.dtype)
    return np.asarray(loss, logps.dtype), (slope,)


def objective_vjp(dout, slope):
    """w·(β·(1 − ρ/π) − q·A), without the second term where the clipped one is the smaller."""
    return dout * slope, None, None, None, None


surrogate = primitive(objective, objective_vjp)


@dataclass(frozen=True)
class GRPO:
    """The settings of a round."""

    P: int = 16                # prompts of a round
    G: int = 8                 # answers to each
    n: int = 16                # tokens of an answer, at most
    epochs: int = 1            # how often each answer is learned from
    parts: int = 1             # batches that a round is cut into, in each epoch
    clip: float = 0.2          # ε
    beta: float = 0.0          # of the KL in the loss
    baseline: str = "group"    # or "others"
    divide: bool = True        # by the standard deviation of the group
    share: str = "answer"      # or "token", "constant"

    @property
    def updates(self):
        """Steps of `fit` in one round."""
        return self.epochs * self.parts


@dataclass(frozen=True)
class Experience:
    """N = P·G answers, those of one prompt side by side, and what is to be learned from them."""

    ids: np.ndarray            # (N, T)
    targets: np.ndarray        # (N, T), −100 outside of the answers
    logps: np.ndarray          # (N, T), under the policy that has sampled them
    reference: np.ndarray      # (N, T); equal to logps where β is 0 and nobody has asked
    advantages: np.ndarray     # (N,)

    def rows(self, chosen):
        """The answers with these numbers."""
        return Experience(*(array[chosen] for array in vars(self).values()))


@dataclass(frozen=True)
class Report:
    """What a round has brought."""

    reward: float              # mean over the answers
    silent: float              # share of groups whose rewards are all equal
    kl: float                  # nats an answer from the reference, by k1; 0 where β is 0
    length: float              # tokens an answer
    ended: float               # share of answers that were not cut


def experience(model, reference, draw, score, settings, rng, stop=None, hook=None):
    """An endless iterator of Experience for `fit`, `settings.updates` of them a round.

    draw(P) -> P pairs (prompt ids, anything); score([anything], [answer ids]) -> N numbers, one an
    answer. reference: a model, or None where beta is 0. hook(Report) after each round's sampling.
    Raises ValueError, at once, where β > 0 without a reference or with one of another vocabulary.
    """
    if settings.beta > 0 and (reference is None or reference.config.V != model.config.V
                              or reference.config.T < model.config.T):
        raise ValueError(f"beta {settings.beta} asks for a reference with the model's vocabulary "
                         f"of {model.config.V} that reads {model.config.T} ids: give a copy of "
                         "the start")
    return rounds(model, reference, draw, score, settings, rng, stop, hook)


def rounds(model, reference, draw, score, settings, rng, stop, hook):
    """The generator behind `experience`: each round runs when `fit` asks for its first batch."""
    P, G = settings.P, settings.G
    while True:
        prompts, about = zip(*draw(P), strict=True)
        taken = rollout(model, prompts, settings.n, rng, stop=stop, A=G)
        asked = [one for one in about for _ in range(G)]
        rewards = np.asarray(score(asked, taken.answers()), np.float64).reshape(P, G)
        known = taken.logps
        if settings.beta > 0:
            with no_grad():
                known = token_logps(reference(taken.ids).data, taken.targets)[0]
        advantages = group_advantages(rewards, settings.baseline, settings.divide).reshape(-1)
        if hook is not None:
            hook(Report(float(rewards.mean()), float((np.ptp(rewards, axis=1) == 0).mean()),
                        float(k1(taken.logps, known).sum(axis=1).mean()),
                        float((taken.targets != IGNORE).sum(axis=1).mean()),
                        float(taken.ended.mean())))
        learned = Experience(taken.ids, taken.targets, taken.logps, known, advantages)
        for _ in range(settings.epochs):
            for chosen in np.array_split(rng.permutation(P * G), settings.parts):
                yield learned.rows(chosen)


def loss(model, settings):
    """The loss for `fit`: Experience -> (the objective, tokens that count)."""
    def of_batch(batch):
        weights = token_weights(batch.targets, settings.share, settings.n)
        logps = answer_logps(model.logits(model.hidden(batch.ids)), batch.targets)
        return surrogate(logps, batch.logps, batch.reference, batch.advantages,
                         weights.astype(logps.dtype), clip=settings.clip, beta=settings.beta), \
            int((batch.targets != IGNORE).sum())
    return of_batch
