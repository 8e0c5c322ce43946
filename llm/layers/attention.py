"""Day 29 · Multi-head attention as a module: project, split, attend, merge, project."""

from llm.functions import heads
from llm.grad.tensor import primitive
from llm.layers.module import Linear, Module

multi_head = primitive(heads.multi_head, heads.multi_head_vjp)


class MultiHeadAttention(Module):
    """x (B, T, C) -> (B, T, C); token t sees tokens 0 … t.

    One matrix (C, 3C) makes queries, keys and values; `project` (C, C) mixes the heads' answers.
    rule: how positions enter (a `PositionRule`). Parameters: 4C² + 4C.
    """

    def __init__(self, channels, H, rng, rule=heads.NO_RULE, std=None, out_std=None):
        if H < 1 or channels % H:
            raise ValueError(f"{H} heads do not divide {channels} channels evenly")
        self.H, self.rule = H, rule
        self.qkv = Linear(channels, 3 * channels, rng, std=std)
        self.project = Linear(channels, channels, rng, std=out_std)

    def __call__(self, x):
        return self.project(multi_head(self.qkv(x), H=self.H, rule=self.rule))
