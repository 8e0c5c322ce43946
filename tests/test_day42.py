"""Day 42 · The KV cache: every way of reading gives the logits of the full forward."""

import math
from dataclasses import replace

import numpy as np
import pytest

from days.day42 import policies, timing
from days.day42.run import measure
from llm.functions.dense import gelu, silu
from llm.generate import decode as decoding
from llm.generate.architecture import Architecture, check_weights, gpt_weights, shapes
from llm.generate.cache import KVCache, cache_bytes
from llm.generate.decode import attend, count_flops, decode, generate
from llm.generate.overflow import Reader, keep_first, read_half_again
from llm.generate.rotate import turn
from llm.generate.sample import sample
from llm.layers.rotary import angles, rotate_half_split
from llm.models.gpt import GPT, GPTConfig
from llm.models.gpt import count_flops as gpt_flops

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


def brute(arch, weights, ids, cached=None):
    """The logits (T, V), by loops over tokens and heads.

    cached[t]: the tokens that token t sees, itself last, at positions 0, 1, …; all up to t if None.
    """
    w, D, G = weights, arch.D, arch.H // arch.K
    cached = cached or [list(range(t + 1)) for t in range(len(ids))]
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
                q = rotate(head(t, h), len(cached[t]) - 1)
                scores = np.array([q @ rotate(head(s, key), position)
                                   for position, s in enumerate(cached[t])]) / math.sqrt(D)
                p = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
                found.append(sum(a * head(s, key + arch.K) for a, s in zip(p, cached[t])))
            x = xs[t] + np.concatenate(found) @ w[b + "project.w"] + zero(b + "project.b")
            y = norm(x, b + "norm2")
            up = y @ w[b + "up.w"] + zero(b + "up.b")
            up = silu(y @ w[b + "gate.w"]) * up if arch.feed_forward == "swiglu" else gelu(up)
            xs[t] = x + up @ w[b + "down.w"] + zero(b + "down.b")
    head = w["head"] if "head" in w else w["embed"].T
    return np.array([norm(x, "norm") @ head for x in xs])


def test_the_examples_by_hand():
    q, k, v = np.ones((1, 1, 1)), np.log([[[1.0], [3]]]), np.array([[[4.0], [8]]])
    assert attend(q, k, v, 1) == pytest.approx(np.array([[7.0]]))            # 4/4 + 3·8/4
    k, v = np.log([[[1.0], [3], [4]]]), np.array([[[4.0], [8], [0]]])        # one token more
    assert attend(q, k, v, 2) == pytest.approx(np.array([[3.5]]))            # (4 + 24 + 0)/8
    two = attend(np.ones((1, 2, 1)), k, v, 1)                                # the same as a chunk
    assert two == pytest.approx(np.array([[7.0], [3.5]]))

    arch = Architecture(V=2, T=4, C=2, L=1, H=1, K=1, D=2, F=8, rotary=10000.0)
    cache, key = KVCache(arch, dtype=np.float64), np.array([[[1.0, 0.0]] * 4])
    cache.write(0, turn(key, np.arange(4), 10000.0), np.array([[[t, t] for t in range(4)]]))
    cache.advance(4)
    at = lambda t: [math.cos(t), math.sin(t)]
    assert cache.read(0)[0][0] == pytest.approx(np.array([at(0), at(1), at(2), at(3)]))
    cache.drop(1, 1)                                                         # token 1 goes
    assert cache.read(0)[0][0] == pytest.approx(np.array([at(0), at(1), at(2)]))
    assert cache.read(0)[1][0].tolist() == [[0, 0], [2, 2], [3, 3]]
    assert (cache.length, cache.room) == (3, 1)

    assert count_flops(arch, 3, 1) == 2 * 52 + 4 * 2 * 4 == 136              # 3 tokens are cached
    assert count_flops(arch, 0, 4) == 2 * 4 * 52 + 4 * 2 * 4 * 4 == 544      # nothing is


