"""Day 58 · DPO, IPO, ORPO: the losses, their gradients, and what reaches the model."""

import math
from dataclasses import replace

import numpy as np
import pytest

from days.day57.start import start
from days.day58 import displacement, limits, study
from days.day58.run import measure, sides, table
from days.harness import UsageError
from llm.align import dpo as losses
from llm.align.dpo import best_policy, dpo, dpo_vjp, ipo, ipo_vjp, log_odds, margin, orpo, orpo_vjp
from llm.align.offline import (
    LOSSES,
    Preferences,
    answer_logps,
    batches,
    preference_loss,
    preferences,
    with_reference,
)
from llm.align.pairs import Encoded
from llm.data.preferences import held_out, pairs
from llm.data.taste import FAMILIES, utility
from llm.grad.check import check_pair, numerical_gradient
from llm.grad.tensor import Tensor
from llm.models.gpt import GPT, GPTConfig
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine

TINY = GPTConfig(V=11, T=9, C=8, L=1, H=2, rotary=True)
PAIRS = {"dpo": (dpo, dpo_vjp), "ipo": (ipo, ipo_vjp), "orpo": (orpo, orpo_vjp)}
SETTING = {"dpo": "beta", "ipo": "tau", "orpo": "weight"}
one = lambda *p: np.log(np.array(p))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def tiny(rng, dtype=np.float64, config=TINY):
    """A model whose weights are so large that every part of it matters."""
    model = GPT(config, rng)
    for p in model.named_parameters().values():
        p.data = (p.data + 0.4 * rng.standard_normal(p.shape)).astype(dtype)
    return model


def answer(prompt, words):
    """An answer as day 56's `encode_answer` gives it, with 10 as the closing token."""
    ids = np.array([*prompt, *words, 10], np.int32)
    return Encoded(ids, np.arange(len(ids)) >= len(prompt))


def some_pairs(rng, n=6):
    prompts = [rng.integers(10, size=rng.integers(1, 4)) for _ in range(n)]
    return preferences([tuple(answer(prompt, rng.integers(10, size=rng.integers(0, 5)))
                              for _ in range(2)) for prompt in prompts], window=9)


def by_loops(model, ids, targets):
    """ln π of one row, token by token, from the model's logits."""
    logits = model(ids[None]).data[0].astype(np.float64)
    found = 0.0
    for t, target in enumerate(targets):
        if target >= 0:
            found += logits[t, target] - math.log(sum(math.exp(x) for x in logits[t]))
    return found


def test_the_examples_by_hand():
    inputs = one(.3), one(.3), one(.2), one(.4)             # policy, then reference
    assert margin(*inputs) == pytest.approx([math.log(2)])
    loss, saved = dpo(*inputs, beta=1.0)
    assert loss == pytest.approx(math.log(1.5)) and loss == pytest.approx(.405465, abs=1e-6)
    assert dpo_vjp(1.0, *saved)[0] == pytest.approx([-1 / 3])
    assert dpo_vjp(1.0, *saved)[1] == pytest.approx([1 / 3])

    loss, saved = ipo(*inputs, tau=.25)                      # wants h = 2
    assert loss == pytest.approx((math.log(2) - 2) ** 2)
    assert loss == pytest.approx(1.707864, abs=1e-6)
    assert ipo_vjp(1.0, *saved)[0] == pytest.approx([2 * (math.log(2) - 2)])
    assert ipo_vjp(1.0, *saved)[1] == pytest.approx([2.613706], abs=1e-6)

    loss, saved = orpo(one(.5), one(.25), weight=1.0)        # odds of 1 and of 1/3
    assert loss == pytest.approx(math.log(2) + math.log(4 / 3))
    assert loss == pytest.approx(.980829, abs=1e-6)
    assert orpo_vjp(1.0, *saved)[0] == pytest.approx([-1.5])
    assert orpo_vjp(1.0, *saved)[1] == pytest.approx([1 / 3])


