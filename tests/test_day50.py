"""Day 50 · Flash attention equals the attention that writes its weights down, in O(T) memory."""

import contextlib
import math

import numba
import numpy as np
import pytest

from days.day50 import memory, parts, ways
from days.day50.run import measure, short_number, table
from llm.functions import causal, flash, heads
from llm.grad.check import check_pair, check_twin
from llm.grad.tensor import Tensor
from llm.grad.walk import saved_bytes
from llm.kernels import attention as before
from llm.kernels import flash as kernels
from llm.kernels import flash_back, flash_tiles
from llm.kernels.tiles import LANES
from llm.layers import attention
from llm.layers.positions import ALiBi
from llm.layers.rotary import Rotary
from llm.models.gpt import GPT, GPTConfig
from llm.train import fast_flash
from llm.train.fast_flash import SHORT, fast, twins

TILE, TASK = kernels.KEYS, kernels.PANELS * LANES
LENGTHS = [1, 2, LANES - 1, LANES, LANES + 1, TILE - 1, TILE, TILE + 1, TASK - 1, TASK, TASK + 1,
           2 * TASK + TILE + 5]


@pytest.fixture
def rng():
    return np.random.default_rng(50)


def brute_force(q, k, v):
    """Causal attention of one head, number by number, in float64: out (T, Dv)."""
    T, D = q.shape
    out = np.zeros((T, v.shape[1]))
    for t in range(T):
        scores = [sum(float(a) * float(b) for a, b in zip(q[t], k[s])) / math.sqrt(D)
                  for s in range(t + 1)]
        top = max(scores)
        weights = [math.exp(score - top) for score in scores]
        for weight, row in zip(weights, v):
            out[t] += weight / math.fsum(weights) * row
    return out


def run(qkv, dout, H, rule=heads.NO_RULE):
    """The kernel's out, dqkv and log-sum-exps."""
    out, saved = kernels.multi_head(qkv, H, rule)
    return out, kernels.multi_head_vjp(dout, *saved)[0], saved[2]


def reference(qkv, dout, H, rule=heads.NO_RULE):
    """Day 29's, in float64."""
    out, saved = heads.multi_head(qkv.astype(np.float64), H, rule)
    return out, heads.multi_head_vjp(dout.astype(np.float64), *saved)[0]


def assert_close(mine, exact, tolerance=3e-6):
    assert mine.shape == exact.shape and mine.dtype == np.float32
    assert np.abs(mine - exact).max() <= tolerance * np.abs(exact).max()


def assert_as_exact_as_numpy(qkv, dout, mine):
    """A score of 400 is rounded by up to 1.5e-5, and its exponential with it, in any float32."""
    rounded = ways.twice(ways.WAYS["NumPy"], qkv, dout, 1)
    for found, theirs, exact in zip(mine, rounded, reference(qkv, dout, 1)):
        error, usual = (np.abs(x - exact).max() / np.abs(exact).max() for x in (found, theirs))
        assert error < 2 * usual + 3e-6 and error < 1e-3


def test_the_example_by_hand_two_tiles():
    """Scores ln 1, ln 3 | ln 4 with values 4, 8 | 0."""
    scores, values = np.log([[1.0, 3, 4]]), np.array([[4.0], [8], [0]])
    first = flash.summary(scores[:, :2], values[:2])
    m, l, o = (x.item() for x in first)
    assert (m, l, o) == pytest.approx((math.log(3), 4 / 3, 4 / 3 + 8))
    assert o / l == pytest.approx(7)
    m, l, o = (x.item() for x in flash.merge(first, flash.summary(scores[:, 2:], values[2:])))
    assert (m, l, o) == pytest.approx((math.log(4), 3 / 4 * 4 / 3 + 1, 3 / 4 * 28 / 3))
    assert o / l == pytest.approx(3.5) and m + math.log(l) == pytest.approx(math.log(8))


