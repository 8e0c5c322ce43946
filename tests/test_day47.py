"""Day 47 · Paged cache and continuous batching: company changes nothing, and no block is lost."""

from dataclasses import replace

import numba
import numpy as np
import pytest

from days.day47 import rows, serving
from days.day47.run import measure
from llm.generate.architecture import Architecture, shapes
from llm.generate.batch import gathered, pack_rows, paged_decode, product
from llm.generate.cache import KVCache, cache_bytes
from llm.generate.decode import decode, generate
from llm.generate.paged import BlockPool, OutOfBlocks, key_of
from llm.generate.request import Request
from llm.generate.scheduler import Scheduler, padded
from llm.generate.stream import stream
from llm.generate.truncate import Chooser
from llm.kernels import paged
from llm.kernels.matvec import Packed, pack_float32
from llm.kernels.paged import ROWS32, attend, multiply

SMALL = {"V": 11, "T": 32, "C": 8, "L": 2, "H": 4, "K": 2, "D": 4, "F": 10}
ALL = [{}, {"rotary": 100.0}, {"rotary": 100.0, "norm": "rms", "feed_forward": "swiglu"},
       {"K": 1, "D": 6}, {"K": 4, "D": 2, "eps": 1e-2},
       {"H": 6, "K": 3, "D": 2, "rotary": 10000.0, "norm": "rms"}]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make(rng, dtype=np.float32, bare=False, **other):
    arch = Architecture(**{**SMALL, **other})
    must, may = shapes(arch)
    chosen = must if bare else must | may
    return arch, {name: (name.endswith("gain") + 0.5 * rng.standard_normal(shape)).astype(dtype)
                  for name, shape in chosen.items()}


def read(arch, weights, ids, table, pool, cuts=(), **options):
    """The logits (T, V) of a text that is read in the pieces between the cuts."""
    borders, found = [0, *cuts, len(ids)], []
    for first, end in zip(borders, borders[1:]):
        found.append(paged_decode(arch, weights, ids[first:end], np.arange(first, end),
                                  np.array([table] * (end - first)), pool, **options))
    return np.concatenate(found)


class Letters:
    """Id 0 is a, 1 is b, …"""

    def decode(self, ids):
        return "".join("abcdefghijk"[i] for i in ids)


def test_the_example_by_hand():
    arch = Architecture(V=2, T=16, C=2, L=1, H=1, K=1, D=2, F=2, rotary=10.0)
    pool, ann, ben = BlockPool(arch, blocks=5, size=4), [], []
    pool.grow(ann, 9)                                   # nine tokens: three blocks
    assert ann == [0, 1, 2] and pool.count(9) * 4 - 9 == 3          # three places are unused
    pool.remember(ann, [7, 7, 7, 7, 8, 8, 8, 8, 9])
    found = pool.find([7, 7, 7, 7, 8, 8, 5, 5, 5])      # Ben begins with the same four tokens
    ben = pool.fork(found)
    pool.grow(ben, 9)
    assert ben == [0, 3, 4] and pool.holders == [2, 1, 1, 1, 1] and not pool.free
    pool.release(ann)
    assert ann == [] and list(pool.free) == [2, 1] and pool.holders == [1, 0, 0, 1, 1]
    assert pool.find([7, 7, 7, 7, 8, 8, 8, 8]) == [0, 1]            # still known
    carl = pool.fork(ben)                               # Carl goes on from Ben's nine tokens
    pool.k[0, 4, 0, 0] = [1, 2]
    pool.own(carl, 9)                                   # and writes the tenth: a copy
    assert carl == [0, 3, 2] and ben == [0, 3, 4] and pool.holders == [2, 0, 1, 2, 1]
    assert pool.k[0, 2, 0, 0].tolist() == [1, 2]
    assert cache_bytes(arch, 4) == pool.bytes() / 5 == 64


# ---------------------------------------------------------------- the step

@pytest.mark.parametrize("other", ALL)
@pytest.mark.parametrize("bare", [False, True])
def test_paged_decode_is_day_42s_decode_for_every_architecture(rng, other, bare):
    arch, weights = make(rng, np.float64, bare, **other)
    ids = rng.integers(11, size=13)
    expected = decode(arch, weights, ids, KVCache(arch, dtype=np.float64))
    for size, table in ((1, range(19, -1, -1)), (3, [7, 2, 5, 1, 0]), (16, [3])):
        pool = BlockPool(arch, 20, size, dtype=np.float64)
        found = read(arch, weights, ids, [*table], pool, (4, 5))
        assert found.dtype == np.float64
        assert found == pytest.approx(expected, abs=1e-11)
    narrow = {name: w.astype(np.float32) for name, w in weights.items()}
    for each, options in ((narrow, {}), (pack_rows(narrow), {"attention": attend})):
        found = read(arch, each, ids, [7, 2, 5, 1, 0], BlockPool(arch, 20, 3), (4, 5), **options)
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("other", [{}, {"rotary": 100.0, "norm": "rms", "feed_forward": "swiglu"},
                                   {"C": 40, "F": 100, "D": 10, "V": 70}])