def test_the_cache_of_real_models_as_in_the_note():
    def a_token(L, K, D, itemsize):
        arch = Architecture(V=1, T=9000, C=1, L=L, H=K, K=K, D=D, F=1)
        return cache_bytes(arch, 1, itemsize)

    assert a_token(2, 1, 4, 4) == 64
    assert 1024 * a_token(12, 12, 64, 4) == 75_497_472                      # GPT-2 small
    assert a_token(30, 3, 64, 2) == 23_040                                  # SmolLM2-135M
    assert 3 * a_token(30, 3, 64, 2) == a_token(30, 9, 64, 2)
    assert a_token(32, 32, 128, 2) == 524_288                               # Llama 2, 7B
    assert a_token(32, 8, 128, 2) == 131_072                                # Llama 3, 8B


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


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_is_stored_in_half_is_read_as_float32(rng, dtype):
    arch, weights = make(rng, np.float32, rotary=100.0)
    ids = rng.integers(11, size=12)
    cache = KVCache(arch, dtype=dtype)
    logits = in_chunks(arch, weights, ids, 3, cache)
    exact = in_chunks(arch, {name: w.astype(np.float64) for name, w in weights.items()}, ids, 3)
    assert logits.dtype == np.float32 and {part.dtype for part in cache.read(1)} == {np.dtype("f4")}
    error = np.abs(logits - exact).max() / np.abs(exact).max()
    assert 1e-4 < error < 1e-2 if dtype == np.float16 else error < 1e-5


class Bytes(KVCache):
    """Numbers from −127 to 127 with one scale a vector: what day 44 will do properly."""

    def allocate(self, shape, dtype):
        self.whole = np.zeros((2, *shape), np.int8)
        self.scale = np.zeros((2, *shape[:-1], 1), np.float32)

    def write(self, layer, k, v):
        self.check_room(k.shape[1])
        at = slice(self.length, self.length + k.shape[1])
        for j, part in enumerate((k, v)):
            scale = np.abs(part).max(axis=-1, keepdims=True) / 127
            self.scale[j, layer, :, at], self.whole[j, layer, :, at] = scale, np.rint(part / scale)

    def read(self, layer, more=0):
        end = self.length + more
        return (self.whole[:, layer, :, :end] * self.scale[:, layer, :, :end]).astype(np.float32)


def test_another_storage_needs_three_methods_and_no_edit(rng):
    arch, weights = make(rng, np.float32, rotary=100.0)
    ids, other, exact = rng.integers(11, size=15), Bytes(arch), KVCache(arch)
    for cache in (other, exact):
        Reader(arch, weights, cache, keep_first(2)).read(ids)
    for ours, theirs in zip(other.read(2), exact.read(2)):
        assert 0 < np.abs(ours - theirs).max() < 0.15 * np.abs(theirs).max()
    assert other.bytes() == 2 * 3 * 2 * 12 * (4 + 4) and other.length == exact.length == 12


def watch(monkeypatch):
    """FLOPs of the products that decode really does, counted from their shapes."""
    done, linear, attend = [], decoding.linear, decoding.attend

    def watched_linear(x, w, b=None):
        done.append(2 * len(x) * w.size)
        return linear(x, w, b)

    def watched_attend(q, k, v, start):
        done.append(4 * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[1])
        return attend(q, k, v, start)

    monkeypatch.setattr(decoding, "linear", watched_linear)
    monkeypatch.setattr(decoding, "attend", watched_attend)
    return done


@pytest.mark.parametrize("other", ALL)
def test_the_flops_are_those_of_the_products_that_happen(rng, monkeypatch, other):
    arch, weights = make(rng, **other)
    done, cache = watch(monkeypatch), KVCache(arch, dtype=np.float64)
    for n in (1, 4, 7):
        done.clear()
        start = cache.length
        decode(arch, weights, rng.integers(11, size=n), cache)
        assert sum(done) + 2 * n * arch.V * arch.C == count_flops(arch, start, n)


