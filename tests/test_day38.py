"""Day 38: a twin computes what its reference does, and takes its place only where asked to."""

import contextlib
import ctypes
import functools
import importlib
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from llm.functions.causal import causal_attention_rows
from llm.functions.heads import merge_heads, split_heads
from llm.grad import ops, tensor, walk
from llm.grad.check import check_pair, check_twin
from llm.grad.lowering import lower
from llm.grad.tensor import Tensor
from llm.kernels import adamw as adamw_kernel
from llm.kernels import attention as attention_kernel
from llm.kernels import dense as dense_kernels
from llm.kernels import elementwise, half, half_tiles
from llm.kernels import embedding as embedding_kernel
from llm.kernels import loss as loss_kernel
from llm.kernels import norm as norm_kernel
from llm.kernels.cpu import features
from llm.kernels.elementwise import exp32
from llm.kernels.threads import cores
from llm.layers import attention, norm, residual
from llm.layers.module import parameter
from llm.layers.positions import ALiBi
from llm.layers.rotary import Rotary
from llm.models.gpt import GPT, GPTConfig, head, make_block
from llm.tensors.roofline import Blas
from llm.train import adam, clip, fast_half
from llm.train.adam import AdamW
from llm.train.fast import fast, twins
from llm.train.halves import BF16, rounded
from llm.train.loop import fit
from llm.train.pace import Pace, counts_up_to
from llm.train.schedule import Constant

rng = np.random.default_rng(38)


def normal(*shape):
    return rng.standard_normal(shape)


def ids(high, *shape):
    return rng.integers(0, high, shape)


CASES = [                                    # primitive, arrays, options
    (ops.linear, (normal(5, 3), normal(3, 4), normal(4)), {}),
    (ops.linear, (normal(2, 70, 48), normal(48, 33), normal(33)), {}),
    (ops.linear, (normal(2, 3, 8), normal(8, 6), None), {}),
    (ops.gelu, (normal(3),), {}),
    (ops.gelu, (3 * normal(2, 65, 130),), {}),
    (ops.embedding, (normal(7, 3), ids(7, 5)), {}),
    (ops.embedding, (normal(50, 19), ids(50, 4, 33)), {}),
    (ops.cross_entropy, (normal(4, 5), np.array([0, 4, -100, 2])), {}),
    (ops.cross_entropy, (5 * normal(3, 40, 101), ids(101, 3, 40)), {}),
    (ops.cross_entropy, (normal(2, 5), np.array([-100, -100])), {}),
    (ops.cross_entropy, (300 * normal(4, 9), ids(9, 4)), {}),          # e^300 is no float32
    (tensor.add, (normal(3, 4), normal(3, 4)), {}),
    (tensor.add, (normal(2, 300, 240), normal(2, 300, 240)), {}),
    (tensor.add, (normal(2, 300, 240), normal(300, 240)), {}),
    (norm.layernorm, (normal(1, 4), normal(4), normal(4)), {}),
    (norm.layernorm, (normal(3, 50, 37) + 5, normal(37), normal(37)), {"eps": 1e-3}),
    (attention.multi_head, (normal(1, 1, 6),), {"H": 2, "rule": attention.heads.NO_RULE}),
    (attention.multi_head, (normal(2, 7, 30),), {"H": 2, "rule": attention.heads.NO_RULE}),
    (attention.multi_head, (normal(2, 67, 72),), {"H": 3, "rule": attention.heads.NO_RULE}),
    (attention.multi_head, (normal(2, 9, 24),), {"H": 2, "rule": ALiBi(2)}),
    (attention.multi_head, (normal(2, 41, 120),), {"H": 1, "rule": Rotary(40, 50)}),
    (attention.multi_head, (normal(2, 9, 24),), {"H": 2, "rule": Rotary(4, 9, interleaved=True)}),
    (residual.dropout, (normal(6, 40), rng.random((6, 40)) < 0.7), {"rate": 0.3}),
]


def test_exp_by_hand():
    """e¹: n = 1, r = 1 − ln 2 = 0.306853, eʳ = 1.359141, and twice that is 2.718282."""
    n = math.floor(1 / math.log(2) + 0.5)
    r = 1 - n * math.log(2)
    series = sum(r**k / math.factorial(k) for k in range(8))
    assert (n, round(r, 6), round(series, 6), round(2 * series, 6)) == (1, .306853, 1.359141,
                                                                      2.718282)
    assert exp32(np.float32(1)) == pytest.approx(2 * series, rel=1.5e-7)       # one rounding more
    assert exp32(np.float32(0)) == 1


def test_exp_is_exact_to_the_last_bits_wherever_it_is_a_float32():
    x = np.linspace(-86, 87, 10_001, dtype=np.float32)
    mine = np.array([exp32(a) for a in x], np.float64)
    assert np.abs(mine / np.exp(x.astype(np.float64)) - 1).max() < 3e-7
    assert 0 < exp32(np.float32(-1e9)) < 2e-38 and np.isfinite(exp32(np.float32(1e9)))


def named(case):
    primitive, arrays, _ = case
    return f"{primitive.__name__}-{'x'.join(map(str, arrays[0].shape))}"


@pytest.mark.parametrize("case", CASES, ids=named)
def test_twin_equals_reference(case):
    primitive, arrays, options = case
    check_twin(primitive.pair, twins()[primitive], arrays, np.random.default_rng(0),
               rtol=2e-4, atol=2e-5, **options)


def test_every_twin_has_a_case():
    pairs = {reference for reference in twins() if hasattr(reference, "pair")}
    assert {primitive for primitive, *_ in CASES} == pairs


TWINS = [(dense_kernels, "linear"), (dense_kernels, "gelu"), (embedding_kernel, "embedding"),
         (loss_kernel, "cross_entropy"), (elementwise, "add"), (norm_kernel, "layernorm"),
         (attention_kernel, "multi_head"), (elementwise, "dropout")]
