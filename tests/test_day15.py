"""Day 15 · A tape for tensors: claims about gradients, ownership, memory, scopes and lowering."""

import importlib
import subprocess
import sys
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

from llm.grad import ops, rules, tensor, views, walk
from llm.grad.check import check_pair, numerical_gradient
from llm.grad.lowering import lower, lowerable
from llm.grad.memory import watching
from llm.grad.scalar import Value
from llm.grad.tensor import Tensor, no_grad, primitive
from llm.grad.walk import Node, saved_by_operation, saved_bytes, topological
from llm.models import vowels


def leaf(*shape, seed=0, dtype=np.float64):
    draw = np.random.default_rng(seed)
    return Tensor(draw.standard_normal(shape).astype(dtype), requires_grad=True)


def test_the_hand_example():
    a = Tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    b = Tensor([[1.0, 2.0, 3.0, 4.0]], requires_grad=True)
    (a + b).sum().backward()
    assert a.grad.tolist() == [[4.0]] * 3 and b.grad.tolist() == [[3.0] * 4]


def test_the_hand_example_a_tensor_used_twice_collects_both_gradients():
    x = Tensor([1.0, 2.0], requires_grad=True)
    (x * x + x).sum().backward()
    assert x.grad.tolist() == [3.0, 5.0]


def network(seed, inputs=4, hidden=3):
    """Day 13's network: its parameters as one list, its input, w (inputs, hidden), b, v, c."""
    draw = np.random.default_rng(seed)
    theta, x = draw.standard_normal(hidden * (inputs + 2) + 1), draw.standard_normal(inputs)
    units = theta[:-1].reshape(hidden, inputs + 2)
    return theta, x, [units[:, :inputs].T, units[:, inputs], units[:, inputs + 1:], theta[-1:]]


@pytest.mark.parametrize("seed", range(5))
def test_the_scalar_tape_the_tensor_tape_and_the_hand_rules_agree(seed):
    theta, x, arrays = network(seed)
    values = [Value(float(p)) for p in theta]
    scalar = vowels.loss(vowels.mlp(values, x.tolist(), 3), 1)
    scalar.backward()
    by_scalars = np.array([v.grad for v in values])

    pick = np.array([[0.0, 1.0]])                     # log(1 + e^−z) is the loss of logits [0, z]
    w, b, v, c = (Tensor(a, requires_grad=True) for a in arrays)
    hidden = ops.tanh(ops.linear(x[None], w, b))
    loss = ops.cross_entropy(ops.linear(hidden, v, c) @ pick, np.array([1]))
    loss.backward()
    by_tape = [p.grad for p in (w, b, v, c)]

    u, saved_in = rules.linear(x[None], *arrays[:2])
    h, saved_tanh = rules.tanh(u)
    z, saved_out = rules.linear(h, *arrays[2:])
    pair, saved_pick = rules.matmul(z, pick)
    value, saved_loss = rules.cross_entropy(pair, np.array([1]))
    d, _ = rules.cross_entropy_vjp(np.ones(()), *saved_loss)
    d, _ = rules.matmul_vjp(d, *saved_pick)
    dh, dv, dc = rules.linear_vjp(d, *saved_out)
    _, dw, db = rules.linear_vjp(*rules.tanh_vjp(dh, *saved_tanh), *saved_in)

    assert scalar.data == pytest.approx(float(value), rel=1e-14) == float(loss.data)
    for found, by_hand in zip(by_tape, (dw, db, dv, dc)):
        assert np.array_equal(found, by_hand)         # the same calls in the same order
    flat = np.append(np.column_stack([by_tape[0].T, by_tape[1], by_tape[2]]), by_tape[3])
    np.testing.assert_allclose(flat, by_scalars, rtol=1e-12, atol=1e-15)


STEPS = [lambda a, b: a + b, lambda a, b: a * b * 0.5, lambda a, b: a - b,
         lambda a, b: ops.tanh(a) / 2.0, lambda a, b: 1.5 - a, lambda a, b: -b + a,
         lambda a, b: a / (b * b + 1.0), lambda a, b: 1.0 / (a * a + 2.0)]


