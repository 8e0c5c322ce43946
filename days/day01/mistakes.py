"""Day 01 · Common mistakes with text and ids, as data for the drills."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="the validation text overlaps the training text",
        file="llm/data/text.py",
        right="        return self.text[self.cut:]",
        wrong="        return self.text[len(self.text) * 8 // 10:]",
        symptom="The score on held-out text looks better than it should: half of that text was "
                "learned by heart."),
    Mistake(
        title="ids are numbered in the order of a set",
        file="llm/tokens/chars.py",
        right='        self.characters = "".join(sorted(set(characters)))',
        wrong='        self.characters = "".join(set(characters))',
        symptom="Each time Python starts, the same text has other ids; a saved model speaks "
                "gibberish after loading."),
    Mistake(
        title="unknown characters are dropped in silence",
        file="llm/tokens/chars.py",
        right="        if len(ids) and ids.min() < 0:",
        wrong="        ids = ids[ids >= 0]\n        if len(ids) and ids.min() < 0:",
        symptom="“café” comes back as “caf”: the text is shorter after a round trip and nobody "
                "said why."),
    Mistake(
        title="the table has no entry for what lies above the last character",
        file="llm/tokens/chars.py",
        right="        size = int(self._codes.max()) + 2 if characters else 1",
        wrong="        size = int(self._codes.max()) + 1 if characters else 1",
        symptom="Every emoji comes back as the last character of the alphabet, without an error."),
]

EQUIVALENT = [
    ("llm/data/download.py", 'text=False, errors="replace", timeout=SECONDS)',
     "`errors` alone already asks for text"),
]
