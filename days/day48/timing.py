"""Day 48 · The stopwatch: each kernel against one that only moves the same bytes."""

import numpy as np
from numba import njit, prange

from days.day38.timing import in_turns
from llm.functions import gated as gated_reference
from llm.functions import norm as norm_reference
from llm.kernels import dense, elementwise, gated, norm
from llm.kernels.threads import CHUNKS, settle, share

EPS = np.float32(1e-5)


@njit(parallel=True, cache=True)
def copy_rows(x, out):
    """out ← x: what any forward of a norm must move, and nothing else."""
    for i in prange(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j]


def norm_times(N, C, rng, repeats):
    """[(name, bytes, milliseconds)] of both norms on (N, C), each way beside its floor."""
    settle()
    x, dout, out = (rng.standard_normal((N, C)).astype(np.float32) for _ in range(3))
    gain, bias = np.ones(C, np.float32), np.zeros(C, np.float32)
    mean, rstd = np.empty(N, np.float32), np.empty(N, np.float32)
    sums = [np.empty((CHUNKS, C), np.float32) for _ in range(2)]
    norm.layernorm_rows(x, gain, bias, EPS, out, mean, rstd)
    scale = np.empty(N, np.float32)
    share(2 * N * C)
    two, three = 8 * N * C, 12 * N * C
    return timed(repeats, [
        ("copy, the floor", two, lambda: copy_rows(x, out)),
        ("RMSNorm forward", two, lambda: gated.rmsnorm_rows(x, gain, EPS, out, scale)),
        ("LayerNorm forward", two, lambda: norm.layernorm_rows(x, gain, bias, EPS, out, mean,
                                                               rstd)),
        ("sum of two, the floor", three, lambda: elementwise.add_rows(x, dout, out)),
        ("RMSNorm backward", three, lambda: gated.rmsnorm_back_rows(dout, x, gain, scale, out,
                                                                    sums[0])),
        ("LayerNorm backward", three, lambda: norm.layernorm_back_rows(dout, x, gain, mean, rstd,
                                                                       out, *sums)),
    ])


def activation_times(N, C, rng, repeats):
    """The same of what stands between the matrices: GELU on 4C, SwiGLU on 8C/3 channels."""
    settle()
    wide, F = 4 * C, 8 * C // 3
    a, b, c = (rng.standard_normal((N, wide)).astype(np.float32) for _ in range(3))
    gate, up, dout, dgate, dup = (rng.standard_normal((N, F)).astype(np.float32)
                                  for _ in range(5))
    share(4 * N * wide)
    return timed(repeats, [
        ("GELU forward", 8 * N * wide, lambda: dense.gelu_rows(a, b)),
        ("SwiGLU forward", 12 * N * F, lambda: gated.swiglu_rows(gate, up, dgate)),
        ("GELU backward", 12 * N * wide, lambda: dense.gelu_back_rows(a, b, c)),
        ("SwiGLU backward", 20 * N * F, lambda: gated.swiglu_back_rows(dout, gate, up, dgate,
                                                                       dup)),
    ])


def numpy_times(N, C, rng, repeats):
    """[(name, bytes on kernels, milliseconds)] of the references' forwards."""
    x = rng.standard_normal((N, C)).astype(np.float32)
    gain, bias = np.ones(C, np.float32), np.zeros(C, np.float32)
    return timed(repeats, [
        ("LayerNorm forward, NumPy", 8 * N * C,
         lambda: norm_reference.layernorm(x, gain, bias)),
        ("RMSNorm forward, NumPy", 8 * N * C, lambda: gated_reference.rmsnorm(x, gain)),
        ("RMSNorm as written, NumPy", 8 * N * C, lambda: as_written(x, gain))])


def as_written(x, gain):
    """The formula and no more: float32 rows from about 1e19 on overflow."""
    return x * (1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPS)) * gain


def timed(repeats, calls):
    """The calls take turns; each gets its median."""
    times = in_turns([call for *_, call in calls], repeats)
    return [(name, size, ms) for (name, size, _), ms in zip(calls, times, strict=True)]
