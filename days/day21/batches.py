"""Day 21 · Three looks at what BatchNorm makes of a batch: companions, statistics, leaks."""

import numpy as np

from llm.grad import ops
from llm.grad.tensor import Tensor, no_grad
from llm.layers.norm import BatchNorm, LayerNorm
from llm.models.neural_ngram import draws

TRAINING = {"training": True}


def companions(rng, times):
    """How much the output of one row depends on the rows it shares a batch with."""
    row, rows = rng.standard_normal(64), []
    for batch in (2, 4, 8, 16, 32, 64, 128, 256):
        norm, outputs = BatchNorm(64, dtype=np.float64), []
        for _ in range(times):
            others = rng.standard_normal((batch - 1, 64))
            outputs.append(norm(Tensor(np.vstack([row, others])), **TRAINING).data[0])
        predicted = np.sqrt((1 + row**2 / 2) / batch).mean()     # of the mean, and of the scale
        rows.append([batch, float(np.std(outputs, axis=0).mean()), float(predicted)])
    return rows


def nats_in_batches(model, ids, context, batch, windows, rng):
    """The loss on unseen text if BatchNorm went on using the statistics of the batch at hand.

    A mean over that many windows, fewer in small batches, whose calls take longest. Beside it the
    loss on the very same windows with the running statistics.
    """
    before = {name: array.copy() for name, array in model.state_dict().items()}
    batches, total, drawn = draws(ids, context, batch, rng), [], []
    with no_grad():
        for _ in range(min(windows // batch, windows // 8)):
            contexts, targets = next(batches)
            total.append(float(ops.cross_entropy(model(contexts, **TRAINING), targets).data))
            drawn.append((contexts, targets))
        model.load_state_dict(before)               # the running statistics have moved
        contexts, targets = (np.concatenate(parts) for parts in zip(*drawn))
        running = float(ops.cross_entropy(model(contexts), targets).data)
    return float(np.mean(total)), running


def leaks(rng):
    """Change the last of 8 positions of 4 sequences: how far does the first position move?"""
    x = rng.standard_normal((4, 8, 16))
    y = x.copy()
    y[:, -1] += 3
    result = {}
    for kind, make, options in (("LayerNorm", LayerNorm, {}), ("BatchNorm", BatchNorm, TRAINING)):
        norm = make(16, dtype=np.float64)
        before, after = (norm(Tensor(z), **options).data[:, 0] for z in (x, y))
        result[kind] = float(np.abs(after - before).mean())
    return result
