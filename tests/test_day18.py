"""Day 18 · RMSProp, Adam, AdamW: claims about the size of a step."""

import importlib
import math

import numpy as np
import pytest

from llm.grad.tensor import Tensor
from llm.layers.module import Embedding, Linear, Module
from llm.train.adam import AdamW, RMSProp, adamw_update, matrices


def tensor(values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


def walk(optimizer, p, gradients, rate=0.1):
    for g in gradients:
        p.grad = np.asarray(g, p.dtype)
        optimizer.step(rate)
    return p.data


def adam(**options):
    return lambda p: AdamW({"w": p}, **{"decay": 0.0, **options})


def test_the_hand_example_the_first_step_moves_by_the_rate_whatever_the_gradient():
    p = tensor([1.0])
    walk(adam()(p), p, [[1e-3]])
    assert 1 - p.data[0] == pytest.approx(0.099999, abs=1e-9)      # .1 · 1e-3 / (1e-3 + 1e-8)
    p = tensor([1.0])
    walk(adam()(p), p, [[-1e3]])
    assert p.data[0] - 1 == pytest.approx(0.1, abs=1e-9)


def test_two_steps_by_hand():
    p = tensor([0.0])
    walk(adam(betas=(0.5, 0.75), eps=0.0)(p), p, [[1.0], [3.0]], rate=1.0)
    m, v = 0.5 * 0.5 + 0.5 * 3.0, 0.75 * 0.25 + 0.25 * 9.0         # 1.75 and 2.4375
    assert p.data[0] == pytest.approx(-1 - (m / 0.75) / math.sqrt(v / 0.4375), rel=1e-14)


def test_rmsprop_by_hand_has_a_long_first_step():
    p = tensor([1.0])
    walk(RMSProp({"w": p}, beta=0.99, eps=0.0), p, [[5.0]], rate=0.01)
    assert p.data[0] == pytest.approx(1 - 0.01 * 5 / math.sqrt(0.01 * 25))        # ten rates


def test_without_a_gradient_value_decay_alone_shrinks_the_weights_exactly():
    p = tensor([[2.0, -3.0]])
    walk(AdamW({"w": p}, decay=0.5), p, [np.zeros((1, 2))] * 3, rate=0.1)
    assert (p.data == np.array([[2.0, -3.0]]) * (1 - 0.1 * 0.5) * (1 - 0.1 * 0.5) * 0.95).all()


def test_decay_does_not_depend_on_the_size_of_the_gradient():
    shrunk = []
    for size in (1e-3, 1e3):
        a, b = tensor([[4.0]]), tensor([[4.0]])
        walk(AdamW({"w": a}, decay=0.5, eps=0.0), a, [[[size]]])
        walk(AdamW({"w": b}, decay=0.0, eps=0.0), b, [[[size]]])
        shrunk.append((b.data - a.data).item())
    assert shrunk == pytest.approx([4 * 0.1 * 0.5] * 2)


def test_norms_biases_and_embeddings_are_left_undecayed():
    model = Module()
    model.embed, model.out = (Embedding(3, 2, np.random.default_rng(0)),
                              Linear(2, 3, np.random.default_rng(0)))
    named = model.named_parameters()
    assert AdamW(named, decay=0.1).decay == {"embed.table": 0, "out.w": 0.1, "out.b": 0}
    assert set(AdamW(named, decay=0.1, decays=lambda n, p: True).decay.values()) == {0.1}
    assert not matrices("norm.gain", tensor([1.0, 1.0]))


@pytest.mark.parametrize("make", [adam(eps=0.0), lambda p: RMSProp({"w": p}, eps=0.0)])
def test_a_loss_in_other_units_gives_the_same_steps(make):
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((20, 7))
    a, b = tensor(np.ones(7)), tensor(np.ones(7))
    walk(make(a), a, gradients)
    walk(make(b), b, 1000 * gradients)
    np.testing.assert_allclose(a.data, b.data, rtol=1e-12)


def longest(t, beta1=0.9, beta2=0.999):
    """The largest |m̂|/√v̂ that any t gradients can make, by Cauchy and Schwarz."""
    r = beta1 * beta1 / beta2
    return ((1 - beta1) / (1 - beta1**t) * math.sqrt((1 - beta2**t) / (1 - beta2))
            * math.sqrt((1 - r**t) / (1 - r)))


@pytest.mark.parametrize("seed", range(5))
def test_no_step_of_adam_is_longer_than_the_bound(seed):
    rng = np.random.default_rng(seed)
    p = tensor(np.zeros(50))
    optimizer = adam()(p)
    for t in range(1, 101):
        before = p.data.copy()
        walk(optimizer, p, [rng.standard_normal(50) * 10 ** rng.uniform(-4, 4, 50)])
        assert np.abs(p.data - before).max() <= 0.1 * longest(t) + 1e-12


def test_gradients_that_grow_step_by_step_reach_the_bound_and_pass_the_paper_s():
    p = tensor([0.0])
    optimizer = adam(eps=0.0)(p)
    for t in range(1, 1001):
        before = p.data.copy()
        walk(optimizer, p, [[(0.9 / 0.999) ** (1000 - t)]], rate=1.0)
    assert before[0] - p.data[0] == pytest.approx(longest(1000), rel=1e-9)
    assert longest(1000) == pytest.approx(5.7812, abs=1e-4)
    assert longest(1000) > (1 - 0.9) / math.sqrt(1 - 0.999)       # 3.16: Kingma & Ba, section 2.1


@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 4), (2, 3, 4), (0,)])
def test_the_update_is_the_paper_s_algorithm_in_float64(shape):
    rng = np.random.default_rng(0)
    p = tensor(rng.standard_normal(shape))
    x, m, v = p.data.copy(), np.zeros(shape), np.zeros(shape)
    optimizer = AdamW({"w": p}, betas=(0.8, 0.95), eps=1e-6, decay=0.3, decays=lambda n, p: True)
    for t in range(1, 8):
        g = np.asarray(rng.standard_normal(shape))
        walk(optimizer, p, [g], rate=0.05)
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        x = x - 0.05 * 0.3 * x - 0.05 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-6)
    np.testing.assert_allclose(p.data, x, rtol=1e-12)


