"""Day 03 · Strides: where element (i, j, …) of an array lives in its flat buffer.

    position(i₀, i₁, …) = offset + i₀·s₀ + i₁·s₁ + …

Slices, transposes, broadcasts and most reshapes only choose other numbers in that formula, so they
cost nothing and copy nothing. This file is arithmetic on tuples of ints; no element is touched.
Strides count elements (NumPy's count bytes). Left out: picking with lists or masks of indices,
whose positions follow no formula of this kind.
"""

import math
from itertools import zip_longest


def contiguous(shape):
    """Strides of a packed row-major array: the last axis steps by 1. (2, 3, 4) -> (12, 4, 1)."""
    return tuple(math.prod(shape[axis + 1:]) for axis in range(len(shape)))


def is_contiguous(shape, strides):
    """True where the elements in index order are neighbours in the buffer. Size-1 axes are free."""
    if 0 in shape:
        return True
    return all(n == 1 or have == want
               for n, have, want in zip(shape, strides, contiguous(shape)))


def sliced(shape, strides, offset, key):
    """(shape, strides, offset) of the view that `key` picks: ints, slices, None and one `...`."""
    key = key if isinstance(key, tuple) else (key,)
    axes = sum(part is not None and part is not Ellipsis for part in key)
    if axes > len(shape):
        raise ValueError(f"{axes} indices for an array of shape {shape}: drop {axes - len(shape)}")
    if sum(part is Ellipsis for part in key) > 1:
        raise ValueError(f"two ... in the key for an array of shape {shape}: keep one")
    fill = (slice(None),) * (len(shape) - axes)
    at = next((i for i, part in enumerate(key) if part is Ellipsis), len(key))
    key = key[:at] + fill + key[at + 1:]
    new_shape, new_strides, axis = [], [], 0
    for part in key:
        if part is None:                                   # a new axis of length 1
            new_shape.append(1)
            new_strides.append(0)
            continue
        n, stride = shape[axis], strides[axis]
        if isinstance(part, slice):                        # i' -> start + i'·step
            start, stop, step = part.indices(n)
            length = len(range(start, stop, step))
            offset += start * stride if length else 0
            new_shape.append(length)
            new_strides.append(step * stride)
        else:                                              # one index: the axis is gone
            offset += index(part, n, axis, shape) * stride
        axis += 1
    return tuple(new_shape), tuple(new_strides), offset


def index(i, n, axis, shape):
    """i as 0 ≤ i < n; negative i counts from the end."""
    if not hasattr(i, "__index__") or isinstance(i, bool):
        raise ValueError(f"index {i!r} for shape {shape}: use ints, slices, None or ...")
    if not -n <= i < n:
        raise ValueError(f"index {i} is out of range for axis {axis} of shape {shape}")
    return int(i) % n


def broadcast_shapes(*shapes):
    """The common shape: aligned at the right, each axis equal or 1. (3, 1), (4,) -> (3, 4)."""
    out = []
    for lengths in zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1):
        found = set(lengths) - {1}
        if len(found) > 1:
            raise ValueError(f"shapes {' and '.join(map(str, shapes))} do not broadcast: from the "
                             "right, axes must be equal or 1")
        out.append(found.pop() if found else 1)
    return tuple(reversed(out))


def broadcast_strides(shape, strides, target):
    """Strides that show an array of `shape` as `target`: stride 0 repeats without storing."""
    if broadcast_shapes(shape, target) != tuple(target):
        raise ValueError(f"shape {shape} cannot be shown as {target}: it would have to shrink")
    new = [0] * (len(target) - len(shape))
    return tuple(new + [0 if n == 1 else stride for n, stride in zip(shape, strides)])


def completed(shape, size):
    """`shape` with its one -1 worked out, so that it holds `size` elements."""
    if not all(hasattr(n, "__index__") for n in shape):
        raise ValueError(f"cannot reshape to {shape}: give whole numbers, as in reshape(3, -1)")
    known = math.prod(n for n in shape if n != -1)
    if -1 in shape and known and size % known == 0:
        shape = tuple(size // known if n == -1 else n for n in shape)
    if min(shape, default=0) < 0 or math.prod(shape) != size:
        raise ValueError(f"cannot reshape {size} elements to {shape}: the product must be {size}, "
                         "with at most one -1")
    return tuple(shape)


def runs(shape, strides):
    """Merge neighbouring axes into the longest runs of even steps: [(length, stride), …].

    Axes (n, s), (m, t) are one run of n·m steps of t exactly if s = m·t: one past the end of the
    inner axis is then where the outer axis goes next.
    """
    out = []
    for n, stride in zip(shape, strides):
        if n == 1:
            continue
        if out and out[-1][1] == n * stride:
            out[-1] = (out[-1][0] * n, stride)
        else:
            out.append((n, stride))
    return out


def reshaped(shape, strides, new_shape):
    """Strides of the view with `new_shape` (same size), or None where only a copy will do.

    Each new axis must lie within one run, because inside an axis all steps are equal.
    """
    if 0 in shape:
        return contiguous(new_shape)
    left, out = runs(shape, strides), []
    length, stride = left.pop() if left else (1, 1)
    for n in reversed(new_shape):                          # cut axes off the runs, from the right
        if length == 1 and n > 1 and left:
            length, stride = left.pop()
        if length % n:
            return None
        out.append(stride)
        length, stride = length // n, stride * n
    return tuple(reversed(out))
