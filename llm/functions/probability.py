"""Day 07 · Probabilities from logits, and the surprise they assign: softmax, cross-entropy, KL.

Everything is in nats (natural logarithms); divide by ln 2 for bits. float32 stays float32 and
float64 stays float64. Logits may be −∞, which means "impossible" (a mask). A row that allows
nothing at all (all −∞), or holds +∞, has no softmax and raises a ValueError; a NaN stays a NaN.
Left out: gradients (day 14) and the fused kernel that never stores the probabilities (day 38).
"""

import math

import numpy as np

SLACK = 1e-3  # how far a row of float16 or float32 probabilities may be from a sum of exactly 1


def softmax(z, axis=-1):
    """Turn logits into probabilities: exp(z) / Σ exp(z), without overflow for any finite z.

    z: (..., V) logits, units of nats, −∞ allowed. Returns p of the same shape and dtype, p ≥ 0
    with sum 1 along `axis`. Costs 4 FLOPs and one exp an entry.
    Raises ValueError where a row is all −∞, holds +∞ or has no entries.
    Source: Bridle (1990), "Probabilistic interpretation of feedforward classification network
    outputs".
    """
    z = floating(z)
    p = np.exp(below(z, finite_peak(z, axis)))  # the largest term is exp(0) = 1: no overflow
    p /= p.sum(axis=axis, keepdims=True)
    return p


def log_softmax(z, axis=-1):
    """Return log softmax(z) of z (..., V) without ever taking the log of a rounded-off 0.

    log p = z − logsumexp(z). Same shape, dtype and errors as `softmax`; a logit of −∞ stays −∞.
    """
    z = floating(z)
    shifted = below(z, finite_peak(z, axis))
    shifted -= np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return shifted


def logsumexp(z, axis=-1):
    """Return log Σ exp(z) along `axis`: (..., V) -> (...), the normaliser of a softmax.

    Unlike `softmax` it has a value on a row of all −∞: log 0 = −∞. Raises ValueError on +∞.
    """
    z = floating(z)
    peak = highest(z, axis)
    if np.isposinf(peak).any():
        raise ValueError(f"logits of shape {z.shape} hold +inf; they overflowed before this point")
    peak = np.where(np.isneginf(peak), 0, peak)  # −∞ − (−∞) is undefined; −∞ − 0 is −∞
    with np.errstate(divide="ignore"):           # log 0 = −∞ is the answer, not an accident
        return np.squeeze(peak, axis) + np.log(np.exp(below(z, peak)).sum(axis=axis))


def entropy(p, axis=-1):
    """Return H(p) = −Σ p log p in nats, with 0 log 0 = 0: (..., V) -> (...).

    Raises ValueError unless p is a distribution: entries ≥ 0 and a sum of 1.
    Source: Shannon (1948), section 6.
    """
    p = distribution(p, axis)
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=axis)


def kl(p, q, axis=-1):
    """Return KL(p‖q) = Σ p log(p / q) in nats: two arrays (..., V) -> (...).

    The nats wasted by believing q where p is true: ≥ 0, and 0 only if p = q; +∞ where q rules
    out something that p does not. Raises ValueError on shapes that differ, or no distributions.
    Source: Kullback and Leibler (1951); Cover and Thomas (2006), section 2.3.
    """
    p, q = distribution(p, axis), distribution(q, axis)
    if p.shape != q.shape:
        raise ValueError(f"kl needs two arrays of one shape, not {p.shape} and {q.shape}")
    with np.errstate(divide="ignore"):
        log_ratio = np.log(np.where(p > 0, p, 1)) - np.log(np.where(p > 0, q, 1))
    return np.where(p > 0, p * np.where(p > 0, log_ratio, 0), 0).sum(axis=axis)


