"""Day 58 · Mistakes that people make here; each makes tests/test_day58.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="The reference is left out of the margin",
        file="llm/align/dpo.py",
        right="    return (chosen - ref_chosen) - (rejected - ref_rejected)",
        wrong="    return chosen - rejected",
        symptom="The loss does not begin at ln 2. Pairs that the reference orders rightly are "
                "left alone, and long answers that it finds unlikely are pushed without end."),
    Mistake(
        title="The mask stays where it was while the targets move by one",
        file="llm/align/offline.py",
        right="    targets = np.where(batch.mask[:, 1:], batch.ids[:, 1:], IGNORE)",
        wrong="    targets = np.where(batch.mask[:, :-1], batch.ids[:, 1:], IGNORE)",
        symptom="Training works, and the first token of the answer, often the one that decides "
                "between declining and helping, is never learned."),
    Mistake(
        title="1 − p by subtraction",
        file="llm/align/dpo.py",
        right="    rest = -np.expm1(mean)                                                      "
              "# 1 − p, not 1 − 1",
        wrong="    rest = 1 - np.exp(mean)",
        symptom="All is well until the model is nearly certain of an answer. Then the odds, and "
                "with them the gradient, consist of rounding errors."),
    Mistake(
        title="The reference's numbers stay behind when pairs are shuffled",
        file="llm/align/offline.py",
        right="        kept = None if self.reference is None else self.reference[rows]",
        wrong="        kept = None if self.reference is None else self.reference[:len(rows)]",
        symptom="The loss starts above ln 2 and falls slowly: every pair is compared with what "
                "the reference thinks of another one."),
    Mistake(
        title="IPO aims at 1/τ",
        file="llm/align/dpo.py",
        right="    gap = margin(chosen, rejected, ref_chosen, ref_rejected) - 1 / (2 * tau)    "
              "# (N,)",
        wrong="    gap = margin(chosen, rejected, ref_chosen, ref_rejected) - 1 / tau    # (N,)",
        symptom="Nothing that one can see: it is IPO with half the τ that is written down."),
]

EQUIVALENT = [
    ("llm/align/dpo.py", "mean = np.minimum(np.asarray(CERTAIN, mean.dtype), mean)",
     "a minimum does not mind the order"),
    ("llm/align/offline.py",
     'for row, side in zip(pair, ("chosen", "rejected"), strict=False):',
     "a pair of one or three answers is refused a few lines below as well: `collate` cannot unpack "
     "it, and that is a ValueError too"),
]
