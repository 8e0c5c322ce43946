"""Day 59 · GRPO: groups that judge themselves, what a token weighs, the KL in the loss, pass@k."""

import itertools
import math

import numpy as np
import pytest

from days.day59 import adding, job, judged, run
from days.day59.start import Recipe, copy_of, demonstrated, start, tasks_of
from llm.align import grpo, ppo
from llm.align.grpo import (
    GRPO,
    Experience,
    Report,
    experience,
    group_advantages,
    objective,
    objective_vjp,
    token_weights,
)
from llm.align.kl import k1, k3
from llm.align.pass_at_k import pass_at_k
from llm.align.rollout import rollout
from llm.data.tasks import Task
from llm.functions.logps import token_logps
from llm.functions.probability import log_softmax, softmax
from llm.grad.check import check_pair, numerical_gradient
from llm.models.gpt import GPT, GPTConfig
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import Constant
from llm.train.sgd import SGD


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def tiny(rng, dtype=np.float64, **other):
    """A model of two blocks whose weights are so large that every part of it matters."""
    model = GPT(GPTConfig(**{"V": 11, "T": 12, "C": 8, "L": 2, "H": 2, **other}), rng)
    for p in model.named_parameters().values():
        p.data = (p.data + .4 * rng.standard_normal(p.shape)).astype(dtype)
    return model


# Advantages ---------------------------------------------------------------------------------------

def test_the_advantages_of_a_group_by_hand():
    rewards = [[1, 0, 0, 0], [1, 1, 1, 1]]
    assert group_advantages(rewards, divide=False).tolist() == [[.75, -.25, -.25, -.25], [0] * 4]
    assert group_advantages(rewards, "others", divide=False) == pytest.approx(
        np.array([[1, -1 / 3, -1 / 3, -1 / 3], [0] * 4]))
    found = group_advantages(rewards)
    assert found == pytest.approx(
        np.array([[math.sqrt(3), *[-1 / math.sqrt(3)] * 3], [0] * 4]))
    assert (group_advantages(rewards, "group", True) == found).all()            # the defaults


@pytest.mark.parametrize("value", [0, 1, .1, -1e9, 1e-30])
@pytest.mark.parametrize("G", [2, 3, 7])
@pytest.mark.parametrize("baseline, divide", list(itertools.product(grpo.BASELINES, (True, False))))
def test_equal_rewards_give_advantages_of_exactly_zero(value, G, baseline, divide):
    for dtype in (np.float32, np.float64):          # in float64 the mean of .1, .1, .1 is not .1
        found = group_advantages(np.full((2, G), value, dtype), baseline, divide)
        assert found.shape == (2, G) and found.dtype == np.float64 and not found.any()


def test_advantages_are_those_of_loops(rng):
    rewards = rng.standard_normal((5, 6)).round(1)
    for baseline, divide in itertools.product(grpo.BASELINES, (True, False)):
        found = group_advantages(rewards, baseline, divide)
        for p, i in np.ndindex(5, 6):
            row = rewards[p]
            centre = row.mean() if baseline == "group" else np.delete(row, i).mean()
            spread = math.sqrt(sum((x - row.mean()) ** 2 for x in row) / 6) if divide else 1
            assert found[p, i] == pytest.approx((row[i] - centre) / spread)
        assert found.sum(axis=1) == pytest.approx(np.zeros(5), abs=1e-12)


def exact(p, f):
    """Σ over all choices of a group of answers of its probability times f(answers)."""
    return sum(np.prod(p[list(answers)]) * f(np.array(answers))
               for answers in itertools.product(range(len(p)), repeat=3))


def test_the_others_mean_is_unbiased_and_the_whole_mean_shrinks_the_gradient():
    """All 64 groups of three answers of a policy over four: the expected gradients, exactly."""
    z, rewards = np.array([.3, -.5, 1.0, 0]), np.array([0, 1.0, .2, -2])
    p = softmax(z)
    true = p * (rewards - p @ rewards)                                          # ∇ Σ p r

    def estimate(baseline):
        def of(answers):
            A = group_advantages(rewards[answers][None], baseline, divide=False)[0]
            return np.mean([a * (np.eye(4)[y] - p) for a, y in zip(A, answers)], axis=0)
        return of

    assert exact(p, estimate("others")) == pytest.approx(true)
    assert exact(p, estimate("group")) == pytest.approx(2 / 3 * true)


