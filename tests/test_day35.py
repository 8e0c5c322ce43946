"""Day 35: the loop trains what it is told to, weighs tokens evenly, and stops without losing."""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from days.day35 import job
from days.day35.run import measure, smooth
from days.harness import UsageError
from llm.data.batches import random_windows, sliding_windows
from llm.data.text import Corpus
from llm.grad.tensor import Tensor
from llm.models.gpt import GPT, GPTConfig
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import Constant, WarmupCosine
from llm.train.snapshot import SnapshotError, load_snapshot, save_snapshot

ROOT = Path(__file__).resolve().parent.parent
TINY = GPTConfig(V=7, T=6, C=8, L=1, H=2)


class Descent:
    """Plain gradient steps, to see the loop alone."""

    def __init__(self, parameters):
        self.parameters = parameters

    def step(self, rate):
        for p in self.parameters.values():
            p.data = p.data - rate * p.grad


def parabola(start):
    """A parameter x and the loss x²: its gradient is 2x."""
    x = Tensor(np.array([start]), requires_grad=True)
    return x, {"x": x}, lambda batch: ((x * x).sum(), 1)


def test_three_steps_by_hand():
    x, parameters, loss = parabola(1.0)
    run = fit(parameters, loss, itertools.repeat(None), Descent(parameters), Constant(0.25),
              steps=3, clip=10.0)
    assert run.losses == [1.0, 0.25, 0.0625]                 # each step halves x
    assert x.data[0] == 0.125 and run.steps == 3 and not run.interrupted


def test_windows_by_hand():
    ids = np.array([10, 11, 12, 13, 14, 15])
    inputs, targets = next(random_windows(ids, 50, 3, np.random.default_rng(0)))
    assert np.array_equal(targets[:, :-1], inputs[:, 1:])    # targets are one step ahead
    assert set(inputs[:, 0]) == {10, 11, 12} and targets.max() == 15
    (inputs, targets), = sliding_windows(ids, 8, 3, 2)
    assert inputs.tolist() == [[10, 11, 12], [12, 13, 14]]
    assert targets.tolist() == [[11, 12, 13], [-100, 14, 15]]


@pytest.mark.parametrize("n,T,stride,B", [(9, 8, 8, 2), (50, 8, 3, 4), (51, 8, 4, 100),
                                          (17, 16, 1, 1), (100, 7, 7, 3)])
def test_sliding_windows_score_every_token_once(n, T, stride, B):
    ids = np.arange(1000, 1000 + n)
    seen = []
    for inputs, targets in sliding_windows(ids, B, T, stride):
        assert inputs.shape == targets.shape and len(inputs) <= B
        kept = targets != -100
        assert np.array_equal(inputs[kept] + 1, targets[kept])
        seen.extend(targets[kept].tolist())
        later = np.nonzero(kept & (targets > 1000 + T))
        assert (later[1] >= T - stride).all() or n <= T + stride
    assert seen == list(range(1001, 1000 + n))


@pytest.mark.parametrize("ids,T", [([], 1), ([1, 2, 3], 3), ([1], 1)])
def test_a_text_that_is_too_short_is_refused(ids, T):
    with pytest.raises(ValueError, match=f"{len(ids)} tokens.*{T}"):
        next(random_windows(np.array(ids), 1, T, np.random.default_rng(0)))
    with pytest.raises(ValueError, match=f"{len(ids)} tokens.*{T}"):
        next(sliding_windows(np.array(ids), 1, T, 1))


def model64(seed=0):
    model = GPT(TINY, np.random.default_rng(seed))
    for p in model.named_parameters().values():
        p.data = p.data.astype(np.float64)
    return model


def test_microbatches_of_unequal_counts_equal_the_full_batch():
    rng = np.random.default_rng(1)
    ids, targets = rng.integers(0, 7, (2, 4, 6))
    targets[0, 1:] = targets[1, 3:] = -100                    # 1, 3, 6, 6 targets a row
    parts = [(ids[:1], targets[:1]), (ids[1:], targets[1:])]
    results = []
    for batches, k in (([(ids, targets)], 1), (parts, 2)):
        model = model64()
        parameters = model.named_parameters()

        def loss(batch, model=model):
            return model.loss(*batch), int((batch[1] != -100).sum())

        run = fit(parameters, loss, iter(batches), Descent(parameters), Constant(1.0), steps=1,
                  accumulate=k, clip=1e9)
        assert run.tokens == 16
        results.append((run.losses[0], {n: p.data for n, p in parameters.items()}))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-12)
    for name, array in results[0][1].items():
        np.testing.assert_allclose(results[1][1][name], array, atol=1e-6)


def test_a_nan_gradient_skips_its_step():
    x, parameters, loss = parabola(1.0)
    x.data[0] = np.nan
    run = fit(parameters, loss, itertools.repeat(None), AdamW(parameters), Constant(0.1), steps=2)
    assert run.skipped == 2 and run.steps == 2


def test_hooks_see_every_step_and_the_schedule_its_number():
    _, parameters, loss = parabola(1.0)
    seen = []
    fit(parameters, loss, itertools.repeat(None), Descent(parameters), WarmupCosine(0.1, warmup=4),
        steps=8, hooks=[seen.append], start=2)
    assert [s.step for s in seen] == [3, 4, 5, 6, 7, 8]
    assert seen[1].rate == 0.1 and seen[-1].rate == 0.0 and seen[0].rate == pytest.approx(0.075)