def test_a_row_is_the_same_to_the_last_bit_in_any_company_and_any_place(rng, compiled, other):
    arch, weights = make(rng, **other)
    options = {"attention": attend} if compiled else {}
    weights = pack_rows(weights) if compiled else weights
    ids, T = rng.integers(11, size=20), 20
    alone = read(arch, weights, ids, [0, 1, 2, 3, 4], BlockPool(arch, 5, 4), range(1, T), **options)
    for cuts in ((), (7,), (1, 2, 10, 13)):             # chunks, and other blocks
        pool = BlockPool(arch, 9, 4)
        pool.k[:], pool.v[:] = np.nan, np.nan
        found = read(arch, weights, ids, [8, 3, 5, 0, 6], pool, cuts, **options)
        assert (found == alone).all()
    for _ in range(6):                                  # company: other texts at other places
        B = int(rng.integers(2, 12))
        lengths = rng.integers(1, T + 1, B)
        texts = [rng.integers(11, size=n) for n in lengths]
        me = int(rng.integers(B))
        texts[me] = ids[:lengths[me]]
        pool = BlockPool(arch, 5 * B, 4)
        tables = rng.permutation(5 * B).reshape(B, 5)
        for t in range(T):
            if not (rows := [b for b in range(B) if t < lengths[b]]):
                break
            logits = paged_decode(arch, weights, np.array([texts[b][t] for b in rows]),
                                  np.full(len(rows), t), tables[rows], pool, **options)
            if me in rows:
                assert (logits[rows.index(me)] == alone[t]).all()
    wanted = paged_decode(arch, weights, ids, np.arange(T), np.array([[0, 1, 2, 3, 4]] * T),
                          BlockPool(arch, 5, 4), [19, 3], **options)
    assert (wanted == alone[[19, 3]]).all()
    none = paged_decode(arch, weights, ids, np.arange(T), np.array([[0, 1, 2, 3, 4]] * T),
                        BlockPool(arch, 5, 4), [], **options)
    assert none.shape == (0, arch.V)


def test_a_chunk_writes_nothing_but_its_own_places(rng):
    arch, weights = make(rng, rotary=100.0)
    pool = BlockPool(arch, 4, 4)
    read(arch, weights, [1, 2, 3, 4, 5], [2, 1], pool)
    used = np.zeros((4, 4), bool)
    used[2], used[1, 0] = True, True
    for part in (pool.k, pool.v):
        assert ((part != 0).all(axis=(0, 2, 4)) == used).all()


def test_the_product_is_the_same_in_every_number_of_rows_and_threads(rng):
    for K, N in ((1, 1), (5, 63), (7, 64), (96, 288), (33, 130), (600, 4000)):
        w, x = rng.standard_normal((K, N)), rng.standard_normal((11, K))
        w, x = w.astype(np.float32), x.astype(np.float32)
        packed, exact = pack_float32(w), x.astype(np.float64) @ w
        one = np.concatenate([multiply(packed, row[None], N) for row in x])
        assert one.dtype == np.float32 and one.shape == (11, N)
        bound = K * 2.0**-24 * (np.abs(x).astype(float) @ np.abs(w)) + 1e-12
        assert (np.abs(one - exact) <= bound).all()
        for n in range(12):
            assert (multiply(packed, x[:n], N) == one[:n]).all()
            assert (multiply(packed, x[11 - n:], N) == one[11 - n:]).all()
        assert (multiply(packed, np.asfortranarray(x), N) == one).all()
        assert (product(w, x) == np.stack([row @ w for row in x])).all()
        assert (product(Packed(packed, N, K, ROWS32), x) == one).all()


