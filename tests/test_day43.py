"""Day 43 · The compiled engine: formats, the barrier, the fused token, and the stream."""

import tracemalloc
from dataclasses import replace

import numba
import numpy as np
import pytest
from numba import njit
from numba.core.runtime import _nrt_python, rtsys

from days.day43.barrier import phases
from days.day43.phases import KINDS
from days.day43.run import measure, table
from llm.generate.architecture import Architecture, gpt_weights, shapes
from llm.generate.cache import KVCache
from llm.generate.decode import decode, generate
from llm.generate.engine import CHUNK, FACTORS, LOOK, Engine
from llm.generate.layout import move_together
from llm.generate.overflow import keep_first, read_half_again
from llm.generate.prefill import prefill
from llm.generate.stream import Holdback, Pieces, Stream, stream
from llm.kernels import step as parts
from llm.kernels.barrier import (
    ARRIVED,
    CLOSED,
    JOINED,
    TEAM,
    WORDS,
    fetch_add,
    fetch_or,
    load,
    members,
    roll_call,
    store,
)
from llm.kernels.matvec import FLOAT32, Packed, R, aligned, scratch, tiles
from llm.kernels.pointers import ROWS, address
from llm.models.gpt import GPT, GPTConfig
from llm.tokens.bpe import BPE
from llm.tokens.chars import CharTokenizer
from llm.tokens.fast_bpe import FastBPE

MANY = numba.config.NUMBA_NUM_THREADS


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def multiply(fmt, data, x, N, first=0, last=None, fill=7):
    """y = W x through the format's own functions."""
    y, work = np.full(R * tiles(N), fill, np.float32), aligned(scratch(x.size))
    fmt.prepare(x, work)
    fmt.rows(data, x, work, y, x.size, first, tiles(N) if last is None else last)
    return y


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


SMALL = Architecture(V=70, T=40, C=13, L=2, H=4, K=2, D=6, F=67, rotary=1000.0)


@pytest.fixture
def small(rng):
    return random_weights(SMALL, rng)


@njit
def prepare_double(x, work):
    twice = work[4:4 + 4 * x.size].view(np.float32)
    for k in range(x.size):
        twice[k] = 2 * x[k]


@njit
def rows_double(data, x, work, y, K, first, last):
    w, twice = data.view(np.float32), work[4:4 + 4 * K].view(np.float32)
    for tile in range(first, last):
        for r in range(R):
            total = np.float32(0)
            for k in range(K):
                total += w[(tile * K + k) * R + r] * twice[k]
            y[tile * R + r] = total


# half the weights times twice the activations: wrong by a factor unless `prepare` is called
DOUBLE = replace(FLOAT32, name="double", pack=lambda w: FLOAT32.pack(np.asarray(w) / 2),
                 prepare=prepare_double, rows=rows_double,
                 matmul=lambda data, x, N: 2 * FLOAT32.matmul(data, x, N))


def test_the_example_by_hand_a_matrix_in_memory_and_its_product():
    w, x = np.array([[1, 2], [3, 4]], np.float32), np.array([1, 10], np.float32)    # (K, N)
    data = FLOAT32.pack(w)
    numbers = data.view(np.float32)
    assert data.size == 4 * 2 * 64 and numbers.nonzero()[0].tolist() == [0, 1, 64, 65]
    assert numbers[[0, 1, 64, 65]].tolist() == [1, 2, 3, 4]
    assert multiply(FLOAT32, data, x, 2)[:3].tolist() == [31, 42, 0]


def test_the_example_by_hand_bytes_and_seconds_of_a_token():
    arch = Architecture(V=50257, T=1024, C=768, L=12, H=12, K=12, D=64, F=3072)
    must, _ = shapes(arch)
    weights = sum(int(np.prod(s)) for name, s in must.items() if name.endswith(".w"))
    assert weights == 12 * 12 * 768 ** 2 == 84_934_656
    weights += 50257 * 768
    assert weights == 123_532_032 and 4 * weights == 494_128_128
    assert 4 * weights / 28e9 == pytest.approx(0.017647, rel=1e-4)        # 57 tokens a second
    assert 2 * weights / 28e9 == pytest.approx(0.008824, rel=1e-4)        # in 16 bits


