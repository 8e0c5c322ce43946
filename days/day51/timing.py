"""Day 51 · The stopwatch: a training step of each model, and one layer beside a dense one."""

import numpy as np

from days.day38.timing import in_turns
from days.day51.small import make_model
from llm.data.batches import random_windows
from llm.grad.tensor import Tensor, no_grad
from llm.layers.gated import SwiGLU
from llm.layers.moe import MoE
from llm.train.adam import AdamW


def step_times(plan, texts, variants, repeats):
    """[[variant, milliseconds of a training step]]."""
    calls = []
    for variant in variants:
        model = make_model(plan, texts.V, variant, np.random.default_rng(0))
        parameters = model.named_parameters()
        calls.append(one_step(model, parameters, AdamW(parameters), random_windows(
            texts.train, plan.B, plan.T, np.random.default_rng(1))))
    return [[variant, ms] for variant, ms in zip(variants, in_turns(calls, repeats), strict=True)]


def one_step(model, parameters, optimizer, batches):
    def step():
        for p in parameters.values():
            p.grad = None
        model.objective(*next(batches)).backward()
        optimizer.step(1e-3)
    return step


def layer_times(C, F, N, k, sizes, rng, repeats):
    """[[tokens, ms of a SwiGLU of width F, ms of N experts of width F / k, experts in use]]."""
    dense, experts = SwiGLU(C, F, rng), MoE(C, F // k, rng, N, k)
    rows = []
    with no_grad():
        for T in sizes:
            x = Tensor(rng.standard_normal((T, C)).astype(np.float32))
            times = in_turns([lambda x=x: dense(x), lambda x=x: experts(x)], repeats)
            rows.append([T, *times, int((experts.last.plan.counts > 0).sum())])
    return rows
