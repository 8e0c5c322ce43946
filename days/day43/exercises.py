"""Day 43 · Exercises to build; `python -m days check 43` grades them."""

from dataclasses import replace

import numpy as np

from llm.generate.architecture import Architecture, shapes
from llm.generate.cache import KVCache
from llm.generate.decode import decode
from llm.generate.engine import Engine
from llm.kernels.matvec import Format, R, aligned, scratch, tiles


def bfloat16():
    """A Format "bfloat16" of 16 bits a weight: the upper half of a float32's bits, rounded.

    Tiles as in FLOAT32, W[tile, k, row], but uint16. pack rounds to the nearest bfloat16, ties to
    the even one: with u the bits of a float32 as uint32, (u + 0x7FFF + ((u >> 16) & 1)) >> 16.
    rows is compiled, widens each weight in the loop and multiplies by x as it is. 64-byte aligned.
    """
    raise NotImplementedError


def bound(arch, bits, position, gigabytes):
    """Tokens a second that the memory allows for the token with `position` others before it.

    Counted are the bytes of all matrices and the head, at `bits` a weight and padded to whole
    tiles of 64 outputs, and those of the cached keys and values, 4 bytes a number. gigabytes: 1e9
    bytes a second. Norms, biases and the row of the embedding are left out. Example, GPT-2
    small's shape in 32 bits at 28 GB/s, an empty cache::

        bound(gpt2, 32, 0, 28)      # 56.65
    """
    raise NotImplementedError


def check_bfloat16(f):
    """Rounding, layout, products, and a whole model through the engine."""
    fmt = f()
    assert isinstance(fmt, Format) and fmt.bits == 16, "return a Format of 16 bits a weight"
    rng = np.random.default_rng(0)
    w = np.array([[1.0, 1.00390625, 1.01171875, -3.0e38, 1e-30]], np.float32)
    wanted = [1.0, 1.0, 1.015625]                       # the second and third lie in the middle
    found = fmt.dense(fmt.pack(w), 5, 1)[0]
    assert found[:3].tolist() == wanted, f"rounded to {found[:3]}, wanted {wanted}"
    for K, N in ((1, 1), (9, 64), (24, 130)):
        w, x = rng.standard_normal((K, N), np.float32), rng.standard_normal(K, np.float32)
        data = fmt.pack(w)
        assert data.dtype == np.uint8 and data.size == 2 * K * R * tiles(N), data.shape
        assert data.ctypes.data % 64 == 0, "not aligned: start from aligned(…)"
        dense = fmt.dense(data, N, K)
        assert dense.dtype == np.float32 and dense.shape == (K, N)
        assert np.abs(dense - w).max() <= np.abs(w).max() / 256, "more than half a step off"
        y, work = np.full(R * tiles(N), 7, np.float32), aligned(scratch(K))
        fmt.prepare(x, work)
        fmt.rows(data, x, work, y, K, 0, tiles(N))
        assert np.allclose(y[:N], x @ dense, atol=1e-4) and (y[N:] == 0).all()
        many = rng.standard_normal((3, K), np.float32)
        assert np.allclose(fmt.matmul(data, many, N), many @ dense, atol=1e-4)
    arch = Architecture(V=70, T=20, C=16, L=2, H=2, K=1, D=8, F=40, rotary=100.0)
    weights = {name: rng.standard_normal(shape).astype(np.float32) * (shape[0] ** -0.5)
               for name, shape in shapes(arch)[0].items()}
    engine, cache = Engine(arch, weights, fmt), KVCache(arch)
    for i in (3, 1, 4, 1, 5):
        found, exact = engine.step(i), decode(arch, weights, [i], cache)[0]
        assert np.abs(found - exact).max() < 0.05 * np.abs(exact).max(), "logits far off"


def check_bound(f):
    """The example, tiles that are not full, groups, gates, and a full cache."""
    gpt2 = Architecture(V=50257, T=1024, C=768, L=12, H=12, K=12, D=64, F=3072)
    assert abs(f(gpt2, 32, 0, 28) - 56.649) < 0.001, f(gpt2, 32, 0, 28)
    assert abs(f(gpt2, 4, 0, 28) / f(gpt2, 32, 0, 28) - 8) < 1e-9, "in bits, not in bytes"
    llama = Architecture(V=100, T=50, C=24, L=3, H=4, K=2, D=6, F=70, norm="rms",
                         feed_forward="swiglu", rotary=1e4)
    rng = np.random.default_rng(0)
    for arch in (llama, replace(llama, feed_forward="gelu", K=4)):
        weights = {name: rng.standard_normal(shape).astype(np.float32)
                   for name, shape in shapes(arch)[0].items()}
        engine = Engine(arch, weights)
        size = sum(m.data.size for m in engine.matrices().values())
        for position in (0, 1, 49):
            total = size + 8 * arch.L * arch.K * arch.D * position
            assert abs(f(arch, 32, position, 3) * total / 3e9 - 1) < 1e-9, (arch, position)