@pytest.mark.parametrize("K, N", [(1, 1), (7, 64), (8, 65), (33, 200), (16, 128)])
@pytest.mark.parametrize("fmt", [FLOAT32, DOUBLE])
def test_rows_multiply_by_the_packed_matrix_and_pad_with_zeros(rng, fmt, K, N):
    w, x = rng.standard_normal((K, N), np.float32), rng.standard_normal(K, np.float32)
    data = fmt.pack(w)
    assert data.dtype == np.uint8 and data.ndim == 1 and data.ctypes.data % 64 == 0
    assert data.size == 4 * tiles(N) * R * K
    y = multiply(fmt, data, x, N)
    assert y[:N] == pytest.approx(x @ w.astype(np.float64), abs=1e-5) and (y[N:] == 0).all()
    many = rng.standard_normal((3, K), np.float32)
    assert fmt.matmul(data, many, N) == pytest.approx(many @ w, abs=1e-4)
    assert fmt.matmul(data, many, N).shape == (3, N)


def test_a_matrix_comes_back_exactly_and_rows_does_the_tiles_it_was_told(rng):
    w, x = rng.standard_normal((9, 200), np.float32), rng.standard_normal(9, np.float32)
    data = FLOAT32.pack(w)
    assert (FLOAT32.dense(data, 200, 9) == w).all() and FLOAT32.bits == 32
    y, whole = multiply(FLOAT32, data, x, 200, 1, 3), multiply(FLOAT32, data, x, 200)
    assert (y[:64] == 7).all() and (y[192:] == 7).all() and (y[64:192] == whole[64:192]).all()
    assert (multiply(FLOAT32, data, x, 200, 2, 2) == 7).all()
    with pytest.raises(ValueError, match=r"shape \(3,\) cannot be packed"):
        FLOAT32.pack(np.zeros(3))
    with pytest.raises(ValueError, match=r"shape \(0, 3\) cannot be packed"):
        FLOAT32.pack(np.zeros((0, 3)))


def test_memory_is_aligned_and_zero():
    for size in (1, 63, 64, 1000):
        block = aligned(size)
        assert block.size == size and block.ctypes.data % 64 == 0 and not block.any()
    assert [tiles(n) for n in (1, 64, 65, 128, 129)] == [1, 1, 2, 2, 3]
    assert scratch(100) == 1824 and Packed(block, 3, 5).shape == (5, 3)


def test_an_address_needs_a_compiled_function():
    assert address(FLOAT32.rows, ROWS) == address(FLOAT32.rows, ROWS) > 0
    with pytest.raises(TypeError, match="is not compiled: put @njit on it"):
        address(FLOAT32.pack, ROWS)


@njit
def touch(sync):
    a = fetch_add(sync, ARRIVED, 5)
    b = fetch_or(sync, JOINED, 6)
    store(sync, TEAM, 9)
    return a, b, load(sync, ARRIVED), load(sync, JOINED), load(sync, TEAM)


def test_atomics_return_what_was_there_before():
    sync = np.zeros(WORDS, np.int64)
    sync[ARRIVED], sync[JOINED] = 2, 3
    assert touch(sync) == (2, 3, 7, 7, 9)
    assert sync[[ARRIVED, JOINED, TEAM]].tolist() == [7, 7, 9] and np.count_nonzero(sync) == 3
    assert [members(n) for n in (0, 1, 6, 0b1011)] == [0, 1, 2, 3]


def test_whoever_misses_the_roll_call_is_not_waited_for():
    sync = np.zeros(WORDS, np.int64)
    assert roll_call(sync, 0, 1) == (0, 1)                       # a team of one waits for nobody
    sync[:] = 0
    assert roll_call(sync, 1, 3) == (0, 1)                       # 0 and 2 never came
    assert sync[JOINED] & CLOSED and sync[TEAM] == 0b010
    assert roll_call(sync, 0, 3) == (-1, 0) and roll_call(sync, 2, 3) == (-1, 0)
    assert sync[TEAM] == 0b010
    sync[:] = 0
    sync[JOINED] = 0b101                                         # the others came first
    assert roll_call(sync, 1, 3) == (1, 3) and sync[TEAM] == 0b111
    sync[:] = 0
    sync[JOINED], sync[TEAM] = 0b1101 | CLOSED, 0b1101           # closed without thread 1
    assert roll_call(sync, 1, 4) == (-1, 0)


