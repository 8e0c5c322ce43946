"""Day 62 · Groups of ranks, grids of groups, and a gradient's norm over ranks that differ.

Ranks that divide a model talk in groups: those that share a matrix, and those that hold the same
piece of it for other rows of the batch. A Group is a Comm, so that all of day 61 works in it.
Clipped is needed as soon as ranks hold different parameters: each then sees a part of the
gradient, and a part's norm is not the whole's. Left out: groups that do not form a grid.
"""

import math

import numpy as np

from llm.scale.allreduce import tree_allreduce
from llm.scale.comm import Comm
from llm.train.clip import scale, squared_norm


class Group(Comm):
    """Some ranks of a Comm as a Comm of their own, numbered in the order of `ranks`.

    Raises ValueError where this rank is not among them, or one stands there twice.
    """

    def __init__(self, comm, ranks):
        self.comm, self.ranks = comm, list(ranks)
        if comm.rank not in self.ranks or len(set(self.ranks)) != len(self.ranks):
            raise ValueError(f"rank {comm.rank} cannot join the group {self.ranks}: every member "
                             "stands in it once, this rank too")
        here = min(comm.here, len(self.ranks))
        super().__init__(self.ranks.index(comm.rank), len(self.ranks), comm.patience, here)

    def put(self, array, to):
        self.comm.send(array, self.ranks[to])

    def get(self, like, source):
        return self.comm.recv(like, self.ranks[source])

    def barrier(self):
        """Wait until every member has come here."""
        tree_allreduce(self, np.zeros(1, np.uint8))


def grid(comm, tensor):
    """(tensor group, data group) of this rank: `tensor` neighbours divide a model between them.

    Of 4 ranks with tensor=2, ranks 0, 1 and ranks 2, 3 each hold one model; 0 and 2 hold the same
    half of it, as do 1 and 3. Raises ValueError where `tensor` does not divide the ranks evenly.
    """
    if tensor < 1 or comm.size % tensor:
        raise ValueError(f"{comm.size} ranks cannot form groups of {tensor}")
    first = comm.rank - comm.rank % tensor
    return (Group(comm, range(first, first + tensor)),
            Group(comm, range(comm.rank % tensor, comm.size, tensor)))


class Clipped:
    """A loss for `fit(…, clip=None)` that clips by the norm of all ranks' gradients together.

    loss(batch) -> (value, count), with gradients after value.backward(). mine(name): does this
    rank count the gradient of that parameter? Of one that several ranks hold, one rank must. A
    norm that is not finite makes every rank's gradients NaN, so that all skip the step.
    Raises ValueError for accumulated batches (clip after the last one only), or limit ≤ 0.
    """

    def __init__(self, comm, loss, parameters, limit, mine=lambda name: True):
        if not limit > 0:
            raise ValueError(f"the limit of a norm must be positive, not {limit}")
        self.comm, self.loss, self.parameters = comm, loss, parameters
        self.limit, self.mine, self.norm = limit, mine, None

    def __call__(self, batch):
        value, count = self.loss(batch)
        return Later(value, self.clip), count

    def clip(self):
        """Shorten all gradients; self.norm is what their norm was before."""
        own = sum(squared_norm(p.grad) for name, p in self.parameters.items()
                  if p.grad is not None and self.mine(name))
        self.norm = math.sqrt(tree_allreduce(self.comm, np.array([own], np.float64)).item())
        factor = self.limit / self.norm if math.isfinite(self.norm) and self.norm else 1.0
        for p in self.parameters.values():
            if p.grad is not None and not math.isfinite(self.norm):
                p.grad[...] = math.nan
            elif p.grad is not None and factor < 1:
                scale(p.grad, factor)


class Later:
    """What fit takes for the loss: goes back, and then does what must follow."""

    def __init__(self, value, then):
        self.value, self.then, self.data = value, then, value.data

    def backward(self, seed=None):
        if seed is not None:
            raise ValueError("Clipped would clip after each of several accumulated batches: "
                             "use accumulate=1")
        self.value.backward()
        self.then()
