"""Day 23: training dynamics."""

import math

import numpy as np
import pytest

from days.day23 import patients
from days.day23.run import measure
from llm.functions import dense
from llm.grad import ops, rules
from llm.grad.lowering import lower
from llm.grad.tensor import Tensor
from llm.layers.module import parameter
from llm.models.neural_ngram import NeuralNGram, descend, draws, train
from llm.train.adam import AdamW
from llm.train.probe import BINS, Look, Probe, histogram, rms, summary
from llm.train.sgd import SGD
from llm.train.verdict import RULES, Evidence, diagnose, evidence

CALM = {"start": 1.0, "saturated": 0.0, "dead": 0.0, "growth": 1.0, "ratio": 0.01, "gap": 0.0,
        "gain": 0.5}


def test_the_hand_example():
    """w = (3, 4), gradient (0.6, 0.8), rate 0.5: sizes √12.5 and √0.5, and an update of a tenth."""
    w = parameter(np.array([[3.0, 4.0]]))
    w.grad = np.array([[0.6, 0.8]])
    probe = Probe()
    probe.update(descend)({"w": w}, 0.5)
    look = probe.looks[0]
    assert look.weights["w"] == pytest.approx(math.sqrt(12.5))
    assert look.gradients["w"] == pytest.approx(math.sqrt(0.5))
    assert look.updates["w"] == pytest.approx(0.5 * math.sqrt(0.5))
    assert look.ratios() == {"w": pytest.approx(0.1)}
    assert look.norm == probe.norms[0] == pytest.approx(1.0)
    assert w.data.tolist() == [[2.7, 3.6]]


def test_a_look_is_taken_at_the_first_step_and_every_so_many_after():
    probe, w = Probe(3), parameter(np.ones((1, 1)))
    update = probe.update(descend)
    for step in range(1, 9):
        w.grad = np.full((1, 1), float(step))
        update({"w": w}, 0.1)
        probe.watch(step, 8, 10.0 * step)
    assert [look.step for look in probe.looks] == [1, 4, 7]
    assert [look.loss for look in probe.looks] == [10.0, 40.0, 70.0]
    assert [look.gradients["w"] for look in probe.looks] == [1.0, 4.0, 7.0]
    assert probe.norms == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert probe.losses == [10.0 * s for s in range(1, 9)]
    with pytest.raises(ValueError, match="every 0 steps"):
        Probe(0)


def test_the_probe_changes_nothing():
    def losses(probe):
        rng = np.random.default_rng(0)
        ids = rng.integers(0, 7, 300)
        model = NeuralNGram(7, 3, 4, 8, rng)
        batches = draws(ids, 3, 16, rng)
        if probe is None:
            return train(model, batches, 0.3, steps=12)
        with probe.activations():
            return train(model, batches, 0.3, steps=12, update=probe.update(descend),
                         watch=probe.watch)
    probe = Probe(5)
    assert losses(None) == losses(probe) == probe.losses
    assert list(probe.looks[-1].units) == ["tanh 1"]


def test_an_optimizer_under_the_probe_makes_the_same_steps():
    """A loop that takes an optimizer sees no difference; the norm is what the step was given."""
    def trained(wrap):
        w = parameter(np.full((2, 2), 3.0, np.float32))
        optimizer = wrap(SGD({"w": w}))
        for _ in range(5):
            w.grad = w.data / np.float32(rms(w.data) * 2)       # of norm 1
            optimizer.step(0.1)
        assert optimizer.parameters["w"] is w
        return w.data
    probe = Probe(2)
    assert (trained(lambda optimizer: optimizer) == trained(probe.optimizer)).all()
    assert [look.step for look in probe.looks] == [1, 3, 5]
    assert probe.norms == pytest.approx([1.0] * 5)


def test_every_activation_is_seen_in_the_order_of_the_forward_pass():
    x = Tensor(np.array([[-2.0, 5.0], [-1.0, 0.5]]), requires_grad=True)
    probe = Probe()
    with probe.activations():
        ops.tanh(ops.tanh(x))
        ops.relu(x)
        ops.gelu(x)
        ops.silu(x)
        ops.sigmoid(x).sum().backward()
        x.grad = None
        probe.update(lambda parameters: None)({})
    units = probe.looks[0].units
    assert list(units) == ["tanh 1", "tanh 2", "relu 1", "gelu 1", "silu 1", "sigmoid 1"]
    assert units["relu 1"]["dead"] == 0.5 and units["tanh 1"]["dead"] == 0.0
    assert units["tanh 1"]["size"] == pytest.approx(rms(np.tanh(x.data)))
    ops.tanh(x)
    assert probe._seen == []                                   # outside nothing is seen


