"""Day 38 · A minute of training: which recipe predicts unseen Shakespeare best?

    python experiments/minute.py --recipe NAME [--seeds 3] [--seconds 60 | --steps N] [--fast]
    python experiments/minute.py --list

Trains on the first nine tenths for 60 seconds, everything learned from the text included (byte
pairs, counts), compilation and scoring apart. Then it scores all of the held-out tenth, as day 35
does: sliding windows, each token after at least T/2 others, in nats per character. Settings were
chosen on the first half of the held-out text, so the second half is shown beside the whole.

Finished seeds are kept in experiments/minute.json, and notes/minute.md gets its leaderboard from
there. Stop with Ctrl-C and call again to go on. With --steps a run does not depend on how busy
the machine is, and gives the same number again. Left out: keeping the trained model.
"""

import argparse
import dataclasses
import datetime
import itertools
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from days.day35 import job
from days.harness import (
    ROOT,
    UsageError,
    kernels,
    machine,
    nearby,
    plain,
    print_table,
    progress,
    say,
    write_atomically,
)
from experiments.minute_counts import Prior
from experiments.minute_memory import Memory, hashed
from experiments.minute_model import MinuteGPT
from experiments.minute_recipes import RECIPES, Recipe, small
from llm.data.batches import random_windows, sliding_windows
from llm.grad.tensor import no_grad
from llm.tokens.fast_bpe import FastBPE
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine

NOTE, KEPT = ROOT / "notes" / "minute.md", ROOT / "experiments" / "minute.json"
MARKS = "<!-- leaderboard -->", "<!-- /leaderboard -->"


class Text:
    """Tokens (N,) and all that a recipe looks up at each position: rows of memory, counts."""

    def __init__(self, recipe, ids, prior, counted=False):
        """counted: these are the ids that `prior` has counted."""
        self.ids, self.prior = np.asarray(ids, np.int32), prior
        self.rows = hashed(ids, recipe.memory, recipe.rows) if recipe.memory else None
        self.earlier, self.leave_out = recipe.earlier, counted and recipe.leave_out
        if prior:
            self.places = prior.own if counted else prior.places(ids)
            self.part = prior.part_of if counted else np.zeros(len(ids), np.int32)

    def at(self, here, memory):
        """here (B, T) positions -> the ids there, and the model's other inputs by name."""
        extra = {"before": [self.ids[np.maximum(here - back, 0)]
                            for back in range(1, self.earlier + 1)]}
        if memory is not None:
            extra["rows"] = memory.read(self.rows[here])
        if self.prior is not None:                # the target of `here` stands one further on
            extra["prior"] = self.prior.log_p(*(p[here + 1] for p in (*self.places, self.part)),
                                              self.leave_out)
        return self.ids[here], extra


class Both:
    """One optimizer for `fit`: AdamW for the network, and the memory's own rule at its own rate."""

    def __init__(self, adam, memory, recipe):
        self.adam, self.memory, self.recipe = adam, memory, recipe

    def step(self, rate):
        self.adam.step(rate)
        if self.memory is not None:
            r = self.recipe
            share = r.memory_floor + (1 - r.memory_floor) * rate / r.rate
            self.memory.step(r.memory_rate * share)


def passes(n, B, T, rng, begin=lambda: None):
    """Yield (B, T + 1) positions below n, for ever: no target twice in a pass over the text.

    begin() is called at the start of each pass.

    Windows start T apart from an offset that is drawn anew for each pass; a last batch that would
    not be full is left out.
    """
    while True:
        begin()
        starts = np.arange(rng.integers(0, min(T, n - T)), n - T, T)
        rng.shuffle(starts)
        for i in range(0, max(len(starts) - B, 0) + 1, B):
            yield starts[i:i + B, None] + np.arange(T + 1)


