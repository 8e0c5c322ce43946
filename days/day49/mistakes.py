"""Day 49 · Mistakes that people make here; each makes tests/test_day49.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="query heads are dealt to the key heads in turn",
        file="llm/functions/grouped.py",
        right="    shared = qkv[..., H * D:].reshape(B, T, 2 * K, 1, D)        # keys, then values"
              "\n    out[..., H * D:].reshape(B, T, 2 * K, H // K, D)[...] = shared",
        wrong="    shared = qkv[..., H * D:].reshape(B, T, 2, 1, K * D)\n"
              "    out[..., H * D:].reshape(B, T, 2, H // K, K * D)[...] = shared",
        symptom="Loaded weights speak nonsense, unless K is 1 or H. A model that is trained here "
                "learns badly, since the backward still sums over groups of neighbours."),
    Mistake(
        title="a shared head gets the mean of its copies' gradients",
        file="llm/functions/grouped.py",
        right="    shared = copies.sum(axis=3).reshape(B, T, 2 * K * D)",
        wrong="    shared = copies.mean(axis=3).reshape(B, T, 2 * K * D)",
        symptom="The loss falls, a little more slowly with plain gradient descent; with Adam, "
                "which divides by the gradient's size, one hardly notices."),
    Mistake(
        title="only the first copy's gradient is handed back",
        file="llm/functions/grouped.py",
        right="    shared = copies.sum(axis=3).reshape(B, T, 2 * K * D)",
        wrong="    shared = copies[..., 0, :].reshape(B, T, 2 * K * D)",
        symptom="The loss falls and ends higher than it should: the keys learn to serve one query "
                "head of each group."),
    Mistake(
        title="pooling splits the columns at the wrong place",
        file="llm/weights/pool.py",
        right="    D, lead = width // (H + 2 * K), array.shape[:-1]",
        wrong="    D, lead = width // (3 * H), array.shape[:-1]",
        symptom="From as many key heads as query heads all is well. A model that is pooled a "
                "second time raises an error, or mixes keys with queries."),
    Mistake(
        title="ε is left at its default",
        file="llm/models/llama.py",
        right="    return Block(RMSNorm(config.C, config.eps, dtype),\n",
        wrong="    return Block(RMSNorm(config.C, dtype=dtype),\n",
        symptom="Nothing, until weights come from a model with another ε; then the logits are "
                "nearly right, and those of the engine and of the training model differ."),
]
