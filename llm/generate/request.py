"""Day 47 · A request: what is to be written behind which prompt, and how far that is.

It knows its text, its blocks and its own random numbers, and nothing of other requests. Left out:
several answers to one prompt (an exercise of this day).
"""

from dataclasses import dataclass, field

import numpy as np

from llm.generate.stream import Holdback, Pieces
from llm.generate.truncate import Chooser


@dataclass(eq=False)
class Request:
    """Write at most n tokens behind a prompt (T₀,).

    seed and options make a Chooser of its own, so that its draws depend on nobody else. ends: ids
    that end the text; stop: strings that do, and are not part of it. Afterwards `ids` are the
    chosen ids, the ending one included, `text` is what they say (if there was a tokenizer), and
    `reason` is "length", "end", "stop" or "cancelled".
    """

    prompt: list
    n: int
    seed: int = 0
    options: dict = field(default_factory=dict)      # temperature, top_k, … of day 41's Chooser
    ends: tuple = ()
    stop: tuple = ()
    text: str = ""
    reason: str | None = None
    read: int = 0                  # tokens whose keys and values are in its blocks
    reread: int = 0                # tokens read once more, since it was sent back
    reused: int = 0                # tokens not read, since their blocks were found
    table: list = field(default_factory=list)

    def start(self, tokenizer):
        """Called when it is submitted: the list of all its ids, and what chooses the next."""
        self.known, self.most_read = [int(i) for i in self.prompt], 0
        self.choose = Chooser(np.random.default_rng(self.seed), **self.options)
        self.pieces, self.gate = tokenizer and Pieces(tokenizer), Holdback(self.stop)

    @property
    def ids(self):
        """The ids chosen so far."""
        return self.known[len(self.prompt):]

    @property
    def longest(self):
        """How many tokens it may have to read: the last one is chosen but not read."""
        return len(self.prompt) + self.n - 1

    def add(self, logits):
        """Choose the next id from logits (V,), and see whether it was the last."""
        i = int(self.choose(logits, self.known))
        self.known.append(i)
        if i in self.ends:
            self.reason = "end"
        elif self.pieces:
            self.text += self.gate.push(self.pieces.push(i))
        if self.gate.found:
            self.reason = "stop"
        elif self.reason is None and len(self.known) == len(self.prompt) + self.n:
            self.reason = "length"
        if self.reason in ("end", "length") and self.pieces:
            self.text += self.gate.push(self.pieces.flush()) + self.gate.held
        return i
