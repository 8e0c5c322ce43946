"""Day 09 · Common mistakes in softmax regression."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="A repeated context keeps only its last gradient",
        file="llm/models/bigram.py",
        right="    np.add.at(dw, contexts, dz)        "
              "# a context met twice gets both; dw[contexts] += dz loses one",
        wrong="    dw[contexts] += dz                 # each pair adds to the row of its context",
        symptom="The loss is right, but steps barely move it, and the rows of frequent contexts "
                "learn no faster than those of rare ones.",
    ),
    Mistake(
        title="The one-hot target is added instead of taken away",
        file="llm/models/bigram.py",
        right="    dz[np.arange(n), targets] -= 1     # p − y",
        wrong="    dz[np.arange(n), targets] += 1     # the one-hot target",
        symptom="The loss climbs from the first step on, and the rows of the gradient sum to twice "
                "the share of their context.",
    ),
    Mistake(
        title="Every row's gradient is weighted alike",
        file="llm/models/bigram.py",
        right="    return -(joint * log_p).sum(), share * np.exp(log_p) - joint",
        wrong="    return -(joint * log_p).sum(), np.exp(log_p) - joint",
        symptom="The loss comes down, then settles far above counting, at a table that is "
                "close to uniform for rare contexts.",
    ),
]
