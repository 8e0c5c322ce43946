"""Day 12 · Is this gradient right? Finite differences as the oracle of the whole course.

`numerical_gradient` measures a derivative, `check_pair` holds a function's hand-written gradient
against it, `check_twin` (used from day 38 on) holds a fast version against a slow, clear one.

Left out: kinks. At relu(0) the two sides differ and central differences return their mean, so
draw inputs away from a kink. Also left out: functions that draw random numbers (hand them a
mask instead), and second derivatives.
"""

import numpy as np

STEP = np.finfo(np.float64).eps ** (1 / 3)  # 6.06e-6: truncation and rounding meet here


def numerical_gradient(f, x, step=None):
    """Central differences (f(x + h) − f(x − h)) / 2h, one entry of x at a time.

    f: float64 array → one number; it is called 2·x.size times. x: float64 array of any shape,
    changed in place during the calls (so f may hold x itself) and restored bit for bit.
    step: h for every entry; None is eps^(1/3) · max(1, |entry|).
    Returns a float64 array of x's shape.
    Raises ValueError where x or f(x) is not float64, f(x) is not one number, or the step is lost
    in the rounding of an entry.
    Source: Nocedal & Wright, Numerical Optimization (2006), section 8.1, eq. 8.7.
    """
    if not isinstance(x, np.ndarray) or x.dtype != np.float64:
        raise ValueError(f"numerical_gradient needs a float64 array, got {describe(x)}: rounding "
                         "would drown the difference. Pass np.asarray(x, dtype=np.float64)")
    gradient = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        centre = x[index]
        h = STEP * max(1.0, abs(centre)) if step is None else step
        if centre + h == centre - h:
            raise ValueError(f"step {h} is lost in the rounding of {centre} at {index} of x "
                             f"{x.shape}: take a larger one")
        try:
            x[index] = right = centre + h
            above = number(f(x))
            x[index] = left = centre - h
            below = number(f(x))
        finally:
            x[index] = centre
        gradient[index] = (above - below) / (right - left)  # the step really taken, after rounding
    return gradient


def number(value):
    """One float64 value as a Python float; anything less precise or larger is an error."""
    if np.ndim(value) != 0:
        raise ValueError(f"f must return one number, got {describe(value)}: sum it first")
    if getattr(value, "dtype", np.float64) != np.float64:
        raise ValueError(f"f must compute in float64, got {describe(value)}: "
                         "look for a float32 constant or table inside it")
    return float(value)


def check_pair(f, f_vjp, *arrays, rng, differentiable=None, tolerance=1e-6, **options):
    """Assert that `f_vjp` is the gradient of `f`, by central differences of sum(f(…) · dout).

    f(*arrays, **options) → (out, saved) and f_vjp(dout, *saved) → a tuple, one gradient for each
    of `arrays`. dout is drawn from N(0, 1), so that no wrong entry hides behind a symmetry.
    Checked: every float64 input (`differentiable`, a list of positions, narrows that); all other
    inputs must get None. Also: gradients have their input's shape, nothing that was passed in is
    modified, and float32 inputs give float32 out and gradients.
    The error of an entry is |a − n| / max(1, |a|, |n|), a analytic and n numerical.
    Raises AssertionError naming the input, its worst entry and both values; ValueError where a
    floating input is not float64.
    """
    for i, array in enumerate(arrays):
        if is_floating(array) and array.dtype != np.float64:
            raise ValueError(f"check_pair needs float64, input {i} is {describe(array)}: "
                             "pass it .astype(np.float64)")
    if differentiable is None:
        differentiable = [i for i, array in enumerate(arrays) if is_floating(array)]
    out, dout, grads = run_pair(f, f_vjp, arrays, rng, options)
    if len(grads) != len(arrays):
        raise AssertionError(f"f_vjp returned {len(grads)} gradients for {len(arrays)} inputs")
    for i, (array, grad) in enumerate(zip(arrays, grads)):
        if i not in differentiable:
            assert grad is None, f"input {i} has no gradient: expected None, got {describe(grad)}"
            continue
        if np.shape(grad) != array.shape or grad is None:
            raise AssertionError(f"gradient of input {i}: {describe(grad)}, "
                                 f"but the input has shape {array.shape}")
        probe = [np.array(a) if isinstance(a, np.ndarray) else a for a in arrays]
        numeric = numerical_gradient(
            lambda _: np.sum(f(*probe, **options)[0] * dout), probe[i])  # noqa: B023
        compare_gradients(i, np.asarray(grad), numeric, tolerance)
    narrow = [cast(a, np.float32) for a in arrays]
    out, _, grads = run_pair(f, f_vjp, narrow, rng,
                             {name: cast(value, np.float32) for name, value in options.items()})
    for name, value in [("out", out)] + [(f"gradient of input {i}", grads[i])
                                         for i in differentiable]:
        if np.asarray(value).dtype != np.float32:
            raise AssertionError(f"float32 inputs gave {name} {describe(value)}: "
                                 "a float64 constant or scalar widened it")