PLAIN = [(adamw_kernel, "adamw_update"), (adamw_kernel, "squared_norm"), (adamw_kernel, "scale"),
         (elementwise, "add_into")]


def test_a_training_step_under_fast_runs_every_twin_forward_and_backward(monkeypatch):
    """A table that lowers nothing, or twins that always step aside, would pass all else here."""
    runs = dict.fromkeys([*(name for _, name in TWINS + PLAIN), *(f"{n}_vjp" for _, n in TWINS)], 0)

    def counted(name, twin):
        def run(*args, **options):
            result = twin(*args, **options)
            runs[name] += result is not NotImplemented
            return result
        return run

    for module, name in [*TWINS, *PLAIN, *((m, f"{n}_vjp") for m, n in TWINS)]:
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    assert len(twins()) == len(TWINS) + len(PLAIN)
    draw = np.random.default_rng(1)
    model = GPT(GPTConfig(V=2048, T=64, C=64, L=1, H=2, dropout=0.1), draw)
    optimizer = AdamW(model.named_parameters())

    def step():
        batches = iter([draw.integers(0, 2048, (32, 64)) for _ in range(2)])
        fit(model.named_parameters(), lambda x: (model.loss(x, x, draw), x.size), batches,
            optimizer, Constant(1e-3), steps=1, accumulate=2, clip=1e-3)

    with fast():
        step()
    assert not [name for name, times in runs.items() if times == 0]
    before = dict(runs)
    step()                                              # and outside none of them
    assert runs == before


@pytest.mark.parametrize("rotary", [False, True])
def test_dropout_on_attention_weights_is_the_same_inside_fast(rotary):
    """It has no twin: inside `fast()` the reference runs, and everything around it is fast."""
    config = GPTConfig(V=50, T=16, C=24, L=2, H=3, dropout=0.1, rotary=rotary)
    block = functools.partial(make_block, attention_dropout=0.3, std=0.2)
    ids = np.random.default_rng(3).integers(0, 50, (4, 16))
    outcomes = []
    for context in (fast(), contextlib.nullcontext()):
        model = GPT(config, np.random.default_rng(0), block=block)
        with context:
            loss = model.loss(ids, ids, np.random.default_rng(1))
            loss.backward()
        outcomes.append([loss.data, *(p.grad for p in model.named_parameters().values())])
    for quick, plain in zip(*outcomes):
        np.testing.assert_allclose(quick, plain, rtol=1e-4, atol=1e-6)


def test_attention_twin_does_not_see_the_future():
    qkv = normal(1, 40, 3 * 16).astype(np.float32)
    f, _ = twins()[attention.multi_head]
    q, k, v = (split_heads(part, 2) for part in np.split(qkv.astype(np.float64), 3, axis=-1))
    expected = merge_heads(causal_attention_rows(q, k, v))
    np.testing.assert_allclose(f(qkv, H=2, rule=attention.heads.NO_RULE)[0], expected, atol=1e-5)
    changed = qkv.copy()
    changed[:, 23:] = 1e6
    out = f(changed, H=2, rule=attention.heads.NO_RULE)[0]
    assert np.array_equal(out[:, :23], f(qkv, H=2, rule=attention.heads.NO_RULE)[0][:, :23])


@pytest.mark.parametrize("width", [7, 13, 16, 31])           # 16: no number left for a short loop
def test_the_gradient_of_gelu_is_exact_far_from_zero(width):
    x = np.linspace(-60, 60, 5 * width).reshape(5, width)
    scale = np.sqrt(2 / np.pi)
    t = np.tanh(scale * (x + 0.044715 * x**3))
    expected = 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * scale * (1 + 0.134145 * x**2)      # d/dx
    forward, back = twins()[ops.gelu]
    _, saved = forward(x.astype(np.float32))
    got, = back(np.ones(x.shape, np.float32), *saved)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=5e-7)


def test_float64_steps_aside_so_gradient_checks_pass_inside_fast():
    pair = twins()[ops.gelu]
    check = np.random.default_rng(1)
    x = normal(3, 5)
    assert pair[0](x)[0].dtype == np.float64
    with pytest.raises(AssertionError):          # a wrong pair is still found
        check_pair(pair[0], lambda dout, *saved: (2 * pair[1](dout, *saved)[0],), x, rng=check)


@pytest.mark.parametrize("n", [1, 5, 40_000])
def test_adamw_twin_equals_reference(n):
    arrays = [normal(n).astype(np.float32) for _ in range(4)]
    arrays[3] = np.abs(arrays[3])
    mine, theirs = [a.copy() for a in arrays], [a.copy() for a in arrays]
    settings = (3, 1e-2, 0.9, 0.99, 1e-8, 0.1)
    twins()[adam.adamw_update](*mine, *settings)
    adam.adamw_update.__wrapped__(*theirs, *settings)
    for a, b in zip(mine, theirs):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (200, 300)])
def test_norm_scale_and_accumulation_equal_their_references(shape):
    g = normal(*shape).astype(np.float32)
    assert math.isclose(twins()[clip.squared_norm](g), float((g.astype(float)**2).sum()),
                        rel_tol=1e-5)
    scaled = g.copy()
    twins()[clip.scale](scaled, 0.5)
    assert np.array_equal(scaled, g * np.float32(0.5))
    total = g.copy()
    twins()[walk.add_into](total, g)
    assert np.array_equal(total, g + g)


def test_nan_gradient_is_still_seen():
    g = np.ones(10, np.float32)
    g[3] = np.nan
    assert math.isnan(twins()[clip.squared_norm](g))