def random_graph(seed, leaves):
    """A result that reuses random earlier Tensors, of leaves that broadcast against each other."""
    draw = np.random.default_rng(seed)
    made = list(leaves)
    for _ in range(12):
        a, b = (made[i] for i in draw.integers(len(made), size=2))
        made.append(STEPS[draw.integers(len(STEPS))](a, b))
    return sum((t.mean() for t in made[-4:]), start=made[-1].sum())


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_match_finite_differences(seed):
    leaves = [leaf(3, 1, seed=seed), leaf(1, 4, seed=seed + 50), leaf(seed=seed + 99)]
    random_graph(seed, leaves).backward()
    for t in leaves:
        expected = numerical_gradient(lambda _: float(random_graph(seed, leaves).data), t.data)
        found = np.zeros(t.shape) if t.grad is None else t.grad
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_the_order_lists_each_place_once_and_after_all_it_was_made_from(seed):
    order = topological(random_graph(seed, [leaf(3, 1), leaf(1, 4), leaf()]).node)
    position = {id(place): k for k, place in enumerate(order)}
    assert len(position) == len(order)
    assert all(position[id(p)] < position[id(place)] for place in order if isinstance(place, Node)
               for p in place.parents if p is not None)


@pytest.mark.parametrize("pair, shape, options", [
    ("total", (2, 3), {}), ("total", (2, 3, 4), {"axis": 1}), ("total", (), {}),
    ("total", (2, 3, 4), {"axis": (0, -1)}), ("total", (0, 3), {"axis": 0}),
    ("total", (2, 3, 4), {"axis": 1, "keepdims": True}), ("total", (2, 3), {"keepdims": True}),
    ("total", (), {"keepdims": True}), ("reshape", (2, 6), {"shape": (3, -1)}),
    ("transpose", (2, 3, 4), {}), ("transpose", (3, 3, 3), {"axes": (1, 2, 0)}),
    ("transpose", (3, 3, 3), {"axes": (0, -1, 1)}), ("transpose", (2, 3), {"axes": (-1, 0)}),
    ("take", (4, 3), {"index": [0, 0, 2]}), ("take", (4, 3), {"index": (slice(None), 1)}),
    ("take", (4, 3), {"index": (slice(1, 3), [2, 2])}), ("take", (4,), {"index": 3})])
def test_views_match_finite_differences(pair, shape, options):
    x = np.asarray(np.random.default_rng(1).standard_normal(shape))
    check_pair(getattr(views, pair), getattr(views, f"{pair}_vjp"), x,
               rng=np.random.default_rng(2), **options)


def test_methods_take_shapes_and_axes_as_numbers_or_as_a_tuple_and_keep_axes():
    x = leaf(2, 3, 4)
    assert x.reshape(6, 4).shape == x.reshape((6, 4)).shape == x.reshape([6, 4]).shape == (6, 4)
    assert x.reshape(-1).shape == x.reshape((-1,)).shape == (24,)
    assert x.transpose(2, 0, 1).shape == x.transpose((2, 0, 1)).shape == (4, 2, 3)
    assert x.transpose().shape == x.T.shape == (4, 3, 2)
    for name in ("sum", "mean", "max"):
        for axis in (None, 1, -1, (0, 2)):
            for keepdims in (False, True):
                expected = getattr(x.data, name)(axis=axis, keepdims=keepdims)
                found = getattr(x, name)(axis, keepdims)
                assert found.shape == expected.shape
                np.testing.assert_allclose(found.data, expected, atol=1e-15)
    (x - x.mean(-1, keepdims=True)).sum().backward()
    np.testing.assert_allclose(x.grad, np.zeros((2, 3, 4)), atol=1e-15)


def test_standardising_by_hand_with_the_tape_matches_finite_differences():
    def standard(t):
        centred = t - t.mean(0, keepdims=True)
        scaled = centred * ((centred**2).mean(0, keepdims=True) + 1e-3) ** -0.5
        return (ops.log(ops.exp(scaled) + 1.0) * ops.gelu_erf(t)).max(1).sum()

    x = leaf(3, 4, seed=5)
    standard(x).backward()
    expected = numerical_gradient(lambda a: float(standard(Tensor(a)).data), x.data)
    np.testing.assert_allclose(x.grad, expected, rtol=1e-6, atol=1e-8)


