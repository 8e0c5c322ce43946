"""Day 45 · A whole model in four bits: which matrix reads what, and in what order they are taken.

Each way returns {name: Groups} for all matrices and the head, and the weights that change beside
them (AWQ's norms). Left out: matrices in other numbers of bits than the rest.
"""

import numpy as np

from days.day45.capture import listen, listen_at_head
from llm.quantize.awq import ALPHAS, Scaled, awq, divide_outputs
from llm.quantize.gptq import gptq
from llm.quantize.int4 import quantise

BLOCK = ("qkv.w", "project.w", "up.w", "down.w")


def untied(weights):
    """The weights with a head of their own, which can be rounded while the embedding is not."""
    return {"head": np.ascontiguousarray(weights["embed"].T)} | weights


def names(arch):
    """All matrices, in the order in which a token meets them."""
    return [f"blocks.{i}.{part}" for i in range(arch.L) for part in BLOCK] + ["head"]


def rounded(arch, weights, texts=None, **settings):
    """Round to nearest: needs no text."""
    return {name: quantise(weights[name], **settings) for name in names(arch)}, {}


def by_gptq(arch, weights, texts, **settings):
    """GPTQ block by block: each block's inputs come from the blocks before, already rounded."""
    done = {}
    for i in range(arch.L):
        seen = listen(arch, with_groups(weights, done), texts)
        block = [f"blocks.{i}.{part}" for part in BLOCK]
        done |= {name: gptq(weights[name], seen[name].hessian, **settings) for name in block}
    head = listen_at_head(arch, with_groups(weights, done), texts)
    return done | {"head": gptq(weights["head"], head.hessian, **settings)}, {}


def by_awq(arch, weights, texts, **settings):
    """AWQ, all inputs as the float32 model has them; for `down` see `scaled`."""
    seen = listen(arch, weights, texts) | {"head": listen_at_head(arch, weights, texts)}
    return scaled(arch, weights, lambda name, w, free: awq(
        w, seen[name].hessian, seen[name].mean, ALPHAS if free else (0,), **settings))


def by_both(arch, weights, texts):
    """AWQ's scales, then GPTQ for the scaled weights, whose inputs x/s have S⁻¹HS⁻¹."""
    seen = listen(arch, weights, texts) | {"head": listen_at_head(arch, weights, texts)}

    def choose(name, w, free):
        H = seen[name].hessian
        s = awq(w, H, seen[name].mean, ALPHAS if free else (0,)).s
        return Scaled(s, gptq(s[:, None] * w, H / np.outer(s, s)), 0.0, ())
    return scaled(arch, weights, choose)


def by_luck(arch, weights, texts, rng, spread=0.05):
    """Round to nearest after scales that mean nothing: how much is chance in one rounding?"""
    def choose(name, w, free):
        s = np.exp(spread * rng.standard_normal(len(w)) * free).astype(np.float32)
        return Scaled(s, quantise(s[:, None] * w), 0.0, ())
    return scaled(arch, weights, choose)


def scaled(arch, weights, choose):
    """Matrices scaled by inputs and rounded; the scales divided out where the inputs are made.

    choose(name, w, free) -> Scaled. What a norm makes, or the values in attention, can be divided
    there. The input of `down` comes out of a GELU, which lets no factor through: free is False.
    One key head for each query head is assumed, as the reader's GPT has.
    """
    changed, found, values = dict(weights), {}, 2 * arch.H * arch.D

    def scale(name, *sources):
        found[name] = choose(name, changed[name], bool(sources))
        for source, first in sources:
            changed[source] = divide_outputs(changed[source], found[name].s, first)

    for i in range(arch.L):
        block = f"blocks.{i}."
        scale(block + "project.w", (block + "qkv.w", values), (block + "qkv.b", values))
        scale(block + "qkv.w", (block + "norm1.gain", 0), (block + "norm1.bias", 0))
        scale(block + "up.w", (block + "norm2.gain", 0), (block + "norm2.bias", 0))
        scale(block + "down.w")
    scale("head", ("norm.gain", 0), ("norm.bias", 0))
    return ({name: one.groups for name, one in found.items()},
            {name: w for name, w in changed.items() if name not in found})


def louder(arch, weights, factor, every=32):
    """The same function, but one input of 32 behind each norm is `factor` times as large."""
    changed, s = dict(weights), np.ones(arch.C, np.float32)
    s[::every] = factor
    pairs = [(f"blocks.{i}.{norm}", f"blocks.{i}.{part}.w") for i in range(arch.L)
             for norm, part in (("norm1", "qkv"), ("norm2", "up"))] + [("norm", "head")]
    for norm, matrix in pairs:
        changed[norm + ".gain"] = divide_outputs(changed[norm + ".gain"], 1 / s)
        changed[norm + ".bias"] = divide_outputs(changed[norm + ".bias"], 1 / s)
        changed[matrix] = changed[matrix] / s[:, None]
    return changed


def with_groups(weights, groups):
    """The weights with rounded matrices in their place, as float32."""
    return weights | {name: one.dense() for name, one in groups.items()}
