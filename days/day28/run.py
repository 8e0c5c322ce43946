"""Day 28 · One column too many in the mask: a loss too good to be true, and the price of hiding."""

import time
from dataclasses import dataclass

import numpy as np

from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.functions.attention import attention
from llm.functions.causal import causal_attention, causal_attention_rows, visible_past
from llm.models.lookup import windows
from llm.tokens.chars import CharTokenizer

WIDTH, SHARPNESS, BLOCK = 4, 0.5, 64
MASKS = ["causal", "one column too many", "no mask", "zeroed after the softmax"]
COLOURS = ["#123f6b", "#c2571a", "#d99a2b", "#8a8a8a"]


@dataclass(frozen=True)
class Result:
    corpus: str
    vocab_size: int
    T: int               # tokens of a text, after one of each character
    texts: int
    names: list
    nats: list           # by mask: mean loss of all places in one parallel pass
    errors: list         # by mask: the standard error of that mean, from text to text
    honest: float        # the same model asked without any future
    missing: float       # mean of −ln of the row sums, zeroing after: nats of the lost weight
    row_sums: list       # by mask: mean sum of the weights of a row
    told: list           # by mask: how many earlier outputs changed with the last token
    shared: int          # how many queries score the last key at all: others cannot notice its sign
    places: list         # middle of each bin of places
    curves: list         # by mask: nats in each bin
    spelled: float       # share of next characters read off a row sum, zeroing after
    times: list          # [T, pairs all/visited, time all / blocks, time row by row / all]


def measure(fast, seed):
    rng = np.random.default_rng(seed)
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    V, ids = tokenizer.vocab_size, tokenizer.encode(corpus.validation)
    T, texts = (400, 3) if fast else (2_000, 10)
    losses, honest, sums, missing = [], [], [], []
    with progress(texts, "four masks") as step:
        for start in rng.integers(WIDTH, len(ids) - T - 1, texts):
            q, k, v, targets = recall(ids[start - WIDTH:start + T + 1], V)
            outs, weights = zip(*(answers(q, k, v, name) for name in MASKS))
            losses.append([nats(out, targets)[V:] for out in outs])
            sums.append([w.sum(axis=-1)[V:].mean() for w in weights])
            missing.append(-np.log(weights[-1].sum(axis=-1)[V:]).mean())
            honest.append(nats(causal_attention_rows(q, k, v, BLOCK), targets)[V:].mean())
            step(1)
    other = ((q, np.concatenate([k[:-1], -k[-1:]]), np.concatenate([v[:-1], 1 - v[-1:]])))
    told = [int((answers(*other, name)[0][:-1] != out[:-1]).any(axis=-1).sum())
            for name, out in zip(MASKS, outs)]
    by_place = np.mean(losses, axis=0)                              # (masks, T)
    edges = np.unique(np.geomspace(1, T, 14).astype(int))
    bins = list(zip(edges[:-1], edges[1:]))
    each = np.mean(losses, axis=2)                                  # (texts, masks)
    return Result(corpus.name, V, T, texts, MASKS, by_place.mean(axis=1).tolist(),
                  (each.std(axis=0, ddof=1) / texts**0.5).tolist(), float(np.mean(honest)),
                  float(np.mean(missing)), np.mean(sums, axis=0).tolist(), told,
                  int((q[:-1] @ k[-1] != 0).sum()),
                  [float(np.sqrt(a * b)) for a, b in bins],
                  [[float(row[a:b].mean()) for a, b in bins] for row in by_place],
                  spelled(ids[:10_001], V),
                  [clock(rng, n, 5 if fast else 25)
                   for n in ((128, 256) if fast else (256, 512, 1024, 2048))])


def recall(ids, V):
    """A text after the alphabet, as keys (what came before a place), values (what stood there)
    and queries (what has just been read): place t is to predict the token of place t + 1."""
    ids = np.concatenate([ids[:WIDTH], np.arange(V), ids[WIDTH:]])
    places = np.arange(WIDTH, len(ids) - 1)
    return (windows(ids, places + 1, WIDTH, V) * np.float32(SHARPNESS),
            windows(ids, places, WIDTH, V), np.eye(V, dtype=np.float32)[ids[places]],
            ids[places + 1])


def answers(q, k, v, name):
    """Outputs and weights under one of the four masks; three of them are mistakes."""
    past = visible_past(len(q))
    if name == "causal":
        out, saved = causal_attention(q, k, v)
        return out, saved[3]
    if name == "zeroed after the softmax":
        weights = attention(q, k, v)[1][3] * past
        return weights @ v, weights
    visible = np.tri(len(q), k=1, dtype=bool) if name == "one column too many" else None
    out, saved = attention(q, k, v, visible)
    return out, saved[3]


def nats(p, targets):
    """−ln of the probability of each target."""
    return -np.log(np.maximum(p[np.arange(len(targets)), targets], 1e-30))


