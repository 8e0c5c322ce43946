"""Day 34 · GPT: embed, L blocks, a last norm, and a head that is the embedding once more.

Parameters: L(12C² + 13C) + (V + T)C + 2C, less TC where no positions are learned, and VC more where
the head has a matrix of its own. Generation here is a plain loop; day 42 makes it fast. Left out:
training (day 35).
"""

import math
from dataclasses import dataclass

import numpy as np

from llm.functions.heads import NO_RULE
from llm.functions.tied import unembed, unembed_vjp
from llm.generate.sample import sample
from llm.grad import ops
from llm.grad.tensor import no_grad, primitive
from llm.layers.attention import MultiHeadAttention
from llm.layers.block import Block, FeedForward
from llm.layers.block import count_flops as block_flops
from llm.layers.block import count_saved as block_saved
from llm.layers.module import Embedding, Linear, Module
from llm.layers.norm import LayerNorm
from llm.layers.positions import LearnedPositions
from llm.layers.residual import Dropout
from llm.layers.rotary import Rotary

head = primitive(unembed, unembed_vjp)


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT. The defaults are GPT-2 small: 124,439,808 parameters."""

    V: int = 50257         # vocabulary
    T: int = 1024          # longest context, in tokens
    C: int = 768           # channels of the residual stream
    L: int = 12            # blocks
    H: int = 12            # heads, each of D = C / H channels
    dropout: float = 0.0   # share of what each branch adds that is dropped in training
    rotary: bool = False   # turn queries and keys (day 31) instead of adding learned positions
    tied: bool = True      # the head is the embedding once more, instead of a matrix of its own

    def __post_init__(self):
        for name in "VTCLH":
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.C % self.H:
            raise ValueError(f"{self.H} heads do not divide {self.C} channels evenly")


def make_block(config, rng, std=0.02, activation=ops.gelu, bias=True, dtype=np.float32,
               attention_dropout=0.0):
    """A block as in GPT-2: what is added to the stream starts smaller by 1/√(2L).

    2L branches add to the stream. Each adds a 1/(2L) of the variance it would add unscaled, so the
    sum does not grow with depth. std: of the matrices that read the stream. Another activation, no
    biases, dropout on attention weights: GPT(…, block=functools.partial(make_block, bias=False)).
    Source: Radford et al. (2019), section 2.3.
    """
    out_std = std / math.sqrt(2 * config.L)
    rule = Rotary(config.C // config.H, config.T) if config.rotary else NO_RULE
    return Block(LayerNorm(config.C, dtype=dtype, bias=bias),
                 MultiHeadAttention(config.C, config.H, rng, rule, std, out_std, bias, dtype=dtype,
                                    dropout=attention_dropout),
                 LayerNorm(config.C, dtype=dtype, bias=bias),
                 FeedForward(config.C, rng, 4, activation, std, out_std, bias, dtype),
                 config.dropout)


class GPT(Module):
    """ids (B, T) -> logits (B, T, V): at each position, scores for the next token.

    block: a function (config, rng) -> Module, for other blocks than GPT-2's. dtype: of all
    parameters, which are drawn in float32.
    Source: Radford et al. (2018), eq. 2; (2019), section 2.3, for the place of the norms.
    """

    def __init__(self, config, rng, block=make_block, dtype=np.float32):
        self.config = config
        self.embed = Embedding(config.V, config.C, rng, std=0.02)
        self.positions = None if config.rotary else LearnedPositions(config.T, config.C, rng)
        self.dropout = Dropout(config.dropout)
        self.blocks = [block(config, rng) for _ in range(config.L)]
        self.norm = LayerNorm(config.C)
        self.head = None if config.tied else Linear(config.C, config.V, rng, bias=False, std=0.02)
        for p in self.named_parameters().values():
            p.data = p.data.astype(dtype, copy=False)

    def __call__(self, ids, rng=None):
        """An rng means training: dropout draws from it. Raises ValueError as `hidden` does."""
        return self.logits(self.hidden(ids, rng))

    def hidden(self, ids, rng=None):
        """ids (B, T) -> (B, T, C): what the head reads, for other heads than ours.

        Raises ValueError on any shape but (B, T), an empty one, T > config.T, or ids outside
        0 … V − 1.
        """
        if ids.ndim != 2 or ids.size == 0 or ids.shape[1] > self.config.T:
            raise ValueError(f"ids of shape {ids.shape}: wanted (B, T) with B ≥ 1 and 1 ≤ T ≤ "
                             f"{self.config.T}; of a longer text pass the last {self.config.T}")
        x = self.embed(ids)                                                # (B, T, C)
        x = self.dropout(self.positions(x) if self.positions else x, rng)
        for block in self.blocks:
            x = block(x, rng)
        return self.norm(x)

    def logits(self, hidden):
        """(…, C) -> (…, V): the head is the embedding once more, unless it is untied."""
        if self.head is not None:
            return self.head(hidden)
        return head(hidden, self.embed.table)

    def loss(self, ids, targets, rng=None):
        """Mean cross-entropy in nats; targets[b, t] is what should follow ids[b, t], −100 where
        nothing is asked."""
        return ops.cross_entropy(self(ids, rng), targets)

    def generate(self, ids, n, rng, temperature=1.0):
        """Yield n ids one by one, each sampled given the last T of all before it.

        ids: (T₀,) with T₀ ≥ 1, of any length. Every step runs the whole window again: O(T) times
        too much work, which day 42 saves. Raises ValueError, at the first id, if there are none.
        """
        window = [int(i) for i in ids]
        if not window:
            raise ValueError("nothing to continue: give at least one id")
        for _ in range(n):
            with no_grad():
                logits = self(np.array([window[-self.config.T:]]))
            window.append(int(sample(logits.data[0, -1], rng, temperature)))
            yield window[-1]


def count_parameters(config):
    """The formula at the top of this file."""
    V, T, C, L = config.V, config.T, config.C, config.L
    tables = (1 if config.tied else 2) * V + (0 if config.rotary else T)
    return L * (12 * C * C + 13 * C) + tables * C + 2 * C


def count_flops(config):
    """Of one token's forward in a full window: the blocks and the head, 2(12LC² + VC) + 4LTC.

    The backward takes twice that: each product y = xW has two of its size behind it, for x and W.
    """
    return config.L * block_flops(config.C, config.T) + 2 * config.V * config.C


def count_saved(config):
    """Numbers that the forward of `loss` keeps for its backward, for one token of a full window.

    The blocks' share, the last norm's C + 1, the head's C, V log-probabilities. Without dropout
    and rotary, and besides the ids and targets themselves.
    """
    return config.L * block_saved(config.C, config.T, config.H) + 2 * config.C + 1 + config.V
