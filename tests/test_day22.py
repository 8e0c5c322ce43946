"""Day 22 · The GRU: by hand, against finite differences and a plain loop, its twin, its model."""

import contextlib
import functools
import itertools
import math
import types

import numpy as np
import pytest

from days.day22 import studies, through_time
from days.day22.run import measure, rows_of
from experiments import recurrence
from llm.functions import gru as pairs
from llm.functions import rnn as plain
from llm.functions.probability import log_softmax
from llm.grad.check import check_pair, check_twin, numerical_gradient
from llm.grad.tensor import Tensor
from llm.kernels import gru as kernels
from llm.layers.recurrent import GRU, RNN
from llm.layers.recurrent import gru as primitive
from llm.models.gru import RecurrentLM, log_probabilities
from llm.models.ngram import NGram
from llm.train import fast_gru, recurrent
from llm.train.adam import AdamW
from llm.train.recurrent import streams, train
from llm.train.schedule import Constant
from llm.train.sgd import SGD


@pytest.fixture
def rng():
    return np.random.default_rng(22)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def arrays(rng, B=3, T=5, cin=4, C=6, dtype=np.float64):
    shapes = (B, T, cin), (B, C), (cin, 3 * C), (C, 3 * C), (3 * C,), (C,)
    return [rng.standard_normal(s).astype(dtype) for s in shapes]


def one_number_at_a_time(x, h0, w, wh, b, bh, reset_after):
    """The equations in Python's floats, for every text, token and channel by itself."""
    (B, T, cin), C = x.shape, h0.shape[1]
    out = np.empty((B, T, C))
    for i in range(B):
        h = h0[i].tolist()
        for t in range(T):
            a = [b[j] + sum(x[i, t, k] * w[k, j] for k in range(cin)) for j in range(3 * C)]
            m = [sum(h[k] * wh[k, j] for k in range(C)) for j in range(3 * C)]
            r = [sigmoid(a[j] + m[j]) for j in range(C)]
            u = [sigmoid(a[C + j] + m[C + j]) for j in range(C)]
            if reset_after:
                q = [r[j] * (m[2 * C + j] + bh[j]) for j in range(C)]
            else:
                q = [sum(r[k] * h[k] * wh[k, 2 * C + j] for k in range(C)) + bh[j]
                     for j in range(C)]
            n = [math.tanh(a[2 * C + j] + q[j]) for j in range(C)]
            h = [u[j] * h[j] + (1 - u[j]) * n[j] for j in range(C)]
            out[i, t] = h
    return out


def test_the_example_by_hand():
    """One channel, x = 1 then 0, all weights 1, update bias 1: the numbers of the note."""
    x, h0 = np.array([[[1.0], [0.0]]]), np.zeros((1, 1))
    w, wh, b, bh = np.ones((1, 3)), np.ones((1, 3)), np.array([0.0, 1, 0]), np.zeros(1)
    out, saved = pairs.gru(x, h0, w, wh, b, bh)
    r, u, n = (saved[k][0, :, 0] for k in (4, 5, 6))
    assert r == pytest.approx([.731059, .522681], abs=2e-6)
    assert u == pytest.approx([.880797, .748529], abs=2e-6)
    assert n == pytest.approx([.761594, .047416], abs=2e-6)
    assert out[0, :, 0] == pytest.approx([.090784, .079878], abs=2e-6)
    _, saved = pairs.gru(x[:, 1:], out[:, 0], w, wh, b, bh)      # the second token alone
    dx, dh, *_ = pairs.gru_vjp(np.ones((1, 1, 1)), *saved)
    keep, gate, candidate = .748529, .043369 * .188234, .251471 * .997752 * .545329
    assert dh[0, 0] == pytest.approx(keep + gate + candidate, abs=2e-6)
    assert dh[0, 0] == pytest.approx(.893518, abs=2e-6)


@pytest.mark.parametrize("reset_after", [True, False])
def test_the_gru_equals_its_equations_number_by_number(rng, reset_after):
    for B, T, cin, C in ((1, 1, 1, 1), (2, 4, 3, 5), (3, 6, 5, 2)):
        given = arrays(rng, B, T, cin, C)
        out, _ = pairs.gru(*given, reset_after=reset_after)
        assert out == pytest.approx(one_number_at_a_time(*given, reset_after), abs=1e-12)


