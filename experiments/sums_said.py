"""Day 54 · What SmolLM2 says to eight sums before and after the adapters of day 54's run.

    python experiments/sums_said.py [--fast] [--json] [--out DIR]

The first eight held-out sums of the run, in its order, answered greedily by the bare base and by
the base with adapters that have learned the run's steps from the run's seed. Float32, one seed.
About a minute on two quiet cores. Left out: the base in 4 bits.
"""

import numpy as np

from days.day54 import sums
from days.harness import progress, say
from experiments.said import begin, command_line, greedy
from llm.data.tasks import split
from llm.data.tasks import sums as draw_sums
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.tune.fast_lora import fast as kernels
from llm.tune.lean import lean
from llm.tune.lora import add_lora, loss_of
from llm.tune.sft import padded_batches

SHOWN, TOKENS = 8, 12


def measure(fast, seed=0):
    """{"rows": [[prompt, before, after], …]}: as `sums.learn`, with a look on either side."""
    plan = sums.Plan(4, tested=8) if fast else sums.Plan(16)
    source = sums.Source(fast, say)
    _, held_out = split(draw_sums(20 * plan.tested + plan.steps * plan.B,
                                  np.random.default_rng([seed, 54])))
    prompts = [task.prompt for task in held_out[:SHOWN]]
    learned, _ = sums.questions(source.tokenizer, plan, seed)
    model = source.frozen(False)
    with kernels(), progress(plan.steps, "learning sums") as tick:
        before = said(model, source.tokenizer, prompts)
        add_lora(model, plan.rank, plan.alpha, np.random.default_rng([seed, 1]))
        lean(model)
        parameters = model.named_parameters()
        run = fit(parameters, lambda batch: (loss_of(model, *batch[:2]),
                                             int((batch[1] >= 0).sum())),
                  padded_batches(learned, plan.B, 64, np.random.default_rng([seed, 2])),
                  AdamW(parameters, betas=(0.9, 0.99), decay=0.0),
                  WarmupCosine(plan.rate, max(1, plan.steps // 10)), steps=plan.steps,
                  hooks=[lambda step: tick(1, f"loss {step.loss:.2f}")])
        if run.interrupted:
            raise KeyboardInterrupt
        after = said(model, source.tokenizer, prompts)
    return {"model": source.name, "steps": plan.steps, "columns": ["prompt", "before", "after"],
            "rows": [list(row) for row in zip(prompts, before, after, strict=True)]}


def said(model, tokenizer, prompts):
    """The greedy answer to each prompt, at most TOKENS tokens."""
    return [greedy(model, tokenizer, begin(tokenizer, prompt), TOKENS) for prompt in prompts]


if __name__ == "__main__":
    command_line("sums_said", __doc__, measure)
