"""Day 48 · Six small GPTs on the characters of Shakespeare that differ in norm and feed-forward.

At equal parameters (F = 8C/3 for SwiGLU, 4C for GELU) and from weights of equal spread; the
differences between the variants are told in experiments/modern_parts.py, which trains them all.
Left out: how to find a rate for each of them.
"""

import dataclasses
import math

from llm.data.batches import sliding_windows
from llm.grad import ops
from llm.grad.tensor import no_grad
from llm.layers.attention import MultiHeadAttention
from llm.layers.block import Block, FeedForward
from llm.layers.gated import RMSNorm, SwiGLU, gated_width
from llm.layers.norm import LayerNorm
from llm.layers.rotary import Rotary
from llm.models.gpt import GPT, GPTConfig
from llm.tokens.chars import CharTokenizer

VARIANTS = {"LayerNorm, GELU": (LayerNorm, "gelu"), "RMSNorm, GELU": (RMSNorm, "gelu"),
            "LayerNorm, SwiGLU": (LayerNorm, "swiglu"), "RMSNorm, SwiGLU": (RMSNorm, "swiglu"),
            "LayerNorm, SiLU": (LayerNorm, "silu"), "LayerNorm, bare GELU": (LayerNorm, "bare")}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is held equal. A study keeps runs only where all of it is the same."""

    corpus: str = "shakespeare"
    characters: int = 10**9              # of the corpus, at most
    validate: int = 50_000               # characters of each half of the held-out tenth, at most
    B: int = 8                           # windows a batch
    T: int = 64                          # characters a window
    C: int = 72
    L: int = 2
    H: int = 3
    steps: int = 800
    warmup: int = 50
    first_rates: tuple = (2.7e-3, 4e-3, 6e-3)      # the grid grows from here
    factor: float = 1.5                  # between neighbours
    choose: tuple = (0, 1)               # seeds on the grid
    report: tuple = (10, 11, 12, 13, 14, 15)     # fresh seeds at the best rate

    @classmethod
    def small(cls):
        """For --fast: everything happens, on little."""
        return cls(characters=50_000, validate=1000, T=16, C=12, L=1, H=2, steps=5,
                   first_rates=(1e-2,), choose=(0,), report=(10, 11))


def make_block(config, rng, norm, feed_forward):
    """A block as in day 35's recipe, with this norm and feed-forward."""
    C, std = config.C, 1 / math.sqrt(config.C)
    out_std = std / math.sqrt(2 * config.L)
    mixer = MultiHeadAttention(C, config.H, rng, Rotary(C // config.H, config.T), std, out_std)
    if feed_forward == "swiglu":
        think = SwiGLU(C, gated_width(C), rng, std, out_std)
    elif feed_forward == "bare":
        think = FeedForward(C, rng, std=std, out_std=.75 * out_std)
        think.up.b = think.down.b = None
    else:
        think = FeedForward(C, rng, activation=getattr(ops, feed_forward), std=std,
                            out_std=out_std)
    return Block(norm(C), mixer, norm(C), think)


def make_model(plan, V, variant, rng):
    """The GPT of one variant; its last norm is of the same kind."""
    norm, feed_forward = VARIANTS[variant]
    config = GPTConfig(V=V, T=plan.T, C=plan.C, L=plan.L, H=plan.H, rotary=True)
    model = GPT(config, rng, lambda config, rng: make_block(config, rng, norm, feed_forward))
    model.replace("norm", norm(plan.C))
    return model


class Texts:
    """The corpus as ids, one a character: `train`, and two pieces of the held-out text.

    `choose` begins the first half of it, `report` the second. `V`: how many ids there are.
    corpus: has the strings `text` (all of it), `train` and `validation`.
    """

    def __init__(self, plan, corpus):
        tokenizer = CharTokenizer.from_text(corpus.text)
        self.V, half = tokenizer.vocab_size, len(corpus.validation) // 2
        self.train = tokenizer.encode(corpus.train)
        self.choose, self.report = (tokenizer.encode(corpus.validation[i:i + plan.validate + 1])
                                    for i in (0, half))


def nats(model, ids, T):
    """Mean nats per character; all but the first T are predicted from at least T/2 before them."""
    total, count = 0.0, 0
    with no_grad():
        for inputs, targets in sliding_windows(ids, 64, T, T // 2):
            kept = int((targets != -100).sum())
            total, count = total + float(model.loss(inputs, targets).data) * kept, count + kept
    return total / count