def test_dividing_by_the_spread_weighs_rare_successes_more():
    """Per unit of the true gradient: an even question has 1/½, a nearly solved one more."""
    def gain(p, divide, G=8):
        """E[Σ A·(r − p)]/G over all groups of G: the push towards right answers, exactly."""
        total = 0.0
        for c in range(G + 1):
            rewards = np.array([1.0] * c + [0.0] * (G - c))
            A = group_advantages(rewards[None], divide=divide)[0]
            total += math.comb(G, c) * p**c * (1 - p)**(G - c) * np.mean(A * (rewards - p))
        return total / (p * (1 - p))

    assert gain(.5, False) == pytest.approx(7 / 8) == pytest.approx(gain(.1, False))
    assert gain(.5, True) == pytest.approx(1.86, abs=.01)
    assert gain(.01, True) == pytest.approx(2.61, abs=.01)
    assert gain(.99, True) == pytest.approx(gain(.01, True))
    for p in (.5, .1):                                              # large groups: 1/√(p(1 − p))
        assert gain(p, True, 512) == pytest.approx(1 / math.sqrt(p * (1 - p)), rel=.01)


@pytest.mark.parametrize("rewards, options, words", [
    ([[1.0]], {}, r"\(1, 1\).*G ≥ 2.*own mean"), ([1.0, 0], {}, r"\(2,\)"),
    (np.ones((2, 3, 1)), {}, r"\(2, 3, 1\)"), ([[1, np.nan]], {}, "finite"),
    ([[1, np.inf]], {}, "inf.*finite"), ([[1, 0]], {"baseline": "none"}, "'none'"),
])
def test_groups_that_make_no_sense_are_refused(rewards, options, words):
    with pytest.raises(ValueError, match=words):
        group_advantages(rewards, **options)


def test_no_prompts_are_no_advantages():
    assert group_advantages(np.zeros((0, 4))).shape == (0, 4)


# What a token weighs ------------------------------------------------------------------------------

TARGETS = np.array([[-100, 5, -100, -100], [-100, 5, 6, 7], [-100] * 4])


def test_the_three_shares_by_hand():
    of = lambda *a: token_weights(TARGETS, *a).tolist()
    assert of() == of("answer") == [[0, 1 / 3, 0, 0], [0, 1 / 9, 1 / 9, 1 / 9], [0] * 4]
    assert of("token") == [[0, .25, 0, 0], [0, .25, .25, .25], [0] * 4]
    assert of("constant", 10) == [[0, 1 / 30, 0, 0], [0, 1 / 30, 1 / 30, 1 / 30], [0] * 4]
    assert of("constant", 1) == [[0, 1 / 3, 0, 0], [0, 1 / 3, 1 / 3, 1 / 3], [0] * 4]


@pytest.mark.parametrize("share", grpo.SHARES)
def test_answers_without_tokens_weigh_nothing(share):
    for shape in ((3, 4), (0, 4), (3, 0), (1, 1)):
        found = token_weights(np.full(shape, -100), share, 5)
        assert found.shape == shape and not found.any()


def test_a_share_per_answer_makes_long_wrong_answers_cheap():
    """A wrong answer's tokens are pushed down by 1/length under "answer", equally under others."""
    A = np.array([-1.0, -1.0])
    targets = np.array([[5, -100, -100, -100], [5, 6, 7, 8]])
    logps = np.full((2, 4), -1.0)
    for share, ratio in (("answer", 4), ("token", 1), ("constant", 1)):
        _, (slope,) = objective(logps, logps, logps, A, token_weights(targets, share, 8))
        assert slope[0, 0] / slope[1, 0] == pytest.approx(ratio)


@pytest.mark.parametrize("share, n, words", [("row", 3, "'row'"), ("constant", None, "n ≥ 1.*None"),
                                             ("constant", 0, "not 0")])
def test_shares_that_make_no_sense_are_refused(share, n, words):
    with pytest.raises(ValueError, match=words):
        token_weights(TARGETS, share, n)


# The objective ------------------------------------------------------------------------------------

def test_the_objective_by_hand():
    """Two answers of one token: A = +1 with r = e^0.5, clipped; A = −1 with r = e^0.5, not."""
    old = np.array([[-1.0], [-1.0]])
    logps, reference = old + .5, old + .5 + np.array([[math.log(2)], [0]])
    out, saved = objective(logps, old, reference, np.array([1.0, -1]), np.full((2, 1), .5))
    assert float(out) == pytest.approx(.5 * (-1.2 + math.exp(.5)))
    slope, *none = objective_vjp(np.float64(1.0), *saved)
    assert slope.ravel() == pytest.approx([0, .5 * math.exp(.5)]) and none == [None] * 4
    out, saved = objective(logps, old, reference, np.array([1.0, -1]), np.full((2, 1), .5),
                           beta=.1)
    penalty = 2 - 1 - math.log(2)
    assert penalty == pytest.approx(.306853, abs=1e-6)
    assert float(out) == pytest.approx(.5 * (-1.2 + .1 * penalty + math.exp(.5)))
    assert objective_vjp(np.float64(1.0), *saved)[0].ravel() == pytest.approx(
        [.5 * .1 * (1 - 2), .5 * math.exp(.5)])
    assert objective_vjp(np.float64(-3), *saved)[0][0] == pytest.approx(.15)