def test_nobody_passes_the_barrier_before_all_have_arrived():
    numba.set_num_threads(MANY)
    for slow, n in ((-1, 2000), (1, 3)):
        sync = np.zeros(WORDS, np.int64)
        board, wrong = np.full(8 * MANY, -1), np.zeros(8 * MANY, np.int64)
        phases(sync, MANY, n, board, wrong, slow)
        assert not wrong.any() and sync[ARRIVED] == 2 * n * members(sync[TEAM])


def softmax_of(past, now):
    scores = np.append(past, now).astype(np.float64)
    everything = np.exp(scores - scores.max())
    return everything / everything.sum()


@pytest.mark.parametrize("D", [1, 3, 16, 37])
@pytest.mark.parametrize("n", [0, 1, 8, 21])
def test_attention_of_one_query_equals_the_softmax_written_out(rng, n, D):
    q, keys, values, key, value = (rng.standard_normal(shape).astype(np.float32)
                                   for shape in (D, (30, D), (30, D), D, D))
    scores, out = np.full(n + 2, 7, np.float32), np.full(D, 7, np.float32)
    parts.attend(q, keys.reshape(-1), values.reshape(-1), key, value, n, scores, out)
    everything = softmax_of(keys[:n] @ q, key @ q)
    assert out == pytest.approx(everything @ np.vstack([values[:n], value]), abs=1e-5)
    assert scores[:n + 1] == pytest.approx(everything, abs=1e-5) and scores[n + 1] == 7
    q *= np.float32(100)                                          # scores of some hundreds
    parts.attend(q, keys.reshape(-1), values.reshape(-1), key, value, n, scores, out)
    everything = softmax_of(keys[:n].astype(np.float64) @ q, key.astype(np.float64) @ q)
    assert scores[:n + 1] == pytest.approx(everything, abs=2e-3)


