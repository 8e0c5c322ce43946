"""Day 24 · Common mistakes with byte pairs, as data for the drills."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="encoding merges whatever can be merged first",
        file="llm/tokens/bpe.py",
        right="            pair = min(pairwise(ids), key=lambda p: self.rank.get(p, "
              "len(self.rank)))",
        wrong="            pair = min(pairwise(ids), key=lambda p: p not in self.rank)",
        symptom="The very text the merges were learned from gets more tokens than training ended "
                "with, though decoding it is still right."),
    Mistake(
        title="a merged pair lends its second half to the next pair",
        file="llm/tokens/bpe.py",
        right="            merged.append(new)\n            i += 2",
        wrong="            merged.append(new)\n            i += 1",
        symptom="Letters are doubled after a round trip: “aab” comes back as “aabb”."),
    Mistake(
        title="ties are left to the order in which pairs were seen",
        file="llm/tokens/bpe.py",
        right="    pair = min(counts, key=lambda p: (-counts[p], p), default=None)",
        wrong="    pair = min(counts, key=lambda p: -counts[p], default=None)",
        symptom="The same sentences in another order give another vocabulary; a colleague's ids "
                "do not fit your model."),
    Mistake(
        title="decoding insists on whole characters",
        file="llm/tokens/bpe.py",
        right='.decode("utf-8", errors="replace")',
        wrong='.decode("utf-8", errors="strict")',
        symptom="A model that is printed token by token crashes at the first emoji."),
]
