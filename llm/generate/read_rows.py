"""Day 52 · One step for many texts on compiled parts: the twin of day 47's `paged_decode`.

It takes the same arguments and can be given to a Scheduler as its `decode`. What NumPy did between
the products (norms, rotation, gates) is done by the kernels that read prompts. On the paths with
8-bit activations, whose sums are integers, a text's logits are the same to the last bit in any
company; elsewhere they are so up to the order in which the product of a few rows and that of many
add. Left out: biases, LayerNorm and learned positions, for which `step_for` gives day 47's step.
"""

from functools import cache

import numba
import numpy as np

from llm.generate.batch import check_rows, paged_decode
from llm.generate.read_prompt import is_llama, multiply
from llm.kernels.paged import attend_rows
from llm.kernels.prompt import gate_rows, rms_rows
from llm.kernels.rows import place_rows


def step_for(arch, weights, pool):
    """`read_rows` where it can read the model, else day 47's `paged_decode`."""
    packed = all(hasattr(w, "format") for name, w in weights.items() if name.endswith(".w"))
    fits = is_llama(arch, weights) and packed and "head" in weights
    return read_rows if fits and pool.k.dtype == np.float32 else paged_decode


@cache
def angles(T, half, base):
    """Cosines and sines (T, D/2) of day 31's rotary angles, float32."""
    turns = np.arange(T)[:, None] * float(base) ** (-np.arange(half) / half)
    return np.cos(turns).astype(np.float32), np.sin(turns).astype(np.float32)


def read_rows(arch, weights, ids, positions, tables, pool, wanted=None, attention=None):
    """Read N tokens, each at its place in its text -> logits (len(wanted), V), all rows if None.

    Arguments and errors as for `paged_decode`; weights from `packed_weights`, their matrices
    Packed. attention: not used, day 47's kernel is.
    """
    ids, positions, tables = check_rows(arch, ids, positions, tables, pool)
    blocks = tables[np.arange(len(ids)), positions // pool.size]
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    N, eps, empty = len(ids), np.float32(arch.eps), np.empty
    x = np.array(weights["embed"][ids], np.float32)                        # (N, C)
    normal, inside = np.empty_like(x), empty((N, arch.F), np.float32)
    q, heads = empty((arch.H, N, arch.D), np.float32), empty((N, arch.H * arch.D), np.float32)
    scores = empty((N, arch.H, int(positions.max()) + 1), np.float32)
    cos, sin = angles(arch.T, arch.D // 2, arch.rotary)
    branch = x[:0]
    for i in range(arch.L):
        name = f"blocks.{i}."
        rms_rows(x, branch, weights[name + "norm1.gain"], eps, normal)
        qkv = multiply(weights[name + "qkv.w"], normal)
        place_rows(qkv, positions, blocks, cos, sin, pool.k[i], pool.v[i], q)
        attend_rows(q, pool.k[i], pool.v[i], tables, positions, scores, heads)
        branch = multiply(weights[name + "project.w"], heads)
        rms_rows(x, branch, weights[name + "norm2.gain"], eps, normal)
        gate_rows(multiply(weights[name + "up.w"], normal),
                  multiply(weights[name + "gate.w"], normal), inside)
        branch = multiply(weights[name + "down.w"], inside)
    rms_rows(x, branch, weights["norm.gain"], eps, normal)
    rows = normal if wanted is None else normal[wanted]
    return multiply(weights["head"], rows) if len(rows) else empty((0, arch.V), np.float32)
