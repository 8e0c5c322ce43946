"""Day 56 · How well does a reward model do that sees nothing of an answer but its fillers?

    python experiments/fillers_only.py [--fast] [--json] [--out DIR]

The baseline for days/day56/run.py, on its held-out prompts: each filler costs the same, whatever
else is said. The cost is the one with the lowest loss over all prompts. Nothing is trained but
day 53's byte pairs, which the encoded prompts need. Some seconds.
"""

import numpy as np

from days.day53 import base
from days.day56 import study
from experiments.said import command_line
from llm.data.taste import FAMILIES


def measure(fast, seed=0):
    """{"rows": [[prompts, agreement, nats], …]}, the families in the order of day 56's table."""
    settings = study.Settings.small() if fast else study.Settings()
    recipe = base.Recipe.small() if fast else base.Recipe()
    tokenizer = base.learn_words(base.read(recipe), recipe.V)
    grid = study.make_grid(tokenizer, recipe.T, settings.prompts,
                           np.random.default_rng([seed, 561]))
    r = study.blind_slope(grid, settings.noise) / settings.noise * grid.fillers
    rows = []
    for name in ("all", *FAMILIES):
        which = slice(None) if name == "all" else grid.family(name)
        every = study.all_pairs(grid, r, settings.noise, which)
        rows.append([name, study.agreement(*every), study.nats(*every)])
    return {"columns": ["prompts", "agreement", "nats"], "rows": rows}


if __name__ == "__main__":
    command_line("fillers_only", __doc__, measure)