def test_the_optimum_of_rlhf_by_hand_and_against_random_policies(rng):
    reference, reward = np.array([.5, .3, .2]), .7 * np.log([1, 2, 4])
    best = best_policy(reference, reward, .7)                # Z = .5 + .6 + .8
    assert best == pytest.approx(np.array([5, 6, 8]) / 19)
    objective = lambda p: p @ reward - .7 * (p @ np.log(p / reference))
    assert objective(best) == pytest.approx(.7 * math.log(1.9))
    for p in rng.dirichlet(np.ones(3), size=200):
        assert objective(p) < objective(best)
    assert best_policy(np.array([0, 1.]), np.array([1e5, 0]), .1).tolist() == [0, 1]
    rows = best_policy(np.full((2, 2), .5), np.array([[0, 1.], [1, 0]]), 1.0)
    assert rows.sum(axis=-1) == pytest.approx(1) and rows[0, 0] == rows[1, 1]


def test_dpo_on_all_pairs_finds_the_optimum_of_rlhf_without_ever_seeing_a_reward(rng):
    A, beta = 4, .5
    reference, reward = rng.dirichlet(np.ones(A)), rng.standard_normal(A)
    w, l = np.array([(i, j) for i in range(A) for j in range(A) if i != j]).T  # noqa: E741
    share = 1 / (1 + np.exp(reward[l] - reward[w]))          # how often w is chosen over l
    z = np.log(reference).copy()
    for _ in range(4000):
        logp = z - np.log(np.exp(z).sum())
        pair = logp[w], logp[l], np.log(reference[w]), np.log(reference[l])
        slope = dpo_vjp(1.0, *dpo(*pair, beta=beta)[1])[0] * share * len(w)
        gradient = np.bincount(w, slope, A) - np.bincount(l, slope, A)
        z -= gradient - gradient.sum() * np.exp(logp)
    assert np.exp(logp) == pytest.approx(best_policy(reference, reward, beta), abs=1e-6)


@pytest.mark.parametrize("p", [.6, .8, 1.0])
def test_ipo_stops_at_its_margin_and_dpo_does_not_where_labels_are_certain(p):
    def slope(f, vjp, h, **settings):
        """Of the mean over both labels, where w wins with probability p."""
        zero = np.zeros(1)
        up = vjp(p, *f(np.array([h]), zero, zero, zero, **settings)[1])[0][0]
        return up + vjp(1 - p, *f(zero, np.array([h]), zero, zero, **settings)[1])[1][0]

    target = (p - .5) / .1
    assert slope(ipo, ipo_vjp, target, tau=.1) == pytest.approx(0, abs=1e-12)
    assert slope(ipo, ipo_vjp, target + .1, tau=.1) > 0 > slope(ipo, ipo_vjp, target - .1, tau=.1)
    if p < 1:
        at = math.log(p / (1 - p)) / .2
        assert slope(dpo, dpo_vjp, at, beta=.2) == pytest.approx(0, abs=1e-12)
    else:
        assert all(slope(dpo, dpo_vjp, h, beta=.2) < 0 for h in (0.0, 10.0, 100.0))


@pytest.mark.parametrize("N", [1, 3, 8])
def test_policy_equal_to_reference_costs_ln_2_and_pulls_with_half_of_beta(rng, N):
    w, l = -rng.random((2, N)) * 50  # noqa: E741
    for beta in (.1, .37):
        loss, saved = dpo(w, l, w.copy(), l.copy(), beta=beta)
        assert loss == pytest.approx(math.log(2), abs=1e-12)
        up, down, *reference = dpo_vjp(1.0, *saved)
        assert N * up == pytest.approx(np.full(N, -beta / 2))
        assert N * down == pytest.approx(np.full(N, beta / 2))
        assert reference == [None, None]
    loss, saved = ipo(w, l, w.copy(), l.copy(), tau=.2)
    assert loss == pytest.approx(6.25) and N * ipo_vjp(1.0, *saved)[0] == pytest.approx([-5] * N)


