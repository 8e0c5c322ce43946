"""Day 53 · The base: a small GPT that has read plays, stories and sums, but never a question.

    from days.day53.base import base
    t = base(fast)          # .model .tokenizer .config .texts .recipe

One third of what it reads is Shakespeare, one third day 07's stories, one third lines such as
"37 + 45 = 82". Its byte pairs are learned from words only, so each digit is a token of its own. The
two special tokens of ChatML and the names of its roles are tokens too, which it never meets here.
Trained once, in about a minute on two quiet cores, then loaded from the cache. No sum of the test
(llm/data/tasks.py) is in it.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np

from days.day35 import job
from days.day35.trained import code_of_kernels
from days.harness import kernels, progress, say
from llm.data.batches import random_windows
from llm.data.download import cache_folder
from llm.data.stories import stories
from llm.data.tasks import split, sums
from llm.models.gpt import GPT, GPTConfig
from llm.tokens.fast_bpe import FastBPE
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.train.snapshot import SnapshotError, load_snapshot, save_snapshot

SPECIALS = ("<|im_start|>", "<|im_end|>")


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights of the base."""

    V: int = 512                   # bytes, byte pairs, two special tokens
    B: int = 9                     # windows a batch, three of each text
    T: int = 128                   # tokens a window
    C: int = 96                    # channels
    L: int = 3                     # blocks
    H: int = 3                     # heads
    std: float = 0.1               # of the blocks' weights at the start, about 1/√C
    rate: float = 3e-3             # peak, decayed to 0 along a cosine
    warmup: int = 50               # steps
    beta2: float = 0.99            # of AdamW
    clip: float = 1.0              # longest norm of a gradient
    steps: int = 2400
    characters: int = 10**9        # of Shakespeare, at most
    stories: int = 4000
    sums: int = 80_000             # drawn; a tenth of them is the test's and is left out
    largest: int = 29              # number in them
    easy: int = 0                  # more sums, of single digits
    seed: int = 0                  # of stories and sums, of the weights, of the windows
    version: int = 1               # raised when code outside the kernels changes the weights

    @classmethod
    def small(cls):
        """For `--fast`: a tiny model, little text."""
        return cls(V=400, B=3, C=32, L=2, H=2, rate=1e-2, warmup=10, steps=150,
                   characters=200_000, stories=300, sums=3000, easy=0)


@dataclass(frozen=True)
class Trained:
    """A model and what it was made from; each call of `base` returns arrays of its own."""

    model: GPT
    tokenizer: FastBPE             # with <|im_start|> and <|im_end|> among its specials
    config: GPTConfig
    texts: dict                    # name -> (what was read, what was not)
    recipe: Recipe
    curve: list = ()               # what was looked at on the way, for figures


def base(fast=False, recipe=None):
    """The base model: from the cache, or trained now and kept there.

    Raises KeyboardInterrupt on Ctrl-C, with nothing kept.
    """
    recipe = recipe or (Recipe.small() if fast else Recipe())
    texts = read(recipe)
    path = cache_folder() / name_of("base", [recipe], texts)
    if path.exists():
        try:
            return restore(path, recipe, texts)
        except SnapshotError:
            say(f"the kept model {path} is damaged: training it again")
    return train(path, recipe, texts)


@cache
def read(recipe):
    """{name: (training text, held-out text)}; the arithmetic held out is the tasks' test."""
    rng = np.random.default_rng([recipe.seed, 53])
    plays = job.load_corpus("shakespeare", recipe)
    tales = stories(recipe.stories, rng)
    drawn = sums(recipe.sums, rng, recipe.largest)
    learned, unseen = split(drawn + sums(recipe.easy, rng, largest=9))
    lines = ["".join(f"{tasks[i].prompt} {tasks[i].answer}\n" for i in rng.permutation(len(tasks)))
             for tasks in (learned, unseen)]
    return {"shakespeare": (plays.train, plays.validation),
            "stories": (tales, stories(recipe.stories // 10, rng)),
            "arithmetic": tuple(lines)}


def name_of(kind, recipes, texts):
    """The file's name: another one as soon as a recipe, a text or a kernel is another."""
    read = [hashlib.sha256(text.encode()).hexdigest() for both in texts.values() for text in both]
    told = [[asdict(recipe) for recipe in recipes], read, code_of_kernels()]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return f"gpt-{kind}-{digest[:12]}.npz"


def learn_words(texts, V):
    """Byte pairs from plays and stories without their digits, which so stay single tokens.

    The roles of ChatML are counted as often as it takes to make each of them one token.
    """
    words = [re.sub(r"\d", "", texts[name][0]) for name in ("shakespeare", "stories")]
    return FastBPE.train([*words, "user\nassistant\n" * 50_000], V, specials=SPECIALS)


def train(path, recipe, texts):
    """Learn the byte pairs, then the weights, and keep both."""
    if recipe == Recipe():
        say("training the base model, once: about a minute on two quiet cores")
    tokenizer = learn_words(texts, recipe.V)
    state = job.assemble(recipe, tokenizer, np.random.default_rng(recipe.seed))
    windows = [random_windows(tokenizer.encode(text), recipe.B // 3, recipe.T, state.rng)
               for text, _ in texts.values()]
    batches = (tuple(map(np.concatenate, zip(*parts))) for parts in zip(*windows))

    def loss(batch):
        return state.model.loss(*batch), batch[1].size

    with kernels(), progress(recipe.steps, "training the base model") as tick:
        run = fit(state.model.named_parameters(), loss, batches, state.optimizer,
                  WarmupCosine(recipe.rate, recipe.warmup), steps=recipe.steps, clip=recipe.clip,
                  hooks=[lambda step: tick(1, f"loss {step.loss:.2f}")])
    if run.interrupted:
        raise KeyboardInterrupt
    keep(path, state.model, state.optimizer, state.rng, recipe, tokenizer)
    return Trained(state.model, tokenizer, state.model.config, texts, recipe)


def keep(path, model, optimizer, rng, recipe, tokenizer, curve=()):
    """Write a model and its byte pairs; where that is impossible, say so and go on."""
    about = {"recipe": asdict(recipe), "merges": tokenizer.merges[:, :2].tolist(), "curve": curve}
    try:
        save_snapshot(path, model, optimizer, rng, about)
    except SnapshotError as error:
        say(f"the model was not kept: {error}")


def restore(path, recipe, texts, shape=None):
    """The model kept at `path`; shape: the recipe of its base, if that is another.

    Raises SnapshotError where the file is not what its name promises.
    """
    about, weights, _, _ = load_snapshot(path)
    try:
        if about["recipe"] != asdict(recipe):
            raise ValueError("it was trained by another recipe")
        tokenizer = FastBPE.from_merges(about["merges"], "gpt2", SPECIALS)
        model = job.assemble(shape or recipe, tokenizer, np.random.default_rng(0)).model
        model.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SnapshotError(f"{path} holds another model ({error})") from None
    return Trained(model, tokenizer, model.config, texts, recipe, about.get("curve", ()))
