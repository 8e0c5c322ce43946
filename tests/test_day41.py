"""Day 41 · Filters, penalties, beams, and output that cannot leave a pattern."""

import itertools
import json
import math
import re

import numpy as np
import pytest

from days.day41.run import measure
from days.day41.shaped import fits
from days.day41.writing import cut_pieces, distinct, running, surprisals, words, write
from llm.functions.probability import log_softmax
from llm.generate.automaton import STATES, compile_pattern
from llm.generate.beam import Hypothesis, beam_search
from llm.generate.constrain import Constraint, TokenTable
from llm.generate.pattern import PatternError
from llm.generate.penalties import Bias, Penalty
from llm.generate.sample import tempered
from llm.generate.shape import anything, json_pattern
from llm.generate.truncate import Chooser, min_p, top_k, top_p, typical
from llm.models.gpt import GPT, GPTConfig

BYTES = [bytes([b]) for b in range(256)]
FILTERS = [(top_k, 3), (top_p, 0.7), (min_p, 0.2), (typical, 0.7)]


def kept(filtered):
    return np.flatnonzero(np.isfinite(filtered)).tolist()


def logs(*p):
    return np.log(np.array(p))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# By hand

def test_the_example_by_hand_top_p_keeps_the_smallest_set_that_reaches_p():
    for dtype in (np.float32, np.float64):
        z = logs(0.5, 0.3, 0.15, 0.05).astype(dtype)
        assert kept(top_p(z, 0.8)) == [0, 1] and kept(top_p(z, 0.81)) == [0, 1, 2]
        assert kept(top_p(z, 0.5)) == [0] and kept(top_p(z, 0.51)) == [0, 1]
        assert kept(top_p(z, 0.95)) == [0, 1, 2] and kept(top_p(z, 0.951)) == [0, 1, 2, 3]
        assert kept(top_k(z, 2)) == [0, 1]
        assert kept(min_p(z, 0.3)) == [0, 1, 2] and kept(min_p(z, 0.31)) == [0, 1]
        assert kept(min_p(z, 0.1)) == [0, 1, 2, 3]


def test_the_example_by_hand_typical_leaves_the_likeliest_out():
    z = logs(0.5, 0.25, 0.125, 0.125)          # surprisals 1, 2, 3, 3 bits; entropy 1.75
    assert kept(typical(z, 0.25)) == [1]       # distances .75, .25, 1.25, 1.25
    assert kept(typical(z, 0.26)) == kept(typical(z, 0.75)) == [0, 1]
    assert kept(typical(z, 0.76)) == [0, 1, 2]


def test_the_example_by_hand_the_order_of_temperature_and_filter():
    z = logs(0.5, 0.3, 0.15, 0.05)
    assert kept(top_p(z, 0.8)) == [0, 1] and kept(top_p(z / 2, 0.8)) == [0, 1, 2]
    assert tempered(z, 2) == pytest.approx([0.379, 0.294, 0.208, 0.120], abs=5e-4)
    assert kept(Chooser(None, 2.0, top_p=0.8).filtered(z, [])) == [0, 1, 2]      # heat comes first
    assert kept(min_p(z, 0.3)) == [0, 1, 2] and kept(min_p(z / 2, 0.3)) == [0, 1, 2, 3]


def test_the_example_by_hand_penalties():
    z = np.array([2.0, -1.0, 1.0, 0.0])
    assert Penalty(repetition=2)(z, [0, 1, 1]).tolist() == [1, -2, 1, 0]
    assert Penalty(frequency=0.5)(z, [0, 1, 1]).tolist() == [1.5, -2, 1, 0]
    assert Penalty(presence=0.5)(z, [0, 1, 1]).tolist() == [1.5, -1.5, 1, 0]
    assert Penalty(2, 0.5, 0.25)(z, [0, 1, 1]).tolist() == [0.25, -3.25, 1, 0]
    assert Bias({2: 1.5, 0: -math.inf})(z, []).tolist() == [-math.inf, -1, 2.5, 0]


A, B_, STOP = 0, 1, 2
TINY = {(): (0.6, 0.4, 0.0), (A,): (0.5, 0.4, 0.1), (B_,): (0.0, 0.1, 0.9),
        (A, A): (0, 0, 1), (A, B_): (0, 0, 1), (B_, B_): (0, 0, 1)}


def tiny(ids):
    with np.errstate(divide="ignore"):
        return np.log(np.array(TINY[tuple(ids)]))


def test_the_example_by_hand_greedy_misses_the_likeliest_text_and_two_beams_find_it():
    [greedy] = beam_search(tiny, [], 3, 1, stop=[STOP])
    assert greedy.ids == (A, A, STOP) and math.exp(greedy.log_p) == pytest.approx(0.30)
    best, second = beam_search(tiny, [], 3, 2, stop=[STOP])
    assert best.ids == (B_, STOP) and math.exp(best.log_p) == pytest.approx(0.36)
    assert second == greedy and best.finished
    [first, *_] = beam_search(tiny, [], 3, 2, alpha=1.0, stop=[STOP])
    assert first == Hypothesis(greedy.ids, greedy.log_p, greedy.log_p / 3, True)   # −.40 to −.51


