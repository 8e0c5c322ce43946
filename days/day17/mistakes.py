"""Day 17 · Mistakes with momentum that everyone makes once."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="The gradient is scaled by 1 − μ and the rate is not",
        file="llm/train/sgd.py",
        right="                v += p.grad\n",
        wrong="                v += (1 - self.momentum) * p.grad\n",
        symptom="A rate taken from a paper learns ten times slower than the paper says, at "
                "μ = 0.9: there are two conventions, and this is the other one."),
    Mistake(
        title="Nesterov without the gradient of now",
        file="llm/train/sgd.py",
        right="move = p.grad + self.momentum * v if self.nesterov else v",
        wrong="move = self.momentum * v if self.nesterov else v",
        symptom="Nesterov is no better than momentum, and its first step is a little too short."),
    Mistake(
        title="The velocity is not copied when a run goes on",
        file="llm/train/sgd.py",
        right="        array[...] = state[key]\n",
        wrong="        mine[key] = state[key]\n",
        symptom="The loss of a resumed run is a little worse for some ten steps, then as before."),
    Mistake(
        title="The velocity is the gradient's own array",
        file="llm/train/sgd.py",
        right="                v = self.v[name]\n                v *= self.momentum\n"
              "                v += p.grad\n",
        wrong="                v = p.grad\n                v += self.momentum * self.v[name]\n"
              "                self.v[name] = v\n",
        symptom="Right as long as gradients are new arrays; with accumulated gradients, or a "
                "norm that is logged after the step, numbers grow from nowhere."),
]

EQUIVALENT = [
    ("llm/train/sgd.py",
     "return {name: np.zeros_like(p.data, np.promote_types(np.float32, p.dtype))",
     "the wider of two types does not depend on their order"),
]
