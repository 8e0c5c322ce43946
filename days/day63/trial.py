"""Day 63 · One run of the study: a recipe, a rate and two seeds in, two losses out, to the bit.

The seed of the start draws the weights, the seed of the order draws the windows. Two runs with the
same order see the same text at every step, whatever their weights are. A run is counted in steps
and never in seconds, and uses one thread, so that another program on the machine changes nothing.
"""

import contextlib
import functools
import math
import time

import numpy as np

from days.day63.parts import build, make_optimizer
from llm.data.batches import random_windows, sliding_windows
from llm.data.text import load_or_default
from llm.grad.tensor import no_grad
from llm.kernels.threads import allow, kept
from llm.tensors.roofline import Blas
from llm.tokens.chars import CharTokenizer
from llm.tokens.fast_bpe import FastBPE
from llm.train.fast_gated import fast
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine


class Texts:
    """A corpus as ids: training text, and two pieces of the held-out tenth, `choose` and `report`.

    The first half of the held-out tenth is for choosing, the second for reporting.
    """

    def __init__(self, corpus, pairs, characters, held_out):
        text = corpus.text[:characters]
        cut = len(text) * 9 // 10
        train, unseen = text[:cut], text[cut:]
        tokenizer = FastBPE.train(train, pairs) if pairs else CharTokenizer.from_text(text)
        self.V, self.train = tokenizer.vocab_size, tokenizer.encode(train)
        self.pieces = {}
        for name, start in (("choose", 0), ("report", len(unseen) // 2)):
            piece = unseen[start:start + min(held_out, len(unseen) // 2)]
            ids = tokenizer.encode(piece)
            self.pieces[name] = ids, len(piece) - len(tokenizer.decode(ids[:1]))


@functools.lru_cache(maxsize=8)
def texts_of(pairs, characters, held_out):
    """The texts of a recipe, read and cut once."""
    return Texts(load_or_default(), pairs, characters, held_out)


@contextlib.contextmanager
def one_thread():
    """The fast kernels on one thread; afterwards all is as before."""
    blas = Blas()
    before = blas.threads()
    with kept():
        allow(1)
        blas.set_threads(1)
        try:
            with fast():
                yield
        finally:
            if before:
                blas.set_threads(before)


def run(recipe, rate, start, order):
    """Train one model and score it on both pieces of held-out text.

    start, order: seeds, of the weights and of the windows. Returns {"choose", "report"}: nats per
    character, infinite where training diverged, "parameters", "skipped" steps, "seconds" of
    processor time. Raises KeyboardInterrupt where it was told to stop, with nothing half done.
    """
    began = time.process_time()
    texts = texts_of(recipe.pairs, recipe.characters, recipe.held_out)
    model = build(recipe, texts.V, np.random.default_rng([start, 0]))
    parameters = model.named_parameters()
    batches = random_windows(texts.train, recipe.B, recipe.T, np.random.default_rng([order, 1]))
    with one_thread(), np.errstate(over="ignore", invalid="ignore"):
        done = fit(parameters, lambda batch: (model.loss(*batch), batch[1].size), batches,
                   make_optimizer(recipe, parameters), WarmupCosine(rate, recipe.warmup),
                   steps=recipe.steps, clip=recipe.clip)
        if done.interrupted:
            raise KeyboardInterrupt
        losses = {name: nats_per_character(model, *piece, recipe.T)
                  for name, piece in texts.pieces.items()}
    return {**losses, "parameters": model.count_parameters(), "skipped": done.skipped,
            "seconds": round(time.process_time() - began, 2)}


def nats_per_character(model, ids, characters, T):
    """−ln P(text) over its characters: what tokenizers can be compared by.

    Nats per token depend on how the text is cut, their sum does not. ids: of the text; characters:
    how many it has after the first token, which is given. All but the first T tokens are predicted
    from at least T/2 before them.
    """
    total = 0.0
    with no_grad():
        for inputs, targets in sliding_windows(ids, 64, T, T // 2):
            asked = int((targets != -100).sum())
            total += float(model.loss(inputs, targets).data) * asked
    return total / characters if math.isfinite(total) else math.inf
