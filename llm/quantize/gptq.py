"""Day 45 · GPTQ: each rounding error is made good by the weights that are not yet rounded.

Rounding to nearest asks what a weight is. GPTQ asks what the layer computes: it keeps
‖X(W − Ŵ)‖² small for inputs X (n, K) that the layer really gets. That is a quadratic in each
output's weights with the Hessian H = 2XᵀX, the same for all outputs. Inputs are taken one after
another; a weight is rounded, and all later weights of its output move to where the quadratic,
with that weight now fixed, has its minimum (Optimal Brain Surgeon).
Left out: choosing the order by the error itself (OBQ), and learning the scales along.
Sources: Frantar, Ashkboos, Hoefler, Alistarh 2022 (GPTQ), steps 1 to 3; Hassibi and Stork 1992.
"""

import numpy as np

from llm.quantize.int4 import GROUP, Groups, check_matrix, grid, grids, nearest


def hessian(x):
    """2XᵀX / n of inputs x (n, K): float64 (K, K). 2·n·K² FLOPs.

    The factor 1/n makes batches comparable; it changes no rounding. Raises ValueError on none.
    """
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or len(x) == 0:
        raise ValueError(f"inputs {x.shape}: wanted (n, K) with n at least 1")
    return 2 / len(x) * (x.T @ x)


def layer_error(w, other, H):
    """½ tr(DᵀHD), D = w − other (K, N): what a token's outputs move by, squared and summed."""
    d = np.asarray(w, np.float64) - other
    return 0.5 * float(np.sum(d * (H @ d)))


def surgeon(w, H, k, value):
    """Optimal Brain Surgeon: fix weight k of w (K,) at `value`, move the others as is best.

    Returns the new w and how much the error ½ dᵀHd grows. Sources: Hassibi and Stork 1992,
    equation 5, with the value 0; Frantar and others 2022, equation 2.
    """
    inverse = np.linalg.inv(H)
    gap = w[k] - value
    moved = w - gap / inverse[k, k] * inverse[k]
    moved[k] = value
    return moved, 0.5 * gap * gap / inverse[k, k]


def damped(H, damp=0.01):
    """H with `damp` times its mean diagonal added to the diagonal, and 1 for inputs never seen.

    An input that was 0 in all of X says nothing, and its row of H is 0. With a 1 on the diagonal
    its weights are rounded to nearest and nothing else moves. The mean is that of the others.
    Raises ValueError where H (K, K) is no Hessian, or damp is negative.
    """
    H = np.array(H, np.float64)
    if H.ndim != 2 or H.shape[0] != H.shape[1]:
        raise ValueError(f"a Hessian of shape {H.shape} is not square: wanted (inputs, inputs)")
    diagonal = H.diagonal().copy()
    if not np.isfinite(H).all() or (diagonal < 0).any() or not damp >= 0:
        raise ValueError(f"a Hessian of shape {H.shape} must be finite with a diagonal of at least "
                         f"0, and damp {damp} at least 0: are there infinite inputs?")
    dead = diagonal == 0
    mean = diagonal[~dead].mean() if not dead.all() else 0.0
    H[np.diag_indices_from(H)] += np.where(dead, 1.0, damp * mean)
    return H


def inverse_root(H):
    """U, upper triangular, with UᵀU = H⁻¹. About (1/3 + 2/3 + 2)K³ FLOPs, once for all outputs.

    With rows and columns in reverse order, NumPy's H = LLᵀ becomes H = VVᵀ with V upper
    triangular, and U = V⁻¹. Row k of U, divided by U[k, k], is what the elimination of inputs
    0 … k − 1 from H⁻¹ would leave. Raises ValueError unless H is positive definite.
    """
    try:
        V = np.linalg.cholesky(H[::-1, ::-1])[::-1, ::-1]
    except np.linalg.LinAlgError:
        raise ValueError(f"the Hessian {H.shape} is singular, some inputs are sums of others: "
                         "use a larger damp, or more inputs") from None
    return np.triu(np.linalg.solve(V, np.eye(len(V))))


def gptq(w, H, group=GROUP, bits=4, symmetric=False, damp=0.01, block=128, act_order=False,
         static=None):
    """Quantise w (K, N) for inputs with the Hessian H (K, K) -> Groups.

    damp: see `damped`. block: inputs whose errors are passed on to the rest in one product.
    act_order: inputs with a large H[k, k] first, while most others can still move.
    static: take every group's grid from w as it is given; False: from the weights as they stand
    when the group's turn comes. None: static with act_order, which scatters a group's inputs over
    the whole order, and not without.
    K²·N FLOPs, and block times fewer passes over w than one update at a time would need.
    Raises ValueError where shapes do not fit, H is singular without damping, or block is not a
    multiple of group (a group's grid needs all errors before it).
    """
    w = np.array(check_matrix(w, group, bits), np.float64)
    K = len(w)
    if np.shape(H) != (K, K):
        raise ValueError(f"the weights {w.shape} want a Hessian ({K}, {K}), not {np.shape(H)}")
    static = act_order if static is None else static
    if act_order and not static:
        raise ValueError("act_order takes the inputs out of their groups' order: use static grids")
    if block < 1 or (not static and block % group):
        raise ValueError(f"blocks of {block} inputs must be a multiple of the group, {group}")
    H = damped(H, damp)
    order = np.argsort(-H.diagonal(), kind="stable") if act_order else np.arange(K)
    scale, minimum = grids(w, group, bits, symmetric)
    U, w, of = inverse_root(H[np.ix_(order, order)]), w[order], order // group
    q = np.empty(w.shape, np.uint8)
    for first in range(0, K, block):
        last = min(first + block, K)
        errors = np.empty((last - first, w.shape[1]))
        for k in range(first, last):
            g = of[k]
            if not static and k % group == 0:
                scale[g], minimum[g] = grid(w[k:k + group], bits, symmetric)
            q[k] = nearest(w[k], scale[g], minimum[g], bits)
            errors[k - first] = (w[k] - (scale[g] * q[k] + minimum[g])) / U[k, k]
            w[k + 1:last] -= np.outer(U[k, k + 1:last], errors[k - first])
        w[last:] -= U[first:last, last:].T @ errors
    back = np.empty_like(q)
    back[order] = q
    return Groups(back, scale, minimum, group, bits)
