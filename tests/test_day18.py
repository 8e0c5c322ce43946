"""Day 18 · RMSProp, Adam, AdamW, Muon: claims about the size of a step."""

import math

import numpy as np
import pytest

from days.day18 import bowls, race, run
from llm.grad.tensor import Tensor
from llm.layers.module import Embedding, Linear, Module
from llm.models.neural_ngram import NeuralNGram
from llm.train.adam import AdamW, RMSProp, adamw_update, matrices
from llm.train.muon import COEFFICIENTS, Muon, hidden, muon_update, orthogonalize, quintic


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


@pytest.mark.parametrize("make", [AdamW, RMSProp, lambda p: Muon(p, orthogonal=hidden)])
def test_float16_parameters_have_moments_in_float32(make):
    """1e-8, the ε of the division, is 0 in float16, and a square above 65,504 infinite."""
    half, whole = (tensor([[1.0, 2.0, 3.0]], dtype) for dtype in (np.float16, np.float32))
    optimizers = [make({"w": half}), make({"w": whole})]
    for g in ([[0, 0, 0]], [[1e-4, 500, 3]], [[2e-4, -300, 3]]):
        for p, optimizer in zip((half, whole), optimizers):
            p.grad = np.array(g, np.float16).astype(p.dtype)
            optimizer.step(0.01)
    assert half.dtype == np.float16 and half.data == pytest.approx(whole.data, rel=3e-3)
    assert {a.dtype.name for n, a in optimizers[0].state_dict().items() if n != "t"} == {"float32"}


def test_a_name_that_only_ends_like_a_tables_is_decayed():
    model = tensor(np.ones((2, 2)))
    assert matrices("timetable", model) and matrices("table.w", model)
    assert not matrices("embed.table", model) and not matrices("table", model)


def test_eps_of_rmsprop_stands_outside_the_root():
    p = Tensor(np.zeros(1), True)
    p.grad = np.full(1, 3.0)
    RMSProp({"p": p}, beta=0.0, eps=1.0).step(1.0)
    assert p.data[0] == pytest.approx(-3 / (3 + 1))


# ---- Muon ----------------------------------------------------------------------------------------

A, B, C = COEFFICIENTS


def polynomial(s, steps=5, coefficients=COEFFICIENTS):
    a, b, c = coefficients
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return s


def test_the_hand_example_one_iteration_on_two_singular_values():
    out = orthogonalize(np.diag([3.0, 4.0]), steps=1)              # over the norm 5: 0.6 and 0.8
    expected = [A * s + B * s**3 + C * s**5 for s in (0.6, 0.8)]
    assert expected == pytest.approx([1.193269, 0.976482], abs=1e-6)
    np.testing.assert_allclose(out, np.diag(expected), rtol=1e-14, atol=1e-15)


def test_cubic_newton_schulz_by_hand_converges_to_the_signs():
    out = orthogonalize(np.array([[0.0, -3.0], [4.0, 0.0]]), 1, (1.5, -0.5, 0.0))
    np.testing.assert_allclose(out, [[0, -0.792], [0.944, 0]], rtol=1e-14, atol=1e-15)
    out = orthogonalize(np.array([[0.0, -3.0], [4.0, 0.0]]), 8, (1.5, -0.5, 0.0))
    np.testing.assert_allclose(out, [[0, -1], [1, 0]], rtol=1e-14, atol=1e-15)


