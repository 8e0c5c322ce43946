"""Day 49 · Llama: RMSNorm, rotary positions, grouped queries, SwiGLU, and no biases.

Parameters: V·C, twice where the head is not tied, + L(2C² + 2KDC + 3CF + 2C) + C, D = C / H.
`loss` and `generate` are day 34's. Left out: dropout, a head size of its own, scaled rotary
angles, and real weights (day 52).
"""

import math
from dataclasses import dataclass

import numpy as np

from llm.functions.grouped import check_groups
from llm.generate.architecture import GPT_PARTS, Architecture, check_weights
from llm.layers.block import Block
from llm.layers.gated import RMSNorm, SwiGLU
from llm.layers.grouped import GroupedAttention
from llm.layers.module import Embedding, Linear
from llm.layers.rotary import Rotary
from llm.models.gpt import GPT, head

PARTS = GPT_PARTS | {"think.inner.gate": "gate"}
NAMES = {"embed.table": "embed", "head.w": "head"}


@dataclass(frozen=True)
class LlamaConfig:
    """The shape of a Llama. The defaults are SmolLM2-135M: 134,515,008 parameters."""

    V: int = 49152         # vocabulary
    T: int = 8192          # longest context, in tokens
    C: int = 576           # channels of the residual stream
    L: int = 30            # blocks
    H: int = 9             # heads of queries, each of D = C / H channels
    K: int = 3             # heads of keys and values; query head h uses h // (H / K)
    F: int = 1536          # channels inside the feed-forward
    eps: float = 1e-5      # under the root of every norm
    base: float = 1e5      # of the rotary angles
    tied: bool = True      # the head is the embedding once more

    def __post_init__(self):
        for name in "VTCLHKF":
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        check_groups(self.H, self.K)
        if self.C % (2 * self.H):
            raise ValueError(f"{self.H} heads of {self.C} channels: rotary turns pairs, so each "
                             "head needs the same even number")
        for name in ("eps", "base"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, not {getattr(self, name)}")


def make_block(config, rng, rule, std=0.02, dtype=np.float32):
    """A block as in Llama; what is added to the stream starts smaller by 1/√(2L), as on day 34.

    rule: the rotary angles, which all blocks share. std: of the matrices that read the stream.
    """
    out_std = std / math.sqrt(2 * config.L)
    return Block(RMSNorm(config.C, config.eps, dtype),
                 GroupedAttention(config.C, config.H, config.K, rng, rule, std, out_std, dtype),
                 RMSNorm(config.C, config.eps, dtype),
                 SwiGLU(config.C, config.F, rng, std, out_std, dtype))


class Llama(GPT):
    """ids (B, T) -> logits (B, T, V): at each position, scores for the next token.

    block: a function (config, rng, rule) -> Module, for other blocks than Llama's. dtype: of all
    parameters, which are drawn in float32.
    Sources: Touvron et al. (2023a), section 2.2; (2023b), section 2.2, for grouped queries.
    """

    def __init__(self, config, rng, block=make_block, dtype=np.float32):
        self.config = config
        self.embed = Embedding(config.V, config.C, rng, std=0.02)
        rule = Rotary(config.C // config.H, config.T, config.base)
        self.blocks = [block(config, rng, rule) for _ in range(config.L)]
        self.norm = RMSNorm(config.C, config.eps)
        self.head = None if config.tied else Linear(config.C, config.V, rng, bias=False, std=0.02)
        for p in self.named_parameters().values():
            p.data = p.data.astype(dtype, copy=False)

    def hidden(self, ids, rng=None):
        """ids (B, T) -> (B, T, C): what the head reads.

        rng is not used, as nothing is dropped; `fit`'s losses may hand one over. Raises ValueError
        on any shape but (B, T), an empty one, T > config.T, or ids outside 0 … V − 1.
        """
        if ids.ndim != 2 or ids.size == 0 or ids.shape[1] > self.config.T:
            raise ValueError(f"ids of shape {ids.shape}: wanted (B, T) with B ≥ 1 and 1 ≤ T ≤ "
                             f"{self.config.T}; of a longer text pass the last {self.config.T}")
        x = self.embed(ids)                                                # (B, T, C)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def logits(self, hidden):
        """(…, C) -> (…, V), by a head of its own or the embedding once more."""
        return self.head(hidden) if self.head else head(hidden, self.embed.table)

    def for_inference(self):
        """(Architecture, weights) for days 42 and 43; the arrays are shared, not copied."""
        c = self.config
        arch = Architecture(c.V, c.T, c.C, c.L, c.H, c.K, c.C // c.H, c.F, "rms", c.eps, c.base,
                            "swiglu")
        weights = {inference_name(name): array for name, array in self.state_dict().items()}
        check_weights(arch, weights)
        return arch, weights


def inference_name(name):
    """blocks.0.mix.inner.qkv.w -> blocks.0.qkv.w, and so on for every name of a Llama."""
    if not name.startswith("blocks."):
        return NAMES.get(name, name)
    _, i, rest = name.split(".", 2)
    part, _, kind = rest.rpartition(".")
    return f"blocks.{i}.{PARTS.get(part, part)}.{kind}"


def count_parameters(config):
    """The formula at the top of this file."""
    C, KD = config.C, config.K * config.C // config.H
    block = 2 * C * C + 2 * KD * C + 3 * C * config.F + 2 * C
    return (1 if config.tied else 2) * config.V * C + config.L * block + C


def count_flops(config):
    """Of one token's forward in a full window: 2 for each weight in a product, and 4·L·T·C.

    Sharing keys changes the first term alone: every query still meets every token.
    """
    C, KD = config.C, config.K * config.C // config.H
    block = 2 * C * C + 2 * KD * C + 3 * C * config.F
    return 2 * (config.L * block + config.V * C) + 4 * config.L * config.T * C