def test_reset_after_the_product_is_the_default_and_the_two_orders_differ(rng):
    given = arrays(rng)
    after = pairs.gru(*given)[0]
    assert (after == pairs.gru(*given, reset_after=True)[0]).all()
    assert np.abs(after - pairs.gru(*given, reset_after=False)[0]).max() > .01
    given[4][:6] = 50                             # an open reset gate: the two orders are one
    a, b = (pairs.gru(*given, reset_after=order)[0] for order in (True, False))
    assert a == pytest.approx(b, abs=1e-10)


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 4, 3, 5), (3, 2, 1, 2)])
def test_backpropagation_through_time_equals_finite_differences(rng, shape, reset_after):
    check_pair(pairs.gru, pairs.gru_vjp, *arrays(rng, *shape), rng=rng, reset_after=reset_after)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 4, 3, 5)])
def test_the_plain_layer_equals_its_equation_and_its_gradients_finite_differences(rng, shape):
    B, T, cin, C = shape
    x, h0, w, wh, b = (rng.standard_normal(s)
                       for s in ((B, T, cin), (B, C), (cin, C), (C, C), (C,)))
    h, out = h0, plain.rnn(x, h0, w, wh, b)[0]
    for t in range(T):
        h = np.tanh(x[:, t] @ w + h @ wh + b)
        assert out[:, t] == pytest.approx(h)
    check_pair(plain.rnn, plain.rnn_vjp, x, h0, w, wh, b, rng=rng)


def test_two_windows_with_the_state_carried_equal_one(rng):
    for order in (True, False):
        x, h0, *weights = arrays(rng, T=9)
        whole = pairs.gru(x, h0, *weights, reset_after=order)[0]
        first = pairs.gru(x[:, :4], h0, *weights, reset_after=order)[0]
        second = pairs.gru(x[:, 4:], first[:, -1], *weights, reset_after=order)[0]
        assert np.concatenate([first, second], 1) == pytest.approx(whole, abs=1e-12)


def test_a_later_token_never_changes_an_earlier_state_and_texts_never_meet(rng):
    x, *rest = arrays(rng)
    before = pairs.gru(x, *rest)[0]
    x[1, 3] += 1
    after = pairs.gru(x, *rest)[0]
    assert (after[:, :3] == before[:, :3]).all() and (after[[0, 2]] == before[[0, 2]]).all()
    assert (after[1, 3:] != before[1, 3:]).all()


def test_an_update_gate_of_one_is_a_highway_and_of_zero_a_wall(rng):
    x, h0, w, wh, b, bh = arrays(rng, T=30)
    for bias, expected in ((60.0, 1.0), (-60.0, 0.0)):
        b[6:12] = bias
        out, saved = pairs.gru(x, h0, 0 * w, 0 * wh, b, bh)
        assert out[:, -1] == pytest.approx(expected * h0 + (1 - expected) * out[:, 0])
        dout = np.zeros_like(out)
        dout[:, -1] = rng.standard_normal(h0.shape)
        dh0 = pairs.gru_vjp(dout, *saved)[1]
        assert dh0 == pytest.approx(expected * dout[:, -1], abs=1e-12)


def test_twin_equals_reference_also_for_what_it_leaves_to_it(rng):
    for B, T, cin, C in ((1, 1, 1, 1), (4, 3, 2, 5), (5, 7, 6, 16), (9, 2, 3, 8)):
        for order in (True, False):
            check_twin((pairs.gru, pairs.gru_vjp), (fast_gru.gru, fast_gru.gru_vjp),
                       arrays(rng, B, T, cin, C), rng, rtol=2e-4, atol=2e-5, reset_after=order)


def test_the_kernels_tanh_is_right_to_3e_7_and_its_sigmoid_to_2e_7():
    x = np.linspace(-30, 30, 2001).astype(np.float32)
    wide = x.astype(np.float64)
    found = np.array([kernels.tanh32(v) for v in x])
    assert np.abs(found - np.tanh(wide)).max() < 3e-7 and np.abs(found).max() <= 1
    found = np.array([kernels.sigmoid32(v) for v in x])
    assert np.abs(found - 1 / (1 + np.exp(-wide))).max() < 2e-7
    assert found[0] == 0 and found[-1] == 1