@pytest.mark.parametrize("clip, beta", [(.2, 0.0), (.1, .3), (0.0, .1), (.7, 2.0)])
@pytest.mark.parametrize("share", grpo.SHARES)
def test_the_objective_agrees_with_loops_and_with_finite_differences(rng, clip, beta, share):
    N, T = 5, 6
    targets = np.where(rng.random((N, T)) < .3, -100, 5)
    targets[2] = -100                                               # an empty answer
    old = -rng.random((N, T))
    logps, reference = old + rng.normal(0, .4, (2, N, T))
    A = rng.standard_normal(N)
    A[0] = 0
    weights = token_weights(targets, share, 9)
    total = 0.0
    for i in range(N):
        places = [t for t in range(T) if targets[i, t] != -100]
        for t in places:
            r, u = math.exp(logps[i, t] - old[i, t]), reference[i, t] - logps[i, t]
            one = (beta * (math.exp(u) - 1 - u)
                   - min(r * A[i], min(max(r, 1 - clip), 1 + clip) * A[i]))
            total += one / {"answer": N * len(places), "token": (targets != -100).sum(),
                            "constant": N * 9}[share]
    out, _ = objective(logps, old, reference, A, weights, clip=clip, beta=beta)
    assert float(out) == pytest.approx(total, abs=1e-12)
    check_pair(objective, objective_vjp, logps, old, reference, A, weights, rng=rng, clip=clip,
               beta=beta, differentiable=[0])


def test_with_equal_weights_and_no_kl_it_is_the_loss_of_day_57(rng):
    targets = np.where(rng.random((4, 6)) < .3, -100, 5)
    old, logps = -rng.random((2, 4, 6))
    A = rng.standard_normal(4)
    theirs, (slope,) = ppo.clipped(logps, old, np.repeat(A[:, None], 6, axis=1), targets)
    ours, (mine,) = objective(logps, old, logps, A, token_weights(targets, "token"))
    assert float(ours) == pytest.approx(float(theirs)) and mine == pytest.approx(slope)


def test_what_weighs_nothing_may_hold_anything_and_types_are_kept():
    some = np.array([[np.nan, -.5], [np.inf, 800.0]], np.float32)
    weights = np.array([[0, 1], [0, 0]], np.float32)
    out, saved = objective(some, np.full_like(some, -.5), some, np.array([2.0, -1]), weights,
                           beta=.5)
    assert out.dtype == saved[0].dtype == np.float32 and out.shape == ()
    assert float(out) == -2 and saved[0].tolist() == [[0, -2], [0, 0]]
    far = np.array([[200.0]], np.float32)
    assert objective(far[:0], far[:0], far[:0], np.zeros(0), far[:0])[0] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("A", [-1.0, 1.0])
@pytest.mark.parametrize("far", [-1000.0, -100.0, 100.0, 1000.0])
def test_margins_of_a_hundred_nats_and_more_stay_finite(dtype, A, far):
    """Up to FAR the exponential, then its tangent there: e²⁰·(1 + x − 20)."""
    tangent = lambda x: math.exp(20) * (1 + x - 20) if x > 20 else math.exp(x)
    zero, one = np.zeros((1, 1), dtype), np.ones((1, 1), dtype)
    out, (slope,) = objective(zero + far, zero, zero, np.array([A]), one)
    clipped = A > 0 and far > 0 or A < 0 and far < 0
    ratio = min(max(tangent(far), .8), 1.2) if clipped else tangent(far)
    assert out.dtype == slope.dtype == dtype
    assert float(out) == pytest.approx(-A * ratio)
    assert float(slope[0, 0]) == pytest.approx(0 if clipped else -A * math.exp(min(far, 20)))
    out, (slope,) = objective(zero, zero, zero + far, np.array([0.0]), one, beta=.5)
    assert float(out) == pytest.approx(.5 * (tangent(far) - 1 - far))
    assert float(slope[0, 0]) == pytest.approx(.5 * (1 - math.exp(min(far, 20))))


