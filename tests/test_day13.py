"""Day 13 · Reverse mode on scalars: claims about the tape, its order and its cost."""

import importlib
import math
import subprocess
import sys

import numpy as np
import pytest

from days.day13 import task
from llm.grad import dual
from llm.grad.check import numerical_gradient
from llm.grad.count import Tally, dual_operations, operations
from llm.grad.dual import cos, exp, log, sin, tanh
from llm.grad.scalar import Value, gradient, order
from llm.models.vowels import (
    LETTERS,
    counted,
    distances,
    evaluate,
    examples,
    initial,
    loss,
    mlp,
    predict,
    train,
)


def random_graph(rng, leaves=3, nodes=9):
    """Leaves, and a result that reuses random earlier nodes."""
    values = [Value(float(x)) for x in rng.uniform(0.5, 1.5, leaves)]
    start = list(values)
    for _ in range(nodes):
        a, b = (values[i] for i in rng.integers(len(values), size=2))
        values.append([a + b, a * b, a - b * 0.5, (a * 0.3).tanh() + b, (-a).exp() * b]
                      [rng.integers(5)])
    return start, values[-1]


def sum_over_paths(node, leaf):
    """The derivative by its definition on a graph: products of slopes, summed over all paths."""
    if node is leaf:
        return 1.0
    return sum(s * sum_over_paths(p, leaf) for p, s in zip(node.parents, node.slopes))


def test_the_hand_example():
    a, b, d = Value(3.0), Value(2.0), Value(1.0)
    s = a + b
    e = s * d
    e.backward()
    assert (e.data, s.grad, a.grad, b.grad, d.grad) == (5.0, 1.0, 1.0, 1.0, 5.0)


def test_a_value_used_twice_collects_both_gradients():
    a = Value(3.0)
    b = a + a
    c = b + b
    c.backward()
    assert a.grad == 4.0
    square = a * a
    a.grad = 0.0
    square.backward()
    assert a.grad == 6.0


def test_backward_twice_after_zeroing_the_leaves_gives_the_same():
    a, b, d = Value(3.0), Value(2.0), Value(1.0)
    e = (a + b) * d
    e.backward()
    first = [a.grad, b.grad, d.grad]
    for leaf in (a, b, d):
        leaf.grad = 0.0
    e.backward()
    assert [a.grad, b.grad, d.grad] == first == [1.0, 1.0, 5.0]


def test_leaves_accumulate_until_zeroed():
    a = Value(3.0)
    (a * 2.0).backward()
    (a * 5.0).backward()
    assert a.grad == 7.0
    square = a * a
    a.grad = 0.0
    for _ in range(3):
        square.backward()
    assert a.grad == 18.0


