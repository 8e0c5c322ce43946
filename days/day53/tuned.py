"""Day 53 · The tuned model: the base, after some hundred batches of questions and good answers.

    from days.day53.tuned import tuned
    t = tuned(fast)         # .model .tokenizer .config .texts .recipe, as the base has them
    train, test = tasks(t.recipe)

Learned are the assistant's tokens only, from packed rows. seed: of the tasks drawn and of their
order; each has a file of its own in the cache. Trained once, in about half a minute.
"""

from dataclasses import dataclass

import numpy as np

from days.day35 import job
from days.day35.trained import nats_per_character
from days.day53 import base as before
from days.harness import kernels, progress, say
from llm.data.download import cache_folder
from llm.data.tasks import calculator_tasks, split, story_tasks, sums
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.train.snapshot import SnapshotError
from llm.tune.chat import conversation, example
from llm.tune.packing import pack_attention
from llm.tune.sft import evaluate, packed_batches, sft_loss

GLANCES = 7                        # looks at the test and at Shakespeare, besides the first


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights, besides the base."""

    sums: int = 12_000             # tasks drawn of each family; a tenth goes to the test
    stories: int = 8000
    calculator: int = 3000
    largest: int = 29              # number in sums and for the calculator
    B: int = 8                     # rows a batch
    T: int = 128                   # tokens a row
    rate: float = 2e-3             # peak, decayed to 0
    warmup: int = 20               # steps
    beta2: float = 0.99
    clip: float = 1.0
    steps: int = 700
    seed: int = 0                  # of the tasks and of their order
    version: int = 1               # raised when code outside the kernels changes the weights

    @classmethod
    def small(cls, seed=0):
        """For `--fast`."""
        return cls(sums=300, stories=150, calculator=150, B=4, rate=3e-3, warmup=5, steps=42,
                   seed=seed)


def tuned(fast=False, seed=0, recipe=None):
    """The tuned model: from the cache, or trained now and kept there.

    Raises KeyboardInterrupt on Ctrl-C, with nothing kept.
    """
    recipe = recipe or (Recipe.small(seed) if fast else Recipe(seed=seed))
    start = before.base(fast)
    path = cache_folder() / before.name_of("tuned", [recipe, start.recipe], start.texts)
    if path.exists():
        try:
            return before.restore(path, recipe, start.texts, start.recipe)
        except SnapshotError:
            say(f"the kept model {path} is damaged: training it again")
    return train(path, recipe, start)


def tasks(recipe):
    """(train, test) of all families; the test's are never trained on, whatever the seed."""
    rng = np.random.default_rng([recipe.seed, 530])
    return split(sums(recipe.sums, rng, recipe.largest) + story_tasks(recipe.stories, rng)
                 + calculator_tasks(recipe.calculator, rng, recipe.largest))


def train(path, recipe, start):
    """Fine-tune a copy of the base and keep it."""
    if recipe.steps >= Recipe.steps:
        say("fine-tuning the base, once: about half a minute on two quiet cores")
    model, rng = copy_of(start), np.random.default_rng([recipe.seed, 531])
    borders, parameters = pack_attention(model), model.named_parameters()
    learned, test = tasks(recipe)
    examples = [example(start.tokenizer, conversation(task)) for task in learned]
    optimizer, curve = AdamW(parameters, betas=(0.9, recipe.beta2), decay=0.01), []
    reader = before.Trained(model, start.tokenizer, start.config, start.texts, recipe)
    look = glance(reader, test[::max(1, len(test) // 200)])

    def after(step):
        tick(1, f"loss {step.loss:.2f}")
        if step.step % (recipe.steps // GLANCES) == 0:
            curve.append([step.step, *look()])

    with kernels(), progress(recipe.steps, "fine-tuning the base") as tick:
        curve.append([0, *look()])
        run = fit(parameters, sft_loss(model, borders),
                  packed_batches(examples, recipe.B, recipe.T, rng), optimizer,
                  WarmupCosine(recipe.rate, recipe.warmup), steps=recipe.steps, clip=recipe.clip,
                  hooks=[after])
    if run.interrupted:
        raise KeyboardInterrupt
    before.keep(path, model, optimizer, rng, recipe, start.tokenizer, curve)
    plain = copy_of(start)
    plain.load_state_dict(model.state_dict())
    return before.Trained(plain, start.tokenizer, start.config, start.texts, recipe, curve)


def glance(reader, some):
    """A function () -> [nats per answer token of some tasks, nats per character of Shakespeare]."""
    some = [example(reader.tokenizer, conversation(task)) for task in some]
    plays = reader.texts["shakespeare"][1][:10_000]
    return lambda: [evaluate(reader.model, some), nats_per_character(reader, plays)]


def copy_of(start):
    """A model of its own with the same weights and the usual attention."""
    model = job.assemble(start.recipe, start.tokenizer, np.random.default_rng(0)).model
    model.load_state_dict(start.model.state_dict())
    return model