def test_the_tangent_begins_at_twenty_nats():
    assert grpo.FAR == 20
    zero = np.zeros((1, 5))
    x = np.array([[19.0, 20, 21, 19.5, 20.5]])
    check_pair(objective, objective_vjp, x[:, [0, 2]], zero[:, :2], zero[:, :2] + 40, np.array(
        [-1.0]), np.full((1, 2), 1e-9), rng=np.random.default_rng(0), beta=.3, differentiable=[0])
    _, (slope,) = objective(x, zero, x, np.array([-1.0]), np.ones((1, 5)))
    assert slope[0] == pytest.approx(np.exp([19, 20, 20, 19.5, 20]))


def test_the_objective_refuses_what_does_not_fit():
    good, short = np.zeros((2, 3)), np.zeros((2, 2))
    for wrong in range(4):
        arrays = [good, good, good, good]
        arrays[wrong] = short
        with pytest.raises(ValueError, match=r"\(2, 2\).*\(2,\)"):
            objective(*arrays[:3], np.zeros(2), arrays[3])
    for advantages in (np.zeros(3), np.zeros((2, 1)), 0.0):
        with pytest.raises(ValueError, match=r"advantages \("):
            objective(good, good, good, advantages, good)
    with pytest.raises(ValueError, match=r"\(3,\)"):
        objective(good[0], good[0], good[0], np.zeros(3), good[0])
    for options in ({"clip": -.1}, {"beta": -.1}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} -0.1"):
            objective(good, good, good, np.zeros(2), good, **options)
    for options in ({"clip": 0}, {"beta": 0}):
        objective(good, good, good, np.zeros(2), good, **options)


def test_k3_in_the_loss_descends_the_other_kl(rng):
    """Its expected gradient is that of KL(ρ‖π); k1 would have none at all."""
    z, rho = rng.standard_normal((2, 6))
    p, ln_rho = softmax(z), log_softmax(rho)
    rows = log_softmax(z)[:, None]                                  # six answers of one token
    of_answers = lambda values: sum(w * v * (np.eye(6)[y] - p)
                                    for y, (w, v) in enumerate(zip(p, values)))
    _, (slope,) = objective(rows, rows, ln_rho[:, None], np.zeros(6), np.ones((6, 1)), beta=1.0)
    backward = lambda z: float((softmax(rho) * (ln_rho - log_softmax(z))).sum())
    forward = lambda z: float((softmax(z) * (log_softmax(z) - ln_rho)).sum())
    found = of_answers(slope[:, 0])
    assert found == pytest.approx(numerical_gradient(backward, z.copy()), abs=1e-7)
    assert np.abs(found - numerical_gradient(forward, z.copy())).max() > .01
    assert of_answers(np.ones(6)) == pytest.approx(np.zeros(6), abs=1e-12)
    assert float(p @ k3(rows[:, 0], ln_rho)) == pytest.approx(forward(z))


# pass@k -------------------------------------------------------------------------------------------

def test_pass_at_k_by_hand():
    assert pass_at_k(np.array([0, 1, 2, 3, 4]), 4, 2) == pytest.approx([0, 1/2, 5/6, 1, 1])
    assert pass_at_k(np.array(1), 4, 1) == pytest.approx(.25)
    assert pass_at_k(np.array([[0], [3]]), 3, 3).tolist() == [[0], [1]]
    assert pass_at_k(np.zeros(0, int), 3, 2).shape == (0,)


@pytest.mark.parametrize("n, k", [(1, 1), (5, 1), (5, 3), (5, 5), (9, 4)])
def test_pass_at_k_counts_choices_and_is_unbiased(n, k):
    found = pass_at_k(np.arange(n + 1), n, k)
    for c in range(n + 1):
        choices = list(itertools.combinations([1] * c + [0] * (n - c), k))
        assert found[c] == pytest.approx(np.mean([any(x) for x in choices]))
        assert found[c] == pytest.approx(1 - math.comb(n - c, k) / math.comb(n, k))
    for p in (.03, .5, .9):
        chance = [math.comb(n, c) * p**c * (1 - p)**(n - c) for c in range(n + 1)]
        assert chance @ found == pytest.approx(1 - (1 - p)**k)
        naive = 1 - (1 - np.arange(n + 1) / n)**k
        assert k == 1 or chance @ naive < 1 - (1 - p)**k            # plugging in c/n is too low


def test_pass_at_k_does_not_overflow():
    assert pass_at_k(np.array([1]), 100_000, 50_000) == pytest.approx([.5])


