"""Day 49 · The stopwatch: tokens through the engine for several K, one head, a training step.

Times are those of the fastest of several calls. The calls take turns, so that each finds its
weights and its cache in memory and not in the processor's cache.
"""

import dataclasses

import numpy as np

from days.day42.timing import fastest
from llm.data.batches import random_windows
from llm.functions.grouped import spread, spread_vjp
from llm.generate.engine import Engine
from llm.kernels.step import attend
from llm.models.llama import Llama, LlamaConfig
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import Constant

LARGE = LlamaConfig(V=1024, T=4096, C=512, L=4, H=8, K=8, F=1344, base=1e4)
TINY = LlamaConfig(V=64, T=64, C=64, L=1, H=4, K=4, F=64, base=1e4)
STEP = LlamaConfig(V=1024, T=128, C=96, L=3, H=4, K=4, F=256, base=1e4)


def milliseconds(calls, repeats):
    """Of the fastest of `repeats` calls of each, in their order."""
    return [1000 * t for t in fastest(dict(enumerate(calls)), repeats, lambda: None).values()]


def with_k(config, K):
    return dataclasses.replace(config, K=K)


def engines(config, Ks, rng):
    """{K: Engine}, its cache full of random keys and values; the weights drawn anew for each."""
    found = {}
    for K in Ks:
        engine = Engine(*Llama(with_k(config, K), rng).for_inference())
        for part in (engine.cache.k, engine.cache.v):
            part[:] = rng.standard_normal(part.shape, dtype=np.float32)
        found[K] = engine
    return found


def token_times(found, contexts, repeats, tick):
    """[[context, ms for each K in order]]: one token behind `context` others."""
    def one(engine, n):
        engine.cache.length = n
        engine.step(1)

    rows = []
    for n in contexts:
        calls = [lambda e=e, n=n: one(e, n) for e in found.values()]
        rows.append([n, *milliseconds(calls, repeats)])
        tick()
    return rows


def weight_bytes(engine):
    """What a token reads besides the cache: every packed matrix, once."""
    return sum(packed.data.nbytes for packed in engine.matrices().values())


def head_times(D, n, total, rng, repeats):
    """ms of one query head on n keys and values: [from memory, read a moment ago], one thread.

    From memory: so many heads are read in turn that `total` bytes lie between two visits.
    """
    count = max(total // (8 * n * D), 1)
    k, v = (rng.standard_normal((count, n * D), dtype=np.float32) for _ in range(2))
    q, key, value, out = (rng.standard_normal(D, dtype=np.float32) for _ in range(4))
    scores = np.empty(n + 1, np.float32)
    call = lambda i: attend(q, k[i], v[i], key, value, n, scores, out)
    cold, warm = milliseconds([lambda: [call(i) for i in range(count)],
                           lambda: [call(0) for _ in range(count)]], repeats)
    return [cold / count, warm / count]


def step_times(config, Ks, B, rng, repeats, steps=3):
    """[[K, ms of a whole training step, ms of its copies]], on kernels.

    Steps are taken by day 35's loop, which lets day 38 choose how many threads are worth while.
    """
    ids = rng.integers(config.V, size=20 * config.T)
    calls = []
    for K in Ks:
        model = Llama(with_k(config, K), rng)
        parameters = model.named_parameters()
        optimizer, D = AdamW(parameters), config.C // config.H
        qkv = rng.standard_normal((B, config.T, (config.H + 2 * K) * D), dtype=np.float32)
        dout = rng.standard_normal((B, config.T, 3 * config.C), dtype=np.float32)
        calls.append(lambda m=model, p=parameters, o=optimizer: fit(
            p, lambda batch: (m.loss(*batch), batch[1].size),
            random_windows(ids, B, config.T, rng), o, Constant(1e-4), steps=steps))
        calls.append(lambda x=qkv, d=dout, K=K: [
            (spread(x, config.H, K), spread_vjp(d, config.H, K))
            for _ in range(steps * config.L)])
    times = [ms / steps for ms in milliseconds(calls, repeats)]
    return [[K, *times[2 * i:2 * i + 2]] for i, K in enumerate(Ks)]


def copied_bytes(config, K, B):
    """What the copies of a step read and write, float32, forward and backward, all layers."""
    if K == config.H:
        return 0
    D = config.C // config.H
    return 2 * 4 * config.L * B * config.T * ((config.H + 2 * K) * D + 3 * config.H * D)
