"""Day 56 · Solutions of the exercises."""

import math

import numpy as np


def ranking_loss():
    """A softmax over each tail; the gradient of a reward gathers from all tails that hold it."""
    def f(rewards):
        B, K = rewards.shape
        loss, shares = np.zeros(B, rewards.dtype), []
        for k in range(K):
            tail = rewards[:, k:] - rewards[:, k:].max(axis=1, keepdims=True)
            weights = np.exp(tail)
            total = weights.sum(axis=1, keepdims=True)
            loss += np.log(total[:, 0]) - tail[:, 0]
            shares.append(weights / total)
        return loss.mean(dtype=rewards.dtype), (shares,)

    def f_vjp(dout, shares):
        grad = np.zeros_like(shares[0])
        for k, share in enumerate(shares):
            grad[:, k:] += share
            grad[:, k] -= 1
        return (grad * np.asarray(dout / len(grad), grad.dtype),)

    return f, f_vjp


def unbiased_kl(p, rewards, n, draws, rng):
    """ln(q/p) = ln n + (n − 1) ln F for a density; its mean over the best of n is the KL."""
    order = np.argsort(rewards)
    F = np.empty(len(p))
    F[order] = np.cumsum(p[order])
    drawn = rng.choice(len(p), size=(draws, n), p=p)
    best = drawn[np.arange(draws), rewards[drawn].argmax(axis=1)]
    terms = math.log(n) + (n - 1) * np.log(np.minimum(F[best], 1))
    return float(terms.mean()), float(terms.std(ddof=1) / math.sqrt(draws))
