"""Day 30 · Common mistakes with positions, as data for the drills."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="the frequency steps by channel, where it should step by pair",
        file="llm/layers/positions.py",
        right="np.arange(0, channels, 2) / channels)",
        wrong="np.arange(channels // 2) / channels)",
        symptom="Plausible waves; the slowest one turns about 100 times too fast, and the rows do "
                "not equal those of the paper."),
    Mistake(
        title="ALiBi rewards distance",
        file="llm/layers/positions.py",
        right="        return -self.slopes[:, None, None]",
        wrong="        return self.slopes[:, None, None]",
        symptom="Each head looks mostly at the first tokens of the text, however far they are."),
    Mistake(
        title="one slope too steep: heads counted from 0",
        file="llm/layers/positions.py",
        right="2.0 ** (-8 * np.arange(1, H + 1) / H)",
        wrong="2.0 ** (-8 * np.arange(H) / H)",
        symptom="The first head's slope is 1, and it sees little but its own token; no head is as "
                "far-sighted as the paper's last one."),
    Mistake(
        title="a short text gets the last rows of the table",
        file="llm/layers/positions.py",
        right="return x + (self.table if T_max == T else self.table[:T])",
        wrong="return x + (self.table if T_max == T else self.table[-T:])",
        symptom="Training on full windows is perfect. But a short prompt is read as if it stood at "
                "the end of a window whose beginning is missing."),
]

EQUIVALENT = [
    ("llm/layers/positions.py",
     "return -self.slopes[:, None, None] * np.maximum(0, distance)" + 6 * " " + "# (H, T, T)",
     "of two numbers the larger is the same in either order"),
]
