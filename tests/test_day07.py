"""Day 07 · softmax, entropy, cross-entropy, perplexity, and stories of known entropy."""

import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest

from days.day07.controls import sources
from days.day07.run import measure
from llm.data.grammar import Grammar
from llm.data.stories import COLOURS, GRAMMAR, HELPERS, HEROES, HOMES, RULES, TOYS, stories
from llm.functions.estimates import conditional_entropies
from llm.functions.probability import (
    bits_per_character,
    cross_entropy,
    entropy,
    kl,
    log_softmax,
    logsumexp,
    perplexity,
    softmax,
)

BIT = math.log(2)
HALVES = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 8])  # the distribution of the hand example
PETS = {"Pet": [(2, "Ann has a <Kind>", {"who": "Ann"}), (1, "Bo has a <Kind>", {"who": "Bo"})],
        "Kind": [(1, "cat, a <size> one. {who} naps."), (1, "dog. {who} runs.")],
        "size": [(1, "big"), (3, "small")]}


def derivations(grammar, node):
    """All (text, probability) below a node, by brute force over its choices."""
    if isinstance(node, str):
        return [(node, 1.0)]
    found = []
    for p, pieces in grammar.expand(node)[1]:
        for row in itertools.product(*(derivations(grammar, piece) for piece in pieces)):
            found.append(("".join(text for text, _ in row), p * math.prod(q for _, q in row)))
    return found


def refuse(message, call, *args):
    with pytest.raises(ValueError, match=message):
        call(*args)


# the hand example

def test_hand_example_in_bits():
    logits = np.log(HALVES) + 5                                    # a shift changes nothing
    assert softmax(logits) == pytest.approx(HALVES, abs=1e-15)
    assert entropy(HALVES) / BIT == pytest.approx(1.75)
    each = cross_entropy(np.tile(logits, (4, 1)), [0, 1, 2, 3])
    assert each / BIT == pytest.approx((1 + 2 + 3 + 3) / 4)
    assert kl(HALVES, np.full(4, 1 / 4)) / BIT == pytest.approx(0.25)
    assert kl(np.full(4, 1 / 4), HALVES) / BIT == pytest.approx(0.25)
    assert perplexity(2.25 * BIT * 4, 4) == pytest.approx(2**2.25)
    assert bits_per_character(9 * BIT, 12) == pytest.approx(0.75)


def test_softmax_of_thousands_is_a_half_each():
    assert softmax([1000, 1000]).tolist() == [0.5, 0.5]
    assert softmax(np.float32([-1000, -1000])).tolist() == [0.5, 0.5]
    assert softmax(np.float32([3e38, 3e38, -3e38 / 2])).tolist() == [0.5, 0.5, 0]


def test_uniform_cross_entropy_of_50257_tokens():
    assert cross_entropy(np.zeros((2, 50257)), [0, 50256]) == pytest.approx(10.824905, abs=1e-6)


def test_pets_by_hand():
    grammar = Grammar(PETS, "Pet")
    h = math.log(3) - 2 / 3 * math.log(2) + BIT + (math.log(4) - 3 / 4 * math.log(3)) / 2
    assert grammar.entropy() == pytest.approx(h)
    p = math.exp(grammar.log_probability("Bo has a cat, a small one. Bo naps."))
    assert p == pytest.approx(1 / 3 * 1 / 2 * 3 / 4)
    assert grammar.log_probability("Bo has a cat, a small one. Ann naps.") == -math.inf
    assert grammar.log_probability("Bo has a dog. Bo runs.x") == -math.inf      # a text and more


# invariants

