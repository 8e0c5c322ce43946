"""Day 51 · Routing: rows of a batch go to their experts and come back, each step with its VJP.

A token (a row) chooses k of N experts. `assign` turns the choices into a `Dispatch`: an order of
rows in which each expert finds its own side by side. `dispatch` brings rows into that order,
`grouped_linear` multiplies each group by its expert's matrix, `combine` brings the answers back.
Here T counts all tokens of a batch. Left out: the router itself (layers/moe.py), experts on
several machines, and a gradient of the choice: there is none.
"""

import math
from dataclasses import dataclass

import numpy as np

from llm.functions.probability import logsumexp
from llm.functions.probability import softmax as softmax_of


@dataclass(frozen=True)
class Dispatch:
    """Which row stands where once the rows are sorted by expert. M choices were kept of kT."""

    rows: np.ndarray       # (M,) the token that stands at each place
    ranks: np.ndarray      # (M,) which of its k choices brought it there
    where: np.ndarray      # (T, k) the place of each choice; M where it was dropped
    counts: np.ndarray     # (N,) rows that each expert gets
    wanted: np.ndarray     # (N,) rows that asked for it

    @property
    def dropped(self):
        """The share of the kT choices that found their expert full; 0 where there are none."""
        return 1 - len(self.rows) / self.where.size if self.where.size else 0.0


def choose(scores, k):
    """scores (T, N) -> (T, k) numbers of each token's k highest, best first.

    Equal scores: the lower number first, so that the same scores give the same choice everywhere.
    Raises ValueError unless scores has two axes and 1 ≤ k ≤ N.
    """
    if np.ndim(scores) != 2 or not 1 <= k <= scores.shape[1]:
        raise ValueError(f"choose: scores of shape {np.shape(scores)} must be (T, N), "
                         f"and k = {k} between 1 and N")
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def capacity_of(T, N, k, factor):
    """Rows that one expert takes at most: ⌈factor · kT / N⌉, the mean load times a margin.

    Raises ValueError unless factor is a positive number. A product such as 1.1 · 50 is
    55.00000000000001 in floating point, and is taken for 55.
    Source: Fedus et al. (2022), eq. 3, for k = 1.
    """
    if not 0 < factor < math.inf:
        raise ValueError(f"a capacity factor is a positive number, not {factor}; None: no limit")
    return math.ceil(round(factor * k * T / N, 9))


def assign(experts, N, capacity=None):
    """Choices (T, k) of experts 0 … N − 1 -> Dispatch, where none gets more than `capacity` rows.

    All first choices are served before any second one, and within a rank the earlier token before
    the later one. Who comes to a full expert is dropped. A token names each expert at most once.
    Raises ValueError where experts is not (T, k) integers of 0 … N − 1.
    Source: Lepikhin et al. (2021), Algorithm 1, for the order.
    """
    if (experts.ndim != 2 or experts.dtype.kind not in "iu"
            or experts.size and not 0 <= experts.min() <= experts.max() < N):
        raise ValueError(f"assign: choices {experts.dtype} {experts.shape} must be (T, k) integers "
                         f"of 0 … {N - 1}")
    T, k = experts.shape
    asked = experts.T.ravel()                              # (kT,) in order of priority
    wanted = np.bincount(asked, minlength=N)
    order = np.argsort(asked, kind="stable")               # by expert, then by priority
    queue = np.arange(k * T) - np.repeat(np.cumsum(wanted) - wanted, wanted)   # 0, 1, … in each
    if capacity is not None:
        order = order[queue < capacity]
    where = np.full(k * T, len(order))
    where[order] = np.arange(len(order))
    counts = wanted if capacity is None else np.minimum(wanted, capacity)
    return Dispatch(order % max(T, 1), order // max(T, 1), where.reshape(k, T).T, counts, wanted)


def dispatch(x, plan):
    """x (T, C) -> (M, C): a row for every kept choice, sorted by expert. No FLOPs."""
    return x[plan.rows], (plan,)


def dispatch_vjp(dout, plan):
    """A token that went to several experts adds up what comes back from each."""
    return with_zero(dout)[plan.where].sum(axis=1), None


def combine(y, gate, plan):
    """y (M, C), gate (T, k) -> (T, C): out[t] = Σⱼ gate[t, j] · (answer to t's j-th choice).

    A dropped choice adds nothing. 2kC FLOPs a token.
    """
    if gate.shape != plan.where.shape or len(y) != len(plan.rows):
        raise ValueError(f"combine: {len(plan.rows)} kept choices of {plan.where.shape} do not fit "
                         f"answers {y.shape} and gates {gate.shape}")
    answers = with_zero(y)[plan.where]                     # (T, k, C)
    return np.einsum("tk,tkc->tc", gate, answers), (y, gate, plan)


def combine_vjp(dout, y, gate, plan):
    """dy = gate · dout, sent where y came from; dgate = ⟨dout, answer⟩, 0 where it was dropped."""
    dy = gate[plan.rows, plan.ranks][:, None] * dout[plan.rows]
    return dy, np.einsum("tc,tkc->tk", dout, with_zero(y)[plan.where]), None


def with_zero(rows):
    """The rows, and a row of zeros at place M, where dropped choices look."""
    return np.concatenate([rows, np.zeros_like(rows, shape=(1, rows.shape[1]))])


def grouped_linear(x, w, counts):
    """x (M, Cin), its first counts[0] rows by w[0], the next by w[1], …; w (N, Cin, Cout).

    2·M·Cin·Cout FLOPs in N products. An expert without rows costs nothing.
    Raises ValueError where the shapes do not fit or the counts do not add up to M.
    """
    if w.ndim != 3 or x.shape[1:] != w.shape[1:2] or counts.shape != w.shape[:1] or (
            counts.sum() != len(x)):
        raise ValueError(f"grouped_linear: x {x.shape}, w {w.shape}, counts {counts.tolist()}: "
                         "wanted (M, Cin), (N, Cin, Cout) and N counts with the sum M")
    out = np.empty((len(x), w.shape[2]), np.result_type(x, w))
    for i, span in enumerate(spans(counts)):
        np.matmul(x[span], w[i], out=out[span])
    return out, (x, w, counts)


def grouped_linear_vjp(dout, x, w, counts):
    """Each group as in `linear`. The gradient of an expert without rows is 0."""
    dx, dw = np.empty_like(x), np.empty_like(w)
    for i, span in enumerate(spans(counts)):
        np.matmul(dout[span], w[i].T, out=dx[span])
        np.matmul(x[span].T, dout[span], out=dw[i])
    return dx, dw, None


def spans(counts):
    """[0:counts[0]], [counts[0]:counts[0] + counts[1]], …"""
    ends = np.cumsum(counts).tolist()
    return [slice(start, stop) for start, stop in zip([0, *ends], ends)]


def z_loss(logits):
    """Mean over tokens of (log Σ exp logits)²: keeps a router's logits (T, N) near 0.

    Source: Zoph et al. (2022), eq. 5.
    """
    lse = logsumexp(logits)
    return np.asarray((lse * lse).mean(), logits.dtype), (logits, lse)


def z_loss_vjp(dout, logits, lse):
    """2 · lse · softmax(logits) / T."""
    return (softmax_of(logits) * (2 * dout / len(lse) * lse[:, None]).astype(logits.dtype),)
