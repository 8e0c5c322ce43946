"""Day 16 · Modules and the trained window model: claims about names, state, and counting."""

import importlib
import math

import numpy as np
import pytest

from llm.grad import ops
from llm.grad.check import numerical_gradient
from llm.grad.tensor import Tensor
from llm.grad.walk import saved_bytes
from llm.layers.module import Embedding, Linear, Module, parameter
from llm.models import window
from llm.models.neural_ngram import (
    NeuralNGram,
    best_weight,
    descend,
    draws,
    expected,
    generate,
    log_probabilities,
    mix,
    train,
)


class Pair(Module):
    """Two linear layers in a list, state that is not trained, and things that are no parts."""

    def __init__(self, rng, dtype=np.float32):
        self.name, self.size, self.nothing = "pair", 3, None
        self.layers = [Linear(2, 3, rng, dtype=dtype), Linear(3, 2, rng, bias=False, dtype=dtype)]
        self.seen = np.zeros(3, dtype)
        self.constant = Tensor(np.ones(2, dtype))

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Tied(Module):
    """One table at both ends: embedding in, logits out."""

    def __init__(self, rng, dtype=np.float64):
        self.embed = Embedding(4, 3, rng, dtype=dtype)
        self.head = Module()
        self.head.weight = self.embed.table

    def __call__(self, ids):
        return self.embed(ids) @ self.head.weight.T


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_hand_example(rng):
    layer = Linear(2, 2, rng)
    layer.w.data[...] = [[1, 2], [3, 4]]
    layer.b.data[...] = [10, 20]
    y = layer(Tensor(np.array([[1, 1], [2, 0]], np.float32)))
    assert y.data.tolist() == [[14, 26], [12, 24]]
    y.sum().backward()
    assert layer.w.grad.tolist() == [[3, 3], [1, 1]]
    assert layer.b.grad.tolist() == [2, 2]
    descend(layer.named_parameters(), 0.5)
    assert layer.w.data.tolist() == [[-0.5, 0.5], [2.5, 3.5]]
    assert layer.b.data.tolist() == [9, 19]


def test_a_name_is_the_path_and_only_trained_tensors_are_parameters(rng):
    model = Pair(rng)
    assert list(model.named_parameters()) == ["layers.0.w", "layers.0.b", "layers.1.w"]
    assert model.count_parameters() == 2 * 3 + 3 + 3 * 2
    assert set(model.state_dict()) == {"seen", "constant", *model.named_parameters()}


def test_a_shared_parameter_appears_once_and_its_gradient_is_the_sum(rng):
    tied, ids, targets = Tied(rng), np.array([0, 2, 2]), np.array([1, 3, 0])
    assert list(tied.named_parameters()) == ["embed.table"]
    assert tied.count_parameters() == 12
    assert list(tied.state_dict()) == ["embed.table"]
    ops.cross_entropy(tied(ids), targets).backward()
    apart = Tied(rng)
    apart.embed.table.data[...] = tied.embed.table.data
    apart.head.weight = parameter(tied.embed.table.data.copy())
    ops.cross_entropy(apart(ids), targets).backward()
    np.testing.assert_allclose(tied.embed.table.grad,
                               apart.embed.table.grad + apart.head.weight.grad, rtol=1e-12)


def test_a_module_used_at_two_places_is_one_set_of_parameters(rng):
    model = Pair(rng)
    model.layers = [Linear(3, 3, rng)] * 4
    assert list(model.named_parameters()) == ["layers.0.w", "layers.0.b"]


def test_a_part_that_leads_back_to_its_parent_is_told(rng):
    model = Pair(rng)
    model.layers[0].owner = model
    for walk in (model.named_parameters, model.state_dict, model.count_parameters):
        with pytest.raises(ValueError, match="leads back to a module above it: layers.0.own"):
            walk()


def test_replace_puts_a_module_at_a_path_and_returns_the_old_one(rng):
    outer = Module()
    outer.blocks = [Pair(rng), Pair(rng)]
    old, new = outer.blocks[1].layers[0], Linear(2, 3, rng, bias=False)
    assert outer.replace("blocks.1.layers.0", new) is old
    assert outer.get("blocks.1.layers.0") is new
    assert "blocks.1.layers.0.b" not in outer.named_parameters()
    assert "blocks.0.layers.0.b" in outer.named_parameters()
    third = Pair(rng)
    outer.head = Pair(rng)
    outer.replace("head", third)
    assert outer.head is third


