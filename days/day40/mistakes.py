"""Day 40 · Mistakes that people make here; each makes tests/test_day40.py fail."""

from days.mistake import Mistake

LAW, MODELS = "llm/train/scaling.py", "days/day40/models.py"

MISTAKES = [
    Mistake(
        title="the exponents of the best size are swapped",
        file=LAW,
        right="             * F ** (self.beta / (self.alpha + self.beta)))",
        wrong="             * F ** (self.alpha / (self.alpha + self.beta)))",
        symptom="At one budget the split looks almost right. A hundred times larger it is far "
                "from the lowest loss: the term that falls faster needs less of the growth."),
    Mistake(
        title="the coefficients may be negative",
        file=LAW,
        right="        better = fixed & (w >= 0).all(axis=1) & (error < errors[left])",
        wrong="        better = fixed & (error < errors[left])",
        symptom="The fit is a little closer and says nonsense: a floor below zero, or a loss that "
                "falls where the model gets smaller."),
    Mistake(
        title="every column of the bootstrap is drawn by itself",
        file=LAW,
        right="            fits.append(fit(*(column[rows] for column in columns)))",
        wrong="            fits.append(fit(*(rng.permutation(c)[rows] for c in columns)))",
        symptom="The loss of one run stands beside the size of another. The intervals are enormous "
                "and mean nothing."),
    Mistake(
        title="the parabola is drawn over N, not over its logarithm",
        file=LAW,
        right="    x, L = np.log(np.asarray(N, np.float64)), np.asarray(L, np.float64)",
        wrong="    x, L = np.asarray(N, np.float64), np.asarray(L, np.float64)",
        symptom="The valley's lowest point moves far to the right, since the largest sizes pull at "
                "it, and after exp() it is not even a number."),
    Mistake(
        title="the repeated text is not repeated",
        file=MODELS,
        right="    starts = rng.permutation(text.starts)[:few]\n    while True:\n"
              "        for start in rng.permutation(starts):",
        wrong="    while True:\n        starts = rng.permutation(text.starts)[:few]\n"
              "        for start in rng.permutation(starts):",
        symptom="Few windows are drawn, but new ones in each round. Thirty-two readings cost "
                "nothing at all, which is too good to be true."),
    Mistake(
        title="the forward pass is the whole bill",
        file=MODELS,
        right="    return max(1, round(budget / (3 * count_flops(config(C)) * T)))",
        wrong="    return max(1, round(budget / (count_flops(config(C)) * T)))",
        symptom="Every run costs three times what it was said to cost; 2N FLOPs a token, not 6N."),
]

EQUIVALENT = [
    ("llm/train/scaling.py",
     "fixed = np.linalg.det(gram) > 1e-13               # else two columns say the same",
     "a determinant is never exactly the limit"),
    ("llm/train/scaling.py",
     "steps = half * np.linspace(-1, 1, SIDE)",
     "the grid is the same from either end"),
]
