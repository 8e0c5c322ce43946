"""Day 50 · How much memory does one call take at its worst, beyond what was there before it?

Python's tracemalloc does not see what a compiled kernel allocates, so the system is asked for the
process's resident memory. It is a high-water mark that only rises; Linux lets a process set it
back to the present value. Each way is measured in a process of its own, texts growing, so that
nothing else is counted: `python -m days.day50.memory flash 1 2 64 256,512`.
"""

import ctypes
import gc
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from days.day50.ways import WAYS, inputs, twice

ROOT = Path(__file__).resolve().parents[2]
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measurable():
    """Can this system set the mark back? Linux can; elsewhere the figures are left out."""
    try:
        CLEAR.write_text("5")
        return True
    except OSError:
        return False


def resident(name):
    """Bytes: "VmRSS" is what is resident now, "VmHWM" the most since the mark was set back."""
    return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text()).group(1))


def extra(call):
    """Bytes that `call()` needed at its worst, its results included."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):                   # freed memory that is kept would be reused
        libc.malloc_trim(0)
    CLEAR.write_text("5")
    before = resident("VmRSS")
    result = call()
    most = resident("VmHWM")
    del result
    return most - before


def peaks(way, B, H, D, lengths):
    """[bytes beyond inputs of one forward and backward, for each T], in a process of its own."""
    sizes = [str(n) for n in (B, H, D)] + [",".join(map(str, lengths))]
    done = subprocess.run([sys.executable, "-m", "days.day50.memory", way, *sizes], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {way} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def peaks_of(sizes, B, H, D):
    """{way: {T: bytes}} of `peaks` for {way: lengths}, empty where the system cannot tell.

    The processes run side by side: no time is taken here.
    """
    if not measurable():
        return {way: {} for way in sizes}
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda way: peaks(way, B, H, D, sizes[way]), sizes)
        return {way: dict(zip(sizes[way], bytes_)) for way, bytes_ in zip(sizes, found)}


def main(way, B, H, D, lengths):
    B, H, D = int(B), int(H), int(D)
    twice(WAYS[way], *inputs(1, 40, H, D), H)          # compiled, threads started, pages touched
    found = []
    for T in map(int, lengths.split(",")):
        qkv, dout = inputs(B, T, H, D)
        found.append(extra(lambda: twice(WAYS[way], qkv, dout, H)))  # noqa: B023
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
