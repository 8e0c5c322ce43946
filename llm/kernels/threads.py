"""Day 38 · Threads: one machine, two thread pools, and how they stop fighting.

NumPy's BLAS keeps a pool of threads and Numba's `prange` another. A pool that waits actively
(spins) keeps a core busy while the other pool works. Here Numba's OpenMP threads are told to
sleep after a few microseconds; it must be said before they start, so `settle` is called by the
first `fast()`. OpenBLAS can be told the same, by OPENBLAS_THREAD_TIMEOUT=10, but only before NumPy
is imported: that is left to whoever starts Python (experiments/bench_training.py does).

How many threads a kernel may use is a context variable: `allow(n)` says so, `share` obeys, and
outside of `fast()` neither touches what you have set. Left out: choosing n, which train/pace.py
does by the clock.
"""

import contextlib
import ctypes
import math
import os
import sys
import time
from contextvars import ContextVar
from pathlib import Path

import numba

CHUNKS = 8                                # partial sums per reduction: the same on any machine
WORTH = 1 << 17                           # numbers for which a second thread pays
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3     # glibc's malloc.h
_allowed = ContextVar("threads that a kernel may use", default=None)
_late = ContextVar("when to call whom: (seconds of perf_counter, function)", default=None)


def settle():
    """Let Numba's threads sleep when they wait, and freed memory be used again. Idempotent.

    glibc gives large freed blocks back to the system, and each new one is then zeroed page by
    page; a training step allocates the same arrays every time, so it is told to keep them. The
    process then stays as large as it once was.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")     # some µs: kernels often follow each other
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            if not libc.mallopt(M_MMAP_THRESHOLD, 1 << 30):
                libc.mallopt(M_MMAP_THRESHOLD, 1 << 25)      # as much as an older glibc allows
            libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def share(numbers):
    """Let the next kernel, on so many numbers, use as many threads as it is worth.

    Waking a sleeping thread costs some 20 to 40 µs. A core that does 2,000 numbers a microsecond
    needs 66 µs for WORTH of them: with half of them given away, the waking is just paid for.
    Outside of `fast()` the number of threads is yours, and stays as it is.
    """
    if (late := _late.get()) and time.perf_counter() > late[0]:
        late[1]()
    if (allowed := _allowed.get()) is not None:
        numba.set_num_threads(1 if numbers < WORTH else allowed)


def allow(n):
    """Let kernels use n threads from now on; None: whatever Numba was told. See `kept`."""
    _allowed.set(n)
    if n is not None:
        numba.set_num_threads(n)


@contextlib.contextmanager
def kept():
    """Whatever `allow` and `share` do in this block, Numba's number is afterwards as before."""
    threads, allowed = numba.get_num_threads(), _allowed.get()
    try:
        yield threads
    finally:
        _allowed.set(allowed)
        numba.set_num_threads(threads)


@contextlib.contextmanager
def watched(deadline, call):
    """While the block lasts, the first kernel that starts after `deadline` calls `call()` first.

    deadline: a time of time.perf_counter(). Each kernel after that calls again, unless `call`
    changes something.
    """
    token = _late.set((deadline, call))
    try:
        yield
    finally:
        _late.reset(token)


def cores(groups="/proc/self/cgroup", root="/sys/fs/cgroup"):
    """How many cores this process may use: by its affinity and by its cgroup's quota; at least 1.

    A container with `--cpus 1` sees all cores of its machine and is stopped, for the rest of each
    tenth of a second, once it has used its one. A quota of 1.5 counts as 2: the clock decides.
    """
    count = (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
             else os.cpu_count() or 1)
    return max(1, math.ceil(min(count, quota(Path(groups), Path(root)))))


def quota(groups, root):
    """Cores that the cgroups above this process allow it, as a float; infinity without a limit.

    A line of /proc/self/cgroup is number:controllers:path; version 2 has no controllers. A limit
    may stand at the group or at any one above it, and in a container the path may be the host's.
    Source: Linux kernel documentation, cgroup-v2 (cpu.max) and scheduler/sched-bwc (cfs_quota_us).
    """
    limits = [math.inf]
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return math.inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        homes = [root / controllers, root / "cpu"] if controllers else [root, root / "unified"]
        for home in homes:
            folder = home / path.lstrip("/")
            for group in (folder, *folder.parents):
                limits.append(limit_of(group, bool(controllers)))
                if group == home:
                    break
    return min(limits)


def limit_of(group, first_version):
    """Microseconds of processor time allowed in each period, over the period; infinity if none."""
    try:
        if first_version:
            allowed = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        else:
            allowed, period = (group / "cpu.max").read_text().split()
        return int(allowed) / int(period) if int(allowed) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):           # no such file, or "max"
        return math.inf
