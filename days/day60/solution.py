"""Day 60 · Solutions of the exercises."""

from dataclasses import replace

from llm.scale.memory import gpt_ledger


def best_segment(L, stream, inner):
    return min(((k, stream * -(-L // k) + inner * k) for k in range(1, L + 1)),
               key=lambda pair: (pair[1], pair[0]))


def longest_window(config, budget):
    fits = lambda T: T == 0 or gpt_ledger(replace(config, T=T), 1).peak() <= budget
    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
