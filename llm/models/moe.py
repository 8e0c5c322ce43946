"""Day 51 · A GPT whose feed-forwards are mixtures of experts.

`loss` is day 34's cross-entropy, to compare models by; `objective` is what is trained: the loss and
what keeps the routers in order. Left out: blocks without experts in between, and inference code.
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from llm.functions.heads import NO_RULE
from llm.layers import moe
from llm.layers.attention import MultiHeadAttention
from llm.layers.block import Block
from llm.layers.moe import MoE
from llm.layers.norm import LayerNorm
from llm.layers.residual import Residual
from llm.layers.rotary import Rotary
from llm.models.gpt import GPT, GPTConfig


@dataclass(frozen=True)
class MoEConfig(GPTConfig):
    """The shape of a GPT with N experts in every block."""

    F: int = 1024                    # channels inside one expert
    N: int = 8                       # experts a block
    k: int = 2                       # of which a token uses k
    renormalise: bool = True         # the k gates add up to 1
    gated: bool = True               # SwiGLU experts; False: GELU
    capacity: float | None = None    # an expert takes ⌈capacity · kT/N⌉ rows; None: all that come
    jitter: float = 0.0              # of what the router sees, where `objective` gets an rng
    balance: float = 0.01            # weight of N·Σ fᵢPᵢ in the objective
    z: float = 0.0                   # weight of the z-loss


class Routed(Residual):
    """A pre-norm residual branch around an MoE, which may want the rng itself."""

    def __call__(self, x, rng=None):
        return x + self.dropout(self.inner(self.norm(x), rng), rng)


def make_block(config, rng, std=0.02, out_std=None):
    """Day 34's block with an MoE in the second branch.

    std: of the matrices that read the stream; out_std: of the experts' `down`, std/√(2L) unless
    given, as in the attention's `project`.
    """
    C, branch = config.C, std / math.sqrt(2 * config.L)
    rule = Rotary(C // config.H, config.T) if config.rotary else NO_RULE
    mixer = MultiHeadAttention(C, config.H, rng, rule, std, branch)
    experts = MoE(C, config.F, rng, config.N, config.k, config.renormalise, config.gated,
                  config.capacity, config.jitter, std, branch if out_std is None else out_std)
    block = Block(LayerNorm(C), mixer, LayerNorm(C), experts, config.dropout)
    block.replace("think", Routed(experts, block.think.norm, config.dropout))
    return block


class MoEGPT(GPT):
    """ids (B, T) -> logits (B, T, V), as GPT; config: an MoEConfig. dtype: as GPT's."""

    def __init__(self, config, rng, std=0.02, out_std=None, dtype=np.float32):
        super().__init__(config, rng, partial(make_block, std=std, out_std=out_std), dtype)

    def mixtures(self):
        """The MoE of each block, from the first to the last."""
        return [block.think.inner for block in self.blocks]

    def objective(self, ids, targets, rng=None):
        """loss + balance · (mean over blocks of N·Σ fᵢPᵢ) + z · (mean of their z-losses)."""
        total = self.loss(ids, targets, rng)
        for layer in self.mixtures():
            if self.config.balance:
                total = total + layer.balance_loss() * (self.config.balance / self.config.L)
            if self.config.z:
                total = total + layer.z_loss() * (self.config.z / self.config.L)
        return total

    def rebalance(self, speed):
        """Move every router's bias; a hook for `fit`, in place of a balance loss."""
        for layer in self.mixtures():
            layer.rebalance(speed)


def count_parameters(config):
    """(total, active for one token): L(4C² + 8C + mixture) + (V + T)C + 2C, less TC if rotary.

    4C² + 4C of attention and 4C of two norms; the mixture's as in layers/moe.py.
    """
    V, T, C, L = config.V, config.T, config.C, config.L
    rest = L * (4 * C * C + 8 * C) + (V + (0 if config.rotary else T)) * C + 2 * C
    total, active = moe.count_parameters(C, config.F, config.N, config.k, config.gated)
    return rest + L * total, rest + L * active


def count_flops(config):
    """Of one token's forward in a full window: L(8C² + 4TC + mixture) + 2VC."""
    C, mixture = config.C, moe.count_flops(config.C, config.F, config.N, config.k, config.gated)
    return config.L * (8 * C * C + 4 * config.T * C + mixture) + 2 * config.V * C
