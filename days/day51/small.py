"""Day 51 · Small GPTs on the characters of Shakespeare that differ in the feed-forward alone.

With experts: N of them, each a K-th as wide as the dense one, of which a token uses K. What the
variants are for is told in experiments/moe.py, which gives each its own best rate.
"""

import dataclasses
import math

import numpy as np

from llm.data.batches import random_windows, sliding_windows
from llm.grad.tensor import no_grad
from llm.layers.attention import MultiHeadAttention
from llm.layers.block import Block
from llm.layers.gated import SwiGLU
from llm.layers.norm import LayerNorm
from llm.layers.rotary import Rotary
from llm.models.gpt import GPT, GPTConfig
from llm.models.moe import MoEConfig, MoEGPT
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine

N, K = 8, 2                              # experts, and how many a token uses
SPEED = .001                             # of the biases, where they balance
VARIANTS = {                             # (width, start) of a dense one, or (α, bias speed)
    "dense": ("dense", 1, 1.0), "dense, half the start": ("dense", 1, .5),
    "dense, 4 times as wide": ("dense", 4, 1.0), "experts, α = 0.01": ("experts", .01, 0.0),
    "experts, α = 0": ("experts", 0.0, 0.0), "experts, α = 1": ("experts", 1.0, 0.0),
    "experts, biases": ("experts", 0.0, SPEED), "experts, fixed router": ("fixed", 0.0, 0.0)}
MAIN = "experts, α = 0.01"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is held equal. A study keeps runs only where all of it is the same."""

    corpus: str = "shakespeare"
    characters: int = 10**9              # of the corpus, at most
    validate: int = 50_000               # characters of each half of the held-out tenth, at most
    B: int = 16                          # windows a batch
    T: int = 64                          # characters a window
    C: int = 32
    L: int = 2
    H: int = 2
    F: int = 96                          # width of the dense SwiGLU; an expert has F / K
    steps: int = 1000
    warmup: int = 50
    first_rates: tuple = (4e-3, 6e-3, 9e-3)        # the grid grows from here
    factor: float = 1.5                  # between neighbours
    choose: tuple = (0,)                 # seeds on the grid
    report: tuple = (10, 11, 12, 13, 14)     # fresh seeds at the best rate

    @classmethod
    def small(cls):
        """For --fast: everything happens, on little."""
        return cls(characters=50_000, validate=1000, B=4, T=16, C=16, F=16, L=1, steps=5,
                   first_rates=(1e-2,), report=(10, 11))


def make_model(plan, V, variant, rng):
    """The GPT of one variant, with `objective` to train by and `loss` to compare by."""
    kind, *options = VARIANTS[variant]
    C, shape = plan.C, {"V": V, "T": plan.T, "C": plan.C, "L": plan.L, "H": plan.H, "rotary": True}
    std = 1 / math.sqrt(C)
    branch = std / math.sqrt(2 * plan.L)
    if kind != "dense":
        model = MoEGPT(MoEConfig(**shape, F=plan.F // K, N=N, k=K, balance=options[0]), rng, std,
                       branch)
        for layer in model.mixtures():
            layer.router.w.requires_grad = kind == "experts"
        return model
    wider, start = options

    def block(config, rng):
        mixer = MultiHeadAttention(C, plan.H, rng, Rotary(C // plan.H, plan.T), std, branch)
        return Block(LayerNorm(C), mixer, LayerNorm(C),
                     SwiGLU(C, wider * plan.F, rng, std, start * branch))

    model = GPT(GPTConfig(**shape), rng, block)
    model.objective = model.loss
    return model


def train(plan, texts, variant, rate, seed, hooks=(), steps=None):
    """A trained model of this variant, and what fit returned."""
    model = make_model(plan, texts.V, variant, np.random.default_rng([seed, 0]))
    parameters, speed = model.named_parameters(), VARIANTS[variant][2]
    if VARIANTS[variant][0] != "dense" and speed:
        hooks = [lambda step, model: model.rebalance(speed), *hooks]
    done = fit(parameters, lambda batch: (model.objective(*batch), batch[1].size),
               random_windows(texts.train, plan.B, plan.T, np.random.default_rng([seed, 1])),
               AdamW(parameters, betas=(0.9, 0.99), decay=0.01), WarmupCosine(rate, plan.warmup),
               steps=plan.steps if steps is None else steps, clip=1.0,
               hooks=[lambda step, hook=hook: hook(step, model) for hook in hooks])
    if done.interrupted:
        raise KeyboardInterrupt
    return model, done


def loads(model, ids, plan):
    """[[f of each expert] of each block] on the first 64 windows of ids; [] of a dense model."""
    if not hasattr(model, "mixtures"):
        return []
    with no_grad():
        model(next(sliding_windows(ids, 64, plan.T, plan.T))[0])
    return [[round(float(f), 5) for f in layer.last.load] for layer in model.mixtures()]
