"""Day 16 · Mistakes with modules and with comparing models that everyone makes once."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="Gradients are not forgotten between steps",
        file="llm/models/neural_ngram.py",
        right="        model.zero_grad()\n",
        wrong="",
        symptom="The loss falls for a few steps, then oscillates and explodes at any usual rate."),
    Mistake(
        title="A shared parameter is counted, and stepped, twice",
        file="llm/layers/module.py",
        right="if tensor.requires_grad and id(tensor) not in seen:",
        wrong="if tensor.requires_grad:",
        symptom="The model with one table at both ends seems to have two, and that table moves "
                "twice as far as all other parameters."),
    Mistake(
        title="Weights that load half",
        file="llm/layers/module.py",
        right="            if array.shape != given[path].shape:",
        wrong="            if array.size < given[path].size:",
        symptom="A checkpoint of another shape loads without a word, or stops in the middle and "
                "leaves a model that is half old, half new."),
    Mistake(
        title="Loading binds new arrays instead of copying values",
        file="llm/layers/module.py",
        right="        for path, array in mine.items():\n            array[...] = given[path]",
        wrong="        for path, tensor in self.named_parameters().items():\n"
              "            tensor.data = given[path]",
        symptom="After loading, the running statistics are the old ones, a float32 model computes "
                "in float64, and changing the saved copy changes the model."),
    Mistake(
        title="A parent reads the weights of its child",
        file="llm/models/neural_ngram.py",
        right="x = x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1]) ",
        wrong="x = x.reshape(*x.shape[:-2], self.hidden.w.shape[0]) ",
        symptom="All is well until a layer is replaced; then the model asks the new one for a "
                "weight that it does not have."),
    Mistake(
        title="Everything is drawn with the same spread",
        file="llm/layers/module.py",
        right="std = 1 / math.sqrt(cin) if std is None else std",
        wrong="std = 1.0 if std is None else std",
        symptom="The first loss is several times ln V, and tanh units sit at −1 or 1 and do not "
                "learn."),
    Mistake(
        title="Logarithms are averaged instead of probabilities",
        file="llm/models/neural_ngram.py",
        right="return np.logaddexp(a + np.log(np.float64(weight)), "
              "b + np.log1p(-np.float64(weight)))",
        wrong="return weight * a + (1 - weight) * b",
        symptom="No weight makes the mixture better than the better of the two models."),
]

EQUIVALENT = [
    ("llm/models/neural_ngram.py",
     "parts.append(np.take_along_axis(logp, chosen, 1)[:, 0].astype(np.float64))",
     "logp has two axes, and axis 1 is the last"),
    ("llm/models/neural_ngram.py",
     "return np.logaddexp(b + np.log1p(-np.float64(weight)), a + np.log(np.float64(weight)))",
     "a sum of two numbers does not depend on their order"),
]
