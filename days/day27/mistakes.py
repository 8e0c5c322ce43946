"""Day 27 · Mistakes with attention that everyone makes once."""

from days.mistake import Mistake

FILE = "llm/functions/attention.py"
MISTAKES = [
    Mistake(
        title="The softmax runs over the queries",
        file=FILE,
        right="weights = softmax(scores) ",
        wrong="weights = softmax(scores, axis=-2) ",
        symptom="No error, but outputs leave the range of the values, and one query's answer "
                "changes when another query does."),
    Mistake(
        title="The scores are not scaled",
        file=FILE,
        right="q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])",
        wrong="q @ k.swapaxes(-1, -2)",
        symptom="Small heads train, large ones stand still: every weight is near 0 or near 1."),
    Mistake(
        title="The scores are divided by D instead of its root",
        file=FILE,
        right="q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])",
        wrong="q @ k.swapaxes(-1, -2) / q.shape[-1]",
        symptom="All weights are nearly alike; every query gets the average of all values."),
    Mistake(
        title="The keys are reshaped where they should be transposed",
        file=FILE,
        right="q @ k.swapaxes(-1, -2)",
        wrong="q @ k.reshape(*k.shape[:-2], k.shape[-1], k.shape[-2])",
        symptom="The shapes fit and it trains a little, but keys are mixtures of other keys' "
                "numbers."),
    Mistake(
        title="The softmax backward without its inner product",
        file=FILE,
        right="weights * (dweights - (dweights * weights).sum(axis=-1, keepdims=True))",
        wrong="weights * dweights",
        symptom="The loss falls at first; the gradient of the scores no longer sums to 0 and "
                "a gradient check fails for q and k, not for v."),
    Mistake(
        title="The backward forgets the scale",
        file=FILE,
        right="    dscores /= math.sqrt(q.shape[-1])\n",
        wrong="",
        symptom="Gradients of q and k point the right way but are √D times too long."),
]

EQUIVALENT = [
    ("llm/functions/attention.py", "fits = np.broadcast_shapes(shape, array.shape) == shape",
     "two shapes stretch to the same shape in either order"),
]
