"""Day 61 · All-reduce: every rank ends with the sum of what all ranks had.

In order of increasing complexity: through a root, along a tree, around a ring. All work in place
on one contiguous array, over any Comm, and give every rank the same bits: each number is added up
in one place, or along one path, and then copied. The ring's two halves, `reduce_scatter` and
`all_gather`, are useful by themselves. Left out: the butterfly (an exercise), other operations
than the sum, and sums in a wider type than the array's.
Source: Patarasuk & Yuan (2009), sections 3 and 4; Thakur, Rabenseifner & Gropp (2005).
"""

import numpy as np


def flat(array):
    """The array as one row that shares its memory; ValueError where that is impossible."""
    if not (isinstance(array, np.ndarray) and array.flags.c_contiguous and array.flags.writeable):
        raise ValueError("an all-reduce works in place: give a writeable C-contiguous array, such "
                         f"as a copy, not {type(array).__name__} of shape {np.shape(array)}")
    return array.reshape(-1)


def root_allreduce(comm, array):
    """Everyone sends to rank 0, which adds in the order of the ranks and sends the sum to all."""
    x = flat(array)
    if comm.rank:
        comm.send(x, 0)
        x[...] = comm.recv(x, 0)
        return array
    for other in range(1, comm.size):
        x += comm.recv(x, other)
    for other in range(1, comm.size):
        comm.send(x, other)
    return array


def tree_allreduce(comm, array):
    """Neighbours add in pairs, then pairs of pairs, up to rank 0; the sum comes down again."""
    x = flat(array)
    step = 1
    while step < comm.size:
        if comm.rank % (2 * step):
            comm.send(x, comm.rank - step)
            break
        if comm.rank + step < comm.size:
            x += comm.recv(x, comm.rank + step)
        step *= 2
    return broadcast(comm, array)


def broadcast(comm, array, root=0):
    """Every rank gets the array of `root`: whoever has it sends to one who has not, in rounds."""
    x, p = flat(array), comm.size
    if not 0 <= root < p:
        raise ValueError(f"no rank {root} among {p}")
    me = (comm.rank - root) % p                        # as if the root were rank 0
    step = 1
    while step < p:
        step *= 2
    while step > 1:
        half = step // 2
        if me % step == 0 and me + half < p:
            comm.send(x, (comm.rank + half) % p)
        elif me % step == half:
            x[...] = comm.recv(x, (comm.rank - half) % p)
        step = half
    return array


def ring_allreduce(comm, array):
    """p − 1 steps of adding and p − 1 of copying; each sends 1/p of the array to the next rank.

    A rank sends 2(p−1)/p of its bytes in all, and none can do with less (the note).
    """
    reduce_scatter(comm, array)
    return all_gather(comm, array)


def reduce_scatter(comm, array):
    """Afterwards chunk r of rank r holds the sum; the other chunks hold partial sums.

    Chunk c starts at rank c + 1 and goes around: ((g_{c+1} + g_{c+2}) + …) + g_c.
    """
    x, p, r = flat(array), comm.size, comm.rank
    part = chunks(x.size, p)
    for step in range(p - 1):
        comm.send(x[part[(r - 1 - step) % p]], (r + 1) % p)
        mine = x[part[(r - 2 - step) % p]]
        mine += comm.recv(mine, (r - 1) % p)
    return array


def all_gather(comm, array):
    """Chunk r of rank r is copied to all ranks."""
    x, p, r = flat(array), comm.size, comm.rank
    part = chunks(x.size, p)
    for step in range(p - 1):
        comm.send(x[part[(r - step) % p]], (r + 1) % p)
        mine = x[part[(r - 1 - step) % p]]
        mine[...] = comm.recv(mine, (r - 1) % p)
    return array


def chunks(n, p):
    """p slices of n numbers, equal but for one more in the first ones.

    >>> chunks(5, 3)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    small, more = divmod(n, p)
    ends = [(i + 1) * small + min(i + 1, more) for i in range(p)]
    return [slice(a, b) for a, b in zip([0, *ends], ends)]
