"""Day 59 · One training run from the start, by reward or by demonstrations, and its judgement."""

from dataclasses import dataclass, replace

import numpy as np

from days.day59 import adding
from days.day59.start import Recipe, copy_of, demonstrated, tasks_of
from llm.align import grpo
from llm.align.pass_at_k import pass_at_k
from llm.align.rollout import rollout
from llm.functions.logps import IGNORE, token_logps
from llm.grad.tensor import no_grad
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.tune.chat import END
from llm.tune.sft import padded_batches, sft_loss

KS = 1, 2, 4, 8, 16                # of pass@k


@dataclass(frozen=True)
class Plan:
    """A run: so many rounds, at this rate, with these settings of GRPO."""

    rounds: int = 60
    rate: float = 3e-4             # peak, decayed to 0: most of a step is noise
    asked: int = 2000              # sums of the training side that are asked
    settings: grpo.GRPO = grpo.GRPO()

    @classmethod
    def small(cls):
        """For `--fast`."""
        return cls(rounds=3, settings=grpo.GRPO(P=3, G=4, n=12))


def asked(plan, recipe=None):
    """The sums that a run asks: of the training side, none of those that the start has seen."""
    seen = len(demonstrated(recipe or Recipe()))
    return tasks_of()[0][seen:seen + plan.asked]


def taught(start, plan):
    """The sums that a run asks, all worked out with their carries."""
    return [adding.shown(start.tokenizer, task) for task in asked(plan)]


def by_reward(start, plan, seed, tick, random=False):
    """GRPO from the start -> (the model, a Report a round). random: coins for rewards.

    The reports' reward is what the answers have earned, in both cases.
    """
    rng, model, reports, earned = np.random.default_rng([seed, 59]), copy_of(start), [], []
    pool = asked(plan)
    coins = np.random.default_rng([seed, 590]) if random else None

    def draw(P):
        chosen = [pool[i] for i in rng.integers(len(pool), size=P)]
        return [(adding.ids_of(start.tokenizer, task), task) for task in chosen]

    def report(found):
        reports.append(replace(found, reward=earned.pop()))
        tick(1, f"reward {reports[-1].reward:.2f}")

    batches = grpo.experience(model, start.model, draw,
                              adding.judge(start.tokenizer, coins, earned.append),
                              plan.settings, rng, start.tokenizer.specials[END], report)
    train(model, grpo.loss(model, plan.settings), batches, plan)
    return model, reports


def by_demonstrations(start, plan, seed, tick, examples):
    """As many steps of fine-tuning as GRPO has, on as many answers each, of these examples."""
    rng, model, settings = np.random.default_rng([seed, 591]), copy_of(start), plan.settings
    batches = padded_batches(examples, settings.P * settings.G // settings.parts, start.config.T,
                             rng)
    train(model, sft_loss(model), batches, plan, [lambda step: tick(1, f"loss {step.loss:.2f}")])
    return model


def train(model, loss, batches, plan, hooks=()):
    """The same optimizer, schedule and number of steps for all."""
    parameters, steps = model.named_parameters(), plan.rounds * plan.settings.updates
    run = fit(parameters, loss, batches, AdamW(parameters, betas=(0.9, 0.99), decay=0),
              WarmupCosine(plan.rate, min(10, steps // 3)), steps=steps, hooks=hooks)
    if run.interrupted:
        raise KeyboardInterrupt


def evaluate(start, model, tasks, n, seed, longest):
    """Greedy accuracy, pass@k from n samples each, KL from the start in nats, and texts: a dict."""
    ids, tok = [adding.ids_of(start.tokenizer, task) for task in tasks], start.tokenizer
    score, end = adding.judge(tok), tok.specials[END]
    best = rollout(model, ids, longest, np.random.default_rng(0), temperature=0, stop=end)
    many = rollout(model, ids, longest, np.random.default_rng([seed, 592]), stop=end, A=n)
    right = np.reshape(score([t for t in tasks for _ in range(n)], many.answers()), (-1, n))
    with no_grad():
        known = token_logps(start.model(many.ids).data, many.targets)[0]
    counts = right.sum(axis=1).astype(int)
    greedy = score(tasks, best.answers())
    return {"greedy": float(np.mean(greedy)),
            "pass": [float(pass_at_k(counts, n, k).mean()) for k in KS if k <= n],
            "never": float((counts == 0).mean()),
            "kl": float((many.logps - known).sum(axis=1).mean()),
            "tokens": float((many.targets != IGNORE).sum(axis=1).mean()),
            "said": [tok.decode(a[a != end]) for a in best.answers()[:8]],
            "right": [bool(x) for x in greedy[:8]]}