def test_the_example_by_hand_a_mask_is_not_the_conditional_distribution():
    pieces = [b"a", b"b", b"c"]
    table = TokenTable(compile_pattern("ab|cc"), pieces)
    constraint = Constraint(table, 2)
    p = {(): (0.9, 0.0, 0.1), (0,): (0.5, 0.01, 0.49), (2,): (0, 0, 1)}
    with np.errstate(divide="ignore"):
        masked = {ids: tempered(constraint(np.log(p[ids]), list(ids))) for ids in p}
    assert masked[()][0] * masked[(0,)][1] == pytest.approx(0.9)
    joint = 0.9 * 0.01, 0.1 * 1
    assert joint[0] / sum(joint) == pytest.approx(0.0826, abs=1e-4)


# Filters

@pytest.mark.parametrize("V", [1, 2, 7, 500])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_filters_equal_their_definitions_on_random_logits(rng, V, dtype):
    for _ in range(20):
        z = (3 * rng.standard_normal(V)).astype(dtype)
        before, p = z.copy(), tempered(z)
        k, share = int(rng.integers(1, V + 1)), float(rng.uniform(0.01, 0.99))
        order = sorted(range(V), key=lambda i: -p[i])
        assert kept(top_k(z, k)) == sorted(order[:k])
        smallest = next(n for n in range(1, V + 1) if sum(p[order[:n]]) >= share - 1e-6)
        assert kept(top_p(z, share)) == sorted(order[:smallest])
        assert kept(min_p(z, share)) == [i for i in range(V) if p[i] >= share * p.max()]
        h = -(p * np.log(p)).sum()
        near = sorted(range(V), key=lambda i: abs(-np.log(p[i]) - h))
        smallest = next(n for n in range(1, V + 1) if sum(p[near[:n]]) >= share - 1e-6)
        assert kept(typical(z, share)) == sorted(near[:smallest])
        for keep, setting in ((top_k, k), (top_p, share), (min_p, share), (typical, share)):
            out = keep(z, setting)
            assert out.dtype == dtype and (z == before).all() and out is not z
            assert (out[kept(out)] == z[kept(out)]).all()


def test_ties_are_cut_by_id_and_top_k_keeps_exactly_k():
    z = np.array([1.0, 3, 1, 3, 1, 1])
    for k in range(1, 7):
        assert kept(top_k(z, k)) == sorted([1, 3, 0, 2, 4, 5][:k])
    equal = np.zeros(4)
    assert kept(top_p(equal, 0.5)) == kept(typical(equal, 0.5)) == kept(top_k(equal, 2)) == [0, 1]
    assert kept(top_p(equal, 0.51)) == [0, 1, 2]
    assert kept(min_p(z, 1.0)) == [1, 3]                       # all that tie with the best


def test_top_k_above_the_vocabulary_and_shares_of_1_keep_everything(rng):
    z = rng.standard_normal(5)
    z[0] -= 60                                                 # far below what SLACK forgives
    for keep, setting in ((top_k, 5), (top_k, 6), (top_k, 10**9), (top_p, 1), (typical, 1.0)):
        assert keep(z, setting).tolist() == z.tolist()
    assert kept(top_k(z, 4)) == [1, 2, 3, 4]
    assert kept(top_p(z, 1 - 1e-9)) == [1, 2, 3, 4]


def test_masked_tokens_stay_masked_and_are_never_kept():
    z = np.array([-np.inf, 0.0, -np.inf, -1.0, -2.0])
    for keep, setting in (*FILTERS, (top_k, 5), (top_k, 4), (top_p, 1), (typical, 1)):
        assert set(kept(keep(z, setting))) <= {1, 3, 4}
    assert kept(top_k(z, 3)) == kept(top_k(z, 4)) == [1, 3, 4]
    assert kept(typical(np.array([-np.inf, 5.0]), 0.1)) == [1]


def test_rounding_may_not_move_a_border():
    """Probabilities that sum to a border exactly on paper, read back from rounded logits."""
    rng = np.random.default_rng(5)
    for dtype in (np.float32, np.float64):
        for _ in range(300):
            parts = np.sort(rng.integers(1, 50, size=6))[::-1].astype(float)
            if parts[2] == parts[3]:
                continue
            z = np.log(parts / parts.sum()).astype(dtype) + dtype(rng.integers(-3, 4))
            assert kept(top_p(z, parts[:3].sum() / parts.sum())) == [0, 1, 2]
            assert kept(min_p(z, parts[2] / parts[0])) == [0, 1, 2]


def test_min_p_after_a_temperature_is_another_min_p_before_it(rng):
    for _ in range(50):
        z, T, m = rng.standard_normal(40) * 2, rng.uniform(0.3, 3), rng.uniform(0.01, 0.9)
        assert kept(min_p(z / T, m)) == kept(min_p(z, m**T))
        assert kept(top_k(z / T, 7)) == kept(top_k(z, 7))
        assert set(kept(top_p(z, m))) <= set(kept(top_p(z / max(T, 1), m)))      # heat adds


