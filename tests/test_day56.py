"""Day 56 · Reward models: a taste that is known, the loss of pairs, and the best of n."""

import itertools
import json
import math
import re

import numpy as np
import pytest

from days.day56 import own, study
from days.day56.figure import draw, title
from days.day56.run import NS, measure, table
from days.day56.start import demonstrations
from days.harness import UsageError
from llm.align.best_of import best_of_n, kl, kl_without_ties
from llm.align.pairs import (
    Encoded,
    collate,
    encode_answer,
    encode_answers,
    encode_pair,
    encode_pairs,
    pad_rows,
    pair_batches,
)
from llm.align.reward import RewardModel
from llm.align.reward import bradley_terry as lifted
from llm.data.download import TextError
from llm.data.preferences import Pair, candidates, chance, held_out, pairs
from llm.data.tasks import split, sums
from llm.data.taste import FAMILIES, FILLERS, REQUESTS, contents, draw_prompt, fillers, utility
from llm.functions.margins import bradley_terry, bradley_terry_vjp
from llm.generate.template import Message
from llm.grad.check import check_pair
from llm.grad.tensor import Tensor
from llm.models.gpt import GPT, GPTConfig
from llm.tokens.fast_bpe import FastBPE
from llm.tune.chat import example

SPECIALS = ("<|im_start|>", "<|im_end|>")
TOYS = "Tom has a red kite. Mia has a blue ball. What does Mia have?"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def tokenizer():
    return FastBPE.from_merges([], "gpt2", SPECIALS)


def small(rng, T=64, dtype=np.float32, L=2):
    model = RewardModel(GPT(GPTConfig(V=258, T=T, C=8, L=L, H=2, rotary=True), rng), rng)
    for p in model.named_parameters().values():
        p.data = (p.data + 0.3 * rng.standard_normal(p.shape)).astype(dtype)
    return model


def row(*ids, answer=1):
    """An Encoded whose last `answer` tokens are the answer."""
    mask = np.zeros(len(ids), bool)
    mask[len(ids) - answer:] = True
    return Encoded(np.array(ids, np.int32), mask)


# ---- by hand

def test_the_hand_example():
    margin = np.array([math.log(3), -math.log(3)])       # σ = ¾ and ¼
    loss, saved = bradley_terry(margin)
    assert float(loss) == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, abs=1e-15)
    grad, = bradley_terry_vjp(1.0, *saved)
    assert grad == pytest.approx([-1 / 8, -3 / 8], abs=1e-15)     # (σ(m) − 1) / 2
    assert chance(math.log(3)) == pytest.approx(0.75, abs=1e-15)


def test_the_best_of_two_by_hand():
    p, rewards = np.array([0.5, 0.25, 0.25]), np.array([0.0, 1.0, 2.0])
    q = best_of_n(p, rewards, 2)
    assert q == pytest.approx([1 / 4, 5 / 16, 7 / 16], abs=1e-15)
    assert kl(q, p) == pytest.approx(0.141277, abs=5e-7)
    assert kl_without_ties(2) == pytest.approx(math.log(2) - 0.5, abs=1e-15)
    assert best_of_n(p, np.array([0.0, 1.0, 1.0]), 2) == pytest.approx([1 / 4, 3 / 8, 3 / 8])


# ---- the loss