def test_the_flops_of_a_gpt_are_those_of_day_34(rng):
    for options in ({}, {"rotary": True, "T": 30, "C": 12, "L": 3, "H": 3}):
        model, arch, _ = gpt(rng, **options)
        T, one = arch.T, gpt_flops(model.config)
        assert count_flops(arch, T - 1, 1) == one and count_flops(arch, 0, T) == T * one


def test_a_gpts_weights_are_shared_and_its_shape_is_read_off(rng):
    model, arch, weights = gpt(rng, rotary=True, C=12, H=3)
    state = model.state_dict()
    assert arch == Architecture(V=11, T=12, C=12, L=2, H=3, K=3, D=4, F=48, norm="layer",
                                eps=1e-5, rotary=10000.0, feed_forward="gelu")
    again = gpt_weights(state, model.config)[1]
    assert again["embed"] is state["embed.table"]
    assert again["blocks.1.qkv.b"] is state["blocks.1.mix.inner.qkv.b"]
    assert again["blocks.0.norm2.bias"] is state["blocks.0.think.norm.bias"]
    assert len(weights) == len(state) == 2 * 12 + 3
    learned = gpt(rng)[1]
    assert learned.rotary is None and learned.T == 12


def test_reading_stops_with_nothing_changed_when_the_window_is_full(rng):
    arch, weights = make(rng)
    ids = rng.integers(11, size=13)
    reader = Reader(arch, weights, KVCache(arch, dtype=np.float64))
    for part in (ids, ids[:10]):                              # all 13 at once, then 10 and 3
        if len(part) == 13:
            with pytest.raises(ValueError, match="13 more tokens do not fit: the cache holds 0"):
                reader.read(part)
        else:
            reader.read(part)
    with pytest.raises(ValueError, match="3 more tokens do not fit: the cache holds 10 of at most"):
        reader.read(ids[10:])
    assert reader.past == ids[:10].tolist() and reader.cache.length == 10
    found = reader.read(ids[10:12])                           # what fits is still right
    assert found == pytest.approx(brute(arch, weights, ids[:12])[10:], abs=1e-11)
    reader.reset()
    assert reader.past == [] and reader.cache.length == 0
    assert reader.read(ids[:12])[10:] == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("T", [1, 2, 7, 8])
@pytest.mark.parametrize("size", [1, 3, 25])
def test_half_again_is_the_training_model_on_a_window_that_jumps(rng, rotary, T, size):
    model, arch, weights = gpt(rng, rotary=rotary, T=T)
    ids = rng.integers(11, size=25)
    reader = Reader(arch, weights, KVCache(arch, dtype=np.float64), read_half_again)
    found = np.concatenate([reader.read(part) for part in chunks(ids, size)])
    first = 0
    for t in range(25):
        if t - first == T:                                    # full: the last half stays
            first = t - T // 2
        full = model(ids[None, first:t + 1]).data[0, -1]
        assert found[t] == pytest.approx(full, abs=1e-11)
    assert reader.past == ids.tolist() and len(reader.past) == 25


def contents(n, T, sinks, free):
    """Which tokens the cache holds when token t is read, for t = 0 … n − 1."""
    cached, held = [], []
    for t in range(n):
        if len(cached) == T:
            del cached[sinks:sinks + free]
        cached.append(t)
        held.append(cached[:])
    return held


@pytest.mark.parametrize("sinks, free", [(0, 1), (2, 1), (0, 3), (1, 4), (3, 4), (6, 1), (0, 7)])
@pytest.mark.parametrize("size", [1, 3, 20])
def test_dropping_the_oldest_equals_loops_that_see_what_the_cache_holds(rng, sinks, free, size):
    arch, weights = make(rng, rotary=100.0, T=7, L=2)
    ids = rng.integers(11, size=20)
    reader = Reader(arch, weights, KVCache(arch, dtype=np.float64), keep_first(sinks, free))
    found = np.concatenate([reader.read(part) for part in chunks(ids, size)])
    expected = brute(arch, weights, ids, contents(20, 7, sinks, free))
    assert found == pytest.approx(expected, abs=1e-10)