def test_fast_lowers_the_gru_inside_its_block_and_nowhere_else(rng, monkeypatch):
    calls, layer = [], GRU(3, 4, rng)
    for name in ("forward", "backward"):
        kernel = getattr(kernels, name)
        monkeypatch.setattr(kernels, name, lambda *a, kernel=kernel, name=name: (
            calls.append(name), kernel(*a))[1])
    x, h0 = rng.standard_normal((2, 3, 3)).astype(np.float32), np.zeros((2, 4), np.float32)
    layer(Tensor(x), h0).sum().backward()
    assert calls == []
    with fast_gru.fast():
        layer(Tensor(x), h0).sum().backward()
        assert calls == ["forward", "backward"]
        GRU(3, 4, rng, reset_after=False)(Tensor(x), h0).sum().backward()
        GRU(3, 4, rng, dtype=np.float64)(Tensor(x.astype(float)), h0.astype(float))
    layer(Tensor(x), h0)
    assert calls == ["forward", "backward"]


@pytest.mark.parametrize("context", [contextlib.nullcontext, fast_gru.fast])
def test_bad_shapes_raise_with_the_shapes(rng, context):
    x, h0, w, wh, b, bh = arrays(rng, dtype=np.float32)
    with context():
        with pytest.raises(ValueError, match=r"gru: x \(5, 4\).*h0 \(3, 6\).*x\[None\]"):
            primitive(x[0], h0, w, wh, b, bh)
        with pytest.raises(ValueError, match=r"h0 \(6,\)"):
            primitive(x, h0[0], w, wh, b, bh)
        for name, at, wrong, wanted in (
                ("h0", 1, h0[:2], r"\(3, 6\)"), ("w", 2, w[:3], r"\(4, 18\)"),
                ("wh", 3, wh.T, r"\(6, 18\)"), ("b", 4, b[1:], r"\(18,\)"),
                ("bh", 5, b, r"\(6,\)")):
            given = [x, h0, w, wh, b, bh]
            given[at] = wrong
            shape = str(wrong.shape).replace("(", r"\(").replace(")", r"\)")
            with pytest.raises(ValueError, match=rf"gru: {name} {shape} does not.*{wanted}"):
                primitive(*given)
    with pytest.raises(ValueError, match=r"rnn: wh \(6, 18\).*\(6, 6\)"):
        plain.rnn(x, h0, w[:, :6], wh, b[:6])


def test_no_tokens_and_no_texts(rng):
    for B, T in ((2, 0), (0, 3)):
        x, h0, *weights = arrays(rng, B=B, T=T)
        out, saved = pairs.gru(x, h0, *weights)
        dx, dh0, dw, *_ = pairs.gru_vjp(out, *saved)
        assert out.shape == (B, T, 6) and dx.shape == x.shape and dh0.shape == h0.shape
        assert (dw == 0).all()
        given = [a.astype(np.float32) for a in (x, h0, *weights)]
        assert fast_gru.gru(*given)[0].shape == (B, T, 6)


def test_the_layers_have_these_parameters_and_this_start(rng):
    part = GRU(300, 200, rng)
    shapes = {name: p.shape for name, p in part.named_parameters().items()}
    assert shapes == {"w": (300, 600), "wh": (200, 600), "b": (600,), "bh": (200,)}
    assert part.count_parameters() == 3 * 200 * 500 + 4 * 200
    assert part.w.data.std() == pytest.approx(300**-.5, rel=.02)
    assert part.wh.data.std() == pytest.approx(200**-.5, rel=.02)
    assert (part.b.data == 0).all()
    assert (part.bh.data == 0).all() and part.reset_after
    assert GRU(3, 2, rng, keep=2.5).b.data.tolist() == [0, 0, 2.5, 2.5, 0, 0]
    other = RNN(300, 200, rng)
    assert {n: p.shape for n, p in other.named_parameters().items()} == {
        "w": (300, 200), "wh": (200, 200), "b": (200,)}
    assert other.wh.data.std() == pytest.approx(200**-.5, rel=.02)
    assert all(p.dtype == np.float32 for m in (part, other) for p in m.named_parameters().values())
    assert GRU(3, 4, rng, reset_after=False).reset_after is False
    x, h0 = rng.standard_normal((1, 2, 3)), np.zeros((1, 4))
    layer = GRU(3, 4, rng, reset_after=False, dtype=np.float64)
    weights = [p.data for p in layer.named_parameters().values()]
    assert (layer(x, h0).data == pairs.gru(x, h0, *weights, reset_after=False)[0]).all()


