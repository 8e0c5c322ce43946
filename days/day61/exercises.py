"""Day 61 · Exercises to build; `python -m days check 61` grades them."""

import numpy as np

from llm.scale.comm import run_ranks
from llm.scale.link import Link, Metered


def butterfly_allreduce(comm, array):
    """Sum `array` over all ranks, in place, in log₂ p rounds; p must be a power of two.

    In round k = 0, 1, … each rank exchanges its whole array with the rank whose number differs in
    bit k alone, and both add. Returns the array. Raises ValueError, with p in the message, where p
    is no power of two. Example, 4 ranks: rank 0 meets rank 1, then rank 2.

    All ranks must end with the same bits. Source: Thakur, Rabenseifner & Gropp (2005), recursive
    doubling.
    """
    raise NotImplementedError


def two_level_allreduce(comm, array, here):
    """Sum over all ranks where the ranks of one machine talk fast and machines talk slowly.

    Ranks 0 … here−1 are on the first machine, the next `here` on the second, and so on; p is a
    multiple of `here`. The first rank of each machine collects the sum of its machine, these
    leaders run a ring among themselves, and each hands the sum to its machine. Returns the array.
    Only leaders may talk to ranks of other machines, and with m machines a leader sends 2(m−1)
    messages of 1/m of the array to other machines. All ranks must end with the same bits.
    """
    raise NotImplementedError


class Watched(Metered):
    """Counts, beside everything else, what leaves the machine of `here` ranks."""

    def __init__(self, comm, here):
        super().__init__(comm, Link(1e-3, 1e6))
        self.ranks_here, self.away = here, []

    def put(self, array, to):
        if to // self.ranks_here != self.rank // self.ranks_here:
            self.away.append(array.nbytes)
        super().put(array, to)


def check_butterfly_allreduce(f):
    """The sum, the same bits, log₂ p messages, and a clear refusal of other numbers of ranks."""
    rng = np.random.default_rng(0)
    for p in (1, 2, 4, 8):
        rows = [rng.standard_normal((3, 5)).astype(np.float32) for _ in range(p)]

        def work(comm):
            metered, x = Metered(comm), rows[comm.rank].copy()  # noqa: B023
            assert f(metered, x) is x, "work in place and return the array"
            return x, metered.messages
        out = run_ranks(p, work, patience=5)
        assert np.allclose(out[0][0], np.sum(rows, 0), atol=1e-5), f"the sum over {p} ranks"
        assert all(x.tobytes() == out[0][0].tobytes() for x, _ in out), "other bits on some rank"
        assert all(n == p.bit_length() - 1 for _, n in out), f"{p} ranks need log2(p) messages"
    try:
        run_ranks(3, lambda comm: f(comm, np.ones(2)), patience=5)
    except ValueError as error:
        assert "3" in str(error), "say how many ranks there were"
    else:
        raise AssertionError("3 ranks are no power of two: raise ValueError")


def check_two_level_allreduce(f):
    """The sum, the same bits, and no more traffic between machines than the leaders' ring."""
    rng = np.random.default_rng(1)
    for machines, here in ((1, 3), (2, 1), (2, 2), (3, 4)):
        p, n = machines * here, 12 * machines
        rows = [rng.standard_normal(n).astype(np.float32) for _ in range(p)]

        def work(comm):
            watched, x = Watched(comm, here), rows[comm.rank].copy()  # noqa: B023
            assert f(watched, x, here) is x, "work in place and return the array"  # noqa: B023
            return x, watched.away
        out = run_ranks(p, work, patience=5)
        assert np.allclose(out[0][0], np.sum(rows, 0), atol=1e-4), f"{machines} × {here} ranks"
        assert all(x.tobytes() == out[0][0].tobytes() for x, _ in out), "other bits on some rank"
        for rank, (_, away) in enumerate(out):
            wanted = [] if rank % here else [4 * n // machines] * (2 * (machines - 1))
            assert away == wanted, f"rank {rank} of {machines} × {here} sends {away} to others"