def test_everything_stays_float32_and_the_gradient_is_left_alone():
    p = tensor([[1.0, 2.0]], np.float32)
    data, g = p.data, np.array([[3.0, -4.0]], np.float32)
    p.grad = g
    for optimizer in (AdamW({"w": p}), RMSProp({"w": p})):
        optimizer.step(0.1)
        assert all(a.dtype == np.float32 for n, a in optimizer.state_dict().items() if n != "t")
    assert p.data is data and data.dtype == np.float32
    assert g.tolist() == [[3, -4]]


def test_a_parameter_without_a_gradient_stays_where_it_is():
    used, unused = tensor([1.0]), tensor([1.0])
    for optimizer in (AdamW({"a": used, "b": unused}), RMSProp({"a": used, "b": unused})):
        used.grad = np.ones(1)
        optimizer.step(0.1)
    assert unused.data[0] == 1.0 != used.data[0]


@pytest.mark.parametrize("make", [lambda p: AdamW({"w": p}, decay=0.1),
                                  lambda p: RMSProp({"w": p})])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(make):
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((10, 2, 3))
    whole = tensor(np.ones((2, 3)))
    walk(make(whole), whole, gradients)
    part = tensor(np.ones((2, 3)))
    first = make(part)
    walk(first, part, gradients[:4])
    state = {name: array.copy() for name, array in first.state_dict().items()}
    second = make(part)
    second.load_state_dict(state)
    walk(second, part, gradients[4:])
    assert part.data.tobytes() == whole.data.tobytes()


@pytest.mark.parametrize("make", [AdamW, RMSProp])
@pytest.mark.parametrize("damage, message", [
    (lambda s: s.pop("v.b"), r"\['v.b'\]"), (lambda s: s.update(odd=1), r"\['odd'\]"),
    (lambda s: s.update({"v.b": np.ones(1)}), r"v.b has shape \(1,\) and the parameter \(3,\)")])
def test_a_state_that_does_not_fit_is_refused_before_any_change(make, damage, message):
    optimizer = make({"a": tensor([1.0, 2.0]), "b": tensor([1.0, 2.0, 3.0])})
    state = {name: array + 1 for name, array in optimizer.state_dict().items()}
    damage(state)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    assert not any(a.any() for a in optimizer.state_dict().values())


def test_the_update_in_place_is_the_seam_for_fast_twins():
    p, g, m, v = (np.full(2, x, np.float32) for x in (1, 2, 0, 0))
    assert adamw_update(p, g, m, v, 1, 0.1, 0.9, 0.999, 1e-8, 0.0) is None
    assert p == pytest.approx(0.9)
    assert m == pytest.approx(0.2) and v == pytest.approx(0.004)
    assert adamw_update.lowerable