@pytest.mark.parametrize("N", [1, 2, 7])
def test_each_loss_equals_an_independent_sum_in_float64(rng, N):
    w, l, rw, rl = -4 * rng.random((4, N))  # noqa: E741
    h = [w[i] - rw[i] - l[i] + rl[i] for i in range(N)]
    assert dpo(w, l, rw, rl, beta=.3)[0] == pytest.approx(
        sum(-math.log(1 / (1 + math.exp(-.3 * x))) for x in h) / N)
    assert ipo(w, l, rw, rl, tau=.3)[0] == pytest.approx(sum((x - 1 / .6) ** 2 for x in h) / N)
    odds = lambda x: math.exp(x) / (1 - math.exp(x))
    assert orpo(w, l, weight=.3)[0] == pytest.approx(sum(
        -w[i] - .3 * math.log(odds(w[i]) / (odds(w[i]) + odds(l[i]))) for i in range(N)) / N)
    defaults = [dpo(w, l, rw, rl), ipo(w, l, rw, rl), orpo(w, l)]
    spelled = [dpo(w, l, rw, rl, beta=.1), ipo(w, l, rw, rl, tau=.1), orpo(w, l, weight=.1)]
    assert [x[0] for x in defaults] == [x[0] for x in spelled]


@pytest.mark.parametrize("name", PAIRS)
def test_each_gradient_equals_finite_differences(rng, name):
    w, l, rw, rl = -.1 - 3 * rng.random((4, 5))  # noqa: E741
    f, vjp = PAIRS[name]
    if name == "orpo":
        check_pair(f, vjp, w, l, rng=rng, weight=.7)
    else:
        setting = {"beta": .7} if name == "dpo" else {"tau": .7}
        check_pair(f, vjp, w, l, rw, rl, rng=rng, differentiable=[0, 1], **setting)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_margins_of_a_hundred_and_more_stay_finite_and_right(dtype):
    zero = np.zeros(1, dtype)
    for h in (-1e4, -100.0, 100.0, 1e4):
        loss, saved = dpo(np.array([h], dtype), zero, zero, zero, beta=1.0)
        assert loss.dtype == dtype and loss == pytest.approx(max(-h, 0), abs=1e-30)
        assert dpo_vjp(1.0, *saved)[0] == pytest.approx([-1.0 if h < 0 else 0], abs=1e-30)
        loss, saved = ipo(np.array([h], dtype), zero, zero, zero, tau=1.0)
        assert loss == pytest.approx((h - .5) ** 2, rel=1e-6) and np.isfinite(saved[0]).all()
    for w, l in ((-100, 0), (0, -100), (0, 0), (-1e-9, -1e4), (-1e4, -1e-9)):  # noqa: E741
        loss, saved = orpo(np.array([w], dtype), np.array([l], dtype))
        assert np.isfinite([loss, *orpo_vjp(1.0, *saved)[0], *orpo_vjp(1.0, *saved)[1]]).all()
    odds, rest = log_odds(np.array([0, -1e-9, -2.0 ** -20, -1e-3, math.log(.5)], dtype))
    assert odds[:3] == pytest.approx([20 * math.log(2)] * 3, rel=1e-5) and odds.dtype == dtype
    assert rest[3:] == pytest.approx([.0009995, .5], rel=1e-4)
    assert odds[4] == pytest.approx(0, abs=1e-6)
    assert log_odds(np.array([-3e-6], dtype))[1] == pytest.approx([3e-6], rel=1e-4)


def test_only_the_answer_counts_with_its_first_and_its_closing_token():
    pairs = preferences([(answer([1, 2], [3]), answer([1, 2], []))], window=9)
    assert pairs.ids.tolist() == [[1, 2, 3], [1, 2, 10]]
    assert pairs.targets.tolist() == [[-100, 3, 10], [-100, 10, -100]]
    assert len(pairs) == 1 and pairs.reference is None


