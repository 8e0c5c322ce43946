"""Day 08 · One model from T = 0 to 2: what it writes, how unsure it is, how many words are real."""

import math
import re
import time
from dataclasses import dataclass

import numpy as np

from days.harness import main, print_table, print_text, progress, save, say
from llm.data.text import load_or_default
from llm.functions.probability import cross_entropy, entropy
from llm.generate.sample import gumbel_sample, sample, tempered
from llm.models.ngram import NGram
from llm.tokens.chars import CharTokenizer

BIT = math.log(2)
words = lambda text: re.findall(r"[a-z]+", text.lower())
ORDER = 7
PROMPT = "The king "
SHOWN = (0, 0.5, 1, 1.5, 2)
CURVE = [round(0.1 * i, 1) for i in range(2, 21)]


@dataclass(frozen=True)
class Result:
    corpus: str
    order: int
    contexts: int         # validation contexts behind `curve`
    written: int          # characters written at each temperature
    pages: int            # texts written at each temperature
    rows: list            # T, bits along the own text, real words, distinct words, a text
    distinct: list        # by T: the share of distinct words of each text
    short: float          # of the real words at the highest T: the share of at most three letters
    unseen: list          # real and distinct words, means over all as long pieces of unseen text
    pieces: list          # of these: how many, then spread, least and most of the distinct share
    curve: list           # T, entropy over one set of contexts, cross-entropy of the truth (bits)
    crossing: float       # T where entropy and cross-entropy meet, interpolated
    cost: list            # V, time of a Gumbel draw / time of an inverse-CDF draw


def measure(fast, seed):
    rng = np.random.default_rng(seed)
    corpus = load_or_default("shakespeare", say)
    train = corpus.train[:300_000 if fast else None]
    validation = corpus.validation[:30_000 if fast else None]
    tokenizer = CharTokenizer.from_text(corpus.text)
    model = NGram.fit(tokenizer.encode(train), ORDER, tokenizer.vocab_size)
    known = set(words(train))
    prompt, count = tokenizer.encode(PROMPT), 400 if fast else 4000
    logits, targets = held_out(model, tokenizer.encode(validation), 300 if fast else 4000, rng)
    curve = [[t, float(entropy(tempered(logits, t)).mean() / BIT),
              float(cross_entropy(logits / t, targets) / BIT)] for t in CURVE]
    rows, distinct, pages = [], [], 1 if fast else 3
    with progress(len(SHOWN) * pages, "writing") as step:
        for t in SHOWN:
            texts, bits = [], []
            for _ in range(pages):
                ids, bit = write(model, prompt, count, t, rng)
                texts.append(tokenizer.decode(ids))
                bits.append(bit)
                step()
            found = [shares(text, known) for text in texts]
            distinct.append([share for _, share in found])
            rows.append([t, float(np.mean(bits)), *np.mean(found, axis=0).tolist(), texts[0][:500]])
    last = [word for text in texts for word in words(text)[1:-1] if word in known]
    human = np.array([shares(validation[i:i + count], known)
                      for i in range(0, len(validation) - count + 1, count)])
    return Result(
        corpus=corpus.name, order=ORDER, contexts=len(targets), written=count,
        pages=pages, rows=rows, distinct=distinct,
        short=sum(len(word) <= 3 for word in last) / max(len(last), 1),
        unseen=human.mean(axis=0).tolist(),
        pieces=[len(human), *(float(f(human[:, 1])) for f in (np.std, np.min, np.max))],
        curve=curve,
        crossing=float(np.interp(0, [h - c for _, h, c in curve], CURVE)),
        cost=[[v, cost(v, rng)] for v in (tokenizer.vocab_size, 50257)])


def held_out(model, ids, n, rng):
    """log P at n random places of the validation ids (n, V), and what came next (n,)."""
    places = rng.integers(ORDER, len(ids), n)
    p = np.stack([model.distribution(ids[i - ORDER + 1:i]) for i in places])
    return np.log(p), ids[places]


