"""Day 53 · Mistakes that people make here; each makes tests/test_day53.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="the questions are learned as well",
        file="llm/tune/chat.py",
        right="            mask[first:last] = True",
        wrong="            mask[:last] = True",
        symptom="The loss is lower or higher than before, but falls as it should. The model spends "
                "its training on predicting what users say, and asks questions of its own."),
    Mistake(
        title="the end token is not learned",
        file="llm/tune/chat.py",
        right="            mask[first:last] = True",
        wrong="            mask[first:last - 1] = True",
        symptom="Right answers that do not end: the model goes on until the window is full."),
    Mistake(
        title="the mask says who predicts, not what is predicted",
        file="llm/tune/sft.py",
        right="    return ids[:-1], np.where(mask[1:], ids[1:], IGNORE).astype(np.int32)",
        wrong="    return ids[:-1], np.where(mask[:-1], ids[1:], IGNORE).astype(np.int32)",
        symptom="The first token of every answer is never learned. In a conversation of several "
                "turns the line break after each end token is."),
    Mistake(
        title="examples in one row see each other",
        file="llm/tune/sft.py",
        right="        with borders(index):",
        wrong="        with borders(None):",
        symptom="No error. The loss is a little off, and the model learns in contexts that it will "
                "never meet again."),
    Mistake(
        title="the same sum in training and in the test",
        file="llm/data/tasks.py",
        right="        digest = hashlib.sha256(content(task).encode()).digest()[:8]",
        wrong="        digest = hashlib.sha256(repr(task).encode()).digest()[:8]",
        symptom="The test is passed too well: 45 + 37 was learned, and 37 + 45 is asked."),
]

EQUIVALENT = [
    ("llm/functions/pick.py", "dx.reshape(-2, shape[-1])[chosen] = dout[there]",
     "NumPy takes any negative number for the axis that it works out by itself"),
    ("llm/data/tasks.py",
     "(test if (int.from_bytes(digest)) <= (share * 2**64) else train).append(task)",
     "differs only where a digest is the border itself, which one content in 2⁶⁴ has"),
]
