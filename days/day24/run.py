"""Day 24 · How far merging the most frequent pair shortens a text, seen and unseen."""

import math
import time
from dataclasses import dataclass

import numpy as np

from days.harness import main, print_table, print_text, progress, save, say
from llm.data.text import load, load_or_default
from llm.tokens.bpe import BPE, merge

LINE = "To be, or not to be: that is the question."
STARTS = 3           # stretches of the training text that merges are learned from, for the spread
MARKS = (0, 32, 96, 192, 384, 768)


@dataclass(frozen=True)
class Result:
    """Everything the note and the figure say."""

    source: str          # which text was learned from
    characters: int      # how much of it
    rows: list           # [merges, V, bytes a token: seen, unseen, Python; bits a byte, unseen]
    gains: list          # [merges, T, V, places the next merge shortened by, break-even]
    spread: list         # bytes a token, unseen, after all merges learned from each stretch
    shuffled: list       # [merges, bits a byte, unseen] where both texts have their bytes shuffled
    lengths: list        # [merges, bytes a token seen, unseen, Python] after every eighth merge
    first: list          # the first pieces learned
    longest: list        # the longest pieces
    line: str            # a sentence …
    pieces: list         # … and its pieces
    train_seconds: float
    train_steps: int     # ids passed over in all rounds of that training
    encode_seconds: float   # the unseen text, by BPE.encode
    unseen_bytes: int
    round_trip: bool     # decode(encode(text)) == text, for all three texts


def measure(fast, seed):
    """Learn merges from the start of a text; replay them on its end and on other text."""
    size, merges, other = (12_000, 96, 4_000) if fast else (60_000, 768, 20_000)
    corpus, rng = load_or_default("shakespeare", say), np.random.default_rng(seed)
    train, unseen = corpus.train[:size], corpus.validation[:other]
    foreign = load("python").text[:other]
    with progress(STARTS + 2, f"{merges} merges on {size} characters") as step:
        started = time.perf_counter()
        tokenizer = BPE.train(train, 256 + merges)
        train_seconds = time.perf_counter() - started
        step(1)
        started = time.perf_counter()
        ids = tokenizer.encode(unseen[:4_000])
        encode_seconds = time.perf_counter() - started
        texts = [train, unseen, foreign]
        trails = [replay(tokenizer, text) for text in texts]
        step(1)
        spread = [rate(trails[1], len(tokenizer.merges))]
        for k in range(1, STARTS):
            start = k * (len(corpus.train) - size) // (STARTS - 1)
            other_one = BPE.train(corpus.train[start:start + size], 256 + merges)
            spread.append(rate(replay(other_one, unseen), len(other_one.merges)))
            step(1)
        mixed = ["".join(rng.permutation(list(text))) for text in (train, unseen)]
        noise = BPE.train(mixed[0], 256 + merges)
        noisy = [replay(noise, text) for text in mixed]
        step(1)
    marks = [m for m in MARKS if m <= len(tokenizer.merges)]
    longest = sorted(tokenizer.pieces[256:], key=len, reverse=True)
    return Result(
        source=corpus.name, characters=size,
        rows=[[m, 256 + m, *(rate(trail, m) for trail in trails), bits(*trails[:2], m)]
              for m in marks],
        gains=[gain(trails[0], m) for m in [*marks[:-1], len(tokenizer.merges) - 1]],
        spread=spread, shuffled=[[m, bits(*noisy, m)] for m in marks],
        lengths=[[m, *(rate(trail, m) for trail in trails)]
                 for m in range(0, len(tokenizer.merges) + 1, 8)],
        first=[text_of(piece) for piece in tokenizer.pieces[256:272]],
        longest=[text_of(piece) for piece in longest[:6]],
        line=LINE, pieces=[tokenizer.decode([i]) for i in tokenizer.encode(LINE)],
        train_seconds=train_seconds, train_steps=sum(len(ids) for ids in trails[0]),
        encode_seconds=encode_seconds, unseen_bytes=len(unseen[:4_000].encode()),
        round_trip=tokenizer.decode(ids) == unseen[:4_000] and all(
            tokenizer.decode(tokenizer.encode(text[:500])) == text[:500] for text in texts))