def test_what_was_put_in_is_used_at_the_next_call(rng):
    class Nothing(Module):
        def __call__(self, x):
            return 0 * x[..., :4]

    model, ids = NeuralNGram(5, 2, 3, 4, rng), np.array([[0, 1], [4, 2]])
    assert not np.allclose(model(ids).data[0], model(ids).data[1])
    old = model.replace("hidden", Nothing())
    assert (model(ids).data == model.out.b.data).all()
    assert "hidden.w" not in model.named_parameters()
    model.replace("hidden", old)
    assert model.count_parameters() == window.parameter_count(5, 2, 3, 4)


@pytest.mark.parametrize("path, message", [
    ("layers.2", "no module at 'layers.2': stuck at '2'"),
    ("layers.0.gone", "stuck at 'gone'"), ("layers.first", "stuck at 'first'"), ("", "stuck at ''"),
    ("layers.0.w", "is a Tensor, not a module"), ("layers", "is a list, not a module"),
    ("size.0", "stuck at '0'")])
def test_a_bad_path_is_refused_with_the_step_that_fails(rng, path, message):
    model = Pair(rng)
    with pytest.raises(ValueError, match=message):
        model.replace(path, Linear(2, 3, rng))
    assert len(model.named_parameters()) == 3


def test_only_modules_go_in_and_tuples_stay_as_they_are(rng):
    model = Pair(rng)
    with pytest.raises(ValueError, match="cannot put a function at 'layers.0'"):
        model.replace("layers.0", lambda x: x)
    model.layers = tuple(model.layers)
    assert len(model.named_parameters()) == 3
    with pytest.raises(ValueError, match="'layers' is a tuple and cannot change"):
        model.replace("layers.0", Linear(2, 3, rng))


def test_state_makes_the_round_trip_into_another_model(rng):
    one, two = Pair(rng), Pair(rng)
    one.seen += 7
    x = Tensor(rng.standard_normal((5, 2)).astype(np.float32))
    saved = {path: array.copy() for path, array in one.state_dict().items()}
    w = two.layers[0].w.data
    two.load_state_dict(saved)
    assert two.layers[0].w.data is w                    # copied in: optimizers keep their hold
    assert (two(x).data == one(x).data).all()
    assert two.seen.tolist() == [7, 7, 7]
    saved["seen"][0] = -1
    assert two.seen[0] == 7                             # and not shared


def test_values_take_the_model_s_dtype(rng):
    one, two = Pair(rng, np.float64), Pair(rng, np.float32)
    two.load_state_dict(one.state_dict())
    assert all(a.dtype == np.float32 for a in two.state_dict().values())


@pytest.mark.parametrize("damage, message", [
    (lambda s: s.pop("layers.1.w"), r"missing \['layers.1.w'\]"),
    (lambda s: s.update(extra=np.ones(2)), r"unknown \['extra'\]"),
    (lambda s: s.update({"layers.1.w": s["layers.1.w"].T}), r"\(3, 2\) here and \(2, 3\)"),
    (lambda s: s.update({"layers.1.w": np.float32(1)}), r"\(3, 2\) here and \(\)"),
    (lambda s: s.update({"seen": np.array(["1.0", "x", ""])}), "seen holds <U3"),
    (lambda s: s.update({"seen": np.array([1j, 1, 1])}), "seen holds complex128")])
