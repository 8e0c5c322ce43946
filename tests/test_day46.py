"""Day 46 · Speculative decoding."""

import math
from dataclasses import replace

import numpy as np
import pytest

from days.day46 import chi2, controlled, measuring, run
from llm.functions.distill import distill, distill_vjp
from llm.functions.probability import kl, softmax
from llm.generate import speculative
from llm.generate.architecture import Architecture, shapes
from llm.generate.decode import generate
from llm.generate.drafts import Lookup, ModelDraft, Table, certain
from llm.generate.engine import Engine
from llm.generate.penalties import Penalty
from llm.generate.reading import Compiled, Plain
from llm.generate.speculative import accept, chances, draw, one_round, residual, speculate
from llm.generate.speedup import acceptance, best_gamma, expected_tokens, speedup
from llm.generate.truncate import Chooser
from llm.grad.check import numerical_gradient

P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.7, 0.1])


class Bigrams:
    """A model whose logits follow from the last id alone: rows (V, V). It keeps what it reads."""

    def __init__(self, rows, room=10**6):
        self.rows, self.ids, self.most, self.passes = np.asarray(rows, np.float64), [], room, []

    def read(self, ids, rows=1):
        if len(ids) > self.room:
            raise ValueError(f"{len(ids)} more ids do not fit")
        self.ids += ids
        self.passes.append(len(ids))
        return self.rows[self.ids[-rows:]]

    def truncate(self, n):
        assert 0 <= n <= len(self.ids)
        del self.ids[n:]

    @property
    def length(self):
        return len(self.ids)

    @property
    def room(self):
        return self.most - len(self.ids)


class Scripted:
    """A draft that always proposes these ids, each with q 1, and counts what it is asked for."""

    def __init__(self, ids, V):
        self.ids, self.V, self.asked, self.cut = ids, V, [], []

    def propose(self, so_far, count, choose):
        self.asked.append(count)
        return self.ids[:count], list(certain(self.ids[:count], self.V))

    def truncate(self, n):
        self.cut.append(n)


def chooser(seed=0, temperature=1.0, **options):
    return Chooser(np.random.default_rng(seed), temperature, **options)


def random_model(rng, V=11, T=48, **more):
    arch = Architecture(**({"V": V, "T": T, "C": 16, "L": 2, "H": 4, "K": 2, "D": 4, "F": 24,
                            "rotary": 100.0} | more))
    weights = {name: (name.endswith("gain") + 0.5 * rng.standard_normal(shape)).astype(np.float32)
               for name, shape in shapes(arch)[0].items()}
    return arch, weights


def test_by_hand_a_guess_is_kept_with_6_in_10_and_the_residual_repairs_the_rest():
    assert acceptance(P, Q) == pytest.approx(0.6)
    assert residual(P, Q) == pytest.approx([0.75, 0, 0.25])
    kept = Q * np.minimum(1, P / Q)
    assert kept == pytest.approx([0.2, 0.3, 0.1])
    assert kept + 0.4 * residual(P, Q) == pytest.approx(P)
    assert expected_tokens(0.6, 2) == pytest.approx(1.96)
    assert speedup(0.6, 2, 0.1) == pytest.approx(1.96 / 1.2)


def test_the_rule_gives_the_targets_distribution_for_any_two_distributions():
    rng = np.random.default_rng(0)
    for V in (2, 3, 7, 50):
        for power in (0.3, 1, 6):
            p, q = (rng.dirichlet(np.full(V, 1 / power)) for _ in range(2))
            kept = np.minimum(p, q)                                     # q · min(1, p/q)
            assert kept + (1 - kept.sum()) * residual(p, q) == pytest.approx(p, abs=1e-12)
            assert acceptance(p, q) == pytest.approx(1 - 0.5 * np.abs(p - q).sum())


def test_accept_keeps_and_repairs_as_often_as_derived():
    rng, n = np.random.default_rng(1), 20_000
    guesses = [draw(Q, rng) for _ in range(n)]
    found = [accept(P, Q, guess, rng) for guess in guesses]
    assert chi2.value(np.bincount(found, minlength=3), n * P) < chi2.limit(2, 1e-4)
    kept = np.mean([a == b for a, b in zip(found, guesses)])
    assert abs(kept - 0.6) < 4 * math.sqrt(0.24 / n)


