"""Day 25 · Common mistakes with fast tokenizers, as data for the drills."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="a run of spaces keeps its last one",
        file="llm/tokens/engine/split.py",
        right="    return i if at_end or last == start else last",
        wrong="    return i",
        symptom="Plain sentences get the ids of tiktoken; indented code does not, and the word "
                "after the indentation has lost its space."),
    Mistake(
        title="Python's idea of white space instead of Unicode's",
        file="llm/tokens/engine/classes.py",
        right="WHITE_SPACE = (*range(0x09, 0x0E), 0x20, 0x85,",
        wrong="WHITE_SPACE = (*range(0x09, 0x0E), *range(0x1C, 0x20), 0x20, 0x85,",
        symptom="Of two thousand random strings a handful differ from tiktoken; each has one of "
                "the control characters U+001C to U+001F, for which str.isspace() is true."),
    Mistake(
        title="places of a pair are trusted though the text has changed",
        file="llm/tokens/engine/merges.py",
        right="            if symbols[i] != a or j < 0 or symbols[j] != b:\n"
              "                continue                              # merged away since it was "
              "noted",
        wrong="            if symbols[i] < 0 or j < 0:\n"
              "                continue                              # merged away since it was "
              "noted",
        symptom="The first merges are right, then the vocabulary fills with pieces that make no "
                "sense, and encoding the training text does not give what training ended with."),
    Mistake(
        title="the neighbours of a merge are counted, but not discounted",
        file="llm/tokens/engine/merges.py",
        right="counts[slots[find(slots, keys, packed(b, symbols[q]))] - 1] -= weight",
        wrong="counts[slots[find(slots, keys, packed(b, symbols[q]))] - 1] -= 0",
        symptom="Training is fast and plausible, but some rounds merge a pair that is not the "
                "most frequent any more."),
    Mistake(
        title="special tokens act in every text",
        file="llm/tokens/fast_bpe.py",
        right="        if special:\n            return self.encode_batch([text], special, "
              "threads=1)[0]",
        wrong='        if self.specials:\n            return self.encode_batch([text], "all", '
              "threads=1)[0]",
        symptom="A user who types <|endoftext|> ends the conversation."),
    Mistake(
        title="a stream is cut behind white space",
        file="llm/tokens/engine/stream.py",
        right="        if not done[-1].isspace():",
        wrong="        if done:",
        symptom="A file read in blocks gives other ids than the same text at once, about once in "
                "a megabyte of indented or blank lines."),
]

EQUIVALENT = [
    ("llm/tokens/engine/encoder.py", "if False:" + 17 * " " + "# the common case, without a search",
     "the search that follows finds the same end for a single text"),
    ("llm/tokens/engine/encoder.py",
     "self.missing = base < 0 if ((base) <= (0)).any() else None",
     "an array that marks no byte as missing refuses none, as None does"),
    ("llm/tokens/engine/encoder.py", "cache.prepare(len(ends), (int(ends[-1])))",
     "it makes room for more bytes than are needed"),
]
