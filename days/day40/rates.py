"""Day 40 · The learning rate of a width and length: a grid for some, a rule for all."""

from collections import defaultdict

import numpy as np

from llm.train.scaling import parabola


def best_rates(runs):
    """[text, C, steps, best rate, its loss, inside the grid?] of each width and length tried."""
    tried = defaultdict(dict)
    for run in runs:
        if run["part"] == "rates":
            tried[run["text"], run["C"], run["steps"]][run["rate"]] = run["choose"]
    rows = []
    for (text, C, steps), losses in sorted(tried.items()):
        rates = sorted(losses)
        i = rates.index(min(losses, key=losses.get))
        inside, rate = 0 < i < len(rates) - 1, rates[i]
        if inside:
            rate = parabola(rates[i - 1:i + 2], [losses[r] for r in rates[i - 1:i + 2]])[0]
        rows.append([text, C, steps, rate, losses[rates[i]], inside])
    return rows


def rule_of_rates(rows):
    """([k, p, q], r): rate = k · C^p · steps^q, least squares in the logarithms, and the largest
    factor r between a best rate and the rule."""
    X = np.array([[1, np.log(C), np.log(steps)] for _, C, steps, *_ in rows])
    y = np.log([row[3] for row in rows])
    w = np.linalg.lstsq(X, y, rcond=None)[0]
    return [float(np.exp(w[0])), float(w[1]), float(w[2])], float(np.exp(np.abs(X @ w - y).max()))
