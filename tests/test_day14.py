"""Day 14 · Backward by hand: claims about every vector–Jacobian product of the rules."""

import importlib

import numpy as np
import pytest

from days.day14.cost import COST
from llm.functions.embedding import one_hot
from llm.grad import more, rules
from llm.grad.check import check_pair, numerical_gradient
from llm.grad.count import Tally

rng = np.random.default_rng(14)


def normal(*shape):
    return rng.standard_normal(shape)


def away_from_zero(*shape):
    """Entries of size 0.5 to 2 with random signs: no kink and no division by almost nothing."""
    return np.asarray(rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape))


def jacobian(f, x):
    """∂out[j]/∂x[i] of a function of a vector, by finite differences: (out, in)."""
    rows = range(f(x).size)
    return np.array([numerical_gradient(lambda x, j=j: f(x).ravel()[j], x) for j in rows])


def test_the_hand_example_linear():
    x, w, b = np.array([[1.0, 2.0]]), np.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]]), np.ones(3)
    out, saved = rules.linear(x, w, b)
    assert out.tolist() == [[6.0, 3.0, 0.0]]
    dx, dw, db = rules.linear_vjp(np.array([[1.0, 0.0, 2.0]]), *saved)
    assert dx.tolist() == [[-1.0, 2.0]]
    assert dw.tolist() == [[1.0, 0.0, 2.0], [2.0, 0.0, 4.0]]
    assert db.tolist() == [1.0, 0.0, 2.0]


def test_the_hand_example_embedding_a_row_used_twice_gets_both_gradients():
    out, saved = rules.embedding(normal(7, 3), np.array([2, 2, 5]))
    dtable, none = rules.embedding_vjp(np.ones_like(out), *saved)
    assert dtable.sum(axis=1).tolist() == [0, 0, 6, 0, 0, 3, 0]
    assert (dtable[2] == 2).all() and (dtable[5] == 1).all() and none is None


def test_the_hand_example_broadcasting():
    column, row = np.ones((3, 1)), np.ones((1, 4))
    out, saved = rules.add(column, row)
    da, db = rules.add_vjp(np.ones_like(out), *saved)
    assert da.tolist() == [[4.0]] * 3 and db.tolist() == [[3.0] * 4]


def test_the_hand_example_softmax_cross_entropy():
    logits = np.log([[1.0, 2.0, 1.0]])
    loss, saved = rules.cross_entropy(logits, np.array([1]))
    assert loss == pytest.approx(np.log(2))
    np.testing.assert_allclose(rules.cross_entropy_vjp(1.0, *saved)[0], [[0.25, -0.5, 0.25]])
    p, saved = rules.softmax(logits)
    np.testing.assert_allclose(rules.softmax_vjp(np.array([[1.0, 0.0, 0.0]]), *saved)[0],
                               [[0.1875, -0.125, -0.0625]])


ELEMENTWISE = [rules.relu, rules.tanh, rules.sigmoid, rules.silu, rules.gelu, rules.softmax]
BROADCAST = [((2, 3), (2, 3)), ((2, 3), (3,)), ((3, 1), (1, 4)), ((), (2, 2)), ((2, 1, 3), (4, 1)),
             ((1,), (5,)), ((1, 1), (2, 3)), ((0, 3), (1, 3)), ((1,), (0,)), ((2, 1, 1), (3, 1))]


def vjp_of(f):
    return getattr(rules, f"{f.__name__}_vjp")


@pytest.mark.parametrize("f", ELEMENTWISE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 1, 5), (1,), (0, 4)])
def test_activations_and_softmax_match_finite_differences(f, shape):
    check_pair(f, vjp_of(f), 2 * away_from_zero(*shape), rng=rng)


@pytest.mark.parametrize("f", [rules.add, rules.sub, rules.mul, rules.div],
                         ids=lambda f: f.__name__)
@pytest.mark.parametrize("a, b", BROADCAST)
def test_arithmetic_matches_finite_differences_under_broadcasting(f, a, b):
    check_pair(f, vjp_of(f), away_from_zero(*a), away_from_zero(*b), rng=rng)
    check_pair(f, vjp_of(f), away_from_zero(*b), away_from_zero(*a), rng=rng)


@pytest.mark.parametrize("a, b", [((2, 3), (3, 4)), ((3, 3), (3, 3)), ((5, 2, 3), (5, 3, 4)),
                                  ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((0, 3), (3, 2)),
                                  ((2, 1, 2, 3), (3, 3, 2)), ((1, 1), (1, 1))])
def test_matmul_matches_finite_differences(a, b):
    check_pair(rules.matmul, rules.matmul_vjp, normal(*a), normal(*b), rng=rng)


