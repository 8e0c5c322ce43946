"""Day 40 · Trainings side by side, a process for each core and one thread in each."""

import contextlib
import multiprocessing
import os
import signal

from days.day40 import laws, models

PROCESSES = 2
THREADS = ("OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
told = {}                                  # what a process was given at its start


@contextlib.contextmanager
def side_by_side(text, alone=False):
    """Yields trainings(jobs): losses of jobs (C, FLOPs, seed), in their order, one after another.

    alone: in this process, without others: for jobs so short that a start costs more.
    """
    if alone:
        start(text)
        yield lambda jobs: map(one, jobs)
        return
    with single_threads(), multiprocessing.get_context("spawn").Pool(
            PROCESSES, start, (text,)) as pool:
        yield lambda jobs: pool.imap(one, jobs)


@contextlib.contextmanager
def single_threads():
    """Processes that start inside this block use one thread each."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def start(text):
    """Keep the text, and leave Ctrl-C to the parent where there is one."""
    told["text"] = text
    if multiprocessing.parent_process():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def one(job):
    """Train width C on a budget of FLOPs: nats per token of held-out text."""
    C, flops, seed = job
    steps = laws.size_on(C, flops)[1] // models.T
    model, done = models.train(told["text"], C, models.rate_of(C, steps), steps, seed)
    if done.interrupted:
        raise KeyboardInterrupt
    return models.nats(model, told["text"].report)
