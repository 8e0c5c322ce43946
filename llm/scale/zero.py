"""Day 62 · ZeRO: data parallelism in which no two ranks keep the same thing.

    zero = Zero(comm, model, loss, stage=2)
    fit(zero.parameters, zero, shards(batches, comm), AdamW(zero.parameters, decays=zero.decays), …)
    zero.gather()                            # now every rank has the whole model again

Stage 0 is plain data parallelism. Stage 1 divides the optimizer's moments, stage 2 also the
gradients, stage 3 also the parameters. The parameters of each block lie in one row, and rank r owns
chunk r of it: its optimizer sees that chunk and no more. Clip with Clipped (group.py).
Left out: gathering the next block while this one computes, and ranks without a target in stage 3.
Source: Rajbhandari et al. 2020, arXiv 1910.02054, sections 5 (stages) and 7 (traffic).
"""

import contextlib

import numpy as np

from llm.grad import walk
from llm.grad.lowering import lower
from llm.grad.recompute import recompute
from llm.layers.module import Module, parameter
from llm.scale.allreduce import (
    all_gather,
    chunks,
    reduce_scatter,
    ring_allreduce,
    tree_allreduce,
)
from llm.scale.data_parallel import Share, Watch, go_back
from llm.train.adam import matrices


class Unit:
    """Parameters that travel together: a row of n numbers, of which rank r owns chunk r."""

    def __init__(self, comm, tensors, stage):
        self.comm, self.tensors, self.stage = comm, tensors, stage
        self.flat = np.concatenate([p.data.reshape(-1) for p in tensors])
        whole = slice(0, self.flat.size)
        self.mine = chunks(self.flat.size, comm.size)[comm.rank] if stage else whole
        self.show()
        self.shard = parameter(self.flat[self.mine])              # a view: AdamW writes into flat
        if stage == 3:
            self.shard = parameter(self.flat[self.mine].copy())
            self.release()

    def show(self):
        """Let the parameters be views of the row."""
        ends = np.cumsum([p.data.size for p in self.tensors])
        for p, part in zip(self.tensors, np.split(self.flat, ends[:-1])):
            p.data = part.reshape(p.shape)

    def gather(self):
        """Every rank gets the others' chunks: (p−1)/p of the row's bytes are sent by each."""
        if self.stage == 3:
            self.flat = np.empty(sum(p.data.size for p in self.tensors), self.shard.dtype)
            self.flat[self.mine] = self.shard.data
            self.show()
        if self.stage:
            all_gather(self.comm, self.flat)

    def release(self):
        """Forget all but this rank's chunk. What is read before the next gather is NaN."""
        self.flat = None
        for p in self.tensors:
            p.data = np.broadcast_to(np.asarray(np.nan, p.dtype), p.shape)

    def reduce(self):
        """Sum the gradients over the ranks; each keeps that of its own chunk."""
        row = np.concatenate([(np.zeros(p.shape, p.dtype) if p.grad is None else p.grad).reshape(-1)
                              for p in self.tensors])
        for p in self.tensors:
            p.grad = None
        (reduce_scatter if self.stage else ring_allreduce)(self.comm, row)
        part = row[self.mine].copy() if self.stage >= 2 else row[self.mine]
        self.shard.grad = part if self.shard.grad is None else self.shard.grad + part


class Gathered(Module):
    """A block whose parameters are there while it runs: forward, and once more for its backward.

    Its operations are recomputed (day 60), for a tape that kept them would keep the parameters.
    """

    def __init__(self, inner, units):
        self.inner, self.units = inner, units

    def __call__(self, x, rng=None):
        return recompute(self.run, x, rng)

    def run(self, x, rng):
        for unit in self.units:
            unit.gather()
        out = self.inner(x, rng)
        for unit in self.units:
            unit.release()
        return out


