"""Day 35: the loop trains what it is told to, weighs tokens evenly, and stops without losing."""

import itertools
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from days.day35 import job, kept
from days.day35 import trained as reader
from days.day35.run import measure, smooth
from days.day35.session import Session
from days.day35.trained import Recipe, code_of_kernels, name_of, nats_per_character, trained
from days.harness import UsageError, progress
from experiments import equal_time
from llm.data.batches import random_windows, sliding_windows
from llm.data.text import Corpus, TextError
from llm.functions.probability import log_softmax
from llm.grad.tensor import Tensor
from llm.layers.module import parameter
from llm.models.gpt import GPT, GPTConfig
from llm.models.ngram import NGram
from llm.tokens.chars import CharTokenizer
from llm.tokens.fast_bpe import FastBPE
from llm.train.adam import AdamW
from llm.train.loop import expected_total, fit, gradients
from llm.train.probe import Probe
from llm.train.schedule import Constant, WarmupCosine
from llm.train.sgd import SGD
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


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_not_applied(bad):
    x, parameters, _ = parabola(1.0)
    before = []

    def loss(factor):
        before.append(x.data[0])
        return (x * x * Tensor(np.array([factor]))).sum(), 1

    run = fit(parameters, loss, iter([1.0, bad, 1.0]), Descent(parameters), Constant(0.25),
              steps=3, clip=10.0)
    assert run.skipped == 1 and run.steps == 3
    assert before == [1.0, 0.5, 0.5] and x.data[0] == 0.25      # the second step changed nothing


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


def timed(monkeypatch, durations, schedule, **options):
    """A run whose steps take these seconds by an imitated clock: its Steps."""
    _, parameters, loss = parabola(1.0)
    now, left, seen = [0.0], iter(durations), []

    def lasting(batch):
        now[0] += next(left)
        return loss(batch)

    monkeypatch.setattr("llm.train.loop.time.perf_counter", lambda: now[0])
    fit(parameters, lasting, itertools.repeat(None), Descent(parameters), schedule,
        hooks=[seen.append], **options)
    return seen


def test_a_resumed_run_never_takes_a_step_at_the_peak_rate(monkeypatch):
    seen = timed(monkeypatch, itertools.repeat(0.25), WarmupCosine(0.1, warmup=4), seconds=1.25,
                 start=2000)
    assert [s.step for s in seen] == [2001, 2002, 2003, 2004, 2005]
    assert {s.total for s in seen} == {2005}                  # known from the first step on
    assert max(s.rate for s in seen) < 1e-5                   # with an unknown total it was 0.1


@pytest.mark.parametrize("step,start,passed,steps,seconds,expected", [
    (10, 0, 2.0, None, 6.0, 30),                              # a third of the time: 3 × 10
    (2010, 2000, 2.0, None, 6.0, 2030),                       # only this call's steps were timed
    (10, 0, 2.0, 20, 6.0, 20), (10, 0, 2.0, 40, 6.0, 30),     # whichever comes first
    (10, 0, 2.0, 40, None, 40), (10, 0, 2.0, 40, np.inf, 40),
    (10, 0, 7.0, None, 6.0, 10), (10, 0, 1.0, 8, None, 10),   # never less than the step itself
    (1, 0, 0.0, 5, 1.0, 5),
])
def test_the_total_is_guessed_from_the_pace(step, start, passed, steps, seconds, expected):
    assert expected_total(step, start, passed, steps, seconds) == expected


def test_past_the_guess_the_schedule_is_never_asked_for_a_step_after_the_last(monkeypatch):
    """A slow last step ends late, and by its pace fewer steps would have been right."""
    seen = timed(monkeypatch, [1, 1, 1, 6], lambda step, total: step <= total, seconds=4.5)
    assert [(s.step, s.total, s.rate) for s in seen] == [(1, 4, True), (2, 4, True), (3, 4, True),
                                                         (4, 4, True)]


def test_batches_that_end_and_limits_without_sense_are_refused():
    _, parameters, loss = parabola(1.0)

    def go(batches=None, **options):
        return fit(parameters, loss, batches or itertools.repeat(None), Descent(parameters),
                   Constant(0.1), **options)

    assert go(iter([None] * 4), steps=4).steps == 4
    with pytest.raises(ValueError, match="batches have run out.*fewer steps"):
        go(iter([None] * 3), steps=4)
    for bad in ({"seconds": float("nan")}, {"seconds": -1.0}, {"steps": -1}):
        with pytest.raises(ValueError, match=str(next(iter(bad.values())))):
            go(**bad)
    for bad in (0, 1.5):
        with pytest.raises(ValueError, match=f"accumulate={bad}"):
            go(steps=1, accumulate=bad)
    with pytest.raises(ValueError, match="say how long"):
        go(seconds=np.inf)
    assert go(seconds=np.inf, steps=3).steps == 3 and go(steps=0).steps == go(seconds=0).steps == 0