@pytest.mark.parametrize("seed", range(20))
def test_a_gradient_is_the_sum_over_all_paths(seed):
    leaves, result = random_graph(np.random.default_rng(seed))
    result.backward()
    for leaf in leaves:
        assert leaf.grad == pytest.approx(sum_over_paths(result, leaf), rel=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_every_node_comes_once_and_after_all_it_was_computed_from(seed):
    _, result = random_graph(np.random.default_rng(seed), nodes=40)
    nodes = order(result)
    place = {id(node): k for k, node in enumerate(nodes)}
    assert len(place) == len(nodes)
    assert nodes[-1] is result
    assert all(place[id(p)] < place[id(node)] for node in nodes for p in node.parents)


@pytest.mark.parametrize("f", [
    lambda x, y: x * y + x / y - 3 * x, lambda x, y: (2 - x) / (1 + y * y) - y / 7,
    lambda x, y: x**3 - y**-0.5 + x**0, lambda x, y: exp(sin(x) * cos(y)) - (-x),
    lambda x, y: log(1 + exp(-x * y)), lambda x, y: tanh(tanh(x) - y) * x, lambda x, y: 4 / x + y,
    lambda x, y: np.float64(3) * x + y * np.float64(0.5)])
def test_the_tape_agrees_with_dual_numbers_and_finite_differences(f):
    rng = np.random.default_rng(0)
    for _ in range(5):
        xs = rng.uniform(0.3, 1.5, 2)
        found = gradient(lambda v: f(*v), xs.tolist())
        np.testing.assert_allclose(found, dual.gradient(lambda v: f(*v), xs.tolist()), rtol=1e-12,
                                   atol=1e-15)
        np.testing.assert_allclose(found, numerical_gradient(lambda v: f(*v.tolist()), xs),
                                   rtol=1e-7, atol=1e-9)


def test_ten_thousand_operations_do_not_hit_the_recursion_limit():
    x = y = Value(1.0)
    for _ in range(10_000):
        y = y + x
    y.backward()
    assert (y.data, x.grad) == (10_001.0, 10_001.0)


def test_a_long_chain_can_be_deleted():
    code = ("from llm.grad.scalar import Value\n"
            "x = y = Value(1.0)\n"
            "for _ in range(300_000): y = y * 1.0\n"
            "y.backward()\n"
            "del x, y\n"
            "print('alive')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "alive\n", done.stderr


@pytest.mark.parametrize("hidden", [1, 3, 8])
def test_the_tape_costs_at_most_five_times_the_formula_whatever_n_is(hidden):
    rng = np.random.default_rng(hidden)
    x, theta = rng.standard_normal(5).tolist(), rng.standard_normal(hidden * 7 + 1).tolist()
    f = lambda t: loss(mlp(t, x, hidden), 1)
    tally = Tally()
    gradient(f, [tally.number(p) for p in theta])
    assert operations(f, theta) < tally.operations <= 5 * operations(f, theta)
    assert dual_operations(f, theta) >= 2 * len(theta) * operations(f, theta)


def test_products_of_different_values_reach_the_bound_of_five():
    tally = Tally()
    f = lambda t: (t[0] * t[1]) * (t[2] * t[3])
    gradient(f, [tally.number(x) for x in (1.0, 2.0, 3.0, 4.0)])
    assert tally.operations >= 5 * operations(f, [1.0] * 4) - 2  # 1.0·slope at the end is free


def test_the_network_is_the_formula_and_its_loss_is_minus_log_probability():
    theta, x = [0.5, -1.0, 0.25, 2.0, 1.5], [1.0, 2.0]
    z = 1.5 + 2.0 * math.tanh(0.25 + 0.5 - 2.0)
    assert mlp(theta, x, 1) == pytest.approx(z, rel=1e-15)
    assert math.exp(-loss(z, 1)) == pytest.approx(1 / (1 + math.exp(-z)))
    assert math.exp(-loss(z, 1)) + math.exp(-loss(z, 0)) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="1 hidden units over 3 inputs need 6 parameters, got 5"):
        mlp(theta, [1.0, 2.0, 3.0], 1)


def test_examples_fold_to_letters_and_mark_the_vowels():
    contexts, vowels = examples("It's  OK", 2)  # "it s ok"
    assert ["".join(LETTERS[k] for k in row) for row in contexts] == ["it", "t ", " s", "s ", " o"]
    assert vowels.tolist() == [0, 0, 0, 1, 0]
    with pytest.raises(ValueError, match="text of 2 letters is too short for a context of 2"):
        examples("it", 2)


def test_the_network_s_gradient_is_right_in_every_parameter():
    rng = np.random.default_rng(3)
    theta = initial(rng, context=2, size=2, hidden=3)
    loss(predict(theta, [5, 5], 2, 3), 0).backward()
    numeric = numerical_gradient(lambda t: loss(predict(t.tolist(), [5, 5], 2, 3), 0),
                                 np.array([p.data for p in theta]))
    np.testing.assert_allclose([p.grad for p in theta], numeric, atol=1e-9)
    assert sum(p.grad == 0 for p in theta) == 2 * (len(LETTERS) - 1)  # letters that did not occur


def test_training_lowers_the_loss_and_is_reproducible():
    contexts, vowels = examples("banana " * 100, 2)
    runs = []
    for _ in range(2):
        rng = np.random.default_rng(0)
        theta = initial(rng, 2, 2, 3)
        before = evaluate(theta, contexts[:50], vowels[:50], 2, 3)
        train(theta, contexts, vowels, rng, 60, 1.0, 2, 3)
        runs.append(evaluate(theta, contexts[:50], vowels[:50], 2, 3))
    assert runs[0] == runs[1]
    assert runs[0][0] < 0.5 * before[0]


def test_the_rate_falls_linearly_from_its_full_value_towards_zero(monkeypatch):
    monkeypatch.setattr("llm.models.vowels.loss", lambda logit, vowel: logit)
    monkeypatch.setattr("llm.models.vowels.predict", lambda theta, ids, size, hidden: theta[0] * 1)
    theta, places = [Value(0.0)], []
    train(theta, np.zeros((1, 1), int), np.zeros(1, int), np.random.default_rng(0), 4, 0.5, 1, 1,
          report=lambda nats: places.append(theta[0].data))
    np.testing.assert_allclose(np.diff([0.0, *places]), -0.5 * np.array([1, 0.75, 0.5, 0.25]))


def test_first_weights_shrink_with_the_number_of_inputs():
    theta = [p.data for p in initial(np.random.default_rng(0), context=8, size=8, hidden=40)]
    letters, rest = theta[:len(LETTERS) * 8], theta[len(LETTERS) * 8:]
    assert len(rest) == 40 * 66 + 1
    assert np.std(letters) == pytest.approx(0.5, rel=0.1)
    assert np.std(rest) == pytest.approx(1 / 8, rel=0.05)


def test_a_vowel_is_guessed_where_its_logit_is_above_zero():
    theta = [Value(0.0) for _ in range(len(LETTERS) + 3)] + [Value(0.5)]  # 1 unit, switched off
    contexts, after = np.zeros((4, 1), int), np.array([1, 1, 1, 0])
    nats, right = evaluate(theta, contexts, after, 1, 1)
    assert right == 0.75
    assert nats == pytest.approx((3 * math.log1p(math.exp(-0.5)) + math.log1p(math.exp(0.5))) / 4)
    theta[-1].data = -0.5
    assert evaluate(theta, contexts, after, 1, 1)[1] == 0.25
    theta[-1].data = 0.0                                                  # at 0 it is none
    assert evaluate(theta, contexts, after, 1, 1)[1] == 0.25


def test_distances_leave_out_a_vowel_and_itself():
    theta = [Value(0.0) for _ in range(2 * len(LETTERS))]
    theta[2 * LETTERS.index("a")].data = 3.0   # a stands 5 from everything else
    theta[2 * LETTERS.index("a") + 1].data = 4.0
    among, across = distances(theta, 2)
    assert among == pytest.approx(5 * 8 / 20)        # 8 of the 20 ordered pairs have an a
    assert across == pytest.approx(5 * 22 / (5 * 22))


def test_sets_of_five_closer_together_than_the_vowels_are_counted():
    theta = [Value(float(k % 9)) for k in range(2 * len(LETTERS))]
    for i, c in enumerate("aeiou"):
        theta[2 * LETTERS.index(c)].data, theta[2 * LETTERS.index(c) + 1].data = 50.0 + i, 0.0
    assert task.closer_sets(theta) > 0
    for c in "aeiou":
        theta[2 * LETTERS.index(c)].data = 50.0
    assert task.closer_sets(theta) == 0


def test_letters_placed_by_how_often_a_vowel_follows_correlate_fully():
    rng = np.random.default_rng(0)
    seen = rng.integers(len(LETTERS), size=(5000, 3)), rng.integers(2, size=5000)
    p = task.vowel_after(seen)
    last_a = seen[0][:, -1] == 1
    assert p[1] == pytest.approx((seen[1][last_a].sum() + 1) / (last_a.sum() + 2))
    theta = [Value(x) for q in p for x in (q, 0.0)]
    assert task.like_distance(theta, p) > 0.99
    assert task.shuffled(theta, p, rng, 100) == 0  # no shuffle does as well as the right order
    opposite = [Value(x) for q in p[::-1] for x in (q, 0.0)]
    assert task.shuffled(opposite, p, rng, 100) > 0


def test_counting_gives_add_one_probabilities():
    contexts, vowels = np.array([[1], [1], [2]]), np.array([1, 0, 1])
    nats, right = counted(contexts, vowels, np.array([[1], [2], [3]]), np.array([1, 1, 1]))
    assert nats == pytest.approx(-(math.log(2 / 4) + math.log(2 / 3) + math.log(1 / 2)) / 3)
    assert right == pytest.approx(1 / 3)


def test_edges():
    x = Value(2.0)
    x.backward()
    assert x.grad == 1.0
    assert gradient(lambda v: 3.0, [1.0, 2.0]) == [0.0, 0.0]
    assert gradient(lambda v: v[0] ** 0, [0.0]) == [0.0]
    assert gradient(lambda v: v[0] * 2.0, [1.0, 1.0]) == [2.0, 0.0]
    with pytest.raises(ValueError, match=r"write \(y \* x.log\(\)\).exp\(\)"):
        Value(2.0) ** Value(3.0)
    assert repr(Value(2.0)) == "Value(2.0, grad=0.0)"


def test_reverse_stays_below_five_while_forward_grows_with_n():
    result = importlib.import_module("days.day13.run").measure(fast=True, seed=0)
    for n, plain, forward, reverse in result.costs:
        assert reverse <= 5 * plain
        assert forward >= 2 * n * plain
    assert result.network[0] < result.untrained[0]
    assert result.network[0] < result.counting[0][2]  # better than no context at all


def test_numbers_of_numpy_are_plain_numbers():
    assert (Value(3.0) / np.int64(2)).data == 1.5
    assert (Value(np.uint8(200)) + np.uint8(100)).data == 300
    assert (Value(np.uint8(200)) * np.uint8(2)).data == 400
    assert (np.uint8(10) - Value(np.uint8(20))).data == -10
    assert (Value(np.uint8(10)) - np.uint8(20)).data == -10
    assert (Value(2.0) ** np.int64(-1)).data == 0.5


@pytest.mark.parametrize("call", [
    lambda a: Value(a), lambda a: Value(1.0) + a, lambda a: Value(1.0) * a,
    lambda a: a * Value(1.0), lambda a: a - Value(1.0), lambda a: Value(1.0) - a,
    lambda a: Value(1.0) / a, lambda a: Value(2.0) ** a])
def test_an_array_is_refused_with_its_shape(call):
    with pytest.raises(ValueError, match=r"one number, and this array has shape \(2, 1\)"):
        call(np.ones((2, 1)))
    assert isinstance(call(np.ones((1, 1))), Value)                # one number in brackets


def test_a_root_of_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="not a real number"):
        Value(-8.0) ** (1 / 3)
    assert (Value(-8.0) ** 2).data == 64 and (Value(8.0) ** (1 / 3)).data == pytest.approx(2)


def test_backward_twice_adds_to_a_leaf():
    leaf = Value(2.0)
    leaf.backward()
    leaf.backward()
    assert leaf.grad == 2.0
