"""Day 28 · Mistakes with the causal mask that everyone makes once."""

from days.mistake import Mistake

FILE = "llm/functions/causal.py"
MISTAKES = [
    Mistake(
        title="The mask has one column too many",
        file=FILE,
        right="return np.tri(T, dtype=bool)",
        wrong="return np.tri(T, k=1, dtype=bool)",
        symptom="The training loss falls far below anything seen before; the model writes "
                "nonsense."),
    Mistake(
        title="The mask is upside down",
        file=FILE,
        right="return np.tri(T, dtype=bool)",
        wrong="return np.tri(T, dtype=bool).T",
        symptom="The first token sees everything, the last only itself; the loss is too good."),
    Mistake(
        title="A token may not see itself",
        file=FILE,
        right="return np.tri(T, dtype=bool)",
        wrong="return np.tri(T, k=-1, dtype=bool)",
        symptom="An error about a query that sees no key; without that check, NaN everywhere."),
    Mistake(
        title="Hidden scores become 0 instead of −∞",
        file="llm/functions/attention.py",
        right="scores = np.where(visible, scores, -np.inf)",
        wrong="scores = np.where(visible, scores, 0)",
        symptom="Every row sums to 1, yet early tokens answer with a blend of the whole text."),
    Mistake(
        title="Weights are zeroed after the softmax",
        file="llm/functions/attention.py",
        right="        scores = np.where(visible, scores, -np.inf)\n    weights = softmax(scores) ",
        wrong="        pass\n    weights = softmax(scores) * (1 if visible is None else visible) ",
        symptom="Early outputs are too small, and they change when a later token does."),
    Mistake(
        title="A block of queries without its triangle",
        file=FILE,
        right="np.tri(end - t, end, t, dtype=bool) if block > 1 else None",
        wrong="None",
        symptom="Row by row is right; in blocks, tokens see to the end of their block."),
]

EQUIVALENT = [
    ("llm/functions/causal.py",
     "visible = np.tri(end - t, end, t, dtype=bool) if (block) >= (1) else None    # (b, end)",
     "with block 1 the mask is a single row of True"),
]
