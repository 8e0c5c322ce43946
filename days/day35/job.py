"""Day 35 · The parts of the main job: recipe, state, validation, writing, the rival."""

import codecs
import math
import time
from dataclasses import dataclass
from functools import partial

import numpy as np

from days.harness import UsageError, console, progress, say
from llm.data.batches import sliding_windows
from llm.data.text import load_or_default
from llm.functions.probability import log_softmax
from llm.grad.tensor import no_grad
from llm.models.gpt import GPT, GPTConfig, make_block
from llm.models.ngram import NGram
from llm.tokens.chars import CharTokenizer
from llm.tokens.fast_bpe import FastBPE
from llm.train.adam import AdamW
from llm.train.clip import clip_gradients
from llm.train.loop import paced


@dataclass(frozen=True)
class Recipe:
    """The minute's model; the note tells which of these numbers were compared with others."""

    V: int = 2048                  # 256 bytes, and the byte pairs learned from the training text
    B: int = 16                    # windows a batch
    T: int = 42                    # tokens a window, about 115 characters
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
    page: int = 500                # tokens to write
    orders: tuple = (6, 7)         # n-grams of characters to choose the best from
    token_orders: tuple = (3, 4)   # … and of tokens

    @classmethod
    def small(cls):
        """For --fast: everything happens, on little."""
        return cls(V=300, B=8, T=32, C=32, L=2, H=2, rate=1e-2, warmup=10, steps=80,
                   characters=200_000, validate=3000, glance=1000, page=60, orders=(3, 4),
                   token_orders=(2, 3))


@dataclass
class State:
    """All that a run changes, and what it was made from."""

    recipe: Recipe
    tokenizer: FastBPE | CharTokenizer
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
    """A new model for this text, with byte pairs learned from its training part."""
    began = time.perf_counter()
    tokenizer = FastBPE.train(corpus.train, recipe.V)
    if (seconds := time.perf_counter() - began) > 3:
        say(f"learned the byte pairs in {seconds:.0f} s, compiling included; the next run finds "
            "the compiled code in the cache")
    return assemble(recipe, tokenizer, np.random.default_rng(seed))


def encoded(state, corpus):
    """(training ids, held-out ids). UsageError where they do not fill a window."""
    train, held_out = state.tokenizer.encode(corpus.train), state.tokenizer.encode(
        corpus.validation[:state.recipe.validate])
    for ids, part in ((train, "training"), (held_out, "held-out")):
        if len(ids) <= state.recipe.T:
            raise UsageError(f"the {part} part of {corpus.name} has {len(ids)} tokens; at least "
                             f"{state.recipe.T + 1} are needed: give a longer text")
    return train, held_out


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
    """Mean nats per token of `ids`, but for the first, which nothing predicts."""
    return float(token_losses(state, ids).mean())


def token_losses(state, ids, seconds=math.inf, tick=lambda n: None):
    """ids (N,) -> (n,) nats of ids[1] … ids[n], each predicted from the tokens before it.

    Each but those at the very beginning has at least T/2 tokens before it. n is N − 1, or as many
    as `seconds` allow; one batch of windows at least. tick(k): k more are done.
    """
    T, found = state.recipe.T, []
    size, began = state.model.count_parameters(), time.perf_counter()
    with no_grad():
        for inputs, targets in sliding_windows(ids, 64, T, T // 2):
            kept = targets != -100                                         # (B, T)
            logits = paced(("logits", size, inputs.shape), state.model, inputs).data[kept]
            found.append(-log_softmax(logits)[np.arange(len(logits)), targets[kept]])
            tick(len(logits))
            if time.perf_counter() - began > seconds:
                break
    return np.concatenate(found).astype(np.float64)


def characters(state, ids, n=None):
    """How many characters the tokens ids[1] … ids[n] stand for; all but the first without n."""
    return len(state.tokenizer.decode(ids[1:None if n is None else n + 1]))


def write_page(state, n, temperature, seconds, prompt="\n"):
    """Write n tokens, or as many as `seconds` allow, shown as they come; returns the text."""
    out, page = console(stderr=True), []
    for piece in written(state, prompt, n, np.random.default_rng(1), temperature, seconds):
        page.append(piece)
        out.print(piece, end="", markup=False, emoji=False, soft_wrap=True)
    out.print()
    return "".join(page)


def written(state, prompt, n, rng, temperature, seconds=math.inf):
    """Yield the text that the model goes on with, a token at a time.

    A character of several bytes may be spread over tokens: it comes with the last of them.
    """
    ids = state.model.generate(state.tokenizer.encode(prompt), n, rng, temperature)
    size, began = state.model.count_parameters(), time.perf_counter()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while (i := paced(("token", size), next, ids, None)) is not None:
        yield decoder.decode(state.tokenizer.table[i])
        if time.perf_counter() - began > seconds:
            return


def continue_prompt(state, prompt, temperature, rng):
    """--prompt: the kept model goes on from the reader's words until Ctrl-C or a page is full."""
    if not prompt:
        raise UsageError("--prompt is empty: give it at least one character")
    try:
        state.tokenizer.encode(prompt)
    except ValueError as error:
        raise UsageError(f"--prompt: {error}") from None
    print(prompt, end="", flush=True)
    for piece in written(state, prompt, state.recipe.page, rng, temperature):
        print(piece, end="", flush=True)
    print()


@dataclass(frozen=True)
class Rival:
    """A counted model and what it pays."""

    order: int
    numbers: int                   # that it holds
    losses: np.ndarray             # (N − 1,) nats of each held-out token but the first


def ngram_rival(train, held_out, V, orders):
    """The best Kneser–Ney n-gram of these orders, counted on the ids of the same text."""
    rivals = []
    with progress(len(orders), "counting n-grams") as tick:
        for order in orders:
            counted = NGram.fit(train, order, V)
            rivals.append(Rival(order, counted.size,
                                -counted.log_probabilities(held_out)[1:]))
            tick()
    return min(rivals, key=lambda rival: rival.losses.mean())


def counted_characters(corpus, characters, orders):
    """The rival that counts characters, on the first so many held-out ones."""
    tokenizer = CharTokenizer.from_text(corpus.text)
    return ngram_rival(tokenizer.encode(corpus.train),
                       tokenizer.encode(corpus.validation[:characters]), tokenizer.vocab_size,
                       orders)


def together(losses, others):
    """Nats of the mean of two models' probabilities: −ln((e^−a + e^−b)/2), token by token."""
    return math.log(2) - np.logaddexp(-losses, -others)
