"""Day 52 · SmolLM2 past its window of 8,192 tokens: as trained, and with stretched rotary angles.

    python experiments/long_context.py            # about half an hour; writes long_context.json

One long piece of held-out Shakespeare is read through a cache, and the nats per byte are noted by
position. "interpolated" divides every position by s (position interpolation, Chen et al. 2023);
"other base" turns slowly by a base that is s^(D/(D−2)) times larger and leaves the fast angles
alone ("NTK-aware", in Peng et al. 2023, section 3.1). Both are done without any training.
Left out: YaRN's mixture of the two, and training on long texts, which is what really helps.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from llm.data.text import load as load_text
from llm.functions.probability import log_softmax
from llm.generate import decode as decoder
from llm.generate.cache import KVCache
from llm.generate.pretrained import load

CHUNK, BIN, STRETCH = 256, 1024, 2.0
turn = decoder.turn


def by_position(arch, weights, tokenizer, ids, scale):
    """[nats per byte of the BIN tokens that end at each multiple of BIN]."""
    decoder.turn = lambda x, positions, base: turn(x, positions / scale, base)
    cache, nats = KVCache(arch, len(ids)), []
    try:
        for first in range(0, len(ids) - 1, CHUNK):
            part = ids[first:first + CHUNK + 1]
            z = decoder.decode(arch, weights, part[:len(part[1:])], cache)
            z = log_softmax(z.astype(np.float64))
            nats.append(-z[np.arange(len(z)), part[1:]])
    finally:
        decoder.turn = turn
    nats = np.concatenate(nats)
    size = np.array([len(tokenizer.table[i]) for i in ids[1:].tolist()])
    ends = range(BIN, len(nats) + 2, BIN)
    return [float(nats[e - BIN:e].sum() / size[e - BIN:e].sum()) for e in ends]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=14336, help="length of the text (14336)")
    parser.add_argument("--pieces", type=int, default=2, help="how many such texts (2)")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    model = load()
    weights, T = model.weights(), options.tokens
    text = load_text("shakespeare").validation
    ids = model.tokenizer.encode(text)
    D = model.arch.D
    arch = replace(model.arch, T=T)
    ways = {"as trained": (arch, 1.0), "interpolated": (arch, STRETCH), "other base": (
        replace(arch, rotary=arch.rotary * STRETCH ** (D / (D - 2))), 1.0)}
    found = {name: [] for name in ways}
    for piece in range(options.pieces):
        for name, (shape, scale) in ways.items():
            start = time.perf_counter()
            part = ids[piece * T:(piece + 1) * T]
            found[name].append(by_position(shape, weights, model.tokenizer, part, scale))
            print(piece, name, np.round(found[name][-1], 3), f"{time.perf_counter() - start:.0f} s",
                  flush=True)
    result = {"tokens": T, "bin": BIN, "window": model.arch.T, "stretch": STRETCH,
              "nats_per_byte": found}
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
