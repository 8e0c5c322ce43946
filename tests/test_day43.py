"""Day 43 · The compiled engine: formats, the barrier, the fused token, and the stream."""

import numpy as np
import pytest

from llm.generate.architecture import Architecture, shapes
from llm.generate.cache import KVCache
from llm.generate.decode import decode
from llm.generate.engine import Engine
from llm.kernels.matvec import FLOAT32, R, aligned, scratch, tiles


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def multiply(fmt, data, x, N):
    """y = W x through the format's own functions, all tiles at once."""
    y, work = np.full(R * tiles(N), 7, np.float32), aligned(scratch(x.size))
    fmt.prepare(x, work)
    fmt.rows(data, x, work, y, x.size, 0, tiles(N))
    return y


@pytest.mark.parametrize("K, N", [(1, 1), (7, 64), (8, 65), (33, 200)])
def test_rows_multiply_by_the_packed_matrix_and_pad_with_zeros(rng, K, N):
    w, x = rng.standard_normal((K, N), np.float32), rng.standard_normal(K, np.float32)
    data = FLOAT32.pack(w)
    assert data.dtype == np.uint8 and data.ctypes.data % 64 == 0
    assert data.size == 4 * tiles(N) * R * K
    y = multiply(FLOAT32, data, x, N)
    assert y[:N] == pytest.approx(x @ w.astype(np.float64), abs=1e-4) and (y[N:] == 0).all()
    assert (FLOAT32.dense(data, N, K) == w).all()
    many = rng.standard_normal((3, K), np.float32)
    assert FLOAT32.matmul(data, many, N) == pytest.approx(many @ w, abs=1e-4)


def random_weights(arch, rng, biases=True, head=False):
    """Weights of a size that keeps the numbers near 1, biases and gains far from 0 and 1."""
    must, may = shapes(arch)
    names = must | {name: shape for name, shape in may.items()
                    if (head if name == "head" else biases)}
    return {name: (name.endswith("gain") + rng.standard_normal(shape)
                   * (0.3 if len(shape) == 1 else shape[0] ** -0.5)).astype(np.float32)
            for name, shape in names.items()}


def relative(found, wanted):
    return np.abs(found - wanted).max() / np.abs(wanted).max()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("norm, feed_forward, rotary, heads, biases, head", [
    ("layer", "gelu", None, (3, 3, 4), True, False),          # day 34's GPT, learned positions
    ("layer", "gelu", 10000.0, (2, 2, 6), True, True),        # and rotary
    ("rms", "swiglu", 100000.0, (4, 2, 8), False, False),     # Llama's parts
    ("rms", "swiglu", 10000.0, (6, 1, 2), True, True),
    ("rms", "gelu", None, (4, 4, 5), False, True),
    ("layer", "swiglu", 100.0, (1, 1, 70), True, False)])     # heads wider than a tile
def test_every_architecture_gives_the_logits_of_day_42(rng, threads, norm, feed_forward, rotary,
                                                       heads, biases, head):
    H, K, D = heads
    arch = Architecture(V=70, T=40, C=13, L=3, H=H, K=K, D=D, F=67, norm=norm, eps=1e-3,
                        feed_forward=feed_forward, rotary=rotary)
    weights, ids = random_weights(arch, rng, biases, head), rng.integers(0, 70, 40)
    cache = KVCache(arch)
    wanted = decode(arch, weights, ids, cache)
    engine = Engine(arch, weights, threads=threads)
    found = np.array([engine.step(int(i)).copy() for i in ids])
    assert found.shape == (40, 70) and found.dtype == np.float32
    assert relative(found, wanted) < 1e-5
    assert relative(engine.cache.k, cache.k) < 1e-5 and relative(engine.cache.v, cache.v) < 1e-5
    engine.reset()
    assert engine.length == 0
    assert relative(engine.prefill(ids[:33]), wanted[32]) < 1e-5
    assert relative(engine.step(int(ids[33])), wanted[33]) < 1e-5 and engine.length == 34
