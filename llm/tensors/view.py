"""Day 03 · A view: a flat buffer seen through a shape, strides and an offset.

Slices, `.T`, `transpose`, `broadcast_to` and most reshapes give a new view of the *same* buffer;
`contiguous` and `astype` copy. NumPy gives only the flat block of memory. Left out: arithmetic
(ndarray.py adds it), masks and lists as indices, other dtypes than the three below.
"""

import math

import numpy as np

from llm.tensors import strides as st
from llm.tensors import walk

DTYPES = ("float32", "float64", "int64")


class View:
    """`buffer` has one axis. `strides` and `offset` count its elements, not bytes.

    Raises ValueError for another dtype than the three, and where a position would lie outside.
    """

    def __init__(self, buffer, shape, strides=None, offset=0):
        self.buffer, self.shape, self.offset = buffer, tuple(shape), offset
        self.strides = st.contiguous(self.shape) if strides is None else tuple(strides)
        if str(buffer.dtype) not in DTYPES or buffer.ndim != 1:
            raise ValueError(f"a buffer has one axis and a dtype of {', '.join(DTYPES)}, "
                             f"not {buffer.dtype} {buffer.shape}")
        self.part_of_repeats = False
        reach = [(n - 1) * s for n, s in zip(self.shape, self.strides)]
        low = offset + sum(r for r in reach if r < 0)
        high = offset + sum(r for r in reach if r > 0)
        if self.size and not 0 <= low <= high < buffer.size:    # compiled loops do not look again
            raise ValueError(f"shape {self.shape} with strides {self.strides} from {offset} needs "
                             f"positions {low} to {high} of a buffer of {buffer.size}")

    @property
    def dtype(self):
        return self.buffer.dtype

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def size(self):
        return math.prod(self.shape)

    @property
    def is_contiguous(self):
        return st.is_contiguous(self.shape, self.strides)

    def _seen(self, shape, strides, offset=None):
        """Another view of the same buffer; it remembers whether elements repeat."""
        view = type(self)(self.buffer, shape, strides, self.offset if offset is None else offset)
        view.part_of_repeats = self.repeats
        return view

    @property
    def repeats(self):
        """Do several indices show one element, as after `broadcast_to`, here or in a view of it?"""
        return self.part_of_repeats or any(
            n > 1 and s == 0 for n, s in zip(self.shape, self.strides))

    def __getitem__(self, key):
        return self._seen(*st.sliced(self.shape, self.strides, self.offset, key))

    def transpose(self, *axes):
        """Axes in a new order; all reversed where none are given."""
        axes = axes or tuple(reversed(range(self.ndim)))
        if sorted(axes) != list(range(self.ndim)):
            raise ValueError(f"transpose{axes} of shape {self.shape}: name each axis once")
        return self._seen([self.shape[a] for a in axes], [self.strides[a] for a in axes])

    @property
    def T(self):
        return self.transpose()

    def broadcast_to(self, shape):
        """Repeat axes of length 1 and put new ones in front, all by strides of 0."""
        return self._seen(shape, st.broadcast_strides(self.shape, self.strides, shape))

    def reshape(self, *shape):
        """The same elements in index order; a view where strides can say it, else a copy."""
        shape = st.completed(shape, self.size)
        strides = st.reshaped(self.shape, self.strides, shape)
        if strides is None:
            return type(self)(self.contiguous().buffer, shape)
        return self._seen(shape, strides)

    def contiguous(self, always=False):
        """Itself where its elements are neighbours already, else (or always) a packed copy."""
        if self.is_contiguous and not always:
            return self
        out = type(self)(np.empty(self.size, self.dtype), self.shape)
        run(walk.copy, self.shape, (self, out))
        return out

    def astype(self, dtype):
        """Itself, or a packed copy in another dtype."""
        if self.dtype == dtype:
            return self
        return type(self)(self.contiguous(always=True).buffer.astype(dtype), self.shape)

    def item(self):
        """The one element as a Python number."""
        if self.size != 1:
            raise ValueError(f"item() needs one element, but the shape is {self.shape}")
        return self.buffer[self.offset].item()

    def tolist(self):
        return self.item() if self.ndim == 0 else [part.tolist() for part in self]

    def __len__(self):
        if self.ndim == 0:
            raise ValueError("an array of shape () has no length")
        return self.shape[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        return f"Array({text(self)}, shape={self.shape}, dtype={self.dtype})"


def text(view):
    """Nested lists as text; the middle of an axis longer than 6 is left out."""
    if view.ndim == 0:
        return f"{view.item():g}" if view.dtype != np.int64 else str(view.item())
    parts = ([*map(text, view[:3]), "…", *map(text, view[-3:])] if len(view) > 6
             else map(text, view))
    return "[" + ", ".join(parts) + "]"


def run(kernel, shape, views, *code, order=None):
    """Walk `views`, all of `shape`, with a compiled loop of walk.py, axes from outer to inner.

    Without an `order` the axes are sorted so that the first view's memory is walked forwards.
    """
    if order is None:
        order = walk.memory_order(*(view.strides for view in views))
    axes = order or [0]
    lengths = [shape[a] for a in axes] if shape else [1]
    strides = [[view.strides[a] for a in axes] if shape else [0] for view in views]
    kernel(*code, np.array(lengths), np.array(strides), np.array([v.offset for v in views]),
           *(view.buffer for view in views))
