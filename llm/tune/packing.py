"""Day 53 · Packing: several examples in one row, and attention that never leaves its example.

A row of T tokens is filled with whole examples. All layers but attention treat each token by
itself, so only attention has to know the borders. It takes the examples out of the rows, lets each
attend by itself from position 0, as if it stood alone, and puts the answers back.
Left out: models with learned positions, which are added before any layer could take them out.
"""

import contextlib

import numpy as np

from llm.functions.pick import pick as pick_pair
from llm.functions.pick import pick_vjp
from llm.grad.tensor import primitive
from llm.layers.attention import multi_head
from llm.layers.grouped import spread
from llm.layers.module import Module

pick = primitive(pick_pair, pick_vjp)


def fill(lengths, T, order=None):
    """Rows of at most T tokens: [[example, …], …], each into the first row that has room.

    lengths: of each example, 1 … T. order: in which they are taken, as they come if not given.
    Never needs more than about 1.7 times the fewest rows possible.
    Raises ValueError for an example that is longer than T. Source: Johnson et al. (1974).
    """
    rows, room = [], []
    for i in range(len(lengths)) if order is None else order:
        if not 1 <= lengths[i] <= T:
            raise ValueError(f"example {i} has {lengths[i]} tokens, the window has 1 … {T}: "
                             "shorten it, or leave it out")
        place = next((r for r, left in enumerate(room) if lengths[i] <= left), None)
        if place is None:
            rows.append([])
            room.append(T)
            place = len(rows) - 1
        rows[place].append(int(i))
        room[place] -= lengths[i]
    return rows


def borders_of(rows, lengths, T):
    """Where each example of the rows stands: index (N, S) of positions b·T + t, −1 after its end.

    rows: [[example, …], …] as `fill` makes them; S is the longest of these N examples.
    """
    placed = [(b * T + sum(lengths[j] for j in row[:k]), lengths[i])
              for b, row in enumerate(rows) for k, i in enumerate(row)]
    starts, ends = np.array(placed).T
    steps = np.arange(ends.max())
    return np.where(steps < ends[:, None], starts[:, None] + steps, -1)        # (N, S)


class Borders:
    """What all attention layers of one model look at: None, or the index of the batch at hand."""

    def __init__(self):
        self.index = None

    @contextlib.contextmanager
    def __call__(self, index):
        """`with borders(index): model(ids)`: in here ids are rows of several examples."""
        before, self.index = self.index, index
        try:
            yield
        finally:
            self.index = before


class PackedAttention(Module):
    """Day 29's or 49's attention with the same weights under the same names, and borders.

    Without borders it computes what the old one does. With an index (N, S) each example attends
    by itself: N·S² pairs instead of B·T². Positions of no example get 0 from it.
    """

    def __init__(self, attention, borders):
        self.H, self.rule, self.borders = attention.H, attention.rule, borders
        self.K = getattr(attention, "K", attention.H)
        self.qkv, self.project = attention.qkv, attention.project

    def __call__(self, x):
        qkv = self.qkv(x)                                               # (B, T, (H + 2K)·D)
        if self.H != self.K:
            qkv = spread(qkv, H=self.H, K=self.K)                       # (B, T, 3C)
        if self.borders.index is None:
            return self.project(multi_head(qkv, H=self.H, rule=self.rule))
        index, (B, T, _) = self.borders.index, x.shape
        alone = multi_head(pick(qkv, index), H=self.H, rule=self.rule)  # (N, S, C)
        return self.project(pick(alone, inverse(index, B * T).reshape(B, T)))


def inverse(index, size):
    """index (N, S) of positions 0 … size − 1 -> (size,): where in N·S each of them is, or −1."""
    back = np.full(size, -1)
    there = index >= 0
    back[index[there]] = np.flatnonzero(there)
    return back


def pack_attention(model):
    """Put PackedAttention into every block of a GPT or Llama; returns the Borders they look at.

    Names and weights stay. Raises ValueError for learned positions: they count from the beginning
    of the row, so an example would not be what it is alone.
    """
    if getattr(model, "positions", None) is not None:
        raise ValueError("a model with learned positions tells where in the row an example "
                         "stands: pad its batches instead, or train a rotary one")
    borders = Borders()
    for i in range(len(model.blocks)):
        old = model.get(f"blocks.{i}.mix.inner")
        model.replace(f"blocks.{i}.mix.inner", PackedAttention(old, borders))
    return borders
