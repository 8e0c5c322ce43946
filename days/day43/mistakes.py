"""Day 43 · Common mistakes in a decoding engine, as data for the drills."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="each token is decoded as if it were a text of its own",
        file="llm/generate/stream.py",
        right="        return self.decoder.decode(self.bytes[i])",
        wrong="        return self.decoder.decode(self.bytes[i], final=True)",
        symptom="English looks fine; of é, 語 and every emoji the reader sees question marks in "
                "boxes."),
    Mistake(
        title="a stop string is looked for, but its beginning is not held back",
        file="llm/generate/stream.py",
        right="        ready = self.held[:len(self.held) - keep]",
        wrong="        ready = self.held",
        symptom="The answer ends in `\\nUser` now and then, and after that it sometimes does not "
                "end at all."),
    Mistake(
        title="the padding of the last tile is offered as tokens",
        file="llm/generate/engine.py",
        right="        return plan.logits[:self.arch.V]",
        wrong="        return plan.logits",
        symptom="Rarely an id at or above V is chosen, and the tokenizer refuses it: padded rows "
                "are zero, and a logit of 0 is more than many real ones have."),
    Mistake(
        title="the head of queries and its group of keys are counted alike",
        file="llm/kernels/decode.py",
        right="        g = h // group",
        wrong="        g = h % n_keys",
        symptom="GPT is right, and every model with fewer heads of keys than of queries writes "
                "nonsense."),
    Mistake(
        title="the largest score is not taken off before the exponential",
        file="llm/kernels/step.py",
        right="        scores[t] = exp32(scores[t] - top)",
        wrong="        scores[t] = exp32(scores[t])",
        symptom="All is well with random weights. In a trained model some head has scores above "
                "88: its weights are all alike, and the text loses its thread."),
]
