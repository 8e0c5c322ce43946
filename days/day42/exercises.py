"""Day 42 · Exercises to build; `python -m days check 42` grades them."""

import numpy as np

from llm.functions.probability import log_softmax
from llm.generate import decode as decoding
from llm.generate.architecture import Architecture, shapes
from llm.generate.cache import KVCache
from llm.generate.decode import decode


def score_endings(arch, weights, prompt, endings):
    """How likely is each ending after the prompt? One ln P in nats for each, as a list of floats.

    prompt: at least one id; endings: lists of ids, each with at least one. ln P(ending | prompt)
    is the sum of ln P(id | all ids before it). The prompt must be read once only, and no id of an
    ending that predicts nothing: that is len(prompt) + Σ (len(ending) − 1) ids in all.
    """
    raise NotImplementedError


def read_what_is_new(arch, weights, cache, held, prompt):
    """Read `prompt` with a cache that holds the ids `held`; what both begin with stays.

    This is the second turn of a conversation, or a prompt that was changed near its end. Returns
    (the logits (V,) for the token after the prompt, how many ids were read). At least one has to
    be, since the cache keeps no logits. Afterwards the cache holds exactly the prompt. Example::

        read_what_is_new(arch, weights, cache, [5, 6, 7, 8], [5, 6, 9])     # (logits, 1)
    """
    raise NotImplementedError


def model(rng, L=2):
    arch = Architecture(V=9, T=16, C=8, L=L, H=4, K=2, D=4, F=12, rotary=100.0)
    return arch, {name: name.endswith("gain") + 0.5 * rng.standard_normal(shape)
                  for name, shape in shapes(arch)[0].items()}


def plainly(arch, weights, ids):
    """The logits of all positions, from an empty cache."""
    return decode(arch, weights, ids, KVCache(arch, dtype=np.float64))


class counted:
    """`with counted() as read:` … `sum(read)` ids went through the model."""

    def __enter__(self):
        self.read, self.embed = [], decoding.check_ids

        def check_ids(arch, ids):
            self.read.append(len(ids))
            return self.embed(arch, ids)

        decoding.check_ids = check_ids
        return self.read

    def __exit__(self, *_):
        decoding.check_ids = self.embed


def check_score_endings(f):
    """Against one full forward for each ending, and by the number of ids read."""
    rng = np.random.default_rng(0)
    arch, weights = model(rng)
    for prompt, endings in (([1, 2, 3], [[4], [5, 6], [4, 4, 4, 4]]), ([7], [[8, 1], [8]]),
                            ([1] * 12, [[2, 3, 4, 5, 6], [0]])):
        expected = []
        for ending in endings:
            text = prompt + ending
            logs = log_softmax(plainly(arch, weights, text[:-1]))[len(prompt) - 1:]
            expected.append(sum(logs[j, i] for j, i in enumerate(ending)))
        with counted() as read:
            found = f(arch, weights, prompt, endings)
        assert np.allclose(found, expected, atol=1e-4), (found, expected)
        wanted = len(prompt) + sum(len(ending) - 1 for ending in endings)
        assert sum(read) == wanted, f"{sum(read)} ids were read; {wanted} are enough"


def check_read_what_is_new(f):
    """A common beginning, none, the same prompt again, a shorter one; then one token more."""
    rng = np.random.default_rng(1)
    arch, weights = model(rng)
    for held, prompt, wanted in (([5, 6, 7, 8], [5, 6, 0], 1), ([], [1, 2], 2), ([3, 4], [4, 3], 2),
                                 ([1, 2, 3], [1, 2, 3], 1), ([1, 2, 3], [1, 2], 1),
                                 ([1, 2], [1, 2, 3, 4, 5], 3)):
        cache = KVCache(arch, dtype=np.float64)
        if held:
            decode(arch, weights, held, cache)
        with counted() as read:
            logits, n = f(arch, weights, cache, held, prompt)
        assert n == sum(read) == wanted, f"{held} → {prompt}: {sum(read)} read, said {n}"
        assert np.shape(logits) == (arch.V,), f"logits {np.shape(logits)}, wanted ({arch.V},)"
        assert np.allclose(logits, plainly(arch, weights, prompt)[-1]), f"{held} → {prompt}"
        assert cache.length == len(prompt), f"the cache holds {cache.length} ids"
        more = decode(arch, weights, [8], cache)[-1]
        assert np.allclose(more, plainly(arch, weights, [*prompt, 8])[-1]), "the cache is spoilt"
