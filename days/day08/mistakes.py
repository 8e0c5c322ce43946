"""Day 08 · Mistakes to plant: a border, a missing scale, a temperature upside down, noise."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="The border of the CDF is given to the id before it",
        file="llm/generate/sample.py",
        right="(cdf <= u).sum(axis=-1)",
        wrong="(cdf < u).sum(axis=-1)",
        symptom="Once in a very long while a masked first token is drawn: u was exactly 0."),
    Mistake(
        title="The uniform number is not scaled to the end of an unnormalised CDF",
        file="llm/generate/sample.py",
        right=" * cdf[..., -1:]    # in [0, end): no id V, ever",
        wrong="",
        symptom="Low ids are drawn too often, high ids never; the text still looks plausible."),
    Mistake(
        title="Logits are multiplied by the temperature",
        file="llm/generate/sample.py",
        right="        return z / temperature",
        wrong="        return z * temperature",
        symptom="Turning the temperature up makes the text duller; at 1 all is well."),
    Mistake(
        title="Gumbel noise is added to probabilities in place of logits",
        file="llm/generate/sample.py",
        right="(z + rng.gumbel(size=z.shape)).argmax",
        wrong="(np.exp(z) + rng.gumbel(size=z.shape)).argmax",
        symptom="Rare and even masked tokens turn up far too often."),
    Mistake(
        title="The cumulative sum runs over the whole batch",
        file="llm/generate/sample.py",
        right="np.cumsum(np.exp(z), axis=-1)                    #",
        wrong="np.cumsum(np.exp(z)).reshape(z.shape)            #",
        symptom="The first row of a batch is drawn well and all later rows favour id 0."),
]
