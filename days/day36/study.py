"""Day 36 · A run that is stopped half-way and goes on, completely or with something forgotten."""

import contextlib
from dataclasses import replace

import numpy as np

from days.day35 import job
from llm.data.batches import random_windows
from llm.tensors.roofline import Blas
from llm.train.keeper import Checkpoints
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine

WAYS = {"nothing": (), "the moments and their counts": ("moments",), "the counts alone": ("t",),
        "the generator": ("rng",), "the step": ("step",),
        "all but the weights": ("moments", "rng", "step")}         # what is forgotten
WHOLE = "never stopped"


class Killed(Exception):
    """Stands for kill -9: the run ends between two steps and nothing is tidied up."""


def recipe(fast):
    """Day 35's GPT, smaller and over characters; experiments/resuming.py has chosen the rate."""
    return replace(job.Recipe(), B=8, T=32 if fast else 64, C=32 if fast else 48, L=2, H=2,
                   warmup=10 if fast else 30, steps=40 if fast else 300, rate=6e-3,
                   characters=200_000 if fast else 10**9)


@contextlib.contextmanager
def one_blas_thread():
    """In this block every product is added up by one thread of the BLAS.

    Some BLAS round a sum otherwise on two threads, and day 38's kernels change their number while
    a run goes on. Equal bits need one number in the whole run and in the resumed one.
    """
    blas = Blas()
    before = blas.threads()
    blas.set_threads(1)
    try:
        yield
    finally:
        if before:
            blas.set_threads(before)


class Run:
    """Model, optimizer and generator, made anew from a seed as a program does when it starts."""

    def __init__(self, corpus, recipe, seed, ids):
        tokenizer = job.CharTokenizer.from_text(corpus.text)
        self.state, self.ids = job.assemble(recipe, tokenizer, np.random.default_rng(seed)), ids
        self.parts = {"model": self.state.model, "optimizer": self.state.optimizer,
                      "rng": self.state.rng}

    def go(self, steps, start=0, hooks=(), schedule=None):
        """Train to step `steps`; the losses since `start`."""
        r, model = self.state.recipe, self.state.model
        batches = random_windows(self.ids, r.B, r.T, self.state.rng)
        return fit(model.named_parameters(), lambda b: (model.loss(*b), b[1].size), batches,
                   self.state.optimizer, schedule or WarmupCosine(r.rate, r.warmup), steps=steps,
                   start=start, hooks=hooks).losses

    def validate(self, ids):
        return job.evaluate(self.state, ids)

    def equals(self, other):
        """Are all parts the same, bit for bit?"""
        mine, theirs = ({**p["model"].state_dict(), **p["optimizer"].state_dict()}
                        for p in (self.parts, other.parts))
        return (all(np.array_equal(a, theirs[name]) for name, a in mine.items())
                and self.state.rng.bit_generator.state == other.state.rng.bit_generator.state)


def encoded(corpus, half, characters):
    """(training ids, so many ids of a half of the validation text: 0 to choose, 1 to report)."""
    tokenizer = job.CharTokenizer.from_text(corpus.text)
    held = tokenizer.encode(corpus.validation)
    return tokenizer.encode(corpus.train), held[half * (len(held) // 2):][:characters]


def compare(corpus, recipe, seed, folder, ids, held, tick, ways=WAYS):
    """One seed: {what is forgotten: (losses after the checkpoint, validation loss, is the run equal
    to the whole one?)}. The whole run stands under WHOLE, with its losses from there on, too.

    The checkpoint is made half-way, and two steps later the run dies.
    """
    make = lambda: Run(corpus, recipe, seed, ids)
    total, stop = recipe.steps, recipe.steps // 2
    whole = make()
    losses = whole.go(total)
    tick(total)
    found = {WHOLE: (losses[stop:], whole.validate(held), True)}

    def kill(step):
        if step.step == stop + 2:
            raise Killed

    first = make()
    try:
        first.go(total, hooks=[Checkpoints(folder, first.parts).hook(stop), kill])
    except Killed:
        tick(stop + 2)
    for way, forgotten in ways.items():
        run = make()
        progress = restore(run, folder, forgotten)
        start = 0 if "step" in forgotten else progress.step
        losses = run.go(total - progress.step + start, start)
        tick(total - stop)
        found[way] = (losses, run.validate(held), run.equals(whole))
    return found


def restore(run, folder, forgotten):
    """Restore all, then put back to the beginning what shall be forgotten."""
    rng, optimizer = run.state.rng, run.state.optimizer
    at_start, empty = rng.bit_generator.state, {k: a.copy() for k, a in
                                                optimizer.state_dict().items()}
    progress = Checkpoints(folder, run.parts).restore()
    if "rng" in forgotten:
        rng.bit_generator.state = at_start
    if "moments" in forgotten:
        optimizer.load_state_dict(empty)
    if "t" in forgotten:
        optimizer.load_state_dict({**optimizer.state_dict(), "t": empty["t"]})
    return progress
