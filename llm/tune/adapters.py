"""Day 55 · Adapters and BitFit: small networks behind a frozen model's branches, or its biases.

    add_adapters(model, width=16, rng=rng)       # two in each block; or
    bitfit(model)                                # the biases and the norms' gains, nothing else
    with fast(): fit(model.named_parameters(), loss, …)

Both leave the model's output as it is at the start, to the bit. Left out: adapters beside a branch
instead of behind it, training the norms together with the adapters, dropout.
Sources: Houlsby et al. (2019), section 2.1 and figure 2; Ben Zaken et al. (2022), section 3.
"""

from llm.grad import ops
from llm.grad.tensor import Tensor
from llm.layers.module import Linear, Module, parameter
from llm.tune.lora import FrozenLinear, freeze, frozen_linear


class Adapter(Module):
    """y = inner(x) -> y + up(gelu(down(y))) (..., C), with `width` = m channels between.

    `up` starts at 0, and with it the change. Parameters: 2·C·m + m + C; 4·C·m FLOPs a token.
    Source: Houlsby et al. (2019), section 2.1; they start near 0 and leave the nonlinearity open.
    """

    def __init__(self, inner, channels, width, rng, dtype):
        self.inner = inner
        self.down = Linear(channels, width, rng, dtype=dtype)
        self.up = Linear(width, channels, rng, std=0.0, dtype=dtype)

    def __call__(self, x):
        y = self.inner(x)
        return y + self.up(ops.gelu(self.down(y)))


def add_adapters(model, width, rng):
    """Freeze `model` and put an adapter behind both branches of each block -> {path: Adapter}.

    rng draws the matrices that read. L·2·(2·C·m + m + C) numbers are trained. Raises ValueError,
    before anything changes, where the width is below 1 or the model has adapters already.
    """
    if width < 1:
        raise ValueError(f"an adapter needs at least 1 channel between, not {width}")
    if dict(model.named(Adapter)):
        raise ValueError("the model has adapters already: start from share(base)")
    freeze(model)
    C, dtype, found = model.config.C, model.embed.table.dtype, {}
    for i in range(len(model.blocks)):
        for branch in ("mix", "think"):
            path = f"blocks.{i}.{branch}.inner"
            found[path] = Adapter(model.get(path), C, width, rng, dtype)
            model.replace(path, found[path])
    return found


class BiasLinear(Module):
    """x (..., Cin) -> x W + b (..., Cout), W (Cin, Cout) frozen and b (Cout,) trained.

    Neither dx nor db asks for x, so x is not kept for the backward.
    """

    def __init__(self, w, b):
        self.w, self.b = Tensor(w), parameter(b)

    def weight(self):
        """W (Cin, Cout), an array."""
        return self.w.data

    def __call__(self, x):
        return frozen_linear(x, self.weight) + self.b


def bitfit(model):
    """Freeze `model` but for its vectors, biases and norms' gains -> {path: Tensor} of these.

    The vectors become copies, so that a base which shares its arrays (share.py) keeps its own.
    """
    freeze(model)
    for path, layer in list(model.named(FrozenLinear)):
        if layer.b is not None:
            model.replace(path, BiasLinear(layer.w.data, layer.b.data.copy()))
    for _, tensor in model.named(Tensor):
        if tensor.ndim == 1:
            tensor.data, tensor.requires_grad = tensor.data.copy(), True
    return model.named_parameters()
