"""Day 45 · The error of each matrix by each way, on inputs that nothing was chosen by."""

import numpy as np

from days.day45.capture import listen, listen_at_head
from days.day45.models import names
from llm.quantize.awq import awq
from llm.quantize.gptq import gptq, layer_error
from llm.quantize.int4 import quantise


def layers(arch, weights, texts, fresh):
    """[name, loudest input over the median, AWQ's α, errors of AWQ and GPTQ over nearest].

    texts: what AWQ and GPTQ are told; fresh: where the errors are taken. All inputs as the
    float32 model has them.
    """
    told, new = (listen(arch, weights, one) | {"head": listen_at_head(arch, weights, one)}
                 for one in (texts, fresh))
    rows = []
    for name in names(arch):
        w, H, mean = weights[name], told[name].hessian, told[name].mean
        scaled, error = awq(w, H, mean), error_of(w, new[name].hessian)
        rows.append([name, float(mean.max() / np.median(mean)), scaled.alpha,
                     error(scaled) / error(quantise(w)), error(gptq(w, H)) / error(quantise(w))])
    return rows


def error_of(w, H):
    """The layer's error of whatever has `dense()`, for these weights and inputs."""
    return lambda one: layer_error(w, one.dense(), H)