def cross_entropy(logits, targets, ignore=-100):
    """Return the mean of −log softmax(logits)[target] over the targets that count, in nats.

    logits: (..., V); targets: (...) integers in 0 … V−1, or `ignore` where nothing is to be
    predicted (padding, a question). Returns a scalar of the dtype of the logits; 0 if every
    target is ignored; +∞ if a target is masked by −∞.
    Raises ValueError on shapes that don't match, and on targets outside the vocabulary.
    Source: Cover and Thomas (2006), sections 2.3 and 5.4.
    """
    logits, targets = floating(logits), np.asarray(targets)
    if logits.ndim == 0 or logits.shape[:-1] != targets.shape:
        raise ValueError(f"logits {logits.shape} need targets of shape {logits.shape[:-1]}, "
                         f"not {targets.shape}: one target for each row of logits")
    if targets.size and not np.issubdtype(targets.dtype, np.integer):
        raise ValueError(f"targets must be integers, not {targets.dtype}")
    counted = targets != ignore                                     # (...)
    rows, ids = logits[counted], targets[counted].astype(np.intp)   # (N, V) and (N,)
    if not ids.size:
        return logits.dtype.type(0)
    if ids.min() < 0 or ids.max() >= logits.shape[-1]:
        raise ValueError(f"targets from {ids.min()} to {ids.max()} don't fit a vocabulary of "
                         f"{logits.shape[-1]}; use ignore={ignore} for those that don't count")
    return -log_softmax(rows)[np.arange(len(ids)), ids].mean()


def perplexity(total_nll, tokens):
    """Return exp(total_nll / tokens): among how many equally likely tokens the model hesitates.

    total_nll: the sum (not the mean) of −log p in nats over all `tokens`. Sums of several batches
    may be added up first; means or perplexities of batches of unequal size may not be averaged.
    Raises ValueError for no tokens.
    """
    if not tokens > 0:
        raise ValueError(f"perplexity needs at least one token, not {tokens}")
    mean = float(total_nll) / float(tokens)
    return math.inf if mean > 709 else math.exp(mean)  # exp(709.8) is the largest float64


def bits_per_character(total_nll, characters):
    """Return total_nll / (characters · ln 2), comparable between any two tokenizers.

    Raises ValueError for no characters.
    """
    if not characters > 0:
        raise ValueError(f"bits per character needs at least one character, not {characters}")
    return float(total_nll) / (float(characters) * math.log(2))


def floating(z):
    """Return z as a floating-point array: integers become float32, floats pass unchanged."""
    z = np.asarray(z)
    return z if np.issubdtype(z.dtype, np.floating) else z.astype(np.float32)


def highest(z, axis):
    """Return the maximum along `axis`, kept as an axis of length 1."""
    if z.ndim == 0 or z.shape[axis] == 0:
        raise ValueError(f"logits of shape {z.shape} have no entries along axis {axis}; "
                         "a distribution needs at least one")
    return z.max(axis=axis, keepdims=True)


def finite_peak(z, axis):
    """Return the maximum along `axis`, or raise where it makes a softmax meaningless."""
    peak = highest(z, axis)
    if np.isneginf(peak).any():
        raise ValueError(f"a row of logits of shape {z.shape} is all -inf along axis {axis}: "
                         "everything is masked; leave at least one entry finite")
    if np.isposinf(peak).any():
        raise ValueError(f"logits of shape {z.shape} hold +inf; they overflowed before this point")
    return peak


def below(z, peak):
    """Return z − peak; a gap wider than the dtype can hold is −∞, whose exp is 0 all the same."""
    with np.errstate(over="ignore"):
        return z - peak


def distribution(p, axis):
    """Return p as a floating-point array, or raise if it isn't a distribution along `axis`."""
    p = floating(p)
    if p.ndim == 0 or p.shape[axis] == 0:
        raise ValueError(f"probabilities of shape {p.shape} have no entries along axis {axis}")
    total = p.sum(axis=axis)
    if (p < 0).any() or (np.abs(total - 1) > SLACK).any():
        raise ValueError(f"probabilities of shape {p.shape} must be >= 0 with sum 1 along axis "
                         f"{axis}; sums run from {total.min():.6g} to {total.max():.6g}. "
                         "Logits? Then call softmax first.")
    return p
