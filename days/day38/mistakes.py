"""Day 38 · Mistakes that people make here; each makes tests/test_day38.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="A softmax without taking the largest score out",
        file="llm/kernels/loss.py",
        right="            total += exp32(logits[i, j] - top)\n"
              "        lse[i] = top + np.log(total)",
        wrong="            total += exp32(logits[i, j])\n        lse[i] = np.log(total)",
        symptom="Small losses are right. With logits of 90 and more the loss stops growing.",
    ),
    Mistake(
        title="Threads that add to the same row",
        file="llm/kernels/embedding.py",
        right="        low, high = C * chunk // CHUNKS, C * (chunk + 1) // CHUNKS",
        wrong="        low, high = 0, C // CHUNKS * (chunk + 1)",
        symptom="The embedding's gradient is too large, and not the same in every run.",
    ),
    Mistake(
        title="Keys after the query left in the padded tile",
        file="llm/kernels/attention.py",
        right="    s[n:] = 0",
        wrong="    s[n:] = s[n - 1]",
        symptom="The training loss falls far below what the model writes: each token has seen "
                "some of its future.",
    ),
    Mistake(
        title="A rotation that turns the same way on the way back",
        file="llm/kernels/attention.py",
        right="    back = -sin                                                    "
              "# the opposite angles",
        wrong="    back = sin",
        symptom="Training with rotary positions learns, but worse than without kernels.",
    ),
    Mistake(
        title="Bias correction left out of the fused update",
        file="llm/kernels/adamw.py",
        right="               np.float32(1 / math.sqrt(1 - beta2**t)), np.float32(eps))",
        wrong="               np.float32(1), np.float32(eps))",
        symptom="The first steps are too long, by a factor of 32 at β₂ = 0.999.",
    ),
    Mistake(
        title="The lower half of a float32 cut off instead of rounded",
        file="llm/kernels/half.py",
        right="    rounded = (u + HALF + ((u >> BITS) & ONE)) & HIGH",
        wrong="    rounded = u & HIGH",
        symptom="Every operand is a little too small in size, and sums of products lean to zero.",
    ),
]

EQUIVALENT = [
    ("llm/kernels/half_tiles.py", "for j in range(left, min(panels, left + ACROSS)):",
     "of two numbers the smaller is the same in either order"),
    ("llm/kernels/tiles.py", "n = min(D - d, LANES)",
     "of two numbers the smaller is the same in either order"),
]
