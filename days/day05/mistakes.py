"""Day 05 · Common mistakes in counting."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="Counts are divided by the length of the text",
        file="llm/models/markov.py",
        right="        self.probability = counts.counts / total[counts.owner]",
        wrong="        self.probability = counts.counts / counts.counts.sum()",
        symptom="The text it writes is perfect, but the loss on the training text is higher than "
                "that of plain letter frequencies.",
    ),
    Mistake(
        title="The newest token is forgotten instead of the oldest",
        file="llm/models/markov.py",
        right="            context = run % keep  # forget the oldest token",
        wrong="            context = run // np.uint64(self.vocab_size)  # forget the oldest token",
        symptom="Scores are right. The text it writes never gets away from its first context: "
                "with order 1, only letters that follow the first letter appear.",
    ),
    Mistake(
        title="Every follower that was seen is drawn equally often",
        file="llm/models/markov.py",
        right="        ladder = np.cumsum(self.counts.counts[runs])",
        wrong="        ladder = np.cumsum(np.ones_like(self.counts.counts[runs]))",
        symptom="Scores are right, and nothing impossible is written, but rare letters are "
                "everywhere: q, z and capitals in the middle of words.",
    ),
]

EQUIVALENT = [
    ("llm/models/counts.py", "return None, slice(1, 0)",
     "this slice is as empty as slice(0, 0)"),
]
