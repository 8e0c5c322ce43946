"""Day 63 · One configurable GPT: every part that the study exchanges, by name.

The parts are those of earlier days; this file only chooses. A toggle that is not mentioned keeps
the baseline's value, so a variant is the baseline and one difference. Left out: dropout, grouped
keys and experts, which have days of their own (32, 49, 50).
"""

import math
from dataclasses import dataclass

from llm.functions.heads import NO_RULE
from llm.grad import ops
from llm.grad.tensor import Tensor
from llm.layers.attention import MultiHeadAttention
from llm.layers.block import Block, FeedForward
from llm.layers.gated import RMSNorm, SwiGLU, gated_width
from llm.layers.module import Linear, Module
from llm.layers.norm import LayerNorm
from llm.layers.positions import ALiBi, LearnedPositions, SinusoidalPositions, sinusoids
from llm.layers.residual import Residual
from llm.layers.rotary import Rotary
from llm.models.gpt import GPT, GPTConfig
from llm.train.adam import AdamW
from llm.train.muon import Muon
from llm.train.sgd import SGD


@dataclass(frozen=True)
class Recipe:
    """All that decides a run, but its rate and its two seeds. The defaults are the baseline."""

    norm: str = "layer"            # layer, rms, none
    placement: str = "pre"         # pre, post
    position: str = "rotary"       # rotary, learned, sinusoidal, loud sinusoidal, alibi, none
    activation: str = "gelu"       # gelu, relu, relu squared, silu, swiglu (at equal parameters)
    loud: float = 1.0              # factor on the embeddings where they enter the stream
    H: int = 3                     # heads of C / H channels
    tied: bool = True              # the head is the embedding once more
    C: int = 48                    # channels
    L: int = 2                     # blocks
    optimizer: str = "adamw"       # adamw, adam, momentum, muon
    pairs: int = 0                 # byte-pair tokens in the vocabulary; 0: characters
    B: int = 8                     # windows a batch
    T: int = 32                    # tokens a window
    steps: int = 500
    warmup: int = 50
    beta2: float = 0.99            # of Adam's running mean of squares
    decay: float = 0.1             # AdamW's, of matrices
    clip: float = 1.0              # longest gradient
    characters: int = 10**9        # of the corpus, at most
    held_out: int = 8_000          # characters of each of the two held-out pieces, at most


class Nothing(Module):
    """x -> x: a norm that is none."""

    def __call__(self, x):
        return x


class QuietSinusoids(Module):
    """x (B, T, C) -> x + sinusoids scaled to the size 0.02 with which embeddings begin."""

    def __call__(self, x):
        return x + Tensor(sinusoids(x.shape[-2], x.shape[-1], x.dtype) * (0.02 * math.sqrt(2)))


class Louder(Module):
    """x -> positions(factor · x): what the blocks read, while the head keeps the table's size."""

    def __init__(self, factor, positions):
        self.factor, self.positions = factor, positions

    def __call__(self, x):
        x = x * self.factor
        return self.positions(x) if self.positions else x


class OwnHead(GPT):
    """Day 34's GPT with a head that shares nothing with the embedding."""

    def logits(self, hidden):
        return self.head(hidden)


def squared(x):
    """relu(x)². Source: So et al. (2021), Primer, section 3.1."""
    y = ops.relu(x)
    return y * y


NORMS = {"layer": LayerNorm, "rms": RMSNorm, "none": lambda channels: Nothing()}
ACTIVATIONS = {"gelu": ops.gelu, "relu": ops.relu, "relu squared": squared, "silu": ops.silu}
RULES = {"rotary": lambda r: Rotary(r.C // r.H, r.T), "alibi": lambda r: ALiBi(r.H)}
ADDED = {"learned": lambda r, rng: LearnedPositions(r.T, r.C, rng),
         "sinusoidal": lambda r, rng: QuietSinusoids(),
         "loud sinusoidal": lambda r, rng: SinusoidalPositions()}


def choose(table, name, what):
    """table[name], or ValueError with what there is."""
    if name not in table:
        raise ValueError(f"no {what} {name!r}: choose one of {', '.join(table)}")
    return table[name]


def build(recipe, V, rng):
    """The GPT of a recipe for V tokens, its numbers drawn from rng.

    Raises ValueError for a toggle that does not exist, or heads that do not divide C.
    """
    norm = choose(NORMS, recipe.norm, "norm")
    pre = choose({"pre": True, "post": False}, recipe.placement, "placement")
    choose(RULES | ADDED | {"none": None}, recipe.position, "position")
    config = GPTConfig(V=V, T=recipe.T, C=recipe.C, L=recipe.L, H=recipe.H, rotary=True)
    model = (GPT if recipe.tied else OwnHead)(
        config, rng, lambda config, rng: make_block(recipe, norm, pre, rng))
    model.replace("norm", norm(recipe.C) if pre else Nothing())     # post: the last block has one
    if recipe.position in ADDED:
        model.positions = ADDED[recipe.position](recipe, rng)
    if recipe.loud != 1:
        model.positions = Louder(recipe.loud, model.positions)
    if not recipe.tied:
        model.head = Linear(recipe.C, V, rng, bias=False, std=0.02)
    return model


def make_block(recipe, norm, pre, rng):
    """Day 33's block with these parts; spreads of the first weights as on day 35."""
    C, std = recipe.C, 1 / math.sqrt(recipe.C)
    out_std = std / math.sqrt(2 * recipe.L)
    rule = RULES[recipe.position](recipe) if recipe.position in RULES else NO_RULE
    mixer = MultiHeadAttention(C, recipe.H, rng, rule, std, out_std)
    if recipe.activation == "swiglu":
        think = SwiGLU(C, gated_width(C), rng, std, out_std)
    else:
        activation = choose(ACTIVATIONS | {"swiglu": None}, recipe.activation, "activation")
        think = FeedForward(C, rng, activation=activation, std=std, out_std=out_std)
    block = Block(norm(C), mixer, norm(C), think)
    if not pre:
        block.replace("mix", Residual(mixer, norm(C), pre=False))
        block.replace("think", Residual(think, norm(C), pre=False))
    return block


def make_optimizer(recipe, parameters):
    """The optimizer of a recipe. ValueError for one that does not exist."""
    adam = (0.9, recipe.beta2)
    makers = {"adamw": lambda: AdamW(parameters, adam, decay=recipe.decay),
              "adam": lambda: AdamW(parameters, adam, decay=0.0),
              "momentum": lambda: SGD(parameters, momentum=0.9),
              "muon": lambda: Muon(parameters, betas=adam, decay=recipe.decay)}
    return choose(makers, recipe.optimizer, "optimizer")()