@pytest.mark.parametrize("right, n, k, words", [
    ([1], 3, 0, "pass@0 from 3"), ([1], 3, 4, "pass@4.*more answers"), ([4], 3, 1, r"\[4\].*0 … 3"),
    ([-1], 3, 1, r"\[-1\]"), ([.5], 3, 1, "float64"),
])
def test_pass_at_k_refuses_what_makes_no_sense(right, n, k, words):
    with pytest.raises(ValueError, match=words):
        pass_at_k(np.array(right), n, k)


# Rounds and `fit` ---------------------------------------------------------------------------------

def collect(model, settings, score, rng, reference=None, stop=3, prompts=(2, 5, 3)):
    """The first round's batches and report."""
    reports = []
    one = lambda i: np.random.default_rng(i).integers(11, size=prompts[i])
    draw = lambda P: [(one(i), i) for i in range(P)]
    batches = experience(model, reference, draw, score, settings, rng, stop, reports.append)
    assert iter(batches) is batches and not reports                 # nothing has run so far
    return list(itertools.islice(batches, settings.updates)), reports


def test_a_round_holds_what_rollout_gives_and_advantages_group_by_group(rng):
    model = tiny(rng)
    settings, heard = GRPO(P=3, G=4, n=6, divide=False), []

    def score(about, answers):
        heard.append((about, answers))
        return [len(a) for a in answers]

    (batch,), (report,) = collect(model, settings, score, np.random.default_rng(7))
    prompts = [np.random.default_rng(i).integers(11, size=k) for i, k in enumerate((2, 5, 3))]
    taken = rollout(model, prompts, 6, np.random.default_rng(7), stop=3, A=4)
    (about, answers), = heard
    assert about == [0] * 4 + [1] * 4 + [2] * 4
    assert [a.tolist() for a in answers] == [a.tolist() for a in taken.answers()]
    lengths = np.reshape([len(a) for a in answers], (3, 4)).astype(float)
    expected = (lengths - lengths.mean(axis=1, keepdims=True)).ravel()
    order = [next(i for i in range(12) if (taken.targets[i] == row).all()
                  and (taken.ids[i] == ids).all()) for row, ids in zip(batch.targets, batch.ids)]
    assert sorted(expected[order]) == pytest.approx(sorted(expected))
    assert batch.advantages == pytest.approx(expected[order])
    assert (batch.logps == taken.logps[order]).all() and (batch.reference == batch.logps).all()
    assert report == Report(lengths.mean(), np.mean(np.ptp(lengths, axis=1) == 0), 0.0,
                            lengths.mean(), taken.ended.mean())


def test_the_reference_is_read_where_beta_is_above_zero(rng):
    model, other = tiny(rng), tiny(rng)
    (batch,), (report,) = collect(model, GRPO(P=2, G=3, n=5, beta=.1),
                                  lambda about, answers: np.arange(6), rng, other)
    known, _ = token_logps(other(batch.ids).data, batch.targets)
    assert batch.reference == pytest.approx(known)
    assert report.kl == pytest.approx(k1(batch.logps, known).sum(axis=1).mean())
    assert abs(report.kl) > .01
    settings = GRPO(P=2, G=3, n=5, beta=.1)
    value, count = grpo.loss(model, settings)(batch)
    expected, _ = objective(batch.logps, batch.logps, known, batch.advantages,
                            token_weights(batch.targets), beta=.1)
    assert float(value.data) == pytest.approx(float(expected))
    assert count == (batch.targets != -100).sum()


def test_epochs_and_parts_hand_out_each_answer_once_an_epoch(rng):
    settings = GRPO(P=3, G=4, n=5, epochs=2, parts=3)
    batches, reports = collect(tiny(rng), settings, lambda about, answers: np.arange(12), rng)
    assert settings.updates == 6 and len(batches) == 6 and len(reports) == 1
    assert [len(b.ids) for b in batches] == [4] * 6
    values = np.tile(group_advantages(np.arange(4.0)[None])[0], 3)
    for epoch in (batches[:3], batches[3:]):
        assert sorted(np.concatenate([b.advantages for b in epoch])) == pytest.approx(
            sorted(values))
    assert [b.advantages.tolist() for b in batches[:3]] != [b.advantages.tolist()
                                                            for b in batches[3:]]
    assert isinstance(batches[0].rows(np.array([1])), Experience)


def test_defaults_are_those_of_the_paper_but_for_the_kl():
    settings = GRPO()
    assert (settings.clip, settings.beta, settings.baseline, settings.divide, settings.share) == (
        .2, 0.0, "group", True, "answer")
    assert (settings.P, settings.G, settings.n, settings.updates) == (16, 8, 16, 1)


