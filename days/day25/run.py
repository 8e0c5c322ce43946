"""Day 25 · The same ids as day 24, how much faster, and why remembering words pays."""

from dataclasses import dataclass

import numpy as np

from days.day25.timing import LINE, against_day_24, encoding, timed
from days.harness import main, print_table, print_text, progress, save, say
from llm.data.download import TextError
from llm.data.text import load_or_default
from llm.tokens.engine.split import all_ends, split
from llm.tokens.engine.words import Words
from llm.tokens.fast_bpe import FastBPE
from llm.tokens.files.gpt2 import load_gpt2

LINES = [LINE, "    for i in range(10):", "Ich heiße Ödön. 東京 👍"]


@dataclass(frozen=True)
class Result:
    """Everything the note and the figure say."""

    source: str             # which text
    size: int               # its bytes
    words: int              # how many words the rule of GPT-2 cuts it into
    distinct_words: int
    new: list               # [words read, share of words that were new since the last row]
    distinct_bytes: int     # of all distinct words together: S of the note
    trained: list           # [V, seconds to train, bytes a token, places merged]
    stages: list            # [step of encoding, nanoseconds a byte]
    anew: float             # nanoseconds a byte to merge every word, remembering none
    cold: float             # MB/s of encoding, the first time
    warm: float             # MB/s when every word is known
    batch: float            # MB/s of a batch of lines on two threads
    parts: float            # MB/s of the same in parts of 50,000 characters
    lines: int              # how many there are
    short: float            # microseconds for one line
    speedup_train: float    # day 24 / day 25, same text, same merges
    speedup_encode: float
    same_merges: bool
    same_ids: bool
    round_trip: bool
    gpt2: list              # [line, its pieces, its ids] with GPT-2's vocabulary, if it is here
    gpt2_rate: float        # bytes a token of GPT-2's vocabulary on this text; 0 without it


def measure(fast, seed):
    """Train, encode and compare; every time is a median, and nothing includes compilation."""
    corpus = load_or_default("shakespeare", say)
    text = corpus.text[:200_000] if fast else corpus.text
    sizes = (512, 1024) if fast else (4096, 32_000)
    warm_up = FastBPE.train("warm up", 260)
    warm_up.encode("compile")
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    with progress(4, "splitting, training") as step:
        ends = all_ends(data, "gpt2")
        numbers = Words().add(data, 0, ends)
        step(1)
        trained, tokenizers = [], []
        for vocabulary in sizes:
            seconds = timed(lambda v=vocabulary: tokenizers.append(
                FastBPE.train(text, v, min_count=1)), 1 if fast else 3)
            tokens = len(tokenizers[-1].encode(text))
            words = tokenizers[-1].encoder.caches[0]          # all distinct words, with their ids
            trained.append([vocabulary, seconds, len(data) / tokens,
                            words.size - int(words.token_starts[words.n])])
        step(1)
        tokenizer = tokenizers[-1]
        rates = encoding(tokenizer, text, data, ends, 1 if fast else 9)
        step(1)
        compared = against_day_24(text, *((2_000, 64, 1_000) if fast else (20_000, 256, 2_000)))
    return Result(
        source=corpus.name, size=len(data), words=len(ends),
        distinct_words=words.n, distinct_bytes=words.size, new=shares(numbers), trained=trained,
        round_trip=tokenizer.decode(tokenizer.encode(text)) == text, **rates, **compared,
        **with_gpt2(text))


def shares(numbers):
    """How many of the words were new, over stretches that grow by half."""
    first = np.maximum.accumulate(numbers)
    rows, start, stop = [], 0, 100
    while stop < len(numbers):
        rows.append([stop, float(first[stop] - (first[start] if start else -1)) / (stop - start)])
        start, stop = stop, stop * 3 // 2
    return rows


def with_gpt2(text):
    """A few lines as GPT-2 sees them; nothing without its vocabulary."""
    try:
        gpt2 = load_gpt2()
    except TextError as error:
        say(f"{error} Going on without GPT-2's vocabulary.")
        return {"gpt2": [], "gpt2_rate": 0.0}
    seen = [[line, [gpt2.decode([i]) for i in gpt2.encode(line)], gpt2.encode(line).tolist()]
            for line in LINES]
    return {"gpt2": seen, "gpt2_rate": len(text.encode()) / len(gpt2.encode(text))}


def table(result):
    """What was timed."""
    mb = result.size / 1e6
    return [["what", "result"],
            *([f"train {v:,} tokens on {mb:.1f} MB", f"{seconds:.2f} s"]
              for v, seconds, *_ in result.trained),
            ["encode it, every word new at first", f"{result.cold:.0f} MB/s"],
            ["encode it again, every word known", f"{result.warm:.0f} MB/s"],
            ["encode its lines as a batch, two threads", f"{result.batch:.0f} MB/s"],
            ["the same in parts of 50,000 characters", f"{result.parts:.0f} MB/s"],
            ["encode one line of 31 characters", f"{result.short:.0f} µs"],
            ["merging while encoding: each new word once", f"{result.stages[2][1]:.1f} ns a byte"],
            ["merging every word, remembering none", f"{result.anew:.1f} ns a byte"],
            ["training, day 24 / day 25", f"{result.speedup_train:.0f}×"],
            ["encoding, day 24 / day 25", f"{result.speedup_encode:.0f}×"]]


def show(result):
    """Print the table and what GPT-2 makes of some lines."""
    print_table(table(result), f"{result.source}: {result.words:,} words, "
                               f"{result.distinct_words:,} distinct")
    print("words:", "|".join(split(LINES[0])))
    for _, pieces, ids in result.gpt2:
        print_text(f"GPT-2: {'|'.join(pieces)} {ids[:6]} …")


def draw(result, path):
    """Left: the share of words that are new. Right: where the time of encoding goes."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.9), width_ratios=[1, 1.1])
    read, new = zip(*result.new)
    left.loglog(read, [100 * share for share in new], color="#1b4965", marker="o", ms=3)
    left.set(xlabel="words read so far", ylabel="words never seen before, %",
             yticks=[1, 3, 10, 30, 100], yticklabels=["1", "3", "10", "30", "100"])
    left.minorticks_off()
    names, times = zip(*result.stages, ["control: merge\nevery word", result.anew])
    bars = right.barh(names, times, color=["#2a9d8f"] * len(result.stages) + ["#c8553d"],
                      height=0.6)
    right.bar_label(bars, fmt="%.1f", padding=4)
    right.invert_yaxis()
    right.set(xlabel="nanoseconds a byte", xlim=(0, max(times) * 1.2))
    fig.suptitle(f"Near the end of {result.words / 1e6:.1f} million words only "
                 f"{100 * new[-1]:.1f} % are new.\nMerging new words alone takes "
                 f"{times[2]:.0f} ns a byte, merging every word {result.anew:.0f}",
                 x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