def model_of(rng, layers=2, layer=GRU, V=11, C=8, dtype=None):
    model = RecurrentLM(V, C, layers, rng, layer)
    for p in model.named_parameters().values():
        p.data = p.data + .3 * rng.standard_normal(p.shape).astype(np.float32)
        p.data = p.data.astype(dtype or np.float32)
    return model


def test_the_model_carries_its_states_between_windows(rng):
    model, ids = model_of(rng), rng.integers(11, size=(3, 9))
    whole, end = model(ids)
    first, states = model(ids[:, :4])
    second, last = model(ids[:, 4:], states)
    assert whole.shape == (3, 9, 11) and len(end) == 2
    both = np.concatenate([first.data, second.data], axis=1)
    assert both == pytest.approx(whole.data, abs=1e-5)
    assert [a.shape for a in last] == [(3, 8)] * 2
    assert all(a == pytest.approx(b, abs=1e-5) for a, b in zip(last, end))
    fresh, _ = model(ids[:, 4:])
    assert np.abs(fresh.data - second.data).max() > .01
    assert [a.sum() for a in model.start(4)] == [0, 0] and model.start(4)[0].shape == (4, 8)
    assert model.start(4)[0].dtype == np.float32


def test_the_models_gradients_equal_finite_differences(rng):
    model, ids = model_of(rng, dtype=np.float64, C=3, V=5), rng.integers(5, size=(2, 5))
    model.loss(ids[:, :-1], ids[:, 1:])[0].backward()
    for p in model.named_parameters().values():
        numeric = numerical_gradient(
            lambda _: float(model.loss(ids[:, :-1], ids[:, 1:])[0].data), p.data)
        assert p.grad == pytest.approx(numeric, abs=1e-7)


def test_parameters_and_an_even_start(rng):
    V, C, L = 84, 32, 2
    model = RecurrentLM(V, C, L, rng)
    assert model.count_parameters() == V * C + L * (6 * C * C + 4 * C) + C * V + V
    ids = rng.integers(V, size=(4, 20))
    loss, _ = model.loss(ids, ids)
    assert float(loss.data) == pytest.approx(math.log(V), abs=.02)
    assert model.embed.table.data.std() == pytest.approx(1, abs=.05)


def test_bad_models_and_calls_raise(rng):
    for bad in ((0, 4, 1), (5, 0, 1), (5, 4, 0)):
        with pytest.raises(ValueError, match=f"V {bad[0]}, C {bad[1]}, L {bad[2]}"):
            RecurrentLM(*bad, rng)
    assert RecurrentLM(1, 1, 1, rng).count_parameters() == 13
    model = model_of(rng)
    for ids in (np.zeros(4, int), np.zeros((2, 0), int)):
        with pytest.raises(ValueError, match=r"ids \(.*ids\[None\]"):
            model(ids)
    with pytest.raises(ValueError, match="1 states for 2 layers"):
        model(np.zeros((1, 2), int), [np.zeros((1, 8))])
    for temperature in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="temperature"):
            model.generate(np.zeros((1, 2), int), 1, rng, temperature)
    with pytest.raises(ValueError, match="how long"):
        train(model, None, None, None)


def test_generate_draws_from_the_models_own_distribution(rng):
    model, prompt = model_of(rng), rng.integers(11, size=(1, 4))
    many = np.repeat(prompt, 4000, axis=0)
    drawn = model.generate(many, 2, np.random.default_rng(1))
    assert drawn.shape == (4000, 2) and drawn.dtype == np.int32
    p = np.exp(log_softmax(model(prompt)[0].data[0, -1].astype(float)))
    assert np.bincount(drawn[:, 0], minlength=11) / 4000 == pytest.approx(p, abs=.03)
    top = p.argmax()
    follow = drawn[drawn[:, 0] == top, 1]
    p = np.exp(log_softmax(model(np.append(prompt, top)[None])[0].data[0, -1].astype(float)))
    assert np.bincount(follow, minlength=11) / len(follow) == pytest.approx(p, abs=.06)
    cold = model.generate(prompt, 5, rng, temperature=1e-6)[0]
    ids = prompt[0].tolist()
    for token in cold:
        assert token == model(np.array([ids]))[0].data[0, -1].argmax()
        ids.append(token)
    logits, states = model(prompt[:, :3])
    carried = model.generate(prompt[:, 3:], 5, np.random.default_rng(3), states=states)
    assert (carried == model.generate(prompt, 5, np.random.default_rng(3))).all()


