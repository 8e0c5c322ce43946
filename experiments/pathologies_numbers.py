"""Day 26 · Numbers: how they are cut, whether the columns of a sum line up, and what is learned.

The parts of `pathologies.py` about digits. A *border* is a cut inside a number, named by
how many digits are to the right of it: 12|34 has the border 2. A column sum needs operands and
result to have the same borders.
"""

from collections import Counter

import numpy as np

from days.harness import progress
from llm.grad.tensor import no_grad
from llm.models.neural_ngram import NeuralNGram, train
from llm.train.adam import AdamW
from llm.train.schedule import WarmupCosine


def digits(n):
    """SmolLM2's and Qwen 2's way: 1234 -> 1 2 3 4."""
    return list(str(n))


def digits_reversed(n):
    """The same from the ones up: 1234 -> 4 3 2 1. A way to write numbers, not a tokenizer's."""
    return digits(n)[::-1]


def threes_left(n):
    """GPT-4's and Llama 3's way: 1234 -> 123 4."""
    text = str(n)
    return [text[i:i + 3] for i in range(0, len(text), 3)]


def threes_right(n):
    """As we write thousands: 1234 -> 1 234."""
    text = str(n)
    first = len(text) % 3
    return [text[:first]] * (first > 0) + [text[i:i + 3] for i in range(first, len(text), 3)]


def cut_all(tokenizer, numbers, lead=""):
    """The pieces' lengths of each number, as a list of lists; `lead` is written before each."""
    ids = tokenizer.encode("".join(f"{lead}{n}\n" for n in numbers))
    pieces = [tokenizer.pieces[i].decode().removeprefix(lead) for i in ids.tolist()]
    cut, row = [], []
    for piece in pieces:
        if piece == "\n":
            cut.append(row)
            row = []
        elif piece:
            row.append(len(piece))
    return cut


def borders(lengths):
    """Piece lengths -> their borders as the bits of a number: [1, 3] -> 0b1000, [4] -> 0.

    >>> bin(borders([1, 2, 1]))
    '0b1010'
    """
    bits, right = 0, 0
    for length in lengths[:0:-1]:
        right += length
        bits |= 1 << right
    return bits


def cutter_borders(cut, numbers):
    return np.array([borders([len(piece) for piece in cut(n)]) for n in numbers])


def aligned(first, second, result, low):
    """The share of all pairs a, b whose borders agree with each other's and those of a + b.

    first, second: (n,) the borders of the numbers low … low + n − 1, as first and second operand;
    result: (2n − 1,) those of the sums 2·low … Only borders inside the operands count. Exact, by
    a convolution for each pattern: the entry s of f ∗ g counts the pairs with a + b = 2·low + s.
    """
    inside = (1 << len(str(low))) - 1
    total = 0
    for pattern in np.unique(first):
        f, g = (first == pattern).astype(float), (second == pattern).astype(float)
        total += np.convolve(f, g)[(result & inside) == pattern].sum()
    return float(total) / len(first) ** 2


def alignment_of(cut, operands):
    """`aligned` for one way of cutting, with all pairs of a range of numbers as operands."""
    low, high = operands[0], operands[-1]
    one = cutter_borders(cut, operands)
    return aligned(one, one, cutter_borders(cut, range(2 * low, 2 * high + 1)), low)


def how_many(gpt2, longest=6):
    """{(digits, lead): shares of numbers in 1, 2, 3, 4 pieces}, bare and behind a space."""
    shares = {}
    for many in range(1, longest + 1):
        low, high = (0 if many == 1 else 10 ** (many - 1)), 10 ** many
        for lead in ("", " "):
            ids = gpt2.encode("".join(f"{lead}{n}\n" for n in range(low, high)))
            ends = np.flatnonzero(ids == gpt2.encode("\n")[0])
            count = Counter((np.diff(ends, prepend=-1) - 1).tolist())
            shares[many, lead] = [count[k] / (high - low) for k in (1, 2, 3, 4)]
    return shares


def four_digits(gpt2):
    """Where GPT-2 cuts 1000 … 9999: {pattern: count}, commonest first, and each number's pattern.

    The second is a str of 9,000 digits, the places of the patterns in the first.
    """
    cuts = ["+".join(map(str, lengths)) for lengths in cut_all(gpt2, range(1000, 10_000))]
    patterns = dict(Counter(cuts).most_common())
    place = {pattern: str(k) for k, pattern in enumerate(patterns)}
    return patterns, "".join(place[cut] for cut in cuts)


