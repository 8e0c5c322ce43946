"""Day 29 · Many heads: split the channels, let each head attend by itself, merge.

The channels C are cut into H groups of D = C / H. Splitting and merging are changes of view: no
arithmetic is done by them. Where tokens stand enters through a position rule (day 30), which may
turn queries and keys, or add a bias to the scores, or do nothing, as here. Left out: heads that
share keys and values (day 49), and attention that stores no T × T weights (day 50).
"""

import math

import numpy as np

from llm.functions.attention import attention
from llm.functions.causal import causal_attention, causal_attention_vjp


class PositionRule:
    """How attention learns where tokens stand: what the rules of days 30 and 31 refine."""

    def turn(self, x):
        """Queries or keys (B, H, T, D) -> the same shape."""
        return x

    def turn_vjp(self, dx):
        """The gradient back through `turn`."""
        return dx

    def bias(self, T):
        """Numbers added to the scores, broadcast to (H, T, T), or None."""
        return None

    def tables(self, T):
        """For kernels (day 38): cos and sin, float32 (T, D/2), if all this rule does is to turn
        the pairs of channels (i, i + D/2); without rows if it does nothing; None if it does more.
        """
        return None


class NoRule(PositionRule):
    """The rule that does nothing, and says so to kernels."""

    def tables(self, T):
        none = np.zeros((0, 0), np.float32)
        return none, none


NO_RULE = NoRule()


def split_heads(x, H):
    """(B, T, H·D) -> (B, H, T, D), a view."""
    B, T, C = x.shape
    return x.reshape(B, T, H, C // H).transpose(0, 2, 1, 3)


def merge_heads(x):
    """(B, H, T, D) -> (B, T, H·D), a copy."""
    B, H, T, D = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B, T, H * D)


def multi_head(qkv, H, rule=NO_RULE):
    """Causal self-attention of H heads: qkv (B, T, 3C) -> (B, T, C), saved.

    qkv holds queries, keys and values side by side.
    Raises ValueError if H does not divide C. Source: Vaswani et al. (2017), section 3.2.2.
    """
    if H < 1 or qkv.ndim != 3 or qkv.shape[-1] % (3 * H):
        raise ValueError(f"multi_head of shape {qkv.shape} with {H} heads: wanted (B, T, 3·H·D)")
    q, k, v = (split_heads(part, H) for part in np.split(qkv, 3, axis=-1))     # (B, H, T, D)
    out, saved = causal_attention(rule.turn(q), rule.turn(k), v, bias=rule.bias(q.shape[2]))
    return merge_heads(out), (*saved, H, rule)


def multi_head_both_ways(qkv, H, rule=NO_RULE):
    """`multi_head` without the mask: each token sees all, as in an encoder. The same VJP.

    A rule's bias must mean something for later tokens, too: ALiBi's is 0 there.
    Raises ValueError if H does not divide C. Source: Devlin et al. (2019), section 3.
    """
    if H < 1 or qkv.ndim != 3 or qkv.shape[-1] % (3 * H):
        raise ValueError(f"multi_head of shape {qkv.shape} with {H} heads: wanted (B, T, 3·H·D)")
    queries, keys, values = (split_heads(part, H) for part in np.split(qkv, 3, axis=-1))
    out, saved = attention(rule.turn(queries), rule.turn(keys), values,
                           bias=rule.bias(qkv.shape[1]))
    return merge_heads(out), (*saved, H, rule)


def multi_head_dropped(qkv, kept, H, rule=NO_RULE, rate=0.0, causal=True):
    """`multi_head` that looks away at random: a weight is 0 where `kept` (B, H, T, T) is False.

    The others are divided by 1 − rate, so that the mean over draws of `kept`, each False with
    probability `rate`, is the average without dropping. Raises ValueError where a shape does not
    fit. Source: Radford et al. (2018), section 4.1: "attention dropouts with a rate of 0.1".
    """
    _, saved = (multi_head if causal else multi_head_both_ways)(qkv, H, rule)
    v, weights = saved[2:4]
    if kept.shape != weights.shape:
        raise ValueError(f"kept of shape {kept.shape} for weights of shape {weights.shape}: "
                         "draw one per weight")
    scale = weights.dtype.type(1 / (1 - rate))
    return merge_heads(np.where(kept, scale * weights, 0) @ v), (*saved, kept, scale)


def multi_head_dropped_vjp(dout, q, k, v, weights, H, rule, kept, scale):
    """dout (B, T, C) -> dqkv (B, T, 3C), None for `kept`.

    As `multi_head_vjp`, but a weight that was dropped sends nothing to v and gets no gradient.
    """
    dout = split_heads(dout, H)
    dv = np.where(kept, scale * weights, 0).swapaxes(-1, -2) @ dout
    dweights = np.where(kept, scale * (dout @ v.swapaxes(-1, -2)), 0)
    dscores = weights * (dweights - (dweights * weights).sum(axis=-1, keepdims=True))
    dscores /= math.sqrt(q.shape[-1])
    parts = rule.turn_vjp(dscores @ k), rule.turn_vjp(dscores.swapaxes(-1, -2) @ q), dv
    return np.concatenate([merge_heads(part) for part in parts], axis=-1), None


def multi_head_vjp(dout, q, k, v, weights, H, rule):
    """dout (B, T, C) -> dqkv (B, T, 3C): split the gradient, each head's own backward, merge."""
    dq, dk, dv = causal_attention_vjp(split_heads(dout, H), q, k, v, weights)
    parts = rule.turn_vjp(dq), rule.turn_vjp(dk), dv
    return (np.concatenate([merge_heads(part) for part in parts], axis=-1),)
