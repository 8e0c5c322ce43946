"""Day 41 · Common mistakes when the next token is chosen, as data for the drills."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="top-p stops before the token that reaches p",
        file="llm/generate/truncate.py",
        right="    count = 1 + int((sums / sums[-1] < p - SLACK).sum()) ",
        wrong="    count = max(1, int((sums / sums[-1] < p - SLACK).sum())) ",
        symptom="The text is duller than top-p 0.9 should make it: where one token has 0.6 and the "
                "next 0.35, only the first is ever drawn."),
    Mistake(
        title="top-k keeps every token that ties with the last one",
        file="llm/generate/truncate.py",
        right="    kept = z > border",
        wrong="    kept = z >= border",
        symptom="With 8-bit or rounded logits more than k tokens are left, now and then very many; "
                "code that expects k of them fails."),
    Mistake(
        title="the filters run before the temperature",
        file="llm/generate/truncate.py",
        right="""        z = scaled(z, self.temperature)
        if self.temperature == 0:
            return z
        for keep, setting in ((top_k, self.top_k), (top_p, self.top_p),
                              (min_p, self.min_p), (typical, self.typical)):
            z = z if setting is None else keep(z, setting)
        return z""",
        wrong="""        if self.temperature == 0:
            return scaled(z, 0)
        for keep, setting in ((top_k, self.top_k), (top_p, self.top_p),
                              (min_p, self.min_p), (typical, self.typical)):
            z = z if setting is None else keep(z, setting)
        return scaled(z, self.temperature)""",
        symptom="With top-p, a higher temperature never brings in new words: it only levels those "
                "that were kept already."),
    Mistake(
        title="the repetition penalty divides logits below 0, too",
        file="llm/generate/penalties.py",
        right="        pushed = np.where(z > 0, z / self.repetition, z * self.repetition)",
        wrong="        pushed = z / self.repetition",
        symptom="The stronger the penalty, the more the text repeats its unlikely words."),
    Mistake(
        title="a finished hypothesis is extended further",
        file="llm/generate/beam.py",
        right="        live = [h for h in found if h[0][-1] not in stop]",
        wrong="        live = found",
        symptom="Outputs go on after their stop token, and a beam of 1 is no longer greedy."),
    Mistake(
        title="no tokens are kept in reserve for the end",
        file="llm/generate/constrain.py",
        right="        allowed = (following >= 0) & (self.tokens.needs[following] <= reserve)",
        wrong="        allowed = following >= 0",
        symptom="Most outputs are valid JSON; those that reach the length limit end in the middle "
                "of a string."),
]
