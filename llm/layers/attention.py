"""Day 29 · Multi-head attention as a module: project, split, attend, merge, project.

Left out: attention to another text (encoder–decoder), and a cache of keys and values (day 42).
"""

import numpy as np

from llm.functions import heads
from llm.grad.tensor import primitive
from llm.layers.module import Linear, Module

multi_head = primitive(heads.multi_head, heads.multi_head_vjp)
both_ways = primitive(heads.multi_head_both_ways, heads.multi_head_vjp)
dropped = primitive(heads.multi_head_dropped, heads.multi_head_dropped_vjp)


class MultiHeadAttention(Module):
    """x (B, T, C) -> (B, T, C); token t sees tokens 0 … t, or with causal=False all.

    One matrix (C, 3C) makes queries, keys and values; `project` (C, C) mixes the heads' answers.
    rule: how positions enter (a `PositionRule`). Parameters: 4C² + 4C, or 4C² with bias=False.
    dropout: the share of attention weights that is dropped where a call brings an rng.
    Raises ValueError where H does not divide C, or dropout is not in [0, 1).
    """

    def __init__(self, channels, H, rng, rule=heads.NO_RULE, std=None, out_std=None, bias=True,
                 causal=True, dtype=np.float32, dropout=0.0):
        if H < 1 or channels % H:
            raise ValueError(f"{H} heads do not divide {channels} channels evenly")
        if not 0 <= dropout < 1:
            raise ValueError(f"a dropout rate lies in [0, 1), not {dropout}")
        self.H, self.rule, self.causal, self.dropout = H, rule, causal, dropout
        self.draws = dropout > 0              # does a call want an rng? day 32's Residual asks
        self.qkv = Linear(channels, 3 * channels, rng, bias, std, dtype)
        self.project = Linear(channels, channels, rng, bias, out_std, dtype)

    def __call__(self, x, rng=None):
        if rng is not None and self.draws:
            B, T, _ = x.shape
            kept = rng.random((B, self.H, T, T), dtype=np.float32) >= self.dropout
            return self.project(dropped(self.qkv(x), kept, H=self.H, rule=self.rule,
                                        rate=self.dropout, causal=self.causal))
        if not self.causal:
            return self.project(both_ways(self.qkv(x), H=self.H, rule=self.rule))
        return self.project(multi_head(self.qkv(x), H=self.H, rule=self.rule))
