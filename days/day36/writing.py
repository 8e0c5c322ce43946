"""Day 36 · What a checkpoint holds, and how long it takes to write."""

import statistics
import time
from functools import partial

import numpy as np

from days.day36.killing import Numbers
from llm.train.checkpoint import Progress, checksum, save_checkpoint
from llm.weights.files import sync_folder
from llm.weights.safetensors import SafeTensors


def contents(path):
    """[[part, bytes], …] of a checkpoint of model, AdamW and generator; they add up to the file."""
    file = SafeTensors(path)
    count = {"header": file.begin, "weights": 0, "m": 0, "v": 0, "step counts": 0}
    for name, e in file.entries.items():
        kind = ("weights" if name.startswith("model.") else "step counts" if name == "optimizer.t"
                else name.split(".")[1])
        count[kind] += e.end - e.start
    assert sum(count.values()) == path.stat().st_size
    return [[name, size] for name, size in count.items()]


def times(folder, sizes, repeats, tick):
    """[[MB, seconds: checksum, save without fsync, save with both, fsync of the folder alone]]:
    medians, the kinds taken in turn."""
    rows, rng = [], np.random.default_rng(0)
    for size in sizes:
        numbers = Numbers(size // 4)
        numbers.x[...] = rng.standard_normal(numbers.x.size)
        parts, path, taken = {"model": numbers}, folder / "timed", {}
        kinds = {"checksum": partial(checksum, numbers.state_dict(), {}),
                 "plain": partial(save_checkpoint, path, parts, Progress(), durable=False),
                 "synced": partial(save_checkpoint, path, parts, Progress()),
                 "folder": partial(sync_folder, folder)}
        for _ in range(repeats):
            for name, work in kinds.items():
                if name == "folder":
                    path.rename(path.with_name("other"))         # something to sync
                began = time.perf_counter()
                work()
                taken.setdefault(name, []).append(time.perf_counter() - began)
                tick(1)
        rows.append([size / 1e6, *(statistics.median(t) for t in taken.values())])
    return rows