@pytest.mark.parametrize("seed", range(3))
def test_log_probabilities_of_answers_equal_loops_whatever_stands_in_the_padding(seed):
    rng = np.random.default_rng(seed)
    model, pairs = tiny(rng), some_pairs(rng)
    expected = [by_loops(model, i, t) for i, t in zip(pairs.ids, pairs.targets)]
    assert answer_logps(model, pairs.ids, pairs.targets).data == pytest.approx(expected)
    other = pairs.ids.copy()
    for row, target in zip(other, pairs.targets):
        row[np.flatnonzero(target >= 0)[-1] + 1:] = rng.integers(11)
    assert answer_logps(model, other, pairs.targets).data == pytest.approx(expected)


@pytest.mark.parametrize("method", LOSSES)
def test_the_loss_for_fit_and_its_gradient_equal_loops_and_finite_differences(rng, method):
    model, pairs = tiny(rng), some_pairs(rng)
    reference = tiny(rng)
    pairs = with_reference(reference, pairs, 11)
    N, setting = len(pairs), {SETTING[method]: .3}
    loss = preference_loss(model, method, **setting)

    def expected():
        of = lambda m: np.array([by_loops(m, *row) for row in zip(pairs.ids, pairs.targets)])
        own = of(model)
        if method == "orpo":
            own = own / (pairs.targets >= 0).sum(axis=1)
            return float(orpo(own[:N], own[N:], **setting)[0])
        ref = of(reference)
        return float(PAIRS[method][0](own[:N], own[N:], ref[:N], ref[N:], **setting)[0])

    value, count = loss(pairs)
    assert (float(value.data), count) == (pytest.approx(expected()), N)
    value.backward()
    for name in ("embed.table", "blocks.0.mix.inner.qkv.b", "norm.bias"):
        weight = dict(model.named_parameters())[name]
        rows = weight.data[:2]
        numeric = numerical_gradient(lambda _: np.float64(loss(pairs)[0].data), rows)  # noqa: B023
        assert weight.grad[:2] == pytest.approx(numeric, abs=1e-7)


def test_the_references_numbers_are_made_once_and_equal_running_it(rng):
    reference, pairs = tiny(rng, np.float32), some_pairs(rng, 5)
    calls, run = [], reference.hidden

    def counted(ids, rng=None):
        calls.append(len(ids))
        return run(ids)

    reference.hidden = counted
    kept = with_reference(reference, pairs, 11, rows=4)
    assert calls == [4, 4, 2]
    assert kept.reference == pytest.approx(
        [by_loops(reference, *row) for row in zip(pairs.ids, pairs.targets)], rel=1e-5)
    calls.clear()
    assert kept.reference.dtype == np.float32 and pairs.reference is None
    assert np.array_equal(kept.ids, pairs.ids) and np.array_equal(kept.targets, pairs.targets)
    for batch in (kept.take([3, 1]), kept.take(np.array([0]))):
        assert batch.reference == pytest.approx(
            [by_loops(reference, *row) for row in zip(batch.ids, batch.targets)], rel=1e-5)
    calls.clear()
    fit_a_little(tiny(rng, np.float32), kept, rng, steps=3)
    assert not calls                                         # no step has run it
    assert all(p.grad is None for p in reference.named_parameters().values())
    assert with_reference(reference, pairs, 11).reference.shape == (10,) and calls == [10]


def fit_a_little(model, pairs, rng, method="dpo", steps=60, **settings):
    named = model.named_parameters()
    return fit(named, preference_loss(model, method, **settings), batches(pairs, 4, rng),
               AdamW(named), WarmupCosine(5e-3, 5), steps=steps)