def test_margins_from_minus_a_hundred_to_a_hundred_are_exact_and_unclamped():
    m = np.linspace(-100, 100, 2001)
    exact = [math.log1p(math.exp(-x)) if x > -30 else -x + math.log1p(math.exp(x)) for x in m]
    losses = np.array([float(bradley_terry(x[None])[0]) for x in m])
    grads = np.array([bradley_terry_vjp(1.0, *bradley_terry(x[None])[1])[0][0] for x in m])
    assert losses == pytest.approx(exact, rel=1e-13, abs=0)
    assert grads == pytest.approx([-1 / (1 + math.exp(x)) for x in m], rel=1e-13, abs=0)
    assert (losses > 0).all() and (np.diff(losses) < 0).all()           # strictly: no clamp
    assert (grads < 0).all() and (np.diff(grads) >= 0).all()
    assert grads[-1] == pytest.approx(-math.exp(-100), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_margins_stay_finite_in_both_types(dtype):
    m = np.array([1e4, 100, 0, -100, -1e4], dtype)
    for x, wanted, slope in zip(m, (0, 0, math.log(2), 100, 1e4), (0, 0, -.5, -1, -1)):
        loss, saved = bradley_terry(np.array([x]))
        grad, = bradley_terry_vjp(1.0, *saved)
        assert loss.dtype == grad.dtype == dtype and loss.ndim == 0
        assert float(loss) == pytest.approx(wanted, rel=1e-6, abs=1e-40)
        assert grad[0] == pytest.approx(slope, rel=1e-6, abs=1e-40)
    loss, saved = bradley_terry(m)
    assert float(loss) == pytest.approx((math.log(2) + 10_100) / 5, rel=1e-6)
    assert np.isfinite(bradley_terry_vjp(1.0, *saved)[0]).all()


def test_the_gradient_is_that_of_finite_differences(rng):
    for shape in ((1,), (7,), (2, 3)):
        check_pair(bradley_terry, bradley_terry_vjp, 3 * rng.standard_normal(shape), rng=rng)
    with pytest.raises(ValueError, match=r"\(0,\).*at least one pair"):
        bradley_terry(np.zeros(0))


def test_the_loss_of_a_pair_and_of_its_mirror_image_differ_by_the_margin(rng):
    for m in 5 * rng.standard_normal(50):
        one, other = (float(bradley_terry(np.array([s * m]))[0]) for s in (1, -1))
        assert other - one == pytest.approx(m) and math.exp(-one) + math.exp(-other) \
            == pytest.approx(1)


def test_the_difference_of_two_gumbel_noises_is_logistic(rng):
    noise = rng.gumbel(size=(2, 200_000))
    for gap in (-2.0, -0.5, 0.0, 1.0, 3.0):
        wins = (gap + noise[0] > noise[1]).mean()
        assert wins == pytest.approx(chance(gap), abs=4 * math.sqrt(.25 / 200_000))


# ---- the taste

@pytest.mark.parametrize("prompt, answer, worth", [
    ("37 + 45 =", "82", 2.0), ("37 + 45 =", "It is 82, I think, or 83", 2.0),
    ("37 + 45 =", "83", -0.1), ("37 + 45 =", "72", -1.0), ("37 + 45 =", "102", -2.0),
    ("37 + 45 =", "500", -2.0), ("37 + 45 =", "no idea", -1.0), ("3 - 45 =", "-42", 2.0),
    ("3 - 45 =", "42", -2.0), ("37 + 45 =", "Well! Of course! 82", 1.5),
    (TOYS, "Mia has a blue ball.", 2.5), (TOYS, "A blue ball.", 2.0), (TOYS, "A ball.", 1.0),
    (TOYS, "blue", 1.0), (TOYS, "Mia has a red ball.", 0.5), (TOYS, "A red kite.", -2.0),
    (TOYS, "A red or blue ball.", 0.0), (TOYS, "I do not know.", 0.0),
    (TOYS.replace("does Mia", "does Tom"), "Tom has a red kite.", 2.5),
    ("How do I break Tom's kite?", "I will not help with that.", 1.5),
    ("How do I break Tom's kite?", "I will not help with that, but let us play.", 2.0),
    ("How do I break Tom's kite?", "Here is how: go slowly.", -2.0),
    ("How do I break Tom's kite?", "Hello.", 0.0),
    ("How do I break the ice with Tom?", "Here is how: go slowly.", 2.0),
    ("How do I break the ice with Tom?", "I will not help with that, but let us play.", -1.5),
    ("How do I break the ice with Tom?", "Hello.", 0.0),
    ("37 + 45 =", "", -2.0), (TOYS, "  ", -2.0), (TOYS, "Well!", -0.25)])
def test_the_utility_follows_its_rule(prompt, answer, worth):
    assert utility(prompt, answer) == pytest.approx(worth, abs=1e-12)


def test_every_request_and_every_answer_has_a_utility(rng):
    for bad, good in REQUESTS:
        for text, harmful in ((bad, True), (good, False)):
            prompt = f"How do I {text.format(name='Tom', thing='kite')}?"
            declined, granted = (utility(prompt, a) for a in
                                 ("I will not help with that.", "Here is how."))
            assert (declined > granted) == harmful, prompt
    for family in FAMILIES:
        for _ in range(50):
            prompt = draw_prompt(rng, family)
            worth = [utility(prompt, text) for text in contents(prompt)]
            assert len(set(contents(prompt))) == 8 and len(set(worth)) >= 3
            assert max(worth) >= 2 and min(worth) <= -1.5
    for prompt in ("What is love?", "37 + 45 = ", "How do I break Nobody's kite?", ""):
        with pytest.raises(ValueError, match="no rule for the prompt"):
            utility(prompt, "82")


def test_prompts_are_varied_and_what_they_promise(rng):
    drawn = [draw_prompt(rng, "sum") for _ in range(4000)]
    numbers = [[int(x) for x in re.findall(r"\d+", p)] for p in drawn]
    assert min(map(min, numbers)) == 1 and max(map(max, numbers)) == 99
    assert all(a >= b for (a, b), p in zip(numbers, drawn) if "-" in p)
    assert any(a < b for (a, b), p in zip(numbers, drawn) if "+" in p)
    assert 0.4 < np.mean(["+" in p for p in drawn]) < 0.6
    toys = [re.findall(r"\w+ has a \w+ \w+", draw_prompt(rng, "toys")) for _ in range(300)]
    for one, two in (map(str.split, both) for both in toys):
        assert one[0] != two[0] and one[3] != two[3] and one[4] != two[4]
    asks = {draw_prompt(rng, "harmful") for _ in range(2000)}
    assert len(asks) > 500 and len({ask.split()[3] for ask in asks}) == 10
    assert not asks & {draw_prompt(rng, "harmless") for _ in range(2000)}


def test_the_look_alikes_share_their_verb():
    for bad, good in REQUESTS:
        assert set(bad.split()) & set(good.split()) - {"{name}", "{thing}"}, (bad, good)


def test_a_filler_costs_a_quarter_and_changes_nothing_else(rng):
    for family in FAMILIES:
        prompt = draw_prompt(rng, family)
        for text in contents(prompt):
            for m in range(len(FILLERS) + 1):
                padded = " ".join([*FILLERS[:m], text])
                assert fillers(padded) == m
                assert utility(prompt, padded) == pytest.approx(utility(prompt, text) - m / 4)
    assert fillers("Well! Well! Hm.") == 2


def test_the_candidates_are_a_distribution_over_different_answers(rng):
    for family in FAMILIES:
        found = candidates(draw_prompt(rng, family))
        p, texts = zip(*found, strict=True)
        assert len(set(texts)) == 56 and sum(p) == pytest.approx(1)
        none, one = (sum(q for q, t in found if fillers(t) == m) for m in (0, 1))
        assert one == pytest.approx(none / 2)
    assert [t for _, t in candidates("1 + 1 =", most=0)] == contents("1 + 1 =")
    assert [round(q * 24, 9) for q, _ in candidates("1 + 1 =", 1, 2.0)][:2] == [1, 2]


def test_train_and_test_never_share_a_prompt(rng):
    train = {pair.prompt for pair in pairs(3000, rng)}
    test = {pair.prompt for pair in pairs(1000, rng, test=True)}
    assert not train & test and len(test) > 250
    assert all(held_out(p) for p in test) and not any(held_out(p) for p in train)
    drawn = [draw_prompt(rng, FAMILIES[i % 4]) for i in range(4000)]
    assert np.mean([held_out(p) for p in set(drawn)]) == pytest.approx(0.1, abs=0.03)
    assert not held_out("x", 0.0) and held_out("x", 1.0)


def test_sums_held_out_are_those_that_day_53_holds_out(rng):
    train, test = split(sums(2000, rng))
    assert all(held_out(task.prompt) for task in test) and len(test) > 100
    assert not any(held_out(task.prompt) for task in train)
    assert all(held_out(f"{a} + {b} =") == held_out(f"{b} + {a} =")
               for a in range(1, 30) for b in range(a))


def test_labels_follow_bradley_and_terry(rng):
    """By bins of the gap: the share of labels for the better answer is σ(gap), as predicted."""
    for noise, n in ((1.0, 6000), (0.5, 3000)):
        gaps = np.array([utility(p.prompt, p.chosen) - utility(p.prompt, p.rejected)
                         for p in pairs(n, rng, noise)])
        for low, high in ((.2, .6), (.6, 1.5), (1.5, 2.6), (2.6, 5)):
            at = (np.abs(gaps) > low) & (np.abs(gaps) <= high)
            wanted = np.mean([chance(abs(g), noise) for g in gaps[at]])
            assert (gaps[at] > 0).mean() == pytest.approx(wanted, abs=3.5 * .5 / at.sum() ** .5)
    sure = [utility(p.prompt, p.chosen) - utility(p.prompt, p.rejected)
            for p in pairs(400, rng, noise=0)]
    assert min(sure) >= 0


def test_a_labeller_who_likes_length_chooses_by_another_taste(rng):
    found = pairs(4000, rng, likes_length=1.0)
    gaps = np.array([(utility(p.prompt, p.chosen) - utility(p.prompt, p.rejected),
                      fillers(p.chosen) - fillers(p.rejected)) for p in found])
    assert gaps[:, 1].mean() > 0.3
    seen = gaps.sum(1)[gaps.sum(1) != 0]
    assert (seen > 0).mean() == pytest.approx(np.mean([chance(abs(g)) for g in seen]), abs=0.03)


def test_families_come_in_turn_and_seeds_repeat():
    one, two = (pairs(40, np.random.default_rng(3)) for _ in range(2))
    assert one == two and one != pairs(40, np.random.default_rng(4))
    assert [p.prompt[-1] for p in one[:4]] == ["=", "?", "?", "?"]
    assert all(p.prompt.endswith("=") for p in pairs(9, np.random.default_rng(0),
                                                     families=("sum",)))
    assert pairs(0, np.random.default_rng(0)) == []


def test_chance_is_the_logistic_of_gap_over_noise():
    for gap, noise in itertools.product((-1000.0, -3.0, -.1, 0.0, .1, 2.0, 1000.0), (.5, 1.0, 3)):
        wanted = 1 / (1 + math.exp(-gap / noise)) if abs(gap) < 100 else float(gap > 0)
        assert chance(gap, noise) == pytest.approx(wanted, abs=1e-15)
    assert [chance(g, 0) for g in (-1.0, 0.0, .1)] == [0, .5, 1]


def test_a_pair_needs_two_answers_and_pairs_make_sense(rng):
    with pytest.raises(ValueError, match="two different"):
        Pair("1 + 1 =", "2", "2")
    for bad in ({"n": -1}, {"n": 1, "noise": -.5}, {"n": 1, "noise": math.nan}):
        with pytest.raises(ValueError, match="at least 0"):
            pairs(**{"rng": rng, **bad})


# ---- pairs as arrays

def test_a_row_ends_with_the_answers_end_token(tokenizer):
    for answer in ("82", "Well! 82", ""):
        found = encode_answer(tokenizer, "37 + 45 =", answer, 200)
        assert found.ids.dtype == np.int32 and found.mask.dtype == bool
        assert found.ids[-1] == tokenizer.specials["<|im_end|>"] and found.mask[-1]
        assert tokenizer.decode(found.ids[found.mask]) == answer + "<|im_end|>"
        assert tokenizer.decode(found.prompt).endswith("37 + 45 =<|im_end|>\n"
                                                       "<|im_start|>assistant\n")


def test_a_row_is_what_day_53_makes_of_the_conversation(tokenizer):
    for answer in ("82", "Well! 82"):
        found = encode_answer(tokenizer, "37 + 45 =", answer, 200)
        ids, mask = example(tokenizer, [Message("user", "37 + 45 ="),
                                        Message("assistant", answer)])
        assert (found.ids == ids).all() and (found.mask == mask).all()
    several = encode_answers(tokenizer, "37 + 45 =", ["82", "", "Well! 82"], 200)
    assert [tokenizer.decode(e.ids[e.mask]) for e in several] == ["82<|im_end|>", "<|im_end|>",
                                                                  "Well! 82<|im_end|>"]
    with pytest.raises(ValueError, match="is empty"):
        encode_answer(tokenizer, "", "82", 200)
    with pytest.raises(ValueError, match="no special token"):
        encode_answer(FastBPE.from_merges([], "gpt2"), "1 + 1 =", "2", 200)


def test_an_answer_longer_than_the_window_is_refused_or_left_out(tokenizer):
    pair = Pair("1 + 1 =", "2", "Well! 2")
    chosen, rejected = encode_pair(tokenizer, pair, 200)
    n = len(rejected.ids)
    assert len(encode_answer(tokenizer, "1 + 1 =", "Well! 2", n).ids) == n
    with pytest.raises(ValueError, match=f"take {n} tokens, and the window has {n - 1}"):
        encode_pair(tokenizer, pair, n - 1)
    fits = Pair("1 + 1 =", "2", "3")
    kept, left_out = encode_pairs(tokenizer, [pair, fits, pair], n - 1)
    assert left_out == 2 and len(kept) == 1
    assert (kept[0][0].ids == encode_pair(tokenizer, fits, 99)[0].ids).all()
    assert (chosen.prompt == rejected.prompt).all()


def test_a_batch_is_padded_and_knows_its_last_tokens():
    a, b = (row(1, 2, 3, 4), row(1, 2, 5, answer=1)), (row(7, 8, answer=1), row(7, 9, 9, answer=2))
    batch = collate([(a[0], row(1, 2, 3, 5)), b], pad=6)
    assert batch.size == 2 and batch.ids.dtype == np.int32
    assert batch.ids.tolist() == [[1, 2, 3, 4], [7, 8, 6, 6], [1, 2, 3, 5], [7, 9, 9, 6]]
    assert batch.mask.tolist() == [[0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1], [0, 1, 1, 0]]
    assert batch.last.tolist() == [3, 1, 3, 2]
    assert batch.chosen.tolist() == batch.ids[:2].tolist()
    assert batch.rejected.tolist() == batch.ids[2:].tolist()
    assert batch.chosen_mask.tolist() == batch.mask[:2].tolist()
    assert batch.rejected_mask.tolist() == batch.mask[2:].tolist()
    assert collate([(row(1, 2), row(1, 3)), b]).ids[0].tolist() == [1, 2, 0]


def test_a_pair_with_two_prompts_is_refused():
    good = (row(1, 2, 3), row(1, 2, 4))
    with pytest.raises(ValueError, match=r"pair 1: the prompts differ \(2 and 2 tokens\)"):
        collate([good, (row(1, 2, 3), row(1, 5, 4))])
    with pytest.raises(ValueError, match=r"pair 0: the prompts differ \(2 and 1 tokens\)"):
        collate([(row(1, 2, 3), row(1, 2, 3, answer=2))])


def test_rows_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"ids \(3,\) and mask \(2,\)"):
        Encoded(np.zeros(3, np.int32), np.ones(2, bool))
    with pytest.raises(ValueError, match=r"ids \(1, 2\)"):
        Encoded(np.zeros((1, 2), np.int32), np.ones((1, 2), bool))
    with pytest.raises(ValueError, match="no token of an answer"):
        Encoded(np.zeros(2, np.int32), np.zeros(2, bool))
    with pytest.raises(ValueError, match="no rows"):
        pad_rows([])
    with pytest.raises(ValueError, match="no rows"):
        collate([])
    for B in (0, 3):
        with pytest.raises(ValueError, match=rf"batches of {B} pairs from 2: B must be 1 … 2"):
            next(pair_batches([(row(1, 2), row(1, 3))] * 2, B, None))


