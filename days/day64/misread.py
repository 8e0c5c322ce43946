"""Day 64 · What a reader computes from our weights if config.json leaves one of our keys out.

GPT-NeoX's own defaults then stand: GELU by erf, both branches at once, a quarter of each head
turned. The last row is no key but the order in the file. None of these readers complains.
"""

import numpy as np

from llm.functions.dense import gelu, gelu_erf
from llm.generate.decode import apply, attend, norm, split
from llm.generate.rotate import turn
from llm.weights.forms import head_by_head

READERS = {"every key as we write it": {}, "hidden_act left out": {"bend": gelu_erf},
           "use_parallel_residual left out": {"parallel": True},
           "rotary_pct left out": {"share": 0.25}, "qkv not put head by head": {"fused": True}}


def read(arch, weights, ids, bend=gelu, parallel=False, share=1.0, fused=False):
    """ids (n,) -> logits (n, V) of a GPT with rotary positions, as day 42's decode has them."""
    positions, order = np.arange(len(ids)), np.argsort(head_by_head(arch))
    turned = int(arch.D * share)
    x = weights["embed"][ids]                                          # (n, C)
    for i in range(arch.L):
        block = f"blocks.{i}."
        qkv = apply(weights, block + "qkv", norm(arch, weights, block + "norm1", x))
        q, k, v = split(arch, qkv[:, order] if fused else qkv)         # (H, n, D) each
        q, k = (np.concatenate([turn(part[..., :turned], positions, arch.rotary),
                                part[..., turned:]], axis=-1) for part in (q, k))
        mixed = x + apply(weights, block + "project", attend(q, k, v, 0))
        y = norm(arch, weights, block + "norm2", x if parallel else mixed)
        x = mixed + apply(weights, block + "down", bend(apply(weights, block + "up", y)))
    return norm(arch, weights, "norm", x) @ weights["embed"].T