def test_bad_shapes_raise_the_references_errors():
    def ones(*shape):
        return Tensor(np.ones(shape, np.float32))

    with fast():
        with pytest.raises(ValueError, match=r"\(2, 3\).*\(4, 5\)"):
            ops.linear(ones(2, 3), ones(4, 5))
        with pytest.raises(ValueError, match=r"\(4,\).*\(3, 5\)"):
            ops.linear(ones(2, 3), ones(3, 5), ones(4))
        with pytest.raises(ValueError, match="9"):
            ops.embedding(ones(4, 5), np.array([1, 9]))
        with pytest.raises(ValueError, match=r"\(5,\)"):
            norm.layernorm(ones(3, 4), ones(5), ones(4))
        with pytest.raises(ValueError, match=r"\(3, 4\).*\(3, 3\)"):
            residual.dropout(ones(3, 4), np.ones((3, 3), bool), rate=0.5)
        with pytest.raises(ValueError, match="broadcast"):
            adam.adamw_update(*(np.ones(n, np.float32) for n in (4, 3, 4, 4)),
                              1, 0.1, 0.9, 0.99, 1e-8, 0)


def test_ids_outside_the_table_are_refused_before_a_kernel_reads_there():
    table = Tensor(np.ones((4, 5), np.float32), requires_grad=True)
    logits = Tensor(np.ones((3, 5), np.float32))
    with fast():
        for bad in (-1, 4, -5):
            with pytest.raises(ValueError, match=str(bad)):
                ops.embedding(table, np.array([1, bad]))
        for bad in (-1, 5, -101):
            with pytest.raises(ValueError, match="below 5"):
                ops.cross_entropy(logits, np.array([0, bad, 4]))
        assert ops.embedding(table, np.array([0, 3])).data.shape == (2, 5)
        assert np.isfinite(float(ops.cross_entropy(logits, np.array([0, -100, 4])).data))


def test_shapes_that_do_not_fit_raise_in_large_arrays_too():
    """Large ones reach the kernel; sizes may be equal where shapes are not."""
    with fast():
        with pytest.raises(ValueError, match=r"\(512,256\) \(256,512\)"):
            Tensor(np.ones((512, 256), np.float32)) + Tensor(np.ones((256, 512), np.float32))
        with pytest.raises(ValueError, match=r"3"):
            attention.multi_head(Tensor(np.ones((2, 9, 24), np.float32)), H=3,
                                 rule=Rotary(2, 9))
        with pytest.raises(ValueError, match=r"5"):
            attention.multi_head(Tensor(np.ones((2, 9, 24), np.float32)), H=5,
                                 rule=attention.heads.NO_RULE)


def test_a_transposed_parameter_is_moved_and_not_a_copy_of_it():
    """A reshape of what is not contiguous copies: a kernel would then update the copy."""
    moved = []
    for context in (fast(), contextlib.nullcontext()):
        w = parameter(np.arange(6, dtype=np.float32).reshape(2, 3).T)
        assert not w.data.flags.c_contiguous
        w.grad = np.ones((3, 2), np.float32)
        with context:
            AdamW({"w": w}).step(0.1)
            clip.clip_gradients([w.grad], 1.0)
        moved.append((w.data.copy(), w.grad.copy()))
    for mine, theirs in zip(*moved):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    assert not np.array_equal(moved[0][0], np.arange(6).reshape(2, 3).T)
    g = np.ones((3, 2), np.float32).T
    twins()[clip.scale](g, 0.5)
    assert (g == 0.5).all()


def test_single_numbers_and_empty_arrays_go_to_the_reference():
    with fast():
        assert float(ops.gelu(Tensor(np.array(1, np.float32))).data) == pytest.approx(0.841192)
        assert ops.gelu(Tensor(np.ones((0, 3), np.float32))).data.shape == (0, 3)


def test_scope_ends_with_the_block_and_on_errors():
    def fake(*arrays):
        raise RuntimeError("fake")

    x = Tensor(np.ones(3, np.float32))
    with pytest.raises(RuntimeError, match="fake"), lower({ops.gelu: (fake, fake)}):
        ops.gelu(x)
    assert ops.gelu(x).data[0] == pytest.approx(0.841192, abs=1e-5)
    with pytest.raises(TypeError, match="lowerable"), lower({np.exp: fake}):
        pass


def train(context):
    """The losses of ten steps of a small GPT, with or without kernels."""
    return trained(context)[0]


def trained(context, C=24):
    """These losses, and all weights after them."""
    model = GPT(GPTConfig(V=19, T=33, C=C, L=2, H=3, dropout=0.1), np.random.default_rng(0))
    source = np.random.default_rng(1)
    drop = np.random.default_rng(2)

    def batches():
        while True:
            rows = source.integers(0, 19, (4, 34))
            yield rows[:, :-1], rows[:, 1:]

    def loss(batch):
        return model.loss(*batch, drop), batch[1].size

    parameters = model.named_parameters()
    with context:
        run = fit(parameters, loss, batches(), AdamW(parameters), Constant(1e-2), steps=10)
    return run.losses, np.concatenate([p.data.ravel() for p in parameters.values()])


def test_training_with_kernels_follows_training_without():
    np.testing.assert_allclose(train(fast()), train(contextlib.nullcontext()), atol=1e-3)


def test_the_run_times_every_primitive_on_both_sides_and_a_step():
    run = importlib.import_module("days.day38.run")
    result = run.measure(fast=True, seed=0)
    assert len(result.names) == len(result.numpy_ms) == len(result.kernel_ms) == 8
    times = [*result.numpy_ms, *result.kernel_ms, result.step_numpy_ms, result.step_kernel_ms]
    assert min(times) > 0 and result.sgemm_gflops > 0
    assert run.title(result).endswith("ms on kernels")


