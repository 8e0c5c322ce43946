"""Day 43 · Models to read: the reader's GPT, which fits in a cache, and two that do not."""

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


def readers(fast, rng=None):
    """Day 35's GPT, on the second half of the held-out text."""
    t = trained(fast)
    ids = t.tokenizer.encode(t.corpus.validation)
    arch, weights = gpt_weights(t.model.state_dict(), t.config)
    return Model("the reader's GPT", arch, weights, ids[len(ids) // 2:].tolist(), t.tokenizer,
                 t.model)


def narrow(fast, rng):
    """Forty narrow layers, 130 MB: a phase has some hundred kB, as in a model of 4 bits."""
    return random_model("40 narrow layers", rng, V=2000, T=128, C=64, L=4, H=2, F=256) if fast \
        else random_model("40 narrow layers", rng, V=4096, T=1024, C=256, L=40, H=4, F=1024)


def large(fast, rng):
    """GPT-2 small's shape, 124M weights of 4 bytes."""
    return random_model("GPT-2 small's shape", rng, V=2000, T=128, C=128, L=2, H=4, F=512) if fast \
        else random_model("GPT-2 small's shape", rng, V=50257, T=1024, C=768, L=12, H=12, F=3072)


def random_model(name, rng, V, T, C, L, H, F):
    """A GPT of random weights: what they are costs no time."""
    arch = Architecture(V, T, C, L, H, H, C // H, F)
    must, may = shapes(arch)
    weights = {key: rng.standard_normal(shape, dtype=np.float32)
               * np.float32(0.02 if len(shape) > 1 else 0.1) for key, shape in must.items()}
    weights |= {key: np.zeros(shape, np.float32) for key, shape in may.items() if key != "head"}
    return Model(name, arch, weights, rng.integers(0, V, T).tolist())
