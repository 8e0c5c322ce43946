"""Day 23 · Mistakes that people make here; each makes tests/test_day23.py fail."""

from days.mistake import Mistake

PROBE, VERDICT = "llm/train/probe.py", "llm/train/verdict.py"

MISTAKES = [
    Mistake(
        title="the weights before the update are not copied",
        file=PROBE,
        right="            self._seen, before = [], {name: p.data.copy() for name, p in "
              "parameters.items()}",
        wrong="            self._seen, before = [], {name: p.data for name, p in "
              "parameters.items()}",
        symptom="Updates happen in place, so the weights before are the weights after, and every "
                "update is 0."),
    Mistake(
        title="a unit counts as dead where it is zero once",
        file=PROBE,
        right="        dead = (rows == DEAD[name]).all(axis=0).mean() if name in DEAD else 0.0",
        wrong="        dead = (rows == DEAD[name]).mean() if name in DEAD else 0.0",
        symptom="Half of all units of a healthy ReLU network are reported dead. Being 0 for half "
                "of the rows is what a ReLU is for."),
    Mistake(
        title="the probe keeps the activations of every step",
        file=PROBE,
        right="            if len(self.norms) % self.every == 0:",
        wrong="            if True:",
        symptom="The numbers are the same, for a while. Memory grows with each step between two "
                "looks."),
    Mistake(
        title="a loss that is not a number breaks no rule",
        file=VERDICT,
        right="        if beyond or not math.isfinite(value):",
        wrong="        if beyond:",
        symptom="NaN is neither above nor below a limit. The worst run of all is called healthy."),
    Mistake(
        title="the squares are added in the gradients' own type",
        file=PROBE,
        right="    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) if x.size else "
              "0.0",
        wrong="    return float(np.sqrt(np.mean(np.square(x)))) if x.size else 0.0",
        symptom="Sizes above 2e19 or below 1e-23 become infinite or 0, just in the runs that one "
                "wants to look at."),
]

EQUIVALENT = [
    ("llm/train/probe.py",
     'at = np.clip(0, np.searchsorted(BINS, np.log10(size), side="right") - 1, len(BINS) - 1)',
     "of 0, a place and the last place the clip takes the middle one, in whatever order the first "
     "two stand"),
]
