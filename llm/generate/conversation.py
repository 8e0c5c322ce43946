"""Day 52 · A conversation: turns through one template and one cache, which reads nothing twice.

Each turn renders all messages anew and compares the ids with what the cache has read: the common
beginning stays, the rest is cut off and read. So a history that was edited, shortened or tokenized
in another way than it was generated is right by construction, and costs only what differs.
When the window is full, the oldest question and its answer are forgotten, never the system message.
Left out: summarising what is forgotten, tools, and several conversations at once (day 47).
"""

import codecs

import numpy as np

from llm.generate.template import Message


class Conversation:
    """Speaks through an engine: anything with cache, prefill, step, truncate and reset.

    template: a ChatTemplate; stops: ids that end an answer; system: the first message, if any.
    `messages` is the history, `read` the ids in the cache, `reused` and `fresh` how many ids of
    the last prompt were in the cache already and how many were read.
    """

    def __init__(self, engine, tokenizer, template, stops, system=None):
        self.engine, self.tokenizer, self.template = engine, tokenizer, template
        self.stops = frozenset(stops)
        self.messages = [Message("system", system)] if system else []
        self.read, self.reused, self.fresh = [], 0, 0
        engine.reset()

    def say(self, text, choose, n=256, until=()):
        """Yield the answer to `text` piece by piece, at most n tokens; then it is in the history.

        choose(logits, so_far) -> id. until: strings that end an answer, and are not part of it.
        A caller who stops early (Ctrl-C) keeps the question and the answer so far. Raises
        ValueError, with the history as it was, on n < 1, on a lone surrogate, and where the
        question alone leaves no room for an answer.
        """
        if n < 1:
            raise ValueError(f"an answer of {n} tokens: ask for at least one")
        messages, ids = self.fit([*self.messages, Message("user", text)], n)
        logits = self.prompt(ids)
        self.messages, answer = messages, []
        try:
            for piece in self.answer(logits, choose, n, Assembler(self.tokenizer, until)):
                answer.append(piece)
                yield piece
        finally:
            self.messages = [*messages, Message("assistant", "".join(answer))]

    def fit(self, messages, n):
        """Forget the oldest turns until the prompt and n tokens fit: (messages, ids).

        n counts at most half of the window, so that a long answer does not cost the history.
        """
        T, first = self.engine.cache.T_max, 1 if messages[0].role == "system" else 0
        room = T - min(n, T // 2)
        while True:
            ids = self.template.encode(self.tokenizer, messages)
            if len(ids) <= room:
                return messages, ids
            if len(messages) <= first + 2:
                raise ValueError(f"the message makes a prompt of {len(ids):,} tokens, but the "
                                 f"window of {T:,} has room for {room:,} and an answer; "
                                 "shorten it")
            messages = messages[:first] + messages[first + 2:]

    def prompt(self, ids):
        """Have the cache hold exactly `ids` (T,), T ≥ 1 -> logits (V,) for the next."""
        ids = [int(i) for i in ids]
        self.reused = min(common(self.read, ids), len(ids) - 1)     # one is read, for its logits
        self.fresh = len(ids) - self.reused
        self.engine.truncate(self.reused)
        self.read = self.read[:self.reused]
        logits = self.engine.prefill(np.array(ids[self.reused:]))
        self.read = ids
        return logits

    def answer(self, logits, choose, n, assembler):
        """Yield pieces of text until a stop, n tokens, or the end of the window."""
        for left in range(min(n, self.engine.cache.T_max - len(self.read) + 1), 0, -1):
            i = int(choose(logits, self.read))
            if i in self.stops:
                break
            piece, done = assembler.add(i)
            if piece:
                yield piece
            if done:
                return
            if left > 1:
                logits = self.engine.step(i)
                self.read.append(i)
        rest = assembler.finish()
        if rest:
            yield rest


class Assembler:
    """Turns ids into text that can be shown: whole characters, and nothing of a stop string."""

    def __init__(self, tokenizer, until=()):
        self.tokenizer, self.until, self.held = tokenizer, tuple(filter(None, until)), ""
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, i):
        """One id -> (text that is certain now, whether a stop string was completed)."""
        self.held += self.decoder.decode(self.tokenizer.table[i])
        ends = [at for stop in self.until if (at := self.held.find(stop)) >= 0]
        if ends:
            shown, self.held = self.held[:min(ends)], ""
            return shown, True
        keep = max((unfinished(self.held, stop) for stop in self.until), default=0)
        shown, self.held = self.held[:len(self.held) - keep], self.held[len(self.held) - keep:]
        return shown, False

    def finish(self):
        """What was held back: it turned out to be no stop string. Half a character is U+FFFD."""
        return self.held + self.decoder.decode(b"", final=True)


def unfinished(text, stop):
    """How many characters at the end of `text` may be the beginning of `stop`.

    >>> unfinished("one, two <|im", "<|im_end|>")
    4
    """
    return max((k for k in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:k])),
               default=0)


def common(a, b):
    """How many ids two lists share at their beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
