"""Day 03 · Common mistakes with strides, as drills."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="Shapes aligned at the left",
        file="llm/tensors/strides.py",
        right="zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1)",
        wrong="zip_longest(*(tuple(shape) for shape in shapes), fillvalue=1)",
        symptom="(2, 3) + (3,) is refused, and a bias is added to rows instead of columns.",
    ),
    Mistake(
        title="A slice forgets where it starts",
        file="llm/tensors/strides.py",
        right="            offset += start * stride if length else 0\n",
        wrong="            offset += 0 * stride if length else 0\n",
        symptom="x[1:] shows the elements of x[:-1], and x[::-1] reaches before the buffer.",
    ),
    Mistake(
        title="Axes are merged without asking whether their steps meet",
        file="llm/tensors/strides.py",
        right="        if out and out[-1][1] == n * stride:\n",
        wrong="        if out:\n",
        symptom="x.T.reshape(-1) gives the numbers in the order of x, or numbers of a neighbour.",
    ),
    Mistake(
        title="A repeated axis keeps its step",
        file="llm/tensors/strides.py",
        right="return tuple(new + [0 if n == 1 else stride for n, stride in zip(shape, strides)])",
        wrong="return tuple(new + [stride for n, stride in zip(shape, strides)])",
        symptom="(3, 1) + (1, 4) walks out of the buffer instead of repeating.",
    ),
]

EQUIVALENT = [
    ("llm/tensors/strides.py", "length, stride = left.pop() if left else (2, 1)",
     "without a run there is one element, and every new axis is of length 1 whatever is left"),
    ("llm/tensors/walk.py", "return max(x, y) if code == MAXIMUM else min(y, x)",
     "NaN is gone by then, so only the sign of a zero can depend on the order"),
]
