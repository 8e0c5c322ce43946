"""Day 53 · A real model that can be trained: day 52's weights in day 49's Llama.

The file's numbers become float32, and are not rounded back. Training all of them with AdamW takes
16 bytes a weight: itself, its gradient and two moments. Left out: models that are no Llama.
"""

from dataclasses import replace

import numpy as np

from llm.models.llama import Llama, LlamaConfig, inference_name


class Zeros:
    """Stands for the rng of a model whose first weights nobody will see."""

    def standard_normal(self, shape):
        """Zeros, float32, at no cost for drawing."""
        return np.zeros(shape, np.float32)


def trainable(pretrained, T=None):
    """A `Pretrained` of `load()` -> Llama with the float32 weights of its file.

    T: tokens that it will be trained on at most; the file's own limit if not given, which makes
    large tables of angles. Raises ValueError for a file that is no Llama of ours (biases, norms
    without gain only, a head size of its own), or a T that it was not made for.
    """
    arch = pretrained.arch
    if (arch.norm, arch.feed_forward) != ("rms", "swiglu") or arch.rotary is None or (
            arch.D * arch.H != arch.C):
        raise ValueError(f"{arch} is no Llama: wanted rms norms, swiglu, rotary positions and "
                         "heads of C / H channels")
    if not 1 <= (T or arch.T) <= arch.T:
        raise ValueError(f"T {T}: this model was made for 1 … {arch.T} tokens")
    weights = pretrained.weights()
    config = LlamaConfig(arch.V, arch.T, arch.C, arch.L, arch.H, arch.K, arch.F, arch.eps,
                         arch.rotary, tied="head" not in weights)
    model = Llama(replace(config, T=T or arch.T), Zeros())
    parameters = model.named_parameters()
    if {inference_name(name) for name in parameters} != set(weights):
        odd = sorted(set(weights) ^ {inference_name(name) for name in parameters})
        raise ValueError(f"the file has other arrays than a Llama: {', '.join(odd[:4])}")
    for name, p in parameters.items():
        p.data = np.ascontiguousarray(weights.pop(inference_name(name)), np.float32)
    return model