def test_a_guess_that_the_target_forbids_is_refused_and_one_that_only_it_allows_can_come():
    rng = np.random.default_rng(2)
    p, q = np.array([0.0, 0.5, 0.5]), np.array([1.0, 0.0, 0.0])
    assert acceptance(p, q) == 0
    assert {accept(p, q, 0, rng) for _ in range(100)} == {1, 2}
    assert {accept(np.array([1.0, 0, 0]), np.array([0.5, 0.5, 0]), i, rng) for i in (0, 1)} == {0}


def test_the_residual_of_equal_distributions_is_not_a_division_by_zero():
    assert residual(P, P).tolist() == P.tolist()
    assert residual(P * (1 - 1e-16), P) == pytest.approx(P)


def test_draw_inverts_the_sums_and_never_gives_what_has_no_probability():
    class Fixed:
        def __init__(self, u):
            self.u = u

        def random(self):
            return self.u

    p = np.array([0.0, 0.25, 0.0, 0.75, 0.0])
    wanted = {0.0: 1, 0.2499: 1, 0.25: 3, 0.5: 3, 1 - 2 ** -53: 3}
    assert {u: draw(p, Fixed(u)) for u in wanted} == wanted
    assert accept(P, P, 1, Fixed(1 - 2 ** -53)) == 1                    # p/q = 1 keeps always
    assert accept(np.array([0.5, 0.5]), np.array([1.0, 0.0]), 0, Fixed(0.5)) == 1


def test_the_joint_distribution_of_several_tokens_is_the_targets():
    """χ² over all 27 texts of three tokens; a model draft, a certain one, and one of n-grams."""
    rng = np.random.default_rng(3)
    rows, other = rng.normal(size=(2, 3, 3)) * 1.5
    exact = chi2.joint(softmax(rows), 0, 3)
    for make in (lambda: ModelDraft(Bigrams(other)), lambda: Scripted([1, 2, 1], 3),
                 lambda: Table(lambda text: other[text[-1]])):
        counts = chi2.count(lambda c, make=make: speculate(Bigrams(rows), make(), [0], 3, c, 2),
                            3, 3, 4000, rng)
        assert chi2.value(counts, 4000 * exact) < chi2.limit(26, 1e-4)


@pytest.mark.parametrize("wrong", [
    {"residual": lambda p, q: p},                                       # forgets what was kept
    {"residual": lambda p, q: np.abs(p - q) / np.abs(p - q).sum()},
    {"accept": lambda p, q, guess, rng: guess},                         # trusts the draft
    {"accept": lambda p, q, guess, rng:                                 # keeps by p alone
        guess if rng.random() < p[guess] else draw(residual(p, q), rng)},
])
def test_the_same_test_rejects_wrong_rules(monkeypatch, wrong):
    rng = np.random.default_rng(4)
    rows, other = rng.normal(size=(2, 3, 3)) * 1.5
    for name, function in wrong.items():
        monkeypatch.setattr(speculative, name, function)
    counts = chi2.count(lambda c: speculate(Bigrams(rows), ModelDraft(Bigrams(other)), [0], 3, c,
                                            2), 3, 3, 4000, rng)
    assert chi2.value(counts, 4000 * chi2.joint(softmax(rows), 0, 3)) > 2 * chi2.limit(26, 1e-4)


def test_temperature_and_filters_shape_both_and_the_distribution_is_the_filtered_one():
    rng = np.random.default_rng(5)
    rows, other = rng.normal(size=(2, 4, 4)) * 1.5
    options = {"temperature": 0.7, "top_p": 0.8}
    p = np.array([chances(chooser(**options), row, []) for row in rows])
    assert (p == 0).any()
    exact = chi2.joint(p, 0, 2)
    counts = chi2.count(lambda c: speculate(Bigrams(rows), ModelDraft(Bigrams(other)), [0], 2, c,
                                            3), 4, 2, 4000, rng, **options)
    assert counts[exact == 0].sum() == 0
    seen = exact > 0
    assert chi2.value(counts[seen], 4000 * exact[seen]) < chi2.limit(seen.sum() - 1, 1e-4)


