"""Day 61 · What each rank does under mpirun: `mpirun -n 2 python -m days.day61.real measure`.

Rank 0 prints one line of JSON. All functions that take `comm` are run by all ranks together.
"""

import argparse
import json
import os
import signal
import sys
import time

import numpy as np

from days.day61.job import Job, State, apart, timed, train
from days.harness import kernels
from llm.scale.allreduce import ring_allreduce, tree_allreduce
from llm.scale.comm import LocalComm, MPIComm, World, ending_together
from llm.scale.cores import sharing_cores
from llm.scale.data_parallel import DataParallel, shards
from llm.scale.link import Metered
from llm.train.loop import fit


def measure(comm, fast, seed):
    """A dict of plain numbers, on rank 0; see the keys. All times are in seconds."""
    job = Job(seed=seed) if fast else timed()
    blocks, steps = (2, 2) if fast else (5, 4)
    nbytes = State(job).bytes()
    found = {"ranks": comm.size, "bytes": nbytes, "B": job.B, "T": job.T}
    with sharing_cores(comm.here) as found["threads"], kernels():
        found["alone"] = {}
        for rows in (job.B, job.B // 2, job.B // 4):               # rank 0 has the machine
            if comm.rank == 0:
                alone = LocalComm(World(1), 0)
                found["alone"][str(rows)] = step_times(alone, job, rows, blocks, steps)
            comm.barrier()
        found["apart"] = step_times(comm, job, job.B // comm.size, blocks, steps, together=False)
        found["together"] = step_times(comm, job, job.B, blocks, steps)
    found["ring"] = ring_times(comm, nbytes, blocks * steps)
    found["message"] = {str(n): pingpong(comm, n, blocks * steps)
                        for n in (8, nbytes // max(comm.size, 2))}
    found |= exactness(comm, Job(seed=seed, dtype="float64"), 5 if fast else 20)
    return found


def step_times(comm, job, rows, blocks, steps, together=True):
    """Seconds a step, one number a block of steps. together=False: no rank talks to another."""
    state = State(job)
    batches = ((x[:rows], y[:rows]) for x, y in state.batches())
    talk = comm if together else LocalComm(World(1), 0)
    loss = DataParallel(talk, state.parameters, state.loss)
    data = shards(batches, talk)
    times = []
    for block in range(blocks + 1):                                # the first only warms up
        comm.barrier()
        began = time.perf_counter()
        fit(state.parameters, loss, data, state.optimizer, lambda step, total: job.rate,
            steps=steps)
        comm.barrier()
        if block:
            times.append((time.perf_counter() - began) / steps)
    return times


def ring_times(comm, nbytes, repeats):
    """Seconds of one ring all-reduce of so many bytes, each after a barrier."""
    row, times = np.ones(nbytes // 4, np.float32), []
    for i in range(repeats + 2):
        comm.barrier()
        began = time.perf_counter()
        ring_allreduce(comm, row)
        if i > 1:
            times.append(time.perf_counter() - began)
    return times


def pingpong(comm, nbytes, repeats):
    """Half the time of there and back between ranks 0 and 1, as a list."""
    row, times = np.zeros(nbytes, np.uint8), []
    comm.barrier()
    for i in range(repeats + 2):
        began = time.perf_counter()
        if comm.rank == 0:
            comm.send(row, 1)
            comm.recv(row, 1)
        elif comm.rank == 1:
            comm.send(comm.recv(row, 0), 0)
        if i > 1:
            times.append((time.perf_counter() - began) / 2)
    comm.barrier()
    return times


def exactness(comm, job, steps):
    """How far the ranks' weights are from those of one process, and the bytes of a step."""
    metered = Metered(comm)
    mine = train(comm, job, steps, bucket=10_000, overlap=True,
                 reduce=lambda _, row: ring_allreduce(metered, row))
    sent = tree_allreduce(comm, np.array([metered.bytes]))
    one = train(None, job, steps)
    return {"weights_apart": apart(mine.weights, one.weights),
            "losses_apart": float(np.abs(np.subtract(mine.losses, one.losses)).max()),
            "sent_by_all": int(sent[0]),
            "formula": 2 * (comm.size - 1) * State(job).bytes() * steps}


def order(fast, seed):
    """What rank 0 tells the others to measure, as a message."""
    return np.array([fast, seed], np.int64)


def follow(comm):
    """A rank other than 0 in `mpirun python days/day61/run.py`: hear the order, do the work."""
    fast, seed = comm.recv(order(False, 0), 0).tolist()
    measure(comm, bool(fast), seed)


def dying(comm, rank, step, how):
    """Wrap a loss so that rank `rank` gets the signal `how` in its `step`-th step, before backward.
    """
    def around(loss):
        def call(batch):
            result = loss(batch)
            if comm.rank == rank and loss.batches == step:
                print(json.dumps({"died": time.time()}), flush=True)
                os.kill(os.getpid(), how)
            return result
        return call
    return around


def main():
    parser = argparse.ArgumentParser(description="one rank of day 61")
    parser.add_argument("what", choices=("measure", "train"))
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--patience", type=float, default=60.0)
    parser.add_argument("--lose", type=int, nargs=2, metavar=("RANK", "STEP"), default=(-1, 0))
    parser.add_argument("--freeze", action="store_true", help="stop the rank instead of killing it")
    options = parser.parse_args()
    with ending_together(MPIComm(options.patience)) as comm:
        if options.what == "measure":
            result = measure(comm, options.fast, options.seed)
        else:
            around = dying(comm, *options.lose, signal.SIGSTOP if options.freeze
                           else signal.SIGKILL)
            with sharing_cores(comm.here):
                done = train(comm, Job(seed=options.seed, dtype="float64"), options.steps,
                             options.folder, options.every, around)
            result = {"began": done.began, "steps": len(done.losses), "loss": done.losses[-1:]}
        comm.barrier()
        if comm.rank == 0:
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    sys.exit(main())
