"""Day 22 · `with fast(): train(…)`: the GRU on its Numba kernels while the block lasts.

Uses day 15's seam for twins. What the kernels cannot do (float64, the reset before the product)
goes to the reference. Left out: all other primitives, which are day 38's.
"""

import numpy as np

from llm.functions import gru as reference
from llm.functions.rnn import check_shapes, shifted
from llm.grad.lowering import lower
from llm.kernels import gru as kernels
from llm.layers.recurrent import gru as primitive


def gru(x, h0, w, wh, b, bh, reset_after=True):
    """The twin of functions.gru.gru: same arguments, results within rounding, same arrays saved."""
    arrays = x, h0, w, wh, b, bh
    if not reset_after or any(a.dtype != np.float32 for a in arrays):
        return reference.gru(*arrays, reset_after=reset_after)
    check_shapes("gru", x, h0, w, wh, 3, b=b, bh=bh)
    parts = kernels.forward(*arrays)
    return parts[-1], (x, h0, w, wh, *parts, True)


def gru_vjp(dout, x, h0, w, wh, r, u, n, q, out, reset_after):
    """The twin of functions.gru.gru_vjp: dx, dh0, dw, dwh, db, dbh."""
    if not reset_after or out.dtype != np.float32:
        return reference.gru_vjp(dout, x, h0, w, wh, r, u, n, q, out, reset_after)
    before = shifted(h0, out)
    da, dm, dh = kernels.backward(dout, before, wh, r, u, n, q)
    return reference.collect(da, dm, dh, before, x, w, r, True)


def fast():
    """A context in which every GRU runs on the kernels."""
    return lower({primitive: (gru, gru_vjp)})
