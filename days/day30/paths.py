"""Day 30 · Controls for sinusoids past the trained length: by which way do new places harm?"""

import numpy as np

from days.day29.model import loss_by_place, windows
from llm.functions.heads import PositionRule, multi_head
from llm.functions.probability import log_softmax
from llm.grad.tensor import Tensor, no_grad

WAYS = {"queries": "q", "keys": "k", "queries and keys": "qk", "values": "v",
        "the sum that goes on": "x", "all": "qkvx"}


class Hidden(PositionRule):
    """Keys at places first … last − 1 are hidden from queries at places `since` and later."""

    def __init__(self, first, last, since):
        self.first, self.last, self.since = first, last, since

    def bias(self, T):
        bias = np.zeros((1, T, T), np.float32)
        bias[:, self.since:, self.first:self.last] = -1e9
        return bias


def loss_by_way(model, ids, T, start, n, seed=1):
    """Nats at the later half of windows of T, where positions from `start` on enter by some ways.

    model: of one layer, with added positions. Returns {way: nats}; else the window starts at 0.
    """
    rng, way_of = np.random.default_rng(seed), {"none": "", **WAYS}
    (norm,), (layer,) = model.norms, model.layers
    totals, count = dict.fromkeys(way_of, 0.0), 0
    nothing = np.zeros((1, start + T, model.embed.table.shape[1]), np.float32)
    waves = model.positions(Tensor(nothing)).data[0]                         # (start + T, C)
    for _ in range(0, n, 32):
        inputs, targets = windows(ids, 32, T, rng)
        with no_grad():
            sums = [model.embed(inputs).data + waves[first:first + T] for first in (0, start)]
            parts = [np.split(layer.qkv(norm(Tensor(x))).data, 3, axis=-1) for x in sums]
            for name, moved in way_of.items():
                qkv = np.concatenate([parts[way in moved][i] for i, way in enumerate("qkv")], -1)
                x = Tensor(sums["x" in moved]) + layer.project(Tensor(multi_head(qkv, layer.H)[0]))
                logp = log_softmax(model.head(model.norm(x)).data)
                nats = -np.take_along_axis(logp, targets[..., None], -1)[..., 0]
                totals[name] += float(nats[:, T // 2:].mean())
        count += 1
    return {name: total / count for name, total in totals.items()}


def loss_without(model, ids, T, n, first, last, since):
    """Nats at places `since` … T − 1 of windows of T whose keys first … last − 1 are hidden."""
    (layer,) = model.layers
    rule, layer.rule = layer.rule, Hidden(first, last, since)
    try:
        return float(loss_by_place(model, ids, T, n)[since:].mean())
    finally:
        layer.rule = rule