SHAPES = [(1, 1), (1, 7), (7, 1), (5, 5), (4, 9), (9, 4), (40, 64), (64, 40)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_iteration_moves_the_singular_values_and_nothing_else(shape):
    g = np.random.default_rng(0).standard_normal(shape)
    u, s, vt = np.linalg.svd(g, full_matrices=False)
    expected = u * polynomial(s / np.linalg.norm(s)) @ vt
    out = orthogonalize(g)
    assert out.shape == shape and out.dtype == np.float64
    np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_with_the_converging_coefficients_it_is_u_vt_of_the_svd(shape):
    g = np.random.default_rng(1).standard_normal(shape)
    u, _, vt = np.linalg.svd(g, full_matrices=False)
    out = orthogonalize(g, steps=40, coefficients=(15 / 8, -10 / 8, 3 / 8))
    np.testing.assert_allclose(out, u @ vt, rtol=1e-9, atol=1e-10)


def test_after_five_steps_all_but_the_smallest_singular_values_are_in_the_band():
    s = np.geomspace(0.0016, 1, 100_001)
    assert polynomial(s).min() > 0.681 and polynomial(s).max() < 1.203
    band = np.linspace(0.6818, 1.2024, 10_001)                     # and what is in stays in
    once = polynomial(band, 1)
    assert once.min() >= 0.6818 and once.max() <= 1.2024
    assert polynomial(0.001) < 0.5
    fixed = math.sqrt((-B - math.sqrt(B * B - 4 * C * (A - 1))) / (2 * C))
    assert polynomial(fixed, 1) == pytest.approx(fixed) == pytest.approx(0.868, abs=1e-3)
    assert A + 3 * B * fixed**2 + 5 * C * fixed**4 < -1            # and it repels: no convergence
    assert polynomial(1.3, 4) > 1e6                                # beyond 1.264 it explodes


@pytest.mark.parametrize("low, high", [(0.7, 1.2), (0.6818, 1.2024), (0.5, 1.5), (0.9, 1.1)])
def test_the_quintic_keeps_its_band_and_touches_it_three_times(low, high):
    a, b, c = quintic(low, high)
    s = np.linspace(0, high, 200_001)
    y = a * s + b * s**3 + c * s**5
    inside = s >= low
    assert y.max() <= high + 1e-9 and y[inside].min() >= low - 1e-9
    dip = s[inside][y[inside].argmin()]
    assert y[s < dip].max() == pytest.approx(high, abs=1e-8)       # the hump
    assert low < dip < high and y[inside].min() == pytest.approx(low, abs=1e-8)         # the dip
    assert a * high + b * high**3 + c * high**5 == pytest.approx(high, abs=1e-9)


def test_no_quintic_that_keeps_the_band_is_steeper_at_zero():
    best, s = quintic(0.7, 1.2), np.linspace(0, 1.2, 241)
    inside, rng, found = s >= 0.7, np.random.default_rng(0), []
    for _ in range(20_000):
        a, b, c = best + rng.standard_normal(3) * 10.0 ** rng.uniform(-4, 0)
        y = a * s + b * s**3 + c * s**5
        if y.max() <= 1.2 and y[inside].min() >= 0.7:
            found.append(a)
    assert len(found) > 20 and 0.98 * best[0] < max(found) <= best[0] + 1e-3
    assert 0.95 < A / quintic(0.6818, 1.2024)[0] < 1               # the published one, in its band


def test_a_band_that_no_quintic_touches_three_times_is_refused():
    for low, high in ((0, 1), (1.2, 0.7), (1, 1), (-1, 1)):
        with pytest.raises(ValueError, match="0 < low < high"):
            quintic(low, high)
    with pytest.raises(ValueError, match="too near to high"):
        quintic(0.99, 1.01)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_the_scale_of_the_gradient_does_not_matter_and_the_dtype_stays(dtype, size):
    g = np.random.default_rng(0).standard_normal((6, 4))
    out = orthogonalize((g * size).astype(dtype))
    assert out.dtype == dtype
    np.testing.assert_allclose(out, orthogonalize(g), atol=1e-5 if dtype == np.float32 else 1e-12)


def test_zero_and_empty_matrices_stay_what_they_are():
    assert (orthogonalize(np.zeros((3, 5), np.float32)) == np.zeros((3, 5), np.float32)).all()
    assert orthogonalize(np.zeros((3, 5), np.float32)).dtype == np.float32
    assert orthogonalize(np.zeros((0, 5))).shape == (0, 5)
    for shape in ((), (4,), (2, 3, 4)):
        with pytest.raises(ValueError, match=r"not an array of shape \(.*AdamW"):
            orthogonalize(np.ones(shape))


def test_muon_turns_with_its_matrix_and_adam_does_not():
    rng = np.random.default_rng(0)
    p, g, h = rng.standard_normal((3, 6, 4))
    left, right = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (6, 4))
    for make, turns in ((Muon, True), (AdamW, False)):
        ends = []
        for q, r in ((np.eye(6), np.eye(4)), (left, right)):
            x = tensor(q @ p @ r)
            walk(make({"w": x}), x, [q @ g @ r, q @ h @ r])
            ends.append(q.T @ x.data @ r.T)
        assert np.allclose(*ends, atol=1e-10) == turns


