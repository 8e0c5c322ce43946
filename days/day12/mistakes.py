"""Day 12 · Mistakes with derivatives that everyone makes once."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="The product rule with one term only",
        file="llm/grad/dual.py",
        right="self.slope * other.value + self.value * other.slope)",
        wrong="self.slope * other.value)",
        symptom="The derivative of x·x comes out as x, that of 3·x stays right."),
    Mistake(
        title="Both sides measured, only one step divided by",
        file="llm/grad/check.py",
        right="(above - below) / (right - left)",
        wrong="(above - below) / (right - centre)",
        symptom="Every gradient known to be right is reported as half of the numerical one."),
    Mistake(
        title="The smaller the step, the better",
        file="llm/grad/check.py",
        right="STEP = np.finfo(np.float64).eps ** (1 / 3)",
        wrong="STEP = np.finfo(np.float64).eps",
        symptom="Numerical gradients are 0, or jump between a few coarse values."),
    Mistake(
        title="A comparison that NaN passes",
        file="llm/grad/check.py",
        right="if not error[worst] <= tolerance:",
        wrong="if error[worst] > tolerance:",
        symptom="The gradient check is green, and training shows a loss of NaN in its first step."),
    Mistake(
        title="The probed entry is not put back",
        file="llm/grad/check.py",
        right="            x[index] = centre\n        gradient",
        wrong="            x[index] = left\n        gradient",
        symptom="After a gradient check the weights differ in the sixth digit."),
]