def test_sliding_is_exact_in_one_layer_and_remembers_more_in_two(rng):
    ids = rng.integers(11, size=20)
    for L in (1, 2):
        arch, weights = make(rng, rotary=100.0, T=7, L=L)
        reader = Reader(arch, weights, KVCache(arch, dtype=np.float64), keep_first(0))
        found = reader.read(ids)
        anew = np.array([brute(arch, weights, ids[max(0, t - 6):t + 1])[-1] for t in range(20)])
        assert found[:7] == pytest.approx(anew[:7], abs=1e-11)
        if L == 1:
            assert found == pytest.approx(anew, abs=1e-11)
        else:
            assert np.abs(found[7:] - anew[7:]).max(axis=1).min() > 1e-3
            other = np.concatenate([(ids[:7] + 1) % 11, ids[7:]])     # the distant past differs
            reader.reset()
            heard = np.abs(reader.read(other) - found).max(axis=1)
            assert (heard[:19] > 1e-9).all() and heard[19] == 0       # L·(T − 1) = 12 tokens back


def test_a_key_is_turned_back_once_a_token_and_stays_right_to_rounding(rng):
    arch = Architecture(V=2, T=100, C=2, L=1, H=1, K=1, D=32, F=2, rotary=10000.0)
    cache, keys = KVCache(arch), rng.standard_normal((1, 400, 32)).astype(np.float32)
    for t in range(400):
        if not cache.room:
            cache.drop(0, 1)
        cache.write(0, turn(keys[:, t:t + 1], [cache.length], 10000.0), keys[:, t:t + 1])
        cache.advance(1)
    expected = turn(keys[:, 300:].astype(np.float64), np.arange(100), 10000.0)
    assert np.abs(cache.read(0)[0] - expected).max() < 100 * 2**-23 * np.abs(keys).max()
    assert (cache.read(0)[1] == keys[:, 300:]).all()


def test_dropping_nothing_or_all_behind_is_allowed(rng):
    arch, weights = make(rng, rotary=100.0)
    cache = KVCache(arch, dtype=np.float64)
    decode(arch, weights, [1, 2, 3, 4], cache)
    before = cache.k.copy()
    cache.drop(2, 0)
    assert cache.length == 4 and cache.k[:, :, :4] == pytest.approx(before[:, :, :4], abs=1e-15)
    cache.drop(1, 3)
    assert cache.length == 1
    found = decode(arch, weights, [5], cache)
    assert found == pytest.approx(brute(arch, weights, [1, 5])[1:], abs=1e-11)
    cache.drop(0, 2)
    assert cache.length == 0


def test_generating_greedily_writes_what_day_34_writes(rng):
    for rotary in (False, True):
        model, arch, weights = gpt(rng, rotary=rotary)
        reader = Reader(arch, weights, KVCache(arch, dtype=np.float64))
        greedy = lambda logits, so_far: logits.argmax()
        found = list(generate(reader.step, [3, 1, 4], 10, greedy))
        assert found == list(model.generate([3, 1, 4], 10, None, temperature=0))
        assert all(type(i) is int for i in found)
        reader.reset()
        first, second = np.random.default_rng(5), np.random.default_rng(5)
        drawn = list(generate(reader.step, [3], 9, lambda z, _, rng=first: sample(z, rng)))
        assert drawn == list(model.generate([3], 9, second))


def test_generating_reads_every_id_once_and_never_the_last():
    read, seen = [], []

    def step(ids):
        read.append(list(ids))
        return np.array([0.0, 1.0])

    def choose(logits, so_far):
        assert logits.tolist() == [0, 1]
        seen.append(list(so_far))
        return len(so_far)

    assert list(generate(step, np.array([7, 8]), 3, choose)) == [2, 3, 4]
    assert read == [[7, 8], [2], [3]]
    assert seen == [[7, 8], [7, 8, 2], [7, 8, 2, 3]]
    assert list(generate(step, [7], 0, choose)) == [] and len(read) == 3
    with pytest.raises(ValueError, match="nothing to continue: give at least one id"):
        next(generate(step, [], 3, choose))


