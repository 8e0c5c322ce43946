"""Day 52 · A real model checks what stood in its text before: what does it cost, what gain?

    python experiments/speculation.py [--fast] [--json] [--out DIR]

The target is SmolLM2-135M in 4 bits on the compiled engine of day 52, the rule day 46's, the draft
lookup in the text so far. Two kinds of text: passages to copy, where the prompt says
what will come, and stories, where it does not. The first table is the seconds of a pass over n ids.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from days.day46.measuring import between, fastest, pass_seconds, summary
from days.harness import (
    ROOT,
    UsageError,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    progress,
    say,
    write_atomically,
)
from llm.generate.drafts import Lookup
from llm.generate.llama import engine
from llm.generate.pretrained import load
from llm.generate.reading import Compiled
from llm.generate.speculative import chances, draw, speculate
from llm.generate.truncate import Chooser

PASSAGES = [
    "The lighthouse at Skerry Point was built in 1844 by two brothers from Aberdeen. It stands on "
    "a bare rock three miles from the coast, and its lamp can be seen from a distance of eighteen "
    "miles. In the winter of 1871 a storm broke the windows of the tower, and the keeper kept the "
    "light burning by hand for nine nights.",
    "To make the bread, mix 500 grams of flour with 330 grams of water, 10 grams of salt and 3 "
    "grams of yeast. Let the dough rest for twelve hours in a cool place. Fold it twice, shape it, "
    "and let it rest for another two hours. Bake it at 240 degrees for forty minutes in a closed "
    "pot.",
    "def area(shape):\n    if shape.kind == \"circle\":\n        return 3.14 * shape.radius ** 2\n"
    "    if shape.kind == \"square\":\n        return shape.side ** 2\n    if shape.kind == "
    "\"rectangle\":\n        return shape.width * shape.height\n    raise ValueError(shape.kind)\n",
]
STORIES = ["Once upon a time, in a village by the sea, there lived an old clockmaker who",
           "The reason why the sky is blue is that",
           "When the two astronauts opened the door of the abandoned station, they"]
TEXTS = {"copy": [f"{text}\n\nThe same text again, word for word:\n\n{text[:20]}"
                  for text in PASSAGES], "story": STORIES}


def open_model(room):
    """(encode, a target on day 52's engine with room for so many ids)."""
    model = load(report=say)
    return model.encode, Target(engine(model, T_max=room))


class Target(Compiled):
    """Chunks by day 52's reader, on blocks of 4 bits."""

    def chunk(self, ids):
        return self.engine.reader.multiply("head", self.engine.reader.read(ids, every=True))


def write(target, ids, n, gamma, temperature, seed):
    """(the ids written, seconds, rounds); the prompt has been read before the clock starts."""
    choose, log = Chooser(np.random.default_rng(seed), temperature), []
    target.truncate(0)
    target.read(ids[:-1])
    time.sleep(0.05)
    start = time.perf_counter()
    found = list(speculate(target, Lookup(target.arch.V), ids, n, choose, gamma, log=log))
    return found, time.perf_counter() - start, log


def parting(target, ids, a, b):
    """Where two greedy texts part: None if they do not, else what the target thinks there.

    [the gap between its two best logits after single steps, the largest difference between its
    logits after single steps and after chunks].
    """
    if a == b:
        return None
    at = next(i for i, pair in enumerate(zip(a, b)) if pair[0] != pair[1])
    text, found = [ids[-1], *a[:at]], []
    for size in (1, 6):
        target.truncate(0)
        target.read(ids[:-1])
        for first in range(0, len(text), size):
            part = text[first:first + size]
            logits = target.read(part, len(part))
        found.append(np.array(logits[-1]))
    best = np.sort(found[0])
    return [float(best[-1] - best[-2]), float(np.abs(found[0] - found[1]).max())]


def experiment(fast):
    encode, target = open_model(512)
    texts = {kind: [encode(text).tolist() for text in some] for kind, some in TEXTS.items()}
    n, gammas, turns = (8, (2,), 1) if fast else (96, (1, 2, 3, 5, 8), 7)
    sizes = (1, 3, 6) if fast else (1, 2, 3, 4, 5, 6, 7, 9, 12, 18)
    costs = pass_seconds(target, texts["copy"][0], len(texts["copy"][0]) // 2, sizes, turns)
    choose = Chooser(np.random.default_rng(0))
    logits = target.engine.step(1).copy()
    drawing = fastest({"draw": lambda: draw(chances(choose, logits, []), choose.rng)},
                      turns)["draw"]
    rows, parted = [], []
    with progress(4 * 3 * (len(gammas) + 1), "writing") as step:
        for temperature in (0.0, 1.0):
            for kind, some in texts.items():
                alone = [write(target, ids, n, 0, temperature, seed)
                         for seed, ids in enumerate(some)]
                step(len(some))
                before = sum(seconds for _, seconds, _ in alone)
                for gamma in gammas:
                    found = [write(target, ids, n, gamma, temperature, seed)
                             for seed, ids in enumerate(some)]
                    step(len(some))
                    tokens, kept, guesses, _ = summary([r for *_, log in found for r in log])
                    chunk = between(costs, guesses + 1)
                    predicted = tokens * (costs[1] + drawing) / (chunk + tokens * drawing)
                    rows.append([kind, temperature, gamma, tokens, kept, guesses, predicted,
                                 before / sum(seconds for _, seconds, _ in found),
                                 len(some) * n / before])
                    if temperature == 0:
                        parted += [parting(target, ids, a[0], b[0])
                                   for ids, a, b in zip(some, alone, found)]
    return {"passes": [[size, 1e3 * s] for size, s in costs.items()], "drawing": 1e3 * drawing,
            "rows": rows, "parted": parted, "tokens": n, "texts": len(STORIES), "fast": fast,
            "machine": machine()}


def show(record):
    print_table([["ids at once", "ms", "passes of one"]] + [
        [n, f"{ms:.1f}", f"{ms / record['passes'][0][1]:.2f}"] for n, ms in record["passes"]],
        "a pass of SmolLM2")
    print_table([["text", "temperature", "γ", "tokens a pass", "kept", "predicted", "measured"]] + [
        [kind, t, gamma, f"{tokens:.2f}", f"{100 * kept:.0f} %", f"{a:.2f}", f"{b:.2f}"]
        for kind, t, gamma, tokens, kept, _, a, b, _ in record["rows"]],
        "times as fast as without guesses")
    parted = [pair for pair in record["parted"] if pair]
    print(f"greedy texts that part from those without guesses: {len(parted)} of "
          f"{len(record['parted'])}")
    for gap, off in parted:
        print(f"  two best logits {gap:.3f} apart; chunks and steps differ by up to {off:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="a few tokens only")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "speculation")
    options = parser.parse_args()
    try:
        prepare(options.out)
        record = plain(experiment(options.fast))
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        write_atomically(options.out / "speculation.json", text.encode())
    except (UsageError, OSError) as error:
        say(f"speculation: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        say("speculation stopped; nothing half-written is left")
        sys.exit(130)
    if options.json:
        print(json.dumps(record, ensure_ascii=False))
        return
    show(record)
    say(f"speculation.json is in {nearby(options.out)}")


if __name__ == "__main__":
    main()
