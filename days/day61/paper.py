"""Day 61 · All-reduce on a simulated link, the last bits of a sum, and what overlap hides."""

import time

import numpy as np

from days.day61.job import State, apart, train, without_key_biases
from llm.grad import walk
from llm.grad.lowering import lower
from llm.scale.allreduce import ring_allreduce, root_allreduce, tree_allreduce
from llm.scale.comm import run_ranks
from llm.scale.data_parallel import DataParallel, shards
from llm.scale.link import (
    Link,
    Metered,
    overlapped,
    ring_seconds,
    root_seconds,
    tree_seconds,
)
from llm.train.loop import fit

WAYS = {"ring": (ring_allreduce, ring_seconds), "tree": (tree_allreduce, tree_seconds),
        "root": (root_allreduce, root_seconds)}
ETHERNET = Link(latency=50e-6, bandwidth=1.25e9)          # 10 Gbit/s, an ordinary switch
SIMULATED = 64                                            # more ranks are on paper only


def on_a_link(link, nbytes, ranks):
    """[[p, {way: [seconds by the formula, simulated or None, most bytes sent by a rank]}], …]"""
    rows = []
    for p in ranks:
        found = {}
        for name, (f, seconds) in WAYS.items():
            now = most = None
            if p <= SIMULATED:
                now, most = simulated(f, link, nbytes, p)
            found[name] = [seconds(link, p, nbytes), now, most]
        rows.append([p, found])
    return rows


def simulated(f, link, nbytes, p):
    """(seconds on the virtual clock of the last rank, bytes sent by the busiest one)."""
    def work(comm):
        metered = Metered(comm, link)
        f(metered, np.zeros(nbytes, np.uint8))
        return metered.now, metered.bytes
    out = run_ranks(p, work)
    return max(now for now, _ in out), max(sent for _, sent in out)


def crossing(link, p):
    """Bytes below which the tree is faster than the ring, by the formulas; 0 if it never is."""
    steps = 2 * (p - 1).bit_length()                                   # p a power of two
    latency = (2 * (p - 1) - steps) * link.latency
    return latency / (steps - 2 * (p - 1) / p) * link.bandwidth if p > 2 else 0.0


def last_bits(job, p):
    """Sums of p ranks' gradients of one step, in three orders, against float64.

    Returns [[way, share of numbers with other bits than the ring's, largest error against a sum
    in float64 over the largest number, all ranks alike], …].
    """
    rows = []
    gradients = run_ranks(p, lambda comm: one_gradient(job, comm))
    exact = np.sum(gradients, 0, dtype=np.float64)
    ring = None
    for name, (f, _) in WAYS.items():
        out = run_ranks(p, lambda comm: f(comm, gradients[comm.rank].copy()))  # noqa: B023
        ring = out[0] if ring is None else ring
        rows.append([name, float((out[0] != ring).mean()),
                     float(np.abs(out[0] - exact).max() / np.abs(exact).max()),
                     all(x.tobytes() == out[0].tobytes() for x in out)])
    return rows


def one_gradient(job, comm):
    """The gradient of this rank's rows as one array."""
    state = State(job)
    value, _ = state.loss(next(shards(state.batches(), comm)))
    value.backward()
    return np.concatenate([p.grad.reshape(-1) for p in state.parameters.values()])


def equality(job, p, steps):
    """[weights apart, without the keys' biases, losses apart] of p ranks and one process."""
    one = train(None, job, steps)
    out = run_ranks(p, lambda comm: train(comm, job, steps))[0]
    return [apart(out.weights, one.weights), apart(out.weights, one.weights, without_key_biases),
            float(np.abs(np.subtract(out.losses, one.losses)).max())]


