"""Day 60 · Exercises to build; `python -m days check 60` grades them."""

from llm.models.gpt import GPTConfig
from llm.scale.memory import gpt_ledger


def best_segment(L, stream, inner):
    """The number k of blocks a segment that needs the least memory, and that memory: (k, bytes).

    L blocks; the input of each segment is kept, `stream` bytes each, and one segment at a time
    keeps all that its blocks make, `inner` bytes a block. The last segment may be shorter, so there
    are ⌈L/k⌉ of them. Among equals the smallest k. Example: 9 blocks, both 1 byte: 3 segments of
    3 need 3 + 3 = 6::

        best_segment(9, 1, 1)            # (3, 6)

    Source: Chen et al. 2016, arXiv 1604.06174, section 4.
    """
    raise NotImplementedError


def longest_window(config, budget):
    """The largest T for which a step on one window fits into `budget` bytes by the ledger.

    config: a GPTConfig (its own T does not matter). 0 where not even T = 1 fits. The peak grows
    with T. Fewer than 100 ledgers should be enough. Example::

        longest_window(GPTConfig(V=64, C=32, L=2, H=2, rotary=True), 1e7)
    """
    raise NotImplementedError


def check_best_segment(f):
    """The square root where both cost the same; one block where blocks hold much."""
    assert f(9, 1, 1) == (3, 6)
    assert f(100, 1, 1) == (10, 20)
    assert f(12, 1, 20) == (1, 32), "a block that holds 20 streams: one a segment"
    assert f(1000, 1, 20)[0] in (7, 8)
    for L in (1, 7, 24, 65):
        for inner in (1, 3, 21):
            k, size = f(L, 2, inner)
            options = {n: 2 * -(-L // n) + inner * n for n in range(1, L + 1)}
            assert size == options[k] == min(options.values()), (L, inner, k)


def check_longest_window(f):
    """On the edge: T fits, T + 1 does not."""
    from dataclasses import replace
    for C, budget in ((32, 1e7), (64, 5e7)):
        config = GPTConfig(V=64, C=C, L=2, H=2, rotary=True)
        T = f(config, budget)
        assert gpt_ledger(replace(config, T=T), 1).peak() <= budget, "it does not fit"
        assert gpt_ledger(replace(config, T=T + 1), 1).peak() > budget, "one more would fit"
    assert f(config, 1e5) == 0
