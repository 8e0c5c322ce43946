"""Day 57 · RLHF with PPO: what is sampled, how it is credited, and how far a step may go."""

import math

import numpy as np
import pytest

from llm.align.reader import Cached, Whole, reader
from llm.align.rollout import draw, rollout
from llm.functions.logps import token_logps, token_logps_vjp
from llm.functions.probability import log_softmax
from llm.generate.sample import sample
from llm.grad.check import check_pair
from llm.layers.module import Module
from llm.models.gpt import GPT, GPTConfig
from llm.models.llama import Llama, LlamaConfig


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def tiny(rng, kind="gpt", dtype=np.float64, **other):
    """A model of two blocks whose weights are so large that every part of it matters."""
    sizes = {"V": 11, "T": 12, "C": 8, "L": 2, "H": 2, **other}
    model = (Llama(LlamaConfig(K=1, F=10, **sizes), rng) if kind == "llama" else
             GPT(GPTConfig(rotary=kind == "rotary", **sizes), rng))
    for p in model.named_parameters().values():
        p.data = (p.data + .4 * rng.standard_normal(p.shape)).astype(dtype)
    return model


class Fixed:
    """A stand-in for a generator: gives the numbers it was made with."""

    def __init__(self, numbers):
        self.numbers = list(numbers)

    def random(self, shape):
        return np.full(shape, self.numbers.pop(0))


def one_by_one(model, prompt, uniform, temperature, stop):
    """An answer by the plainest loop: the whole text again for each token, day 08's sampler."""
    text, logps, T = [int(i) for i in prompt], [], model.config.T
    for u in uniform:
        if len(text) > T:
            break
        logits = model(np.array([text])).data[0, -1]
        text.append(int(sample(logits, Fixed([u]), temperature)))
        logps.append(log_softmax(logits / temperature)[text[-1]] if temperature else 0.0)
        if text[-1] == stop:
            break
    return text[len(prompt):], logps


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


@pytest.mark.parametrize("kind", ["gpt", "rotary", "llama"])
@pytest.mark.parametrize("temperature, stop, n", [(1.0, 3, 6), (.5, None, 20), (2.0, 4, 1),
                                                  (0, 3, 5), (1.5, 0, 9)])
