"""Day 63 · The sweeps: a rate inside its grid, fresh seeds, and runs that are kept."""

import json

import numpy as np
import pytest

from experiments import dropout, landscape, past_length, sweep, sweep_run
from experiments.sweep_run import Wider, make
from llm.grad.tensor import no_grad

TINY = {"C": 12, "H": 1, "L": 2, "B": 2, "T": 8, "steps": 3, "warmup": 1, "characters": 20_000,
        "held_out": 300}
IDS = np.arange(16).reshape(2, 8)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_grid_grows_until_its_best_rate_is_inside():
    asked = []

    def score(rate):
        asked.append(rate)
        return (np.log(rate) - np.log(0.09)) ** 2

    best, grid = sweep.best_rate(0.01, score)
    assert 0.09 / 1.25 < best < 0.09 * 1.25
    rates = [rate for rate, _ in grid]
    assert rates[0] < best < rates[-1] and len(set(asked)) == len(asked)
    assert all(b / a == pytest.approx(1.5, rel=1e-3) for a, b in zip(rates, rates[1:]))


def test_a_grid_that_never_turns_ends():
    best, grid = sweep.best_rate(1.0, lambda rate: -rate)
    assert best == grid[-1][0] or best == grid[-2][0]
    assert len(grid) <= 2 * sweep.MOST + 2


def test_a_verdict_needs_a_paired_difference_that_survives_holm():
    def row(x, losses):
        runs = [{"report": loss, "train": 0.0, "parameters": 1} for loss in losses]
        return sweep.row(x, 0.1, [], runs)

    one = sweep.Sweep("n", "x", {"c": {}}, {"c": 0})
    noise = np.array([0.0, 0.01, -0.01, 0.02])
    record = {"curves": {"c": [row(0, 2 + noise), row(1, 1.5 + noise[::-1]),
                               row(2, 2 + 3 * noise[::-1]), row(3, [2, 2, np.inf, 2])]}}
    sweep.compare(one, record)
    assert [r["verdict"] for r in record["curves"]["c"]] == [
        "reference", "better", "cannot be told apart", "1 of 4 diverged"]
    assert record["curves"]["c"][1]["holm"] == 2 * record["curves"]["c"][1]["difference"]["p"]
    assert record["curves"]["c"][3]["mean"] == 2


def test_first_weights_and_their_scaling_are_as_asked():
    plain, loud, unscaled = (make(Wider(**TINY, **more), 30, np.random.default_rng(0))
                             for more in ({}, {"start": 4.0}, {"scaled": False}))
    for name, p in plain.blocks[0].named_parameters().items():
        factor = [m.blocks[0].named_parameters()[name].data / np.where(p.data, p.data, 1)
                  for m in (loud, unscaled)]
        if p.data.ndim == 2:
            assert np.allclose(factor[0], 4)
            out = name in ("mix.inner.project.w", "think.inner.down.w")
            assert np.allclose(factor[1], 2 if out else 1)            # √(2·2)
        else:
            assert (loud.blocks[0].named_parameters()[name].data == p.data).all()
    assert (plain.embed.table.data == loud.embed.table.data).all()


def test_dropout_acts_in_training_only_and_changes_no_first_weight():
    plain, dropped = (make(Wider(**TINY, dropout=p), 30, np.random.default_rng(0))
                      for p in (0.0, 0.5))
    with no_grad():
        base = plain(IDS).data
        assert (dropped(IDS).data == base).all()
        rng = np.random.default_rng(1)
        assert (dropped(IDS, rng).data != dropped(IDS, rng).data).any()


def test_a_sweep_is_resumed_without_a_run_twice(tmp_path, monkeypatch):
    made, real = [], sweep_run.run

    def counted(*task):
        made.append(task)
        if len(made) == 4:
            raise KeyboardInterrupt
        return real(*task)

    small = dropout.SWEEP.small()
    path = tmp_path / "dropout-fast.json"
    monkeypatch.setattr(sweep_run, "run", counted)
    with pytest.raises(KeyboardInterrupt):
        sweep.measure(small, path)
    kept = path.with_suffix(".jsonl").read_text().count("\n")
    record = sweep.measure(small, path)
    assert kept == 3 and record["runs"] == len(made) - 1
    again = sweep.measure(small, path)
    assert again["curves"] == record["curves"] and record["runs"] == len(made) - 1
    assert json.loads(path.read_text())["curves"]["all of the text"][0]["verdict"] == "reference"


def test_the_text_that_is_read_can_be_cut(monkeypatch):
    seen = []
    real = sweep_run.random_windows
    monkeypatch.setattr(sweep_run, "random_windows",
                        lambda ids, *rest: seen.append((len(ids), rest[1])) or real(ids, *rest))
    sweep_run.run(Wider(**TINY, read=500, window=4), 0.01, 0, 0)
    assert seen == [(500, 4)]


def test_directions_have_the_lengths_of_the_columns(rng):
    weights = {"w": rng.normal(size=(5, 3)) * [1, 10, 100], "b": rng.normal(size=4)}
    d = landscape.direction(weights, rng)
    assert np.allclose(np.linalg.norm(d["w"], axis=0), np.linalg.norm(weights["w"], axis=0))
    assert np.isclose(np.linalg.norm(d["b"]), np.linalg.norm(weights["b"]))


def test_a_renamed_model_is_the_same_function_and_a_barrier_is_measured(rng):
    recipe = Wider(**TINY)
    place, w = landscape.trained(recipe, 0.01, 0, 0)
    other = landscape.renamed(w, recipe.L, rng)
    assert any((other[name] != w[name]).any() for name in w)
    assert place.at(other) == pytest.approx(place.at(w), rel=1e-5)
    line, barrier = place.barrier(w, w, 3)
    assert barrier == pytest.approx(0, abs=1e-12) and len(line) == 3
    d = landscape.direction(w, rng)
    assert place.at(w, (0.0, d)) == place.at(w) != place.at(w, (0.5, d))


def test_reading_past_the_trained_length_keeps_the_trained_one(tmp_path):
    record = past_length.measure(past_length.Plan.small(), tmp_path / "p.json")
    way = record["ways"]["rotary"]
    assert way["window"] == 32 and len(way["mean"]) == len(record["lengths"]) == 5
    assert all(np.isfinite(way["mean"]))
