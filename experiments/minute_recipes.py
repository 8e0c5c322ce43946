"""Day 38 · What has been tried in a minute, as data: one Recipe an entry of notes/minute.md.

A recipe whose parts all belong to days 1 to 35 says so (`day35`): such a one could become day 35's
own. Entries that did not help stay. Left out: how a recipe is run (minute.py).
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """All that decides a run besides its seed and its length."""

    why: str = ""                  # what is tried, and why: one sentence of the leaderboard
    goal: str = "A"                # "A": a GPT alone; "B": it may use counts; "C": alone, 900 s
    V: int = 1024                  # bytes, and the byte pairs learned from the training text
    B: int = 8                     # windows a batch
    T: int = 128                   # tokens a window
    C: int = 96                    # channels
    L: int = 3                     # blocks
    H: int = 3                     # heads
    std: float = 0.1               # of the blocks' weights at the start, about 1/√C
    rate: float = 3e-3             # peak of AdamW's rate
    floor: float = 0.0             # of the rate at the end, as a share of the peak
    warmup: int = 50               # steps
    beta2: float = 0.99
    decay: float = 0.01            # AdamW's
    clip: float = 1.0
    dropout: float = 0.0           # share of what each branch adds that is dropped in training
    whole: bool = False            # windows without replacement, pass after pass; or at random
    earlier: int = 0               # so many tokens before the last one enter by tables of their own
    first: float = 0.0             # share of the text that is read first, without the blocks
    memory: tuple = ()             # orders of the hashed memory: rows for the last 2, 3, … tokens
    rows: int = 2**18              # of each order
    memory_rate: float = 0.4       # row-wise Adagrad
    memory_floor: float = 0.0      # of that rate at the end, as a share
    forget: bool = False           # the memory starts anew with each pass; the last one is whole
    counts: int = 0                # order of the Kneser–Ney n-gram whose log p joins the logits
    leave_out: bool = False        # counts for training are taken without the position itself
    parts: int = 0                 # … or without the part of the text it lies in, one of so many
    network: bool = True           # without: counting alone, nothing is trained
    day35: bool = False            # all its parts belong to days up to 35
    characters: int = 10**9        # of the text, at most


READER = Recipe("the reader's GPT of day 35, 1,024 byte pairs, random windows: the point to start "
                "from", day35=True)
PAIRS = replace(READER, why="as the reader's GPT, with 2,048 byte pairs and short windows (16 of "
                "42, so that a step reads 672 tokens)", V=2048, B=16, T=42)
MEMORY = replace(READER, why="a hashed memory of the last 2 to 5 tokens joins the stream before "
                 "the last norm, as in the sketches", memory=(2, 3, 4, 5), day35=False)
WHOLE = replace(MEMORY, why="the same memory, but every window is seen once before any is seen "
                "twice: random windows leave much of the text unseen in one pass", whole=True)
EARLIER = replace(WHOLE, why="the two tokens before the last one enter by tables of their own, so "
                  "that the first block need not learn to fetch them", earlier=2)
FIRST = replace(EARLIER, why="what the network has no time to read, tables and memory read first, "
                "without the blocks, at a fifth of the cost; the blocks then see only new text",
                first=0.4)
KEEPS = replace(EARLIER, why="as `earlier`, with three earlier tokens and a memory whose rate ends "
                "at three tenths of its peak, so that what is read last is written down too",
                earlier=3, memory_floor=0.3)
TABLES = replace(READER, why="the control of `earlier`, without the memory: whole passes, and "
                 "tables for two earlier tokens", whole=True, earlier=2)
LONG = replace(TABLES, why="for 900 seconds: a network of twice the width and four blocks, which "
               "reads the text almost four times; no memory, since from the second pass on it "
               "would hold the answers", goal="C", C=192, L=4, H=6, std=0.072, rate=2e-3,
               decay=0.1, warmup=200)
LONG_FORGETS = replace(LONG, why="as `long`, with a memory that is emptied at the start of each "
                       "pass, so that it never holds an answer, and a tenth of each branch "
                       "dropped",
                       memory=(2, 3, 4, 5), memory_floor=0.3, forget=True, dropout=0.1,
                       day35=False)
LONG_DROPS = replace(LONG_FORGETS, why="as `long-forgets`, with a fifth of each branch dropped and "
                     "three earlier tokens: its training loss is still far below the held-out one",
                     dropout=0.2, earlier=3)
LONG_LIGHT = replace(LONG_FORGETS, why="as `long-forgets`, with a twentieth of each branch dropped",
                     dropout=0.05)
PAIRS_64 = replace(PAIRS, why="as `pairs`, with 16 windows of 64 tokens, and fewer steps, so that "
                   "as many tokens are read", T=64)
COUNTS = Recipe("the network learns what counting leaves over: its logits are added to the log p "
                "of a Kneser–Ney 4-gram over the same tokens, counted without the position itself",
                goal="B", counts=4, leave_out=True, whole=True)
CROSS = replace(COUNTS, why="as `counts`, but a position's counts lack the whole sixteenth of the "
                "text it lies in: leaving one event out still leaves its play, names and all",
                leave_out=False, parts=16)
CROSS_EARLIER = replace(CROSS, why="`counts-cross` with tables for two earlier tokens",
                        earlier=2)

RECIPES = {
    "reader": READER,
    "pairs": PAIRS,
    "pairs-64": PAIRS_64,
    "tables": TABLES,
    "memory": MEMORY,
    "memory-whole": WHOLE,
    "earlier": EARLIER,
    "memory-first": FIRST,
    "earlier-keeps": KEEPS,
    "long": LONG,
    "long-forgets": LONG_FORGETS,
    "long-drops": LONG_DROPS,
    "long-light": LONG_LIGHT,
    "counting": Recipe("counting alone, the Kneser–Ney 4-gram over 1,024 byte pairs that the "
                       "recipes with counts start from", goal="B", counts=4, parts=16,
                       network=False),
    "counts": COUNTS,
    "counts-leaky": replace(COUNTS, why="the control: counts that have seen the answer",
                            leave_out=False),
    "counts-cross": CROSS,
    "counts-cross-earlier": CROSS_EARLIER,
}


def small(recipe):
    """The same parts on little, for --fast and for the tests."""
    return replace(recipe, V=300, B=4, T=16, C=16, L=1, H=2, rate=1e-2, warmup=5, rows=2**10,
                   characters=60_000)
