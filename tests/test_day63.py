"""Day 63: which differences are real."""

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, fields, replace

import numpy as np
import pytest

from days.day63 import few_seeds as stats
from days.day63 import ledger as ledgers
from days.day63 import parts, ranking, run, simulate, trial, variants
from days.day63 import plan as planned
from days.day63 import study as told
from days.day63.ledger import Ledger
from days.day63.parts import Recipe
from days.harness import ROOT, UsageError
from experiments import ablations, ablations_choice, ablations_pool, ablations_report
from experiments.ablations_pool import attempt
from llm.layers.module import Module

TINY = {"C": 12, "L": 1, "H": 3, "B": 2, "T": 8, "steps": 3, "warmup": 1,
        "characters": 8000, "held_out": 200}


# By hand

def test_three_seeds_by_hand():
    """Differences 1, 2, 3: mean 2, spread 1, t = 2√3, and p = 1 − t/√(t² + 2) with two freedoms."""
    found = stats.paired([3, 4, 6], [2, 2, 3])
    assert found["mean"] == 2 and found["spread"] == 1
    assert found["t"] == pytest.approx(2 * math.sqrt(3))
    assert found["p"] == pytest.approx(1 - math.sqrt(12 / 14), abs=1e-12)
    assert round(found["p"], 4) == .0742
    assert found["high"] - found["mean"] == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)
    assert found["mean"] - found["low"] == pytest.approx(found["high"] - found["mean"])


def test_holm_by_hand():
    """0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, and none below the one before."""
    assert stats.holm([.01, .04, .03, .005]) == pytest.approx([.03, .06, .06, .02])
    assert stats.holm([.5, .4]) == pytest.approx([.8, .8])
    assert stats.holm([.7, .9]) == [1.0, 1.0]
    assert stats.holm([]) == []


def test_variances_by_hand():
    """Rows differ by 2 and columns by 4, with nothing left: variances 2, 8 and 0."""
    found = stats.two_way([[0, 4], [2, 6]])
    assert found == pytest.approx({"start": 2, "order": 8, "rest": 0})
    found = stats.two_way([[1, 0, 0], [0, 1, 0]])          # worked with mean squares on paper
    assert found["rest"] == pytest.approx(.5) and found["start"] == pytest.approx(-1 / 6)
    assert found["order"] == pytest.approx(1 / 12 - 1 / 4)


# Statistics

@pytest.mark.parametrize("freedom, t, p", [
    (1, 12.706205, .05), (2, 4.302653, .05), (4, 2.776445, .05), (9, 2.262157, .05),
    (4, 4.604095, .01), (30, 2.749996, .01), (5, 6.868827, .001), (120, 1.979930, .05)])
def test_p_values_are_those_of_the_printed_tables(freedom, t, p):
    """Student's t, two-sided, as in any table of quantiles."""
    assert stats.p_value(t, freedom) == pytest.approx(p, rel=1e-6)
    assert stats.p_value(-t, freedom) == stats.p_value(t, freedom)
    assert stats.critical(p, freedom) == pytest.approx(t, rel=1e-6)