def test_other_steps_keep_nothing_alive():
    probe, x = Probe(2), Tensor(np.ones((1, 3)), requires_grad=True)
    update = probe.update(lambda parameters: None)
    with probe.activations():
        ops.tanh(x)
        update({})
        ops.tanh(x)
        assert probe._seen == []
        update({})
        ops.tanh(x)
        assert len(probe._seen) == 1


def test_a_twin_that_is_in_place_stays_in_place():
    calls = []

    def twin(x):
        calls.append(1)
        return rules.tanh(x)
    with lower({ops.tanh: (twin, rules.tanh_vjp)}), Probe().activations():
        ops.tanh(Tensor(np.ones((1, 2))))
    assert calls == [1]


def test_saturated_is_where_the_slope_is_small():
    """Beyond the limits the slope of tanh is below 6 % and that of the sigmoid below 1.5 %."""
    tanh = summary([("tanh", np.array([[0.96, 0.98, -0.98, 0.0]]))])["tanh 1"]
    assert tanh["saturated"] == 0.5 and 1 - 0.97**2 < 0.06
    sigmoid = summary([("sigmoid", np.array([[0.01, 0.02, 0.98, 0.99]]))])["sigmoid 1"]
    assert sigmoid["saturated"] == 0.5 and 0.985 * 0.015 < 0.015
    assert summary([("relu", np.array([[9.0, 0.0]]))])["relu 1"]["saturated"] == 0.0


def test_a_unit_is_dead_only_if_it_is_zero_in_every_row():
    out = np.zeros((2, 3, 4))                                  # (B, T, units)
    out[1, 2, 3] = out[0, 0, 1] = 1e-9
    assert summary([("relu", out)])["relu 1"]["dead"] == 0.5
    assert summary([("gelu", np.zeros((2, 3)))])["gelu 1"]["dead"] == 0.0


def test_a_look_has_a_histogram_of_every_activation():
    out = np.array([[0.0, 0.5], [0.0, -0.25], [3e-5, 0.0]])
    counts = summary([("relu", np.ones((2, 2))), ("relu", out)])["relu 2"]["histogram"]
    assert counts == histogram(out) and counts[0] == 3 and sum(counts) == out.size
    assert counts[1 + int(np.flatnonzero(BINS == -1)[0])] == 2        # 0.25 and 0.5


def test_a_histogram_counts_every_value_once():
    counts = histogram(np.array([0.0, 0.0, 1e-20, 1e-12, 5e-3, -5e-3, 1.0, 1e9]))
    assert sum(counts) == 8 and len(counts) == 1 + len(BINS)
    assert counts[0] == 2 and counts[1] == 2                   # zeros; 1e-20 and 1e-12
    assert counts[1 + list(BINS).index(-3.0)] == 2
    assert counts[1 + list(BINS).index(0.0)] == 1 and counts[-1] == 1
    assert histogram(np.zeros((0,))) == [0] * (1 + len(BINS))


def test_sizes_are_computed_in_float64():
    assert rms(np.full(4, 1e30, np.float32)) == pytest.approx(1e30)
    assert rms(np.zeros((0, 2))) == 0.0 and rms(np.array([3.0, 4.0])) == math.sqrt(12.5)


def test_vectors_and_zeros_have_no_ratio():
    look = Look(1, weights={"w": 2.0, "b": 0.0, "z": 0.0}, updates={"w": 0.1, "b": 1.0, "z": 1.0},
                matrices=["w", "z"])
    assert look.ratios() == {"w": 0.05, "z": 0.0}


def test_adam_moves_a_weight_by_the_rate_whatever_the_gradient():
    """So its first ratio is rate over the weights' size: rate·√fan-in at a start of 1/√fan-in."""
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e3):
        w = parameter(rng.normal(0, 1 / math.sqrt(400), (400, 50)).astype(np.float32))
        w.grad = (scale * rng.normal(size=w.shape)).astype(np.float32)
        probe = Probe()
        probe.optimizer(AdamW({"w": w}, decay=0.0)).step(1e-3)
        assert probe.looks[0].ratios()["w"] == pytest.approx(1e-3 * math.sqrt(400), rel=0.02)


@pytest.mark.parametrize("name, change", [
    ("bad start", {"start": 1.51}), ("dead units", {"dead": 0.31}),
    ("exploding gradient", {"growth": 10.1}), ("rate too high", {"ratio": 0.051}),
    ("batches in order", {"gap": 0.21}), ("targets do not belong to inputs", {"gain": 0.09})])
def test_each_number_names_its_fault_and_its_limit_is_still_healthy(name, change):
    assert diagnose(Evidence(**CALM)) == ("healthy", "")
    assert diagnose(Evidence(**{**CALM, **change}))[0] == name
    what = next(iter(change))
    limit = {rule[1]: rule[2] for rule in RULES}[what]
    assert diagnose(Evidence(**{**CALM, what: limit}))[0] == "healthy"
    assert diagnose(Evidence(**{**CALM, what: math.nan}))[0] == name