def test_penalties_see_the_text_up_to_each_guess():
    """Whoever may not say a token twice says all V once: the filter must know of the guesses."""
    def once(logits, so_far):
        z = np.array(logits)
        z[list(set(so_far))] = -np.inf
        return z

    for draft in (ModelDraft(Bigrams(np.zeros((6, 6)))), Scripted([1, 1, 2, 2], 6)):
        found = list(speculate(Bigrams(np.zeros((6, 6))), draft, [0], 5,
                               chooser(adjust=[once]), 4))
        assert sorted(found) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("gamma", [1, 2, 5])
def test_an_identical_draft_is_always_right(gamma):
    rng = np.random.default_rng(6)
    arch, weights = random_model(rng)
    for options in ({}, {"temperature": 0.6, "top_k": 4}, {"temperature": 0.0}):
        log = []
        found = list(speculate(Plain(arch, weights), ModelDraft(Plain(arch, weights)), [1, 2, 3],
                               20, chooser(**options), gamma, log=log))
        assert len(found) == 20 and all(guesses == kept for guesses, kept in log)
        assert len(log) == math.ceil(20 / (gamma + 1))


@pytest.mark.parametrize("gamma", [0, 1, 3, 8])
def test_greedy_is_the_plain_greedy_text_for_any_draft(gamma):
    rng = np.random.default_rng(7)
    arch, weights = random_model(rng)
    small = random_model(rng, C=8, L=1, H=2, K=2)
    plain = Plain(arch, weights)
    wanted = list(generate(lambda ids: plain.read(ids)[0], [1, 2], 30, chooser(temperature=0.0)))
    for draft in (ModelDraft(Plain(*small)), Lookup(arch.V), Scripted([1] * 8, arch.V),
                  Table(lambda text: -np.arange(arch.V) % 3)):
        target = Plain(arch, weights)
        found = list(speculate(target, draft, [1, 2], 30, chooser(temperature=0.0), gamma))
        assert found == wanted
        assert target.length == 2 + 30 - 1


def test_without_guesses_it_is_the_plain_loop_with_the_same_random_numbers():
    rng = np.random.default_rng(8)
    arch, weights = random_model(rng)
    plain = Plain(arch, weights)
    wanted = list(generate(lambda ids: plain.read(ids)[0], [3], 25, chooser(9)))
    log, draft = [], Scripted([1], arch.V)
    assert list(speculate(Plain(arch, weights), draft, [3], 25, chooser(9), 0, log=log)) == wanted
    assert log == [(0, 0)] * 25 and draft.asked == []


def test_a_refused_guess_is_taken_out_of_both_caches():
    """After every round each model holds the text but for its last id, or a beginning of it."""
    rng = np.random.default_rng(9)
    rows, other = rng.normal(size=(2, 5, 5)) * 2
    target, inner, c = Bigrams(rows), Bigrams(other), chooser(1)
    draft, text = ModelDraft(inner), [0, 1]
    for _ in range(60):
        new, guesses = one_round(target, draft, text, 3, c)
        assert guesses == 3 and 1 <= len(new) <= 4
        assert text[-len(new):] == new and target.ids == text[:-1]
        unread = 2 if len(new) == 4 else 1                    # the last of all kept is never read
        assert inner.ids == text[:len(text) - unread]
    assert set(target.passes) == {4, 5}                       # the first pass read two ids more
    assert target.passes.count(5) == 1


def test_the_default_is_four_guesses_and_no_end():
    target = Bigrams(np.zeros((3, 3)))
    draft = Scripted([0] * 9, 3)
    assert len(list(speculate(target, draft, [0], 50, chooser()))) == 50
    assert max(draft.asked) == 4 and draft.asked[0] == 4


def test_exactly_n_ids_come_and_no_pass_reads_more_than_it_needs():
    for n in (0, 1, 2, 3, 4, 7):
        target, draft = Bigrams(np.zeros((2, 2))), Scripted([0, 0, 0], 2)
        assert len(list(speculate(target, draft, [0], n, chooser(n), 3))) == n
        assert target.length == n
        assert sum(target.passes[:1]) <= n