class Zero:
    """A loss for `fit` over shards: fit's parameters are `zero.parameters`, the optimizer's too.

    model: a GPT or another Module with a list `blocks`, equal on all ranks. loss(batch) ->
    (Tensor, count) as for DataParallel. decays: as for AdamW, asked with the model's own names.
    Raises ValueError for another stage than 0 … 3.
    """

    def __init__(self, comm, model, loss, stage, decays=matrices):
        if stage not in (0, 1, 2, 3):
            raise ValueError(f"ZeRO has the stages 0, 1, 2 and 3, not {stage}")
        self.comm, self.loss, self.stage, self.stale = comm, loss, stage, False
        groups = {}
        for name, p in model.named_parameters().items():
            place = tuple(name.split(".")[:2]) if name.startswith("blocks.") else ("rest",)
            groups.setdefault((place, bool(decays(name, p))), []).append(p)
        self.units, self.decayed, blocks = {}, {}, {}
        for (place, decay), tensors in reversed(groups.items()):  # the last block is complete first
            name = f"{'.'.join(place)}.{'decayed' if decay else 'not'}"
            self.units[name], self.decayed[name] = Unit(comm, tensors, stage), decay
            blocks.setdefault(place, []).append(self.units[name])
        self.units = dict(sorted(self.units.items(), key=lambda item: item[0].startswith("rest")))
        self.rest = blocks.pop(("rest",), [])
        if stage == 3:
            for place, units in blocks.items():
                path = ".".join(place)
                model.replace(path, Gathered(model.get(path), units))
        self.parameters = {name: unit.shard for name, unit in self.units.items()}

    def decays(self, name, p):
        """For AdamW: is this shard one of decayed parameters?"""
        return self.decayed[name]

    def mine(self, name):
        """For Clipped: in stage 0 every rank holds everything, and the first one counts it."""
        return self.stage > 0 or self.comm.rank == 0

    def __call__(self, batch):
        """(value with .data and .backward(), count), both over all ranks."""
        if self.stage == 3:
            self.each(self.rest, Unit.gather)
        elif self.stale:
            self.gather()
        value, count = self.loss(batch)
        three = np.array([float(value.data) * count if count else 0.0, count, not count], float)
        total, everyone, idle = tree_allreduce(self.comm, three)
        if idle and self.stage == 3:
            raise ValueError(f"{int(idle)} of {self.comm.size} ranks have no target in this batch: "
                             "in stage 3 each must go backward, since the others wait for it")
        mean = np.asarray(total / max(everyone, 1), value.data.dtype)
        return Share(self, value, mean, count / max(everyone, 1)), int(everyone)

    def backward(self, value, seed):
        """Gradients of all ranks' batches, in the shards."""
        home = {id(unit.tensors[0]): unit for unit in self.units.values()}
        watch = Watch([unit.tensors for unit in self.units.values()],
                      lambda bucket: home[id(bucket[0])].reduce())
        early = lower({walk.keep: watch.keep}) if self.stage >= 2 else contextlib.nullcontext()
        with early:
            go_back(value, seed)
        watch.finish()
        if self.stage == 3:
            self.each(self.rest, Unit.release)
        self.stale = True

    def gather(self):
        """Give every rank the whole model: before the next forward pass, and after training."""
        self.each(self.units.values(), Unit.gather)
        self.stale = False

    def each(self, units, do):
        """do(unit) for each of the units, in their order."""
        for unit in units:
            do(unit)


def bytes_a_rank(N, p, stage, itemsize=4):
    """(parameters, gradients, moments) in bytes for N numbers that p divides, with AdamW."""
    share = [p if stage >= least else 1 for least in (3, 2, 1)]
    return tuple(itemsize * k * N / s for k, s in zip((1, 1, 2), share))


def traffic(N, p, stage, itemsize=4):
    """Bytes a rank sends in a step: a ring's half is (p−1)/p of N; stage 3 has three of them."""
    return (3 if stage == 3 else 2) * (p - 1) * itemsize * N / p
