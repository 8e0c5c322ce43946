"""Day 11 · Bengio's window model, forward only: T embeddings in a row, one hidden layer, logits.

Parameters are a dict of plain arrays. Left out: training (day 16), the direct connections from
the embeddings to the logits that the paper calls optional, and any context beyond T tokens.
"""

import numpy as np

from llm.functions.dense import linear, tanh
from llm.functions.embedding import embedding
from llm.models.counts import find, pack


def shapes(vocab_size, context, channels, hidden):
    """{name: shape} of each parameter; this is the whole architecture."""
    return {"table": (vocab_size, channels),       # shared by all T positions
            "w1": (context * channels, hidden),    # not shared: C rows for each position
            "b1": (hidden,),
            "w2": (hidden, vocab_size),
            "b2": (vocab_size,)}


def init(vocab_size, context, channels, hidden, rng, scale=1.0, dtype=np.float32):
    """Random parameters: normal, each matrix divided by √(its inputs), so that sums keep size.

    The table is standard normal, biases are 0, w2 is `scale`/√hidden: `scale` sets how sure of
    itself the untrained model is; 0 makes it uniform.
    Raises: ValueError where a size is below 1.
    """
    if min(vocab_size, context, channels, hidden) < 1:
        raise ValueError(f"sizes must be 1 or more, not V {vocab_size}, T {context}, "
                         f"C {channels}, hidden {hidden}")
    sizes = shapes(vocab_size, context, channels, hidden)
    spread = {"table": 1.0, "w1": (context * channels) ** -0.5, "b1": 0.0,
              "w2": scale * hidden ** -0.5, "b2": 0.0}
    return {name: (spread[name] * rng.standard_normal(size)).astype(dtype)
            for name, size in sizes.items()}


def logits(parameters, ids):
    """Logits of the token after each window: ids (..., T) → (..., V).

    2·(T·C·hidden + hidden·V) FLOPs a window; the lookup costs none.
    Raises: ValueError where T is not the T the parameters were made for.
    Source: Bengio et al. 2003, equation 1, with W = 0.
    """
    ids = np.asarray(ids)
    table, w1 = parameters["table"], parameters["w1"]
    context = w1.shape[0] // table.shape[1]
    if ids.ndim < 1 or ids.shape[-1] != context:
        raise ValueError(f"ids {ids.shape} must end in T = {context}, the context that w1 "
                         f"{w1.shape} and table {table.shape} were made for")
    x = embedding(table, ids)                                  # (..., T, C)
    x = x.reshape(*ids.shape[:-1], w1.shape[0])                # (..., T·C), side by side
    h = tanh(linear(x, w1, parameters["b1"]))                  # (..., hidden)
    return linear(h, parameters["w2"], parameters["b2"])       # (..., V)


def windows(ids, context):
    """Each run of T tokens and the one after it: ids (L,) → (L − T, T), (L − T,), both views.

    Raises: ValueError where ids are not one-dimensional or too short for one window.
    """
    ids = np.asarray(ids)
    if ids.ndim != 1 or context < 1 or len(ids) <= context:
        raise ValueError(f"ids {ids.shape} must be (L,) with L of {context + 1} or more for "
                         f"windows of {context} and a target, and the context 1 or more")
    return np.lib.stride_tricks.sliding_window_view(ids, context)[:-1], ids[context:]


def parameter_count(vocab_size, context, channels, hidden):
    """How many numbers the model has: V·C + T·C·hidden + hidden + hidden·V + V."""
    sizes = shapes(vocab_size, context, channels, hidden)
    return sum(int(np.prod(size)) for size in sizes.values())


def flops(vocab_size, context, channels, hidden):
    """Multiplications and additions of one prediction, of the two matrix products alone."""
    return 2 * hidden * (context * channels + vocab_size)


def known_share(seen, new, context, vocab_size):
    """The share of the runs of T tokens of `new` that occur anywhere in `seen`: ids (L,), (M,).

    It is the share of contexts about which a table of counts, one row a context, says anything.
    Raises: ValueError where one of them is shorter than T, and where a run does not fit in 64
    bits (T > 10 for V = 84).
    """
    if min(len(seen), len(new)) < context:
        raise ValueError(f"seen ({len(seen)},) and new ({len(new)},) must both have {context} ids "
                         "or more, one run; take a smaller context")
    known = np.sort(pack(seen, context, vocab_size))
    return float(find(known, pack(new, context, vocab_size))[1].mean())
