"""Day 61 · Ranks that talk: send, receive and wait, between threads of one process or over MPI.

A *rank* is one of `size` copies of the same program, numbered from 0. A Comm is what one rank
needs in order to talk to the others: `rank`, `size`, `send`, `recv`, `barrier`. Everything else
(allreduce.py) is a function on top, so it runs unchanged between threads and between processes.

A rank that waits in vain does not wait for ever: after `patience` seconds it raises RankLost.
Left out: tags (two messages between two ranks arrive in the order in which they were sent), and
groups of ranks.
"""

import contextlib
import contextvars
import queue
import sys
import threading
import time

import numpy as np

LOST = object()                 # the last thing in the queues of a rank that has failed
SPIN = 1e-3                     # seconds of asking without a pause, then with pauses of PAUSE
PAUSE = 50e-6


class RankLost(RuntimeError):
    """Another rank has failed or does not answer."""


class Comm:
    """What one rank sees of the others. Subclasses give put, get and barrier.

    here: how many of the ranks run on this machine.
    """

    def __init__(self, rank, size, patience, here=None):
        self.rank, self.size, self.patience, self.here = rank, size, patience, here or size

    def send(self, array, to):
        """Send a copy of `array` to rank `to`. Returns at once: nobody waits for the receiver."""
        self.check(to)
        self.put(np.array(array, order="C"), to)

    def recv(self, like, source):
        """The next array from rank `source`; it must have the shape and dtype of `like`.

        Raises RankLost after `patience` seconds without it, ValueError where it does not fit.
        """
        self.check(source)
        return self.get(like, source)

    def check(self, other):
        if not 0 <= other < self.size or other == self.rank:
            raise ValueError(f"rank {self.rank} cannot talk to rank {other}: there are ranks 0 … "
                             f"{self.size - 1}, and nobody talks to himself")

    def silent(self, who):
        """What to raise when patience has run out."""
        return RankLost(f"rank {self.rank} has waited {self.patience:g} s for {who}: it is dead, "
                        "or stopped, or has taken another way through the program")


class World:
    """What the ranks of one process share: a queue for each pair, and a barrier."""

    def __init__(self, size):
        if size < 1:
            raise ValueError(f"a world needs at least 1 rank, not {size}")
        self.size, self.barrier = size, threading.Barrier(size)
        self.queues = {(a, b): queue.SimpleQueue() for a in range(size) for b in range(size)}

    def leave(self, rank):
        """Rank `rank` has failed: whoever waits for it, now or later, is told."""
        self.barrier.abort()
        for other in range(self.size):
            self.queues[rank, other].put(LOST)


class LocalComm(Comm):
    """A rank that is a thread; a message is an array in a queue."""

    def __init__(self, world, rank, patience=60.0):
        super().__init__(rank, world.size, patience)
        self.world = world

    def put(self, array, to):
        self.world.queues[self.rank, to].put(array)

    def get(self, like, source):
        inbox = self.world.queues[source, self.rank]
        try:
            array = inbox.get(timeout=self.patience)
        except queue.Empty:
            raise self.silent(f"rank {source}") from None
        if array is LOST:
            inbox.put(LOST)
            raise RankLost(f"rank {self.rank} waited for rank {source}, which has failed")
        if (array.shape, array.dtype) != (like.shape, like.dtype):
            raise ValueError(f"rank {self.rank} expected {like.shape} {like.dtype} from rank "
                             f"{source} and got {array.shape} {array.dtype}: the ranks disagree "
                             "about whose turn it is")
        return array

    def barrier(self):
        """Wait until every rank has come here."""
        try:
            self.world.barrier.wait(self.patience)
        except threading.BrokenBarrierError:
            raise self.silent("all ranks at a barrier, or one has failed") from None


def run_ranks(size, work, patience=60.0):
    """[work(comm) of rank 0, of rank 1, …], each in a thread of its own.

    Each thread sees the caller's context variables (kernels lowered outside stay lowered). Raises
    what the first rank to fail has raised; the others then end with RankLost.
    """
    world, results, errors = World(size), [None] * size, []

    def one(rank):
        try:
            results[rank] = work(LocalComm(world, rank, patience))
        except BaseException as error:                 # told to the others, raised below
            errors.append(error)
            world.leave(rank)

    threads = [threading.Thread(target=contextvars.copy_context().run, args=(one, rank),
                                name=f"rank {rank}", daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise next((e for e in errors if not isinstance(e, RankLost)), errors[0])
    return results


class MPIComm(Comm):
    """A rank that is a process, started by `mpirun -n SIZE python …`.

    Raises ImportError, with the cure, where mpi4py is not installed.
    """

    def __init__(self, patience=60.0):
        try:
            from mpi4py import MPI
        except ImportError:
            raise ImportError("no mpi4py here: pip install -r requirements-mpi.txt") from None
        self.MPI, self.world, self.pending = MPI, MPI.COMM_WORLD, []
        machine = self.world.Split_type(MPI.COMM_TYPE_SHARED)
        super().__init__(self.world.rank, self.world.size, patience, machine.size)

    def put(self, array, to):
        self.pending = [item for item in self.pending if not item[0].Test()]
        request = self.world.Isend([array, self.MPI.BYTE], to)
        self.pending.append((request, array))          # MPI reads it until the request is done

    def get(self, like, source):
        array = np.empty_like(like, order="C", subok=False)
        status = self.MPI.Status()
        self.wait(lambda: self.world.Iprobe(source, status=status), f"rank {source}")
        if status.Get_count(self.MPI.BYTE) != array.nbytes:
            raise ValueError(f"rank {self.rank} expected {array.nbytes} bytes from rank {source} "
                             f"and got {status.Get_count(self.MPI.BYTE)}: the ranks disagree about "
                             "whose turn it is")
        request = self.world.Irecv([array, self.MPI.BYTE], source)
        self.wait(request.Test, f"rank {source}")
        return array

    def barrier(self):
        """Wait until every rank has come here, and all that this one sent has left."""
        while self.pending:
            self.wait(self.pending.pop()[0].Test, "a message of its own to be taken")
        self.wait(self.world.Ibarrier().Test, "all ranks at a barrier")

    def wait(self, done, who):
        """Ask `done()` again and again; RankLost when patience has run out."""
        began = time.monotonic()
        while not done():
            passed = time.monotonic() - began
            if passed > self.patience:
                raise self.silent(who)
            if passed > SPIN:
                time.sleep(PAUSE)


@contextlib.contextmanager
def ending_together(comm):
    """With MPI: an error on this rank is printed in one line and ends the whole job.

    Without this the other ranks would first have to run out of patience. sys.exit ends it, too.
    """
    try:
        yield comm
    except SystemExit as end:
        comm.world.Abort(end.code if isinstance(end.code, int) else int(bool(end.code)))
    except BaseException as error:
        print(f"rank {comm.rank} of {comm.size}: {type(error).__name__}: {error}",
              file=sys.stderr, flush=True)
        comm.world.Abort(1)