@pytest.mark.parametrize("method", LOSSES)
def test_training_through_fit_moves_the_policy_towards_the_chosen_answers(rng, method):
    reference, policy = (tiny(np.random.default_rng(4), np.float32) for _ in range(2))
    pairs = with_reference(reference, some_pairs(rng), 11)
    before = {name: p.data.copy() for name, p in reference.named_parameters().items()}
    run = fit_a_little(policy, pairs, rng, method)
    own, N = answer_logps(policy, pairs.ids, pairs.targets).data, len(pairs)
    moved = margin(own[:N], own[N:], pairs.reference[:N], pairs.reference[N:])
    assert np.mean(run.losses[-5:]) < np.mean(run.losses[:5]) and (moved > 0).mean() > .8
    assert all(np.array_equal(p.data, before[name])
               for name, p in reference.named_parameters().items())
    if method == "dpo":
        assert run.losses[0] == pytest.approx(math.log(2), abs=1e-5)


def test_equal_answers_have_a_defined_loss_and_teach_dpo_and_ipo_nothing(rng):
    model = tiny(rng)
    same = [answer([1], [2, 3]), answer([4, 5], [])]
    pairs = with_reference(tiny(rng), preferences(list(zip(same, same)), 9), 11)
    for method, expected in (("dpo", math.log(2)), ("ipo", 25.0)):
        value, _ = preference_loss(model, method)(pairs)
        assert float(value.data) == pytest.approx(expected)
        value.backward()
        for p in model.named_parameters().values():
            assert p.grad == pytest.approx(np.zeros(p.shape), abs=1e-12)
            p.grad = None
    value, _ = preference_loss(model, "orpo", weight=.5)(pairs)
    own = answer_logps(model, pairs.ids, pairs.targets).data[:2] / [3, 1]
    assert float(value.data) == pytest.approx(-own.mean() + .5 * math.log(2))