def test_steps_that_are_timed_keep_their_number_of_threads(monkeypatch):
    from days.day38 import sides
    from llm.train import pace
    monkeypatch.setattr(pace.Pace, "threads", lambda self: pytest.fail("chosen by the clock"))
    for side in ("numpy", "ours", "bf16"):
        step = sides.our_steps(("tiny", 2, 8, 1, 2, 16, 11, 1, 1), side)
        assert 2 < step() < 3


def test_the_parts_of_a_step_sum_to_the_step():
    from days.day38.run import with_rest
    from days.day38.timing import profile
    found = profile(2, 16, 2, 2, 32, 65, seed=0, steps=3, half=False)
    parts = with_rest(found)
    assert min(found.values()) > 0 and parts["the tape"] > 0
    assert sum(parts.values()) - found["step"] == pytest.approx(found["step"])
    assert with_rest({"a": 2.0, "b": 3.0, "step": 9.0})["the tape"] == 4


def test_the_figures_title_names_each_change_and_what_a_step_takes_after_it():
    run = importlib.import_module("days.day38.run")
    steps = [100, 90, 160, 55, 44]         # NumPy, memory kept, spinning, sleeping, bf16
    found = run.title(run.Result("", [], [], [], *steps, [], 1, 0, 0, [], [], []))
    assert "100 ms on NumPy, 90 if freed memory is kept, 55 on kernels, 44 with bfloat16" in found
    assert found.endswith("spin, the same kernels take 160")


def test_a_step_of_known_pace_by_hand():
    """One thread takes 20 ms, two take 12: a piece to warm up and three that count, each way, and
    two are kept. Then two take 60, five times the usual: a mean of eight tells, one is tried."""
    pace, seen = Pace([1, 2]), []

    def pieces(n, seconds):
        for _ in range(n):
            seen.append(pace.threads())
            pace.note(seconds[seen[-1]], seconds[seen[-1]])

    pieces(7, {1: 0.020, 2: 0.012})
    assert seen == [1] * 4 + [2] * 3 and pace.trial == 1
    assert pace.limit() == 1.5 * pace.usual == pytest.approx(0.03)
    pieces(2, {1: 0.020, 2: 0.012})
    assert pace.trial is None and pace.at == 1 and pace.threads() == 2
    assert pace.limit() == pytest.approx(0.024)
    del seen[:]
    pieces(30, {1: 0.020, 2: 0.060})
    assert seen == [2] * 8 + [1] * 22 and pace.at == 0
    assert pace.limit() == math.inf and pace.usual == pytest.approx(0.02)


def imitated(load, threads, limit, source):
    """(seconds, of the processor, gave up) of a piece on two cores beside `load` other programs.

    A piece has 25 meetings. With programs beside it, a meeting of two threads may have to wait
    until the system lets the second run, up to 40 ms; over its limit the piece goes on alone.
    """
    alone = 0.045 * max(1, (load + 1) / 2) * source.uniform(0.95, 1.05)
    if threads == 1:
        return alone, 0.045, False
    spent = 0.0
    for meeting in range(25):
        spent += 0.0012 + (source.random() < 0.5 * load) * source.uniform(0, 0.04)
        if spent > limit:
            return spent + alone * (1 - meeting / 25), 0.045, True
    return spent, 0.03, False


def pieces_done(loads, seconds, fixed=None):
    """How many pieces of work get done while the loads follow each other, some seconds each."""
    pace, source, now, done = Pace([1, 2]), np.random.default_rng(3), 0.0, []
    for load in loads:
        end, n = now + seconds, 0
        while now < end:
            threads = fixed or pace.threads()
            limit = math.inf if fixed else pace.limit()
            took, got, gave_up = imitated(load, threads, limit, source)
            now, n = now + took, n + 1
            if not fixed:
                pace.note(took, got, gave_up)
        done.append(n)
    return np.array(done)


@pytest.mark.parametrize("loads", [[0], [1], [2], [4], [8], [0, 4, 0], [4, 0, 4], [0, 1, 0, 2]])
def test_under_any_load_the_pace_is_near_the_better_of_one_and_two_threads(loads):
    one, two, chosen = (pieces_done(loads, 30.0, fixed) for fixed in (1, 2, None))
    assert (chosen > 0.8 * np.maximum(one, two)).all(), (one, two, chosen)
    assert (chosen > 0.9 * one).all(), (one, chosen)
    if 4 in loads:
        i = loads.index(4)
        assert one[i] > 3 * two[i]                  # what it would cost not to choose


@pytest.mark.parametrize("two", [0.011, 0.0149, 0.0199, 0.2])
def test_failed_tries_cost_a_twentieth_at_most(two):
    pace, lost = Pace([1, 2]), 0.0
    for _ in range(20_000):
        threads = pace.threads()
        took = {1: 0.010, 2: two}[threads]
        gave_up = took > pace.limit()
        took = min(took, pace.limit() + 0.010)
        lost += took - 0.010
        pace.note(took, took, gave_up)
    assert 0 < lost < pace.worked / 20 and pace.at == 0


def test_a_trial_ends_with_the_first_piece_that_gives_up():
    pace = Pace([1, 2])
    while pace.trial is None:
        pace.note(0.1, 0.1)
    pace.note(0.3, 0.1, gave_up=True)               # though 3 pieces would have been a verdict
    assert pace.trial is None and pace.threads() == 1
    assert pace.next_try == pytest.approx(pace.worked + 25 * 0.2)


@pytest.mark.parametrize("two,threads", [(0.094, 2), (0.097, 1)])
def test_a_second_thread_must_save_a_twentieth(two, threads):
    pace = Pace([1, 2])
    for _ in range(9):
        pace.note(0.1 if pace.threads() == 1 else two, 0.1)
    assert pace.trial is None and pace.threads() == threads