def test_the_first_step_of_muon_is_the_polynomial_of_the_gradient_at_the_size_of_adams():
    rng = np.random.default_rng(0)
    start, g = rng.standard_normal((2, 30, 20))
    for scale in (1e-6, 1e6):                                      # units do not matter
        p = tensor(start)
        walk(Muon({"w": p}, decay=0.0), p, [scale * g])
        np.testing.assert_allclose(start - p.data, 0.1 * 0.2 * 30**0.5 * orthogonalize(g),
                                   rtol=1e-9)
    assert 0.15 < np.sqrt(np.mean((start - p.data) ** 2)) / 0.1 < 0.22     # about 0.2 rates


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_momentum_then_orthogonalisation_then_decay(nesterov):
    rng = np.random.default_rng(0)
    p = tensor(rng.standard_normal((5, 3)))
    x, v = p.data.copy(), np.zeros((5, 3))
    optimizer = Muon({"w": p}, momentum=0.8, nesterov=nesterov, decay=0.3)
    for _ in range(6):
        g = rng.standard_normal((5, 3))
        walk(optimizer, p, [g], rate=0.05)
        v = 0.8 * v + g                                # day 17's form: 1/(1 − μ) as long
        move = orthogonalize(g + 0.8 * v if nesterov else v)
        x = x * (1 - 0.05 * 0.3) - 0.05 * 0.2 * 5**0.5 * move
    np.testing.assert_allclose(p.data, x, rtol=1e-10)


def test_muon_gives_vectors_tables_and_the_head_to_adamw():
    rng = np.random.default_rng(0)
    ours, peer = (NeuralNGram(9, 3, 4, 5, np.random.default_rng(1)) for _ in range(2))
    a, b = ours.named_parameters(), peer.named_parameters()
    muon, adamw = Muon(a, decay=0.2), AdamW(b, decay=0.2)
    assert list(muon.m) == ["hidden.w"] and muon.parameters == a
    for _ in range(4):
        for name in a:
            a[name].grad = b[name].grad = rng.standard_normal(a[name].shape).astype(np.float32)
        muon.step(0.01)
        adamw.step(0.01)
    for name in a:
        assert (a[name].data.tobytes() == b[name].data.tobytes()) == (name != "hidden.w")


def test_what_is_hidden_is_told_by_name_and_axes():
    two, one = tensor(np.ones((2, 2))), tensor(np.ones(2))
    for name, p, mine in (("blocks.0.mix.inner.qkv.w", two, True), ("hidden.w", two, True),
                          ("layout.w", two, True), ("out.w", two, False), ("a.out.w", two, False),
                          ("head.w", two, False), ("embed.table", two, False),
                          ("table", two, False), ("norm.gain", one, False)):
        assert hidden(name, p) == mine, name
    assert not hidden("hidden.w", tensor(np.ones((2, 2, 2))))


def test_only_muons_matrices_that_decays_names_are_decayed():
    p = {"a": tensor(np.ones((2, 2))), "b": tensor(np.ones((2, 2)))}
    optimizer = Muon(p, decay=0.5, decays=lambda name, _: name == "a")
    for x in p.values():
        x.grad = np.zeros((2, 2))
    optimizer.step(0.1)
    assert (p["a"].data == 0.95).all() and (p["b"].data == 1).all()


def muon_model():
    return {"w": tensor(np.ones((3, 2)), np.float32), "b": tensor(np.ones(2), np.float32),
            "embed.table": tensor(np.ones((4, 2)), np.float32)}


@pytest.mark.parametrize("names", [("w", "b", "embed.table"), ("w",), ("b",)])
def test_a_resumed_run_of_muon_equals_an_uninterrupted_one_bit_for_bit(names):
    rng = np.random.default_rng(0)
    gradients = [{n: rng.standard_normal(p.shape).astype(np.float32)
                  for n, p in muon_model().items()} for _ in range(9)]

    def go_on(optimizer, p, some):
        for g in some:
            for name in p:
                p[name].grad = g[name]
            optimizer.step(0.1)

    whole = {n: p for n, p in muon_model().items() if n in names}
    go_on(Muon(whole), whole, gradients)
    part = {n: p for n, p in muon_model().items() if n in names}
    first = Muon(part)
    go_on(first, part, gradients[:4])
    state = {key: np.array(a) for key, a in first.state_dict().items()}
    assert ("momentum.w" in state) == ("w" in names) and ("t" in state) == ("b" in names)
    second = Muon(part)
    second.load_state_dict(state)
    go_on(second, part, gradients[4:])
    for name in names:
        assert part[name].data.dtype == np.float32
        assert part[name].data.tobytes() == whole[name].data.tobytes()


