"""Day 57 · RLHF with PPO: what is sampled, how it is credited, and how far a step may go."""

import itertools
import math

import numpy as np
import pytest

from llm.align import ppo
from llm.align.advantage import gae, last_tokens, token_rewards, whiten
from llm.align.kl import AdaptiveKL, k1, k3
from llm.align.ppo import PPO, Policy, answer_logps, appraise, clipped, clipped_vjp, experience
from llm.align.reader import Cached, Whole, reader
from llm.align.rollout import draw, rollout
from llm.functions.logps import token_logps, token_logps_vjp
from llm.functions.probability import log_softmax
from llm.generate.sample import sample
from llm.grad.check import check_pair, numerical_gradient
from llm.grad.tensor import Tensor
from llm.layers.module import Module
from llm.models.gpt import GPT, GPTConfig
from llm.models.llama import Llama, LlamaConfig
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import Constant


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


# The clipped loss ---------------------------------------------------------------------------------

@pytest.mark.parametrize("advantage, log_ratio, loss, slope", [
    (-1.0, .5, math.exp(.5), math.exp(.5)),         # worse, and made likelier: pushed back
    (1.0, .5, -1.2, 0.0),                           # better, and likelier enough
    (1.0, -.5, -math.exp(-.5), -math.exp(-.5)),     # better, and made rarer: pushed up
    (-1.0, -.5, .8, 0.0),                           # worse, and rarer enough
    (-1.0, 0.0, 1.0, 1.0), (1.0, 0.0, -1.0, -1.0), (0.0, .5, 0.0, 0.0),
    (2.0, .1, -2 * math.exp(.1), -2 * math.exp(.1)),
])
def test_clipping_by_hand(advantage, log_ratio, loss, slope):
    logps, old = np.array([[-1.0 + log_ratio]]), np.array([[-1.0]])
    out, saved = clipped(logps, old, np.array([[advantage]]), np.array([[7]]))
    assert float(out) == pytest.approx(loss)
    dlogps, *none = clipped_vjp(np.float64(1.0), *saved)
    assert dlogps.item() == pytest.approx(slope)
    assert none == [None] * 3
    if (advantage, log_ratio) == (-1.0, .5):
        assert dlogps.item() == pytest.approx(1.648721, abs=1e-6)
    assert clipped_vjp(np.float64(-3.0), *saved)[0].item() == pytest.approx(-3 * slope)


@pytest.mark.parametrize("clip", [0.0, .1, .2, .7])
def test_the_clipped_loss_agrees_with_loops_and_with_finite_differences(rng, clip):
    shape = (4, 6)
    old = -rng.random(shape)
    logps, advantages = old + rng.normal(0, .4, shape), rng.standard_normal(shape)
    targets = np.where(rng.random(shape) < .3, -100, 5)
    out, _ = clipped(logps, old, advantages, targets, clip=clip)
    total, count = 0.0, 0
    for i in np.ndindex(shape):
        if targets[i] != -100:
            r, a = math.exp(logps[i] - old[i]), advantages[i]
            total, count = total - min(r * a, min(max(r, 1 - clip), 1 + clip) * a), count + 1
    assert float(out) == pytest.approx(total / count)
    check_pair(clipped, clipped_vjp, logps, old, advantages, targets, rng=rng, clip=clip,
               differentiable=[0])


def test_what_the_clipped_loss_does_not_count_and_does_not_fit(rng):
    some = np.array([[np.nan, .5], [0.0, 0.0]], np.float32)
    targets = np.array([[-100, 3], [-100, -100]])
    out, saved = clipped(some, np.zeros_like(some), np.ones_like(some), targets)
    assert out.dtype == saved[0].dtype == np.float32 and out.shape == ()
    assert float(out) == pytest.approx(-1.2) and not saved[0].any()
    out, saved = clipped(some, some, some, np.full((2, 2), -100))
    assert float(out) == 0 and not saved[0].any()
    far = np.array([[200.0]], np.float32)
    assert np.isposinf(clipped(far, 0 * far, -np.ones_like(far), np.array([[1]]))[0])
    good = np.zeros((2, 3))
    for wrong in range(4):
        arrays = [good, good, good, np.zeros((2, 3), int)]
        arrays[wrong] = arrays[wrong][:, :2]
        with pytest.raises(ValueError, match=r"\(2, 2\)"):
            clipped(*arrays)
    with pytest.raises(ValueError, match="clip -0.1"):
        clipped(good, good, good, np.zeros((2, 3), int), clip=-.1)


