"""Day 24 · How far merging the most frequent pair shortens a text, seen and unseen."""

import math
import time
from collections import Counter
from dataclasses import dataclass

from days.harness import main, print_table, progress, save, say
from llm.data.text import load, load_or_default
from llm.tokens.bpe import BPE, merge

LINE = "To be, or not to be: that is the question."


@dataclass(frozen=True)
class Result:
    """Everything the note and the figure say."""

    source: str          # which text was learned from
    characters: int      # how much of it
    rows: list           # [merges, V, bytes a token: seen, unseen, Python; bits a byte, unseen]
    lengths: list        # [merges, bytes a token seen, unseen, Python] after every tenth merge
    first: list          # the first pieces learned
    longest: list        # the longest pieces
    line: str            # a sentence …
    pieces: list         # … and its pieces
    train_seconds: float
    encode_seconds: float   # the unseen text, by BPE.encode
    unseen_bytes: int
    round_trip: bool     # decode(encode(text)) == text, for all three texts


def measure(fast, seed):
    """Learn merges from the start of a text; replay them on its end and on other text."""
    size, merges, other = (12_000, 96, 4_000) if fast else (60_000, 768, 20_000)
    corpus = load_or_default("shakespeare", say)
    train, unseen = corpus.train[:size], corpus.validation[:other]
    foreign = load("python").text[:other]
    started = time.perf_counter()
    with progress(2, f"{merges} merges on {size} characters") as step:
        tokenizer = BPE.train(train, 256 + merges)
        train_seconds = time.perf_counter() - started
        step(1)
        started = time.perf_counter()
        ids = tokenizer.encode(unseen[:4_000])
        encode_seconds = time.perf_counter() - started
        texts = [train, unseen, foreign]
        trails = [replay(tokenizer, text) for text in texts]
        step(1)
    marks = [m for m in (0, 32, 96, 192, 384, 768) if m <= len(tokenizer.merges)]
    longest = sorted(tokenizer.pieces[256:], key=len, reverse=True)
    return Result(
        source=corpus.name, characters=size,
        rows=[[m, 256 + m, *(rate(trail, m) for trail in trails), trails[1][m][1]] for m in marks],
        lengths=[[m, *(rate(trail, m) for trail in trails)]
                 for m in range(0, len(tokenizer.merges) + 1, 8)],
        first=[text_of(piece) for piece in tokenizer.pieces[256:272]],
        longest=[text_of(piece) for piece in longest[:6]],
        line=LINE, pieces=[tokenizer.decode([i]) for i in tokenizer.encode(LINE)],
        train_seconds=train_seconds, encode_seconds=encode_seconds,
        unseen_bytes=len(unseen[:4_000].encode()),
        round_trip=tokenizer.decode(ids) == unseen[:4_000] and all(
            tokenizer.decode(tokenizer.encode(text[:500])) == text[:500] for text in texts))


def replay(tokenizer, text):
    """[(tokens, bits a byte of a code for single tokens)] after 0, 1, 2, … merges."""
    ids = list(text.encode())
    trail = [(len(ids), bits(ids, len(ids)))]
    for i, pair in enumerate(tokenizer.merges):
        ids = merge(ids, pair, 256 + i)
        trail.append((len(ids), bits(ids, trail[0][0]) if i & (i + 1) == 0 or i % 32 == 31 else 0))
    return trail


def bits(ids, size):
    """Entropy of single tokens, in bits a byte of the text."""
    return sum(-n * math.log2(n / len(ids)) for n in Counter(ids).values()) / size


def rate(trail, merges):
    """Bytes a token after so many merges."""
    return trail[0][0] / trail[merges][0]


def text_of(piece):
    return piece.decode("utf-8", "replace")


def table(result):
    """One row for each number of merges."""
    head = ["merges", "V", "bytes a token: seen", "unseen", "Python", "bits a byte, unseen"]
    return [head] + [[m, v, *(f"{x:.2f}" for x in rest)] for m, v, *rest in result.rows]


def show(result):
    """Print what was learned."""
    print_table(table(result), f"{result.characters} characters of {result.source}")
    print("first pieces  ", " ".join(map(repr, result.first[:10])))
    print("longest pieces", " ".join(map(repr, result.longest[:4])))
    print("one line      ", "|".join(result.pieces))
    rate_ = result.unseen_bytes / result.encode_seconds / 1000
    print(f"training took {result.train_seconds:.1f} s, encoding runs at {rate_:.0f} kB/s; "
          "day 25 changes that")


def draw(result, path):
    """Bytes a token against merges, for the three texts."""
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots()
    merges = [row[0] for row in result.lengths]
    names = ["text it learned from", f"unseen {result.source.capitalize()}",
             "Python language reference"]
    for j, (name, color) in enumerate(zip(names, ["#1b4965", "#2a9d8f", "#c8553d"]), 1):
        values = [row[j] for row in result.lengths]
        ax.plot(merges, values, color=color)
        ax.annotate(name, (merges[-1], values[-1]), (6, 0), textcoords="offset points",
                    color=color, va="center")
    ax.set(xlabel="merges", ylabel="bytes a token", ylim=(1, None),
           xlim=(0, merges[-1] * 1.42), xticks=[m for m, *_ in result.rows if m != 32])
    end = result.lengths[-1]
    ax.set_title(f"{end[0]} merges put {end[1]:.1f} bytes into a token on the text they were "
                 f"learned from,\n{end[2]:.1f} on unseen text of its kind, {end[3]:.1f} on "
                 "text of another kind")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
