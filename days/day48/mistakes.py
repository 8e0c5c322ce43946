"""Day 48 · Mistakes that people make here; each makes tests/test_day48.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="half precision is squared in half precision",
        file="llm/functions/gated.py",
        right="    rows = x.astype(np.result_type(x, np.float32), copy=False)",
        wrong="    rows = x",
        symptom="In float32 nothing changes. In float16 a row of small numbers comes out as "
                "zeros, or too large, since its squares or ε are rounded away."),
    Mistake(
        title="the backward treats the root mean square as a constant",
        file="llm/functions/gated.py",
        right="    dx = rstd * (d - normal * (d * normal).mean(axis=-1, keepdims=True))",
        wrong="    dx = rstd * d",
        symptom="The loss falls, but the gradient has a part along x, which changes nothing but "
                "the stream's length: it grows from step to step."),
    Mistake(
        title="the backward still takes the mean out, as LayerNorm's does",
        file="llm/functions/gated.py",
        right="    dx = rstd * (d - normal * (d * normal).mean(axis=-1, keepdims=True))",
        wrong="    dx = rstd * (d - d.mean(axis=-1, keepdims=True)\n"
              "                 - normal * (d * normal).mean(axis=-1, keepdims=True))",
        symptom="Training works nearly as well; only a gradient check sees it."),
    Mistake(
        title="ε is added behind the root",
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
        symptom="SwiGLU wins clearly, with half as many weights more in its feed-forward."),
]
