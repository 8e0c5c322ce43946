"""Day 03 · Solutions of the build exercises."""


def windows(shape, strides, width):
    """Window i begins i steps on, and inside a window each step is the same: one stride, twice."""
    if not 1 <= width <= shape[-1]:
        raise ValueError(f"width must be 1 to {shape[-1]} for shape {shape}, got {width}")
    return ((*shape[:-1], shape[-1] - width + 1, width), (*strides, strides[-1]))


def diagonal(shape, strides):
    """One step along the diagonal is one step along each of the two axes."""
    return ((*shape[:-2], min(shape[-2:])), (*strides[:-2], strides[-2] + strides[-1]))
