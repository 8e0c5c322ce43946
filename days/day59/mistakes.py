"""Day 59 · Mistakes that people make here; each makes tests/test_day59.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="the mean is taken over all answers of the round",
        file="llm/align/grpo.py",
        right="    away = np.where(equal, 0, rewards - rewards.mean(axis=1, keepdims=True))",
        wrong="    away = np.where(equal, 0, rewards - rewards.mean())",
        symptom="Answers to easy prompts are all pushed up and answers to hard ones all down, "
                "whether they are better or worse than what the model usually says there."),
    Mistake(
        title="equal rewards are divided by a small number that was added to the spread",
        file="llm/align/grpo.py",
        right="    return away / np.where(equal, 1, rewards.std(axis=1, keepdims=True)) "
              "if divide else away",
        wrong="    return (rewards - rewards.mean(axis=1, keepdims=True)) / "
              "(rewards.std(axis=1, keepdims=True) + 1e-20) if divide else away",
        symptom="Nothing for rewards of 0 and 1. With rewards such as 0.1 the mean differs from "
                "them in the last digit, and groups that have nothing to tell push at random."),
    Mistake(
        title="the larger of the two terms is taken",
        file="llm/align/grpo.py",
        right="        slope = -beta * pull - np.where(plain > held, 0, rise * A)",
        wrong="        slope = -beta * pull - np.where(plain < held, 0, rise * A)",
        symptom="Tokens that have left the band in the right direction are pushed on, and those "
                "that have left it in the wrong one stay there."),
    Mistake(
        title="the KL pushes away from the reference",
        file="llm/align/grpo.py",
        right="        slope = -beta * pull - np.where(plain > held, 0, rise * A)",
        wrong="        slope = beta * pull - np.where(plain > held, 0, rise * A)",
        symptom="The KL grows faster, the larger β is."),
    Mistake(
        title="groups are mixed up: the answers of a prompt do not stand side by side",
        file="llm/align/grpo.py",
        right="        rewards = np.asarray(score(asked, taken.answers()), "
              "np.float64).reshape(P, G)",
        wrong="        rewards = np.asarray(score(asked, taken.answers()), "
              "np.float64).reshape(G, P).T",
        symptom="Rewards reach other answers than those that earned them, and accuracy stands "
                "still."),
    Mistake(
        title="pass@k is computed from the share of right answers",
        file="llm/align/pass_at_k.py",
        right="    return 1 - np.prod((wrong - i) / (n - i), axis=-1)",
        wrong="    return 1 - np.prod(wrong / n + 0 * i, axis=-1)",
        symptom="pass@k comes out too low, the more so the nearer k is to n."),
]

EQUIVALENT = [
    ("llm/align/grpo.py", "near, close = np.minimum(d, FAR), np.minimum(FAR, u)",
     "the smaller of two in any order"),
    ("llm/align/grpo.py", "near, close = np.minimum(FAR, d), np.minimum(u, FAR)",
     "the smaller of two in any order"),
    ("llm/align/grpo.py",
     "plain, held = ratio * A, np.clip(1 - clip, ratio, 1 + clip) * A",
     "of three numbers the clip takes the middle one, in whatever order the first two stand"),
    ("llm/align/grpo.py", "return counted / (N * np.maximum(1, length))",
     "the larger of two in any order"),
]
