"""Day 63 · How large should a batch be, for as many tokens and for as many steps?

    python experiments/batch_size.py [--fast] [--json] [--out DIR]

"same tokens": every batch size reads 128,000 characters, so a larger batch makes fewer steps.
"same steps": 250 steps each, so a larger batch reads more. See sweep.py for how it is measured.
"""

from experiments.sweep import Sweep, main

TOKENS, T, SIZES = 128_000, 32, (2, 4, 8, 16, 32, 64)

SWEEP = Sweep(
    "batch_size", "windows a batch",
    {"same tokens": {B: {"B": B, "steps": TOKENS // (B * T), "warmup": TOKENS // (10 * B * T)}
                     for B in SIZES},
     "same steps": {B: {"B": B, "steps": 250, "warmup": 25} for B in SIZES[:-1]}},
    reference={"same tokens": 8, "same steps": 8}, first={"same tokens": 0.0044})

if __name__ == "__main__":
    main(SWEEP, __doc__)