def test_where_one_thread_has_no_core_to_itself_a_second_is_not_tried():
    pace, tried = Pace([1, 2]), []
    for got, n in ((0.010, 700), (0.040, 20)):      # of 40 ms; then the other program has left
        for _ in range(n):
            tried.append(pace.threads())
            pace.note(0.04, got)
    assert set(tried[:700]) == {1} and 2 in tried[700:720]
    pace, tried = Pace([1, 2]), []
    for _ in range(2000):                           # 80 seconds
        tried.append(pace.threads())
        pace.note(0.04 if tried[-1] == 1 else 0.06, 0.010)
    assert 1 < tried.count(2) < 20 and 2 not in tried[:700]


def test_when_the_work_is_suddenly_much_faster_more_threads_are_tried_at_once():
    pace = Pace([1, 2])
    for _ in range(40):                             # two threads are tried, and cost a second
        two = pace.threads() == 2
        pace.note(1.0 if two else 0.1, 0.1, two)
    assert pace.next_try > pace.worked + 10
    pieces = 0
    while pace.threads() == 1 and pieces < 40:
        pace.note(0.04, 0.04)
        pieces += 1
    assert pieces < 20


def test_more_cores_are_climbed_step_by_step():
    assert [counts_up_to(n) for n in (1, 2, 3, 4, 6)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4],
                                                          [1, 2, 4, 6]]
    for best in (1, 2, 4, 6):                       # so many cores are free
        pace = Pace(counts_up_to(6))
        for _ in range(200):
            n = pace.threads()
            took = 0.1 / n if n <= best else 0.1 / best * 1.5
            pace.note(took, took, took > pace.limit())
        assert pace.counts[pace.at] == best


@pytest.mark.parametrize("files,cpus,expected", [
    ({"self": "0::/a/b\n", "a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n"}, 8, 2),
    ({"self": "0::/a/b\n", "a/b/cpu.max": "100000 100000\n"}, 8, 1),
    ({"self": "0::/\n", "cpu.max": "50000 100000\n"}, 8, 1),
    ({"self": "0::/\n", "cpu.max": "50000 0\n"}, 3, 3),
    ({"self": "0::/host/path\n", "cpu.max": "300000 100000\n"}, 8, 3),      # the host's path
    ({"self": "0::/x\n", "unified/x/cpu.max": "200000 100000\n"}, 8, 2),
    ({"self": "3:cpuset:/x\n2:cpu,cpuacct:/x\n", "cpu,cpuacct/x/cpu.cfs_quota_us": "100000\n",
      "cpu,cpuacct/x/cpu.cfs_period_us": "50000\n"}, 8, 2),
    ({"self": "2:cpuacct,cpu:/x\n", "cpu/cpu.cfs_quota_us": "250000\n",
      "cpu/cpu.cfs_period_us": "100000\n"}, 8, 3),
    ({"self": "2:cpu:/x\n", "cpu/x/cpu.cfs_quota_us": "-1\n",
      "cpu/x/cpu.cfs_period_us": "100000\n"}, 4, 4),
    ({"self": "3:cpuset:/x\n", "cpuset/x/cpu.cfs_quota_us": "1\n",
      "cpuset/x/cpu.cfs_period_us": "100000\n"}, 4, 4),
    ({"self": "0::/a:b\n", "a:b/cpu.max": "200000 100000"}, 4, 2),
    ({}, 5, 5),
])
def test_cores_are_counted_by_affinity_and_quota(files, cpus, expected, tmp_path, monkeypatch):
    own = {0: set(range(cpus))}                     # 0 is this process; another has other cores
    monkeypatch.setattr("os.sched_getaffinity", own.__getitem__, raising=False)
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cores(tmp_path / "self", tmp_path) == expected


def test_where_affinity_is_unknown_the_machines_cores_count(monkeypatch, tmp_path):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert cores(tmp_path / "none", tmp_path) == 7
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert cores(tmp_path / "none", tmp_path) == 1
    assert cores() == 1


def python(script, **variables):
    """Run a script with two threads in both pools, and return what it printed."""
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root), "NUMBA_NUM_THREADS": "2",
                   "OPENBLAS_NUM_THREADS": "2", **variables}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment,
                          cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


NUMBERS = """
    import numba, numpy as np
    import llm.kernels.threads as threads
    import llm.train.pace as pace
    from llm.grad import ops
    from llm.grad.tensor import Tensor
    from llm.train.fast import fast, twins
    threads.cores = pace.cores = lambda: 2
    small, large = (Tensor(np.ones(n, np.float32)) for n in (100, 1 << 18))
    blas = pace.library()
"""


def test_fast_leaves_the_number_of_threads_as_it_was_and_never_goes_above_it():
    seen = python(NUMBERS + """
    with fast():
        ops.gelu(small); print(numba.get_num_threads())        # one is enough for 100 numbers
        ops.gelu(large); print(numba.get_num_threads())
        ops.gelu(small)
    print(numba.get_num_threads(), blas.threads())
    numba.set_num_threads(1); blas.set_threads(1)              # the reader's own wish
    with fast():
        ops.gelu(large); print(numba.get_num_threads())
        with fast():
            pace.give(2); ops.gelu(large); print(numba.get_num_threads(), blas.threads())
    print(numba.get_num_threads(), blas.threads())
    numba.set_num_threads(2); blas.set_threads(2)
    try:
        with fast():
            pace.give(1); print(numba.get_num_threads(), blas.threads())
            with fast():
                ops.gelu(large); print(numba.get_num_threads())
            1 / 0
    except ZeroDivisionError:
        print(numba.get_num_threads(), blas.threads())
    twins()[ops.gelu][0](small.data)                           # outside of fast() nothing is set
    print(numba.get_num_threads())
    blas.set_threads(1)
    with fast():
        ops.gelu(large); print(numba.get_num_threads(), blas.threads())
    pace.cores = lambda: 1
    with fast():
        ops.gelu(large); print(numba.get_num_threads(), blas.threads())
    """)
    known = seen[3] != "0"                                     # NumPy with another BLAS: 0
    two, one = ("2", "1") if known else ("0", "0")
    assert seen == ["1", "2", "2", two, "1", "1", one, "1", one, "1", one, "1", "2", two, "2",
                    "2", one, "1", one]


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"),
                    reason="only glibc's malloc can be told")
