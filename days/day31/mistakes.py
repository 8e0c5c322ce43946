"""Day 31 · Common mistakes with rotary positions, as data for the drills."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="a reflection instead of a rotation",
        file="llm/layers/rotary.py",
        right="    out[..., half:] = a * sin + b * cos",
        wrong="    out[..., half:] = a * sin - b * cos",
        symptom="Lengths are kept and training runs, but position 0 is changed and scores depend "
                "on where a pair of tokens stands."),
    Mistake(
        title="the gradient is turned the same way as the vector",
        file="llm/layers/rotary.py",
        right="        return self.rotate(dx, -1)",
        wrong="        return self.rotate(dx, 1)",
        symptom="The forward is right; the loss falls slowly and then not at all."),
    Mistake(
        title="neighbours are paired where halves were meant",
        file="llm/layers/rotary.py",
        right="turn = rotate_interleaved if self.interleaved else rotate_half_split",
        wrong="turn = rotate_interleaved",
        symptom="A model trained here is fine; weights from elsewhere speak nonsense from the "
                "second token on."),
    Mistake(
        title="the frequency steps by pair over pairs, not over channels",
        file="llm/layers/rotary.py",
        right="(-np.arange(0, D, 2) / D)",
        wrong="(-np.arange(D // 2) / D)",
        symptom="Still relative, still orthogonal; but no pair turns slowly, and positions far "
                "apart look alike again."),
    Mistake(
        title="angles are computed in float32",
        file="llm/layers/rotary.py",
        right="        angle = angles(T_max, D, base)\n",
        wrong="        angle = angles(T_max, D, base).astype(np.float32)\n",
        symptom="Short texts are fine; thousands of tokens into a text, scores of the same two "
                "tokens differ in the fourth digit from those at its start."),
]

EQUIVALENT = [
    ("llm/layers/stretch.py", "ramp = (np.arange(D // 2) - low) / max(1e-3, high - low)",
     "of two numbers the larger is the same in either order"),
]
