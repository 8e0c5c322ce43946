"""Day 43 · Text as it comes: whole characters only, stop strings, and what Ctrl-C leaves behind.

A token is bytes, and a character of UTF-8 may begin in one token and end in the next; so may a
stop string. What might still become part of either is held back until that is decided. Left out:
tokenizers whose decode does more than join pieces (WordPiece).
"""

import codecs


class Pieces:
    """From ids to text, one id at a time; the parts joined equal `tokenizer.decode` of all ids."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.bytes = getattr(tokenizer, "table", getattr(tokenizer, "pieces", None))
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, i):
        """The text that id i completes: "" while a character has only begun."""
        if self.bytes is None:                                # a tokenizer of characters (day 01)
            return self.tokenizer.decode([i])
        return self.decoder.decode(self.bytes[i])

    def flush(self):
        """What is left at the end: U+FFFD for a character that was never completed."""
        return self.decoder.decode(b"", final=True)


class Holdback:
    """Lets text through, up to the first stop string, which it keeps back with all after it."""

    def __init__(self, stop=()):
        """stop: a str or several, none empty. Raises ValueError on an empty one."""
        self.stop = [stop] if isinstance(stop, str) else list(stop)
        if "" in self.stop:
            raise ValueError("an empty stop string stops everywhere: leave it out")
        self.held, self.found = "", False

    def push(self, text):
        """The part of what is held, and of this text, that no stop string can still claim."""
        self.held += text
        places = [at for at in (self.held.find(s) for s in self.stop) if at >= 0]
        if places:
            self.found, ready, self.held = True, self.held[:min(places)], ""
            return ready
        keep = max((k for s in self.stop for k in range(1, len(s)) if self.held.endswith(s[:k])),
                   default=0)
        ready = self.held[:len(self.held) - keep]
        self.held = self.held[len(ready):]
        return ready


class Stream:
    """Iterate to get the text after `ids`, part by part; at most n tokens, by `choose`.

    engine: anything with `prefill(ids)`, `step(i)` and `cache`. ids: (T₀,), read first, behind
    what the engine has read. choose(logits, so_far) -> id, as day 41's Chooser; so_far has the
    prompt too. stop: strings that end the text and are not part of it. ends: ids that do the same.
    overflow: a policy of day 42 for a full cache, told of `past` (ids read before), the prompt
    and what was chosen; without a policy the text ends there.

    `reason` says why it ended: "length", "stop", "end", "full" or "interrupted". After Ctrl-C in
    a token, the text held back is still yielded, and then the KeyboardInterrupt is raised. The
    engine has read all chosen ids but the last. Raises ValueError, when made, on no ids, n < 0,
    an empty stop string, or a prompt longer than the room in the cache.
    """

    def __init__(self, engine, tokenizer, ids, n, choose, stop=(), ends=(), overflow=None,
                 past=()):
        self.so_far = [int(i) for i in ids]
        if not self.so_far:
            raise ValueError("nothing to continue: the prompt has no tokens")
        if n < 0:
            raise ValueError(f"cannot write {n} tokens: n must be 0 or more")
        engine.cache.check_room(len(self.so_far))
        self.engine, self.n, self.choose, self.ends = engine, n, choose, set(ends)
        self.overflow, self.past, self.reason = overflow, list(past), None
        self.start = len(self.so_far)
        self.pieces, self.gate = Pieces(tokenizer), Holdback(stop)

    @property
    def ids(self):
        """The ids chosen so far."""
        return self.so_far[self.start:]

    def __iter__(self):
        try:
            for i in self.choices():
                if ready := self.gate.push(self.pieces.push(i)):
                    yield ready
                if self.gate.found:
                    self.reason = "stop"
                    return
        except KeyboardInterrupt:
            self.reason = "interrupted"
            if rest := self.last():
                yield rest
            raise
        if rest := self.last():
            yield rest
        if self.gate.found:
            self.reason = "stop"

    def last(self):
        """What was held back, now that nothing more comes."""
        ready = self.gate.push(self.pieces.flush())
        rest, self.gate.held = ready + self.gate.held, ""
        return rest

    def choices(self):
        """The ids chosen, one by one, until n, one of `ends`, or a full cache."""
        self.reason = "length"
        for j in range(self.n):
            logits = self.read(self.so_far if j == 0 else self.so_far[-1:])
            if logits is None:
                self.reason = "full"
                return
            i = int(self.choose(logits, self.so_far))
            self.so_far.append(i)
            if i in self.ends:
                self.reason = "end"
                return
            yield i

    def read(self, ids):
        """Logits after ids, or None if the cache is full and nobody makes room."""
        cache = self.engine.cache
        if len(ids) > 1:
            return self.engine.prefill(ids)
        if not cache.room:
            if self.overflow is None:
                return None
            again = self.overflow(cache, self.past + self.so_far[:-1])
            if len(again):
                self.engine.prefill(again)
        return self.engine.step(ids[0])


def stream(engine, tokenizer, ids, n, choose, **options):
    """A `Stream`: for text in stream(engine, tokenizer, ids, 100, choose): print(text, end="")"""
    return Stream(engine, tokenizer, ids, n, choose, **options)
