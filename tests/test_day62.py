"""Day 62 · Tensor and pipeline parallelism, ZeRO: equal to one process, for the bytes promised."""

import functools
import math

import numpy as np
import pytest

from days.day62.run import measure
from days.day62.ways import WAYS
from llm.grad.tensor import Tensor, no_grad
from llm.grad.walk import saved_bytes
from llm.layers.module import Linear, parameter
from llm.models.gpt import GPT, GPTConfig
from llm.scale import tensor_parallel, zero
from llm.scale.allreduce import ring_allreduce
from llm.scale.comm import LocalComm, RankLost, World, run_ranks
from llm.scale.data_parallel import DataParallel, check_equal, shards
from llm.scale.group import Clipped, Group, grid
from llm.scale.link import Link, Metered
from llm.scale.pipeline import (
    Pipeline,
    Stage,
    bubble,
    gpipe,
    one_forward_one_backward,
    play,
)
from llm.scale.tensor_parallel import (
    ColumnParallel,
    RowParallel,
    divide,
    divided,
    whole_state,
)
from llm.scale.zero import Gathered, Zero, bytes_a_rank
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.sgd import SGD

SMALL = GPTConfig(V=13, T=8, C=8, L=4, H=4, rotary=True)
FREE = Link(0.0, math.inf)
ORDERS = [gpipe, one_forward_one_backward]


def make(seed=0, dtype=np.float64, config=SMALL):
    model = GPT(config, np.random.default_rng(seed))
    rng = np.random.default_rng(seed + 1)
    for p in model.named_parameters().values():        # biases and norms of a trained model
        p.data = (p.data + 0.1 * rng.standard_normal(p.shape)).astype(dtype)
    return model


def batches(seed=1, B=8, T=8, V=13):
    """Rows of very unequal numbers of targets."""
    rng = np.random.default_rng(seed)
    while True:
        ids = rng.integers(V, size=(B, T + 1))
        x, y = ids[:, :-1], ids[:, 1:].copy()
        y[np.arange(T) >= rng.integers(1, T + 1, size=(B, 1))] = -100
        yield x, y


def loss_of(model):
    def loss(batch):
        return model.loss(*batch), int((batch[1] != -100).sum())
    return loss


def rate(step, total):
    return 1e-2


def one_process(steps=4, dtype=np.float64, clip=0.3, config=SMALL, B=8):
    model, norms = make(dtype=dtype, config=config), []
    parameters = model.named_parameters()
    run = fit(parameters, loss_of(model), batches(B=B), AdamW(parameters), rate, steps=steps,
              clip=clip, hooks=[lambda s: norms.append(s.norm)])
    return model.state_dict(), run.losses, norms


def tensor_ranks(comm, steps=4, dtype=np.float64, tensor=None, config=SMALL):
    """(whole state, losses, norms) of a rank; ranks beyond one tensor group divide the batch."""
    group, data = grid(comm, tensor or comm.size)
    model, norms = divide(make(dtype=dtype, config=config), group), []
    parameters, loss, stream = model.named_parameters(), loss_of(model), batches()
    if data.size > 1:
        loss, stream = DataParallel(data, parameters, loss), shards(stream, data)
    loss = Clipped(group, loss, parameters, 0.3, lambda n: divided(n) or group.rank == 0)
    run = fit(parameters, loss, stream, AdamW(parameters), rate, steps=steps, clip=None,
              hooks=[lambda s: norms.append(loss.norm)])
    check_equal(data, parameters)
    check_equal(group, {n: p for n, p in parameters.items() if not divided(n)})
    return whole_state(model, group), run.losses, norms


def pipeline_ranks(comm, order, m, steps=4, dtype=np.float64, config=SMALL):
    stage = Stage(make(dtype=dtype, config=config), comm)
    step, norms = Pipeline(comm, stage, m, order), []
    loss = Clipped(comm, step, step.parameters, 0.3, step.mine)
    run = fit(step.parameters, loss, batches(), AdamW(step.parameters), rate, steps=steps,
              clip=None, hooks=[lambda s: norms.append(loss.norm)])
    names = stage.names()
    return {names[n]: p.data for n, p in step.parameters.items()}, run.losses, norms


