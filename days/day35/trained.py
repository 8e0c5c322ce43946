"""Day 35 · The reader's GPT: trained once, by one recipe, for all later days to work with.

    from days.day35.trained import trained
    reader = trained(fast)          # .model .tokenizer .corpus .config .recipe

The first call trains, for about a minute on two quiet cores, and keeps the model in the cache
folder; later calls load it. The file's name tells recipe, text and kernels apart, so a model made
in another way is never taken for this one. Left out: going on with a stopped training (`run.py
--resume` does that); Ctrl-C leaves nothing, and the next call begins again.
"""

import ast
import hashlib
import importlib.util
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import llm
from days.day35 import job
from days.harness import kernels, progress, say
from llm.data.batches import random_windows
from llm.data.download import cache_folder
from llm.data.text import Corpus
from llm.models.gpt import GPT, GPTConfig
from llm.tokens.fast_bpe import FastBPE
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.train.snapshot import SnapshotError, load_snapshot, save_snapshot

KERNELS = ("adamw", "attention", "dense", "elementwise", "embedding", "floats", "loss", "norm",
           "tiles")


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights. Frozen: the numbers of later days rest on it."""

    V: int = 1024                  # bytes, and the byte pairs learned from the training text
    B: int = 8                     # windows a batch
    T: int = 128                   # tokens a window, about 290 characters
    C: int = 96                    # channels
    L: int = 3                     # blocks
    H: int = 3                     # heads, each of D = 32 channels
    std: float = 0.1               # of the blocks' weights at the start, about 1/√C
    rate: float = 3e-3             # peak, decayed to 0 along a cosine; 2e-3 and 4.5e-3 do as well
    warmup: int = 50               # steps until the rate is at its peak
    beta2: float = 0.99            # of AdamW's running mean of squared gradients
    clip: float = 1.0              # longest norm of a gradient
    steps: int = 2500              # of B·T tokens each: 1.3 times as many as the training text has
    characters: int = 10**9        # of the text, at most
    seed: int = 0                  # of the weights, then of the windows
    version: int = 1               # raised when code outside the kernels changes the weights

    @classmethod
    def small(cls):
        """For `--fast`: a tiny model on a short text."""
        return cls(V=300, T=32, C=32, L=2, H=2, rate=1e-2, warmup=10, steps=500,
                   characters=200_000)


@dataclass(frozen=True)
class Trained:
    """What `trained` returns; each call returns arrays of its own, which you may change."""

    model: GPT
    tokenizer: FastBPE
    corpus: Corpus                 # .train was learned from, .validation was not
    config: GPTConfig
    recipe: Recipe


def trained(fast=False, recipe=None, source="shakespeare"):
    """The reader's GPT: from the cache, or trained now and kept there.

    fast: a tiny one on a short text, made in about two seconds. recipe, source: for experiments;
    another recipe or another text has another file. Raises KeyboardInterrupt on Ctrl-C, with
    nothing kept, and UsageError where the text is too short.
    """
    recipe = recipe or (Recipe.small() if fast else Recipe())
    corpus = job.load_corpus(source, recipe)
    path = cache_folder() / name_of(recipe, corpus)
    if path.exists():
        try:
            return restore(path, recipe, corpus)
        except SnapshotError:
            say(f"the kept model {path} is damaged: training it again")
    return train(path, recipe, corpus)


def name_of(recipe, corpus):
    """The file's name: another one as soon as the recipe, the text or a kernel is another."""
    facts = json.dumps([asdict(recipe), hashlib.sha256(corpus.text.encode()).hexdigest(),
                        code_of_kernels()], sort_keys=True)
    return f"gpt-{corpus.name}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}.npz"


def code_of_kernels():
    """The kernels that a step runs on, without comments and docstrings; [] where it runs on NumPy.

    Kernels add in another order than NumPy does, and the last bits of the weights follow.
    """
    if importlib.util.find_spec("llm.train.fast") is None:
        return []
    folder = Path(llm.__path__[0]) / "kernels"
    sources = [(folder / f"{name}.py").read_text(encoding="utf-8") for name in KERNELS]
    return [ast.dump(without_docstrings(ast.parse(source))) for source in sources]


def without_docstrings(tree):
    """tree, changed in place: strings that stand as statements of their own are taken out."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)):
            node.body = [line for line in node.body if not (
                isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))]
    return tree


def train(path, recipe, corpus):
    """Learn the byte pairs, then the weights, and keep both."""
    if recipe == Recipe():
        say("training the reader's GPT, once: about a minute on two quiet cores")
    tokenizer = FastBPE.train(corpus.train, recipe.V)
    state = job.assemble(recipe, tokenizer, np.random.default_rng(recipe.seed))
    batches = random_windows(tokenizer.encode(corpus.train), recipe.B, recipe.T, state.rng)

    def loss(batch):
        return state.model.loss(*batch), batch[1].size

    with kernels(), progress(recipe.steps, "training the reader's GPT") as tick:
        run = fit(state.model.named_parameters(), loss, batches, state.optimizer,
                  WarmupCosine(recipe.rate, recipe.warmup), steps=recipe.steps, clip=recipe.clip,
                  hooks=[lambda step: tick(1, f"loss {step.loss:.2f}")])
    if run.interrupted:
        raise KeyboardInterrupt
    merges = tokenizer.merges[:, :2].tolist()
    try:
        save_snapshot(path, state.model, state.optimizer, state.rng,
                      {"recipe": asdict(recipe), "merges": merges, "steps": run.steps})
    except SnapshotError as error:
        say(f"the model was not kept: {error}")
    return Trained(state.model, tokenizer, corpus, state.model.config, recipe)


def restore(path, recipe, corpus):
    """The model kept at `path`. Raises SnapshotError where it is not what its name promises."""
    about, weights, _, _ = load_snapshot(path)
    try:
        if about["recipe"] != asdict(recipe):
            raise ValueError("it was trained by another recipe")
        tokenizer = FastBPE.from_merges(about["merges"], "gpt2")
        state = job.assemble(recipe, tokenizer, np.random.default_rng(recipe.seed))
        state.model.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SnapshotError(f"{path} holds another model ({error})") from None
    return Trained(state.model, tokenizer, corpus, state.model.config, recipe)


def nats_per_character(reader, text):
    """What the model pays for `text`, in nats for each of its characters.

    Nats per token depend on how the text is cut. Their sum does not: it is −ln P(text). So
    nats per token, times tokens, over characters; the first token is given, not predicted.
    """
    ids = reader.tokenizer.encode(text)
    predicted = len(text) - len(reader.tokenizer.decode(ids[:1]))
    return job.evaluate(reader, ids) * (len(ids) - 1) / predicted
