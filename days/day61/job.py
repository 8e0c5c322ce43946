"""Day 61 · The training that all measurements of the day run, on one process or on many ranks."""

from dataclasses import dataclass

import numpy as np

from llm.data.batches import random_windows
from llm.data.text import load_or_default
from llm.models.gpt import GPT, GPTConfig
from llm.scale.data_parallel import DataParallel, check_equal, farewell, shards, start_equal
from llm.tokens.chars import CharTokenizer
from llm.train.adam import AdamW
from llm.train.keeper import Checkpoints
from llm.train.loop import fit


@dataclass(frozen=True)
class Job:
    """What is trained: a GPT on the characters of a text."""

    C: int = 32
    L: int = 2
    H: int = 2
    T: int = 32
    B: int = 8                 # rows of the whole batch, of all ranks together
    dtype: str = "float32"
    rate: float = 3e-3
    ragged: bool = True        # rows ask for very different numbers of targets
    characters: int = 200_000  # of the text, at most
    seed: int = 0


def timed():
    """The job whose steps are timed: the shape of the reader's GPT (day 35), on characters."""
    return Job(C=96, L=3, H=3, T=128, B=16, ragged=False)


class State:
    """Model, optimizer and data of one rank. Equal seeds give equal states on all ranks."""

    def __init__(self, job):
        text = load_or_default("shakespeare", lambda line: None).text[:job.characters]
        tokenizer = CharTokenizer.from_text(text)
        self.job, self.rng = job, np.random.default_rng(job.seed)
        config = GPTConfig(V=tokenizer.vocab_size, T=job.T, C=job.C, L=job.L, H=job.H, rotary=True)
        self.model = GPT(config, self.rng)
        self.parameters = self.model.named_parameters()
        for p in self.parameters.values():
            p.data = p.data.astype(job.dtype)
        self.optimizer = AdamW(self.parameters, betas=(0.9, 0.99))
        self.ids = tokenizer.encode(text)
        self.parts = {"model": self.model, "optimizer": self.optimizer, "rng": self.rng}

    def batches(self):
        """Windows of text; where the job is ragged, a row asks for 1 to T targets."""
        job = self.job
        for x, y in random_windows(self.ids, job.B, job.T, self.rng):
            if job.ragged:
                y[np.arange(job.T) >= self.rng.integers(1, job.T + 1, size=(job.B, 1))] = -100
            yield x, y

    def loss(self, batch):
        return self.model.loss(*batch), int((batch[1] != -100).sum())

    def bytes(self):
        """Of all gradients."""
        return sum(p.data.nbytes for p in self.parameters.values())


@dataclass(frozen=True)
class Outcome:
    weights: dict          # {name: array}
    losses: list
    began: int             # the step of the checkpoint it went on from
    tokens: int


def train(comm, job, steps, folder=None, every=5, around=lambda loss: loss, hooks=(), **how):
    """Train to step `steps`; comm None: in one process, without any of today's code.

    folder: go on from its newest checkpoint, and let rank 0 save one after every few steps.
    around(loss) -> loss: for tests that let a rank die. how: options of DataParallel.
    """
    state = State(job)
    loss, data, hooks, began = state.loss, state.batches(), list(hooks), 0
    keeper = Checkpoints(folder, state.parts) if folder else None
    if keeper:
        progress = keeper.restore()                       # every rank reads it
        began = progress.step
        if comm is None or comm.rank == 0:                # one writes it
            hooks.append(keeper.hook(every, progress))
    if comm:
        start_equal(comm, state.parameters)
        loss = around(DataParallel(comm, state.parameters, loss, **how))
        data = shards(data, comm)
    last = farewell(comm, lambda: f"Go on from the newest checkpoint in {folder}, with as many "
                                  "ranks as are left.") if comm and folder else None
    run = fit(state.parameters, loss, data, state.optimizer, lambda step, total: job.rate,
              steps=steps, start=began, hooks=hooks, on_interrupt=last)
    if comm:
        check_equal(comm, state.parameters)
    return Outcome({name: p.data for name, p in state.parameters.items()}, run.losses, began,
                   run.tokens)


def apart(a, b, skip=lambda name, d: d):
    """The largest difference of two {name: array}."""
    return max(float(np.abs(skip(name, a[name] - b[name])).max(initial=0)) for name in a)


def without_key_biases(name, difference):
    """Without the middle third of qkv.b: the keys' biases, whose gradient is mostly cancelled.

    Were the keys not turned (rotary positions), it would be exactly 0.
    """
    if not name.endswith("qkv.b"):
        return difference
    q, _, v = np.split(difference, 3)
    return np.concatenate([q, v])
