"""Day 41 · Cutting the tail off: top-k, top-p, min-p, typical filters, and their order.

A filter takes logits (V,) and returns a copy with −∞ where a token is forbidden; it never forbids
all. Ties are cut by id, the lowest first. Left out: adaptive rules such as Mirostat and η-sampling.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from llm.generate.sample import sample, scaled

SLACK = 1e-6        # a sum or a ratio that misses its border by this much has reached it


def top_k(logits, k):
    """Keep the k largest logits: exactly k, the lowest ids where several tie for the last place.

    logits (V,) -> (V,). k ≥ 1 may exceed V, and tokens at −∞ stay there even if fewer than k are
    left. O(V): the k-th largest is selected, not sorted. Raises ValueError on k < 1, on logits
    that are not (V,), hold NaN or +∞, or are all −∞.
    Source: Fan, Lewis and Dauphin (2018), "Hierarchical Neural Story Generation", with k = 10.
    """
    z = checked(logits)
    if not k >= 1 or k % 1:
        raise ValueError(f"top-k needs a whole number k ≥ 1, not {k}")
    if k >= len(z):
        return z
    border = np.partition(z, len(z) - int(k))[len(z) - int(k)]     # the k-th largest
    kept = z > border
    ties = np.flatnonzero(z == border)[:int(k) - int(kept.sum())]
    kept[ties] = True
    return np.where(kept, z, -np.inf).astype(z.dtype)


def top_p(logits, p):
    """Keep the smallest set of most likely tokens whose probabilities sum to at least p.

    logits (V,) -> (V,); 0 < p ≤ 1, and 1 keeps all. "At least p" means ≥ p − SLACK in float64,
    since .5 + .3 read back from float32 logits may be .7999999. Equal tokens join by their id.
    O(V log V) for the sort. Raises ValueError as top_k does, and on other p.
    Source: Holtzman et al. (2020), "The Curious Case of Neural Text Degeneration".
    """
    z = checked(logits)
    within(p, "top-p")
    return smallest_set(z, -scaled(z, 1.0), p)


def min_p(logits, p):
    """Keep the tokens at least p times as likely as the likeliest one: zᵢ ≥ max z + ln p.

    logits (V,) -> (V,); 0 < p ≤ 1. No sum and no sort: O(V). A border missed by SLACK counts.
    Raises ValueError as top_k does, and on other p.
    Source: Nguyen et al. (2025), "Turning Up the Heat: Min-p Sampling for Creative and Coherent
    LLM Outputs".
    """
    z = checked(logits)
    within(p, "min-p")
    return np.where(scaled(z, 1.0) >= math.log(p) - SLACK, z, -np.inf).astype(z.dtype)


def typical(logits, p):
    """Keep the smallest set with sum ≥ p of the tokens whose surprisal is nearest to the entropy.

    logits (V,) -> (V,); 0 < p ≤ 1, and 1 keeps all. Joins tokens in the order of |−ln pᵢ − H|, so
    that the likeliest may be the first to go. Same rule for sums, ties and errors as top_p.
    Source: Meister, Pimentel, Wiher and Cotterell (2023), "Locally Typical Sampling", its truncated
    set.
    """
    z = checked(logits)
    within(p, "typical-p")
    scores = scaled(z, 1.0)
    surprisal = math.log(np.exp(scores).sum()) - scores            # (V,) in nats, ∞ for −∞
    likely = np.isfinite(surprisal)
    entropy = float((np.exp(-surprisal[likely]) * surprisal[likely]).sum())
    return smallest_set(z, np.abs(surprisal - entropy), p)


def smallest_set(z, ranks, p):
    """Keep tokens in the order of `ranks`, smallest first, until their probabilities reach p."""
    if p == 1:
        return z
    order = np.argsort(ranks, kind="stable")                       # ties stay in order of ids
    weights = np.exp(scaled(z, 1.0)[order])                        # not yet divided by their sum
    sums = np.cumsum(weights)
    count = 1 + int((sums / sums[-1] < p - SLACK).sum())           # and the first to reach p
    kept = np.full_like(z, -np.inf)
    kept[order[:count]] = z[order[:count]]
    return kept


def checked(logits):
    """A copy of the logits as a float array (V,); ValueError unless one token can be drawn."""
    z = np.array(logits, dtype=np.result_type(np.asarray(logits).dtype, np.float16))
    if z.ndim != 1:
        raise ValueError(f"a filter takes the logits of one token, (V,), not {z.shape}; "
                         "call it for each row")
    scaled(z, 1.0)                                                 # says what is wrong
    return z


def within(p, name):
    """ValueError unless 0 < p ≤ 1."""
    if not 0 < p <= 1:
        raise ValueError(f"{name} must lie in (0, 1], not {p}; 1 keeps every token")


@dataclass
class Chooser:
    """Choose the next token: `chooser(logits, so_far) -> int`. The order of the operations is

    1. each function of `adjust`, (logits, so_far) -> logits: penalties, biases, constraints;
    2. division by the temperature; 0 takes the largest logit now: as T → 0, every filter keeps it;
    3. top-k, 4. top-p, 5. min-p, 6. typical, each on what the one before has left;
    7. one draw, with the probabilities of those left scaled to sum to 1.

    None leaves a filter out. so_far: all ids up to here, the prompt's too. Errors are the filters'.
    """

    rng: np.random.Generator
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical: float | None = None
    adjust: list = field(default_factory=list)

    def __call__(self, logits, so_far):
        return sample(self.filtered(logits, so_far), self.rng,
                      0 if self.temperature == 0 else 1.0)

    def filtered(self, logits, so_far):
        """(V,) float64: what is drawn from, after all steps but the draw."""
        z = logits
        for change in self.adjust:
            z = change(z, so_far)
        z = scaled(z, self.temperature)
        if self.temperature == 0:
            return z
        for keep, setting in ((top_k, self.top_k), (top_p, self.top_p),
                              (min_p, self.min_p), (typical, self.typical)):
            z = z if setting is None else keep(z, setting)
        return z
