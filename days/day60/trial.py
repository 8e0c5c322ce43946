"""Day 60 · One training step, watched: what it really needs, event by event and at its highest."""

import contextlib
import tracemalloc
from dataclasses import replace

import numpy as np

from llm.grad import ops, tensor
from llm.grad.memory import watching
from llm.layers.attention import multi_head
from llm.layers.gated import rmsnorm, swiglu
from llm.layers.grouped import spread
from llm.layers.norm import layernorm
from llm.models.gpt import GPT, GPTConfig, head
from llm.models.llama import Llama
from llm.train.adam import AdamW

WATCHED = (ops.embedding, ops.linear, ops.gelu, ops.cross_entropy, tensor.add, multi_head, spread,
           layernorm, rmsnorm, swiglu, head)


def make(config):
    """The model of a config."""
    kind = GPT if isinstance(config, GPTConfig) else Llama
    return kind(config, np.random.default_rng(0))


def batch(config, B):
    """(inputs, targets), each (B, T) int32, at random: memory does not care."""
    ids = np.random.default_rng(1).integers(0, config.V, (B, config.T + 1), dtype=np.int32)
    return ids[:, :-1].copy(), ids[:, 1:].copy()


def timeline(config, B):
    """[(name, direction, bytes after, most bytes during)] of a step, beyond model and optimizer."""
    warm_up(config)
    model, (inputs, targets) = make(config), batch(config, B)
    with watching(WATCHED) as log:
        model.loss(inputs, targets).backward()
    return log


def warm_up(config):
    """A small step first, so that what Python makes only once is not counted."""
    model = make(replace(config, L=1))
    ids = np.zeros((1, 2), np.int32)
    model.loss(ids, ids).backward()
    AdamW(model.named_parameters()).step(0.0)


def step(config, B, context=contextlib.nullcontext):
    """(most bytes at any moment of a step, gradients): model, moments and everything else.

    context(model): what the step runs in.
    """
    warm_up(config)
    tracemalloc.start()
    try:
        model = make(config)
        parameters = model.named_parameters()
        optimizer = AdamW(parameters)
        inputs, targets = batch(config, B)
        kept = inputs.nbytes + targets.nbytes
        tracemalloc.reset_peak()
        with context(model):
            model.loss(inputs, targets).backward()
        gradients = [p.grad for p in parameters.values()]
        optimizer.step(1e-3)
        return tracemalloc.get_traced_memory()[1] - kept, gradients
    finally:
        tracemalloc.stop()