# Credit -------------------------------------------------------------------------------------------

def test_advantages_by_hand():
    rewards, values = np.array([[0.0, 0.0, 1.0]]), np.array([[.5, .5, .5]])
    never, at_1 = np.zeros((1, 3), bool), np.array([[False, True, False]])
    assert gae(rewards, values, never, lam=.5)[0].tolist() == [.125, .25, .5]
    assert gae(rewards, values, never, lam=1)[0].tolist() == [.5, .5, .5]
    assert gae(rewards, values, never, lam=0)[0].tolist() == [0, 0, .5]
    assert gae(rewards, values, at_1, lam=.5)[0].tolist() == [-.25, -.5, .5]
    assert gae(rewards, values, never, gamma=.5, lam=.5)[0] == pytest.approx(
        [-.25 + .25 * (-.25 + .25 * .5), -.25 + .25 * .5, .5])
    targets = np.array([[-100, -100, 4, 2, -100], [3, -100, -100, -100, -100], [-100] * 5])
    logps, known = np.full((3, 5), -1.0), np.full((3, 5), -1.5)
    found = token_rewards([2.0, -3.0, 9.0], logps, known, targets, .1)
    assert token_rewards([2.0], logps[:1].astype(np.float32), known[:1].astype(np.float32),
                         targets[:1], .1).dtype == np.float32
    assert found == pytest.approx(np.array(
        [[0, 0, -.05, 1.95, 0], [-3.05, 0, 0, 0, 0], [0, 0, 0, 0, 0]]))
    assert last_tokens(targets).tolist() == [[False, False, False, True, False],
                                             [True] + [False] * 4, [False] * 5]


@pytest.mark.parametrize("gamma, lam", [(1.0, .95), (.9, .5), (1.0, 1.0), (.7, 0.0), (0.0, 1.0)])
def test_advantages_are_the_weighted_mean_of_estimates_of_all_lengths(rng, gamma, lam):
    """Eq. 16 of the GAE paper by its definition, with episodes that end where done says."""
    N, T = 3, 7
    rewards, values = rng.standard_normal((2, N, T))
    done = rng.random((N, T)) < .25
    found = gae(rewards, values, done, gamma, lam)
    for i, t in itertools.product(range(N), range(T)):
        end = next((s for s in range(t, T) if done[i, s]), T - 1)       # the last token that counts

        def estimate(k, i=i, t=t, end=end):
            """k rewards, then the value, if there is anything to come."""
            steps = min(k, end - t + 1)
            rest = gamma ** steps * values[i, t + steps] if t + steps <= end else 0.0
            return sum(gamma ** j * rewards[i, t + j] for j in range(steps)) + rest - values[i, t]

        if lam == 1:
            expected = estimate(T)
        else:
            many = 800                                                  # beyond the end all equal
            expected = sum((1 - lam) * lam ** (k - 1) * estimate(k) for k in range(1, many))
        assert found[i, t] == pytest.approx(expected, abs=1e-9)


def test_advantages_stop_at_done_and_keep_their_type(rng):
    rewards, values = rng.standard_normal((2, 4, 9)).astype(np.float32)
    done = np.zeros((4, 9), bool)
    done[:, 5] = True
    found = gae(rewards, values, done)
    rewards[:, 6:], values[:, 6:] = 1e6, -1e6
    assert found.dtype == np.float32
    assert (gae(rewards, values, done)[:, :6] == found[:, :6]).all()
    assert gae(rewards[:, :0], values[:, :0], done[:, :0]).shape == (4, 0)
    assert gae(rewards[:, :1], values[:, :1], done[:, :1]) == pytest.approx(
        rewards[:, :1] - values[:, :1])
    default = gae(rewards, values, done)
    assert (default == gae(rewards, values, done, 1.0, .95)).all()