def other_order(job, steps):
    """The same for one process that takes the batch in two halves, without any ranks."""
    one, state = train(None, job, steps), State(job)
    halves = (half for x, y in state.batches() for half in
              ((x[:job.B // 2], y[:job.B // 2]), (x[job.B // 2:], y[job.B // 2:])))
    run = fit(state.parameters, state.loss, halves, state.optimizer, lambda step, total: job.rate,
              steps=steps, accumulate=2)
    weights = {name: p.data for name, p in state.parameters.items()}
    return [apart(weights, one.weights), apart(weights, one.weights, without_key_biases),
            float(np.abs(np.subtract(run.losses, one.losses)).max())]


def mean_of_means(job, p, batches=20):
    """Relative error of a gradient that averages the ranks' means, counts ignored: the median."""
    state, errors = State(job), []
    data = state.batches()
    for _ in range(batches):
        x, y = next(data)
        parts, counts = [], []
        for rows in np.array_split(np.arange(job.B), p):
            state.model.zero_grad()
            value, count = state.loss((x[rows], y[rows]))
            value.backward()
            parts.append(np.concatenate([q.grad.reshape(-1) for q in state.parameters.values()]))
            counts.append(count)
        right = np.average(parts, axis=0, weights=counts)
        errors.append(float(np.linalg.norm(np.mean(parts, 0) - right) / np.linalg.norm(right)))
    return float(np.median(errors))


def ready_times(job, rows):
    """[(seconds after the start of backward, bytes)] as each parameter's gradient is complete."""
    state, times = State(job), []
    sizes = {id(p): p.data.nbytes for p in state.parameters.values()}

    def noted(leaf, g, owned):
        walk.keep.__wrapped__(leaf, g, owned)
        times.append((time.perf_counter() - began, sizes[id(leaf)]))

    data = state.batches()
    for _ in range(3):                                                 # the last one counts
        x, y = next(data)
        value, _ = state.loss((x[:rows], y[:rows]))
        times.clear()
        began = time.perf_counter()
        with lower({walk.keep: noted}):
            value.backward()
    return times, time.perf_counter() - began


def overlap(job, link, ways, steps):
    """[[name, buckets, seconds a step], …] of two ranks in threads on a link that really waits.

    ways: [[name, options of DataParallel or None for no communication], …], taken in turn.
    """
    def work(comm):
        runs = [one_way(comm, job, link, options) for _, options in ways]
        times = [[] for _ in ways]
        for _ in range(steps + 1):                                     # the first warms up
            for (state, step, data), taken in zip(runs, times):
                comm.barrier()
                began = time.perf_counter()
                fit(state.parameters, step, data, state.optimizer, lambda s, total: job.rate,
                    steps=1)
                taken.append(time.perf_counter() - began)
        buckets = [len(getattr(step, "buckets", [])) for _, step, _ in runs]
        return [[name, n, taken[1:]] for (name, _), n, taken in zip(ways, buckets, times)]
    return run_ranks(2, work)[0]


def one_way(comm, job, link, options):
    """(state, loss, batches) of a rank that trains in one of the ways of `overlap`."""
    state = State(job)
    data = shards(state.batches(), comm)
    if options is None:
        return state, state.loss, data
    wire = Metered(comm, link, sleep=True)
    return state, DataParallel(wire, state.parameters, state.loss, **options), data


def exposed(link, ready, backward, bucket=None, overlap=False, p=2):
    """Seconds that communication adds to a step, by the model.

    ready: of ready_times, in order, and backward, its whole time. bucket, overlap: as for
    DataParallel, whose buckets this follows. The loss and its count go up and down a tree.
    """
    groups, size = [], 0
    for when, nbytes in ready:
        if not groups or (bucket is not None and size >= bucket):
            groups.append([0.0, 0])
            size = 0
        groups[-1] = [when, groups[-1][1] + nbytes]
        size += nbytes
    there = [when if overlap else backward for when, _ in groups]
    end = overlapped(there, [ring_seconds(link, p, nbytes) for _, nbytes in groups])
    return tree_seconds(link, p, 16) + end - backward