def zero_ranks(comm, stage, steps=4, dtype=np.float64, clip=0.3, optimizer=None, accumulate=1):
    model, norms = make(dtype=dtype), []
    state = model.named_parameters()
    z = Zero(comm, model, loss_of(model), stage)
    loss = Clipped(comm, z, z.parameters, clip, z.mine) if clip else z
    opt = optimizer(z) if optimizer else AdamW(z.parameters, decays=z.decays)
    run = fit(z.parameters, loss, shards(batches(), comm), opt, rate, steps=steps, clip=None,
              accumulate=accumulate, hooks=[lambda s: norms.append(clip and loss.norm)])
    z.gather()
    return {name: p.data.copy() for name, p in state.items()}, run.losses, norms


def apart(a, b):
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


def check(out, one, tolerance):
    for state, losses, norms in out:
        assert set(state) <= set(one[0])
        assert apart(state, one[0]) < tolerance
        assert losses == pytest.approx(one[1], abs=tolerance)
        assert norms == pytest.approx(one[2], abs=tolerance)
    assert set().union(*(state for state, *_ in out)) == set(one[0])


# the hand examples


def test_tensor_hand_example():
    up, down = Linear(2, 4, np.random.default_rng(0)), Linear(4, 1, np.random.default_rng(0))
    up.w.data[...] = [[1, 0, 2, -1], [0, 1, 1, 1]]
    down.w.data[...] = [[1], [1], [1], [2]]
    down.b.data[...] = 100

    def work(comm):
        comm = Metered(comm)
        first, second = ColumnParallel(up, comm), RowParallel(down, comm)
        x = parameter(np.array([[1.0, 2.0]], np.float32))
        hidden = first(x)
        assert comm.bytes == 0                                # nothing is sent on the way in
        y = second(hidden)
        assert comm.bytes > 0
        y.backward(np.ones((1, 1), np.float32))
        return hidden.data.tolist(), y.data.item(), x.grad.tolist(), second.b.grad.item()
    assert run_ranks(2, work, 5) == [([[1, 2]], 109, [[1, 4]], 1), ([[4, 1]], 109, [[1, 4]], 1)]


def clocks(p, m, order, seconds=(1.0, 2.0), link=FREE, n=1):
    """(seconds of the last rank, [most kept by each rank]) of an order without a model."""
    def work(comm):
        comm, kept, most = Metered(comm, link), set(), [0]
        message = np.zeros(n, np.uint8)

        def forward(i, x):
            assert (x is None) == (comm.rank == 0)
            comm.work(seconds[0])
            kept.add(i)
            most[0] = max(most[0], len(kept))
            return message

        def backward(i, dy):
            assert (dy is None) == (comm.rank == p - 1)
            comm.work(seconds[1])
            kept.remove(i)                                    # forward first, and each once
            return message
        play(comm, order(p, comm.rank, m), forward, backward, lambda i: message)
        assert not kept
        return comm.now, most[0]
    out = run_ranks(p, work, 10)
    return max(now for now, _ in out), [most for _, most in out]


def test_pipeline_hand_example():
    assert one_forward_one_backward(2, 0, 3) == [
        ("F", 0), ("F", 1), ("B", 0), ("F", 2), ("B", 1), ("B", 2)]
    assert one_forward_one_backward(2, 1, 3) == [
        ("F", 0), ("B", 0), ("F", 1), ("B", 1), ("F", 2), ("B", 2)]
    assert gpipe(2, 1, 3) == [("F", 0), ("F", 1), ("F", 2), ("B", 2), ("B", 1), ("B", 0)]
    assert clocks(2, 3, gpipe) == (12, [3, 3])
    assert clocks(2, 3, one_forward_one_backward) == (12, [2, 1])
    assert bubble(2, 3) == 1 / 4 == 1 - 3 * (1 + 2) / 12


def test_zero_hand_example():
    assert [bytes_a_rank(6, 2, stage) for stage in range(4)] == [
        (24, 24, 48), (24, 24, 24), (24, 12, 24), (12, 12, 24)]
    assert [zero.traffic(6, 2, stage) for stage in range(4)] == [24, 24, 24, 36]
    assert bytes_a_rank(6, 2, 3, itemsize=8) == (24, 24, 48)


