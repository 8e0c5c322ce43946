"""Day 06 · Common mistakes in smoothing."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="Kneser–Ney with plain counts in the shorter contexts",
        file="llm/models/smoothing.py",
        right="            levels.insert(0, level(levels[0].grams % np.uint64(vocab_size**n), "
              "vocab_size))",
        wrong="            levels.insert(0, level(pack(ids, n, vocab_size), vocab_size))",
        symptom="Everything sums to 1, and Kneser–Ney scores the same as absolute discounting.",
    ),
    Mistake(
        title="One discount is handed on where one was taken from every run",
        file="llm/models/smoothing.py",
        right="total[level.owner], level.per_context(cut) / total",
        wrong="total[level.owner], steps[0] / total",
        symptom="Generated text looks fine, yet the loss is too high, and the more different "
                "tokens follow a context, the further its distribution falls short of 1.",
    ),
    Mistake(
        title="A context that was never seen still scales",
        file="llm/models/ngram.py",
        right="            longer[~seen] *= np.where(known, escape[context], 1.0)",
        wrong="            longer[~seen] *= escape[context]",
        symptom="Each distribution asked for alone sums to 1, but the loss of a text is higher "
                "than those distributions say, and more so with every order.",
    ),
    Mistake(
        title="k is not counted once for each token of the vocabulary",
        file="llm/models/smoothing.py",
        right="        kept, free = dirichlet(level, k * vocab_size)",
        wrong="        kept, free = dirichlet(level, k)",
        symptom="Add-one hardly smooths: a token seen once in a context keeps half of it, and the "
                "best k seems to lie V times higher than in the books.",
    ),
]

EQUIVALENT = [
    ("llm/models/smoothing.py",
     "steps = np.full(4, discount) if discount else discounts(level.counts)",
     "only the first three are ever looked at"),
]
