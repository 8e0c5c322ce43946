"""Day 32 · A tower of 24 layers, with and without a residual stream, for this day's run."""

from llm.grad import ops
from llm.layers.attention import MultiHeadAttention
from llm.layers.module import Embedding, Linear, Module
from llm.layers.norm import LayerNorm
from llm.layers.residual import Residual

C, H, DEPTH = 32, 4, 24


class Think(Module):
    """One hidden layer; day 33 looks at it."""

    def __init__(self, rng, std):
        self.up, self.down = Linear(C, 2 * C, rng, std=std), Linear(2 * C, C, rng, std=std)

    def __call__(self, x):
        return self.down(ops.gelu(self.up(x)))


class Normed(Module):
    """A layer without a stream: inner(norm(x)), or inner(x) where norm is None."""

    def __init__(self, inner, norm):
        self.inner, self.norm = inner, norm

    def __call__(self, x, rng=None):
        return self.inner(x if self.norm is None else self.norm(x))


class Tower(Module):
    """24 layers, attention and thinking in turn, from characters to logits."""

    def __init__(self, V, kind, rng, std=None, dropout=0.0):
        self.embed, self.layers = Embedding(V, C, rng), []
        for i in range(DEPTH):
            inner = Think(rng, std) if i % 2 else MultiHeadAttention(C, H, rng, std=std,
                                                                     out_std=std)
            self.layers.append(
                Residual(inner, LayerNorm(C), dropout, pre=kind == "pre-norm") if "-" in kind
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

    def loss(self, ids, targets, probes=None):
        streams = self.streams(ids, probes=probes)
        return ops.cross_entropy(self.head(self.norm(streams[-1])), targets), streams
