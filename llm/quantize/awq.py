"""Day 45 · AWQ: inputs that are large get finer weights, by scaling both and changing nothing.

For any s > 0, one number an input, (x / s)(diag(s) W) = x W: exact in real numbers. But rounding
diag(s) W moves weight k by about Δ/2s, measured in the old units, as long as the group's step Δ
stays. So an input with a large s gets a smaller error, and the others pay if Δ grows. AWQ takes
s = mean|x|^α and tries some α between 0, which is rounding to nearest, and 1.
The division x / s costs nothing at run time where it can be folded into whatever made x, by
`divide_outputs`: a norm's gain, or the columns of a linear layer without an activation between.
Left out: AWQ's clipping of groups, and scaling the outputs of an activation such as GELU, through
which the division cannot be moved.
Source: Lin and others 2024 (AWQ), section 3.2, equations 2 to 5.
"""

from dataclasses import dataclass

import numpy as np

from llm.quantize.gptq import layer_error
from llm.quantize.int4 import GROUP, Groups, check_matrix, quantise

ALPHAS = tuple(i / 20 for i in range(21))
LEAST = 1e-4                                # of the largest mean: below, an input counts as this


@dataclass(frozen=True)
class Scaled:
    """diag(s) W quantised; its inputs must come divided by s."""

    s: np.ndarray                # (K,) float32
    groups: Groups               # of diag(s) W
    alpha: float                 # the best of those tried
    errors: tuple                # the layer's error for each alpha tried

    def dense(self):
        """What it stands for: diag(1/s) times the quantised matrix, float32 (K, N)."""
        return self.groups.dense() / self.s[:, None]


def input_scales(mean, alpha):
    """s = mean|x|^α (K,) float32, divided by √(max · min), so that it lies around 1.

    Inputs that were never seen count as very small ones; if none was, s is 1. Raises ValueError
    for means that are negative, not finite, or not (K,).
    """
    mean = np.asarray(mean, np.float64)
    if mean.ndim != 1 or not np.isfinite(mean).all() or (mean < 0).any():
        raise ValueError(f"mean sizes of inputs, {mean.shape}, must be finite, at least 0, and "
                         "one for each input")
    if not mean.any():
        return np.ones(mean.shape, np.float32)
    s = np.maximum(mean, LEAST * mean.max()) ** alpha
    return (s / np.sqrt(s.max() * s.min())).astype(np.float32)


def awq(w, H, mean, alphas=ALPHAS, group=GROUP, bits=4, symmetric=False):
    """Quantise w (K, N) for inputs with Hessian H (K, K) and mean size `mean` (K,) -> Scaled.

    The α with the smallest layer error is taken, of two equal ones the first: the error of X W is
    ½ tr(DᵀHD), so the inputs themselves are not needed. Matrices that read the same inputs are
    given side by side, as one w. 2·K²·N FLOPs for each α.
    Raises ValueError where shapes do not fit, or no α is given.
    """
    w = np.asarray(check_matrix(w, group, bits), np.float32)
    K = len(w)
    if np.shape(H) != (K, K) or np.shape(mean) != (K,):
        raise ValueError(f"the weights {w.shape} want a Hessian ({K}, {K}) and means ({K},), not "
                         f"{np.shape(H)} and {np.shape(mean)}")
    found, errors = None, []
    for alpha in alphas:
        s = input_scales(mean, alpha)
        groups = quantise(s[:, None] * w, group, bits, symmetric)
        one = Scaled(s, groups, alpha, ())
        errors.append(layer_error(w, one.dense(), H))
        if errors[-1] < min(errors[:-1], default=np.inf):
            found = one
    if found is None:
        raise ValueError("no alpha to try: give at least one, 0 for plain rounding")
    return Scaled(found.s, found.groups, found.alpha, tuple(errors))


def divide_outputs(array, s, first=0):
    """A copy whose outputs first … first + len(s) − 1 are divided by s: the other half of `awq`.

    array: a matrix (Cin, Cout), or a bias or gain (Cout,). Raises ValueError if s sticks out.
    """
    array = np.array(array)
    if first < 0 or first + len(s) > array.shape[-1]:
        raise ValueError(f"outputs {first} … {first + len(s) - 1} of an array {array.shape}: it "
                         f"has {array.shape[-1]}")
    array[..., first:first + len(s)] /= s
    return array
