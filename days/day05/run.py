"""Day 05 · Chains of order 1 to 6 on Shakespeare: what more memory buys, and what it breaks."""

from dataclasses import dataclass

import numpy as np

from days.day05.speech import SHOWN, known, letters_off, names, pieces, shown, slower, speak, words
from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.models.counts import find, level, longest, pack
from llm.models.markov import MarkovChain
from llm.tokens.chars import CharTokenizer

ORDERS = range(1, 7)
TEXTS = 3


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
    possible_nats: list       # −ln P of the other ones, mean: a score that excuses the failures
    samples: list             # what each chain says, "⏎" for a new line
    run_length: int           # characters of a run in the two fields below
    said: int                 # characters that each chain writes, TEXTS times
    copied: list              # share of runs of that length in generated text found in training
    copied_range: list        # [least, most] of that share among the TEXTS texts
    copied_real: list         # mean and standard deviation of it over unseen text of equal length
    words: list               # share of the words in generated text that are in training; words
    words_real: float         # of one or two letters do not count; the same for validation text
    names: float              # share of the words it misses that validation never writes small
    letters_off: float        # order 1: largest difference of a character's share from the book
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
    n, said = min(10, longest(v)), min(10_000, len(train) // 100)
    book, rows = level(pack(train, n, v), v).grams, []
    lexicon = {word.lower() for word in words(tokenizer.decode(train))}
    with progress(len(ORDERS), "counting") as step:
        for k in ORDERS:
            rows.append(one(train, validation, k, tokenizer, seed, said, book, n, lexicon))
            step(1)
    lists = list(map(list, zip(*rows)))
    first = MarkovChain.fit(train, 1, v)
    matrix = shown(first, tokenizer)
    unseen = tokenizer.decode(validation)
    i, j = np.unravel_index(matrix[2:, 2:].argmax(), (26, 26))
    return Result(
        corpus.name, v, len(train), len(validation), list(ORDERS), *lists[:-3], n, said,
        *lists[-3:-1], pieces(find(book, pack(validation, n, v))[1], said), lists[-1],
        known(unseen, lexicon), names(unseen, lexicon),
        letters_off([speak(first, said, seed + i) for i in range(TEXTS)], train),
        [SHOWN[i + 2], SHOWN[j + 2], float(matrix[i + 2, j + 2])], matrix.round(4).tolist(),
        slower(train[:100_000 if fast else 1_000_000], 3, v))


def one(train, validation, k, tokenizer, seed, length, book, n, lexicon):
    """The columns of one order; `book` and `lexicon` hold all runs and words of the training."""
    v = tokenizer.vocab_size
    chain = MarkovChain.fit(train, k, v)
    unseen = chain.log_probabilities(validation)
    zero = np.isinf(unseen)
    said = [speak(chain, length, seed + i) for i in range(TEXTS)]
    copied = [float(find(book, pack(text, n, v))[1].mean()) for text in said]
    return (chain.parameters, len(chain.counts.contexts),
            float(-chain.log_probabilities(train).mean()), float(zero.mean()),
            float(-unseen[~zero].mean()),
            tokenizer.decode(said[0][:130]).replace("\n", "⏎"), float(np.mean(copied)),
            [min(copied), max(copied)],
            float(np.mean([known(tokenizer.decode(text), lexicon) for text in said])))


def table(result):
    """One row an order."""
    return [["order", "table", "contexts", "nats", "impossible", "copied", "real words"]] + [
        [k, f"{p:.1e}", f"{c:,}", f"{t:.3f}", f"{100 * z:.2f} %", f"{100 * w:.0f} %", f"{r:.0%}"]
        for k, p, c, t, z, w, r in zip(result.orders, result.parameters, result.contexts,
                                       result.train_nats, result.impossible, result.copied,
                                       result.words)]


def show(result):
    """Print the table, then let every chain speak."""
    print(f"{result.source}: {result.train:,} characters counted, {result.validation:,} held "
          f"back, V = {result.vocabulary}")
    print_table(table(result))
    print(f"“copied”: runs of {result.run_length} characters that stand in the training text; "
          f"of the text\nheld back {100 * result.copied_real[0]:.0f} % do. A dictionary takes "
          f"{result.counter_over_sort:.0f}× the time of sorting.")
    for k, said in zip(result.orders, result.samples):
        print(k, said[:78])


def draw(result, path):
    """Left: who follows whom. Right: with the order, training loss falls and failures rise."""
    import matplotlib.pyplot as plt
    fig, axes = plt.subplot_mosaic("LU;LD", figsize=(9.4, 5), width_ratios=(1.35, 1))
    left = axes["L"]
    image = left.imshow(np.sqrt(result.matrix), cmap="Blues", vmin=0, vmax=1)
    bar = fig.colorbar(image, ax=left, fraction=0.046, pad=0.02, label="probability")
    bar.set_ticks(np.sqrt([0, 0.1, 0.3, 0.6, 1]), labels=["0", ".1", ".3", ".6", "1"])
    left.set(xlabel="next character", ylabel="previous character")
    for ticks in (left.set_xticks, left.set_yticks):
        ticks(range(28), ["␣", "⏎", *SHOWN[2:]], fontsize=8)
    left.tick_params(length=0)
    left.set_title("Who follows whom: P({1} after {0}) = {2:.4f}".format(*result.sure))
    axes["U"].plot(result.orders, result.train_nats, "o-", color="#1f5fa8")
    axes["U"].set(ylim=0, ylabel="nats a character", xticks=result.orders, title=(
        f"Order {result.orders[-1]} fits the training text best: {result.train_nats[-1]:.2f} nats"))
    axes["D"].plot(result.orders, 100 * np.array(result.impossible), "o-", color="#b03a2e")
    axes["D"].set(ylim=0, ylabel="% impossible", xticks=result.orders, title=(
        f"but calls {result.impossible[-1]:.0%} of unseen text impossible"),
                  xlabel="order: characters of context")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
