"""Day 11 · What a longer context costs to count and to compute, before anything is learned."""

from dataclasses import dataclass

import numpy as np

from days.day11.trials import CHANNELS, HIDDEN, race, ratios, untrained
from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.models.window import flops, init, known_share, logits, parameter_count, windows
from llm.tokens.chars import CharTokenizer

CONTEXTS = [1, 2, 3, 4, 5, 6, 8]


@dataclass(frozen=True)
class Result:
    corpus: str
    vocab_size: int
    trained_on: int        # characters of the training text
    contexts: list         # T
    counting: list         # numbers in a full table of counts, V to the power T + 1
    tested_on: int         # characters of the validation text
    known: list            # share of its contexts that occur in the training text
    parameters: list       # of the window model
    first_layer: list      # share of them in the first layer
    kflops: list           # thousand FLOPs a prediction
    seconds_ratio: list    # time of the forward pass / that of the first T
    losses: list           # nats, untrained, on validation text, mean over the starts
    loss_spread: list      # their standard deviation
    parts: list            # at T = 4: [mean, deviation] of log-sum-exp − ln V, of the target's
                           # logit, of the mean of all logits
    uniform: float         # ln V
    scales: list           # of the output layer, at T = 4
    scale_gaps: list       # loss − ln V, mean over the starts
    scale_predicted: list  # half the variance of the logits
    vocabularies: list     # V of the lookup race
    lookup_ratio: list     # time of the one-hot product / of the lookup


def measure(fast, seed):
    """Count contexts, run untrained models, race the lookup against the product."""
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    size = tokenizer.vocab_size
    train = tokenizer.encode(corpus.train[:200_000] if fast else corpus.train)
    new = tokenizer.encode(corpus.validation[:20_000] if fast else corpus.validation)
    known = []
    with progress(len(CONTEXTS), "looking for contexts") as step:
        for context in CONTEXTS:
            known.append(known_share(train, new, context, size))
            step(1, f"T = {context}")
    models = [init(size, context, CHANNELS, HIDDEN, np.random.default_rng(seed))
              for context in CONTEXTS]
    batches = [windows(new[:4_001], context) for context in CONTEXTS]
    scales = [0, .1, .3, 1, 3, 10]
    starts = [untrained(size, context, batch, seed) for context, batch in zip(CONTEXTS, batches)]
    scaled = [untrained(size, 4, batches[3], seed, scale).mean(axis=0) for scale in scales]
    vocabularies = [64, 512, 4096]
    counts = [parameter_count(size, context, CHANNELS, HIDDEN) for context in CONTEXTS]
    return Result(
        corpus=corpus.name, vocab_size=size, trained_on=len(train), contexts=CONTEXTS,
        counting=[float(size) ** (context + 1) for context in CONTEXTS], known=known,
        parameters=counts,
        first_layer=[t * CHANNELS * HIDDEN / n for t, n in zip(CONTEXTS, counts)],
        kflops=[flops(size, context, CHANNELS, HIDDEN) / 1e3 for context in CONTEXTS],
        seconds_ratio=ratios([lambda m=m, b=b: logits(m, b[0]) for m, b in zip(models, batches)],
                             3 if fast else 15),
        losses=[float(s[:, 0].mean()) for s in starts], tested_on=len(new),
        loss_spread=[float(s[:, 0].std(ddof=1)) for s in starts],
        parts=[[float(s.mean()), float(s.std(ddof=1))] for s in starts[3].T[1:4]],
        uniform=float(np.log(size)), scales=scales,
        scale_gaps=[float(s[0] - np.log(size)) for s in scaled],
        scale_predicted=[float(s[4] / 2) for s in scaled], vocabularies=vocabularies,
        lookup_ratio=[race(v, np.random.default_rng(seed), 3 if fast else 25)
                      for v in vocabularies])


def table(result):
    """One row for each context length."""
    rows = [["T", "counting table", "known", "parameters", "kFLOP", "time", "untrained"]]
    for t, cells, known, n, kflop, ratio, loss, spread in zip(
            result.contexts, result.counting, result.known, result.parameters, result.kflops,
            result.seconds_ratio, result.losses, result.loss_spread):
        rows.append([f"{t}", f"{cells:.1e}", f"{known:.1%}", f"{n:,}", f"{kflop:.0f}",
                     f"{ratio:.2f}", f"{loss:.2f} ± {spread:.2f}"])
    return rows


def show(result):
    """The table, the scale of the output layer, and the lookup race."""
    print_table(table(result), f"contexts of T characters of {result.corpus}, "
                               f"V = {result.vocab_size}, ln V = {result.uniform:.3f}")
    print_table([["output scale", "loss - ln V", "half the variance"], *(
        [f"{s:g}", f"{abs(gap):.4f}", f"{predicted:.4f}"] for s, gap, predicted in zip(
            result.scales, result.scale_gaps, result.scale_predicted))],
        "untrained, T = 4")
    print("one-hot product / lookup, time: " + ", ".join(
        f"{ratio:.0f} at V = {v}" for v, ratio in zip(result.vocabularies, result.lookup_ratio)))


def draw(result, path):
    """Left: numbers to store against T. Right: how many contexts have been seen before."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 4.0))
    left.plot(result.contexts, result.counting, "o-", ms=4, color="#b3442e")
    left.plot(result.contexts, result.parameters, "o-", ms=4, color="#1f5f8b")
    left.axhline(result.trained_on, color="#999999", lw=1, ls=":")
    end = result.contexts[-1]
    left.text(4.6, 1e12, "counts", color="#b3442e", ha="right")
    left.text(end, result.parameters[-1] / 4, "the window model", color="#1f5f8b", ha="right",
              va="top")
    left.text(end, result.trained_on * 2, "characters to learn from", color="#777777", ha="right")
    left.set(yscale="log", xlabel="context T", ylabel="numbers to store", ylim=(1e2, 1e19))
    right.plot(result.contexts, [100 * k for k in result.known], "o-", ms=4, color="#b3442e")
    right.set(xlabel="context T", ylim=(0, 103),
              ylabel="% of new contexts seen in training")
    for t, k in zip(result.contexts[4:], result.known[4:]):
        right.annotate(f"{100 * k:.0f}", (t, 100 * k), (-6, -8), textcoords="offset points",
                       ha="right", color="#b3442e")
    fig.suptitle(f"At T = {end} counting has not seen {1 - result.known[-1]:.0%} of new contexts; "
                 f"the window model answers all, with {result.parameters[-1]:,} numbers",
                 x=.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
