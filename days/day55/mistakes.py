"""Day 55 · Mistakes that people make with adapters and prefixes; each fails tests/test_day55.py."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="Both matrices of an adapter are drawn at random",
        file="llm/tune/adapters.py",
        right="        self.up = Linear(width, channels, rng, std=0.0, dtype=dtype)",
        wrong="        self.up = Linear(width, channels, rng, dtype=dtype)",
        symptom="The first loss is far above the base's: a random change was added behind every "
                "branch, and the first steps go into removing it."),
    Mistake(
        title="The adapter stands in the way instead of beside it",
        file="llm/tune/adapters.py",
        right="        return y + self.up(ops.gelu(self.down(y)))",
        wrong="        return self.up(ops.gelu(self.down(y)))",
        symptom="Before training, no branch says anything at all: the model only knows the last "
                "token, and all it learns has to pass through 16 channels."),
    Mistake(
        title="The answers of the wrong rows are taken",
        file="llm/functions/join.py",
        right="    return np.ascontiguousarray(x[:, P:]), (P,)",
        wrong="    return np.ascontiguousarray(x[:, :x.shape[1] - P]), (P,)",
        symptom="Shapes are right and the loss falls a little; the last P tokens of a text never "
                "have any influence, and the first P outputs are those of empty queries."),
    Mistake(
        title="The gradient of a shared row is the mean over the batch",
        file="llm/functions/join.py",
        right="    return dout[:, :P, dout.shape[2] - w:].sum(axis=0), dout[:, P:]",
        wrong="    return dout[:, :P, dout.shape[2] - w:].mean(axis=0), dout[:, P:]",
        symptom="With Adam nothing seems wrong, since it divides by the gradient's size. A check "
                "by differences is off by a factor of B, and clipping acts too late."),
    Mistake(
        title="BitFit trains the biases of the base that others use",
        file="llm/tune/adapters.py",
        right="            tensor.data, tensor.requires_grad = tensor.data.copy(), True",
        wrong="            tensor.requires_grad = True",
        symptom="One task learns, and every other task on the same base gets a little worse with "
                "each of its steps."),
    Mistake(
        title="Queries and keys are kept as a prefix, not keys and values",
        file="llm/tune/prefix.py",
        right="            found.append(qkv[:, model.config.C:].copy())",
        wrong="            found.append(qkv[:, :qkv.shape[1] - model.config.C].copy())",
        symptom="The prefix starts worse than the prompt that it was made from, though the two "
                "should give the same logits."),
]
