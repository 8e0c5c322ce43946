"""Day 41 · Writing many pieces with one model, and measuring how they repeat and surprise.

Every token runs the whole piece again: O(T) times too much work, which day 42 saves.
"""

import re

import numpy as np

from llm.functions.probability import log_softmax
from llm.grad.tensor import no_grad

N = 4                        # of distinct-n


def cut_pieces(ids, count, length):
    """`count` pieces of `length` ids, spread evenly over the text and without overlap: (R, n)."""
    if count * length > len(ids):
        raise ValueError(f"{count} pieces of {length} tokens do not fit into {len(ids)}")
    starts = np.linspace(0, len(ids) - length, count).astype(int)
    return np.stack([ids[s:s + length] for s in starts])


def write(model, prompts, choosers, n, advance=lambda n: None):
    """Continue prompts (R, T0) by n tokens each, row r by choosers[r]: (R, T0 + n) ids."""
    ids = np.array(prompts)
    for _ in range(n):
        with no_grad():
            logits = model(ids).data[:, -1]                                # (R, V)
        following = [choose(z, row.tolist()) for choose, z, row in zip(choosers, logits, ids)]
        ids = np.column_stack([ids, following])
        advance(len(ids))
    return ids


def surprisals(model, ids, T0):
    """Nats of each token after the prompt, under the unfiltered model: (R, T0 + n) -> (R, n)."""
    with no_grad():
        log_p = log_softmax(model(ids[:, :-1]).data.astype(np.float64))    # (R, T − 1, V)
    return -np.take_along_axis(log_p, ids[:, 1:, None], axis=-1)[:, T0 - 1:, 0]


def distinct(ids, n):
    """Share of the n-grams of one piece that differ: 1 if none occurs twice."""
    grams = [tuple(ids[i:i + n]) for i in range(len(ids) - n + 1)]
    return len(set(grams)) / len(grams)


def running(text):
    """A play without its layout: no directions, no words in capitals (speakers), no line ends."""
    text = re.sub(r"\b[A-Z]{2,}\b\.?", "", re.sub(r"\[[^\]]*\]", "", text))
    return re.sub(r"\s+", " ", text)


def words(text):
    """The words of a text, without the two at its ends, which may be cut."""
    return re.findall(r"[A-Za-z']+", text)[1:-1]


def report(reader, name, pieces, T0, known, floor=0.0):
    """One row of the result; see Result.rows."""
    nats = surprisals(reader.model, pieces, T0).mean(axis=1)
    unlike = np.array([distinct(row[T0:], N) for row in pieces])
    written = [w for row in pieces for w in words(reader.tokenizer.decode(row[T0:]).lower())]
    real = sum(w in known for w in written) / max(1, len(written))
    return [name, len(pieces), float(nats.mean()), float(nats.std()), float(unlike.mean()),
            float(unlike.std()), float(unlike.min()), float(unlike.max()), real,
            float((unlike < floor).mean())]
