"""Day 27 · Attention that was never trained predicts Shakespeare, if its scores are scaled."""

import time
from dataclasses import dataclass

import numpy as np

from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.functions.attention import attention, attention_vjp
from llm.functions.probability import entropy
from llm.models.lookup import Lookup
from llm.models.ngram import NGram
from llm.tokens.chars import CharTokenizer

WIDTH = 4                                # characters of a key
SHARPNESS = [0.25, 0.5, 0.71, 1, 1.41, 2, 4]   # times q·k/√D; √D itself comes last
ORDERS = [1, 2, 3, 4, 5]                 # counted models; order 5 sees as much as the keys
COLOURS = ["#9ab6d3", "#4f86b8", "#123f6b"]


@dataclass(frozen=True)
class Result:
    corpus: str
    vocab_size: int
    uniform: float     # nats of a uniform guess
    width: int
    D: int
    queries: int
    sizes: list        # remembered characters
    unseen: list       # by size: share of the queries whose window is nowhere in the memory
    sharpness: list
    nats: list         # by sharpness, by size: mean −ln p of the next character
    best: list         # by size: the sharpness with the lowest loss
    listened: list     # by sharpness, by size: median of 1/Σw², the keys listened to
    counted: list      # by order, by size: the n-gram model of the same remembered text
    recent: float      # largest size, 8 characters, near ones worth more: the best of SHARPNESS
    spread: list       # [D, std of q·k, of q·k/√D, entropy of both's weights, slope of both]
    times: list        # [T, forward time / that of half the T, bytes of the weights]
    backward: float    # time of the backward / of the forward, largest T


def measure(fast, seed):
    rng = np.random.default_rng(seed)
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    V, train = tokenizer.vocab_size, tokenizer.encode(corpus.train)
    unread = tokenizer.encode(corpus.validation)
    sizes, queries = ([300, 3_000], 100) if fast else ([1_000, 10_000, 100_000], 600)
    ends = np.sort(rng.choice(np.arange(16, len(unread)), queries, replace=False))
    sharpness = [*SHARPNESS, float(np.sqrt(WIDTH * V))]
    nats, listened, counted, unseen = [], [], [], []
    with progress(len(sizes) * (len(sharpness) + 1), "looking up") as step:
        for size in sizes:
            memory = Lookup(train[-size:], WIDTH, V)
            column = [ask(memory, unread, ends, beta, step) for beta in sharpness]
            nats.append([loss for loss, _ in column])
            listened.append([keys for _, keys in column])
            counted.append([count(train[-size:], unread, ends, n, V) for n in ORDERS])
            known = {bytes(train[-i:][:WIDTH]) for i in range(WIDTH + 1, size + 1)}
            unseen.append(float(np.mean([bytes(unread[e - WIDTH:e]) not in known for e in ends])))
        recent = Lookup(train[-sizes[-1]:], 8, V, decay=0.8)
        near = min(ask(recent, unread, ends, beta, step)[0] for beta in (0.5, 0.71))
    times, backward = clock(rng, [64, 128, 256] if fast else [256, 512, 1024, 2048])
    best = [sharpness[int(np.argmin(column))] for column in nats]
    return Result(corpus.name, V, float(np.log(V)), WIDTH, WIDTH * V, queries, sizes, unseen,
                  sharpness, np.transpose(nats).tolist(), best,
                  np.transpose(listened).tolist(), np.transpose(counted).tolist(), near,
                  [scores_of(rng, D) for D in (4, 16, 64, 256, 1024)], times, backward)


