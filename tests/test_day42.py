"""Day 42 · The KV cache: every way of reading gives the logits of the full forward."""

import math

import numpy as np
import pytest

from llm.functions.dense import gelu, silu
from llm.generate.architecture import Architecture, check_weights, gpt_weights, shapes
from llm.generate.cache import KVCache, cache_bytes
from llm.generate.decode import decode
from llm.generate.rotate import turn
from llm.layers.rotary import angles, rotate_half_split
from llm.models.gpt import GPT, GPTConfig

SMALL = {"V": 11, "T": 12, "C": 8, "L": 3, "H": 4, "K": 2, "D": 4, "F": 10}
ALL = [{}, {"rotary": 100.0}, {"rotary": 100.0, "norm": "rms", "feed_forward": "swiglu"},
       {"K": 1, "D": 6}, {"K": 4, "D": 2, "eps": 1e-2},
       {"H": 6, "K": 3, "D": 2, "rotary": 10000.0, "norm": "rms"},
       {"feed_forward": "swiglu", "F": 5}]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make(rng, dtype=np.float64, bare=False, head=False, **other):
    """An architecture and weights so large that every part of it matters."""
    arch = Architecture(**{**SMALL, **other})
    must, may = shapes(arch)
    chosen = must | {name: shape for name, shape in may.items()
                     if (head if name == "head" else not bare)}
    weights = {name: (name.endswith("gain") + 0.5 * rng.standard_normal(shape)).astype(dtype)
               for name, shape in chosen.items()}
    return arch, weights


def gpt(rng, dtype=np.float64, **options):
    """Day 34's GPT, with weights of some size."""
    config = GPTConfig(**{**{"V": 11, "T": 12, "C": 8, "L": 2, "H": 2}, **options})
    model = GPT(config, rng)
    for p in model.named_parameters().values():
        p.data = (p.data + 0.3 * rng.standard_normal(p.shape)).astype(dtype)
    return model, *gpt_weights(model.state_dict(), config)


def chunks(ids, size):
    return [ids[i:i + size] for i in range(0, len(ids), size)]


def in_chunks(arch, weights, ids, size, cache=None):
    cache = cache or KVCache(arch, dtype=weights["embed"].dtype)
    return np.concatenate([decode(arch, weights, part, cache) for part in chunks(ids, size)])