def replay(tokenizer, text):
    """The ids of a text after 0, 1, 2, … merges, (T,) uint16 each."""
    ids = list(text.encode())
    trail = [np.array(ids, np.uint16)]
    for i, pair in enumerate(tokenizer.merges):
        ids = merge(ids, pair, 256 + i)
        trail.append(np.array(ids, np.uint16))
    return trail


def bits(seen, unseen, merges):
    """Bits a byte of unseen text: each token is priced by its share in the seen text (+ ½)."""
    counts = np.bincount(seen[merges], minlength=256 + merges) + 0.5
    return float(-np.log2(counts / counts.sum())[unseen[merges]].sum() / len(unseen[0]))


def gain(trail, merges):
    """[merges, T, V, n of the next merge, the n at which it would gain nothing]."""
    T, V = len(trail[merges]), 256 + merges
    return [merges, T, V, T - len(trail[merges + 1]), T / (V * math.log(V)) + 2]


def rate(trail, merges):
    """Bytes a token after so many merges."""
    return len(trail[0]) / len(trail[merges])


def text_of(piece):
    return piece.decode("utf-8", "replace")


def table(result):
    """One row for each number of merges."""
    head = ["merges", "V", "bytes a token: seen", "unseen", "Python", "bits a byte, unseen"]
    return [head] + [[m, v, *(f"{x:.2f}" for x in rest)] for m, v, *rest in result.rows]


def show(result):
    """Print what was learned."""
    print_table(table(result), f"{result.characters} characters of {result.source}")
    print_table([["merges", "T", "V", "next merge shortens by", "needed"],
                 *([m, f"{t:,}", v, n, f"{least:.1f}"] for m, t, v, n, least in result.gains)],
                "what the next merge gains on the text it learns from")
    print("bits a byte with bytes shuffled", *(f"{x:.2f}" for _, x in result.shuffled))
    print("first pieces  ", " ".join(map(repr, result.first[:10])))
    print_text("longest pieces " + " ".join(map(repr, result.longest[:4])))
    print("one line      ", "|".join(result.pieces))
    rate_ = result.unseen_bytes / result.encode_seconds / 1000
    print(f"training took {result.train_seconds:.1f} s, encoding runs at {rate_:.0f} kB/s; "
          "day 25 changes that")


def draw(result, path):
    """Left: bytes a token against merges, for the three texts. Right: bits a byte, and shuffled."""
    import matplotlib.pyplot as plt
    fig, (ax, ay) = plt.subplots(1, 2, figsize=(8.6, 4), width_ratios=[1.5, 1])
    merges = [row[0] for row in result.lengths]
    names = ["text it learned from", f"unseen {result.source.capitalize()}", "Python reference"]
    for j, (name, color) in enumerate(zip(names, ["#1b4965", "#2a9d8f", "#c8553d"]), 1):
        values = [row[j] for row in result.lengths]
        ax.plot(merges, values, color=color)
        ax.annotate(name, (merges[-1], values[-1]), (6, 0), textcoords="offset points",
                    color=color, va="center", fontsize=9)
    ax.set(xlabel="merges", ylabel="bytes a token", ylim=(1, None),
           xlim=(0, merges[-1] * 1.55), xticks=[m for m, *_ in result.rows if m != 32])
    ax.set_title("Tokens hold more, most on the text they came from", fontsize=10)
    marks = [row[0] for row in result.rows]
    ay.plot(marks, [x for _, x in result.shuffled], "s--", ms=4, color="#8a8a8a",
            label="bytes shuffled")
    ay.plot(marks, [row[-1] for row in result.rows], "o-", ms=4, color="#2a9d8f", label="as it is")
    ay.set(xlabel="merges", ylabel="bits a byte, unseen text", xticks=[m for m in marks if m != 32])
    ay.tick_params(axis="x", labelrotation=45)
    ay.set_title("Single tokens get cheaper", fontsize=10)
    ay.legend(fontsize=9)
    end = result.lengths[-1]
    fig.suptitle(f"{end[0]} merges put {end[1]:.1f} bytes into a token of the text they were "
                 f"learned from, {end[2]:.1f} into one of\nunseen text of its kind, {end[3]:.1f} "
                 "of another kind; without dependence between bytes nothing gets cheaper",
                 x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