@pytest.mark.parametrize("shape, axis", [((7,), 0), ((3, 5), -1), ((3, 5), 0), ((2, 1, 4), 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_is_a_distribution_of_the_same_dtype(shape, axis, dtype):
    z = (np.random.default_rng(1).normal(size=shape) * 50).astype(dtype)
    p = softmax(z, axis)
    assert p.dtype == dtype and p.shape == shape
    assert log_softmax(z, axis).dtype == logsumexp(z, axis).dtype == entropy(p, axis).dtype == dtype
    assert kl(p, p, axis).dtype == dtype
    assert p.min() >= 0 and p.sum(axis=axis) == pytest.approx(1, abs=1e-6)
    assert softmax(z + dtype(8), axis) == pytest.approx(p, abs=1e-4)
    assert np.exp(log_softmax(z, axis)) == pytest.approx(p, abs=1e-5)


def test_integers_become_float32_and_scalars_keep_the_dtype_of_the_logits():
    assert softmax([1, 2]).dtype == np.float32
    for dtype in (np.float32, np.float64):
        assert cross_entropy(np.zeros((2, 3), dtype), [0, -100]).dtype == dtype
        assert cross_entropy(np.zeros((2, 3), dtype), [-100, -100]).dtype == dtype


def test_gibbs_kl_is_never_negative_and_zero_only_at_equality():
    rng = np.random.default_rng(2)
    p, q = rng.dirichlet(np.ones(6), size=(2, 500))
    assert (kl(p, q) > 0).all() and kl(p, p) == pytest.approx(0, abs=1e-15)
    cross = np.array([cross_entropy(np.log(q[i])[None].repeat(6, 0), np.arange(6)) for i in (0, 1)])
    assert cross == pytest.approx(-np.log(q[:2]).mean(axis=1))
    assert -(p * np.log(q)).sum(axis=1) == pytest.approx(entropy(p) + kl(p, q))
    assert (entropy(p) <= math.log(6)).all()


def test_kl_is_infinite_where_the_belief_rules_out_what_happens():
    assert kl([0.5, 0.5, 0], [0.5, 0, 0.5]) == math.inf
    assert kl([1.0, 0, 0], [0.5, 0, 0.5]) == pytest.approx(BIT)


# independent oracles

def test_log_softmax_against_exact_sums():
    z = np.random.default_rng(3).normal(size=(20, 30)) * 20
    log_z = [math.log(math.fsum(math.exp(x) for x in row)) for row in z.tolist()]
    assert logsumexp(z) == pytest.approx(log_z)
    assert log_softmax(z) == pytest.approx(z - np.array(log_z)[:, None])
    assert logsumexp(z, axis=0).shape == (30,)


def test_log_softmax_survives_where_log_of_softmax_does_not():
    assert log_softmax(np.float32([0, -200])).tolist() == [0, -200]


def test_cross_entropy_against_a_loop():
    rng = np.random.default_rng(4)
    logits, targets = rng.normal(size=(2, 5, 7)), rng.integers(0, 7, (2, 5))
    targets[0, 2] = targets[1, 0] = -100
    nll = [math.log(sum(math.exp(z) for z in row)) - row[t]
           for row, t in zip(logits.reshape(-1, 7).tolist(), targets.ravel()) if t != -100]
    assert len(nll) == 8
    assert cross_entropy(logits, targets) == pytest.approx(sum(nll) / 8)


def test_conditional_entropies_against_counting_strings():
    text = stories(2, np.random.default_rng(5))
    ids = np.frombuffer(text.encode(), np.uint8)
    got, lonely = conditional_entropies(ids, 5)
    for k in range(5):
        runs = Counter(text[i:i + k + 1] for i in range(len(text) - k))
        contexts = Counter(text[i:i + k] for i in range(len(text) - k))
        n = len(text) - k
        want = -sum(c / n * math.log(c / contexts[run[:-1]]) for run, c in runs.items())
        assert got[k] == pytest.approx(want)
        assert lonely[k] == pytest.approx(sum(c == 1 for c in contexts.values()) / n)


def test_conditional_entropy_tells_apart_pairs_of_the_smallest_and_the_largest_id():
    ids = np.random.default_rng(7).integers(0, 3, 300)
    pairs = Counter(itertools.pairwise(ids.tolist()))
    firsts = Counter(ids[:-1].tolist())
    want = -sum(n / 299 * math.log(n / firsts[a]) for (a, _), n in pairs.items())
    assert conditional_entropies(ids, 2)[0][1] == pytest.approx(want)


def test_grammar_against_enumeration():
    memory = {"hero": HEROES[7], "home": HOMES[1], "colour": COLOURS[0], "toy": TOYS[2],
              "helper": HELPERS["hole"][3]}
    for grammar, node in [(Grammar(PETS), ("Pet", ())),
                          (Grammar(RULES), ("Fetch", tuple(memory.items())))]:
        grammar.start = node
        found = derivations(grammar, node)
        assert len({text for text, _ in found}) == len(found) > 5        # one derivation a text
        assert sum(p for _, p in found) == pytest.approx(1)
        assert grammar.entropy() == pytest.approx(-sum(p * math.log(p) for _, p in found))
        assert grammar.expected_length() == pytest.approx(sum(p * len(t) for t, p in found))
        assert all(grammar.log_probability(t) == pytest.approx(math.log(p)) for t, p in found)


def test_monte_carlo_entropy_meets_the_exact_one():
    rng = np.random.default_rng(6)
    drawn = [GRAMMAR.sample(rng) for _ in range(4000)]
    for values, exact in [([h for _, h in drawn], GRAMMAR.entropy()),
                          ([len(text) for text, _ in drawn], GRAMMAR.expected_length())]:
        standard_error = np.std(values, ddof=1) / math.sqrt(len(values))
        assert abs(np.mean(values) - exact) < 4 * standard_error < 0.02 * exact
    assert all(GRAMMAR.log_probability(text) == pytest.approx(-h) for text, h in drawn[:200])
    ratio = GRAMMAR.entropy_per_character() * GRAMMAR.expected_length()
    assert ratio == pytest.approx(GRAMMAR.entropy())


# edges

def test_perplexity_is_of_the_sum_not_a_mean_of_batches():
    total = cross_entropy(np.zeros((1, 2)), [0]) * 1 + cross_entropy(np.zeros((3, 32)), [0] * 3) * 3
    assert perplexity(total, 4) == pytest.approx(16)     # (2 · 32³)^(1/4); the mean is 17
    assert perplexity(1e6, 1) == math.inf and perplexity(0, 3) == 1
    assert perplexity(709, 1) == math.exp(709) and math.isnan(perplexity(math.nan, 3))
    refuse("at least one token", perplexity, 0.0, 0)
    refuse("at least one character", bits_per_character, 0.0, 0)


def test_ignored_targets_do_not_count():
    logits = np.random.default_rng(8).normal(size=(4, 3)).astype(np.float32)
    some = cross_entropy(logits, [-100, 2, -100, 0])
    assert some == pytest.approx(cross_entropy(logits[[1, 3]], [2, 0]))
    assert cross_entropy(logits, [-100] * 4) == 0
    assert cross_entropy(np.zeros((0, 3), np.float32), np.zeros(0, int)) == 0
    assert cross_entropy(logits, [9, 2, 9, 0], ignore=9) == some
    logits[0] = -np.inf                                   # a padded row may be anything
    assert cross_entropy(logits, [-100, 2, -100, 0]) == some


def test_minus_infinity_is_a_mask():
    z = np.float32([0, -np.inf, 0])
    assert softmax(z).tolist() == [0.5, 0, 0.5]
    assert log_softmax(z)[1] == -np.inf and logsumexp(z) == pytest.approx(BIT)
    assert cross_entropy(z[None], [1]) == np.inf          # the impossible happened
    assert logsumexp([-np.inf, -np.inf]) == -np.inf       # log 0
    assert logsumexp(np.float32([[0, 0], [-np.inf] * 2])).tolist() == pytest.approx([BIT, -np.inf])


def test_a_row_without_a_softmax_is_refused_and_nan_stays_nan():
    for f in (softmax, log_softmax):
        refuse(r"\(2, 2\) is all -inf", f, [[0.0, 1], [-np.inf, -np.inf]])
        refuse(r"\+inf", f, [np.inf, 0.0])
        refuse(r"\(3, 0\) have no entries", f, np.zeros((3, 0)))
        refuse(r"\(\) have no entries", f, 1.0)
        assert np.isnan(f([np.nan, 0.0])).all()
        assert f(np.zeros((0, 3))).shape == (0, 3)
        assert f([7.0]).shape == (1,)
    refuse(r"\+inf", logsumexp, [np.inf, 0.0])


def test_wrong_targets_and_distributions_are_refused():
    refuse(r"\(2, 3\) need targets of shape \(2,\), not \(3,\)",
           cross_entropy, np.zeros((2, 3)), [0, 1, 2])
    refuse("from 0 to 3 don't fit a vocabulary of 3", cross_entropy, np.zeros((2, 3)), [0, 3])
    refuse("from -1 to 0", cross_entropy, np.zeros((2, 3)), [-1, 0])
    refuse("must be integers", cross_entropy, np.zeros((1, 3)), [0.5])
    refuse("call softmax first", entropy, [1.0, 2.0])
    refuse("sum 1", entropy, [0.5, 0.45])
    assert entropy(np.float32([0.5, 0.4999])) == pytest.approx(BIT, abs=1e-3)    # rounding may pass
    refuse("sum 1", kl, [1.5, -0.5], [0.5, 0.5])
    refuse(r"\(2,\) and \(3,\)", kl, [0.5, 0.5], [0.5, 0.25, 0.25])
    refuse(r"\(0,\) have no entries", entropy, [])


def test_conditional_entropies_of_a_loop_and_of_too_little():
    got, lonely = conditional_entropies([0, 1] * 50, 3)
    assert got == pytest.approx([BIT, 0, 0], abs=1e-12) and lonely.tolist() == [0, 0, 0]
    for ids, orders in (([], 1), ([1, 2], 3), ([[1, 2]], 1), ([1, 2], 0)):
        refuse(r"ids of shape", conditional_entropies, ids, orders)
    refuse("integers from 0 on, not int64 from -1 on", conditional_entropies, [0, -1, 2], 2)
    refuse("integers from 0 on, not float64", conditional_entropies, [0.5, 1.5], 1)
    huge = conditional_entropies([2**62, 0, 2**61, 2**62, 1, 2**61], 2)[0]     # products overflow
    assert huge == pytest.approx(conditional_entropies([3, 0, 2, 3, 1, 2], 2)[0])


@pytest.mark.parametrize("rules, message", [
    ({"Story": [(1, "a"), (1, "ab")]}, "'ab' starts with 'a'"),
    ({"Story": [(1, "a"), (2, "a")]}, "ambiguous"),
    ({"Story": [(1, "a"), (1, "<b> c")], "b": [(1, "d")]}, "must begin with literal"),
    ({"Story": [(1, "a <Story>"), (1, "b")]}, "not be recursive|contains itself"),
    ({"Story": [(1, "<b>")]}, "no rule for <b>"),
    ({"Story": [(1, "a"), (0, "b")]}, "positive weights"),
    ({"Story": [(1, "a {toy}")]}, "'a {toy}' repeats 'toy', which no rule above it remembers"),
    ({"Story": []}, "at least one rule")])
def test_grammars_that_could_mislead_are_refused(rules, message):
    refuse(message, Grammar(rules).entropy)


def test_stories_remember():
    for seed in range(50):
        story, _ = GRAMMAR.sample(np.random.default_rng(seed))
        hero = next(h for h in HEROES if f" {h.kind} named {h.name}." in story)
        colour, toy = next((c, t) for c in COLOURS for t in TOYS if f"{c} {t.word}." in story)
        assert story.count(hero.name) > 1 and story.count(toy.word) > 1 and story[-1] == "\n"
        assert not any(other.name in story for other in HEROES if other != hero)
        assert not any(re.search(rf"{c} {t.word}\b", story) for c in COLOURS for t in TOYS
                       if (c, t.word) != (colour, toy.word))
        assert sum(f" {helper.a} named {helper.name} " in story
                   for helper in HELPERS[toy.trap]) == 1


def test_the_exact_entropy_and_length_of_a_story_are_those_of_the_note():
    assert GRAMMAR.entropy() == pytest.approx(39.92340777157, abs=1e-9)     # each weight counts
    assert GRAMMAR.expected_length() == pytest.approx(595.1513888889, abs=1e-9)


def test_who_helps_and_where_one_lives_is_first_unknown_and_then_known():
    for home in HOMES:
        assert re.sub("^an? ", "the ", home.a) == home.the
    for helper in itertools.chain.from_iterable(HELPERS.values()):
        article, noun = helper.a.split(" ", 1)
        assert article == ("an" if noun[0] in "aeiou" else "a") and helper.the == f"the {noun}"
        assert helper.She in ("She", "He") and helper.name.istitle()
    assert [(hero.She, hero.she, hero.her) for hero in HEROES] == (
        [("She", "she", "her")] * 5 + [("He", "he", "his")] * 5)


def test_the_sources_of_a_plug_in_estimate_sum_to_it():
    text = ("HAMLET.\nTo be.\n\nHAMLET.\nOr not.\n" + 9 * " " + "Ay.\n" + 7 * " " + "No.\n"
            + "to sleep, to dream, to sleep no more")
    for k in (2, 4, 8):
        ids = np.frombuffer(text.encode(), np.uint8)
        indent, speaker, rest = sources(text, k)
        bits = conditional_entropies(ids, k + 1)[0][k] / BIT
        assert indent + speaker + rest == pytest.approx(bits)
        assert indent > 0 and (speaker > 0) == (k > 3)


def test_stories_are_lines_and_repeat_with_the_seed():
    text = stories(5, np.random.default_rng(1))
    assert text.count("\n") == 5 and text.isascii()
    assert text == stories(5, np.random.default_rng(1))
    assert text != stories(5, np.random.default_rng(2))
    assert stories(0, np.random.default_rng(1)) == ""
    refuse("0 or more", stories, -1, np.random.default_rng(1))


def test_headline_counting_flatters_itself_and_the_exact_entropy_is_met():
    result = measure(fast=True, seed=0)
    assert result.ceiling == pytest.approx(math.log2(result.vocabulary))
    assert result.bits[0][10] < result.bits[2][10] / 2
    assert result.bits[2][0] < result.ceiling
    for bits in result.story_bits:
        assert bits[10] > result.story_bpc > bits[60]
    assert all(abs(off) < 4 for *_, off in result.sampled)
    assert result.stability[-1][1] == 0 and all(row[2] == 1 for row in result.stability)
    assert max(row[3] for row in result.stability) < 1e-6
    assert [sum(row) for row in result.repeats] == pytest.approx([b for _, b in result.tenths])