@pytest.mark.parametrize("leading", [(), (1,), (4,), (2, 3), (0,), (2, 1, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_matches_finite_differences(leading, bias):
    check_pair(rules.linear, rules.linear_vjp, normal(*leading, 3), normal(3, 5),
               normal(5) if bias else None, rng=rng)


@pytest.mark.parametrize("ids", [[2, 2, 5], [[0, 1], [1, 6]], [3], np.empty(0, int)])
def test_embedding_matches_finite_differences_and_the_one_hot_product(ids):
    ids, table = np.array(ids), normal(7, 3)
    check_pair(rules.embedding, rules.embedding_vjp, table, ids, rng=rng)
    dout = normal(*ids.shape, 3)
    dtable, _ = rules.embedding_vjp(dout, *rules.embedding(table, ids)[1])
    hot = one_hot(ids, 7, np.float64).reshape(-1, 7)              # (N, V): out = hot @ table
    np.testing.assert_allclose(dtable, hot.T @ dout.reshape(-1, 3), atol=1e-12)


@pytest.mark.parametrize("targets", [[0, 3, 3], [4, -100, 1], [-100, -100, -100]])
def test_cross_entropy_matches_finite_differences(targets):
    check_pair(rules.cross_entropy, rules.cross_entropy_vjp, 3 * normal(3, 5), np.array(targets),
               rng=rng)
    check_pair(rules.cross_entropy, rules.cross_entropy_vjp, normal(3, 1, 5),
               np.array(targets)[:, None], rng=rng)
    check_pair(rules.cross_entropy, rules.cross_entropy_vjp, normal(3, 5),
               np.maximum(targets, -1), rng=rng, ignore=-1)


MORE = [("power", (2, 3), {"exponent": 3}), ("power", (2, 3), {"exponent": -2}),
        ("power", (4,), {"exponent": 0}), ("power", (), {"exponent": 1}),
        ("exp", (2, 3), {}), ("exp", (0, 4), {}), ("gelu_erf", (2, 5), {}), ("gelu_erf", (), {}),
        ("largest", (2, 3, 4), {"axis": 1}), ("largest", (2, 3, 4), {"axis": (0, -1)}),
        ("largest", (3, 4), {}), ("largest", (3, 4), {"axis": 0, "keepdims": True}),
        ("largest", (3, 1), {"axis": 1}), ("largest", (), {}),
        ("softmax", (2, 3, 4), {"axis": 1}), ("softmax", (3, 4), {"axis": 0}),
        ("softmax", (2, 3), {}), ("log_softmax", (2, 3, 4), {"axis": 1}),
        ("log_softmax", (5,), {}), ("log_softmax", (3, 4), {"axis": 0})]


@pytest.mark.parametrize("name, shape, options", MORE)
def test_what_readers_reach_for_matches_finite_differences(name, shape, options):
    check_pair(getattr(more, name), getattr(more, f"{name}_vjp"),
               np.asarray(2 * away_from_zero(*shape)), rng=rng, **options)


def test_a_fractional_power_and_the_logarithm_match_finite_differences_above_zero():
    check_pair(more.power, more.power_vjp, np.abs(away_from_zero(3, 2)), rng=rng, exponent=0.5)
    check_pair(more.log, more.log_vjp, np.abs(away_from_zero(3, 2)), rng=rng)
    with pytest.raises(ValueError, match=r"\(2,\) has entries below 0.*not 0.5"):
        more.power(np.array([4.0, -4.0]), 0.5)
    for x in (np.array([1.0, 0.0]), np.array([1.0, -2.0])):
        with pytest.raises(ValueError, match=r"\(2,\) needs entries above 0.*log_softmax"):
            more.log(x)


@pytest.mark.parametrize("shapes, axis", [([(2, 3), (1, 3), (4, 3)], 0), ([(2, 3), (2, 1)], -1),
                                          ([(2, 1, 3), (2, 0, 3)], 1), ([(3,)], 0)])
def test_arrays_behind_one_another_get_their_own_gradients_back(shapes, axis):
    check_pair(more.cat, more.cat_vjp, *(normal(*shape) for shape in shapes), rng=rng, axis=axis)


@pytest.mark.parametrize("shapes, axis", [([(2, 3), (2, 4)], 0), ([(2, 3), (3,)], 0),
                                          ([(2, 3), (4, 3)], 1), ([(2, 3), (4, 3)], -1),
                                          ([(2, 3), (2, 3)], 2), ([(2, 3), (2, 3)], -3)])
def test_arrays_that_do_not_fit_behind_one_another_are_told_with_their_shapes(shapes, axis):
    with pytest.raises(ValueError, match=r"cannot put \[\(2, 3\), .* along axis"):
        more.cat(*(np.zeros(shape) for shape in shapes), axis=axis)


def test_what_does_not_fit_is_told_with_the_cure():
    for arrays in ([[np.ones(2), np.ones(2)]], [np.ones(2), (np.ones(2),)]):
        with pytest.raises(ValueError, match=r"one by one: cat\(a, b, axis=0\)"):
            more.cat(*arrays)
    with pytest.raises(ValueError, match=r"shape \(2,\): write exp\(k · log x\)"):
        more.power(np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match=r"x \(0, 3\) is empty"):
        more.largest(np.ones((0, 3)), axis=0)


def test_corners_of_what_readers_reach_for():
    x = np.array([0.0, -2.0])
    out, saved = more.power(x, 0)
    assert out.tolist() == [1, 1] and more.power_vjp(np.ones(2), *saved)[0].tolist() == [0, 0]
    out, saved = more.power(x, 2)
    assert out.tolist() == [0, 4] and more.power_vjp(np.ones(2), *saved)[0].tolist() == [0, -4]
    out, saved = more.largest(np.array([[3.0, 1.0, 3.0], [0.0, 0.0, 0.0]]), axis=1)
    assert out.tolist() == [3, 0]                          # of equal entries each gets its share
    np.testing.assert_allclose(more.largest_vjp(np.array([1.0, 6.0]), *saved)[0],
                               [[.5, 0, .5], [2, 2, 2]])
    far = np.array([-1e30, -40, 40, 1e30], np.float32)
    slope = more.gelu_erf_vjp(np.ones(4, np.float32), *more.gelu_erf(far)[1])[0]
    assert slope.tolist() == [0, 0, 1, 1] and slope.dtype == np.float32
    wide = np.array([-800.0, 0.0])                          # exp(−800) is 0, its log is not
    assert more.log_softmax(wide)[0].tolist() == [-800, 0]


@pytest.mark.parametrize("name, options", [("power", {"exponent": np.float64(1.5)}), ("exp", {}),
                                           ("log", {}), ("gelu_erf", {}), ("largest", {"axis": 0}),
                                           ("softmax", {"axis": 0}), ("log_softmax", {})])
def test_what_readers_reach_for_keeps_float32(name, options):
    x = np.abs(away_from_zero(3, 4)).astype(np.float32)
    out, saved = getattr(more, name)(x, **options)
    (dx,) = getattr(more, f"{name}_vjp")(np.ones_like(out), *saved)
    assert out.dtype == dx.dtype == np.float32


def test_the_softmax_of_any_axis_is_the_rule_of_the_last_one_moved():
    x, dout = normal(3, 4), normal(3, 4)
    p, saved = more.softmax(x, axis=0)
    q, kept = rules.softmax(x.T)
    assert np.array_equal(p.T, q)
    np.testing.assert_allclose(more.softmax_vjp(dout, *saved)[0].T,
                               rules.softmax_vjp(dout.T, *kept)[0], atol=1e-15)


def test_the_softmax_jacobian_is_diag_p_minus_p_p_transposed():
    x = normal(6)
    p, saved = rules.softmax(x)
    exact = np.diag(p) - np.outer(p, p)
    np.testing.assert_allclose(jacobian(lambda x: rules.softmax(x)[0], x), exact, atol=1e-9)
    dout = normal(6)
    np.testing.assert_allclose(rules.softmax_vjp(dout, *saved)[0], dout @ exact, atol=1e-15)


def test_softmax_then_log_gives_the_same_as_the_fused_rule():
    logits, targets = 2 * normal(4, 6), np.array([1, 5, 0, 1])
    p, saved = rules.softmax(logits)
    picked = np.zeros_like(p)
    picked[np.arange(4), targets] = -1 / (4 * p[np.arange(4), targets])   # d(mean −log p)/dp
    fused = rules.cross_entropy_vjp(1.0, *rules.cross_entropy(logits, targets)[1])[0]
    np.testing.assert_allclose(rules.softmax_vjp(picked, *saved)[0], fused, atol=1e-15)


@pytest.mark.parametrize("seed", range(10))
def test_a_vjp_is_linear_in_dout_and_gradient_rows_of_softmax_sum_to_zero(seed):
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((3, 5))
    for f in ELEMENTWISE:
        _, saved = f(x)
        u, v = draw.standard_normal((2, 3, 5))
        both = vjp_of(f)(2 * u - v, *saved)[0]
        np.testing.assert_allclose(both, 2 * vjp_of(f)(u, *saved)[0] - vjp_of(f)(v, *saved)[0],
                                   atol=1e-14)
    assert np.abs(both.sum(axis=-1)).max() < 1e-14                # the last f is softmax
    _, saved = rules.cross_entropy(x, draw.integers(5, size=3))
    assert np.abs(rules.cross_entropy_vjp(1.0, *saved)[0].sum(axis=-1)).max() < 1e-15


def test_a_check_is_only_as_good_as_its_inputs():
    """The answer of the exercise: wrong rules that pass where the inputs do not tell."""
    def overwrite(dout, ids, shape):
        dtable = np.zeros(shape, dout.dtype)
        dtable[ids] += dout
        return dtable, None
    check_pair(rules.embedding, overwrite, normal(7, 3), np.array([4, 2, 5]), rng=rng)
    with pytest.raises(AssertionError, match="gradient of input 0"):
        check_pair(rules.embedding, overwrite, normal(7, 3), np.array([2, 2, 5]), rng=rng)
    always = lambda dout, out: (dout * (out >= 0),)
    check_pair(rules.relu, always, np.abs(away_from_zero(3, 4)), rng=rng)
    with pytest.raises(AssertionError, match="gradient of input 0"):
        check_pair(rules.relu, always, -np.abs(away_from_zero(3, 4)), rng=rng)
    swapped = lambda dout, a, b: (dout @ b, a.swapaxes(-1, -2) @ dout)
    both = normal(3, 3)
    check_pair(rules.matmul, swapped, normal(3, 3), both + both.T, rng=rng)
    with pytest.raises(AssertionError, match="gradient of input 0"):
        check_pair(rules.matmul, swapped, normal(3, 3), both, rng=rng)


@pytest.mark.parametrize("a, b", BROADCAST)
def test_unbroadcast_returns_the_original_shape_and_the_sum_over_copies(a, b):
    shape = np.broadcast_shapes(a, b)
    grad = normal(*shape)
    for small in (a, b):
        back = rules.unbroadcast(grad, small)
        assert back.shape == small
        copies = np.broadcast_to(np.arange(np.prod(small, dtype=int)).reshape(small), shape)
        expected = np.bincount(copies.ravel(), grad.ravel(), int(np.prod(small)))
        np.testing.assert_allclose(back.ravel(), expected, atol=1e-13)


def test_the_backward_of_a_matmul_costs_twice_its_forward():
    tally = Tally()
    counted = lambda *shape: np.array([tally.number(v) for v in normal(*shape).ravel()]
                                      ).reshape(shape)
    for n, k, m in [(2, 3, 4), (5, 4, 3)]:
        tally.operations = 0
        out, saved = rules.matmul(counted(n, k), counted(k, m))
        forward = tally.operations
        dout = counted(n, m)
        rules.matmul_vjp(dout, *saved)
        backward = tally.operations - forward
        # a sum of k products takes k − 1 additions: one operation an entry less than derived
        assert forward + n * m == 2 * n * k * m
        assert backward + n * k + k * m == 2 * (forward + n * m)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softmax", "sub", "mul", "div"])
def test_the_flops_of_the_note_are_those_of_the_code(name):
    tally, f = Tally(), getattr(rules, name)
    arrays = [away_from_zero(3, 5) for _ in range(2 if name in ("sub", "mul", "div") else 1)]
    counted = lambda a: np.array([tally.number(v) for v in a.ravel()], object).reshape(a.shape)
    saved = [counted(a) if isinstance(a, np.ndarray) else a for a in f(*arrays)[1]]
    vjp_of(f)(counted(normal(3, 5)), *saved)
    short = 3 if name == "softmax" else 0        # a sum of 5 takes 4 additions, in 3 rows
    assert tally.operations + short == 15 * COST[name][1]


def test_what_is_ignored_counts_for_nothing():
    logits = normal(3, 5).astype(np.float32)
    loss, saved = rules.cross_entropy(logits, np.full(3, -100))
    assert loss == 0 and loss.dtype == np.float32
    assert (rules.cross_entropy_vjp(np.float32(1), *saved)[0] == 0).all()
    logits[1, 0] = -np.inf                                        # a masked class, in a row
    loss, saved = rules.cross_entropy(logits, np.array([2, -100, 4]))     # that is ignored
    dlogits = rules.cross_entropy_vjp(np.float32(1), *saved)[0]
    assert (dlogits[1] == 0).all()
    alone, saved = rules.cross_entropy(logits[[0, 2]], np.array([2, 4]))
    assert loss == alone
    np.testing.assert_array_equal(dlogits[[0, 2]], rules.cross_entropy_vjp(1.0, *saved)[0])


def test_edges_of_cross_entropy():
    assert rules.cross_entropy(np.zeros((0, 5)), np.zeros(0, int))[0] == 0
    loss, saved = rules.cross_entropy(np.array([3.0]), np.array(0))      # one class, no axes
    assert loss == 0 and rules.cross_entropy_vjp(1.0, *saved)[0].tolist() == [0.0]
    assert rules.cross_entropy(np.zeros((2, 1)), np.array([-100, 0]))[0] == 0    # one of one class
    loss, saved = rules.cross_entropy(np.array([[1e4, -1e4]]), np.array([1]))
    assert loss == 2e4 and rules.cross_entropy_vjp(1.0, *saved)[0].tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize("call, message", [
    (lambda: rules.matmul(np.ones((2, 3)), np.ones((4, 5))), r"\(2, 3\) by \(4, 5\)"),
    (lambda: rules.matmul(np.ones(3), np.ones((3, 5))), r"\(3,\) by \(3, 5\)"),
    (lambda: rules.linear(np.ones((2, 3)), np.ones((4, 5))), r"\(2, 3\) does not fit w \(4, 5\)"),
    (lambda: rules.embedding(np.ones((7, 3)), np.array([2, 7])), "id 7 at position 1"),
    (lambda: rules.cross_entropy(np.ones((2, 5)), np.array([1, 5])), r"below 5 .* up to 5"),
    (lambda: rules.cross_entropy(np.ones((2, 5)), np.array([1, -1])), "integers below 5"),
    (lambda: rules.cross_entropy(np.ones((2, 5)), np.zeros((2, 1), int)), r"int64 \(2, 1\)"),
    (lambda: rules.cross_entropy(np.ones((2, 5)), np.zeros(2)), r"not float64 \(2,\)")])
def test_wrong_shapes_and_ids_raise_with_the_shapes(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_rule_of_the_run_is_right_on_real_shapes():
    result = importlib.import_module("days.day14.run").measure(fast=True, seed=0)
    pairs = {name for name in vars(rules) if f"{name}_vjp" in vars(rules)}
    assert {row[0].split()[0] for row in result.rows} == pairs    # no rule was left out
    assert max(row[2] for row in result.rows) < 1e-6


def test_sums_over_rows_keep_their_digits():
    rows = np.ones((2**24 + 8, 2), np.float32)
    assert rows.sum(axis=0)[0] == 2**24                 # NumPy alone, one row after another
    assert rules.unbroadcast(rows, (2,))[0] == 2**24 + 8
    x, w = np.zeros((len(rows), 1), np.float32), np.zeros((1, 2), np.float32)
    assert rules.linear_vjp(rows, x, w, True)[2][0] == 2**24 + 8


def test_a_loss_over_a_million_targets_keeps_its_digits():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((10**6, 2)).astype(np.float32)
    targets = np.zeros(10**6, np.int64)
    exact = np.logaddexp(*logits.astype(np.float64).T) - logits[:, 0].astype(np.float64)
    assert float(rules.cross_entropy(logits, targets)[0]) == pytest.approx(exact.mean(), rel=1e-7)


def test_an_ignored_row_gets_no_gradient_whatever_it_holds():
    logits = np.array([[np.nan, 0], [0, np.nan], [1, 2]], np.float32)
    loss, saved = rules.cross_entropy(logits, np.array([-100, -100, 1]))
    dlogits, _ = rules.cross_entropy_vjp(np.float32(1), *saved)
    np.testing.assert_array_equal(dlogits[:2], 0)
    np.testing.assert_allclose(dlogits[2], [0.26894142, -0.26894142], rtol=1e-6)
    assert float(loss) == pytest.approx(0.31326166, rel=1e-6)


def test_a_dead_unit_stops_an_infinite_gradient():
    _, saved = rules.relu(np.array([-1.0, 2.0], np.float32))
    (dx,) = rules.relu_vjp(np.array([np.inf, 3.0], np.float32), *saved)
    np.testing.assert_array_equal(dx, [0, 3])
    assert dx.dtype == np.float32


def test_the_slope_of_gelu_is_finite_far_out():
    x = np.array([-1e30, -1e13, 1e13, 1e30], np.float32)
    (dx,) = rules.gelu_vjp(np.ones(4, np.float32), x)
    np.testing.assert_array_equal(dx, [0, 0, 1, 1])


def test_the_loss_of_many_float16_rows_is_added_up_in_float64():
    loss, _ = rules.cross_entropy(np.zeros((100_000, 2), np.float16), np.zeros(100_000, int))
    assert float(loss) == pytest.approx(np.log(2), rel=1e-3)     # the sum is 69,315