def test_a_damaged_state_is_refused_before_anything_changes(rng, damage, message):
    model, other = Pair(rng), Pair(rng)
    state = {path: array + 1 for path, array in other.state_dict().items()}
    damage(state)
    before = {path: array.copy() for path, array in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        model.load_state_dict(state)
    for path, array in model.state_dict().items():
        assert (array == before[path]).all(), path


def test_fractions_do_not_go_into_integers_and_integers_go_anywhere():
    model = Module()
    model.steps, model.w = np.array([3, 4]), parameter(np.ones(2, np.float32))
    with pytest.raises(ValueError, match="steps holds float64 in the state and int64 here"):
        model.load_state_dict({"steps": np.array([1.5, 2.0]), "w": np.zeros(2)})
    assert model.steps.tolist() == [3, 4] and model.w.data.tolist() == [1, 1]
    model.load_state_dict({"steps": np.array([7, 8], np.uint8), "w": np.array([5, 6])})
    assert model.steps.tolist() == [7, 8] and model.w.data.tolist() == [5, 6]


def test_zero_grad_forgets(rng):
    model = Pair(rng)
    x = Tensor(np.ones((1, 2), np.float32))
    for _ in range(2):
        model.zero_grad()
        model(x).sum().backward()
    assert model.layers[1].w.grad[:, 0] == pytest.approx(model.layers[0](x).data[0], rel=1e-6)
    model.zero_grad()
    assert all(p.grad is None for p in model.named_parameters().values())


@pytest.mark.parametrize("cin, cout", [(400, 50), (100, 300)])
def test_a_linear_layer_keeps_the_size_of_its_input(rng, cin, cout):
    layer = Linear(cin, cout, rng)
    assert layer.w.data.std() * math.sqrt(cin) == pytest.approx(1, rel=0.03)
    assert layer.w.dtype == layer.b.dtype == np.float32
    assert not layer.b.data.any()
    assert Linear(cin, cout, rng, bias=False).b is None
    assert Linear(cin, cout, rng, std=0.02).w.data.std() == pytest.approx(0.02, rel=0.03)
    assert Embedding(cin, cout, rng, std=0.5).table.data.std() == pytest.approx(0.5, rel=0.03)


def test_the_model_equals_day_11_s_on_the_same_numbers(rng):
    model = NeuralNGram(11, 3, 4, 5, rng, np.float64)
    flat = {"table": model.embed.table.data, "w1": model.hidden.w.data, "b1": model.hidden.b.data,
            "w2": model.out.w.data, "b2": model.out.b.data}
    ids = rng.integers(11, size=(2, 6, 3))
    np.testing.assert_allclose(model(ids).data, window.logits(flat, ids), rtol=1e-12)
    assert model.count_parameters() == window.parameter_count(11, 3, 4, 5)


@pytest.mark.parametrize("sizes", [(84, 8, 16, 256), (7, 1, 3, 2)])
def test_the_record_of_a_step_keeps_the_bytes_that_the_note_derives(rng, sizes):
    (vocab_size, context, channels, hidden), batch = sizes, 5
    model = NeuralNGram(*sizes, rng)
    ids = rng.integers(vocab_size, size=(batch, context)).astype(np.int32)
    loss = ops.cross_entropy(model(ids), ids[:, 0])
    assert saved_bytes(loss) == batch * (
        4 * context + 4 * context * channels + 4 * hidden + 4 * vocab_size + 5)


def test_every_gradient_of_the_model_equals_finite_differences(rng):
    model = NeuralNGram(5, 2, 3, 4, rng, np.float64)
    ids, targets = rng.integers(5, size=(6, 2)), rng.integers(5, size=6)
    loss = lambda: ops.cross_entropy(model(ids), targets)
    loss().backward()
    for name, p in model.named_parameters().items():
        numeric = numerical_gradient(lambda _: loss().data, p.data)
        np.testing.assert_allclose(p.grad, numeric, atol=1e-8, err_msg=name)


def test_untrained_it_is_nearly_uniform_and_training_lowers_the_loss(rng):
    ids = np.tile(np.arange(7), 50)
    model = NeuralNGram(7, 2, 4, 16, rng)
    told = []
    losses = train(model, draws(ids, 2, 32, rng), lambda step, total: 1 - step / total, steps=150,
                   watch=lambda step, total, loss: told.append((step, total, loss)))
    assert losses[0] == pytest.approx(math.log(7), abs=0.1)
    assert losses[-1] < 0.1
    assert told == [(i + 1, 150, loss) for i, loss in enumerate(losses)]
    assert generate(model, 9, rng, [3, 4]).tolist() == [5, 6, 0, 1, 2, 3, 4, 5, 6]


def test_equal_seeds_train_to_equal_bits():
    ids = np.tile(np.arange(5), 20)
    def run():
        rng = np.random.default_rng(3)
        return train(NeuralNGram(5, 3, 2, 4, rng), draws(ids, 3, 8, rng), 0.1, steps=20)
    assert run() == run()


def test_training_can_be_limited_by_time():
    rng = np.random.default_rng(0)
    totals = []
    losses = train(NeuralNGram(5, 1, 2, 2, rng), draws(np.arange(5), 1, 2, rng), 0.1, seconds=0.05,
                   watch=lambda step, total, loss: totals.append(total - step))
    assert losses
    assert min(totals) >= 0


def test_log_probabilities_are_those_of_the_logits_in_every_chunking(rng):
    model, ids = NeuralNGram(6, 2, 3, 4, rng), rng.integers(6, size=30)
    whole = log_probabilities(model, ids)
    np.testing.assert_allclose(log_probabilities(model, ids, chunk=5), whole, rtol=1e-6)
    z = model(ids[7:9]).data.astype(np.float64)
    assert whole[7] == pytest.approx(z[ids[9]] - np.log(np.exp(z).sum()), rel=1e-5)
    assert whole.shape == (28,)


def test_a_mixture_and_one_round_of_its_weight_are_worked_out_by_hand():
    assert mix(math.log(0.5), math.log(0.1), 0.25) == pytest.approx(math.log(0.2))
    a, b = np.log([0.6, 0.1]), np.log([0.2, 0.4])
    assert np.exp(mix(a, b, 0.5)) == pytest.approx([0.4, 0.25])
    assert best_weight(a, b, rounds=1) == pytest.approx((0.75 + 0.2) / 2)
    assert best_weight(a, b, rounds=500) == pytest.approx(5 / 12)
    losses = [-mix(a, b, w).mean() for w in (1, 0, 0.5, 5 / 12)]
    assert losses == pytest.approx([1.4067, 1.2629, 1.1513, 1.1471], abs=1e-4)


def test_a_mixture_of_distributions_is_one():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(9), size=2)
    assert np.exp(mix(np.log(p), np.log(q), 0.3)).sum() == pytest.approx(1)
    assert mix(np.log(p), np.log(q), 1) == pytest.approx(np.log(p))
    assert mix(np.log(p), np.log(q), 0) == pytest.approx(np.log(q))


