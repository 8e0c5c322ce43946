"""Day 43 · The barrier under test: many phases, in each of which all write and all look."""

from numba import njit, prange

from llm.kernels.barrier import meet, roll_call, ticks


@njit(parallel=True, cache=True)
def phases(sync, threads, n, board, wrong, slow):
    """In phase p everyone writes p and, behind the barrier, looks whether all others have.

    sync: zeros; board, wrong: (8·threads,); wrong counts what was not there yet. In phase `slow`
    the first of the team comes ten million ticks late. Two barriers a phase.
    """
    for t in prange(threads):
        rank, team = roll_call(sync, t, threads)
        if rank >= 0:
            for p in range(n):
                if rank == 0 and p == slow:
                    start = ticks()
                    while ticks() - start < 10_000_000:
                        pass
                board[8 * rank] = p
                meet(sync, team * (2 * p + 1), 0, 0)
                for other in range(team):
                    if board[8 * other] != p:
                        wrong[8 * rank] += 1
                meet(sync, team * (2 * p + 2), 0, 0)


@njit(parallel=True, cache=True)
def barriers(sync, threads, n):
    """n barriers and nothing else."""
    for t in prange(threads):
        rank, team = roll_call(sync, t, threads)
        if rank >= 0:
            for p in range(n):
                meet(sync, team * (p + 1), 0, 0)


@njit(parallel=True, cache=True)
def region(threads, out):
    """A parallel region in which every thread does next to nothing; out (8·threads,)."""
    for t in prange(threads):
        out[8 * t] += 1