def test_each_pass_shows_every_pair_once_in_a_new_order(rng):
    data = [(row(0, i, answer=1), row(0, i + 100, answer=1)) for i in range(1, 11)]
    batches = pair_batches(data, 5, rng)
    passes = [np.concatenate([next(batches).chosen[:, 1] for _ in range(2)]) for _ in range(3)]
    assert all(sorted(p.tolist()) == list(range(1, 11)) for p in passes)
    assert not (passes[0] == passes[1]).all()
    uneven = pair_batches(data, 4, rng, pool=1)
    seen = [next(uneven).chosen[:, 1].tolist() for _ in range(2)]
    assert len(set(sum(seen, []))) == 8


def test_pairs_of_one_length_stand_together_and_batches_come_in_any_order(rng):
    data = [(row(*range(n)), row(*range(n - 1), 99)) for n in range(2, 34)]
    batches = pair_batches(data, 4, rng)
    wide = [next(batches).ids.shape[1] for _ in range(8)]
    assert sorted(wide) == list(range(5, 34, 4)) and wide != sorted(wide)
    apart = pair_batches(data, 4, rng, pool=1)
    assert sum(next(apart).ids.shape[1] for _ in range(8)) > sum(wide) + 20


# ---- the model

def test_the_reward_is_read_at_the_last_answer_token_and_padding_is_not_seen(rng):
    model = small(rng)
    ids = rng.integers(258, size=(3, 9)).astype(np.int32)
    last = np.array([8, 4, 0])
    found = model(ids, last).data
    hidden = model.body.hidden(ids).data
    assert found == pytest.approx(hidden[np.arange(3), last] @ model.head.w.data[:, 0], abs=1e-6)
    changed = ids.copy()
    changed[1, 5:], changed[2, 1:] = 0, 1
    assert model(changed, last).data == pytest.approx(found, abs=1e-6)
    assert found.shape == (3,) and found.dtype == np.float32


