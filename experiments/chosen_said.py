"""Day 56 · One draw, and the best of sixteen by two reward models, for the first eight prompts.

    python experiments/chosen_said.py [--fast] [--json] [--out DIR]

The held-out prompts of days/day56/run.py in its order. Sixteen answers to each are drawn with the
probabilities that day 56 gives them; the first of them stands for what is said without choosing.
Both reward models begin with the same seed and see the same answers; the labellers of one are
honest, and those of the other like length. Three quarters of a minute on two quiet cores.
"""

import numpy as np

from days.day56 import study
from days.day56.run import LIKES
from days.day56.start import taught
from days.harness import progress
from experiments.said import command_line
from llm.data.preferences import candidates

SHOWN, DRAWN = 8, 16


def measure(fast, seed=0):
    """{"rows": [[prompt, one draw, best of 16 by each], …]}, utilities behind the answers."""
    settings = study.Settings.small() if fast else study.Settings()
    start = lambda: taught(fast)
    first = start()
    grid = study.make_grid(first.tokenizer, first.config.T, settings.prompts,
                           np.random.default_rng([seed, 561]))
    rewards = []
    with progress(2 * settings.steps, "training reward models") as tick:
        for likes in (0.0, LIKES):
            data = study.labelled(first, settings, seed, likes)
            rewards.append(study.rewards(study.train(start, data, settings, seed, tick)[0], grid))
    rng, rows = np.random.default_rng([seed, 562]), []
    for i, prompt in enumerate(grid.prompts[:SHOWN]):
        answers = [answer for _, answer in candidates(prompt)]
        drawn = rng.choice(len(answers), DRAWN, p=grid.p)
        picked = [drawn[0], *(drawn[r[i, drawn].argmax()] for r in rewards)]
        rows.append([prompt, *(f"{answers[k]} ({grid.u[i, k]:+.2f})" for k in picked)])
    return {"drawn": DRAWN, "rows": rows,
            "columns": ["prompt", "one draw", "best, honest labels", "best, labels like length"]}


if __name__ == "__main__":
    command_line("chosen_said", __doc__, measure)
