"""Day 41 · JSON of one shape from a model that never saw any: how often valid, at what price."""

import json
import time

import numpy as np

from llm.functions.probability import log_softmax
from llm.generate.automaton import compile_pattern
from llm.generate.constrain import Constraint, TokenTable
from llm.generate.shape import json_pattern
from llm.generate.truncate import Chooser
from llm.grad.tensor import no_grad

SHAPE = {"speaker": ("ROMEO", "JULIET", "NURSE"), "says": str, "age": int, "alone": bool}
PROMPT = "ROMEO.\n"


class Shaped:
    """The shape's automaton seen through one tokenizer, and a model that writes under it."""

    def __init__(self, model, tokenizer, spare):
        """spare: tokens the output may take beyond the fewest that such a text needs."""
        self.model, self.tokenizer = model, tokenizer
        self.prompt = tokenizer.encode(PROMPT).tolist()
        began = time.perf_counter()
        self.automaton = compile_pattern(json_pattern(SHAPE))
        self.pieces = [tokenizer.pieces.get(i, b"") for i in range(tokenizer.vocab_size)]
        self.table = TokenTable(self.automaton, self.pieces)
        self.seconds = time.perf_counter() - began
        self.limit = int(self.table.needs[0]) + spare
        self.spent = {"mask": 0.0, "model": 0.0}

    def logits(self, ids):
        began = time.perf_counter()
        with no_grad():
            z = self.model(np.array([ids[-self.model.config.T:]])).data[0, -1]
        self.spent["model"] += time.perf_counter() - began
        return z

    def write(self, rng):
        """(text, tokens, ln of the weight): the weight is the product of the shares not masked."""
        constraint = Constraint(self.table, self.limit, start=len(self.prompt))
        choose, ids, weight = Chooser(rng), list(self.prompt), 0.0
        while not constraint.done(ids):
            z = self.logits(ids)
            began = time.perf_counter()
            masked = constraint(z, ids)
            self.spent["mask"] += time.perf_counter() - began
            log_p = log_softmax(z.astype(np.float64))
            weight += float(np.logaddexp.reduce(log_p[np.isfinite(masked)]))
            ids.append(choose(masked, ids))
        out = ids[len(self.prompt):]
        return b"".join(self.pieces[i] for i in out).decode(), len(out), weight

    def free(self, rng):
        """The same model without a mask, for as many tokens."""
        choose, ids = Chooser(rng), list(self.prompt)
        for _ in range(self.limit):
            ids.append(choose(self.logits(ids), ids))
        return self.tokenizer.decode(ids[len(self.prompt):])

    def measure(self, tries, rng):
        """Plain numbers for the result."""
        found = [self.write(rng) for _ in range(tries)]
        steps = sum(length for _, length, _ in found)
        cost = {name: seconds / steps for name, seconds in self.spent.items()}
        free = [self.free(rng) for _ in range(tries)]
        weights = np.array([weight for *_, weight in found])
        return {"tries": tries, "valid": sum(fits(text) for text, *_ in found),
                "free_valid": sum(fits(text) for text in free), "limit": self.limit,
                "at_limit": sum(length == self.limit for _, length, _ in found),
                "states": len(self.automaton.table), "V": len(self.pieces),
                "compile_seconds": self.seconds, "mask_us": 1e6 * cost["mask"],
                "model_us": 1e6 * cost["model"], "weights": weights,
                "log_valid": float(np.logaddexp.reduce(weights) - np.log(tries)),
                "example": found[0][0], "free_example": free[0]}


def fits(text):
    """Whether a text is JSON of SHAPE, by Python's own parser."""
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return (isinstance(value, dict) and list(value) == list(SHAPE)
            and value["speaker"] in SHAPE["speaker"] and type(value["says"]) is str
            and type(value["age"]) is int and type(value["alone"]) is bool)
