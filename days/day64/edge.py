"""Day 64 · One model in a process of its own, on one thread: what it takes and how fast it is.

`budget` starts this file as a program; it prints one JSON object. Memory is the most that the
process ever had, read after each stage, so that a stage's share is the difference. Linux tells it
as VmHWM. The usual `ru_maxrss` will not do there: it also counts what the *parent* had when it
started the child, and was the same for all models.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ONE = {"NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
PROMPT = "The king is"
THP_DISABLE = 41                  # prctl's number for "no huge pages in this process"


def most():
    """Bytes: the largest memory of this process so far."""
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return 1024 * int(line.split()[1])
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else 1024 * size


def budget(model, T, n, half=False, huge=True, warm=False):
    """Memory and speed of one model. T: room of the cache; n: tokens to write; half: a cache of 16
    bits; huge: pages of 2 MB where Linux likes them. warm: run once before, which compiles and
    brings the files into memory, and report the second run."""
    for tokens in (4, n) if warm else (n,):
        command = [sys.executable, __file__, str(model), *map(str, (T, tokens, int(half),
                                                                    int(huge)))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300,
                              env={**os.environ, **ONE, "PYTHONPATH": str(ROOT)})
        if done.returncode:
            raise OSError(f"measuring {model} failed: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def main(model, T, n, half, huge):
    """The child. Imports stand here, since they are part of what is measured."""
    if not huge and sys.platform == "linux":
        ctypes.CDLL(None).prctl(THP_DISABLE, 1, 0, 0, 0)
    found = {"python": most()}
    import numpy as np
    found["numpy"] = most()
    from llm.generate.opened import open_model
    found["imports"] = most()
    start = time.perf_counter()
    opened = open_model(model)
    engine = opened.engine(T_max=min(T, opened.arch.T), threads=1,
                           dtype=np.float16 if half else np.float32)
    logits = engine.prefill(opened.encode(PROMPT))
    found["first"] = time.perf_counter() - start           # seconds from nothing to the first token
    found["open"] = most()
    times = []
    for _ in range(n):
        start = time.perf_counter()
        if engine.length == engine.cache.T_max:
            engine.reset()
        logits = engine.step(int(logits.argmax()))
        times.append(time.perf_counter() - start)
    found["written"] = most()
    arch = opened.arch
    found["cache"] = 2 * arch.L * arch.K * arch.D * engine.cache.T_max * (2 if half else 4)
    found["weights"] = sum(w.data.nbytes for w in engine.matrices().values())
    found["rate"] = 1 / float(np.median(times))
    found["read"] = read_rate(np, found["weights"])
    print(json.dumps(found))


def read_rate(np, size):
    """Bytes a second at which one thread reads as many bytes as the weights have, again and again:
    from a cache, if they fit into one."""
    from llm.tensors.roofline import read_all
    x, best = np.ones(max(size // 4, 1024), np.float32), float("inf")
    for _ in range(20):
        start = time.perf_counter()
        read_all(x, 1)
        best = min(best, time.perf_counter() - start)
    return x.nbytes / best


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