def test_streams_go_on_where_they_stopped_and_every_target_is_the_next_token():
    ids = np.arange(24)
    it = streams(ids, 2, 3)
    got = [next(it) for _ in range(5)]
    assert [fresh for *_, fresh in got] == [True, False, False, True, False]
    assert [a[:, 0].tolist() for a, *_ in got] == [[0, 11], [3, 14], [6, 17], [0, 11], [3, 14]]
    assert all((t == i + 1).all() and i.shape == (2, 3) for i, t, _ in got)
    i, t, _ = next(streams(np.arange(7), 2, 3))
    assert i.tolist() == [[0, 1, 2], [3, 4, 5]] and t[1].tolist() == [4, 5, 6]
    one_token = streams(np.arange(5), 2, 1)
    assert [next(one_token)[0].tolist() for _ in range(3)] == [[[0], [2]], [[1], [3]], [[0], [2]]]
    for bad in ((np.arange(6), 2, 3), (ids, 0, 3), (ids, 2, 0), (ids, -1, 3)):
        with pytest.raises(ValueError, match=f"{len(bad[0])} tokens gives no {bad[1]} streams"):
            next(streams(*bad))


def test_training_carries_states_clips_and_forgets_at_a_fresh_text(rng):
    ids, steps = rng.integers(11, size=40), []
    model = model_of(rng)
    before = {k: v.copy() for k, v in model.state_dict().items()}
    given, inner = [], model.loss

    def loss(inputs, targets, states=None):
        given.append(states)
        return inner(inputs, targets, states)

    model.loss = loss
    losses = train(model, streams(ids, 1, 13), SGD(model.named_parameters()), Constant(.5),
                   clip=1e-3, steps=4, watch=lambda *a: steps.append(a))
    assert [s is None for s in given] == [True, False, False, True]
    assert [(s, t) for s, t, _ in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [x for *_, x in steps] == losses
    moved = math.sqrt(sum(((model.state_dict()[k] - before[k]) ** 2).sum() for k in before))
    assert 0 < moved <= 4 * .5e-3 * 1.01
    assert train(model, streams(ids, 1, 13), None, None, seconds=-1) == []


def test_a_run_limited_by_time_ends_at_its_time_and_tells_how_many_steps_it_expects(
        rng, monkeypatch):
    clock, seen, model = itertools.count(1000, 2), [], model_of(rng)
    monkeypatch.setattr(recurrent, "time", types.SimpleNamespace(perf_counter=clock.__next__))
    losses = train(model, streams(rng.integers(11, size=40), 1, 13),
                   SGD(model.named_parameters()), Constant(.1), seconds=7,
                   watch=lambda step, total, _: seen.append((step, total)))
    assert len(losses) == 3 and seen == [(1, 3), (2, 3), (3, 3)]     # begun after 2, 4 and 6 s


def test_the_clip_is_one_unless_told(rng):
    model = model_of(rng)
    for p in model.named_parameters().values():
        p.data *= 8                                              # confident and wrong
    before = {k: v.copy() for k, v in model.state_dict().items()}
    train(model, streams(rng.integers(11, size=40), 1, 13), SGD(model.named_parameters()),
          Constant(.5), steps=1)
    moved = math.sqrt(sum(((model.state_dict()[k] - before[k]) ** 2).sum() for k in before))
    assert moved == pytest.approx(.5, rel=1e-3)


def test_training_learns_a_pattern_longer_than_its_window(rng):
    """Windows of 4 tokens, a pattern of period 6: only the carried state tells where one is."""
    ids = np.array([0, 0, 0, 0, 0, 1] * 60)
    model = RecurrentLM(2, 12, 1, rng, functools.partial(GRU, keep=1))
    losses = train(model, streams(ids, 2, 4), AdamW(model.named_parameters(), decay=0.0),
                   Constant(.02), steps=400)
    assert np.median(losses[-40:]) < .1


def test_log_probabilities_score_each_token_once_with_the_whole_past(rng):
    model, ids = model_of(rng), rng.integers(11, size=30)
    logits = model(ids[None, :-1])[0].data[0].astype(np.float64)
    expected = log_softmax(logits)[np.arange(29), ids[1:]]
    for length in (1, 7, 29, 256):
        found = log_probabilities(model, ids, length)
        assert found.dtype == np.float64 and found == pytest.approx(expected, abs=1e-5)
    assert log_probabilities(model, ids[:1]).shape == (0,)


@pytest.mark.parametrize("layer", [GRU, RNN])
def test_the_jacobian_is_the_product_of_the_steps_and_equals_finite_differences(rng, layer):
    part = layer(3, 4, rng, dtype=np.float64)
    x, h = rng.standard_normal((5, 3)), rng.standard_normal(4)
    found = through_time.jacobian(part, x, h)
    end = lambda h: part(x[None], h[None]).data[0, -1]
    columns = [(end(h + 1e-6 * e) - end(h - 1e-6 * e)) / 2e-6 for e in np.eye(4)]
    assert found == pytest.approx(np.array(columns).T, abs=1e-8)
    product, state = np.eye(4), h
    for t in range(5):
        product = through_time.jacobian(part, x[t:t + 1], state) @ product
        state = part(x[None, t:t + 1], state[None]).data[0, -1]
    assert found == pytest.approx(product)


def test_the_plain_jacobian_is_bounded_as_derived_and_reach_reports_it(rng):
    part = RNN(3, 4, rng, dtype=np.float64)
    x, h = rng.standard_normal((6, 3)), rng.standard_normal(4)
    J = through_time.jacobian(part, x, h)
    assert np.linalg.norm(J, 2) <= np.linalg.norm(part.wh.data, 2) ** 6
    model = model_of(rng, layers=1, layer=RNN)
    text = rng.integers(11, size=(1, 9))
    inputs, states = through_time.states_of(model, text[0])
    (rms, largest), (start, _) = through_time.reach(model, text, [3, 9])
    J = through_time.jacobian(model.layers[0], inputs[-3:], states[-4])
    assert rms == pytest.approx(np.linalg.norm(J) / math.sqrt(8), rel=1e-5)
    assert largest == pytest.approx(np.linalg.norm(J, 2), rel=1e-5)
    J = through_time.jacobian(model.layers[0], inputs, np.zeros(8, np.float32))
    assert start == pytest.approx(np.linalg.norm(J) / math.sqrt(8), rel=1e-5)


def test_truncation_at_the_whole_length_leaves_nothing_out(rng):
    model, ids = model_of(rng, layers=1), rng.integers(11, size=(2, 13))
    rows = through_time.truncated(model, ids[:, :-1], ids[:, 1:], [1, 3, 12])
    assert rows[-1] == pytest.approx([12, 1, 1]) and rows[0][1] < .999 > rows[1][1]
    model.zero_grad()
    model.loss(ids[:, :-1], ids[:, 1:])[0].backward()
    whole = np.concatenate([p.grad.ravel() for p in model.layers[0].named_parameters().values()])
    found = through_time.gradient(model, ids[:, :-1], ids[:, 1:], 12)
    assert found == pytest.approx(whole, abs=1e-6)


def test_the_update_gates_numbers_are_those_of_the_gate(rng):
    model, texts = RecurrentLM(11, 8, 1, rng), rng.integers(11, size=(2, 5))
    layer = model.layers[0]
    layer.w.data[:], layer.wh.data[:] = 0, 0
    layer.b.data[8:16] = np.linspace(-2, 3, 8)                   # differs between numbers alone
    u = [sigmoid(b) for b in np.linspace(-2, 3, 8)]
    assert through_time.update_gate(model, texts) == pytest.approx(
        [np.mean(u), u[-1], 1, u[-1]], abs=1e-6)
    layer.b.data[8:16] = 0
    layer.w.data[:, 8:16] = rng.standard_normal((8, 1))          # the same for all, over time
    mean, top, between, largest = through_time.update_gate(model, texts)
    assert between == pytest.approx(0, abs=1e-9) and mean == pytest.approx(largest) and top > mean


def test_own_text_is_judged_place_by_place(rng):
    """A model and a judge that know the text by heart: nothing is lost on one's own text."""
    ids = np.tile(np.arange(6), 80)
    model = RecurrentLM(6, 16, 1, rng)
    train(model, streams(ids, 2, 12), AdamW(model.named_parameters(), decay=0.0), Constant(.02),
          steps=150)
    judged, own = studies.own_text(model, {3: NGram.fit(ids, 3, 6)}, rows_of(ids, 9, 30), 20, 10,
                                   rng)
    real, forced, free = judged[3]
    assert len(real) == len(own[0]) == 10 and set(judged) == {3}
    assert np.mean(forced) == pytest.approx(np.mean(real), abs=.5)
    assert np.mean(free) == pytest.approx(np.mean(real), abs=.5)
    assert np.mean(own[0]) < .2 > np.mean(own[1])


def test_own_text_is_priced_as_one_text_at_a_time_would_be(rng):
    model, texts = model_of(rng), rng.integers(11, size=(3, 30))
    judge = NGram.fit(rng.integers(11, size=500), 3, 11)
    judged, own = studies.own_text(model, {3: judge}, texts, 20, 10, np.random.default_rng(0))
    expected = -np.mean([judge.log_probabilities(t)[20:] for t in texts], axis=0)
    assert judged[3][0] == pytest.approx(expected)
    expected = -np.mean([log_probabilities(model, t)[19:] for t in texts], axis=0)
    assert own[0] == pytest.approx(expected, abs=1e-5)
    again = np.random.default_rng(0)
    free = np.concatenate([texts[:, :20], model.generate(texts[:, :20], 10, again)], axis=1)
    expected = -np.mean([judge.log_probabilities(t)[20:] for t in free], axis=0)
    assert judged[3][2] == pytest.approx(expected)
    expected = -np.mean([log_probabilities(model, t)[19:] for t in free], axis=0)
    assert own[1] == pytest.approx(expected, abs=1e-5)
    drawn = studies.forced_draws(model, texts, 20, again)
    expected = np.zeros(10)
    for k in range(10):
        for text, token in zip(texts, drawn[:, k]):
            expected[k] -= judge.log_probabilities(np.append(text[:20 + k], token))[-1] / 3
    assert judged[3][1] == pytest.approx(expected)


def test_forced_draws_follow_the_model_after_the_real_text(rng):
    model, text = model_of(rng), rng.integers(11, size=(1, 24))
    drawn = studies.forced_draws(model, np.repeat(text, 4000, axis=0), 20, rng)
    assert drawn.shape == (4000, 4)
    for k in range(4):
        p = np.exp(log_softmax(model(text[:, :20 + k])[0].data[0, -1].astype(float)))
        assert np.bincount(drawn[:, k], minlength=11) / 4000 == pytest.approx(p, abs=.03)


def test_equal_work_is_equal_tokens(rng):
    rows = studies.step_times(8, 64, [4, 16], 0, repeats=1)
    assert [row[0] for row in rows] == [4, 16] and all(ms > 0 for row in rows for ms in row[1:])


def test_the_quicker_way_is_taken():
    times = [[4, 1.0, 2.0], [16, 2.0, 1.0]]
    assert studies.quicker(times, 16) is fast_gru.fast
    assert studies.quicker(times, 4) is contextlib.nullcontext


def test_rows_of_spreads_pieces_evenly():
    assert rows_of(np.arange(10), 3, 4).tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]


