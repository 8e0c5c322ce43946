"""Day 48 · The control: small GPTs that differ in the norm alone, trained a little, then measured.

If the mean of the stream stays small because LayerNorm hides it from the gradient, it should not
stay small where RMSNorm was trained.
"""

import dataclasses

import numpy as np

from days.day48 import fold
from days.day48.small import Plan, Texts, make_model
from llm.data.batches import random_windows, sliding_windows
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine

VARIANTS = ["LayerNorm, GELU", "RMSNorm, GELU"]


def runs(fast):
    return len(VARIANTS) * (1 if fast else 3)


def shares_after_training(corpus, seed, fast, tick):
    """For each norm and seed: the share of the stream along 1, and of the gradient; growth.

    growth: how many times longer (squared) the stream became at the last norm, along 1 and in all.
    """
    plan = dataclasses.replace(Plan(), steps=300) if not fast else Plan.small()
    texts = Texts(plan, corpus)
    inputs, targets = next(sliding_windows(texts.report, 16, plan.T, plan.T))
    found, gradients, growth = [], [], []
    for variant in VARIANTS:
        models, grown = [], []
        for i in range(runs(fast) // len(VARIANTS)):
            rng = np.random.default_rng([seed, i, 0])
            model = make_model(plan, texts.V, variant, rng)
            before = last_lengths(model, texts, plan)
            train(plan, texts, model, np.random.default_rng([seed, i, 1]))
            grown.append([float(b / a) for a, b in zip(
                before, last_lengths(model, texts, plan), strict=True)])
            models.append(model)
            tick(1, variant)
        name = variant.split(",")[0]
        found.append([name, [float(np.mean(fold.shares(m, texts.report, plan.T)))
                             for m in models]])
        gradients.append([name, [fold.gradient_along_one(m, inputs, targets) for m in models]])
        growth.append([name, grown])
    return {"shares": found, "gradients": gradients, "growth": growth, "chance": 1 / plan.C}


def last_lengths(model, texts, plan):
    """The mean squared length along 1, and in all, at the last norm."""
    return [part.mean() for part in fold.lengths(model, texts.report, plan.T)[-1]]


def train(plan, texts, model, rng):
    """A few steps at one rate for all."""
    parameters = model.named_parameters()
    done = fit(parameters, lambda batch: (model.loss(*batch), batch[1].size),
               random_windows(texts.train, plan.B, plan.T, rng),
               AdamW(parameters, betas=(0.9, 0.99), decay=0.01),
               WarmupCosine(plan.first_rates[0], plan.warmup), steps=plan.steps, clip=1.0)
    if done.interrupted:
        raise KeyboardInterrupt
