"""Day 27 · A language model that never trains: attention over a text it remembers.

Each place of the remembered text becomes a key, the characters before it, and a value, the
character that followed. A query holds the characters just read. What `attention` returns is the
average of what followed in similar places: a distribution over the next character.

Left out: learning which characters of the window matter (day 29), and keeping a row for each
distinct window instead of each place (then it is day 06's table).
"""

import numpy as np

from llm.functions.attention import attention


def windows(ids, ends, width, vocab_size, decay=1.0):
    """The `width` tokens before each place as one-hot rows, side by side: (N, width·V) float32.

    ids: (T,) integers; ends: (N,) places, each ≥ width. An entry is √V or 0, of mean square 1, as
    the derivation of √D assumes: q·k/√D is then √(V/width) for each character that agrees.
    decay < 1 makes far characters count less: a match n back is worth ∝ decay**n, the sum stays.
    Raises ValueError for a place with fewer than `width` tokens before it.
    """
    ids, ends = np.asarray(ids), np.asarray(ends)
    if len(ends) and not width <= ends.min() <= ends.max() <= len(ids):
        raise ValueError(f"places {ends.min()} … {ends.max()} in ids {ids.shape} need {width} "
                         f"tokens before them: use {width} … {len(ids)}")
    worth = decay ** np.arange(width)                              # nearest first
    size = np.sqrt(vocab_size * width * worth / worth.sum())
    rows = np.zeros((len(ends), width, vocab_size), np.float32)
    for n in range(width):
        rows[np.arange(len(ends)), n, ids[ends - 1 - n]] = size[n]
    return rows.reshape(len(ends), width * vocab_size)


class Lookup:
    """Remembers `ids` (T,) as keys (V + T − width, D) and values (V + T − width, V), D = width·V.

    The first V pairs are blank: a key of zeros scores 0 with every query, and its value is one
    character. They leave a little probability for each character that was never seen to follow.
    """

    def __init__(self, ids, width, vocab_size, decay=1.0):
        self.width, self.vocab_size, self.decay = width, vocab_size, decay
        ends = np.arange(width, len(ids))
        one_hot = np.eye(vocab_size, dtype=np.float32)
        blank = np.zeros((vocab_size, width * vocab_size), np.float32)
        self.keys = np.concatenate([blank, windows(ids, ends, width, vocab_size, decay)])
        self.values = np.concatenate([one_hot, one_hot[np.asarray(ids)[ends]]])

    def predict(self, ids, ends, sharpness=1.0):
        """P(character at each of `ends`): (N, V), and the weights (N, keys) behind it.

        sharpness multiplies the scores: 1 is q·k/√D, √D is the bare dot product.
        """
        q = windows(ids, ends, self.width, self.vocab_size, self.decay) * np.float32(sharpness)
        out, (*_, weights) = attention(q, self.keys, self.values)
        return out, weights