def test_the_first_fault_in_the_order_of_looking_is_named():
    everything = Evidence(9.0, 1.0, 1.0, 1e9, 1.0, 9.0, -9.0)
    assert diagnose(everything)[0] == "bad start"
    assert "9.0 times ln V" in diagnose(everything)[1]
    assert [name for name, *_ in RULES] == [
        "bad start", "dead units", "exploding gradient", "rate too high", "batches in order",
        "targets do not belong to inputs"]


def test_evidence_is_read_off_the_looks():
    looks = [Look(1, weights={"a": 1.0, "b": 2.0, "c": 4.0}, updates=dict.fromkeys("abc", 0.1),
                  gradients={"a": 8.0, "b": 1.0, "c": 2.0}, matrices=["a", "b", "c"],
                  units={"tanh 1": {"size": 1, "dead": 0.9, "saturated": 0.4},
                         "tanh 2": {"size": 1, "dead": 0.0, "saturated": 0.2}}),
             Look(11, weights={"a": 1.0}, updates={"a": 0.02}, gradients={"a": 99.0},
                  matrices=["a"], units={"relu 1": {"size": 1, "dead": 0.25, "saturated": 1.0}})]
    losses = [4.0] * 18 + [2.0, 1.0]
    found = evidence(looks, losses, random_loss=1.75, V=math.e ** 2, entropy=3.0)
    assert vars(found) == pytest.approx({"start": 2.0, "saturated": 0.4, "dead": 0.25,
                                         "growth": 4.0, "ratio": 0.05, "gap": 0.25, "gain": 1.5})
    for few in ((looks, losses[:19]), ([], losses)):
        with pytest.raises(ValueError, match="too few to judge"):
            evidence(*few, 1.0, 2, 1.0)


def test_where_the_last_matrix_has_no_gradient_nothing_has_grown():
    look = Look(1, gradients={"a": 1.0, "b": 0.0}, matrices=["a", "b"], weights={"a": 1, "b": 1},
                updates={"a": 0, "b": 0})
    assert evidence([look], [1.0] * 20, 1.0, 9, 1.0).growth == 0.0
    look.matrices = []
    look.weights = {}
    assert evidence([look], [1.0] * 20, 1.0, 9, 1.0).ratio == 0.0


@pytest.mark.parametrize("sizes, growth", [([8.0, 0.0, 2.0], 4.0), ([3.0], 1.0)])
def test_the_largest_gradient_is_compared_with_the_last_matrix_s(sizes, growth):
    names = "abc"[:len(sizes)]
    look = Look(1, gradients=dict(zip(names, sizes)), matrices=list(names),
                weights=dict.fromkeys(names, 1.0), updates=dict.fromkeys(names, 0.0))
    assert evidence([look], [1.0] * 20, 1.0, 9, 1.0).growth == growth


def test_a_relu_network_is_day_19s_with_another_activation():
    model = patients.ReLUWindow(9, patients.T, 4, 6, 2, np.random.default_rng(0))
    ids = np.random.default_rng(1).integers(0, 9, (5, patients.T))
    h = model.embed.table.data[ids].reshape(5, -1)
    for layer, out in zip(model.layers, model.activations(ids)):
        h = dense.relu(h @ layer.w.data + layer.b.data)
        assert np.allclose(out.data, h, atol=1e-6)


def test_rolled_targets_are_those_of_the_row_before_and_sorted_ones_go_on():
    ids = np.arange(500) % 50
    x, y = next(patients.feed("rolled", ids, np.random.default_rng(0)))
    assert (np.roll(y, -1) == (x[:, -1] + 1) % 50).all() and (y != (x[:, -1] + 1) % 50).any()
    batches = patients.feed("sequence", ids, np.random.default_rng(0))
    (a, _), (b, target) = next(batches), next(batches)
    assert b[0, 0] == (a[-1, 0] + 1) % 50 and (target == (b[:, -1] + 1) % 50).all()


@pytest.fixture(scope="module")
def result():
    return measure(fast=True, seed=0)


def test_the_probe_names_what_forty_steps_can_show(result):
    for name in ("bad start", "dead units", "exploding gradient", "rate too high",
                 "targets do not belong to inputs"):
        assert result.verdicts[name] == {name: 1}
    assert result.verdicts["healthy, recurrent"] == {"healthy": 1}


def test_one_batch_is_learned_by_heart_with_the_wrong_targets_too(result):
    one = {name: np.mean(losses) for name, losses in result.one.items()}
    assert one["dead units"] > 3.5 > 1.0 > one["targets do not belong to inputs"]
