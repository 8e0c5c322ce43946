"""Day 25 · tiktoken's own files: a piece in base64 and its rank on each line, no merges.

tiktoken joins the two neighbours whose bytes together are the piece of the lowest rank, however
that piece came about. So every way to cut a piece in two pieces is a merge here, and merges are
ordered by the rank of what they make. A word that is a piece needs none of them.
The file says neither how text is cut nor which tokens are special: the reader must know.
Leaves out: fetching a file, and knowing its rule and special tokens by its name.
"""

import base64
from pathlib import Path

from llm.tokens.bpe import VocabularyError
from llm.tokens.fast_bpe import FastBPE
from llm.tokens.files.bpe import read


def load_tiktoken(path, rule="cl100k", specials=None):
    """A `.tiktoken` file -> FastBPE with the ids of tiktoken. specials {text: id}.

    VocabularyError for a file that is missing or damaged; ValueError for a rule we do not have.
    Source: tiktoken, load.py, `load_tiktoken_bpe`, and _educational.py, `bpe_encode`.
    """
    ranks = {}
    for n, line in enumerate(read(Path(path)).splitlines(), 1):
        try:
            piece, rank = line.split()
            ranks[base64.b64decode(piece, validate=True)] = int(rank)
        except ValueError:
            raise VocabularyError(f"line {n} of {path} is {line[:60]!r}, not a piece in base64 and "
                                  "its rank; is the file cut short?") from None
    merges = sorted((rank, *pair) for piece, rank in ranks.items() for pair in halves(piece, ranks))
    pieces = {rank: piece for piece, rank in ranks.items()}
    if len(pieces) < len(ranks):
        raise VocabularyError(f"{path} gives one rank to two pieces")
    try:
        return FastBPE(pieces, [(a, b, rank) for rank, a, b in merges], rule, specials, True)
    except ValueError as error:
        raise VocabularyError(f"cannot read the vocabulary {path}: {error}") from None


def halves(piece, ranks):
    """Ranks (a, b) of each way to cut a piece into two pieces."""
    return [(ranks[piece[:i]], ranks[piece[i:]]) for i in range(1, len(piece))
            if piece[:i] in ranks and piece[i:] in ranks]
