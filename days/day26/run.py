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
SEEDS = (2, 4, 20)       # how many candidates Unigram starts from, for each piece wanted


@dataclass(frozen=True)
class Result:
    """Everything the note and the figure say."""

    source: str             # which text; trained on its first nine tenths
    held: int               # bytes of the last tenth, on which everything is measured
    rows: list              # [V, bytes a token of BPE, Unigram, WordPiece, bits a byte of two]
    blank: float            # share of the bytes that are white space, which WordPiece drops
    dense: list             # bytes a token of the three at the middle V, white space not counted
    rules: list             # [score, bytes a token] of WordPiece trained by each score, middle V
    seeds: list             # [candidates / pieces, bits a byte: training text, held-out], largest V
    cuts: list              # [line, its pieces by BPE, Unigram, WordPiece] at the middle V
    random: list            # [alpha, three sampled cuts of one word]
    digits: list            # [cut such as "2+2", share] of GPT-2's four-digit numbers
    aligned: float          # share of sums a + b = c whose three numbers GPT-2 cuts alike


def measure(fast, seed):
    """Train the three at each size; everything is counted on text they have not seen."""
    corpus, rng = load_or_default("shakespeare", say), np.random.default_rng(seed)
    train, held = corpus.train, corpus.validation
    sizes = (1000, 2000, 4000, 8000, 16_000)
    if fast:
        train, held, sizes = train[:150_000], held[:30_000], (600, 800, 1000)
    middle, rows = sizes[-2], []
    with progress(2 * len(sizes) + 3 + len(SEEDS), "training") as step:
        largest = wordpiece(train, sizes[-1])              # a smaller one is its beginning
        step(1)
        for size in sizes:
            three = []
            for make in (FastBPE.train, unigram):
                three.append(make(train, size))
                step(1)
            three.append(WordPiece(largest.pieces[:size], bert=largest.bert))
            rows.append([size, *(bytes_a_token(t, held) for t in three),
                         *(bits_a_byte(t, train, held) for t in three[:2])])
            if size == middle:
                bpe, uni, word = three
        rules = [["gain", rows[-2][3]]]
        for score in ("frequency", "ratio"):
            rules.append([score, bytes_a_token(wordpiece(train, middle, score), held)])
            step(1)
        seeds = []
        for many in SEEDS:
            tokenizer = unigram(train, sizes[-1], many)
            seeds.append([many, *(bits_a_byte(tokenizer, train, t) for t in (train, held))])
            step(1)
    cuts = [[line, *(joined(t, t.encode(line)) for t in (bpe, uni, word))] for line in LINES]
    drawn = [[alpha, [joined(uni, uni.sample(" unhappily", alpha, rng)) for _ in range(3)]]
             for alpha in (0.0, 0.1, 0.3)]
    return Result(corpus.name, len(held.encode()), rows, 1 - len("".join(held.split())) / len(held),
                  [dense(t, held) for t in (bpe, uni, word)], rules, seeds, cuts, drawn,
                  **numbers(rng, 500 if fast else 5000))


def unigram(text, size, seeds=4):
    """A Unigram tokenizer on the words of GPT-2's rule, so that only the algorithm differs."""
    return Unigram.train(text, size, rule="gpt2", seeds=seeds)


def wordpiece(text, size, score="gain"):
    """A WordPiece tokenizer that keeps upper case, as the others do."""
    return WordPiece.train(text, size, lower=False, score=score)


def bytes_a_token(tokenizer, text):
    """How many bytes of text there are to a token."""
    return len(text.encode()) / len(tokenizer.encode(text))


def bits_a_byte(tokenizer, train, text):
    """What tokens cost that are drawn one by one, with their shares in the training text."""
    counts = np.bincount(tokenizer.encode(train), minlength=tokenizer.vocab_size) + 0.5
    return -float(np.log2(counts / counts.sum())[tokenizer.encode(text)].sum()) / len(text.encode())


def table(result):
    """What a token holds, and what it costs."""
    return [["V", "BPE", "Unigram", "WordPiece", "bits: BPE", "bits: Unigram"],
            *([f"{v:,}", *(f"{x:.2f}" for x in row[:3]), *(f"{x:.3f}" for x in row[3:])]
              for v, *row in result.rows)]


def show(result):
    """Print the table, some cuts and GPT-2's digits."""
    print_table(table(result), f"{result.source}, unseen tenth: bytes a token; bits a byte")
    for _, *cuts in result.cuts:
        for name, cut in zip(("BPE", "Unigram", "WordPiece"), cuts):
            print(f"{name:>9}  {cut}")
    for alpha, cuts in result.random:
        print(f"  sampled, alpha {alpha}: ", "   ".join(cuts))
    if result.digits:
        print("GPT-2 cuts four digits as", ", ".join(f"{how} {s:.0%}" for how, s in result.digits))
        print(f"and all three numbers of a sum alike in {result.aligned:.0%} of sums")


def draw(result, path):
    """Left: bytes a token against V. Right: how GPT-2 cuts four digits."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.9), width_ratios=[1.25, 1])
    sizes = [row[0] for row in result.rows]
    for j, (name, color) in enumerate((("BPE", "#1b4965"), ("Unigram", "#c1440e"),
                                       ("WordPiece, no white space", "#8a8a8a")), 1):
        left.plot(sizes, [row[j] for row in result.rows], "o-", ms=4, color=color, label=name)
    left.set(xscale="log", xlabel="ids in the vocabulary", ylabel="bytes a token, unseen text",
             xticks=sizes, xticklabels=[f"{v:,}" for v in sizes])
    left.minorticks_off()
    left.legend()
    right.barh([how for how, _ in result.digits], [100 * s for _, s in result.digits],
               color="#2a9d8f", height=0.6)
    for i, (_, share) in enumerate(result.digits):
        right.text(100 * share, i, f" {100 * share:.0f}")
    right.invert_yaxis()
    right.set(xlabel="% of the numbers 1000 … 9999", ylabel="GPT-2's cut, in digits", xlim=(0, 62))
    size, bpe, uni, *_ = result.rows[-2]
    fig.suptitle(f"With {size:,} ids a token of BPE holds {bpe:.2f} bytes, of Unigram {uni:.2f}; "
                 f"GPT-2 cuts\nall three numbers of a sum alike in only {result.aligned:.0%} "
                 "of sums of four-digit numbers", x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
