"""Day 51 · Mistakes that people make here; each makes tests/test_day51.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="a single gate is divided by itself",
        file="llm/layers/moe.py",
        right="        if renormalise and k == 1 < N:",
        wrong="        if renormalise and k == 0:",
        symptom="The loss falls as for a plain feed-forward and the experts learn. The router "
                "stays where it began: its gates are all 1, and 1 has no gradient."),
    Mistake(
        title="the load is counted after the surplus was dropped",
        file="llm/layers/moe.py",
        right="        return self.plan.wanted / max(self.experts.size, 1)",
        wrong="        return self.plan.counts / max(self.experts.size, 1)",
        symptom="With a capacity the load looks nearly even from the first step, the balance loss "
                "pushes little, and many tokens go on being dropped."),
    Mistake(
        title="the bias for the choice gets into the gates",
        file="llm/layers/moe.py",
        right="        gates = p[np.arange(T)[:, None], experts]                          "
              "# (T, k): it comes here",
        wrong="        gates = (p + self.bias)[np.arange(T)[:, None], experts]",
        symptom="Each time the bias moves, the answers of all experts change their weight."),
    Mistake(
        title="the bias moves against the load the wrong way round",
        file="llm/layers/moe.py",
        right="        self.bias += np.float32(speed) * np.sign(1 / self.N - "
              "self.decided().load).astype(",
        wrong="        self.bias -= np.float32(speed) * np.sign(1 / self.N - "
              "self.decided().load).astype(",
        symptom="The busiest experts get everything after a few hundred steps."),
    Mistake(
        title="a dropped token reads the answer of another",
        file="llm/functions/routing.py",
        right="    where = np.full(k * T, len(order))",
        wrong="    where = np.zeros(k * T, int)",
        symptom="Nothing without a capacity. With one, the tokens that find their expert full get "
                "what the first row of the first expert got."),
    Mistake(
        title="a token that went to two experts keeps one gradient",
        file="llm/functions/routing.py",
        right="    return with_zero(dout)[plan.where].sum(axis=1), None",
        wrong="    return with_zero(dout)[plan.where[:, 0]], None",
        symptom="Training works, somewhat worse; a gradient check fails for k = 2 and not for "
                "k = 1."),
    Mistake(
        title="ties fall as the sort happens to leave them",
        file="llm/functions/routing.py",
        right='    return np.argsort(-scores, axis=1, kind="stable")[:, :k]',
        wrong="    return np.argsort(-scores, axis=1)[:, :k]",
        symptom="Equal scores, as all are where a router starts at 0, choose other experts on "
                "another machine."),
    Mistake(
        title="the capacity is rounded up as it is",
        file="llm/functions/routing.py",
        right="    return math.ceil(round(factor * k * T / N, 9))",
        wrong="    return math.ceil(factor * k * T / N)",
        symptom="Factor 1.1 and 50 rows give room for 56: the product is 55.00000000000001."),
    Mistake(
        title="experts at the end that nobody asked for are forgotten",
        file="llm/functions/routing.py",
        right="    wanted = np.bincount(asked, minlength=N)",
        wrong="    wanted = np.bincount(asked)",
        symptom="An error in a rare batch, in which the last expert gets nothing."),
]