def test_freed_memory_is_used_again_and_not_zeroed_anew():
    faults = python("""
    import resource, numpy as np
    from llm.kernels.threads import settle
    settle()
    for size in (1 << 20, 1 << 22, 1 << 24) * 2:               # 8, 32 and 128 MB, twice
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(size)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """)
    assert min(map(int, faults[:2])) > 10 * max(map(int, faults[3:]))


def test_a_piece_that_is_late_goes_on_with_one_thread_and_the_next_begins_with_fewer():
    seen = python(NUMBERS + """
    import time
    def work(seconds):
        ops.gelu(large); a = numba.get_num_threads()
        time.sleep(seconds)
        ops.gelu(large)
        return a, numba.get_num_threads()
    with fast():
        ops.gelu(large)                                        # compiled, or read
        p = pace.pace_of("k")
        p.at, p.usual, p.times = 1, 0.3, []
        print(*pace.paced("k", work, 0.0))
        print(*pace.paced("k", work, 0.7))
        print(*pace.paced("k", work, 0.0), p.at, p.next_try > p.worked)
        print(pace.paced("other", lambda a, b: a - b, 5, 3))
        for _ in range(3):
            pace.paced("asleep", time.sleep, 0.02)
        q = pace.pace_of("asleep")
        print(len(q.times), sum(q.times) > 0.04, q.got < 0.5 * sum(q.times))
    """)
    assert seen == ["2", "2", "2", "1", "1", "1", "0", "True", "2", "2", "True", "True"]


def blas_has_one_result(tokens, C, V):
    """Do the products of a step have the same bits on one and on two threads of the BLAS?"""
    blas, source = Blas(), np.random.default_rng(0)
    before = blas.threads()
    try:
        for cin, cout in ((C, 3 * C), (C, C), (C, 4 * C), (4 * C, C), (C, V)):
            x, w, dout = (source.standard_normal(shape, dtype=np.float32)
                          for shape in ((tokens, cin), (cin, cout), (tokens, cout)))
            for a, b in ((x, w), (dout, w.T), (x.T, dout)):
                blas.set_threads(1)
                alone = a @ b
                blas.set_threads(2)
                if not np.array_equal(alone, a @ b):
                    return False
        return True
    finally:
        if before:
            blas.set_threads(before)


def test_a_run_is_timed_step_by_step_and_our_kernels_compute_the_same_on_any_number_of_threads():
    """The BLAS may not: so the run is the same where its products are, or where it has one thread.

    Every kernel gets the threads of its step, however small its arrays are.
    """
    seen = python("""
    import numba, numpy as np
    import llm.kernels.threads as threads
    import llm.train.pace as pace
    from llm.tensors.roofline import Blas
    from llm.train.fast import fast
    from tests.test_day38 import blas_has_one_result, trained
    pace.cores, threads.WORTH, give, blas = lambda: 2, 0, pace.give, Blas()
    given, used = [], set()
    def turns(n):                                    # 2, 1, 2, … whatever the clock says
        given.append(2 - len(given) % 2)
        give(given[-1])
        used.add((numba.get_num_threads(), blas.threads()))
    def run(of_blas, giving):
        blas.set_threads(of_blas)
        pace.give = giving
        return trained(fast(), C=96)
    def same(a, b):
        return a[0] == b[0] and np.array_equal(a[1], b[1])
    alone = run(1, give)
    (kind, most), = pace._paces
    print(kind[0], most, pace._paces[kind, most].worked > 0)
    print(same(run(1, turns), alone), used in ({(1, 1), (2, 1)}, {(1, 0), (2, 0)}))
    used.clear()
    both = run(2, turns)
    print(same(both, alone) or not blas_has_one_result(132, 96, 19))
    print(np.allclose(both[0], alone[0], atol=1e-3), used in ({(1, 1), (2, 2)}, {(1, 0), (2, 0)}))
    """)
    assert seen == ["step", "2", *6 * ["True"]]


WRONG = {       # a call that the reference refuses, and which `fast()` must refuse as well
    "targets of another shape": lambda: ops.cross_entropy(
        Tensor(np.zeros((2, 3, 4), np.float32)), np.zeros((3, 2), np.int64)),
    "flat targets": lambda: ops.cross_entropy(
        Tensor(np.zeros((2, 3, 4), np.float32)), np.zeros(6, np.int64)),
    "targets that are floats": lambda: ops.cross_entropy(
        Tensor(np.zeros((2, 4), np.float32)), np.zeros(2)),
    "targets that are booleans": lambda: ops.cross_entropy(
        Tensor(np.zeros((2, 4), np.float32)), np.zeros(2, bool)),
    "a target below 0": lambda: ops.cross_entropy(
        Tensor(np.zeros((2, 4), np.float32)), np.array([0, -1])),
    "an id below 0": lambda: ops.embedding(
        Tensor(np.zeros((4, 3), np.float32)), np.array([0, -1])),
    "a table of one axis": lambda: ops.embedding(
        Tensor(np.zeros(4, np.float32)), np.array([0])),
    "a table of three axes": lambda: ops.embedding(
        Tensor(np.zeros((4, 3, 2), np.float32)), np.array([0])),
    "no heads": lambda: attention.multi_head(Tensor(np.zeros((1, 2, 12), np.float32)), H=0),
    "heads that do not divide": lambda: attention.multi_head(
        Tensor(np.zeros((1, 2, 12), np.float32)), H=3),
    "angles for smaller heads": lambda: attention.multi_head(
        Tensor(np.zeros((1, 2, 15), np.float32)), H=1, rule=Rotary(4, 8)),
    "sums of two shapes of one size": lambda: (
        Tensor(np.zeros((512, 256), np.float32)) + Tensor(np.zeros((256, 512), np.float32))),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG.keys())
