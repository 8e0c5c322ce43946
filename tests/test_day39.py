"""Day 39 · GPT by hand: the tape's gradients, in one arena, with nothing allocated in a step."""

import math
import time
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from days.day38.sides import model_of
from days.day39 import agree, makers, profile
from days.day39.run import measure, threads_kept
from llm.functions.norm import layernorm, layernorm_vjp
from llm.grad import ops, rules
from llm.kernels import by_hand as kernels
from llm.layers.rotary import Rotary
from llm.models.by_hand import buffers, plain, text
from llm.models.by_hand.arena import Arena, Buffer, most_alive, padded, place
from llm.models.by_hand.weights import named_alike, paths, position_tables
from llm.models.gpt import GPT, GPTConfig
from llm.models.gpt_by_hand import GPTByHand, matrices
from llm.tensors.roofline import Blas
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine

BOTH = [plain, kernels]
NAMES = ["plain", "kernels"]
each_table = pytest.mark.parametrize("f", BOTH, ids=NAMES)
SHAPES = [  # B, T, V, C, L, H
    (5, 20, 65, 32, 2, 4), (1, 1, 2, 4, 1, 1), (3, 17, 11, 18, 3, 3), (2, 33, 130, 16, 1, 2),
    (4, 16, 7, 40, 2, 1), (2, 50, 300, 24, 1, 6)]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def gpt(rng, dtype=np.float32, size=0.1, **options):
    """Day 34's GPT with weights so large that every part of it matters."""
    config = GPTConfig(**{**{"V": 65, "T": 24, "C": 32, "L": 2, "H": 4}, **options})
    model = GPT(config, rng)
    for p in model.named_parameters().values():
        p.data = (p.data + size * rng.standard_normal(p.shape)).astype(dtype)
    return model


def batch(rng, B, T, V, ignored=0.0):
    ids, targets = rng.integers(0, V, (2, B, T))
    return ids, np.where(rng.random((B, T)) < ignored, -100, targets)


def of_the_tape(model, ids, targets):
    """loss, {name: gradient}"""
    model.zero_grad()
    loss = model.loss(ids, targets)
    loss.backward()
    found = {name: p.grad.copy() for name, p in model.named_parameters().items()}
    model.zero_grad()
    return float(loss.data), found


def close(ours, theirs, most=1e-5):
    """Largest difference over the largest number, for every array."""
    for name, g in theirs.items():
        assert ours[name].shape == g.shape and ours[name].dtype == g.dtype
        scale = max(np.abs(g).max(), 1e-7)
        assert np.abs(ours[name] - g).max() <= most * scale, name