def test_the_example_by_hand_backward():
    """P = [⅛, ⅜, ½], v = [4, 8, 0], dout = 2: dP = [8, 16, 0], mean 7 = dout · out."""
    q, k = np.ones((3, 1)), np.log([[1.0], [3], [4]])
    v, dout = np.array([[4.0], [8], [0]]), np.array([[0.0], [0], [2]])
    out, saved = flash.flash_attention(q, k, v, tile=2)
    assert out[2] == pytest.approx(3.5) and saved[4][2] == pytest.approx(math.log(8))
    dq, dk, dv = flash.flash_attention_vjp(dout, *saved)
    assert dv.ravel() == pytest.approx([.25, .75, 1])
    assert dk.ravel() == pytest.approx([1 / 8, 27 / 8, -7 / 2])       # P · (dP − 7), times q = 1
    assert dq.ravel() == pytest.approx([0, 0, (27 * math.log(3) - 28 * math.log(4)) / 8])


def test_merging_is_associative_commutative_and_finds_the_softmax(rng):
    scores, values = 30 * rng.standard_normal((5, 12)), rng.standard_normal((12, 3))
    a, b, c = (flash.summary(scores[:, s], values[s])
               for s in (slice(0, 3), slice(3, 4), slice(4, 12)))
    whole = flash.summary(scores, values)
    for way in (flash.merge(flash.merge(a, b), c), flash.merge(a, flash.merge(b, c)),
                flash.merge(flash.merge(c, a), b)):
        for mine, exact in zip(way, whole):
            np.testing.assert_allclose(mine, exact, rtol=1e-12)
    exact = np.exp(scores - scores.max(-1, keepdims=True))
    np.testing.assert_allclose(whole[2] / whole[1],
                               exact / exact.sum(-1, keepdims=True) @ values, rtol=1e-12)


@pytest.mark.parametrize("tile", [1, 2, 3, 4, 7, 8, 9, 64])
def test_the_reference_equals_day_28_for_every_tile(rng, tile):
    for T in (1, 3, 8):
        q, k = rng.standard_normal((2, 2, 3, T, 4))
        v, dout = rng.standard_normal((2, 2, 3, T, 5))
        out, saved = flash.flash_attention(q, k, v, tile)
        exact, kept = causal.causal_attention(q, k, v)
        np.testing.assert_allclose(out, exact, rtol=1e-12)
        for mine, theirs in zip(flash.flash_attention_vjp(dout, *saved),
                                causal.causal_attention_vjp(dout, *kept)):
            np.testing.assert_allclose(mine, theirs, atol=1e-13)
    assert saved[4].shape == (2, 3, 8, 1) and saved[5] == tile


def test_the_reference_passes_finite_differences_and_keeps_dtypes(rng):
    arrays = rng.standard_normal((2, 7, 3)), rng.standard_normal((2, 7, 3)), rng.standard_normal(
        (2, 7, 2))
    check_pair(flash.flash_attention, flash.flash_attention_vjp, *arrays, rng=rng, tile=3)
    narrow = [a.astype(np.float32) for a in arrays]
    out, saved = flash.flash_attention(*narrow)
    assert out.dtype == saved[4].dtype == np.float32 and saved[5] == 64


def test_the_reference_never_holds_more_scores_than_a_tile(rng, monkeypatch):
    sizes, scores = [], flash.tile_scores
    def watched(*arguments):
        sizes.append(scores(*arguments).shape)
        return scores(*arguments)
    monkeypatch.setattr(flash, "tile_scores", watched)
    q, k, v = rng.standard_normal((3, 10, 2))
    out, saved = flash.flash_attention(q, k, v, tile=4)
    assert sizes == [(4, 4), (4, 4), (4, 4), (2, 4), (2, 4), (2, 2)]       # none of the future
    sizes.clear()
    flash.flash_attention_vjp(out, *saved)
    assert sizes == [(4, 4), (4, 4), (2, 4), (4, 4), (2, 4), (2, 2)]


@pytest.mark.parametrize("T", LENGTHS)
def test_the_kernel_equals_float64_at_every_end_of_a_tile(T):
    for B, H, D in ((1, 2, 64), (2, 1, 5)):
        qkv, dout = ways.inputs(B, T, H, D, seed=T)
        out, dqkv, _ = run(qkv, dout, H)
        exact, gradient = reference(qkv, dout, H)
        assert_close(out, exact)
        assert_close(dqkv, gradient)