def brute(arch, weights, ids):
    """The logits (T, V), by loops over tokens and heads, every prefix from the start."""
    w, D, G = weights, arch.D, arch.H // arch.K
    zero = lambda name: w.get(name, 0.0)

    def norm(x, name):
        if arch.norm == "layer":
            x = x - x.mean()
        return x / math.sqrt((x ** 2).mean() + arch.eps) * w[name + ".gain"] + zero(name + ".bias")

    def rotate(x, t):
        if arch.rotary is None:
            return x
        z = (x[:D // 2] + 1j * x[D // 2:]) * np.exp(
            1j * t * arch.rotary ** (-2 * np.arange(D // 2) / D))
        return np.concatenate([z.real, z.imag])

    xs = [w["embed"][i] + (w["positions"][t] if arch.rotary is None else 0)
          for t, i in enumerate(ids)]
    for i in range(arch.L):
        b = f"blocks.{i}."
        qkv = [norm(x, b + "norm1") @ w[b + "qkv.w"] + zero(b + "qkv.b") for x in xs]
        head = lambda t, h, qkv=qkv: qkv[t][h * D:(h + 1) * D]
        for t in range(len(ids)):
            found = []
            for h in range(arch.H):
                key = arch.H + h // G
                scores = np.array([rotate(head(t, h), t) @ rotate(head(s, key), s)
                                   for s in range(t + 1)]) / math.sqrt(D)
                p = np.exp(scores - scores.max())
                found.append(sum(p[s] * head(s, key + arch.K) for s in range(t + 1)) / p.sum())
            x = xs[t] + np.concatenate(found) @ w[b + "project.w"] + zero(b + "project.b")
            y = norm(x, b + "norm2")
            up = y @ w[b + "up.w"] + zero(b + "up.b")
            up = silu(y @ w[b + "gate.w"]) * up if arch.feed_forward == "swiglu" else gelu(up)
            xs[t] = x + up @ w[b + "down.w"] + zero(b + "down.b")
    head = w["head"] if "head" in w else w["embed"].T
    return np.array([norm(x, "norm") @ head for x in xs])


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("size", [1, 3, 5, 12])
def test_chunks_of_1_3_and_all_equal_the_full_forward_of_the_training_model(rng, rotary, size):
    model, arch, weights = gpt(rng, rotary=rotary)
    ids = rng.integers(11, size=12)
    found = in_chunks(arch, weights, ids, size)
    for t in range(1, 13):                                    # at every step
        assert found[t - 1] == pytest.approx(model(ids[None, :t]).data[0, -1], abs=1e-12)


@pytest.mark.parametrize("rotary", [False, True])
def test_in_float32_the_difference_is_rounding(rng, rotary):
    model, arch, weights = gpt(rng, np.float32, rotary=rotary, T=40, C=16)
    ids = rng.integers(11, size=40)
    full = model(ids[None]).data[0]
    for size in (1, 3, 40):
        found = in_chunks(arch, weights, ids, size)
        assert found.dtype == np.float32
        assert np.abs(found - full).max() < 1e-5 * np.abs(full).max()


@pytest.mark.parametrize("other", ALL)
@pytest.mark.parametrize("bare", [False, True])
def test_every_architecture_equals_loops_over_tokens_and_heads(rng, other, bare):
    arch, weights = make(rng, bare=bare, head=bare, **other)
    check_weights(arch, weights)
    ids = rng.integers(11, size=9)
    expected = brute(arch, weights, ids)
    for size in (1, 2, 9):
        assert in_chunks(arch, weights, ids, size) == pytest.approx(expected, abs=1e-11)


def test_a_turn_is_that_of_day_31_and_can_be_undone(rng):
    x = rng.standard_normal((2, 5, 6))
    angle = angles(9, 6, 100.0)[4:]
    assert turn(x, np.arange(4, 9), 100.0) == pytest.approx(
        rotate_half_split(x, np.cos(angle), np.sin(angle)), abs=1e-14)
    back = turn(turn(x, np.arange(4, 9), 100.0), -np.arange(4, 9), 100.0)
    assert back == pytest.approx(x, abs=1e-14)
    assert (turn(x, np.zeros(5), 100.0) == x).all()
    far = turn(x[0].astype(np.float32), np.arange(70000, 70005), 10000.0)
    assert far.dtype == np.float32
    assert far == pytest.approx(turn(x[0], np.arange(70000, 70005), 10000.0), abs=1e-6)


def test_the_cache_takes_2_l_t_k_d_numbers(rng):
    arch, _ = make(rng)
    for T_max in (1, 5, 12):
        for dtype in (np.float16, np.float32, np.float64):
            cache, size = KVCache(arch, T_max, dtype), np.dtype(dtype).itemsize
            assert cache.k.shape == cache.v.shape == (3, 2, T_max, 4)
            assert cache.k.dtype == cache.v.dtype == dtype
            assert cache.bytes() == cache_bytes(arch, T_max, size) == 2 * 3 * 2 * T_max * 4 * size
    assert KVCache(arch).T_max == 12 and KVCache(arch).k.dtype == np.float32
    assert cache_bytes(arch, 5) == 4 * 2 * 3 * 2 * 5 * 4


def test_a_reset_or_truncated_cache_is_as_if_nothing_more_had_been_read(rng):
    arch, weights = make(rng, rotary=100.0)
    ids, other = rng.integers(11, size=12), rng.integers(11, size=12)
    cache = KVCache(arch, dtype=np.float64)
    decode(arch, weights, other, cache)
    cache.reset()
    assert (cache.length, cache.room) == (0, 12)
    expected = in_chunks(arch, weights, ids, 12, KVCache(arch, dtype=np.float64))
    assert (in_chunks(arch, weights, ids, 12, cache) == expected).all()
    for keep in (12, 7, 1, 0):
        cache.truncate(keep)
        assert (cache.length, cache.room) == (keep, 12 - keep)
        again = np.concatenate([ids[:keep], other[keep:]])
        if keep < 12:
            found = decode(arch, weights, again[keep:], cache)
            full = decode(arch, weights, again, KVCache(arch, dtype=np.float64))
            assert found == pytest.approx(full[keep:], abs=1e-12)


def test_the_model_is_not_touched_and_the_cache_only_at_the_new_places(rng):
    arch, weights = make(rng, rotary=100.0)
    before = {name: array.copy() for name, array in weights.items()}
    cache = KVCache(arch, dtype=np.float64)
    decode(arch, weights, [1, 2, 3], cache)
    k, v = cache.k.copy(), cache.v.copy()
    decode(arch, weights, [4, 5], cache)
    assert (cache.k[:, :, :3] == k[:, :, :3]).all() and (cache.v[:, :, :3] == v[:, :, :3]).all()
    assert (cache.k[:, :, 3:5] != 0).all() and (cache.k[:, :, 5:] == 0).all()
    assert all((weights[name] == array).all() for name, array in before.items())
