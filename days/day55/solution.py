"""Day 55 · Solutions of the exercises."""

import numpy as np

from llm.functions.attention import attention
from llm.functions.heads import merge_heads, multi_head, split_heads


def merged_adapter(w, b, down, down_bias, up, up_bias):
    """Without the GELU all is linear: y + (y D + d) U + u = y (I + D U) + d U + u."""
    bend = np.eye(len(down)) + down @ up
    return w @ bend, b @ bend + down_bias @ up + up_bias


def gated_prefix(qkv, keys, values, gate, H):
    """A second attention over the prefix alone, added after tanh(gate) of its head."""
    B, _, width = qkv.shape
    q = split_heads(qkv[..., :width // 3], H)                          # (B, H, T, D)
    k, v = (split_heads(np.broadcast_to(x, (B, *x.shape)), H) for x in (keys, values))
    read, _ = attention(q, k, v)
    return multi_head(qkv, H=H)[0] + merge_heads(np.tanh(gate)[:, None, None] * read)
