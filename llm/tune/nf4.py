"""Day 54 · NF4: sixteen levels for normal numbers, and scales that are quantised once more.

Weights are cut into blocks of 64. A block keeps its largest absolute value as its scale, and for
each weight the number, 4 bits, of the nearest of 16 levels between −1 and 1. The levels lie where a
normal distribution has its quantiles: dense around 0, where most weights are. One of them is 0
exactly, so there are 7 negative levels and 8 positive ones.

Double quantisation: the scales, 32 bits for 64 weights, become 8 bits. Their mean is taken out,
and 256 of them share a scale of 32 bits. That makes 4 + 8/64 + 32/(64·256) = 4.127 bits a weight.
The paper rounds the scales to 8-bit floats, we to 8-bit integers: the same number of bits.
Left out: files in this format. Source: Dettmers et al. (2023), QLoRA, section 3, eq. 4, for the
quantiles and for double quantisation; appendix E for the sixteen numbers.
"""

import functools
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from llm.grad.lowering import lowerable

BLOCK, GROUP = 64, 256               # weights that share a scale; scales that share a scale
EDGE = 1 - (1 / 30 + 1 / 32) / 2     # the outermost quantile: between 1 − 1/(2·15) and 1 − 1/(2·16)


@functools.cache
def levels(negative=7, positive=8, edge=EDGE):
    """The levels −1 … 0 … 1, ascending, float32 (negative + 1 + positive,).

    Quantiles of a standard normal at even steps of probability from ½ to `edge`, on each side for
    itself; divided by the outermost. bitsandbytes calls `edge` its offset, 0.9677083.
    """
    quantile = NormalDist().inv_cdf
    below = [-quantile(edge + (0.5 - edge) * i / negative) for i in range(negative)]
    above = [quantile(0.5 + (edge - 0.5) * i / positive) for i in range(1, positive + 1)]
    found = np.array(below + [0.0] + above)
    return (found / quantile(edge)).astype(np.float32)


@dataclass(frozen=True)
class NF4:
    """An array in 4 bits a number."""

    codes: np.ndarray          # (n/2,) uint8: number 2i in the low four bits, 2i + 1 in the high
    scales: np.ndarray         # (n/64,) int8
    groups: np.ndarray         # (⌈n/64/256⌉,) float32: what an int8 counts in
    mean: np.ndarray           # () float32: of the scales
    shape: tuple

    def dense(self):
        """The float32 array, shape `shape`, made anew at each call."""
        return expand(self.codes, unquantise_scales(self.scales, self.groups, self.mean),
                      levels()).reshape(self.shape)

    def bytes(self):
        """What codes, scales, groups and mean take."""
        return self.codes.nbytes + self.scales.nbytes + self.groups.nbytes + self.mean.nbytes


def quantise(w):
    """An array of floats -> NF4; blocks follow its order in memory, row after row.

    Each weight goes to the level nearest to weight / scale, the scale as it will be read. Raises
    ValueError unless the size is a positive multiple of 64 and all numbers are finite.
    """
    w = np.asarray(w, np.float32)
    if not w.size or w.size % BLOCK:
        raise ValueError(f"an array {w.shape} has {w.size:,} numbers; NF4 wants a positive "
                         f"multiple of {BLOCK}: leave this one in float32")
    if not np.isfinite(w).all():
        raise ValueError(f"an array {w.shape} holds infinity or NaN: nothing to quantise")
    blocks = w.reshape(-1, BLOCK)
    scales, groups, mean = quantise_scales(np.abs(blocks).max(axis=1))
    read = unquantise_scales(scales, groups, mean)[:, None]
    middles = (levels()[1:] + levels()[:-1]) / 2
    codes = np.searchsorted(middles, blocks / np.where(read > 0, read, np.inf)).astype(np.uint8)
    pairs = codes.reshape(-1, 2)
    return NF4(pairs[:, 0] | pairs[:, 1] << 4, scales, groups, mean, w.shape)


def quantise_scales(largest):
    """(n,) float32, positive -> int8 (n,), float32 (⌈n/256⌉,), the mean ()."""
    mean = np.float32(largest.mean(dtype=np.float64))
    apart = np.zeros(-(-len(largest) // GROUP) * GROUP, np.float32)
    apart[:len(largest)] = largest - mean
    apart = apart.reshape(-1, GROUP)
    groups = np.abs(apart).max(axis=1) / 127
    q = np.rint(apart / np.where(groups > 0, groups, 1)[:, None])
    return q.astype(np.int8).reshape(-1)[:len(largest)], groups, np.asarray(mean)


def unquantise_scales(scales, groups, mean):
    """The scales as they are read: (n,) float32, never negative."""
    each = np.repeat(groups, GROUP)[:len(scales)]
    return np.maximum(scales * each + mean, np.float32(0))


@lowerable
def expand(codes, scales, table):
    """codes (n/2,) uint8, scales (n/64,) -> float32 (n,): table[code] · scale."""
    four = np.empty((len(codes), 2), np.uint8)
    four[:, 0], four[:, 1] = codes & 15, codes >> 4
    return (table[four].reshape(-1, BLOCK) * scales[:, None]).reshape(-1)


def bits_a_weight(block=BLOCK, group=GROUP, double=True):
    """4, and each weight's share of its scale: 8 or 32 bits a block, and 32 bits a group of them.

    >>> round(bits_a_weight(), 3), bits_a_weight(double=False)
    (4.127, 4.5)
    """
    return 4 + (8 / block + 32 / (block * group) if double else 32 / block)
