"""Day 62 · Pipeline parallelism: every rank has some of the layers, and microbatches pass through.

    step = Pipeline(comm, Stage(model, comm), m=8, order=one_forward_one_backward)
    fit(step.parameters, step, batches, AdamW(step.parameters), schedule, steps=2000, clip=None)

An order says which microbatch a rank works on next, forward or backward; `play` follows it and
passes activations to the right, gradients to the left. Left out: several stages a rank
(interleaving), and batches that are also divided among groups of ranks.
Sources: Huang et al. 2019, arXiv 1811.06965, section 2 (GPipe); Narayanan et al. 2021,
arXiv 2104.04473, section 2.2 (1F1B with a flush).
"""

import numpy as np

from llm.grad import ops
from llm.grad.tensor import Tensor
from llm.grad.walk import saved_bytes
from llm.layers.module import Embedding, Module, parameter
from llm.models.gpt import head
from llm.scale.allreduce import broadcast, chunks, ring_allreduce
from llm.scale.group import Group


def gpipe(p, r, m):
    """All forward, then all backward, the last microbatch first.

    >>> gpipe(2, 0, 2)
    [('F', 0), ('F', 1), ('B', 1), ('B', 0)]
    """
    return [("F", i) for i in range(m)] + [("B", i) for i in reversed(range(m))]


def one_forward_one_backward(p, r, m, ahead=1):
    """p − 1 − r forward to fill the ranks behind, then one forward and one backward in turn.

    ahead: so many times p − 1 − r at first. More than 1 keeps more activations, and keeps the
    ranks busy where messages take time.

    >>> one_forward_one_backward(2, 0, 3)
    [('F', 0), ('F', 1), ('B', 0), ('F', 2), ('B', 1), ('B', 2)]
    """
    fill = min(ahead * (p - 1 - r), m)
    order = [("F", i) for i in range(fill)]
    for i in range(m - fill):
        order += [("F", fill + i), ("B", i)]
    return order + [("B", i) for i in range(m - fill, m)]


def play(comm, order, forward, backward, like):
    """Do what `order` says: forward(i, x) -> y for the next rank, backward(i, dy) -> dx for the one
    before. x is None on the first rank, dy on the last. like(i): shape and dtype of what travels.
    """
    r, last = comm.rank, comm.size - 1
    for kind, i in order:
        if kind == "F":
            y = forward(i, comm.recv(like(i), r - 1) if r > 0 else None)
            if r < last:
                comm.send(y, r + 1)
        else:
            dx = backward(i, comm.recv(like(i), r + 1) if r < last else None)
            if r > 0:
                comm.send(dx, r - 1)


class Stage(Module):
    """This rank's blocks of a GPT, with the embedding in front on the first rank, and on the last
    the final norm and the head, which is a copy of the embedding.

    Raises ValueError for more ranks than blocks, or dropout.
    """

    def __init__(self, model, comm):
        L, p = len(model.blocks), comm.size
        if p > L or model.config.dropout:
            raise ValueError(f"{p} stages of {L} blocks with dropout {model.config.dropout}: each "
                             "stage needs a block, and dropout is left out")
        mine = chunks(L, p)[comm.rank]
        self.first, self.last, self.start = comm.rank == 0, comm.rank == p - 1, mine.start
        self.config, self.embed, self.positions, self.norm = model.config, None, None, None
        if self.first or self.last:
            self.embed = Embedding.__new__(Embedding)
            self.embed.table = parameter(model.embed.table.data.copy())
        if self.first:
            self.positions = model.positions
        self.blocks = model.blocks[mine]
        if self.last:
            self.norm = model.norm

    def __call__(self, x):
        """ids (b, T) on the first rank, else (b, T, C) -> (b, T, C), logits (b, T, V) on the last.
        """
        if self.first:
            x = self.embed(x)
            x = self.positions(x) if self.positions else x
        for block in self.blocks:
            x = block(x)
        return head(self.norm(x), self.embed.table) if self.last else x

    def names(self):
        """{name in here: name in the whole model}."""
        names = {}
        for name in self.named_parameters():
            parts = name.split(".")
            if parts[0] == "blocks":
                parts[1] = str(int(parts[1]) + self.start)
            names[name] = ".".join(parts)
        return names