def test_no_limit_is_an_error_and_time_is_one():
    _, parameters, loss = parabola(1.0)
    with pytest.raises(ValueError, match="say how long"):
        fit(parameters, loss, itertools.repeat(None), Descent(parameters), Constant(0.1))
    run = fit(parameters, loss, itertools.repeat(None), Descent(parameters), Constant(1e-4),
              seconds=0.05)
    assert run.steps > 1 and run.seconds >= 0.05


def test_ctrl_c_finishes_the_step_and_returns():
    _, parameters, loss = parabola(1.0)

    def interrupt(step):
        if step.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    run = fit(parameters, loss, itertools.repeat(None), Descent(parameters), Constant(0.1),
              steps=100, hooks=[interrupt])
    assert run.interrupted and run.steps in (3, 4) and len(run.losses) == run.steps
    assert signal.getsignal(signal.SIGINT) is before


def snapshot_of(path, seed=0):
    model = GPT(TINY, np.random.default_rng(seed))
    optimizer = AdamW(model.named_parameters())
    rng = np.random.default_rng(5)
    model.loss(np.zeros((1, 6), int), np.ones((1, 6), int)).backward()
    optimizer.step(0.1)
    save_snapshot(path, model, optimizer, rng, {"step": 12})
    return model, optimizer, rng


def test_a_snapshot_holds_everything(tmp_path):
    model, optimizer, rng = snapshot_of(tmp_path / "new folder" / "a.npz")
    about, weights, moments, rng_state = load_snapshot(tmp_path / "new folder" / "a.npz")
    assert about == {"step": 12} and rng_state == rng.bit_generator.state
    for name, array in model.state_dict().items():
        assert np.array_equal(weights[name], array)
    assert moments.keys() == optimizer.state_dict().keys() and moments["t"] == 1
    assert [p.name for p in (tmp_path / "new folder").iterdir()] == ["a.npz"]


def test_damaged_missing_or_foreign_snapshots_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(SnapshotError, match="no snapshot"):
        load_snapshot(path)
    snapshot_of(path)
    whole = path.read_bytes()
    for bad in (whole[:1000], whole[:-30], b"", b"hello", whole[:400] + b"xx" + whole[402:]):
        path.write_bytes(bad)
        with pytest.raises(SnapshotError, match="damaged"):
            load_snapshot(path)
    np.savez(path, x=np.ones(3))
    with pytest.raises(SnapshotError, match="damaged or no snapshot"):
        load_snapshot(path)


def test_a_failed_save_leaves_the_old_snapshot(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    snapshot_of(path)
    before = path.read_bytes()

    def full(*args, **kw):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(SnapshotError, match="No space left.*Free some space"):
        snapshot_of(path, seed=1)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_resume_goes_on_and_refuses_a_text_with_new_characters(tmp_path):
    recipe, text = job.Recipe.small(), "to be or not to be, that is the question. " * 40
    corpus = Corpus("hamlet", text)
    state = job.build(corpus, recipe, 0)
    run = type("Run", (), {"steps": 7, "seconds": 0.4, "interrupted": True})
    job.keep(tmp_path / "m.npz", state, run, 1.5)
    again = job.restore(tmp_path / "m.npz", corpus)
    assert again.step == 7 and again.time_left(1.5) == pytest.approx(1.1)
    assert again.time_left(0.5) == 0.5 and again.step == 0    # used up: a new cycle
    with pytest.raises(UsageError, match="never saw 'Z'"):
        job.restore(tmp_path / "m.npz", Corpus("other", text + "Z"))


def test_smooth_keeps_the_mean_and_the_end():
    run = type("Run", (), {"losses": [4.0, 2.0, 3.0], "seconds": 6.0})
    assert smooth(run) == ([2.0, 4.0, 6.0], [4.0, 2.0, 3.0])
    assert smooth(run, points=1) == ([6.0], [3.0])


def course(*flags):
    return subprocess.run([sys.executable, "days/day35/run.py", *flags], cwd=ROOT,
                          capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("flags,reason", [
    (["--text", "no/such/file.txt"], "no/such/file.txt"),
    (["--model", "no/such.npz", "--prompt", "x"], "no snapshot"),
    (["--model", "no/such.npz", "--resume", "--fast"], "no snapshot"),
    (["--seconds", "0"], "--seconds"), (["--seconds", "x"], "--seconds"),
])
def test_bad_requests_get_one_line_and_status_2(flags, reason):
    done = course(*flags)
    assert done.returncode == 2 and reason in done.stderr and "Traceback" not in done.stderr


def test_headline_the_gpt_learns_and_counting_is_ahead(tmp_path):
    result = measure(fast=True, seed=0, model=tmp_path / "gpt.npz")
    assert result.steps > 3 and (tmp_path / "gpt.npz").exists()
    assert result.val_nats_per_char < np.log(60)              # better than not knowing anything
    assert result.ngram_nats_per_char < result.val_nats_per_char
    assert len(result.page) == job.Recipe.small().page
