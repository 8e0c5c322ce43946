"""Day 56 · Mistakes that people make with reward models; each makes tests/test_day56.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="the loss is the logarithm of a sigmoid, as the formula says",
        file="llm/functions/margins.py",
        right="    losses = np.maximum(-margin, 0) + np.log1p(small)",
        wrong="    with np.errstate(all=\"ignore\"):\n"
              "        losses = -np.log(1 / (1 + np.exp(-margin)))",
        symptom="All is well, until one badly ordered pair has a margin below −89 in float32. Its "
                "loss is infinite, and so is the mean of its batch."),
    Mistake(
        title="the margin is clamped, to be on the safe side",
        file="llm/functions/margins.py",
        right="    margin = np.asarray(margin)\n",
        wrong="    margin = np.clip(np.asarray(margin), -20, 20)\n",
        symptom="Nothing is infinite any more. The loss of the worst pairs stops at 20 and no "
                "longer tells how wrong they are."),
    Mistake(
        title="the reward is read at the last column, where short rows have padding",
        file="llm/align/reward.py",
        right="        read = hidden[np.arange(len(ids)), last]",
        wrong="        read = hidden[np.arange(len(ids)), np.full(len(ids), ids.shape[1] - 1)]",
        symptom="The loss falls. The same answer has another reward in another batch, since its "
                "reward depends on how much padding stands behind it."),
    Mistake(
        title="chosen and rejected change places in the margin",
        file="llm/align/reward.py",
        right="        return rewards[:batch.size] - rewards[batch.size:]",
        wrong="        return rewards[batch.size:] - rewards[:batch.size]",
        symptom="The loss falls as it should, and the model is right as often as it ought to be "
                "wrong."),
    Mistake(
        title="the held-out part is drawn from the pairs and not from the prompts",
        file="llm/data/preferences.py",
        right="        if held_out(prompt) != test:",
        wrong="        if held_out(prompt + str(rng.random())) != test:",
        symptom="The accuracy on held-out pairs is a little too good: their prompts were in the "
                "training, with other answers."),
    Mistake(
        title="the loss gets a minus sign too many in its gradient",
        file="llm/functions/margins.py",
        right="    return (-wrong * np.asarray(dout / margin.size, margin.dtype),)",
        wrong="    return (wrong * np.asarray(dout / margin.size, margin.dtype),)",
        symptom="The loss rises from the first step on, without end."),
    Mistake(
        title="among equal rewards all of the chance goes to each",
        file="llm/align/best_of.py",
        right="    return p * (mass / np.where(share > 0, share, 1))[group]",
        wrong="    return mass[group]",
        symptom="Probabilities sum to more than 1 as soon as two answers have one reward, and the "
                "KL is above ln n − (n − 1)/n."),
]