@pytest.mark.parametrize("spread", [0.1, 1, 10])
def test_the_loss_is_convex_in_the_weight_and_below_the_mean_of_the_two(spread):
    a, b = spread * np.random.default_rng(1).standard_normal((2, 300)) - 2
    weights = np.linspace(0, 1, 101)
    loss = np.array([-mix(a, b, w).mean() for w in weights])
    assert (np.diff(loss, 2) > 0).all()
    assert (loss[1:-1] < (weights * loss[-1] + (1 - weights) * loss[0])[1:-1]).all()


@pytest.mark.parametrize("seed", range(8))
def test_mixing_helps_exactly_where_the_mean_ratio_is_above_1(seed):
    rng = np.random.default_rng(seed)
    b = rng.standard_normal(200) - 2
    a = b + 0.3 * rng.standard_normal(200) + rng.uniform(-0.1, 0.05)
    helps = -mix(a, b, 1e-4).mean() < -b.mean()
    assert helps == (np.exp(a - b).mean() > 1)


def test_a_round_walks_downhill_at_the_rate_weight_times_the_rest_and_never_overshoots():
    a, b = np.random.default_rng(2).standard_normal((2, 300)) - 2
    weights = [0.5] + [best_weight(a, b, rounds=n) for n in range(1, 20)]
    for w, after in zip(weights, weights[1:]):
        slope = -((np.exp(a) - np.exp(b)) / np.exp(mix(a, b, w))).mean()
        assert after == pytest.approx(w - w * (1 - w) * slope, rel=1e-9)
        gain = mix(a, b, after).mean() - mix(a, b, w).mean()
        least = after * math.log(after / w) + (1 - after) * math.log((1 - after) / (1 - w))
        assert gain >= least - 1e-15 >= -2e-15


def test_the_best_weight_is_the_top_of_the_likelihood(rng):
    a, b = np.log(rng.uniform(0.01, 1, (2, 500)))
    found = best_weight(a, b)
    likelihood = [mix(a, b, w).mean() for w in np.linspace(0, 1, 2001)]
    assert found == pytest.approx(np.argmax(likelihood) / 2000, abs=2e-3)
    assert best_weight(a, a - 5, rounds=500) > 0.999


def test_edges(rng):
    model = NeuralNGram(5, 2, 3, 4, rng)
    with pytest.raises(ValueError, match=r"ids \(2, 3\) must end in T = 2"):
        model(np.zeros((2, 3), int))
    assert model(np.zeros((0, 2), int)).shape == (0, 5)
    with pytest.raises(ValueError, match="not V 0"):
        NeuralNGram(0, 2, 3, 4, rng)
    with pytest.raises(ValueError, match="say how long"):
        train(model, iter(()), 0.1)
    with pytest.raises(ValueError, match="prompt of 1 tokens is too short for a window of 2"):
        generate(model, 3, rng, [1])
    assert generate(model, 0, rng, [1, 2]).shape == (0,)
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        mix(np.zeros(3), np.zeros(2), 0.5)
    with pytest.raises(ValueError, match="weight 1.5"):
        mix(np.zeros(3), np.zeros(3), 1.5)
    assert Module().named_parameters() == {}
    Module().load_state_dict({})


