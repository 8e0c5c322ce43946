"""Day 04 · The roofline: how fast a machine can run work of a given arithmetic intensity.

    attainable FLOP/s = min(peak FLOP/s, bytes/s · FLOPs per byte)

`read_all` is the streaming read that measures the slope. Left out: one roof for each cache level,
and writes (a store also reads its line first, so it costs about two reads).

Source: Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for
multicore architectures", Communications of the ACM 52(4), 2009.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from numba import get_num_threads, njit, prange


def flops(m, k, n):
    """Multiplications and additions in (M, K) · (K, N)."""
    return 2 * m * k * n


def least_bytes(m, k, n, itemsize=4):
    """Bytes that must move at least: read a and b once, write c once."""
    return itemsize * (m * k + k * n + m * n)


def intensity(m, k, n, itemsize=4):
    """FLOPs per byte at best. Square: n / 6 in float32. A vector times a matrix: about 1/2."""
    return flops(m, k, n) / least_bytes(m, k, n, itemsize)


def attainable(intensity, peak, bandwidth):
    """The roof in GFLOP/s, from the peak in GFLOP/s and the bandwidth in GB/s."""
    return min(peak, intensity * bandwidth)


def ridge(peak, bandwidth):
    """FLOPs per byte from which the arithmetic, not the memory, is the limit."""
    return peak / bandwidth


def read_all(x, threads=None):
    """The sum of the float32 array x (N,), read once, front to back, by all threads together.

    Each thread sums its own stripe, in 4 KiB pieces so that float32 rounding stays small.
    """
    if x.ndim != 1:
        raise ValueError(f"read_all takes one axis, got {x.shape}: pass x.ravel()")
    threads = get_num_threads() if threads is None else threads
    if not isinstance(threads, (int, np.integer)) or threads < 1:
        raise ValueError(f"threads must be a whole number and at least 1, not {threads}")
    return _read(x, int(threads)).sum()


@njit(fastmath=True, parallel=True, cache=True)
def _read(x, stripes):
    totals = np.zeros(stripes)
    for stripe in prange(stripes):
        first, last = stripe * x.size // stripes, (stripe + 1) * x.size // stripes
        total = 0.0
        for begin in range(first, last, 1024):
            piece = x[begin:min(begin + 1024, last)]
            part = np.float32(0)
            for i in range(piece.size):
                part += piece[i]
            total += part
        totals[stripe] = total
    return totals


class Blas:
    """The OpenBLAS inside NumPy, where there is one: which kernel it chose, and its threads.

    `.kernel` is a name such as "Haswell" or "SkylakeX", or "unknown" with any other BLAS.
    """

    def __init__(self):
        self._library = _openblas()
        self.kernel = "unknown"
        if self._library is not None:
            name = self._library.scipy_openblas_get_corename64_
            name.restype = ctypes.c_char_p
            self.kernel = name().decode()

    def threads(self):
        """How many threads it uses (0: cannot tell)."""
        library = self._library
        return library.scipy_openblas_get_num_threads64_() if library else 0

    def set_threads(self, count):
        """Use `count` threads from now on; does nothing with any other BLAS."""
        if self._library is not None:
            self._library.scipy_openblas_set_num_threads64_(count)


def _openblas():
    """NumPy's wheels keep it in numpy.libs (Linux, Windows) or numpy/.dylibs (macOS)."""
    home = Path(np.__file__).parent
    for folder in (home.parent / "numpy.libs", home / ".dylibs"):
        for file in sorted(folder.glob("*openblas*")):
            try:
                library = ctypes.CDLL(str(file))
                library.scipy_openblas_get_corename64_   # noqa: B018 - is it there?
                return library
            except (OSError, AttributeError):
                continue
    return None


def blas_with(kernel, n, timeout=60):
    """GFLOP/s of a product of two (n, n) float32 matrices by an OpenBLAS told to use `kernel`.

    0.0 where it uses another kernel all the same. OpenBLAS reads OPENBLAS_CORETYPE once, when it
    loads, so another Python process is started to ask. Raises subprocess.TimeoutExpired after
    `timeout` seconds.
    """
    script = f"""
import numpy as np
from llm.tensors.roofline import Blas, flops
from llm.tensors.timing import seconds_each
a = np.random.default_rng(0).standard_normal(({n}, {n}), dtype=np.float32)
print(Blas().kernel, flops({n}, {n}, {n}) / seconds_each({{0: lambda: a @ a}})[0] / 1e9)
"""
    done = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True,
                          timeout=timeout, env={**os.environ, "OPENBLAS_CORETYPE": kernel})
    words = done.stdout.split()
    return float(words[1]) if words[:1] == [kernel] else 0.0
