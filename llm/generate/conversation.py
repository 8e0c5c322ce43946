"""Day 52 · A conversation: turns through one template and one cache, which reads nothing twice.

Each turn renders all messages anew and compares the ids with what the cache has read: the common
beginning stays, the rest is cut off and read. So a history that was edited, shortened or tokenized
in another way than it was generated is right by construction, and costs only what differs.
When the window is full, the oldest question and its answer are forgotten, never the system message.
Left out: summarising what is forgotten, tools, and several conversations at once (day 47).
"""

from llm.generate.stream import Stream
from llm.generate.template import Message


class Conversation:
    """Speaks through an engine: day 43's, or anything with its handles.

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
        old = self.rewind(ids)
        stream = Stream(self.engine, self.tokenizer, ids[len(old):], n,
                        lambda logits, fresh: choose(logits, old + fresh), until, self.stops)
        self.messages, answer = messages, []
        try:
            for piece in stream:
                answer.append(piece)
                yield piece
        finally:
            self.messages = [*messages, Message("assistant", "".join(answer))]
            self.read = (old + stream.so_far)[:self.engine.cache.length]

    def fit(self, messages, n):
        """Forget the oldest turns until the prompt and n tokens fit: (messages, ids).

        n counts at most half of the window, so that a long answer does not cost the history.
        """
        T, first = self.engine.cache.T_max, 1 if messages[0].role == "system" else 0
        room = T - min(n, T // 2)
        while True:
            ids = self.template.encode(self.tokenizer, messages).tolist()
            if len(ids) <= room:
                return messages, ids
            if len(messages) <= first + 2:
                raise ValueError(f"the message makes a prompt of {len(ids):,} tokens, but the "
                                 f"window of {T:,} has room for {room:,} and an answer; "
                                 "shorten it")
            messages = messages[:first] + messages[first + 2:]

    def rewind(self, ids):
        """Cut the cache to what it shares with `ids`, but its last, which is read for its logits.

        Returns the ids that stay.
        """
        self.reused = min(common(self.read, ids), len(ids) - 1)
        self.fresh = len(ids) - self.reused
        self.engine.truncate(self.reused)
        self.read = self.read[:self.reused]
        return self.read


def common(a, b):
    """How many ids two lists share at their beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
