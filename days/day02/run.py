"""Day 02 · The price of one multiplication, and what Shakespeare's words mean by their company."""

import math
import sys
from dataclasses import dataclass

import numpy as np

from days.harness import main, print_table, print_text, progress, save, say
from llm.data.text import load_or_default
from llm.tensors import vectors
from llm.tensors import word_vectors as wv
from llm.tensors.timing import seconds_each

AT = 4096                        # the size at which the table compares
PROBES = "king", "love", "death", "thou", "gold", "sword", "three", "object", "class", "function"
ANALOGIES = """man woman he she|man woman him her|man woman king queen|man woman lord lady
man woman brother sister|man woman son daughter|man woman father mother|king queen lord lady
king queen brother sister|he she his her|he she himself herself|brother sister son daughter
brother sister father mother|uncle aunt brother sister|son daughter father mother
king queen prince princess|eye eyes hand hands|eye eyes tear tears|tongue tongues heart hearts
man men woman women|father fathers brother brothers|king kings lord lords|word words deed deeds
thou you thy your|thou you thee you|thou you thine yours|hath have doth do|is are was were
day night sun moon|good better bad worse|great greater good better|england english france french
rome roman england english|come came go went|know known see seen|give given take taken
speak spoke know knew"""


@dataclass(frozen=True)
class Result:
    sizes: list           # vector lengths N
    curves: dict          # ns an element by way, at each size (None: not measured)
    ways: list            # [way, ns an element at N = 4096, times as fast as plain Python]
    ns: dict              # ns an element at N = 4096 by way
    crossover: int        # the first size where NumPy beats plain Python (0: none)
    list_bytes: int       # memory of one element: a pointer and a float object
    rounding: float       # relative difference of the two compiled sums
    corpus: str
    tokens: int
    vocabulary: int
    window: int
    neighbours: list      # [word, its nearest words]
    king: list            # man : woman = king : …, [word, cosine] best first
    analogies: int        # how many of the list have all four words in the vocabulary
    scores: list          # [dimensions, right, among five, right by c alone, right in both ways]
    chosen: int           # the dimensions used above
    score: list           # the row of `scores` with these dimensions
    chance: float         # how often a coin would tell the two ways apart at least as clearly
    wide: list            # the same row with a window of 4 places instead of 2
    energy: float         # share of the squared PPMI matrix that the chosen dimensions keep


def measure(fast, seed):
    rng = np.random.default_rng(seed)
    with progress(13, "timing") as step:
        sizes, curves, boxed, rounding = dot_times(fast, rng, step)
    text = load_or_default("shakespeare", say)
    size, window, chosen = (400, 2, 50) if fast else (2500, 2, 200)
    tokens = wv.words(text.text[:1_000_000] if fast else text.text)
    vocab = wv.vocabulary(tokens, size)
    matrix = wv.ppmi(wv.cooccurrence(tokens, vocab, window)).astype(np.float32)
    chosen = min(chosen, len(vocab))
    full, s = wv.svd_vectors(matrix, len(vocab))
    quads = [a.split() for line in ANALOGIES.splitlines() for a in line.split("|")]
    quads = [q for q in quads if set(q) <= set(vocab)]
    scores = []
    for k in sorted({2, 10, chosen, len(vocab)} if fast else {2, 10, 50, chosen, 800, len(vocab)}):
        scores.append([k, *wv.WordVectors(vocab, full[:, :k]).score(quads)])
    vectors_ = wv.WordVectors(vocab, full[:, :chosen])
    score = next(row for row in scores if row[0] == chosen)
    wide = wv.ppmi(wv.cooccurrence(tokens, vocab, 2 * window)).astype(np.float32)
    wide = wv.WordVectors(vocab, wv.svd_vectors(wide, chosen)[0])
    known = [w for w in PROBES if w in vectors_.index][:6]
    at = sizes.index(AT)
    plain = curves["Python, two lists"][at]
    ways = [["Python, two NumPy arrays", boxed]] + [[k, c[at]] for k, c in curves.items()]
    return Result(
        sizes=sizes, curves=curves, rounding=rounding, list_bytes=8 + sys.getsizeof(1.0),
        ways=[[k, ns, plain / ns] for k, ns in ways],
        ns=dict(ways), crossover=next((n for n, p, q in zip(
            sizes, curves["Python, two lists"], curves["NumPy"]) if q < p), 0),
        corpus=text.name, tokens=len(tokens), vocabulary=len(vocab), window=window,
        neighbours=[[w, ", ".join(n for n, _ in vectors_.neighbours(w))] for w in known],
        king=vectors_.analogy("man", "woman", "king") if "king" in known and quads else [],
        analogies=len(quads), scores=scores, chosen=chosen,
        score=score, chance=coin(score[1] - score[4], score[3] - score[4]),
        wide=[chosen, *wide.score(quads)],
        energy=float((s[:chosen] ** 2).sum() / (s ** 2).sum()))


