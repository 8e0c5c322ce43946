"""Day 42 · Solutions of the exercises."""

import numpy as np

from llm.functions.probability import log_softmax
from llm.generate.cache import KVCache
from llm.generate.decode import decode


def score_endings(arch, weights, prompt, endings):
    cache, found = KVCache(arch), []
    first = decode(arch, weights, prompt, cache)[-1:]
    for ending in endings:
        cache.truncate(len(prompt))
        rest = [decode(arch, weights, ending[:-1], cache)] if len(ending) > 1 else []
        logs = log_softmax(np.concatenate([first, *rest]))
        found.append(float(logs[np.arange(len(ending)), ending].sum()))
    return found


def read_what_is_new(arch, weights, cache, held, prompt):
    same = 0
    while same < min(len(held), len(prompt) - 1) and held[same] == prompt[same]:
        same += 1
    cache.truncate(same)
    return decode(arch, weights, prompt[same:], cache)[-1], len(prompt) - same
