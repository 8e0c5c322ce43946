"""Day 47 · Solutions of the exercises."""

import numpy as np

from llm.generate.batch import paged_decode


def answers(arch, weights, pool, prompt, n, choosers):
    first, T = [], len(prompt)
    pool.grow(first, T)
    logits = paged_decode(arch, weights, prompt, np.arange(T), np.array([first] * T), pool, [T - 1])
    tables = [pool.fork(first) for _ in choosers]
    pool.release(first)
    texts = [list(prompt) for _ in choosers]
    for text, choose in zip(texts, choosers):
        text.append(int(choose(logits[0], text)))
    for position in range(T, T + n - 1):
        for table in tables:
            pool.grow(table, position + 1)
            pool.own(table, position)
        logits = paged_decode(arch, weights, [text[-1] for text in texts],
                              np.full(len(texts), position), np.array(tables), pool)
        for text, choose, z in zip(texts, choosers, logits):
            text.append(int(choose(z, text)))
    for table in tables:
        pool.release(table)
    return [text[T:] for text in texts]


def swap_out(pool, table):
    k, v = pool.k[:, table].copy(), pool.v[:, table].copy()
    pool.release(table)

    def back(table):
        pool.grow(table, k.shape[1] * pool.size)
        pool.k[:, table], pool.v[:, table] = k, v

    return back