def test_the_twins_refuse_what_their_references_refuse(call):
    with pytest.raises(ValueError) as reference:
        call()
    with fast(), pytest.raises(ValueError) as twin:
        call()
    assert str(twin.value) == str(reference.value)


def test_ids_that_are_overwritten_after_the_forward_do_no_harm():
    table = Tensor(np.ones((4, 3), np.float32), True)
    ids, targets = np.array([[1, 2]]), np.array([[0, 2]])
    with fast():
        loss = ops.cross_entropy(ops.embedding(table, ids), targets)
        ids[:], targets[:] = 10**9, 10**9           # once a write far outside the table
        loss.backward()
    expected = np.zeros((4, 3))
    expected[1], expected[2] = [-1 / 3, 1 / 6, 1 / 6], [1 / 6, 1 / 6, -1 / 3]
    np.testing.assert_allclose(table.grad, expected, atol=1e-6)


def test_ids_in_another_byte_order_work():
    table = Tensor(np.ones((4, 3), np.float32), True)
    with fast():
        ops.embedding(table, np.array([1, 1], ">i4")).sum().backward()
    np.testing.assert_array_equal(table.grad[:, 0], [0, 2, 0, 0])


def test_numbers_whose_squares_overflow_are_handled_as_by_the_references():
    x = Tensor(np.array([[1.8e19, -1.8e19], [1e30, -1e30], [2.0, -1.0]], np.float32), True)
    layer = norm.LayerNorm(2)
    with fast():
        normal, bent = layer(x), ops.gelu(x)
        np.testing.assert_allclose(normal.data[:2], [[1, -1], [1, -1]], rtol=1e-6)
        np.testing.assert_allclose(bent.data[:2], [[1.8e19, 0], [1e30, 0]], rtol=1e-6, atol=1e-27)
        bent.sum().backward()
    np.testing.assert_allclose(x.grad[:2], [[1, 0], [1, 0]], rtol=1e-6, atol=1e-26)


def test_one_huge_gradient_leaves_no_moment_infinite():
    p = Tensor(np.ones(4, np.float32), True)
    optimizer = AdamW({"p": p})
    with fast():
        for g in (1.0, 3e38, 1.0):
            p.grad = np.full(4, g, np.float32)
            optimizer.step(0.1)
    assert np.isfinite(p.data).all() and np.isfinite(optimizer.v["p"]).all()


def test_adamw_moves_a_parameter_that_is_a_transposed_view():
    w = np.ones((3, 2), np.float32)
    p = Tensor(w.T, True)
    p.grad = np.ones((2, 3), np.float32)
    with fast():
        AdamW({"p": p}, decay=0.0).step(0.1)
    np.testing.assert_allclose(w, 0.9, rtol=1e-5)


# Products of bfloat16 numbers

needs_bf16 = pytest.mark.skipif(not half.NATIVE, reason="this processor has no AVX512-BF16")
PATHS = [pytest.param(True, marks=needs_bf16), False]


def f32(*shape):
    return normal(*shape).astype(np.float32)


@pytest.mark.parametrize("native", PATHS)
def test_a_product_by_hand_rounds_its_operands_and_not_its_sum(native, monkeypatch):
    """1 + 2⁻⁸ lies between 1 and 1 + 2⁻⁷, and goes to 1, the even one; 1 + 3·2⁻⁸ goes to 1 + 2⁻⁶.

    The sum 1·3 + 1.015625·0.001 is no bfloat16 and stays.
    """
    monkeypatch.setattr(half, "NATIVE", native)
    a = np.float32([[1 + 2**-8, 1 + 3 * 2**-8]])
    b = np.float32([[3], [2**-10]])
    assert half.product(a, b)[0, 0] == np.float32(3 + (1 + 2**-6) * 2**-10)


def test_rounding_is_day_37s_for_every_kind_of_number():
    special = np.float32([0, -0.0, np.inf, -np.inf, 1e-45, -1e-40, 3.4e38,
                          1 + 2**-8, 1 + 3 * 2**-8])
    x = np.concatenate([special, f32(1000) * np.exp2(rng.integers(-120, 120, 1000))])
    x = x.astype(np.float32).reshape(1, -1)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(half.halved(x), rounded(x, BF16))
    bits = np.uint32([0x7FC00000, 0x7F800001, 0xFFFFFFFF]).view(np.float32)     # NaNs of all kinds
    assert np.isnan(half.halved(bits.reshape(1, -1))).all()


@pytest.mark.parametrize("native", PATHS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (12, 2, 32), (13, 3, 33), (5, 386, 70),
                                   (100, 385, 31), (600, 769, 40), (2, 30, 600), (200, 1, 1100)])
def test_a_product_is_that_of_the_rounded_numbers_in_every_layout(shape, native, monkeypatch):
    monkeypatch.setattr(half, "NATIVE", native)
    M, K, N = shape
    for a in (f32(M, K), f32(K, M).T):
        for b in (f32(K, N), f32(N, K).T):
            start = f32(N)
            exact = [rounded(np.ascontiguousarray(x), BF16).astype(float) for x in (a, b)]
            want, size = exact[0] @ exact[1], np.abs(exact[0]) @ np.abs(exact[1])
            assert (np.abs(half.product(a, b) - want) <= 2e-6 * size + 1e-30).all()
            assert (np.abs(half.product(a, b, start) - want - start)
                    <= 2e-6 * (size + np.abs(start))).all()


