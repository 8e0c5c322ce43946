"""Day 38 · The minute: its parts against brute force, its score against day 35's."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from days.day35 import trained
from experiments import minute, minute_recipes
from experiments.minute_counts import Prior
from experiments.minute_memory import Memory, hashed
from experiments.minute_model import MinuteGPT, add_prior
from experiments.minute_recipes import RECIPES, Recipe, small
from llm.data.text import load
from llm.grad.tensor import Tensor
from llm.models.ngram import NGram


def brute_force(events, context, V, cut):
    """Kneser–Ney from a list of runs, by dictionaries: P (V,) after `context`, given discounts."""
    order, p = len(cut), np.full(V, 1 / V)
    levels = [None] * order
    levels[-1] = {run: events.count(run) for run in events}
    for n in range(order - 2, -1, -1):
        longer = levels[n + 1]
        levels[n] = {}
        for run in longer:
            levels[n][run[1:]] = levels[n].get(run[1:], 0) + 1
    for n in range(order):
        known = context[len(context) - n:] if n else ()
        counts = np.zeros(V, int)
        for run, times in levels[n].items():
            if run[:-1] == known:
                counts[run[-1]] = times
        if counts.sum():
            discount = np.where(counts > 0, cut[n][np.minimum(counts, 3)], 0)
            p = (counts - discount + discount.sum() * p) / counts.sum()
    return p


@pytest.mark.parametrize("order, V, length", [(3, 4, 60), (2, 3, 25), (4, 5, 120)])
def test_leaving_one_event_out_equals_counting_again_without_it(order, V, length):
    rng = np.random.default_rng(order)
    ids = rng.choice(V, length, p=np.arange(1, V + 1) / np.arange(1, V + 1).sum())
    prior = Prior(ids, order, V)
    events = [tuple(int(i) for i in ids[t - order + 1:t + 1]) for t in range(order - 1, length)]
    log_p, depth = prior.log_p(*prior.own, 0, True)
    for t in range(order - 1, length):
        rest = events[:t - order + 1] + events[t - order + 2:]
        expected = brute_force(rest, tuple(ids[t - order + 1:t]), V, prior.cut)
        np.testing.assert_allclose(np.exp(log_p[t]), expected, rtol=2e-5)
        seen = [run[:-1] for run in rest]
        deepest = max((n for n in range(1, order + 1) if n == 1 or any(
            run[order - n:] == tuple(ids[t - n + 1:t]) for run in seen)), default=0)
        assert depth[t] == deepest


@pytest.mark.parametrize("order, V, length, parts", [(3, 4, 60, 3), (2, 3, 25, 2), (4, 5, 120, 5)])
def test_leaving_a_part_out_equals_counting_again_without_it(order, V, length, parts):
    rng = np.random.default_rng(order)
    ids = rng.choice(V, length, p=np.arange(1, V + 1) / np.arange(1, V + 1).sum())
    prior = Prior(ids, order, V, parts)
    log_p, _ = prior.log_p(*prior.own, prior.part_of)
    assert prior.part_of.tolist() == sorted(prior.part_of) and set(prior.part_of) == set(
        range(1, parts + 1))
    for t in range(order - 1, length):
        rest = [tuple(int(i) for i in ids[s - order + 1:s + 1]) for s in range(order - 1, length)
                if prior.part_of[s] != prior.part_of[t]]
        expected = brute_force(rest, tuple(ids[t - order + 1:t]), V, prior.cut)
        np.testing.assert_allclose(np.exp(log_p[t]), expected, rtol=2e-5)


def test_with_all_counts_the_prior_is_the_ngram_of_day_06():
    rng = np.random.default_rng(0)
    ids, new = rng.integers(0, 6, 300), rng.integers(0, 7, 80)
    prior, ngram = Prior(ids, 4, 7), NGram.fit(ids, 4, 7)
    log_p, _ = prior.log_p(*prior.places(new))
    np.testing.assert_allclose(np.exp(log_p).sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(log_p[np.arange(80), new], ngram.log_probabilities(new), rtol=1e-4)
    for t in (0, 1, 5, 79):
        np.testing.assert_allclose(np.exp(log_p[t]), ngram.distribution(new[:t]), rtol=1e-4)


def test_leaving_out_lowers_the_probability_of_the_answer():
    ids = np.random.default_rng(1).integers(0, 6, 200)
    prior = Prior(ids, 3, 6)
    with_it, without = (prior.log_p(*prior.own, 0, leave)[0][np.arange(200), ids]
                        for leave in (False, True))
    assert without.mean() < with_it.mean() - 0.1


def test_the_memorys_gradient_is_that_of_finite_differences():
    rng = np.random.default_rng(2)
    memory = Memory((1, 2), 8, 3)
    memory.table[:] = rng.normal(size=memory.table.shape)
    memory.squares[:] = 1e8                     # so large that a step is -rate · g / 1e4
    at = hashed(rng.integers(0, 5, 6), (1, 2), 8).reshape(2, 3, 2)
    weights = rng.normal(size=(2, 3, 3)).astype(np.float32)

    def loss():
        return (memory.read(at) * memory.out * Tensor(weights)).sum()

    gradient = np.zeros_like(memory.table)
    for i in np.ndindex(gradient.shape):
        kept, values = memory.table[i], []
        for eps in (1e-2, -1e-2):
            memory.table[i] = kept + eps
            values.append(float(loss().data))
        memory.table[i] = kept
        gradient[i] = (values[0] - values[1]) / 2e-2
    before = memory.table.copy()
    loss().backward()
    memory.step(1e3)
    np.testing.assert_allclose(before - memory.table, gradient / 10, atol=2e-3)
    assert (memory.table != before).any(-1).sum() == len(
        {(o, i) for o in range(2) for i in at[..., o].ravel().tolist()})


def test_adagrads_first_step_has_the_size_of_the_rate_and_later_ones_shrink():
    memory = Memory((1,), 4, 5)
    at, moved = np.zeros((1, 1, 1), np.int32), []
    for _ in range(3):
        before = memory.table.copy()
        (memory.read(at) * Tensor(np.full((1, 1, 5), 7.0, np.float32))).sum().backward()
        memory.step(0.4)
        moved.append(float(np.abs(memory.table - before).max()))
    np.testing.assert_allclose(moved, 0.4 / np.sqrt([1, 2, 3]), rtol=1e-4)


def test_a_hash_sees_the_last_tokens_and_no_others():
    a = np.array([9, 1, 2, 3, 4, 7, 2, 3, 4])
    rows = hashed(a, (2, 3, 4), 2**20)
    assert (rows[4, :2] == rows[8, :2]).all() and rows[4, 2] != rows[8, 2]
    assert rows.min() >= 0 and hashed(np.arange(500), (2,), 16).max() == 15
    with pytest.raises(ValueError, match="power of two"):
        hashed(a, (2,), 12)


def test_the_gate_of_the_prior_has_the_gradient_of_finite_differences():
    rng = np.random.default_rng(3)
    logits, gate, log_p, up = (rng.normal(size=s) for s in ((2, 3, 4), (2, 3, 1), (2, 3, 4),
                                                            (2, 3, 4)))
    a, b = Tensor(logits, requires_grad=True), Tensor(gate, requires_grad=True)
    (add_prior(a, b, log_p) * Tensor(up)).sum().backward()
    np.testing.assert_allclose(a.grad, up)
    np.testing.assert_allclose(b.grad, (up * log_p).sum(-1, keepdims=True))


def test_a_pass_has_every_target_once_and_random_order():
    batches = minute.passes(103, 4, 10, np.random.default_rng(0))
    one = np.concatenate([next(batches) for _ in range(2)])
    targets = one[:, 1:].ravel()
    assert len(set(targets.tolist())) == targets.size and (np.diff(one, axis=1) == 1).all()
    assert one.max() < 103 and (np.diff(one[:, 0]) < 0).any()
    assert next(minute.passes(7, 4, 5, np.random.default_rng(0))).shape == (1, 6)


def test_a_memory_that_forgets_does_so_at_each_pass_and_the_last_pass_is_whole():
    recipe = dataclasses.replace(small(RECIPES["long-forgets"]), B=2, T=4)
    memory = Memory((2,), 16, 3)
    calls, forget = [], memory.forget
    memory.table[:], memory.squares[:] = 1, 2
    forget()
    assert not memory.table.any() and (memory.squares == np.float32(1e-12)).all()
    memory.forget = lambda: calls.append(len(seen))
    seen = []                                               # 5 batches a pass, 12 steps: 2 + 5 + 5
    for _, targets in itertools.islice(minute.windows(recipe, 44, np.random.default_rng(0), memory,
                                                      12), 12):
        seen.append(targets.ravel())
    assert calls == [0, 2, 7]
    last = np.concatenate(seen[7:])
    assert len(set(last.tolist())) == last.size == 40


def test_dropout_acts_in_training_alone():
    recipe = dataclasses.replace(small(RECIPES["pairs"]), dropout=0.5, V=50)
    model, ids = MinuteGPT(recipe, 50, np.random.default_rng(0)), np.arange(32).reshape(2, 16)
    plain = MinuteGPT(dataclasses.replace(recipe, dropout=0.0), 50, np.random.default_rng(0))
    assert np.array_equal(model(ids).data, plain(ids).data)
    trained = model(ids, rng=np.random.default_rng(1)).data
    assert not np.allclose(trained, plain(ids).data, atol=1e-3)
    assert np.array_equal(plain(ids, rng=np.random.default_rng(1)).data, plain(ids).data)


def test_the_score_is_day_35s_in_nats_per_character():
    recipe = dataclasses.replace(small(RECIPES["reader"]), V=280)
    corpus = load("shakespeare")
    text = corpus.validation[:3001]
    done = minute.train(recipe, corpus.train[:20_000], 0, steps=3)
    reader = trained.Trained(done.model.gpt, done.tokenizer, corpus, done.model.gpt.config, recipe)
    found = minute.score(done, text)
    assert found["all"] == pytest.approx(trained.nats_per_character(reader, text), abs=2e-4)
    assert min(found["first"], found["second"]) <= found["all"] <= max(found.values())


def test_counting_alone_scores_as_the_ngram():
    recipe, text = small(RECIPES["counting"]), load("shakespeare").text
    done = minute.train(recipe, text[:20_000], 0, steps=1)
    paid, sizes = minute.nats(done, text[20_000:23_000])
    ids = done.tokenizer.encode(text[20_000:23_000])
    ngram = NGram.fit(done.tokenizer.encode(text[:20_000]), recipe.counts, recipe.V)
    np.testing.assert_allclose(paid[1:], -ngram.log_probabilities(ids)[1:], rtol=1e-3, atol=1e-4)
    assert sizes.sum() == 3000


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_trains_and_scores(name):
    text = load("shakespeare").text
    done = minute.train(small(RECIPES[name]), text[:20_000], 0, steps=2)
    assert 0.5 < minute.score(done, text[20_000:21_000])["all"] < 8
    assert RECIPES[name].why and RECIPES[name].goal in "ABC"
    assert not (RECIPES[name].day35 and (RECIPES[name].memory or RECIPES[name].counts))


def test_with_counts_the_start_is_counting_alone_nearly():
    r = dataclasses.replace(small(RECIPES["counts"]), V=50)
    model = MinuteGPT(r, 50, np.random.default_rng(0))
    ids = np.random.default_rng(1).integers(0, 50, (2, 16))
    log_p = np.log(np.random.default_rng(2).dirichlet(np.ones(50), (2, 16))).astype(np.float32)
    logits = model(ids, prior=(log_p, np.ones((2, 16), int))).data
    assert np.abs(logits - log_p).max() < 0.5


def test_two_runs_of_one_seed_are_equal_and_kept_runs_are_not_made_again(tmp_path):
    recipe, path = small(Recipe("x", whole=True, memory=(2,))), tmp_path / "kept.json"
    a = minute.measure("x", recipe, 1, 60, 2, path)["x, 2 steps"]["runs"]
    stamp = path.read_bytes()
    b = minute.measure("x", recipe, 1, 60, 2, path)["x, 2 steps"]["runs"]
    assert a == b and path.read_bytes() == stamp
    again = minute.measure("x", recipe, 2, 60, 2, path)["x, 2 steps"]["runs"]
    assert [run["seed"] for run in again] == [0, 1] and again[0] == a[0]
    record = json.loads(path.read_text())
    del record["x, 2 steps"]["facts"]["dropout"]              # kept before recipes had it
    path.write_text(json.dumps(record))
    assert minute.measure("x", recipe, 2, 60, 2, path)["x, 2 steps"]["runs"] == again
    changed = dataclasses.replace(recipe, rate=1e-3)
    assert len(minute.measure("x", changed, 1, 60, 2, path)["x, 2 steps"]["runs"]) == 1


def test_the_note_shows_the_kept_record():
    record = json.loads(minute.KEPT.read_text(encoding="utf-8"))
    assert minute.leaderboard(record) in minute.NOTE.read_text(encoding="utf-8")
    for entry in record.values():
        assert entry["name"] in minute_recipes.RECIPES and entry["runs"]