@pytest.mark.parametrize("damage, message", [
    (lambda s: s.pop("momentum.w"), "momentum.w"), (lambda s: s.pop("v.b"), "v.b"),
    (lambda s: s.update(odd=np.ones(1)), "odd"),
    (lambda s: s.update({"momentum.x": np.ones(1)}), "momentum.x"),
    (lambda s: s.update({"momentum.w": np.ones((2, 3))}), r"\(2, 3\) and the parameter \(3, 2\)"),
    (lambda s: s.update(t=np.array(-1)), "whole numbers"),
    (lambda s: s.update({"v.b": -np.ones(2)}), "negative"),
    (lambda s: s.update({"v.b": np.array([1, np.nan])}), "or NaN")])
def test_a_state_that_does_not_fit_muon_changes_nothing(damage, message):
    optimizer = Muon(muon_model())
    state = {key: np.array(a) + 1 for key, a in optimizer.state_dict().items()}
    damage(state)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    assert not any(np.any(a) for a in optimizer.state_dict().values())
    alone = Muon({"w": tensor(np.ones((3, 2)))})
    with pytest.raises(ValueError, match="odd"):
        alone.load_state_dict({"momentum.w": np.ones((3, 2)), "odd": np.ones(1)})
    assert not alone.m["w"].any()


def test_a_matrix_without_a_gradient_stays_and_a_gradient_is_left_alone():
    p = muon_model()
    g = np.arange(6, dtype=np.float32).reshape(3, 2)
    p["w"].grad = g
    data = p["w"].data
    optimizer = Muon(p)
    optimizer.step(0.1)
    assert p["w"].data is data and (data != 1).any() and (p["b"].data == 1).all()
    assert g.tolist() == [[0, 1], [2, 3], [4, 5]]
    p["w"].grad, before = None, data.copy()
    optimizer.step(0.1)
    assert (data == before).all()


def test_one_huge_gradient_leaves_nothing_infinite_in_muon():
    p = {"w": tensor(np.ones((2, 2)), np.float32)}
    optimizer = Muon(p)
    for size in (3e38, -3e38, 1.0, 3e38):
        p["w"].grad = np.array([[size, size], [-size, size]], np.float32)
        optimizer.step(0.1)
    assert np.isfinite(p["w"].data).all() and np.isfinite(optimizer.m["w"]).all()


def test_options_of_muon_that_cannot_work_are_refused():
    w = {"w": tensor(np.ones((2, 2)))}
    for options, message in (({"momentum": 1.0}, "momentum"), ({"momentum": -0.1}, "momentum"),
                             ({"steps": 0}, "steps 0"), ({"eps": -1}, "eps"),
                             ({"decay": -0.1}, "decay"), ({"betas": (1.0, 0.9)}, "betas")):
        with pytest.raises(ValueError, match=message):
            Muon(w, **options)
    for wrong in ({}, [tensor([[1.0]])], None):
        with pytest.raises(ValueError, match="named_parameters"):
            Muon(wrong)
    assert Muon(w, steps=1, momentum=0.0).iteration == (1, COEFFICIENTS)           # these can
    with pytest.raises(ValueError, match=r"given b \(2,\)"):
        Muon({"b": tensor([1.0, 2.0])}, orthogonal=lambda name, p: True)


def test_the_defaults_of_muon_are_the_published_ones():
    assert COEFFICIENTS == (3.4445, -4.7750, 2.0315)
    p = muon_model()
    optimizer = Muon(p)
    assert (optimizer.options, optimizer.iteration) == ((0.95, True), (5, COEFFICIENTS))
    assert (optimizer.rest.betas, optimizer.rest.eps) == ((0.9, 0.999), 1e-8)
    assert optimizer.decay == {"w": 0.01, "b": 0, "embed.table": 0}
    g, h = np.random.default_rng(0).standard_normal((2, 3, 2))
    m, x = h.copy(), np.ones((3, 2))
    assert muon_update(x, g, m, 0.1, 0.5, True, 0.0, 5, COEFFICIENTS) is None
    np.testing.assert_allclose(m, (g + h) / 2)
    np.testing.assert_allclose(1 - x, 0.02 * 3**0.5 * orthogonalize(0.5 * g + 0.25 * (g + h)))


