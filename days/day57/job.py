"""Day 57 · One run of PPO on day 56's prompts, and how its answers are judged.

Two judges read every answer. `truth` is day 56's utility, which takes a quarter off for each filler
sentence. `taste` is what labellers who like fillers would say, and so what a perfect reward model
of theirs would: the same contents, but a filler adds three quarters. PPO sees the taste alone.
"""

from dataclasses import dataclass

import numpy as np

from days.day35 import job as assembling
from llm.align import ppo
from llm.align.kl import k1
from llm.align.rollout import rollout
from llm.data.preferences import held_out
from llm.data.taste import draw_prompt, fillers, utility
from llm.functions.logps import IGNORE, token_logps
from llm.generate.template import Message
from llm.grad.tensor import no_grad
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import Constant
from llm.tune.chat import END, prompt_ids

LIKES = 1.0                  # what a filler adds to the utility in the labellers' eyes
FAMILIES = "sum", "harmful", "harmless"     # not "toys": its prompts are twice as long
truth = utility


def taste(prompt, answer):
    """The utility as the labellers feel it."""
    return utility(prompt, answer) + LIKES * fillers(answer)


@dataclass(frozen=True)
class Plan:
    """A run: so many rounds, at this rate, with these settings of PPO."""

    rounds: int = 16
    rate: float = 3e-4
    settings: ppo.PPO = ppo.PPO()

    @classmethod
    def small(cls):
        """For `--fast`."""
        return cls(rounds=3, settings=ppo.PPO(N=8, n=16))


def prompts(start, n, rng, test=False):
    """n pairs (ids, prompt), the three families in turn; test: of day 56's held-out part."""
    found = []
    while len(found) < n:
        prompt = draw_prompt(rng, FAMILIES[len(found) % len(FAMILIES)])
        if held_out(prompt) == test:
            found.append((prompt_ids(start.tokenizer, [Message("user", prompt)]), prompt))
    return found


def texts(start, answers):
    """[ids] -> [str], without the end token."""
    end = start.tokenizer.specials[END]
    return [start.tokenizer.decode(a[a != end]) for a in answers]


def copy_of(start):
    """The start's model once more, with weights of its own."""
    model = assembling.assemble(start.shape, start.tokenizer, np.random.default_rng(0)).model
    model.load_state_dict(start.model.state_dict())
    return model


def train(start, dial, plan, seed, tick, judge=taste):
    """PPO from the start, rewarded by `judge` -> (the model, what each round has brought).

    A round is a dict: the report's numbers, the mean of the truth, fillers an answer.
    """
    rng, rounds, heard = np.random.default_rng([seed, 57]), [], {}
    policy = ppo.Policy(copy_of(start), rng)

    def score(asked, answers):
        said = texts(start, answers)
        heard["truth"] = float(np.mean([truth(p, t) for p, t in zip(asked, said)]))
        heard["fillers"] = float(np.mean([fillers(t) for t in said]))
        return [judge(p, t) for p, t in zip(asked, said)]

    def report(found):
        rounds.append({**vars(found), **heard})
        tick(1, f"taste {found.score:.2f}, truth {heard['truth']:.2f}, KL {found.kl:.1f}")

    batches = ppo.experience(policy, start.model, lambda n: prompts(start, n, rng), score,
                             plan.settings, dial, rng, start.tokenizer.specials[END], report)
    parameters = policy.named_parameters()
    run = fit(parameters, ppo.loss(policy, plan.settings), batches,
              AdamW(parameters, betas=(0.9, 0.99), decay=0), Constant(plan.rate),
              steps=plan.rounds * plan.settings.updates)
    if run.interrupted:
        raise KeyboardInterrupt
    return policy.body, rounds


def evaluate(start, model, asked, n, seed):
    """Answers of the model to held-out prompts, by both judges: a dict of means.

    The same uniform numbers for every model of a seed, so that equal models give equal answers.
    """
    ids, plain = zip(*asked, strict=True)
    taken = rollout(model, ids, n, np.random.default_rng([seed, 570]),
                    stop=start.tokenizer.specials[END])
    with no_grad():
        known = token_logps(start.model(taken.ids).data, taken.targets)[0]
    counted, said = taken.targets != IGNORE, texts(start, taken.answers())
    true = [truth(p, t) for p, t in zip(plain, said)]
    return {"taste": float(np.mean([taste(p, t) for p, t in zip(plain, said)])),
            "truth": float(np.mean(true)),
            "families": [float(np.mean(true[i::len(FAMILIES)])) for i in range(len(FAMILIES))],
            "kl": float(np.where(counted, k1(taken.logps, known), 0).sum(axis=1).mean()),
            "fillers": float(np.mean([fillers(t) for t in said])),
            "tokens": float(counted.sum(axis=1).mean()),
            "said": said[:8]}