def ask(memory, ids, ends, sharpness, step):
    """Mean nats of the characters at `ends`, and how many keys a query listens to."""
    p, keys = [], []
    for some in np.array_split(ends, max(1, len(ends) // 200)):
        out, weights = memory.predict(ids, some, sharpness)
        p.append(out[np.arange(len(some)), ids[some]])
        keys.append(1 / (weights * weights).sum(axis=-1))
    step(1)
    return (float(-np.log(np.maximum(np.concatenate(p), 1e-30)).mean()),
            float(np.median(np.concatenate(keys))))


def count(memory, ids, ends, order, V):
    """Mean nats of the counted model of the same text (day 06), Kneser–Ney from order 2 on."""
    model = NGram.fit(memory, order, V, "kneser-ney" if order > 1 else "interpolated")
    return float(-np.mean([np.log(model.distribution(ids[e - 8:e])[ids[e]]) for e in ends]))


def scores_of(rng, D):
    """Random queries meet 64 random keys: spread of scores, entropy and slope of the softmax."""
    q, k = rng.standard_normal((512, D)), rng.standard_normal((64, D))
    weights = [attention(q * factor, k, k)[1][3] for factor in (np.sqrt(D), 1)]
    return [D, float((q @ k.T).std()), float((q @ k.T).std() / np.sqrt(D)),
            *(float(entropy(w).mean()) for w in weights),
            *(float((w * (1 - w)).sum(axis=-1).mean()) for w in weights)]


def clock(rng, lengths):
    """[T, forward time over that of T/2, bytes of weights] and backward over forward; the
    fastest of 15, since other work on the machine only ever adds time."""
    seconds = {T: [] for T in [lengths[0] // 2, *lengths]}
    inputs = {T: rng.standard_normal((T, 64), dtype=np.float32) for T in seconds}
    for _ in range(15):
        for T, x in inputs.items():
            t0 = time.perf_counter()
            out, saved = attention(x, x, x)
            t1 = time.perf_counter()
            attention_vjp(out, *saved)
            seconds[T].append((t1 - t0, time.perf_counter() - t1))
    forward, backward = ({T: min(s[i] for s in seconds[T]) for T in seconds} for i in (0, 1))
    return ([[T, forward[T] / forward[T // 2], 4 * T * T] for T in lengths],
            backward[lengths[-1]] / forward[lengths[-1]])


def table(result):
    """Nats per character by score scale and memory; below, counting on the same memory."""
    rows = [["scores", *(f"{n:,} keys" for n in result.sizes), "heard"]]
    for beta, losses, keys in zip(result.sharpness, result.nats, result.listened):
        name = "q·k" if beta == result.sharpness[-1] else f"{beta:g}·q·k/√D"
        if beta not in (1.41, 4):                         # these two are in the figure only
            rows.append([name, *(f"{loss:.2f}" for loss in losses), f"{keys[-1]:,.0f}"])
    for order, losses in zip(ORDERS, result.counted):
        if order > 1:
            rows.append([f"{order}-gram", *(f"{loss:.2f}" for loss in losses), ""])
    return rows


def show(result):
    print_table(table(result), f"nats per character on unread {result.corpus}; a uniform guess "
                f"has {result.uniform:.2f}")
    for D, raw, scaled, _, _, flat, slope in result.spread:
        print(f"D {D:5d}: scores spread {raw:5.1f}, scaled {scaled:.2f}; slope of the softmax "
              f"{flat:.3f}, scaled {slope:.3f}")
    for T, ratio, size in result.times:
        print(f"T {T:5d}: {ratio:.1f} times the time of half the length, "
              f"{size / 1e6:.1f} MB of weights per head")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.8, 4.2), width_ratios=[1.5, 1])
    for colour, size, losses in zip(COLOURS, result.sizes, np.transpose(result.nats)):
        left.loglog(result.sharpness, losses, "o-", ms=3.5, color=colour)
        left.annotate(f"{size:,} keys", (result.sharpness[-1], losses[-1]), xytext=(5, 0),
                      textcoords="offset points", color=colour, va="center", fontsize=9)
    for nats, name in ((result.uniform, "uniform guess"),
                       (result.counted[2][-1], f"counted 3-gram of {result.sizes[-1]:,}")):
        left.axhline(nats, color="0.5", lw=0.8, ls=":")
        left.text(18, nats * 1.02, name, color="0.35", fontsize=8, ha="right", va="bottom")
    left.axvline(1, color="0.8", lw=0.8, zorder=0)
    left.text(1.04, 40, "q·k/√D", fontsize=9, color="0.35")
    left.text(result.sharpness[-1], 60, "q·k", fontsize=9, color="0.35", ha="center")
    left.set(xlabel="scores, as a multiple of q·k/√D", xlim=(0.22, 75), ylim=(1.7, 75),
             ylabel="nats per character")
    left.set_xticks([0.25, 0.5, 1, 2, 4, 18], ["¼", "½", "1", "2", "4", "18"])
    left.set_yticks([2, 3, 5, 10, 20, 40], ["2", "3", "5", "10", "20", "40"])
    left.minorticks_off()
    at = result.sharpness.index(1)
    left.set_title(f"Untrained attention: {result.nats[at][-1]:.2f} nats with √D,\n"
                   f"{result.nats[-1][-1]:.0f} without, worse than no model at all")
    D = [row[0] for row in result.spread]
    for i, colour, name in ((5, "#c2571a", "q·k"), (6, COLOURS[2], "q·k/√D")):
        slopes = [row[i] for row in result.spread]
        right.semilogx(D, slopes, "o-", ms=3.5, base=2, color=colour)
        right.annotate(name, (D[-2], slopes[-2]), xytext=(0, -14 if i == 6 else 8),
                       textcoords="offset points", color=colour, fontsize=9)
    right.set(xlabel="D", ylabel="Σ w(1 − w), the slope of the softmax", ylim=(0, 1.03))
    right.set_xticks(D, [str(n) for n in D])
    right.minorticks_off()
    right.set_title(f"At D = {D[-1]} the slope has shrunk\n"
                    f"{result.spread[-1][6] / result.spread[-1][5]:.0f}-fold without √D")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
