"""Day 61 · Data parallelism: every rank gets the sum, the same bits, for the bytes promised."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from days.day61 import launch, paper, run, scaling
from days.day61.job import Job, State, apart, without_key_biases
from days.day61.job import train as train_job
from days.day61.run import measure
from llm.grad import walk
from llm.grad.tensor import Tensor
from llm.layers.module import parameter
from llm.models.gpt import GPT, GPTConfig
from llm.scale import data_parallel
from llm.scale.allreduce import (
    all_gather,
    broadcast,
    chunks,
    flat,
    reduce_scatter,
    ring_allreduce,
    root_allreduce,
    tree_allreduce,
)
from llm.scale.comm import (
    LocalComm,
    MPIComm,
    RankLost,
    World,
    ending_together,
    run_ranks,
)
from llm.scale.cores import sharing_cores, threads_each
from llm.scale.data_parallel import (
    DataParallel,
    check_equal,
    farewell,
    in_buckets,
    shards,
    start_equal,
)
from llm.scale.link import (
    Link,
    Metered,
    overlapped,
    ring_seconds,
    root_seconds,
    tree_seconds,
)
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.sgd import SGD

ALL = {ring_allreduce: ring_seconds, tree_allreduce: tree_seconds, root_allreduce: root_seconds}
SMALL = GPTConfig(V=13, T=8, C=8, L=2, H=2, rotary=True)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def reduced(f, arrays, link=None):
    """[(array, Metered)] of all ranks after f."""
    def work(comm):
        metered, x = Metered(comm, link), arrays[comm.rank].copy()
        assert f(metered, x) is x
        return x, metered
    return run_ranks(len(arrays), work, patience=10)


def test_the_hand_example_step_by_step():
    rows = [np.array([1.0, 2, 3]), np.array([10.0, 20, 30]), np.array([100.0, 200, 300])]
    half = [x.tolist() for x, _ in reduced(reduce_scatter, rows)]
    assert half == [[111, 202, 3], [10, 222, 33], [110, 200, 333]]
    for x, metered in reduced(ring_allreduce, rows):
        assert x.tolist() == [111, 222, 333]
        assert metered.messages == 4 and metered.bytes == 32 == 2 * 2 / 3 * 24
    # the same three numbers in each place; each chunk begins its sum at another rank
    rows = [np.full(3, v, np.float32) for v in (1e8, 1, -1e8)]
    assert [x.tolist() for x, _ in reduced(ring_allreduce, rows)] == [[0, 1, 0]] * 3
    assert [x.tolist() for x, _ in reduced(root_allreduce, rows)] == [[0, 0, 0]] * 3


def test_time_of_the_hand_example():
    link = Link(latency=1e-3, bandwidth=1e6)
    assert link.seconds(1000) == pytest.approx(2e-3)
    assert ring_seconds(link, 4, 4000) == pytest.approx(6 * 2e-3)
    assert tree_seconds(link, 4, 4000) == pytest.approx(4 * 5e-3)
    assert root_seconds(link, 4, 4000) == pytest.approx(2 * 13e-3)
    assert ring_seconds(link, 1, 99) == tree_seconds(link, 1, 99) == root_seconds(link, 1, 99) == 0


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.__name__)
def test_every_rank_gets_the_sum_and_the_same_bits(f, rng):
    for p in (1, 2, 3, 4, 5, 8, 13):
        for shape in ((0,), (1,), (5,), (3, 7), (13, 2, 2)):
            arrays = [rng.standard_normal(shape).astype(np.float32) for _ in range(p)]
            out = [x for x, _ in reduced(f, arrays)]
            assert all(x.tobytes() == out[0].tobytes() and x.dtype == np.float32 for x in out)
            assert out[0] == pytest.approx(np.sum(arrays, 0, dtype=np.float64), abs=1e-5)
    whole = [rng.integers(99, size=6) for _ in range(3)]
    assert (reduced(f, whole)[0][0] == sum(whole)).all()


def test_the_order_of_the_sum_is_that_of_the_algorithm(rng):
    p, n = 5, 1000
    arrays = [rng.standard_normal(n).astype(np.float32) for _ in range(p)]
    ring = reduced(ring_allreduce, arrays)[0][0]
    for c, part in enumerate(chunks(n, p)):
        total = arrays[(c + 1) % p][part].copy()
        for k in range(2, p + 1):
            total += arrays[(c + k) % p][part]
        assert (ring[part] == total).all()                    # to the last bit
    a, b, c, d, e = arrays
    assert (reduced(tree_allreduce, arrays)[0][0] == ((a + b) + (c + d)) + e).all()
    root = reduced(root_allreduce, arrays)[0][0]
    assert (root == (((a + b) + c) + d) + e).all()
    assert (ring != root).any() and np.abs(ring - root).max() < 1e-5
    moved = reduced(ring_allreduce, [np.roll(x, 1) for x in arrays])[0][0]
    assert (np.roll(moved, -1) != ring).any()                 # another chunk, another order


def test_traffic_is_what_the_formula_says(rng):
    for p in (2, 3, 4, 8):
        n = 24 * p
        bytes_ = [m.bytes for _, m in reduced(ring_allreduce, [np.ones(n, np.float32)] * p)]
        assert bytes_ == [2 * (p - 1) * 4 * n // p] * p
        for n in (1, 7, 50):                                  # unequal chunks: the sum is exact
            out = reduced(ring_allreduce, [np.ones(n)] * p)
            assert sum(m.bytes for _, m in out) == 2 * (p - 1) * 8 * n
            assert all(m.messages == 2 * (p - 1) for _, m in out)
    tree = [m.bytes for _, m in reduced(tree_allreduce, [np.ones(10)] * 8)]
    assert tree == [240, 80, 160, 80, 240, 80, 160, 80] or sum(tree) == 2 * 7 * 80
    assert [m.bytes for _, m in reduced(root_allreduce, [np.ones(10)] * 4)] == [240, 80, 80, 80]


def test_the_simulated_clock_agrees_with_the_formulas():
    link = Link(1e-3, 1e6)
    for p in (1, 2, 4, 8, 16):
        n = 250 * p
        for f, seconds in ALL.items():
            out = reduced(f, [np.ones(n, np.float32)] * p, link)
            assert max(m.now for _, m in out) == pytest.approx(seconds(link, p, 4 * n), abs=1e-9)
    for p in (3, 5, 6, 7):                                    # the tree's is an upper bound there
        out = reduced(tree_allreduce, [np.ones(p)] * p, link)
        assert max(m.now for _, m in out) < tree_seconds(link, p, 8 * p) * 1.000001
        out = reduced(ring_allreduce, [np.ones(p)] * p, link)
        assert max(m.now for _, m in out) == pytest.approx(ring_seconds(link, p, 8 * p))


def test_ports_are_used_one_message_after_the_other():
    def work(comm):
        m = Metered(comm, Link(1.0, 10.0))
        if comm.rank == 0:
            for to in (1, 1, 2):
                m.send(np.zeros(10, np.uint8), to)            # leave at 0, 1, 2
            assert m.now == 0 and m.out_free == 3
            m.work(10.0)
            m.send(np.zeros(20, np.uint8), 2)                 # leaves at 10, not at 3
            m.barrier()
            return m.now
        m.barrier()
        found = []
        for size in ((10, 10) if comm.rank == 1 else (10, 20)):
            m.recv(np.zeros(size, np.uint8), 0)
            found.append(m.now)
        return found
    assert run_ranks(3, work, 5) == [10, [2, 3], [4, 13]]

    def two_to_one(comm):
        m = Metered(comm, Link(1.0, 10.0))
        if comm.rank:
            m.send(np.zeros(10, np.uint8), 0)
            return m.bytes, m.messages
        m.recv(np.zeros(10, np.uint8), 1)
        m.recv(np.zeros(10, np.uint8), 2)
        return m.now
    assert run_ranks(3, two_to_one, 5) == [3, (10, 1), (10, 1)]


def test_a_metered_barrier_waits_for_all():
    def work(comm):
        if comm.rank:
            Metered(comm).barrier()
    with pytest.raises(RankLost, match="all ranks at a barrier"):
        run_ranks(2, work, patience=0.1)


def test_a_sleeping_link_takes_the_time_it_says():
    def work(comm):
        m = Metered(comm, Link(0.02, 1e5), sleep=True)
        began = time.perf_counter()
        ring_allreduce(m, np.ones(2000, np.uint8))
        m.work(0.01)
        return time.perf_counter() - began
    for took in run_ranks(2, work, 5):                        # 2 · (0.02 + 0.01) + 0.01
        assert 0.0699 < took < 0.5
    with pytest.raises(ValueError, match="latency -1 s must be at least 0 and bandwidth 1"):
        Link(-1, 1)
    with pytest.raises(ValueError, match="bandwidth 0 bytes/s positive"):
        Link(0, 0)
    assert Link(0, 2).seconds(1) == 0.5


def test_the_two_halves_own_the_chunk_of_their_rank(rng):
    p, n = 4, 10
    arrays = [rng.standard_normal(n) for _ in range(p)]
    for r, (x, m) in enumerate(reduced(reduce_scatter, arrays)):
        mine = chunks(n, p)[r]
        assert x[mine] == pytest.approx(sum(arrays)[mine]) and m.messages == p - 1
    own = [np.where(np.arange(p) == r, r + 1.0, 0) for r in range(p)]
    for x, m in reduced(all_gather, own):
        assert x.tolist() == [1, 2, 3, 4] and m.messages == p - 1
    assert [s.stop - s.start for s in chunks(10, 4)] == [3, 3, 2, 2]
    assert chunks(2, 3) == [slice(0, 1), slice(1, 2), slice(2, 2)]


def test_broadcast_from_any_root(rng):
    for p in (1, 2, 3, 6, 8):
        for root in range(p):
            arrays = [np.full(3, float(r)) for r in range(p)]
            out = reduced(lambda comm, x, root=root: broadcast(comm, x, root), arrays)
            assert all((x == root).all() for x, _ in out)
            assert sum(m.messages for _, m in out) == p - 1
    for root in (-1, 2):
        with pytest.raises(ValueError, match=f"no rank {root} among 2"):
            run_ranks(2, lambda comm, root=root: broadcast(comm, np.zeros(1), root), 1)


def test_messages_are_copies_in_order_and_must_fit():
    def work(comm):
        if comm.rank == 0:
            x = np.arange(3.0)
            comm.send(x, 1)
            x[:] = 9
            comm.send(x[::2], 1)
            comm.send(np.float32(4), 1)
            comm.send(np.zeros((2, 1)), 1)
            comm.barrier()
            return None
        got = [comm.recv(np.empty(3), 0), comm.recv(np.empty(2), 0),
               comm.recv(np.empty((), np.float32), 0)]
        comm.barrier()
        with pytest.raises(ValueError, match=r"rank 1 expected \(2,\) float64 from rank 0 and got "
                                             r"\(2, 1\) float64: the ranks disagree"):
            comm.recv(np.empty(2), 0)
        return [x.tolist() for x in got]
    assert run_ranks(2, work, 5)[1] == [[0, 1, 2], [9, 9], 4]
    comm = LocalComm(World(2), 1)
    assert comm.patience == 60 and (comm.rank, comm.size) == (1, 2)
    for other in (-1, 1, 2):
        for use in (lambda o: comm.send(np.zeros(1), o), lambda o: comm.recv(np.zeros(1), o)):
            with pytest.raises(ValueError, match=f"rank 1 cannot talk to rank {other}: there are "
                                                 "ranks 0 … 1, and nobody"):
                use(other)
    comm.send(np.zeros(1), 0)
    with pytest.raises(ValueError, match="float32 from rank 0 and got"):
        comm.world.queues[0, 1].put(np.zeros(1))
        comm.recv(np.zeros(1, np.float32), 0)
    with pytest.raises(ValueError, match="at least 1 rank, not 0"):
        World(0)


def test_arrays_that_cannot_be_reduced_in_place_are_refused():
    fixed = np.zeros(3)
    fixed.flags.writeable = False
    for bad in (np.zeros((4, 4))[:, 1], fixed, [1.0], np.zeros((2, 3)).T):
        for f in (*ALL, reduce_scatter, all_gather, broadcast):
            with pytest.raises(ValueError, match="works in place: give a writeable C-contiguous"):
                f(LocalComm(World(1), 0), bad)
    x = np.zeros((2, 3))
    flat(x)[4] = 1
    assert x[1, 1] == 1


def test_a_lost_rank_ends_all_with_its_own_error():
    seen = {}

    def work(comm):
        try:
            if comm.rank == 2:
                raise ZeroDivisionError("rank 2 is broken")
            ring_allreduce(comm, np.ones(10))
        except RankLost as error:
            seen[comm.rank] = str(error)
            raise
    began = time.perf_counter()
    with pytest.raises(ZeroDivisionError, match="rank 2 is broken"):
        run_ranks(4, work, patience=30)
    assert time.perf_counter() - began < 5
    assert seen.keys() == {0, 1, 3} and "which has failed" in seen[3]

    def barrier(comm):
        if comm.rank:
            comm.barrier()
        else:
            raise KeyError("no")
    began = time.perf_counter()
    with pytest.raises(KeyError):
        run_ranks(3, barrier, 30)
    assert time.perf_counter() - began < 20                   # who waits at a barrier is told
    with pytest.raises(RankLost, match="rank 0 waited for rank 1, which has failed"):
        world = World(2)
        world.leave(1)
        comm = LocalComm(world, 0)
        with pytest.raises(RankLost, match="which has failed"):
            comm.recv(np.zeros(1), 1)
        comm.recv(np.zeros(1), 1)                             # and it stays so


def test_a_silent_rank_is_not_waited_for_for_ever():
    def work(comm):
        if comm.rank:
            comm.recv(np.zeros(1), 0)
    with pytest.raises(RankLost, match="rank 1 has waited 0.1 s for rank 0: it is dead, or stopp"):
        run_ranks(2, work, patience=0.1)

    def barrier(comm):
        if comm.rank:
            comm.barrier()
    with pytest.raises(RankLost, match="has waited 0.1 s for all ranks at a barrier"):
        run_ranks(2, barrier, patience=0.1)


def test_ranks_run_in_threads_with_the_callers_context():
    names = run_ranks(3, lambda comm: (comm.rank, comm.size, threading.current_thread().name))
    assert names == [(r, 3, f"rank {r}") for r in range(3)]
    from llm.grad.lowering import lower, twin_of
    with lower({walk.keep: len}):
        assert run_ranks(1, lambda comm: twin_of(walk.keep, None)) == [len]


# training


def make(seed=0, dtype=np.float64, config=SMALL):
    model = GPT(config, np.random.default_rng(seed))
    for p in model.named_parameters().values():
        p.data = p.data.astype(dtype)
    return model


def batches(seed=1, B=8, T=8, V=13, ragged=True):
    """Rows of very unequal numbers of targets."""
    rng = np.random.default_rng(seed)
    while True:
        ids = rng.integers(V, size=(B, T + 1))
        x, y = ids[:, :-1], ids[:, 1:].copy()
        if ragged:
            y[np.arange(T) >= rng.integers(1, T + 1, size=(B, 1))] = -100
        yield x, y


def loss_of(model):
    def loss(batch):
        return model.loss(*batch), int((batch[1] != -100).sum())
    return loss


def train(comm, steps=6, dtype=np.float64, accumulate=1, optimizer=AdamW, clip=0.3, B=8, **how):
    """(weights, losses, tokens, norms) after some steps; comm None: one process, no wrapper."""
    model, norms = make(dtype=dtype), []
    parameters, loss, data = model.named_parameters(), loss_of(model), batches(B=B)
    if comm:
        loss = DataParallel(comm, parameters, loss, accumulate, **how)
        data = shards(data, comm)
    run = fit(parameters, loss, data, optimizer(parameters), lambda step, total: 1e-2, steps=steps,
              clip=clip, accumulate=accumulate, hooks=[lambda s: norms.append(s.norm)])
    return {n: p.data for n, p in parameters.items()}, run.losses, run.tokens, norms


@pytest.mark.parametrize("how", [{}, {"bucket": 1}, {"bucket": 2000, "overlap": True},
                                 {"overlap": True}, {"reduce": tree_allreduce},
                                 {"reduce": root_allreduce, "bucket": 500}])
def test_n_ranks_equal_one_process(how):
    one = train(None)
    for p in (1, 2, 3, 4):
        out = run_ranks(p, lambda comm: train(comm, **how), 20)
        for weights, losses, tokens, norms in out:
            assert losses == pytest.approx(one[1], abs=1e-12) and tokens == one[2]
            assert norms == pytest.approx(one[3], abs=1e-12)  # clipping saw the whole gradient
            for name in weights:
                assert weights[name] == pytest.approx(one[0][name], abs=1e-9)
                assert weights[name].tobytes() == out[0][0][name].tobytes()
            assert losses == out[0][1] and norms == out[0][3]
    assert min(one[3]) > 0.3                                  # and it did clip


def test_accumulated_batches_of_unequal_counts_equal_one_process():
    one = train(None, accumulate=3, B=4)
    for how in ({}, {"overlap": True, "bucket": 1000}):
        for weights, losses, tokens, _ in run_ranks(
                2, lambda comm: train(comm, accumulate=3, B=4, **how), 20):  # noqa: B023
            assert losses == pytest.approx(one[1], abs=1e-12) and tokens == one[2]
            for name in weights:
                assert weights[name] == pytest.approx(one[0][name], abs=1e-9)


def test_float32_gradients_agree_within_a_millionth():
    batch = next(batches())
    alone = make(dtype=np.float32)
    alone.loss(*batch).backward()

    def gradients(comm):
        model = make(dtype=np.float32)
        step = DataParallel(comm, model.named_parameters(), loss_of(model))
        step(next(shards(iter([batch]), comm)))[0].backward()
        return {n: p.grad for n, p in model.named_parameters().items()}
    expected = {n: p.grad for n, p in alone.named_parameters().items()}
    largest = max(np.abs(g).max() for g in expected.values())
    for p in (2, 3, 4):
        for found in run_ranks(p, gradients, 10):
            assert apart(found, expected) < 1e-6 * largest
    one = train(None, dtype=np.float32, optimizer=SGD, steps=20)
    out = run_ranks(4, lambda comm: train(comm, dtype=np.float32, optimizer=SGD, steps=20), 20)
    for weights, losses, *_ in out:
        assert losses == pytest.approx(one[1], abs=2e-6)
        for name in weights:
            assert weights[name].dtype == np.float32
            assert weights[name] == pytest.approx(one[0][name], abs=1e-6)
            assert weights[name].tobytes() == out[0][0][name].tobytes()


def test_a_rank_without_a_single_target_adds_nothing():
    def one_sided(comm):
        model = make()
        parameters = model.named_parameters()
        x, y = next(batches(ragged=False))
        y = np.where(np.arange(8)[:, None] < 4, y, -100)      # rank 1's rows ask nothing
        if comm is None:
            model.loss(x, y).backward()
        else:
            def loss(batch):
                value, count = loss_of(model)(batch)
                return (value if count else value * np.nan), count
            step = DataParallel(comm, parameters, loss)
            value, count = step(next(shards(iter([(x, y)]), comm)))
            assert count == 32 and np.isfinite(value.data)
            value.backward()
        return {n: p.grad for n, p in parameters.items()}
    expected = one_sided(None)
    for gradients in run_ranks(2, one_sided, 10):
        for name in expected:
            assert gradients[name] == pytest.approx(expected[name], abs=1e-12)

    def nothing(comm):
        model = make()
        x, y = next(batches())
        step = DataParallel(comm, model.named_parameters(), loss_of(model), accumulate=2)
        for _ in range(2):                                    # no gradient so far is no mistake
            value, count = step((x, np.full_like(y, -100)))
            value.backward()
        return count, float(value.data), {float(np.abs(p.grad).max())
                                          for p in model.named_parameters().values()}
    assert run_ranks(2, nothing, 10) == [(0, 0.0, {0.0})] * 2


def test_nan_on_one_rank_is_skipped_by_all():
    def work(comm):
        model = make()
        parameters = model.named_parameters()
        before = {n: p.data.copy() for n, p in parameters.items()}

        def loss(batch):
            value, count = loss_of(model)(batch)
            return (value * np.nan if comm.rank == 1 else value), count
        run = fit(parameters, DataParallel(comm, parameters, loss), shards(batches(), comm),
                  AdamW(parameters), lambda step, total: 1e-2, steps=2)
        return run.skipped, all((p.data == before[n]).all() for n, p in parameters.items())
    assert run_ranks(2, work, 10) == [(2, True)] * 2


def test_accumulate_must_be_that_of_fit():
    def work(comm, here, there):
        model = make()
        parameters = model.named_parameters()
        fit(parameters, DataParallel(comm, parameters, loss_of(model), here),
            shards(batches(), comm), SGD(parameters), lambda step, total: 1e-2, steps=2,
            accumulate=there)
    for here, there in ((1, 2), (2, 1), (3, 2)):
        with pytest.raises(ValueError, match=f"accumulate={here} here and another number in fit"):
            run_ranks(1, lambda comm: work(comm, here, there))  # noqa: B023


def test_shards_are_the_rows_of_the_batch_in_order():
    x, y = np.arange(14).reshape(7, 2), np.arange(7)
    out = run_ranks(3, lambda comm: next(shards(iter([(x, y)]), comm)))
    assert [len(a) for a, _ in out] == [3, 2, 2]
    assert (np.concatenate([a for a, _ in out]) == x).all()
    assert (np.concatenate([b for _, b in out]) == y).all()
    assert len(list(shards(iter([(x,)] * 4), LocalComm(World(7), 6)))) == 4
    with pytest.raises(ValueError, match="a batch of 7 rows for 8 ranks: each needs one"):
        next(shards(iter([(x, y)]), LocalComm(World(8), 0)))


def test_buckets_hold_neighbours_of_one_type():
    make_p = lambda n, dtype=np.float32: Tensor(np.zeros(n, dtype), requires_grad=True)
    a, b, c, d = make_p(10), make_p(5), make_p(20), make_p(3, np.float64)
    sizes = lambda least: [[p.data.size for p in bucket] for bucket in
                           in_buckets([a, b, c, d], least)]
    assert sizes(None) == [[10, 5, 20], [3]]
    assert sizes(1) == [[10], [5], [20], [3]]
    assert sizes(40) == [[10], [5, 20], [3]] and sizes(41) == [[10, 5], [20], [3]]
    assert in_buckets([], None) == []
    parameters = {"a": a, "b": b}
    assert DataParallel(LocalComm(World(1), 0), parameters, None).buckets == [[b, a]]


def test_overlap_sends_a_bucket_before_backward_has_ended():
    events = []

    def noted(comm, row):
        events.append(("sent", threading.current_thread() is main))
        if main_waits.wait(5):
            return row
        raise AssertionError("backward never got to the first layer")

    main, main_waits = threading.current_thread(), threading.Event()
    first, last = parameter(np.ones(3)), parameter(np.ones(3))

    def loss(batch):
        return (Reaches.made(first, main_waits, events) * last).sum(), 1
    step = DataParallel(Pair(), {"first": first, "last": last}, loss, bucket=1, overlap=True,
                        reduce=noted)
    step(None)[0].backward()
    assert events[0] == ("sent", False) and ("first layer",) in events
    assert [e for e in events if e[0] == "sent"] == [("sent", False)] * 2
    assert first.grad.tolist() == last.grad.tolist() == [1, 1, 1]


class Pair:
    """A second rank that brings nothing."""

    rank, size = 0, 2

    def send(self, array, to):
        self.sent = array

    def recv(self, like, source):
        return np.zeros_like(like)


class Reaches:
    """x, whose gradient waits until the bucket behind it is being sent."""

    @staticmethod
    def made(x, event, events):
        from llm.grad.tensor import primitive

        def f(a):
            return a.copy(), ()

        def f_vjp(dout):
            deadline = time.monotonic() + 5
            while not events and time.monotonic() < deadline:
                time.sleep(0.001)
            events.append(("first layer",))
            event.set()
            return (dout.copy(),)
        return primitive(f, f_vjp)(x)


def test_an_error_in_the_sending_thread_is_raised():
    def fails(comm, row):
        raise RankLost("gone")
    model = make()
    step = DataParallel(Pair(), model.named_parameters(), loss_of(model), overlap=True,
                        reduce=fails)
    with pytest.raises(RankLost, match="gone"):
        step(next(batches()))[0].backward()


def test_an_unreached_parameter_gets_zeros():
    used, unused = parameter(np.ones(2)), parameter(np.ones(4))
    for overlap in (False, True):
        used.grad = unused.grad = None
        step = DataParallel(Pair(), {"unused": unused, "used": used},
                            lambda batch: (used.sum(), 1), bucket=1, overlap=overlap,
                            reduce=lambda comm, row: row)
        value, count = step(None)
        value.backward()
        assert (float(value.data), count) == (2, 1)           # the mean over a single target
        assert unused.grad.tolist() == [0, 0, 0, 0] and used.grad.tolist() == [1, 1]


def test_ranks_that_drift_apart_are_found():
    def work(comm, spoil):
        model = make(seed=comm.rank)                          # everyone another start
        parameters = model.named_parameters()
        start_equal(comm, parameters)
        check_equal(comm, parameters)
        if comm.rank in spoil:
            next(iter(parameters.values())).data.reshape(-1)[0] += 1e-9
            check_equal(comm, parameters)
        else:
            check_equal(comm, parameters)
        return {n: p.data for n, p in parameters.items()}
    out = run_ranks(3, lambda comm: work(comm, ()), 10)
    first = make(seed=0).named_parameters()
    assert all((weights[n] == p.data).all() for weights in out for n, p in first.items())
    with pytest.raises(RuntimeError, match="the weights of rank 1, 2 are not those of rank 0"):
        run_ranks(3, lambda comm: work(comm, (1, 2)), 10)


def test_the_last_words(capsys):
    farewell(LocalComm(World(3), 2), lambda: "The newest is step 5.")(15)
    assert capsys.readouterr().err == ("rank 2 of 3: told to end by signal 15. If nobody stopped "
                                       "the run, another rank has died. The newest is step 5.\n")


def test_overlap_hides_what_it_can():
    assert overlapped([], []) == 0
    assert overlapped([1, 2, 3], [0.5, 0.5, 0.5]) == 3.5      # only the last one shows
    assert overlapped([1, 2, 3], [2, 2, 2]) == 7              # the link is the bottleneck
    with pytest.raises(ValueError):
        overlapped([1, 2], [1])


def test_without_mpi4py_the_cure_is_named(monkeypatch):
    import builtins
    real = builtins.__import__

    def no_mpi(name, *args, **options):
        if name.startswith("mpi4py"):
            raise ImportError(name)
        return real(name, *args, **options)
    monkeypatch.setattr(builtins, "__import__", no_mpi)
    with pytest.raises(ImportError, match="no mpi4py here: pip install -r requirements-mpi.txt"):
        MPIComm()


class Request:
    """Of the stand-in for MPI below: done after it has been asked three times."""

    def __init__(self, done=lambda: True, act=lambda: None):
        self.asked, self.done, self.act = 0, done, act

    def Test(self):
        self.asked += 1
        if self.asked == 3 and self.done():
            self.act()
        return self.asked >= 3 and self.done()


class StandIn:
    """MPI.COMM_WORLD and the module, as far as MPIComm uses them; mail: {(from, to): [bytes]}."""

    BYTE, COMM_TYPE_SHARED = "byte", "shared"

    def __init__(self, rank, size, mail):
        self.rank, self.size, self.mail, self.COMM_WORLD = rank, size, mail, self
        self.everyone, self.aborted = True, []

    class Status:
        def Get_count(self, kind):
            assert kind == "byte"
            return self.count

    def Split_type(self, kind):
        assert kind == "shared"
        return StandIn(0, 2, {})

    def Isend(self, message, to):
        array, kind = message
        assert kind == "byte"
        self.mail.setdefault((self.rank, to), []).append(array.tobytes())
        return Request()

    def Iprobe(self, source, status):
        waiting = self.mail.get((source, self.rank))
        if waiting:
            status.count = len(waiting[0])
        return bool(waiting)

    def Irecv(self, message, source):
        array, kind = message
        assert kind == "byte"

        def arrive():
            array.reshape(-1).view(np.uint8)[:] = np.frombuffer(
                self.mail[source, self.rank].pop(0), np.uint8)
        return Request(act=arrive)

    def Ibarrier(self):
        return Request(lambda: self.everyone)

    def Abort(self, code):
        self.aborted.append(code)


@pytest.fixture
def mpi(monkeypatch):
    """A StandIn for rank 1 of 3, in mpi4py's place."""
    import types
    world = StandIn(1, 3, {})
    monkeypatch.setitem(sys.modules, "mpi4py", types.SimpleNamespace(MPI=world))
    return world


