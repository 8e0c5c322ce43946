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


def own_text(model, judge, texts, prompt, n, rng):
    """What happens on text that the model wrote itself, after `prompt` real tokens.

    texts (N, ≥ prompt + n). Returns for each place 1 … n after the prompt four means over texts:
    the judge's price (day 06's model) of the real text; of one token that the model draws after
    real text alone; of the model's free text; and the model's own price of its free text.
    """
    real, start = texts[:, :prompt + n], texts[:, :prompt]
    free = np.concatenate([start, model.generate(start, n, rng)], axis=1)
    forced = forced_draws(model, real, prompt, rng)              # (N, n)
    price = np.zeros((4, n))
    price[0] = after(judge, real, prompt)
    price[2] = after(judge, free, prompt)
    for k in range(n):                                           # real text, then one drawn token
        mixed = np.concatenate([real[:, :prompt + k], forced[:, k:k + 1]], axis=1)
        price[1, k] = after(judge, mixed[:, -12:], mixed[:, -12:].shape[1] - 1)[0]
    logits = teacher_forced(model, free[:, :-1])[:, prompt - 1:]
    logp = np.take_along_axis(log_softmax(logits), free[:, prompt:, None], -1)[..., 0]
    price[3] = -logp.mean(axis=0)
    return price.tolist()


def teacher_forced(model, ids):
    """Logits (N, T, V) in float64 on text that is given."""
    with no_grad():
        return model(ids)[0].data.astype(np.float64)


def forced_draws(model, ids, prompt, rng):
    """One token drawn at each place after the prompt, always after the real text: (N, n)."""
    logits = teacher_forced(model, ids[:, :-1])[:, prompt - 1:]
    return np.argmax(logits + rng.gumbel(size=logits.shape), axis=-1)        # day 08


def after(judge, texts, prompt):
    """The judge's mean nats at each place after the prompt: (n,)."""
    return -np.mean([judge.log_probabilities(ids)[prompt:] for ids in texts], axis=0)


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


def once(model, ids):
    """Seconds of one step."""
    began = time.perf_counter()
    model.zero_grad()
    loss, _ = model.loss(ids, ids)
    loss.backward()
    return time.perf_counter() - began