def test_a_batch_is_what_sampling_one_by_one_gives(rng, kind, temperature, stop, n):
    model = tiny(rng, kind)
    prompts = [rng.integers(11, size=k) for k in (3, 1, 7, 3, 12)]
    uniform = np.random.default_rng(5).random((15, n))
    found = rollout(model, prompts, n, np.random.default_rng(5), temperature, stop, A=3)
    for i in range(15):
        prompt = prompts[i // 3]
        answer, logps = one_by_one(model, prompt, uniform[i], temperature, stop)
        assert found.answers()[i].tolist() == answer
        k, end = len(prompt), len(prompt) + len(answer)
        whole = [*prompt, *answer]
        assert found.ids[i, :end - 1].tolist() == [int(j) for j in whole[:-1]]
        assert not found.ids[i, end - 1:].any()
        assert (found.targets[i, :k - 1] == -100).all()
        assert (found.targets[i, end - 1:] == -100).all()
        assert found.logps[i, k - 1:end - 1] == pytest.approx(np.array(logps), abs=1e-9)
        assert not found.logps[i, :k - 1].any() and not found.logps[i, end - 1:].any()
        assert found.ended[i] == (stop is not None and answer[-1] == stop)
    longest = max(len(prompts[i // 3]) + len(a) for i, a in enumerate(found.answers()))
    assert found.ids.shape == found.targets.shape == found.logps.shape == (15, longest - 1)
    assert found.ids.dtype == found.targets.dtype == np.int32


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-4), (np.float64, 1e-10)])
@pytest.mark.parametrize("kind", ["gpt", "rotary", "llama"])
def test_the_samplers_log_probabilities_are_those_of_the_training_forward(rng, kind, dtype,
                                                                          tolerance):
    model = tiny(rng, kind, dtype, T=24)
    prompts = [rng.integers(11, size=k) for k in (2, 5, 9)]
    for temperature in (1.0, .7):
        found = rollout(model, prompts, 12, rng, temperature, stop=2, A=4)
        logits = model(found.ids).data
        again, _ = token_logps(logits / np.asarray(temperature, dtype), found.targets)
        assert found.logps.dtype == dtype
        assert np.abs(found.logps - again).max() < tolerance


def test_answers_are_drawn_with_the_models_probabilities(rng):
    model = tiny(rng)
    prompt = np.array([4, 1])
    found = rollout(model, [prompt], 1, rng, A=4000)
    p = np.exp(log_softmax(model(prompt[None]).data[0, -1]))
    counts = np.bincount(found.targets[:, 1], minlength=11)
    chi2 = ((counts - 4000 * p) ** 2 / (4000 * p)).sum()
    assert chi2 < 29.6                                          # 99.9 % of χ² with 10 degrees
    assert (np.exp(found.logps[:, 1]) == pytest.approx(p[found.targets[:, 1]]))


def test_a_model_with_a_replaced_part_is_read_by_its_own_forward(rng):
    class Doubled(Module):
        def __init__(self, inner):
            self.inner = inner

        def __call__(self, x):
            return self.inner(x) * 2.0

    model = tiny(rng)
    assert isinstance(reader(model, 1, 5), Cached)
    plain = rollout(model, [np.array([1, 2])] * 3, 6, np.random.default_rng(1), stop=4)
    path = "blocks.1.think.inner.up"
    model.replace(path, Doubled(model.get(path)))
    assert isinstance(reader(model, 1, 5), Whole)
    found = rollout(model, [np.array([1, 2])] * 3, 6, np.random.default_rng(1), stop=4)
    again, _ = token_logps(model(found.ids).data, found.targets)
    assert found.logps == pytest.approx(again)
    assert found.logps.shape != plain.logps.shape or (found.logps != plain.logps).any()


def test_the_ends_of_an_answer(rng):
    model = tiny(rng)
    none = rollout(model, [np.array([1, 2, 3]), np.array([1])], 0, rng, A=2)
    assert none.ids.shape == (4, 2) and (none.targets == -100).all() and not none.logps.any()
    assert none.ids[0].tolist() == [1, 2] and not none.ended.any()
    assert [len(a) for a in none.answers()] == [0, 0, 0, 0]
    assert rollout(model, [np.array([5])], 0, rng).ids.tolist() == [[5]]
    full = rollout(model, [np.arange(11)[:11], np.r_[0, np.arange(11)]], 5, rng)
    assert [len(a) for a in full.answers()] == [2, 1]           # a text has at most T + 1 = 13 ids
    assert full.ids.shape == (2, 12)
    one = rollout(model, [np.array([3])], 1, rng)
    assert one.targets.shape == (1, 1) and one.targets[0, 0] >= 0
    for stop in range(11):                                      # stopping at once: one token
        found = rollout(model, [np.array([1])], 8, np.random.default_rng(3), stop=stop)
        first = found.targets[0, 0]
        assert (found.targets.shape == (1, 1)) == bool(found.ended[0] and first == stop)


def test_draw_never_takes_what_is_impossible():
    logits = np.array([[-np.inf, 0.0, -np.inf, 0.0, -np.inf]] * 4)
    ids, logps = draw(logits, np.array([0.0, .4999, .5, 1 - 2 ** -53]), 1.0)
    assert ids.tolist() == [1, 1, 3, 3] and logps == pytest.approx(-math.log(2))
    ids, logps = draw(np.array([[0.0, 2, 2]]), np.array([.9]), 0)
    assert ids.tolist() == [1] and logps.tolist() == [0.0]


@pytest.mark.parametrize("prompts, n, options, words", [
    ([], 3, {}, "0 prompts"),
    ([np.array([1])], -1, {}, "n = -1"),
    ([np.array([1])], 1, {"A": 0}, "A = 0"),
    ([np.array([1]), np.array([], int)], 3, {}, r"prompt 1 is int64 \(0,\).*1 … 12"),
    ([np.zeros(13, int)], 3, {}, r"\(13,\)"),
    ([np.zeros((1, 2), int)], 3, {}, r"\(1, 2\)"),
    ([np.zeros(2)], 3, {}, "float64"),
    ([np.array([1, 11])], 3, {}, "ids 1 … 11: the model has 0 … 10"),
    ([np.array([-1, 1])], 3, {}, "ids -1 … 1"),
    ([np.array([1])], 3, {"stop": 11}, "stop token 11.*11"),
    ([np.array([1])], 3, {"stop": -1}, "stop token -1"),
    ([np.array([1])], 3, {"temperature": -1.0}, "temperature"),
])
def test_rollout_refuses_what_does_not_fit(rng, prompts, n, options, words):
    with pytest.raises(ValueError, match=words):
        rollout(tiny(rng), prompts, n, rng, **options)
