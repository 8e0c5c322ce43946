"""Day 52 · SmolLM2 past its window of 8,192 tokens: as trained, and with slower rotary angles.

    python experiments/long_context.py [--pieces 3] [--tokens 10240] [--fast]

Pieces of held-out Shakespeare are read through a cache, and the nats a byte are noted by position.
No way is trained. Day 31 has the first four; with s the stretch and D the channels of a head:

    as trained   every pair of channels turns as it did
    all hands    every pair turns s times slower (Chen et al. 2023)
    larger base  the first pair as before, the last s times slower ("NTK-aware")
    by parts     s times slower if a pair makes less than one turn in the window, else as before
    YaRN         a ramp between pairs of 1 and of 32 turns, and queries and keys 0.1·ln s + 1 times
                 as long (Peng et al. 2023, sections 3.2 and 3.3)

Finished readings are kept in experiments/long_context.json: stop with Ctrl-C and call again.
Left out: training on long texts.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from days.day31.cures import factors
from days.harness import ROOT, machine, nearby, print_table, progress, say, write_atomically
from llm.data.download import TextError
from llm.data.text import load as load_text
from llm.functions.probability import log_softmax
from llm.generate import decode as decoder
from llm.generate.cache import KVCache
from llm.generate.pretrained import load
from llm.layers.rotary import angles, rotate_half_split

CHUNK, BIN, STRETCH = 256, 1024, 2.0
KEPT = Path(__file__).with_suffix(".json")
NOTE = ROOT / "days" / "day52" / "past_window.md"
MARKS = "<!-- long_context -->", "<!-- /long_context -->"


def ways(D, window, base, stretch=STRETCH):
    """{name: (speed of each pair (D/2,) relative to the trained one, length of q and k)}."""
    named = {name: (speed, 1.0) for name, speed in factors(D, window, stretch, base).items()
             if not name.startswith("hand ")}
    turns = angles(2, D, base)[1] * window / (2 * np.pi)
    kept = np.clip((turns - 1) / (32 - 1), 0, 1)
    return named | {"YaRN": (kept + (1 - kept) / stretch, 0.1 * np.log(stretch) + 1)}


def turner(speed, length):
    """A `turn` for day 42's decoder: pair i by positions[t] · base^(−2i/D) · speed[i]."""
    def turn(x, positions, base):
        angle = np.asarray(positions)[:, None] * angles(2, x.shape[-1], base)[1] * speed
        cos, sin = (np.array(length * f(angle), x.dtype) for f in (np.cos, np.sin))
        return rotate_half_split(x, cos, sin)
    return turn


def by_position(model, weights, ids, way, tick):
    """[nats a byte of the BIN tokens that end at each multiple of BIN]."""
    arch = replace(model.arch, T=len(ids))
    cache, nats, before = KVCache(arch, len(ids)), [], decoder.turn
    decoder.turn = turner(*way)
    try:
        for first in range(0, len(ids) - 1, CHUNK):
            part = ids[first:first + CHUNK + 1]
            z = decoder.decode(arch, weights, part[:len(part[1:])], cache)
            z = log_softmax(z.astype(np.float64))
            nats.append(-z[np.arange(len(z)), part[1:]])
            tick(len(z))
    finally:
        decoder.turn = before
    nats = np.concatenate(nats)
    size = np.array([len(model.tokenizer.table[i]) for i in ids[1:].tolist()])
    ends = range(BIN, len(nats) + 2, BIN)
    return [round(float(nats[e - BIN:e].sum() / size[e - BIN:e].sum()), 5) for e in ends]


def measure(pieces, tokens, path):
    """Read every piece in every way that `path` does not hold yet."""
    model = load()
    ids = np.asarray(model.tokenizer.encode(load_text("shakespeare").validation))
    if pieces * tokens > len(ids):
        raise ValueError(f"{pieces} pieces of {tokens:,} tokens are more than the {len(ids):,} of "
                         "the held-out text")
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    facts = {"tokens": tokens, "bin": BIN, "window": model.arch.T, "stretch": STRETCH}
    if {k: record.get(k) for k in facts} != facts:
        record = facts | {"nats_per_byte": {}}
    weights, found = model.weights(), record["nats_per_byte"]
    todo = ways(model.arch.D, model.arch.T, model.arch.rotary)
    for piece in range(pieces):
        part = ids[piece * tokens:(piece + 1) * tokens]
        for name, way in todo.items():
            read = found.setdefault(name, [])
            if len(read) > piece:
                continue
            with progress(tokens - 1, f"piece {piece + 1}, {name}") as tick:
                read.append(by_position(model, weights, part, way, tick))
            record["machine"] = machine()
            write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
    return record


def table(record):
    """Rows: each way's mean nats a byte in the window, in its last eighth, and past it."""
    inside, found = record["window"] // BIN, record["nats_per_byte"]
    whole = min(map(len, found.values()))                    # pieces that every way has read
    rows = [["angles", "all of the window", "its last eighth", "past it"]]
    for name, pieces in found.items():
        mean = np.mean(pieces[:whole], axis=0)
        past = f"{mean[inside:].mean():.3f}" if len(mean) > inside else "–"
        rows.append([name, f"{mean[:inside].mean():.3f}", f"{mean[:inside][-1]:.3f}", past])
    return rows


def write_note(record):
    """Put the table between its marks in days/day52/past_window.md."""
    before, _, rest = NOTE.read_text(encoding="utf-8").partition(MARKS[0])
    head, *body = table(record)
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *body)]
    pieces = min(map(len, record["nats_per_byte"].values()))
    said = f"Means over {pieces} pieces of {record['tokens']:,} tokens, nats a byte."
    write_atomically(NOTE, "\n".join([before + MARKS[0], "", *lines, "", said, "",
                                      MARKS[1] + rest.partition(MARKS[1])[2]]).encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=10240, help="length of a piece (10240)")
    parser.add_argument("--pieces", type=int, default=3, help="how many (3)")
    parser.add_argument("--fast", action="store_true", help="one piece of 2048, kept in runs/")
    parser.add_argument("--out", type=Path, help="another file for what has been read")
    options = parser.parse_args()
    if options.pieces < 1 or options.tokens < BIN:
        parser.error(f"--pieces must be at least 1 and --tokens at least {BIN}")
    path = options.out or (Path("runs/long_context-fast.json") if options.fast else KEPT)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = measure(1 if options.fast else options.pieces,
                     2048 if options.fast else options.tokens, path)
    if path == KEPT:
        write_note(record)
    print_table(table(record), "nats a byte of held-out Shakespeare, SmolLM2")
    say(f"kept in {nearby(path)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; finished readings are kept: call again to go on")
        sys.exit(130)
    except (TextError, ValueError, OSError) as error:
        say(f"long_context: {error}")
        sys.exit(2)