def write(model, prompt, n, temperature, rng):
    """Draw n ids one after another; return them and their mean entropy in bits."""
    ids, total = prompt.tolist(), 0.0
    for _ in range(n):
        logits = np.log(model.distribution(np.array(ids[-ORDER + 1:])))
        total += float(entropy(tempered(logits, temperature)))
        ids.append(sample(logits, rng, temperature))
    return np.array(ids[len(prompt):]), total / n / BIT


def shares(text, known):
    """Which parts of its words occur in the training text, and are distinct."""
    found = words(text)[1:-1] or [""]    # the first and the last word may be cut
    return [sum(word in known for word in found) / len(found), len(set(found)) / len(found)]


def cost(v, rng, repeats=9):
    """Time of one Gumbel draw over that of one inverse-CDF draw, V logits; median of several."""
    logits, marks = np.tile(rng.normal(size=v), (8, 1)), [time.perf_counter()]
    for draw_one in (sample, gumbel_sample) * repeats:
        draw_one(logits, rng)
        marks.append(time.perf_counter())
    times = np.diff(marks)
    return float(np.median(times[1::2] / times[::2]))


def table(result):
    rows = [["T", "bits a character", "real words", "distinct words", "it writes"]]
    for t, bits, real, distinct, text in result.rows:
        start = " ".join((PROMPT + text).split())[:90].replace("`", "'")
        rows.append([t, f"{bits:.2f}", f"{real:.0%}", f"{distinct:.0%}", f"`{start}`"])
    return rows


def show(result):
    print_table(table(result), f"one model of {result.corpus} (runs of {result.order} characters)")
    print("unseen text: {:.0%} real, {:.0%} distinct, means of {} pieces as long".format(
        *result.unseen, result.pieces[0]))
    print_table([["T", "entropy, bits", "cross-entropy of the truth"],
                 *([t, f"{h:.3f}", f"{c:.3f}"] for t, h, c in result.curve[::3])],
                f"{result.contexts} unseen contexts; the two meet at T = {result.crossing:.2f}")
    print_text("time of a Gumbel draw over that of an inverse-CDF draw: "
               + ", ".join(f"{ratio:.1f} at V = {v}" for v, ratio in result.cost))


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2)
    blue, red, grey = "#1f4e79", "#c0392b", "#7f8c8d"
    ts, entropies, crosses = zip(*result.curve)
    left.plot(ts, crosses, color=red)
    left.plot(ts, entropies, color=blue)
    left.plot(result.crossing, np.interp(result.crossing, ts, entropies), "o", color="black", ms=5)
    left.text(0.48, crosses[3] + 0.1, "cross-entropy\nof the truth", color=red, va="bottom")
    left.text(0.9, entropies[7] - 0.35, "the model's\nown entropy", color=blue, va="top")
    left.set(xlabel="temperature", ylabel="bits per character", ylim=(0, None), xlim=(0, 2),
             title="Unseen text")
    ts, _, real, distinct, _ = zip(*result.rows)
    right.plot(ts, [100 * share for share in real], color=blue, marker="o", ms=4)
    right.plot(ts, [100 * share for share in distinct], color=grey, marker="o", ms=4)
    for share, shade in zip(result.unseen, (blue, grey)):
        right.axhline(100 * share, color=shade, lw=0.8, ls=":")
    right.axhspan(100 * result.pieces[2], 100 * result.pieces[3], color=grey, alpha=0.15, lw=0)
    right.text(1.55, 100 * real[3] + 2, "real", color=blue, va="bottom")
    right.text(0.6, 100 * distinct[1] - 2, "distinct", color=grey, va="top")
    right.set(xlabel="temperature", ylabel="% of the words written", ylim=(0, 104), xticks=ts,
              title="Its own text (dotted, band: unseen)")
    title = f"Unseen text is least surprising where the curves meet, at T = {result.crossing:.2f}"
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
