"""Day 55 · What six ways of fine-tuning make a model say to the first eight held-out sums.

    python experiments/exchange_said.py [--fast] [--json] [--out DIR]

The runs of days/day55/run.py, made again from the same seed: the numbers of "12 + 19 =" are to be
exchanged. The first eight sums of its report, in its order, answered greedily. Half a minute.
"""

import re

import numpy as np

from days.day55.methods import METHODS, Plan, Task
from days.day55.run import RATES
from days.harness import progress
from experiments.said import begin, command_line, greedy
from llm.data.tasks import split, sums
from llm.tune.fast_lora import fast as kernels

SHOWN, TOKENS = 8, 10


def measure(fast, seed=0):
    """{"rows": [[prompt, wanted, before, one for each method], …]}."""
    plan = Plan(12, B=4, drawn=200, width=4, rank=2, P=6, warmup=2) if fast else Plan(120)
    task = Task(fast, plan)
    prompts, tokenizer = reported(plan)[:SHOWN], task.start.tokenizer
    columns = [prompts, [" ".join(reversed(re.findall(r"\d+", p))) for p in prompts]]
    with kernels(), progress(len(METHODS), "six methods") as tick:
        models = [task.start.model]
        for method in METHODS:
            models.append(task.train(method, RATES[method], seed))
            tick(1, method)
        for model in models:
            columns.append([greedy(model, tokenizer, begin(tokenizer, p), TOKENS)
                            for p in prompts])
    return {"steps": plan.steps, "columns": ["prompt", "wanted", "before", *METHODS],
            "rows": [list(row) for row in zip(*columns, strict=True)]}


def reported(plan):
    """The prompts that `Task` reports on, in its order."""
    drawn = sums(plan.drawn, np.random.default_rng(55), plan.largest)
    _, unseen = split(list({t.prompt: t for t in drawn}.values()), plan.held_out)
    return [t.prompt for t in unseen[len(unseen) // 2:]]


if __name__ == "__main__":
    command_line("exchange_said", __doc__, measure)
