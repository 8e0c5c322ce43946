"""Day 39 · The functions of text.py in NumPy: what the fast ones must equal.

Each is a pair of an earlier day, or two of them fused, that writes into arrays it is given. Here
formulas may have temporary arrays; kernels/by_hand.py has the same functions without any.
Weights and gradients are those of one worker; results have the dtype of the arrays. Left out:
checks of shapes and types (checks.py).
"""

import numpy as np

from llm.functions.sums import total
from llm.grad import rules


def matmul(a, b, out):
    """out ← a b; (B, H, …) are many products."""
    np.matmul(a, b, out=out)


def embed(ids, table, positions, x):
    """x (N, C) ← table[ids], plus positions[t] for row b·T + t where there are learned positions.

    positions: (T, C), or without rows.
    """
    x[:] = table[ids]
    if len(positions):
        x.reshape(-1, *positions.shape)[:] += positions


def embed_back(ids, dx, dtable, dpositions):
    """dtable += the rows of dx; the head's part is there already. dpositions ← sums over b."""
    np.add.at(dtable, ids, dx)
    if len(dpositions):
        dpositions[:] = total(dx.reshape(-1, *dpositions.shape), axis=0)


def norm(x, gain, bias, eps, out, mean, rstd):
    """out ← LayerNorm(x) (day 21); mean and rstd (N,) are kept."""
    mean[:] = x.mean(axis=1)
    centred = x - mean[:, None]
    rstd[:] = 1 / np.sqrt((centred * centred).mean(axis=1) + eps)
    out[:] = centred * rstd[:, None] * gain + bias


def add_norm(x, b, branch, gain, bias, eps, out, mean, rstd):
    """branch ← x + branch + b, the stream after a residual branch; out ← LayerNorm(branch)."""
    branch += x + b
    norm(branch, gain, bias, eps, out, mean, rstd)


def norm_back(dout, gain, bias, mean, rstd, x, dx, dgain, dbias, dsum):
    """dx += the gradient through LayerNorm; x ← LayerNorm(x) once more; dsum ← Σ dx over rows.

    dx arrives with the gradient that the stream brings past the branch (day 32); dsum (C,) is the
    gradient of the bias of whatever was added to the stream before.
    """
    normal = (x - mean[:, None]) * rstd[:, None]
    d = dout * gain
    dx += rstd[:, None] * (d - d.mean(axis=1, keepdims=True)
                           - normal * (d * normal).mean(axis=1, keepdims=True))
    x[:] = normal * gain + bias
    dgain[:], dbias[:], dsum[:] = (total(part, axis=0) for part in (dout * normal, dout, dx))


def turn(qkv, b, cos, sin):
    """qkv (N, 3C) += b; then queries and keys are turned by `rotate` (day 31)."""
    qkv += b
    rotate(qkv, cos, sin)


def rotate(qkv, cos, sin):
    """The pairs (i, i + D/2) of queries and keys, in place; cos, sin (T, D/2), or without rows."""
    if len(cos):
        T, half = cos.shape
        C = qkv.shape[1] // 3
        pairs = qkv.reshape(-1, T, 3 * C)[..., :2 * C].reshape(len(qkv) // T, T, -1, 2, half)
        lows, highs = pairs[..., 0, :], pairs[..., 1, :]
        cos, sin = cos[:, None], sin[:, None]
        lows[:], highs[:] = lows * cos - highs * sin, lows * sin + highs * cos


def turn_back(dqkv, cos, sin, db):
    """Turn by the opposite angles; db (3C,) ← sums over rows."""
    rotate(dqkv, cos, -sin)
    db[:] = total(dqkv, axis=0)


def softmax(scores, factor):
    """scores (B, H, T, T) ← softmax of factor · scores over keys 0 … t; 0 for the future."""
    T = scores.shape[-1]
    scores *= factor
    scores[..., ~np.tri(T, dtype=bool)] = -np.inf
    scores[:] = rules.softmax(scores)[0]


def softmax_back(weights, factor, dweights):
    """dweights ← the gradient of the scores before `factor` (day 14)."""
    dweights[:] = factor * rules.softmax_vjp(dweights, weights)[0]


def gelu(x, b, out):
    """out ← GELU(x + b); x is kept as it is."""
    out[:] = rules.gelu(x + b)[0]


def gelu_back(b, x, dout, db):
    """dout ← the gradient of x; x ← GELU(x + b) once more; db ← sums over rows."""
    x += b
    dout[:] = rules.gelu_vjp(dout, x)[0]
    x[:] = rules.gelu(x)[0]
    db[:] = total(dout, axis=0)


def cross_entropy(targets, count, logits):
    """Σ −log softmax(logits)[target] / count; logits (N, V) ← their gradient.

    Rows whose target is −100 have no loss and the gradient 0.
    """
    kept = targets != -100
    loss, saved = rules.cross_entropy(logits, targets)
    share = kept.sum() / count                        # of the targets that this worker has
    logits[:] = rules.cross_entropy_vjp(np.asarray(share, logits.dtype), *saved)[0]
    return float(loss) * share


def add_squares(g, others):
    """g ← g + all rows of `others`; returns Σ g² in float64. The sum of the workers' gradients."""
    for other in others:
        g += other
    return float(np.square(g, dtype=np.float64).sum())


def adamw(p, g, m, v, clip, step, decay, beta1, beta2, correction, eps):
    """Day 18's AdamW in place on p, m, v, with clip · g; g stays as it is.

    step = rate / (1 − β₁ᵗ), correction = 1 / √(1 − β₂ᵗ), decay = 1 − rate · weight decay.
    """
    g = clip * g
    m += (1 - beta1) * (g - m)
    with np.errstate(over="ignore"):                       # g² may; v is kept finite
        v += (1 - beta2) * (g * g - v)
    np.minimum(v, np.finfo(v.dtype).max / 2**14, out=v)
    p *= decay
    p -= step * m / (np.sqrt(v) * correction + eps)
