"""Day 19 · A deep window model: L hidden layers, so that rates and scales begin to matter.

The model of day 16 with more layers between the windows and the logits, and a place for a norm
before each activation (day 21). Left out: shortcuts around the layers (day 32).
"""

import numpy as np

from llm.grad import ops
from llm.layers.module import Embedding, Linear, Module


class DeepWindow(Module):
    """ids (..., T) -> logits (..., V), through L layers of `hidden` units.

    Each layer is h ← tanh(norm(h W + b)). norm: makes a module for `hidden` channels, or None.
    gain: weights are drawn with standard deviation gain/√(inputs).
    """

    def __init__(self, vocab_size, context, channels, hidden, layers, rng, norm=None, gain=1.0,
                 dtype=np.float32):
        if min(vocab_size, context, channels, hidden, layers) < 1:
            raise ValueError(f"sizes must be 1 or more, not V {vocab_size}, T {context}, "
                             f"C {channels}, hidden {hidden}, layers {layers}")
        self.context = context
        self.embed = Embedding(vocab_size, channels, rng, dtype=dtype)
        inputs = [context * channels] + [hidden] * (layers - 1)
        self.layers = [Linear(n, hidden, rng, std=gain * n**-0.5, dtype=dtype) for n in inputs]
        self.norms = [norm(hidden) for _ in inputs] if norm else []
        self.out = Linear(hidden, vocab_size, rng, std=0.1 * hidden**-0.5, dtype=dtype)

    def __call__(self, ids, **options):
        """options go to the norms: BatchNorm wants to know about training."""
        return self.out(self.activations(ids, **options)[-1])

    def activations(self, ids, **options):
        """The output of every hidden layer, first to last: L Tensors (..., hidden)."""
        if np.ndim(ids) < 1 or np.shape(ids)[-1] != self.context:
            raise ValueError(f"ids {np.shape(ids)} must end in T = {self.context}, the context "
                             "this model was made for")
        h = self.embed(ids)                                                  # (..., T, C)
        h = h.reshape(*h.shape[:-2], h.shape[-2] * h.shape[-1])              # (..., T·C)
        outputs = []
        for i, layer in enumerate(self.layers):
            h = layer(h)                                                     # (..., hidden)
            if self.norms:
                h = self.norms[i](h, **options)
            h = ops.tanh(h)
            outputs.append(h)
        return outputs
