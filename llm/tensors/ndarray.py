"""Day 03 · An n-dimensional array: views, and arithmetic over any strides.

`Array` is day 03's `View` with construction from nested lists, broadcasting arithmetic, reductions
over axes and a batched matrix product. NumPy's only part is the flat buffer and the rule for mixed
dtypes; shapes, strides and loops are ours. Left out: in-place operators, comparisons, and whatever
makes NumPy quick on small arrays.
"""

import numpy as np

from llm.tensors import strides as st
from llm.tensors import walk
from llm.tensors.view import View, run


class Array(View):
    """A `View` with arithmetic: operands of any shapes that broadcast, results packed.

    Two dtypes meet as in NumPy. Operators raise ValueError, with the shapes, where they do not
    fit. Writing into a view writes into the array it shows.
    """

    __array_ufunc__ = None               # so that `np.float32(2) * array` comes to our __rmul__

    def __add__(self, other):
        return combine(walk.ADD, self, other)

    def __sub__(self, other):
        return combine(walk.SUBTRACT, self, other)

    def __mul__(self, other):
        return combine(walk.MULTIPLY, self, other)

    def __truediv__(self, other):
        return combine(walk.DIVIDE, self, other)

    def __rsub__(self, other):
        return combine(walk.SUBTRACT, other, self)

    def __rtruediv__(self, other):
        return combine(walk.DIVIDE, other, self)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        return self * -1

    def __matmul__(self, other):
        return matmul(self, as_array(other, self.dtype))

    def __setitem__(self, key, value):
        view = self[key]
        if self.repeats:
            raise ValueError(f"shape {self.shape} with strides {self.strides} shows one element in "
                             "several places: write to a copy, .contiguous(always=True)")
        source = as_array(value, self.dtype).astype(self.dtype).broadcast_to(view.shape)
        if source.buffer is view.buffer:              # x[1:] = x[:-1] must not read what it wrote
            source = source.contiguous(always=True)
        run(walk.copy, view.shape, (source, view))

    def sum(self, axis=None, keepdims=False):
        """Sum over one axis, several (a tuple) or all (None); float32 adds up in float64."""
        wide = np.int64 if self.dtype == np.int64 else np.float64
        axes = _axes(axis, self.shape)
        out = full(_reduced(self.shape, axes), 0, wide)
        run(walk.reduce, self.shape, (self, out.broadcast_to(self.shape)), walk.ADD)
        return _dropped(out.astype(self.dtype), axes, keepdims)

    def mean(self, axis=None, keepdims=False):
        """As `sum`, divided by how many were added; of int64 float64, of nothing NaN."""
        total = (self.astype(np.float64) if self.dtype == np.int64 else self).sum(axis, keepdims)
        count = self.size // total.size if total.size else 0
        return total / count if count else total * np.nan

    def max(self, axis=None, keepdims=False):
        """The largest over axes as `sum` takes them. ValueError where there is none."""
        return self._extreme(walk.MAXIMUM, axis, keepdims)

    def min(self, axis=None, keepdims=False):
        """The smallest, likewise."""
        return self._extreme(walk.MINIMUM, axis, keepdims)

    def _extreme(self, code, axis, keepdims):
        axes = _axes(axis, self.shape)
        if any(self.shape[a] == 0 for a in axes):
            raise ValueError(f"no largest or smallest of nothing: shape {self.shape}, axes {axes}")
        first = tuple(slice(0, 1) if a in axes else slice(None) for a in range(self.ndim))
        out = self[first].contiguous(always=True)
        run(walk.reduce, self.shape, (self, out.broadcast_to(self.shape)), code)
        return _dropped(out, axes, keepdims)


