"""Day 62 · Pipelines on a virtual clock, memory by ZeRO stage, and both for many ranks on paper."""

import gc
import threading
import tracemalloc

import numpy as np

from days.day62.ways import loss_of
from llm.scale.comm import run_ranks
from llm.scale.data_parallel import shards
from llm.scale.link import Link, Metered
from llm.scale.pipeline import Pipeline, Stage, bubble, play
from llm.scale.zero import Zero, bytes_a_rank
from llm.train.adam import AdamW

FORWARD, BACKWARD = 1.0, 2.0             # seconds of one microbatch on one rank, stated
FREE = Link(0.0, float("inf"))


def lanes(order, p, m, latency=0.0, slower=None):
    """[[(kind, microbatch, start, end), …] of each rank]: an order on a clock, without a model.

    slower: {rank: how many times as long its work takes}.
    """
    def work(comm):
        comm, done, message = Metered(comm, Link(latency, float("inf"))), [], np.zeros(1)

        def take(kind, i, seconds):
            start = comm.now
            comm.work(seconds * (slower or {}).get(comm.rank, 1))
            done.append((kind, i, start, comm.now))
            return message
        play(comm, order(p, comm.rank, m), lambda i, x: take("F", i, FORWARD),
             lambda i, dy: take("B", i, BACKWARD), lambda i: message)
        return done
    return run_ranks(p, work)


def end(rows):
    return max(row[-1][3] for row in rows)


def waiting(rows, m):
    """The share of the time until the last rank is done in which a rank does nothing."""
    return 1 - m * (FORWARD + BACKWARD) / end(rows)


def most_kept(row):
    """The most microbatches that wait for their backward at once."""
    return int(np.cumsum([1 if kind == "F" else -1 for kind, *_ in row]).max())


def bubbles(shapes, orders):
    """[[p, m, formula, [share waiting, most kept by the first rank] of each order …], …]"""
    rows = []
    for p, m in shapes:
        done = [lanes(order, p, m) for order in orders]
        rows.append([p, m, bubble(p, m), *([waiting(r, m), most_kept(r[0])] for r in done)])
    return rows


def with_model(job, p, m, order):
    """[share waiting, [[most microbatches, most bytes of tape] of each rank]]: a real training
    step, its clock driven by the stated times."""
    def work(comm):
        comm = Metered(comm, FREE)
        step = Pipeline(comm, Stage(job.model(), comm), m, order, (FORWARD, BACKWARD))
        step(next(job.batches()))
        return comm.now, step.most, step.most_bytes
    out = run_ranks(p, work)
    last = max(now for now, *_ in out)
    return [1 - m * (FORWARD + BACKWARD) / last, [list(row[1:]) for row in out]]


def late(order, p, m, latency):
    """Seconds that messages of this latency add to a step."""
    return end(lanes(order, p, m, latency)) - end(lanes(order, p, m))


def memory(job, p, stage):
    """Bytes a rank that Python's tracemalloc finds after backward, when gradients are there."""
    gc.collect()
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start()
    found, gate = [], threading.Barrier(p)

    def work(comm):
        model = job.model()
        z = Zero(comm, model, loss_of(model), stage)
        optimizer = AdamW(z.parameters, decays=z.decays)
        data = shards(job.batches(), comm)
        for _ in range(2):                              # in the second step all is there
            for shard in z.parameters.values():
                shard.grad = None
            value, _ = z(next(data))
            value.backward()
            del value
            gate.wait()
            if comm.rank == 0:
                gc.collect()
                found.append(tracemalloc.get_traced_memory()[0])
            gate.wait()
            optimizer.step(1e-3)
        gate.wait()

    before = tracemalloc.get_traced_memory()[0]
    run_ranks(p, work)
    if started:
        tracemalloc.stop()
    return (found[-1] - before) / p


def objects(job):
    """Bytes of a model besides its parameters: Python's objects, rotary tables."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    model = job.model()
    found = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return found - 4 * model.count_parameters()


def on_paper(N, ranks, m):
    """[[p, bubble with m microbatches, [bytes a rank of stages 0 … 3]], …]"""
    return [[p, bubble(p, m), [sum(bytes_a_rank(N, p, stage)) for stage in range(4)]]
            for p in ranks]