def alignment(gpt2):
    """{way of cutting: share of sums of two 4-digit numbers whose columns line up}."""
    operands, sums = range(1000, 10_000), range(2000, 19_999)
    shares = {}
    for name, cut in (("digits: SmolLM2, Qwen 2", digits), ("threes from the right", threes_right),
                      ("threes from the left: GPT-4, Llama 3", threes_left)):
        one = cutter_borders(cut, operands)
        shares[name] = aligned(one, one, cutter_borders(cut, sums), 1000)
    if gpt2:
        found = {(lead, name): np.array(list(map(borders, cut_all(gpt2, numbers, lead))))
                 for lead in ("", " ") for name, numbers in (("in", operands), ("out", sums))}
        shares["GPT-2: 1234+5678="] = aligned(found["", "in"], found["", "in"], found["", "out"],
                                              1000)
        shares["GPT-2: 1234 + 5678 ="] = aligned(found["", "in"], found[" ", "in"],
                                                 found[" ", "out"], 1000)
    return shares


class Sums:
    """Sums of two 3-digit numbers as tokens under one way of cutting: windows and answers.

    A window is the whole line from its beginning, filled up with a blank: "1 2 3 + 4 5 6 = 5 _ _".
    """

    BLANK, END, SIGNS = "", "\n", ("+", "=")

    def __init__(self, cut, low=100, high=1000):
        self.cut = cut
        found = {piece for n in range(low, 2 * high) for piece in cut(n)}
        self.names = [self.BLANK, self.END, *self.SIGNS, *sorted(found)]
        self.ids = {name: i for i, name in enumerate(self.names)}
        longest = [max(len(cut(n)) for n in numbers)
                   for numbers in (range(low, high), range(2 * low, 2 * high))]
        self.T = 2 * longest[0] + 2 + longest[1]

    def question(self, a, b):
        return [self.ids[name] for name in (*self.cut(a), "+", *self.cut(b), "=")]

    def answer(self, a, b):
        return [self.ids[name] for name in (*self.cut(a + b), self.END)]

    def examples(self, pairs):
        """Windows (N, T) and the piece that follows each (N,)."""
        windows, targets = [], []
        for a, b in pairs.tolist():
            line, asked = self.question(a, b), self.answer(a, b)
            for target in asked:
                windows.append(line + [0] * (self.T - len(line)))
                targets.append(target)
                line = [*line, target]
        return np.array(windows, np.int32), np.array(targets, np.int32)

    def solved(self, model, pairs):
        """The share of sums answered without a mistake, each piece the likeliest one."""
        lines = [self.question(a, b) for a, b in pairs.tolist()]
        wanted = [self.answer(a, b) for a, b in pairs.tolist()]
        right = np.ones(len(pairs), bool)
        for k in range(max(map(len, wanted))):
            windows = np.array([line + [0] * (self.T - len(line)) for line in lines], np.int32)
            with no_grad():
                best = model(windows).data.argmax(-1).tolist()
            for i, (line, asked) in enumerate(zip(lines, wanted)):
                if k < len(asked):
                    right[i] &= best[i] == asked[k]
                    line += [best[i]] * (k < len(asked) - 1)
        return float(right.mean())


def learn(ways, seed, examples=20_000, steps=2500, batch=128, asked=2000):
    """Train day 16's window model on the same random sums, cut in each of the ways; the rows."""
    rng = np.random.default_rng(seed)
    pairs = np.unique(rng.integers(100, 1000, (examples + asked, 2)), axis=0)
    rng.shuffle(pairs)
    seen, unseen = pairs[asked:], pairs[:asked]
    rows = []
    with progress(steps * len(ways), "learning to add") as tick:
        for name, cut in ways.items():
            sums = Sums(cut)
            windows, targets = sums.examples(seen)
            model = NeuralNGram(len(sums.names), sums.T, 16, 128, np.random.default_rng(seed))
            optimizer = AdamW(model.named_parameters(), betas=(0.9, 0.99))
            train(model, drawn(windows, targets, batch, np.random.default_rng(seed)),
                  WarmupCosine(5e-3), steps=steps, update=lambda _, rate, o=optimizer: o.step(rate),
                  watch=lambda step, total, loss, name=name: tick(1, name))
            rows.append({"way": name, "pieces": len(sums.names) - 4, "example": cut(1234),
                         "weights": model.count_parameters(),
                         "seen": sums.solved(model, seen[:asked]),
                         "unseen": sums.solved(model, unseen)})
    return rows


def drawn(windows, targets, batch, rng):
    """Endless random mini-batches."""
    while True:
        at = rng.integers(len(targets), size=batch)
        yield windows[at], targets[at]