def test_comparisons_are_plain_booleans_for_masks():
    x = Tensor([-1.0, 0.0, 2.0], requires_grad=True)
    for found, expected in ((x > 0, [0, 0, 1]), (x >= 0, [0, 1, 1]), (x < 0, [1, 0, 0]),
                            (x <= 0, [1, 1, 0]), (1.0 - x < 1, [0, 0, 1]),
                            (x > x * 0.5, [0, 0, 1]), (np.zeros(3) < x, [0, 0, 1])):
        assert isinstance(found, np.ndarray) and found.dtype == bool
        assert found.tolist() == [bool(e) for e in expected]
    (x * (x > 0)).sum().backward()
    assert x.grad.tolist() == [0, 0, 1]


def test_a_power_is_a_plain_number_and_a_tensors_power_is_written_out():
    x, y = Tensor([2.0, 3.0], requires_grad=True), Tensor([3.0, 2.0], requires_grad=True)
    assert (x**2).data.tolist() == [4, 9]
    with pytest.raises(ValueError, match=r"ops.exp\(y \* ops.log\(x\)\)"):
        x**y
    ops.exp(y * ops.log(x)).sum().backward()
    np.testing.assert_allclose(x.grad, [12, 6])
    np.testing.assert_allclose(y.grad, [8 * np.log(2), 9 * np.log(3)])


def test_pieces_put_together_send_their_gradients_apart():
    a, b = leaf(2, 3), leaf(2, 1, seed=1)
    (ops.cat(a, b, axis=1) * np.arange(8.0).reshape(2, 4)).sum().backward()
    assert a.grad.tolist() == [[0, 1, 2], [4, 5, 6]] and b.grad.tolist() == [[3], [7]]
    np.testing.assert_allclose(ops.softmax(a, axis=0).data.sum(0), np.ones(3))
    np.testing.assert_allclose(np.exp(ops.log_softmax(a, axis=0).data), ops.softmax(a, axis=0).data)


def test_float32_that_meets_float64_is_told_in_the_forward_with_the_cure():
    w, x = leaf(3, 4, dtype=np.float32), np.ones((2, 3))
    for wide in (x, Tensor(x)):
        with pytest.raises(ValueError, match=r"linear of float64 \(2, 3\) and float32 \(3, 4\): "
                                             r"make all one dtype, by dtype=…"):
            ops.linear(wide, w)                                  # here, not in backward
    with pytest.raises(ValueError, match=r"add of float32 \(3, 4\) and float64 \(3, 4\)"):
        w + leaf(3, 4)
    with no_grad():
        assert (w + leaf(3, 4)).dtype == np.float64              # no gradient is wanted
    constant = Tensor(np.ones(4, np.float32))
    (leaf(3, 4) + constant).sum().backward()                     # float64 wants one: that goes
    widen = primitive(lambda x: (x.astype(np.float64), ()), lambda dout: (dout.astype(np.float32),))
    widen(w).sum().backward()                                    # and an operation may change it
    narrow = primitive(lambda x, w: ((x * w).astype(np.float32), (w,)), None)
    assert narrow(w, np.ones(4)).dtype == np.float32             # or take float64 and stay
    assert w.grad.dtype == np.float32
    assert (w * 2.0).dtype == ops.linear(x.astype(np.float32), w).dtype == np.float32
    assert (w + np.ones(4)).dtype == np.float32                  # a constant takes the Tensor's


def test_a_gradient_shared_by_two_leaves_is_not_one_array():
    a, b = leaf(3), leaf(3)
    (a + b).sum().backward()
    a.grad *= 0.5                                     # as clipping does
    assert a.grad.tolist() == [0.5] * 3 and b.grad.tolist() == [1.0] * 3


@pytest.mark.parametrize("join", [lambda s, a: s + 2.0 * a, lambda s, a: 2.0 * a + s])
def test_adding_to_one_receiver_of_a_shared_gradient_leaves_the_other_alone(join):
    a, b = leaf(3), leaf(3)
    join(a + b, a).sum().backward()                   # the VJP of a + b hands one array to both
    assert a.grad.tolist() == [3.0] * 3 and b.grad.tolist() == [1.0] * 3


@pytest.mark.parametrize("vjp", [
    lambda dout, x, w: (w, None),                     # what was saved, handed on as it is
    lambda dout, x, w: (w[:], None)])
