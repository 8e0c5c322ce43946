"""Day 59 · pass@k: how likely is it that of k answers to a prompt at least one is right?

Estimated from n ≥ k answers without drawing again. Left out: how to tell which one is right, which
whoever relies on k answers has to know.
"""

import numpy as np


def pass_at_k(right, n, k):
    """1 − C(n − c, k)/C(n, k) for each count c: right (...) of n answers each -> (...) float64.

    The share of all choices of k out of the n answers that hold a right one. Its mean over samples
    is 1 − (1 − p)^k, with p the probability of a right answer. Computed as a product of k factors,
    so that no binomial coefficient overflows.
    Raises ValueError unless 1 ≤ k ≤ n and all counts are integers of 0 … n.
    Source: Chen et al. (2021), section 2.1, eq. 1.
    """
    right = np.asarray(right)
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} from {n} answers: wanted 1 ≤ k ≤ n; draw more answers")
    if right.dtype.kind not in "iu" or right.size and not 0 <= right.min() <= right.max() <= n:
        raise ValueError(f"right answers {right.dtype} {right.tolist()}: wanted integers of 0 … "
                         f"{n}, counts of the right ones among {n}")
    wrong = n - right[..., None].astype(np.float64)                 # (..., 1)
    i = np.arange(k)                                                # a factor is 0 if wrong < k
    return 1 - np.prod((wrong - i) / (n - i), axis=-1)
