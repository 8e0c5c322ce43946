"""Day 31 · Rotary positions: the hand example, relative scores, two layouts, and gradients."""

import numpy as np
import pytest

from days.day31.cures import factors, slowed
from days.day31.run import angle_error, measure
from llm.functions.heads import multi_head, multi_head_vjp
from llm.grad.check import check_pair
from llm.grad.tensor import Tensor
from llm.layers.attention import MultiHeadAttention
from llm.layers.rotary import (
    Rotary,
    angles,
    interleaved_to_half,
    rotate_half_split,
    rotate_interleaved,
)
from llm.layers.stretch import by_base, by_parts, interpolated, llama3, yarn_scale
from llm.layers.stretch import usual as usual_speed


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def at(rule, x, t):
    """One vector (D,) turned as if it stood at position t."""
    return rule.turn(np.tile(x, (t + 1, 1))[None, None])[0, 0, t]


def test_the_example_by_hand():
    x = np.array([1.0, 0, 0, 0])
    inter, half = Rotary(4, 2, interleaved=True), Rotary(4, 2)
    assert at(inter, x, 1) == pytest.approx(np.array([0.5403, 0.8415, 0, 0]), abs=5e-5)
    assert at(half, x, 1) == pytest.approx(np.array([0.5403, 0, 0.8415, 0]), abs=5e-5)


@pytest.mark.parametrize("interleaved", [False, True])
def test_position_zero_is_the_identity(rng, interleaved):
    x = rng.standard_normal((2, 3, 1, 6)).astype(np.float32)
    assert (Rotary(6, 4, interleaved=interleaved).turn(x) == x).all()


@pytest.mark.parametrize("interleaved", [False, True])
def test_scores_depend_on_the_distance_alone(rng, interleaved):
    rule = Rotary(8, 1040, interleaved=interleaved)
    q, k = rng.standard_normal((2, 8))
    score = lambda t, s: at(rule, q, t) @ at(rule, k, s)
    assert score(5, 3) == pytest.approx(score(12, 10), abs=1e-12)
    assert score(5, 3) == pytest.approx(score(1030, 1028), abs=1e-10)
    assert abs(score(5, 3) - score(5, 2)) > 1e-3             # but they do depend on it
    assert abs(score(5, 3) - score(3, 5)) > 1e-3             # and on its sign


