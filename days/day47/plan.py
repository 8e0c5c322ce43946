"""Day 47 · What is run: how many requests of which kind, which sizes, which model."""

from dataclasses import dataclass

from days.day47.serving import Load


@dataclass(frozen=True)
class Plan:
    """What is run: the full one, and a small one for --fast."""

    load: Load
    common: Load
    longer: Load               # for the comparison with other products
    count: int                         # requests a stream
    streams: int
    most: int                          # requests at once
    others: tuple                      # other numbers at once, to be compared
    shares: tuple                      # of capacity
    sizes: tuple                       # tokens a block
    rows: tuple                        # B
    position: int                      # tokens that every text has read, where B is varied
    repeats: int
    wide: dict


FULL = Plan(Load(), Load((4, 17), 16, 48, 3), Load((4, 24), 40, 96), 100, 3,
            16, (8, 11, 23, 32, 45), (0.3, 0.6, 0.9), (1, 2, 4, 8, 16, 32, 64, 128),
            (1, 2, 4, 8, 16, 32, 64), 63, 7,
            {"V": 16384, "T": 128, "C": 768, "L": 4, "H": 12, "F": 3072})
FAST = Plan(Load((4, 12), 6, 16), Load((4, 8), 4, 8, 2, 16),
            Load((4, 12), 10, 20), 16, 1, 8, (4,), (0.6,), (1, 16, 32), (1, 8), 20, 3,
            {"V": 500, "T": 128, "C": 64, "L": 1, "H": 2, "F": 256})