def test_p_value_against_closed_forms_and_its_ends():
    for t in (0.01, .5, 3, 80, 1e6):
        assert stats.p_value(t, 1) == pytest.approx(2 / math.pi * math.atan2(1, t), rel=1e-10)
        tail = 2 / (2 + t * t) / (1 + t / math.sqrt(2 + t * t))        # 1 − t/√(2 + t²)
        assert stats.p_value(t, 2) == pytest.approx(tail, rel=1e-9)
    assert stats.p_value(0, 5) == pytest.approx(1) and stats.p_value(math.inf, 5) == 0
    assert stats.p_value(math.nan, 5) == 1
    assert stats.p_value(1.959964, 10**7) == pytest.approx(.05, rel=1e-5)
    with pytest.raises(ValueError, match="at least two"):
        stats.p_value(1, 0)
    for level in (0, 1, -1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            stats.critical(level, 3)


def test_a_t_value_is_an_angle():
    """t = √(n − 1) cot φ, φ the angle between the differences and (1, …, 1)."""
    rng = np.random.default_rng(0)
    for n in (2, 3, 7):
        d = rng.standard_normal(n) + 1
        cos = d.sum() / np.sqrt(n * (d @ d))
        t = math.sqrt(n - 1) * cos / math.sqrt(1 - cos * cos)
        assert stats.paired(d, np.zeros(n))["t"] == pytest.approx(t)
        assert simulate.t_values(d[None])[0] == pytest.approx(t)


def test_under_the_null_p_is_uniform_and_the_interval_holds():
    rng = np.random.default_rng(1)
    found = [stats.paired(*rng.standard_normal((2, 4)), level=.2) for _ in range(2000)]
    p = np.array([f["p"] for f in found])
    for level in (.05, .2, .5):
        assert abs((p < level).mean() - level) < 4 * math.sqrt(level / 2000)
    assert abs(np.mean([f["low"] <= 0 <= f["high"] for f in found]) - .8) < .04


def test_paired_edges():
    same = stats.paired([1, 2], [1, 2])
    assert same["t"] == 0 and same["p"] == pytest.approx(1) and same["low"] == same["high"] == 0
    exact = stats.paired([2, 3], [1, 2])
    assert exact["t"] == math.inf and exact["p"] == 0
    assert stats.paired([1, 2], [2, 3])["t"] == -math.inf
    for bad in (([1], [1]), ([1, 2], [1, 2, 3]), ([[1, 2]], [[1, 2]])):
        with pytest.raises(ValueError, match="same n ≥ 2 seeds"):
            stats.paired(*bad)
    for bad in (([1, math.inf], [1, 2]), ([1, 2], [math.nan, 2])):
        with pytest.raises(ValueError, match="diverged"):
            stats.paired(*bad)


def test_holm_keeps_the_family_at_its_level_where_some_are_real():
    """Three null variants among five: at least one false verdict in at most 5 % of studies."""
    rng, wrong, plain = np.random.default_rng(2), 0, 0
    for _ in range(600):
        base = rng.standard_normal(6)
        p = [stats.paired(rng.standard_normal(6) + shift, base)["p"] for shift in (0, 0, 0, 9, 9)]
        wrong += min(stats.holm(p)[:3]) <= .05
        plain += min(p[:3]) <= .05
    assert wrong / 600 < .05 + 3 * math.sqrt(.05 / 600) < plain / 600 + .02
    p = np.random.default_rng(3).random(9)
    assert all(a <= min(1, 9 * b) for a, b in zip(stats.holm(p), p, strict=True)), "Bonferroni"
    assert (np.diff(np.array(stats.holm(p * .01))[np.argsort(p)]) >= 0).all(), "in order of p"


def test_power_is_cohens_and_that_of_a_simulation():
    """A difference of half a spread needs 34 pairs for power 0.8, of 0.8 spreads 15 (G*Power)."""
    assert stats.seeds_needed(.5) == 34 and stats.seeds_needed(.8) == 15
    assert stats.seeds_needed(-.5) == 34
    assert stats.power(.5, 34) > .8 > stats.power(.5, 33)
    assert stats.power(0, 6, .01) == pytest.approx(.01, rel=1e-3)
    rng = np.random.default_rng(4)
    for effect, n, level in ((1.3, 5, .05), (4, 3, .01), (2, 2, .2)):
        t = simulate.t_values(rng.standard_normal((20_000, n)) + effect)
        rate = (np.abs(t) > stats.critical(level, n - 1)).mean()
        assert stats.power(effect, n, level) == pytest.approx(rate, abs=.012)
    assert stats.seeds_needed(.01, most=500) == 500 and stats.seeds_needed(1e9) == 2
    assert stats.seeds_needed(1, .05 / 20) > stats.seeds_needed(1)
    with pytest.raises(ValueError, match="difference of 0"):
        stats.seeds_needed(0)


def test_bootstrap_holds_the_mean_and_is_narrower_than_t_for_few():
    rng = np.random.default_rng(5)
    d = rng.standard_normal(200) + 3
    low, high = stats.bootstrap(d, rng)
    reach = 1.96 * d.std() / math.sqrt(200)
    assert low == pytest.approx(d.mean() - reach, abs=.03)
    assert high == pytest.approx(d.mean() + reach, abs=.03)
    few = d[:4]
    low, high = stats.bootstrap(few, rng, level=.05)
    t = stats.paired(few, np.zeros(4))
    assert t["low"] < low < few.mean() < high < t["high"]
    narrow = stats.bootstrap(few, rng, level=.5)
    assert low < narrow[0] and narrow[1] < high
    with pytest.raises(ValueError, match=r"shape \(1,\)"):
        stats.bootstrap([1.0], rng)
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        stats.bootstrap(np.ones((2, 2)), rng)


def test_variances_are_recovered():
    rng = np.random.default_rng(6)
    found = np.mean([list(stats.two_way(
        rng.standard_normal((5, 1)) * 3 + rng.standard_normal((1, 7)) * 2
        + rng.standard_normal((5, 7)) + 50).values()) for _ in range(3000)], axis=0)
    assert found == pytest.approx([9, 4, 1], rel=.1)
    for bad in (np.ones((1, 5)), np.ones((5, 1)), np.ones(4)):
        with pytest.raises(ValueError, match="2 starts × 2 orders"):
            stats.two_way(bad)


def test_each_bad_habit_finds_what_is_not_there():
    rng = np.random.default_rng(7)
    uncorrected, holm = simulate.false_alarms(20, 6, 3000, rng)
    assert uncorrected > .35 and holm < .06
    one = simulate.false_alarms(1, 6, 5000, rng)
    assert one[0] == one[1] == pytest.approx(.05, abs=.012), "the null control: nominal rate"
    screened, fresh = simulate.winners_curse(23, 20_000, rng)
    assert screened == pytest.approx(-1.93, abs=.03) and abs(fresh) < .03
    assert simulate.winners_curse(1, 20_000, rng)[0] == pytest.approx(0, abs=.03)
    assert simulate.peeking(3, 12, 3000, rng) > .12
    assert simulate.peeking(8, 8, 5000, rng) == pytest.approx(.05, abs=.012)
    assert simulate.dropped_seed(6, 3000, rng) > .12
    by_t, by_bootstrap = simulate.coverage(5, 800, rng)
    assert by_t == pytest.approx(.95, abs=.025) and by_bootstrap < .88
    together, apart = simulate.pairing(.8, 1, 5, 3000, rng)
    assert together > apart + .3
    assert simulate.pairing(.8, 0, 5, 5000, rng)[0] == pytest.approx(.05, abs=.012)
    assert simulate.pairing(0, 0, 5, 5000, rng)[1] == pytest.approx(.05, abs=.012)


# The configurable model

@pytest.mark.parametrize("name", variants.VARIANTS)
def test_every_variant_learns_and_differs_from_the_baseline_in_what_it_says(name):
    change = {"C": 12, "L": 2, "H": 3, **variants.VARIANTS[name].change}
    change |= {"C": 24} if change["C"] % change["H"] or change["C"] // change["H"] % 2 else {}
    recipe = replace(Recipe(), **change | {"T": 8, "pairs": 0})
    model = parts.build(recipe, 17, np.random.default_rng(0))
    ids = np.random.default_rng(1).integers(0, 17, (3, 8))
    optimizer, losses = parts.make_optimizer(recipe, model.named_parameters()), []
    for _ in range(8):
        model.zero_grad()
        loss = model.loss(ids, np.roll(ids, -1, axis=1))
        loss.backward()
        optimizer.step(.2 if recipe.optimizer == "momentum" else .01)
        losses.append(float(loss.data))
    assert losses[-1] < losses[0] - .05
    later = ids.copy()
    later[:, 5:] = (later[:, 5:] + 1) % 17
    assert np.allclose(model(ids).data[:, :5], model(later).data[:, :5], atol=1e-5), "causal"
    names = set(model.named_parameters())
    assert ("positions.table" in names) == (recipe.position == "learned")
    assert any(n.endswith("bias") for n in names) == (recipe.norm == "layer")
    assert any(n.endswith("gain") for n in names) == (recipe.norm != "none")
    assert ("norm.gain" in names) == (recipe.norm != "none" and recipe.placement == "pre")
    assert ("head.w" in names) == (not recipe.tied)
    assert ("blocks.0.think.inner.gate.w" in names) == (recipe.activation == "swiglu")
    assert all(b.mix.pre == b.think.pre == (recipe.placement == "pre") for b in model.blocks)
    assert model.blocks[0].mix.inner.H == recipe.H


def small(**change):
    return parts.build(replace(Recipe(), C=12, H=3, T=8, **change), 17, np.random.default_rng(0))


def test_position_is_what_the_toggle_says():
    """With no positions the last token's logits forget the order of the others; else not."""
    ids = np.array([[1, 2, 3, 4, 5, 6]])
    swapped = ids[:, [1, 0, 3, 2, 4, 5]]
    for position in (*parts.RULES, *parts.ADDED, "none"):
        model = small(L=1, position=position)
        apart = np.abs(model(ids).data - model(swapped).data)[0, -1].max()
        assert (apart < 1e-6) == (position == "none"), (position, apart)
    x = small(position="sinusoidal").positions(check_input()).data
    assert np.sqrt(np.mean(x ** 2)) == pytest.approx(.02)
    x = small(position="loud sinusoidal").positions(check_input()).data
    assert np.sqrt(np.mean(x ** 2)) == pytest.approx(math.sqrt(.5))


def test_loud_embeddings_enter_the_blocks_alone():
    """The stream begins 50 times larger, with or without positions; the head's table stays."""
    plain, loud = small(), small(loud=50.0)
    assert np.array_equal(plain.embed.table.data, loud.embed.table.data)
    x = check_input() + 1.0
    assert (loud.positions(x).data == 50).all() and plain.positions is None
    both = small(loud=50.0, position="learned")
    table = both.positions.positions.table.data
    assert np.allclose(both.positions(x).data[0] - 50, table, atol=1e-4)
    assert loud.count_parameters() == plain.count_parameters()


def check_input():
    from llm.grad.tensor import Tensor
    return Tensor(np.zeros((1, 8, 12), np.float32))


def test_the_baseline_is_day_34s_gpt():
    from llm.models.gpt import GPT, GPTConfig, make_block
    recipe = replace(Recipe(), C=12, H=3, T=8)
    theirs = GPT(GPTConfig(17, 8, 12, 2, 3, rotary=True), np.random.default_rng(0),
                 lambda c, rng: make_block(c, rng, std=1 / math.sqrt(12)))
    mine = parts.build(recipe, 17, np.random.default_rng(0))
    ids = np.arange(8)[None]
    assert np.array_equal(mine(ids).data, theirs(ids).data)


def test_squared_relu_and_parameters():
    from llm.grad.tensor import Tensor
    x = Tensor(np.array([-1.0, 0.5, 2.0]), requires_grad=True)
    y = parts.squared(x)
    assert y.data.tolist() == [0, .25, 4]
    y.sum().backward()
    assert x.grad.tolist() == [0, 1, 4]
    V, base = 84, None
    for name, v in variants.VARIANTS.items():
        recipe = replace(Recipe(), **v.change)
        count = parts.build(recipe, V, np.random.default_rng(0)).count_parameters()
        base = base or count
        if v.family != "tokenizer" and name != "head of its own":
            assert abs(count / base - 1) < .035, (name, count, base)


def test_unknown_toggles_are_named():
    for change, words in (({"norm": "batch"}, "no norm 'batch': choose one of layer, rms, none"),
                          ({"placement": "mid"}, "no placement 'mid'"),
                          ({"position": "odd"}, "no position 'odd'"),
                          ({"activation": "sin"}, "no activation 'sin'.*swiglu")):
        with pytest.raises(ValueError, match=words):
            small(**change)
    with pytest.raises(ValueError, match="no optimizer 'lion': choose one of adamw, adam"):
        parts.make_optimizer(replace(Recipe(), optimizer="lion"), small().named_parameters())
    with pytest.raises(ValueError, match="5 heads do not divide"):
        parts.build(replace(Recipe(), H=5), 9, np.random.default_rng(0))


def test_optimizers_are_what_they_are_called():
    p = small().named_parameters()
    make = lambda **c: parts.make_optimizer(replace(Recipe(), **c), p)  # noqa: E731
    assert max(make().decay.values()) == .1 and make().betas == (.9, .99)
    assert max(make(optimizer="adam").decay.values()) == 0
    assert make(optimizer="momentum").momentum == .9
    muon = make(optimizer="muon")
    assert max(muon.decay.values()) == .1 and muon.rest.betas == (.9, .99) and len(muon.m) == 8


# A run

def test_a_run_repeats_to_the_bit_in_another_process_and_seeds_do_what_they_say():
    task = {"change": TINY, "rate": .01, "start": 3, "order": 4}
    mine = attempt(task)
    code = ("import json, sys\nfrom experiments.ablations_pool import attempt\n"
            "print(json.dumps(attempt(json.loads(sys.argv[1]))))")
    said = subprocess.run([sys.executable, "-c", code, json.dumps(task)], capture_output=True,
                          text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    theirs = json.loads(said.stdout)
    assert mine["choose"] == theirs["choose"] and mine["report"] == theirs["report"], "same bits"
    again = attempt(task)
    assert again["report"] == mine["report"]
    for other in ({"start": 5}, {"order": 5}, {"rate": .02}):
        assert attempt(task | other)["report"] != mine["report"]
    assert attempt(task, until=0) is None


def test_start_draws_the_weights_and_order_the_windows(monkeypatch):
    seen = []

    def spy(parameters, loss, batches, *rest, **more):
        seen.append((next(iter(parameters.values())).data.copy(), next(batches)[0]))
        return type("Run", (), {"interrupted": False, "skipped": 0})

    monkeypatch.setattr(trial, "fit", spy)
    recipe = replace(Recipe(), **TINY)
    for start, order in ((0, 0), (0, 1), (1, 0)):
        trial.run(recipe, .1, start, order)
    (w0, b0), (w1, b1), (w2, b2) = seen
    assert (w0 == w1).all() and (w0 != w2).any() and (b0 == b2).all() and (b0 != b1).any()


def test_an_interrupted_run_raises(monkeypatch):
    monkeypatch.setattr(trial, "fit", lambda *a, **k: type("R", (), {"interrupted": True}))
    with pytest.raises(KeyboardInterrupt):
        trial.run(replace(Recipe(), **TINY), .1, 0, 0)


def test_nats_per_character_of_a_uniform_model():
    """A model that thinks all of V tokens equally likely pays ln V a token, over characters."""
    class Uniform(Module):
        def loss(self, inputs, targets):
            return type("T", (), {"data": math.log(7)})

    ids = np.arange(50) % 7
    assert trial.nats_per_character(Uniform(), ids, 100, 8) == pytest.approx(49 * math.log(7) / 100)
    class Broken(Uniform):
        def loss(self, inputs, targets):
            return type("T", (), {"data": math.nan})
    assert trial.nats_per_character(Broken(), ids, 100, 8) == math.inf


def test_texts_are_cut_apart():
    class Corpus:
        text = "".join(chr(97 + i % 26) for i in range(1000))

    texts = trial.Texts(Corpus, 0, 800, 30)
    assert texts.V == 26 and len(texts.train) == 720
    choose, report = texts.pieces["choose"], texts.pieces["report"]
    assert [len(choose[0]), choose[1], len(report[0]), report[1]] == [30, 29, 30, 29]
    ids = lambda a, b: trial.CharTokenizer.from_text(Corpus.text).encode(Corpus.text[a:b])  # noqa: E731
    assert choose[0].tolist() == ids(720, 750).tolist()
    assert report[0].tolist() == ids(760, 790).tolist()
    assert len(trial.Texts(Corpus, 0, 800, 900).pieces["choose"][0]) == 40, "halves do not overlap"
    pairs = trial.Texts(Corpus, 270, 800, 30)
    ids, count = pairs.pieces["choose"]
    assert pairs.V == 270 and len(ids) < 30 and 20 < count < 30


# The ledger

def entry(variant="baseline", rate=.1, start=0, order=0, loss=1.0, change=None, **more):
    return {"variant": variant, "change": change or {}, "rate": rate, "start": start,
            "order": order, "choose": loss, "report": loss, "parameters": 5, "skipped": 0,
            "seconds": 1.0, "stamp": "s"} | more


def test_a_ledger_survives_a_torn_line_and_other_writers(tmp_path):
    path = tmp_path / "l.jsonl"
    one, other = Ledger(path), Ledger(path)
    one.append(entry(start=1))
    other.append(entry(start=2))
    assert len(path.read_text().splitlines()) == 2
    path.write_bytes(path.read_bytes() + b'{"variant":"baseline","cha')
    again = Ledger(path)
    assert len(again.runs) == 2 and again.damaged == 1
    again.append(entry(start=3))
    last = Ledger(path)
    assert len(last.runs) == 3 and last.damaged == 1 and path.read_bytes().endswith(b"}\n")
    last.append(entry(start=3, loss=9.0))
    assert len(Ledger(path).runs) == 3, "the same run twice is one run"
    assert Ledger(tmp_path / "none.jsonl").runs == {}


def test_a_stamp_tells_code_machine_and_text_and_names_what_changed(tmp_path, monkeypatch):
    book = Ledger(tmp_path / "l.jsonl")
    first = book.stamp("text a")
    assert book.stamp("text a") == first and len(book.stamps) == 1
    told = book.stamps[first]
    assert told["baseline"] == asdict(Recipe()) and told["machine"] and told["commit"]
    assert {"llm/train/loop.py", "days/day63/parts.py", "days/day63/trial.py"} <= set(told["files"])
    assert book.changed(first) == []
    book.append(entry(stamp=first))
    second = book.stamp("text b")
    assert second != first and book.changed(second) == ["corpus"]
    monkeypatch.setattr(ledgers, "sources", lambda: {"llm/train/loop.py": "other"})
    third = Ledger(book.path).stamp("text a")
    assert third not in (first, second)
    assert Ledger(book.path).changed(third) == ["llm/train/loop.py"]


def test_comments_and_docstrings_are_no_code(tmp_path):
    def of(name, text):
        path = tmp_path / name
        path.write_text(text)
        return ledgers.code_digest(str(path))

    a = of("a.py", '"""A."""\n\n\ndef f(x):\n    """Say."""\n    return x\n')
    assert a == of("b.py", "def f(x):   # other\n    return x\n")
    assert a != of("c.py", "def f(x):\n    return -x\n")
    assert len(a) == 10


def test_a_commit_is_named_or_unknown(monkeypatch):
    assert len(ledgers.commit()) >= 7
    def fails(*args, **options):
        raise OSError
    monkeypatch.setattr(ledgers.subprocess, "run", fails)
    assert ledgers.commit() == "unknown"


# The study

PLAN = planned.Plan({}, {"C": 96}, choose=(0, 1), report=(10, 11, 12), table=(10, 11),
                      check=(20, 21), effects=1, only=("baseline", "baseline again", "RMSNorm"))


def study(plan, book, loss, most=1000):
    """Do what the plan asks for until nothing is missing; returns the order of the runs."""
    made = []
    book.stamp("text")
    while (tasks := ablations_choice.missing(plan, book)) and len(made) < most:
        for task in tasks:
            value = loss(task)
            book.append({**task, "choose": value, "report": value, "parameters": 9, "skipped": 0,
                         "seconds": 1.0, "stamp": "s"})
            made.append(task)
    return made


def bowl(best):
    def loss(task):
        middle = best * (3 if task["variant"] == "RMSNorm" else 1)
        bonus = .3 if task["variant"] == "RMSNorm" else 0
        return 2 - bonus + math.log(task["rate"] / middle) ** 2 + .001 * (task["start"] % 1000)
    return loss


def test_the_grid_grows_until_the_best_is_inside(tmp_path):
    for best in (.0001, .004, .1):
        book = Ledger(tmp_path / f"{best}.jsonl")
        study(PLAN, book, bowl(best))
        for name in PLAN.variants():
            step, wanted = ablations_choice.chosen(PLAN, book, name)
            rates = [r for r, _ in ablations_report.row(PLAN, book, name)["grid"]]
            rate = ablations_choice.rate_at(PLAN, name, step)
            wanted_rate = best * (3 if name == "RMSNorm" else 1)
            assert not wanted and abs(math.log(rate / wanted_rate)) <= math.log(1.5) / 2 + 1e-3
            assert min(rates) < rate < max(rates)
            near = sorted(rates, key=lambda r: abs(math.log(r / rate)))[1:3]
            assert all(1.49 < max(r, rate) / min(r, rate) < 1.51 for r in near)


def test_a_grid_without_a_bottom_ends(tmp_path):
    book = Ledger(tmp_path / "l.jsonl")
    made = study(PLAN, book, lambda task: -math.log(task["rate"]))
    assert ablations_choice.chosen(PLAN, book, "baseline")[0] == ablations_choice.WIDEST
    assert len(made) < 200


def test_seeds_and_halves_of_choice_and_report_are_apart(tmp_path, monkeypatch):
    book = Ledger(tmp_path / "l.jsonl")
    made = study(PLAN, book, bowl(.004))
    small = [t for t in made if "C" not in t["change"]]
    assert {t["start"] for t in small if t["variant"] == "RMSNorm"} == {0, 1, 10, 11, 12}
    assert {t["start"] for t in small if t["variant"] == "baseline again"} == {
        1000, 1001, 1010, 1011, 1012}
    assert {(t["start"], t["order"]) for t in small if t["start"] != t["order"]} == {
        (10, 11), (11, 10)}
    assert {t["variant"] for t in made if t["change"].get("C") == 96} == {"baseline", "RMSNorm"}
    reported = [t for t in small if t["start"] in (10, 11, 12, 1010, 1011, 1012)
                and t["start"] == t["order"]]
    assert [t["start"] % 1000 for t in reported] == [10] * 3 + [11] * 3 + [12] * 3, "by seed"
    monkeypatch.setattr(ablations_choice, "WAVE", 2)
    waves = [t["variant"] for t in study(PLAN, Ledger(tmp_path / "w.jsonl"), bowl(.004))
             if t["start"] == t["order"] == 12]
    assert waves == ["baseline", "RMSNorm"], "the null control has seeds of its own"
    first = [t["variant"] for t in study(PLAN, Ledger(tmp_path / "v.jsonl"), bowl(.004))]
    assert first.index("RMSNorm") > max(i for i, t in enumerate(first) if t == "baseline again")
    swapped = Ledger(tmp_path / "m.jsonl")          # the report half decides nothing
    for run_ in book.runs.values():
        swapped.append(run_ | {"report": -run_["report"]})
    assert ablations_choice.missing(PLAN, swapped) == []


def test_a_stopped_study_goes_on_and_ends_the_same(tmp_path):
    whole, parts_ = Ledger(tmp_path / "a.jsonl"), Ledger(tmp_path / "b.jsonl")
    made = study(PLAN, whole, bowl(.02))
    parts_.stamp("text")
    count = 0
    while ablations_choice.missing(PLAN, parts_):
        parts_ = Ledger(parts_.path)
        task = ablations_choice.missing(PLAN, parts_)[0]
        value = bowl(.02)(task)
        parts_.append({**task, "choose": value, "report": value, "parameters": 9, "skipped": 0,
                       "seconds": 1.0, "stamp": "s"})
        count += 1
    assert count == len(made) and parts_.runs == whole.runs
    assert ablations_report.analyse(PLAN, parts_, True) == ablations_report.analyse(
        PLAN, whole, True)


def test_the_report_says_what_is_real_and_what_is_not(tmp_path):
    rng = np.random.default_rng(8)

    def loss(task):
        size = {"RMSNorm": -.3, "baseline again": 0, "baseline": 0}[task["variant"]]
        return bowl(.004)({**task, "variant": "baseline"}) + size + .001 * rng.standard_normal()

    book = Ledger(tmp_path / "l.jsonl")
    study(PLAN, book, loss)
    record = ablations_report.analyse(PLAN, book, True)
    rows = record["variants"]
    assert rows["RMSNorm"]["real"] and ablations_report.verdict(rows["RMSNorm"]) == "better"
    assert rows["RMSNorm"]["mean"] == pytest.approx(-.3, abs=.01)
    assert rows["RMSNorm"]["holm"] == pytest.approx(2 * rows["RMSNorm"]["p"])
    assert record["tests"] == 2 and record["seeds"] == 3 and record["finished"]
    assert ranking.ranked(record)[0] == "RMSNorm"
    text = ablations_report.markdown(record)
    assert "| RMSNorm | 9 |" in text and "2 comparisons" in text and "Not finished" not in text
    assert set(record["table"]) == {"losses", "start", "order", "rest"}
    assert [r["name"] for r in record["larger"]] == ["baseline", "RMSNorm"]
    half = Ledger(tmp_path / "h.jsonl")
    study(PLAN, half, loss, most=3)
    early = ablations_report.analyse(PLAN, half, False)
    assert early["seeds"] == 0 and "no variant can be compared" in ablations_report.markdown(early)


def test_what_would_change_by_growing_is_not_enlarged(tmp_path):
    """A larger plan sets C and H, so variants of those are no candidates, however far they lie."""
    plan = replace(PLAN, only=("baseline", "1 head", "8 blocks, narrow", "RMSNorm", "ReLU"),
                   effects=2, choose=(0,))
    book = Ledger(tmp_path / "l.jsonl")
    far = {"1 head": 3, "8 blocks, narrow": -4, "RMSNorm": -.2, "ReLU": .5}
    study(plan, book, lambda task: bowl(.004)({**task, "variant": "baseline"})
          + far.get(task["variant"], 0))
    assert ablations_choice.largest(plan, book) == ["ReLU", "RMSNorm"]


def test_a_variant_that_diverges_is_named_and_not_tested(tmp_path):
    book = Ledger(tmp_path / "l.jsonl")
    study(PLAN, book, lambda task: math.inf if task["variant"] == "RMSNorm" and task["start"] == 11
          else bowl(.004)(task))
    record = ablations_report.analyse(PLAN, book, True)
    assert record["variants"]["RMSNorm"]["diverged"] == 1 and record["tests"] == 1
    assert "RMSNorm: 1 of 3 runs diverged" in ablations_report.markdown(record)
    assert ablations_report.verdict(record["variants"]["RMSNorm"]) == "diverged"


def test_changed_code_must_give_the_same_bits(tmp_path, monkeypatch):
    plan = planned.Plan.small()
    path = tmp_path / "a.json"
    record = ablations.measure(plan, path)
    runs = path.with_suffix(".jsonl").read_text()
    assert record["finished"] and record["runs"] > 20
    assert ablations.measure(plan, path)["runs"] == record["runs"], "nothing to do"
    assert path.with_suffix(".jsonl").read_text() == runs
    monkeypatch.setattr(ledgers, "sources", lambda: {"llm/train/loop.py": "other"})
    ablations.measure(plan, path)
    assert len(Ledger(path.with_suffix(".jsonl")).stamps) == 2, "same bits: the study goes on"
    monkeypatch.setattr(ledgers, "sources", lambda: {"llm/train/loop.py": "third"})
    monkeypatch.setattr(ablations_pool, "attempt",
                        lambda task, until=0: {"choose": 1.0, "report": 1.0})
    with pytest.raises(UsageError, match=r"llm/train/loop.py changed"):
        ablations.measure(plan, path)


def test_two_processes_make_the_same_runs(tmp_path, monkeypatch):
    """All runs in processes of their own: this one may hold kernels that it has compiled itself."""
    plan = replace(planned.Plan.small(), only=("baseline", "RMSNorm"), report=(10, 11))
    ablations_pool.compile_first([plan.task(name, 0.01, 0, 0) for name in plan.only])
    monkeypatch.setattr(ablations, "pool", ablations_pool.Processes)
    one = ablations.measure(plan, tmp_path / "a.json")
    two = ablations.measure(plan, tmp_path / "b.json", workers=2)
    same = [{k: v for k, v in r.items() if k != "seconds"} for r in (
        one["variants"]["RMSNorm"], two["variants"]["RMSNorm"])]
    assert same[0] == same[1]


def test_minutes_end_a_study_and_an_interrupt_writes_what_there_is(tmp_path, monkeypatch):
    plan, path = planned.Plan.small(), tmp_path / "a.json"
    assert ablations.measure(plan, path, minutes=1e-9)["runs"] == 0
    with pytest.raises(UsageError, match="must be above 0"):
        ablations.measure(plan, path, minutes=0)
    with pytest.raises(UsageError, match="must be above 0"):
        ablations.measure(plan, path, workers=0)
    made = []

    def stop(task, **more):
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append(task)
        return trial.run(replace(Recipe(), **task["change"]), task["rate"], task["start"],
                         task["order"])

    monkeypatch.setattr(ablations_pool, "attempt", stop)
    with pytest.raises(KeyboardInterrupt):
        ablations.measure(plan, path)
    assert json.loads(path.read_text())["runs"] == 4 and not json.loads(
        path.read_text())["finished"]


# The committed study, and today's run

COMMITTED = ROOT / "experiments/ablations.json"


def test_the_committed_record_is_what_the_ledger_says():
    record = json.loads(COMMITTED.read_text())
    plan, book = planned.PLAN, Ledger(COMMITTED.with_suffix(".jsonl"))
    assert book.damaged == 0 and record["runs"] == len(book.runs)
    rows = record["variants"]
    assert record["seeds"] >= 3 and "baseline again" in rows
    for name in rows:
        step, wanted = ablations_choice.chosen(plan, book, name)
        assert not wanted and abs(step) < ablations_choice.WIDEST
        assert rows[name]["rate"] == ablations_choice.rate_at(plan, name, step)
    names = [n for n in rows if "p" in rows[n]]
    base = rows["baseline"]["losses"]
    for name, holm in zip(names, stats.holm([rows[n]["p"] for n in names]), strict=True):
        again = stats.paired(rows[name]["losses"], base)
        assert rows[name]["holm"] == pytest.approx(holm)
        assert again["p"] == pytest.approx(rows[name]["p"])          # sums differ in the last bit
        assert rows[name]["real"] == (holm <= .05)
    assert not rows["baseline again"]["real"]
    assert record["longest"] < 20


def test_what_the_note_says_follows_from_the_numbers(tmp_path):
    assert [told.listed(x) for x in ([], ["a"], [*"abc"])] == ["none", "“a”", "“a”, “b” and “c”"]
    not_yet = "has not been run yet"
    assert not_yet in told.causes_said(None) and not_yet in told.larger_said([])
    assert not_yet in told.loud_said({"post-norm": {}}) and not_yet in told.loud_said({})
    said = told.causes_said({"start": .04, "order": .01, "rest": -1, "losses": [[0] * 5] * 5})
    assert "5 starts × 5 orders" in said
    assert "start alone is 0.2000" in said and "alone 0.1000" in said and "explain 0.0000" in said
    base = {"name": "baseline", "parameters": 9, "losses": [1.0, 2.0]}
    said = told.larger_said([base, {"name": "a", "mean": .5, "low": -1.0, "high": 2.0},
                                    {"name": "b"}])
    assert "“a” differs there by +0.5000" in said and "“b” diverged" in said
    assert said.startswith("The 2 variants")

    def rows(quiet, loud):
        noise = np.array([0, .01, -.01])
        return {"post-norm": {"mean": quiet}, "loud embedding": {"losses": [2.0, 2.0, 2.0]},
                "loud, post-norm": {"losses": (2 + loud + noise).tolist()}}

    for quiet, loud, words in ((-.2, 0, "cannot be told apart from 0"), (-.2, -.05, "most of the"),
                               (-.2, .3, "most of the difference, not"), (-.2, -.19, "is refuted")):
        assert words in told.loud_said(rows(quiet, loud))
    with pytest.raises(UsageError, match="holds no study"):
        told.committed(tmp_path / "none.json")
    (tmp_path / "few.json").write_text('{"seeds": 0}')
    with pytest.raises(UsageError, match="few.json holds no study"):
        told.committed(tmp_path / "few.json")


@pytest.fixture(scope="module")
def result():
    return run.measure(fast=True, seed=0)


def test_headline(result):
    names = [row[0] for row in result.repeated]
    assert {"baseline", "baseline again"} <= set(names)
    assert result.alarms[-1][1] > .3 > .08 > result.alarms[-1][2]
    assert result.curse[0] < -.4 and abs(result.curse[1]) < .2
    assert result.intervals[0] > result.intervals[1]
    assert len(run.table(result)) == 1 + len(result.study["ranking"])
    assert {f.name for f in fields(result)} >= {"repeated", "alarms", "curse"}


def test_show_and_draw(result, tmp_path, capsys):
    from days.harness import figure
    run.show(result)
    assert "baseline" in capsys.readouterr().out
    figure(run.draw, result, tmp_path / "f.svg")
    assert "<svg" in (tmp_path / "f.svg").read_text()[:1000]