def array(nested, dtype=None):
    """Nested lists, a number or a NumPy array as an Array: int64 if all are ints, else float32.

    A NumPy array keeps its dtype. ValueError where nested lists are ragged.
    """
    if isinstance(nested, View):
        return nested.contiguous(always=True).astype(dtype or nested.dtype)
    if isinstance(nested, (np.ndarray, np.generic)):
        flat, shape = nested.ravel(), nested.shape
    else:
        shape, flat = (), [nested]
        while flat and isinstance(flat[0], (list, tuple)):
            lengths = {len(part) if isinstance(part, (list, tuple)) else -1 for part in flat}
            if len(lengths) > 1:
                raise ValueError(f"ragged: after shape {shape} come parts of lengths "
                                 f"{sorted(lengths)} (-1 is a bare number); make them equal")
            shape, flat = (*shape, lengths.pop()), [x for part in flat for x in part]
        if any(isinstance(x, (list, tuple)) for x in flat):
            raise ValueError(f"ragged: numbers and lists side by side after shape {shape}")
        if dtype is None:
            dtype = "int64" if flat and all(isinstance(x, int) for x in flat) else "float32"
    return Array(np.array(flat, dtype), shape)


def full(shape, value, dtype="float32"):
    """An Array of `shape` that holds `value` everywhere."""
    shape = tuple(shape)
    return Array(np.full(int(np.prod(shape)), value, dtype), shape)


def as_array(x, beside):
    """x as an Array; a bare Python number takes the dtype it would take beside `beside`."""
    if isinstance(x, Array):
        return x
    return array(x, np.result_type(beside, x) if isinstance(x, (int, float)) else None)


def combine(code, a, b):
    """a ∘ b, element by element, after broadcasting. Ints divide to float64."""
    a = as_array(a, getattr(b, "dtype", None))
    b = as_array(b, a.dtype)
    dtype = np.result_type(a.dtype, b.dtype)
    if code == walk.DIVIDE and dtype == np.int64:
        dtype = np.dtype(np.float64)
    shape = st.broadcast_shapes(a.shape, b.shape)
    out = Array(np.empty(int(np.prod(shape)), dtype), shape)
    run(walk.combine, shape, (a.astype(dtype).broadcast_to(shape),
                              b.astype(dtype).broadcast_to(shape), out), code)
    return out


def matmul(a, b):
    """(…, M, K) @ (…, K, N) -> (…, M, N); leading axes broadcast, a 1-D operand is a vector.

    One walk over (…, M, K, N) with a's stride along N and b's along M set to 0: a broadcast product
    that is summed over K as it is made. The product itself, K times too big, is never stored.
    """
    if not a.ndim or not b.ndim:
        raise ValueError(f"matmul needs axes: got {a.shape} @ {b.shape}; use * with a number")
    left = a[None] if a.ndim == 1 else a
    right = b[:, None] if b.ndim == 1 else b
    if left.shape[-1] != right.shape[-2]:
        raise ValueError(f"cannot multiply {a.shape} @ {b.shape}: {left.shape[-1]} columns "
                         f"against {right.shape[-2]} rows")
    dtype = np.result_type(a.dtype, b.dtype)
    batch = st.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    (m, k), n = left.shape[-2:], right.shape[-1]
    wide = np.float64 if dtype == np.float32 else dtype       # sums keep their digits, as in `sum`
    out, walked = full((*batch, m, n), 0, wide), (*batch, m, k, n)
    left = left.astype(dtype)[..., None].broadcast_to(walked)            # (…, M, K, 1) -> N times
    right = right.astype(dtype)[..., None, :, :].broadcast_to(walked)    # (…, 1, K, N) -> M times
    gather = out[..., None, :].broadcast_to(walked)                      # (…, M, 1, N): sums over K
    run(walk.contract, walked, (left, right, gather), order=range(len(walked)))
    out = out.astype(dtype)
    if a.ndim == 1:
        out = out[..., 0, :]
    return out[..., 0] if b.ndim == 1 else out


def _axes(axis, shape):
    """The axes to reduce, counted from 0, each once."""
    several = isinstance(axis, (tuple, list))
    wanted = range(len(shape)) if axis is None else axis if several else (axis,)
    axes = {a % len(shape) for a in wanted if -len(shape) <= a < len(shape)}
    if len(axes) < len(wanted):
        raise ValueError(f"axis {axis} of shape {shape}: name axes it has, each once")
    return axes


def _reduced(shape, axes):
    return tuple(1 if a in axes else n for a, n in enumerate(shape))


def _dropped(out, axes, keepdims):
    """`out` without the axes of length 1 that a reduction leaves, unless they are to stay."""
    return out if keepdims else out[tuple(0 if a in axes else slice(None)
                                          for a in range(out.ndim))]
