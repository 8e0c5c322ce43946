"""Day 13 · A network of scalars that guesses whether the next letter is a vowel.

Small enough to be trained by a tape that handles one number at a time: each letter is two
numbers, the letters of the context are looked up, and one hidden layer of tanh gives a logit.
`mlp` and `loss` are plain formulas: floats, Duals, Counted numbers and Values all go through.

Left out: vectors (day 15 does a whole layer as one node) and any optimizer but plain descent.
"""

import re

import numpy as np

from llm.grad.dual import exp, log, tanh
from llm.grad.scalar import Value

LETTERS = " abcdefghijklmnopqrstuvwxyz"  # everything that is no letter becomes one space
VOWELS = "aeiou"


def examples(text, context):
    """Text → (ids of `context` letters, int (N, context); 1 where a vowel follows, int (N,)).

    Raises ValueError where the text has no more letters than `context`.
    """
    folded = re.sub(r"[^a-z]+", " ", text.lower())
    if len(folded) <= context:
        raise ValueError(f"text of {len(folded)} letters is too short for a context of {context}")
    ids = np.array([LETTERS.index(c) for c in folded])
    windows = np.lib.stride_tricks.sliding_window_view(ids, context + 1)
    is_vowel = np.array([c in VOWELS for c in LETTERS]).astype(int)
    return windows[:, :-1], is_vowel[windows[:, -1]]


def mlp(theta, x, hidden):
    """logit = b + Σⱼ vⱼ·tanh(bⱼ + Σᵢ wⱼᵢ·xᵢ).

    theta: hidden·(len(x) + 2) + 1 numbers: for each hidden unit its weights, bias and v; then b.
    x: list of numbers. About 2·len(theta) operations. Raises ValueError for another len(theta).
    """
    width = len(x) + 2
    if len(theta) != hidden * width + 1:
        raise ValueError(f"{hidden} hidden units over {len(x)} inputs need {hidden * width + 1} "
                         f"parameters, got {len(theta)}")
    logit = theta[-1]
    for j in range(hidden):
        *w, bias, v = theta[j * width:(j + 1) * width]
        for wi, xi in zip(w, x):
            bias = bias + wi * xi
        logit = logit + v * tanh(bias)
    return logit


def loss(logit, vowel):
    """−log P(what came), in nats, with P(vowel) = 1 / (1 + exp(−logit))."""
    return log(1.0 + exp(-logit if vowel else logit))


def split(theta, size):
    """Parameters → (a list of `size` numbers for each letter, the rest for `mlp`)."""
    table = [theta[k * size:(k + 1) * size] for k in range(len(LETTERS))]
    return table, theta[len(LETTERS) * size:]


def predict(theta, ids, size, hidden):
    """Logit that a vowel follows the letters `ids`; theta of floats or of Values."""
    table, rest = split(theta, size)
    return mlp(rest, [number for k in ids for number in table[k]], hidden)


def initial(rng, context, size, hidden):
    """Random parameters, a list of Values: spread .5 for the letters, 1/√inputs for the weights."""
    inputs = context * size
    letters = rng.normal(0.0, 0.5, len(LETTERS) * size)
    rest = rng.normal(0.0, inputs**-0.5, hidden * (inputs + 2) + 1)
    return [Value(float(p)) for p in [*letters, *rest]]


def train(theta, contexts, vowels, rng, steps, rate, size, hidden, batch=16, report=None):
    """Plain gradient descent on random batches; the rate falls linearly to 0. Changes theta.

    contexts: (N, context) ids, vowels: (N,). report(loss) is called after each step.
    """
    for step in range(steps):
        rows = rng.integers(len(vowels), size=batch)
        total = sum(loss(predict(theta, contexts[i], size, hidden), vowels[i]) for i in rows)
        mean = total * (1.0 / batch)
        for p in theta:
            p.grad = 0.0
        mean.backward()
        for p in theta:
            p.data -= rate * (1.0 - step / steps) * p.grad
        if report:
            report(mean.data)


def evaluate(theta, contexts, vowels, size, hidden):
    """Mean loss in nats, and the share guessed right, over examples; floats only, no tape."""
    numbers = [p.data for p in theta]
    logits = [predict(numbers, ids, size, hidden) for ids in contexts]
    nats = float(np.mean([loss(z, y) for z, y in zip(logits, vowels)]))
    return nats, float(np.mean([(z > 0) == y for z, y in zip(logits, vowels)]))


def counted(contexts, vowels, new_contexts, new_vowels):
    """Days 05–06 on this task: P(vowel | context) from counts, one added to both outcomes.

    The first two arrays are counted, the last two judged: mean nats, and the share guessed right.
    """
    base = len(LETTERS) ** np.arange(contexts.shape[1])
    size = len(LETTERS) ** contexts.shape[1]
    seen = np.bincount(contexts @ base, minlength=size) + 2
    p = (np.bincount((contexts @ base)[vowels == 1], minlength=size) + 1) / seen
    p = p[new_contexts @ base]
    nats = -np.mean(np.where(new_vowels == 1, np.log(p), np.log(1 - p)))
    return float(nats), float(np.mean((p > 0.5) == (new_vowels == 1)))


def distances(theta, size):
    """Mean distance between the numbers of two vowels, and of a vowel and another letter."""
    places = np.array([[p.data for p in row] for row in split(theta, size)[0]])
    vowels = np.array([c in VOWELS for c in LETTERS])
    far = np.linalg.norm(places[vowels, None] - places, axis=-1)  # (5, 27)
    return float(far[:, vowels].sum() / 20), float(far[:, ~vowels].mean())  # 5·5 − 5 pairs