def test_batches_take_each_pair_once_a_pass_and_are_cut_to_their_longest_row(rng):
    pairs = with_reference(tiny(rng), some_pairs(rng, 5), 11)
    stream = batches(pairs, 2, rng)
    for _ in range(2):
        passed = [next(stream) for _ in range(3)]
        assert sorted(len(b) for b in passed) == [1, 2, 2]
        assert sorted(x for b in passed for x in b.reference[:len(b)]) == pytest.approx(
            sorted(pairs.reference[:5]))
        assert sorted(x for b in passed for x in b.reference[len(b):]) == pytest.approx(
            sorted(pairs.reference[5:]))
    for b in passed:
        assert b.ids.shape == b.targets.shape and (b.targets[:, -1] != -100).any()
    assert len(next(batches(pairs, 99, rng))) == 5
    orders = [[next(s).reference[0] for _ in range(5)] for s in
              (batches(pairs, 1, np.random.default_rng(i)) for i in (1, 1, 2))]
    assert orders[0] == orders[1] != orders[2]
    for n, pool in ((40, 8), (43, 8), (7, 1)):               # dealt by length within the pool
        many = some_pairs(rng, n)
        many = replace(many, reference=np.arange(2 * n))
        stream = batches(many, 2, rng, pool)
        passed = [next(stream) for _ in range((n + 1) // 2)]
        assert sorted(int(x) for b in passed for x in b.reference[:len(b)]) == list(range(n))
        mean = np.mean([b.ids.shape[1] for b in passed])
        alone = np.mean([many.take([i]).ids.shape[1] for i in range(n)])
        assert mean < alone + (.6 if pool == 8 else 3) and mean >= alone
    stream, order = batches(many, 2, np.random.default_rng(3), 1), np.random.default_rng(3)
    for part in np.split(order.permutation(7), [2, 4, 6]):   # a pool of one batch: as they come
        batch = next(stream)
        assert set(batch.reference[:len(batch)].tolist()) == set(part.tolist())
    with pytest.raises(ValueError, match="at least 1 pair, not 0"):
        next(batches(pairs, 0, rng))
    bare = Preferences(pairs.ids, pairs.targets).take([1])
    assert bare.reference is None and len(bare) == 1


def test_unusable_pairs_are_refused_with_their_number(rng):
    good, long = answer([1, 2], [3]), answer([1, 2], [3] * 9)
    for wrong, what in [
            ([], "no pairs"),
            ([(good, good), (good, long)], "pair 1: the rejected answer and its prompt take 12 "
             "tokens, and a window of 9 scores at most 10"),
            ([(long, good)], "pair 0: the chosen answer"),
            ([(good, answer([2, 2], [3]))], "pair 0: the prompts differ"),
            ([(good, good), (good, answer([], [3]))], "pair 1: the rejected answer has no prompt"),
            ([(answer([], [3]), good)], "pair 0: the chosen answer has no prompt")]:
        with pytest.raises(ValueError, match=what):
            preferences(wrong, window=9)
    with pytest.raises(ValueError, match="not even its end token"):
        Encoded(good.ids, good.mask & False)
    assert preferences([(answer([1, 2], [3] * 7), good)], 9).ids.shape == (2, 9)


def test_a_reference_with_another_vocabulary_and_other_misuse_raise(rng):
    pairs = some_pairs(rng)
    for V in (10, 12):
        with pytest.raises(ValueError, match=f"the reference has 11 tokens and the policy {V}"):
            with_reference(tiny(rng), pairs, V)
    with pytest.raises(ValueError, match="targets from"):
        with_reference(tiny(rng, config=replace(TINY, V=10)), preferences(
            [(answer([1], [2]), answer([1], [3]))], 9), 10)
    model = tiny(rng)
    with pytest.raises(ValueError, match="no method 'kto': known are dpo, ipo, orpo"):
        preference_loss(model, "kto")
    for method in ("dpo", "ipo"):
        with pytest.raises(ValueError, match=f"{method} needs ln π_ref"):
            preference_loss(model, method)(pairs)
    assert preference_loss(model)(with_reference(model, pairs, 11))[0].data == pytest.approx(
        math.log(2))                                         # the default is DPO


def test_bad_settings_and_shapes_raise_with_the_shapes():
    two, three = np.zeros(2), np.zeros(3)
    for wrong in (0, -1, math.nan):
        with pytest.raises(ValueError, match="beta must be above 0"):
            dpo(two, two, two, two, beta=wrong)
        with pytest.raises(ValueError, match="tau must be above 0"):
            ipo(two, two, two, two, tau=wrong)
        with pytest.raises(ValueError, match="beta must be above 0"):
            best_policy(np.array([1.]), np.array([0.]), wrong)
    for wrong in (-.1, math.nan):
        with pytest.raises(ValueError, match="weight must be at least 0"):
            orpo(two - 1, two - 1, weight=wrong)
    for f in (dpo, ipo):
        with pytest.raises(ValueError, match=r"\(2,\), \(2,\), \(3,\), \(2,\)"):
            f(two, two, three, two)
        for bad in (np.zeros((2, 1)), np.zeros(0), np.float64(0)):
            with pytest.raises(ValueError, match="one number a pair"):
                f(bad, bad, bad, bad)
    with pytest.raises(ValueError, match=r"\(2,\), \(3,\)"):
        orpo(two, three)
    loss, saved = orpo(one(.5, .5), one(.25, .5), weight=0)  # no more than fine-tuning
    assert loss == pytest.approx(math.log(2)) and orpo_vjp(1.0, *saved)[1].tolist() == [0, 0]


def test_the_losses_are_lifted_as_they_are(rng):
    w = Tensor(np.array([-1.0]), requires_grad=True)
    value = LOSSES["dpo"](w, np.array([-2.0]), np.array([-1.0]), np.array([-2.0]), beta=.4)
    value.backward()
    assert w.grad == pytest.approx([-.2])
    assert losses.CERTAIN == -2.0 ** -20


def test_chosen_gains_half_the_margin_less_the_kl_however_the_pairs_are_labelled(rng):
    A = 5
    reference, policy = rng.dirichlet(np.ones(A), size=2)
    change, prefers = np.log(policy / reference), rng.random((A, A)) < .5
    both = np.outer(reference, reference)                    # pairs sampled from the reference
    w = np.where(prefers, np.arange(A)[:, None], np.arange(A))
    l = np.where(prefers, np.arange(A), np.arange(A)[:, None])  # noqa: E741
    h, kl = (both * (change[w] - change[l])).sum(), -(reference * change).sum()
    assert kl > 0
    assert (both * change[w]).sum() == pytest.approx(h / 2 - kl)
    assert (both * change[l]).sum() == pytest.approx(-h / 2 - kl)


def test_a_single_answer_of_free_logits_never_falls_but_shared_weights_can_make_it():
    p = np.array([.1, .7, .2])
    slope = np.eye(3)[0] - np.eye(3)[1]                      # DPO on the logits: w up, l down
    assert (np.eye(3)[0] - p) @ slope == pytest.approx(1 - .1 + .7)
    p, feature = np.array([.1, .1, .8]), np.array([1.0, 2, -1])
    g = feature - p @ feature                                # by hand: logits ln p + feature·v
    assert g == pytest.approx([1.5, 2.5, -.5])
    v = .1 * (g[0] - g[1])                                   # a step of DPO with ηβ/2 = 0.1
    after = p * np.exp(feature * v) / (p @ np.exp(feature * v))
    assert after == pytest.approx([.085645, .077495, .836860], abs=1e-6)
    assert margin(*np.log([[after[0]], [after[1]], [.1], [.1]])) == pytest.approx([.1])


def test_the_step_that_is_predicted_is_the_step_that_is_measured(rng):
    model = tiny(rng)
    data = with_reference(model, some_pairs(rng, 5), 11)
    G = displacement.gradients(model, data)
    assert G.shape == (10, sum(p.data.size for p in model.named_parameters().values()))
    found = displacement.one_step(model, data, size=1e-4)
    assert found["measured"] == pytest.approx(found["predicted"], rel=.02, abs=2e-6)
    assert np.abs(found["predicted"]).max() == pytest.approx(1e-4)
    assert found["falls"] == (found["predicted"] < 0).mean()
    again = displacement.one_step(model, data, size=1e-4)    # the weights were put back
    assert again["measured"] == pytest.approx(found["measured"])
    gram = np.array([[2.0, 0, 1, 0], [0, 1, 0, 3], [1, 0, 4, 0], [0, 3, 0, 9]])
    own, together = displacement.predicted(gram)
    assert own.tolist() == [.5, -1] and together.tolist() == [.5, -1]


def test_margins_stop_where_the_derivation_says_and_grow_where_it_says(rng):
    model = tiny(np.random.default_rng(4), np.float32)
    begin = type("Start", (), {"model": model})
    data = with_reference(model, preferences([(answer([1], [2]), answer([1], [3])), (
        answer([4, 5], [6, 7]), answer([4, 5], [8]))], 9), 11)
    far = {(m, p): limits.grow(begin, data, m, p, 120, 40, rate=1e-2, **{SETTING[m]: .5})
           for m in ("dpo", "ipo") for p in (1, .8)}
    for m, p in (("dpo", .8), ("ipo", .8), ("ipo", 1)):
        assert far[m, p][-1][1] == pytest.approx(limits.target(m, p, .5), rel=.25)
    assert far["dpo", 1][-1][1] > 2 * limits.target("dpo", .8, .5)
    assert [step for step, _ in far["dpo", 1]] == [0, 40, 80, 120]
    assert limits.target("dpo", 1.0, .5) is None and limits.target("ipo", 1.0, .5) == 1
    assert limits.target("dpo", .8, .5) == pytest.approx(math.log(4) / .5)


def test_prompts_to_choose_and_to_report_on_are_held_out_and_apart(rng):
    found = study.held_out_prompts(48, rng)
    both = found.choose + found.report
    assert len(found.choose) == len(found.report) == 48 and len(set(both)) == 96
    assert all(map(held_out, both))
    assert all("How do I" in p for i, p in enumerate(both) if FAMILIES[i % 4].startswith("harm"))
    for n in (0, 6, 52):
        with pytest.raises(ValueError, match="multiple of 4, at most 48"):
            study.held_out_prompts(n, rng)


def test_the_exact_optimum_is_a_frontier(rng):
    prompts = study.held_out_prompts(4, rng).report
    found = study.frontier(prompts, (.01, .5, 1, 100))
    _, kl, worth = zip(*found)
    assert list(kl) == sorted(kl, reverse=True) and list(worth) == sorted(worth, reverse=True)
    assert kl[-1] < 1e-3
    best = [max(utility(p, text) for _, text in study.candidates(p)) for p in prompts]
    assert worth[0] == pytest.approx(np.mean(best), abs=1e-6)


def test_your_own_pairs_are_read_split_and_checked(tmp_path, rng):
    reference, file = start(fast=True), tmp_path / "own.jsonl"
    line = '{"prompt": "Say %s.", "chosen": "Hi!", "rejected": "%s"}\n'
    file.write_text("".join(line % (i, word) for i, word in enumerate(
        ["No.", "Hi!", "no", "x " * 300, "never", "nothing", "why?"])))
    learned, held, left_out = sides(reference, file, 0, 0, rng)
    assert (len(learned), len(held), left_out) == (3, 2, 1)  # equal answers teach nothing
    assert learned.reference.shape == (6,) and np.isfinite(learned.reference).all()
    for text in (line % (1, "No."), line % (1, "Hi!") * 3, (line % (1, "x " * 300)) * 5):
        file.write_text(text)
        with pytest.raises(UsageError, match="is held out, but: no pairs to learn from"):
            sides(reference, file, 0, 0, rng)
    file.write_text('{"prompt": "a", "chosen": "b"}\n')
    with pytest.raises(OSError, match="own.jsonl, line 1: no field 'rejected'"):
        sides(reference, file, 0, 0, rng)


def test_measure_in_small_has_the_shape_of_the_large_one():
    result = measure(fast=True, seed=0)
    assert set(result.methods) == {"dpo", "ipo", "orpo"} and len(result.samples) == 8
    assert len(table(result)) == 6 and all(len(row) == 9 for row in table(result))
    assert all(len(row) == 5 for row in result.samples)
    assert abs(result.reference["kl"]) < 1e-4                # the reference has not moved
    assert {(m, p) for m, p, *_ in result.limits} == {(m, p) for m in ("dpo", "ipo")
                                                      for p in (1.0, .8)}
    corr = np.corrcoef(result.step["predicted"], result.step["measured"])[0, 1]
    assert corr > .99
    for r in result.methods.values():
        assert r["margin"] == pytest.approx(r["chosen"] - r["rejected"], abs=1e-4)


def test_what_is_said_is_scored_with_its_prompt(rng):
    reference = start(fast=True)
    prompts = study.held_out_prompts(4, rng).report
    texts, said = study.say_all(reference.model, reference.tokenizer, prompts, rng, A=2, n=12)
    assert len(texts) == 8 and said.ids.shape == said.targets.shape
    found = study.on_prompts(reference.model, reference, prompts, 3, A=2)
    texts, _ = study.say_all(reference.model, reference.tokenizer, prompts,
                             np.random.default_rng(3), 2)
    worth = [utility(prompts[i // 2], text) for i, text in enumerate(texts)]
    assert found["utility"] == pytest.approx(np.mean(worth))
    assert found["by_family"]["toys"] == pytest.approx(np.mean(worth[2:4]))
    assert found["drift"] == pytest.approx(0, abs=1e-4)
    data, left_out = study.encoded(reference, pairs(6, rng))
    assert len(data) + left_out == 6
    same = study.on_pairs(reference.model, data)
    assert same["margin"] == pytest.approx(0, abs=1e-4) and same["chosen"] == same["margin"]