def compare_gradients(i, analytic, numeric, tolerance):
    """Raise AssertionError at the entry of input i where the two differ most, or return."""
    if not analytic.size:
        return
    with np.errstate(invalid="ignore"):  # inf − inf is NaN, and NaN counts as the worst entry
        scale = np.maximum(1.0, np.maximum(np.abs(analytic), np.abs(numeric)))
        error = np.abs(analytic - numeric) / scale
    worst = np.unravel_index(np.argmax(error), error.shape)
    if not error[worst] <= tolerance:  # written so that NaN fails
        raise AssertionError(
            f"gradient of input {i} at {tuple(map(int, worst))}: analytic {analytic[worst]:.10g}, "
            f"numerical {numeric[worst]:.10g}, relative error {error[worst]:.2g} > {tolerance:g}")


def run_pair(f, f_vjp, arrays, rng, options, layout=np.array):
    """One forward and one backward with a random dout; nothing passed in may change."""
    before = [np.array(a) if isinstance(a, np.ndarray) else a for a in arrays]
    out, saved = f(*arrays, **options)
    require_unchanged("f", before, arrays)
    dtype = np.asarray(out).dtype
    dout = layout(np.asarray(rng.standard_normal(np.shape(out))).astype(dtype))
    kept = np.array(dout)
    grads = f_vjp(dout, *saved)
    require_unchanged("f_vjp", [*before, kept], [*arrays, dout])
    if not isinstance(grads, (tuple, list)):
        raise AssertionError(f"f_vjp must return a tuple, one gradient per input, even for one "
                             f"input; got {describe(grads)}")
    return out, dout, grads


def require_unchanged(who, before, after):
    """Raise AssertionError naming the first array that `who` wrote to."""
    for i, (old, new) in enumerate(zip(before, after)):
        if isinstance(old, np.ndarray) and old.tobytes() != new.tobytes():
            name = "dout" if who == "f_vjp" and i == len(before) - 1 else f"input {i}"
            raise AssertionError(f"{who} modified {name}: work on a copy")


def check_twin(reference, twin, arrays, rng, dtypes=(np.float32, np.float64), rtol=1e-5,
               atol=1e-6, **options):
    """Assert that two pairs (f, f_vjp) give the same outputs and gradients.

    arrays: the inputs of one call. The floating ones are cast to each of `dtypes`; all of them and
    dout are laid out in memory in three ways: contiguous, Fortran order, every second element.
    Equal means same shape, same dtype and |twin − reference| ≤ atol + rtol·|reference|.
    Raises AssertionError naming the dtype, the layout and what differs.
    """
    for dtype in dtypes:
        typed = [cast(a, dtype) for a in arrays]
        chosen = {name: cast(value, dtype) for name, value in options.items()}
        for layout in (np.ascontiguousarray, np.asfortranarray, every_second):
            laid = [layout(a) if isinstance(a, np.ndarray) and a.ndim else a for a in typed]
            wrap = lambda a, layout=layout: layout(a) if a.ndim else a
            seed = int(rng.integers(2**32))               # the same dout for both sides
            sides = [run_pair(*pair, laid, np.random.default_rng(seed), chosen, wrap)
                     for pair in (reference, twin)]
            values = [[("out", out)] + [(f"gradient of input {i}", g) for i, g in enumerate(grads)]
                      for out, _, grads in sides]
            where = f"{np.dtype(dtype)}, {layout.__name__}"
            if len(values[0]) != len(values[1]):
                raise AssertionError(f"{where}: {len(values[0]) - 1} gradients in the reference, "
                                     f"{len(values[1]) - 1} in the twin")
            for (name, expected), (_, got) in zip(*values):
                compare_twins(f"{where}: {name}", expected, got, rtol, atol)


def compare_twins(where, expected, got, rtol, atol):
    """Raise AssertionError where a twin's array differs in kind, shape, dtype or value."""
    if expected is None or got is None:
        assert expected is got, f"{where}: {describe(expected)} against {describe(got)} of the twin"
        return
    expected, got = np.asarray(expected), np.asarray(got)
    if expected.shape != got.shape or expected.dtype != got.dtype:
        raise AssertionError(f"{where}: {describe(expected)} against {describe(got)} of the twin")
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol, err_msg=where)


def every_second(array):
    """The same values in a view that skips every second element of its memory."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), dtype=array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def is_floating(array):
    """True for NumPy arrays of a floating type."""
    return isinstance(array, np.ndarray) and np.issubdtype(array.dtype, np.floating)


def cast(value, dtype):
    """Floating arrays in `dtype`, all else as it is."""
    return value.astype(dtype) if is_floating(value) else value


def describe(value):
    """A value's dtype and shape, for error messages."""
    if isinstance(value, (np.ndarray, np.generic)):
        return f"{value.dtype} of shape {value.shape}"
    return type(value).__name__