def test_a_vjp_may_return_what_it_saved_and_the_walk_does_not_write_to_it(vjp):
    w = np.array([1.0, 2.0, 3.0])
    dot = primitive(lambda x, w: (np.asarray((x * w).sum()), (x, w)), vjp)
    x = leaf(3)
    (dot(x, w) + (x * 10.0).sum() + dot(x, w)).backward()
    assert x.grad.tolist() == [12.0, 14.0, 16.0] and w.tolist() == [1.0, 2.0, 3.0]
    assert not np.shares_memory(x.grad, w)


def test_a_vjp_may_return_an_array_and_a_view_of_it():
    f = lambda a, b: (a + np.repeat(b, 2), ())
    both = primitive(f, lambda dout: ((g := dout * 1.0), g[::2]))
    a, b = leaf(4), leaf(2)
    h, k = a * 1.0, b * 1.0
    loss = both(h, k).sum() + (h * 5.0).sum()
    loss.backward()
    assert a.grad.tolist() == [6.0] * 4 and b.grad.tolist() == [1.0] * 2


def test_the_callers_gradient_is_neither_kept_nor_changed():
    x, dout = leaf(3), np.ones(3)
    x.backward(dout)
    (x + x + x).backward(dout)
    assert dout.tolist() == [1.0] * 3 and x.grad.tolist() == [4.0] * 3
    assert not np.shares_memory(x.grad, dout)


def test_leaves_add_up_over_calls_until_set_to_none():
    x = leaf(3)
    for _ in range(2):
        (x * 3.0).sum().backward()
    assert x.grad.tolist() == [6.0] * 3
    x.grad = None
    (x * 3.0).sum().backward()
    assert x.grad.tolist() == [3.0] * 3


def test_a_chain_of_ten_thousand_operations_is_walked_without_recursion():
    x = y = leaf()
    for _ in range(10_000):
        y = y + x
    y.backward()
    assert x.grad == 10_001


