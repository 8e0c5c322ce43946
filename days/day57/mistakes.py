"""Day 57 · Mistakes that people make here; each makes tests/test_day57.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="the larger of the two terms is taken",
        file="llm/align/ppo.py",
        right="    loss = -np.minimum(plain, held)[counted].sum(dtype=np.float64) / count",
        wrong="    loss = -np.maximum(plain, held)[counted].sum(dtype=np.float64) / count",
        symptom="The loss that is shown is too low, and training looks better than it is. In a "
                "framework that derives the gradient, the clip no longer holds anything back."),
    Mistake(
        title="a clipped ratio gets no gradient, whatever the advantage",
        file="llm/align/ppo.py",
        right="        slope = np.where(counted & ~(plain > held), -plain / count, 0)"
              ".astype(logps.dtype)",
        wrong="        slope = np.where(counted & (plain == held), -plain / count, 0)"
              ".astype(logps.dtype)",
        symptom="A bad token that has become likelier by more than ε stays so: nothing pushes it "
                "back."),
    Mistake(
        title="the next answer's value leaks in behind the end",
        file="llm/align/advantage.py",
        right="        delta = rewards[:, t] + gamma * value * goes_on - values[:, t]",
        wrong="        delta = rewards[:, t] + gamma * value - values[:, t]",
        symptom="Nothing where the padding's values are set to 0. Elsewhere the last token is "
                "credited with what stands behind it."),
    Mistake(
        title="the score is paid at every token",
        file="llm/align/advantage.py",
        right="            + np.where(last_tokens(targets), scores[:, None], 0))",
        wrong="            + np.where(targets != IGNORE, scores[:, None], 0))",
        symptom="Long answers collect the score many times over: with positive scores answers "
                "grow, with negative ones they shrink to nothing."),
    Mistake(
        title="the penalty has the wrong sign",
        file="llm/align/advantage.py",
        right="    return (np.where(targets != IGNORE, -penalty, 0)",
        wrong="    return (np.where(targets != IGNORE, penalty, 0)",
        symptom="The KL grows faster, the larger β is."),
    Mistake(
        title="k3 with the ratio upside down",
        file="llm/align/kl.py",
        right="    log_ratio = reference - logps",
        wrong="    log_ratio = logps - reference",
        symptom="The estimate is positive and looks right while the two models are close. Far "
                "apart it explodes, since π/ρ of what π has sampled has no bound."),
    Mistake(
        title="the log-probabilities are those of the logits without the temperature",
        file="llm/align/rollout.py",
        right="    z = scaled(logits, temperature)                                     "
              "# (N, V), float64",
        wrong="    z = scaled(logits, 1.0)",
        symptom="At temperature 1 nothing. At another one the answers come from another "
                "distribution than was asked for."),
    Mistake(
        title="answers begin one token too late",
        file="llm/align/rollout.py",
        right="        now = (lengths[rows] <= t) & ~over[rows]      "
              "# the others read, or have nothing to do",
        wrong="        now = (lengths[rows] < t) & ~over[rows]",
        symptom="The first token of each answer is the padding token, and it is never learned."),
    Mistake(
        title="equal advantages are divided by their rounding errors",
        file="llm/align/advantage.py",
        right="    if chosen.size and np.ptp(chosen) > 0:",
        wrong="    if chosen.size and chosen.std() > -1:",
        symptom="A warning about a division by 0 and NaN in all weights, in the first round in "
                "which all answers are equally good."),
]

EQUIVALENT = [
    ("llm/align/reader.py",
     "scores = q.reshape(N, K, H // K * n, D) @ k.swapaxes(3, 2) / math.sqrt(D)",
     "two axes are exchanged, whichever is named first"),
]
