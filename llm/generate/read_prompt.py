"""Day 52 · Reading a prompt fast: many tokens through every matrix at once, on compiled parts.

The same steps as llm/generate/prefill.py, in workspace that is made once. The products are the
formats' `matmul`, which rounds activations to 8 bits exactly as one token's product does, so that
a prompt read at once gives the numbers that reading it token by token would, up to the order in
which attention adds. Left out: biases, LayerNorm and learned positions (day 43's prefill has them).
"""

import numba
import numpy as np

from llm.kernels.floats import COLUMNS, ROWS
from llm.kernels.prompt import attend_rows, gate_rows, place, rms_rows

CHUNK = 192              # tokens at once: their activations stay in cache; a multiple of COLUMNS


def is_llama(arch, weights):
    """Does this model have the norms, the rotation and the gate of a Llama, and no biases?"""
    shape = arch.norm == "rms" and arch.feed_forward == "swiglu" and arch.rotary is not None
    return shape and not any(name.endswith(".b") for name in weights)


def can_read(arch, weights, T_max):
    """Is this a model that `Reader` reads, with a cache of T_max tokens?"""
    return is_llama(arch, weights) and arch.D % COLUMNS == 0 and T_max >= ROWS


def multiply(matrix, x):
    """x (n, K) by a Packed matrix -> (n, N), rows that touch.

    A product is computed in whole tiles, so where N is no multiple of 64 its rows lie apart, unless
    there is only one. Numba compiles a loop for each case, and the two may round differently:
    where memory touches, AVX2 divides eight numbers at once by an approximate reciprocal. A copy
    (usually none is needed) leaves one loop, and a row's bits do not depend on its company.
    """
    return np.ascontiguousarray(matrix.format.matmul(matrix.data, x, matrix.N))


class Reader:
    """Reads chunks of a prompt into a cache. weights: an engine's, the matrices Packed.

    cos, sin (T_max, D/2): of the rotary angles. Workspace: about CHUNK·(5·C + 4·F)·4 bytes, and
    128·T_max for the scores of each thread.
    """

    def __init__(self, arch, weights, cache, cos, sin):
        if CHUNK % COLUMNS:              # the last queries of a chunk would be written beyond it
            raise ValueError(f"a chunk of {CHUNK} tokens is no multiple of the {COLUMNS} queries "
                             "that attention takes at once")
        self.arch, self.weights, self.cache, self.cos, self.sin = arch, weights, cache, cos, sin
        zeros = lambda *shape: np.zeros(shape, np.float32)
        self.normal, self.inside = zeros(CHUNK, arch.C), zeros(CHUNK, arch.F)
        self.q, self.heads = zeros(arch.H, arch.D, CHUNK), zeros(CHUNK, arch.H * arch.D)
        self.half = cache.k.dtype == np.float16
        if self.half:                                     # one layer, in float32
            self.k, self.v = zeros(*cache.k.shape[1:]), zeros(*cache.k.shape[1:])
        self.desks = zeros(numba.config.NUMBA_NUM_THREADS, cache.T_max + 2, COLUMNS)

    def read(self, ids, every=False):
        """n ≤ CHUNK checked ids -> the last token's stream after all blocks and a norm, (1, C).

        Nothing after the last layer's attention is done for the tokens before the last, since
        nobody asks for their logits; every: they are wanted too, (n, C), good until the next call.
        ValueError, with the cache as it was, if there is no room.
        """
        arch, cache, weights, n = self.arch, self.cache, self.weights, len(ids)
        cache.check_room(n)
        start, eps = cache.length, np.float32(arch.eps)
        x = np.ascontiguousarray(weights["embed"][ids], np.float32)           # (n, C)
        branch, normal = x[:0], self.normal[:n]
        for i in range(arch.L):
            name = f"blocks.{i}."
            rms_rows(x, branch, weights[name + "norm1.gain"], eps, normal)
            qkv = self.multiply(name + "qkv.w", normal)
            k, v = self.keys_and_values(i, start)
            place(qkv, start, arch.H, arch.K, self.cos, self.sin, k, v, self.q)
            if self.half:
                cache.write(i, k[:, start:start + n], v[:, start:start + n])
            attend_rows(self.q, k, v, n, start, self.desks, self.heads)
            heads, inside = self.heads[:n], self.inside[:n]
            if i == arch.L - 1 and not every:
                x, heads, normal, inside = x[-1:], heads[-1:], normal[-1:], inside[-1:]
            branch = self.multiply(name + "project.w", heads)
            rms_rows(x, branch, weights[name + "norm2.gain"], eps, normal)
            gate_rows(self.multiply(name + "up.w", normal), self.multiply(name + "gate.w", normal),
                      inside)
            branch = self.multiply(name + "down.w", inside)
        cache.advance(n)
        rms_rows(x, branch, weights["norm.gain"], eps, normal)
        return normal

    def keys_and_values(self, i, length):
        """Those of layer i, two (K, T_max, D) float32: the cache's own, or copies of 16 bits."""
        if not self.half:
            return self.cache.k[i], self.cache.v[i]
        self.k[:, :length], self.v[:, :length] = self.cache.k[i, :, :length], self.cache.v[i, :,
                                                                                          :length]
        return self.k, self.v

    def multiply(self, name, x):
        """x (n, K) by the matrix `name` -> (n, N)."""
        return multiply(self.weights[name], x)
