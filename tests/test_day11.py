"""Day 11 · Embeddings are one-hot products, and Bengio's window model, forward."""

import numpy as np
import pytest

from days.day11.run import measure
from llm.functions.embedding import embedding, one_hot
from llm.functions.probability import cross_entropy, softmax
from llm.models.window import (
    flops,
    init,
    known_share,
    logits,
    parameter_count,
    shapes,
    windows,
)


def by_hand():
    """V = 3, T = 2, C = 1, two hidden units: the model of the note."""
    return {"table": np.array([[0.], [1], [-1]]), "w1": np.array([[1., 0], [0, 1]]),
            "b1": np.zeros(2), "w2": np.array([[1., 0, -1], [0, 2, 0]]), "b2": np.zeros(3)}


def test_the_hand_example():
    table = np.array([[1., 2], [3, 4], [5, 6]])
    assert embedding(table, np.array([2, 0])).tolist() == [[5, 6], [1, 2]]
    assert (one_hot(np.array([2, 0]), 3) @ table).tolist() == [[5, 6], [1, 2]]
    t = np.tanh(1)
    np.testing.assert_allclose(logits(by_hand(), np.array([1, 2])), [t, -2 * t, -t])
    p = softmax(logits(by_hand(), np.array([1, 2])))
    np.testing.assert_allclose(p, [.7577, .0771, .1652], atol=5e-5)
    contexts, targets = windows(np.array([3, 1, 4, 1, 5]), 2)
    assert contexts.tolist() == [[3, 1], [1, 4], [4, 1]]
    assert targets.tolist() == [4, 1, 5]


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 1, 4), (0,), (3, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lookup_equals_the_one_hot_product(shape, dtype):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(7, 4)).astype(dtype)
    ids = rng.integers(0, 7, shape)
    found = embedding(table, ids)
    assert found.shape == (*shape, 4)
    assert found.dtype == dtype
    assert (found == one_hot(ids, 7, dtype) @ table).all()  # exact: sums of zeros and one number


def test_embedding_is_a_copy():
    table = np.zeros((3, 2))
    embedding(table, np.array([1]))[:] = 9
    assert (table == 0).all()


@pytest.mark.parametrize("context, hidden", [(1, 1), (3, 5), (6, 2)])
def test_logits_equal_a_loop_over_positions(context, hidden):
    rng = np.random.default_rng(context)
    p = init(5, context, 4, hidden, rng, dtype=np.float64)
    p["b1"], p["b2"] = rng.normal(size=hidden), rng.normal(size=5)
    ids = rng.integers(0, 5, (2, 3, context))
    found = logits(p, ids)
    assert found.shape == (2, 3, 5)
    for place in np.ndindex(2, 3):
        total = p["b1"].copy()
        for t, token in enumerate(ids[place]):  # position t owns rows t·C … t·C + C − 1 of w1
            for c in range(4):
                total += p["table"][token, c] * p["w1"][t * 4 + c]
        np.testing.assert_allclose(found[place], np.tanh(total) @ p["w2"] + p["b2"], atol=1e-12)


def test_the_table_is_shared_and_the_first_layer_is_not():
    p = init(5, 2, 4, 8, np.random.default_rng(0), dtype=np.float64)
    before = logits(p, np.array([[1, 2], [2, 1], [0, 2], [2, 0]]))
    assert np.abs(before[0] - before[1]).max() > 1e-3       # order matters
    p["table"][1] += 1
    after = logits(p, np.array([[1, 2], [2, 1], [0, 2], [2, 0]]))
    assert (np.abs(after - before).max(axis=1) > 1e-3).tolist() == [True, True, False, False]
    p["w1"][:4] += 1                                        # position 0 only
    assert (logits(p, np.array([[3, 4]])) != logits(p, np.array([[4, 3]]))).any()


@pytest.mark.parametrize("sizes", [(84, 8, 32, 128), (3, 2, 1, 2), (5, 1, 1, 1)])
def test_parameter_count_is_what_init_makes(sizes):
    p = init(*sizes, np.random.default_rng(0))
    assert {name: array.shape for name, array in p.items()} == shapes(*sizes)
    assert parameter_count(*sizes) == sum(array.size for array in p.values())
    vocab_size, context, channels, hidden = sizes
    assert parameter_count(vocab_size, context + 1, channels, hidden) - parameter_count(*sizes) == (
        channels * hidden)
    assert flops(*sizes) == 2 * (p["w1"].size + p["w2"].size)


def test_parameters_of_the_paper():
    """Bengio et al. 2003, section 2, with W = 0: |V|(1 + m + h) + h(1 + (n − 1)m)."""
    v, n, m, h = 17_964, 6, 60, 100
    assert parameter_count(v, n - 1, m, h) == v * (1 + m + h) + h * (1 + (n - 1) * m)


def test_untrained_loss_is_near_ln_v():
    for size in (10, 84, 1000):
        rng = np.random.default_rng(size)
        ids = rng.integers(0, size, 2000)
        contexts, targets = windows(ids, 4)
        flat = cross_entropy(logits(init(size, 4, 16, 64, rng, scale=0), contexts), targets)
        assert flat == pytest.approx(np.log(size), abs=1e-5)
        z = logits(init(size, 4, 16, 64, rng), contexts)
        assert cross_entropy(z, targets) - np.log(size) == pytest.approx(
            z.var(axis=-1).mean() / 2, abs=.1)


