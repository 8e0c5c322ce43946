"""Day 61 · The cores of a machine, divided among the ranks that run on it.

Two ranks that both start a thread for every core have twice as many threads as cores, and each
waits for the other's at every product. Left out: which core is whose (mpirun --bind-to does that).
"""

import contextlib
import os

import numba

from llm.kernels.threads import cores
from llm.tensors.roofline import Blas


def threads_each(ranks):
    """How many threads each of so many ranks of this machine may use: at least 1.

    mpirun may have bound this process to some of the cores already; it never uses more than those.
    """
    if ranks < 1:
        raise ValueError(f"cores cannot be divided among {ranks} ranks")
    return max(1, min(cores(), (os.cpu_count() or 1) // ranks))


@contextlib.contextmanager
def sharing_cores(ranks):
    """In this block, Numba and the BLAS use no more threads than this rank's share of the cores.

    Yields their number. Numba's is that of the calling thread; the BLAS's of the whole process.
    """
    blas, mine = Blas(), threads_each(ranks)
    before = numba.get_num_threads(), blas.threads()
    try:
        numba.set_num_threads(min(mine, before[0]))
        blas.set_threads(min(mine, before[1] or mine))
        yield mine
    finally:
        numba.set_num_threads(before[0])
        if before[1]:
            blas.set_threads(before[1])
