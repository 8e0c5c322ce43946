"""Day 25 · The tables of a byte-pair vocabulary, and what it must fulfil.

Leaves out: the merge loop, which reads these tables; see merges.py.
"""

import numpy as np

MOST_IDS = 1 << 24
CONTINUED = {*range(0x80, 0xC0), *range(0xC2, 0xF5)}       # bytes of characters beyond ASCII
NONE = np.empty(0, dtype=np.int32)


def first_symbols(pieces, fallback):
    """base (256,) and chars (C,) int32: the ids of bytes and of code points, −1 where there are
    none. fallback {byte: id}, or None where pieces of one byte stand for the bytes."""
    base, chars = np.full(256, -1, dtype=np.int32), NONE
    if fallback is not None:
        base[list(fallback)] = list(fallback.values())
        texts = {i: piece.decode() for i, piece in pieces.items()}
        codes = {ord(text): i for i, text in texts.items() if len(text) == 1}
        chars = np.full(max(codes, default=0) + 1, -1, dtype=np.int32)
        chars[list(codes)] = list(codes.values())
        lacking = [b for b in CONTINUED if base[b] < 0]
        if lacking:
            raise ValueError(f"{len(lacking)} bytes have no piece, such as <0x{lacking[0]:02X}>, "
                             "so that some characters would be unknown, which is not supported")
    for i, piece in pieces.items():
        if len(piece) == 1:
            base[piece[0]] = i
    lacking = [c for c in range(0x20, 0x7F) if base[c] < 0]
    if lacking:
        raise ValueError("the vocabulary is smaller than the base alphabet: "
                         f"{len(lacking)} printable ASCII characters are missing, "
                         f"such as {chr(lacking[0])!r}")
    return base, chars


def cuts_at_spaces(pieces):
    """Has no piece a space behind another character?

    Then no merge joins anything to a space behind it, so a text may be cut before each space that
    stands behind another character, and ids stay the same.
    """
    return all(b" " not in piece.lstrip(b" ") for piece in pieces.values())


def check(pieces, merges, specials, fallback):
    """Raise ValueError unless every merge joins two pieces into the piece it names."""
    if len(set(pieces.values())) < len(pieces):
        raise ValueError("two ids of the vocabulary stand for the same bytes")
    for r, (a, b, new) in enumerate(merges.tolist()):
        if pieces.get(a, b"") + pieces.get(b, b"") != pieces.get(new) or a not in pieces:
            raise ValueError(f"merge number {r} joins ids {a} and {b} into {new}, but their bytes "
                             f"are {pieces.get(a)}, {pieces.get(b)} and {pieces.get(new)}")
    taken = {*pieces, *fallback.values()}
    last = max([*taken, *specials.values()], default=0)
    if last >= MOST_IDS:
        raise ValueError(f"an id is {last}, and a model has a row of numbers for each id up to the "
                         f"largest: keep ids below {MOST_IDS}")
    if len(taken) < len(pieces) + len(fallback) or min(taken, default=0) < 0:
        raise ValueError("the pieces of the bytes need ids of their own")
    for text, i in specials.items():
        if not text or i in taken or i < 0:
            raise ValueError(f"special token {text!r} needs a name and an id of its own, not {i}")
    if len(set(specials.values())) < len(specials):
        raise ValueError("two special tokens share an id")
