"""Day 32 · Common mistakes with residual streams and dropout, as data for the drills."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="the stream itself is normalised before it is added to",
        file="llm/layers/residual.py",
        right="            return x + self.dropout(self.branch(self.norm(x), rng), rng)",
        wrong="            return self.norm(x) + self.dropout(self.branch(self.norm(x), rng), rng)",
        symptom="A layer that adds nothing changes the stream all the same, and the gradient no "
                "longer has a way past the norms."),
    Mistake(
        title="dropout falls on the stream, not on what is added",
        file="llm/layers/residual.py",
        right="            return x + self.dropout(self.branch(self.norm(x), rng), rng)",
        wrong="            return self.dropout(x + self.branch(self.norm(x), rng), rng)",
        symptom="The deeper the model, the less of a token is left: after 24 layers at rate 0.1 "
                "only 8 % of the numbers were never dropped."),
    Mistake(
        title="what is kept is not scaled up",
        file="llm/functions/dropout.py",
        right="np.where(kept, x * x.dtype.type(1 / (1 - rate)), x.dtype.type(0)), (kept, rate)",
        wrong="np.where(kept, x, x.dtype.type(0)), (kept, rate)",
        symptom="Without dropout, when text is written, every number is larger than in training."),
    Mistake(
        title="the backward forgets the gate",
        file="llm/functions/dropout.py",
        right="    return np.where(kept, dout * dout.dtype.type(1 / (1 - rate)), "
              "dout.dtype.type(0)), None",
        wrong="    return dout.copy(), None",
        symptom="Training goes on, but numbers that took no part in the output are blamed for it."),
    Mistake(
        title="the rate is read as the share to keep",
        file="llm/functions/dropout.py",
        right="    return rng.random(shape, dtype=np.float32) >= rate",
        wrong="    return rng.random(shape, dtype=np.float32) < rate",
        symptom="At rate 0.5 all is well; at 0.1 nine numbers in ten are 0, and those left are "
                "hardly larger."),
]
