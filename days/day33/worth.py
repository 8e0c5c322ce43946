"""Day 33 · What the feed-forward is worth: one-block models of Shakespeare's characters.

Left out: stacks of blocks (day 34) and a recipe for the last hundredth (day 35).
"""

from days.day29.model import AttentionLM, Places, loss_by_place, train
from llm.grad import ops
from llm.layers.attention import MultiHeadAttention
from llm.layers.block import Block, FeedForward
from llm.layers.norm import LayerNorm
from llm.layers.residual import Residual

T, B, H, RATE = 32, 32, 2, 4e-3


def nothing(x):
    """The activation that is none."""
    return x


# name, C, ratio, activation; all with a ratio have (4 + 2·ratio)·C² ≈ 49,000 weights
VARIANTS = [("attention alone", 64, 0, None), ("×4, no activation", 64, 4, nothing),
            ("×1", 90, 1, ops.gelu), ("×2", 78, 2, ops.gelu), ("×4", 64, 4, ops.gelu),
            ("×8", 50, 8, ops.gelu)]


class OneBlock(AttentionLM):
    """ids (B, T) -> logits (B, T, V): embed, place, one block, norm, project.

    ratio 0 leaves the feed-forward away.
    """

    def __init__(self, V, C, ratio, activation, rng):
        super().__init__(V, C, H, 0, rng, Places(T, C, rng))
        mixer = LayerNorm(C), MultiHeadAttention(C, H, rng)
        self.block = Residual(mixer[1], mixer[0]) if ratio == 0 else Block(
            *mixer, LayerNorm(C), FeedForward(C, rng, ratio, activation))

    def __call__(self, ids):
        return self.head(self.norm(self.block(self.positions(self.embed(ids)))))


def nats(variant, V, ids, unseen, steps, n, rng, advance):
    """(parameters of the block, nats a character on n windows of unseen text) after training."""
    model = OneBlock(V, *variant[1:], rng)
    train(model, ids, steps, B, T, rng, advance, RATE)
    return model.block.count_parameters(), float(loss_by_place(model, unseen, T, n).mean())
