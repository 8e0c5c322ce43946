"""Day 57 · Many texts read side by side, with a cache: what sampling a batch of answers needs.

All texts stand at the same column, so that one position and one mask serve them all; day 42's
cache has one more axis here. Plain NumPy, all of day 42's architectures. Left out: requests that
come and go one by one (day 47), compiled kernels (day 43).
"""

import math

import numpy as np

from llm.functions.probability import softmax
from llm.generate.architecture import gpt_weights
from llm.generate.decode import apply, feed_forward, norm
from llm.generate.rotate import turn
from llm.grad.tensor import no_grad


def reader(model, N, T):
    """A reader of N texts of up to T ids: cached where `model` is a plain GPT or Llama.

    A model with other parts, put in by `replace` say, is read by its own forward: right, but the
    whole text again for every token. It needs `config.T` and ids (N, n) -> logits (N, n, V).
    """
    try:
        arch, weights = (model.for_inference() if hasattr(model, "for_inference")
                         else gpt_weights(model.state_dict(), model.config))
    except ValueError:
        return Whole(model, N)
    return Cached(arch, weights, N, T)


class Cached:
    """Keys and values of N texts: 2·L·N·K·T·D numbers."""

    def __init__(self, arch, weights, N, T):
        self.arch, self.weights, self.length = arch, weights, 0
        shape = (arch.L, N, arch.K, T, arch.D)
        self.k, self.v = (np.zeros(shape, weights["embed"].dtype) for _ in range(2))

    def read(self, ids):
        """ids (N, n), the next n of every text -> logits (N, V) for what follows the last."""
        arch, w, start = self.arch, self.weights, self.length
        positions = np.arange(start, start + ids.shape[1])
        x = w["embed"][ids]                                             # (N, n, C)
        if arch.rotary is None:
            x = x + w["positions"][positions]
        for i in range(arch.L):
            block = f"blocks.{i}."
            y = apply(w, block + "qkv", norm(arch, w, block + "norm1", x))
            heads = y.reshape(*ids.shape, -1, arch.D).swapaxes(1, 2)    # (N, H + 2K, n, D)
            q, k, v = np.split(heads, [arch.H, arch.H + arch.K], axis=1)
            if arch.rotary is not None:
                q, k = turn(q, positions, arch.rotary), turn(k, positions, arch.rotary)
            self.k[i, :, :, positions] = k.transpose(2, 0, 1, 3)
            self.v[i, :, :, positions] = v.transpose(2, 0, 1, 3)
            keys, values = (part[i, :, :, :positions[-1] + 1] for part in (self.k, self.v))
            x = x + apply(w, block + "project", attend(q, keys, values, start))
            x = x + feed_forward(arch, w, block, norm(arch, w, block + "norm2", x))
        self.length += ids.shape[1]
        x = norm(arch, w, "norm", x[:, -1])                             # (N, C)
        return x @ w["head"] if "head" in w else x @ w["embed"].T

    def keep(self, rows):
        """Forget all texts but these (a mask, or their numbers)."""
        self.k, self.v = self.k[:, rows], self.v[:, rows]


class Whole:
    """The same without a cache, for any model: its own forward over all that was read."""

    def __init__(self, model, N):
        self.model, self.ids = model, np.zeros((N, 0), np.int32)

    def read(self, ids):
        """As Cached.read."""
        self.ids = np.concatenate([self.ids, ids], axis=1)
        with no_grad():
            return self.model(self.ids).data[:, -1]

    def keep(self, rows):
        """As Cached.keep."""
        self.ids = self.ids[rows]


def attend(q, k, v, start):
    """q (N, H, n, D) at positions start … meets k and v (N, K, start + n, D) -> (N, n, H·D).

    Day 42's `attend` with one axis more, for the text.
    """
    (N, H, n, D), (_, K, end, _) = q.shape, k.shape
    scores = q.reshape(N, K, H // K * n, D) @ k.swapaxes(2, 3) / math.sqrt(D)
    if n > 1:                                       # token j of the chunk sees start + j + 1 keys
        scores = scores.reshape(N, K, H // K, n, end)
        scores = np.where(np.tri(n, end, start, dtype=bool), scores, -np.inf)
    out = softmax(scores).reshape(N, K, H // K * n, end) @ v
    return out.reshape(N, H, n, D).swapaxes(1, 2).reshape(N, n, H * D)