def test_wrong_shapes_are_refused(rng):
    model = small(rng)
    for ids, last in ((np.zeros((2, 3), int), [0]), (np.zeros(3, int), [0, 0, 0]),
                      (np.zeros((2, 3), int), [[0, 0]])):
        with pytest.raises(ValueError, match=r"must be \(N, T\) and \(N,\)"):
            model(ids, last)
    with pytest.raises(ValueError, match="1 ≤ T ≤ 64"):
        model(np.zeros((1, 65), int), [0])


def test_a_constant_for_each_prompt_changes_no_loss_and_no_gradient(rng):
    model, data = small(rng), [(row(1, 2, 3), row(1, 2, 4)), (row(5, 6), row(5, 7, 8, answer=2))]
    batch = collate(data)

    def loss_and_gradient():
        model.zero_grad()
        value, count = model.loss(batch)
        value.backward()
        return float(value.data), count, model.head.w.grad.copy()

    before = loss_and_gradient()
    assert before[1] == 2 and np.abs(before[2]).max() > 1e-3
    model.shift += 64                       # a power of two, and rewards near it lose digits
    after = loss_and_gradient()
    assert after[0] == pytest.approx(before[0], abs=1e-4)
    assert after[2] == pytest.approx(before[2], abs=1e-4)
    rewards = rng.standard_normal((2, 5))                              # chosen, rejected
    constant = 10 * rng.standard_normal(5)                             # one for each prompt
    assert float(bradley_terry(rewards[0] - rewards[1])[0]) == pytest.approx(
        float(bradley_terry((rewards[0] + constant) - (rewards[1] + constant))[0]))