@pytest.mark.parametrize("D, interleaved", [(2, False), (2, True), (6, False), (10, True)])
def test_it_is_multiplication_of_complex_numbers(rng, D, interleaved):
    x = rng.standard_normal((2, 3, 7, D))
    i, j = (slice(0, None, 2), slice(1, None, 2)) if interleaved else (
        slice(0, D // 2), slice(D // 2, None))
    z = x[..., i] + 1j * x[..., j]
    frequency = 10000.0 ** (-2 * np.arange(D // 2) / D)
    z *= np.exp(1j * np.arange(7)[:, None] * frequency)
    out = Rotary(D, 9, interleaved=interleaved).turn(x)
    assert out[..., i] == pytest.approx(z.real) and out[..., j] == pytest.approx(z.imag)


@pytest.mark.parametrize("interleaved", [False, True])
def test_lengths_stay_and_the_opposite_turn_leads_back(rng, interleaved):
    rule, x = Rotary(6, 20, interleaved=interleaved), rng.standard_normal((2, 3, 20, 6))
    turned = rule.turn(x)
    assert (turned**2).sum(-1) == pytest.approx((x**2).sum(-1))
    assert rule.turn_vjp(turned) == pytest.approx(x)
    dout = rng.standard_normal(x.shape)                     # ⟨dout, R x⟩ = ⟨Rᵀ dout, x⟩
    assert (dout * turned).sum() == pytest.approx((rule.turn_vjp(dout) * x).sum())


@pytest.mark.parametrize("D", [2, 4, 8, 64])
def test_a_permutation_leads_from_one_layout_to_the_other(rng, D):
    angle = angles(5, D)
    x, p = rng.standard_normal((3, 5, D)), interleaved_to_half(D)
    assert sorted(p) == list(range(D))
    there = rotate_half_split(x[..., p], np.cos(angle), np.sin(angle))
    back = there[..., np.argsort(p)]
    assert back == pytest.approx(rotate_interleaved(x, np.cos(angle), np.sin(angle)))
    assert interleaved_to_half(4).tolist() == [0, 2, 1, 3]


def test_permuted_queries_and_keys_give_the_same_attention(rng):
    H, D, C = 2, 6, 12
    qkv = rng.standard_normal((2, 5, 3 * C))
    order = np.concatenate([h * D + interleaved_to_half(D) for h in range(H)])
    permuted = qkv[..., np.concatenate([order, C + order, 2 * C + np.arange(C)])]
    assert multi_head(permuted, H, Rotary(D, 5))[0] == pytest.approx(
        multi_head(qkv, H, Rotary(D, 5, interleaved=True))[0])


@pytest.mark.parametrize("interleaved", [False, True])
def test_the_backward_with_rotary_is_the_gradient(rng, interleaved):
    check_pair(multi_head, multi_head_vjp, rng.standard_normal((2, 5, 3 * 2 * 4)), rng=rng, H=2,
               rule=Rotary(4, 8, interleaved=interleaved))


def test_float32_stays_and_float64_is_exact(rng):
    rule, x = Rotary(64, 4096), rng.standard_normal((1, 1, 4096, 64))
    assert rule.cos.dtype == rule.sin.dtype == np.float32
    assert rule.cos.shape == rule.sin.shape == (4096, 32)
    narrow = rule.turn(x.astype(np.float32))
    assert narrow.dtype == np.float32 and rule.turn(x).dtype == np.float64
    assert np.abs(narrow - rule.turn(x)).max() < 2e-6        # at position 4,095 too


def test_tables_are_not_parameters_and_not_in_the_state(rng):
    module = MultiHeadAttention(8, 2, rng, rule=Rotary(4, 16))
    assert sorted(module.state_dict()) == ["project.b", "project.w", "qkv.b", "qkv.w"]
    assert module(Tensor(np.ones((1, 3, 8), np.float32))).dtype == np.float32


def test_the_base_sets_the_slowest_turn():
    assert angles(2, 4)[1] == pytest.approx([1, 0.01])
    assert angles(2, 4, base=100)[1] == pytest.approx([1, 0.1])


def test_odd_heads_long_texts_and_wrong_heads_are_refused():
    for D in (7, 0):
        with pytest.raises(ValueError, match=f"a head of {D} .* even D"):
            Rotary(D, 8)
    with pytest.raises(ValueError, match="9 tokens, but angles were made for 8.*T_max=9"):
        Rotary(4, 8).turn(np.zeros((1, 1, 9, 4)))
    with pytest.raises(ValueError, match=r"6 channels, shape \(1, 1, 5, 6\).*D=6"):
        Rotary(4, 8).turn(np.zeros((1, 1, 5, 6)))


def test_kernels_get_tables_only_of_what_they_can_do():
    rule = Rotary(4, 8)
    cos, sin = rule.tables(5)
    assert cos.shape == sin.shape == (5, 2) and (cos == rule.cos[:5]).all()
    assert (sin == rule.sin[:5]).all() and rule.tables(8)[0].shape == (8, 2)
    assert rule.tables(9) is None and Rotary(4, 8, interleaved=True).tables(5) is None


def test_positions_start_at_zero_and_all_of_T_max_can_be_used(rng):
    rule, x = Rotary(4, 8), rng.standard_normal((1, 1, 8, 4))
    assert rule.turn(x).shape == x.shape
    assert (rule.turn(x)[:, :, :3] == rule.turn(x[:, :, :3])).all()
    assert angles(3, 2).tolist() == [[0.0], [1.0], [2.0]] and angles(0, 4).shape == (0, 2)


def test_the_score_of_a_vector_with_itself_falls_along_the_derived_line():
    # the integral of cos(d·base^-u) over u is 1 - (ln d + Euler's constant) / ln base
    u = (np.arange(200_000) + 0.5) / 200_000
    for d in (30, 100, 300):
        exact = np.cos(d * 10000.0**-u).mean()
        assert exact == pytest.approx(1 - (np.log(d) + np.euler_gamma) / np.log(10000), abs=0.006)


def test_positions_and_frequencies_can_be_given(rng):
    x = rng.standard_normal((1, 1, 5, 8))
    usual = Rotary(8, 20)
    shifted = Rotary(8, 5, positions=range(7, 12))
    assert shifted.turn(x) == pytest.approx(usual.turn(np.pad(x, [(0, 0)] * 2 + [(7, 0), (0, 0)]))[
        :, :, 7:])
    packed = Rotary(8, 5, positions=[0, 1, 2, 0, 1])            # two texts in one window
    assert packed.turn(x)[:, :, 3:] == pytest.approx(usual.turn(x[:, :, 3:]))
    half = Rotary(8, 5, positions=np.arange(5) / 2)
    assert half.turn(x) == pytest.approx(Rotary(8, 5, frequencies=interpolated(8, 2)).turn(x))
    same = Rotary(8, 20, frequencies=usual_speed(8))
    assert (same.cos == usual.cos).all() and (same.sin == usual.sin).all()
    for wrong in ({"frequencies": np.ones(8)}, {"positions": range(4)}):
        with pytest.raises(ValueError, match=r"wanted \(4,\) and \(5,\)"):
            Rotary(8, 5, **wrong)


def test_a_scale_lengthens_both_sides_of_every_score(rng):
    x = rng.standard_normal((1, 2, 6, 8))
    rule = Rotary(8, 6, scale=1.5)
    assert rule.turn(x) == pytest.approx(1.5 * Rotary(8, 6).turn(x))
    assert rule.turn_vjp(rule.turn(x)) == pytest.approx(1.5**2 * x)
    assert rule.cos.dtype == np.float32 and rule.tables(6)[0] is not None


def test_stretched_hands_by_hand():
    usual = usual_speed(8)
    assert usual.tolist() == pytest.approx([1, 0.1, 0.01, 0.001])
    assert interpolated(8, 4).tolist() == pytest.approx([0.25, 0.025, 0.0025, 0.00025])
    ntk = by_base(8, 4)
    assert ntk[0] == 1 and ntk[-1] == pytest.approx(usual[-1] / 4)         # the last is slowed
    assert ntk == pytest.approx(usual_speed(8, 10000 * 4 ** (8 / 6)))
    # of 1,024 tokens hand 0 makes 163 turns, hand 1 makes 16, hand 2 makes 1.6, hand 3 makes 0.16
    assert by_parts(8, 4, 1024) == pytest.approx([1, 0.1 * (2 / 3 + 1 / 12), 0.01 * (1 / 3 + 1 / 6),
                                                  0.00025])
    # with base 10 and 712 tokens the line would end at 9; it ends at D - 1 = 7, as it is published
    kept = 1 - np.array([0, 0, 0, 1 / 5]) * 3 / 4
    assert by_parts(8, 4, 712, base=10) == pytest.approx(usual_speed(8, 10) * kept)
    assert by_base(4, 9) == pytest.approx([1, 1 / 900])
    assert yarn_scale(1) == 1 and yarn_scale(np.e) == pytest.approx(1.1)
    share = (1.0186 - 1) / 3
    turns = usual_speed(4, 625)[1] * 160 / (2 * np.pi)                  # 1.0186 turns
    assert llama3(4, 8, 160, 625) == pytest.approx([1, 0.04 * (share + (1 - share) / 8)], rel=1e-4)
    assert turns == pytest.approx(1.0186, abs=1e-4)
    for way in (interpolated, by_base):
        assert way(8, 1) == pytest.approx(usual)
        with pytest.raises(ValueError, match="a factor of 0.5"):
            way(8, 0.5)
    assert by_parts(8, 1, 64) == pytest.approx(usual) == llama3(8, 1, 64, 10000.0)
    with pytest.raises(ValueError, match="a head of 2 channels has one hand"):
        by_base(2, 4)


def test_hands_are_slowed_as_their_names_say():
    ways = factors(8, 32, 2)
    assert ways["all hands"].tolist() == [0.5] * 4 and ways["as trained"].tolist() == [1] * 4
    assert ways["by parts"].tolist() == [1, 0.5, 0.5, 0.5]         # only the first made a turn
    assert ways["hand 2 only"].tolist() == [1, 0.5, 1, 1]
    base = 10000 * 2 ** (8 / 6)                 # the base whose last hand is half as fast
    assert angles(2, 8)[1] * ways["larger base"] == pytest.approx(angles(2, 8, base)[1])
    rule = slowed(8, 16, ways["hand 2 only"])
    assert rule.exact[1][10] == pytest.approx(np.sin([10, 0.5, 0.1, 0.01]))
    assert rule.cos.dtype == np.float32 and slowed(8, 16, np.ones(4)).cos == pytest.approx(
        Rotary(8, 16).cos)


def test_an_angle_in_float32_is_wrong_by_less_than_its_last_place():
    for t in (16, 4096, 65536):
        assert angle_error(t) <= t * 0.75 * 2.0**-23              # ω = 1 is exact, the next is 0.75
    assert angle_error(65536) > 1e-3 and angle_error(65536) > 4 * angle_error(4096)


def test_scores_are_relative_up_to_rounding_and_training_profits():
    result = measure(fast=True, seed=0)
    assert all(row[1] < 1e-4 and row[2] < 1e-11 for row in result.rounding)
    assert result.distance_mean[0] == pytest.approx(1, abs=1e-6)
    assert min(result.distance_mean) < 0.5
    losses = {name: loss[0] for name, _, loss, *_ in result.rows}
    assert losses["rotary"] < losses["none"]
    names = [name for name, *_ in result.cures]
    assert names == [name for name, _ in result.places] == list(factors(8, 32, 2))
    (_, within, past), (_, rate, same, _, beyond) = result.cures[0], result.rows[1]
    assert (within, past) == (same, beyond) and rate in dict(result.rates[1][1])
    assert abs(result.misfit[1]) < 0.03 < abs(result.misfit[0])
