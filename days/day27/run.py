"""Day 27 · Attention that was never trained predicts Shakespeare, if its scores are scaled."""

import time
from dataclasses import dataclass

import numpy as np

from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.functions.attention import attention, attention_vjp
from llm.functions.probability import entropy, softmax
from llm.models.lookup import Lookup, windows
from llm.models.ngram import NGram
from llm.tokens.chars import CharTokenizer

WIDTH = 4                                # characters of a key
SHARPNESS = [0.25, 0.35, 0.5, 0.6, 0.71, 0.85, 1, 1.41, 2, 4]   # times q·k/√D; √D is added last
SHOWN = {0.25, 0.5, 0.71, 1, 2}          # rows of the table; the others are in the figure only
ORDERS = [1, 2, 3, 4, 5]                 # counted models; order 5 sees as much as the keys
DECAYS = [0.4, 0.5, 0.6, 0.7, 0.8]       # what a character is worth beside the one after it
COLOURS = ["#9ab6d3", "#4f86b8", "#123f6b"]


@dataclass(frozen=True)
class Result:
    corpus: str
    vocab_size: int
    uniform: float     # nats of a uniform guess
    width: int
    D: int
    queries: int       # for choosing the scale, and as many others for reporting
    sizes: list        # remembered characters
    unseen: list       # by size: share of the queries whose window is nowhere in the memory
    sharpness: list
    nats: list         # by sharpness, by size: mean −ln p of the next character, reporting
    errors: list       # its standard error over the queries
    chosen: list       # by size: the sharpness with the lowest loss on the queries for choosing
    best: list         # by size: the one with the lowest loss on those for reporting
    listened: list     # by sharpness, by size: median of 1/Σw², the keys listened to
    counted: list      # by order, by size: the n-gram model of the same remembered text
    ahead: list        # by order: its loss less the chosen look-up's, largest size; [mean, error]
    recent: list       # largest size, 8 characters: chosen decay and sharpness, loss, error
    real: list         # scores of real windows: mean, spread, predicted; spread if all as likely
    spread: list       # [D, std of q·k, of q·k/√D, entropy of both's weights, slope of both]
    times: list        # [T, forward time / that of half the T, bytes of the weights]
    backward: float    # time of the backward / of the forward, largest T
    softmax: float     # share of the softmax in the forward, largest T
    same: float        # forward time where q and k are one array / that of two, largest T


