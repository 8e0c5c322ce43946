"""Day 46 · Solutions of the exercises."""

from llm.functions.probability import softmax
from llm.generate.speculative import draw, residual
from llm.generate.speedup import acceptance


def distance(logits, teacher):
    p, q = softmax(teacher), softmax(logits)
    rows = logits.size // logits.shape[-1]
    dq = -(q < p).astype(q.dtype)                       # of −Σ min(p, q): only where q is below
    dlogits = q * (dq - (q * dq).sum(axis=-1, keepdims=True)) / rows
    return float((1 - acceptance(p, q)).mean()), dlogits


def accept_one_of_two(p, q, guesses, rng):
    for guess in guesses:
        if rng.random() < min(1.0, p[guess] / q[guess]):
            return int(guess)
        p = residual(p, q)
    return draw(p, rng)
