"""Day 58 · DPO, IPO, ORPO: three losses on pairs of answers, without a reward model or sampling.

Each is a pair as on day 14: the forward returns the mean loss and what the backward needs. They
know nothing of models: they take log-probabilities of whole answers. `llm/align/offline.py` gets
these from a model and trains with them. Left out: label smoothing, answers without a partner
(KTO), ties, and pairs sampled anew from the policy while it trains.
"""

import numpy as np

from llm.functions.margins import bradley_terry, bradley_terry_vjp
from llm.functions.probability import softmax

CERTAIN = -2.0 ** -20       # the largest mean log p whose odds we take: odds of a million to one


def best_policy(reference, reward, beta):
    """π_ref·exp(r/β)/Z: what maximises E[r] − β·KL(π‖π_ref) among all distributions.

    reference: (..., A) probabilities of the A answers to a prompt, each row with sum 1; reward:
    (..., A), in any unit, the one of beta. Returns (..., A). Where the reference is 0, so is this.
    Raises ValueError where beta is not above 0.
    Source: Rafailov et al. (2023), equation 4.
    """
    positive("beta", beta)
    with np.errstate(divide="ignore"):                                          # ln 0 = −∞
        return softmax(np.log(reference) + reward / beta)


def margin(chosen, rejected, ref_chosen, ref_rejected):
    """h = ln π(w)/π_ref(w) − ln π(l)/π_ref(l) in nats: how far the policy has moved towards w.

    All four are log-probabilities (N,) of answers: w the chosen one, l the rejected one. β·h is
    the difference of the two implicit rewards. Returns (N,).
    Raises ValueError, with the shapes, unless all four are (N,) with N ≥ 1.
    """
    same_shape(chosen, rejected, ref_chosen, ref_rejected)
    return (chosen - ref_chosen) - (rejected - ref_rejected)


def dpo(chosen, rejected, ref_chosen, ref_rejected, beta=0.1):
    """Mean of −ln σ(βh) in nats, h the margin: day 56's loss of the reward difference β·h.

    The reference's two inputs get no gradient.

    chosen, rejected, ref_chosen, ref_rejected: (N,), each the sum of its answer's ln p. beta: the
    weight of the KL divergence in the objective that DPO solves, above 0.
    Raises ValueError as `margin` does, or where beta is not above 0.
    Source: Rafailov et al. (2023), equation 7; the gradient is the unnumbered one of section 4.
    """
    positive("beta", beta)
    loss, saved = bradley_terry(beta * margin(chosen, rejected, ref_chosen, ref_rejected))
    return loss, (beta, *saved)


def dpo_vjp(dout, beta, *saved):
    """−β σ(−βh) / N for each chosen answer's ln p, the opposite for the rejected one's."""
    slope = beta * bradley_terry_vjp(dout, *saved)[0]                           # (N,)
    return slope, -slope, None, None


def ipo(chosen, rejected, ref_chosen, ref_rejected, tau=0.1):
    """Mean of (h − 1/(2τ))², h the margin: a pair that is far enough apart is left alone.

    Inputs and errors as for `dpo`; tau: the weight of the KL divergence, above 0.
    Source: Azar et al. (2024), equation 17.
    """
    positive("tau", tau)
    gap = margin(chosen, rejected, ref_chosen, ref_rejected) - 1 / (2 * tau)    # (N,)
    return (gap * gap).mean(), (gap,)


def ipo_vjp(dout, gap):
    """2 (h − 1/(2τ)) / N for each chosen answer's ln p, the opposite for the rejected one's."""
    slope = np.asarray(2 * dout / len(gap), gap.dtype) * gap                    # (N,)
    return slope, -slope, None, None


def log_odds(mean):
    """ln p/(1 − p) of p = e^mean, the geometric mean of an answer's token probabilities.

    mean: (N,) nats, the answer's ln p divided by its tokens, ≤ 0. Above −2⁻²⁰ (p = 0.999999) it
    counts as −2⁻²⁰, for the odds of a certainty are infinite. Returns (N,) and 1 − p (N,).
    """
    mean = np.minimum(mean, np.asarray(CERTAIN, mean.dtype))
    rest = -np.expm1(mean)                                                      # 1 − p, not 1 − 1
    return mean - np.log(rest), rest


def orpo(chosen, rejected, weight=0.1):
    """Mean of −ln p(w) a token − weight · ln σ(ln odds(w) − ln odds(l)) in nats; no reference.

    chosen, rejected: (N,), each the MEAN of its answer's ln p over the answer's tokens. The first
    term is that of supervised fine-tuning. weight: λ of the paper, at least 0.
    Raises ValueError unless both are (N,) with N ≥ 1, or where the weight is negative.
    Source: Hong, Lee and Thorne (2024), section 4, equation 6.
    """
    same_shape(chosen, rejected)
    if not weight >= 0:
        raise ValueError(f"orpo: the weight must be at least 0, not {weight}")
    (odds_w, rest_w), (odds_l, rest_l) = log_odds(chosen), log_odds(rejected)
    loss, saved = bradley_terry(odds_w - odds_l)
    return weight * loss - chosen.mean(), (weight, rest_w, rest_l, *saved)


def orpo_vjp(dout, weight, rest_w, rest_l, *saved):
    """d(ln odds)/d(mean) is 1/(1 − p); the chosen answer also has the −1/N of the first term."""
    slope = weight * bradley_terry_vjp(dout, *saved)[0]                         # (N,)
    return slope / rest_w - np.asarray(dout / len(slope), slope.dtype), -slope / rest_l


def same_shape(*arrays):
    """Raise ValueError unless all arrays are (N,) with one N ≥ 1."""
    shapes = [np.shape(array) for array in arrays]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or not shapes[0][0]:
        raise ValueError(f"log-probabilities of answers of the shapes {', '.join(map(str, shapes))}"
                         ": wanted one number a pair, all (N,) with the same N ≥ 1")


def positive(name, value):
    """Raise ValueError unless the setting of this name is above 0."""
    if not value > 0:
        raise ValueError(f"{name} must be above 0, not {value}")
