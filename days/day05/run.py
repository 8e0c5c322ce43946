"""Day 05 · Chains of order 1 to 6 on Shakespeare: what more memory buys, and what it breaks."""

import time
from collections import Counter
from dataclasses import dataclass
from statistics import median

import numpy as np

from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.models.counts import find, level, longest, pack
from llm.models.markov import MarkovChain
from llm.tokens.chars import CharTokenizer

ORDERS = range(1, 7)
SHOWN = " \nabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Result:
    """Everything the note and the figure say; lists run over the orders."""

    source: str               # which text
    vocabulary: int           # V, its distinct characters
    train: int                # characters counted
    validation: int           # characters held back
    orders: list              # k, the characters of context
    parameters: list          # V^k (V − 1), free numbers of the full table
    contexts: list            # C, distinct contexts of the training text
    train_nats: list          # −ln P of a training character, mean
    impossible: list          # share of validation characters that get probability 0
    samples: list             # what each chain says, "⏎" for a new line
    run_length: int           # characters of a run in the two fields below
    copied: list              # share of runs of that length in generated text found in training
    copied_real: float        # the same share for the validation text, written by the same hand
    sure: list                # [letter, next letter, P] of the surest small letter
    matrix: list              # P(next | previous), the characters of SHOWN by those of SHOWN
    counter_over_sort: float  # time of a dictionary over that of sorting, order 5


def measure(fast, seed):
    """Fit, score and generate with each order; compare two ways to count."""
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    v = tokenizer.vocab_size
    size = 400_000 if fast else len(corpus.train)
    train = tokenizer.encode(corpus.train[:size])
    validation = tokenizer.encode(corpus.validation[:size // 9])
    n = min(10, longest(v))
    book, rows = level(pack(train, n, v), v).grams, []
    with progress(len(ORDERS), "counting") as step:
        for k in ORDERS:
            rows.append(one(train, validation, k, tokenizer, seed, book, n))
            step(1)
    lists = list(map(list, zip(*rows)))
    matrix = shown(MarkovChain.fit(train, 1, v), tokenizer)
    i, j = np.unravel_index(matrix[2:, 2:].argmax(), (26, 26))
    return Result(
        corpus.name, v, len(train), len(validation), list(ORDERS), *lists[:-1], n, lists[-1],
        float(find(book, pack(validation, n, v))[1].mean()),
        [SHOWN[i + 2], SHOWN[j + 2], float(matrix[i + 2, j + 2])], matrix.round(4).tolist(),
        slower(train[:100_000 if fast else 1_000_000], 3, v))


def one(train, validation, k, tokenizer, seed, book, n):
    """The columns of one order; `book` holds all runs of n characters of the training text."""
    v = tokenizer.vocab_size
    chain = MarkovChain.fit(train, k, v)
    zero = np.isinf(chain.log_probabilities(validation))
    said = chain.generate(min(10_000, len(train) // 100), np.random.default_rng(seed))
    return (chain.parameters, len(chain.counts.contexts),
            float(-chain.log_probabilities(train).mean()), float(zero.mean()),
            tokenizer.decode(said[:130]).replace("\n", "⏎"),
            float(find(book, pack(said, n, v))[1].mean()))


def shown(chain, tokenizer):
    """The transition matrix between the characters of SHOWN: small letters, space, new line."""
    matrix = np.zeros((len(SHOWN), len(SHOWN)))
    here = [i for i, c in enumerate(SHOWN) if c in tokenizer.characters]
    ids = tokenizer.encode("".join(SHOWN[i] for i in here))
    matrix[np.ix_(here, here)] = chain.matrix()[np.ix_(ids, ids)]
    return matrix


def slower(ids, times, v):
    """The time of a dictionary of tuples over that of sorting packed runs, both in turn."""
    ratios, plain = [], ids.tolist()
    for _ in range(times):
        start = time.perf_counter()
        Counter(zip(*(plain[i:] for i in range(6))))
        middle = time.perf_counter()
        level(pack(ids, 6, v), v)
        ratios.append((middle - start) / (time.perf_counter() - middle))
    return median(ratios)


def table(result):
    """One row an order."""
    return [["order", "table", "contexts", "nats", "impossible", "copied"]] + [
        [k, f"{p:.1e}", f"{c:,}", f"{t:.3f}", f"{100 * z:.2f} %", f"{100 * w:.0f} %"]
        for k, p, c, t, z, w in zip(result.orders, result.parameters, result.contexts,
                                    result.train_nats, result.impossible, result.copied)]


def show(result):
    """Print the table, then let every chain speak."""
    print(f"{result.source}: {result.train:,} characters counted, {result.validation:,} held "
          f"back, V = {result.vocabulary}")
    print_table(table(result))
    print(f"“copied”: runs of {result.run_length} characters that stand in the training text; "
          f"of the text\nheld back {100 * result.copied_real:.0f} % do. A dictionary takes "
          f"{result.counter_over_sort:.0f}× the time of sorting.")
    for k, said in zip(result.orders, result.samples):
        print(k, said[:78])


def draw(result, path):
    """Left: who follows whom. Right: the better the fit to the book, the more is impossible."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4.6), width_ratios=(1.25, 1))
    image = left.imshow(np.sqrt(result.matrix), cmap="Blues", vmin=0, vmax=1)
    bar = fig.colorbar(image, ax=left, fraction=0.046, pad=0.02)
    bar.set_ticks(np.sqrt([0, 0.1, 0.3, 0.6, 1]), labels=["0", ".1", ".3", ".6", "1"])
    left.set(xlabel="next character", ylabel="previous character")
    left.set_xticks(range(28), ["␣", "⏎", *SHOWN[2:]], fontsize=8)
    left.set_yticks(range(28), ["␣", "⏎", *SHOWN[2:]], fontsize=8)
    left.tick_params(length=0)
    left.set_title("Who follows whom: P({1} after {0}) = {2:.3f}".format(*result.sure))
    x, y = result.train_nats, [100 * share for share in result.impossible]
    right.plot(x, y, "o-", color="#1f5fa8")
    for k, *place in zip(result.orders, x, y):
        right.annotate(f"order {k}", place, (-2, 7), textcoords="offset points", ha="right")
    right.set(xlabel="nats a character of the training text", ylim=0, xlim=(3.2, 0.5),
              ylabel="% of held-out characters impossible", title=(
                  f"Order {result.orders[-1]} fits its own book best, and\n"
                  f"calls {y[-1]:.0f} % of the next one impossible"))
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