def test_the_whole_gradient_is_that_of_a_plain_float64_computation(rng):
    """Logits, log-softmax, ratio, clip, k3 and weights anew, differentiated numerically."""
    model, start = tiny(rng, C=4, H=1, L=1), tiny(rng, C=4, H=1, L=1)
    settings = GRPO(P=3, G=3, n=5, beta=.2, share="answer")
    (batch,), _ = collect(model, settings, lambda about, answers: rng.integers(2, size=9), rng,
                          start)
    old = batch.logps + np.where(batch.targets >= 0, rng.normal(0, .3, batch.logps.shape), 0)
    batch = Experience(batch.ids, batch.targets, old, batch.reference, batch.advantages)
    parameters = model.named_parameters()
    value, _ = grpo.loss(model, settings)(batch)
    value.backward()

    def plain(_):
        logits, total = model(batch.ids).data, 0.0
        for i, row in enumerate(batch.targets):
            places = np.flatnonzero(row >= 0)
            for t in places:
                z = logits[i, t]
                logp = z[row[t]] - math.log(np.exp(z - z.max()).sum()) - z.max()
                r, u = math.exp(logp - old[i, t]), batch.reference[i, t] - logp
                A = batch.advantages[i]
                total += (.2 * (math.exp(u) - 1 - u) - min(r * A, min(max(r, .8), 1.2) * A)) / (
                    len(places) * len(batch.targets))
        return total

    assert float(value.data) == pytest.approx(plain(None), abs=1e-12)
    for name in ("embed.table", "blocks.0.think.inner.up.w"):
        tensor = parameters[name]
        assert tensor.grad == pytest.approx(numerical_gradient(plain, tensor.data), abs=1e-7), name


def test_equal_rewards_leave_the_weights_as_they_are(rng):
    model = tiny(rng)
    before = {name: p.data.copy() for name, p in model.named_parameters().items()}
    draw = lambda P: [(np.array([1, 2]), None)] * P
    for rewards in (0.0, 1.0):
        batches = experience(model, None, draw, lambda about, a, r=rewards: [r] * len(a),
                             GRPO(P=2, G=3, n=4), rng, 3)
        run = fit(model.named_parameters(), grpo.loss(model, GRPO(P=2, G=3, n=4)), batches,
                  AdamW(model.named_parameters(), decay=0), Constant(.1), steps=2)
        assert run.skipped == 0 and run.losses == [0, 0]
    for name, p in model.named_parameters().items():
        assert (p.data == before[name]).all()


def test_empty_and_cut_answers_go_through_a_round(rng):
    full = lambda P: [(np.arange(12) % 11, None), (np.arange(11), None)][:P]    # room for 1 and 2
    for n, lengths in ((0, 0), (5, 1.5)):
        reports, settings = [], GRPO(P=2, G=2, n=n)
        model = tiny(rng)
        batches = experience(model, None, full, lambda about, answers: [len(a) and i % 2
                                                                        for i, a in
                                                                        enumerate(answers)],
                             settings, rng, None, reports.append)
        run = fit(model.named_parameters(), grpo.loss(model, settings), batches,
                  SGD(model.named_parameters()), Constant(.1), steps=1)
        assert run.skipped == 0 and math.isfinite(run.losses[0])
        assert reports[0].length == lengths and reports[0].ended == 0


@pytest.mark.parametrize("reference, beta, fits", [
    (None, 0.0, True), (None, .1, False), ({"V": 12}, .1, False), ({"T": 11}, .1, False),
    ({"V": 12}, 0.0, True), ({"T": 13}, .1, True), ({"L": 1}, .1, True)])
def test_a_reference_that_does_not_fit_is_refused_at_once(rng, reference, beta, fits):
    model, other = tiny(rng), reference and tiny(rng, **reference)
    make = lambda: experience(model, other, None, None, GRPO(beta=beta), rng)
    if fits:
        make()
    else:
        with pytest.raises(ValueError, match=f"beta {beta}.*vocabulary of 11 that reads 12"):
            make()


def test_a_group_of_one_is_refused_by_a_round(rng):
    with pytest.raises(ValueError, match="G ≥ 2"):
        collect(tiny(rng), GRPO(P=2, G=1, n=3), lambda about, answers: [0, 1], rng)


@pytest.mark.parametrize("settings", [GRPO(P=4, G=8, n=3), GRPO(
    P=4, G=8, n=3, epochs=2, parts=2, baseline="others", divide=False, share="token", beta=.01)])