def test_the_grid_of_rates_grows_until_its_best_is_inside():
    for goal in (.01, .1, 1.0):
        best, grid = recurrence.best_rate(.1, lambda rate, g=goal: abs(math.log(rate / g)))
        rates = [rate for rate, _ in grid]
        assert rates[0] < best < rates[-1]
        assert abs(math.log(best / goal)) <= math.log(1.5) / 2 + 1e-9
        assert all(b / a == pytest.approx(1.5) for a, b in zip(rates, rates[1:]))


def test_the_headline_of_the_run():
    """A gate that is told to keep passes a gradient on; the plain network does not."""
    result = measure(fast=True, seed=0)
    last = {kind: r["start"][-1][0] for kind, r in result.reach.items()}
    assert last["tanh"] < last["GRU, keep 1"] < last["GRU, keep 3"]
    assert last["GRU, keep 0"] < last["GRU, keep 1"]
    starts = [result.update[f"GRU, keep {k}"]["start"][0] for k in (0, 1, 3)]
    assert starts == pytest.approx([sigmoid(k) for k in (0, 1, 3)], abs=.06)
    for rows in result.cut.values():
        assert rows[-1][1] == pytest.approx(1) and rows[0][1] < .95
    assert [name for name, *_ in result.compared][0] == "counting, order 6"
    assert result.compared[0][4][0] < min(result.compared[2][4])
    assert len(result.own[0]) == 8 and list(result.judged) == [2, 4, 6]