def measure(fast, seed):
    rng = np.random.default_rng(seed)
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    V, train = tokenizer.vocab_size, tokenizer.encode(corpus.train)
    unread = tokenizer.encode(corpus.validation)
    sizes, queries = ([300, 3_000], 100) if fast else ([1_000, 10_000, 100_000], 600)
    middle = len(unread) // 2
    choosing, ends = (np.sort(rng.choice(np.arange(a, b), queries, replace=False))
                      for a, b in ((16, middle), (middle, len(unread))))
    sharpness = [*SHARPNESS, float(np.sqrt(WIDTH * V))]
    losses, listened, counted, unseen, chosen = [], [], [], [], []
    with progress(len(sizes) * 2 * len(sharpness), "looking up") as step:
        for size in sizes:
            memory = Lookup(train[-size:], WIDTH, V)
            first = [ask(memory, unread, choosing, beta, step)[0].mean() for beta in sharpness]
            chosen.append(sharpness[int(np.argmin(first))])
            column = [ask(memory, unread, ends, beta, step) for beta in sharpness]
            losses.append([loss for loss, _ in column])
            listened.append([keys for _, keys in column])
            counted.append([count(train[-size:], unread, ends, n, V) for n in ORDERS])
            known = {bytes(train[-i:][:WIDTH]) for i in range(WIDTH + 1, size + 1)}
            unseen.append(float(np.mean([bytes(unread[e - WIDTH:e]) not in known for e in ends])))
    found = losses[-1][sharpness.index(chosen[-1])]
    recent = nearest_first(train[-sizes[-1]:], unread, choosing[:queries // 2], ends, V)
    times, *parts = clock(rng, [64, 128, 256] if fast else [256, 512, 1024, 2048])
    losses = np.transpose(losses, (1, 0, 2))                       # (sharpness, size, query)
    means = losses.mean(axis=-1)
    return Result(corpus.name, V, float(np.log(V)), WIDTH, WIDTH * V, queries, sizes, unseen,
                  sharpness, means.tolist(), standard_error(losses).tolist(), chosen,
                  [sharpness[i] for i in means.argmin(axis=0)], np.transpose(listened).tolist(),
                  np.mean(counted, axis=-1).T.tolist(),
                  [[float(np.mean(c - found)), float(standard_error(c - found))]
                   for c in counted[-1]],
                  recent, real_scores(rng, train, V),
                  [scores_of(rng, D) for D in (4, 16, 64, 256, 1024)], times, *parts)


def ask(memory, ids, ends, sharpness, step):
    """Nats of the character at each of `ends` (N,), and how many keys a query listens to."""
    p, keys = [], []
    for some in np.array_split(ends, max(1, len(ends) // 200)):
        out, weights = memory.predict(ids, some, sharpness)
        p.append(out[np.arange(len(some)), ids[some]])
        keys.append(1 / (weights * weights).sum(axis=-1))
    step(1)
    return (-np.log(np.maximum(np.concatenate(p), 1e-30).astype(float)),
            float(np.median(np.concatenate(keys))))


def standard_error(losses):
    """Of the mean over the last axis."""
    return np.std(losses, axis=-1, ddof=1) / np.sqrt(np.shape(losses)[-1])


def count(memory, ids, ends, order, V):
    """Nats of the counted model of the same text (day 06), Kneser–Ney from order 2 on."""
    model = NGram.fit(memory, order, V, "kneser-ney" if order > 1 else "interpolated")
    return -np.log([model.distribution(ids[e - 8:e])[ids[e]] for e in ends])


def nearest_first(remembered, ids, choosing, ends, V):
    """Keys of 8 characters, each worth `decay` of the next: [decay, sharpness, loss, error]."""
    found = {}
    for decay in DECAYS:
        memory = Lookup(remembered, 8, V, decay=decay)
        for beta in (0.5, 0.71, 1):
            found[decay, beta] = ask(memory, ids, choosing, beta, int)[0].mean()
    decay, beta = min(found, key=found.get)
    losses = ask(Lookup(remembered, 8, V, decay=decay), ids, ends, beta, int)[0]
    return [decay, beta, float(losses.mean()), float(standard_error(losses))]


def real_scores(rng, train, V):
    """q·k/√D between windows of the text: mean, standard deviation, and what the frequencies of
    the characters predict for it; then the same deviation where all characters are as likely."""
    found = []
    for ids in (train, rng.integers(0, V, len(train))):
        q, k = (windows(ids, rng.integers(WIDTH, len(ids), 1000), WIDTH, V) for _ in range(2))
        found.append(q @ k.T / np.sqrt(WIDTH * V))
    alike = float(((np.bincount(train, minlength=V) / len(train))**2).sum())
    return [float(found[0].mean()), float(found[0].std()),
            float(np.sqrt(V * alike * (1 - alike))), float(found[1].std())]


def scores_of(rng, D):
    """Random queries meet 64 random keys: spread of scores, entropy and slope of the softmax."""
    q, k = rng.standard_normal((512, D)), rng.standard_normal((64, D))
    weights = [attention(q * factor, k, k)[1][3] for factor in (np.sqrt(D), 1)]
    return [D, float((q @ k.T).std()), float((q @ k.T).std() / np.sqrt(D)),
            *(float(entropy(w).mean()) for w in weights),
            *(float((w * (1 - w)).sum(axis=-1).mean()) for w in weights)]


def clock(rng, lengths):
    """[T, forward time over that of T/2, bytes of weights], backward over forward, the softmax's
    share, and x, x, x over q, k, v; the fastest of 15, since other work only ever adds time."""
    seconds = {T: [] for T in [lengths[0] // 2, *lengths]}
    inputs = {T: rng.standard_normal((3, T, 64), dtype=np.float32) for T in seconds}
    for _ in range(15):
        for T, (q, k, v) in inputs.items():
            scores, moments = q @ k.T / 8, [time.perf_counter()]
            out, saved = attention(q, k, v)
            moments.append(time.perf_counter())
            attention_vjp(out, *saved)
            moments.append(time.perf_counter())
            softmax(scores)
            moments.append(time.perf_counter())
            attention(q, q, q)
            seconds[T].append(np.diff([*moments, time.perf_counter()]))
    best = {T: np.min(spent, axis=0) for T, spent in seconds.items()}
    forward, backward, alone, same = best[lengths[-1]]
    return ([[T, float(best[T][0] / best[T // 2][0]), 4 * T * T] for T in lengths],
            float(backward / forward), float(alone / forward), float(same / forward))


def table(result):
    """Nats per character by score scale and memory; below, counting on the same memory."""
    rows = [["scores", *(f"{n:,} keys" for n in result.sizes), "heard"]]
    for beta, losses, keys in zip(result.sharpness, result.nats, result.listened):
        name = "q·k" if beta == result.sharpness[-1] else f"{beta:g}·q·k/√D"
        if beta in SHOWN or beta == result.sharpness[-1]:
            rows.append([name, *(f"{loss:.2f}" for loss in losses), f"{keys[-1]:,.0f}"])
    for order, losses in zip(ORDERS, result.counted):
        if order > 1:
            rows.append([f"{order}-gram", *(f"{loss:.2f}" for loss in losses), ""])
    return rows


def show(result):
    print_table(table(result), f"nats per character on unread {result.corpus}; a uniform guess "
                f"has {result.uniform:.2f}")
    for D, raw, scaled, _, _, flat, slope in result.spread:
        print(f"D {D:4d}: scores spread {raw:4.1f}, scaled {scaled:.2f}; slope of softmax "
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
    left.set(xlim=(0.22, 75), ylim=(1.7, 75),
             ylabel="nats per character")
    for colour, chosen in zip(COLOURS, result.chosen):
        left.plot(chosen, 1.78, "^", ms=5, color=colour)
    left.set_xticks([0.25, 0.5, 1, 2, 4, 18], ["¼", "½", "1", "2", "4", "18"])
    left.set_yticks([2, 3, 5, 10, 20, 40], ["2", "3", "5", "10", "20", "40"])
    left.minorticks_off()
    left.set_xlabel("scores, as a multiple of q·k/√D (triangles: chosen on other text)")
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