def test_the_small_parts(rng):
    x, by = rng.standard_normal((2, 19)).astype(np.float32) * 4
    gelu, gated = x.copy(), x.copy()
    parts.gelu(gelu)
    parts.gate(gated, by)
    inside = np.sqrt(2 / np.pi) * (x.astype(np.float64) + 0.044715 * x.astype(np.float64) ** 3)
    assert gelu == pytest.approx(0.5 * x * (1 + np.tanh(inside)), abs=1e-5)
    assert gated == pytest.approx(x * by / (1 + np.exp(-by.astype(np.float64))), abs=1e-5)
    gain, bias, out = (rng.standard_normal(19).astype(np.float32) for _ in range(3))
    parts.normalise(x, gain, bias, np.float32(0.1), False, out)
    assert out == pytest.approx((x - x.mean()) / np.sqrt(x.var() + 0.1) * gain + bias, abs=1e-5)
    parts.normalise(x, gain, bias[:0], np.float32(0.1), True, out)
    assert out == pytest.approx(x / np.sqrt((x * x).mean() + 0.1) * gain, abs=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("norm, feed_forward, rotary, heads, biases, head", [
    ("layer", "gelu", None, (3, 3, 4), True, False),          # day 34's GPT, learned positions
    ("layer", "gelu", 10000.0, (2, 2, 6), True, True),        # and rotary
    ("rms", "swiglu", 100000.0, (4, 2, 8), False, False),     # Llama's parts
    ("rms", "swiglu", 10000.0, (6, 1, 2), True, True),
    ("rms", "gelu", None, (4, 4, 5), False, True),
    ("layer", "swiglu", 100.0, (1, 1, 70), True, False)])     # a head wider than a tile
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


def test_any_number_of_threads_gives_the_same_bits(rng, small):
    ids = rng.integers(0, 70, 20).tolist()
    one, all_ = Engine(SMALL, small, threads=1), Engine(SMALL, small)
    assert one.threads == 1 and all_.threads == MANY
    for i in ids:
        assert (one.step(i) == all_.step(i)).all()
    assert Engine(SMALL, small, threads=1000).threads == MANY
    for none in (0, -1):
        with pytest.raises(ValueError, match=f"{none} threads cannot work"):
            Engine(SMALL, small, threads=none)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_cache_of_16_bits_gives_what_day_42s_gives(rng, threads):
    arch = Architecture(V=70, T=40, C=13, L=3, H=4, K=2, D=10, F=30, rotary=1000.0)
    weights, ids = random_weights(arch, rng), rng.integers(0, 70, 40)
    cache, exact = KVCache(arch, dtype=np.float16), KVCache(arch)
    wanted = np.array([decode(arch, weights, [i], cache)[0] for i in ids])
    engine = Engine(arch, weights, threads=threads, dtype=np.float16)
    found = np.array([engine.step(int(i)).copy() for i in ids])
    assert engine.cache.k.dtype == np.float16 and engine.cache.bytes() == exact.bytes() // 2
    rounding = relative(found, decode(arch, weights, ids, exact))
    assert relative(found, wanted) < 1e-3 and 1e-5 < rounding < 1e-3
    assert (engine.cache.k == cache.k).mean() > 0.5 and np.abs(
        engine.cache.k.astype(float) - cache.k).max() < 0.02
    engine.reset()
    assert relative(engine.prefill(ids), wanted[-1]) < 2e-3
    with pytest.raises(ValueError, match="float16 or float32, not float64"):
        Engine(arch, weights, dtype=np.float64)


def test_day_34s_gpt_runs_and_says_what_its_full_forward_says(rng):
    model = GPT(GPTConfig(V=50, T=24, C=24, L=2, H=3, rotary=True), rng)
    for p in model.named_parameters().values():
        p.data = p.data + 0.1 * rng.standard_normal(p.shape).astype(np.float32)
    ids = rng.integers(0, 50, 24)
    wanted = model(ids[None]).data[0]
    engine = Engine(*gpt_weights(model.state_dict(), model.config))
    assert relative(np.array([engine.step(int(i)).copy() for i in ids]), wanted) < 1e-5


def test_logits_are_a_view_that_the_next_step_overwrites(small):
    engine = Engine(SMALL, small)
    first = engine.step(1)
    kept = first.copy()
    second = engine.step(2)
    assert first.base is not None and (first == second).all() and (kept != second).any()
    assert first.shape == (70,)


def test_truncate_and_reset_are_as_if_the_rest_had_never_been_read(rng, small):
    engine, ids = Engine(SMALL, small, T_max=8), rng.integers(0, 70, 8).tolist()
    logits = [engine.step(i).copy() for i in ids]
    engine.truncate(3)
    assert engine.length == 3
    for j in range(3, 8):
        assert (engine.step(ids[j]) == logits[j]).all()
    engine.reset()
    assert (engine.step(ids[0]) == logits[0]).all() and engine.length == 1
    with pytest.raises(ValueError, match="cannot cut a cache of 1 tokens to 2"):
        engine.truncate(2)


def test_prefill_in_chunks_equals_one_by_one(rng):
    arch = replace(SMALL, T=2 * CHUNK + 30)
    weights, ids = random_weights(arch, rng), rng.integers(0, 70, 2 * CHUNK + 1)
    engine, other = Engine(arch, weights), Engine(arch, weights)
    for i in ids.tolist():
        wanted = other.step(i)
    found = engine.prefill(ids)                     # two chunks, and one id left for a step
    assert found.shape == (70,) and relative(found, wanted) < 1e-5
    assert engine.length == 2 * CHUNK + 1
    assert relative(engine(ids[:7]), other(ids[:7])) < 1e-5 and engine.length == other.length
    assert engine(ids[:2]) is not None and engine.length == 2 * CHUNK + 10
    assert relative(engine(ids[:1]), other.prefill(ids[[0, 1, 0]])) < 1e-5
    engine.reset()
    every = prefill(arch, engine.weights, ids[:5], engine.cache, every=True)
    other.reset()
    assert every.shape == (5, 70)
    assert all(relative(row, other.step(i)) < 1e-5 for row, i in zip(every, ids[:5].tolist()))


def test_what_cannot_be_read_is_refused_and_leaves_the_text_alone(small):
    engine = Engine(SMALL, small, T_max=3)
    for bad in (-1, 70):
        with pytest.raises(ValueError, match=f"id {bad}: the vocabulary has 0 … 69"):
            engine.step(bad)
    for bad in ("a", 1.5, None, [1]):
        with pytest.raises(ValueError, match="and no id: wanted an integer, as the tokenizer"):
            engine.step(bad)
    with pytest.raises(ValueError, match="4 more tokens do not fit"):
        engine.prefill([1, 2, 3, 4])
    with pytest.raises(ValueError, match="nothing to read"):
        engine.prefill([])
    with pytest.raises(ValueError, match="id 99 at position 1"):
        engine.prefill([1, 99])
    assert engine.length == 0
    engine.step(0), engine.step(69), engine.step(1)
    with pytest.raises(ValueError, match="1 more tokens do not fit: the cache holds 3"):
        engine.step(1)
    assert engine.length == 3
    with pytest.raises(ValueError, match="lack embed"):
        Engine(SMALL, {name: w for name, w in small.items() if name != "embed"})
    with pytest.raises(ValueError, match=r"up.w is \(13, 66\)"):
        Engine(SMALL, small | {"blocks.1.up.w": np.zeros((13, 66), np.float32)})
    with pytest.raises(ValueError, match="no format for head: the patterns are blocks"):
        Engine(SMALL, small, {"blocks.*": FLOAT32})


@pytest.mark.parametrize("fmt", [DOUBLE, {"blocks.*.gate.w": DOUBLE, "*": FLOAT32},
                                 {"*.down.w": DOUBLE, "head": DOUBLE, "*": FLOAT32},
                                 {"blocks.1.*": FLOAT32, "*": DOUBLE}])
def test_formats_can_be_mixed_and_the_step_is_not_compiled_again(rng, fmt):
    arch = replace(SMALL, feed_forward="swiglu", norm="rms")
    weights, ids = random_weights(arch, rng), rng.integers(0, 70, 12)
    wanted = decode(arch, weights, ids, KVCache(arch))
    engine = Engine(arch, weights, fmt)
    assert relative(np.array([engine.step(int(i)).copy() for i in ids]), wanted) < 1e-5
    engine.reset()
    assert relative(engine.prefill(ids), wanted[-1]) < 1e-5
    from llm.kernels.decode import step
    assert len(step.signatures) == 1


def test_packed_matrices_are_taken_as_they_are(rng, small):
    class Table:                                         # an embedding that is unpacked by the row
        shape = small["embed"].shape

        def __getitem__(self, ids):
            return small["embed"][ids]

    packed = {name: Packed(FLOAT32.pack(w), w.shape[1], w.shape[0])
              if name.endswith(".w") else w for name, w in small.items()}
    head = DOUBLE.pack(small["embed"].T)
    packed |= {"embed": Table(), "head": Packed(head, 70, 13, DOUBLE)}
    engine, plain = Engine(SMALL, packed), Engine(SMALL, small)
    assert engine.matrices()["blocks.1.down.w"].data is packed["blocks.1.down.w"].data
    assert engine.matrices()["head"].data is head
    for i in (3, 1, 4):
        assert relative(engine.step(i), plain.step(i)) < 1e-5
    assert relative(engine.prefill([1, 5, 9]), plain.prefill([1, 5, 9])) < 1e-5
    assert list(plain.matrices()) == [f"blocks.{i}.{name}.w" for i in (0, 1)
                                      for name in ("qkv", "project", "up", "down")] + ["head"]


def test_what_the_engine_packs_lies_in_one_block_in_whole_cache_lines(small):
    odd = replace(FLOAT32, pack=lambda w: FLOAT32.pack(w)[:-7 if w.shape[1] == 67 else None])
    weights = {name: Packed(odd.pack(w), w.shape[1], w.shape[0], FLOAT32)
               for name, w in small.items() if name.endswith(".w")}
    before = {name: w.data.copy() for name, w in weights.items()}
    weights["norm.gain"] = small["norm.gain"]
    move_together(weights)
    assert weights.pop("norm.gain") is small["norm.gain"]
    for name, w in weights.items():
        assert (w.data == before[name]).all() and w.data.ctypes.data % 64 == 0
    starts = sorted(w.data.ctypes.data for w in weights.values())
    assert starts[-1] - starts[0] < sum(w.data.size for w in weights.values())
    engine = Engine(SMALL, small)
    assert len({id(w.data.base) for w in engine.matrices().values()}) == 1


def test_bytes_are_those_of_weights_cache_and_workspace(small):
    engine = Engine(SMALL, small, T_max=5)
    matrices = sum(m.data.nbytes for m in engine.matrices().values())
    assert matrices == 4 * 64 * (2 * (13 + 24 + 2 * 13 + 67) + 2 * 13)
    other = sum(w.nbytes for name, w in small.items() if not name.endswith(".w"))
    held = engine.bytes() - matrices - other - engine.cache.bytes()
    assert engine.cache.bytes() == 2 * 2 * 2 * 5 * 6 * 4 and 0 < held < 60_000


def test_a_step_allocates_nothing(small):
    engine = Engine(SMALL, small)
    for i in range(5):
        engine.step(i)
    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for i in range(30):
            engine.step(i)
        peak = tracemalloc.get_traced_memory()[1] - start
    finally:
        tracemalloc.stop()
        after = rtsys.get_allocation_stats()
        _nrt_python.memsys_disable_stats()
    assert after.alloc == before.alloc and after.mi_alloc == before.mi_alloc     # compiled code
    assert peak < 4000                                    # Python's own small change: ints, views


def test_a_team_that_loses_time_rests_longer_each_time(small):
    engine = Engine(SMALL, small, threads=2)
    engine.take_stock(1, 0.0, 5.0)                        # the first loads code: not counted
    assert engine.alone == 0
    engine.take_stock(1, 5.0, 6.0)                        # one thread takes a second
    engine.take_stock(1, 5.0, 7.0)
    assert engine.alone == pytest.approx(1.1) and engine.until == 0
    engine.take_stock(2, 10.0, 11.1)                      # no slower than that
    assert engine.until == 0 and engine.factor == 4
    for factor in (4, 8, 16, 32, 32):       # half a second lost, again and again
        engine.take_stock(2, 20.0, 21.6)
        assert engine.until == pytest.approx(21.6 + 0.5 * factor)
    assert (4, engine.factor) == FACTORS == (4, 32)
    engine.take_stock(2, 20.0, 20.5)
    assert engine.factor == 31 and engine.alone == pytest.approx(1.1)
    for _ in range(40):
        engine.take_stock(2, 20.0, 20.5)
    assert engine.factor == 4


def test_a_resting_team_is_one_thread_and_the_first_token_is_too(small, monkeypatch):
    used = []
    monkeypatch.setattr("llm.generate.engine.compute", lambda where, p, n: used.append((p, n)))
    engine = Engine(SMALL, small)
    engine.step(1)
    engine.step(1)
    engine.alone = 1e9                                    # nothing can be slower than that
    engine.step(1)
    engine.until = 1e12
    engine.step(1)
    assert used == [(0, 1), (1, 1), (2, MANY), (3, 1)]


def test_one_thread_is_timed_again_now_and_then(small, monkeypatch):
    used = []
    monkeypatch.setattr("llm.generate.engine.compute", lambda where, p, n: used.append(n))
    engine = Engine(SMALL, small)
    for _ in range(2 + 2 * (LOOK + 1)):
        engine.alone = engine.alone and 1e9
        engine.step(1)
        engine.truncate(0)
    assert used == [1, 1] + 2 * ([MANY] * LOOK + [1])


def test_a_disturbed_time_of_one_thread_does_not_stand(small):
    engine = Engine(SMALL, small, threads=2)
    engine.take_stock(1, 0.0, 1.0)
    engine.take_stock(1, 0.0, 50.0)                       # another program had the core
    engine.take_stock(1, 0.0, 1.0)
    assert engine.alone == 1.0
    engine.take_stock(1, 0.0, 0.6)                        # above a half: a mean
    assert engine.alone == pytest.approx(.96)


def test_generate_of_day_42_runs_on_the_engine(rng, small):
    greedy = lambda logits, so_far: int(np.argmax(logits))
    cache = KVCache(SMALL)
    slow = generate(lambda ids: decode(SMALL, small, ids, cache)[-1], [1, 2, 3], 20, greedy)
    assert list(generate(Engine(SMALL, small), [1, 2, 3], 20, greedy)) == list(slow)


class Script:
    """An engine that only keeps account of what it has read."""

    def __init__(self, T_max=100, interrupt_at=None):
        self.read, self.interrupt_at = [], interrupt_at
        self.cache = KVCache(replace(SMALL, T=T_max))

    def prefill(self, ids):
        self.read += list(ids)
        self.cache.advance(len(ids))
        return 0

    def step(self, i):
        if len(self.read) + 1 == self.interrupt_at:
            raise KeyboardInterrupt
        return self.prefill([i])


def say(tokenizer, text_or_ids, n=1000, prompt=(65,), T_max=2000, interrupt_at=None, **options):
    """The parts that come when these ids are chosen; and the Stream."""
    ids = tokenizer.encode(text_or_ids) if isinstance(text_or_ids, str) else text_or_ids
    s = stream(Script(T_max, interrupt_at), tokenizer, prompt, min(n, len(ids)),
               lambda _, so_far: ids[len(so_far) - len(prompt)], **options)
    return list(s), s


def test_no_character_is_ever_broken(rng):
    text = "naïve – 語 👩‍🚀 é\n"
    for tokenizer in (BPE(), FastBPE.from_merges([])):
        got, s = say(tokenizer, text)
        assert "".join(got) == text and got == list(text) and s.reason == "length"
    assert say(CharTokenizer.from_text(text + "A"), text, prompt=(0,))[0] == list(text)
    for _ in range(20):                                   # bytes that are no UTF-8 at all
        ids = rng.integers(0, 256, 50).tolist()
        assert "".join(say(BPE(), ids)[0]) == BPE().decode(ids)
    pieces = Pieces(BPE())
    assert [pieces.push(i) for i in "é".encode()] == ["", "é"] and pieces.flush() == ""
    assert [pieces.push(0xE8), pieces.flush()] == ["", "\ufffd"]


def test_the_example_by_hand_of_a_stop_string():
    gate = Holdback("###")
    assert [gate.push(text) for text in ("a", "##", " b", "##", "#")] == ["a", "", "## b", "", ""]
    assert gate.found and gate.held == ""


def test_a_stop_string_is_found_across_tokens_and_never_shown():
    tokenizer = BPE()
    got, s = say(tokenizer, "one\n\nUser: two", stop=["\nUser:", "###"])
    assert "".join(got) == "one\n" and s.reason == "stop"
    assert tokenizer.decode(s.ids) == "one\n\nUser:"
    got, s = say(tokenizer, "a ## b # c", stop="###")     # a beginning that comes to nothing
    assert "".join(got) == "a ## b # c" and got[2] == "##" + " " and s.reason == "length"
    assert "".join(say(tokenizer, "x##", stop="###")[0]) == "x##"      # held back to the end
    assert "".join(say(tokenizer, "abcd", stop=["cd", "bc"])[0]) == "a"
    assert "".join(say(tokenizer, "aab", stop="ab")[0]) == "a"
    got, s = say(tokenizer, "ab", stop="ab")
    assert got == [] and s.reason == "stop"
    merged = FastBPE.from_merges([(97, 98), (256, 99)])                # "ab", "abc"
    assert say(merged, [257], stop="b")[0] == ["a"]
    assert Holdback("ab").push("xa") == "x"
    assert Holdback(["d", "b"]).push("abcd") == "a"                    # both at once: the first
    with pytest.raises(ValueError, match="an empty stop string"):
        Holdback(["a", ""])
    assert say(tokenizer, [0xE8], stop="\ufffd")[1].reason == "stop"


def test_a_stream_ends_at_n_at_an_id_or_at_a_full_cache():
    tokenizer = BPE()
    got, s = say(tokenizer, "abcdef", n=3)
    assert got == ["a", "b", "c"] and s.reason == "length" and s.engine.read == [65, 97, 98]
    got, s = say(tokenizer, "abcdef", ends=[100])
    assert got == ["a", "b", "c"] and s.reason == "end" and s.ids == [97, 98, 99, 100]
    got, s = say(tokenizer, "abcdef", T_max=3)
    assert got == ["a", "b", "c"] and s.reason == "full" and s.engine.cache.room == 0
    got, s = say(tokenizer, "abcdef", n=0)
    assert got == [] and s.ids == [] and s.engine.read == []
    got, s = say(tokenizer, "abcdef", T_max=4, overflow=read_half_again, past=[1, 2])
    assert "".join(got) == "abcdef" and s.reason == "length"
    assert s.engine.read == [65, 97, 98, 99, 98, 99, 100, 101]
    told = []

    def policy(cache, past):
        told.append(list(past))
        cache.reset()
        return []

    say(tokenizer, "abc", T_max=2, overflow=policy, past=[1, 2])
    assert told == [[1, 2, 65, 97]]                       # all that was read, and no more


def test_a_full_cache_makes_room_as_day_42_says(rng):
    arch = replace(SMALL, T=8)
    weights = random_weights(arch, rng)
    greedy = lambda logits, so_far: int(np.argmax(logits))
    from llm.generate.overflow import Reader
    for policy in (read_half_again, keep_first(2)):
        wanted = list(generate(Reader(arch, weights, KVCache(arch), policy).step, [1, 2, 3], 25,
                               greedy))
        s = Stream(Engine(arch, weights), BPE(), [1, 2, 3], 25, greedy, overflow=policy)
        list(s)
        assert s.ids == wanted and s.reason == "length"


def test_ctrl_c_loses_nothing():
    s, got = Stream(Script(interrupt_at=5), BPE(), [65], 6,
                    lambda _, so_far: b"ab##cd"[len(so_far) - 1], stop="###"), []
    with pytest.raises(KeyboardInterrupt):                              # while the second # is read
        for text in s:
            got.append(text)
    assert "".join(got) == "ab##" and s.reason == "interrupted"
    assert BPE().decode(s.ids) == "ab##" and s.engine.read == [65, 97, 98, 35]
    s = Stream(Script(interrupt_at=1), BPE(), [65], 6, None)
    with pytest.raises(KeyboardInterrupt):
        list(s)
    assert s.ids == []


def test_a_stream_refuses_what_it_cannot_do():
    engine = Script(T_max=3)
    choose = lambda i, _: i
    with pytest.raises(ValueError, match="the prompt has no tokens"):
        stream(engine, BPE(), [], 3, choose)
    with pytest.raises(ValueError, match="cannot write -1 tokens"):
        stream(engine, BPE(), [1], -1, choose)
    with pytest.raises(ValueError, match="4 more tokens do not fit"):
        stream(engine, BPE(), [1, 2, 3, 4], 1, choose)
    with pytest.raises(ValueError, match="an empty stop string"):
        stream(engine, BPE(), [1], 1, choose, stop="")
    assert engine.read == []


def test_all_ways_give_the_same_token_and_the_phases_add_up():
    r = measure(fast=True, seed=0)
    assert r.worst < 1e-5 and len(r.page) > 10 and r.threads == MANY
    assert min(r.peaks) > 0 and all(s > 0 for found in r.seconds for s in found.values())
    for rows, (_, megabytes, position, _) in zip(r.phases, r.models):
        assert sum(row[2] for row in rows) == pytest.approx(1e6 * megabytes)
        assert rows[1][2] % (8 * position) == 0 and [row[1] for row in rows][-1] == 1
    assert [row[0] for row in table(r)[1:]] == [*KINDS, "the token"]
    assert table(r)[-1][1] == 11 == 5 * 2 + 1
