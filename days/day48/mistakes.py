"""Day 48 · Mistakes that people make here; each makes tests/test_day48.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="a row is squared as it is",
        file="llm/functions/gated.py",
        right="    size = np.maximum(np.abs(rows).max(axis=-1, keepdims=True), root)"
              "              # (..., 1)",
        wrong="    size = np.ones_like(rows[..., :1])",
        symptom="Nothing, until a spike in the stream passes 1e19: then the sum of squares is "
                "infinite, and the token comes out as zeros, without an error."),
    Mistake(
        title="half precision is computed in half precision",
        file="llm/functions/gated.py",
        right="    rows = x.astype(np.result_type(x, np.float32), copy=False)",
        wrong="    rows = x",
        symptom="In float32 nothing changes. In float16 the last bit or two of many results are "
                "wrong, in every norm of every layer."),
    Mistake(
        title="the backward treats the root mean square as a constant",
        file="llm/functions/gated.py",
        right="    dx = rstd * (d - normal * (d * normal).mean(axis=-1, keepdims=True))",
        wrong="    dx = rstd * d",
        symptom="The loss falls, but the gradient has a part along x, which changes nothing but "
                "the stream's length, and so this length drifts."),
    Mistake(
        title="the backward still takes the mean out, as LayerNorm's does",
        file="llm/functions/gated.py",
        right="    dx = rstd * (d - normal * (d * normal).mean(axis=-1, keepdims=True))",
        wrong="    dx = rstd * (d - d.mean(axis=-1, keepdims=True)\n"
              "                 - normal * (d * normal).mean(axis=-1, keepdims=True))",
        symptom="Training looks normal; only a gradient check sees it."),
    Mistake(
        title="ε is added after the root is taken",
        file="llm/kernels/gated.py",
        right="        return ONE / np.sqrt(squares / np.float32(row.size) + eps)",
        wrong="        return ONE / (np.sqrt(squares / np.float32(row.size)) + eps)",
        symptom="Weights of a real model give nearly the right logits; small rows come out much "
                "too large, √ε/ε = 316 times at ε = 1e-5."),
    Mistake(
        title="gate and up have changed places",
        file="llm/layers/gated.py",
        right="        return self.down(swiglu(self.gate(x), self.up(x)))",
        wrong="        return self.down(swiglu(self.up(x), self.gate(x)))",
        symptom="A model trained here is as good as before. Weights of another one, loaded by "
                "name, write nonsense."),
    Mistake(
        title="a third matrix, and the width of two",
        file="llm/layers/gated.py",
        right="    return multiple * math.ceil(2 * ratio * channels / (3 * multiple))",
        wrong="    return multiple * math.ceil(ratio * channels / multiple)",
        symptom="SwiGLU wins, with one and a half times the weights in its feed-forward."),
]

EQUIVALENT = [
    ("llm/functions/gated.py", "root = dtype.type(math.sqrt(eps)) if eps > 0 else 0",
     "ε = 0 has the root 0, which the next line refuses"),
    ("llm/kernels/gated.py", "share(2 * x.size)", "how many threads work changes the time alone"),
    ("llm/kernels/gated.py", "share(4 * gate.size)", "the same"),
    ("llm/kernels/gated.py", "g = LOWEST_GATE if gate[i, j] < LOWEST_GATE else gate[i, j]",
     "where both are equal it does not matter which is taken"),
    ("llm/kernels/gated.py", "if squares < LARGEST:", "both ways give the same at 1e38"),
    ("llm/kernels/gated.py", "dgate.reshape(-1, F), dup.reshape(-1, F))",
     "NumPy takes any negative number for −1"),
    ("llm/kernels/gated.py", "swiglu_rows(gate.reshape(-1, F), up.reshape(-1, F), "
     "out.reshape(-1, F))", "NumPy takes any negative number for −1"),
]