def test_the_kernel_equals_brute_force(rng):
    qkv, _ = ways.inputs(1, 70, 2, 6)
    out, _, logs = run(qkv, qkv[..., :12].copy(), 2)
    q, k, v = (heads.split_heads(part, 2)[0] for part in np.split(qkv, 3, axis=-1))
    for h in range(2):
        assert out[0, :, 6 * h:6 * h + 6] == pytest.approx(brute_force(q[h], k[h], v[h]), abs=3e-6)
        scores = np.where(np.tri(70, dtype=bool), q[h] @ k[h].T / math.sqrt(6), -np.inf)
        assert logs[0, h] == pytest.approx(np.logaddexp.reduce(scores, axis=1), abs=1e-5)


@pytest.mark.parametrize("D", [1, 2, 3, 4, 31, 32, 33, 48, 64, 100, 128])
def test_heads_of_any_size(D):
    qkv, dout = ways.inputs(2, 67, 3, D, seed=D)
    out, dqkv, _ = run(qkv, dout, 3)
    exact, gradient = reference(qkv, dout, 3)
    assert_close(out, exact)
    assert_close(dqkv, gradient)


def test_the_twin_takes_what_its_reference_takes(rng):
    pair = attention.multi_head.pair
    for T in (3, 41, SHORT, 2 * SHORT + 3):
        for H, D, rule in ((2, 6, heads.NO_RULE), (1, 40, Rotary(40, 300)), (2, 12, ALiBi(2)),
                           (3, 4, Rotary(4, 300, interleaved=True))):
            check_twin(pair, twins()[attention.multi_head],
                       [rng.standard_normal((2, T, 3 * H * D))], rng, rtol=2e-4, atol=2e-5, H=H,
                       rule=rule)


def test_the_twin_steps_aside_where_the_reference_must_speak():
    x = np.ones((1, 4, 12), np.float32)
    class Odd(heads.PositionRule):
        def tables(self, T):
            return np.ones((T, 2), np.float32), np.ones((T, 2), np.float32)
    class Short(heads.PositionRule):
        def tables(self, T):
            return np.ones((T - 1, 1), np.float32), np.ones((T - 1, 1), np.float32)
    for qkv, H, rule in ((x, 2, None), (x[0], 2, heads.NO_RULE), (x, 0, heads.NO_RULE),
                         (x, 3, heads.NO_RULE), (x[:, :0], 2, heads.NO_RULE),
                         (x[..., :0], 2, heads.NO_RULE), (x, 2, ALiBi(2)), (x, 1, Short()),
                         (x, 2, Odd()), (np.ones((1, 4, 15), np.float32), 1, Odd())):
        assert kernels.multi_head(qkv, H, rule) is NotImplemented
    with fast(), pytest.raises(ValueError, match=r"\(1, 4, 12\) with 3 heads"):
        attention.multi_head(Tensor(x), H=3)


@pytest.mark.parametrize("size", [1, 30, 300, 1000])
def test_large_scores_stay_finite_and_right(size, rng):
    """Scores of ±size and more: e^88 is the last exponential that a float32 can hold."""
    T, D = TASK + 37, 8
    qkv, dout = ways.inputs(1, T, 1, D, seed=size)
    qkv[..., :D] *= size
    out, dqkv, logs = run(qkv, dout, 1)
    assert all(np.isfinite(x).all() for x in (out, dqkv, logs))
    assert size < 300 or np.abs(logs).max() > 300
    assert_as_exact_as_numpy(qkv, dout, (out, dqkv))


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_that_only_grow_or_only_fall_from_tile_to_tile(sign):
    """Growing scores correct the sums in every tile; falling ones leave later tiles no weight."""
    T, D = 3 * TASK, 4
    qkv, dout = ways.inputs(1, T, 1, D)
    qkv[..., 0], qkv[..., D] = 2, sign * np.linspace(0, 400, T)
    out, dqkv, _ = run(qkv, dout, 1)
    assert_as_exact_as_numpy(qkv, dout, (out, dqkv))