def test_whole_numbers_and_lists_are_logits_too():
    assert top_k([1, 3, 2], 2).tolist() == [-math.inf, 3, 2]
    assert top_p(np.array([1, 9, 2]), 0.5).dtype == np.float64
    assert top_p(np.array([1, 9, 2], np.float16), 0.5).dtype == np.float16


@pytest.mark.parametrize("keep, setting", FILTERS)
def test_filters_refuse_what_no_token_can_be_drawn_from(keep, setting):
    for bad, message in (([np.nan, 1], "nan"), ([np.inf, 1], "inf"), ([-np.inf] * 2, "-inf"),
                         ([], r"\(0,\)"), ([[1.0, 2]], r"\(1, 2\)"), (1.0, r"\(\)")):
        with pytest.raises(ValueError, match=message):
            keep(np.array(bad, dtype=float), setting)


def test_filters_refuse_settings_that_mean_nothing():
    for k in (0, -1, 1.5, 0.5, math.nan):
        with pytest.raises(ValueError, match="k ≥ 1"):
            top_k([1.0, 2.0], k)
    for keep, name in ((top_p, "top-p"), (min_p, "min-p"), (typical, "typical-p")):
        for p in (0, -0.1, 1.1, math.nan):
            with pytest.raises(ValueError, match=rf"{name} must lie in \(0, 1\]"):
                keep([1.0, 2.0], p)


# The chooser

def test_a_chooser_draws_from_what_its_filters_leave(rng):
    z = logs(0.4, 0.3, 0.2, 0.1)
    chooser = Chooser(rng, top_p=0.7)
    drawn = np.bincount([chooser(z, []) for _ in range(3000)], minlength=4)
    assert drawn[2] == drawn[3] == 0 and drawn[0] / 3000 == pytest.approx(4 / 7, abs=0.03)
    assert isinstance(chooser(z, []), int)
    sure = np.bincount([Chooser(rng)(logs(0.9, 0.1), []) for _ in range(3000)])
    assert sure[0] / 3000 == pytest.approx(0.9, abs=0.025)
    warm = np.bincount([Chooser(rng, 2.0, top_k=2)(z, []) for _ in range(3000)])
    assert warm[0] / 3000 == pytest.approx(0.4**0.5 / (0.4**0.5 + 0.3**0.5), abs=0.03)


def test_a_chooser_runs_its_steps_in_the_stated_order():
    z, log = np.array([4.0, 3.5, 3, 2, 1]), []

    def note(name, change):
        def call(logits, so_far):
            log.append((name, list(so_far)))
            return change(logits)
        return call

    chooser = Chooser(None, 0.5, top_k=3, top_p=0.9, min_p=0.02, typical=0.5, adjust=[
        note("first", lambda x: x - [0, 0, 0, 0, 2]), note("second", lambda x: x[::-1])])
    expected = z - [0, 0, 0, 0, 2]
    expected = 2 * expected[::-1]
    for keep, setting in ((top_k, 3), (top_p, 0.9), (min_p, 0.02), (typical, 0.5)):
        expected = keep(expected, setting)
    found = chooser.filtered(z, [7])
    assert log == [("first", [7]), ("second", [7])] and kept(found) == kept(expected)
    assert found[kept(found)] == pytest.approx(expected[kept(found)] - 8)


def test_each_filter_of_a_chooser_sees_what_the_one_before_left():
    z = logs(0.4, 0.3, 0.2, 0.1)
    assert kept(Chooser(None, top_k=2, top_p=0.55).filtered(z, [])) == [0]         # .57 of .7
    assert kept(top_p(z, 0.55)) == [0, 1]
    assert kept(Chooser(None, top_p=0.6, typical=0.5).filtered(z, [])) == [0]
    for name, keep, setting in (("top_k", top_k, 2), ("top_p", top_p, 0.75),
                                ("min_p", min_p, 0.6), ("typical", typical, 0.3)):
        assert kept(Chooser(None, **{name: setting}).filtered(z, [])) == kept(keep(z, setting))
    assert kept(Chooser(None).filtered(z, [])) == [0, 1, 2, 3]


def test_at_temperature_0_a_chooser_takes_the_lowest_of_the_best_after_penalties():
    z = np.array([1.0, 2, 2, 0])
    assert Chooser(None, 0, top_k=1)(z, []) == 1
    assert Chooser(None, 0, typical=0.1)(logs(0.5, 0.25, 0.125, 0.125), []) == 0
    assert Chooser(None, 0, adjust=[Penalty(presence=5)])(z, [1]) == 2
    cold = Chooser(None, 1e-9, top_k=4, top_p=0.9, min_p=0.9, typical=0.5)
    assert kept(cold.filtered(z[[0, 1, 3]], [])) == [1]
    with pytest.raises(ValueError, match="temperature"):
        Chooser(None, -1.0)(z, [])


# Penalties