# equality with one process


@pytest.mark.parametrize("p", [1, 2, 4])
def test_tensor_parallel_training_equals_one_process(p):
    check(run_ranks(p, tensor_ranks, 10), one_process(), 1e-12)


def test_tensor_times_data_parallel_equals_one_process():
    check(run_ranks(4, lambda comm: tensor_ranks(comm, tensor=2), 10), one_process(), 1e-12)


@pytest.mark.parametrize("order", ORDERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize(("p", "m"), [(1, 3), (2, 1), (2, 4), (3, 8), (4, 3)])
def test_pipeline_training_equals_one_process(p, m, order):
    check(run_ranks(p, lambda comm: pipeline_ranks(comm, order, m), 10), one_process(), 1e-12)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_zero_training_equals_one_process(p, stage):
    check(run_ranks(p, lambda comm: zero_ranks(comm, stage), 10), one_process(), 1e-12)


def test_float32_gradients_agree_within_a_millionth():
    def gradient(model, loss=None):
        value, _ = (loss or loss_of(model))(next(batches()))
        value.backward()
        return {n: p.grad for n, p in model.named_parameters().items()}
    one = gradient(make(dtype=np.float32))

    def tensor(comm):
        model = divide(make(dtype=np.float32), comm)
        gradient(model)
        for p in model.named_parameters().values():
            p.data[...] = p.grad                              # so that whole_state collects them
        return whole_state(model, comm)

    def stages(comm):
        stage = Stage(make(dtype=np.float32), comm)
        names, grads = stage.names(), gradient(stage, Pipeline(comm, stage, 4))
        return {names[n]: g for n, g in grads.items()}
    for out in run_ranks(2, tensor, 10) + run_ranks(2, stages, 10):
        assert all(out[n].dtype == np.float32 for n in out) and len(out) > 20
        assert apart(out, one) < 1e-6
    out = run_ranks(2, lambda comm: zero_ranks(comm, 3, steps=1, dtype=np.float32,
                                               optimizer=lambda z: SGD(z.parameters)), 10)
    model = make(dtype=np.float32)
    parameters = model.named_parameters()
    fit(parameters, loss_of(model), batches(), SGD(parameters), rate, steps=1, clip=0.3)
    assert apart(out[0][0], model.state_dict()) < 1e-6
    assert all(a.dtype == np.float32 for a in out[0][0].values())


def test_learned_positions_work_too():
    config = GPTConfig(V=13, T=8, C=8, L=4, H=4)
    one = one_process(config=config)
    check(run_ranks(2, lambda comm: tensor_ranks(comm, config=config), 10), one, 1e-12)
    check(run_ranks(2, lambda comm: pipeline_ranks(comm, gpipe, 2, config=config), 10), one, 1e-12)


def test_the_tied_embedding_gets_both_gradients():
    model = make()
    model.loss(*next(batches())).backward()

    def work(comm):
        stage = Stage(make(), comm)
        Pipeline(comm, stage, 2)(next(batches()))
        return stage.embed and stage.embed.table.grad
    first, middle, last = run_ranks(3, work, 10)
    assert middle is None and np.allclose(first, model.embed.table.grad, atol=1e-14)
    assert first.tobytes() == last.tobytes()


def test_rows_without_targets_do_no_harm():
    def rows():
        x, y = next(batches())
        y[:4] = -100
        yield x, y
    model = make()
    model.loss(*next(rows())).backward()
    wanted = model.embed.table.grad

    def pipe(comm):
        stage = Stage(make(), comm)
        Pipeline(comm, stage, 4)(next(rows()))
        return stage.embed.table.grad
    assert np.allclose(run_ranks(2, pipe, 10), wanted, atol=1e-14)
    for number in (0, 1, 2):
        def divided_rows(comm):
            model = make()
            z = Zero(comm, model, loss_of(model), number)  # noqa: B023
            value, count = z(next(shards(rows(), comm)))
            value.backward()
            z.gather()
            return float(np.linalg.norm(np.concatenate([s.grad for s in z.parameters.values()])))
        norms = run_ranks(2, divided_rows, 10)
        whole = math.sqrt(sum((p.grad ** 2).sum() for p in model.named_parameters().values()))
        assert (norms[0] if number == 0 else math.hypot(*norms)) == pytest.approx(whole)

    def three(comm):
        model = make()
        Zero(comm, model, loss_of(model), 3)(next(shards(rows(), comm)))
    with pytest.raises(ValueError, match="1 of 2 ranks have no target in this batch: in stage 3"):
        run_ranks(2, three, 10)

    def nothing(comm):
        x, y = next(batches())
        stage = Stage(make(), comm)
        value, count = Pipeline(comm, stage, 2)((x, np.full_like(y, -100)))
        return float(value.data), count
    assert run_ranks(2, nothing, 10) == [(0, 0)] * 2


# tensor parallelism


def test_each_operator_is_the_others_way_back():
    def work(comm):
        comm = Metered(comm)
        x = parameter(np.arange(3.0) + comm.rank)
        y = tensor_parallel.entering(x, comm=comm)
        assert y.data.tolist() == x.data.tolist() and comm.messages == 0
        d = np.full(3, 1.0 + comm.rank)
        y.backward(d)
        assert x.grad.tolist() == [3, 3, 3] and comm.messages == 2 and d[0] == 1.0 + comm.rank
        z = tensor_parallel.leaving(x2 := parameter(x.data.copy()), comm=comm)
        assert z.data.tolist() == [1, 3, 5] and comm.messages == 4
        assert x2.data.tolist() == x.data.tolist()
        z.backward(d)
        assert x2.grad.tolist() == d.tolist() and comm.messages == 4
        return True
    assert run_ranks(2, work, 5) == [True, True]


@pytest.mark.parametrize("p", [2, 4])
def test_tensor_traffic_is_what_the_formula_says(p):
    def work(comm):
        metered = Metered(comm)
        model = divide(make(), metered)
        value = model.loss(*next(batches(B=4)))
        forward = metered.bytes
        value.backward()
        with no_grad():
            model.loss(*next(batches(B=4)))
        return forward, metered.bytes
    wanted = tensor_parallel.traffic(SMALL, 4, p, itemsize=8)
    assert wanted == 16 * 2 * (p - 1) * 8 * 4 * 8 * 8 / p
    for forward, both in run_ranks(p, work, 10):
        assert forward * 2 == wanted and both * 2 == 3 * wanted
    assert tensor_parallel.traffic(SMALL, 4, 2) == wanted / (2 if p == 2 else 3)


def test_a_divided_model_is_cut_where_it_says():
    model = make()
    whole = {n: a.copy() for n, a in model.state_dict().items()}

    def work(comm):
        return divide(make(), comm).state_dict()
    parts = run_ranks(2, work, 5)
    for n, a in whole.items():
        shapes = [part[n].shape for part in parts]
        assert (shapes[0] != a.shape) == divided(n), n
        assert (parts[0][n].tobytes() == parts[1][n].tobytes()) == (not divided(n)), n
    name = "blocks.1.mix.inner.qkv.w"                         # heads 2 and 3 of q, k and v
    columns = [c for part in range(3) for c in range(8 * part + 4, 8 * part + 8)]
    assert (parts[1][name] == whole[name][:, columns]).all()
    name = "blocks.0.think.inner.down.w"
    assert (parts[1][name] == whole[name][16:]).all()
    x = Tensor(np.ones((2, 8), np.float32))
    for kind in (ColumnParallel, RowParallel):                # without a bias, and of one rank
        linear = Linear(8, 4, np.random.default_rng(0), bias=False)
        assert np.allclose(kind(linear, LocalComm(World(1), 0))(x).data, linear(x).data)
        assert "b" not in kind(linear, LocalComm(World(1), 0)).named_parameters()


def test_what_cannot_be_divided_is_refused():
    def work(comm):
        before = make()
        with pytest.raises(ValueError, match="3 ranks cannot divide 4 heads and 32 channels of bl"):
            divide(before, comm)
        assert "Parallel" not in str([type(m) for _, m in before.blocks[0].mix.inner.children()])
        with pytest.raises(ValueError, match="3 ranks cannot divide 24 columns in 5 parts"):
            ColumnParallel(before.blocks[0].mix.inner.qkv, comm, parts=5)
        with pytest.raises(ValueError, match="3 ranks cannot divide 8 rows evenly"):
            RowParallel(before.blocks[0].mix.inner.qkv, comm)
        wide = GPT(GPTConfig(V=5, T=2, C=6, L=1, H=3), np.random.default_rng(0))
        wide.blocks[0].think.inner.up = Linear(6, 25, np.random.default_rng(0))
        with pytest.raises(ValueError, match="3 ranks cannot divide 3 heads and 25 channels"):
            divide(wide, comm)
    run_ranks(3, work, 5)
    with pytest.raises(ValueError, match="2 ranks cannot divide 5 columns in 1 parts"):
        ColumnParallel(Linear(4, 5, np.random.default_rng(0)), LocalComm(World(2), 0))


# pipelines


@pytest.mark.parametrize("order", ORDERS, ids=lambda f: f.__name__)
def test_the_bubble_is_what_the_formula_says(order):
    for p, m in [(1, 4), (2, 1), (2, 5), (4, 2), (4, 8), (7, 3), (8, 32)]:
        for f, b in [(1.0, 2.0), (3.0, 1.0), (1.0, 1.0)]:
            end, most = clocks(p, m, order, (f, b))
            assert end == (m + p - 1) * (f + b)
            assert 1 - m * (f + b) / end == pytest.approx(bubble(p, m))
            assert most == ([m] * p if order is gpipe else [min(p - r, m) for r in range(p)])


def test_orders_do_everything_once_and_in_time():
    for order in ORDERS:
        for p in range(1, 6):
            for r in range(p):
                for m in range(6):
                    steps = order(p, r, m)
                    assert sorted(steps) == sorted((k, i) for k in "FB" for i in range(m))
                    assert all(steps.index(("F", i)) < steps.index(("B", i)) for i in range(m))


def test_messages_that_take_time_cost_1f1b_more():
    link = Link(0.25, math.inf)
    p, m = 4, 8
    slow = clocks(p, m, gpipe, link=link)[0]
    assert slow == (m + p - 1) * 3 + 2 * (p - 1) * 0.25        # once there and once back
    assert clocks(p, m, one_forward_one_backward, link=link)[0] > slow


def test_a_pipelines_clock_and_memory_with_a_real_model():
    for order in ORDERS:
        def work(comm):
            comm = Metered(comm, FREE)
            stage = Stage(make(), comm)
            step = Pipeline(comm, stage, 8, order, seconds=(1.0, 2.0))  # noqa: B023
            step(next(batches()))
            return comm.now, step.most, step.most_bytes
        out = run_ranks(4, work, 10)
        ends, most, kept = zip(*out)
        assert max(ends) == 11 * 3
        assert list(most) == ([8] * 4 if order is gpipe else [4, 3, 2, 1])
        if order is gpipe:
            whole = kept
    assert [w // k for w, k in zip(whole, kept)] == [2, 2, 4, 8] and whole[1] * 3 == kept[1] * 8

    x, y = next(batches(B=1))
    model = make()
    h = Tensor(model.hidden(x).data, requires_grad=True)      # one middle block, by itself
    assert kept[1] == 3 * saved_bytes(model.blocks[1](h))


def test_pipeline_traffic_is_one_activation_each_way():
    def work(comm):
        metered = Metered(comm)
        Pipeline(metered, Stage(make(), metered), 4)(next(batches()))
        return metered.bytes
    stream, table, value = 8 * 8 * 8 * 8, 13 * 8 * 8, 8
    got = run_ranks(4, work, 10)
    assert sum(got) == 2 * 3 * stream + 2 * table + 3 * value
    assert got[1] == 2 * stream + value


def test_stages_have_their_blocks_and_the_names_of_the_whole():
    def work(comm):
        stage = Stage(make(), comm)
        return list(stage.names().values()), stage.positions is None
    out = run_ranks(3, work, 5)
    assert [sorted({n.split(".")[1] for n in names if n.startswith("blocks")})
            for names, _ in out] == [["0", "1"], ["2"], ["3"]]
    assert [("embed.table" in names, "norm.gain" in names or any(
        n.startswith("norm.") for n in names)) for names, _ in out] == [
            (True, False), (False, False), (True, True)]
    for p, config in ((5, SMALL), (1, GPTConfig(V=3, T=2, C=4, L=1, H=1, dropout=0.1))):
        with pytest.raises(ValueError, match=f"{p} stages of {config.L} blocks with dropout"):
            Stage(GPT(config, np.random.default_rng(0)), LocalComm(World(p), 0))
    comm = LocalComm(World(1), 0)
    step = Pipeline(comm, Stage(make(), comm), 9)
    assert step.order == one_forward_one_backward(1, 0, 9)
    with pytest.raises(ValueError, match="a batch of 8 rows for 9 microbatches: each needs one"):
        step(next(batches()))
    with pytest.raises(ValueError, match="microbatches are accumulated already"):
        fit(step.parameters, Pipeline(comm, step.stage, 2), batches(), SGD(step.parameters), rate,
            steps=1, accumulate=2)
    value, count = Pipeline(comm, Stage(make(dtype=np.float32), comm), 2)(next(batches()))
    assert value.data.dtype == np.float32 and count == int((next(batches())[1] != -100).sum())


# ZeRO


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_zero_memory_is_what_the_formula_says(stage):
    p = 4

    def work(comm):
        model = make()
        tensors = list(model.named_parameters().values())
        z = Zero(comm, model, loss_of(model), stage)
        opt = AdamW(z.parameters, decays=z.decays)
        for _ in range(2):
            for s in z.parameters.values():
                s.grad = None
            value, _ = z(next(shards(batches(), comm)))
            value.backward()
            held = memory([s.data for s in z.parameters.values()] + [t.data for t in tensors])
            grads = memory([g for s in (*z.parameters.values(), *tensors)
                            if (g := s.grad) is not None])
            moments = memory([*opt.m.values(), *opt.v.values()])
            opt.step(1e-2)
        return held, grads, moments
    N = make().count_parameters()
    out = run_ranks(p, work, 10)
    placeholders = 8 * len(make().named_parameters()) if stage == 3 else 0     # one NaN each
    for got, wanted in zip(np.mean(out, 0) - [placeholders, 0, 0],
                           bytes_a_rank(N, p, stage, itemsize=8)):
        assert got == pytest.approx(wanted, rel=0.02)
    assert sum(grads for _, grads, _ in out) == 8 * N * (p if stage < 2 else 1)


def memory(arrays):
    """Bytes that these arrays keep alive; each buffer once."""
    owners = {}
    for a in arrays:
        while isinstance(a.base, np.ndarray):
            a = a.base
        owners[id(a)] = a.nbytes
    return sum(owners.values())


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("p", [2, 4])
def test_zero_traffic_is_what_the_formula_says(p, stage):
    steps = 3

    def work(comm):
        metered = Metered(comm)
        model = make()
        z = Zero(metered, model, loss_of(model), stage)
        fit(z.parameters, z, shards(batches(), comm), SGD(z.parameters), rate, steps=steps,
            clip=None)
        if stage in (1, 2):
            z.gather()
        return metered.bytes
    model = make()
    N = model.count_parameters()
    rest = N - sum(p.data.size for n, p in model.named_parameters().items() if "blocks." in n)
    sent = sum(run_ranks(p, work, 10)) / steps
    counts = 2 * (p - 1) * 3 * 8
    wanted = p * (zero.traffic(N - rest, p, stage, itemsize=8)
                  + zero.traffic(rest, p, min(stage, 2), itemsize=8))
    assert sent == pytest.approx(wanted + counts)


def test_between_steps_a_third_stage_rank_knows_only_its_chunk():
    def work(comm):
        model = make()
        names = model.named_parameters()
        z = Zero(comm, model, loss_of(model), 3)
        assert all(np.isnan(t.data).all() for t in names.values())
        assert all(type(b) is Gathered for b in model.blocks)
        value, _ = z(next(shards(batches(), comm)))
        assert np.isnan(names["blocks.0.think.inner.up.w"].data).all()
        assert np.isfinite(names["embed.table"].data).all()
        value.backward()
        assert all(np.isnan(t.data).all() and t.grad is None for t in names.values())
        z.gather()
        z.gather()
        whole = make().state_dict()
        assert all((names[n].data == whole[n]).all() for n in names)
        return sum(s.data.size for s in z.parameters.values())
    out = run_ranks(3, work, 10)
    assert sum(out) == make().count_parameters() and max(out) - min(out) < 20


def test_the_second_stage_drops_gradients_while_it_goes_backward():
    seen = {}
    for stage in (1, 2):
        def work(comm):
            model, largest = make(), [0]
            names = model.named_parameters()
            inner = loss_of(model)
            z = Zero(comm, model, inner, stage)  # noqa: B023
            for unit in z.units.values():
                def reduce(unit=unit, do=unit.reduce):
                    largest[0] = max(largest[0], sum(t.grad.size for t in names.values()
                                                     if t.grad is not None))
                    do()
                unit.reduce = reduce
            z(next(shards(batches(), comm)))[0].backward()
            return largest[0]
        seen[stage] = max(run_ranks(2, work, 10))
    assert seen[1] == make().count_parameters() and seen[2] < 0.5 * seen[1]


def test_decay_reaches_the_same_parameters_as_in_one_process():
    strong = {"decay": 0.5}
    model = make()
    parameters = model.named_parameters()
    fit(parameters, loss_of(model), batches(), AdamW(parameters, **strong), rate, steps=3, clip=0.3)
    for stage in (0, 2, 3):
        out = run_ranks(2, lambda comm: zero_ranks(
            comm, stage, 3,  # noqa: B023
            optimizer=lambda z: AdamW(z.parameters, decays=z.decays, **strong)), 10)
        assert apart(out[1][0], model.state_dict()) < 1e-12
    z = Zero(LocalComm(World(1), 0), make(), None, 1, decays=lambda name, p: name == "embed.table")
    assert {n: z.decays(n, None) for n in z.parameters}["rest.decayed"]
    assert z.parameters["rest.decayed"].data.size == 13 * 8


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_accumulated_batches_equal_one_process(stage):
    model = make()
    parameters = model.named_parameters()
    run = fit(parameters, loss_of(model), batches(), SGD(parameters), rate, steps=3, clip=None,
              accumulate=2)
    out = run_ranks(2, lambda comm: zero_ranks(comm, stage, 3, clip=None, accumulate=2,
                                               optimizer=lambda z: SGD(z.parameters)), 10)
    for state, losses, _ in out:
        assert apart(state, model.state_dict()) < 1e-12 and losses == pytest.approx(run.losses)


def test_other_stages_are_refused():
    for stage in (-1, 4):
        with pytest.raises(ValueError, match=f"stages 0, 1, 2 and 3, not {stage}"):
            Zero(LocalComm(World(1), 0), make(), None, stage)
    assert Zero(LocalComm(World(1), 0), make(), None, 1).comm.size == 1


# groups


def test_groups_talk_among_themselves():
    def work(comm):
        tensor, data = grid(comm, 2)
        assert (tensor.ranks, data.ranks) == ([[0, 1], [2, 3], [4, 5]][comm.rank // 2],
                                              [comm.rank % 2, comm.rank % 2 + 2, comm.rank % 2 + 4])
        assert (tensor.rank, data.rank) == (comm.rank % 2, comm.rank // 2)
        assert (tensor.size, tensor.here, data.size, data.patience) == (2, 2, 3, 10)
        tensor.barrier()
        data.barrier()
        row = np.array([10.0 ** comm.rank])
        return (ring_allreduce(tensor, row.copy()).item(), ring_allreduce(data, row.copy()).item())
    out = run_ranks(6, work, 10)
    assert [t for t, _ in out] == [11, 11, 1100, 1100, 110_000, 110_000]
    assert [d for _, d in out] == [10101, 101010] * 3
    comm = LocalComm(World(6), 2)
    for ranks in ([0, 1], [2, 2, 3]):
        with pytest.raises(ValueError, match=r"rank 2 cannot join the group \["):
            Group(comm, ranks)
    for n in (0, 4):
        with pytest.raises(ValueError, match=f"6 ranks cannot form groups of {n}"):
            grid(comm, n)
    assert Group(comm, [4, 2]).rank == 1

    def late(comm):
        if comm.rank:
            Group(comm, [0, 1]).barrier()
    with pytest.raises(RankLost):
        run_ranks(2, late, 0.1)


def test_clipping_sees_the_norm_of_all_ranks():
    def work(comm, g, limit=10.0, mine=lambda name: True):
        p = {"a": parameter(np.ones(2)), "unreached": parameter(np.zeros(1))}

        def loss(batch):
            return (p["a"] * np.array(g[comm.rank])).sum(), 1
        clipped = Clipped(comm, loss, p, limit, mine)
        value, count = clipped(None)
        assert count == 1 and (value.data == sum(g[comm.rank]) or not np.isfinite(g).all())
        value.backward()
        return clipped.norm, p["a"].grad.tolist()
    both = [[3.0, 0.0], [0.0, 4.0]]
    assert run_ranks(2, lambda c: work(c, both), 5) == [(5, [3, 0]), (5, [0, 4])]
    for limit in (5.0, 7.0):
        assert run_ranks(2, lambda c: work(c, both, limit), 5) == [  # noqa: B023
            (5, [3, 0]), (5, [0, 4])]
    out = run_ranks(2, lambda c: work(c, both, 1.0), 5)
    assert [norm for norm, _ in out] == [5, 5]
    assert np.allclose([g for _, g in out], [[0.6, 0], [0, 0.8]])
    same = [[3.0, 4.0]] * 2
    out = run_ranks(2, lambda c: work(c, same, 1.0, lambda name: c.rank == 0), 5)
    assert np.allclose([g for _, g in out], [[0.6, 0.8]] * 2)
    for bad in (math.nan, math.inf):
        bad_row = [[bad, 0.0], [0.0, 4.0]]
        out = run_ranks(2, lambda c: work(c, bad_row), 5)  # noqa: B023
        assert np.isnan([g for _, g in out]).all()            # all ranks skip, or none does
    assert run_ranks(1, lambda c: work(c, [[0.0, 0.0]]), 5) == [(0, [0, 0])]
    for limit in (0, -1, math.nan):
        with pytest.raises(ValueError, match=f"must be positive, not {limit}"):
            Clipped(None, None, {}, limit)
    p = {"a": parameter(np.zeros(1))}
    clipped = Clipped(LocalComm(World(1), 0), lambda b: (p["a"].sum(), 1), p, 1.0)
    with pytest.raises(ValueError, match="use accumulate=1"):
        fit(p, clipped, iter([0, 0]), SGD(p), rate, steps=1, accumulate=2)


def test_microbatches_kept_ahead_hide_the_latency():
    link, eager = Link(0.25, math.inf), functools.partial(one_forward_one_backward, ahead=2)
    for m in (8, 16):
        usual = clocks(4, 2 * m, one_forward_one_backward, link=link)[0] - clocks(
            4, m, one_forward_one_backward, link=link)[0]
        assert usual == m * (3 + 2 * 0.25 * 3 / 4)             # 2α(p−1)/p for each microbatch
        assert clocks(4, 2 * m, eager, link=link)[0] - clocks(4, m, eager, link=link)[0] == 3 * m
    end, most = clocks(4, 8, eager)
    assert end == 11 * 3 and most == [7, 5, 3, 1]


def test_the_headlines_of_the_day():
    result = measure(fast=True, seed=0)
    assert {row[0] for row in result.ways} == set(WAYS) - {"tensor × data"}
    for way, _p, wide, narrow, sent, formula, _messages in result.ways:
        assert wide < 1e-12 and narrow < 1e-6, way
        assert sent == pytest.approx(formula), way
    for _p, _m, share, *orders in result.bubbles:
        assert [waits for waits, _ in orders] == pytest.approx([share, share])
    (waits, kept), (waits2, fewer) = result.model_bubbles
    assert waits == pytest.approx(bubble(4, 8)) and waits2 == pytest.approx(bubble(4, 8))
    assert [k for k, _ in kept] == [8] * 4 and [k for k, _ in fewer] == [4, 3, 2, 1]
    for _stage, found, predicted, *_ in result.memory:
        assert 0 < found - result.objects - predicted < 60e3
    sent = {row[0]: row[4] for row in result.ways}
    assert sent["tensor"] / sent["data (ZeRO 0)"] == pytest.approx(result.tokens / 3 / result.C,
                                                                   rel=0.1)
