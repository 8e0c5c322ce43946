"""Day 63 · Solutions of the exercises."""

import itertools

import numpy as np


def sign_flips(d):
    d = np.asarray(d, np.float64)
    signs = np.array(list(itertools.product((-1, 1), repeat=len(d))))
    return float((abs(signs @ d) >= abs(d.sum()) - 1e-12 * abs(d).sum()).mean())


def expected_best(losses, budget):
    v, n = np.sort(losses), len(losses)
    above = np.arange(n, -1, -1) / n              # share of draws at v_i or above it
    return float(v @ (above[:-1] ** budget - above[1:] ** budget))


def false_discovery(p_values, level=0.05):
    p = np.asarray(p_values)
    m = len(p)
    below = np.flatnonzero(np.sort(p) <= level * np.arange(1, m + 1) / m)
    if not len(below):
        return [False] * m
    return (p <= np.sort(p)[below[-1]]).tolist()
