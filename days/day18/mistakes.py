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
        right='return p.ndim >= 2 and name.split(".")[-1] != "table"',
        wrong="return True",
        symptom="Gains of norms drift from 1 towards 0 and rare tokens' embeddings fade."),
    Mistake(
        title="The step count is not saved",
        file="llm/train/adam.py",
        right='        self.t = dict(zip(self.t, (int(n) for n in state["t"])))',
        wrong="",
        symptom="A resumed run jumps: the moments are old, the correction thinks they are new."),
    Mistake(
        title="The iteration starts from a matrix of any size",
        file="llm/train/muon.py",
        right="    x = x / np.linalg.norm(x) ",
        wrong="    x = x / 1.0               ",
        symptom="Singular values above 1.26 grow at each iteration, and after five of them the "
                "step is infinite or NaN."),
    Mistake(
        title="Embeddings and the head are made orthogonal too",
        file="llm/train/muon.py",
        right='    return p.ndim == 2 and not f".{name}".endswith((".table", ".out.w", ".head.w"))',
        wrong="    return p.ndim == 2",
        symptom="Rows of tokens that did not occur in the batch move as far as those that did."),
    Mistake(
        title="AdamW's rate is used for a step that is not of AdamW's size",
        file="llm/train/muon.py",
        right="    p -= rate * 0.2 * math.sqrt(max(p.shape)) * orthogonalize(",
        wrong="    p -= rate * orthogonalize(",
        symptom="The larger a matrix is, the less it moves beside the vectors; wide models learn "
                "as if their hidden matrices were frozen."),
]

EQUIVALENT = [
    ("llm/train/adam.py",
     "g = g.astype(v.dtype, copy=True)" + 12 * " " + "# float16's squares would end at 65,504",
     "the gradient is only read here, so a copy of it costs time and nothing else"),
    ("llm/train/muon.py", "if (math.sqrt(r) / narrow) <= (low):",
     "a dip exactly at the band's edge: no two bounds give it to the last digit"),
    ("llm/train/muon.py",
     "r = bisect(lambda r: curve(1, r) * low - curve(math.sqrt(r), r) * high, 2, 5)",
     "a band with r below 2 is so narrow that the dip lies outside it, and is refused"),
]