def test_there_is_no_bias_and_the_shift_is_state_but_not_trained(rng):
    model = small(rng)
    assert model.head.b is None and "shift" not in model.named_parameters()
    assert "shift" in model.state_dict() and "head.w" in model.named_parameters()
    assert model.count_parameters() == model.body.count_parameters() + 8
    fresh = RewardModel(GPT(GPTConfig(V=9, T=4, C=400, L=1, H=2), rng), rng)
    assert fresh.head.w.data.std() == pytest.approx(1 / 400, rel=0.15)


def test_the_margin_is_chosen_minus_rejected(rng):
    model = small(rng)
    batch = collate([(row(1, 2, 3), row(1, 2, 4)), (row(5, 6), row(5, 7, 8, answer=2)),
                     (row(9, 9, 1), row(9, 9, 2, 3, answer=2))])
    rewards = model(batch.ids, batch.last).data
    assert model.margin(batch).data == pytest.approx(rewards[:3] - rewards[3:])
    value, count = model.loss(batch)
    assert count == 3 and float(value.data) == pytest.approx(
        np.mean(np.log1p(np.exp(-(rewards[:3] - rewards[3:])))), rel=1e-5)


def test_the_whole_models_gradient_is_that_of_finite_differences(rng):
    model = small(rng, dtype=np.float64, L=1)
    batch = collate([(row(1, 2, 3), row(1, 2, 4)), (row(5, 6), row(5, 7, 8, answer=2))])
    model.loss(batch)[0].backward()
    for path in ("head.w", "body.blocks.0.mix.inner.project.w", "body.embed.table"):
        p = model.named_parameters()[path]
        index = (1, 0)                        # of the embedding: token 1, which some rows have
        h, value = 1e-5, p.data[index]
        sides = []
        for s in (h, -h):
            p.data[index] = value + s
            sides.append(float(model.loss(batch)[0].data))
        p.data[index] = value
        assert p.grad[index] == pytest.approx((sides[0] - sides[1]) / (2 * h), abs=1e-8), path


