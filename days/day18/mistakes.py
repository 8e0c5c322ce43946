"""Day 18 · Mistakes with adaptive steps that everyone makes once."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="Adam without bias correction of the second moment",
        file="llm/train/adam.py",
        right="np.sqrt(v / (1 - beta2**t))",
        wrong="np.sqrt(v)",
        symptom="The first steps are some thirty times too long, and the loss jumps before it "
                "falls."),
    Mistake(
        title="ε inside the root",
        file="llm/train/adam.py",
        right="(np.sqrt(v / (1 - beta2**t)) + eps)",
        wrong="np.sqrt(v / (1 - beta2**t) + eps)",
        symptom="Parameters with small gradients, below 1e-4, hardly move."),
    Mistake(
        title="Decay mixed into the gradient",
        file="llm/train/adam.py",
        right="    m += (1 - beta1) * (g - m)\n",
        wrong="    g = g + decay * p\n    decay = 0.0\n    m += (1 - beta1) * (g - m)\n",
        symptom="Weights that get no gradient shrink by the full rate a step whatever the decay "
                "is, and those with large gradients are not decayed at all."),
    Mistake(
        title="Norms and biases are decayed too",
        file="llm/train/adam.py",
        right='return p.ndim >= 2 and not name.endswith("table")',
        wrong="return True",
        symptom="Gains of norms drift from 1 towards 0 and rare tokens' embeddings fade."),
    Mistake(
        title="The step count is not saved",
        file="llm/train/adam.py",
        right='        self.t = dict(zip(self.t, (int(n) for n in state["t"])))',
        wrong="",
        symptom="A resumed run jumps: the moments are old, the correction thinks they are new."),
]
