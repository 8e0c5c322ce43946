"""Day 33 · What the feed-forward is worth: one-block models of Shakespeare's characters.

Left out: stacks of blocks (day 34) and a recipe for the last hundredth (day 35).
"""

from days.day29.model import AttentionLM, Places, loss_by_place, train
from llm.grad import ops
from llm.layers.attention import MultiHeadAttention
from llm.layers.block import Block, FeedForward
from llm.layers.module import Linear
from llm.layers.norm import LayerNorm
from llm.layers.residual import Residual

T, B, H = 32, 32, 2


def nothing(x):
    """The activation that is none."""
    return x


# name, C, ratio, activation, peak rate. All but the first have about 63,000 parameters, tables
# and head included. The rates are the best of a grid: experiments/feed_forward.py.
VARIANTS = [("attention alone", 64, 0, None, 9e-3),
            ("attention alone, wider", 102, 0, None, 6e-3),
            ("×4, no activation", 64, 4, nothing, 6e-3),
            ("×1", 86, 1, ops.gelu, 6e-3), ("×2", 76, 2, ops.gelu, 6e-3),
            ("×4", 64, 4, ops.gelu, 9e-3), ("×8", 50, 8, ops.gelu, 9e-3)]


ONE_MATRIX = ("one matrix", 64, None, None, 9e-3)      # exercise 2: the two without activation


class OneBlock(AttentionLM):
    """ids (B, T) -> logits (B, T, V): embed, place, one block, norm, project.

    ratio 0 leaves the feed-forward away; None makes it a single matrix (C, C) with biases.
    """

    def __init__(self, V, C, ratio, activation, rng):
        super().__init__(V, C, H, 0, rng, Places(T, C, rng))
        mixer = LayerNorm(C), MultiHeadAttention(C, H, rng)
        self.block = Residual(mixer[1], mixer[0]) if ratio == 0 else Block(
            *mixer, LayerNorm(C),
            Linear(C, C, rng) if ratio is None else FeedForward(C, rng, ratio, activation))

    def __call__(self, ids):
        return self.head(self.norm(self.block(self.positions(self.embed(ids)))))


def nats(variant, V, ids, unseen, steps, n, rng, advance, rate=None):
    """(parameters of the model, nats a character on n windows of unseen text) after training.

    rate: another peak rate than the variant's own.
    """
    model = OneBlock(V, *variant[1:4], rng)
    train(model, ids, steps, B, T, rng, advance, rate or variant[4])
    return model.count_parameters(), float(loss_by_place(model, unseen, T, n).mean())
