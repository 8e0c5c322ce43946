"""Day 35 · How far do seeds move the main job: the GPT alone, and its mixture with counting?

    python experiments/minute_seeds.py [--seeds 3] [--steps 1165] [--fast] [--json] [--out DIR]

The main job ends by the clock, so it never gives the same number twice. Here the same recipe makes
a fixed number of steps, as many as the recorded minute, from several seeds. All of the held-out
tenth is scored by the GPT alone and by the mean of its probabilities and the 4-gram's. As a
control a 5-gram takes the GPT's place in the mean. Of one machine and one number of threads a run
gives the same number again. One thread takes two to three minutes a seed.

Finished seeds are kept: stop with Ctrl-C and call again to go on.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from pathlib import Path

from days.day35 import job
from days.day35.run import work
from days.day35.session import Session
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

LONG = 1e6                       # seconds: more than any run takes, so that its steps end it
SCORED = ("val_nats_per_char", "together_nats_per_char", "counted_nats_per_char")


def one_seed(recipe, corpus, seed):
    """What a run of so many steps pays, in nats a character, by name."""
    with tempfile.TemporaryDirectory() as folder:
        session = Session(job.build(corpus, recipe, seed), corpus, Path(folder) / "model.npz",
                          LONG, new=True)
        result = work(session, temperature=0.8)
    if result.interrupted:
        raise KeyboardInterrupt
    return {"seed": seed} | {name: round(getattr(result, name), 5) for name in SCORED}


def control(recipe, corpus):
    """Nats a character of the mean of two counts: the recipe's longest n-gram, and one longer."""
    state = job.build(corpus, recipe, 0)
    train, held_out = job.encoded(state, corpus)
    longest = max(recipe.token_orders)
    first, second = (job.ngram_rival(train, held_out, state.tokenizer.vocab_size, (order,)).losses
                     for order in (longest, longest + 1))
    return round(float(job.together(first, second).sum() / job.characters(state, held_out)), 5)


def measure(recipe, seeds, path):
    """Make each run that `path` does not hold yet, kept as soon as it is scored."""
    settings = plain(dataclasses.asdict(recipe))
    record = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if record.get("settings") != settings or record.get("machine") != machine():
        record = {"settings": settings, "machine": machine(), "runs": []}
    corpus = job.load_corpus("shakespeare", recipe)

    def keep():
        write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())

    for seed in range(seeds):
        if seed not in [run["seed"] for run in record["runs"]]:
            record["runs"].append(one_seed(recipe, corpus, seed))
            keep()
    record["control"] = record.get("control") or control(recipe, corpus)
    for name in SCORED:
        values = [run[name] for run in record["runs"]]
        record[name] = {"mean": statistics.mean(values), "lowest": min(values),
                        "highest": max(values)}
    keep()
    return record


def show(record):
    rows = [["nats per character", "mean", "lowest", "highest"]]
    for label, name in zip(("GPT alone", "GPT and n-gram", "n-gram alone"), SCORED):
        rows.append([label, *(f"{record[name][key]:.4f}" for key in ("mean", "lowest", "highest"))])
    rows.append(["n-gram and a longer one", f"{record['control']:.4f}", "", ""])
    print_table(rows, f"{record['settings']['steps']} steps, {len(record['runs'])} seeds")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 (3)")
    parser.add_argument("--steps", type=int, default=1165, help="of each run (1165)")
    parser.add_argument("--fast", action="store_true", help="tiny, a few seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "minute_seeds", metavar="DIR",
                        help="where minute_seeds.json goes (runs/minute_seeds)")
    options = parser.parse_args()
    if options.seeds < 1 or options.steps < 1:
        parser.error("wanted: --seeds and --steps of at least 1")
    recipe = job.Recipe.small() if options.fast else job.Recipe(steps=options.steps)
    path = options.out / f"minute_seeds{'-fast' if options.fast else ''}.json"
    try:
        prepare(options.out)
        record = measure(dataclasses.replace(recipe, page=1), options.seeds, path)
    except KeyboardInterrupt:
        say("stopped; finished seeds are kept: call again to go on")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"minute_seeds: {error}")
        sys.exit(2)
    if options.json:
        print(json.dumps(plain(record), ensure_ascii=False))
        return
    show(record)
    say(f"{path.name} is in {nearby(options.out)}; {record['machine']}")


if __name__ == "__main__":
    main()
