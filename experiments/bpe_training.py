"""Day 25 · Where the time of training goes, and which part of it grows with the vocabulary.

    python experiments/bpe_training.py [--fast] [--json] [--out DIR]

`FastBPE.train` taken apart into its three steps: splitting and counting the words, the loop that
merges (heap included), and making the tokenizer from the merges. Each step is timed for the two
vocabularies of the run, all in turns, in seconds of the processor, which waiting for other
processes does not lengthen. The heap is also timed alone: what the loop pushes and pops is written
down once, and a compiled function then does only that. And on the small text of the run: day 24's
training, this day's merge loop as plain Python, and the same compiled. Medians over rounds;
compilation is not timed. One minute on one core.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
from numba import njit

from days.harness import (
    ROOT,
    UsageError,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    progress,
    say,
    write_atomically,
)
from llm.data.text import load_or_default
from llm.tokens.bpe import BPE
from llm.tokens.engine import merges
from llm.tokens.engine.heap import pop, push
from llm.tokens.fast_bpe import FastBPE
from llm.tokens.learn.bpe import count_words

STEPS = ("split and count", "merge", "of it the heap", "make the tokenizer")


def heap_moves(symbols, starts, counts, wanted):
    """Every push (count, pair) and every pop (1, 0) of the merge loop, in order: (N, 2) int64.

    The loop runs uncompiled, with a heap that writes down what it is asked.
    """
    moves = []

    def pushed(heap, waiting, count, pair):
        moves.append((count, pair))
        return push(heap, waiting, count, pair)

    def popped(heap, waiting):
        moves.append((1, 0))                          # counts are pushed as negative numbers
        return pop(heap, waiting)

    with mock.patch.multiple(merges, push=pushed, pop=popped,
                             most_frequent=merges.most_frequent.py_func):
        merges.learn.py_func(symbols, starts, counts, 256, wanted, 1)
    return np.array(moves, np.int64)


@njit
def replayed(moves):
    """Only the pushes and pops; returns how many entries are left."""
    heap, waiting = np.empty((len(moves), 2), np.int64), np.int64(0)
    for i in range(len(moves)):
        if moves[i, 0] > 0:
            waiting, _, _ = pop(heap, waiting)
        else:
            waiting = push(heap, waiting, moves[i, 0], moves[i, 1])
    return waiting


def without_compiler(text, wanted, rounds):
    """Seconds of day 24's training, of today's loop as plain Python, and of the loop compiled.

    The text is one word. Raises AssertionError unless all three learn the same merges.
    """
    symbols = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    parts = ("link", "note", "most_frequent", "find", "packed", "pop", "push", "twice")
    plainly = {name: getattr(merges, name).py_func for name in parts}

    def loop(learn):
        return learn(symbols.copy(), np.array([0, len(symbols)]), np.array([1]), 256, wanted, 2)

    def uncompiled():
        with mock.patch.multiple(merges, **plainly), np.errstate(over="ignore"):    # a hash wraps
            return loop(merges.learn.py_func)

    works = (lambda: BPE.train(text, 256 + wanted).merges, uncompiled, lambda: loop(merges.learn))
    old, slow, fast = (np.array(work()).tolist() for work in works)
    assert old == slow == fast
    times = [[clocked(work)[0] for work in works] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times)]


def clocked(work):
    """(seconds of the processor, what work() returns)."""
    started = time.process_time()
    made = work()
    return time.process_time() - started, made


def taken_apart(text, vocab_size, moves, timed):
    """The steps of FastBPE.train(text, vocab_size, min_count=1), each by timed(step, work).

    Returns the tokenizer, and what the merge loop gets.
    """
    words, counts = timed(STEPS[0], lambda: count_words([text], "gpt2"))
    symbols = words.store[:words.size].astype(np.int32)
    given = symbols.copy(), words.starts[:words.n + 1], counts
    pairs = timed(STEPS[1], lambda: merges.learn(symbols, *given[1:], 256, vocab_size - 256, 1))
    timed(STEPS[2], lambda: replayed(moves))
    return timed(STEPS[3], lambda: FastBPE.from_merges(pairs, "gpt2")), given


def measure(fast):
    corpus = load_or_default("shakespeare", say)
    text, sizes, rounds = (corpus.text[:200_000], (512, 1024), 1) if fast else (
        corpus.text, (4096, 32_000), 25)
    seconds, moves, same = {size: {step: [] for step in STEPS} for size in sizes}, {}, True
    with progress(rounds + len(sizes), "training") as bar:
        for size in sizes:                            # also compiles all that is timed
            nothing = np.zeros((0, 2), np.int64)
            apart, given = taken_apart(text, size, nothing, lambda _, work: work())
            same &= apart.pieces == FastBPE.train(text, size, min_count=1).pieces
            moves[size] = heap_moves(*given, size - 256)
            bar(1)
        for _ in range(rounds):
            for size in sizes:
                def timed(step, work, size=size):
                    spent, made = clocked(work)
                    seconds[size][step].append(spent)
                    return made
                taken_apart(text, size, moves[size], timed)
            bar(1)
    return {"sizes": sizes, "rounds": rounds, "same_pieces": same,
            "seconds": {step: [statistics.median(seconds[size][step]) for size in sizes]
                        for step in STEPS},
            "pushes": [int((moves[size][:, 0] <= 0).sum()) for size in sizes],
            "pops": [int((moves[size][:, 0] > 0).sum()) for size in sizes],
            "small": without_compiler(text[:2_000 if fast else 20_000], 64 if fast else 256,
                                      1 if fast else 9),
            "fast": fast, "machine": machine()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="a short text, in seconds")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bpe_training", metavar="DIR")
    options = parser.parse_args()
    prepare(options.out)
    record = plain(measure(options.fast))
    write_atomically(options.out / "bpe_training.json",
                     (json.dumps(record, indent=1) + "\n").encode())
    if options.json:
        print(json.dumps(record))
        return
    print_table([["", *(f"V = {size:,}" for size in record["sizes"])]] + [
        [step, *(f"{x:.3f} s" for x in record["seconds"][step])] for step in STEPS] + [
        [f"{what} of the heap", *(f"{n:,}" for n in record[what])] for what in ("pushes", "pops")])
    print_table([["training on a small text", "seconds"]] + [
        [what, f"{x:.5f}"] for what, x in zip(("day 24", "the loop as plain Python",
                                               "the loop compiled"), record["small"])])
    say(f"bpe_training.json is in {nearby(options.out)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"bpe_training: {error}")
        sys.exit(2)
