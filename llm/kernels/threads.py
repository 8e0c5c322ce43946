"""Day 38 · Threads: one machine, two thread pools, and how they stop fighting.

NumPy's BLAS keeps a pool of threads and Numba's `prange` another. A pool that waits actively
(spins) keeps a core busy while the other pool works. Here Numba's OpenMP threads are told to
sleep after a few microseconds; it must be said before they start, so `settle` is called by the
first `fast()`. OpenBLAS can be told the same, by OPENBLAS_THREAD_TIMEOUT=10, but only before NumPy
is imported: that is left to whoever starts Python (experiments/bench_training.py does).
"""

import ctypes
import os
import sys

import numba

CHUNKS = 8                                # partial sums per reduction: the same on any machine
WORTH = 1 << 17                           # numbers for which a second thread pays
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3     # glibc's malloc.h


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
    """
    numba.set_num_threads(1 if numbers < WORTH else numba.config.NUMBA_NUM_THREADS)
