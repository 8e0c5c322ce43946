"""Day 07 · How surprising a text is: entropies by order, a known entropy met, a stable softmax."""

import math
from dataclasses import dataclass

import numpy as np

from days.day07.controls import against_exact, sources, stability
from days.harness import main, print_table, progress, save, say
from llm.data.stories import GRAMMAR, stories
from llm.data.text import load_or_default
from llm.functions.estimates import conditional_entropies
from llm.tokens.chars import CharTokenizer

BIT = math.log(2)
short = lambda n: f"{n / 1e6:.1f}M" if n >= 1e6 else f"{n / 1e3:.0f}k"
SHOWN = (0, 1, 2, 3, 4, 6, 10, 20)
FAR = 60  # the longest context tried on the stories, which remember over whole sentences


@dataclass(frozen=True)
class Result:
    corpus: str
    vocabulary: int
    ceiling: float         # log2 V: bits per character of a uniform guess
    sizes: list            # characters of the text used, smallest first
    bits: list             # bits[size][order], plug-in
    lonely: list           # lonely[size][order], share of positions whose context occurs once
    tenths: list           # rows [order 10, order 20]: plug-in bits of each tenth of the text
    repeats: list          # the same at order 20, split: [in indents, at a speaker's name, rest]
    story_sizes: list
    story_bits: list       # the same for the stories
    story_nats: float      # exact entropy of a story
    story_length: float    # exact expected characters of a story
    story_bpc: float       # exact bits per character
    sampled: list          # rows: stories, mean −log P in nats, standard error, errors off
    mean_of_ratios: float  # E[−log P / len] in bits: not the entropy per character
    stability: list        # rows: scale of the logits, finite rows naive, finite rows ours, error


def measure(fast, seed):
    rng = np.random.default_rng(seed)
    corpus = load_or_default("shakespeare", say)
    text = corpus.text[:200_000] if fast else corpus.text
    ids = (tokenizer := CharTokenizer.from_text(text)).encode(text)
    parts = [ids[:n] for n in (len(ids) // 100, len(ids) // 10, len(ids))]
    tale = stories(200 if fast else 1000, rng)
    tale_ids = CharTokenizer.from_text(tale).encode(tale)
    tales = [tale_ids[:n] for n in (len(tale) // 10, len(tale))]
    tenths = [ids[i * len(parts[1]):(i + 1) * len(parts[1])] for i in range(10)]
    bits, lonely, last = [], [], max(SHOWN) + 1
    jobs = [(p, last) for p in parts] + [(t, FAR + 1) for t in tales] + [(p, last) for p in tenths]
    with progress(len(jobs), "counting") as step:
        for part, orders in jobs:
            h, alone = conditional_entropies(part, orders)
            bits.append((h / BIT).tolist())
            lonely.append(alone.tolist())
            step()
    drawn = [GRAMMAR.sample(rng) for _ in range(1000 if fast else 10_000)]
    nats = np.array([surprise for _, surprise in drawn])
    lengths = np.array([len(story) for story, _ in drawn])
    return Result(
        corpus=corpus.name, vocabulary=tokenizer.vocab_size,
        ceiling=math.log2(tokenizer.vocab_size), sizes=[len(ids) for ids in parts],
        bits=bits[:3], lonely=lonely[:3], story_sizes=[len(ids) for ids in tales],
        tenths=[[b[10], b[20]] for b in bits[5:]], story_bits=bits[3:5],
        repeats=[sources(text[i * len(parts[1]):(i + 1) * len(parts[1])], 20) for i in range(10)],
        story_nats=GRAMMAR.entropy(),
        story_length=GRAMMAR.expected_length(), story_bpc=GRAMMAR.entropy_per_character() / BIT,
        sampled=[against_exact(nats[:n]) for n in (100, 1000, 10_000) if n <= len(nats)],
        mean_of_ratios=float((nats / lengths).mean() / BIT),
        stability=[stability(scale, rng) for scale in (1, 10, 30, 100, 1000)])


def table(result):
    first, last = result.bits[0], result.bits[-1]
    rows = [["order", f"{result.corpus} {short(result.sizes[0])}",
             f"{result.corpus} {short(result.sizes[-1])}", "seen once",
             f"stories {short(result.story_sizes[-1])}"]]
    for k in SHOWN:
        rows.append([k, f"{first[k]:.3f}", f"{last[k]:.3f}", f"{result.lonely[-1][k]:.0%}",
                     f"{result.story_bits[-1][k]:.3f}"])
    return rows


def show(result):
    print_table(table(result), "plug-in bits per character by order (characters of context)")
    print(f"bits a character: {result.ceiling:.3f} if all {result.vocabulary} are equally likely, "
          f"{result.story_bpc:.3f} for\nwho knows the grammar of the stories exactly")
    print_table([["stories drawn", "mean −log P", "standard error", "errors off"],
                 *([n, f"{mean:.3f}", f"{error:.3f}", f"{off:+.2f}"]
                   for n, mean, error, off in result.sampled)],
                f"exact entropy of a story: {result.story_nats:.3f} nats")
    print_table([["logits ×", "finite rows, naive", "ours", "our largest error"],
                 *([scale, f"{naive:.0%}", f"{ours:.0%}", f"{error:.1e}"]
                   for scale, naive, ours, error in result.stability)], "softmax in float32")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, sharey=True)
    shades = ("#9ecae1", "#4292c6", "#08306b")
    left.axhline(result.ceiling, color="grey", lw=0.8, ls=":")
    left.text(12, result.ceiling * 0.93, f"log₂ {result.vocabulary}: uniform", va="top")
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    on_line = {"ha": "center", "va": "center", "bbox": box}
    for n, bits, shade in zip(result.sizes, result.bits, shades):
        left.plot(bits, color=shade, marker="o", ms=3)
        left.text(10, bits[10], short(n), color=shade, **on_line)
    left.set_title(f"{result.corpus.capitalize()}: the truth is not known", fontsize=10)
    left.set_ylabel("bits per character, counted")
    for n, bits, shade in zip(result.story_sizes, result.story_bits, shades[1:]):
        right.plot(bits, color=shade, marker="o", ms=2)
        right.text(50, bits[50], short(n), color=shade, **on_line)
    right.axhline(result.story_bpc, color="#c0392b", lw=1)
    right.text(0, result.story_bpc * 0.93, f"exact: {result.story_bpc:.3f}", va="top")
    right.set_title("Stories: the estimates sink below the truth", fontsize=10)
    for axes in (left, right):
        axes.set(xlabel="order: characters of context", yscale="log")
        axes.set_yticks([0.001, 0.01, 0.1, 1, 6], ["0.001", "0.01", "0.1", "1", "6"])
        axes.minorticks_off()
    claim, floor = result.story_bits[-1][FAR], result.story_bpc
    fig.suptitle(f"Given {FAR} characters, counting calls the stories less surprising "
                 f"({claim:.3f} bits) than they are ({floor:.3f})", x=0.01, ha="left", fontsize=10)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
