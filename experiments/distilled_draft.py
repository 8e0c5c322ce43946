"""Day 46 · Does it help a draft to learn from the target instead of from the text?

    python experiments/distilled_draft.py [--fast] [--json] [--out DIR]

Drafts of one size for the reader's GPT of day 35. Rates are tried from one seed and compared on
the first half of the held-out text. Then each kind, at its best rate, is trained from three other
seeds and measured on the second half: what share of its guesses the target would keep, and what
the draft itself pays for the text. A step of distillation also runs the target and takes about two
and a half times as long, so the text has two rows: one for as many steps, one for as much time.
"""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from days.day35.trained import trained
from days.day46.drafting import Recipe, agreement, draft
from days.harness import (
    ROOT,
    UsageError,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    say,
    write_atomically,
)

LOW, HIGH = (5.3e-3, 8e-3, 1.2e-2), (8e-3, 1.2e-2, 1.8e-2)
KINDS = {                                                     # what changes, and the rates tried
    "text, 500 steps": ({"kind": "text", "steps": 500}, LOW),
    "text, 1,250 steps": ({"kind": "text", "steps": 1250}, HIGH),
    "distilled, 500 steps": ({"steps": 500}, HIGH)}


def experiment(fast):
    reader = trained(fast)
    ids = np.array(reader.tokenizer.encode(reader.corpus.validation))
    halves, windows = (ids[:len(ids) // 2], ids[len(ids) // 2:]), 4 if fast else 80
    small = Recipe.small("distilled") if fast else Recipe()
    tried, best, found, seeds = [], {}, {}, 1 if fast else 3
    for name, (change, rates) in KINDS.items():
        base = replace(small, **(change if not fast else {**change, "steps": small.steps}))
        for rate in rates[:1] if fast else rates:
            recipe = replace(base, rate=rate)
            tried.append([name, rate, *agreement(reader, draft(reader, recipe), halves[0],
                                                 windows)[:2]])
            say(f"{name}, rate {rate}: {tried[-1][2]:.4f}")
        best[name] = max((row for row in tried if row[0] == name), key=lambda row: row[2])[1]
        found[name] = [agreement(reader, draft(reader, replace(base, rate=best[name], seed=seed)),
                                 halves[1], windows) for seed in range(1, seeds + 1)]
        say(f"{name}: {[round(row[0], 4) for row in found[name]]}")
    return {"recipe": asdict(small), "tried": tried, "best": best, "found": found,
            "tokens": windows * reader.config.T, "fast": fast, "machine": machine()}


def show(record):
    print_table([["draft", "best rate", "kept, mean of seeds", "lowest", "highest", "nats"]] + [
        [name, record["best"][name], f"{np.mean([a for a, *_ in rows]):.4f}",
         f"{min(a for a, *_ in rows):.4f}", f"{max(a for a, *_ in rows):.4f}",
         f"{np.mean([n for _, n, _ in rows]):.3f}"] for name, rows in record["found"].items()],
        "what share of the draft's guesses the target keeps")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="tiny models; what CI can run")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "distilled_draft")
    options = parser.parse_args()
    try:
        prepare(options.out)
        record = plain(experiment(options.fast))
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        write_atomically(options.out / "distilled_draft.json", text.encode())
    except (UsageError, OSError) as error:
        say(f"distilled_draft: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        say("distilled_draft stopped; nothing half-written is left")
        sys.exit(130)
    if options.json:
        print(json.dumps(record, ensure_ascii=False))
        return
    show(record)
    say(f"distilled_draft.json is in {nearby(options.out)}")


if __name__ == "__main__":
    main()