# ---- what run.py does ----------------------------------------------------------------------------


def test_a_grid_grows_until_its_best_rate_is_inside_and_the_report_is_from_the_other_piece(
        monkeypatch):
    asked = []

    def learn(texts, make, rate, seed, steps):
        asked.append((rate, seed))
        return 9.0, abs(math.log(rate / 2.3)) + 0.01 * seed, 5.0 + seed

    monkeypatch.setattr(race, "learn", learn)
    row = race.race(None, None, (0.4, 0.6, 0.9), 1, (1, 3), (10, 12), lambda: None)
    assert [rate for rate, _ in row["grid"]] == [0.4, 0.6, 0.9, 1.4, 2.1, 3.2]
    assert row["rate"] == 2.1 and row["inside"]
    assert dict(row["grid"])[2.1] == pytest.approx(math.log(2.3 / 2.1) + 0.02)
    assert row["nats"] == [15.0, 17.0] and row["mean"] == 16 and row["seen"] == 9
    assert row["spread"] == pytest.approx(2**0.5) and asked[-2:] == [(2.1, 10), (2.1, 12)]
    row = race.race(None, None, (5.0, 7.5), 1, (0,), (1, 2), lambda: None)          # downwards
    assert row["rate"] == 2.2 and row["inside"]
    row = race.race(None, None, (0.1, 0.15), 1, (0,), (1, 2), lambda: None, grow=2)
    assert not row["inside"] and len(row["grid"]) == 4


def test_differences_are_taken_seed_by_seed():
    rows = {"a": {"nats": [1.0, 2.0, 3.0]}, "b": {"nats": [1.1, 2.2, 3.3]}}
    what, mean, half, apart = race.compare(rows, "a", "b")
    assert (what, apart) == ("a less b", False) and mean == pytest.approx(-0.2)
    assert half == pytest.approx(9.925 * 0.1 / 3**0.5, rel=1e-3)
    assert race.compare({**rows, "b": {"nats": [2.0, 3.0, 4.01]}}, "a", "b")[3]


@pytest.mark.parametrize("kind, blind", [("plain steps", True), ("momentum 0.9", True),
                                         ("RMSProp", False), ("Adam", False), ("Muon", True)])
def test_which_optimizers_a_turned_bowl_is_the_same_for(kind, blind):
    rng = np.random.default_rng(0)
    a, b = np.geomspace(1, 0.01, 8), np.geomspace(1, 0.01, 6)
    q, r = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (8, 6))
    start = rng.standard_normal((8, 6))
    straight = bowls.descent(bowls.KINDS[kind], lambda x: a[:, None] * x * b, start, 0.2, 20)
    turned = bowls.descent(bowls.KINDS[kind],
                           lambda x: (q * a) @ q.T @ x @ (r * b) @ r.T, q @ start @ r.T, 0.2, 20)
    assert straight[0] == 1 and len(straight) == 21 and straight[-1] < 1
    lost = bowls.descent(bowls.KINDS[kind], lambda x: x, start, 50.0, 20)
    assert lost == [np.inf] * 21
    assert np.allclose(straight, turned, rtol=1e-6) == blind


def test_headline_adam_beats_plain_steps_and_a_turn_is_nothing_to_muon():
    result = run.measure(fast=True, seed=0)
    assert result.first_move == pytest.approx(0.099999, abs=1e-9)
    left = {(kind, name): losses[0] for kind, name, _, _, losses, _ in result.bowls}
    for kind in ("plain steps", "momentum 0.9", "Muon"):
        assert left[kind, "along"] == pytest.approx(left[kind, "turned"],
                                                    rel=0.5 if kind == "Muon" else 1e-3)
    assert left["RMSProp", "along"] < 1e-3 * left["RMSProp", "turned"]
    assert left["Adam", "own"] < left["plain steps", "own"]
    assert {len(row["nats"]) for row in result.race.values()} == {2}
    assert len(run.table(result)) == 1 + len(race.KINDS)