def test_no_clip_leaves_a_long_gradient_as_it_is():
    x, parameters, loss = parabola(100.0)
    fit(parameters, loss, itertools.repeat(None), Descent(parameters), Constant(0.25), steps=1,
        clip=None)
    assert x.data[0] == 50.0


def test_an_infinite_loss_in_one_microbatch_does_not_become_nan_where_nothing_is_infinite():
    """0 · ∞ is NaN, so the seed of the backward must not be made from the loss."""
    x, y = (Tensor(np.array([1.0]), requires_grad=True) for _ in range(2))

    def loss(batch):
        part = x * x if batch else y * Tensor(np.array([np.inf]))
        return part.sum(), 3

    gradients({"x": x, "y": y}, loss, iter([True, False]), 2)
    assert x.grad[0] == 1.0 and y.grad[0] == np.inf           # 3 · 2x / 6


def test_a_second_ctrl_c_raises_but_the_echo_of_the_first_does_not():
    _, parameters, loss = parabola(1.0)
    told, handlers = [], (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))

    def press(*times):
        def hook(step):
            if step.step == 3:
                for pause in times:
                    time.sleep(pause)
                    os.kill(os.getpid(), signal.SIGINT)
        return fit(parameters, loss, itertools.repeat(None), Descent(parameters), Constant(0.1),
                   steps=100, hooks=[hook], on_interrupt=told.append)

    assert press(0, 0.01).steps in (3, 4) and told == [signal.SIGINT]
    with pytest.raises(KeyboardInterrupt):
        press(0, 0.35)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


def test_sigterm_finishes_the_step_too():
    _, parameters, loss = parabola(1.0)
    run = fit(parameters, loss, itertools.repeat(None), Descent(parameters), Constant(0.1),
              steps=100, hooks=[lambda step: os.kill(os.getpid(), signal.SIGTERM)])
    assert run.interrupted and run.steps in (1, 2)


def snapshot_of(path, seed=0):
    model = GPT(TINY, np.random.default_rng(seed))
    optimizer = AdamW(model.named_parameters())
    rng = np.random.default_rng(5)
    model.loss(np.zeros((1, 6), int), np.ones((1, 6), int)).backward()
    optimizer.step(0.1)
    save_snapshot(path, model, optimizer, rng, {"step": 12})
    return model, optimizer, rng


def test_a_snapshot_holds_everything(tmp_path):
    model, optimizer, rng = snapshot_of(tmp_path / "new" / "folder" / "a.npz")
    about, weights, moments, rng_state = load_snapshot(tmp_path / "new" / "folder" / "a.npz")
    assert about == {"step": 12} and rng_state == rng.bit_generator.state
    for name, array in model.state_dict().items():
        assert np.array_equal(weights[name], array)
    assert moments.keys() == optimizer.state_dict().keys() and (moments["t"] == 1).all()
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["a.npz"]


@pytest.mark.parametrize("sizes", [(1e38, 1e38), (1e38, 2e38), (1, 1e38)])
def test_gradients_near_the_largest_number_are_gathered_without_overflow(sizes):
    p = Tensor(np.ones(2, np.float32), requires_grad=True)
    value, count = gradients({"p": p}, lambda size: (p[:1].sum() * np.float32(size), 1000),
                             iter(sizes), 2)
    assert value == pytest.approx(sum(sizes) / 2) and count == 2000
    assert p.grad == pytest.approx(np.array([sum(sizes) / 2, 0]))


def test_an_infinite_loss_in_one_of_two_batches_skips_the_step():
    p = Tensor(np.ones(2, np.float32), requires_grad=True)
    run = fit({"p": p}, lambda size: ((p * np.float32(size)).sum(), 7), iter([1, np.inf, 1, 1]),
              AdamW({"p": p}), Constant(1e-3), steps=2, accumulate=2)
    assert run.skipped == 1 and run.losses[0] == np.inf and p.data == pytest.approx(.999, abs=1e-6)


def test_halves_of_a_character_stay_two_in_a_snapshot(tmp_path):
    model = GPT(TINY, np.random.default_rng(0))
    save_snapshot(tmp_path / "a.npz", model, AdamW(model.named_parameters()),
                  np.random.default_rng(0), {"text": "\ud83d\udc4d \U0001f44d"})
    about, *_ = load_snapshot(tmp_path / "a.npz")
    assert about["text"] == "\ud83d\udc4d \U0001f44d"


@pytest.mark.parametrize("about, where", [
    ({"a": {1, 2}}, r"about\['a'\] is \{1, 2\}"),
    ({"a": [{1: 2}]}, r"about\['a'\]\[0\] is \{1: 2\}"),
    ({"n": np.int64(3)}, "about"), ({"p": Path("x")}, "about")])