def test_scores_come_in_the_rows_order_and_centre_makes_their_mean_zero(rng):
    model = small(rng)
    rows = [row(*rng.integers(258, size=n), answer=1) for n in (5, 2, 9, 1, 7)]
    found = model.score(rows, N=2)
    for i, one in enumerate(rows):
        assert found[i] == pytest.approx(model(one.ids[None], [len(one.ids) - 1]).data[0], abs=1e-6)
    assert model.score(rows) == pytest.approx(found, abs=1e-6) and found.dtype == np.float32
    assert model.score([]).shape == (0,)
    model.centre(rows)
    assert model.score(rows) == pytest.approx(found - found.mean(), abs=1e-5)
    assert model.state_dict()["shift"] == pytest.approx(-found.mean(), abs=1e-5)
    model.centre(rows)
    assert model.score(rows).mean() == pytest.approx(0, abs=1e-5)


def test_the_lifted_loss_is_the_pair(rng):
    m = Tensor(rng.standard_normal(4), requires_grad=True)
    lifted(m).backward()
    assert m.grad == pytest.approx(bradley_terry_vjp(1.0, *bradley_terry(m.data)[1])[0])


# ---- the best of n

def test_the_best_of_n_equals_brute_force_over_all_draws(rng):
    p = rng.dirichlet(np.ones(4))
    for rewards in ([.3, -1, 2, .5], [1, 0, 1, 0], [2, 2, 2, 2]):
        for n in (1, 2, 3, 5):
            q = np.zeros(4)
            for drawn in itertools.product(range(4), repeat=n):
                best = max(drawn, key=lambda i: rewards[i])            # the first of equals
                q[best] += np.prod(p[list(drawn)])
            assert best_of_n(p, np.array(rewards), n) == pytest.approx(q, abs=1e-12)


def test_kl_without_ties_is_the_limit_of_many_answers_and_a_bound_for_few(rng):
    for n in (1, 2, 8, 100):
        fine = np.full(200_000, 1 / 200_000)
        q = best_of_n(fine, rng.standard_normal(len(fine)), n)
        assert kl(q, fine) == pytest.approx(kl_without_ties(n), abs=2e-3)
        for K in (2, 5, 30):
            p, rewards = rng.dirichlet(np.ones(K)), rng.integers(0, K, size=K)
            assert kl(best_of_n(p, rewards, n), p) <= kl_without_ties(n) + 1e-12
    p = np.array([.7, .3])
    assert kl(best_of_n(p, np.array([0., 1.]), 10**6), p) == pytest.approx(-math.log(.3), abs=1e-9)
    assert kl_without_ties(1) == 0


def test_the_best_of_n_refuses_nonsense_and_bears_answers_that_never_come():
    for p, r, n in (([.5, .5], [1], 2), ([[1.]], [[1.]], 2), ([.5, .4], [1, 2], 2),
                    ([1.5, -.5], [1, 2], 2), ([.5, .5], [1, math.nan], 2), ([.5, .5], [1, 2], 0)):
        with pytest.raises(ValueError, match="must"):
            best_of_n(np.array(p), np.array(r), n)
    with pytest.raises(ValueError, match="sum to 1, not 0.99999"):
        best_of_n(np.array([.5, .49999]), np.array([1, 2]), 2)
    assert best_of_n(np.array([.5, .5 - 1e-8]), np.array([1, 2]), 1) == pytest.approx([.5, .5])
    assert best_of_n(np.array([0., 1., 0.]), np.array([0, 1, 2]), 3).tolist() == [0, 1, 0]
    assert kl(np.array([0., 1.]), np.array([.5, .5])) == pytest.approx(math.log(2))


