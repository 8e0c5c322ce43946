"""Day 62 · One rank of a job over MPI: every way of the day against one process.

    mpirun -n 2 python -m days.day62.real
"""

import argparse
import json

import numpy as np

from days.day62.ways import WAYS, alone, compare, formula, setup
from llm.scale.comm import MPIComm, ending_together
from llm.scale.cores import sharing_cores


def measure(comm, steps, seed):
    """{"ranks", "ways": [[way, weights apart, losses apart, bytes sent, by the formula], …]}"""
    with sharing_cores(comm.here):
        job = setup(seed)
        one, rows = alone(job, steps, "float64"), []
        for way in WAYS:
            if not fits(way, comm.size):
                continue
            apart, losses, sent, _ = compare(comm, job, way, steps, "float64", one)
            rows.append([way, apart, losses, sent, formula(job, way, comm.size, 8)])
    return {"ranks": comm.size, "ways": rows}


def fits(way, p):
    """Tensor × data needs two groups of two or more."""
    return way != "tensor × data" or (p > 2 and p % 2 == 0)


def order(steps, seed):
    """What rank 0 tells the others, as a message."""
    return np.array([steps, seed], np.int64)


def follow(comm):
    """A rank other than 0 in `mpirun python days/day62/run.py`: hear the order, do the work."""
    measure(comm, *comm.recv(order(0, 0), 0).tolist())


def main():
    parser = argparse.ArgumentParser(description="one rank of day 62")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with ending_together(MPIComm(60)) as comm:
        found = measure(comm, options.steps, options.seed)
        comm.barrier()
        if comm.rank == 0:
            print(json.dumps(found, ensure_ascii=True), flush=True)


if __name__ == "__main__":
    main()
