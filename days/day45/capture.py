"""Day 45 · What every matrix of a model gets to see: calibration by listening.

Day 43's prefill multiplies by way of a format's `matmul`. So a format whose `matmul` notes its
inputs, and then multiplies in float32, hears every matrix of a block without an edit anywhere. The
head is read for one token of a chunk only; decode with the identity as the head returns what it
gets for all tokens.
"""

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from llm.generate.cache import KVCache
from llm.generate.decode import decode
from llm.generate.prefill import prefill
from llm.kernels.matvec import FLOAT32, Packed


@dataclass
class Seen:
    """What is kept of the inputs x (n, K) of one matrix: not the inputs, which are many."""

    n: int = 0
    squares: np.ndarray = 0.0                       # Σ xᵀx, (K, K) float64
    sizes: np.ndarray = 0.0                         # Σ |x|, (K,)

    def add(self, x):
        x = np.asarray(x, np.float64)
        self.n += len(x)
        self.squares = self.squares + x.T @ x
        self.sizes = self.sizes + np.abs(x).sum(axis=0)

    @property
    def hessian(self):
        return 2 / self.n * self.squares

    @property
    def mean(self):
        return self.sizes / self.n


@dataclass
class Listener:
    """Makes formats that note what they multiply; `seen` maps a matrix's name to its Seen."""

    seen: dict = field(default_factory=dict)

    def matrix(self, name, w):
        """w (K, N) as a Packed that multiplies as it is and listens."""
        w = np.asarray(w, np.float32)
        heard = replace(FLOAT32, name="listening", matmul=partial(self.matmul, name))
        return Packed(w, w.shape[1], w.shape[0], heard)

    def matmul(self, name, w, x, N):
        self.seen.setdefault(name, Seen()).add(x)
        return x @ w


def listen(arch, weights, texts):
    """{name: Seen} of the blocks' matrices for texts, a list of ids (n,), n ≤ arch.T.

    weights: float32 arrays, as for `decode`.
    """
    listener = Listener()
    packed = {name: listener.matrix(name, w) if name.endswith(".w") else w
              for name, w in weights.items()}
    packed["head"] = Packed(np.zeros((arch.C, 1), np.float32), 1, arch.C,
                            replace(FLOAT32, matmul=lambda w, x, N: x @ w))
    for ids in texts:
        prefill(arch, packed, np.asarray(ids), KVCache(arch))
    return listener.seen


def listen_at_head(arch, weights, texts):
    """The Seen of the head."""
    seen, weights = Seen(), {**weights, "head": np.eye(arch.C, dtype=np.float32)}
    for ids in texts:
        seen.add(decode(arch, weights, ids, KVCache(arch)))
    return seen