def test_a_shift_of_all_logits_changes_what_the_repetition_penalty_does_and_no_other(rng):
    z, so_far = rng.standard_normal(9), [1, 4, 4]
    for penalty in (Penalty(frequency=0.7), Penalty(presence=0.7), Bias({2: 1.0})):
        assert tempered(penalty(z + 5, so_far)) == pytest.approx(tempered(penalty(z, so_far)))
    moved = tempered(Penalty(repetition=1.3)(z + 5, so_far)) - tempered(
        Penalty(repetition=1.3)(z, so_far))
    assert np.abs(moved).max() > 0.01


def test_a_repetition_penalty_never_raises_a_token(rng):
    z = rng.standard_normal(50)
    z[3] = -np.inf
    out = Penalty(repetition=1.5)(z, list(range(0, 50, 2)) + [3])
    assert (out[::2] < z[::2]).all() and (out[5::2] == z[5::2]).all() and out[3] == -np.inf
    assert Penalty(repetition=0.5)(np.array([2.0, -2]), [0, 1]).tolist() == [4, -1]


def test_penalties_look_at_the_output_and_at_its_last_ids_only():
    z = np.zeros(5)
    assert Penalty(presence=1, start=2)(z, [0, 1, 2]).tolist() == [0, 0, -1, 0, 0]
    assert Penalty(frequency=1, last=2)(z, [0, 3, 3]).tolist() == [0, 0, 0, -2, 0]
    assert Penalty(frequency=1, last=1)(z, np.array([0, 3, 3])).tolist() == [0, 0, 0, -1, 0]
    assert Penalty(1, 1, 1)(z, []).tolist() == Penalty()(z, [1]).tolist() == [0] * 5
    for change in (Penalty(1.2, 0.1, 0.1), Bias({0: 1})):
        out = change(z.astype(np.float32), [1])
        assert out.dtype == np.float32 and (z == 0).all()


def test_penalties_and_biases_refuse_what_makes_no_sense():
    for wrong in ({"repetition": 0}, {"repetition": -1}, {"repetition": math.nan}):
        with pytest.raises(ValueError, match="repetition must be above 0"):
            Penalty(**wrong)
    for wrong in ({"start": -1}, {"last": 0}):
        with pytest.raises(ValueError, match="start"):
            Penalty(**wrong)
    for ids in ([5], [-1], [0, 7]):
        with pytest.raises(ValueError, match=r"ids 0 … 4"):
            Penalty()(np.zeros(5), ids)
    for table in ({5: 1.0}, {-1: 1.0}, {0: math.inf}, {0: math.nan}):
        with pytest.raises(ValueError, match=r"ids are 0 … 4"):
            Bias(table)(np.zeros(5), [])
    assert Bias({4: 100.0})(np.zeros(5), []).tolist() == [0, 0, 0, 0, 100]


# Beams

def model_of(rng, V):
    """A random model: fresh logits for each context."""
    memory = {}

    def step(ids):
        if tuple(ids) not in memory:
            memory[tuple(ids)] = 2 * rng.standard_normal(V)
        return memory[tuple(ids)]
    return step


def brute_force(step, prompt, n, V, alpha, stop):
    """All texts of at most n tokens, the best score first."""
    found = []
    for length in range(1, n + 1):
        for tail in itertools.product(range(V), repeat=length):
            ended = tail[-1] in stop
            if any(i in stop for i in tail[:-1]) or (length < n and not ended):
                continue
            log_p = sum(math.log(tempered(step(prompt + list(tail[:t])))[tail[t]])
                        for t in range(length))
            found.append((log_p / length**alpha, tail, log_p, ended))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("stop", [(), (0,), (1, 2)])
def test_a_beam_that_is_wide_enough_equals_brute_force(rng, alpha, stop):
    for n, V in ((1, 3), (3, 3), (4, 3), (2, 5)):
        step = model_of(rng, V)
        expected = brute_force(step, [9], n, V, alpha, stop)
        for width in (V**n, 3 * V**n):
            found = beam_search(step, [9], n, width, alpha, stop)
            assert [h.ids for h in found] == [tail for _, tail, _, _ in expected]
            for h, (score, _, log_p, ended) in zip(found, expected):
                assert (h.score, h.log_p) == pytest.approx((score, log_p))
                assert h.finished == ended


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_one_beam_is_greedy(rng, alpha):
    for trial in range(20):
        step, ids, stop = model_of(rng, 6), [1, 2], (0,) if trial % 2 else ()
        while len(ids) < 7 and (len(ids) == 2 or ids[-1] not in stop):
            ids.append(int(step(ids).argmax()))
        [found] = beam_search(step, np.array([1, 2]), 5, 1, alpha, stop)
        assert found.ids == tuple(ids[2:])


@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.5])
def test_ending_early_changes_nothing_and_saves_calls(rng, alpha):
    saved = 0
    for _ in range(40):
        step, calls = model_of(rng, 4), [0]

        def counted(ids, step=step, calls=calls):
            calls[0] += 1
            return step(ids)
        found = beam_search(counted, [], 6, 3, alpha, (0, 1))
        saved += 1 + 5 * 3 - calls[0]
        expected = never_early(step, 6, 3, alpha, (0, 1))
        assert [h.ids for h in found] == [tail for _, tail in expected]
    assert saved > 0