@pytest.mark.parametrize("last", ["y.sum().backward()", "pass"])
def test_a_long_chain_can_be_deleted_walked_or_not(last):
    code = ("from llm.grad.tensor import Tensor\n"
            "x = y = Tensor([1.0], requires_grad=True)\n"
            "for _ in range(50_000): y = y * x\n"
            f"{last}\ndel x, y\nprint('alive')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "alive\n", done.stderr


def test_a_second_backward_on_a_used_up_graph_raises():
    x = leaf(3)
    loss = ops.tanh(x).sum()
    loss.backward()
    with pytest.raises(ValueError, match="used up the record of total"):
        loss.backward()


def test_a_part_that_an_earlier_backward_used_up_raises_before_anything_changes():
    w, v = leaf(3), leaf(3)
    h = ops.tanh(w)
    one, two = (h * 2.0).sum(), (h * v).sum()
    one.backward()
    before = w.grad.copy()
    with pytest.raises(ValueError, match="used up the record of tanh.*add both losses"):
        two.backward()
    with pytest.raises(ValueError, match="used up the record of tanh"):
        (h * v).sum().backward()                      # built on it afterwards
    assert np.array_equal(w.grad, before) and v.grad is None


def mlp(B=64, C=48, H=80, V=20):
    draw = np.random.default_rng(3)
    make = lambda *shape: Tensor(draw.standard_normal(shape).astype(np.float32) / 8, True)
    leaves = make(V, C), make(C, H), make(H), make(H, H), make(H), make(H, V)
    ids, targets = draw.integers(V, size=B), draw.integers(V, size=B)

    def loss():
        E, w1, b1, w2, b2, w3 = leaves
        h = ops.gelu(ops.linear(ops.embedding(E, ids), w1, b1))
        h = h + ops.tanh(ops.linear(h, w2, b2))
        return ops.cross_entropy(ops.linear(h, w3), targets)
    return leaves, loss


def test_saved_bytes_follow_the_formula_of_each_operation():
    B, C, H, V = 64, 48, 80, 20
    _, loss = mlp(B, C, H, V)
    assert saved_by_operation(loss()) == {
        "embedding": 8 * B,                           # the ids
        "linear": 4 * (B * C + 2 * B * H),            # its inputs; weights are there anyway
        "gelu": 4 * B * H,                            # its input
        "tanh": 4 * B * H,                            # its output
        "add": 0,
        "cross_entropy": 4 * B * V + (8 + 1) * B}     # log p, target and whether it counts
    assert saved_bytes(loss()) == 9 * B + 8 * B + 4 * B * (C + V + 4 * H)


def test_a_buffer_that_two_operations_save_counts_once():
    x = leaf(100)
    assert saved_bytes(ops.tanh(x) * 1.0) == 800 + 8 == saved_bytes(ops.tanh(x)) + 8
    h = ops.relu(x * x)                               # x·x saves the leaf only
    square = h.reshape(10, 10)                        # views of one buffer
    assert saved_bytes(h) == 800 == saved_bytes(h * h) == saved_bytes(square * square.T)
    assert saved_bytes(x) == 0


def allocated(call):
    """(what call returns, bytes that stay allocated by it)"""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = call()
        return result, tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_the_forward_keeps_what_saved_bytes_says_and_backward_leaves_only_gradients():
    leaves, loss = mlp(B=1500)
    loss().backward()
    for t in leaves:
        t.grad = None
    result, kept = allocated(loss)
    fresh = saved_bytes(result) - 8 * 1500            # the ids were there before
    assert fresh < kept < 1.01 * fresh + 10_000
    gradients = sum(t.data.nbytes for t in leaves)
    _, left = allocated(lambda: loss().backward())
    assert gradients <= left < gradients + 10_000


def test_memory_falls_as_backward_walks():
    x, seen = leaf(10_000), []

    def watched_vjp(dout, out):
        seen.append(tracemalloc.get_traced_memory()[0])
        return rules.tanh_vjp(dout, out)

    watched = primitive(rules.tanh, watched_vjp)

    def step():
        y = x
        for _ in range(10):
            y = watched(y)
        y.sum().backward()
    allocated(step)
    assert len(seen) == 10 and all(a - b > 75_000 for a, b in zip(seen[1:], seen[2:]))


def test_a_gradient_that_nobody_wants_is_gone_before_the_next_vjp_runs():
    unwanted, alive = [], []

    def two(dout, shape):
        other = np.ones(shape)
        unwanted.append(weakref.ref(other))
        return 2 * dout, other

    def look(dout):
        alive.append(unwanted[0]() is not None)
        return (dout,)

    twice = primitive(lambda x, c: (2 * x, (x.shape,)), two)
    seen = primitive(lambda x: (x.copy(), ()), look)
    twice(seen(leaf(5)), np.ones(5)).sum().backward()
    assert alive == [False]


def test_the_most_bytes_are_noted_for_each_operation_alone():
    with watching([ops.gelu, ops.tanh]) as log, no_grad():
        ops.gelu(np.ones(100_000))
        ops.tanh(np.ones(10))
    assert log[0][3] > 1_600_000 and log[1][3] < 100_000


def test_an_array_is_fresh_if_nothing_else_that_the_vjp_knew_shows_its_memory():
    g, dout = np.ones(4), np.ones(4)
    assert walk.is_fresh(g, (dout, g)) and walk.is_fresh(g, (dout, "a shape", g, None))
    assert not walk.is_fresh(g, (g, g))               # handed to two
    assert not walk.is_fresh(g, (dout, g, g[1:]))     # a part of it handed to another
    assert not walk.is_fresh(g[1:], (dout, g[1:]))    # itself a part of something


def test_a_second_gradient_is_added_in_place_but_only_in_an_array_that_nobody_else_sees():
    array = np.ones(3)
    for owned in (False, True):
        both, mine = walk.accumulate((array, owned), np.ones(3), True)
        assert both.tolist() == [2.0] * 3 and mine and (both is array) == owned


def test_an_output_that_no_vjp_needs_is_let_go():
    x = leaf(100_000)

    def additions():
        y = x
        for _ in range(20):
            y = y + 1.0
        return y
    result, kept = allocated(additions)
    assert saved_bytes(result) == 0 and kept < 2 * x.data.nbytes      # y itself


def test_a_product_with_a_constant_keeps_an_array_that_no_gradient_needs():
    """The answer of the exercise: the record is as frugal as its rules, and not more."""
    x = y = leaf(1000)
    for _ in range(20):
        y = y * 2.0
    assert saved_bytes(y) == 19 * 8000 + 20 * 8       # x itself is a leaf
    scale = primitive(lambda x, c: (x * c, (c,)), lambda dout, c: (dout * c, None))
    y = x
    for _ in range(20):
        y = scale(y, np.float64(2.0))
    assert saved_bytes(y) == 0
    row = (x.reshape(10, 100) + 1.0)[0]
    assert saved_bytes(row * row) == 8000             # 100 numbers keep the 1,000 alive


def test_watching_notes_each_operation_on_both_ways_and_changes_nothing():
    x = leaf(1000)
    (ops.tanh(x) * x).sum().backward()
    expected, x.grad = x.grad, None
    with watching([ops.tanh, tensor.mul]) as log:
        (ops.tanh(x) * x).sum().backward()
        with pytest.raises(ValueError, match="already"), watching([]):
            pass
    assert [row[:2] for row in log] == [("tanh", "forward"), ("mul", "forward"),
                                        ("mul", "backward"), ("tanh", "backward")]
    assert all(8000 < now <= most for _, _, now, most in log)
    assert np.array_equal(x.grad, expected) and not tracemalloc.is_tracing()


def test_no_grad_records_nothing_and_ends_with_the_block():
    x = leaf(3)
    with no_grad(), no_grad():
        y = ops.tanh(x)
    assert y.node is None and not y.requires_grad
    with pytest.raises(ValueError, match="made under no_grad"):
        y.sum().backward()
    with pytest.raises(RuntimeError, match="inside"), no_grad():
        raise RuntimeError("inside")
    assert ops.tanh(x).requires_grad
    with no_grad():
        seen = []
        other = threading.Thread(target=lambda: seen.append(ops.tanh(x).requires_grad))
        other.start()
        other.join()
    assert seen == [True]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_dtype_is_kept(dtype):
    x, w = leaf(2, 3, dtype=dtype), leaf(3, 3, dtype=dtype)
    y = (1.0 / (x * 0.5 + 2) - np.float64(3) * x) @ w - x.mean(axis=0) / 7
    loss = (-y).mean()
    loss.backward()
    assert {t.dtype for t in (y, loss)} | {x.grad.dtype, w.grad.dtype} == {np.dtype(dtype)}
    assert Tensor([1, 2]).dtype == np.float32


def test_arrays_and_numbers_work_on_both_sides():
    x, a = leaf(2, 2), np.array([[1.0, 2.0], [3.0, 4.0]])
    for mine, plain in [(a + x, a + x.data), (a - x, a - x.data), (a * x, a * x.data),
                        (a / x, a / x.data), (a @ x, a @ x.data), (x @ a, x.data @ a),
                        (x[0], x.data[0]), (x.T, x.data.T), (2 - x, 2 - x.data)]:
        assert isinstance(mine, Tensor) and np.allclose(mine.data, plain)
    assert repr(x @ a) == "Tensor(shape=(2, 2), dtype=float64, from matmul)"


def test_a_gradient_has_its_leafs_shape_and_is_an_array_even_of_no_axes():
    x = leaf()
    for _ in range(2):
        (x * x).backward()
        assert isinstance(x.grad, np.ndarray) and x.grad.shape == ()


@pytest.mark.parametrize("vjp, message", [
    (lambda dout, x: (dout[:1],), r"tanh's VJP gave a gradient of shape \(1,\), float64, for an "
                                  r"input of shape \(3,\), float64"),
    (lambda dout, x: (dout.astype(np.float32),), r"shape \(3,\), float32, for"),
    (lambda dout, x: (1.0,), r"shape \(\), float, for an input of shape \(3,\)"),
    (lambda dout, x: (None,), "tanh's VJP gave no gradient"),
    (lambda dout, x: (), "gave 0 gradients for 1 inputs"),
    (lambda dout, x: (dout, dout), "gave 2 gradients for 1 inputs")])
def test_a_wrong_vjp_is_caught_where_it_happens(vjp, message):
    with pytest.raises(ValueError, match=message):
        primitive(rules.tanh, vjp)(leaf(3)).sum().backward()


@pytest.mark.parametrize("call, message", [
    (lambda: leaf(2, 3).backward(), r"single number, and this has shape \(2, 3\)"),
    (lambda: leaf(3).backward(np.ones(2)), r"shape \(2,\) for a Tensor of shape \(3,\)"),
    (lambda: Tensor([1.0]).backward(), "nothing to differentiate"),
    (lambda: Tensor([1, 2], requires_grad=True), "only floats have gradients, and this is int64"),
    (lambda: ops.linear(leaf(2, 3), leaf(3, 4), b=leaf(4)), r"the Tensor b of shape \(4,\) by pos"),
    (lambda: leaf(2, 3) @ leaf(4, 5), r"\(2, 3\) by \(4, 5\)"),
    (lambda: leaf(2, 3) + leaf(4), r"\(2,3\) \(4,\)")])
def test_misuse_raises_with_the_shapes(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("value", [None, "2", 2j, [None, 1.0], np.array(["a"])])
def test_what_is_no_real_number_is_refused_and_does_not_become_nan(value):
    x = leaf(1)
    for call in (Tensor, lambda v: x + v, lambda v: v - x, lambda v: x < v):
        with pytest.raises(ValueError, match="real numbers only, not .*" + type(value).__name__):
            call(value)


@pytest.mark.parametrize("value", [True, 2, np.uint8(2), 2.0, [2.0], np.float64(2)])
def test_numbers_of_every_kind_take_the_tensors_dtype(value):
    x = leaf(1, dtype=np.float32)
    assert (x * value).dtype == (value - x).dtype == np.float32
    assert (x * value).data == x.data * float(np.sum(value))


KEEPS = {"add": lambda h: h + h, "sub": lambda h: h - h, "sum": lambda h: h.sum(0),
         "reshape": lambda h: h.reshape(-1), "transpose": lambda h: h.T,
         "cat": lambda h: ops.cat(h, h), "relu": ops.relu, "tanh": ops.tanh, "exp": ops.exp,
         "sigmoid": ops.sigmoid, "softmax": ops.softmax, "log_softmax": ops.log_softmax,
         "gelu": ops.gelu, "gelu_erf": ops.gelu_erf, "silu": ops.silu, "power": lambda h: h**3,
         "mul": lambda h: h * (h + 1.0), "div": lambda h: h / (h + 9.0)}


@pytest.mark.parametrize("name", KEEPS)
def test_each_operation_keeps_the_arrays_that_the_note_lists(name):
    h = leaf(4, 5) + 0.0                              # no leaf, and nothing kept so far
    out = KEEPS[name](h)
    n = 4 * 5 * 8
    if name in ("add", "sub", "sum", "reshape", "transpose", "cat"):
        assert saved_bytes(out) == 0
    elif name in ("mul", "div"):
        assert saved_bytes(out) == (2 if name == "mul" else 3) * n
    else:
        by_output = name not in ("gelu", "gelu_erf", "silu", "power")
        assert saved_bytes(out) == n
        assert any(a is (out if by_output else h).data for a in out.node.saved)


def test_an_input_that_is_left_out_needs_no_gradient():
    x, w = leaf(2, 3), leaf(3, 4)
    ops.linear(x, w).sum().backward()
    np.testing.assert_allclose(w.grad, x.data.T @ np.ones((2, 4)))


def test_empty_tensors_pass():
    x = leaf(0, 3)
    (ops.gelu(x) * 2.0).sum().backward()
    assert x.grad.shape == (0, 3)
    assert x.mean().data == 0


def marked(mark):
    """A twin of tanh that returns `mark` everywhere, and `mark` as its gradient."""
    return (lambda x: (np.full_like(x, mark), (x.shape, x.dtype)),
            lambda dout, shape, dtype: (np.full(shape, mark, dtype),))


def test_a_twin_stands_in_only_inside_the_block_and_the_inner_block_wins():
    x = leaf(2)
    run = lambda: ops.tanh(x).data[0]
    with lower({ops.tanh: marked(7)}):
        assert run() == 7
        with lower({ops.tanh: marked(8)}):
            assert run() == 8
        with lower({ops.gelu: marked(9)}):
            assert run() == 7 and ops.gelu(x).data[0] == 9
        assert run() == 7 and ops.gelu(x).data[0] != 9
    assert run() == np.tanh(x.data[0])


def test_lowering_ends_when_an_error_leaves_the_block():
    x = leaf(2)
    with pytest.raises(RuntimeError, match="inside"), lower({ops.tanh: marked(7)}):
        raise RuntimeError("inside")
    assert ops.tanh(x).data[0] == np.tanh(x.data[0])


def test_another_thread_does_not_see_the_twin():
    x, seen = leaf(2), []
    with lower({ops.tanh: marked(7)}):
        other = threading.Thread(target=lambda: seen.append(ops.tanh(x).data[0]))
        other.start()
        other.join()
    assert seen == [np.tanh(x.data[0])]


def test_a_forward_made_with_a_twin_goes_back_with_the_twin_also_after_the_block():
    x = leaf(2)
    with lower({ops.tanh: marked(7)}):
        loss = ops.tanh(x).sum()
    loss.backward()
    assert x.grad.tolist() == [7.0, 7.0]


def test_plain_functions_can_be_lowered_and_others_cannot():
    @lowerable
    def twice(x):
        """Doc."""
        return 2 * x
    assert (twice(3), twice.__name__, twice.__doc__) == (6, "twice", "Doc.")
    with lower({twice: lambda x: -x}):
        assert twice(3) == -3
    assert twice(3) == 6
    with pytest.raises(TypeError, match="tanh cannot be lowered"), lower({np.tanh: np.sin}):
        pass


def test_the_pair_is_not_touched_by_being_lifted():
    assert tensor.add.pair == (rules.add, rules.add_vjp)
    assert ops.gelu.__name__ == "gelu" and ops.gelu.__doc__ == rules.gelu.__doc__


def test_memory_is_predicted_and_falls_to_the_gradients():
    result = importlib.import_module("days.day15.run").measure(fast=True, seed=0)
    for _, predicted, counted in result.kept:
        assert predicted == counted
    assert result.after_forward == pytest.approx(sum(row[1] for row in result.kept) / 1e6, rel=0.05)
    assert result.after_backward == pytest.approx(result.gradients, rel=0.02)
    assert result.peak > max(result.after_forward, result.after_backward)
    assert result.slope_error < 1e-7


def test_a_number_summed_over_an_axis_it_does_not_have_gets_its_gradient():
    x = Tensor(np.float32(3), True)
    x.sum(0).backward()
    assert x.grad == 1


@pytest.mark.parametrize("axis, value", [(None, 2.5), (0, [1.5, 3.5]), (1, [1.0, 4.0])])
def test_a_mean_and_its_gradient(axis, value):
    x = Tensor(np.array([[0.0, 2.0], [3.0, 5.0]]), True)
    out = x.mean(axis)
    np.testing.assert_allclose(out.data, value)
    out.sum().backward()
    np.testing.assert_allclose(x.grad, 0.25 if axis is None else 0.5)


def test_a_mean_over_many_rows_keeps_its_digits():
    x = Tensor(np.full((2**24 + 2**20, 2), 1, np.float32))
    assert x.mean(0).data[0] == pytest.approx(1, rel=1e-6)


def test_recording_stays_off_after_an_inner_no_grad():
    x = Tensor(np.ones(2), True)
    with no_grad():
        with no_grad():
            pass
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_the_callers_gradient_is_not_changed_nor_kept():
    x, grad = Tensor(np.ones(3), True), np.ones(3)
    x2 = x * 1.0
    x2.backward(grad)
    first = x.grad
    (x * 1.0).backward(np.ones(3))
    np.testing.assert_array_equal(grad, 1)
    np.testing.assert_array_equal(first, 1)        # what was handed out stays as it was
    np.testing.assert_array_equal(x.grad, 2)


def test_backward_is_done_with_a_leaf_as_soon_as_all_that_used_it_are_done():
    done = []
    x, first, last = (Tensor(np.eye(3), requires_grad=True) for _ in range(3))
    note = lambda leaf, g, owned: (done.append(leaf), walk.keep.__wrapped__(leaf, g, owned))
    with lower({walk.keep: note}):
        ((x @ first) @ last).sum().backward()
    assert done[0] is last and {id(p) for p in done[1:]} == {id(x), id(first)}


def test_a_leaf_does_not_keep_the_callers_gradient_as_its_own():
    x, dout = leaf(3), np.ones(3)
    x.backward(dout)
    assert not np.shares_memory(x.grad, dout)
    x.grad *= 0.5                                               # as clipping does
    assert dout.tolist() == [1.0] * 3