def test_a_text_fits_the_cache_to_the_last_place(rng):
    arch, weights = make(rng)
    write = lambda n, **other: list(generate(
        Reader(arch, weights, KVCache(arch, dtype=np.float64), **other).step, [1, 2, 3], n,
        lambda logits, so_far: int(logits.argmax())))
    assert len(write(10)) == 10                               # 3 + 10 − 1 = 12 are read
    with pytest.raises(ValueError, match="1 more tokens do not fit: the cache holds 12"):
        write(11)
    longer = write(40, overflow=read_half_again)
    assert len(longer) == 40 and longer[:10] == write(10)


def test_bad_ids_a_full_cache_and_a_strange_cache_are_told_and_change_nothing(rng):
    arch, weights = make(rng, rotary=100.0)
    cache = KVCache(arch, 5, np.float64)
    decode(arch, weights, [1, 2, 3], cache)
    k = cache.k.copy()
    for ids, told in [([], "nothing to read: give at least one id"),
                      ([1, 11], "id 11 at position 1: the vocabulary has 0 … 10"),
                      ([-1], "id -1 at position 0: the vocabulary has 0 … 10"),
                      ([[1, 2]], r"ids \(1, 2\) of type int64: wanted integers, \(n,\)"),
                      ([1.0], r"ids \(1,\) of type float64: wanted integers"),
                      ([True], "of type bool: wanted integers"),
                      ([1, 2, 3], "3 more tokens do not fit: the cache holds 3 of at most 5; reset "
                                  "or truncate it")]:
        with pytest.raises(ValueError, match=told):
            decode(arch, weights, ids, cache)
        assert cache.length == 3 and (cache.k == k).all()
    for other in ({"L": 2}, {"D": 2}, {"rotary": 50.0}):
        strange = KVCache(replace(arch, **other), dtype=np.float64)
        (name, value), = other.items()
        told = f"for another architecture .{name} {value} and not {getattr(arch, name)}.: make a"
        for use in (lambda c: decode(arch, weights, [1], c), lambda c: Reader(arch, weights, c)):
            with pytest.raises(ValueError, match=told):
                use(strange)
    with pytest.raises(ValueError, match="L 2 and not 3, D 2 and not 4"):
        decode(arch, weights, [1], KVCache(replace(arch, L=2, D=2)))
    assert decode(arch, weights, [1, 10], cache).shape == (2, 11)            # the ends are fine
    learned = make(rng)                                       # which has 12 positions and no more
    with pytest.raises(ValueError, match="13 more tokens do not fit"):
        decode(*learned, [1] * 13, KVCache(learned[0]))
    assert decode(arch, weights, np.array([0], np.uint8), KVCache(arch)).shape == (1, 11)


def test_caches_and_policies_that_cannot_be_are_refused(rng):
    arch, weights = make(rng, rotary=100.0)
    for T_max in (0, 13):
        with pytest.raises(ValueError, match=f"a cache of {T_max} tokens for a context of 12: T_max"
                                             " must be 1 … 12"):
            KVCache(arch, T_max)
    with pytest.raises(ValueError, match="holds float16, float32 or float64, not int8"):
        KVCache(arch, dtype=np.int8)
    cache = KVCache(arch, dtype=np.float64)
    decode(arch, weights, [1, 2, 3], cache)
    for n in (-1, 4):
        with pytest.raises(ValueError, match=f"cannot cut a cache of 3 tokens to {n}: it holds"):
            cache.truncate(n)
    for first, count in ((-1, 1), (0, 4), (2, 2), (2, -1)):
        with pytest.raises(ValueError, match=f"cannot drop {count} tokens after the first {first}"
                                             ": the cache holds 3"):
            cache.drop(first, count)
    assert cache.length == 3
    with pytest.raises(ValueError, match="13 more tokens do not fit"):
        cache.advance(13)
    with pytest.raises(ValueError, match="10 more tokens do not fit"):
        cache.write(0, np.zeros((2, 10, 4)), np.zeros((2, 10, 4)))
    for sinks, free in ((-1, 1), (0, 0)):
        with pytest.raises(ValueError, match=f"cannot keep {sinks} tokens and free {free}"):
            keep_first(sinks, free)
    with pytest.raises(ValueError, match="10 kept and 3 freed are more than the cache's 12"):
        Reader(arch, weights, KVCache(arch), keep_first(10, 3)).read([1] * 13)
    assert len(Reader(arch, weights, KVCache(arch), keep_first(10, 2)).read([1] * 20)) == 20
    arch, weights = make(rng)                                 # learned positions
    with pytest.raises(ValueError, match="learned positions are inside the cached keys"):
        Reader(arch, weights, KVCache(arch), keep_first(0)).read([1] * 13)


