"""Day 35 · The parts of the main job: recipe, state, validation, writing, the rival."""

import math
import time
from dataclasses import dataclass
from functools import partial

import numpy as np

from days.harness import UsageError, console, progress
from llm.data.batches import sliding_windows
from llm.data.text import load_or_default
from llm.grad.tensor import no_grad
from llm.models.gpt import GPT, GPTConfig, make_block
from llm.models.ngram import NGram
from llm.tokens.chars import CharTokenizer
from llm.train.adam import AdamW
from llm.train.clip import clip_gradients
from llm.train.loop import paced


@dataclass(frozen=True)
class Recipe:
    """What was found to work best in a minute; the note says what else was tried."""

    B: int = 16                    # windows a batch
    T: int = 64                    # characters a window
    C: int = 96
    L: int = 3
    H: int = 3
    std: float = 0.1               # of the blocks' weights at the start, about 1/√C
    rate: float = 3e-3             # peak learning rate, decayed to 0
    warmup: int = 50               # steps
    beta2: float = 0.99
    clip: float = 1.0
    steps: int | None = None       # at most so many, whatever time is left
    characters: int = 10**9        # of the corpus
    validate: int = 10**9          # characters of the validation text in the final figure
    glance: int = 10_000           # … and in the looks on the way
    page: int = 1200               # characters to write
    orders: tuple = (6, 7)         # n-grams to choose the best from

    @classmethod
    def small(cls):
        """For --fast: everything happens, on little."""
        return cls(B=8, T=32, C=32, L=2, H=2, rate=1e-2, warmup=10, steps=80, characters=200_000,
                   validate=3000, glance=1000, page=120, orders=(3, 4))


@dataclass
class State:
    """All that a run changes, and what it was made from."""

    recipe: Recipe
    tokenizer: CharTokenizer
    model: GPT
    optimizer: AdamW
    rng: np.random.Generator
    step: int = 0                  # steps done in this cycle of the schedule
    used: float = 0.0              # seconds of it

    def time_left(self, seconds):
        """What an interrupted run has left of its budget; a finished one begins a new cycle."""
        if self.used >= seconds - 0.5:
            self.step, self.used = 0, 0.0
        return seconds - self.used


def load_corpus(source, recipe):
    """The text, cut to what the recipe uses; UsageError where it is too short to learn from."""
    from days.harness import say
    corpus = load_or_default(source, say)
    if len(corpus.text) > recipe.characters:
        corpus = type(corpus)(corpus.name, corpus.text[:recipe.characters])
    if len(corpus.validation) <= recipe.T:
        raise UsageError(f"{corpus.name} has {len(corpus.text)} characters; "
                         f"at least {10 * recipe.T + 20} are needed")
    return corpus


def assemble(recipe, tokenizer, rng):
    model = GPT(GPTConfig(V=tokenizer.vocab_size, T=recipe.T, C=recipe.C, L=recipe.L,
                          H=recipe.H, rotary=True), rng, partial(make_block, std=recipe.std))
    optimizer = AdamW(model.named_parameters(), betas=(0.9, recipe.beta2), decay=0.01)
    return State(recipe, tokenizer, model, optimizer, rng)


def build(corpus, recipe, seed):
    """A new model for this text."""
    return assemble(recipe, CharTokenizer.from_text(corpus.text), np.random.default_rng(seed))


def warm_up(say):
    """One step of a tiny GPT, so that compiling the kernels (once, cached) costs no training."""
    began = time.perf_counter()
    model = GPT(GPTConfig(V=100, T=64, C=128, L=1, H=2), np.random.default_rng(0))
    parameters = model.named_parameters()
    ids = np.arange(128).reshape(2, 64) % 100
    model.loss(ids, ids).backward()
    clip_gradients([p.grad for p in parameters.values()], 1e-3)
    AdamW(parameters).step(1e-3)
    if (seconds := time.perf_counter() - began) > 3:
        say(f"compiled the kernels in {seconds:.0f} s; the next run finds them in the cache")


def evaluate(state, ids):
    """Mean nats per token of `ids`; each is predicted from at least T/2 tokens before it, but for
    the first of all."""
    return validate(state, ids)[0]


def validate(state, ids, seconds=math.inf, tick=lambda n: None):
    """(what evaluate returns, how many tokens were predicted) for as much of `ids`, from its
    beginning, as `seconds` allow; one batch of windows at least. tick(n): n more are done."""
    T, total, count = state.recipe.T, 0.0, 0
    size, began = state.model.count_parameters(), time.perf_counter()
    with no_grad():
        for inputs, targets in sliding_windows(ids, 64, T, T // 2):
            kept = int((targets != -100).sum())
            loss = paced(("loss", size, inputs.shape), state.model.loss, inputs, targets)
            total += float(loss.data) * kept
            count += kept
            tick(kept)
            if time.perf_counter() - began > seconds:
                break
    return total / count, count


def write_page(state, n, temperature, seconds, prompt="\n"):
    """Write n characters, or as many as `seconds` allow, shown as they come; returns them."""
    tokenizer, out = state.tokenizer, console(stderr=True)
    start = tokenizer.encode(prompt if set(prompt) <= set(tokenizer.characters)
                             else tokenizer.characters[0])
    page = []
    for i in written(state, start, n, np.random.default_rng(1), temperature, seconds):
        page.append(tokenizer.decode([i]))
        out.print(page[-1], end="", markup=False, emoji=False, soft_wrap=True)
    out.print()
    return "".join(page)


def written(state, start, n, rng, temperature, seconds=math.inf):
    """Yield the ids that the model goes on with."""
    ids, size = state.model.generate(start, n, rng, temperature), state.model.count_parameters()
    began = time.perf_counter()
    while (i := paced(("token", size), next, ids, None)) is not None:
        yield i
        if time.perf_counter() - began > seconds:
            return


def continue_prompt(state, prompt, temperature, rng):
    """--prompt: the kept model goes on from the reader's words until Ctrl-C or a page is full."""
    if not prompt:
        raise UsageError("--prompt is empty: give it at least one character")
    try:
        ids = state.tokenizer.encode(prompt)
    except ValueError as error:
        raise UsageError(f"--prompt: {error}") from None
    print(prompt, end="", flush=True)
    for i in written(state, ids, state.recipe.page, rng, temperature):
        print(state.tokenizer.decode([i]), end="", flush=True)
    print()


@dataclass(frozen=True)
class Rival:
    """A counted model and what it pays."""

    order: int
    numbers: int                   # that it holds
    losses: np.ndarray             # (N − 1,) nats of each held-out character but the first


def ngram_rival(train, held_out, V, orders):
    """The best Kneser–Ney n-gram of these orders, counted on the same text."""
    rivals = []
    with progress(len(orders), "counting n-grams") as tick:
        for order in orders:
            counted = NGram.fit(train, order, V)
            rivals.append(Rival(order, counted.size,
                                -counted.log_probabilities(held_out)[1:]))
            tick()
    return min(rivals, key=lambda rival: rival.losses.mean())