def test_mpi_messages_are_bytes_that_must_fit(mpi):
    comm = MPIComm(patience=0.2)
    assert (comm.rank, comm.size, comm.here, comm.patience) == (1, 3, 2, 0.2)
    assert MPIComm().patience == 60
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    comm.send(x.T, 2)
    comm.send(x, 2)
    assert mpi.mail[1, 2] == [np.ascontiguousarray(x.T).tobytes(), x.tobytes()]
    assert len(comm.pending) == 2
    for _ in range(3):
        comm.send(np.zeros(0), 0)
    assert len(comm.pending) == 3                             # those that were done are forgotten
    comm.barrier()
    assert comm.pending == []
    mpi.mail[0, 1] = [x.tobytes(), x.tobytes(), x.tobytes()]
    got = comm.recv(np.zeros((3, 2), np.float32), 0)
    assert got.shape == (3, 2) and got.dtype == np.float32 and (got.reshape(-1) == range(6)).all()
    with pytest.raises(ValueError, match="rank 1 expected 20 bytes from rank 0 and got 24"):
        comm.recv(np.zeros(5, np.float32), 0)
    assert comm.recv(np.zeros(3), 0).nbytes == 24             # it was not taken
    began = time.perf_counter()
    with pytest.raises(RankLost, match="rank 1 has waited 0.2 s for rank 2"):
        comm.recv(np.zeros(1), 2)
    assert 0.2 <= time.perf_counter() - began < 5
    mpi.everyone = False
    with pytest.raises(RankLost, match="all ranks at a barrier"):
        comm.barrier()
    comm.pending = [(Request(lambda: False), x)]
    with pytest.raises(RankLost, match="a message of its own to be taken"):
        comm.barrier()