def test_architectures_that_cannot_be_are_refused():
    for name in "VTCLHKDF":
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
            Architecture(**{**SMALL, name: 0})
    for other, told in [({"K": 3}, "3 heads of keys and values do not divide 4 heads of queries"),
                        ({"norm": "batch"}, "norm must be 'layer' or 'rms', not 'batch'"),
                        ({"feed_forward": "relu"}, "must be 'gelu' or 'swiglu', not 'relu'"),
                        ({"rotary": 10.0, "D": 3}, "D 3 must be even and the base 10.0 positive"),
                        ({"rotary": 0.0}, "D 4 must be even and the base 0.0 positive")]:
        with pytest.raises(ValueError, match=told):
            Architecture(**{**SMALL, **other})
    assert Architecture(**{**SMALL, "D": 3}).rotary is None
    arch = Architecture(**SMALL)
    assert (arch.norm, arch.eps, arch.rotary, arch.feed_forward) == ("layer", 1e-5, None, "gelu")


def test_weights_of_another_architecture_are_told_by_name(rng):
    arch, weights = make(rng, rotary=100.0, norm="rms", feed_forward="swiglu", head=True)
    check_weights(arch, weights)
    assert weights["blocks.0.qkv.w"].shape == (8, 32) and weights["head"].shape == (8, 11)
    assert weights["blocks.0.project.w"].shape == (16, 8)
    assert weights["blocks.0.gate.w"].shape == (8, 10) and "positions" not in weights
    for name in ("embed", "norm.gain", "blocks.2.gate.w", "blocks.1.norm2.gain", "blocks.0.qkv.w"):
        rest = {key: value for key, value in weights.items() if key != name}
        with pytest.raises(ValueError, match=rf"the weights lack {name}, which should be \("):
            check_weights(arch, rest)
    for name in ("norm.bias", "blocks.0.norm1.bias", "blocks.3.up.w", "positions",
                 "blocks.0.gate.b"):
        with pytest.raises(ValueError, match=rf"the weights hold {name} \(8,\), which this"):
            check_weights(arch, weights | {name: np.zeros(8)})
    for name in ("embed", "head", "blocks.1.down.w", "blocks.1.down.b"):
        with pytest.raises(ValueError, match=rf"{name} is \(3, 3\); this architecture wants \("):
            check_weights(arch, weights | {name: np.zeros((3, 3))})
    with pytest.raises(ValueError, match="the weights lack embed"):
        Reader(arch, {}, KVCache(arch))
    model = GPT(GPTConfig(V=11, T=12, C=8, L=2, H=2), rng)
    state = model.state_dict()
    for config, told in [(GPTConfig(V=11, T=12, C=8, L=3, H=2), "the weights lack blocks.2.qkv.w"),
                         (GPTConfig(V=11, T=12, C=8, L=1, H=2), "hold blocks.1.norm1.gain"),
                         (GPTConfig(V=11, T=13, C=8, L=2, H=2), r"positions is \(12, 8\)"),
                         (GPTConfig(V=11, T=12, C=8, L=2, H=2, rotary=True), "hold positions")]:
        with pytest.raises(ValueError, match=told):
            gpt_weights(state, config)
    with pytest.raises(ValueError, match="lack blocks.0.qkv.w"):
        gpt_weights({"embed.table": state["embed.table"], "blocks.0.odd.w": np.zeros(3),
                     "norm.gain": np.zeros(8), "positions.table": state["positions.table"]},
                    model.config)