def test_an_end_stops_inside_a_round_and_is_not_yielded():
    certainly = np.full((4, 4), -np.inf)
    certainly[[0, 1, 2, 3], [1, 2, 3, 0]] = 0.0                          # 0 1 2 3 0 1 …
    def run(ends):
        return list(speculate(Bigrams(certainly), ModelDraft(Bigrams(certainly)), [0], 9,
                              chooser(), 3, ends))

    assert run(()) == [1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert run({3}) == [1, 2]
    assert run([1]) == []
    assert run([7]) == run(())


def test_the_window_is_filled_to_its_last_place_and_then_the_error_is_the_plain_one():
    rng = np.random.default_rng(10)
    arch, weights = random_model(rng, T=16)
    for make in (lambda: ModelDraft(Plain(arch, weights)), lambda: Lookup(arch.V)):
        found = list(speculate(Plain(arch, weights), make(), [1, 2, 3], 14, chooser(), 4))
        assert len(found) == 14                                          # 3 + 14 − 1 = 16 are read
        found, text = [], speculate(Plain(arch, weights), make(), [1, 2, 3], 15, chooser(), 4)
        with pytest.raises(ValueError, match="do not fit"):
            for i in text:
                found.append(i)
        assert len(found) == 14


def test_a_draft_with_a_smaller_window_falls_silent_and_the_target_goes_on():
    rows = np.zeros((3, 3))
    log, inner = [], Bigrams(rows, room=6)
    found = list(speculate(Bigrams(rows), ModelDraft(inner), [0, 1], 20, chooser(), 3, log=log))
    assert len(found) == 20 and log[0] == (3, 3) and log[-1] == (0, 0)
    assert inner.length <= 6 and max(n for n, _ in log) == 3
    assert inner.length >= 5                                   # it spoke as long as it could


def test_a_full_draft_still_makes_the_guess_that_needs_no_more_reading():
    draft = ModelDraft(Bigrams(np.zeros((3, 3)), room=4))
    assert len(draft.propose([0, 1, 2], 5, chooser())[0]) == 2            # reads 3, then 1
    draft.truncate(3)
    assert len(draft.propose([0, 1, 2, 1], 5, chooser())[0]) == 1
    assert draft.propose([0, 1, 2, 1, 0], 5, chooser()) == ([], [])


def test_a_text_can_go_on_with_warm_caches():
    rng = np.random.default_rng(11)
    arch, weights = random_model(rng)
    greedy = chooser(temperature=0.0)
    wanted = list(speculate(Plain(arch, weights), Lookup(arch.V), [1, 2], 20, greedy))
    target, draft = Plain(arch, weights), ModelDraft(Plain(arch, weights))
    first = list(speculate(target, draft, [1, 2], 8, greedy))
    assert first + list(speculate(target, draft, [1, 2, *first], 12, greedy)) == wanted
    with pytest.raises(ValueError, match="has read 21 ids of a text of 3"):
        next(speculate(target, draft, [1, 2, 3], 1, greedy))
    with pytest.raises(ValueError, match="has read 21 ids of a text of 21"):
        next(speculate(target, draft, [1] * 21, 1, greedy))
    draft = ModelDraft(Plain(arch, weights))                   # a draft that has read too much
    draft.model.read([1, 2, 3], 1)
    assert list(speculate(Plain(arch, weights), draft, [1, 2], 20, greedy)) == wanted


def test_nonsense_is_refused():
    nothing = lambda *more, ids=(): next(speculate(Bigrams(P[None]), Lookup(3), ids, *more))
    with pytest.raises(ValueError, match="nothing to continue"):
        nothing(3, chooser())
    with pytest.raises(ValueError, match="n -1 and gamma 4"):
        nothing(-1, chooser(), ids=[0])
    with pytest.raises(ValueError, match="n 3 and gamma -2"):
        nothing(3, chooser(), -2, ids=[0])


@pytest.mark.parametrize("alpha_of", [0.3, 1.0])
def test_where_guesses_are_independent_the_formula_holds(alpha_of):
    """Logits that do not depend on the text: every guess is kept with the same probability."""
    p = np.array([0.7, 0.2, 0.1])
    q = np.array([0.4, 0.1, 0.5]) if alpha_of < 1 else p
    alpha, gamma, log = acceptance(p, q), 3, []
    z, y = np.log(np.tile(p, (3, 1))), np.log(q)
    found = list(speculate(Bigrams(z), Table(lambda text: y), [0], 8000, chooser(12), gamma,
                           log=log))
    full = [entry for entry in log if entry[0] == gamma]
    rate = (sum(k for _, k in full) + len(full)) / len(full)
    spread = gamma / math.sqrt(len(full))
    assert abs(rate - expected_tokens(alpha, gamma)) < 3 * spread * (alpha < 1) + 1e-9
    assert chi2.value(np.bincount(found, minlength=3), 8000 * p) < chi2.limit(2, 1e-4)


def test_expected_tokens_is_the_mean_over_all_outcomes_and_safe_at_the_ends():
    for alpha in (0.0, 0.2, 0.9, 1.0):
        for gamma in (0, 1, 4):
            mean = sum((k + 1) * alpha ** k * (1 - alpha) for k in range(gamma))
            assert expected_tokens(alpha, gamma) == pytest.approx(
                mean + (gamma + 1) * alpha ** gamma)
    assert expected_tokens(0.8, 4) == pytest.approx((1 - 0.8 ** 5) / 0.2)


def test_the_best_number_of_guesses():
    assert best_gamma(0.0, 0.1) == (0, 1.0)
    assert best_gamma(0.6, 0.6) == (0, 1.0)                    # α > c is needed where a chunk is 1
    gamma, gain = best_gamma(0.6, 0.1)
    assert gain == max(speedup(0.6, g, 0.1) for g in range(33)) and gain == speedup(0.6, gamma, 0.1)
    assert gain >= 1.6 / 1.1                                   # Leviathan et al., corollary 3.9
    assert best_gamma(0.9, 0.0)[0] == 32 and best_gamma(0.9, 0.0, most=5)[0] == 5
    assert best_gamma(0.9, 0.01, lambda n: float(n)) == (0, 1.0)     # a chunk as dear as its tokens
    assert best_gamma(1.0, 0.0, lambda n: 1.0 if n <= 4 else 99.0)[0] == 3
    assert speedup(0.5, 1, 0.25, 1.25) == pytest.approx(1.0)


def test_lookup_takes_the_longest_run_and_its_latest_occurrence():
    def after(text, count=3, **options):
        return Lookup(10, **options).propose(text, count, None)[0]

    assert after([1, 2, 3, 9, 1, 2]) == [3, 9, 1]
    assert after([1, 2, 5, 7, 2, 6, 1, 2], 1) == [5]           # "1 2" beats the later "2"
    assert after([1, 2, 5, 7, 2, 6, 1, 2], 1, longest=1) == [6]
    assert after([1, 5, 1, 6, 1], 1) == [6]                    # the latest
    assert after([4, 8, 4, 8], 5) == [4, 8, 4, 8, 4]           # runs into its own output
    assert after([1, 2, 3]) == [] and after([1]) == [] and after([1, 1], 2) == [1, 1]
    assert after([1, 2, 1], 1) == [2] and after([1, 2, 1], 1, shortest=2) == []
    assert after([0, 1, 2, 3, 7, 9, 1, 2, 3], 1, longest=3) == [7]
    assert after([5, 1, 2, 3, 7, 1, 2, 3, 8, 5, 1, 2, 3], 1) == [8]      # three at most: latest
    assert after([5, 1, 2, 3, 7, 1, 2, 3, 8, 5, 1, 2, 3], 1, longest=4) == [7]


def test_lookup_learns_as_the_text_grows_and_says_how_sure_it_is():
    draft = Lookup(4)
    assert draft.propose([0, 1], 2, None) == ([], [])
    guesses, q = draft.propose([0, 1, 2, 0, 1], 2, None)
    assert guesses == [2, 0] and np.array(q).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert q[0].dtype == np.float64
    with pytest.raises(ValueError, match="runs of 1 down to 2"):
        Lookup(4, 1, 2)
    with pytest.raises(ValueError, match="1 ≤ shortest"):
        Lookup(4, 1, 0)


def test_the_compiled_engine_reads_chunks_as_the_plain_decoder_does():
    rng = np.random.default_rng(13)
    for more in ({}, {"norm": "rms", "feed_forward": "swiglu"}, {"rotary": None}):
        arch, weights = random_model(rng, V=70, **more)
        plain, quick = Plain(arch, weights), Compiled(Engine(arch, weights))
        assert quick.room == plain.room == arch.T
        for n, rows in ((5, 1), (1, 1), (4, 4), (6, 2), (2, 2)):
            ids = rng.integers(0, arch.V, n)
            a, b = plain.read(ids, rows), quick.read(ids, rows)
            assert a.shape == b.shape == (rows, arch.V)
            assert np.abs(a - b).max() < 1e-4 * np.abs(a).max()
            assert plain.length == quick.length
        plain.truncate(7)
        quick.truncate(7)
        assert np.allclose(plain.read([3]), quick.read([3]), atol=1e-3)
        for model in (plain, quick):
            for rows in (0, 3):
                with pytest.raises(ValueError, match=f"the last {rows} of 2 ids"):
                    model.read([1, 2], rows)
            with pytest.raises(ValueError, match="do not fit"):
                model.read([1] * (model.room + 1), 2)
            assert model.length == 8 and model.room == arch.T - 8
    assert Plain(arch, weights, 9, np.float64).read([1]).shape == (1, 70)
    assert Plain(arch, weights, 9).room == 9
    assert Plain(arch, weights, dtype=np.float16).cache.k.dtype == np.float16


def test_speculation_in_the_compiled_engine_writes_the_same_greedy_text():
    rng = np.random.default_rng(14)
    arch, weights = random_model(rng, V=70)
    texts = [list(speculate(model, ModelDraft(Compiled(Engine(arch, weights))), [1, 2, 3], 30,
                            chooser(temperature=0.0), 3, log=log))
             for model, log in ((Plain(arch, weights), []), (Compiled(Engine(arch, weights)), []))]
    assert texts[0] == texts[1]


def test_a_repetition_penalty_is_applied_to_both():
    rng = np.random.default_rng(15)
    arch, weights = random_model(rng)
    make = lambda: chooser(temperature=0.0, adjust=[Penalty(repetition=1.5)])
    plain = Plain(arch, weights)
    wanted = list(generate(lambda ids: plain.read(ids)[0], [1, 2], 20, make()))
    log = []
    assert list(speculate(Plain(arch, weights), ModelDraft(Plain(arch, weights)), [1, 2], 20,
                          make(), 3, log=log)) == wanted
    assert all(a == b for a, b in log)


def test_distillation_by_hand():
    """p = (3/4, 1/4), q = (1/2, 1/2): KL = ln 2 − H(p), and the gradient is q − p."""
    z, v = np.zeros((1, 2)), np.log([[3.0, 1.0]])
    loss, saved = distill(z, v)
    assert loss == pytest.approx(math.log(2) - 0.562335, abs=1e-6)
    assert distill_vjp(1.0, *saved)[0] == pytest.approx(np.array([[-0.25, 0.25]]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_distillation_equals_its_definition_and_its_gradient_the_finite_difference(temperature):
    rng = np.random.default_rng(16)
    z, v = rng.normal(size=(2, 2, 3, 5))
    loss, saved = distill(z, v, temperature)
    wanted = temperature ** 2 * kl(softmax(v / temperature), softmax(z / temperature)).mean()
    assert loss == pytest.approx(wanted) and loss.shape == ()
    dz, dv = distill_vjp(2.0, *saved)
    assert dv is None
    numeric = numerical_gradient(lambda x: 2 * float(distill(x, v, temperature)[0]), z)
    assert np.abs(dz - numeric).max() < 1e-8
    if temperature == 1:
        assert distill(z, v)[0] == loss


def test_the_factor_keeps_the_gradient_as_the_temperature_grows():
    """Towards (z − v)/V for each row, with both taken without their mean: Hinton et al., eq. 4."""
    rng = np.random.default_rng(17)
    z, v = rng.normal(size=(2, 1, 6))
    z, v = z - z.mean(), v - v.mean()
    dz = distill_vjp(1.0, *distill(z, v, 1e4)[1])[0]
    assert dz == pytest.approx((z - v) / 6, abs=1e-4)


def test_an_equal_student_learns_nothing_and_masks_are_no_nan():
    z = np.random.default_rng(18).normal(size=(4, 3)).astype(np.float32)
    loss, saved = distill(z, z.astype(np.float64), 2.0)
    dz = distill_vjp(np.float32(1), *saved)[0]
    assert abs(float(loss)) < 1e-6 and loss.dtype == dz.dtype == np.float32
    assert np.abs(dz).max() < 1e-6
    masked = np.array([[0.0, 1.0, -np.inf]])
    loss, saved = distill(masked, masked)
    assert loss == 0 and np.all(distill_vjp(1.0, *saved)[0] == 0)


def test_distillation_refuses_what_does_not_fit():
    for shape in ((2, 3), (3, 2, 4)):
        with pytest.raises(ValueError, match="same shape"):
            distill(np.zeros((2, 4)), np.zeros(shape))
    with pytest.raises(ValueError, match="at least one row"):
        distill(np.zeros((0, 4)), np.zeros((0, 4)))
    for temperature in (0, -1.0, math.nan):
        with pytest.raises(ValueError, match="above 0"):
            distill(np.zeros((1, 4)), np.zeros((1, 4)), temperature)


def test_a_chooser_that_is_copied_still_draws_from_its_rng():
    c = chooser()
    assert chances(c, np.zeros(3), []) == pytest.approx(np.full(3, 1 / 3))
    assert chances(replace(c, temperature=0.0), np.array([0, 2, 2.0]), []).tolist() == [0, 1, 0]
    assert chances(replace(c, top_k=1), np.array([0, 2, 1.0]), []).tolist() == [0, 1, 0]
    assert chances(replace(c, temperature=2.0), np.log([9, 1.0]), []) == pytest.approx([0.75, 0.25])


def test_the_probabilities_of_all_texts_sum_to_one_and_are_products():
    p = softmax(np.random.default_rng(19).normal(size=(3, 3)))
    p[1, 0], p[1, 1] = 0, p[1, 0] + p[1, 1]
    found = chi2.texts(lambda ids: p[ids[-1]], [2], 2)
    assert sum(found.values()) == pytest.approx(1) and (1, 0) not in found
    assert found == pytest.approx({(a, b): x for (a, b), x in
                                   np.ndenumerate(chi2.joint(p, 2, 2)) if x})
    assert chi2.limit(1, 0.05) == pytest.approx(3.841, rel=0.03)
    assert chi2.limit(26, 0.01) == pytest.approx(45.64, rel=0.01)       # tables of χ²
    assert chi2.value([8, 12], [10, 10]) == pytest.approx(0.8)


def test_a_round_log_is_summed_as_the_note_says():
    tokens, kept, guesses, error = measuring.summary([(4, 4), (4, 0), (4, 2), (0, 0)])
    assert tokens == 10 / 4 and kept == 6 / (4 + 1 + 3) and guesses == 3
    assert error == pytest.approx(np.std([4, 0, 2, 0]) / 2)
    assert measuring.by_past([(1, 1), (1, 0), (1, 1), (1, 1), (0, 0), (1, 1)]) == [1, 1, 1 / 2, 2]
    assert measuring.by_place([(2, 2), (2, 0), (2, 1), (1, 1)], 2) == [[2 / 3, 3], [1 / 2, 2]]


def test_a_draft_that_errs_on_purpose_is_refused_as_often_as_it_says():
    rows = np.random.default_rng(20).normal(size=(7, 7))
    text = [0]
    for _ in range(400):
        text.append(int(rows[text[-1]].argmax()))
    log, draft = [], controlled.Knowing(text, 0.8, 7, np.random.default_rng(21))
    found = list(speculate(Bigrams(rows), draft, [0], 400, chooser(temperature=0.0), 3, log=log))
    assert found == text[1:] and abs(400 / len(log) - expected_tokens(0.8, 3)) < 0.35


def test_the_headline_of_the_run():
    result = run.measure(fast=True, seed=0)
    (right, wrong), gammas = result.exact, result.gammas
    assert right[1] < right[2] and wrong[3:] == right[3:]
    for rows in result.grid.values():
        for row in (row for draft in rows.values() for row in zip(gammas, draft)):
            gamma, (tokens, kept, guesses, _) = row
            assert 1 <= tokens <= 1 + guesses <= 1 + gamma and 0 <= kept <= 1
    assert result.parameters[1] < result.parameters[0]
    assert set(result.own) == {"distilled", "trained on text", "n-grams of the training text"}
    assert all(0 < share < 1 for share in result.own.values())
    assert len(run.table(result)) == 1 + 2 * 4
    assert {row[0] for row in result.controlled} == {0.5, 0.9}
    assert all(row[2] <= row[1] + 1 and row[4] > 0 for row in result.controlled)
    assert len(result.speeds) == 2 * 2 * 4 and all(row[5] > 0 for row in result.speeds)