def test_a_tiny_policy_learns_what_is_rewarded(rng, settings):
    """Token 7 is good, whatever the prompt: from a chance of about 1/11 a place to almost 1."""
    model = tiny(rng)
    start, rewards = tiny(np.random.default_rng(0)), []
    draw = lambda P: [(rng.integers(11, size=2), None) for _ in range(P)]
    score = lambda about, answers: [np.mean(a == 7) for a in answers]
    batches = experience(model, start, draw, score, settings, rng, None,
                         lambda report: rewards.append(report.reward))
    fit(model.named_parameters(), grpo.loss(model, settings), batches,
        AdamW(model.named_parameters(), decay=0), Constant(.03), steps=30 * settings.updates)
    assert np.mean(rewards[:2]) < .4 and np.mean(rewards[-3:]) > .8


# The day's task -----------------------------------------------------------------------------------

def test_a_worked_sum_and_its_judge():
    of = lambda a, b: Task(f"{a} + {b} =", str(a + b), "sum")
    assert adding.worked(of(37, 45)) == "12, 8, so 82"
    assert adding.worked(of(87, 42)) == "9, 12, so 129"
    assert adding.worked(of(99, 99)) == "18, 19, so 198"
    assert adding.worked(of(10, 10)) == "0, 2, so 20"
    assert adding.worked(of(37, 45), careless=True) == "12, 7, so 72"
    assert adding.worked(of(99, 99), careless=True) == "18, 18, so 188"
    assert adding.worked(of(31, 45), careless=True) == adding.worked(of(31, 45)) == "6, 7, so 76"
    task = of(37, 45)
    assert adding.reward(task, adding.worked(task)) == 1
    assert adding.reward(task, adding.worked(task, careless=True)) == 0
    assert adding.reward(task, "nonsense, so 82") == adding.reward(task, "so 81, so 82") == 1
    for wrong in ("", "82", "so 8", "so 821", "so 82, so 81", "so 82.", "so", "so  82"):
        assert adding.reward(task, wrong) == 0


def test_no_sum_of_the_test_is_ever_trained_on():
    train, test = tasks_of()
    assert len(train) + len(test) == 8100 and .08 < len(test) / 8100 < .12
    key = lambda t: frozenset(t.prompt[:-2].split(" + "))
    assert not {key(t) for t in train} & {key(t) for t in test}
    shown, asked = demonstrated(Recipe()), job.asked(job.Plan())
    assert len(shown) == Recipe().shown and len(asked) == job.Plan().asked
    assert not {t.prompt for t in shown} & {t.prompt for t in asked}
    assert tasks_of() == (train, test)


def test_the_judge_gives_nothing_to_an_answer_that_was_cut():
    class Letters:
        specials = {"<|im_end|>": 0}

        def decode(self, ids):
            return "".join(chr(i) for i in ids)

    task = Task("1 + 1 =", "2", "sum")
    right = [ord(c) for c in "so 2"]
    answers = [np.array(a, int) for a in ([*right, 0], right, [0], [], [*right, 9, 0])]
    assert adding.judge(Letters())([task] * 5, answers) == [1, 0, 0, 0, 0]
    heard = []
    coins = adding.judge(Letters(), np.random.default_rng(0), heard.append)
    many = coins([task] * 5000, answers * 1000)
    assert heard == [.2]
    assert set(many) == {0, 1} and abs(np.mean(many) - .2) < .02
    assert abs(np.corrcoef(many, [1, 0, 0, 0, 0] * 1000)[0, 1]) < .05


def test_the_rule_of_the_direct_sums_and_their_split():
    task = Task("12 + 7 =", "19", "sum")
    assert adding.result_only(task, "19") == 1
    assert not any(adding.result_only(task, text) for text in ("", "19 ", "so 19", "1", "199"))
    train, test = adding.direct(np.random.default_rng(0))
    assert len(train) + len(test) == 900 + 465 and .06 < len(test) / 1365 < .14
    key = lambda t: tuple(sorted(t.prompt.split()))
    assert not {key(t) for t in train} & {key(t) for t in test}
    for t in train + test:
        a, sign, b, _ = t.prompt.split()
        assert int(t.answer) == (int(a) + int(b) if sign == "+" else int(a) - int(b)) >= 0
    judge = adding.judge(start(True).tokenizer, rule=adding.result_only)
    ids = start(True).tokenizer.encode("19")
    end = start(True).tokenizer.specials["<|im_end|>"]
    assert judge([task] * 2, [np.array([*ids, end]), np.array(ids)]) == [1, 0]


