"""Day 38 · Processes of their own, with the settings that libraries read when they are loaded."""

import contextlib
import multiprocessing
import os
import signal

THREADS = 2
SETTINGS = {                                    # by side; libraries read them when they are loaded
    "ours": {"OPENBLAS_THREAD_TIMEOUT": "10"},  # cycles until a thread sleeps: 2¹⁰, not 2²⁶
    "bf16": {"OPENBLAS_THREAD_TIMEOUT": "10"},
}


def apart(function, *args):
    """function(*args) in a process whose thread pools do not fight."""
    with settings("ours"), multiprocessing.get_context("spawn").Pool(1, ignore_interrupts) as pool:
        return pool.apply(function, args)


def ignore_interrupts():
    """Ctrl-C reaches all processes of a terminal; the parent alone answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def settings(side):
    """Processes that start inside this block find the settings of that side."""
    names = SETTINGS.get(side, {})
    os.environ.update(names)
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def prepare_environment():
    """Two threads each, and no other setting that the processes would inherit."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(min(THREADS, os.cpu_count()))
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_THREAD_TIMEOUT",
                 "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        os.environ.pop(name, None)
