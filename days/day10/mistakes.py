"""Day 10 · Common mistakes in linear layers and activations."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="The sigmoid exponentiates a large number",
        file="llm/functions/dense.py",
        right="    e = np.exp(-np.abs(x))                  # in (0, 1]\n"
              "    return np.maximum(e, x >= 0) / (1 + e)  "
              "# 1 above where x ≥ 0; np.where takes far longer",
        wrong="    return 1 / (1 + np.exp(-x))",
        symptom="A warning 'overflow encountered in exp' on inputs far below 0, once training "
                "makes logits large.",
    ),
    Mistake(
        title="The weights of the hinges are the slopes, not the changes of slope",
        file="llm/functions/hinges.py",
        right="    bend = np.diff(slope, prepend=0)           ",
        wrong="    bend = slope                               ",
        symptom="The network meets the first two points, then shoots away from the curve.",
    ),
    Mistake(
        title="The cubic term of GELU has lost a factor x",
        file="llm/functions/dense.py",
        right="np.tanh(GELU_SLOPE * near * (1 + GELU_CUBIC * near * near))",
        wrong="np.tanh(GELU_SLOPE * near * (1 + GELU_CUBIC * near))",
        symptom="GELU(1) is right to the last digit, training works; a pretrained model's "
                "output is subtly worse than published.",
    ),
    Mistake(
        title="The leading axes are not put back",
        file="llm/functions/dense.py",
        right="    return y.reshape(*x.shape[:-1], cout)",
        wrong="    return y",
        symptom="Two-dimensional inputs work; a batch of sequences (B, T, C) comes out as "
                "(B·T, C), and the next layer complains about its shape.",
    ),
]

EQUIVALENT = [
    ("llm/functions/dense.py", "return np.maximum(0, x)",
     "the larger of two numbers does not depend on their order"),
    ("llm/functions/dense.py",
     "return np.maximum(e, (x) > (0)) / (1 + e)  # 1 above where x ≥ 0; np.where takes far longer",
     "at x = 0 the other number, e, is 1 as well"),
]