def test_answers_are_told_apart_by_carry_and_by_their_steps():
    of = lambda a, b: Task(f"{a} + {b} =", str(a + b), "sum")
    tasks = [of(37, 45), of(31, 45)]
    assert [adding.carries(t) for t in tasks] == [True, False]
    assert adding.carries(of(15, 25)) and not adding.carries(of(15, 24))
    texts = np.array([["12, 7, so 72", "12, 8, so 82", "1, so 82", "no"],
                      ["6, 7, so 76", "6, 7, so 76", "0, so 76", "so 75"]])
    right = np.array([[adding.reward(t, x) for x in row] for t, row in zip(tasks, texts)]) == 1
    assert judged.by_carry(tasks, texts, right) == {
        "with": .5, "without": .75, "forgot": .25, "clean": .6}
    assert judged.by_carry(tasks[:1], texts[:1], right[:1])["without"] == 0
    assert judged.share(np.array([True, False, False, False])) == .25
    assert judged.share(np.array([], bool)) == 0


def test_what_is_judged_is_what_was_sampled():
    begin = start(True)
    tasks = tasks_of()[1][:6]
    found = judged.evaluate(begin, begin.model, tasks, 4, 3, 12)
    ids = [adding.ids_of(begin.tokenizer, task) for task in tasks]
    end = begin.tokenizer.specials["<|im_end|>"]
    taken = rollout(begin.model, ids, 12, np.random.default_rng([3, 592]), stop=end, A=4)
    lengths = [len(a) for a in taken.answers()]
    assert found["tokens"] == pytest.approx(np.mean(lengths))
    assert len(found["pass"]) == 3 and found["kl"] == pytest.approx(0, abs=1e-3)
    best = rollout(begin.model, ids, 12, np.random.default_rng(0), temperature=0, stop=end)
    assert found["said"][0] == begin.tokenizer.decode([i for i in best.answers()[0] if i != end])
    always = judged.evaluate(begin, begin.model, tasks, 2, 3, 12, lambda task, text: 1.0)
    assert "clean" not in always and "clean" in found
    assert always["pass"][0] == np.mean(rollout(begin.model, ids, 12, np.random.default_rng(
        [3, 592]), stop=end, A=2).ended)                            # a cut answer earns nothing


def test_expert_iteration_learns_from_right_answers_alone(monkeypatch):
    """Batches hold the answers that the judge calls right; a round without one is sampled anew."""
    begin, plan, batches = start(True), job.Plan.small(), []
    calls = iter([[0.0] * 12, [1.0, 0.0] * 6, [0.0] * 11 + [1.0], [1.0] * 12])
    monkeypatch.setattr(adding, "judge", lambda tokenizer: lambda about, answers: next(calls))
    seen = []
    monkeypatch.setattr(job, "sft_loss", lambda model: lambda batch: (
        seen.append(batch) or grpo_free_loss(model, batch)))
    model, shares = job.by_own_answers(begin, plan, 0, lambda *told: batches.append(told))
    assert shares == pytest.approx([.5, 1 / 12, 1]) and len(batches) == 3
    assert [len(inputs) for inputs, _, _ in seen] == [6, 1, 12]


def grpo_free_loss(model, batch):
    from llm.tune.sft import sft_loss
    return sft_loss(model)(batch)


def test_the_fast_run():
    result = run.measure(fast=True, seed=0)
    assert not any("said" in one for one in result.rows)
    assert len(result.rows) == len(run.NAMES) == 3
    for one in result.rows:
        assert 0 <= one["greedy"] <= 1 and 0 < one["tokens"] <= 12
        assert one["pass"] == sorted(one["pass"])
        assert one["pass"][-1] == pytest.approx(1 - one["never"])
    assert result.rows[0]["kl"] == pytest.approx(0, abs=1e-3)   # the start is no way from itself
    assert [len(curve) for curve in (*result.curves, result.silent)] == [result.rounds] * 3
    assert len(result.samples) == 8 and len(run.table(result)) == 1 + len(result.rows)
    tens = [[int(x) % 10 for x in p[:-2].split(" + ")] for p, *_ in result.carried]
    assert 0 < len(tens) <= 8 and all(a + b > 9 for a, b in tens)
    assert len(set(map(len, run.table(result)))) == 1
    assert {s[0] for s in result.samples} <= {t.prompt for t in tasks_of()[1][200:208]}


def test_a_run_leaves_the_start_as_it_is():
    begin = start(True)
    before = begin.model.embed.table.data.copy()
    model, reports = job.by_reward(begin, job.Plan.small(), 0, lambda *told: None)
    assert (begin.model.embed.table.data == before).all() and len(reports) == 3
    assert copy_of(begin) is not begin.model