def spelled(ids, V):
    """Read the next character off the row sum that zeroing leaves: q = 1, e^k = 1 + id."""
    pairs = np.stack([ids[:-1], ids[1:]], axis=-1)                  # (N, 2): now, next
    k = np.log(1.0 + pairs)[..., None]                              # (N, 2, 1)
    row_sum = attention(np.ones_like(k), k, k)[1][3][:, 0, 0]       # only the past of row 0
    guess = np.round((1 + pairs[:, 0]) * (1 / row_sum - 1) - 1)
    return float((guess == pairs[:, 1]).mean())


def clock(rng, T, turns):
    """[T, pairs all / visited, time of all / of blocks, time row by row / of all]; the fastest
    of all turns (row by row of each fifth), since other work on the machine only ever adds time."""
    q, k, v = rng.standard_normal((3, T, 64), dtype=np.float32)
    ways = [lambda: causal_attention(q, k, v), lambda: causal_attention_rows(q, k, v, BLOCK),
            lambda: causal_attention_rows(q, k, v)]
    seconds = [[], [], []]
    for turn in range(turns):
        for spent, way in zip(seconds, ways[:2] if turn % 5 else ways):
            started = time.perf_counter()
            way()
            spent.append(time.perf_counter() - started)
    whole, blocks, rows = (min(s) for s in seconds)
    return [T, 2 * T / (T + BLOCK), whole / blocks, rows / whole]


def table(result):
    """Four masks: the loss they report, and what is wrong with them."""
    rows = [["mask", "nats", "without a future", "row sum", "told by the last token"]]
    for name, loss, total, told in zip(result.names, result.nats, result.row_sums, result.told):
        rows.append([name, f"{loss:.2f}", f"{result.honest:.2f}", f"{total:.2f}", f"{told:,}"])
    return rows


def show(result):
    print_table(table(result), f"nothing is trained; {result.texts} texts of {result.corpus}, "
                f"a uniform guess has {np.log(result.vocab_size):.2f}")
    print(f"zeroed after the softmax, the sum of a row spells {result.spelled:.0%} of the next "
          "characters")
    for T, pairs, blocks, rows in result.times:
        print(f"T {T:5d}: blocks of {BLOCK} score 1/{pairs:.2f} of the pairs, {blocks:.2f} times "
              f"as fast as hiding;\n         row by row takes {rows:.1f} times as long as hiding")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.8, 4.2), width_ratios=[1.5, 1])
    for name, curve, colour, lift in zip(result.names, result.curves, COLOURS,
                                         (-.1, -.35, .35, .4)):
        left.plot(result.places, curve, "o-", ms=3, color=colour)
        left.text(result.places[-1] * 1.12, curve[-1] + lift, name.replace(" after", "\nafter"),
                  color=colour, fontsize=9, va="center")
    left.axhline(np.log(result.vocab_size), color="0.5", lw=0.8, ls=":")
    left.text(result.places[-1] * 20, np.log(result.vocab_size) + .1, "uniform guess", color="0.4",
              fontsize=8, ha="right")
    left.set(xscale="log", xlabel="characters read so far", ylim=(0, None),
             xlim=(1, result.places[-1] * 22), ylabel="nats per character")
    left.set_xticks([n for n in (1, 10, 100, 1000) if n < result.T],
                    [f"{n:,}" for n in (1, 10, 100, 1000) if n < result.T])
    left.minorticks_off()
    left.set_title(f"One column too many reports {result.nats[1]:.2f} nats;\n"
                   f"asked honestly, the model has {result.honest:.2f}")
    T, pairs, blocks, _ = np.array(result.times).T
    right.plot(T, pairs, "o:", ms=3.5, color="0.5")
    right.annotate("pairs", (T[1], pairs[1]), xytext=(0, -14), color="0.4", fontsize=9,
                   textcoords="offset points", ha="left")
    right.plot(T, blocks, "o-", ms=3.5, color=COLOURS[0])
    right.annotate("time", (T[1], blocks[1]), xytext=(0, 8), color=COLOURS[0], fontsize=9,
                   textcoords="offset points", ha="left")
    right.axhline(1, color="0.5", lw=0.8, ls="--")
    right.text(T[-1], 0.94, "equally fast", color="0.4", fontsize=8, ha="right", va="top")
    right.set(xscale="log", xlabel="T", ylabel=f"hiding ÷ blocks of {BLOCK}",
              ylim=(0, None))
    right.set_xticks(T, [f"{int(n):,}" for n in T])
    right.minorticks_off()
    slow = [int(n) for n, ratio in zip(T, blocks) if ratio < 0.95]
    right.set_title(f"Not visiting the future: {blocks[-1]:.1f}× as fast\nat T = {int(T[-1]):,}"
                    + (f", but slower at {slow[-1]:,}" if slow else ""))
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