def test_scores_that_are_all_far_below_zero():
    """No score is near 0, where a maximum that starts at 0 would stay."""
    T, D = TILE + 9, 4
    qkv, dout = ways.inputs(1, T, 1, D)
    qkv[..., 0], qkv[..., D] = 2, -300 - 3 * np.arange(T) % 7
    out, dqkv, logs = run(qkv, dout, 1)
    assert logs.max() < -250
    assert_as_exact_as_numpy(qkv, dout, (out, dqkv))


@pytest.mark.parametrize("cut", [1, LANES, TILE, TASK - 1, TASK + 5])
def test_the_future_never_leaks(cut, rng):
    qkv, dout = ways.inputs(2, TASK + 40, 2, 16)
    changed, other = qkv.copy(), dout.copy()
    changed[:, cut:] = 100 * rng.standard_normal(changed[:, cut:].shape)
    out, _, logs = run(qkv, dout, 2)
    out2, _, logs2 = run(changed, dout, 2)
    assert out[:, :cut].tobytes() == out2[:, :cut].tobytes()
    assert logs[..., :cut].tobytes() == logs2[..., :cut].tobytes()
    assert not np.allclose(out[:, cut:], out2[:, cut:])
    other[:, :cut] = rng.standard_normal(other[:, :cut].shape)     # what the past is told …
    first, second = run(qkv, dout, 2)[1], run(qkv, other, 2)[1]
    assert first[:, cut:].tobytes() == second[:, cut:].tobytes()   # … does not reach later tokens
    assert not np.allclose(first[:, :cut], second[:, :cut])


def test_a_nan_is_not_hidden_and_stays_where_it_belongs():
    qkv, dout = ways.inputs(1, TILE + 9, 2, 8)
    clean = run(qkv, dout, 2)[0]
    qkv[0, TILE - 3, 2] = np.nan                                   # a query of head 0
    out = run(qkv, dout, 2)[0]
    assert np.isnan(out[0, TILE - 3, :8]).all()
    out[0, TILE - 3, :8] = clean[0, TILE - 3, :8]
    assert out.tobytes() == clean.tobytes()


def test_the_result_is_the_same_in_every_run_and_on_any_number_of_threads():
    qkv, dout = ways.inputs(2, 2 * TASK + 70, 3, 24)
    first, threads = run(qkv, dout, 3), numba.get_num_threads()
    try:
        for n in (1, numba.config.NUMBA_NUM_THREADS, 1):
            numba.set_num_threads(n)
            for name, a, b in zip(("out", "dqkv", "logs"), first, run(qkv, dout, 3)):
                apart = np.argwhere(a.view(np.int32) != b.view(np.int32))        # to the bit
                assert not len(apart), f"{name}, {n} threads: {len(apart)} from {apart[0]} on"
    finally:
        numba.set_num_threads(threads)


