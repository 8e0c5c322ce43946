"""Day 52 · Evaluation of language models: what they expect, what they choose, how sure they are.

Every function takes `read`: ids (n,) -> logits (n, V), each after all ids before it. So a GPT, a
Llama, and a quantised copy are measured by the same lines. Perplexity is per byte, because models
with different tokenizers share bytes and not tokens.
Left out: generation tasks, few-shot prompts, and judges.
Sources: Brown et al. 2020, section 2.4 (choices by likelihood) and appendix C (overlap); Guo et al.
2017, section 2 (calibration).
"""

import numpy as np

from llm.functions.probability import log_softmax


def log_probabilities(read, ids, window):
    """Natural log of the probability of ids[1:], given those before: (n − 1,) float64.

    Texts longer than `window` are cut into windows that overlap by half, and each scores its new
    half: every id after the first half window has at least half a window before it.
    Raises ValueError on fewer than two ids or a window below 2.
    """
    ids = np.asarray(ids)
    if len(ids) < 2 or window < 2:
        raise ValueError(f"{len(ids)} ids in windows of {window}: at least 2 ids and a window of 2 "
                         "are needed, since an id is scored by what stands before it")
    scores, scored = np.empty(len(ids) - 1), 0
    while scored < len(scores):
        first = max(0, scored + 1 - window // 2)
        part = ids[first:first + window]
        z = log_softmax(np.asarray(read(part[:-1]), dtype=np.float64))         # (n, V)
        new = z[np.arange(len(part) - 1), part[1:]]
        scores[first:first + len(new)][scored - first:] = new[scored - first:]
        scored = first + len(new)
    return scores


def nats_per_byte(read, tokenizer, text, window):
    """Mean negative log-probability of a text for each of its bytes; the first token is given.

    exp of it is the perplexity per byte, and 1/ln 2 of it the bits per byte.
    """
    ids = tokenizer.encode(text)
    scores = log_probabilities(read, ids, window)
    return -scores.sum() / sum(len(tokenizer.table[i]) for i in ids[1:].tolist())


def answer(read, tokenizer, question, choices):
    """Which continuation does the model find likeliest? (index by sum, index by mean per byte).

    question: a str; choices: a list of str that may follow it, none empty. The sum is the log of
    the whole continuation's probability, and so prefers short ones; the mean per byte does not. A
    token that straddles question and choice counts as part of the choice.
    """
    sums, means, known, own = [], [], {}, tokenizer.encode(question)
    for choice in choices:
        ids = tokenizer.encode(question + choice)
        shared = next((i for i, (a, b) in enumerate(zip(own, ids)) if a != b), len(own))
        context = tuple(ids[:-1].tolist())               # choices of one token share it: read once
        if context not in known:
            known[context] = log_softmax(np.asarray(read(ids[:-1]), dtype=np.float64))
        score = known[context][np.arange(len(ids) - 1), ids[1:]][max(shared, 1) - 1:].sum()
        sums.append(score)
        means.append(score / len(choice.encode()))
    return int(np.argmax(sums)), int(np.argmax(means))


def calibration(confidence, right, bins=10):
    """Do things said with confidence p come true in a share p of cases? (rows, error).

    confidence (n,) in [0, 1], right (n,) bool -> rows [mean confidence, share right, count] of
    the bins that are not empty, and the expected calibration error Σ count/n · |difference|.
    Source: Guo et al. 2017, equation 3.
    """
    confidence, right = np.asarray(confidence, dtype=np.float64), np.asarray(right)
    if confidence.shape != right.shape or not len(confidence):
        raise ValueError(f"confidence {confidence.shape} and right {right.shape} must be equally "
                         "long and not empty")
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = [[float(confidence[which == b].mean()), float(right[which == b].mean()),
             int((which == b).sum())] for b in range(bins) if (which == b).any()]
    return rows, sum(count * abs(mean - share) for mean, share, count in rows) / len(right)


def calibration_by_chance(confidence, rng, bins=10, times=200):
    """The error that a perfectly calibrated model with these confidences would show: its mean.

    Bins are finite, so even such a model's shares scatter around its confidences.
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    return float(np.mean([calibration(confidence, rng.random(len(confidence)) < confidence, bins)[1]
                          for _ in range(times)]))


def top_predictions(read, ids, window):
    """The likeliest next id at each place, its probability, and whether it came: for calibration.

    ids (n,) are cut into windows without overlap -> confidence (m,), right (m,).
    """
    confidence, right = [], []
    for first in range(0, len(ids) - 1, window):
        part = np.asarray(ids[first:first + window + 1])
        z = log_softmax(np.asarray(read(part[:-1]), dtype=np.float64))
        best = z.argmax(axis=1)
        confidence.append(np.exp(z[np.arange(len(best)), best]))
        right.append(best == part[1:])
    return np.concatenate(confidence), np.concatenate(right)


def overlap(training, test, n=13):
    """The share of runs of n words of `test` that occur in `training`: a sign of contamination.

    Words are compared without case and punctuation. 0 where the test has fewer than n words.
    """
    found = []
    for text in (training, test):
        every = words(text)
        found.append({hash(run) for run in zip(*(every[i:] for i in range(n)))})
    return len(found[0] & found[1]) / len(found[1]) if found[1] else 0.0


def words(text):
    """Lower-case words, letters and digits only."""
    return "".join(c if c.isalnum() or c == "'" else " " for c in text.lower()).split()
