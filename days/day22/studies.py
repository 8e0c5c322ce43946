"""Day 22 · Training at equal time, reading one's own text, and the time of a step against T."""

import contextlib
import time

import numpy as np

from llm.functions.probability import log_softmax
from llm.grad.tensor import no_grad
from llm.models import gru, neural_ngram
from llm.train.adam import AdamW
from llm.train.fast_gru import fast
from llm.train.recurrent import streams, train
from llm.train.schedule import WarmupCosine


def recurrent(ids, size, channels, layer, rate, seed, batch, length, **limit):
    """A trained RecurrentLM and its number of steps; limit: steps=… or seconds=…."""
    rng = np.random.default_rng(seed)
    model = gru.RecurrentLM(size, channels, 1, rng, layer)
    offset = int(rng.integers(len(ids) // 2))                    # each seed begins elsewhere
    losses = train(model, streams(ids[offset:], batch, length),
                   AdamW(model.named_parameters(), decay=0.0), WarmupCosine(rate, 20), **limit)
    return model, len(losses)


def window(ids, size, hidden, rate, seed, **limit):
    """Day 16's network, trained as there; and its number of steps."""
    rng = np.random.default_rng(seed)
    model = neural_ngram.NeuralNGram(size, 8, 16, hidden, rng)
    batches = neural_ngram.draws(ids, 8, 64, rng)
    return model, len(neural_ngram.train(model, batches, WarmupCosine(rate, 100), **limit))


def nats(logp):
    """The mean price of tokens whose ln P is given."""
    return float(-np.mean(logp))


def own_text(model, judges, texts, prompt, n, rng):
    """What happens on text that the model wrote itself, after `prompt` real tokens.

    texts (N, ≥ prompt + n); judges: {order: n-gram model of day 06}. Returns means over the texts
    for each place 1 … n after the prompt. First {order: that judge's price of [the real text, one
    token that the model draws after real text alone, the model's free text]}, then the model's own
    price of [the real text, its free text].
    """
    real, start = texts[:, :prompt + n], texts[:, :prompt]
    free = np.concatenate([start, model.generate(start, n, rng)], axis=1)
    drawn = forced_draws(model, real, prompt, rng)               # (N, n)
    judged = {order: [after(judge, real, prompt), forced(judge, real, drawn, prompt, order),
                      after(judge, free, prompt)] for order, judge in judges.items()}
    return judged, [own_price(model, ids, prompt) for ids in (real, free)]


def own_price(model, ids, prompt):
    """The model's mean nats at each place after the prompt: (n,)."""
    logp = log_softmax(teacher_forced(model, ids[:, :-1])[:, prompt - 1:])
    return -np.take_along_axis(logp, ids[:, prompt:, None], -1)[..., 0].mean(axis=0)


def teacher_forced(model, ids):
    """Logits (N, T, V) in float64 on text that is given."""
    with no_grad():
        return model(ids)[0].data.astype(np.float64)


def forced_draws(model, ids, prompt, rng):
    """One token drawn at each place after the prompt, always after the real text: (N, n)."""
    logits = teacher_forced(model, ids[:, :-1])[:, prompt - 1:]
    return np.argmax(logits + rng.gumbel(size=logits.shape), axis=-1)        # day 08


def after(judge, texts, prompt):
    """The judge's mean nats at each place after the prompt, which is longer than its order."""
    logp = judge.log_probabilities(texts.reshape(-1)).reshape(texts.shape)
    return -logp[:, prompt:].mean(axis=0)


def forced(judge, real, drawn, prompt, order):
    """The judge's mean nats of each drawn token, put after the real text before it: (n,)."""
    ends = np.arange(prompt, prompt + drawn.shape[1])
    blocks = real[:, ends[:, None] + np.arange(1 - order, 1)]    # (N, n, order)
    blocks[..., -1] = drawn
    logp = judge.log_probabilities(blocks.reshape(-1)).reshape(blocks.shape)
    return -logp[..., -1].mean(axis=0)


def step_times(channels, tokens, lengths, seed, repeats=5):
    """[(T, milliseconds of a step in NumPy, on the kernels)]: T·B = tokens, so equal work.

    The best of `repeats`. A step is forward and backward through embedding, GRU and head.
    """
    rng, rows = np.random.default_rng(seed), []
    model = gru.RecurrentLM(64, channels, 1, rng)
    for T in lengths:
        ids = rng.integers(64, size=(tokens // T, T))
        row = [T]
        for context in (contextlib.nullcontext, fast):
            with context():
                row.append(1e3 * min(once(model, ids) for _ in range(repeats + 1)))
        rows.append(row)
    return rows


def quicker(times, T):
    """The context, NumPy's or the kernels', in which windows of T tokens took less time."""
    numpy_ms, kernels_ms = next(row[1:] for row in times if row[0] == T)
    return fast if kernels_ms < numpy_ms else contextlib.nullcontext


def once(model, ids):
    """Seconds of one step."""
    began = time.perf_counter()
    model.zero_grad()
    loss, _ = model.loss(ids, ids)
    loss.backward()
    return time.perf_counter() - began
