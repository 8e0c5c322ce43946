"""Day 01 · The way from a text to scores, with random weights: each shape, byte and FLOP."""

import numpy as np

B, T, C = 4, 64, 32   # lines, characters a line, numbers a character


def forward(tokenizer, text, rng):
    """Rows [step, expression, shape, type, bytes, FLOPs], and the share of next characters hit.

    The weights are random. `text` is a str of at least 1,256 characters, `rng` draws the weights.
    """
    v = tokenizer.vocab_size
    lines = [text[1000 + T * b:1000 + T * (b + 1)] for b in range(B)]
    table = rng.standard_normal((v, C), dtype=np.float32)
    w = rng.standard_normal((C, v), dtype=np.float32)
    ids = np.stack([tokenizer.encode(line) for line in lines])    # (B, T)
    vectors = table[ids]                                          # (B, T) -> (B, T, C)
    scores = vectors @ w                                          # (B, T, C) -> (B, T, V)
    guess = (table @ w).argmax(axis=1)                            # (V,): one guess a character
    everything = tokenizer.encode(text)
    hits = float(np.mean(guess[everything[:-1]] == everything[1:]))
    steps = [("ids", "encode(text)", ids, 0), ("table", "random", table, 0),
             ("vectors", "table[ids]", vectors, 0), ("w", "random", w, 0),
             ("scores", "vectors @ w", scores, 2 * B * T * C * v)]
    return [["text", f"{B} lines", f"({B},)", "str", B * T, 0]] + [
        [name, how, str(array.shape), str(array.dtype), array.nbytes, flops]
        for name, how, array, flops in steps], hits
