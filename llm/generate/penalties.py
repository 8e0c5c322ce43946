"""Day 41 · Penalties for what was written already, and a bias for what one wants or not.

Each is a function (logits (V,), so_far) -> logits (V,), as `Chooser.adjust` takes them. They act on
raw logits, before the temperature. Left out: penalties for whole phrases (n-gram blocking, DRY).
"""

from dataclasses import dataclass

import numpy as np

from llm.generate.truncate import checked


@dataclass(frozen=True)
class Penalty:
    """Lower the logits of tokens that occur in so_far[start:], of its `last` ids only if given.

    repetition r > 0: a logit z > 0 becomes z / r, one below 0 becomes z·r; 1 changes nothing.
    frequency f, presence g: z − f·count − g·[count > 0]; 0 changes nothing, below 0 attracts.
    Repetition comes first. start: where the output begins, so that a prompt is not penalised.
    Costs O(V + T). Raises ValueError on r ≤ 0, a negative start, last < 1, ids outside 0 … V − 1.
    Source: Keskar et al. (2019), "CTRL", penalized sampling (the sign's case is Hugging Face's);
    frequency and presence: the reference of OpenAI's completions interface.
    """

    repetition: float = 1.0
    frequency: float = 0.0
    presence: float = 0.0
    start: int = 0
    last: int | None = None

    def __post_init__(self):
        if not self.repetition > 0:
            raise ValueError(f"repetition must be above 0, not {self.repetition}; 1 is none")
        if self.start < 0 or (self.last is not None and self.last < 1):
            raise ValueError(f"start {self.start} must be 0 or more, last {self.last} at least 1; "
                             "None looks at all that was written")

    def __call__(self, logits, so_far):
        z = checked(logits)
        counts = count(so_far[self.start:], self.last, len(z))                 # (V,)
        pushed = np.where(z > 0, z / self.repetition, z * self.repetition)
        pushed = pushed - self.frequency * counts - self.presence
        return np.where(counts > 0, pushed, z).astype(z.dtype)


@dataclass(frozen=True)
class Bias:
    """Add a number to some logits: {id: number}. −∞ forbids, and 100 all but forces.

    Raises ValueError on ids outside 0 … V − 1 and on NaN or +∞, which no softmax survives.
    """

    table: dict

    def __call__(self, logits, so_far):
        z = checked(logits)
        for i, number in self.table.items():
            if not 0 <= i < len(z) or not number < np.inf:
                raise ValueError(f"bias {number} for id {i}: ids are 0 … {len(z) - 1}, numbers "
                                 "finite or −∞; to force one token forbid all others")
            z[i] += number
        return z


def count(ids, last, V):
    """(V,) int: how often each id occurs among the last ones."""
    ids = np.asarray(ids, dtype=np.int64)
    ids = ids if last is None else ids[-last:]
    if ids.size and not (ids.min() >= 0 and ids.max() < V):
        raise ValueError(f"so_far holds ids {ids.min()} … {ids.max()}, but the logits are those of "
                         f"ids 0 … {V - 1}; is this another tokenizer's text?")
    return np.bincount(ids, minlength=V)
