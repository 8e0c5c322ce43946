"""Day 64 · A request that is served to somebody: day 47's, with log-probabilities and an outlet.

Another thread waits for what is written here. It gets messages and never looks into the request
itself, which is half changed while a token is added. A fault in one request ends that request; its
neighbours in the batch go on. Left out: several answers to one prompt.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from llm.generate.constrain import Constraint
from llm.generate.request import Request


class Token(NamedTuple):
    """A chosen token: where its text begins, ln p under the model, and the likeliest others."""

    id: int
    begins: int          # characters of the answer before it
    logp: float
    top: list            # [(id, ln p), …], the likeliest first


class News(NamedTuple):
    """All that there is so far; `reason` is None until the end."""

    text: str
    tokens: tuple        # those whose text is out; only if they were asked for
    written: int         # how many tokens were chosen, the ending one too
    reason: str | None


@dataclass(eq=False)
class Served(Request):
    """tell(News) is called in the worker's thread after every token, and at the end.

    logprobs: how many others are listed for each token; None keeps nothing. The probabilities are
    the model's own, before biases, constraints and the temperature. constraint: see day 41.
    Besides day 47's reasons there is "error", with one line in `error`.
    """

    logprobs: int | None = None
    constraint: Constraint | None = None
    tell: Callable = lambda news: None
    error: str = ""
    known: list = field(default_factory=list)        # until it is submitted
    tokens: list = field(default_factory=list)

    def add(self, logits):
        """As Request.add; an exception becomes the reason "error"."""
        begins = len(self.text) + len(self.gate.held)
        try:
            i = super().add(logits)
            if self.logprobs is not None:
                self.tokens.append(Token(i, begins, *ranked(logits, i, self.logprobs)))
            if self.reason is None and self.constraint and self.constraint.done(self.known):
                self.reason = "end"
                self.text += self.gate.push(self.pieces.flush()) + self.gate.held
            return i
        except Exception as error:
            self.reason, self.error = "error", f"{type(error).__name__}: {error}"
            return -1

    def news(self):
        """A message about the present state. A token is out as soon as some text behind its
        beginning is; at the end of a text all are, and after a stop string those before it."""
        ended = self.reason in ("end", "length")
        ids = self.ids
        out = [t for t in self.tokens if t.begins < len(self.text) or ended]
        if out and self.reason == "end" and out[-1].id in self.ends:
            out.pop()
        return News(self.text, tuple(out), len(ids), self.reason)


def ranked(logits, i, most):
    """(ln p of token i, [(id, ln p) of the `most` likeliest]) under logits (V,), in float64."""
    z = np.asarray(logits, np.float64)
    largest = z.max()
    z = z - (largest + np.log(np.exp(z - largest).sum()))
    best = np.argsort(-z, kind="stable")[:most]
    return float(z[i]), [(int(j), float(z[j])) for j in best]