def test_an_error_ends_the_whole_mpi_job(mpi, capsys):
    with ending_together(MPIComm()) as comm:
        assert comm.rank == 1
    assert mpi.aborted == []
    with ending_together(MPIComm()):
        raise ValueError("broken")
    assert mpi.aborted == [1]
    assert capsys.readouterr().err == "rank 1 of 3: ValueError: broken\n"
    for code, status in ((2, 2), (None, 0), (0, 0), ("what went wrong", 1)):
        with ending_together(MPIComm()):
            raise SystemExit(code)
        assert mpi.aborted.pop() == status


def test_importing_the_day_does_not_start_mpi():
    code = ("import sys, llm.scale.data_parallel, llm.scale.link; "
            "assert 'mpi4py' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=os.environ)
    assert data_parallel.DataParallel is DataParallel


def test_cores_are_divided_among_the_ranks(monkeypatch):
    import numba

    from llm.scale import cores
    for count, mine, ranks, threads in ((2, 2, 1, 2), (2, 2, 2, 1), (8, 8, 3, 2), (2, 2, 4, 1),
                                        (8, 1, 2, 1), (8, 3, 2, 3)):
        monkeypatch.setattr(cores.os, "cpu_count", lambda count=count: count)
        monkeypatch.setattr(cores, "cores", lambda mine=mine: mine)
        assert threads_each(ranks) == threads
    with pytest.raises(ValueError, match="cannot be divided among 0 ranks"):
        threads_each(0)
    before = numba.get_num_threads(), cores.Blas().threads()
    with pytest.raises(KeyError), sharing_cores(4) as threads:
        assert threads == 2 and numba.get_num_threads() == min(2, before[0])
        assert cores.Blas().threads() == min(2, before[1])
        raise KeyError
    assert (numba.get_num_threads(), cores.Blas().threads()) == before


def test_a_stopped_run_goes_on_with_any_number_of_ranks(tmp_path):
    job = Job(C=8, L=1, T=8, dtype="float64", characters=2000)
    whole = train_job(None, job, 9)
    for ranks, steps, began in ((3, 4, 0), (2, 7, 4), (4, 9, 7)):
        out = run_ranks(ranks, lambda comm: train_job(comm, job, steps, tmp_path, 2), 20)  # noqa: B023
        assert {o.began for o in out} == {began} and len(out[0].losses) == steps - began
    assert apart(out[-1].weights, whole.weights) < 1e-12
    other = train_job(None, Job(C=8, L=1, T=8, dtype="float64", characters=2000, seed=1), 9)
    assert apart(other.weights, whole.weights) > 1e-3         # it can tell


def test_the_models_of_the_run():
    assert scaling.step_line({16: 0.5, 8: 0.3, 4: 0.2}) == pytest.approx([0.1, 0.025])
    link = Link(0.001, 1e6)
    assert scaling.model_step([0.1, 0.025], 16, 2, 2, link, 4000) == pytest.approx(0.3 + 0.006)
    assert scaling.model_step([0.1, 0.025], 16, 4, 2, link, 4000) == pytest.approx(0.4 + 0.012)
    assert scaling.model_step([0.1, 0.025], 16, 1, 2, link, 4000) == pytest.approx(0.5)
    for p in (4, 8, 1024):                                    # where ring and tree cross
        n = paper.crossing(link, p)
        assert ring_seconds(link, p, n) == pytest.approx(tree_seconds(link, p, n))
        assert ring_seconds(link, p, n / 2) > tree_seconds(link, p, n / 2)
    assert paper.crossing(link, 2) == 0
    ready = [(1.0, 1000), (2.0, 1000), (3.0, 2000)]           # a bucket takes 2(1 + m/2000) ms
    small = tree_seconds(link, 2, 16)
    for how, seconds in (({}, 0.006), ({"bucket": 1}, 0.010), ({"bucket": 1500}, 0.008),
                         ({"bucket": 1, "overlap": True}, 0.004), ({"overlap": True}, 0.006)):
        assert paper.exposed(link, ready, 3.0, **how) == pytest.approx(small + seconds)
    w = {"a.qkv.b": np.arange(6.0), "b": np.ones(2)}
    v = {"a.qkv.b": np.arange(6.0) + [0, 0, 5, 5, 0, 1], "b": np.ones(2)}
    assert apart(w, v) == 5 and apart(w, v, without_key_biases) == 1


def test_real_measurements_are_digested():
    found = {"ranks": 2, "threads": 1, "bytes": 4000, "B": 16, "alone": {
        "16": [0.4, 0.5, 0.9], "8": [0.3] * 3, "4": [0.2] * 3}, "apart": [0.3, 0.2, 0.4],
        "together": [0.35, 0.3, 0.4], "ring": [0.1, 0.2, 0.3],
        "message": {"8": [0.002, 0.001], "2000": [0.9, 0.001 + 1992e-6]}, "weights_apart": 0.0,
        "losses_apart": 0.0, "sent_by_all": 8, "formula": 8}
    row = scaling.digest(found, cores=2)
    assert row["beta"] == pytest.approx(1e6) and row["alpha"] == 0.001
    assert row["ring_model"] == pytest.approx(0.006) and row["model"] == pytest.approx(0.306)
    assert row["efficiency"] == row["share"] == pytest.approx(0.5 / 2 / 0.35)
    assert row["one"] == [0.4, 0.5, 0.9] and row["together"] == [0.3, 0.35, 0.4]
    odd = found | {"message": {"8": [0.02], "2000": [0.01]}}      # a disturbed measurement
    assert scaling.digest(odd, cores=2)["beta"] > 1e9
    four = found | {"ranks": 4, "message": {"8": [1.0], "1000": [2.0]}, "alone": {"16": [9.0]}}
    again = scaling.digest(four, 2, row)                      # the first job's link and steps
    assert again["model"] == pytest.approx(2 * 0.2 + 0.012) and again["one"] == row["one"]
    assert again["share"] == 2 * again["efficiency"] == pytest.approx(0.5 / 2 / 0.35)


def test_without_mpi_the_run_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(launch, "mpirun", lambda: None)
    rows, why = scaling.measured(True, 0)
    assert rows == [] and "pip install -r requirements-mpi.txt" in why

    def hangs(n, arguments, timeout):
        raise subprocess.TimeoutExpired("mpirun", timeout)
    monkeypatch.setattr(launch, "mpirun", lambda: "mpirun")
    monkeypatch.setattr(launch, "launch", hangs)
    rows, lost, why = run.over_mpi(False, 0)
    assert (rows, lost) == ([], {}) and "a job failed" in why and "timed out" in why
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert not launch.under_mpi()
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert launch.under_mpi()
    env = launch.environment()
    assert env["OMPI_ALLOW_RUN_AS_ROOT"] == env["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] == "1"


def test_the_run_holds_what_the_note_says():
    result = measure(fast=True, seed=0)
    for p, ways in result.rows:
        for formula, now, most in ways.values():
            assert now == pytest.approx(formula) and most > 0
        assert ways["ring"][2] == pytest.approx(2 * (p - 1) / p * result.bytes, rel=1e-3)
        assert ways["root"][2] == (p - 1) * result.bytes
    assert [p for p, _ in result.rows] == [2, 4, 8, 64]
    ways = dict(result.rows)[64]
    assert ways["ring"][0] > ways["tree"][0]                  # a small gradient, many ranks
    assert all(row[3] for row in result.bits) and result.bits[1][1] > 0.05
    assert max(row[2] for row in result.bits) < 1e-6
    for dtype, _, weights, without, losses in result.equal:
        assert max(weights, losses) < (1e-12 if dtype == "float64" else 1e-4)
        assert without <= weights
    assert 0.02 < result.means < 1
    model = dict(result.overlap_model)
    assert model["no communication"] == 0
    assert model["buckets, during backward"] <= model["buckets, after backward"]
    assert [row[0] for row in result.overlap] == list(model)
    assert result.real == [] and "mpirun -n 2 python days/day61/run.py" in result.why_not
    assert State(Job()).bytes() == result.bytes == 4 * result.parameters
