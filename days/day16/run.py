"""Day 16 · A trained network against counting: who predicts Shakespeare better, and where."""

import time
from dataclasses import dataclass

import numpy as np

from days.day16 import comparisons
from days.day16.comparisons import WEIGHTS, chosen, nats
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
from llm.tokens.chars import CharTokenizer

CONTEXT, CHANNELS, BATCH = 8, 16, 64
STEPS = {False: 40_000, True: 1_500}      # of the long run
SHORT, LONG = 1.2, 0.3     # rates: each the best of a few on the text where weights are chosen
KINDS = {"as written": str, "lower case": str.lower, "CAPITALS": str.upper}
COLORS = {"network": "#c2571a", "counting": "#1f5fa8", "mixture": "#2e7d4f"}


@dataclass(frozen=True)
class Result:
    corpus: str
    trained_on: int           # characters
    chosen_on: int            # characters on which weights are chosen
    order: int                # of the n-gram model, modified Kneser–Ney
    counted: float            # its nats per character on unseen text
    counted_numbers: int      # how many numbers it stores
    fit_seconds: float        # its time to fit, median of three
    untrained: float          # the network's nats before training
    equal_time: float         # … after training for `fit_seconds`
    equal_steps: int
    network: float            # … after `steps`, which took `network_seconds`
    network_numbers: int
    network_seconds: float
    steps: int
    better: float             # share of the characters to which the network gives more
    weight: float             # of the network in the mixture, chosen on other text
    mixture: float
    hindsight: list           # weight and nats of the best mixture on the reported text itself
    ratio: float              # mean of P(network) / P(counting) where the weight was chosen
    seen: list                # that ratio, the weight and nats had it been the counted text
    second: list              # mixture of two countings: the lower order, its weight, nats
    lengths: list             # rows: order, numbers stored, seconds to fit, nats by counting
    texts: list               # rows: kind of text, network, counting, weight, mixture
    curves: list              # by kind: nats of the mixture at each of WEIGHTS
    places: list              # rows: known context, share, network, counting, own mixture
    by_place: float           # nats with a weight for each known context
    typos: list               # rows: place of a typo, network, counting, mixture, typo unseen,
                              # share in known contexts, network and counting there, elsewhere
    sample: str               # written by the network, "⏎" for a new line


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text + corpus.text.upper() + corpus.text.lower())
    seen = tokenizer.encode(corpus.train[:300_000] if fast else corpus.train)
    size, order = tokenizer.vocab_size, 5 if fast else 7
    cut = min(10_000 if fast else 100_000, len(corpus.validation) // 3)
    texts = corpus.validation[:cut], corpus.validation[cut:3 * cut]    # to choose, to report
    models, seconds = comparisons.counted(seen, range(1, order + 1), size)
    fitted = models[order]
    quick, few, _ = trained(seen, size, SHORT, fast, seed, seconds=seconds[order])
    net, many, spent = trained(seen, size, LONG, fast, seed, steps=STEPS[fast])
    def both(text):
        ids = tokenizer.encode(text)
        return log_probabilities(net, ids), fitted.log_probabilities(ids)[CONTEXT:]
    rows, curves = [], []
    for kind, change in KINDS.items():
        first, second = (both(change(text)) for text in texts)
        rows.append([kind, *map(nats, second), *chosen(first, second)])
        curves.append([nats(mix(*second, weight)) for weight in WEIGHTS])
    choose, report, counts = *map(both, texts), both(corpus.train[:cut])
    chars = [tokenizer.encode(text) for text in texts]
    places, by_place = comparisons.by_known(
        choose, report, [comparisons.known(fitted, ids)[CONTEXT:] for ids in chars])
    rng, best = np.random.default_rng(seed), best_weight(*report, rounds=500)
    letters = tokenizer.encode("abcdefghijklmnopqrstuvwxyz")
    _, network, counted, weight, mixture = rows[0]
    return Result(
        corpus.name, len(seen), cut, order, counted, fitted.size, seconds[order],
        nats(log_probabilities(untrained(size, fast, seed), chars[1])),
        nats(log_probabilities(quick, chars[1])), few, network, net.count_parameters(),
        spent, many, float((report[0] > report[1]).mean()), weight, mixture,
        [best, nats(mix(*report, best))], float(np.exp(choose[0] - choose[1]).mean()),
        [float(np.exp(counts[0] - counts[1]).mean()), *chosen(counts, report)],
        comparisons.second_opinion(models, order, *chars, CONTEXT),
        [[n, model.size, seconds[n], nats(model.log_probabilities(chars[1])[CONTEXT:])]
         for n, model in models.items()], rows, curves, places, by_place,
        comparisons.typos(net, models, order, weight, chars[1], letters,
                          3_000 if fast else 20_000, rng),
        tokenizer.decode(generate(net, 300, rng, chars[1][:CONTEXT])).replace("\n", "⏎"))


def untrained(size, fast, seed):
    return NeuralNGram(size, CONTEXT, CHANNELS, 64 if fast else 256, np.random.default_rng(seed))


def trained(seen, size, rate, fast, seed, **limit):
    """A network after so many `steps` or `seconds` of plain steps; steps made, seconds taken."""
    model = untrained(size, fast, seed)
    batches = draws(seen, CONTEXT, BATCH, np.random.default_rng(seed + 1))
    began = time.perf_counter()
    label = "".join(f"training, {round(n, 2):,} {name}" for name, n in limit.items())
    with progress(100, label) as bar:
        done = [0]
        def watch(step, total, loss):
            share = 100 * step // total
            if share > done[0]:
                bar(share - done[0], f"loss {loss:.2f}")
                done[0] = share
        losses = train(model, batches, lambda step, total: rate * (1 - step / total),
                       watch=watch, **limit)
    return model, len(losses), time.perf_counter() - began


def table(result):
    rows = [["model", "numbers", "seconds", "nats per character"]]
    rows += [[f"counting, order {n}", f"{size:,}", f"{seconds:.2f}", f"{loss:.3f}"]
             for n, size, seconds, loss in result.lengths[1:]]
    n, (low, share, loss) = f"{result.network_numbers:,}", result.second
    return rows + [
        ["network, equal time", n, f"{result.fit_seconds:.2f}", f"{result.equal_time:.3f}"],
        ["network", n, f"{result.network_seconds:.1f}", f"{result.network:.3f}"],
        [f"{1 - share:.0%} order {result.order} + {share:.0%} order {low}", "", "", f"{loss:.3f}"],
        [f"{1 - result.weight:.0%} order {result.order} + {result.weight:.0%} network", "", "",
         f"{result.mixture:.3f}"]]


def show(result):
    print_table(table(result), f"{result.corpus}: {result.trained_on:,} characters")
    print(f"Untrained, the network pays {result.untrained:.3f} nats. Trained, it gives more\n"
          f"than counting to {result.better:.0%} of the characters.")
    print_table([["known before", "share", "network", "counting", "mixture"], *(
        [k, *(f"{x:.3f}" for x in row)] for k, *row in result.places)])
    print_table([["text", "network", "counting", "best weight", "mixture"], *(
        [kind, *(f"{x:.3f}" for x in row)] for kind, *row in result.texts)])
    print_table([["typo, back", "network", "counting", "mixture", "typo unseen", "looks known"], *(
        [place, *(f"{x:.3f}" for x in row[:5])] for place, *row in result.typos)])
    print("The network writes:", result.sample[:220].replace("⏎", "\n"), sep="\n")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2))
    for curve, (kind, _, counted, weight, mixed), shade, (x, gap, side) in zip(
            result.curves, result.texts, ("#123f6b", "#4f86b8", "#86a9cc"),
            ((24, (-4, 4), "right"), (14, (0, -15), "center"), (16, (0, -16), "center"))):
        left.plot(WEIGHTS, [loss - counted for loss in curve], color=shade, lw=1.8)
        left.plot(weight, mixed - counted, "o", ms=6, color=COLORS["mixture"])
        left.annotate(f"{kind}, {mixed - counted:+.3f}".replace("-", "−"),
                      (WEIGHTS[x], curve[x] - counted), gap, textcoords="offset points",
                      color=shade, fontsize=9, ha=side)
    left.axhline(0, color="0.7", lw=0.8, zorder=0)
    left.set(xlabel="weight of the network (0: only counting, 1: only network)",
             ylabel="nats per character, less those of counting",
             ylim=(min(row[4] - row[2] for row in result.texts) - 0.07, None))
    kind, *_, weight, mixed = result.texts[-1]
    left.set_title(f"{result.weight:.0%} of a worse model gains "
                   f"{result.counted - result.mixture:.3f} nats;\non {kind.lower()}, {weight:.0%} "
                   f"of it gains {result.texts[-1][2] - mixed:.2f}")
    place, *lines, short = zip(*(row[:5] for row in result.typos))
    for name, values, (x, gap) in zip(("network", "counting", "mixture"), lines, (
            (-1, (3, 8)), (2, (5, 5)), (1, (-6, -13)))):
        excess = [loss - least for loss, least in zip(values, short)]
        right.plot(place, excess, "o-", ms=4, color=COLORS[name])
        right.annotate(name, (place[x], excess[x]), gap, textcoords="offset points",
                       color=COLORS[name], ha="left" if x == 2 else "right", fontsize=9)
    right.axhline(0, color="0.45", ls="--", lw=1.2, zorder=0)
    right.text(1, 0.03, "counting, typo out of sight", color="0.35", fontsize=9)
    wins = [p for p, net, other, *_ in result.typos if net < other]
    right.set(xlabel="place of the typo, characters before the one to predict", xticks=place,
              ylabel="nats more than counting that does not see it", xlim=(0.4, None))
    right.set_title(f"A typo {min(wins, default=0)} to {max(wins, default=0)} back misleads "
                    "counting more\nthan the network")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
