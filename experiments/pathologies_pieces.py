"""Day 26 · Pieces that no text reaches, pieces no training reaches, [UNK], and many cuts of a word.

The parts of `pathologies.py` that are about the vocabulary itself.
Sources: Rumbelow and Watkins, *SolidGoldMagikarp*, 2023; Land and Bartolo, *Fishing for Magikarp*,
2024, which tests each piece by a round trip as `unreachable` does.
"""

import re

import numpy as np

from llm.models.neural_ngram import NeuralNGram, draws, train
from llm.tokens.fast_bpe import FastBPE

MAGIKARP = " SolidGoldMagikarp"
RARE = 5                                  # used less often: hardly trained
IMPOSSIBLE = [0xC0, 0xC1, *range(0xF5, 0x100)]         # bytes that no UTF-8 text has


def unreachable(tokenizer, rule=None):
    """The pieces no text is cut into under a rule, as (cut by the rule, part of no text) ids.

    A piece that is whole characters is reachable if it comes back from its own text: nothing around
    a piece that survives takes part in its merges. Of those that are parts of characters only the
    bytes that UTF-8 never uses are told here.
    """
    other = FastBPE(tokenizer.pieces, tokenizer.merges, rule or tokenizer.rule)
    cut, nowhere = [], []
    for i, piece in tokenizer.pieces.items():
        if set(piece) & set(IMPOSSIBLE):
            nowhere.append(i)
            continue
        try:
            text = piece.decode()
        except UnicodeDecodeError:
            continue
        if other.encode(text).tolist() != [i]:
            cut.append(i)
    return cut, nowhere


def usage(tokenizer, text):
    """(V,) how often each id occurs in a text."""
    return np.bincount(tokenizer.encode(text), minlength=tokenizer.vocab_size)


def unused(text, sizes):
    """Vocabularies learned from a text and used on it: how many pieces are rare, and which.

    The bytes that the text never has are left out: they are there for other texts.
    """
    there, rows = set(text.encode()), []
    for size in sizes:
        tokenizer = FastBPE.train(text, size)
        uses = usage(tokenizer, text)
        learned = np.arange(tokenizer.vocab_size) >= 256
        never = np.flatnonzero(learned & (uses == 0))
        rows.append({"V": tokenizer.vocab_size, "bytes_not_in_text": 256 - len(there),
                     "never": len(never), "rare": int((learned & (uses > 0) & (uses < RARE)).sum()),
                     "examples": [tokenizer.pieces[i].decode(errors="replace")
                                  for i in never[:8].tolist()]})
    return rows


def frozen(text, seed, steps=300):
    """Train day 16's model over all 256 bytes on a text that lacks most of them; who moved?

    "in" are the rows that read a token, "out" the columns that score it, with the movement of each
    in training: its mean length, and the mean cosine between the movements of two tokens.
    """
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    model = NeuralNGram(256, 8, 16, 64, np.random.default_rng(seed))
    before = model.embed.table.data.copy(), model.out.w.data.T.copy()
    train(model, draws(ids, 8, 64, np.random.default_rng(seed)), 0.3, steps=steps)
    moved = model.embed.table.data - before[0], model.out.w.data.T - before[1]
    seen = np.bincount(ids, minlength=256) > 0
    found = {"steps": steps, "tokens_seen": int(seen.sum())}
    for name, chosen in (("seen", seen), ("unseen", ~seen)):
        found[name] = {"in": length(moved[0][chosen]), "out": length(moved[1][chosen]),
                       "out_cosine": alike(moved[1][chosen])}
    return found


def length(rows):
    """The mean length of rows (n, C)."""
    return float(np.linalg.norm(rows, axis=1).mean())


def alike(rows):
    """The mean cosine of two different rows of (n, C)."""
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    n = len(unit)
    return float(((unit.sum(0) ** 2).sum() - n) / (n * (n - 1)))


def unknown(wordpiece, texts):
    """{name: shares of words that become [UNK], and of the characters that are in them}."""
    found, unk = {}, wordpiece.ids[wordpiece.unknown]
    for name, text in texts.items():
        words = wordpiece.bert.words(wordpiece.bert.normalize(text))
        lost = [word for word, ids in zip(words, wordpiece.encode_batch(words)) if unk in ids]
        found[name] = {"words": len(lost) / len(words),
                       "characters": sum(map(len, lost)) / sum(map(len, words))}
    return found


def segmentations(text, pieces):
    """How many ways there are to write `text` as a row of `pieces` (a set of str), exactly.

    >>> segmentations("aaa", {"a", "aa"})
    3
    """
    longest, ways = max(map(len, pieces)), [1]
    for end in range(1, len(text) + 1):
        ways.append(sum(ways[start] for start in range(max(0, end - longest), end)
                        if text[start:end] in pieces))
    return ways[-1]


def ambiguity(unigram, words):
    """[word, best cut, number of cuts, the best one's share of the probability] for each word."""
    pieces = {name.replace("▁", " ") for i, (name, _) in enumerate(unigram.pieces)
              if i not in unigram.specials.values() and not re.fullmatch("<0x..>", name)}
    rows = []
    for word in words:
        ids = unigram.encode(word).tolist()
        best = sum(unigram.pieces[i][1] for i in ids)
        rows.append([word, "|".join(unigram.decode([i]) for i in ids),
                     segmentations(word, pieces),
                     float(np.exp(best - unigram.log_likelihood(word)))])
    return rows
