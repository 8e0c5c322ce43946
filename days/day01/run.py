"""Day 01 · Shakespeare as a model sees it: ids, vectors, scores; and what a guess costs."""

import math
import textwrap
from collections import Counter
from dataclasses import dataclass

import numpy as np

from days.day01.prices import over_lines, price
from days.day01.steps import forward
from days.harness import main, print_table, save, say
from llm.data.text import load_or_default
from llm.tokens.chars import CharTokenizer

LINES = {"shakespeare": "A sad tale's best for winter", "python": "the value of the expression"}


@dataclass(frozen=True)
class Result:
    """Everything the note and the figure say."""

    source: str             # which text
    characters: int         # its length
    vocabulary: int         # V, how many of them are distinct
    round_trip: bool        # decode(encode(text)) == text, for the whole text
    shares: list            # [character, count, share], most frequent first
    cover: int              # how many characters make up 90 % of the text
    uniform_bits: float     # log2 V: bits a character when all are held equally likely
    entropy_bits: float     # bits a character, on average, when guessed by their shares
    words: str              # a line that is not in the training text
    line: list              # [three characters before, next one, times seen, followed, bits]
    context_bits: list      # mean bits over that line, knowing 0, 1, 2, 3 characters before
    unseen: int             # how many of its letters never followed the four before them
    lines: int              # how many long held-out lines were priced
    by_context: list        # [k, median bits, share infinite, share dearer than with k − 1, and
                            # of the dearer ones the share that is indented by spaces]
    pipeline: list          # [step, expression, shape, type, bytes, FLOPs]
    untrained_hits: float   # share of next characters that random weights guess


def measure(fast, seed):
    """Read, encode, look up, multiply; price the guesses of counting.

    `fast` prices the lines of a fifth of the held-out text by a ninth of the training text.
    """
    corpus = load_or_default("shakespeare", say)
    text, words = corpus.text, LINES[corpus.name]
    tokenizer = CharTokenizer.from_text(text)
    shares = [[character, count, count / len(text)]
              for character, count in Counter(text).most_common()]
    line = [price(corpus.train, words, t, 3) for t in range(3, len(words))]
    known = [[price(corpus.train, words, t, k)[4] for t in range(3, len(words))] for k in range(4)]
    pipeline, hits = forward(tokenizer, text, np.random.default_rng(seed))
    train, held_out = corpus.train, corpus.validation
    lines, by_context = over_lines(train[-len(train) // 9:] if fast else train,
                                   held_out[:len(held_out) // 5] if fast else held_out)
    return Result(
        source=corpus.name, characters=len(text), vocabulary=tokenizer.vocab_size, shares=shares,
        round_trip=tokenizer.decode(tokenizer.encode(text)) == text,
        cover=int(np.searchsorted(np.cumsum([p for *_, p in shares]), 0.9)) + 1,
        uniform_bits=math.log2(tokenizer.vocab_size),
        entropy_bits=-sum(p * math.log2(p) for *_, p in shares),
        words=words, line=line, context_bits=[float(np.mean(bits)) for bits in known],
        unseen=sum(words[t - 4:t + 1] not in corpus.train for t in range(4, len(words))),
        lines=lines, by_context=by_context, pipeline=pipeline, untrained_hits=hits)


def table(result):
    """The way from text to scores, one row a step."""
    return [["step", "how", "shape", "type", "bytes", "FLOPs"]] + [
        [name, how, shape, kind, f"{size:,}", f"{flops:,}"]
        for name, how, shape, kind, size, flops in result.pipeline]


def show(result):
    """Print the shares, the price of a line, and the shapes."""
    print(f"{result.source}: {result.characters:,} characters, {result.vocabulary} distinct; "
          f"in ids and back: {'equal' if result.round_trip else 'NOT EQUAL'}\n"
          f"{result.cover} characters make up 90 %; shares in percent:")
    shares = [f"{character!r} {share:.2%}"[:-1] for character, _, share in result.shares]
    print(textwrap.fill(" · ".join(shares[:result.cover]), 78))
    priced = [[repr(context), next_one, f"{followed:,} of {seen:,}", f"{bits:.2f}"]
              for context, next_one, seen, followed, bits in result.line[:8]]
    print_table([["after", "comes", "as often as", "bits"], *priced], f"“{result.words}”")
    print(f"bits a character: {result.uniform_bits:.2f} with no idea, {result.entropy_bits:.2f} by "
          "shares;\nin this line, knowing 0, 1, 2, 3 characters before: "
          + " · ".join(f"{bits:.2f}" for bits in result.context_bits))
    print_table([["characters before", "median bits", "infinite", "dearer than with one less"]] + [
        [k, f"{bits:.2f}", f"{infinite:.1%}", f"{dearer:.1%}" if k else ""]
        for k, bits, infinite, dearer, _ in result.by_context], f"{result.lines:,} held-out lines")
    print_table(table(result), "text → ids → vectors → scores (random weights)")
    print(f"untrained, the highest score is right {result.untrained_hits:.1%} of the time")


def draw(result, path):
    """Above: how unequal characters are. Below: what each letter of a line costs."""
    import matplotlib.pyplot as plt
    fig, (above, below) = plt.subplots(2, 1, figsize=(7.2, 5.6))
    n, v, bits = result.cover, result.vocabulary, [row[4] for row in result.line]
    share = [100 * p for *_, p in result.shares]
    names = [{" ": "␣", "\n": "↵"}.get(row[0], row[0]) for row in result.shares[:n]]
    above.bar(range(n), share[:n], color="#1f5fa8")
    above.bar(n + 1, sum(share[n:]), color="#b9c4d0")
    above.set_xticks([*range(n), n + 1], [*names, f"other {v - n}"])
    above.axhline(100 / v, color="#b03a2e", lw=0.9)
    above.text(n - 0.6, 100 / v + 0.4, f"all {v} equal: {100 / v:.1f} %", ha="right", c="#b03a2e")
    above.set(xlim=(-0.8, n + 2), ylabel="share of the text, %", title=(
        f"{n} of the {v} characters make up 90 % of the text.\nIf you know these shares, a "
        f"character costs {result.entropy_bits:.2f} bits on average; if not, "
        f"{result.uniform_bits:.2f}"))
    low, high = (f"{row[4]:.2f} (“{row[1]}” after “{row[0]}”)"
                 for row in (f(result.line, key=lambda row: row[4]) for f in (min, max)))
    below.bar(range(len(bits)), bits, color="#1f5fa8")
    below.set_xticks(range(-3, len(bits)), result.words.replace(" ", "␣"))
    below.axhline(result.uniform_bits, color="#b03a2e", lw=0.9)
    below.text(len(bits) - 0.5, result.uniform_bits + 0.2, "without any knowledge", ha="right",
               c="#b03a2e")
    below.set(xlim=(-3.6, len(bits) - 0.2), ylabel="price, bits", title=(
        "Counting what follows three characters, each character of this line costs\nbetween "
        f"{low} and {high}, {result.context_bits[3]:.2f} bits on average"))
    for axes in (above, below):
        axes.tick_params(axis="x", length=0)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
