"""Day 16 · A trained network against counting: who predicts Shakespeare better, and where."""

import time
from dataclasses import dataclass
from statistics import median

import numpy as np

from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.models.neural_ngram import (
    NeuralNGram,
    best_weight,
    draws,
    generate,
    log_probabilities,
    mix,
    train,
)
from llm.models.ngram import NGram
from llm.models.window import windows
from llm.tokens.chars import CharTokenizer

CONTEXT, CHANNELS, BATCH, RATE = 8, 16, 64, 0.3
SECONDS = {False: 20, True: 1.2}


@dataclass(frozen=True)
class Result:
    corpus: str
    trained_on: int           # characters
    order: int                # of the n-gram model, modified Kneser–Ney
    counted: float            # its nats per character on unseen text
    counted_numbers: int      # how many numbers it stores
    fit_seconds: float        # its time to fit, median of three
    untrained: float          # the network's nats before training
    equal_time: float         # … after training for `fit_seconds`
    equal_steps: int
    network: float            # … after `network_seconds`
    network_numbers: int
    network_seconds: float
    steps: int
    better: float             # share of the characters to which the network gives more
    weight: float             # of the network in the mixture, chosen on other text
    mixture: float
    lengths: list             # rows: order, numbers stored, nats by counting
    texts: list               # rows: kind of text, network, counting, weight, mixture
    typos: list               # rows: place of a typo before the target, network, counting
    sample: str               # written by the network, "⏎" for a new line


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text + corpus.text.upper() + corpus.text.lower())
    seen = tokenizer.encode(corpus.train[:300_000] if fast else corpus.train)
    size, order = tokenizer.vocab_size, 5 if fast else 7
    cut = min(10_000 if fast else 100_000, len(corpus.validation) // 3)
    choose, report = corpus.validation[:cut], corpus.validation[cut:3 * cut]
    seconds, fitted = [], None
    for _ in range(3):
        began = time.perf_counter()
        fitted = NGram.fit(seen, order, size)
        seconds.append(time.perf_counter() - began)
    limit = median(seconds)
    quick, steps = trained(seen, size, limit, fast, seed)
    net, more = trained(seen, size, SECONDS[fast], fast, seed)
    def both(text):
        ids = tokenizer.encode(text)
        return log_probabilities(net, ids), fitted.log_probabilities(ids)[CONTEXT:]
    texts = []
    for kind, change in (("as written", str), ("lower case", str.lower), ("CAPITALS", str.upper)):
        weight = best_weight(*both(change(choose)))
        a, b = both(change(report))
        texts.append([kind, -a.mean(), -b.mean(), weight, -mix(a, b, weight).mean()])
        if kind == "as written":
            better = float((a > b).mean())
    ids = tokenizer.encode(report)
    lengths = []
    for n in range(2, order + 1):
        model = NGram.fit(seen, n, size)
        lengths.append([n, model.size, -model.log_probabilities(ids)[CONTEXT:].mean()])
    rng = np.random.default_rng(seed)
    return Result(
        corpus.name, len(seen), order, float(texts[0][2]), fitted.size, limit,
        nats(untrained(size, fast, seed), ids), nats(quick, ids), steps, float(texts[0][1]),
        net.count_parameters(), SECONDS[fast], more, better, texts[0][3],
        float(texts[0][4]), lengths, texts, typos(net, fitted, ids, tokenizer, rng),
        tokenizer.decode(generate(net, 300, rng, ids[:CONTEXT])).replace("\n", "⏎"))


def untrained(size, fast, seed):
    return NeuralNGram(size, CONTEXT, CHANNELS, 64 if fast else 256, np.random.default_rng(seed))


def trained(seen, size, seconds, fast, seed):
    """A new network after so many seconds of plain steps, and how many it made."""
    model = untrained(size, fast, seed)
    batches = draws(seen, CONTEXT, BATCH, np.random.default_rng(seed + 1))
    with progress(100, f"training for {seconds:.1f} s") as bar:
        done = [0]
        def watch(step, total, loss):
            share = 100 * step // total
            if share > done[0]:
                bar(share - done[0], f"loss {loss:.2f}")
                done[0] = share
        losses = train(model, batches, lambda step, total: RATE * (1 - step / total),
                       seconds=seconds, watch=watch)
    return model, len(losses)


def nats(model, ids):
    return float(-log_probabilities(model, ids).mean())


def typos(net, fitted, ids, tokenizer, rng):
    """Nats of the true next character when one of those before it is a random letter."""
    contexts, targets = windows(ids, CONTEXT)
    at = rng.integers(len(targets), size=min(20_000, len(targets)))
    letters = tokenizer.encode("abcdefghijklmnopqrstuvwxyz")
    rows = []
    for place in range(1, CONTEXT + 1):
        runs = np.column_stack([contexts[at], targets[at]])
        runs[:, CONTEXT - place] = rng.choice(letters, len(runs))
        flat = runs.reshape(-1)                  # each run scored at its own last character
        ends = slice(CONTEXT, None, CONTEXT + 1)
        rows.append([place, -log_probabilities(net, flat)[::CONTEXT + 1].mean(),
                     -fitted.log_probabilities(flat)[ends].mean()])
    return rows


def table(result):
    rows = [["model", "numbers", "seconds", "nats per character"]]
    rows += [[f"counting, order {n}", f"{size:,}", "", f"{loss:.3f}"]
             for n, size, loss in result.lengths[:-1]]
    rows += [[f"counting, order {result.order}", f"{result.counted_numbers:,}",
              f"{result.fit_seconds:.2f}", f"{result.counted:.3f}"]]
    n = f"{result.network_numbers:,}"
    rows += [["network, untrained", n, "0", f"{result.untrained:.3f}"],
             ["network, equal time", n, f"{result.fit_seconds:.2f}", f"{result.equal_time:.3f}"],
             ["network", n, f"{result.network_seconds:.1f}", f"{result.network:.3f}"],
             [f"{1 - result.weight:.0%} counting + {result.weight:.0%} network", "", "",
              f"{result.mixture:.3f}"]]
    return rows


def show(result):
    print_table(table(result), f"{result.corpus}: {result.trained_on:,} characters")
    print(f"The network gives more than counting to {result.better:.0%} of the characters.")
    print_table([["text", "network", "counting", "best weight", "mixture"], *(
        [kind, *(f"{x:.3f}" for x in row)] for kind, *row in result.texts)])
    print_table([["typo, characters before", "network", "counting"], *(
        [place, f"{a:.3f}", f"{b:.3f}"] for place, a, b in result.typos)])
    print(f"The network writes: {result.sample[:220]}")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), width_ratios=(1, 1.15))
    colors = {"network": "#c2571a", "counting": "#1f5fa8", "mixture": "#2e7d4f"}
    for y, (_, net, counted, _, mixed) in enumerate(result.texts):
        left.plot([net, mixed], [y, y], color="0.85", zorder=0)
        for name, x, below in (("network", net, 0), ("counting", counted, 0),
                               ("mixture", mixed, 1)):
            label = f"{name} {x:.2f}" if y == 0 else f"{x:.2f}"
            left.plot(x, y, "o", ms=6, color=colors[name])
            left.annotate(label, (x, y), (0, -18 if below else 9), textcoords="offset points",
                          ha="right" if name == "counting" else "left" if name == "network"
                          else "center", color=colors[name], fontsize=8.5)
    left.set(yticks=range(3), yticklabels=[row[0] for row in result.texts], ylim=(2.5, -0.6),
             xlim=(min(row[4] for row in result.texts) - 0.8, None),
             xlabel="nats per character, unseen text")
    left.set_title(f"As written, counting wins by {result.network - result.counted:.2f};\n"
                   f"mixed with {result.weight:.0%} network it gains "
                   f"{result.counted - result.mixture:.3f}")
    place, net, counted = zip(*result.typos)
    for name, values, base in (("network", net, result.network),
                               ("counting", counted, result.counted)):
        right.plot(place, values, "o-", ms=4, color=colors[name])
        right.axhline(base, color=colors[name], lw=0.8, ls=":")
        right.text(8.15, values[-1], name, color=colors[name], va="bottom", ha="right")
    right.text(1, result.counted, "dotted: no typo", fontsize=8, color="0.4", va="bottom")
    wins = [c - n for n, c in zip(net, counted) if c > n]
    right.set(xlabel="place of the typo, characters before the one to predict",
              ylabel="nats of that character")
    right.set_title(f"A typo among the last {len(wins)} characters:\nthe network wins by "
                    f"{min(wins, default=0):.2f} to {max(wins, default=0):.2f}")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
