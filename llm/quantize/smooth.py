"""Day 44 · SmoothQuant: channels of large activations are made smaller, their weights larger.

A channel of x that is a hundred times larger than the others sets the scale of every token, and
the others get a step or two. Weights have no such channels. So each channel is divided by a number
and the weights that it meets are multiplied by it. x·W does not change; the numbers to round do.
The division costs nothing where it can go into what made x: a norm's gain, or a value projection.
Left out: channels behind a GELU, which is not linear, so that nothing can be moved through it.
Source: Xiao and others (2023), SmoothQuant, section 4, equations 3 and 4.
"""

import numpy as np


def factors(x_most, w_most, alpha=0.5):
    """The divisor of each channel, (C,): x_most^α / w_most^(1 − α).

    x_most: max |x| of each channel over a text, (C,). w_most: max |w| over all outputs that the
    channel meets, (C,). α = 0 evens out the weights, 1 the activations; 1/2 makes the largest of
    both the same, √(x_most·w_most). A channel that is 0 on either side gets 1.
    Raises ValueError where shapes differ, numbers are negative, or α is outside 0 … 1.
    """
    x_most, w_most = np.asarray(x_most), np.asarray(w_most)
    if x_most.shape != w_most.shape or x_most.ndim != 1:
        raise ValueError(f"largest activations {x_most.shape} and weights {w_most.shape}: wanted "
                         "one number for each channel, (C,)")
    if (x_most < 0).any() or (w_most < 0).any() or not 0 <= alpha <= 1:
        raise ValueError(f"α = {alpha}, and sizes from {min(x_most.min(), w_most.min())}: wanted "
                         "0 ≤ α ≤ 1 and no size below 0")
    live = (x_most > 0) & (w_most > 0)
    x, w = np.where(live, x_most, 1), np.where(live, w_most, 1)
    return x ** alpha / w ** (1 - alpha)


def move(arrays, divisor, divided, multiplied):
    """A new dict: the last axis of `divided` by the divisor (C,), the first of `multiplied` times.

    divided: names of vectors (C,), or of matrices (…, C), that make the channels: a norm's gain
    and bias. multiplied: names of the matrices (C, N) that read them, all of them, or the model
    changes. Types stay. Raises ValueError where a shape does not end, or begin, with C.
    """
    new, C = dict(arrays), len(divisor)
    for name in divided:
        if arrays[name].shape[-1] != C:
            raise ValueError(f"{name} {arrays[name].shape} does not make {C} channels")
        new[name] = (arrays[name] / divisor).astype(arrays[name].dtype)
    for name in multiplied:
        if arrays[name].shape[0] != C:
            raise ValueError(f"{name} {arrays[name].shape} does not read {C} channels")
        new[name] = (arrays[name] * divisor[:, None]).astype(arrays[name].dtype)
    return new
