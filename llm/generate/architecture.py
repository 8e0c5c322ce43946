"""Day 42 · Architecture: the shape of a decoder and the names of its weights, for inference.

The training models (days 34 and 49) are trees of modules. For inference a model is its numbers:
one description and a flat dict from name to array. From today on both know of K heads of keys and
values, two norms, two ways to tell positions and two feed-forwards, so that later models need no
change here. Left out: scaled rotary frequencies, and norms that stand after a branch.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Architecture:
    """The shape of a decoder. Raises ValueError where the numbers cannot belong together.

    Sources: Shazeer (2019) for K = 1, Ainslie et al. (2023), section 2.2, for K between 1 and H.
    """

    V: int                         # vocabulary
    T: int                         # longest context, in tokens
    C: int                         # channels of the residual stream
    L: int                         # blocks
    H: int                         # heads of queries
    K: int                         # heads of keys and values; query head h uses h // (H / K)
    D: int                         # channels of one head; H·D need not be C
    F: int                         # channels inside the feed-forward
    norm: str = "layer"            # or "rms", which does not subtract the mean
    eps: float = 1e-5
    rotary: float | None = None    # base of half-split rotary angles; None: learned positions
    feed_forward: str = "gelu"     # or "swiglu": down(silu(gate(x)) · up(x))

    def __post_init__(self):
        for name in "VTCLHKDF":
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.H % self.K:
            raise ValueError(f"{self.K} heads of keys and values do not divide {self.H} heads of "
                             "queries evenly")
        if self.norm not in ("layer", "rms"):
            raise ValueError(f"norm must be 'layer' or 'rms', not {self.norm!r}")
        if self.feed_forward not in ("gelu", "swiglu"):
            raise ValueError(f"feed_forward must be 'gelu' or 'swiglu', not {self.feed_forward!r}")
        if self.rotary is not None and (self.D % 2 or not self.rotary > 0):
            raise ValueError(f"rotary turns pairs of channels by a base above 0: D {self.D} must "
                             f"be even and the base {self.rotary} positive")


def shapes(arch):
    """The shape of every array: (required, optional), two dicts from name to shape.

    A matrix is (Cin, Cout), as in day 16's Linear. Without `head` the head is `embed` once more.
    """
    C, D, F = arch.C, arch.D, arch.F
    must, may = {"embed": (arch.V, C), "norm.gain": (C,)}, {"head": (C, arch.V)}
    if arch.rotary is None:
        must["positions"] = (arch.T, C)
    norms, gated = ["norm"], arch.feed_forward == "swiglu"
    for i in range(arch.L):
        matrices = {"qkv": (C, (arch.H + 2 * arch.K) * D),     # queries, then keys, then values
                    "project": (arch.H * D, C), "up": (C, F), "down": (F, C)}
        for name, shape in matrices.items():
            must[f"blocks.{i}.{name}.w"] = shape
            may[f"blocks.{i}.{name}.b"] = shape[1:]
        if gated:
            must[f"blocks.{i}.gate.w"] = (C, F)
        for name in ("norm1", "norm2"):
            norms.append(f"blocks.{i}.{name}")
            must[f"blocks.{i}.{name}.gain"] = (C,)
    may.update({f"{name}.bias": (C,) for name in norms if arch.norm == "layer"})
    return must, may


def check_weights(arch, weights):
    """Raise ValueError at the first array that is missing, unknown or of another shape.

    weights: a dict from name to anything with a `shape`.
    """
    must, may = shapes(arch)
    for name, shape in must.items():
        if name not in weights:
            raise ValueError(f"the weights lack {name}, which should be {shape}: is this another "
                             "architecture?")
    for name, array in weights.items():
        shape = must.get(name) or may.get(name)
        if shape is None:
            raise ValueError(f"the weights hold {name} {tuple(array.shape)}, which this "
                             "architecture does not have")
        if tuple(array.shape) != shape:
            raise ValueError(f"{name} is {tuple(array.shape)}; this architecture wants {shape}")


GPT_NAMES = {"embed.table": "embed", "positions.table": "positions"}
GPT_PARTS = {"mix.norm": "norm1", "mix.inner.qkv": "qkv", "mix.inner.project": "project",
             "think.norm": "norm2", "think.inner.up": "up", "think.inner.down": "down"}


def gpt_weights(state, config):
    """Day 34's GPT for inference: (Architecture, weights), the arrays shared and not copied.

    state: `model.state_dict()`. config: anything with V, T, C, L, H and rotary (true or false).
    Raises ValueError if the two do not belong together.
    """
    weights = {}
    for name, array in state.items():
        if name.startswith("blocks."):
            _, i, rest = name.split(".", 2)
            part, _, kind = rest.rpartition(".")
            name = f"blocks.{i}.{GPT_PARTS.get(part, part)}.{kind}"
        weights[GPT_NAMES.get(name, name)] = array
    up = weights.get("blocks.0.up.w", np.zeros((0, 4 * config.C)))
    arch = Architecture(config.V, config.T, config.C, config.L, config.H, config.H,
                        config.C // config.H, up.shape[1],
                        rotary=10000.0 if config.rotary else None)
    check_weights(arch, weights)
    return arch, weights