@needs_bf16
def test_a_tile_writes_nothing_outside_its_rows_and_columns():
    for M, N in ((1, 1), (12, 32), (13, 33), (11, 47), (25, 64)):
        around = np.full((M + 20) * N, 7, np.float32)
        c = around[10 * N:(10 + M) * N].reshape(M, N)
        a, b = f32(M, 6), f32(6, N)
        left = np.empty((1, 36, 3 + half.APART), np.uint32)
        half.packed_product(a.view(np.uint32), False, b.view(np.uint32), False, left,
                            half.aligned((-(-N // 32), 3, 32)), np.zeros(N, np.float32), c)
        assert (around[:10 * N] == 7).all() and (around[(10 + M) * N:] == 7).all()
        np.testing.assert_allclose(c, rounded(a, BF16) @ rounded(b, BF16), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("native", PATHS)
def test_infinity_and_nan_come_through_a_product(native, monkeypatch):
    monkeypatch.setattr(half, "NATIVE", native)
    a, b = np.ones((3, 4), np.float32), np.ones((4, 5), np.float32)
    a[1, 2], a[2, 0] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        y = half.product(a, b)
    assert (y[0] == 4).all() and np.isinf(y[1]).all() and np.isnan(y[2]).all()


@pytest.mark.parametrize("native", PATHS)
@pytest.mark.parametrize("primitive, arrays", [
    (ops.linear, (f32(2, 5, 7), f32(7, 9), f32(9))), (ops.linear, (f32(6, 8), f32(8, 33), None)),
    (head, (f32(2, 3, 8), f32(65, 8)))])
def test_a_pair_multiplies_rounded_numbers_both_ways(primitive, arrays, native, monkeypatch):
    """Each product by the reference in float64, from operands rounded by day 37's function."""
    monkeypatch.setattr(half, "NATIVE", native)
    f, f_vjp = fast_half.twins()[primitive]
    out, saved = f(*arrays)
    dout = f32(*out.shape)
    exact = [None if a is None else (rounded(a, BF16) if a.ndim > 1 else a).astype(float)
             for a in arrays]
    want, kept = primitive.pair[0](*exact)
    np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-5)
    expected = list(primitive.pair[1](rounded(dout, BF16).astype(float), *kept))
    if len(arrays) == 3 and arrays[2] is not None:
        expected[2] = dout.astype(float).reshape(-1, dout.shape[-1]).sum(axis=0)     # in float32
    for got, right in zip(f_vjp(dout, *saved), expected, strict=True):
        assert (got is None) == (right is None)
        if got is not None:
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("native", PATHS)
def test_a_step_on_bfloat16_products_has_nearly_the_gradients_of_float32(native, monkeypatch):
    monkeypatch.setattr(half, "NATIVE", native)
    found = {}
    for name, block in (("exact", contextlib.nullcontext), ("half", fast_half.fast)):
        model = GPT(GPTConfig(V=65, T=16, C=64, L=2, H=2), np.random.default_rng(1))
        tokens = np.random.default_rng(2).integers(0, 65, (4, 17))
        with block():
            loss = model.loss(tokens[:, :-1], tokens[:, 1:])
            loss.backward()
        found[name] = loss.data, {n: p.grad for n, p in model.named_parameters().items()}
    assert 0 < abs(found["half"][0] - found["exact"][0]) < 2e-3
    for name, right in found["exact"][1].items():
        off = np.linalg.norm(found["half"][1][name] - right) / np.linalg.norm(right)
        assert 0 < off < 0.02, name


def test_bfloat16_products_leave_float64_and_wrong_shapes_to_the_reference():
    x, w = normal(3, 4), normal(4, 5)
    with fast_half.fast():
        np.testing.assert_array_equal(ops.linear(Tensor(x), Tensor(w), None).data, x @ w)
        for primitive, bad in ((ops.linear, (f32(3, 4), f32(5, 4))),
                               (head, (f32(3, 4), f32(4, 5)))):
            with pytest.raises(ValueError, match="4"):
                primitive(*map(Tensor, bad))
        with pytest.raises(ValueError, match="shape"):
            ops.linear(Tensor(f32(3, 4)), Tensor(f32(4, 5)), Tensor(f32(4)))


def test_a_block_of_products_is_the_same_on_one_thread_and_on_two():
    import numba
    a, b, before = f32(300, 500), f32(500, 700), numba.get_num_threads()
    try:
        found = []
        for threads in (1, before):
            numba.set_num_threads(threads)
            found.append(half.product(a, b))
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(*found)


def test_the_processor_is_asked_before_its_instructions_are_used(monkeypatch):
    from numba.core import config
    assert {"avx512f", "avx512bf16"}.issubset(features()) == half.NATIVE
    monkeypatch.setattr(config, "CPU_FEATURES", "")
    monkeypatch.setattr(config, "CPU_NAME", "haswell")
    assert "avx512bf16" not in features()
    assert half_tiles.ROWS * half_tiles.COLUMNS // half_tiles.LANES + 3 <= 32    # registers


def test_the_parts_that_the_note_shows_sum_to_the_step_and_their_flops_are_those_of_day_34():
    import json

    from days.day38.sides import CASES as SHAPES
    from days.day38.sides import flops
    from experiments import step_parts
    record = json.loads((step_parts.ROOT / "experiments" / "step_parts.json").read_text("utf-8"))
    for shape, case in zip(SHAPES, record["cases"], strict=True):
        B, T = shape[1:3]
        weights = sum(cin * cout * n for cin, cout, n in step_parts.layers(*shape[1:7]))
        products = 6 * B * T * weights
        assert case["case"] == shape[0] and case["products_gflop"] == products / 1e9
        assert products + case["attention_gflop"] * 1e9 == flops(shape)
        for kind in case["parts"].values():
            assert sum(kind["parts_ms"].values()) == pytest.approx(kind["step_ms"])
