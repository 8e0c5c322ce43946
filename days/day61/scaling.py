"""Day 61 · From times of messages and steps to efficiency: the model, and what was measured."""

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from days.day61 import launch, real
from days.day61.job import Job, State, apart, train
from llm.scale.comm import LocalComm, World
from llm.scale.link import Link, ring_seconds
from llm.train.keeper import Checkpoints

median = statistics.median


def digest(found, cores, first=None):
    """Medians of what the ranks of one job measured, and what the model says about them.

    first: the digest whose link and steps of one rank the model is to use, if not its own. The
    link is that of the fastest messages: all disturbances make them slower.
    """
    p, small, large = found["ranks"], 8, found["bytes"] // max(found["ranks"], 2)
    alpha = min(found["message"][str(small)])
    spread = lambda times: [min(times), median(times), max(times)]
    base = first or {
        "alpha": alpha, "one": spread(found["alone"][str(found["B"])]),
        "beta": (large - small) / max(min(found["message"][str(large)]) - alpha, 1e-9),
        "line": step_line({int(rows): median(times) for rows, times in found["alone"].items()})}
    link, line, one = Link(base["alpha"], base["beta"]), base["line"], base["one"][1]
    return {"ranks": p, "threads": found["threads"], "cores": cores, "B": found["B"],
            **{key: base[key] for key in ("alpha", "beta", "line", "one")},
            "apart": spread(found["apart"]), "together": spread(found["together"]),
            "ring": spread(found["ring"]), "ring_model": ring_seconds(link, p, found["bytes"]),
            "model": model_step(line, found["B"], p, cores, link, found["bytes"]),
            "efficiency": one / p / median(found["together"]),
            "share": one / min(p, cores) / median(found["together"]),
            **{key: found[key] for key in ("weights_apart", "losses_apart", "sent_by_all",
                                           "formula")}}


def step_line(times):
    """[a, b] of a + b · rows seconds a step, by least squares over {rows: seconds}."""
    rows = np.array(sorted(times))
    b, a = np.polyfit(rows, [times[r] for r in rows.tolist()], 1)
    return [float(a), float(b)]


def model_step(line, B, p, cores, link, nbytes):
    """Seconds a step of p ranks on so many cores: the work one after another, then the ring."""
    turns = max(1.0, p / cores)
    return turns * (line[0] + line[1] * B / p) + ring_seconds(link, p, nbytes)


def measured(fast, seed):
    """Digests of jobs of 2 and 4 ranks, or [] and the reason where they cannot be run."""
    if launch.mpirun() is None:
        return [], f"no MPI here: {launch.CURE}"
    rows = []
    for p in (2, 4):
        job = launch.launch(p, ["-m", "days.day61.real", "measure", "--seed", seed,
                                *(["--fast"] if fast else [])], timeout=300)
        if job.returncode:
            return rows, f"mpirun -n {p} ended with status {job.returncode}: {job.stderr.strip()}"
        rows.append(digest(json.loads(job.stdout.splitlines()[-1]), os.cpu_count() or 1,
                           rows[0] if rows else None))
    return rows, ""


def losing(seed, ranks=3, steps=40, every=5):
    """Kill a random rank in a random step, go on with one rank less, compare with one process.

    A dict: when it died, how long the job then took to end, what it said, the checkpoint.
    """
    rng = np.random.default_rng(seed)
    rank, step = int(rng.integers(ranks)), int(rng.integers(every + 2, steps - 1))
    job = Job(seed=seed, dtype="float64")
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "days.day61.real", "train", "--folder", folder, "--steps", steps,
                   "--every", every, "--seed", seed]
        first = launch.launch(ranks, [*command, "--lose", rank, step], timeout=120)
        ended = time.time()
        died = json.loads(first.stdout.splitlines()[0])["died"]
        state = State(job)
        loaded = Checkpoints(folder, state.parts).restore().step
        second = launch.launch(ranks - 1, command, timeout=120)
        if second.returncode:
            raise subprocess.CalledProcessError(second.returncode, second.args, second.stdout,
                                                second.stderr)
        Checkpoints(folder, state.parts).restore()
        names = sorted(path.name for path in Path(folder).iterdir())
    one = train(None, job, steps).weights
    return {"ranks": ranks, "rank": rank, "step": step, "seconds": ended - died,
            "status": first.returncode, "said": first.stderr.strip().splitlines(),
            "loaded": loaded, "steps": steps, "files": len(names),
            "apart": apart({n: p.data for n, p in state.parameters.items()}, one)}


def one_core(job, blocks, steps):
    """Seconds a step of one rank on one core, its median."""
    return median(real.step_times(LocalComm(World(1), 0), job, job.B, blocks, steps))
