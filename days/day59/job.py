"""Day 59 · One training run from the start: by reward, by its own right answers, or by examples."""

from dataclasses import dataclass, replace

import numpy as np

from days.day59 import adding
from days.day59.start import Recipe, copy_of, demonstrated, tasks_of
from llm.align import grpo
from llm.align.rollout import rollout
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.tune.chat import END
from llm.tune.sft import padded_batches, sft_loss


@dataclass(frozen=True)
class Plan:
    """A run: so many rounds, at this rate, with these settings of GRPO."""

    rounds: int = 100
    rate: float = 2e-4             # peak, decayed to 0: most of a step is noise
    warmup: int = 10               # rounds
    eps: float = 1e-5              # of Adam; at 1e-8 weights with next to no gradient move as far
    asked: int = 2000              # sums of the training side that are asked
    settings: grpo.GRPO = grpo.GRPO()

    @classmethod
    def small(cls):
        """For `--fast`."""
        return cls(rounds=3, warmup=1, settings=grpo.GRPO(P=3, G=4, n=12))


def asked(plan, recipe=None):
    """The sums that a run asks: of the training side, none of those that the start has seen."""
    seen = len(demonstrated(recipe or Recipe()))
    return tasks_of()[0][seen:seen + plan.asked]


def taught(start, plan):
    """The sums that a run asks, all worked out with their carries."""
    return [adding.shown(start.tokenizer, task) for task in asked(plan)]


def by_reward(start, plan, seed, tick, random=False, pool=None, rule=adding.reward):
    """GRPO from the start -> (the model, a Report a round). random: coins for rewards.

    pool: the tasks to ask, if not `asked(plan)`; rule: of their rewards. The reports'
    reward is what the answers have earned, with coins too.
    """
    rng, model, reports, earned = np.random.default_rng([seed, 59]), copy_of(start), [], []
    coins = np.random.default_rng([seed, 590]) if random else None
    draw = drawer(start, pool or asked(plan), rng)

    def report(found):
        reports.append(replace(found, reward=earned.pop()))
        tick(1, f"reward {reports[-1].reward:.2f}")

    batches = grpo.experience(model, start.model, draw,
                              adding.judge(start.tokenizer, coins, earned.append, rule),
                              plan.settings, rng, start.tokenizer.specials[END], report)
    train(model, grpo.loss(model, plan.settings), batches, plan)
    return model, reports


def by_own_answers(start, plan, seed, tick):
    """Expert iteration -> (the model, the share of right answers a round).

    A round samples as many answers as GRPO's does, and fine-tunes on those that are right.
    """
    rng, model, shares = np.random.default_rng([seed, 59]), copy_of(start), []
    draw, score = drawer(start, asked(plan), rng), adding.judge(start.tokenizer)
    settings, end = plan.settings, start.tokenizer.specials[END]

    def batches():
        while True:
            prompts, about = zip(*draw(settings.P), strict=True)
            taken = rollout(model, prompts, settings.n, rng, stop=end, A=settings.G)
            right = np.array(score([one for one in about for _ in range(settings.G)],
                                   taken.answers())) == 1
            if right.any():                                         # else there is no example
                shares.append(float(right.mean()))
                tick(1, f"right {shares[-1]:.2f}")
                yield taken.ids[right], taken.targets[right], None

    train(model, sft_loss(model), batches(), plan)
    return model, shares


def by_demonstrations(start, plan, seed, tick, examples):
    """As many steps of fine-tuning as GRPO has, on as many answers each, of these examples."""
    rng, model, settings = np.random.default_rng([seed, 591]), copy_of(start), plan.settings
    batches = padded_batches(examples, settings.P * settings.G // settings.parts, start.config.T,
                             rng)
    train(model, sft_loss(model), batches, plan, [lambda step: tick(1, f"loss {step.loss:.2f}")])
    return model


def drawer(start, pool, rng):
    """draw(P) -> P pairs (prompt ids, task), each task of the pool equally likely."""
    def draw(P):
        chosen = [pool[i] for i in rng.integers(len(pool), size=P)]
        return [(adding.ids_of(start.tokenizer, task), task) for task in chosen]

    return draw


def train(model, loss, batches, plan, hooks=()):
    """The same optimizer, schedule and number of steps for all."""
    parameters, steps = model.named_parameters(), plan.rounds * plan.settings.updates
    run = fit(parameters, loss, batches, AdamW(parameters, betas=(0.9, 0.99), eps=plan.eps,
                                             decay=0),
              WarmupCosine(plan.rate, plan.warmup * plan.settings.updates), steps=steps,
              hooks=hooks)
    if run.interrupted:
        raise KeyboardInterrupt
