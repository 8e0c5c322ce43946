"""Day 21 · Mistakes with normalisation that everyone makes once."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="The mean and the scale are taken for constants in the backward",
        file="llm/functions/norm.py",
        right="    dx = rstd * (d - d.mean(axis=-1, keepdims=True)\n"
              "                 - normal * (d * normal).mean(axis=-1, keepdims=True))\n",
        wrong="    dx = rstd * d\n",
        symptom="Training goes down at first, then drifts: the gradient also points where the "
                "norm cancels every move."),
    Mistake(
        title="The wrong axis: normalising over the batch",
        file="llm/functions/norm.py",
        right="    centred = x - x.mean(axis=-1, keepdims=True)\n",
        wrong="    centred = x - x.mean(axis=0, keepdims=True)\n",
        symptom="A model writes differently when its text is alone in the batch."),
    Mistake(
        title="ε added to the standard deviation, not to the variance",
        file="llm/functions/norm.py",
        right="        return np.sqrt(square + eps)",
        wrong="        return np.sqrt(square) + eps",
        symptom="Weights taken over from another program give slightly different logits."),
    Mistake(
        title="The variance divides by C − 1",
        file="llm/functions/norm.py",
        right="        square = (x * x).mean(axis=-1, keepdims=True)",
        wrong="        square = (x * x).sum(axis=-1, keepdims=True) / (x.shape[-1] - 1)",
        symptom="Outputs are a little too small, most of all with few channels."),
    Mistake(
        title="Evaluation uses the statistics of the batch at hand",
        file="llm/layers/norm.py",
        right="        if not training:\n",
        wrong="        if not training and len(x.data) == 1:\n",
        symptom="The score of a text depends on which other texts are scored with it."),
    Mistake(
        title="The running statistics are bound to new arrays",
        file="llm/layers/norm.py",
        right="        self.mean += self.momentum * (mean - self.mean)\n",
        wrong="        self.mean = rows.mean(axis=0)\n",
        symptom="The running mean jumps with each batch, and evaluation is as noisy as the last "
                "one was odd."),
]

EQUIVALENT = [
    ("llm/functions/norm.py", "if np.isfinite(square).all():",
     "where all squares are finite, the lines after it divide by 1 and give the same numbers"),
]
