"""Day 58 · How far a margin grows: a few pairs, learned again and again, with unsure labels too."""

import copy

import numpy as np

from days.day58.study import logps_of
from llm.align.dpo import margin
from llm.align.offline import LOSSES, answer_logps
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import Constant


def grow(start, pairs, method, p, steps, every, rate=3e-4, tick=lambda n, note: None, **settings):
    """[(step, mean margin)] while a copy of the reference learns the same pairs in every step.

    p: the share of labellers that prefer the chosen answer; the others make the loss with the two
    answers exchanged. method: "dpo" or "ipo".
    """
    policy, N, found = copy.deepcopy(start.model), len(pairs), []
    named, ref = policy.named_parameters(), pairs.reference

    def loss(batch):
        total = answer_logps(policy, batch.ids, batch.targets)
        w, l = total[:N], total[N:]  # noqa: E741
        ordered = LOSSES[method](w, l, ref[:N], ref[N:], **settings)
        if p == 1:
            return ordered, N
        return ordered * p + LOSSES[method](l, w, ref[N:], ref[:N], **settings) * (1 - p), N

    def look(step):
        if step.step % every == 0:
            h = margin(*logps_of(policy, pairs), ref[:N], ref[N:])
            found.append((step.step, float(h.mean())))
        tick(1, f"{method}, {p:.0%} agree")

    def same():
        while True:
            yield pairs

    run = fit(named, loss, same(), AdamW(named, betas=(0.9, 0.99), decay=0), Constant(rate),
              steps=steps, hooks=[look])
    if run.interrupted:
        raise KeyboardInterrupt
    return [(0, 0.0), *found]


def target(method, p, strength):
    """The margin at which the mean loss is smallest: (p − ½)/τ for IPO, logit(p)/β for DPO."""
    if method == "ipo":
        return (p - 0.5) / strength
    return float(np.log(p / (1 - p))) / strength if p < 1 else None
