"""Day 30 · Position: order from outside, rotation by a shift, slopes, and where each one ends."""

import math

import numpy as np
import pytest

from days.day29.model import AttentionLM, loss_by_place
from days.day30.paths import Hidden, loss_by_way, loss_without
from days.day30.run import measure, parts
from experiments.moved_places import NoNorm, Twice
from llm.functions.attention import attention
from llm.functions.heads import multi_head, multi_head_vjp
from llm.grad.check import check_pair
from llm.grad.tensor import Tensor
from llm.layers.attention import MultiHeadAttention
from llm.layers.positions import ALiBi, LearnedPositions, SinusoidalPositions, sinusoids


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_example_by_hand():
    rows = sinusoids(3, 4)                                  # ω = 1 and 1/100
    assert rows[0].tolist() == [0, 1, 0, 1]
    assert rows[1] == pytest.approx(np.array([0.841471, 0.540302, 0.01, 0.99995]), abs=1e-6)
    assert rows[2] == pytest.approx(np.array([0.909297, -0.416147, 0.019999, 0.9998]), abs=1e-6)
    products = sinusoids(3, 4, np.float64) @ sinusoids(3, 4, np.float64).T
    assert products[[0, 1], [1, 2]] == pytest.approx(np.array([1.540252, 1.540252]), abs=1e-6)
    assert ALiBi(2).bias(3)[0].tolist() == [[0, 0, 0], [-1 / 16, 0, 0], [-1 / 8, -1 / 16, 0]]


@pytest.mark.parametrize("seed", range(3))
def test_attention_without_mask_and_positions_is_permutation_equivariant(seed):
    rng = np.random.default_rng(seed)
    q, k, v = rng.standard_normal((3, 2, 6, 4))
    order = rng.permutation(6)
    out, _ = attention(q, k, v)
    shuffled, _ = attention(q[:, order], k[:, order], v[:, order])
    assert shuffled == pytest.approx(out[:, order])


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_a_vector_per_position_breaks_that_symmetry(rng, positions):
    module = {"learned": LearnedPositions(6, 8, rng, std=1.0),
              "sinusoidal": SinusoidalPositions()}[positions]
    x, order = rng.standard_normal((1, 6, 8)).astype(np.float32), np.array([1, 0, 2, 3, 4, 5])
    attend = lambda x: attention(*[module(Tensor(x)).data] * 3)[0]
    assert np.abs(attend(x[:, order]) - attend(x)[:, order]).max() > 0.01


