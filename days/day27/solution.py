"""Day 27 · One solution of each exercise."""

import numpy as np

from llm.functions.attention import attention


def gaussian_lookup(x, y, at, width):
    """−(a − x)²/2σ² = (a·x − x²/2)/σ² + a term of the query alone, which a softmax ignores.

    So two numbers do: q = (a, 1), k = (x, −x²/2)/σ², and √2 undoes the division by √D.
    """
    q = np.stack([at, np.ones_like(at)], axis=-1) * np.sqrt(2)
    k = np.stack([x, -x * x / 2], axis=-1) / width**2
    return attention(q, k, y[:, None])[0][:, 0]


def correction(dout, out):
    """Σⱼ (dout·vⱼ) wⱼ = dout · Σⱼ wⱼ vⱼ = dout · out: day 50 lives on this line."""
    return (dout * out).sum(axis=-1, keepdims=True)
