"""Day 56 · Where reward models begin: day 53's tuned model, after a lesson in good answers.

    from days.day56.start import taught
    t = taught(fast)        # .model .tokenizer .config

A reward model has to see whether an answer fits its prompt. A model that can answer the prompt
itself knows most of that already, so people begin with one that was fine-tuned on demonstrations.
Ours are the best answers by day 56's own rule. Made once, in a quarter of a minute on two quiet
cores, then loaded from the cache. No held-out prompt is among them.
"""

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np

from days.day35.trained import code_of_kernels
from days.day53.tuned import tuned
from days.harness import kernels, progress, say
from llm.data.download import cache_folder
from llm.data.preferences import held_out
from llm.data.taste import FAMILIES, contents, draw_prompt, utility
from llm.generate.template import Message
from llm.models.gpt import GPT
from llm.tokens.fast_bpe import FastBPE
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.train.snapshot import SnapshotError, load_snapshot, save_snapshot
from llm.tune.chat import example
from llm.tune.sft import padded_batches, sft_loss


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights, given day 53's model."""

    answers: int = 4000            # demonstrations, each for a prompt of its own
    B: int = 16                    # of them in a batch
    steps: int = 250
    rate: float = 1.5e-3           # peak, decayed to 0 along a cosine
    warmup: int = 20               # steps
    seed: int = 56
    version: int = 1               # raised when other code changes the weights

    @classmethod
    def small(cls):
        """For `--fast`."""
        return cls(answers=60, B=4, steps=8)


@dataclass(frozen=True)
class Taught:
    """A model that answers; each call of `taught` returns arrays of its own."""

    model: GPT
    tokenizer: FastBPE

    @property
    def config(self):
        """The shape of the model, a GPTConfig."""
        return self.model.config


def taught(fast=False):
    """The model: from the cache, or trained now and kept there.

    Raises KeyboardInterrupt on Ctrl-C, with nothing kept.
    """
    recipe, start = Recipe.small() if fast else Recipe(), tuned(fast)
    path = cache_folder() / name_of(recipe, start.model)
    try:
        start.model.load_state_dict(load_snapshot(path)[1])
    except (SnapshotError, ValueError):                    # not there, or damaged
        train(path, recipe, start)
    return Taught(start.model, start.tokenizer)


def name_of(recipe, model):
    """The file's name: another one as soon as the recipe, the weights or a kernel is another."""
    weights = hashlib.sha256()
    for array in model.state_dict().values():
        weights.update(np.ascontiguousarray(array))
    told = json.dumps([asdict(recipe), weights.hexdigest(), code_of_kernels()], sort_keys=True)
    return f"gpt-taught-{hashlib.sha256(told.encode()).hexdigest()[:12]}.npz"


def demonstrations(n, rng):
    """n (prompt, best answer), families in turn, of prompts that are not held out."""
    found = []
    while len(found) < n:
        prompt = draw_prompt(rng, FAMILIES[len(found) % len(FAMILIES)])
        if not held_out(prompt):
            worth = np.array([utility(prompt, answer) for answer in contents(prompt)])
            best = rng.choice(np.flatnonzero(worth == worth.max()))
            found.append((prompt, contents(prompt)[best]))
    return found


def train(path, recipe, start):
    """Fine-tune start.model in place and keep it."""
    if recipe == Recipe():
        say("teaching the tuned model to answer, once: a quarter of a minute on two quiet cores")
    rng, model = np.random.default_rng(recipe.seed), start.model
    examples = [example(start.tokenizer, [Message("user", prompt), Message("assistant", answer)])
                for prompt, answer in demonstrations(recipe.answers, rng)]
    optimizer = AdamW(model.named_parameters(), betas=(0.9, 0.99))
    with kernels(), progress(recipe.steps, "teaching") as tick:
        run = fit(model.named_parameters(), sft_loss(model),
                  padded_batches(examples, recipe.B, model.config.T, rng), optimizer,
                  WarmupCosine(recipe.rate, recipe.warmup), steps=recipe.steps,
                  hooks=[lambda step: tick(1, f"loss {step.loss:.2f}")])
    if run.interrupted:
        raise KeyboardInterrupt
    try:
        save_snapshot(path, model, optimizer, rng, {"recipe": asdict(recipe)})
    except SnapshotError as error:
        say(f"the model was not kept: {error}")
