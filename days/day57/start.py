"""Day 57 · Where PPO starts: day 53's model, after it has seen how people here answer.

    from days.day57.start import start
    t = start(fast)         # .model .tokenizer

The third step of RLHF wants a model that already answers, however well or badly. This one has
learned, from questions and answers alone, the very mixture that day 56's labellers compare: right
and wrong contents, with and without filler sentences. It is the policy's start and its reference.
"""

from dataclasses import dataclass

import numpy as np

from days.day53 import base as before
from days.day53.tuned import tuned
from days.harness import kernels, progress, say
from llm.data.download import cache_folder
from llm.data.preferences import candidates, held_out
from llm.data.taste import FAMILIES, draw_prompt
from llm.generate.template import Message
from llm.models.gpt import GPT
from llm.tokens.fast_bpe import FastBPE
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.train.snapshot import SnapshotError
from llm.tune.chat import example
from llm.tune.sft import padded_batches, sft_loss


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights, besides the tuned model."""

    prompts: int = 8000            # of all families in turn, none of the held-out part
    B: int = 16                    # conversations a batch
    rate: float = 1e-3             # peak, decayed to 0
    warmup: int = 20               # steps
    steps: int = 500
    seed: int = 0
    version: int = 1               # raised when code outside the kernels changes the weights

    @classmethod
    def small(cls):
        """For `--fast`."""
        return cls(prompts=400, B=8, rate=3e-3, warmup=5, steps=60)


@dataclass(frozen=True)
class Start:
    """The model, which PPO leaves as it is, and its tokenizer. shape: the recipe of its base."""

    model: GPT
    tokenizer: FastBPE
    shape: before.Recipe


def start(fast=False):
    """The start: from the cache, or trained now, in about 15 seconds, and kept there.

    Raises KeyboardInterrupt on Ctrl-C, with nothing kept.
    """
    recipe, parent = Recipe.small() if fast else Recipe(), tuned(fast)
    shape = before.base(fast).recipe
    path = cache_folder() / before.name_of("answers", [recipe, parent.recipe, shape], parent.texts)
    if path.exists():
        try:
            kept = before.restore(path, recipe, parent.texts, shape)
            return Start(kept.model, kept.tokenizer, shape)
        except SnapshotError:
            say(f"the kept model {path} is damaged: training it again")
    train(path, recipe, parent)
    return Start(parent.model, parent.tokenizer, shape)


def train(path, recipe, parent):
    """Go on with the tuned model, on answers drawn as the labellers are shown them, and keep it."""
    rng, model = np.random.default_rng([recipe.seed, 57]), parent.model
    examples = conversations(parent.tokenizer, recipe.prompts, rng, parent.config.T)
    optimizer = AdamW(model.named_parameters(), betas=(0.9, 0.99))
    with kernels(), progress(recipe.steps, "learning to answer") as tick:
        run = fit(model.named_parameters(), sft_loss(model),
                  padded_batches(examples, recipe.B, parent.config.T, rng), optimizer,
                  WarmupCosine(recipe.rate, recipe.warmup), steps=recipe.steps,
                  hooks=[lambda step: tick(1, f"loss {step.loss:.2f}")])
    if run.interrupted:
        raise KeyboardInterrupt
    before.keep(path, model, optimizer, rng, recipe, parent.tokenizer)


def conversations(tokenizer, n, rng, T):
    """At most n examples of day 53, each a prompt and one answer; longer ones are left out."""
    found = []
    for i in range(n):
        prompt = draw_prompt(rng, FAMILIES[i % len(FAMILIES)])
        if held_out(prompt):
            continue
        p, answers = zip(*candidates(prompt), strict=True)
        answer = answers[rng.choice(len(answers), p=p)]
        one = example(tokenizer, [Message("user", prompt), Message("assistant", answer)])
        if len(one[0]) <= T + 1:
            found.append(one)
    return found