def test_what_json_would_give_back_as_something_else_is_refused(tmp_path, about, where):
    model = GPT(TINY, np.random.default_rng(0))
    path, optimizer = tmp_path / "a.npz", AdamW(model.named_parameters())
    with pytest.raises(ValueError, match=where):
        save_snapshot(path, model, optimizer, np.random.default_rng(0), about)
    assert not path.exists()
    kept = {"x": None, "y": [1, 2.5, True, "z"], "deep": {"k": {"l": []}}, "pair": (1, 2)}
    save_snapshot(path, model, optimizer, np.random.default_rng(0), kept)
    assert load_snapshot(path)[0] == kept | {"pair": [1, 2]}


def test_a_snapshot_is_on_the_disk_before_it_takes_the_old_ones_place(tmp_path, monkeypatch):
    done, replace_, fsync = [], os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: done.append("fsync") or fsync(handle))
    monkeypatch.setattr(os, "replace", lambda *a: done.append("replace") or replace_(*a))
    snapshot_of(tmp_path / "a.npz")
    assert done == ["fsync", "replace"]


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


def test_an_interrupt_just_after_the_old_one_was_replaced_is_told_as_what_it_is(
        tmp_path, monkeypatch):
    rename = os.replace

    def interrupted(*paths):
        rename(*paths)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        snapshot_of(tmp_path / "a.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_a_snapshot_may_be_read_by_others_and_leaves_no_part(tmp_path):
    snapshot_of(tmp_path / "a.npz")
    assert (tmp_path / "a.npz").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("kind", [np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_every_generator_of_numpy_can_be_kept(tmp_path, kind):
    rng, again = np.random.Generator(kind(1)), np.random.Generator(kind(2))
    rng.random(3)
    model = GPT(TINY, np.random.default_rng(0))
    save_snapshot(tmp_path / "a.npz", model, AdamW(model.named_parameters()), rng, {})
    again.bit_generator.state = load_snapshot(tmp_path / "a.npz")[3]
    assert again.random() == rng.random()


def test_whatever_is_wrong_with_a_snapshot_the_loaders_own_error_says_so(tmp_path):
    path = tmp_path / "a.npz"
    snapshot_of(path)
    whole, refused = path.read_bytes(), 0
    for i in [*range(0, 300, 7), *range(len(whole) - 400, len(whole), 5)]:
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 64]) + whole[i + 1:])
        try:
            load_snapshot(path)
        except SnapshotError as error:
            refused += 1
            assert "damaged" in str(error)
    assert refused > 50
    np.save(path.with_suffix(".npy"), np.ones(3))
    path.with_suffix(".npy").rename(path)
    bad = [path.read_bytes()]
    for about in ("[1, 2]", '"words"', "[" * 100_000, "{}", "not json"):
        np.savez(path, about=np.array(about))
        bad.append(path.read_bytes())
    np.savez_compressed(path, about=np.array('{"rng": 1}'), x=np.zeros(10**6))
    bad.append(path.read_bytes())
    np.savez(path, about=np.array('{"rng": 1}'), x=np.zeros(4))
    bad.append(path.read_bytes().replace(b"(4,), }" + b" " * 14, b"(400000000000,), }   "))
    assert b"(400000000000,)" in bad[-1]
    for data in bad:
        path.write_bytes(data)
        with pytest.raises(SnapshotError, match="damaged or no snapshot: delete it") as told:
            load_snapshot(path)
        assert "pickle" not in str(told.value)
    with pytest.raises(SnapshotError, match="cannot read.*directory"):
        load_snapshot(tmp_path)