@pytest.mark.parametrize("shift", [1, 3, 50])
def test_a_shift_of_sinusoids_is_a_rotation_that_does_not_depend_on_the_position(shift):
    T, C = 200, 16
    rows = sinusoids(T + shift, C, np.float64)
    rotation = np.zeros((C, C))
    for i in range(C // 2):
        angle = shift * 10000 ** (-2 * i / C)
        rotation[2 * i:2 * i + 2, 2 * i:2 * i + 2] = [
            [math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    assert rotation @ rotation.T == pytest.approx(np.eye(C), abs=1e-12)
    assert rows[shift:] == pytest.approx(rows[:T] @ rotation.T, abs=1e-12)


def test_all_sinusoid_rows_have_one_length_and_a_product_that_depends_on_distance_alone():
    rows = sinusoids(64, 32, np.float64)
    assert (rows**2).sum(axis=1) == pytest.approx(np.full(64, 16))
    products = rows @ rows.T
    for d in (0, 1, 7):
        assert np.diagonal(products, d) == pytest.approx(np.full(64 - d, products[0, d]))


def test_sinusoids_add_in_the_inputs_own_dtype(rng):
    x32 = rng.standard_normal((2, 5, 6)).astype(np.float32)
    for x in (x32, x32.astype(np.float64)):
        out = SinusoidalPositions()(Tensor(x))
        assert out.dtype == x.dtype
        exact = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-14}[x.dtype]
        assert out.data == pytest.approx(x + sinusoids(5, 6, np.float64), abs=exact)
    assert SinusoidalPositions().count_parameters() == 0


def test_learned_rows_are_added_and_get_the_sum_of_their_gradients(rng):
    module = LearnedPositions(6, 4, rng)
    x = Tensor(rng.standard_normal((3, 5, 4)).astype(np.float32), requires_grad=True)
    out = module(x)
    assert out.data == pytest.approx(x.data + module.table.data[:5])
    out.sum().backward()
    assert module.table.grad[:5] == pytest.approx(np.full((5, 4), 3))       # a row per text
    assert (module.table.grad[5] == 0).all()                                # not used, not moved
    assert (x.grad == 1).all()
    full = module(Tensor(np.zeros((1, 6, 4), np.float32)))
    assert (full.data[0] == module.table.data).all()


def test_a_short_text_gets_the_first_rows_of_the_table(rng):
    module = LearnedPositions(6, 4, rng, dtype=np.float64)
    x = rng.standard_normal((2, 3, 4))
    assert (module(Tensor(x)).data == x + module.table.data[:3]).all()


@pytest.mark.parametrize("std", [None, 0.5])
def test_the_learned_table_starts_small(rng, std):
    table = LearnedPositions(400, 64, rng, **({} if std is None else {"std": std})).table.data
    assert table.dtype == np.float32
    assert table.std() == pytest.approx(std or 0.02, rel=0.02)


def test_past_its_table_a_learned_position_says_so_with_the_cure(rng):
    with pytest.raises(ValueError, match="7 tokens, but positions were learned for 6 only: crop"):
        LearnedPositions(6, 4, rng)(Tensor(np.zeros((1, 7, 4), np.float32)))
    with pytest.raises(ValueError, match=r"\(6, 4\) cannot be added to tokens \(1, 6, 3\)"):
        LearnedPositions(6, 4, rng)(Tensor(np.zeros((1, 6, 3), np.float32)))


def test_alibi_without_heads_is_refused():
    with pytest.raises(ValueError, match="got 0 heads"):
        ALiBi(0)


def test_alibi_slopes_are_those_of_the_paper():
    assert ALiBi(8).slopes.tolist() == [2.0**-h for h in range(1, 9)]       # section 3
    assert ALiBi(16).slopes[:2] == pytest.approx([2**-0.5, 2**-1])


@pytest.mark.parametrize("T", [1, 2, 9])
def test_alibi_depends_on_distance_alone_and_never_rewards(T):
    bias = ALiBi(4).bias(T)
    assert bias.shape == (4, T, T)
    for h, slope in enumerate(ALiBi(4).slopes):
        for t in range(T):
            for s in range(t + 1):
                assert bias[h, t, s] == pytest.approx(-slope * (t - s))


def test_alibi_is_built_once_for_a_length():
    rule = ALiBi(4)
    first = rule.bias(8)
    assert rule.bias(8) is first and rule.bias(9).shape == (4, 9, 9)
    assert ALiBi(2).bias(8).shape == (2, 8, 8)


def test_alibi_of_short_text_is_a_corner_of_that_of_longer_text():
    assert (ALiBi(4).bias(9)[:, :5, :5] == ALiBi(4).bias(5)).all()


def test_with_alibi_equal_keys_are_weighted_by_the_power_of_their_distance(rng):
    qkv = np.zeros((1, 4, 6))
    qkv[0, :, 4] = [1, 0, 0, 0]                             # the value of token 0 is seen alone
    out, _ = multi_head(qkv, 2, ALiBi(2))
    for t in range(4):
        powers = [math.exp(-d / 16) for d in range(t + 1)]
        assert out[0, t, 0] == pytest.approx(powers[t] / sum(powers))


def test_under_alibi_more_text_drowns_a_key_that_was_found():
    far = lambda T: np.arange(T - 1, -1, -1)                # exercise 2 of the note
    shares = []
    for T in (32, 1000):
        scores = np.where(far(T) == 10, math.log(32), 0) - far(T) / 256
        shares.append((np.exp(scores) / np.exp(scores).sum())[T - 11])
        shares.append(np.exp(-far(T) / 256).sum() - math.exp(-10 / 256))      # the other keys
    assert shares == pytest.approx([0.51, 29.2, 0.11, 250.4], rel=0.01)


def test_the_mean_distance_of_equal_keys_is_one_over_e_to_the_slope_minus_one():
    for slope in ALiBi(8).slopes:
        d = np.arange(20_000)
        assert (d * np.exp(-slope * d)).sum() / np.exp(-slope * d).sum() == pytest.approx(
            1 / (math.exp(slope) - 1))


def test_a_query_turned_back_by_k_matches_the_sinusoid_k_places_before_best():
    rows, k = sinusoids(64, 32, np.float64), 5
    turned = rows[:-k]                                      # R₋ₖ p_t = p_(t − k), by the rotation
    best = (turned @ rows.T).argmax(axis=1)
    assert (best == np.arange(64 - k)).all()


def test_the_head_that_looks_back_has_a_flat_peak_unless_its_weights_are_large():
    rows = sinusoids(32, 64, np.float64)                    # the note: the right key and 31 before
    products = rows @ rows[31]
    assert products[[31, 30]] == pytest.approx([32, 30.9], abs=0.05)
    for times, share in ((1, 0.11), (10, 0.79)):
        weights = np.exp(times * products / 8)
        assert weights[31] / weights.sum() == pytest.approx(share, abs=0.005)


def test_the_backward_with_alibi_is_the_gradient(rng):
    check_pair(multi_head, multi_head_vjp, rng.standard_normal((2, 5, 3 * 2 * 2)), rng=rng, H=2,
               rule=ALiBi(2))


def test_alibi_works_at_any_length_and_leaves_the_past_alone(rng):
    module = MultiHeadAttention(8, 2, rng, rule=ALiBi(2))
    x = rng.standard_normal((1, 40, 8)).astype(np.float32)
    whole, start = module(Tensor(x)), module(Tensor(x[:, :9]))
    assert whole.dtype == np.float32
    assert whole.data[:, :9] == pytest.approx(start.data, abs=1e-6)


def test_odd_channels_are_refused():
    with pytest.raises(ValueError, match="7 channels is odd"):
        sinusoids(4, 7)


def test_past_the_training_length_learned_stops_and_alibi_goes_on():
    result = measure(fast=True, seed=0)
    rows = {row[0]: row for row in result.rows}
    assert rows["learned"][-1] is None and "learned for" in result.refusal
    assert all(rows[name][-1] is not None for name in rows if name != "learned")
    assert rows["ALiBi"][2] < rows["none"][2] < 4.44                   # order is worth something
    assert rows["ALiBi"][-1] < rows["ALiBi"][2] + 0.2                  # and ALiBi extrapolates
    assert rows["ALiBi"][-1] < rows["none"][-1]
    assert all(len(nats) == 1 and 2 < nats[0] < 6 for nats in result.ways.values())
    assert len(result.ways) == 7 and len(result.hidden) == 3
    assert result.seeds["ALiBi"] == [rows["ALiBi"][2:]]


class Moved:
    """The oracle of the controls: sinusoids as if the window began at place `start`."""

    def __init__(self, start):
        self.start = start

    def __call__(self, x):
        return x + Tensor(sinusoids(self.start + x.shape[-2], x.shape[-1])[self.start:])


def test_moving_no_way_and_all_ways_are_the_models_own_losses(rng):
    model = AttentionLM(11, 8, 2, 1, rng, SinusoidalPositions())
    model.head.w.data *= 20                                     # so that losses differ
    ids = rng.integers(0, 11, 300)
    found = loss_by_way(model, ids, 6, 40, 64)
    for way, start in (("none", 0), ("all", 40)):
        model.positions = Moved(start)
        assert found[way] == pytest.approx(loss_by_place(model, ids, 6, 64)[3:].mean(), abs=1e-5)
    assert len({round(nats, 6) for nats in found.values()}) == len(found)


def test_waves_of_mean_0_leave_layernorm_nothing_to_subtract(rng):
    x = Tensor(np.zeros((1, 40, 8)))
    free, twice = Twice(-1)(x).data[0], Twice(1)(x).data[0]
    assert np.abs(free.mean(axis=1)).max() < 1e-15 < 0.1 < twice.mean(axis=1).std()
    assert (np.abs(free) == np.abs(twice)).all() and (free[:, :4] == sinusoids(40, 4, float)).all()
    model = AttentionLM(11, 8, 2, 1, rng, Twice(-1))
    model.norms = [NoNorm()]
    ids = rng.integers(0, 11, 300)
    found = loss_by_way(model, ids, 6, 40, 64)                  # with the model's own waves
    assert found["none"] == pytest.approx(loss_by_place(model, ids, 6, 64)[3:].mean(), abs=1e-5)


def test_hidden_keys_are_hidden_from_late_queries_only(rng):
    bias = Hidden(1, 3, 4).bias(6)[0]
    assert (bias[4:, 1:3] == -1e9).all() and np.count_nonzero(bias) == 4
    model = AttentionLM(11, 8, 2, 1, rng, SinusoidalPositions())
    ids, rule = rng.integers(0, 11, 300), model.layers[0].rule
    whole = loss_by_place(model, ids, 6, 32)[4:].mean()
    assert loss_without(model, ids, 6, 32, 0, 0, 4) == pytest.approx(whole, abs=1e-6)
    assert loss_without(model, ids, 6, 32, 1, 3, 4) != pytest.approx(whole, abs=1e-6)
    assert model.layers[0].rule is rule


def test_parts_of_a_loss_by_place():
    assert parts(np.arange(128.0)) == [23.5, 47.5, 95.5]    # 16 … 31, 32 … 63, 64 … 127
    assert parts(np.arange(32.0)) == [23.5, None, None]