def test_each_matrix_is_divided_by_the_root_of_its_inputs():
    p = init(50, 9, 16, 64, np.random.default_rng(0), scale=3)
    for name, spread in {"table": 1, "w1": 1 / 12, "w2": 3 / 8}.items():  # 12² = 9 · 16, 8² = 64
        assert p[name].std() == pytest.approx(spread, rel=.05), name
    assert not p["b1"].any() and not p["b2"].any()
    w2 = init(50, 9, 16, 64, np.random.default_rng(0))["w2"]             # scale is 1 if not said
    np.testing.assert_allclose(3 * w2, p["w2"], rtol=1e-6)


def test_a_run_beyond_all_known_runs_is_unknown():
    assert known_share(np.array([0, 1, 0, 1]), np.array([2, 2, 2]), 2, 3) == 0
    assert known_share(np.array([2, 2, 2]), np.array([0, 0, 1]), 2, 3) == 0
    assert known_share(np.array([0, 1, 2]), np.array([1, 2]), 2, 3) == 1     # the largest of all


def test_the_same_seed_gives_the_same_model():
    a, b = (init(5, 2, 3, 4, np.random.default_rng(7)) for _ in range(2))
    assert all((a[name] == b[name]).all() and a[name].dtype == np.float32 for name in a)
    assert logits(a, np.array([0, 1])).dtype == np.float32


@pytest.mark.parametrize("context", [1, 2, 4])
def test_known_share_equals_a_set_of_tuples(context):
    rng = np.random.default_rng(context)
    seen, new = rng.integers(0, 3, 40), rng.integers(0, 3, 60)
    known = {tuple(seen[i:i + context]) for i in range(40 - context + 1)}
    runs = [tuple(new[i:i + context]) for i in range(60 - context + 1)]
    assert known_share(seen, new, context, 3) == pytest.approx(np.mean([r in known for r in runs]))


@pytest.mark.parametrize("ids, place", [([0, 3], "3 at position 1"), ([0, -1], "-1 at position 1"),
                                        ([[0, 1], [9, 3]], r"9 at position \(1, 0\)")])
def test_ids_out_of_range_are_named(ids, place):
    with pytest.raises(ValueError, match=rf"{place} .*\(3, 2\).*0 to 2"):
        embedding(np.zeros((3, 2)), np.array(ids))
    with pytest.raises(ValueError, match=place):
        one_hot(np.array(ids), 3)


def test_wrong_shapes_are_told():
    with pytest.raises(ValueError, match="float64"):
        embedding(np.zeros((3, 2)), np.array([1.]))
    with pytest.raises(ValueError, match=r"\(3,\)"):
        embedding(np.zeros(3), np.array([1]))
    p = init(5, 2, 4, 8, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"ids \(7, 3\) must end in T = 2"):
        logits(p, np.zeros((7, 3), int))
    with pytest.raises(ValueError, match=r"ids \(\)"):
        logits(p, 0)
    with pytest.raises(ValueError, match=r"ids \(2,\) .* L of 3"):
        windows(np.array([1, 2]), 2)
    for seen, new in ((2, 5), (5, 2), (0, 5)):
        with pytest.raises(ValueError, match=rf"seen \({seen},\) and new \({new},\) .* 3 ids"):
            known_share(np.zeros(seen, int), np.zeros(new, int), 3, 4)
    assert known_share(np.array([1, 2]), np.array([1, 2]), 2, 4) == 1  # a single run each
    with pytest.raises(ValueError, match="T 0"):
        init(5, 0, 4, 8, np.random.default_rng(0))


def test_no_windows_give_no_logits():
    p = init(5, 2, 4, 8, np.random.default_rng(0))
    assert logits(p, np.zeros((0, 2), int)).shape == (0, 5)


def test_counting_explodes_and_the_window_grows_by_a_constant():
    result = measure(fast=True, seed=0)
    assert result.counting[-1] > 1e15 > 1e6 > result.parameters[-1]
    steps = np.diff(result.parameters) / np.diff(result.contexts)
    assert (steps == steps[0]).all()
    assert (np.diff(result.known) <= 0).all()
    assert result.known[0] > .9 > .6 > result.known[-1]
    assert result.scale_gaps[0] == pytest.approx(0, abs=1e-9)
    assert all(abs(loss - result.uniform) < .5 for loss in result.losses)


def test_first_weights_keep_the_size_of_a_windows_sum():
    w1 = init(5, 8, 16, 400, np.random.default_rng(0))["w1"]
    assert w1.std() == pytest.approx((8 * 16) ** -0.5, rel=0.02)


def test_a_run_beyond_all_known_ones_is_not_known():
    assert known_share(np.array([0, 0, 0]), np.array([1, 1, 1]), 2, 2) == 0
    assert known_share(np.array([0, 1, 1]), np.array([0, 1, 1, 0]), 2, 2) == pytest.approx(2 / 3)
