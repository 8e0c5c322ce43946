"""Day 44 · Tokens a second and bytes of the engine, in float32 and in 8 bits."""

import time
from statistics import median

import numpy as np

from days.day43.models import large, readers
from llm.generate.engine import Engine
from llm.kernels.int8 import INT8, int8
from llm.kernels.matvec import FLOAT32

FORMATS = {"float32": FLOAT32, "INT8": INT8, "INT8, groups of 32": int8(32)}


PAUSE = 0.04                       # seconds between rivals: OpenBLAS's worker spins for 0.02


def seconds_in_turns(functions, rounds, least):
    """Median seconds of a call of each. In each round a function runs for `least` seconds."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            time.sleep(PAUSE if rounds > 3 else PAUSE / 20)
            function()                                        # wakes the threads
            start, calls = time.perf_counter(), 0
            while (now := time.perf_counter()) < start + least or not calls:
                function()
                calls += 1
            times[name].append((now - start) / calls)
    return {name: median(found) for name, found in times.items()}


def step_of(engine, i, position):
    def step():
        engine.truncate(position)
        return engine.step(i)
    return step


def speeds(fast, rng):
    """For two models: [name, weights, {format: [bytes of matrices, s a token, s of a prompt]}]."""
    found, rounds, least = [], *((3, 0.005) if fast else (9, 0.1))
    for make in (readers, large):
        model = make(fast, rng)
        position = min(model.arch.T - 2, 100)
        engines, prompt = {}, np.array(model.ids[:position])
        Engine(model.arch, model.weights, INT8).step(0)       # the first step loads the kernel
        for name, fmt in FORMATS.items():
            engines[name] = Engine(model.arch, model.weights, fmt)
            engines[name].prefill(prompt)
        steps = {name: step_of(e, model.ids[position], position) for name, e in engines.items()}
        tokens = seconds_in_turns(steps, rounds, least)

        def read(e, prompt=prompt):
            e.reset()
            return e.prefill(prompt)
        prompts = seconds_in_turns({name: lambda e=e: read(e) for name, e in engines.items()},
                                   rounds, least) if make is readers else {}
        size = {name: sum(w.data.nbytes for w in e.matrices().values())
                for name, e in engines.items()}
        found.append([model.name, sum(w.N * w.K for w in engines["INT8"].matrices().values()),
                      {name: [size[name], tokens[name], prompts.get(name)] for name in engines}])
    return found, position
