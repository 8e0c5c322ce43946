"""Day 38 · The stopwatch of this day: each primitive on both sides, whole steps, all in turns."""

import contextlib
import statistics
import time

import numpy as np

from llm.functions.heads import NO_RULE
from llm.grad import ops, tensor
from llm.kernels.threads import settle
from llm.layers import attention, norm
from llm.models.gpt import GPT, GPTConfig
from llm.train.adam import AdamW, adamw_update
from llm.train.clip import clip_gradients
from llm.train.fast import fast, twins


def primitive_times(B, T, H, C, V, seed, repeats):
    """(names, ms on the reference, ms on the twin), both with freed memory kept."""
    settle()                                           # before any thread of Numba's starts
    calls = primitives(B, T, H, C, V, np.random.default_rng(seed))
    times = [in_turns([reference, twin], repeats) for _, reference, twin in calls]
    return [name for name, *_ in calls], *([pair[side] for pair in times] for side in (0, 1))


def primitives(B, T, H, C, V, rng):
    """(name, reference call, twin call): forward and backward of each at this GPT's shapes."""
    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    cases = [
        ("linear C→4C", ops.linear, (normal(B, T, C), normal(C, 4 * C), normal(4 * C)), {}),
        ("GELU", ops.gelu, (normal(B, T, 4 * C),), {}),
        ("LayerNorm", norm.layernorm, (normal(B, T, C), normal(C), normal(C)), {}),
        ("attention", attention.multi_head, (normal(B, T, 3 * C),), {"H": H, "rule": NO_RULE}),
        ("cross-entropy", ops.cross_entropy, (normal(B, T, V), rng.integers(0, V, (B, T))), {}),
        ("embedding", ops.embedding, (normal(V, C), rng.integers(0, V, (B, T))), {}),
        ("residual add", tensor.add, (normal(B, T, C), normal(B, T, C)), {}),
    ]
    table = twins()
    calls = [(name, both_ways(key.pair, arrays, options), both_ways(table[key], arrays, options))
             for name, key, arrays, options in cases]
    state = [normal(C, 12 * C) for _ in range(3)] + [np.abs(normal(C, 12 * C))]
    settings = (*state, 1, 1e-3, 0.9, 0.99, 1e-8, 0.0)
    return calls + [("AdamW, 12C² numbers", lambda: adamw_update.__wrapped__(*settings),
                     lambda: table[adamw_update](*settings))]


def both_ways(pair, arrays, options):
    """A call that goes forward and back once."""
    f, f_vjp = pair
    dout = np.ones_like(f(*arrays, **options)[0])

    def call():
        _, saved = f(*arrays, **options)
        f_vjp(dout, *saved)

    return call


def one_step(B, T, L, H, C, V, seed, kernels):
    """A call that makes a whole training step."""
    rng = np.random.default_rng(seed)
    model = GPT(GPTConfig(V=V, T=T, C=C, L=L, H=H), rng)
    parameters, ids = model.named_parameters(), rng.integers(0, V, (B, T))
    optimizer = AdamW(parameters)

    def call():
        with fast() if kernels else contextlib.nullcontext():
            model.zero_grad()
            model.loss(ids, ids).backward()
            clip_gradients([p.grad for p in parameters.values()], 1.0)
            optimizer.step(1e-4)

    return call


def in_turns(calls, repeats):
    """Median milliseconds of each call; they take turns, so that a slow moment hits all."""
    times = [[] for _ in calls]
    for _ in range(repeats + 1):                       # the first round only warms up
        for call, spent in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            spent.append(1000 * (time.perf_counter() - began))
    return [statistics.median(spent[1:]) for spent in times]
