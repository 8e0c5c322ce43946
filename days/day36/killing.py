"""Day 36 · kill -9 at random moments, many times: what does it leave?

This file is also a program, `python -m days.day36.killing FOLDER HOW KILLS SEED`. It imports NumPy
once and then forks a child for each kill, so that one kill costs milliseconds. The child writes
checkpoints in a loop, a pause as long as a write between two; after a random time it is killed, and
the parent tries to load what is there. It prints one JSON line.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from days.harness import ROOT, progress
from llm.train.checkpoint import CheckpointError, Progress, load_checkpoint, save_checkpoint
from llm.train.keeper import Checkpoints
from llm.weights import files, safetensors

WAYS = ("in place", "atomic", "durable")


class Numbers:
    """Stands for a model: one array, all of whose entries are the step."""

    def __init__(self, size):
        self.x = np.zeros(size, np.float32)

    def state_dict(self):
        return {"x": self.x}

    def load_state_dict(self, state):
        self.x[...] = state["x"]


def in_place(path, pieces, durable=True):
    """What everybody writes first, in the place of `write_whole`: opening empties the old file."""
    handle = files.os.open(path, files.FLAGS, 0o666)
    try:
        for piece in pieces:
            files.write_all(handle, piece)
    finally:
        files.os.close(handle)


def loop(folder, how, size, ready):
    """The child: checkpoints until it is killed; `ready` is the end of a pipe to tell that it
    begins."""
    rng, numbers = np.random.default_rng(0), Numbers(size)
    keeper = Checkpoints(folder, {"model": numbers, "rng": rng}, keep=2, durable=how == "durable")
    step = keeper.restore().step
    if how == "in place":
        safetensors.write_whole = in_place
    os.write(ready, b".")
    while True:
        step += 1
        rng.random()
        numbers.x[...] = step
        began = time.perf_counter()
        if how == "in place":
            save_checkpoint(only(folder), keeper.parts, Progress(step))
        else:
            keeper.save(Progress(step))
        time.sleep(time.perf_counter() - began)


def only(folder):
    """The one file that is overwritten again and again."""
    return folder / "step-00000001.safetensors"


def kill_once(folder, how, size, seconds):
    begins, ready = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            loop(folder, how, size, ready)
        finally:
            os._exit(1)                                   # an error: the parent will notice
    os.close(ready)
    os.read(begins, 1)
    os.close(begins)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        raise RuntimeError(f"the child ended by itself, status {status}")


def left(folder, size=2):
    """(the newest step that loads or None, files that do not load)."""
    newest, bad = None, 0
    for path in sorted(folder.glob("step-*.safetensors")):
        numbers = Numbers(size)
        try:
            step = load_checkpoint(path, {"model": numbers}, partial=True).step
            if not (numbers.x == step).all():
                raise CheckpointError("a mixture of two steps")
            newest = max(step, newest or 0)
        except CheckpointError:
            bad += 1
    return newest, bad


def kills(folder, how, count, seed, size=250_000):
    """How often, in `count` kills, something was there that does not load, nothing that does, or
    less than before. Every kill comes within the time of about five writes."""
    rng, before = np.random.default_rng(seed), 0
    longest = 10 * seconds_of_a_write(folder, how, size)
    broken = nothing = back = parts = 0
    for _ in range(count):
        if how == "in place":
            start(folder, size)
        kill_once(folder, how, size, rng.uniform(0, longest))
        newest, bad = left(folder, size)
        broken += bad > 0
        nothing += newest is None
        back += newest is not None and newest < before and how != "in place"
        before = newest or before
        parts += any(folder.glob("*.part"))
    return {"kills": count, "broken": broken, "nothing": nothing, "went_back": back,
            "left_a_part": parts, "steps": before}


def start(folder, size):
    """A good checkpoint, before the child comes."""
    parts = {"model": Numbers(size), "rng": np.random.default_rng(0)}
    save_checkpoint(only(folder), parts, Progress(0), durable=False)


def seconds_of_a_write(folder, how, size):
    parts = {"model": Numbers(size), "rng": np.random.default_rng(0)}
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        save_checkpoint(only(folder), parts, Progress(0), durable=how == "durable")
        seconds.append(time.perf_counter() - began)
    only(folder).unlink()
    if how != "in place":
        parts["model"].x += 1
        save_checkpoint(only(folder), parts, Progress(1))
    return sorted(seconds)[2]


def in_a_process(folder, how, count, seed):
    """`kills` in a process of its own, which has one thread and may fork."""
    done = subprocess.run([sys.executable, "-m", "days.day36.killing", folder, how, str(count),
                           str(seed)], cwd=ROOT, capture_output=True, text=True, check=True,
                          env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    return json.loads(done.stdout)


def every_way(folder, count, seed):
    """The kill loop, each way in a folder of its own; {} where there is no fork."""
    if not hasattr(os, "fork"):
        return {}
    found = {}
    with progress(len(WAYS), "killing") as tick:
        for how in WAYS:
            found[how] = in_a_process(folder / how, how, count, seed)
            tick(1)
    return found


if __name__ == "__main__":
    where, way, number, first = sys.argv[1:]
    Path(where).mkdir(parents=True, exist_ok=True)
    print(json.dumps(kills(Path(where), way, int(number), int(first))))