def never_early(step, n, width, alpha, stop):
    """The same search, written out, without the early end."""
    live, done = [((), 0.0)], []
    for length in range(1, n + 1):
        every = sorted(((log_p + math.log(tempered(step(tail))[i]), tail + (i,))
                        for tail, log_p in live for i in range(4)), reverse=True)[:width]
        done += [(p / length**alpha, tail) for p, tail in every
                 if tail[-1] in stop or length == n]
        live = [(tail, p) for p, tail in every if tail[-1] not in stop]
    return sorted(done, reverse=True)[:width]


def test_beams_are_safe_with_ties_and_forbidden_tokens():
    found = beam_search(lambda ids: np.zeros(4), [], 2, 3)
    assert [h.ids for h in found] == [(0, 0), (0, 1), (0, 2)]
    only = beam_search(lambda ids: np.array([-np.inf, 0, -np.inf]), [], 3, 5)
    assert [h.ids for h in only] == [(1, 1, 1)] and only[0].log_p == 0 and not only[0].finished
    huge = beam_search(lambda ids: np.array([1e4, 0.0], np.float32), [], 2, 1)
    assert huge[0].log_p == 0


def test_beams_refuse_what_makes_no_sense():
    for wrong in ((0, 1, 0.0), (1, 0, 0.0), (1, 1, -0.1), (1, 1, math.nan)):
        with pytest.raises(ValueError, match="n ≥ 1, width ≥ 1 and alpha ≥ 0"):
            beam_search(tiny, [], *wrong)
    with pytest.raises(ValueError, match=r"\(1, 3\)"):
        beam_search(lambda ids: np.zeros((1, 3)), [], 1, 1)
    with pytest.raises(ValueError, match="finite"):
        beam_search(lambda ids: np.full(3, -np.inf), [], 1, 1)


# Patterns and automata

def random_pattern(rng, depth=0):
    kind = rng.integers(0, 8 if depth < 4 else 4)
    if kind < 4:
        return str(rng.choice(["a", "b", "0", "é", "", ".", r"\d", r"\w", r"\s", r"\n", "[ab]",
                               '[^a"]', "[a-c0é]", r"[^\d]", "[b-]", "[-b]", r"\.", r"\x41",
                               r"[\x30-9]", "-", r"[\]a]", "[^^]"]))
    if kind == 4:
        return "(" + random_pattern(rng, depth + 1) + "|" + random_pattern(rng, depth + 1) + ")"
    if kind == 5:
        return "(?:" + random_pattern(rng, depth + 1) + ")" + str(rng.choice(
            ["*", "+", "?", "{2}", "{1,}", "{2,}", "{0,2}", "{1,3}", "{0}", "{0,}"]))
    return random_pattern(rng, depth + 1) + random_pattern(rng, depth + 1)


def test_automata_accept_exactly_what_pythons_re_accepts(rng):
    matches = 0
    for _ in range(250):
        pattern = random_pattern(rng)
        automaton, peer = compile_pattern(pattern), re.compile(pattern, re.ASCII)
        for _ in range(40):
            text = "".join(rng.choice(list('ab01é"\n.A-]^'), size=rng.integers(0, 6)))
            expected = peer.fullmatch(text) is not None
            assert automaton.matches(text.encode()) == expected, (pattern, text)
            matches += expected
    assert matches > 300