def test_what_is_scored_past_the_window_is_the_same_for_every_policy(rng):
    model, arch, weights = gpt(rng, rotary=True, T=7, L=1)
    piece = rng.integers(11, size=21)
    windows = np.array([piece[t - 6:t + 1] for t in range(7, 20)])           # of T, ending at t
    logits = model(windows).data[:, -1].astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -logs[np.arange(13), piece[8:]].mean()
    assert policies.read_anew(model, piece, 7, 7) == pytest.approx(expected, abs=1e-5)
    for policy in (keep_first(0), keep_first(0, 1)):                         # exact in one layer
        found = policies.with_policy(arch, weights, piece, 7, 7, policy)
        assert found == pytest.approx(expected, abs=1e-5)
    small = policies.read_anew(model, piece, 3, 7)                           # the same targets
    assert small == pytest.approx(policies.with_policy(arch, weights, piece, 3, 7, keep_first(0)),
                                  abs=1e-5)
    longer = replace(arch, T=21)
    whole = decode(longer, weights, piece[:-1], KVCache(longer, dtype=np.float64))[7:]
    assert policies.without_limit(arch, weights, piece, 7) == pytest.approx(
        policies.surprise(whole, piece[8:]), abs=1e-5)
    assert [p.tolist() for p in policies.pieces(np.arange(10), 3, 3)] == [
        [0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]


def test_the_control_lets_the_first_tokens_recede(rng):
    arch, weights = make(rng, rotary=100.0, T=6, L=1)
    ids = rng.integers(11, size=12)
    reader = Reader(arch, weights, KVCache(arch, dtype=np.float64), policies.keep_first_in_text(2))
    reader.read(ids)                                          # tokens 0, 1 and the last four
    turned = {}
    for T in (6, 12):
        whole = KVCache(replace(arch, T=12), dtype=np.float64)
        decode(whole.arch, weights, ids, whole)
        turned[T] = whole.read(0)[0]
    kept = turned[12][:, [0, 1, 8, 9, 10, 11]]                # as in the text, all moved back by 6
    assert reader.cache.read(0)[0] == pytest.approx(turn(kept, np.full(6, -6), 100.0), abs=1e-12)


def test_attention_on_the_first_token_is_measured(rng):
    arch, weights = make(rng, rotary=100.0, T=8, L=1)
    flat = weights | {"blocks.0.qkv.w": weights["blocks.0.qkv.w"] * 0,
                      "blocks.0.qkv.b": weights["blocks.0.qkv.b"] * 0}       # all keys the same
    found = policies.attention_on(arch, flat, rng.integers(11, size=8), 0)
    assert found.shape == (1, 4)
    assert found == pytest.approx(np.full((1, 4), np.mean([1 / 5, 1 / 6, 1 / 7, 1 / 8])))


def test_a_token_meets_all_weights_but_biases_norms_and_positions(rng):
    for other in ALL:
        arch, weights = make(rng, **other)
        met = sum(w.size for name, w in weights.items() if w.ndim == 2 and name != "positions")
        assert timing.weights_in_products(arch) == met


def test_the_run_holds_what_the_note_says():
    result = measure(fast=True, seed=0)
    assert max(error for _, error in result.equal) < 1e-5
    assert [size for size, _ in result.equal] == [1, 3, 32]
    for t, anew, cached, more, one in result.rows:
        assert anew > 0 < cached and more / one == t + 1
    assert all(formula == measured for _, formula, measured, *_ in result.heads)
    assert [K for K, *_ in result.heads] == [4, 2, 1]
    assert [T for T, *_ in result.past] == [8, 32]
    assert abs(result.past[-1][2]["slide"][0]) < 0.05
    assert result.controls["no limit"][0] > 0.05              # past all positions of training
    assert policies.spread([1.0, 2.0, 6.0]) == pytest.approx([3, (7 / 3) ** 0.5])
    assert np.mean(result.sink) < result.even                 # no sink to be kept