def same_parameters(one, two, most):
    """All but the keys' biases, whose gradient is 0 with learned positions: there Adam follows the
    rounding."""
    for name, p in one.named_parameters().items():
        apart = np.abs(p.data - two.named_parameters()[name].data)
        if name.endswith("qkv.b") and not one.config.rotary:
            apart = np.delete(apart, range(apart.size // 3, 2 * apart.size // 3))
        assert apart.max() < most, name


# The examples by hand


def test_the_arena_of_the_note():
    a, b = Buffer("a", (32,), frozenset({0, 1})), Buffer("b", (16,), frozenset({1, 2}))
    c = Buffer("c", (20,), frozenset({2}))
    assert (a.nbytes, b.nbytes, c.nbytes) == (128, 64, 128)            # 80 bytes: two lines
    assert place([a, b, c]) == ({"a": 0, "b": 128, "c": 0}, 192)
    assert most_alive([a, b, c]) == 192
    assert place([c, b, a]) == ({"c": 0, "b": 128, "a": 0}, 192)
    assert place([b, c, a]) == ({"b": 0, "c": 64, "a": 64}, 192)


def test_the_bytes_of_the_note():
    config = GPTConfig(V=8, T=16, C=4, L=1, H=1)
    assert buffers.count_bytes(config, 1, 16) == 64 * (60 + 4 + 22) + 64 + 2 * 128 == 5824
    assert place(buffers.activations(config, 1, 16))[1] == 5824


@each_table
def test_a_norm_in_a_residual_branch_as_in_the_note(f):
    x, branch = np.array([[1, 1, 3]], np.float32), np.array([[0, 0, 0.5]], np.float32)
    b, out = np.array([0, 0, 0.5], np.float32), np.zeros((1, 3), np.float32)
    (gain, bias), (mean, rstd) = np.array([[1, 1, 1], [0, 0, 0]], "f4"), np.zeros((2, 1), "f4")
    f.add_norm(x, b, branch, gain, bias, 0.0, out, mean, rstd)
    assert branch.tolist() == [[1, 1, 4]] and mean[0] == 2
    assert rstd[0] == pytest.approx(math.sqrt(.5))
    assert out[0] == pytest.approx([-.707107, -.707107, 1.414214], abs=1e-6)
    dout, dx = np.array([[1, 0, 0]], np.float32), np.ones((1, 3), np.float32)
    sums = np.full((3, 3), 7, np.float32)
    f.norm_back(dout, gain, bias, mean, rstd, branch, dx, *sums)
    assert dx[0] == pytest.approx([1.353553, .646447, 1], abs=1e-6)
    assert branch[0] == pytest.approx(out[0], abs=1e-6)                 # the output once more
    assert sums[0] == pytest.approx([-.707107, 0, 0], abs=1e-6)
    assert sums[1].tolist() == [1, 0, 0] and sums[2] == pytest.approx(dx[0])


@each_table
def test_the_loss_and_its_gradient_are_one_pass_as_in_the_note(f):
    logits = np.array([[0, math.log(3)], [5, 5]], np.float32)
    assert f.cross_entropy(np.array([0, -100]), 1, logits) == pytest.approx(math.log(4))
    assert logits == pytest.approx(np.array([[-.75, .75], [0, 0]]), abs=1e-6)


# The tape's gradients


@each_table
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_equal_the_tapes(rng, f, rotary, shape):
    B, T, V, C, L, H = shape
    model = gpt(rng, V=V, T=T + 3, C=C, L=L, H=H, rotary=rotary)
    ids, targets = batch(rng, B, T, V, ignored=.2 if T > 1 else 0)
    loss, expected = of_the_tape(model, ids, targets)
    for workers in {1, min(2, B), min(3, B)}:
        trainer = GPTByHand(model, B, T + 3, workers=workers, functions=f)
        assert trainer.step(ids, targets, 0.0) == pytest.approx(loss, rel=1e-5)
        close(trainer.gradients[0], expected)
        norm = math.sqrt(sum(float((g.astype(float) ** 2).sum()) for g in expected.values()))
        assert trainer.norm == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("rotary", [False, True])
def test_gradients_equal_finite_differences(rng, rotary):
    model = gpt(rng, np.float64, size=.3, V=9, T=6, C=8, L=2, H=2, rotary=rotary)
    ids, targets = batch(rng, 2, 5, 9, ignored=.2)
    trainer = GPTByHand(model, 2, 6, workers=2, functions=plain)
    trainer.step(ids, targets, 0.0)
    for name, p in model.named_parameters().items():
        found = trainer.gradients[0][name].copy()
        for at in rng.integers(0, p.data.size, 3):
            flat, losses = p.data.reshape(-1), []
            before = flat[at]
            for change in (1e-5, -1e-5):
                flat[at] = before + change
                losses.append(float(model.loss(ids, targets).data))
            flat[at] = before
            numeric = (losses[0] - losses[1]) / 2e-5
            assert found.reshape(-1)[at] == pytest.approx(numeric, rel=1e-6, abs=1e-9), name


def test_in_float64_plain_equals_the_tape_to_the_last_digits(rng):
    for rotary in (False, True):
        model = gpt(rng, np.float64, rotary=rotary)
        ids, targets = batch(rng, 3, 20, 65)
        loss, expected = of_the_tape(model, ids, targets)
        trainer = GPTByHand(model, 3, 24, workers=1, functions=plain)
        assert trainer.step(ids, targets, 0.0) == pytest.approx(loss, rel=1e-13)
        close(trainer.gradients[0], expected, 1e-12)


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
@each_table
def test_twenty_steps_are_those_of_fit(rng, f, workers, rotary):
    one, two = (gpt(np.random.default_rng(3), size=.02, rotary=rotary) for _ in range(2))
    data = [batch(rng, 4, 24, 65, ignored=.1) for _ in range(20)]
    schedule, options = WarmupCosine(3e-3, warmup=5, floor=1e-4), {"decay": .1, "betas": (.9, .99)}
    expected = fit(one.named_parameters(), lambda b: (one.loss(*b), (b[1] != -100).sum()),
                   iter(data), AdamW(one.named_parameters(), **options), schedule, steps=20,
                   clip=.7)
    trainer = GPTByHand(two, 4, 24, workers=workers, functions=f, clip=.7, **options)
    losses = trainer.train(iter(data), schedule, 20)
    assert losses == pytest.approx(expected.losses, rel=2e-5)
    assert trainer.t == 20 and trainer.skipped == 0 and trainer.norm > .7      # it was clipped
    same_parameters(one, two, 2e-4)


# The functions: kernels equal plain, plain equals earlier days


def numbers(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def calls(rng, N, T, C, H, V):
    """(name, arguments): one call of each function, with what it writes to filled with noise."""
    D, B = C // H, N // T
    cos, sin = Rotary(D, T).tables(T) if D % 2 == 0 else (np.zeros((0, 0), "f4"),) * 2
    none = np.zeros((0, 0), np.float32)
    x, row, col = (lambda: numbers(rng, N, C)), (lambda: numbers(rng, C)), numbers(rng, N)
    ids = rng.integers(0, V, N)
    targets = np.where(rng.random(N) < .3, -100, ids)
    weights = lambda: numbers(rng, B, H, T, T)
    p = [numbers(rng, 77) for _ in range(3)]
    shared = [
        ("matmul", (x(), numbers(rng, C, V), numbers(rng, N, V))),
        ("embed", (ids, numbers(rng, V, C), numbers(rng, T, C), x())),
        ("embed", (ids, numbers(rng, V, C), np.zeros((0, C), "f4"), x())),
        ("embed_back", (ids, x(), numbers(rng, V, C), numbers(rng, T, C))),
        ("embed_back", (ids, x(), numbers(rng, V, C), np.zeros((0, C), "f4"))),
        ("norm", (x(), row(), row(), .1, x(), col.copy(), col.copy())),
        ("add_norm", (x(), row(), x(), row(), row(), .1, x(), col.copy(), col.copy())),
        ("norm_back", (x(), row(), row(), col.copy(), np.abs(col), x(), x(), row(), row(), row())),
        ("gelu", (3 * x(), row(), x())),
        ("gelu_back", (row(), 3 * x(), x(), row())),
        ("turn", (numbers(rng, N, 3 * C), numbers(rng, 3 * C), cos, sin)),
        ("turn", (numbers(rng, N, 3 * C), numbers(rng, 3 * C), none, none)),
        ("turn_back", (numbers(rng, N, 3 * C), cos, sin, numbers(rng, 3 * C))),
        ("turn_back", (numbers(rng, N, 3 * C), none, none, numbers(rng, 3 * C))),
        ("softmax", (3 * weights(), .3)),
        ("cross_entropy", (targets, 5, 3 * numbers(rng, N, V))),
        ("add_squares", (p[0].copy(), numbers(rng, 2, 77))),
        ("add_squares", (p[0].copy(), numbers(rng, 0, 77))),
        ("adamw", (*(a.copy() for a in p), np.abs(numbers(rng, 77)), .5, .1, .99, .9, .8, 2.0,
                   1e-3)),
    ]
    w = weights()
    plain.softmax(w, 1.0)
    return [*shared, ("softmax_back", (w, .3, weights()))]


@pytest.mark.parametrize("shape", [(40, 20, 32, 4, 65), (6, 3, 6, 2, 5), (34, 17, 15, 3, 16),
                                   (64, 32, 16, 1, 33), (1, 1, 1, 1, 2), (70, 35, 20, 2, 300)])
def test_every_kernel_equals_its_plain_function(rng, shape):
    for name, arguments in calls(rng, *shape):
        ours = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        found = getattr(kernels, name)(*ours)
        expected = getattr(plain, name)(*arguments)
        assert found == pytest.approx(expected, rel=1e-5) if expected is not None else found is None
        for i, (a, b) in enumerate(zip(ours, arguments)):
            if isinstance(b, np.ndarray) and b.size:
                assert np.abs(a - b).max() <= 1e-5 * max(np.abs(b).max(), 1), (name, i)


def test_the_table_is_the_same_on_both_sides():
    named = {name for name, _ in calls(np.random.default_rng(0), 4, 2, 4, 1, 3)}
    for f in BOTH:
        assert named <= set(dir(f))
        source = set(text.forward.__code__.co_names) | set(text.backward.__code__.co_names)
        assert {n for n in source if hasattr(plain, n)} <= named


@each_table
def test_the_fused_functions_are_the_pairs_of_earlier_days(rng, f):
    x, branch, dout = numbers(rng, 3, 6, 8)
    b, gain, bias = numbers(rng, 3, 8)
    out, (mean, rstd) = np.empty((6, 8), np.float32), np.empty((2, 6), np.float32)
    stream = x + (branch + b)
    expected, saved = layernorm(stream, gain, bias, eps=.1)
    f.add_norm(x, b, branch, gain, bias, .1, out, mean, rstd)
    assert out == pytest.approx(expected, abs=1e-5) and branch == pytest.approx(stream, abs=1e-6)
    dx, dgain, dbias = layernorm_vjp(dout, *saved)
    past = numbers(rng, 6, 8)
    found, sums = past.copy(), np.empty((3, 8), np.float32)
    f.norm_back(dout, gain, bias, mean, rstd, branch, found, *sums)
    assert found == pytest.approx(past + dx, abs=1e-5)
    for ours, theirs in zip(sums, (dgain, dbias, (past + dx).sum(axis=0))):
        assert ours == pytest.approx(theirs, abs=1e-5)
    u, d, db = 2 * numbers(rng, 6, 8), dout.copy(), np.empty(8, np.float32)
    bent, kept = rules.gelu(u + b)
    f.gelu_back(b, u, d, db)
    assert u == pytest.approx(bent, abs=1e-6)
    assert d == pytest.approx(rules.gelu_vjp(dout, *kept)[0], abs=1e-5)
    assert db == pytest.approx(d.sum(axis=0), abs=1e-5)


@each_table
def test_the_future_has_weight_zero_and_gradient_zero(rng, f):
    for T in (1, 5, 16, 35):
        weights, d = 5 * numbers(rng, 2, 3, T, T), numbers(rng, 2, 3, T, T)
        weights[..., ~np.tri(T, dtype=bool)] = 1e9                   # what nobody may see
        f.softmax(weights, .5)
        assert (weights[..., ~np.tri(T, dtype=bool)] == 0).all()
        assert weights.sum(axis=-1) == pytest.approx(1, abs=1e-6)
        f.softmax_back(weights, .5, d)
        assert (d[..., ~np.tri(T, dtype=bool)] == 0).all()
        assert np.abs(d.sum(axis=-1)).max() < 1e-6


@each_table
def test_extreme_numbers_stay_finite(f):
    logits = np.array([[1000, 0, -1000]], np.float32)
    assert f.cross_entropy(np.array([1]), 1, logits) == pytest.approx(1000)
    assert logits[0] == pytest.approx([1, -1, 0], abs=1e-6)
    scores = np.array([[[[700, 0, 9], [-700, -702, 9e9], [-700, 700, 698]]]], np.float32)
    f.softmax(scores, .5)
    e = math.exp(-1)
    assert scores[0, 0, 1] == pytest.approx([1 / (1 + e), e / (1 + e), 0], abs=1e-6)
    assert scores[0, 0, 2] == pytest.approx([0, 1 / (1 + e), e / (1 + e)], abs=1e-6)
    x, out, zero = np.array([[1e20, -1e20, 40]], "f4"), np.empty((1, 3), "f4"), np.zeros(3, "f4")
    f.gelu(x, zero, out)
    assert out[0] == pytest.approx([1e20, 0, 40], rel=1e-6, abs=1e-6)
    d = np.ones((1, 3), np.float32)
    f.gelu_back(zero, x, d, zero.copy())
    assert d[0] == pytest.approx([1, 0, 1], abs=1e-6)
    p, g, m, v = np.array([[0], [1e30], [0], [0]], np.float32)
    f.adamw(p, g, m, v, 1.0, 1.0, 1.0, .9, .999, 1.0, 1e-8)
    assert np.isfinite(v).all() and np.isfinite(p).all() and v[0] > 1e33
    assert f.add_squares(np.full(4, 1e30, "f4"), np.zeros((0, 4), "f4")) == pytest.approx(4e60)


# The arena


def random_config(rng):
    H = int(rng.integers(1, 5))
    C, T = H * int(rng.integers(1, 20)), int(rng.integers(1, 70))
    config = GPTConfig(V=int(rng.integers(2, 9 * C + 5)), T=T, C=C, L=int(rng.integers(1, 7)), H=H)
    return config, int(rng.integers(1, 6)), T


def test_the_formula_is_the_fullest_moment_and_the_placement_reaches_it(rng):
    for _ in range(60):
        config, B, T = random_config(rng)
        for dtype, itemsize in ((np.float32, 4), (np.float64, 8)):
            found = buffers.activations(config, B, T, dtype)
            offsets, total = place(found)
            assert total == most_alive(found) == buffers.count_bytes(config, B, T, itemsize)
        for i, a in enumerate(found):
            assert offsets[a.name] % 64 == 0
            for b in found[:i]:
                if a.alive & b.alive:
                    low, high = sorted((a, b), key=lambda x: offsets[x.name])
                    assert offsets[low.name] + low.nbytes <= offsets[high.name]


def test_another_order_may_need_more():
    worse = 0
    rng = np.random.default_rng(1)
    for _ in range(40):
        found = buffers.activations(*random_config(rng))
        worse += place(sorted(found, key=lambda b: -b.nbytes))[1] > most_alive(found)
    assert 5 < worse < 35


def watched_step(trainer, ids, targets):
    """What each function reads and writes: the names of buffers, moment by moment."""
    arrays = []

    def watch(name):
        def call(*arguments):
            arrays.append([a for a in arguments if isinstance(a, np.ndarray)])
            return getattr(plain, name)(*arguments)
        return call

    trainer.f = SimpleNamespace(**{name: watch(name) for name in dir(plain)
                                   if callable(getattr(plain, name))})
    trainer.step(ids, targets, 0.0)
    return arrays


def test_every_array_lives_in_the_arena(rng):
    trainer = GPTByHand(gpt(rng), 3, 24, workers=1, functions=plain)
    low = trainer.arena.memory.ctypes.data
    for arrays in watched_step(trainer, *batch(rng, 3, 24, 65)):
        for a in arrays:
            assert low <= a.ctypes.data < low + trainer.arena.nbytes or a.size == 0


def test_arrays_that_share_a_place_do_not_disturb_each_other(rng):
    """Noise in everything that is dead at a moment must change nothing."""
    model = gpt(rng, V=200)
    ids, targets = batch(rng, 3, 24, 200)
    _, expected = of_the_tape(model, ids, targets)
    trainer = GPTByHand(model, 3, 24, workers=1, functions=plain)
    trainer.shape_to(3, 24)
    trainer.arena.memory[trainer.start:] = 255                     # NaN wherever floats are read
    trainer.gradients[0]["embed.table"][:] = np.nan
    trainer.step(ids, targets, 0.0)
    close(trainer.gradients[0], expected)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("rotary", [False, True])
def test_the_arena_has_the_bytes_of_the_formula(rng, workers, rotary):
    model = gpt(rng, rotary=rotary, C=32)                          # all arrays are whole lines
    size = sum(padded(p.data.nbytes) for p in model.named_parameters().values())
    trainer = GPTByHand(model, 7, 24, workers=workers)
    rows = {1: 7, 3: 3}[workers]                                   # 7 sequences: 2, 2 and 3
    expected = (padded(7 * 24) + (3 + workers) * size
                + workers * buffers.count_bytes(model.config, rows, 24))
    assert trainer.arena.nbytes == expected
    assert sum(np.prod(g.shape) for g in trainer.gradients[0].values()) == model.count_parameters()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_step_allocates_no_array(rng, workers):
    trainer = GPTByHand(gpt(rng, C=64, V=500), 8, 24, workers=workers)
    data = [tuple(a.astype(kind) for a in batch(rng, 8, 24, 500, .1)) for kind in (int, np.int32)]
    for ids, targets in data * 2:
        trainer.step(ids, targets, 1e-3)                           # compiles, makes views
    tracemalloc.start()
    try:
        for ids, targets in data * 3:
            trainer.step(ids, targets, 1e-3)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    smallest = 8 * 24 * 4 * workers / workers                      # a number for each token
    assert peak < 12_000 and smallest < 800, peak                  # Python's own small objects


def test_the_tape_allocates_what_the_arena_saves(rng):
    model = gpt(rng, C=64, V=100)
    ids, targets = batch(rng, 8, 24, 100)
    of_the_tape(model, ids, targets)
    tracemalloc.start()
    loss = model.loss(ids, targets)
    loss.backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    trainer = GPTByHand(model, 8, 24, workers=1)
    assert trainer.part + trainer.p.nbytes < .7 * peak             # activations and gradients


# A step


def test_smaller_batches_use_the_same_arena(rng):
    for rotary in (False, True):
        model = gpt(rng, rotary=rotary)
        trainer = GPTByHand(model, 5, 24, workers=3)
        memory = trainer.arena.memory
        for B, T in ((5, 24), (2, 9), (1, 1), (4, 24), (5, 23), (5, 24)):
            ids, targets = batch(rng, B, T, 65)
            loss, expected = of_the_tape(model, ids, targets)
            assert trainer.step(ids, targets, 0.0) == pytest.approx(loss, rel=1e-5)
            close(trainer.gradients[0], expected)
        assert trainer.arena.memory is memory


def test_the_same_step_gives_the_same_bits(rng):
    data, found = [batch(rng, 6, 24, 65) for _ in range(3)], []
    for _ in range(2):
        model = gpt(np.random.default_rng(2))
        trainer = GPTByHand(model, 6, 24, workers=3)
        losses = [trainer.step(*b, 1e-2) for b in data]
        found.append((losses, {n: p.data.copy() for n, p in model.named_parameters().items()}))
    assert found[0][0] == found[1][0]
    assert all((found[0][1][n] == found[1][1][n]).all() for n in found[0][1])


def test_workers_meet_three_times_a_step(rng, monkeypatch):
    trainer, meetings = GPTByHand(gpt(rng), 4, 24, workers=2), []
    each = trainer.each
    monkeypatch.setattr(trainer, "each", lambda work, *a: meetings.append(work) or each(work, *a))
    trainer.step(*batch(rng, 4, 24, 65), 1e-3)
    assert [work.__name__ for work in meetings] == ["gradient", "collect", "update"]


def test_an_error_in_one_worker_is_told_when_all_have_ended(rng):
    trainer, ended = GPTByHand(gpt(rng), 3, 24, workers=3), []
    trainer.shape_to(3, 24)
    for guilty in (0, 2):
        def work(r, guilty=guilty):
            if r == guilty:
                raise RuntimeError("mine")
            time.sleep(.02)
            ended.append(r)

        ended.clear()
        with pytest.raises(RuntimeError, match="mine"):
            trainer.each(work)
        assert sorted(ended) == sorted({0, 1, 2} - {guilty})
    assert trainer.each(lambda r, x: r + x, 5) == [5, 6, 7]


def test_the_model_is_trained_in_place_and_stays_a_model(rng):
    model = gpt(rng)
    before = {n: p.data.copy() for n, p in model.named_parameters().items()}
    trainer = GPTByHand(model, 4, 24)
    for name, p in model.named_parameters().items():
        assert (p.data == before[name]).all() and np.shares_memory(p.data, trainer.arena.memory)
    data = batch(rng, 4, 24, 65)
    first = float(model.loss(*data).data)
    assert trainer.step(*data, 1e-3) == pytest.approx(first, rel=1e-5)
    assert float(model.loss(*data).data) < first
    assert len(list(model.generate([1], 3, rng))) == 3
    model.load_state_dict(before)
    assert trainer.step(*data, 0.0) == pytest.approx(first, rel=1e-5)


def test_decay_reaches_what_it_should(rng):
    model = gpt(rng)
    before = {n: p.data.copy() for n, p in model.named_parameters().items()}
    trainer = GPTByHand(model, 2, 8, workers=2, decay=.5, functions=plain)
    ids = rng.integers(0, 65, (2, 8))
    trainer.step(ids, np.full((2, 8), -100), .1)                    # no gradient: decay alone
    for name, p in model.named_parameters().items():
        shrunk = .95 if matrices(name, p) else 1
        assert p.data == pytest.approx(before[name] * shrunk, rel=1e-6), name
    trainer = GPTByHand(model, 2, 8, decay=.5, decays=lambda name, p: True)
    trainer.step(ids, np.full((2, 8), -100), .1)
    assert model.norm.gain.data == pytest.approx(before["norm.gain"] * .95, rel=1e-6)


def test_defaults_are_those_of_fit_and_adamw(rng):
    one, two = (gpt(np.random.default_rng(4), size=.3) for _ in range(2))
    data = [batch(rng, 3, 24, 65) for _ in range(4)]
    fit(one.named_parameters(), lambda b: (one.loss(*b), 1), iter(data),
        AdamW(one.named_parameters()), lambda step, total: .01 * step / total, steps=4)
    trainer = GPTByHand(two, 3, 24)
    trainer.train(iter(data), lambda step, total: .01 * step / total, 4)
    assert trainer.norm > 1
    same_parameters(one, two, 1e-4)
    free = GPTByHand(two, 3, 24, clip=None)
    assert free.clip == math.inf
    assert trainer.workers == 1 or trainer.workers <= 3


@each_table
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(rng, f, bad):
    model = gpt(rng)
    trainer = GPTByHand(model, 2, 8, workers=1 if f is plain else 2, functions=f)
    data = batch(rng, 2, 8, 65)
    trainer.step(*data, 1e-3)
    model.blocks[1].think.inner.down.b.data[3] = bad
    before = {n: p.data.copy() for n, p in model.named_parameters().items()}
    with np.errstate(all="ignore"):
        trainer.step(*data, 1e-3)
    assert trainer.skipped == 1 and trainer.t == 1 and not math.isfinite(trainer.norm)
    for name, p in model.named_parameters().items():
        assert np.array_equal(p.data, before[name], equal_nan=True)
    model.blocks[1].think.inner.down.b.data[3] = 0
    assert math.isfinite(trainer.step(*data, 1e-3)) and trainer.t == 2


def test_the_threads_of_the_blas_are_as_before(rng, monkeypatch):
    blas, seen = Blas(), []
    if not blas.threads():
        pytest.skip("this BLAS does not tell its threads")
    trainer = GPTByHand(gpt(rng), 4, 24, workers=2, functions=SimpleNamespace(**{
        name: getattr(kernels, name) for name in dir(kernels)}))
    trainer.f.matmul = lambda a, b, out: seen.append(blas.threads()) or np.matmul(a, b, out=out)
    before = blas.threads()
    try:
        blas.set_threads(2)
        trainer.step(*batch(rng, 4, 24, 65), 1e-3)
        assert set(seen) == {1} and blas.threads() == 2
        with pytest.raises(ValueError, match="ids from"):
            trainer.step(np.full((4, 24), 65), np.zeros((4, 24), int), 1e-3)
        assert blas.threads() == 2
    finally:
        blas.set_threads(before)


# What is refused


def test_bad_batches_are_refused_before_anything_changes(rng):
    model = gpt(rng)
    trainer = GPTByHand(model, 4, 20)
    ids = np.zeros((4, 20), int)
    before = {n: p.data.copy() for n, p in model.named_parameters().items()}
    for wrong, targets, told in [
            (ids[0], ids[0], r"ids of shape \(20,\) and targets of shape \(20,\): wanted \(B, T\)"),
            (ids, ids[:, 1:], r"ids of shape \(4, 20\) and targets of shape \(4, 19\)"),
            (ids[:0], ids[:0], r"ids of shape \(0, 20\)"),
            (np.zeros((5, 20), int), np.zeros((5, 20), int),
             r"a batch of shape \(5, 20\) in an arena for \(4, 20\): cut it"),
            (np.zeros((4, 21), int), np.zeros((4, 21), int), r"\(4, 21\) in an arena for"),
            (ids + .5, ids, "ids of float64 and targets of int64: wanted integers"),
            (ids, ids.astype("f4"), "targets of float32"),
            (ids - 1, ids, "ids from -1 to -1: wanted 0 to 64"),
            (ids + 65, ids, "ids from 65 to 65: wanted 0 to 64"),
            (ids, ids + 65, "a target of 65: wanted 0 to 64, or -100"),
            (ids, ids - 1, "a target of -1: wanted 0 to 64, or -100")]:
        with pytest.raises(ValueError, match=told):
            trainer.step(wrong, targets, 1e-3)
    assert trainer.t == 0
    assert all((p.data == before[n]).all() for n, p in model.named_parameters().items())
    trainer.step(ids + 64, ids + 64, 1e-3)
    GPTByHand(model, 4, 20)
    with pytest.raises(ValueError, match="no longer those of this arena"):
        trainer.step(ids, ids, 1e-3)


def test_models_that_are_not_written_out_are_refused(rng):
    def refuses(told, model, B=2, T=8, **options):
        before = model.embed.table.data
        with pytest.raises(ValueError, match=told):
            GPTByHand(model, B, T, **options)
        assert model.embed.table.data is before

    refuses("B 0 and T 8", gpt(rng), B=0)
    refuses("B 2 and T 0", gpt(rng), T=0)
    refuses("B 2 and T 25: wanted .* 1 ≤ T ≤ 24", gpt(rng), T=25)
    refuses("3 workers for 2 sequences", gpt(rng), workers=3)
    refuses("0 workers", gpt(rng), workers=0)
    refuses("dropout 0.1 is not written out", gpt(rng, dropout=.1))
    refuses("parameters of .*float64.*: the kernels take float32", gpt(rng, np.float64))
    model = gpt(rng)
    model.blocks[0].think.inner.up.b = None
    refuses(r"missing \['blocks.0.think.inner.up.b'\], unknown \[\]", model)
    for change in ("activation", "pre", "H", "eps", "interleaved", "mixed"):
        model = gpt(rng, rotary=change in ("interleaved", "mixed"))
        block = model.blocks[1]
        if change == "activation":
            block.think.inner.activation = ops.relu
        elif change == "pre":
            block.mix.pre = False
        elif change == "H":
            block.mix.inner.H = 2
        elif change == "eps":
            block.think.norm.eps = 1e-6
        elif change == "interleaved":
            block.mix.inner.rule = Rotary(8, 24, interleaved=True)
        else:
            block.mix.inner.rule = gpt(rng).blocks[0].mix.inner.rule
        refuses("a block is not GPT-2's", model)
    mixed = gpt(rng)
    mixed.norm.gain.data = mixed.norm.gain.data.astype(np.float64)
    refuses("parameters of", mixed, functions=plain)


def test_the_arena_refuses_what_does_not_fit():
    arena = Arena(256)
    assert arena.memory.ctypes.data % 64 == 0 and arena.nbytes == 256
    assert not arena.view(64, (4, 12)).any() and arena.view(192, (8,), np.int64).shape == (8,)
    for start in (-64, 128):
        with pytest.raises(ValueError, match=r"shape \(4, 12\) at byte -?\d+ ends at \d+, and the "
                                             "arena has 256 bytes"):
            arena.view(start, (4, 12))
    with pytest.raises(ValueError, match="two buffers have the same name: a, a"):
        place([Buffer("a", (1,), frozenset({0}))] * 2)
    assert place([]) == ({}, 0)


def test_names_and_tables(rng):
    for rotary in (False, True):
        model = gpt(rng, rotary=rotary)
        assert set(paths(model.config)) == set(model.named_parameters())
        w = named_alike({n: p.data for n, p in model.named_parameters().items()}, model.config, 9)
        assert w.positions.shape == ((0, 32) if rotary else (9, 32)) and len(w.parts) == 3
        assert len(position_tables(model, 9)[0]) == (9 if rotary else 0)
        for p in model.named_parameters().values():
            p.data = p.data.astype(np.float64)
        assert position_tables(model, 9)[1].dtype == (np.float64 if rotary else np.float32)


# The run


@pytest.fixture(scope="module")
def fast_result():
    return measure(fast=True, seed=0)


def test_the_headline_of_the_run(fast_result):
    r = fast_result
    assert max(r.apart[name] for name in ("learned", "rotary", "plain")) < 1e-5
    assert r.apart["losses"][0] < 1e-5 and r.apart["keys"] < 1e-3
    assert sum(r.hand_parts) < sum(r.tape_parts)
    assert min(r.hand_parts[:6]) > 0 and min(r.tape_parts[:6]) > 0
    assert r.memory["allocated_kib"] < 12
    assert r.memory["activations"] < r.memory["unshared"]
    assert r.product_gflop == 6 * 2 * 16 * (12 * 32**2 + 65 * 32) / 1e9
    assert r.functions == 36 and 0 <= r.placement[0] <= 1 <= r.placement[1]


CASE = ("tiny", 2, 8, 2, 2, 16, 11, 1, 1)


def test_the_functions_of_forward_and_backward_are_28_a_block_and_8(rng):
    names = []
    watched = SimpleNamespace(**{
        name: (lambda *a, name=name: names.append(name) or getattr(kernels, name)(*a))
        for name in profile.HAND})
    makers.trainer_of(CASE, 1, watched).step(*batch(rng, 2, 8, 11), 1e-3)
    assert len(names) == 28 * 2 + 8 + 3                  # add_squares, and adamw for two groups
    assert set(names) == set(profile.HAND) == {*makers.FUNCTIONS, "adamw", "add_squares"}


def test_the_parts_of_the_profile_are_the_step():
    watch = profile.Stopwatch()
    slow = watch.around(lambda: [math.sqrt(i) for i in range(10_000)], 2)
    rows = watch.steps(lambda: slow() and slow() and sorted(range(1000)), 3)
    assert rows.shape == (3, len(profile.GROUPS)) and (rows[:, [0, 1, 3, 4, 5]] == 0).all()
    assert (rows[:, 2] > 0).all() and (rows[:, -1] > 0).all()
    assert profile.faster_half(np.array([[1, 1.0], [9, 9], [2, 2]])).tolist() == [1.5, 1.5]
    with threads_kept():
        on_tape = profile.on_the_tape(CASE, watch)
        assert all(watch.steps(on_tape, 2)[1, :6] > 0)
        by_hand = profile.by_hand(CASE, watch)
        assert all(watch.steps(by_hand, 2)[1, :6] > 0)


def test_all_sides_of_the_run_make_the_same_steps():
    found = {}
    for side in ("by hand", "by hand, 1", "by hand, meeting", "tape, 1"):
        with threads_kept():
            step = (makers.tape if side.startswith("tape") else makers.by_hand)(CASE, side)
            found[side] = [step() for _ in range(4)]
    for losses in found.values():
        assert losses == pytest.approx(found["tape, 1"], rel=1e-6)
    assert len(set(found["tape, 1"])) == 4
    assert makers.trainer_of(CASE, 2).workers == 2 and model_of(CASE).config.V == 11


def test_largest_first_sometimes_misses_the_bound():
    share, worst, number = agree.largest_first(30, 0)
    assert number == 30 and .1 < share < .7 and 1 < worst < 1.2
