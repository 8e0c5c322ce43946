"""Day 02 · Common mistakes with vectors, as drills."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="The norm without its square root",
        file="llm/tensors/vectors.py",
        right="    return math.sqrt(dot(u, u))\n",
        wrong="    return dot(u, u)\n",
        symptom="norm([3, 4]) is 25, and cosines shrink the longer the vectors are.",
    ),
    Mistake(
        title="Company counted on one side only",
        file="llm/tensors/word_vectors.py",
        right="    return counts + counts.T\n",
        wrong="    return counts\n",
        symptom="Counts of (w, c) and (c, w) differ, and neighbours are words followed by the same "
                "words only.",
    ),
    Mistake(
        title="Smoothing the word instead of its company",
        file="llm/tensors/word_vectors.py",
        right="    company = counts.sum(axis=0, keepdims=True) ** smoothing           # (1, V)\n",
        wrong="    company = counts.sum(axis=1, keepdims=True) ** smoothing           # (1, V)\n",
        symptom="Words that are independent of each other get a PPMI above 0.",
    ),
    Mistake(
        title="The question's own words are left among the answers",
        file="llm/tensors/word_vectors.py",
        right="return self.nearest(self[b] - self[a] + self[c], count, without=(a, b, c))",
        wrong="return self.nearest(self[b] - self[a] + self[c], count)",
        symptom="man : woman = king : king. Every analogy answers itself.",
    ),
]

EQUIVALENT = [
    ("llm/tensors/timing.py", "batch[key] = 1 + int(at_least / max(1e-9, first))",
     "the larger of two numbers does not depend on their order"),
    ("llm/tensors/vectors.py",
     "largest = np.abs(x).max(axis=1, keepdims=True)                   # (N, 1)",
     "x has two axes, and axis 1 is the last"),
    ("llm/tensors/word_vectors.py", "return np.log(np.maximum(1.0, ratio))",
     "the larger of two numbers does not depend on their order"),
]