def windows(recipe, n, rng, memory=None, steps=None):
    """The batches of a run, as positions (B, T) of inputs and of targets.

    A memory that forgets does so at the start of each pass. What the steps hold beyond whole
    passes is then read first, so that the run ends with a whole pass.
    """
    if not recipe.whole:
        return random_windows(np.arange(n), recipe.B, recipe.T, rng)
    begin = memory.forget if recipe.forget else lambda: None
    all_of_them = passes(n, recipe.B, recipe.T, rng, begin)
    skipped = -steps % (n // recipe.T // recipe.B) if recipe.forget else 0
    return ((w[:, :-1], w[:, 1:]) for w in itertools.islice(all_of_them, skipped, None))


@dataclasses.dataclass
class Trained:
    """What a run leaves."""

    recipe: object
    tokenizer: object
    prior: object
    model: object
    memory: object
    steps: int
    tokens: int
    prepared: float         # seconds of learning byte pairs and counting
    seconds: float          # of everything


def train(recipe, text, seed, seconds=None, steps=None):
    """Learn from `text` for so many seconds, or so many steps. KeyboardInterrupt on Ctrl-C."""
    began, rng = time.perf_counter(), np.random.default_rng(seed)
    tokenizer = FastBPE.train(text, recipe.V)
    ids = tokenizer.encode(text)
    prior = Prior(ids, recipe.counts, recipe.V, recipe.parts) if recipe.counts else None
    if not recipe.network:
        passed = time.perf_counter() - began
        return Trained(recipe, tokenizer, prior, None, None, 0, len(ids), passed, passed)
    data = Text(recipe, ids, prior, counted=True)
    model = MinuteGPT(recipe, recipe.V, rng)
    parameters = model.named_parameters()
    memory = Memory(recipe.memory, recipe.rows, recipe.C) if recipe.memory else None
    adam = AdamW(parameters, betas=(0.9, recipe.beta2), decay=recipe.decay)
    numbers, drops = itertools.count(), np.random.default_rng([seed, 1])

    def loss(batch):
        inputs, extra = data.at(batch[0], memory)
        deep = next(numbers) >= recipe.first * len(ids) / (recipe.B * recipe.T)
        return (model.loss(inputs, data.ids[batch[1]], deep=deep, rng=drops, **extra),
                batch[1].size)

    prepared = time.perf_counter() - began
    left = None if steps is not None else max(seconds - prepared, 0.0)
    with progress(steps or round(left), f"seed {seed}, training") as tick:
        shown = [0.0]

        def show(step):
            tick(1 if steps else step.seconds - shown[0], f"loss {step.loss:.2f}")
            shown[0] = step.seconds

        run = fit(parameters, loss, windows(recipe, len(ids), rng, memory, steps),
                  Both(adam, memory, recipe),
                  WarmupCosine(recipe.rate, recipe.warmup, recipe.floor * recipe.rate),
                  steps=steps, seconds=left, clip=recipe.clip, hooks=[show])
    if run.interrupted:
        raise KeyboardInterrupt
    return Trained(recipe, tokenizer, prior, model, memory, run.steps, run.tokens, prepared,
                   time.perf_counter() - began)


def nats(done, text):
    """Nats (N,) of each token of `text`, none for the first; and each token's characters (N,)."""
    ids = np.asarray(done.tokenizer.encode(text))
    sizes = np.array([len(done.tokenizer.decode([i])) for i in range(done.recipe.V)])
    paid, data = np.zeros(len(ids)), Text(done.recipe, ids, done.prior)
    with no_grad(), progress(len(ids), "scoring") as tick:
        T = done.recipe.T
        for here, target in sliding_windows(np.arange(len(ids)), 64, T, T // 2):
            inputs, extra = data.at(here, done.memory)
            kept = target >= 0
            logits = (done.model(inputs, **extra).data if done.recipe.network
                      else extra["prior"][0])[kept]
            top = logits.max(axis=-1)
            whole = top + np.log(np.exp(logits - top[:, None]).sum(axis=-1))
            paid[target[kept]] = whole - logits[np.arange(len(logits)), ids[target[kept]]]
            tick(int(kept.sum()))
    return paid, sizes[ids]


def score(done, text):
    """Nats per character of the held-out text: its first half, its second, all of it."""
    paid, sizes = nats(done, text)
    split = int(np.searchsorted(np.cumsum(sizes), len(text) / 2))
    return {name: round(float(paid[part].sum() / sizes[part].sum()), 5)
            for name, part in (("first", slice(1, split)), ("second", slice(split, None)),
                               ("all", slice(1, None)))}


def familiar(done, corpus, n=20_000):
    """Nats a token that counting pays at n places of the training text, in the three ways in which
    a network could be shown the counts, and at n places of the held-out text."""
    prior, rng = done.prior, np.random.default_rng(0)
    held_out = np.asarray(done.tokenizer.encode(corpus.validation))
    train = np.asarray(done.tokenizer.encode(corpus.train))

    def pays(ids, places, part, leave_out=False):
        total = 0.0
        for at in np.array_split(rng.integers(prior.order, len(ids), n), 20):
            log_p, _ = prior.log_p(*(p[at] for p in (*places, part)), leave_out)
            total -= float(log_p[np.arange(len(at)), ids[at]].sum())
        return round(total / n, 4)

    nowhere = np.zeros(len(train), np.int32)
    return {"counts that hold the answer": pays(train, prior.own, nowhere),
            "without the one event": pays(train, prior.own, nowhere, True),
            "without its sixteenth of the text": pays(train, prior.own, prior.part_of),
            "held-out text": pays(held_out, prior.places(held_out), nowhere[:len(held_out)])}


def measure(name, recipe, seeds, seconds, steps, path):
    """Run each seed that `path` does not hold yet, and keep it there as soon as it is scored."""
    corpus = job.load_corpus("shakespeare", recipe)
    budget = f"{steps:,} steps" if steps is not None else f"{seconds:g} s"
    budget = budget if recipe.network else "counting only"
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    facts, usual = ({k: v for k, v in plain(dataclasses.asdict(r)).items() if k != "why"}
                    for r in (recipe, Recipe()))
    entry = record.get(key := f"{name}, {budget}", {})
    if usual | entry.get("facts", {}) != facts:          # what was no part yet was as usual
        entry = {"name": name, "budget": budget, "runs": []}
    entry |= {"facts": facts, "why": recipe.why}
    with kernels():
        for seed in range(seeds):
            if seed in [run["seed"] for run in entry["runs"]]:
                continue
            train(dataclasses.replace(small(recipe), C=recipe.C, H=recipe.H),
                  corpus.train[:60_000], 0, steps=1)                  # compiles what is not yet
            done = train(recipe, corpus.train, seed, seconds, steps)
            run = {"seed": seed, "steps": done.steps, "tokens": done.tokens,
                   "parameters": done.model.count_parameters() if done.model else 0,
                   "nats": score(done, corpus.validation)}
            if not recipe.network:
                run["familiar"] = familiar(done, corpus)
            elif steps is None:
                run |= {"prepared": round(done.prepared, 1), "seconds": round(done.seconds, 1)}
            entry["runs"].append(run)
            entry |= {"date": datetime.date.today().isoformat(), "machine": machine()}
            write_atomically(path, (json.dumps({**record, key: entry}, indent=1) + "\n").encode())
            say(f"{key}, seed {seed}: {run['nats']}")
    return {**record, key: entry}


def rows(record):
    """The leaderboard, best first: one row an entry."""
    table = [["nats per character", "first half", "second half", "recipe", "goal", "length",
              "steps", "seeds", "parts of days ≤ 35", "date"]]
    for entry in sorted(record.values(), key=lambda e: mean(e, "all")):
        runs = entry["runs"]
        values = [run["nats"]["all"] for run in runs]
        spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        table.append([f"{mean(entry, 'all'):.4f}{spread}", f"{mean(entry, 'first'):.4f}",
                      f"{mean(entry, 'second'):.4f}", entry["name"], entry["facts"]["goal"],
                      entry["budget"], f"{statistics.mean(r['steps'] for r in runs):,.0f}",
                      str(len(runs)), "yes" if entry["facts"]["day35"] else "no", entry["date"]])
    return table


def mean(entry, part):
    return statistics.mean(run["nats"][part] for run in entry["runs"])


def leaderboard(record):
    """The generated block of notes/minute.md: the table, then each entry's sentence."""
    head, *body = rows(record)
    lines = [" | ".join(cells).join(("| ", " |")) for cells in (head, ["---"] * len(head), *body)]
    shown = [run["familiar"] for e in record.values() for run in e["runs"] if "familiar" in run]
    if shown:
        lines += ["", "What counting pays, in nats a token:", "", "| counts | nats a token |",
                  "| --- | --- |", *(f"| {k} | {v:.2f} |" for k, v in shown[0].items())]
    why = {entry["name"]: entry["why"] for entry in record.values()}
    machines = sorted({entry["machine"] for entry in record.values()})
    return "\n".join([MARKS[0], "", *lines, "", *(f"- **{name}**: {why[name]}." for name in
                     dict.fromkeys(row[3] for row in body)), "",
                     *(f"Machine: {name}." for name in machines), "", MARKS[1]])


def write_note(record, path=NOTE):
    """Put the leaderboard between its marks in the note."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    write_atomically(path, (before + leaderboard(record) + after).encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", choices=RECIPES, help="which one; see --list")
    parser.add_argument("--list", action="store_true", help="name the recipes and what they try")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0 (1)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of learning a seed (60)")
    parser.add_argument("--steps", type=int, help="instead of seconds: the same on any machine")
    parser.add_argument("--fast", action="store_true", help="tiny, 20 steps; changes no note")
    parser.add_argument("--out", type=Path, help="keep runs in this file and leave the note alone")
    options = parser.parse_args()
    if options.list:
        print_table([["recipe", "goal", "what it tries"],
                     *([name, r.goal, r.why] for name, r in RECIPES.items())])
        return
    if not options.recipe or options.seeds < 1 or not 0 < options.seconds < 1e6 or (
            options.steps is not None and options.steps < 1):
        parser.error("wanted: --recipe NAME (or --list), with --seeds, --steps of at least 1")
    recipe = RECIPES[options.recipe]
    if recipe.forget and not (options.steps or options.fast):
        parser.error(f"{options.recipe} must know its length: give --steps")
    path = options.out or (ROOT / "runs" / "minute-fast.json" if options.fast else KEPT)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = measure(options.recipe, small(recipe) if options.fast else recipe, options.seeds,
                     options.seconds, options.steps or (20 if options.fast else None), path)
    print_table([row[:1] + row[2:8] for row in rows(record)], "held-out Shakespeare")
    if path == KEPT:
        write_note(record)
    say(f"runs are kept in {nearby(path)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; finished seeds are kept: call again to go on")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"minute: {error}")
        sys.exit(2)
