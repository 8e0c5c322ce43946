"""Day 57 · Rollouts: answers sampled from the present model, and how likely each token was.

Every text is at the same column at all times: texts whose prompt is longer are still reading it
when others have begun to answer. Left out: answers of one prompt sharing the cache of that prompt.
"""

from dataclasses import dataclass

import numpy as np

from llm.align.reader import reader
from llm.functions.logps import IGNORE
from llm.generate.sample import scaled


@dataclass(frozen=True)
class Rollout:
    """N answers, those of one prompt side by side, in the form that training reads them in."""

    ids: np.ndarray        # (N, T) int32: prompt and answer without its last token, then zeros
    targets: np.ndarray    # (N, T) int32: the token after ids[:, t] if the answer's, else −100
    logps: np.ndarray      # (N, T): log-probability of that token under the sampler, else 0
    ended: np.ndarray      # (N,) bool: the answer ends with the stop token, and was not cut

    def answers(self):
        """The N answers as arrays of ids, the stop token included."""
        return [row[row != IGNORE] for row in self.targets]


def rollout(model, prompts, n, rng, temperature=1.0, stop=None, A=1):
    """Sample A answers to each prompt, of at most n tokens, up to and including `stop`.

    model: day 34's GPT, day 49's Llama, or as in `reader`. prompts: arrays of ids, each with
    1 … config.T of them. An answer is cut after n tokens, and where the text would be longer than
    config.T + 1 ids (the last one is never read). temperature: of the sampler, whose
    log-probabilities are returned; at 0 it is certain of its choice and they are 0.
    rng gives N·n uniform numbers at the start, row after row, so that an answer does not depend
    on the answers beside it. Sampled by inverting the CDF, as on day 08.
    Raises ValueError on no prompts, an empty one or one too long, n < 0, A < 1, and ids, `stop`
    among them, outside the vocabulary.
    """
    prompts, stop = checked(model, prompts, n, stop, A)
    prompts = [p for p in prompts for _ in range(A)]
    lengths = np.array([len(p) for p in prompts])                       # (N,)
    N, T = len(prompts), min(model.config.T, max(lengths.max() + n - 1, 1))
    text = np.zeros((N, T + 1), np.int32)
    for row, prompt in zip(text, prompts):
        row[:len(prompt)] = prompt
    uniform = rng.random((N, n))
    targets = np.full((N, T), IGNORE, np.int32)
    logps = np.zeros((N, T), model.embed.table.dtype)
    ended, over = np.zeros(N, bool), np.full(N, n == 0)
    rows, texts, t = np.arange(N), reader(model, N, T), int(lengths.min())
    logits = None if n == 0 else texts.read(text[:, :t])                # for column t
    while not over.all():
        now = (lengths[rows] <= t) & ~over[rows]      # the others read, or have nothing to do
        who = rows[now]
        new, logp = draw(logits[now], uniform[who, t - lengths[who]], temperature)
        text[who, t] = targets[who, t - 1] = new
        logps[who, t - 1] = logp
        ended[who] = new == stop
        over[who] = ended[who] | (t + 1 - lengths[who] == n) | (t == T)
        if over.all():
            break
        live = ~over[rows]
        if 2 * live.sum() <= len(rows):                                 # half of them are done
            texts.keep(live)
            rows = rows[live]
        logits = texts.read(text[rows, t:t + 1])
        t += 1
    read = np.maximum(lengths + (targets != IGNORE).sum(axis=1) - 1, 1)     # all but the last id
    used = read.max()
    ids = np.where(np.arange(used) < read[:, None], text[:, :used], 0)
    return Rollout(ids, targets[:, :used], logps[:, :used], ended)


def draw(logits, uniform, temperature):
    """logits (N, V), uniform (N,) of [0, 1) -> ids (N,) and their log-probabilities (N,)."""
    z = scaled(logits, temperature)                                     # (N, V), float64
    if temperature == 0:
        return z.argmax(axis=-1), np.zeros(len(z))
    cdf = np.cumsum(np.exp(z), axis=-1)
    ids = (cdf <= uniform[:, None] * cdf[:, -1:]).sum(axis=-1)          # the first that passes
    return ids, z[np.arange(len(z)), ids] - np.log(cdf[:, -1])


def checked(model, prompts, n, stop, A):
    """The prompts as arrays, and a stop token that can be compared; else ValueError."""
    V, T = model.config.V, model.config.T
    prompts = [np.asarray(p) for p in prompts]
    if not prompts or n < 0 or A < 1:
        raise ValueError(f"{len(prompts)} prompts, A = {A} answers to each, n = {n} tokens: "
                         "wanted at least one prompt, one answer, and n of 0 or more")
    for i, p in enumerate(prompts):
        if p.ndim != 1 or not 1 <= len(p) <= T or p.dtype.kind not in "iu":
            raise ValueError(f"prompt {i} is {p.dtype} {p.shape}: wanted 1 … {T} ids, since the "
                             "model reads no more; shorten it or leave it out")
        if p.min() < 0 or p.max() >= V:
            raise ValueError(f"prompt {i} has ids {p.min()} … {p.max()}: the model has 0 … "
                             f"{V - 1}. Was it cut into tokens for another model?")
    if stop is not None and not 0 <= stop < V:
        raise ValueError(f"the stop token {stop} is not in the vocabulary of {V}")
    return prompts, -1 if stop is None else stop
