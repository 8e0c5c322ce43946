"""Day 45 · Four bits a weight: groups of 32 inputs, each with a scale and a minimum of its own.

A matrix W (K inputs, N outputs) is cut along the inputs. A group is up to 32 neighbouring weights
of one output; it is written as w ≈ scale · q + minimum, with q in 0 … 15. Scale and minimum are
rounded to float16 first and q is chosen for the rounded ones, so that their rounding is no error
of its own. With 16 bits each they add one bit a weight, as in GGUF's Q4_1: 5 bits in all.
Left out: choosing q by what the matrix is used for (gptq.py), and scales of scales (K-quants).
Sources: ggml's `quantize_row_q4_1_ref` and, for the symmetric variant, `quantize_row_q4_0_ref`.
"""

from dataclasses import dataclass

import numpy as np

from llm.kernels.int4 import GROUP, INT4, tile
from llm.kernels.matvec import Packed


@dataclass(frozen=True)
class Groups:
    """A quantised matrix: weight (k, n) is scale[k // group, n] · q[k, n] + minimum[k // group, n].

    The last group is shorter where `group` does not divide K.
    """

    q: np.ndarray                # (K, N) uint8
    scale: np.ndarray            # (G, N) float32, each a number that float16 has; G = ceil(K/group)
    minimum: np.ndarray          # the same
    group: int = GROUP
    bits: int = 4                # of q

    def dense(self):
        """The matrix that it stands for, float32 (K, N)."""
        of = np.arange(len(self.q)) // self.group                          # each input's group
        return self.scale[of] * self.q + self.minimum[of]

    def stored_bits(self):
        """Bits a weight, with a float16 scale and minimum for each group: 5 for groups of 32."""
        return self.bits + 32 * self.scale.size / self.q.size

    def packed(self):
        """The same for day 43's engine: `Packed` in the format INT4.

        Raises ValueError unless there are 4 bits and groups of 32.
        """
        if (self.bits, self.group) != (4, GROUP):
            raise ValueError(f"{self.bits} bits in groups of {self.group} have no kernel: wanted "
                             f"4 bits in groups of {GROUP}")
        K, N = self.q.shape
        return Packed(tile(self.q, self.scale, self.minimum), N, K, INT4)


def check_matrix(w, group=GROUP, bits=4):
    """w as an array; ValueError unless it is a finite (K, N), group ≥ 1 and bits 1 … 8."""
    w = np.asarray(w)
    if w.ndim != 2 or w.size == 0:
        raise ValueError(f"a matrix of shape {w.shape} cannot be quantised: wanted (inputs, "
                         "outputs)")
    if group < 1 or not 1 <= bits <= 8:
        raise ValueError(f"groups of {group} in {bits} bits: wanted at least 1 input, 1 to 8 bits")
    if not np.isfinite(w).all():
        raise ValueError(f"a matrix of shape {w.shape} with infinite or undefined weights cannot "
                         "be quantised: find where they come from")
    return w


def half(x):
    """Rounded to float16, given as float32; ValueError beyond float16's range, 65,504."""
    with np.errstate(over="ignore"):
        rounded = np.asarray(x).astype(np.float16)
    if not np.isfinite(rounded).all():
        raise ValueError(f"a group's scale or minimum, up to {np.abs(x).max():.3g}, is beyond "
                         "float16: keep this matrix in float32")
    return rounded.astype(np.float32)


def grid(w, bits=4, symmetric=False):
    """The grid of one group for each output: w (inputs, N) -> scale, minimum (N,) float32.

    Affine: from the smallest weight to the largest in 2^bits − 1 steps. Symmetric: the weight of
    the largest size becomes q = 0 and 0.0 is exactly q = 2^(bits − 1), w = scale · (q − 8); the
    scale may be negative. A group of equal weights has scale 0, or, symmetric, holds them at q = 0.
    """
    w = np.asarray(w, np.float32)
    if symmetric:
        peak = np.take_along_axis(w, np.abs(w).argmax(axis=0)[None], axis=0)[0]
        scale = half(peak / -(1 << bits - 1))
        return scale, half(-scale * (1 << bits - 1))
    minimum = half(w.min(axis=0))
    return half((w.max(axis=0) - minimum) / ((1 << bits) - 1)), minimum


def nearest(w, scale, minimum, bits=4):
    """The q, uint8, of the grid point nearest to each weight; 0 where the scale is 0."""
    w = np.asarray(w, np.float32)
    steps = np.divide(w - minimum, scale, out=np.zeros_like(w), where=scale != 0)
    return np.clip(np.rint(steps), 0, (1 << bits) - 1).astype(np.uint8)


def grids(w, group=GROUP, bits=4, symmetric=False):
    """The grids of all groups: w (K, N) -> scale, minimum (G, N)."""
    parts = [grid(w[k:k + group], bits, symmetric) for k in range(0, len(w), group)]
    return np.stack([scale for scale, _ in parts]), np.stack([low for _, low in parts])


def quantise(w, group=GROUP, bits=4, symmetric=False):
    """Each weight to its nearest grid point: float (K, N) -> Groups.

    A weight moves by at most scale/2 + 2⁻¹¹(|minimum| + 2·15·scale): half a step, and where the
    rounding of minimum and scale leaves the group's largest weight outside. About 8·K·N operations.
    Raises ValueError on anything but a finite matrix, or where a scale is beyond float16.
    """
    w = np.asarray(check_matrix(w, group, bits), np.float32)
    scale, minimum = grids(w, group, bits, symmetric)
    of = np.arange(len(w)) // group
    return Groups(nearest(w, scale[of], minimum[of], bits), scale, minimum, group, bits)