def test_small_products_use_one_thread_and_large_ones_all_and_nobody_is_robbed(rng, monkeypatch):
    seen, most = [], numba.config.NUMBA_NUM_THREADS
    for kernel in ("rows_times", "attend_rows"):
        monkeypatch.setattr(paged, kernel, lambda *_: seen.append(numba.get_num_threads()))
    for before in {1, most}:
        numba.set_num_threads(before)
        for K, N in ((64, 64), (1024, 4096)):
            multiply(pack_float32(np.ones((K, N))), np.ones((1, K)), N)
        for position in (3, paged.WORTH // 8):
            attend(np.ones((1, 1, 4), np.float32), *np.ones((2, 1, 1, 4, 4), np.float32),
                   np.zeros((1, 1), int), np.array([position]))
        assert seen == [1, most, 1, most] and numba.get_num_threads() == before
        seen.clear()
    assert ROWS32.name == "float32, row by row" and ROWS32.matmul is multiply


@pytest.mark.parametrize("H, K, D", [(1, 1, 1), (4, 2, 4), (6, 1, 10), (3, 3, 32)])
def test_attention_over_blocks_equals_day_42s_over_a_copy(rng, H, K, D):
    k, v = rng.standard_normal((2, 9, K, 5, D)).astype(np.float32)
    q, tables = rng.standard_normal((H, 7, D)).astype(np.float32), rng.permutation(63).reshape(7, 9)
    tables, positions = tables % 9, np.array([0, 4, 5, 44, 20, 9, 10])
    exact = gathered(*(a.astype(np.float64) for a in (q, k, v)), tables, positions)
    found = attend(q, k, v, tables, positions)
    assert found.dtype == np.float32 and found.shape == (7, H * D)
    assert found == pytest.approx(exact, abs=3e-6)
    assert found[0] == pytest.approx(np.repeat(v[tables[0, 0], :, 0], H // K, axis=0).ravel())
    large = attend(100 * q, k, v, tables, positions)                  # scores of some hundreds
    exact = gathered(*(a.astype(np.float64) for a in (100 * q, k, v)), tables, positions)
    assert large == pytest.approx(exact, abs=1e-3)


def test_wrong_rows_are_refused_with_nothing_written(rng):
    arch, weights = make(rng)
    pool = BlockPool(arch, 9, 4)
    call = lambda ids, positions, tables: paged_decode(arch, weights, ids, positions, tables, pool)
    one = np.zeros((1, 2), int)
    with pytest.raises(ValueError, match="nothing to read"):
        call([], [], np.zeros((0, 2), int))
    with pytest.raises(ValueError, match=r"ids \(1,\), positions \(2,\) and tables \(1, 2\)"):
        call([1], [0, 1], one)
    with pytest.raises(ValueError, match=r"tables \(2, 2\) do not belong together"):
        call([1], [0], np.zeros((2, 2), int))
    with pytest.raises(ValueError, match=r"tables \(1,\) do not belong"):
        call([1], [0], np.zeros(1, int))
    with pytest.raises(ValueError, match="id 11 at position 0: the vocabulary has 0 … 10"):
        call([11], [0], one)
    for position in (-1, 8):
        with pytest.raises(ValueError, match=f"positions {position} … {position}: the tables have "
                           "room for 8 tokens and the model for 32"):
            call([1], [position], one)
    with pytest.raises(ValueError, match="positions 32 … 32: the tables have room for 36 tokens"):
        call([1], [32], np.zeros((1, 9), int))
    assert not pool.k.any() and not pool.v.any()
    call([1], [7], one)
    call([1], [31], np.zeros((1, 9), int))


# ---------------------------------------------------------------- the pool

def sound(pool, tables):
    """Every block is counted as often as it is held, and free exactly if nobody holds it."""
    held = [block for table in tables for block in table]
    assert pool.holders == [held.count(block) for block in range(pool.blocks)]
    assert sorted(pool.free) == [b for b in range(pool.blocks) if pool.holders[b] == 0]
    assert all(len(set(table)) == len(table) for table in tables)
    for key, block in pool.known.items():
        assert pool.key[block] == key


def test_random_texts_keep_the_books_right_and_read_only_what_they_wrote(rng):
    """A shadow: for each text a list; what its blocks hold must be that list, all the time."""
    arch = Architecture(V=99, T=64, C=2, L=1, H=1, K=1, D=1, F=2)
    for size, share in ((1, True), (3, True), (4, False)):
        pool, texts, refused, copies, hits = BlockPool(arch, 14, size, share), [], 0, 0, 0

        def append(table, ids, i, pool=pool):
            pool.grow(table, len(ids) + 1)
            before = list(table)
            pool.own(table, len(ids))
            block, slot = table[len(ids) // pool.size], len(ids) % pool.size
            pool.write(0, np.array([block]), np.array([slot]), np.full((1, 1, 1), i),
                       np.full((1, 1, 1), -i))
            ids.append(i)
            pool.remember(table, ids)
            return before != table

        for _ in range(700):
            action = rng.integers(10)
            try:
                if action == 0 and len(texts) < 9:
                    ids = rng.integers(3, size=rng.integers(1, 12)).tolist()
                    table = pool.fork(pool.find(ids))
                    hits += len(table)
                    texts.append((table, ids[:len(table) * size]))
                elif action == 1 and 0 < len(texts) < 9:
                    table, ids = texts[rng.integers(len(texts))]
                    texts.append((pool.fork(table), list(ids)))
                elif action == 2 and texts:
                    pool.release(texts.pop(rng.integers(len(texts)))[0])
                elif texts:
                    copies += append(*texts[rng.integers(len(texts))], int(rng.integers(3)))
            except OutOfBlocks:
                refused += 1
            sound(pool, [table for table, _ in texts])
            for table, ids in texts:
                stored = pool.k[0, table, 0, :, 0].reshape(-1)[:len(ids)]
                assert stored.tolist() == ids and pool.count(len(ids)) <= len(table)
                assert (pool.v[0, table, 0, :, 0].reshape(-1)[:len(ids)] == -stored).all()
        assert refused > 20 and bool(copies) == (size > 1) and bool(hits) == share
        for table, _ in texts:
            pool.release(table)
        sound(pool, [])


def test_growing_takes_all_blocks_or_none():
    pool, table = BlockPool(Architecture(**SMALL), 3, 4), []
    pool.grow(table, 0)
    assert table == []
    pool.grow(table, 4)
    pool.grow(table, 3)
    assert table == [0]
    with pytest.raises(OutOfBlocks):
        pool.grow(table, 13)
    assert table == [0] and list(pool.free) == [1, 2]
    pool.grow(table, 12)
    assert table == [0, 1, 2]
    with pytest.raises(OutOfBlocks):
        pool.take()
    other = pool.fork(table)
    with pytest.raises(OutOfBlocks):
        pool.own(other, 5)
    assert other == [0, 1, 2] and pool.holders == [2, 2, 2]


def test_the_longest_unused_block_is_forgotten_first_and_a_beginning_last():
    pool, a, b = BlockPool(Architecture(**SMALL), 4, 2), [], []
    pool.grow(a, 4)
    pool.remember(a, [1, 2, 3, 4])
    pool.grow(b, 2)
    pool.remember(b, [5, 6])
    pool.release(a)
    pool.release(b)
    assert list(pool.free) == [3, 1, 0, 2]
    assert [pool.take() for _ in range(2)] == [3, 1]             # the end of a goes, not its start
    assert pool.find([1, 2, 3, 4]) == [0] and pool.find([5, 6]) == [2]
    table = pool.fork(pool.find([1, 2]))                         # a use makes it young again
    pool.release(table)
    assert pool.take() == 2 and pool.find([5, 6]) == [] and pool.find([1, 2]) == [0]


def test_what_is_found_begins_alike_from_the_first_token_on():
    pool, table = BlockPool(Architecture(**SMALL), 4, 2), []
    pool.grow(table, 7)
    pool.remember(table, [1, 2, 3, 4, 5])                        # the third block is not full
    assert pool.find([1, 2, 3, 4, 5, 6]) == [0, 1] and pool.find([1, 2, 3]) == [0]
    assert pool.find([3, 4]) == [] and pool.find([9, 9, 3, 4]) == [] and pool.find([]) == []
    pool.own(table, 3)                                           # to be overwritten
    assert pool.find([1, 2, 3, 4]) == [0] and table == [0, 1, 2, 3]
    pool.remember(table, [1, 2, 3, 9])
    assert pool.find([1, 2, 3, 9]) == [0, 1]
    again = [pool.take()] if pool.free else pool.fork(table[:1])
    assert pool.key[again[0]] is not None
    assert key_of(b"", [-1]) != key_of(b"", [-2]) and hash(-1) == hash(-2)
    assert key_of(key_of(b"", [1]), [2]) != key_of(key_of(b"", [2]), [2])
    private = BlockPool(Architecture(**SMALL), 4, 2, share=False)
    private.grow(table := [], 4)
    private.remember(table, [1, 2, 3, 4])
    assert private.find([1, 2, 3, 4]) == [] and private.known == {}


def test_of_two_blocks_that_hold_the_same_the_first_is_found():
    pool, a, b = BlockPool(Architecture(**SMALL), 3, 2), [], []
    pool.grow(a, 2)
    pool.grow(b, 2)
    pool.remember(b, [1, 2])
    pool.remember(a, [1, 2])
    assert pool.find([1, 2]) == [1]
    pool.release(a)
    assert [pool.take(), pool.take()] == [2, 0] and pool.find([1, 2]) == [1]
    sound(pool, [b, [2], [0]])


def test_a_pool_has_its_size_and_says_what_is_wrong():
    arch = Architecture(**SMALL)
    pool = BlockPool(arch, 6)
    assert pool.size == 16 and pool.k.shape == (2, 6, 2, 16, 4) and pool.k.dtype == np.float32
    assert pool.bytes() == cache_bytes(arch, 6 * 16) and pool.share
    assert [pool.count(n) for n in (0, 1, 16, 17)] == [0, 1, 1, 2]
    for blocks, size in ((0, 4), (4, 0)):
        with pytest.raises(ValueError, match=f"{blocks} blocks of {size} tokens: both must be"):
            BlockPool(arch, blocks, size)
    assert BlockPool(arch, 1, 1).bytes() == cache_bytes(arch, 1)


# ---------------------------------------------------------------- the scheduler

def alone(arch, weights, request, tokenizer=None):
    """The same request, served by itself, in one block."""
    copy = Request(request.prompt, request.n, request.seed, request.options, request.ends,
                   request.stop)
    scheduler = Scheduler(arch, weights, BlockPool(arch, 1, arch.T, share=False), 1, 32, tokenizer)
    scheduler.submit(copy)
    scheduler.run()
    return copy


def random_requests(rng, count, T=32, V=11):
    """Of all lengths, many with a common beginning, some twice, with all ways to end."""
    beginnings = [rng.integers(V, size=n).tolist() for n in (6, 9, 14)]
    requests = []
    for _ in range(count):
        prompt = rng.integers(V, size=rng.integers(1, 9)).tolist()
        if rng.random() < 0.5:
            prompt = beginnings[rng.integers(3)] + prompt
        if requests and rng.random() < 0.1:
            prompt = list(requests[-1].prompt)
        room = T - len(prompt) + 1                           # the last id is not read
        n = room if rng.random() < 0.1 else int(rng.integers(1, min(10, room) + 1))
        options = [{"temperature": 0}, {}, {"temperature": 2.0, "top_p": 0.9}][rng.integers(3)]
        requests.append(Request(prompt, n, int(rng.integers(5)), options,
                                ends=(3,) if rng.random() < 0.3 else (),
                                stop=("ab", "kd") if rng.random() < 0.3 else ()))
    return requests


@pytest.mark.parametrize("other, blocks, size, most, rows, share",
                         [({"rotary": 100.0}, 12, 4, 8, 24, True),
                          ({"L": 1}, 7, 5, 5, 5, True),
                          ({"L": 1, "norm": "rms", "rotary": 50.0}, 64, 1, 10, 12, False)])
def test_a_thousand_requests_each_get_what_they_get_alone(rng, other, blocks, size, most, rows,
                                                          share):
    arch, weights = make(rng, **other)
    packed, pool = pack_rows(weights), BlockPool(arch, blocks, size, share)
    scheduler = Scheduler(arch, packed, pool, most, rows, Letters())
    requests = random_requests(rng, 334)
    coming, cancelled, steps = list(requests), 0, 0
    while coming or scheduler.running or scheduler.waiting:
        for _ in range(rng.integers(0, 4)):
            if coming:
                scheduler.submit(coming.pop(0))
        if rng.random() < 0.05 and (alive := [*scheduler.running, *scheduler.waiting]):
            cancelled += scheduler.cancel(alive[rng.integers(len(alive))])
        before = [r.read + r.reread for r in scheduler.running[:1]]
        oldest = scheduler.running[:1]
        scheduler.step()
        steps += 1
        sound(pool, [r.table for r in scheduler.running])
        assert len(scheduler.running) <= most and all(not r.table for r in scheduler.waiting)
        for r, was in zip(oldest, before):               # the oldest always goes on
            assert r.reason or r in scheduler.running and r.read + r.reread > was
        order = [requests.index(r) for r in [*scheduler.running, *scheduler.waiting]]
        assert order == sorted(order)
    assert all(r.reason for r in requests)
    assert pool.holders == [0] * blocks and len(pool.free) == blocks
    assert not any(r.table for r in requests)
    assert cancelled == sum(r.reason == "cancelled" for r in requests) > 5
    assert {r.reason for r in requests} == {"length", "end", "stop", "cancelled"}
    assert sum(r.reread for r in requests) > 50 or blocks == 64
    assert (sum(r.reused for r in requests) > 500) == share
    for r in requests:
        same = alone(arch, packed, r, Letters())
        if r.reason == "cancelled":
            assert r.ids == same.ids[:len(r.ids)] and same.text.startswith(r.text)
        else:
            assert (r.ids, r.text, r.reason) == (same.ids, same.text, same.reason)


def test_alone_is_what_day_42_writes(rng):
    """An independent loop, in float64, where near ties do not happen."""
    arch, weights = make(rng, np.float64, rotary=100.0)
    pool = BlockPool(arch, 9, 4, dtype=np.float64)
    scheduler = Scheduler(arch, weights, pool, 6, 9, attention=gathered)
    requests = [replace(r, ends=(), stop=()) for r in random_requests(rng, 40)]
    for r in requests:
        scheduler.submit(r)
    scheduler.run()
    assert sum(r.reread for r in requests) > 10
    for r in requests:
        cache = KVCache(arch, dtype=np.float64)
        choose = Chooser(np.random.default_rng(r.seed), **r.options)
        step = lambda ids, cache=cache: decode(arch, weights, ids, cache)[-1]
        assert r.ids == list(generate(step, r.prompt, r.n, choose)) and r.reason == "length"


class Plainly:
    """Day 42's decoder with the handles that `stream` wants."""

    def __init__(self, arch, weights):
        self.arch, self.weights, self.cache = arch, weights, KVCache(arch, dtype=np.float64)

    def prefill(self, ids):
        return decode(self.arch, self.weights, ids, self.cache)[-1]

    def step(self, i):
        return self.prefill([i])


def test_texts_end_where_day_43s_stream_ends_them(rng):
    arch, weights = make(rng, np.float64)
    reasons = []
    for seed in range(30):
        n = 1 + seed
        r = Request([1, 2], n, seed, ends=(10,), stop=("bc", "gg"))
        pool = BlockPool(arch, 9, 4, dtype=np.float64)
        scheduler = Scheduler(arch, weights, pool, tokenizer=Letters(), attention=gathered)
        scheduler.submit(r)
        scheduler.run()
        other = stream(Plainly(arch, weights), Letters(), [1, 2], n,
                       Chooser(np.random.default_rng(seed)), stop=("bc", "gg"), ends=(10,))
        text = "".join(other)
        reasons.append(other.reason)
        assert (r.text, r.ids, r.reason) == (text, other.ids, other.reason)
    assert {"length", "end", "stop"} <= set(reasons)


def test_a_text_that_ends_in_half_a_stop_string_keeps_it(rng):
    arch, weights = make(rng)
    scheduler = Scheduler(arch, pack_rows(weights), BlockPool(arch, 9, 4), tokenizer=Letters())
    r = Request([1], 3, options={"temperature": 0})
    scheduler.submit(r)
    scheduler.run()
    again = Request([1], 3, options={"temperature": 0}, stop=(r.text[-1] + "zz",))
    scheduler.submit(again)
    scheduler.run()
    assert again.text == r.text and len(r.text) == 3 and again.reason == "length"


def test_what_can_never_be_served_is_refused_in_one_line_and_what_just_fits_is_not(rng):
    arch, weights = make(rng)
    packed = pack_rows(weights)
    scheduler = Scheduler(arch, packed, BlockPool(arch, 5, 4))
    for request, message in (
            (Request([], 3), "nothing to read: give at least one id"),
            (Request([11], 3), "id 11 at position 0: the vocabulary has 0 … 10"),
            (Request([1], 0), "cannot write 0 tokens: n must be at least 1"),
            (Request([1], 3, stop=("a",)), "stop strings need a tokenizer"),
            (Request([1] * 10, 12), "a prompt of 10 and 12 tokens to write need room for 21: the "
             "model has 32 and the pool 20; ask for less or make the pool larger")):
        with pytest.raises(ValueError, match=message) as error:
            scheduler.submit(request)
        assert "\n" not in str(error.value)
        assert not scheduler.waiting and not scheduler.running and request.reason is None
    for prompt, n in ((10, 11), (20, 1), (1, 20), (1, 1)):
        scheduler.submit(Request([1] * prompt, n))
        scheduler.run()
    again = Request([1, 2], 3)
    scheduler.submit(again)
    with pytest.raises(ValueError, match="submitted before: make a new one"):
        scheduler.submit(again)
    scheduler.step()
    assert scheduler.running == [again] and not scheduler.waiting
    with pytest.raises(ValueError, match="submitted before: make a new one"):
        scheduler.submit(again)
    scheduler.run()
    assert len(again.ids) == 3 and again.reason == "length"
    with pytest.raises(ValueError, match="submitted before: make a new one"):
        scheduler.submit(again)
    long = Scheduler(arch, packed, BlockPool(arch, 50, 4))
    with pytest.raises(ValueError, match="need room for 33: the model has 32 and the pool 200"):
        long.submit(Request([1] * 3, 31))
    long.submit(Request([1] * 3, 30))
    long.run()
    for most, each in ((0, 4), (5, 4)):
        with pytest.raises(ValueError, match=f"{most} requests at once and {each} rows a step"):
            Scheduler(arch, packed, BlockPool(arch, 5, 4), most, each)
    with pytest.raises(ValueError, match="another architecture"):
        Scheduler(replace(arch, eps=1e-6), packed, BlockPool(arch, 5, 4))
    with pytest.raises(ValueError, match="the weights lack norm.gain"):
        Scheduler(arch, {"embed": weights["embed"]}, BlockPool(arch, 5, 4))


def test_cancelling_gives_the_blocks_back_wherever_a_request_is(rng):
    arch, weights = make(rng)
    pool = BlockPool(arch, 8, 4)
    scheduler = Scheduler(arch, pack_rows(weights), pool, 2, 8)
    a, b, c = (Request([i], 9) for i in range(3))
    for r in (a, b, c):
        scheduler.submit(r)
    scheduler.step()
    assert scheduler.running == [a, b] and list(scheduler.waiting) == [c]
    assert scheduler.cancel(a) and scheduler.cancel(c) and scheduler.cancel(a) is False
    assert scheduler.running == [b] and not scheduler.waiting and (a.reason, c.reason) == (
        "cancelled",) * 2
    sound(pool, [b.table])
    assert len(a.ids) == 1 and c.ids == []
    scheduler.run()
    assert b.reason == "length" and len(b.ids) == 9 and not scheduler.cancel(b)
    assert b.reason == "length" and scheduler.step() == [] and not scheduler.cancel(Request([1], 1))


def test_a_long_prompt_is_read_in_pieces_and_nobody_pauses_for_it(rng):
    arch, weights = make(rng)
    scheduler = Scheduler(arch, pack_rows(weights), BlockPool(arch, 20, 4), 3, 6)
    short, long = Request([1], 12), Request([2] * 21, 3)
    scheduler.submit(short)
    assert scheduler.step() == [short]
    scheduler.submit(long)
    seen = []
    while long.read < 21:
        assert scheduler.step()[0] is short
        seen.append(long.read)
    assert seen == [5, 10, 15, 20, 21] and len(long.ids) == 1 and len(short.ids) == 6
    third = Request([3] * 9, 2)
    scheduler.submit(third)
    scheduler.step()
    assert third.read == 4 and len(long.ids) == 2                 # 6 rows, two for the others


def test_in_static_batching_nobody_comes_in_until_all_are_done(rng):
    arch, weights = make(rng)
    packed = pack_rows(weights)
    lengths, starts = [3, 9, 5, 4], {}
    for static in (False, True):
        scheduler = Scheduler(arch, packed, BlockPool(arch, 20, 4), 2, 8, static=static)
        requests = [Request([i], n) for i, n in enumerate(lengths)]
        for r in requests:
            scheduler.submit(r)
        starts[static] = [None] * 4
        for step in range(30):
            for r in scheduler.step():
                j = requests.index(r)
                starts[static][j] = step if starts[static][j] is None else starts[static][j]
        assert all(len(r.ids) == n for r, n in zip(requests, lengths))
    assert starts == {False: [0, 0, 3, 8], True: [0, 0, 9, 9]}
    for static, together in ((False, 2), (True, 4)):              # more prompts than rows
        scheduler = Scheduler(arch, packed, BlockPool(arch, 20, 4), 4, 10, static=static)
        requests = [Request([i] * 7, 2) for i in range(5)]
        for r in requests:
            scheduler.submit(r)
        scheduler.step()
        assert len(scheduler.running) == together
        assert [r.read for r in requests] == [7, 3, 0, 0, 0]
        scheduler.run()
        assert all(len(r.ids) == 2 for r in requests)


def test_common_beginnings_are_read_once_and_kept_once(rng):
    arch, weights = make(rng)
    packed = pack_rows(weights)
    for share, reused, most_blocks in ((True, 8, 5), (False, 0, 9)):
        pool = BlockPool(arch, 20, 4, share)
        scheduler = Scheduler(arch, packed, pool, 4, 40)
        first = Request([5] * 9, 2)
        scheduler.submit(first)
        scheduler.step()
        others = [Request([5] * 9 + [i], 2) for i in range(2)]
        for r in others:
            scheduler.submit(r)
        scheduler.step()
        assert [r.reused for r in others] == [reused] * 2
        assert first.reason == "length" and sum(map(bool, pool.holders)) == most_blocks - 1 - 2 * (
            not share)
        scheduler.run()
    exact = Request([5] * 8, 1)                                   # the last token must be read
    pool = BlockPool(arch, 20, 4)
    scheduler = Scheduler(arch, packed, pool)
    for _ in range(2):
        scheduler.submit(exact := Request([5] * 8, 1))
        scheduler.run()
    assert exact.reused == 4 and exact.read == 8
    scheduler.submit(one_more := Request([5] * 9, 1))
    scheduler.run()
    assert one_more.reused == 8 and one_more.read == 9


def test_a_request_that_was_sent_back_finds_its_own_blocks_again(rng):
    arch, weights = make(rng)
    pool = BlockPool(arch, 6, 2)
    scheduler = Scheduler(arch, pack_rows(weights), pool, 2, 12)
    a, b = Request([1, 2], 8), Request([3, 4], 7)
    scheduler.submit(a)
    scheduler.submit(b)
    scheduler.run()
    assert (a.reread, a.reused, b.reread, b.reused) == (0, 0, 4, 2)
    assert len(a.ids) == 8 and len(b.ids) == 7


def test_one_block_of_the_whole_window_is_a_contiguous_cache(rng):
    arch, weights = make(rng)
    pool = BlockPool(arch, 3, arch.T)
    scheduler = Scheduler(arch, pack_rows(weights), pool, 8)
    for i in range(8):
        scheduler.submit(Request([i], 2 + i))
    scheduler.step()
    assert len(scheduler.running) == 3                            # as many as there are windows
    scheduler.run()


def test_no_place_and_no_room_are_told_as_false(rng):
    arch, weights = make(rng)
    pool = BlockPool(arch, 4, 4)
    scheduler = Scheduler(arch, pack_rows(weights), pool, 1, 8)
    first, second = Request([1] * 4, 9), Request([2], 2)
    scheduler.submit(first)
    scheduler.step()
    scheduler.submit(second)
    assert scheduler.admit() is False and list(scheduler.waiting) == [second]
    taken = [pool.take() for _ in range(3)]
    assert len(first.known) == 5 and scheduler.make_room(first) is False
    assert scheduler.running == [] and list(scheduler.waiting) == [first, second]
    pool.release(taken)
    assert scheduler.admit() is True
    scheduler.run()
    assert len(first.ids) == 9 and len(second.ids) == 2


def test_tables_are_filled_up_with_zeros():
    assert padded([[3], [1, 2]]).tolist() == [[3, 0], [1, 2]] and padded([[3]]).dtype == np.int64


# ---------------------------------------------------------------- the run

def test_the_stream_and_the_report_of_a_run(rng):
    load = serving.Load((2, 5), 4, 7, beginnings=2, beginning=6)
    ids = np.arange(1000)
    made = serving.requests(load, ids, 400, np.random.default_rng(3))
    again = serving.requests(load, ids, 400, np.random.default_rng(3))
    assert [(r.prompt, r.n, r.seed) for r in made] == [(r.prompt, r.n, r.seed) for r in again]
    assert {len(r.prompt) - 6 for r in made} == {2, 3, 4}
    assert {r.n for r in made} == set(range(1, 8))
    assert len({tuple(r.prompt[:6]) for r in made}) == 2
    assert all(b - a == 1 for a, b in zip(made[0].prompt[6:], made[0].prompt[7:]))
    times = serving.poisson(50.0, 4000, rng)
    assert (np.diff(times) > 0).all() and times[-1] == pytest.approx(80, rel=0.05)
    assert np.diff(times).std() == pytest.approx(1 / 50, rel=0.1)
    assert serving.percentiles(np.arange(101) / 1000) == pytest.approx([50, 95, 99])
    arch, weights = make(rng)
    stream = [Request([1, 2], 1), Request([3], 4), Request([3], 2)]
    report = serving.serve(arch, pack_rows(weights), stream, np.array([5.0, 5.0, 9.0]), 9, 4)
    assert (report.tokens, report.read, report.reused, report.steps) == (7, 2 + 4 + 2, 0, 6)
    assert len(report.first) == 3 and len(report.each) == 2 and min(report.first) > 0
    assert report.seconds > 4 > max(report.first[2:]) and report.running == pytest.approx(4 / 6)
    assert report.held == pytest.approx((1 + 2 + 3 + 1) / 4)
    assert report.unused == pytest.approx(1 - 7 / 16)
    for rows_a_step, unused in ((4, True), (40, False)):   # in pieces, or at once
        stream = [Request([1] * 9, 3), Request([2] * 8, 4)]
        report = serving.serve(arch, pack_rows(weights), stream, None, 30, 1, most=2,
                               rows=rows_a_step)
        assert (report.unused > 0) == unused


def test_costs_of_a_step_are_those_of_the_note(rng):
    arch, weights = make(rng, rotary=100.0, bare=True)
    for B, position in ((1, 0), (7, 5)):
        P = 2 * (8 * 8 * 4 + 16 * 8 + 2 * 8 * 10) + 11 * 8
        assert rows.costs(arch, weights, B, position) == (
            2 * P * B + 4 * 2 * 4 * 4 * B * (position + 1),
            4 * P + 8 * 2 * 2 * 4 * B * (position + 1))


def test_the_headlines_of_the_run():
    result = measure(fast=True, seed=0)
    both = result.loads[0][2]
    assert both["static"][1] > 1.2 * both["continuous"][1]            # steps
    assert both["static"][2] < both["continuous"][2] <= result.most == 8
    unused = [row[1] for row in result.sizes]
    assert unused == sorted(unused) and unused[0] < 0.02 and unused[-1] > 0.4
    assert all(abs(row[1] - row[2]) < 0.15 for row in result.sizes)
    (_, read, none, *_), (_, less, reused, *_) = result.sharing
    assert none == 0 and reused > 0.3 * read and less == read - reused
    blas, ours, half, ours_half = result.company
    assert ours[1] == ours[2] == ours_half[1] == ours_half[2] == 0 and blas[1] > 0.5
    assert half[3] == 10 and set(result.small) == {0, 1, 8}
    assert result.costs[0][1] / result.costs[0][2] == pytest.approx(0.5, abs=0.05)
