"""Day 61 · Data parallelism: all-reduce on paper, between threads, and over MPI where it is."""

import os
import subprocess
from dataclasses import asdict, dataclass

from days.day61 import paper, real, scaling
from days.day61.job import Job, State, timed
from days.day61.launch import CURE, under_mpi
from days.day61.report import beyond_table, draw, overlap_table, real_table, table
from days.harness import kernels, main, print_table, print_text, progress
from llm.scale.comm import MPIComm, ending_together
from llm.scale.cores import sharing_cores
from llm.scale.link import Link

SLOW = Link(latency=1e-3, bandwidth=20e6)             # of the runs in which ranks really wait


@dataclass(frozen=True)
class Result:
    parameters: int
    bytes: int            # of one rank's gradients
    link: dict            # of the rows on paper
    rows: list            # [ranks, {way: [seconds by formula, simulated, most bytes of a rank]}]
    crossings: list       # [ranks, bytes below which the tree is faster]
    step: float           # seconds, of one rank on one core with all rows
    bits: list            # [way, share with other bits than the ring's, error, ranks alike]
    equal: list           # [dtype, ranks, weights apart, … without keys' biases, losses apart]
    other_order: list     # the same for one process that adds in another order, float32
    steps: int            # of those runs
    means: float          # error of a gradient that ignores the counts
    slow: dict            # the link on which ranks really wait
    overlap: list         # [way, buckets, seconds a step (several)]
    overlap_model: list   # [way, seconds that communication adds]
    backward: float       # seconds of the backward in the model
    real: list            # one digest a job of MPI ranks
    lost: dict            # a rank that was killed
    why_not: str          # why there is no MPI, or ""


def measure(fast, seed):
    job = Job(seed=seed) if fast else timed()
    ranks = (2, 4, 8, 64) if fast else (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    nbytes, steps = State(job).bytes(), 10 if fast else 100
    with progress(7, "measuring") as tick:
        real_rows, lost, why_not = over_mpi(fast, seed)
        tick()
        with sharing_cores(1 << 10), kernels():                        # one thread
            step = scaling.one_core(job, 1 if fast else 5, 2 if fast else 5)
        tick()
        rows = paper.on_a_link(paper.ETHERNET, nbytes, ranks)
        tick()
        with sharing_cores(2):
            small = Job(seed=seed)
            bits = paper.last_bits(small, 4)
            equal = [[dtype, p, *paper.equality(Job(seed=seed, dtype=dtype), p, steps)]
                     for dtype, p in (("float64", 2), ("float64", 4), ("float32", 2),
                                      ("float32", 4))]
            tick()
            other, means = paper.other_order(small, steps), paper.mean_of_means(small, 4)
            tick()
            ways = [["no communication", None], ["one message, after backward", {}],
                    ["buckets, after backward", {"bucket": 100_000}],
                    ["buckets, during backward", {"bucket": 100_000, "overlap": True}],
                    ["every tensor, during backward", {"bucket": 1, "overlap": True}]]
            ready, backward = paper.ready_times(job, job.B // 2)
            tick()
            overlap = paper.overlap(job, SLOW, ways, 1 if fast else 5)
            model = [[name, paper.exposed(SLOW, ready, backward, **(how or {}))
                      if how is not None else 0.0] for name, how in ways]
            tick()
    return Result(nbytes // 4, nbytes, asdict(paper.ETHERNET), rows,
                  [[p, paper.crossing(paper.ETHERNET, p)] for p in ranks], step, bits, equal,
                  other, steps, means, asdict(SLOW), overlap, model, backward, real_rows, lost,
                  why_not)


def over_mpi(fast, seed):
    """(digests, what a lost rank did, why not): in this job, or in jobs of their own."""
    if COMM is not None:
        tell(COMM, fast, seed)
        found = real.measure(COMM, fast, seed)
        return [scaling.digest(found, os.cpu_count() or 1)], {}, ""
    if fast:
        return [], {}, f"--fast leaves MPI out; the real thing: {CURE}"
    try:
        rows, why_not = scaling.measured(fast, seed)
        return rows, {} if why_not else scaling.losing(seed), why_not
    except subprocess.SubprocessError as error:
        return [], {}, f"MPI is here, but a job failed: {error}"


def tell(comm, fast, seed):
    """Rank 0 has read the command line; the others hear from it what to do."""
    for other in range(1, comm.size):
        comm.send(real.order(fast, seed), other)


def show(result):
    print_table(table(result), f"all-reduce of {result.bytes:,} bytes on a link of "
                f"{1e6 * result.link['latency']:.0f} µs and {result.link['bandwidth']:.3g} bytes/s")
    print_table(beyond_table(result), f"steps of {1e3 * result.step:.0f} ms on every rank, and "
                                      "then a ring or a tree")
    print_table(overlap_table(result), "two ranks on a slow link")
    if result.real:
        print_table(real_table(result), "ranks that are processes, over MPI")
    if result.lost:
        print_text("\n".join(result.lost["said"]))
    if result.why_not:
        print_text(result.why_not)


COMM = None                # of this job, where mpirun has started us

if __name__ == "__main__":
    if not under_mpi():
        main(__file__, measure, show, draw)
    else:
        with ending_together(MPIComm(patience=300)) as COMM:
            if COMM.rank == 0:
                main(__file__, measure, show, draw)
            else:
                real.follow(COMM)
