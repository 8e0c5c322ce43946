"""Day 46 · Three drafts: a smaller model, what this text said before, and any table of n-grams.

Each has `propose` and `truncate` as in llm/generate/speculative.py. Left out: drafts that use the
target's own hidden states (Medusa, EAGLE).
"""

import numpy as np

from llm.generate.speculative import chances, draw


class ModelDraft:
    """A model with the target's vocabulary, such as those of llm/generate/reading.py.

    It reads each guess to make the next, one pass for each. Where its window is full it proposes
    nothing, and the target goes on alone. Keep one for each text.
    """

    def __init__(self, model):
        self.model = model

    def propose(self, so_far, count, choose):
        text, guesses, q = list(so_far), [], []
        unread = text[self.model.length:]
        count = min(count, self.model.room - len(unread) + 1)       # the last guess is not read
        while len(guesses) < count:
            q.append(chances(choose, self.model.read(unread, 1)[0], text))
            unread = [draw(q[-1], choose.rng)]
            guesses += unread
            text += unread
        return guesses, q

    def truncate(self, n):
        """The model forgets what it has read beyond the first n ids."""
        self.model.truncate(min(n, self.model.length))


class Lookup:
    """What came after the last ids when they stood in this text before: "prompt lookup".

    The longest run of `longest` … `shortest` ids that has occurred is taken, in its latest
    occurrence. The guess is certain: its q is 1 at one id. A copy may run into its own output, so
    that "a b a b" goes on as "a b a b a b". Keep one for each text; V: of the target.
    Raises ValueError unless 1 ≤ shortest ≤ longest.
    Source: Saxena (2023), "Prompt Lookup Decoding"; overlapping copies: Ziv and Lempel (1977).
    """

    def __init__(self, V, longest=3, shortest=1):
        if not 1 <= shortest <= longest:
            raise ValueError(f"runs of {longest} down to {shortest} ids: "
                             "wanted 1 ≤ shortest ≤ longest")
        self.V, self.sizes = V, range(longest, shortest - 1, -1)
        self.known, self.follows = 1, {}        # run of ids -> where the id behind it stands

    def propose(self, so_far, count, choose):
        for at in range(self.known, len(so_far)):
            for size in self.sizes:
                if size <= at:
                    self.follows[tuple(so_far[at - size:at])] = at
        self.known = len(so_far)
        places = (self.follows.get(tuple(so_far[-size:])) for size in self.sizes)
        at = next((place for place in places if place is not None), None)
        if at is None:
            return [], []
        text = list(so_far)
        for _ in range(count):
            text.append(text[at])
            at += 1
        guesses = text[len(so_far):]
        return guesses, list(certain(guesses, self.V))

    def truncate(self, n):
        """Nothing to do: it only knows ids that were accepted."""


def certain(ids, V):
    """All probability on one id each: ids (n,) -> (n, V)."""
    return (np.arange(V) == np.asarray(ids)[:, None]).astype(np.float64)


class Table:
    """Any function of the text: scores(text) -> logits (V,), such as the log of day 06's n-grams.

    It remembers nothing between calls.
    """

    def __init__(self, scores):
        self.scores = scores

    def propose(self, so_far, count, choose):
        text, q = list(so_far), []
        for _ in range(count):
            q.append(chances(choose, self.scores(text), text))
            text.append(draw(q[-1], choose.rng))
        return text[len(so_far):], q

    def truncate(self, n):
        """Nothing to do."""
