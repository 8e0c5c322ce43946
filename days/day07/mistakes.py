"""Day 07 · Mistakes to plant: overflow, a log taken too late, means over the wrong number."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="The exponentials are taken of the logits as they come",
        file="llm/functions/probability.py",
        right="    p = np.exp(below(z, finite_peak(z, axis)))",
        wrong="    p = np.exp(z)",
        symptom="Probabilities become NaN, with an overflow warning, once a logit passes 88."),
    Mistake(
        title="One maximum is taken for the whole batch in place of one for each row",
        file="llm/functions/probability.py",
        right="    return z.max(axis=axis, keepdims=True)",
        wrong="    return z.max(keepdims=True)",
        symptom="A row of small logits next to a row of large ones turns into 0/0, and a fully "
                "masked row is no longer refused."),
    Mistake(
        title="The log is taken of probabilities that have already been rounded to 0",
        file="llm/functions/probability.py",
        right="    shifted -= np.log(np.exp(shifted).sum(axis=axis, keepdims=True))\n"
              "    return shifted",
        wrong="    return np.log(softmax(z, axis))",
        symptom="A confident wrong prediction costs infinity in place of, say, 200 nats."),
    Mistake(
        title="Ignored targets are left out of the sum and still counted in the mean",
        file="llm/functions/probability.py",
        right="[np.arange(len(ids)), ids].mean()",
        wrong="[np.arange(len(ids)), ids].sum() / targets.size",
        symptom="The more padding a batch has, the lower its loss."),
    Mistake(
        title="The entropy after a choice is added without the probability of the choice",
        file="llm/data/grammar.py",
        right="                entropy += p * h",
        wrong="                entropy += h",
        symptom="The exact entropy is far above every sampled estimate."),
]
