"""Day 38 · The stopwatch of this day: each primitive on both sides, whole steps, all in turns."""

import contextlib
import statistics
import time

import numpy as np

from llm.functions.heads import NO_RULE
from llm.grad import ops, tensor
from llm.grad.lowering import lower, twin_of
from llm.kernels.threads import settle
from llm.layers import attention, norm
from llm.models.gpt import GPT, GPTConfig, head
from llm.train import fast_half
from llm.train.adam import AdamW, adamw_update
from llm.train.clip import clip_gradients
from llm.train.fast import fast, twins

PARTS = {"linear layers": ops.linear, "head": head, "attention": attention.multi_head,
         "GELU": ops.gelu, "LayerNorm": norm.layernorm, "residual add": tensor.add,
         "cross-entropy": ops.cross_entropy, "embedding": ops.embedding}


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


def profile(B, T, L, H, C, V, seed, steps, half):
    """{part: ms a step}, and the whole step's ms as "step": means over `steps` real steps.

    Every primitive is wrapped in a clock, forward and backward; clipping and AdamW are timed from
    outside. What is left of the step is the tape: Python between the kernels, and sums of
    gradients that meet. half: products of bfloat16 numbers.
    """
    context, spent = (fast_half.fast if half else fast), dict.fromkeys(PARTS, 0.0)
    with context():
        table = {p: timed(*twin_of(p, p.pair), spent, name) for name, p in PARTS.items()}
    model, ids, parameters = made(B, T, L, H, C, V, seed)
    optimizer = AdamW(parameters)
    spent |= {"clipping": 0.0, "AdamW": 0.0, "step": 0.0}

    def add(name, work, *arguments):
        began = time.perf_counter()
        work(*arguments)
        spent[name] += 1000 * (time.perf_counter() - began)

    def step():
        model.zero_grad()
        model.loss(ids, ids).backward()
        add("clipping", clip_gradients, [p.grad for p in parameters.values()], 1.0)
        add("AdamW", optimizer.step, 1e-4)

    with context(), lower(table):
        for _ in range(3):                             # compile, and fill the caches
            step()
        spent.update(dict.fromkeys(spent, 0.0))
        for _ in range(steps):
            add("step", step)
    return {name: value / steps for name, value in spent.items()}


def timed(f, f_vjp, spent, name):
    """The pair (f, f_vjp), which adds the milliseconds of each call to spent[name]."""
    def clocked(work):
        def call(*inputs, **options):
            began = time.perf_counter()
            try:
                return work(*inputs, **options)
            finally:
                spent[name] += 1000 * (time.perf_counter() - began)
        return call
    return clocked(f), clocked(f_vjp)


def made(B, T, L, H, C, V, seed):
    """A GPT, a batch of ids (B, T) and the parameters."""
    rng = np.random.default_rng(seed)
    model = GPT(GPTConfig(V=V, T=T, C=C, L=L, H=H), rng)
    return model, rng.integers(0, V, (B, T)), model.named_parameters()


def one_step(B, T, L, H, C, V, seed, kernels):
    """A call that makes a whole training step."""
    model, ids, parameters = made(B, T, L, H, C, V, seed)
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
