"""Day 26 · Three tokenizers: what a token holds as V grows, and what they do to digits."""

from dataclasses import dataclass

import numpy as np

from days.day26.pathology import dense, joined, numbers
from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.tokens.fast_bpe import FastBPE
from llm.tokens.unigram import Unigram
from llm.tokens.wordpiece import WordPiece

LINES = ["unhappily, 1234 + 5678", "    return x_1", "naïve 東京"]
SEEDS = (1.5, 2, 3, 4, 6)       # how many candidates Unigram starts from, for each piece wanted
SCORES = ("gain", "frequency", "ratio")
PARTS = 20                      # of the text that is reported, for the spread of a difference


@dataclass(frozen=True)
class Result:
    """Everything the note and the figure say."""

    source: str             # which text; trained on its first nine tenths
    held: list              # bytes of the two halves of the rest: to choose on, to report
    rows: list              # [V, bytes a token of BPE, Unigram, WordPiece, bits a byte of two,
    #                       difference of these, its standard error over parts of the text]
    seeds: list             # [V, candidates / pieces, bits a byte: training text, choosing, report]
    rules: list             # [V, score, bytes a token, bits a byte: training text, reported, less
    #                       those of "frequency", standard error]: WordPiece, white space is free
    blank: float            # share of the bytes that are white space, which WordPiece drops
    dense: list             # bytes a token of the three at the middle V, white space not counted
    cuts: list              # [line, its pieces by BPE, Unigram, WordPiece] at the middle V
    random: list            # [alpha, three sampled cuts of one word]
    digits: list            # [cut such as "2+2", share] of GPT-2's four-digit numbers
    aligned: float          # share of sums a + b = c whose three numbers GPT-2 cuts alike