@pytest.mark.parametrize("pattern", [".", r"[^x]"])
def test_a_character_is_well_formed_utf_8_and_nothing_else(pattern):
    automaton = compile_pattern(pattern)
    for code in [*range(0x80), *range(0x80, 0x3000, 7), 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFD,
                 0xFFFF, 0x10000, 0x3FFFF, 0x40000, 0xFFFFF, 0x100000, 0x10FFFF]:
        expected = code != (0x0A if pattern == "." else ord("x"))
        assert automaton.matches(chr(code).encode()) == expected
    for bad in (b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xf5\x80",
                b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xc3", b"\xe2\x82", b"\xc3\xa9\xa9"):
        assert not automaton.matches(bad)
    rng = np.random.default_rng(1)
    for _ in range(3000):
        data = bytes(rng.choice([0xC2, 0xE0, 0xE1, 0xED, 0xF0, 0xF1, 0xF4, 0x41, 0x80, 0x8F, 0x90,
                                 0x9F, 0xA0, 0xBF], size=rng.integers(1, 5)).astype(np.uint8))
        try:
            valid = len(data.decode()) == 1
        except UnicodeDecodeError:
            valid = False
        assert automaton.matches(data) == valid, data


def test_from_every_state_an_end_can_be_reached(rng):
    for _ in range(60):
        automaton = compile_pattern(random_pattern(rng))
        good = set(np.flatnonzero(automaton.accepts))
        while True:
            more = {s for s in range(len(automaton.table)) if set(automaton.table[s]) & good}
            if more <= good:
                break
            good |= more
        assert len(good) == len(automaton.table)
        assert automaton.table.dtype == np.int32 and automaton.table.shape[1] == 256


def test_the_automaton_by_hand():
    automaton = compile_pattern("ab*c")
    assert automaton.walk(b"") == 0 and automaton.walk(b"b") == automaton.walk(b"bab") == -1
    assert automaton.walk(b"abb") == automaton.walk(b"b", automaton.walk(b"ab")) > 0
    assert automaton.accepts.tolist().count(True) == 1
    assert automaton.matches(b"ac") and automaton.matches(b"abbbc") and not automaton.matches(b"a")
    assert compile_pattern("").matches(b"") and not compile_pattern("").matches(b"a")


@pytest.mark.parametrize("pattern, why", [
    ("(a", "not closed"), ("a)", "closes nothing"), ("*a", "nothing to act on"), ("a**", "repeat"),
    ("a*?", "lazy"), ("a++", "repeat"), ("a{2}{3}", "repeat"), ("a{", "numbers"),
    ("a{x}", "numbers"), ("a{,3}", "numbers"), ("a{3,2}", "upwards"), ("a{1001}", "1000"),
    ("a{2,1001}", "1000"),
    ("^a", "no anchors"), ("a$", "no anchors"), ("a]", "nothing to act on"), ("a}", "nothing"),
    ("[a", "ends too early"), ("[]", "members"), ("[^é]", "ASCII"), ("[b-a]", "upwards"),
    ("[é-í]", "ASCII"), (r"[\d-z]", "ASCII"), ("\\", "ends too early"), (r"\b", "subset"),
    (r"\D", "subset"), (r"\1", "subset"), (r"\x8", "ends too early"), (r"\xg0", "hexadecimal"),
    (r"\x80", "7f"), ("(?=a)", r"\(\?:"), ("(" * 101 + ")" * 101, "deeper"), ("[a-", "too early"),
    ("(a{1000}){1000}", str(STATES)), ("(a|b)*a(a|b){15}", str(STATES))])
def test_patterns_beyond_the_subset_say_where_and_why(pattern, why):
    with pytest.raises(PatternError, match=why):
        compile_pattern(pattern)


def test_limits_of_the_subset_are_inside_it():
    assert compile_pattern("(" * 100 + "a" + ")" * 100).matches(b"a")
    assert compile_pattern("[a-a]").matches(b"a")
    thousand = compile_pattern("a{1000}")
    assert thousand.matches(b"a" * 1000) and not thousand.matches(b"a" * 999)
    assert compile_pattern(r"[\x00-\x7f]").matches(b"\x7f")
    with pytest.raises(PatternError, match="'ab\\)' at character 2: "):
        compile_pattern("ab)")


# Constraints

def random_pieces(rng, alphabet, n):
    return BYTES + [bytes(rng.choice(list(alphabet), size=rng.integers(2, 6)).astype(np.uint8))
                    for _ in range(n)]


def write_within(constraint, chooser, rng, V, prompt=()):
    ids = list(prompt)
    while not constraint.done(ids):
        ids.append(chooser(3 * rng.standard_normal(V), ids))
    return ids[len(prompt):]


@pytest.mark.parametrize("pattern", ["ab*c", "(ab|ba)+", r"-?\d{2,4}", "[é€]{2}x?", "a{0,3}"])
@pytest.mark.parametrize("stop", [None, 0])
def test_every_output_matches_whatever_the_model_wants_and_whatever_the_limit(rng, pattern, stop):
    pieces = random_pieces(rng, b"abc0123-x", 60)
    pieces[0], table = b"", None
    table = TokenTable(compile_pattern(pattern), pieces)
    shortest = int(table.needs[0]) + (stop is not None)
    peer, lengths = re.compile(pattern, re.ASCII), set()
    for limit in range(shortest, shortest + 5):
        for _ in range(15):
            constraint = Constraint(table, limit, start=2, stop=stop)
            chooser = Chooser(rng, adjust=[constraint], top_k=3)
            out = write_within(constraint, chooser, rng, len(pieces), prompt=[5, 5])
            assert len(out) <= limit
            if stop is not None:
                assert out[-1] == stop and stop not in out[:-1]
            text = b"".join(pieces[i] for i in out).decode()
            assert peer.fullmatch(text), (pattern, text)
            lengths.add(len(out))
    assert len(lengths) > 1


def test_the_mask_allows_exactly_the_tokens_from_which_an_end_is_in_reach():
    """Against brute force over all sequences of a small vocabulary."""
    pieces = [b"a", b"b", b"ab", b"ba", b"bab", b""]
    for pattern, stop in itertools.product(("(ab)*", "a(b|ab)*a", "b{2,3}"), (None, 5)):
        table, peer = TokenTable(compile_pattern(pattern), pieces), re.compile(pattern)
        spend = stop is not None
        texts = {n: {t for t in itertools.product(range(5), repeat=n)
                     if peer.fullmatch(b"".join(pieces[i] for i in t).decode())}
                 for n in range(5)}
        for limit in range(int(table.needs[0]) + spend, 5):
            constraint = Constraint(table, limit, stop=stop)
            ends = {t for n in range(limit + 1 - spend) for t in texts[n]}
            for prefix in {t[:n] for t in ends for n in range(len(t) + 1)}:
                expected = {t[len(prefix)] for t in ends
                            if t[:len(prefix)] == prefix and len(t) > len(prefix)}
                expected |= {5} if spend and prefix in ends else set()
                assert set(np.flatnonzero(constraint.allowed(list(prefix)))) == expected
                assert constraint.done(list(prefix)) == (not expected)


def test_tokens_may_cross_borders_of_the_pattern_and_of_characters():
    pieces = [b'{"', b'a":', b'1}', b'a"', b":1", b"}", b"\xc3", b"\xa9\"", b"1"]
    table = TokenTable(compile_pattern(r'\{"(a|é)":1\}'), pieces)
    constraint = Constraint(table, 6)
    for text in ([0, 1, 2], [0, 3, 4, 5], [0, 6, 7, 4, 5], [0, 1, 8, 5]):
        for t, i in enumerate(text):
            assert constraint.allowed(text[:t])[i]
        assert constraint.done(text)
    assert np.flatnonzero(constraint.allowed([0])).tolist() == [1, 3, 6]


def test_a_token_table_walks_every_token_from_every_state(rng):
    automaton = compile_pattern("(ab|b[^c]c)*d?")
    pieces = [*random_pieces(rng, b"abcd", 50), b"", b"abab" * 5]
    table = TokenTable(automaton, pieces)
    for s, v in itertools.product(range(len(automaton.table)), range(len(pieces))):
        assert table.next[s, v] == (automaton.walk(pieces[v], s) if pieces[v] else -1)
    assert table.next.dtype == np.int32


def test_constraints_refuse_what_cannot_work():
    table = TokenTable(compile_pattern("abc"), BYTES)
    for limit, stop in ((2, None), (3, 0)):
        with pytest.raises(ValueError, match=f"takes {limit + 1} tokens"):
            Constraint(table, limit, stop=stop)
    with pytest.raises(ValueError, match="start -1"):
        Constraint(table, 5, start=-1)
    for stop in (-1, 256, ord("b")):                           # b is part of the text
        with pytest.raises(ValueError, match=f"stop token {stop} must be one of 0 … 255"):
            Constraint(table, 5, stop=stop)
    with pytest.raises(ValueError, match="some bytes are missing"):
        TokenTable(compile_pattern("abc"), [b"a", b"b"])
    constraint = Constraint(table, 5)
    for so_far in ([ord("b")], [ord("a"), ord("a")], [-1], [256]):
        with pytest.raises(ValueError, match="has left the pattern"):
            constraint(np.zeros(256), so_far)
    with pytest.raises(ValueError, match="complete"):
        constraint(np.zeros(256), list(b"abc"))
    with pytest.raises(ValueError, match=r"\(255,\)"):
        constraint(np.zeros(255), [])
    full = Constraint(TokenTable(compile_pattern("a*"), BYTES), 2, stop=0)
    assert full.done([97, 97]) and full.done([97, 97, 97])     # no room for the stop token
    with pytest.raises(ValueError, match="left the pattern"):
        Constraint(table, 5, stop=0).allowed([97, 0, 98])


def test_a_constraint_keeps_the_logits_of_allowed_tokens_and_their_type():
    table = TokenTable(compile_pattern("[ab]c"), BYTES)
    z = np.arange(256, dtype=np.float32)
    out = Constraint(table, 2)(z, [])
    assert kept(out) == [97, 98] and out[97] == 97 and out.dtype == np.float32
    assert kept(Constraint(table, 3, start=1, stop=7)(z, [9, 97, 99])) == [7]
    assert Constraint(table, 3, stop=7).done([97, 99, 7])


def test_beams_under_a_constraint_find_the_likeliest_text_that_matches(rng):
    pieces = [b"", b"a", b"b", b"ab", b"c"]
    table = TokenTable(compile_pattern("(a|b|c){2,3}"), pieces)
    constraint = Constraint(table, 4, stop=0)
    for _ in range(10):
        model = model_of(rng, 5)
        [best, *_] = beam_search(lambda ids, m=model: constraint(m(ids), ids), [], 4, 200, 0.0, [0])
        text = b"".join(pieces[i] for i in best.ids).decode()
        assert re.fullmatch("[abc]{2,3}", text) and best.finished


SHAPES = [
    (str, ['""', '"a"', '"é\\n\\"\\u00e9"'], ["a", '"', '"\n"', '"\\x"', '"\\u12"', "'a'"]),
    (int, ["0", "-12", "340"], ["01", "+1", "1.0", "", "-", "1e3"]),
    (float, ["0", "-1.50", "2e+9", "1E-2"], [".5", "1.", "1e", "NaN", "00"]),
    (bool, ["true", "false"], ["True", "null"]), (None, ["null"], ["None", ""]),
    (("a.b", 3, True), ['"a.b"', "3", "true"], ['"axb"', "4"]),
    ([int], ["[]", "[1]", "[1,-2,3]"], ["[", "[1,]", "[1, 2]", "[true]"]),
    ({}, ["{}"], ["{ }", "[]"]),
    ({"n": str, "of?": [("x",)]}, ['{"n":"","of?":["x"]}'], ['{"n":""}', '{"of?":[],"n":""}']),
    (anything(0), ["1", '"a"', "null", "true", "false"], ["[]", "{}", "[1]"]),
    (anything(1), ["[]", "{}", '[1,"a"]', '{"a":null,"b":2.5}'], ["[[]]", '{"a":[]}', "[1}"]),
    (anything(2), ['[[],{"a":1}]', '{"a":[1,2],"b":{}}'], ["[[[]]]", "[1", "{1:2}"])]


@pytest.mark.parametrize("shape, good, bad", SHAPES)
def test_a_shape_accepts_its_json_and_nothing_else(shape, good, bad):
    automaton = compile_pattern(json_pattern(shape))
    for text in good:
        json.loads(text)
        assert automaton.matches(text.encode()), text
    for text in bad:
        assert not automaton.matches(text.encode()), text


def test_what_is_drawn_in_a_shape_is_json_of_that_shape(rng):
    shape = {"who": str, "age": int, "of": ("York", "Kent"), "acts": [float], "more": anything(1)}
    pieces = random_pieces(rng, b'abe",:[]{}01.-\\u', 300)
    table = TokenTable(compile_pattern(json_pattern(shape)), pieces)
    for limit in (int(table.needs[0]), 60, 90):
        for _ in range(15):
            constraint = Constraint(table, limit)
            out = write_within(constraint, Chooser(rng, adjust=[constraint]), rng, len(pieces))
            value = json.loads(b"".join(pieces[i] for i in out).decode())
            assert list(value) == ["who", "age", "of", "acts", "more"]
            assert type(value["who"]) is str and type(value["age"]) is int
            assert value["of"] in ("York", "Kent") and isinstance(value["acts"], list)


def test_shapes_that_are_none_are_refused():
    for wrong in (complex, [], [int, int], (), {1: int}, "x", 3, set()):
        with pytest.raises(ValueError, match="no shape"):
            json_pattern(wrong)
    for depth in (-1, 3):
        with pytest.raises(ValueError, match="depth must be 0 to 2"):
            anything(depth)
    with pytest.raises(ValueError):
        json_pattern((math.nan,))
    assert json_pattern(anything()) == json_pattern(anything(1))


# The measurements

def test_pieces_are_written_row_by_row_as_the_model_would_alone(rng):
    model = GPT(GPTConfig(V=12, T=16, C=8, L=1, H=2, rotary=True), rng)
    prompts = rng.integers(0, 12, size=(3, 4))
    choosers = [Chooser(None, 0), Chooser(np.random.default_rng(5)), Chooser(None, 0)]
    pieces = write(model, prompts, choosers, 6)
    assert pieces.shape == (3, 10) and (pieces[:, :4] == prompts).all()
    for r, temperature in ((0, 0), (1, 1.0), (2, 0)):
        alone = list(model.generate(prompts[r], 6, np.random.default_rng(5), temperature))
        assert pieces[r, 4:].tolist() == alone
    nats = surprisals(model, pieces, 4)
    assert nats.shape == (3, 6)
    log_p = log_softmax(model(pieces).data)
    assert nats[1, 2] == pytest.approx(-log_p[1, 5, pieces[1, 6]], abs=1e-5)


def test_measures_by_hand():
    assert distinct([1, 2, 1, 2, 1], 2) == 0.5 and distinct([1, 2, 3], 1) == 1
    assert distinct([7] * 5, 4) == 0.5
    assert cut_pieces(np.arange(10), 3, 2).tolist() == [[0, 1], [4, 5], [8, 9]]
    with pytest.raises(ValueError, match="3 pieces of 4 tokens"):
        cut_pieces(np.arange(10), 3, 4)
    assert words("ay, 'tis not he") == ["'tis", "not"]
    assert running("HAMLET.\nI am.\n\n[Exit.]\n") == " I am. "
    good = '{"speaker":"NURSE","says":"ay","age":3,"alone":true}'
    assert fits(good) and not fits(good[:-1]) and not fits(good.replace("3", '"3"'))
    assert not fits(good.replace("true", "1")) and not fits("[]")
    assert not fits(good.replace("NURSE", "KENT"))


def test_greedy_text_is_less_surprising_and_more_repetitive_than_peoples_and_json_is_valid():
    result = measure(fast=True, seed=0)
    rows = {name: rest for name, *rest in result.rows}
    people = result.human
    assert rows["greedy"][1] < people[1] - 0.5 and rows["beam of 4"][1] < people[1] - 0.5
    assert rows["greedy"][3] < people[3] - 0.1 and rows["greedy"][8] == 1
    assert rows["greedy, frequency 0.5"][3] > 0.9 and rows["greedy, frequency 0.5"][8] == 0
    assert result.layout[0] >= people[3]
    assert result.beam["human_over_greedy"] == 0 and result.beam["of"] == 4
    shaped = result.shaped
    assert shaped["valid"] == shaped["tries"] == 4 and shaped["free_valid"] == 0
    assert shaped["log_valid"] < -50
