"""Day 26 · What tokenizers do to a line: its pieces made visible, white space, digits."""

from collections import Counter

import numpy as np

from days.harness import say
from llm.data.download import TextError
from llm.tokens.files.gpt2 import load_gpt2
from llm.tokens.wordpiece import WordPiece


def dense(tokenizer, text):
    """Bytes a token where white space, and tokens of nothing else, are left out."""
    solid = np.array([bool(shown(tokenizer, i).strip()) for i in range(tokenizer.vocab_size)])
    return len("".join(text.split()).encode()) / int(solid[tokenizer.encode(text)].sum())


def shown(tokenizer, i):
    """The text of one id; a part of a character is shown as its bytes, ‹e6 9d›."""
    if isinstance(tokenizer, WordPiece):
        return tokenizer.pieces[i]
    try:
        return tokenizer.table[i].decode()
    except UnicodeDecodeError:
        return f"‹{tokenizer.table[i].hex(' ')}›"


def joined(tokenizer, ids):
    """Pieces with · between them and ␣ for a space."""
    return "·".join(shown(tokenizer, i) for i in ids).replace(" ", "␣")


def numbers():
    """Where GPT-2 cuts numbers of four digits after a space; nothing without its vocabulary.

    aligned: the share of all sums a + b = c of numbers from 1000 to 4999 whose three numbers are
    cut alike. Exact: the entry s of f ∗ f counts the pairs of one pattern with a + b = 2000 + s.
    """
    try:
        gpt2 = load_gpt2()
    except TextError as error:
        say(f"{error} Going on without GPT-2's vocabulary.")
        return {"digits": [], "aligned": 0.0}
    cuts = np.array(["+".join(str(len(gpt2.table[i].strip())) for i in gpt2.encode(f" {n}"))
                     for n in range(1000, 10_000)])
    same = 0.0
    for how in np.unique(cuts):
        f = (cuts[:4000] == how).astype(float)
        same += np.convolve(f, f)[cuts[1000:8999] == how].sum()
    return {"digits": [[how, n / len(cuts)] for how, n in Counter(cuts.tolist()).most_common()],
            "aligned": same / 4000**2}
