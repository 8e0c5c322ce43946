"""Day 19 · Mistakes with rates and clipping that everyone makes once."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="The warmup begins at nothing",
        file="llm/train/schedule.py",
        right="            return self.peak * step / self.warmup\n        u = ",
        wrong="            return self.peak * (step - 1) / self.warmup\n        u = ",
        symptom="The first step changes no parameter at all, and at the end of the warmup the rate "
                "jumps by two parts, not one."),
    Mistake(
        title="The cosine counts from step 1, not from the end of the warmup",
        file="llm/train/schedule.py",
        right="u = min((step - self.warmup) / max(total - self.warmup, 1), 1.0)",
        wrong="u = min(step / total, 1.0)",
        symptom="The peak is never reached, and after a long warmup the rate drops at once."),
    Mistake(
        title="The cosine is allowed to turn up again",
        file="llm/train/schedule.py",
        right="u = min((step - self.warmup) / max(total - self.warmup, 1), 1.0)",
        wrong="u = (step - self.warmup) / max(total - self.warmup, 1)",
        symptom="A run that goes on past its planned end gets worse with each step."),
    Mistake(
        title="Each array is clipped by its own norm",
        file="llm/train/clip.py",
        right="            scale(g, limit / norm)\n",
        wrong="            scale(g, min(1.0, limit / math.sqrt(squared_norm(g))))\n",
        symptom="Clipping turns the gradient: large layers are shortened, small ones are not."),
    Mistake(
        title="Short gradients are stretched to the limit",
        file="llm/train/clip.py",
        right="if math.isfinite(norm) and norm > limit:",
        wrong="if math.isfinite(norm) and norm > 0:",
        symptom="Plain steps are all equally long: near a minimum they no longer get shorter, and "
                "the loss stalls."),
    Mistake(
        title="A NaN norm is applied",
        file="llm/train/clip.py",
        right="if math.isfinite(norm) and norm > limit:",
        wrong="if not norm <= limit:",
        symptom="One bad number in one gradient, and after that step every parameter is NaN."),
]

EQUIVALENT = [
    ("llm/train/schedule.py", "if (step) <= (self.warmup):",
     "at the last step of the warmup both formulas give the peak"),
    ("llm/train/schedule.py",
     "weight = memory * weight + (2 - memory)" + 14 * " " + "# the weights so far add up to this",
     "it divides all averages by one and the same factor more, and only the lowest is asked for"),
]