def test_batches_that_run_out_are_told(rng):
    model, one = NeuralNGram(5, 2, 3, 4, rng), (np.zeros((1, 2), int), np.zeros(1, int))
    with pytest.raises(ValueError, match=r"ran out after 2 steps: .* such as draws"):
        train(model, iter([one] * 2), 0.1, steps=3)
    assert len(train(model, iter([one] * 3), 0.1, steps=3)) == 3


@pytest.mark.parametrize("a, b, message", [
    ([], [], "to 0 tokens"), ([-np.inf, -1, -np.inf], [-np.inf, -2, -1], "3 tokens of which 1 ")])
def test_no_weight_is_fitted_where_there_is_nothing_to_fit(a, b, message):
    with pytest.raises(ValueError, match=message):
        best_weight(a, b)
    assert 0.5 < best_weight([-np.inf, -1, -1], [-1, -np.inf, -2]) < 1   # one of them is enough


def test_far_below_the_best_weight_a_round_multiplies_it_by_the_mean_ratio():
    a, b = np.random.default_rng(0).standard_normal((2, 400)) - 2
    a -= np.log(np.exp(a - b).mean() / 0.77)            # the ratio of the run's counted text
    assert best_weight(a, b) == best_weight(a, b, rounds=50)           # what the note counts on
    late, later = (best_weight(a, b, rounds=n) for n in (40, 41))
    assert later / late == pytest.approx(0.77, rel=1e-3) and later > 1e-6


@pytest.mark.parametrize("start", [1e-3, 0.3, 0.9, 0.999])
def test_a_round_does_not_jump_over_the_lowest_point(start):
    a, b = np.random.default_rng(2).standard_normal((2, 300)) - 2
    best = best_weight(a, b, rounds=5000)
    after = float((start * np.exp(a) / np.exp(mix(a, b, start))).mean())
    assert (after - best) * (start - best) > 0


def test_counting_wins_at_equal_time_and_the_mixture_beats_both():
    result = importlib.import_module("days.day16.run").measure(fast=True, seed=0)
    assert result.counted < result.network < result.untrained
    assert result.counted < result.equal_time
    assert result.mixture < result.counted
    assert 0 < result.weight < 0.5
    assert result.ratio > 1 > result.seen[0]       # mixing helps, and not on the counted text
    assert result.hindsight[1] <= min(result.mixture, result.network, result.counted)
    _, _, counting, _, unseen, share, *_ = result.typos[-1]
    assert counting == unseen and share == 0       # 8 back is out of counting's sight


def test_under_both_limits_the_total_is_never_above_the_steps():
    rng = np.random.default_rng(0)
    totals = []
    train(NeuralNGram(5, 1, 2, 2, rng), draws(np.arange(5), 1, 2, rng),
          lambda step, total: totals.append(total) or 0.1, steps=20, seconds=60)
    assert totals == [20] * 20


def test_a_rate_that_is_called_sees_the_steps_from_one_to_the_total(rng):
    seen = []
    train(NeuralNGram(5, 1, 2, 2, rng), draws(np.arange(5), 1, 2, rng),
          lambda step, total: seen.append((step, total)) or 0.1, steps=4)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_half_the_time_for_so_many_steps_means_twice_as_many_in_all():
    assert expected(10, 5.0, 10.0) == 20
    assert expected(10, 2.5, 10.0) == 40
    assert expected(7, 10.0, 10.0) == 7


def test_every_window_can_be_drawn_the_first_and_the_last(rng):
    contexts, targets = next(draws(np.array([3, 1, 4]), 1, 100, rng))     # two windows
    assert {(int(c[0]), int(t)) for c, t in zip(contexts, targets)} == {(3, 1), (1, 4)}


def test_the_best_weight_stays_inside_where_one_model_is_always_right():
    sure, wrong = np.zeros(5), np.full(5, -1e3)
    assert best_weight(sure, wrong, rounds=500) == 1 - 1e-6
    assert best_weight(wrong, sure, rounds=500) == 1e-6


def test_a_weight_fitted_on_one_text_may_hurt_on_another_but_never_by_more_than_the_premium():
    b = np.log(np.full(100, 0.5))                  # the attack of the note
    a = np.log(np.full(100, 0.4))
    b_odd, a_odd = b.copy(), a.copy()
    b_odd[0], a_odd[0] = math.log(1e-6), math.log(0.4)
    weight = best_weight(a_odd, b_odd, rounds=500)
    assert np.exp(a_odd - b_odd).mean() > 1
    lost = b.mean() - mix(a, b, weight).mean()
    assert 0 < lost < -math.log1p(-weight)
