"""Day 14 · One solution of each exercise."""

import numpy as np


def normalise_vjp(dout, y, norm):
    """∂yⱼ/∂xᵢ = (δᵢⱼ − yᵢyⱼ)/‖x‖: take away the part of dout along y, then divide."""
    return (dout - y * (dout * y).sum(axis=-1, keepdims=True)) / norm


def running_sum_vjp(dout, axis):
    """x[i] touches y[i], y[i + 1], …: a running sum from the other end."""
    return np.flip(np.cumsum(np.flip(dout, axis), axis), axis)


def whole_jacobian(f, f_vjp, x):
    """Row j is the VJP of the j-th unit vector."""
    out, saved = f(x)
    return np.array([f_vjp(unit, *saved)[0] for unit in np.eye(len(out))])
