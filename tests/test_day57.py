"""Day 57 · RLHF with PPO: what is sampled, how it is credited, and how far a step may go."""

import math

import numpy as np
import pytest

from llm.functions.logps import token_logps, token_logps_vjp
from llm.functions.probability import log_softmax
from llm.grad.check import check_pair


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_log_probability_of_a_target_by_hand():
    logits = np.log([[1.0, 3.0], [1.0, 1.0], [2.0, 6.0]])
    out, saved = token_logps(logits, np.array([1, -100, 0]))
    assert out == pytest.approx([math.log(.75), 0.0, math.log(.25)])
    dlogits, none = token_logps_vjp(np.array([1.0, 5.0, -2.0]), *saved)
    assert dlogits == pytest.approx(np.array([[-.25, .25], [0, 0], [-1.5, 1.5]]))
    assert none is None


@pytest.mark.parametrize("shape", [(7,), (1, 5), (3, 4, 6), (2, 1, 2, 3)])
def test_token_logps_are_those_of_log_softmax_and_their_gradient_is_right(rng, shape):
    logits = 3 * rng.standard_normal(shape)
    targets = rng.integers(shape[-1], size=shape[:-1])
    targets[rng.random(shape[:-1]) < .3] = -100
    before = logits.copy()
    out, _ = token_logps(logits, targets)
    assert out.shape == targets.shape
    full = log_softmax(logits)
    for place in np.ndindex(targets.shape):
        expected = 0 if targets[place] == -100 else full[place][targets[place]]
        assert out[place] == pytest.approx(expected, abs=1e-12)
    assert (logits == before).all()
    check_pair(token_logps, token_logps_vjp, logits, targets, rng=rng)


def test_what_does_not_count_may_hold_anything_and_gets_nothing():
    logits = np.array([[np.nan, np.inf], [0.0, 0.0], [-np.inf, -np.inf]], np.float32)
    targets = np.array([-100, 1, -100])
    out, saved = token_logps(logits, targets)
    assert out.dtype == np.float32 and out[0] == 0 and out[2] == 0
    assert out[1] == pytest.approx(-math.log(2))
    dlogits, _ = token_logps_vjp(np.ones(3, np.float32), *saved)
    assert dlogits.dtype == np.float32
    assert dlogits.tolist() == [[0, 0], [-.5, .5], [0, 0]]
    for shape in ((0, 3), (2, 3), (2, 0, 3)):
        none = np.full(shape[:-1], -100)
        out, saved = token_logps(np.ones(shape, np.float32), none)
        assert out.shape == none.shape and out.dtype == np.float32 and not out.any()
        assert not token_logps_vjp(out, *saved)[0].any()


def test_extreme_logits_do_not_overflow():
    logits = np.array([[3e38, -3e38], [1e4, 1e4 - 1], [0.0, -np.inf]], np.float32)
    out, saved = token_logps(logits, np.array([1, 0, 1]))
    assert np.isneginf(out[[0, 2]]).all()
    assert out[1] == pytest.approx(-math.log1p(math.exp(-1)), rel=1e-6)
    dlogits, _ = token_logps_vjp(np.ones(3, np.float32), *saved)
    p = 1 / (1 + math.exp(-1))
    assert dlogits == pytest.approx(np.array([[-1, 1], [1 - p, p - 1], [-1, 1]]), rel=1e-6)


def test_token_logps_keeps_no_second_array_of_the_logits_size(rng):
    logits, targets = rng.standard_normal((4, 9, 50)), rng.integers(50, size=(4, 9))
    saved = token_logps(logits, targets)[1]
    assert saved[0] is logits
    assert sum(a.size for a in saved[1:]) == 3 * targets.size


@pytest.mark.parametrize("logits, targets, words", [
    (np.zeros((2, 3)), np.zeros(3, int), r"\(2, 3\).*\(2,\).*\(3,\)"),
    (np.float64(1.0), np.zeros((), int), r"logits \(\)"),
    (np.zeros((2, 3)), np.zeros(2), "float64"),
    (np.zeros((2, 3)), np.array([0, 3]), r"from 0 to 3.*0 … 2.*another model"),
    (np.zeros((2, 3)), np.array([0, -1]), "from -1 to 0"),
    (np.full((1, 3), -np.inf), np.array([0]), "all -inf"),
    (np.array([[0, np.inf]]), np.array([0]), r"\+inf"),
])
def test_token_logps_refuses_what_does_not_fit(logits, targets, words):
    with pytest.raises(ValueError, match=words):
        token_logps(logits, targets)