def test_an_array_larger_than_its_file_is_refused_before_there_is_room_for_it(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, about=np.array('{"rng": 1}'), x=np.zeros(10**7))    # 80 MB in 80 KB
    tracemalloc.start()
    with pytest.raises(SnapshotError, match="damaged"):
        load_snapshot(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**7


HAMLET = Corpus("hamlet.txt", "to be or not to be, that is the question. " * 40)


def test_resume_goes_on_with_the_same_weights_tokens_and_windows(tmp_path):
    path, state = tmp_path / "m.npz", job.build(HAMLET, job.Recipe.small(), 0)
    state.rng.random(3)
    kept.keep(path, state, 7, 0.4)
    again = kept.restore(path)
    assert again.recipe == state.recipe and again.rng.random() == state.rng.random()
    for name, array in again.model.state_dict().items():
        assert np.array_equal(array, state.model.state_dict()[name])
    text = HAMLET.text + "Zoë 👂"                              # all bytes are tokens
    assert np.array_equal(again.tokenizer.encode(text), state.tokenizer.encode(text))
    assert len(again.tokenizer.encode(HAMLET.text)) < len(HAMLET.text) / 2
    assert again.step == 7 and again.time_left(1.5) == pytest.approx(1.1)
    assert again.time_left(0.5) == 0.5 and again.step == 0    # used up: a new cycle


def test_byte_pairs_of_the_main_job_come_from_the_training_text_alone(monkeypatch):
    seen, train = [], FastBPE.train
    monkeypatch.setattr(FastBPE, "train", lambda text, V: seen.append(text) or train(text, V))
    state = job.build(HAMLET, job.Recipe.small(), 0)
    assert seen == [HAMLET.train] and state.tokenizer.vocab_size <= job.Recipe.small().V
    ids, held_out = job.encoded(state, HAMLET)
    assert state.tokenizer.decode(ids) == HAMLET.train
    assert state.tokenizer.decode(held_out) == HAMLET.validation
    with pytest.raises(UsageError, match="held-out part of hamlet.txt has 14 tokens; at least 33"):
        job.encoded(state, Corpus("hamlet.txt", HAMLET.text[:420]))


def test_a_kept_model_of_characters_is_refused_with_the_cure(tmp_path):
    state = job.build(HAMLET, job.Recipe.small(), 0)
    save_snapshot(tmp_path / "old.npz", state.model, state.optimizer, state.rng,
                  {"recipe": {"T": 32, "orders": [6, 7]}, "characters": " abc"})
    with pytest.raises(SnapshotError, match="kept by another version.*train again"):
        kept.restore(tmp_path / "old.npz")


def test_each_text_has_a_model_of_its_own():
    texts = [Corpus("shakespeare", "a"), Corpus("python", "a"), Corpus("my.txt", "a"),
             Corpus("my.txt", "b"), Corpus("your.txt", "a")]
    paths = [kept.path_of(text, fast) for text in texts for fast in (False, True)]
    assert len(set(paths)) == len(paths)
    assert paths[0] == ROOT / "runs" / "day35" / "gpt-shakespeare.npz"
    assert paths[1].name == "gpt-fast-shakespeare.npz"
    assert kept.path_of(Corpus("shakespeare", "b"), False) == paths[0]
    assert paths[4].name == "gpt-my-ca978112.npz"             # SHA-256 of "a"


def test_a_path_that_cannot_hold_the_model_is_refused_before_the_work(tmp_path):
    (tmp_path / "poem.txt").write_text("mine")
    for path, resume in ((tmp_path / "poem.txt" / "m.npz", False), (tmp_path, True),
                         (tmp_path / "poem.txt" / "m.npz", True)):
        with pytest.raises((UsageError, SnapshotError), match="cannot"):
            kept.check_path(path, resume)
            kept.restore(path)
    with pytest.raises(UsageError, match="poem.txt exists and is no model: it will not be repl"):
        kept.check_path(tmp_path / "poem.txt", False)
    assert (tmp_path / "poem.txt").read_text() == "mine"
    kept.check_path(tmp_path / "new" / "m.npz", False)
    assert list((tmp_path / "new").iterdir()) == []
    snapshot_of(tmp_path / "m.npz")
    kept.check_path(tmp_path / "m.npz", False)


def session(tmp_path, new=True, seconds=0.6):
    recipe = replace(job.Recipe.small(), steps=None)
    return Session(job.build(HAMLET, recipe, 0), HAMLET, tmp_path / "m.npz", seconds, new)


def encoded(it):
    return it.state.tokenizer.encode(HAMLET.train), it.state.tokenizer.encode(HAMLET.validation)


def test_the_model_is_kept_at_every_look_and_an_older_one_is_set_aside(tmp_path, monkeypatch):
    old = snapshot_of(tmp_path / "m.npz")[0].state_dict()
    it, steps, keep = session(tmp_path), [], kept.keep

    def spy(path, state, step, seconds):
        keep(path, state, step, seconds)
        about = load_snapshot(path)[0]
        assert about["step"] == step and about["used"] == seconds
        steps.append((step, seconds))

    monkeypatch.setattr(kept, "keep", spy)
    run = it.train(*encoded(it))
    assert 2 <= len(steps) == len(it.points) + 1 <= 6 and steps == sorted(steps)
    assert steps[-1][0] == run.steps and 0.6 <= steps[-1][1] < 3
    assert 0.1 <= steps[0][1] < steps[-1][1]
    before = load_snapshot(tmp_path / "m-before.npz")[1]      # whole, and only once
    assert all(np.array_equal(before[name], array) for name, array in old.items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m-before.npz", "m.npz"]
    resumed = session(tmp_path, new=False)
    resumed.state = kept.restore(tmp_path / "m.npz")
    assert resumed.state.step == run.steps
    resumed.train(*encoded(resumed))
    assert load_snapshot(tmp_path / "m-before.npz")[1].keys() == before.keys()


def test_ctrl_c_is_acknowledged_at_once_and_what_is_kept_goes_on(tmp_path, monkeypatch, capsys):
    it = session(tmp_path, seconds=30.0)
    loss, seen = GPT.loss, []

    def press(self, *batch):
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            assert "stopping after this step" in capsys.readouterr().err
        seen.append(1)
        return loss(self, *batch)

    monkeypatch.setattr(GPT, "loss", press)
    run = it.train(*encoded(it))
    assert run.interrupted and run.steps == 4
    again = kept.restore(tmp_path / "m.npz")
    assert again.step == 4 and again.used == run.seconds      # the rest of its time is left
    with pytest.raises(KeyboardInterrupt), it.stoppable():
        raise KeyboardInterrupt
    assert "m.npz; --resume goes on with it" in capsys.readouterr().err
    fresh = session(tmp_path / "elsewhere")
    with pytest.raises(KeyboardInterrupt), fresh.stoppable():
        raise KeyboardInterrupt
    assert "no model was kept yet" in capsys.readouterr().err


def test_sigterm_keeps_the_model_and_ends_the_program(tmp_path, monkeypatch, capsys):
    it = session(tmp_path, seconds=30.0)
    loss = GPT.loss

    def end(self, *batch):
        os.kill(os.getpid(), signal.SIGTERM)
        return loss(self, *batch)

    monkeypatch.setattr(GPT, "loss", end)
    with pytest.raises(SystemExit) as ended:
        it.train(*encoded(it))
    assert ended.value.code == 143 and kept.restore(tmp_path / "m.npz").step in (1, 2)
    assert "told to end" in capsys.readouterr().err


def test_validation_and_writing_stop_when_their_time_is_over():
    state = job.build(HAMLET, job.Recipe.small(), 0)
    ids = np.resize(state.tokenizer.encode(HAMLET.text), 3360)     # more than one batch
    losses = job.token_losses(state, ids, seconds=0)
    assert len(losses) == 64 * 16 + 16                        # 64 windows of stride T/2, T = 32
    assert losses.mean() == pytest.approx(job.evaluate(state, ids[:len(losses) + 1]), rel=1e-6)
    told = []
    whole = job.token_losses(state, ids, 60, told.append)
    assert whole.mean() == job.evaluate(state, ids) and np.array_equal(whole[:1000], losses[:1000])
    assert sum(told) == len(whole) == len(ids) - 1 and len(told) > 1
    pieces = lambda seconds: list(job.written(state, "to be", 50, np.random.default_rng(1), 1.0,
                                              seconds))
    assert len(pieces(0)) == 1 and len(pieces(60)) == 50
    assert job.write_page(state, 50, 1.0, 60, "to be") == "".join(pieces(60))


def test_each_tokens_loss_by_hand():
    """Windows start T/2 apart, and a token is scored in the first window that holds it."""
    state = job.build(HAMLET, replace(job.Recipe.small(), T=4), 0)
    ids = np.resize(state.tokenizer.encode(HAMLET.text), 10)
    wanted = []
    for i in range(1, 10):                                    # windows start at 0, 2, 4 and 5
        start = next(s for s in (0, 2, 4, 5) if i <= s + 4)
        p = state.model(ids[None, start:i]).data[0, -1].astype(np.float64)
        wanted.append(np.log(np.exp(p).sum()) - p[ids[i]])
    np.testing.assert_allclose(job.token_losses(state, ids), wanted, rtol=1e-4)
    assert job.characters(state, ids) == len(state.tokenizer.decode(ids[1:]))
    assert job.characters(state, ids, 3) == len(state.tokenizer.decode(ids[1:4]))


def test_a_character_of_several_bytes_is_written_when_its_last_byte_comes():
    state = job.build(Corpus("ears", "👂 " * 9 + "abcdefgh" * 20), job.Recipe.small(), 0)
    state.model.generate = lambda *given: iter([*"👂é".encode(), 0xff, *b"a"])
    assert list(job.written(state, "a", 9, None, 1.0)) == ["", "", "", "👂", "", "é", "\ufffd", "a"]


def test_together_is_the_mean_of_two_probabilities():
    p, q = np.array([.5, 1e-300, 1.0]), np.array([.25, .5, 1.0])
    both = job.together(-np.log(p), -np.log(q))
    np.testing.assert_allclose(both, -np.log((p + q) / 2), atol=1e-12)
    assert (both <= np.minimum(-np.log(p), -np.log(q)) + np.log(2) + 1e-12).all()
    assert both.mean() <= (-np.log(p) - np.log(q)).mean() / 2          # Jensen


def test_a_long_run_is_looked_at_every_50_seconds_and_a_minute_five_times(tmp_path, monkeypatch):
    """An imitated clock: each reading of it is a quarter of a second later."""
    now = itertools.count(0, 0.25)
    monkeypatch.setattr("llm.train.loop.time.perf_counter", lambda: next(now))
    monkeypatch.setattr(job, "token_losses", lambda *args: np.ones(1))
    for seconds, looks in ((6.0, 5), (300.0, 5), (400.0, 7)):
        it = session(tmp_path / str(seconds), seconds=seconds)
        monkeypatch.setattr(it, "keep", lambda *args: None)
        it.train(*encoded(it))
        assert len(it.points) == looks
        assert it.points[0][0] == pytest.approx(seconds / (looks + 1), abs=1)


def test_the_rival_is_the_best_order_and_tells_each_characters_loss():
    train, held_out = (np.random.default_rng(k).integers(0, 3, n) for k, n in ((0, 300), (1, 50)))
    losses = {order: -NGram.fit(train, order, 3).log_probabilities(held_out)[1:]
              for order in (1, 2, 3)}
    best = min(losses, key=lambda order: losses[order].mean())
    rival = job.ngram_rival(train, held_out, 3, (1, 2, 3))
    assert rival.order == best and np.array_equal(rival.losses, losses[best])
    assert rival.numbers == NGram.fit(train, best, 3).size
    read = job.counted_characters(HAMLET, 30, (2, 3))
    characters = CharTokenizer.from_text(HAMLET.text)
    ids = characters.encode(HAMLET.train), characters.encode(HAMLET.validation[:30])
    assert np.array_equal(read.losses, job.ngram_rival(*ids, len(characters.characters),
                                                       (2, 3)).losses) and len(read.losses) == 29


@pytest.mark.parametrize("variables", [{}, {"FORCE_COLOR": "1", "TERM": "dumb"}])
def test_where_there_is_no_terminal_progress_is_a_line_every_few_seconds(monkeypatch, capsys,
                                                                         variables):
    for name, value in variables.items():           # a terminal without cursor is none, either
        monkeypatch.setenv(name, value)
    clock = iter([0.0, 1.0, 4.9, 5.0, 5.0, 9.9, 11.0, 11.0])
    monkeypatch.setattr("days.harness.time.monotonic", lambda: next(clock))
    with progress(60, "training") as tick:
        for n in (1, 3.9, 0.1, 4.9, 1.1):
            tick(n, "loss 2.10")
    assert capsys.readouterr().err.splitlines() == ["training: 5 of 60 loss 2.10",
                                                    "training: 11 of 60 loss 2.10"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_parent_alone_ends_the_child_too(number, tmp_path):
    child = ("import sys, time, signal\n"
             "for n in (signal.SIGINT, signal.SIGTERM): signal.signal(n, lambda *a: sys.exit(7))\n"
             "print('ready', flush=True)\ntime.sleep(60)")
    parent = ("import sys; from days.tools.data.scratch import attended\n"
              f"sys.exit(attended('.', '-c', {child!r}))")
    with subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(20) == 7


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
    (["--seconds", "nan"], "finite"), (["--seconds", "inf"], "finite"),
    (["--temperature", "nan"], "finite"), (["--temperature", "-1"], "--temperature"),
    (["--prompt", "x", "--resume"], "--resume"),
    (["--prompt", "x", "--model", "a.npz", "--text", "b.txt"], "--text"),
    (["--prompt", "x", "--text", "no/such/file.txt"], "no/such/file.txt"),
    (["--full", "--seconds", "5"], "--full trains for 600 seconds"),
    (["--full", "--prompt", "x"], "leave out --seconds and --prompt"),
    (["--fast", "--model", "README.md/m.npz"], "cannot keep"),
    (["--fast", "--model", "README.md"], "is no model"),
    (["--prompt", "x", "--model", "README.md"], "damaged or no snapshot: delete it"),
])
def test_bad_requests_get_one_line_and_status_2(flags, reason):
    done = course(*flags)
    assert done.returncode == 2 and reason in done.stderr and "Traceback" not in done.stderr
    assert "pickle" not in done.stderr and not (ROOT / "no").exists()


def test_headline_the_gpt_learns_and_counting_is_ahead(tmp_path):
    result = measure(fast=True, seed=0, model=tmp_path / "gpt.npz")
    assert result.steps > 3 and (tmp_path / "gpt.npz").exists()
    assert result.val_nats_per_char < np.log(60)              # better than not knowing anything
    assert result.ngram_nats_per_char < result.val_nats_per_char
    assert len(result.page) >= job.Recipe.small().page        # tokens, of a character or more
    assert result.ngram_numbers > 10_000 and 0 < result.ngram_sample < np.log(60)
    assert result.vocabulary == 300 and 1 < result.characters_per_token < 2
    assert 2990 < result.validated < 3000
    parts = result.val_nats_per_char, result.counted_nats_per_char
    assert min(parts) - .7 < result.together_nats_per_char < sum(parts) / 2


@pytest.fixture
def small_trained(tmp_path, monkeypatch):
    """`trained` with the tiniest recipe on a short text, in a cache of its own."""
    monkeypatch.setenv("LLM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "hamlet.txt").write_text("to be or not to be, that is the question.\n" * 60)
    recipe = Recipe(V=270, B=2, T=16, C=8, L=1, H=2, warmup=2, steps=6)
    return lambda **changes: trained(recipe=replace(recipe, **changes),
                                     source=tmp_path / "hamlet.txt")


def kept_files(tmp_path):
    folder = tmp_path / "cache"
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def test_the_readers_gpt_is_trained_once_then_loaded_bit_for_bit(small_trained, tmp_path,
                                                                 monkeypatch):
    first = small_trained()
    name, = kept_files(tmp_path)
    assert name.startswith("gpt-hamlet.txt-") and name.endswith(".npz")
    monkeypatch.setattr(reader, "fit", None)                  # it must not train again
    second = small_trained()
    assert second.config == first.config == GPTConfig(V=270, T=16, C=8, L=1, H=2, rotary=True)
    weights = first.model.state_dict()
    assert weights.keys() == second.model.state_dict().keys()
    for key, array in second.model.state_dict().items():
        assert array.dtype == np.float32 and np.array_equal(array, weights[key])
    text = first.corpus.validation
    assert second.corpus == first.corpus
    assert np.array_equal(first.tokenizer.encode(text), second.tokenizer.encode(text))
    assert second.tokenizer.decode(second.tokenizer.encode(text)) == text
    start = {n: p.data for n, p in job.assemble(first.recipe, first.tokenizer,
             np.random.default_rng(0)).model.named_parameters().items()}
    assert not any(np.array_equal(weights[key], start[key]) for key in start)    # all have moved


def test_byte_pairs_come_from_the_training_text_alone(small_trained, monkeypatch):
    seen = []
    train = FastBPE.train

    def spy(texts, size):
        seen.append(texts)
        return train(texts, size)

    monkeypatch.setattr(FastBPE, "train", spy)
    got = small_trained()
    assert seen == [got.corpus.train] and got.tokenizer.vocab_size == got.config.V == 270


def test_another_recipe_text_or_kernel_has_another_name(small_trained, tmp_path, monkeypatch):
    base, corpus = Recipe.small(), Corpus("x", "abc")
    changed = [replace(base, **{f.name: getattr(base, f.name) + 1}) for f in fields(Recipe)]
    names = {name_of(recipe, corpus) for recipe in [base, *changed]}
    assert len(names) == 1 + len(fields(Recipe)) and name_of(base, corpus) in names
    assert name_of(base, corpus) == name_of(Recipe.small(), Corpus("x", "abc"))
    assert name_of(base, Corpus("x", "abd")) not in names
    monkeypatch.setattr(reader, "code_of_kernels", lambda: ["another"])
    assert name_of(base, corpus) not in names
    small_trained()
    small_trained(seed=1)
    assert len(kept_files(tmp_path)) == 2                     # neither replaces the other


def test_words_do_not_change_the_kernels_code_but_numbers_do(tmp_path, monkeypatch):
    if not (ROOT / "llm" / "train" / "fast.py").exists():
        pytest.skip("this tree has no kernels yet")
    (tmp_path / "kernels").mkdir()
    for name in reader.KERNELS:
        (tmp_path / "kernels" / f"{name}.py").write_text("x = 1.5\n")
    monkeypatch.setattr("llm.__path__", [str(tmp_path)])
    before = code_of_kernels()
    for name in reader.KERNELS:
        path = tmp_path / "kernels" / f"{name}.py"
        path.write_text('"""What it is."""\nx = 1.5     # a remark\n')
        assert code_of_kernels() == before
        path.write_text("x = 2.5\n")
        assert code_of_kernels() != before
        path.write_text("x = 1.5\n")


def test_a_damaged_or_foreign_file_is_noticed_and_trained_again(small_trained, tmp_path, capsys):
    first = small_trained()
    path = tmp_path / "cache" / kept_files(tmp_path)[0]
    whole = path.read_bytes()
    small_trained(steps=5)
    other, = (p for p in (tmp_path / "cache").iterdir() if p != path)
    foreign = other.read_bytes()
    for bad in (whole[:2000], b"", b"hello", foreign):
        path.write_bytes(bad)
        capsys.readouterr()
        again = small_trained()
        assert capsys.readouterr().err.count("is damaged: training it again") == 1
        for key, array in again.model.state_dict().items():
            assert np.array_equal(array, first.model.state_dict()[key])
        assert small_trained().model.state_dict().keys() and not capsys.readouterr().err


def test_interrupted_training_leaves_nothing_and_the_next_call_begins_again(
        small_trained, tmp_path, monkeypatch):
    whole = small_trained()
    name, = kept_files(tmp_path)
    (tmp_path / "cache" / name).unlink()

    def stop_at_3(*args, **options):
        def stop(step):
            if step.step == 3:
                os.kill(os.getpid(), signal.SIGINT)
        return fit(*args, **{**options, "hooks": [stop]})

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(reader, "fit", stop_at_3)
        small_trained()
    assert kept_files(tmp_path) == []
    for key, array in small_trained().model.state_dict().items():
        assert np.array_equal(array, whole.model.state_dict()[key])


def test_a_cache_that_cannot_be_written_costs_only_the_keeping(small_trained, tmp_path,
                                                               monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLM_CACHE", str(tmp_path / "file"))
    assert small_trained().config.C == 8
    assert "the model was not kept: cannot save" in capsys.readouterr().err


def test_offline_the_readers_gpt_learns_from_the_default_text(tmp_path, monkeypatch, capsys):
    def offline(*args):
        raise TextError("no network.")

    monkeypatch.setenv("LLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("llm.data.text.fetch", offline)
    got = trained(recipe=replace(Recipe.small(), steps=2, characters=20_000))
    assert got.corpus.name == "python" and kept_files(tmp_path)[0].startswith("gpt-python-")
    assert len(got.corpus.text) == 20_000
    assert "Going on with the Python language reference" in capsys.readouterr().err


def test_fast_is_a_tiny_model_that_has_learned_something(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "cache_folder", lambda: tmp_path)
    got = trained(fast=True)
    shape = got.config
    assert (shape.V, shape.T, shape.C, shape.L, shape.H) == (300, 32, 32, 2, 2) and shape.rotary
    assert len(got.corpus.text) <= 200_000
    text = got.corpus.validation[:3000]
    nats = nats_per_character(got, text)
    assert nats < 2.6                                         # of 84 characters: 4.43


def test_nats_per_character_by_hand(small_trained):
    """One full window: every token is predicted from all before it, and what they cost is shared
    by all characters but the first token's, which is given."""
    got = small_trained()
    text = next(t for t in (got.corpus.train[:n] for n in range(17, 60))
                if len(got.tokenizer.encode(t)) == 17)
    ids = got.tokenizer.encode(text)
    logits = got.model(ids[None, :-1]).data[0]                         # (16, V)
    cost = -log_softmax(logits)[np.arange(16), ids[1:]].sum()
    given = len(got.tokenizer.decode(ids[:1]))
    assert nats_per_character(got, text) == pytest.approx(cost / (len(text) - given), rel=1e-5)
    assert len(text) - given > 16                                      # some tokens are longer


def test_the_reference_recipe_is_what_later_days_were_promised():
    r = Recipe()
    assert (r.V, r.T, r.C, r.L, r.H, r.B, r.steps) == (1024, 128, 96, 3, 3, 8, 2500)
    assert r.characters >= 10**9 and r.C == 32 * r.H


@pytest.mark.parametrize("name", equal_time.MODELS)
def test_the_networks_of_equal_time_read_a_text_by_one_rule(name):
    """Hardly trained, each pays about ln V for a random text; the same seed, the same model."""
    tokenizer, rng = CharTokenizer("abcdefgh"), np.random.default_rng(0)
    ids = rng.integers(8, size=6000).astype(np.int32)
    make = equal_time.MODELS[name]
    model, nats = make(ids, tokenizer, 1e-4, 2, np.random.default_rng(1))
    assert nats(ids[:500]) == pytest.approx(np.log(8), abs=0.2)
    again, _ = make(ids, tokenizer, 1e-4, 2, np.random.default_rng(1))
    for key, array in again.state_dict().items():
        assert np.array_equal(array, model.state_dict()[key])


def test_only_the_rows_of_a_batch_are_converted(tmp_path):
    path = tmp_path / "ids.bin"
    np.arange(60_000, dtype=np.uint16).tofile(path)
    ids = np.memmap(path, np.uint16, "r")
    tracemalloc.start()
    inputs, targets = next(random_windows(ids, 4, 8, np.random.default_rng(0)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert inputs.dtype == np.int32 and (targets == inputs + 1).all()
    assert peak < 60_000                            # bytes: a quarter of the text as int32


@pytest.mark.parametrize("wrong", [np.full(20, 2**40), np.full(20, 0.5), np.full(20, np.nan)])
def test_ids_that_do_not_fit_are_refused(wrong):
    for batches in (random_windows(wrong, 2, 4, np.random.default_rng(0)),
                    sliding_windows(wrong, 2, 4, 2)):
        with pytest.raises(ValueError, match="whole numbers below"), np.errstate(invalid="ignore"):
            next(batches)


@pytest.mark.parametrize("B, T", [(0, 4), (2, 0)])
def test_a_batch_of_nothing_is_refused(B, T):
    for batches in (random_windows(np.arange(20), B, T, np.random.default_rng(0)),
                    sliding_windows(np.arange(20), B, T, 1)):
        with pytest.raises(ValueError, match="at least 1"):
            next(batches)


def test_day_23s_probe_hangs_on_the_loop():
    """The optimizer under the probe and a hook: the same weights, and a look every other step."""
    def trained(wrap, hooks):
        w = parameter(np.full((2, 2), 3.0, np.float32))
        fit({"w": w}, lambda batch: ((w * w).sum() * 0.5, 1), iter([0] * 9), wrap(SGD({"w": w})),
            lambda step, total: 0.1, steps=5, hooks=hooks, clip=1.0)
        return w.data
    probe = Probe(2)
    hook = lambda step: probe.watch(step.step, step.total, step.loss)
    assert (trained(lambda optimizer: optimizer, []) == trained(probe.optimizer, [hook])).all()
    assert [look.step for look in probe.looks] == [1, 3, 5]
    assert [look.loss for look in probe.looks] == probe.losses[::2]
    assert probe.norms == pytest.approx([1.0] * 5)                  # after clipping
