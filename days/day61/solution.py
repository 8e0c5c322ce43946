"""Day 61 · Solutions of the exercises."""

from llm.scale.allreduce import flat, ring_allreduce
from llm.scale.comm import Comm


def butterfly_allreduce(comm, array):
    """a + b and b + a have the same bits, so partners agree; by induction all do."""
    x, p = flat(array), comm.size
    if p & (p - 1):
        raise ValueError(f"a butterfly needs a power of two, not {p} ranks")
    bit = 1
    while bit < p:
        comm.send(x, comm.rank ^ bit)
        x += comm.recv(x, comm.rank ^ bit)
        bit *= 2
    return array


class Group(Comm):
    """Some ranks of a Comm as a Comm of their own."""

    def __init__(self, comm, ranks):
        super().__init__(ranks.index(comm.rank), len(ranks), comm.patience)
        self.comm, self.ranks = comm, ranks

    def put(self, array, to):
        self.comm.send(array, self.ranks[to])

    def get(self, like, source):
        return self.comm.recv(like, self.ranks[source])


def two_level_allreduce(comm, array, here):
    x, leader = flat(array), comm.rank // here * here
    if comm.rank != leader:
        comm.send(x, leader)
        x[...] = comm.recv(x, leader)
        return array
    for other in range(leader + 1, leader + here):
        x += comm.recv(x, other)
    ring_allreduce(Group(comm, list(range(0, comm.size, here))), x)
    for other in range(leader + 1, leader + here):
        comm.send(x, other)
    return array
