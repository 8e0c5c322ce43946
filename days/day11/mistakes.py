"""Day 11 · Common mistakes with embeddings and windows."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="Negative ids count from the end",
        file="llm/functions/embedding.py",
        right="    if ids.min() < 0 or ids.max() >= size:",
        wrong="    if ids.max() >= size:",
        symptom="Padding of −1 or −100 raises nothing; every padded place gets the vector of the "
                "last tokens of the vocabulary.",
    ),
    Mistake(
        title="The target is the last token of the window",
        file="llm/models/window.py",
        right="sliding_window_view(ids, context)[:-1], ids[context:]",
        wrong="sliding_window_view(ids, context)[:-1], ids[context - 1:-1]",
        symptom="Untrained, all looks well; once trained the loss falls to almost 0, and what "
                "the model writes is one letter for ever.",
    ),
    Mistake(
        title="The output layer is not scaled by its inputs",
        file="llm/models/window.py",
        right='"w2": scale * hidden ** -0.5, "b2": 0.0}',
        wrong='"w2": scale, "b2": 0.0}',
        symptom="Before any training the loss is many nats above ln V, worse than a uniform guess.",
    ),
    Mistake(
        title="The embeddings are laid out channel by channel, not token by token",
        file="llm/models/window.py",
        right="    x = embedding(table, ids)                                  # (..., T, C)",
        wrong="    x = np.swapaxes(embedding(table, ids), -1, -2)             # (..., T, C)",
        symptom="Shapes fit and the model trains, but weights trained elsewhere give nonsense, and "
                "rows t·C to t·C + C − 1 of w1 are no longer those of position t.",
    ),
]

EQUIVALENT = [
    ("llm/functions/embedding.py",
     "embedding(np.empty((vocab_size, 1)), ids)  # says what is wrong with the ids",
     "the rows that are looked up here are thrown away"),
]
