"""Day 43 · Two models to read: the reader's GPT, which fits in a cache, and one that does not."""

from dataclasses import dataclass

import numpy as np

from days.day35.trained import trained
from llm.generate.architecture import Architecture, gpt_weights, shapes


@dataclass(frozen=True)
class Model:
    name: str
    arch: Architecture
    weights: dict
    ids: list             # a text to read
    tokenizer: object = None
    gpt: object = None    # day 34's model, where there is one


def readers(fast):
    """Day 35's GPT, on the second half of the held-out text."""
    t = trained(fast)
    ids = t.tokenizer.encode(t.corpus.validation)
    arch, weights = gpt_weights(t.model.state_dict(), t.config)
    return Model("the reader's GPT", arch, weights, ids[len(ids) // 2:].tolist(), t.tokenizer,
                 t.model)


def large(fast, rng):
    """GPT-2 small's shape, 124M random weights of 4 bytes: what they are costs no time."""
    arch = (Architecture(V=2000, T=128, C=128, L=2, H=4, K=4, D=32, F=512) if fast else
            Architecture(V=50257, T=1024, C=768, L=12, H=12, K=12, D=64, F=3072))
    must, may = shapes(arch)
    biases = {name: shape for name, shape in may.items() if name != "head"}
    weights = {name: rng.standard_normal(shape, dtype=np.float32)
               * np.float32(0.02 if len(shape) > 1 else 0.1) for name, shape in must.items()}
    weights |= {name: np.zeros(shape, np.float32) for name, shape in biases.items()}
    return Model("GPT-2 small's shape", arch, weights,
                 rng.integers(0, arch.V, 2 * arch.T).tolist())
