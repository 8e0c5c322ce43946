"""Day 62 · Tensor and pipeline parallelism, ZeRO: between threads, on a clock, and over MPI."""

import functools
import json
import subprocess
from dataclasses import dataclass

from days.day61.launch import launch, mpirun, under_mpi
from days.day62 import paper, real
from days.day62.report import bubble_table, draw, memory_table, paper_table, table
from days.day62.ways import WAYS, alone, compare, formula, setup
from days.harness import main, print_table, progress
from llm.scale.comm import MPIComm, ending_together, run_ranks
from llm.scale.cores import sharing_cores
from llm.scale.pipeline import gpipe, one_forward_one_backward
from llm.scale.zero import bytes_a_rank

CURE = "pip install -r requirements-mpi.txt, then: mpirun -n 2 python days/day62/run.py"
EAGER = functools.partial(one_forward_one_backward, ahead=2)


@dataclass(frozen=True)
class Result:
    parameters: int
    tokens: int           # B · T of a batch
    C: int
    steps: int            # of the trainings that are compared
    ways: list            # [way, ranks, weights apart in float64, losses apart in float32,
                          #  bytes of a step (float32), by the formula, messages]
    bubbles: list         # [p, m, formula, [waiting, most kept] GPipe, … 1F1B]
    model_bubbles: list   # GPipe, 1F1B with a real step: [waiting, [[most kept, bytes] a rank]]
    shape: list           # [p, m] of that
    late: list            # [m, seconds that latency adds: GPipe, 1F1B, 1F1B ahead = 2]
    latency: float
    lanes: list           # the two orders, for the figure
    objects: float        # bytes of a model besides its parameters
    memory: list          # [stage, bytes measured, predicted, …parameters, gradients, moments]
    control: list         # [parameters, bytes measured beyond the prediction] of two sizes, stage 3
    ranks: int            # of the memory's measurement
    paper: list           # [p, bubble, [bytes of stages 0 … 3]]
    paper_size: float     # parameters on paper
    real: list            # of jobs over MPI
    why_not: str          # why there are none, or ""


def measure(fast, seed):
    steps, job, shape = 2 if fast else 10, setup(seed), (4, 8)
    sizes = (2,) if fast else (2, 4)
    shapes = [(2, 4), (4, 4), (4, 8), (4, 32), (8, 32), (64, 32), (64, 256)]
    N = job.model().count_parameters()
    with progress(8, "measuring") as tick, sharing_cores(1 << 10):             # one thread
        found, why_not = over_mpi(fast, seed)
        tick()
        one = {dtype: alone(job, steps, dtype) for dtype in ("float64", "float32")}
        rows = []
        for p in sizes:
            for way in (way for way in WAYS if real.fits(way, p)):
                wide, narrow = (run_ranks(p, lambda comm, way=way, dtype=dtype: compare(
                    comm, job, way, steps, dtype, one[dtype]))[0] for dtype in one)
                rows.append([way, p, wide[0], narrow[1], narrow[2], formula(job, way, p, 4),
                             narrow[3]])
            tick()
        orders = gpipe, one_forward_one_backward
        bubbles = paper.bubbles(shapes[:3] if fast else shapes, orders)
        tick()
        late = [[m, *(paper.late(order, 4, m, 0.25) for order in (*orders, EAGER))]
                for m in ((8, 16) if fast else (8, 16, 32, 64))]
        with_model = [paper.with_model(job, *shape, order) for order in orders]
        tick()
        memory = [[stage, paper.memory(job, 4, stage), sum(bytes_a_rank(N, 4, stage)),
                   *bytes_a_rank(N, 4, stage)] for stage in ((0, 3) if fast else range(4))]
        control = [beyond(setup(seed, C=C)) for C in ((32,) if fast else (32, 64))]
        tick()
    config = job.config
    return Result(N, job.B * config.T, config.C, steps, rows, bubbles, with_model, list(shape),
                  late, 0.25, [paper.lanes(order, 4, 8) for order in orders], paper.objects(job),
                  memory, control, 4, paper.on_paper(7e9, (2, 4, 8, 64, 1024), 64), 7e9, found,
                  why_not)


def beyond(job):
    """[parameters, bytes a rank beyond what ZeRO 3's formula says, for 4 ranks]"""
    N = job.model().count_parameters()
    return [N, paper.memory(job, 4, 3) - sum(bytes_a_rank(N, 4, 3))]


def over_mpi(fast, seed):
    """(what jobs over MPI found, why there are none): in this job, or in jobs of their own."""
    if COMM is not None:
        for other in range(1, COMM.size):
            COMM.send(real.order(3, seed), other)
        return [real.measure(COMM, 3, seed)], ""
    if fast or mpirun() is None:
        return [], f"{'--fast leaves MPI out' if fast else 'no MPI here'}; the real thing: {CURE}"
    found = []
    try:
        for p in (2, 4):
            job = launch(p, ["-m", "days.day62.real", "--seed", seed], timeout=120)
            if job.returncode:
                return found, f"mpirun -n {p} ended with {job.returncode}: {job.stderr.strip()}"
            found.append(json.loads(job.stdout.splitlines()[-1]))
    except subprocess.SubprocessError as error:
        return found, f"MPI is here, but a job failed: {error}"
    return found, ""


def show(result):
    print_table(table(result), f"{result.steps} steps of a GPT of {result.parameters:,} parameters")
    print_table(bubble_table(result), "pipelines on a virtual clock")
    print_table(memory_table(result), f"kB a rank after backward, {result.ranks} ranks")
    print_table(paper_table(result), f"on paper: {result.paper_size:.0e} parameters")
    for job in result.real:
        print(f"mpirun -n {job['ranks']}: weights apart at most "
              f"{max(row[1] for row in job['ways']):.0e}")
    if result.why_not:
        print(result.why_not)


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