def measure(fast, seed):
    """Train the three at each size; everything is counted on text they have not seen."""
    corpus, rng = load_or_default("shakespeare", say), np.random.default_rng(seed)
    train, held, times = corpus.train, corpus.validation, SEEDS
    sizes = (1000, 4000, 8000, 16_000)
    if fast:
        train, held, sizes, times = train[:150_000], held[:30_000], (600, 800, 1000), (2, 4)
    middle, rows, seeds, rules, pieces = sizes[-2], [], [], [], {}
    choosing, report = held[:len(held) // 2], held[len(held) // 2:]
    with progress(len(sizes) * (1 + len(times)) + len(SCORES), "training") as step:
        for score in SCORES:                  # a smaller vocabulary is a larger one's beginning
            pieces[score] = wordpiece(train, sizes[-1] if score == "gain" else middle, score)
            step(1)
        for size in sizes:
            bpe, tried = FastBPE.train(train, size), []
            step(1)
            for many in times:
                uni = unigram(train, size, many)
                prices = price(uni, train)
                seeds.append([size, many, *(bits_a_byte(uni, prices, t)
                                            for t in (train, choosing, report))])
                tried.append((seeds[-1][3], many, uni, prices))
                step(1)
            _, _, uni, prices = min(tried, key=lambda row: row[0])
            word = cut_short(pieces["gain"], size)
            rows.append([size, *(bytes_a_token(t, report) for t in (bpe, uni, word)),
                         *compare((bpe, price(bpe, train)), (uni, prices), report)])
            if size <= middle:
                rules += by_score({score: cut_short(t, size) for score, t in pieces.items()},
                                  train, report)
            if size == middle:
                three = bpe, uni, word
    cuts = [[line, *(joined(t, t.encode(line)) for t in three)] for line in LINES]
    drawn = [[alpha, [joined(three[1], three[1].sample(" unhappily", alpha, rng))
                      for _ in range(3)]] for alpha in (0.0, 0.1, 0.3)]
    return Result(corpus.name, [len(t.encode()) for t in (choosing, report)], rows, seeds, rules,
                  1 - len("".join(held.split())) / len(held), [dense(t, report) for t in three],
                  cuts, drawn, **numbers())


def unigram(text, size, seeds=4):
    """A Unigram tokenizer on the words of GPT-2's rule, so that only the algorithm differs."""
    return Unigram.train(text, size, rule="gpt2", seeds=seeds)


def wordpiece(text, size, score="gain"):
    """A WordPiece tokenizer that keeps upper case, as the others do."""
    return WordPiece.train(text, size, lower=False, score=score)


def cut_short(tokenizer, size):
    """The first `size` pieces, which are what training would have learned for this size."""
    return WordPiece(tokenizer.pieces[:size], bert=tokenizer.bert)


def bytes_a_token(tokenizer, text):
    """How many bytes of text there are to a token."""
    return len(text.encode()) / len(tokenizer.encode(text))


def price(tokenizer, train):
    """Bits for each id, if ids are drawn with their shares in the training text (counts + ½)."""
    counts = np.bincount(tokenizer.encode(train), minlength=tokenizer.vocab_size) + 0.5
    return -np.log2(counts / counts.sum())


def bits_a_byte(tokenizer, prices, text):
    """What a text costs at these prices."""
    return float(prices[tokenizer.encode(text)].sum()) / len(text.encode())


def compare(one, other, text):
    """Bits a byte of two tokenizers, the difference, and its standard error over PARTS parts."""
    ends = np.linspace(0, len(text), PARTS + 1).astype(int).tolist()
    parts = [text[a:b] for a, b in zip(ends, ends[1:])]
    gaps = [bits_a_byte(*one, part) - bits_a_byte(*other, part) for part in parts]
    bits = [bits_a_byte(*each, text) for each in (one, other)]
    return [*bits, bits[0] - bits[1], float(np.std(gaps, ddof=1) / PARTS**0.5)]


def by_score(tokenizers, train, text):
    """The rows of `rules` for one V; tokenizers {score: WordPiece}."""
    prices = {score: price(t, train) for score, t in tokenizers.items()}
    usual = tokenizers["frequency"], prices["frequency"]
    for score, tokenizer in tokenizers.items():
        bits, _, gap, error = compare((tokenizer, prices[score]), usual, text)
        yield [tokenizer.vocab_size, score, bytes_a_token(tokenizer, text),
               bits_a_byte(tokenizer, prices[score], train), bits, gap, error]


def table(result):
    """What a token holds, and what it costs."""
    return [["V", "BPE", "Unigram", "WordPiece", "bits: BPE", "bits: Unigram", "BPE − Unigram"],
            *([f"{v:,}", *(f"{x:.2f}" for x in row[:3]), *(f"{x:.3f}" for x in row[3:5]),
               f"{row[5]:+.3f} ± {row[6]:.3f}"] for v, *row in result.rows)]


def show(result):
    """Print the table, some cuts and GPT-2's digits."""
    print_table(table(result), f"{result.source}, unseen text: bytes a token; bits a byte")
    print_table([["V", "candidates / pieces", "bits: training text", "choosing", "report"],
                 *([v, many, *(f"{x:.3f}" for x in bits)] for v, many, *bits in result.seeds)],
                "Unigram by how many pieces it starts from")
    print_table([["V", "score", "bytes a token", "bits: training text", "report",
                  "less frequency's", "±"],
                 *([v, score, *(f"{x:.3f}" for x in row)] for v, score, *row in result.rules)],
                "WordPiece by its score; white space costs nothing here")
    for _, *cuts in result.cuts:
        for name, cut in zip(("BPE", "Unigram", "WordPiece"), cuts):
            print(f"{name:>9}  {cut}")
    for alpha, cuts in result.random:
        print(f"  sampled, alpha {alpha}: ", "   ".join(cuts))
    if result.digits:
        print("GPT-2 cuts four digits as", ", ".join(f"{how} {s:.0%}" for how, s in result.digits))
        print(f"and all three numbers of a sum alike in {result.aligned:.0%} of sums")


def draw(result, path):
    """Left: Unigram's bits less BPE's. Right: bits of WordPiece by its score."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4))
    bpe = {row[0]: row[4] for row in result.rows}
    sizes = list(bpe)
    times = sorted({row[1] for row in result.seeds})
    for many, color in zip(times, plt.cm.viridis(np.linspace(0, 0.85, len(times)))):
        gaps = [row[4] - bpe[row[0]] for row in result.seeds if row[1] == many]
        left.plot(sizes, gaps, "o-", ms=4, color=color, label=f"starts from {many:g} × V pieces")
    left.axhline(0, color="#555555", lw=1)
    left.text(sizes[0], 0, "BPE", va="bottom", color="#555555")
    left.set(ylabel="bits a byte, Unigram less BPE")
    left.set_title("unseen text: below the line Unigram is better", fontsize=10)
    left.legend(fontsize=8)
    for score, color in zip(SCORES, ("#c1440e", "#1b4965", "#8a8a8a")):
        rows = [row for row in result.rules if row[1] == score]
        for j, style, what in ((4, "o-", "unseen"), (3, "o:", "training text")):
            right.plot([row[0] for row in rows], [row[j] for row in rows], style, ms=4,
                       color=color, label=f"{score}, {what}")
    right.set(ylabel="bits a byte, white space is free")
    right.set_title("WordPiece by its score", fontsize=10)
    right.legend(fontsize=7, labelspacing=0.3, loc="center left", bbox_to_anchor=(0, 0.62))
    for ax, ticks in ((left, sizes), (right, sizes[:-1])):
        ax.set(xscale="log", xlabel="ids in the vocabulary", xticks=ticks,
               xticklabels=[f"{v:,}" for v in ticks], xlim=(0.85 * ticks[0], 1.18 * ticks[-1]))
        ax.minorticks_off()
    rows = {row[1]: row for row in result.rules[-len(SCORES):]}
    seen = rows["gain"][3] - rows["frequency"][3]
    fig.suptitle(f"Bits a byte: the start decides how Unigram ends with {sizes[-1]:,} ids; with "
                 f"{ticks[-1]:,} WordPiece's gain is\n{seen:+.3f} bits from frequency on its "
                 f"training text and {rows['gain'][5]:+.3f} on unseen text",
                 x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