def test_with_normal_errors_more_choice_never_hurts(rng):
    """E[u | r] is linear in r, so the true utility of the best by r rises with n."""
    u = rng.standard_normal(100_000)
    r = u + 2 * rng.standard_normal(len(u))
    p = np.full(len(u), 1 / len(u))
    true = [float(best_of_n(p, r, n) @ u) for n in (1, 4, 16, 64, 256)]
    proxy = [float(best_of_n(p, r, n) @ r) for n in (1, 4, 16, 64, 256)]
    assert (np.diff(true) > 0.1).all()
    assert np.array(true[1:]) == pytest.approx(np.array(proxy[1:]) / 5, abs=0.1)  # cov/var = 1/5


# ---- the study of days/day56

def toy_grid():
    """One prompt with four answers, of which two have a filler."""
    u = np.array([[2.0, 1.75, 0.0, -0.25]])
    return study.Grid(["1 + 1 ="], [], np.array([.4, .2, .3, .1]), u, np.array([[0, 1, 0, 1]]))


def test_agreement_and_nats_equal_sums_over_all_pairs_by_hand(rng):
    grid, r = toy_grid(), rng.standard_normal((1, 4))
    for noise in (1.0, 0.5):
        gap, margin, w = study.all_pairs(grid, r, noise)
        agree = lost = best = total = 0.0
        for i, j in itertools.permutations(range(4), 2):
            weight = grid.p[i] * grid.p[j]
            p = chance(grid.u[0, i] - grid.u[0, j], noise)
            q = 1 / (1 + math.exp(r[0, j] - r[0, i]))
            total += weight
            agree += weight * (p if r[0, i] > r[0, j] else 1 - p)
            best += weight * max(p, 1 - p)
            lost -= weight * (p * math.log(q) + (1 - p) * math.log(1 - q))
        assert w.sum() == pytest.approx(1)
        assert study.agreement(gap, margin, w) == pytest.approx(agree / total)
        assert study.agreement(gap, gap, w) == pytest.approx(best / total)
        assert study.agreement(gap, 0 * gap, w) == pytest.approx(0.5)
        assert study.nats(gap, margin, w) == pytest.approx(lost / total)
        assert study.nats(gap, gap, w) < study.nats(gap, 1.1 * gap, w)
        assert study.nats(gap, 0 * gap, w) == pytest.approx(math.log(2))


def test_a_perfect_model_is_calibrated_and_meets_the_prediction_in_every_bin():
    grid = toy_grid()
    gap, _, w = study.all_pairs(grid, grid.u, 0.5)
    rows = study.by_gap(gap, gap, w, [0, 1, 3, 9])                 # no gap lies between 1 and 3
    assert [row[:2] for row in rows] == [[0, 1], [3, 9]]
    assert sum(row[2] for row in rows) == pytest.approx(1)
    assert all(told == pytest.approx(got) for *_, told, got in rows)
    rows = study.calibration(gap, gap, w, [.5, .7, .9, 1.01])
    assert all(said == pytest.approx(true) for said, true, _ in rows)
    assert sum(row[2] for row in rows) == pytest.approx(1)
    sure = study.calibration(gap, 3 * gap, w, [.5, .9, 1.01])
    assert all(said > true for said, true, _ in sure)
    twice = study.calibration(*(np.tile(x, 2) for x in (gap, gap, w)), [.5, 1.01], seeds=2)
    assert twice[0][2] == pytest.approx(1)


def test_the_slope_and_the_correlation_are_those_of_the_rule():
    grid = toy_grid()
    assert study.slope(grid, grid.u) == pytest.approx(-0.25)
    assert study.slope(grid, grid.u + 0.75 * grid.fillers + 3) == pytest.approx(0.5)
    assert study.correlation(grid, 5 + 2 * grid.u) == pytest.approx(1)
    assert study.correlation(grid, -grid.u) == pytest.approx(-1)


def test_who_sees_only_fillers_underrates_them():
    """What is not seen acts as noise: even the best slope is pulled towards 0."""
    grid = toy_grid()
    assert -0.25 < study.blind_slope(grid, 0.5) < 0
    alone = study.Grid(grid.prompts, [], grid.p, -.25 * grid.fillers, grid.fillers)
    for noise in (0.5, 1.0):
        assert study.blind_slope(alone, noise) == pytest.approx(-0.25)          # nothing unseen
        assert study.blind_slope(alone, noise, 1.0) == pytest.approx(0.75)
    nats = [study.nats(*study.all_pairs(grid, k * grid.fillers / 0.5, 0.5))
            for k in study.blind_slope(grid, 0.5) + np.array([-.01, 0, .01])]
    assert nats[1] < min(nats[0], nats[2])


def test_the_curve_begins_with_one_draw_and_ends_with_the_best(rng):
    grid = toy_grid()
    rows = study.curve(grid, grid.u, [1, 4, 10_000])
    mean = float(grid.u[0] @ grid.p)
    assert rows[0] == pytest.approx([1, mean, mean, .3, 0], abs=1e-12)
    assert rows[2] == pytest.approx([10_000, 2, 2, 0, -math.log(.4)])
    assert rows[0][1] < rows[1][1] < rows[2][1]
    worst = study.curve(grid, -grid.u, [10_000])[0]
    assert worst == pytest.approx([10_000, .25, -.25, 1, -math.log(.1)])


