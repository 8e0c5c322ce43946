"""Day 62 · One small training, in one process and divided in every way of the day."""

from dataclasses import dataclass

import numpy as np

from llm.data.batches import random_windows
from llm.data.text import load_or_default
from llm.models.gpt import GPT, GPTConfig
from llm.scale import tensor_parallel, zero
from llm.scale.allreduce import tree_allreduce
from llm.scale.data_parallel import DataParallel, shards
from llm.scale.group import grid
from llm.scale.link import Metered
from llm.scale.pipeline import Pipeline, Stage, gpipe, one_forward_one_backward
from llm.scale.tensor_parallel import divide, divided, whole_state
from llm.scale.zero import Zero
from llm.tokens.chars import CharTokenizer
from llm.train.adam import AdamW
from llm.train.loop import fit


@dataclass(frozen=True)
class Setup:
    """A GPT on characters, and batches of windows; equal on all ranks."""

    config: GPTConfig
    ids: np.ndarray
    B: int = 8
    m: int = 4                 # microbatches
    seed: int = 0

    def model(self, dtype="float32"):
        model = GPT(self.config, np.random.default_rng(self.seed))
        for p in model.named_parameters().values():
            p.data = p.data.astype(dtype)
        return model

    def batches(self):
        """Rows that ask for 1 to T targets."""
        rng, T = np.random.default_rng(self.seed + 1), self.config.T
        for x, y in random_windows(self.ids, self.B, T, rng):
            y[np.arange(T) >= rng.integers(1, T + 1, size=(self.B, 1))] = -100
            yield x, y


def setup(seed=0, C=32, L=4, H=4, T=32, B=8):
    text = load_or_default("shakespeare", lambda line: None).text[:100_000]
    tokenizer = CharTokenizer.from_text(text)
    config = GPTConfig(V=tokenizer.vocab_size, T=T, C=C, L=L, H=H, rotary=True)
    return Setup(config, tokenizer.encode(text), B, seed=seed)


def loss_of(model):
    return lambda batch: (model.loss(*batch), int((batch[1] != -100).sum()))


def rate(step, total):
    return 3e-3


def alone(job, steps, dtype):
    """({name: array}, losses) of one process without any of today's code."""
    model = job.model(dtype)
    parameters = model.named_parameters()
    run = fit(parameters, loss_of(model), job.batches(), AdamW(parameters), rate, steps=steps,
              clip=None)
    return model.state_dict(), run.losses


def by_tensor(comm, job, steps, dtype, tensor=None):
    group, data = grid(comm, tensor or comm.size)
    model = divide(job.model(dtype), group)
    parameters, loss, stream = model.named_parameters(), loss_of(model), job.batches()
    if data.size > 1:
        loss, stream = DataParallel(data, parameters, loss), shards(stream, data)
    run = fit(parameters, loss, stream, AdamW(parameters), rate, steps=steps, clip=None)
    sent = comm.bytes, comm.messages
    return whole_state(model, group), run.losses, sent


def by_pipeline(comm, job, steps, dtype, order):
    stage = Stage(job.model(dtype), comm)
    step = Pipeline(comm, stage, job.m, order)
    run = fit(step.parameters, step, job.batches(), AdamW(step.parameters), rate, steps=steps,
              clip=None)
    names = stage.names()
    state = {names[name]: p.data for name, p in step.parameters.items()}
    return state, run.losses, (comm.bytes, comm.messages)


def by_zero(comm, job, steps, dtype, stage):
    model = job.model(dtype)
    whole = model.named_parameters()
    z = Zero(comm, model, loss_of(model), stage)
    run = fit(z.parameters, z, shards(job.batches(), comm), AdamW(z.parameters, decays=z.decays),
              rate, steps=steps, clip=None)
    sent = comm.bytes, comm.messages                   # stages 1, 2: the last gather still misses
    z.gather()
    sent = (comm.bytes, comm.messages) if stage in (1, 2) else sent
    return {name: p.data for name, p in whole.items()}, run.losses, sent


WAYS = {
    "tensor": (by_tensor, {}),
    "tensor × data": (by_tensor, {"tensor": 2}),
    "pipeline, GPipe": (by_pipeline, {"order": gpipe}),
    "pipeline, 1F1B": (by_pipeline, {"order": one_forward_one_backward}),
    "data (ZeRO 0)": (by_zero, {"stage": 0}), "ZeRO 1": (by_zero, {"stage": 1}),
    "ZeRO 2": (by_zero, {"stage": 2}), "ZeRO 3": (by_zero, {"stage": 3}),
}


def compare(comm, job, way, steps, dtype, one):
    """[weights apart, losses apart, bytes sent in a step, messages]: the largest of all ranks'
    differences, and sums over the ranks. one: what `alone` has returned."""
    metered = Metered(comm)
    function, options = WAYS[way]
    state, losses, sent = function(metered, job, steps, dtype, **options)
    mine = np.zeros((comm.size, 4))
    mine[comm.rank] = [max(float(np.abs(state[n] - one[0][n]).max()) for n in state),
                       float(np.abs(np.subtract(losses, one[1])).max()),
                       sent[0] / steps, sent[1] / steps]
    tree_allreduce(comm, mine)
    return [*mine[:, :2].max(0).tolist(), *mine[:, 2:].sum(0).tolist()]


def formula(job, way, p, itemsize):
    """Bytes that all ranks together send in a step."""
    config, N = job.config, job.model().count_parameters()
    names = job.model().named_parameters().items()
    if way.startswith("pipeline"):
        stream = itemsize * job.B * config.T * config.C
        return 2 * (p - 1) * stream + 2 * itemsize * config.V * config.C + 8 * (p - 1)
    if way.startswith("tensor"):
        t = 2 if "data" in way else p
        cut = sum(q.data.size for name, q in names if divided(name))
        d, held = p // t, cut // t + N - cut
        return (p * tensor_parallel.traffic(config, job.B // d, t, itemsize)
                + (t * 2 * (d - 1) * (itemsize * held + 16) if d > 1 else 0))
    stage = int(way.split()[-1].rstrip(")"))
    rest = sum(q.data.size for name, q in names if not name.startswith("blocks."))
    return (p * zero.traffic(N - rest, p, stage, itemsize)
            + p * zero.traffic(rest, p, min(stage, 2), itemsize) + 2 * (p - 1) * 24)