def test_every_query_belongs_to_one_task():
    """Tasks alternate between the first tiles, which see few keys, and the last ones."""
    for tiles in range(1, 9):
        order = [i // 2 if i % 2 == 0 else tiles - 1 - i // 2 for i in range(tiles)]
        assert sorted(order) == list(range(tiles))
        half = sum(i + 1 for i in order[:tiles // 2])
        assert abs(half - tiles * (tiles + 1) / 4) <= tiles / 2 + .5


def test_what_is_kept_for_the_backward_grows_with_t_and_not_with_its_square():
    H, D = 2, 16
    for T in (64, 128, 512):
        qkv, _ = ways.inputs(1, T, H, D)
        _, saved = kernels.multi_head(qkv, H, heads.NO_RULE)
        kept = sum(x.nbytes for x in saved[1:3])
        assert kept == 4 * T * H * (D + 1)
        assert before.multi_head(qkv, H, heads.NO_RULE)[1][2].nbytes == 4 * H * T * T


@pytest.mark.skipif(not memory.measurable(), reason="only Linux sets the high-water mark back")
def test_twice_the_text_takes_twice_the_memory_and_not_four_times():
    found = memory.peaks("flash", 1, 2, 32, [2048, 4096, 8192])
    assert found[0] > 4 * 4 * 2048 * 64                            # out and dqkv at least
    for small, large in zip(found, found[1:]):
        assert 1.6 < large / small < 2.4
    assert found[-1] < 2 * 8192**2 * 4 / 10                        # H·T²·4: the weights alone
    naive = memory.peaks("NumPy", 1, 2, 32, [1024, 2048])
    assert 2.5 < naive[1] / naive[0] < 5 and naive[1] > 2 * 2048**2 * 4


def test_training_lowers_long_texts_and_leaves_short_ones(monkeypatch):
    called, forward = [], kernels.multi_head
    def counting(*arguments, **options):
        called.append(arguments[0].shape)
        return forward(*arguments, **options)
    monkeypatch.setattr(fast_flash.flash, "multi_head", counting)
    for T in (SHORT - 1, SHORT, SHORT + 1):
        with fast():
            attention.multi_head(Tensor(np.ones((1, T, 12), np.float32)), H=2)
    assert [shape[1] for shape in called] == [SHORT, SHORT + 1]


def test_a_gpt_gets_the_same_gradients_and_keeps_no_weights(rng):
    model = GPT(GPTConfig(V=11, T=160, C=16, L=2, H=2, rotary=True), rng)
    ids = rng.integers(0, 11, (2, 161))
    found = []
    for context in (contextlib.nullcontext, fast):
        with context():
            for p in model.named_parameters().values():
                p.grad = None
            loss = model.loss(ids[:, :-1], ids[:, 1:])
            kept = saved_bytes(loss)
            loss.backward()
            found.append((float(loss.data), kept,
                          {name: p.grad for name, p in model.named_parameters().items()}))
    (plain, large, gradients), (mine, small, mine_gradients) = found
    assert mine == pytest.approx(plain, rel=1e-5)
    assert large - small > 2 * 2 * 2 * 160 * 160 * 4               # L · B · H · T² · 4 bytes
    for name, gradient in gradients.items():
        np.testing.assert_allclose(mine_gradients[name], gradient, atol=2e-5, err_msg=name)


def test_shapes_that_do_not_fit_are_refused_with_their_shapes(rng):
    q, k, v = rng.standard_normal((3, 4, 2))
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(4, 2\)"):
        flash.flash_attention(q[:3], k, v)
    with pytest.raises(ValueError, match=r"\(4, 2\).*\(4, 1\)"):
        flash.flash_attention(q, k[:, :1], v)
    for tile in (0, -1):
        with pytest.raises(ValueError, match=f"tile of {tile} tokens"):
            flash.flash_attention(q, k, v, tile)


@pytest.mark.parametrize("n", [1, 4, 8])
def test_a_product_of_some_rows_and_strides(rng, n):
    rows = flash_tiles.SHARED
    a, x = rng.standard_normal((2, 40, 50)).astype(np.float32)
    x = np.ascontiguousarray(x.ravel()[:12 * LANES].reshape(12, LANES))
    out = np.ones((rows + 2, LANES), np.float32)
    flash_tiles.add_rows(out.ravel(), LANES, a.ravel(), 50 * 2 + 3, 1, 50, x.ravel(), 4 * LANES, n)
    exact = a[2:2 + n, 3:3 + rows].astype(np.float64).T @ x[4:4 + n]
    np.testing.assert_allclose(out[1:-1] - 1, exact, atol=1e-5)
    assert (out[0] == 1).all() and (out[-1] == 1).all() and LANES % rows == 0
    assert flash_back.KEYS % LANES == 0 and kernels.KEYS % LANES == 0
    assert [flash_tiles.up(n, 4) for n in (0, 1, 4, 5)] == [0, 4, 4, 8]


def test_a_weight_that_is_hidden_is_zero_and_not_merely_small():
    """e^−87 is as low as exp32 goes; times a value of 1e38 it would be 1.6."""
    qkv, dout = ways.inputs(1, TILE, 1, 4)
    qkv[..., 8:], qkv[0, 40:, 8:] = 0, 1e37                           # values: none, then huge
    out = run(qkv, dout, 1)[0]
    assert (out[0, :40] == 0).all() and (out[0, 40:] > 1e35).all()
    qkv, dout = ways.inputs(1, TILE, 1, 4)
    dout[:], dout[0, :40] = 0, 1e37                                   # only the past is told
    assert (run(qkv, dout, 1)[1][0, 40:] == 0).all()


def test_a_tile_has_the_parts_that_are_timed():
    parts_ = parts.tile_times(8, 1, 2)
    assert [name for name, *_ in parts_] == ["scores", "softmax", "average", "loading"]
    assert [count for _, count, _ in parts_] == [2 * TILE * LANES * 8, 0, 2 * TILE * LANES * 8, 0]
    assert all(seconds > 0 for *_, seconds in parts_)
    x = np.arange(9, dtype=np.float32)
    assert parts.turning(x, 3).tolist() == x.reshape(3, 3).T.ravel().tolist()
    assert parts.turning_seconds(4, 1) > 0


def test_errors_and_flops_are_what_they_are_called():
    found = ways.errors(1, 96, 2, 8, 0)
    assert set(found) == {*ways.WAYS, "tiles", "tiles, exact log"}
    assert all(1e-9 < e < 2e-6 for both in found.values() for e in both)
    assert ways.flops(3, 10, 2, 8) == 3 * 2 * (4 * 10**2 * 8) // 2
    qkv, dout = ways.inputs(1, 70, 2, 5)
    for dtype in (np.float32, np.float64):
        for mine, exact in zip(ways.tiled(qkv, dout, 2, dtype), reference(qkv, dout, 2)):
            assert_close(mine, exact)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_rounding_of_the_kept_log_costs_a_quarter_of_an_ordinary_error(seed):
    """With scores of thousands it is chance which of the two errs less (the note)."""
    found = ways.errors(1, 512, 1, 64, seed)
    assert 1.15 < found["tiles"][1] / found["tiles, exact log"][1] < 1.7


def test_weights_made_again_add_up_to_1_unless_the_kept_log_was_rounded():
    q, k, v = 30 * np.random.default_rng(0).standard_normal((3, 200, 32)).astype(np.float32)
    _, (*_, logs, tile) = flash.flash_attention(q, k, v)

    def furthest(logs):
        """How far the weights of a query are from a sum of 1, at most."""
        total = np.zeros(logs.shape)
        for t in range(0, 200, tile):
            for s in range(0, t + 1, tile):
                weights = np.exp(flash.tile_scores(q, k, t, s, tile) - logs[t:t + tile])
                total[t:t + tile] += weights.sum(axis=-1, keepdims=True)
        return np.abs(total - 1).max()

    assert 2048 < logs.max() < 4096            # there float32 numbers are 2⁻¹² apart
    assert 2e-5 < furthest(logs) < 1.5e-4      # half of that is the most
    assert furthest(ways.exact_logs(q, k, tile, np.float64)) < 1e-6


def test_a_failed_measurement_says_why():
    with pytest.raises(RuntimeError, match="KeyError: 'no such way'"):
        memory.peaks("no such way", 1, 1, 4, [8])


def test_the_headline_of_the_run():
    result = measure(fast=True, seed=0)
    assert [T for T, *_ in result.rows] == [128, 256, 512]
    for _, times, bytes_ in result.rows:
        assert set(times) == set(bytes_) == set(ways.WAYS)
        assert all(s > 0 for pair in times.values() for s in pair)
    if memory.measurable():
        bytes_ = result.rows[-1][2]
        assert bytes_["flash"] < bytes_["day 38"] / 2 and bytes_["flash"] < bytes_["NumPy"] / 2
    assert [T * B for T, B, _ in result.short] == [512] * 5
    assert result.lone[:2] == [256, 512] and set(result.lone[2]) == set(ways.WAYS)
    assert [T for T, _ in result.turning] == [128, 256, 512]
    assert [short_number(x) for x in (9.876, 98.76, 1234.5)] == ["9.88", "98.8", "1,234"]
    assert result.errors[0][1]["flash"][0] < 2 * result.errors[0][1]["NumPy"][0]
    steps = result.steps
    assert steps["ways"] == ["day 38", "flash"] and steps["kept"][1] < steps["kept"][0]
    assert steps["losses"][0] == pytest.approx(steps["losses"][1], rel=1e-5)
    assert len(table(result)) == 4 and len(set(map(len, table(result)))) == 1
