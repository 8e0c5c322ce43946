"""Day 22 · Truncated backpropagation through time: windows in order, and states that are carried.

The state that a window begins with is a plain array, so no gradient flows back into the window
before. Left out: a loop for all models (day 35). Source: Williams & Peng (1990), for truncation.
"""

import time

from llm.models.neural_ngram import expected
from llm.train.clip import clip_gradients


def streams(ids, batch, length):
    """Yield (inputs, targets, fresh), each (B, T): B texts side by side, window after window.

    Row b of a window goes on where row b of the last one ended, so states can be carried; `fresh`
    is True where the text begins again. Endless. Raises ValueError where the text is too short.
    """
    rows = (len(ids) - 1) // batch if batch > 0 else 0
    if length < 1 or rows < length:
        raise ValueError(f"a text of {len(ids)} tokens gives no {batch} streams of windows of "
                         f"{length}: use a longer text, or a smaller B or T")
    inputs = ids[:rows * batch].reshape(batch, rows)
    targets = ids[1:rows * batch + 1].reshape(batch, rows)
    while True:
        for at in range(0, rows - length + 1, length):
            part = slice(at, at + length)
            yield inputs[:, part], targets[:, part], at == 0


def train(model, batches, optimizer, rate, *, clip=1.0, steps=None, seconds=None, watch=None):
    """Steps of truncated backpropagation through time; returns the loss of each, nats a token.

    batches: as from `streams`. rate: a schedule of day 19. clip: the global norm's limit.
    Raises ValueError if neither `steps` nor `seconds` is given.
    """
    if steps is None and seconds is None:
        raise ValueError("say how long: train(..., steps=1000) or train(..., seconds=10)")
    losses, states, began = [], None, time.perf_counter()
    while steps is None or len(losses) < steps:
        passed = time.perf_counter() - began
        if seconds is not None and passed >= seconds:
            break
        step = len(losses) + 1
        total = steps if seconds is None else expected(step, passed, seconds)
        ids, targets, fresh = next(batches)
        model.zero_grad()
        loss, states = model.loss(ids, targets, None if fresh else states)
        loss.backward()
        clip_gradients([p.grad for p in model.named_parameters().values()], clip)
        optimizer.step(rate(step, total))
        losses.append(float(loss.data))
        if watch is not None:
            watch(step, total, losses[-1])
    return losses