def coin(a, b):
    """Of a + b cases that only one of two ways gets right, a fell to one and b to the other: how
    likely is a split at least as uneven by tossing a coin? (McNemar's exact test, two-sided.)"""
    n = a + b
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(max(a, b), n + 1)) / 2 ** n)


def dot_times(fast, rng, step):
    """ns an element of u · v in each way at each size, plus two extra facts at N = 4096."""
    sizes = [4**i for i in range(0, 8 if fast else 11)]
    curves = {k: [] for k in ("Python, two lists", "Numba, in order", "NumPy", "Numba, any order")}
    for n in sizes:
        u, v = (rng.random(n, dtype=np.float32) for _ in "uv")
        calls = {"Numba, in order": (vectors.dot_in_order, u, v), "NumPy": (np.dot, u, v),
                 "Numba, any order": (vectors.dot_any_order, u, v)}
        if n <= 4**8:
            calls["Python, two lists"] = (vectors.dot, u.tolist(), v.tolist())
        if n == AT:
            calls["boxed"] = (vectors.dot, u, v)
            ordered, free = vectors.dot_in_order(u, v), vectors.dot_any_order(u, v)
        seconds = seconds_each({k: (lambda f=f, a=a, b=b: f(a, b))
                                for k, (f, a, b) in calls.items()}, 3 if fast else 7)
        for way, curve in curves.items():
            curve.append(seconds[way] / n * 1e9 if way in seconds else None)
        if n == AT:
            boxed = seconds["boxed"] / n * 1e9
        step()
    return sizes, curves, boxed, float(abs(ordered - free) / abs(ordered))


def table(r):
    return [["u · v in", f"ns an element, N = {AT}", "× plain Python"]] + [
        [way, f"{ns:.3g}", f"{times:.3g}"] for way, ns, times in r.ways]


def show(r):
    print_table(table(r))
    print_table([["word", f"nearest in {r.corpus}, {r.tokens:,} words"], *r.neighbours])
    if r.analogies:
        print_text("man : woman = king : " + ", ".join(f"{w} {x:.2f}" for w, x in r.king))
        print_table([["dimensions", "right", "among five", "by c alone", "both ways"], *r.scores],
                    f"{r.analogies} analogies")


def draw(r, path):
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots()
    for i, (way, curve) in enumerate(r.curves.items()):
        points = [(n, ns) for n, ns in zip(r.sizes, curve) if ns is not None]
        ax.loglog(*zip(*points), "o-", ms=3, color=f"C{i}")
        dy = {"NumPy": 7, "Numba, any order": -7}.get(way, 0)
        ax.annotate(way, points[-1], (8, dy), textcoords="offset points", color=f"C{i}",
                    va="center")
    by = {way: times for way, _, times in r.ways}
    ax.set(xlabel="N, elements of each vector", ylabel="ns an element", xlim=(.8, r.sizes[-1] * 40),
           title=f"A dot product of {AT:,} elements: NumPy is {by['NumPy']:.0f} times"
                 f" as fast as Python;\nof one element it takes "
                 f"{r.curves['NumPy'][0] / r.curves['Python, two lists'][0]:.1f} times as long: "
                 "the call itself is the cost")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
