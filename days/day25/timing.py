"""Day 25 · The stopwatch of this day: medians, all sides in turns, compilation excluded."""

import statistics
import time

import numpy as np

from llm.tokens.bpe import BPE
from llm.tokens.engine.classes import class_table
from llm.tokens.engine.merges import apply, gather
from llm.tokens.engine.split import RULES, word_ends
from llm.tokens.fast_bpe import FastBPE

PART = 50_000            # characters of a part, where the text is a batch of few long strings
LINE = "I'll be there in 2026, won't I?"


def timed(work, repeats):
    """Median seconds."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def encoding(tokenizer, text, data, ends, repeats):
    """Speeds of encoding, where the time goes, and what it would cost to merge every word anew."""
    lines = text.splitlines(keepends=True)
    parts = [text[i:i + PART] for i in range(0, len(text), PART)]
    caches = tokenizer.encoder.caches
    tokenizer.encode(text)
    words, buffer, totals = caches[0], np.empty_like(ends), np.empty_like(ends)
    numbers, ids = words.add(data, 0, ends), np.zeros(len(data), np.int32)
    whole = np.array([len(data)])

    def again():
        caches.clear()
        tokenizer.encode(text)

    def batch_of_parts():
        tokenizer.encode_batch(parts)

    works = [again, lambda: tokenizer.encode(text), batch_of_parts,    # both threads know words
             lambda: tokenizer.encode_batch(lines), batch_of_parts,
             lambda: word_ends(data, 0, 0, whole, class_table(), RULES["gpt2"], buffer),
             lambda: words.add(data, 0, ends),
             lambda: gather(numbers, words.tokens, words.token_starts, ids, 0, totals)]
    rounds = [[timed(work, 1) for work in works] for _ in range(repeats)]     # in turns
    cold, warm, _, batch, long, cut, look_up, copy = (statistics.median(c) for c in zip(*rounds))
    anew = timed(merging_every_word(tokenizer.encoder, data, ends), min(repeats, 3))
    nano = 1e9 / len(data)
    return {"cold": len(data) / cold / 1e6, "warm": len(data) / warm / 1e6,
            "batch": len(data) / batch / 1e6, "parts": len(data) / long / 1e6,
            "lines": len(lines), "anew": anew * nano,
            "short": timed(lambda: [tokenizer.encode(LINE) for _ in range(100)], 5) * 1e4,
            "stages": [["split into words", cut * nano], ["look words up", look_up * nano],
                       ["merge new words", max(cold - warm, 0) * nano],
                       ["gather ids", copy * nano]]}


def merging_every_word(encoder, data, ends):
    """The control: a function that merges all words of a text, and remembers none."""
    starts, tokens = np.concatenate([[0], ends]), np.empty(len(data), np.int32)
    token_starts = np.zeros(len(starts), np.int64)
    return lambda: apply(data, starts, 0, len(ends), encoder.base, encoder.chars, encoder.slots,
                         encoder.keys, encoder.made, tokens, token_starts)


def against_day_24(text, size, merges, sample):
    """Both on the same small text without splitting: same merges, same ids, other times."""
    start, end = text[:size], text[-sample:]
    slow_train = timed(lambda: BPE.train(start, 256 + merges), 1)
    fast_train = timed(lambda: FastBPE.train(start, 256 + merges, "whole"), 5)
    slow, fast = BPE.train(start, 256 + merges), FastBPE.train(start, 256 + merges, "whole")
    slow_encode = timed(lambda: slow.encode(end), 1)
    fast_encode = timed(lambda: (fast.encoder.caches.clear(), fast.encode(end)), 5)
    return {"speedup_train": slow_train / fast_train, "speedup_encode": slow_encode / fast_encode,
            "same_merges": slow.merges == [tuple(p) for p in fast.merges[:, :2].tolist()],
            "same_ids": slow.encode(end).tolist() == fast.encode(end).tolist()}