@pytest.mark.parametrize("make", [AdamW, RMSProp])
def test_edges(make):
    for wrong in ({}, [tensor([1.0])], None):
        with pytest.raises(ValueError, match="named_parameters"):
            make(wrong)
    p = tensor([1.0])
    p.grad = np.zeros(1)
    make({"w": p}).step(0.1)                                       # 0 / (0 + ε) is 0, not NaN
    assert p.data[0] == 1.0


@pytest.mark.parametrize("options, message", [
    ({"betas": (1.0, 0.999)}, "betas"), ({"betas": (0.9, -0.1)}, "betas"), ({"eps": -1}, "eps"),
    ({"decay": -0.1}, "decay")])
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AdamW({"w": tensor([1.0])}, **options)


def test_adam_beats_plain_steps_each_at_its_best_rate():
    result = importlib.import_module("days.day18.run").measure(fast=True, seed=0)
    best = dict(zip(result.kinds, result.best))
    assert best["Adam"] < best["plain steps"]
    assert result.first_move == pytest.approx(0.099999, abs=1e-9)
    left = {(kind, name): curve[-1] for kind, name, _, curve in result.bowls}
    assert left["Adam", "along the axes"] < 0.01 * left["Adam", "turned"]
    assert left["plain steps", "turned"] == pytest.approx(left["plain steps", "along the axes"])


def test_a_parameter_that_joins_late_is_corrected_by_its_own_count():
    early, late = Tensor(np.ones(1), True), Tensor(np.ones(1), True)
    optimizer = AdamW({"early": early, "late": late}, decay=0.0)
    for step in range(11):
        early.grad = np.ones(1)
        late.grad = np.ones(1) if step == 10 else None
        optimizer.step(0.1)
    assert 1 - late.data[0] == pytest.approx(0.1, rel=1e-6)          # its first step: a full rate
    assert early.data[0] == pytest.approx(1 - 1.1, rel=1e-6)


def test_the_counts_of_all_parameters_are_saved_and_older_files_with_one_are_read():
    p = {name: Tensor(np.ones(1), True) for name in "ab"}
    optimizer = AdamW(p)
    p["a"].grad = np.ones(1)
    optimizer.step(0.1)
    state = {name: np.array(a) for name, a in optimizer.state_dict().items()}
    assert state["t"].tolist() == [1, 0]
    other = AdamW(p)
    other.load_state_dict(state)
    assert other.t == {"a": 1, "b": 0}
    other.load_state_dict({**state, "t": np.array(7)})
    assert other.t == {"a": 7, "b": 7}


@pytest.mark.parametrize("name, value", [
    ("t", np.array([np.nan])), ("t", np.array([-5])), ("v.p", np.array(["x"])),
    ("v.p", np.array([1j])), ("v.p", np.array([-1.0])), ("m.p", np.array(["x"]))])
def test_a_damaged_state_changes_nothing(name, value):
    p = Tensor(np.ones(1), True)
    p.grad = np.ones(1)
    optimizer = AdamW({"p": p})
    optimizer.step(0.1)
    before = {key: np.array(a) for key, a in optimizer.state_dict().items()}
    with pytest.raises(ValueError):
        optimizer.load_state_dict({**before, "m.p": np.array([9.0]), name: value})
    after = optimizer.state_dict()
    assert all((before[key] == after[key]).all() for key in before)


@pytest.mark.parametrize("make", [RMSProp, AdamW])
def test_one_huge_gradient_leaves_nothing_infinite(make):
    p = Tensor(np.ones(2, np.float32), True)
    optimizer = make({"p": p})
    for g in (1.0, 3e38, 1.0, 1.0):
        p.grad = np.array([g, -g], np.float32)
        optimizer.step(0.1)
    assert np.isfinite(p.data).all() and np.isfinite(optimizer.v["p"]).all()


def test_the_defaults_are_the_published_ones():
    p = {"p": Tensor(np.ones((1, 1)), True)}
    adam, rms = AdamW(p), RMSProp(p)
    assert (adam.betas, adam.eps, adam.decay["p"]) == ((0.9, 0.999), 1e-8, 0.01)
    assert (rms.beta, rms.eps) == (0.99, 1e-8)


def test_eps_of_rmsprop_stands_outside_the_root():
    p = Tensor(np.zeros(1), True)
    p.grad = np.full(1, 3.0)
    RMSProp({"p": p}, beta=0.0, eps=1.0).step(1.0)
    assert p.data[0] == pytest.approx(-3 / (3 + 1))