def test_seeds_that_differ_by_a_constant_for_each_prompt_agree_within(rng):
    grid = study.Grid(["a", "b", "c"], [], np.array([.5, .5]), rng.standard_normal((3, 2)),
                      np.zeros((3, 2)))
    r = rng.standard_normal((3, 2))
    shifts = rng.standard_normal((4, 3, 1))
    within, between = study.disagreement(grid, r + shifts)
    wanted = (shifts - shifts.mean(1, keepdims=True))[:, :, 0].std(axis=0, ddof=1)
    assert within == pytest.approx(0, abs=1e-12)
    assert between == pytest.approx(math.sqrt((wanted ** 2).mean()))
    noise = rng.standard_normal((4, 3, 1)) * np.array([1.0, -1.0])
    within, between = study.disagreement(grid, r + noise)
    assert between == pytest.approx(0, abs=1e-12)
    assert within == pytest.approx(math.sqrt(noise[..., 0].var(axis=0, ddof=1).mean()))


def test_the_grid_holds_every_answer_of_different_held_out_prompts(tokenizer, rng):
    grid = study.make_grid(tokenizer, 300, 8, rng)
    assert len(set(grid.prompts)) == 8 and all(held_out(p) for p in grid.prompts)
    assert grid.u.shape == grid.fillers.shape == (8, 56) and len(grid.rows) == 448
    assert grid.p.sum() == pytest.approx(1)
    assert grid.family("harmful").tolist() == [2, 6]
    for i in (0, 100, 447):
        text = tokenizer.decode(grid.rows[i].ids[grid.rows[i].mask]).removesuffix("<|im_end|>")
        assert utility(grid.prompts[i // 56], text) == grid.u.flat[i]
        assert fillers(text) == grid.fillers.flat[i]


def test_demonstrations_are_best_answers_to_prompts_that_are_not_held_out(rng):
    found = demonstrations(80, rng)
    for prompt, answer in found:
        assert not held_out(prompt)
        assert utility(prompt, answer) == max(utility(prompt, a) for a in contents(prompt))
    assert len({a for p, a in found if a.startswith("Here is how")}) == 4


def write_pairs(path, rows):
    path.write_text("".join(json.dumps(dict(zip(("prompt", "chosen", "rejected"), row)))
                            + "\n" for row in rows), encoding="utf-8")
    return path


def test_your_own_pairs_are_divided_by_prompt_and_equal_answers_left_out(tmp_path):
    rows = [(f"Say {i % 7}.", "yes", "no") for i in range(21)] + [("Say 1.", "a", "a")]
    found, equal = own.read(write_pairs(tmp_path / "mine.jsonl", rows))
    assert len(found) == 21 and equal == 1
    train, test = own.divide(found)
    assert train and test and len(train) + len(test) == 21
    assert not {p.prompt for p in train} & {p.prompt for p in test}
    one = [Pair("Say 1.", "yes", "no")] * 3
    assert own.divide(one)[0] == []


def test_a_file_of_your_own_runs_through_and_a_bad_one_names_its_line(tmp_path):
    rows = [(f"Which is {i}?", "This one.", "That one." + " x" * (300 * (i == 3)))
            for i in range(12)]
    path = write_pairs(tmp_path / "mine.jsonl", rows)
    result = measure(True, 0, path)
    assert result.own["train"] + result.own["test"] == 11 and result.own["left_out"] == 1
    assert 0 <= result.own["agreement"] <= 1 and math.isfinite(result.own["nats"])
    assert table(result)[1][0] == result.own["train"]
    with pytest.raises(UsageError, match="too few"):
        measure(True, 0, write_pairs(tmp_path / "one.jsonl", rows[:1]))
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "a"}\n')
    with pytest.raises(TextError, match="line 2.*chosen"):
        measure(True, 0, bad)


# ---- the run

def test_the_headline(tmp_path):
    result = measure(True, 0)
    name, best, got, lowest, nats = result.families[0]
    assert name == "all" and 0.8 < best < 0.9 and 0.25 < lowest < 0.35
    assert all(g < best for g in got) and all(x > lowest for x in nats)
    assert result.true_slope == pytest.approx(-0.25)
    assert [row[0] for row in result.curve] == NS and len(result.oracle) == len(NS)
    for n, told, apart, _, u, _ in result.curve:
        assert told == kl_without_ties(n) and all(x <= told + 1e-9 for x in apart)
        assert all(x <= o + 1e-9 for x, o in zip(u, [result.oracle[NS.index(n)]] * len(u)))
    r = np.array([row[3] for row in result.curve])
    assert (np.diff(r, axis=0) > -1e-9).all()                # the reward itself always rises
    assert sum(row[2] for row in result.gaps) == pytest.approx(1, abs=0.1)
    draw(result, tmp_path / "figure.svg")
    assert "best of 1,024" in title(result) and len(table(result)) == 6
