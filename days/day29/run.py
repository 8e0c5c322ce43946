"""Day 29 · What four heads look at in Shakespeare, and what more heads are worth."""

from dataclasses import dataclass

import numpy as np

from days.day29.model import AttentionLM, Places, loss_by_place, train, windows
from days.harness import kernels, main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.functions.heads import multi_head
from llm.grad.tensor import no_grad
from llm.tokens.chars import CharTokenizer

C, T, B, SHOWN = 64, 32, 32, 4
LINE = "To be, or not to be: that is the"


@dataclass(frozen=True)
class Result:
    corpus: str
    steps: int
    by_heads: list     # [H, nats on unseen text, the same for another seed]
    parameters: int    # of each of these models
    heads: list        # [head, share on itself, previous, mean distance, entropy, on spaces]
    spaces: float      # share of spaces in the text: what a head without a preference would give
    line: str          # the text of the patterns
    patterns: list     # of each head, of each query t: its t + 1 weights on that line
    uniform: list      # mean distance and entropy of a head that averages all it sees


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text + LINE)
    ids, unseen = tokenizer.encode(corpus.train), tokenizer.encode(corpus.validation)
    counts, steps, n = ((1, SHOWN), 60, 64) if fast else ((1, 2, 4, 8), 400, 1024)
    by_heads, kept = [], None
    with kernels(), progress(2 * len(counts) * steps, "training") as advance:
        for H in counts:
            models = [build(tokenizer.vocab_size, H, ids, steps, seed + i, advance)
                      for i in range(2)]
            by_heads.append([H, *(float(loss_by_place(m, unseen, T, n).mean()) for m in models)])
            kept = models[0] if H == SHOWN else kept
    inputs, _ = windows(unseen, n, T, np.random.default_rng(seed))
    line = tokenizer.encode(LINE)[None]
    space = inputs == tokenizer.encode(" ")[0]
    average = np.tril(np.ones((T, T))) / np.arange(1, T + 1)[:, None]
    return Result(
        corpus.name, steps, by_heads, kept.count_parameters(),
        [[h + 1, *habits(w, space)] for h, w in enumerate(weights(kept, inputs).swapaxes(0, 1))],
        float(space.mean()), LINE, [
            [np.round(row[:t + 1], 3).tolist() for t, row in enumerate(w)]
            for w in weights(kept, line)[0].astype(float)],
        habits(np.tile(average, (n, 1, 1)), space)[2:4])


def build(V, H, ids, steps, seed, advance):
    """A trained model with one layer of H heads."""
    rng = np.random.default_rng(seed)
    model = AttentionLM(V, C, H, 1, rng, Places(T, C, rng))
    return train(model, ids, steps, B, T, rng, advance, rate=1e-2)


def weights(model, ids):
    """What each head looks at: (N, H, T, T)."""
    with no_grad():
        x = model.norms[0](model.positions(model.embed(ids)))
        return multi_head(model.layers[0].qkv(x).data, model.layers[0].H)[1][3]


def habits(w, space):
    """Of weights (N, T, T): share on the token itself, on the one before, mean distance,
    entropy in nats, share on spaces; all over queries that have a whole half window behind them."""
    place = np.arange(T)
    rows, far = w[:, T // 2:], place[T // 2:, None] - place
    entropy = -(rows * np.log(np.maximum(rows, 1e-30))).sum(-1)
    values = (rows * (far == 0), rows * (far == 1), rows * far)
    return [*(float(x.sum(-1).mean()) for x in values), float(entropy.mean()),
            float((rows * space[:, None, :]).sum(-1).mean())]


def table(result):
    head = ["head", "on itself", "on the one before", "mean distance", "entropy, nats",
            "on spaces"]
    average = ["average", "", "", *(f"{x:.1f}" for x in result.uniform), f"{result.spaces:.0%}"]
    rows = [[h, f"{own:.0%}", f"{last:.0%}", f"{far:.1f}", f"{entropy:.1f}", f"{space:.0%}"]
            for h, own, last, far, entropy, space in result.heads]
    return [head, *rows, average]


def show(result):
    print_table(table(result), f"{len(result.heads)} heads of one layer, {result.corpus}")
    print_table([["heads", "channels each", "nats", "another seed"]] + [
        [H, C // H, f"{a:.3f}", f"{b:.3f}"] for H, a, b in result.by_heads],
        f"the same {result.parameters:,} parameters, {result.steps} steps")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(2, 2, figsize=(7.2, 7.6))
    letters = [c if c != " " else "␣" for c in result.line]
    for ax, weight, (h, own, last, far, *_) in zip(axes.flat, result.patterns, result.heads):
        square = [row + [0] * (T - len(row)) for row in weight]
        ax.imshow(np.sqrt(square), cmap="Blues", vmin=0, vmax=1)
        ax.set_xticks(range(T), letters, fontsize=6)
        ax.set_yticks(range(T), letters, fontsize=6)
        ax.tick_params(length=0, pad=1)
        ax.spines[:].set_visible(False)
        ax.text(T - 1, 1.2, f"head {h}\n{own:.0%} on itself\n{last:.0%} on the one before\n"
                f"{far:.1f} back on average", ha="right", va="top", fontsize=9)
    axes[1, 0].set(xlabel="key", ylabel="query")
    first, last = result.by_heads[0], min(result.by_heads, key=lambda row: row[1] + row[2])
    fig.suptitle(f"Four heads read one line in four ways. With the same parameters, {first[0]} "
                 f"head\nreaches {np.mean(first[1:]):.2f} nats per character, {last[0]} heads "
                 f"reach {np.mean(last[1:]):.2f}", x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
