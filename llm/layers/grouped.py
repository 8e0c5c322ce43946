"""Day 49 · Grouped-query attention as a module: day 29's, with K heads of keys and values.

Left out: attention that reads shared keys in place. Here each is copied for its group.
"""

import numpy as np

from llm.functions import grouped
from llm.functions.heads import NO_RULE
from llm.grad.tensor import primitive
from llm.layers.attention import multi_head
from llm.layers.module import Linear, Module

spread = primitive(grouped.spread, grouped.spread_vjp)


class GroupedAttention(Module):
    """x (B, T, C) -> (B, T, C); token t sees tokens 0 … t. D = C / H, no biases.

    `qkv` (C, (H + 2K)·D) makes queries, then keys, then values; `project` (C, C) mixes the heads'
    answers. K = H is multi-head attention, K = 1 multi-query. rule: how positions enter (a
    `PositionRule`); it is applied to H copies of the keys. Parameters: 2·C² + 2·K·D·C.
    std: of `qkv`; out_std: of `project`, which writes to the stream; 1/√C where not given.
    dtype: of both matrices, and so of what comes in and goes out.
    Raises ValueError where H does not divide C, or K does not divide H.
    Sources: Shazeer (2019), section 3, for K = 1; Ainslie et al. (2023), section 2.2.
    """

    def __init__(self, channels, H, K, rng, rule=NO_RULE, std=None, out_std=None,
                 dtype=np.float32):
        grouped.check_groups(H, K)
        if channels % H:
            raise ValueError(f"{H} heads do not divide {channels} channels evenly")
        self.H, self.K, self.rule = H, K, rule
        width = (H + 2 * K) * (channels // H)
        self.qkv = Linear(channels, width, rng, bias=False, std=std, dtype=dtype)
        self.project = Linear(channels, channels, rng, bias=False, std=out_std, dtype=dtype)

    def __call__(self, x):
        wide = spread(self.qkv(x), H=self.H, K=self.K)                 # (B, T, 3·C)
        return self.project(multi_head(wide, H=self.H, rule=self.rule))
