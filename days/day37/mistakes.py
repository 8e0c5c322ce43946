"""Day 37 · Mistakes that people make here; each makes tests/test_day37.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="a tie is rounded up, away from the even number",
        file="llm/train/halves.py",
        right="    steps = round(math.ldexp(abs(value), format.fraction - exponent))"
              "   # Python rounds ties to even",
        wrong="    steps = math.floor(math.ldexp(abs(value), format.fraction - exponent) + .5)",
        symptom="Single numbers look right. Sums of many rounded numbers drift upwards."),
    Mistake(
        title="a bfloat16 is made by cutting bits off",
        file="llm/train/halves.py",
        right="        return from_bfloat16(to_bfloat16(x))",
        wrong="        return (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)",
        symptom="Every weight moves towards 0 at every update, by half the distance of two "
                "neighbours on average."),
    Mistake(
        title="gradients are clipped while they are still scaled",
        file="llm/train/precision.py",
        right="        for g in gradients:\n            g *= 1 / self.scale\n",
        wrong="",
        symptom="Every step is clipped, and Adam's rate hides most of the damage; the logged norm "
                "is 65,536 times too large."),
    Mistake(
        title="the loss is scaled, and the logged loss with it",
        file="llm/train/precision.py",
        right="    data = property(lambda self: self.value.data)",
        wrong="    data = property(lambda self: self.value.data * np.float32(self.scaler.scale))",
        symptom="The training loss in the log is about 180,000 and doubles now and then."),
    Mistake(
        title="an overflowed gradient is set to zero, and the step taken",
        file="llm/train/precision.py",
        right="            g *= 1 / self.scale",
        wrong="            g *= 1 / self.scale\n"
              "            np.nan_to_num(g, copy=False, posinf=0, neginf=0)",
        symptom="Nothing is skipped. Adam counts the step, its moments shrink, and weights with "
                "large gradients are the ones that do not learn."),
    Mistake(
        title="after an overflow the scale is never raised again",
        file="llm/train/precision.py",
        right="            self.scale, self.good = min(2 * self.scale, HIGHEST), 0",
        wrong="            self.good = 0",
        symptom="Nothing at first. After some thousand steps with a rare overflow each, the scale "
                "is 1 and small gradients are zeros again."),
    Mistake(
        title="the count of good steps is not reset by an overflow",
        file="llm/train/precision.py",
        right="        self.good = self.good + 1 if finite else 0",
        wrong="        self.good = self.good + finite",
        symptom="The scale doubles right after it was halved, and the next step overflows again."),
]

EQUIVALENT = []