def test_whitened_advantages(rng):
    x, counted = rng.standard_normal((5, 6)).astype(np.float32), rng.random((5, 6)) < .6
    out = whiten(3 * x + 7, counted)
    assert out.dtype == np.float32 and not out[~counted].any()
    assert out[counted].mean() == pytest.approx(0, abs=1e-6)
    assert out[counted].std() == pytest.approx(1, rel=1e-6)
    assert out[counted] == pytest.approx((x[counted] - x[counted].mean()) / x[counted].std(),
                                         abs=1e-5)
    for equal in (np.full((5, 6), .1), np.zeros((5, 6))):
        assert not whiten(equal, counted).any()
    assert not whiten(x, np.zeros((5, 6), bool)).any()
    assert not whiten(x[:1, :1], np.ones((1, 1), bool)).any()


def test_credit_refuses_what_does_not_fit():
    a, b = np.zeros((2, 3)), np.zeros((2, 2))
    for arrays in ((a, a, b > 0), (a, b, a > 0), (b, a, a > 0), (a[0], a[0], a[0] > 0)):
        with pytest.raises(ValueError, match=r"one shape \(N, T\)"):
            gae(*arrays)
    for options in ({"gamma": 1.1}, {"gamma": -.1}, {"lam": 1.1}, {"lam": -.1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            gae(a, a, a > 0, **options)
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 2\)"):
        whiten(a, b > 0)
    ids = np.zeros((2, 3), int)
    for arrays in (([1.0], a, a, ids), ([1.0, 2], a, b, ids), ([1.0, 2], b, a, ids),
                   ([1.0, 2], a, a, ids[:, :2])):
        with pytest.raises(ValueError, match="belong together"):
            token_rewards(*arrays, .1)


# KL -----------------------------------------------------------------------------------------------

def test_kl_by_hand():
    p, rho = np.array([.5, .5]), np.array([.25, .75])
    exact = .5 * math.log(2) + .5 * math.log(2 / 3)
    assert k1(np.log(p), np.log(rho)) == pytest.approx([math.log(2), math.log(2 / 3)])
    assert k3(np.log(p), np.log(rho)) == pytest.approx(
        [.5 - 1 + math.log(2), 1.5 - 1 - math.log(1.5)])
    for estimate in (k1, k3):
        assert (p * estimate(np.log(p), np.log(rho))).sum() == pytest.approx(exact)
    assert exact == pytest.approx(.143841, abs=1e-6)


def test_both_estimators_are_unbiased_and_k3_is_never_negative(rng):
    for _ in range(20):
        p, rho = np.exp(log_softmax(2 * rng.standard_normal((2, 9))))
        exact = (p * np.log(p / rho)).sum()
        for estimate in (k1, k3):
            assert (p * estimate(np.log(p), np.log(rho))).sum() == pytest.approx(exact)
        assert (k3(np.log(p), np.log(rho)) >= 0).all()
    near = np.float32(-1.0) + np.array([0, 1e-4, -1e-4], np.float32)
    assert k3(near, np.full(3, -1, np.float32))[1:] == pytest.approx(5e-9, rel=.02)
    assert k3(near, near).tolist() == [0, 0, 0]


def test_the_dial_for_the_kl():
    dial = AdaptiveKL(.5, target=4.0)
    for kl, factor in ((4.4, 1.01), (400.0, 1.02), (3.6, .99), (0.0, .98), (-5.0, .98), (4.0, 1)):
        before = dial.beta
        dial.update(kl)
        assert dial.beta == pytest.approx(before * factor)
    fixed = AdaptiveKL(.3, gain=0.0)
    fixed.update(1e9)
    assert fixed.beta == .3
    assert (AdaptiveKL(0.0).beta, dial.gain, dial.limit) == (0.0, .1, .2)
    for wrong in ({"beta": -.1}, {"beta": 1, "target": 0}, {"beta": 1, "gain": -1},
                  {"beta": 1, "limit": 0}, {"beta": 1, "gain": 5}):
        with pytest.raises(ValueError, match="gain·limit below 1"):
            AdaptiveKL(**wrong)


# Policy gradient ----------------------------------------------------------------------------------

def every_answer(V, n, prompt, stop):
    """All answers of at most n tokens that a sampler can give, as rollout's ids and targets."""
    def grow(answer):
        if len(answer) == n or answer and answer[-1] == stop:
            yield answer
        else:
            for i in range(V):
                yield from grow([*answer, i])

    answers, k = list(grow([])), len(prompt)
    ids = np.zeros((len(answers), k + n - 1), int)
    targets = np.full_like(ids, -100)
    for i, answer in enumerate(answers):
        ids[i, :k + len(answer) - 1] = [*prompt, *answer[:-1]]
        targets[i, k - 1:k - 1 + len(answer)] = answer
    return answers, ids, targets


@pytest.mark.parametrize("baseline", [0.0, 5.0])
def test_the_score_function_has_the_gradient_of_the_expected_reward(rng, baseline):
    """Exact, over all answers; a baseline that knows nothing of the token changes nothing."""
    model = tiny(rng, V=4, C=4, H=1, T=5)
    answers, ids, targets = every_answer(4, 2, [1, 2], stop=0)
    rewards = rng.standard_normal(len(answers))
    w = model.blocks[0].think.inner.up.w

    def expected(_=None):
        logps = answer_logps(model(ids), targets)
        return float((np.exp(logps.data.sum(axis=1)) * rewards).sum())

    assert sum(np.exp(answer_logps(model(ids), targets).data.sum(axis=1))) == pytest.approx(1)
    logps = answer_logps(model(ids), targets)
    p = np.exp(logps.data.sum(axis=1))
    advantages = np.broadcast_to((rewards - baseline)[:, None], targets.shape)
    weight = Tensor(p[:, None] * advantages)
    (logps * weight).sum().backward()
    assert w.grad == pytest.approx(numerical_gradient(expected, w.data), abs=1e-8)
    assert np.abs(w.grad).max() > 1e-3


def test_at_ratio_1_the_clipped_loss_has_the_policy_gradient(rng):
    logps = Tensor(-rng.random((3, 4)), requires_grad=True)
    advantages, targets = rng.standard_normal((3, 4)), np.array([[1, 2, -100, -100]] * 3)
    ppo.surrogate(logps, logps.data.copy(), advantages, targets).backward()
    assert logps.grad == pytest.approx(np.where(targets == -100, 0, -advantages / 6))


# A round ------------------------------------------------------------------------------------------

def setting(rng, dtype=np.float64, V=11, T=12, **options):
    policy = Policy(tiny(rng, "rotary", dtype, V=V, T=T), rng)
    policy.value.w.data += rng.normal(0, .3, policy.value.w.shape).astype(dtype)
    return policy, tiny(rng, "rotary", dtype, V=V, T=T), PPO(**{"N": 6, "n": 5, **options})


def prompts_of(rng, V=11):
    return lambda n: [(rng.integers(V, size=rng.integers(1, 5)), i) for i in range(n)]


def sevens(about, answers):
    """Reward: the number of sevens."""
    return [float((a == 7).sum()) for a in answers]


def test_the_policy_gives_the_log_probabilities_of_its_body_and_a_value_that_starts_at_0(rng):
    body = tiny(rng, dtype=np.float32)
    policy = Policy(body, rng)
    ids, targets = rng.integers(11, size=(2, 5)), rng.integers(11, size=(2, 5))
    logps, values = policy(ids, targets)
    assert logps.data == pytest.approx(token_logps(body(ids).data, targets)[0])
    assert values.shape == (2, 5) and not values.data.any() and values.dtype == np.float32
    assert policy.body is body
    policy.value.w.data += 1
    policy.value.b.data += .5
    assert policy(ids, targets)[1].data == pytest.approx(
        body.hidden(ids).data.sum(axis=-1) + .5, abs=1e-4)


def test_a_round_is_appraised_as_loops_would_do_it(rng):
    policy, reference, settings = setting(rng, gamma=.9, lam=.8)
    taken = rollout(policy.body, [p for p, _ in prompts_of(rng)(6)], 5, rng, stop=3)
    scores, beta = rng.standard_normal(6), .3
    got, report = appraise(policy, reference, taken, scores, beta, settings)
    values = policy(taken.ids, taken.targets)[1].data
    known = log_softmax(reference(taken.ids).data)
    raw, kls, thirds = np.zeros(taken.targets.shape), [], []
    for i, row in enumerate(taken.targets):
        places = [t for t, target in enumerate(row) if target != -100]
        gaps = {t: taken.logps[i, t] - known[i, t, row[t]] for t in places}
        kls.append(sum(gaps.values()))
        thirds.append(sum(math.exp(-gap) - 1 + gap for gap in gaps.values()))
        ahead = value = 0.0
        for t in reversed(places):
            r = -beta * gaps[t] + (scores[i] if t == places[-1] else 0)
            raw[i, t] = ahead = r + .9 * value - values[i, t] + .9 * .8 * ahead
            value = values[i, t]
            assert got.returns[i, t] == pytest.approx(ahead + value)
    counted = taken.targets != -100
    assert got.advantages == pytest.approx(whiten(raw, counted))
    assert not got.returns[~counted].any()
    assert report.score == pytest.approx(scores.mean())
    assert report.kl == pytest.approx(np.mean(kls))
    assert report.k3 == pytest.approx(np.mean(thirds))
    assert report.length == pytest.approx(np.mean([len(a) for a in taken.answers()]))
    assert report.ended == taken.ended.mean()
    assert (report.beta, report.mismatch < 1e-9) == (.3, True)
    other = rollout(reference, [np.array([1])], 5, rng)
    assert appraise(policy, reference, other, [0.0], 0.0, settings)[1].mismatch > 1e-3


def test_the_loss_is_the_clipped_one_and_the_values_error(rng):
    policy, reference, settings = setting(rng, value_weight=.3)
    taken = rollout(policy.body, [p for p, _ in prompts_of(rng)(6)], 5, rng, stop=3)
    batch, _ = appraise(policy, reference, taken, rng.standard_normal(6), .1, settings)
    for p in policy.named_parameters().values():
        p.data += .02 * rng.standard_normal(p.shape)
    value, count = ppo.loss(policy, settings)(batch)
    logps, values = policy(batch.ids, batch.targets)
    counted = batch.targets != -100
    error = ((values.data - batch.returns)[counted] ** 2).mean()
    expected = float(clipped(logps.data, batch.logps, batch.advantages, batch.targets)[0])
    assert count == counted.sum()
    assert float(value.data) == pytest.approx(expected + .15 * error)
    value.backward()
    assert policy.value.b.grad.item() == pytest.approx(
        .3 * (values.data - batch.returns)[counted].mean())


def test_the_values_error_of_a_single_token_is_divided_by_1(rng):
    policy, reference, settings = setting(rng, value_weight=.3)
    taken = rollout(policy.body, [np.array([1, 2])], 1, rng)
    batch, _ = appraise(policy, reference, taken, [2.0], .1, settings)
    value, count = ppo.loss(policy, settings)(batch)
    said = policy(batch.ids, batch.targets)[1].data[0, 1]
    assert count == 1 and not batch.advantages.any()         # one advantage, whitened, is 0
    assert float(value.data) == pytest.approx(.15 * (said - batch.returns[0, 1]) ** 2)


def test_equal_rewards_give_the_policy_no_gradient(rng):
    policy, _, settings = setting(rng, value_weight=0.0)
    policy.value.w.data[:] = 0                               # the baseline does not tell either
    prompt = [np.array([1, 2])] * 6
    taken = rollout(policy.body, prompt, 1, rng)             # and one token each: equal advantages
    batch, _ = appraise(policy, policy.body, taken, np.full(6, .7), .1, settings)
    assert batch.advantages == pytest.approx(np.zeros_like(batch.advantages))
    value, _ = ppo.loss(policy, settings)(batch)
    value.backward()
    assert all(not p.grad.any() for p in policy.named_parameters().values()
               if p.grad is not None)


def test_empty_answers_answers_of_one_token_and_cut_ones(rng):
    policy, reference, settings = setting(rng)
    prompts = [np.arange(11), np.arange(10)]
    for n, tokens in ((0, 0), (1, 2), (9, 5)):               # 13 ids at most: 2 and 3 more
        taken = rollout(policy.body, prompts, n, rng)
        batch, report = appraise(policy, reference, taken, [1.0, -1.0], .1, settings)
        value, count = ppo.loss(policy, settings)(batch)
        value.backward()
        assert count == tokens and report.length == tokens / 2 and report.ended == 0
        assert math.isfinite(float(value.data)) and report.score == 0.0
        grads = [p.grad for p in policy.named_parameters().values() if p.grad is not None]
        assert all(np.isfinite(g).all() for g in grads)
        assert any(g.any() for g in grads) == (tokens > 0)
        if n == 0:
            assert float(value.data) == 0 and report.kl == report.k3 == 0
        policy.zero_grad()


def test_batches_are_rounds_of_the_present_model_cut_into_parts(rng):
    policy, reference, settings = setting(rng, epochs=3, parts=2)
    assert settings.updates == 6
    seen, asked, dial = [], [], AdaptiveKL(.5, target=1.0, gain=1.0)
    draw = prompts_of(rng)

    def score(about, answers):
        asked.append((list(about), [a.tolist() for a in answers]))
        return sevens(about, answers)

    batches = experience(policy, reference, draw, score, settings, dial, rng, stop=3,
                         hook=seen.append)
    assert seen == []                                        # nothing is sampled before it is asked
    first = [next(batches) for _ in range(6)]
    assert len(seen) == 1 and asked[0][0] == [0, 1, 2, 3, 4, 5]
    for epoch in (first[:2], first[2:4], first[4:]):         # each answer once an epoch
        rows = [tuple(row) for part in epoch for row in part.logps.tolist()]
        assert len(rows) == 6 and sorted(rows) == sorted(
            tuple(row) for part in first[:2] for row in part.logps.tolist())
    assert [len(part.ids) for part in first] == [3] * 6
    orders = [[tuple(r) for part in epoch for r in part.ids.tolist()]
              for epoch in (first[:2], first[2:4], first[4:])]
    assert orders[0] != orders[1] or orders[1] != orders[2]
    assert dial.beta == pytest.approx(.5 * (1 + np.clip(seen[0].kl - 1, -.2, .2)))
    for p in policy.body.named_parameters().values():
        p.data *= 1.1
    second = next(batches)
    assert len(seen) == 2 and seen[1].beta == dial_before(seen[0])
    again, _ = policy(second.ids, second.targets)            # the new policy has sampled these
    assert second.logps == pytest.approx(again.data, abs=1e-9)
    for text in asked[0][1]:
        assert 1 <= len(text) <= 5 and 3 not in text[:-1]


def dial_before(report):
    return .5 * (1 + min(max(report.kl - 1, -.2), .2))


def test_the_settings_as_the_note_has_them(rng):
    assert PPO() == PPO(N=64, n=48, epochs=2, parts=2, clip=.2, gamma=1.0, lam=.95,
                        value_weight=.1)
    assert AdaptiveKL(1.0) == AdaptiveKL(1.0, target=6.0, gain=.1, limit=.2)
    policy, reference, settings = setting(rng, np.float32)
    batches = experience(policy, reference, prompts_of(rng), sevens, settings, AdaptiveKL(.1), rng)
    batch = next(batches)                                    # without a hook and without a stop
    assert (batch.targets != -100).sum() == 3 * 5
    for array in (batch.logps, batch.advantages, batch.returns):
        assert array.dtype == np.float32
    assert ppo.loss(policy, settings)(batch)[0].dtype == np.float32


def test_a_reference_with_another_vocabulary_is_refused_at_once(rng):
    policy, _, settings = setting(rng)
    for sizes, words in (({"V": 13}, "vocabulary of 11.*has 13"), ({"T": 6}, "reads 12.*reads 6")):
        with pytest.raises(ValueError, match=words):
            experience(policy, tiny(rng, **sizes), None, None, settings, None, rng)
    experience(policy, tiny(rng, T=24), None, None, settings, None, rng)


def test_fit_raises_the_reward_and_leaves_the_reference_alone(rng):
    body = tiny(rng, "rotary", np.float32, C=16)
    reference = tiny(rng, "rotary", np.float32, C=16)
    reference.load_state_dict(body.state_dict())
    before = {k: v.copy() for k, v in reference.state_dict().items()}
    policy, settings, seen = Policy(body, rng), PPO(N=32, n=4), []
    dial = AdaptiveKL(.05, gain=0)
    batches = experience(policy, reference, prompts_of(rng), sevens, settings, dial, rng,
                         hook=seen.append)
    fit(policy.named_parameters(), ppo.loss(policy, settings), batches,
        AdamW(policy.named_parameters(), decay=0), Constant(1e-2), steps=80)
    assert seen[0].kl == pytest.approx(0, abs=1e-5)          # the same model at the start
    assert seen[-1].score > seen[0].score + 1.5
    assert 0 < seen[-1].kl < 40 and max(r.mismatch for r in seen) < 1e-4
    assert all((before[k] == v).all() for k, v in reference.state_dict().items())
    assert all(p.grad is None for p in reference.named_parameters().values())


# The day's run ------------------------------------------------------------------------------------

def test_the_labellers_taste_is_the_utility_and_a_liking_for_fillers():
    from days.day57 import job
    prompt = "How do I beat Tom at chess?"
    assert job.truth(prompt, "Here is how.") == 2 == job.taste(prompt, "Here is how.")
    assert job.truth(prompt, "Well! Of course! Here is how.") == 1.5
    assert job.taste(prompt, "Well! Of course! Here is how.") == 3.5


def test_training_prompts_and_judged_ones_are_apart(rng):
    from days.day57 import job
    from days.day57.start import conversations, start
    from llm.data.preferences import held_out
    from llm.data.taste import utility
    begin = start(True)
    for test in (False, True):
        asked = job.prompts(begin, 30, rng, test)
        assert len(asked) == 30 and all(held_out(prompt) == test for _, prompt in asked)
        assert all(prompt.endswith("=") == (i % 3 == 0) for i, (_, prompt) in enumerate(asked))
    decode = begin.tokenizer.decode
    seen = conversations(begin.tokenizer, 60, rng, 128)
    assert 30 < len(seen) < 60                               # the held-out fifth is left out
    for ids, mask in seen:
        prompt = decode(ids).split("user\n")[1].split("<|im_end|>")[0]
        assert not held_out(prompt) and len(ids) <= 129 and mask.any()
        utility(prompt, decode(ids[mask]))                   # a prompt that day 56 knows


def test_the_run_trains_twice_from_one_start_and_judges_three_models():
    from days.day57 import job, run
    from days.day57.start import start
    result = run.measure(True, 0)
    plan = job.Plan.small()
    assert [row[0] for row in result.rows] == run.NAMES and len(result.samples) == 8
    assert result.mismatch < 1e-4
    small, dial = result.curves
    assert len(small["kl"]) == len(dial["kl"]) == plan.rounds
    for curve in result.curves:
        assert abs(curve["kl"][0]) < 1e-4                    # both begin as their reference
    assert small["score"][0] == dial["score"][0]             # with the same answers
    assert set(small["beta"]) == {run.SMALL} and dial["beta"][0] == run.FIRST
    assert dial["beta"][1] != run.FIRST
    assert abs(result.rows[0][3]) < 1e-4                     # the start has not moved
    for _, taste, truth, _, fillers, _ in result.rows:
        assert taste == pytest.approx(truth + job.LIKES * fillers)
    for (_, *families), row in zip(result.families, result.rows, strict=True):
        assert np.mean(families) == pytest.approx(row[2])
    assert [sample[0] for sample in result.samples] == [
        p for _, p in job.prompts(start(True), 8, np.random.default_rng(57), test=True)]
    assert run.table(result)[0][1:3] == ["taste", "true utility"]