class Pipeline:
    """A loss for `fit`: m microbatches through all ranks, forward and backward, at one call.

    Every rank gets the whole batch (ids, targets), both (B, T). seconds: (forward, backward) of one
    microbatch on a Metered Comm's clock, if it is to run. most, most_bytes: microbatches kept for
    their backward at once, and bytes that the tape keeps for them, the most so far.
    Raises ValueError for batches of fewer than m rows, or accumulate > 1 in fit.
    """

    def __init__(self, comm, stage, m, order=one_forward_one_backward, seconds=None):
        self.comm, self.stage, self.m, self.seconds = comm, stage, m, seconds
        self.order, self.parameters = order(comm.size, comm.rank, m), stage.named_parameters()
        self.most = self.most_bytes = 0

    def mine(self, name):
        """For Clipped: the last rank's copy of the embedding is counted on the first."""
        return name != "embed.table" or self.stage.first

    def __call__(self, batch):
        """(value, count), the same on all ranks; gradients are there when it returns."""
        ids, targets = batch
        if len(ids) < self.m:
            raise ValueError(f"a batch of {len(ids)} rows for {self.m} microbatches: each needs "
                             "one")
        rows, config = chunks(len(ids), self.m), self.stage.config
        total, kept, value = int((targets != -100).sum()), {}, np.zeros(1)
        dtype = next(iter(self.parameters.values())).data.dtype

        def forward(i, x):
            x = ids[rows[i]] if self.stage.first else Tensor(x, requires_grad=True)
            y = self.stage(x)
            if self.stage.last:
                asked = targets[rows[i]]
                share = (asked != -100).sum() / max(total, 1)     # of all targets of the batch
                y = ops.cross_entropy(y, asked) * share if share else None
                value[0] += float(y.data) if share else 0.0
            kept[i] = x, y, saved_bytes(y) if y is not None else 0
            self.most = max(self.most, len(kept))
            self.most_bytes = max(self.most_bytes, sum(size for *_, size in kept.values()))
            self.work(0)
            return None if self.stage.last else y.data

        def backward(i, dy):
            x, y, _ = kept.pop(i)
            if y is not None:
                y.backward(dy)
            self.work(1)
            if self.stage.first:
                return None
            return np.zeros_like(x.data) if x.grad is None else x.grad

        play(self.comm, self.order, forward, backward,
             lambda i: np.empty((rows[i].stop - rows[i].start, ids.shape[1], config.C), dtype))
        self.share_embedding()
        broadcast(self.comm, value, self.comm.size - 1)
        return Done(np.asarray(value[0], dtype)), total

    def work(self, which):
        """Let a Metered Comm's clock go on by a microbatch's forward (0) or backward (1)."""
        if self.seconds:
            self.comm.work(self.seconds[which])

    def share_embedding(self):
        """The table is used at both ends: both get the sum of the two gradients."""
        if self.comm.size > 1 and self.stage.embed is not None:
            table = self.stage.embed.table
            grad = np.zeros_like(table.data) if table.grad is None else table.grad
            table.grad = ring_allreduce(Group(self.comm, [0, self.comm.size - 1]),
                                        np.ascontiguousarray(grad))


class Done:
    """A loss whose gradients have been taken."""

    def __init__(self, data):
        self.data = data

    def backward(self, seed=None):
        if seed is not None:
            raise ValueError("microbatches are accumulated already: use accumulate=1, and a larger "
                             "batch with more of them")


def bubble(p, m):
    """The share of a step's time in which a rank waits: (p − 1)/(m + p − 1), free messages."""
    return (p - 1) / (m + p - 1)
