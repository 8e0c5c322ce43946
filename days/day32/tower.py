"""Day 32 · A tower of layers, with and without a residual stream, for this day's run."""

import math

from llm.grad import ops
from llm.layers.attention import MultiHeadAttention
from llm.layers.module import Embedding, Linear, Module
from llm.layers.norm import LayerNorm
from llm.layers.residual import Residual

C, H, DEPTH = 32, 4, 24
KINDS = ("plain", "plain, normed", "post-norm", "pre-norm", "post-norm, scaled",
         "pre-norm, scaled")


class Think(Module):
    """One hidden layer; day 33 looks at it."""

    bend = staticmethod(ops.gelu)

    def __init__(self, rng, std, out_std):
        self.up, self.down = Linear(C, 2 * C, rng, std=std), Linear(2 * C, C, rng, std=out_std)

    def __call__(self, x):
        return self.down(self.bend(self.up(x)))


class Normed(Module):
    """A layer without a stream: inner(norm(x)), or inner(x) where norm is None."""

    def __init__(self, inner, norm):
        self.inner, self.norm = inner, norm

    def __call__(self, x, rng=None):
        return self.inner(x if self.norm is None else self.norm(x))


class Tower(Module):
    """Attention and thinking in turn, `depth` layers in all, from characters to logits.

    kind: one of KINDS; "scaled" divides the matrices that write by √depth.
    std: of all weights of the layers at the start; 1/√Cin unless given.
    divide: what the matrices that write are divided by, where it is neither 1 nor √depth.
    """

    def __init__(self, V, kind, rng, std=None, dropout=0.0, depth=DEPTH, divide=None):
        self.embed, self.layers = Embedding(V, C, rng), []
        shrink = 1 / (divide or (math.sqrt(depth) if "scaled" in kind else 1))
        for i in range(depth):
            cin = 2 * C if i % 2 else C                          # what the writing matrix reads
            out_std = shrink * (1 / math.sqrt(cin) if std is None else std)
            inner = (Think(rng, std, out_std) if i % 2
                     else MultiHeadAttention(C, H, rng, std=std, out_std=out_std))
            self.layers.append(
                Residual(inner, LayerNorm(C), dropout, pre="pre" in kind) if "-" in kind
                else Normed(inner, LayerNorm(C) if "normed" in kind else None))
        self.norm, self.head = LayerNorm(C), Linear(C, V, rng)

    def streams(self, ids, rng=None, probes=None):
        """The stream before each layer and after the last; probes (zeros) are added to each."""
        found = [self.embed(ids)]
        for i, layer in enumerate([*self.layers, None]):
            if probes:
                found[-1] = found[-1] + probes[i]
            if layer is not None:
                found.append(layer(found[-1], rng))
        return found

    def loss_of(self, stream, targets):
        """The loss as a function of the last stream."""
        return ops.cross_entropy(self.head(self.norm(stream)), targets)

    def loss(self, ids, targets, probes=None):
        streams = self.streams(ids, probes=probes)
        return self.loss_of(streams[-1], targets), streams
