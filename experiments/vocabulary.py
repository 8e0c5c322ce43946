"""Day 35 · How large should a vocabulary be? Compression, sequence length, cost, and loss per byte.

    python experiments/vocabulary.py [--seeds 2] [--fast] [--json] [--out DIR]

The same small GPT with day 35's loop and eight vocabularies: characters, bytes, and byte-pair
vocabularies trained, like the model, on the first nine tenths. What is held equal: the FLOPs of
training, from which the number of steps follows, so the machine and its load play no part; C and L;
the context in bytes and a batch in bytes. Finished runs are kept in DIR/vocabulary.json: stop with
Ctrl-C and call again to go on.

Loss is compared per byte. By the chain rule ln P(text) = Σ ln P(token | tokens before), so what all
tokens cost together is what the text costs, however it was cut; divided by its bytes, the same for
all, it can be compared. Loss per token cannot: a token of three bytes is three guesses in one. (The
P here is that of the text *in its usual cut*. Other cuts spell the same text and the model gives
them a little too; their sum would be slightly higher, so each figure is an upper bound.)

Training takes 6 FLOPs for each weight that is multiplied, 2 forward and 4 backward, and 12LTC for
attention: 6(12LC² + VC) + 12LTC a token. The tied table counts once, as the head: looking a row up
is free. Divided by bytes a token this is the price of a byte.
"""

import argparse
import dataclasses
import json
import statistics
import sys
from pathlib import Path

import numpy as np

from days.day35 import job
from days.harness import (
    ROOT,
    UsageError,
    figure,
    kernels,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    progress,
    save,
    say,
    write_atomically,
)
from llm.data.batches import random_windows
from llm.models.gpt import count_flops
from llm.tokens.chars import CharTokenizer
from llm.tokens.fast_bpe import FastBPE
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine

LN2 = float(np.log(2))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is held equal; runs are kept only where all of it is the same."""

    corpus: str = "shakespeare"
    characters: int = 10**9              # of the corpus, at most
    validate: int = 200_000              # characters of the held-out tenth, at most
    sizes: tuple = (256, 512, 1024, 2048, 4096, 8192, 16384)     # besides the characters
    budgets: tuple = (7.5e11, 3e12)      # FLOPs of training
    context: int = 128                   # bytes that a full window holds
    B: int = 8                           # windows a batch
    C: int = 96
    L: int = 3
    rate: float = 3e-3                   # the rest is day 35's recipe

    @classmethod
    def small(cls):
        """For --fast: everything happens, on little."""
        return cls(characters=100_000, sizes=(256, 512), budgets=(1e9, 2e9), context=32, C=24, L=1)

    def same(self):
        """What must agree for a run to be kept; which sizes and budgets there are need not."""
        record = plain(dataclasses.asdict(self))
        return {name: record[name] for name in record if name not in ("sizes", "budgets")}


class Vocabulary:
    """One tokenizer, the corpus cut by it, and what follows from that alone."""

    def __init__(self, plan, corpus, size):
        self.tokenizer = (CharTokenizer.from_text(corpus.text) if size is None
                          else FastBPE.train(corpus.train, size))
        unseen = corpus.validation[:plan.validate]
        self.train, held_out = map(self.tokenizer.encode, (corpus.train, unseen))
        self.held_out = np.concatenate([self.train[-1:], held_out])    # so that all are predicted
        self.bytes = len(unseen.encode())
        per_token = len(corpus.train.encode()) / len(self.train)
        self.recipe = job.Recipe(B=plan.B, T=max(1, round(plan.context / per_token)), C=plan.C,
                                 L=plan.L, rate=plan.rate)
        state = self.state(0)
        config, N = state.model.config, state.model.count_parameters()
        V, token = config.V, 3 * count_flops(config)
        self.facts = {
            "kind": "characters" if size is None else "bytes" if size == 256 else "byte pairs",
            "V": V, "bytes_per_token_train": per_token,
            "bytes_per_token_held_out": self.bytes / len(held_out), "T": config.T, "parameters": N,
            "embedding_parameters": V * config.C, "embedding_share": V * config.C / N,
            "flops_per_token": token, "flops_per_byte": token / per_token,
            "head_flops_per_byte": 6 * V * config.C / per_token,
            "attention_flops_per_byte": 12 * config.L * config.T * config.C / per_token,
            "never_in_training": int((np.bincount(self.train, minlength=V) == 0).sum())}

    def state(self, seed):
        """A new model and optimizer."""
        return job.assemble(self.recipe, self.tokenizer, np.random.default_rng(seed))

    def steps(self, budget):
        """How many steps so many FLOPs buy."""
        return max(1, round(budget / (self.facts["flops_per_token"] * self.recipe.B
                                      * self.recipe.T)))

    def run(self, budget, seed, tick):
        """Train and validate: what is kept of it. KeyboardInterrupt if Ctrl-C ended it early."""
        state, recipe, steps = self.state(seed), self.recipe, self.steps(budget)

        def loss(batch):
            return state.model.loss(*batch), batch[1].size

        done = fit(state.model.named_parameters(), loss,
                   random_windows(self.train, recipe.B, recipe.T, state.rng), state.optimizer,
                   WarmupCosine(recipe.rate, min(recipe.warmup, steps // 5 + 1)), steps=steps,
                   clip=recipe.clip, hooks=[lambda step: tick(
                       budget / steps / 1e9, f"V {self.facts['V']:,} loss {step.loss:.2f}")])
        if done.interrupted:
            raise KeyboardInterrupt
        nats = job.evaluate(state, self.held_out)
        return {"V": self.facts["V"], "budget": budget, "seed": seed, "steps": steps,
                "bytes_seen": done.tokens * self.facts["bytes_per_token_train"],
                "nats_per_token": nats,
                "nats_per_byte": per_byte(nats, len(self.held_out) - 1, self.bytes)}


def per_byte(nats_per_token, tokens, size):
    """What all tokens cost together, over the bytes of the text."""
    return nats_per_token * tokens / size


def measure(plan, seeds, path):
    """Make every run that `path` does not hold yet, written after each; returns the record."""
    corpus = job.load_corpus(plan.corpus, job.Recipe(T=plan.context, characters=plan.characters))
    plan = dataclasses.replace(plan, corpus=corpus.name, characters=len(corpus.text))
    record = kept(path, plan)
    vocabularies = []
    with progress(1 + len(plan.sizes), "cutting the text") as tick:
        for size in (None, *plan.sizes):
            vocabularies.append(Vocabulary(plan, corpus, size))
            tick()
    record["vocabularies"] = [vocabulary.facts for vocabulary in vocabularies]
    known = {(run["V"], run["budget"], run["seed"]) for run in record["runs"]}
    todo = [(v, budget, seed) for seed in range(seeds) for budget in plan.budgets
            for v in vocabularies if (v.facts["V"], budget, seed) not in known]
    with kernels(), progress(sum(budget for _, budget, _ in todo) / 1e9, "GFLOP") as tick:
        for vocabulary, budget, seed in todo:
            record["runs"].append(vocabulary.run(budget, seed, tick))
            write(record, path)
    write(record, path)
    return record


def kept(path, plan):
    """The runs of an earlier call. UsageError if they were made in another way."""
    if not path.exists():
        return {"settings": plan.same(), "machine": machine(), "runs": []}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        same = record["settings"] == plan.same()
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise UsageError(f"{nearby(path)} holds runs of other settings, or is damaged: delete it, "
                         "or choose another --out")
    return record


def write(record, path):
    """The whole record, or the old file."""
    text = json.dumps(plain(record), indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode())


def summary(record):
    """{budget: [(V, mean nats per byte, lowest, highest)]} over the seeds."""
    groups = {}
    for run in record["runs"]:
        groups.setdefault(run["budget"], {}).setdefault(run["V"], []).append(run["nats_per_byte"])
    return {budget: [(V, statistics.mean(all_), min(all_), max(all_))
                     for V, all_ in sorted(groups[budget].items())] for budget in sorted(groups)}


def tables(record):
    """Two: what a vocabulary costs, and what it brings."""
    costs = [["V", "bytes a token", "held out", "T", "V·C", "of all", "MFLOP a byte", "head"]]
    for v in record["vocabularies"]:
        costs.append([f"{v['V']:,}", f"{v['bytes_per_token_train']:.2f}",
                      f"{v['bytes_per_token_held_out']:.2f}", v["T"],
                      f"{v['embedding_parameters']:,}", f"{v['embedding_share']:.0%}",
                      f"{v['flops_per_byte'] / 1e6:.2f}",
                      f"{v['head_flops_per_byte'] / v['flops_per_byte']:.0%}"])
    brings = [["V", "TFLOP", "steps", "MB read", "nats a token", "nats a byte",
               "seeds apart", "bits a byte"]]
    for budget, rows in summary(record).items():
        for V, mean, low, high in rows:
            runs = [r for r in record["runs"] if r["V"] == V and r["budget"] == budget]
            brings.append([f"{V:,}", f"{budget / 1e12:g}", f"{runs[0]['steps']:,}",
                           f"{runs[0]['bytes_seen'] / 1e6:.2f}",
                           f"{statistics.mean(r['nats_per_token'] for r in runs):.3f}",
                           f"{mean:.3f}", f"{high - low:.3f}", f"{mean / LN2:.3f}"])
    return costs, brings


def finding(record):
    """One sentence, from the numbers."""
    said = []
    for budget, rows in summary(record).items():
        V, mean, *_ = min(rows, key=lambda row: row[1])
        said.append(f"{budget / 1e12:g} TFLOP: V = {V:,} ({mean:.3f} nats/byte)")
    return "best with " + ", with ".join(said)


def show(record):
    costs, brings = tables(record)
    settings = record["settings"]
    print_table(costs, f"{settings['corpus']}, windows of {settings['context']} bytes, "
                       f"C {settings['C']}, L {settings['L']}")
    print_table(brings, "held-out text after equal FLOPs")
    print(finding(record))


def draw(record, path):
    """Left: the price of a byte. Right: the loss of a byte."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.2, 4.0), width_ratios=[1, 1.15])
    facts = record["vocabularies"]
    names = [f"{v['V']:,}" for v in facts]
    head, attention, total = (np.array([v[name] for v in facts]) / 1e6 for name in (
        "head_flops_per_byte", "attention_flops_per_byte", "flops_per_byte"))
    bottom = 0 * total
    for part, label, color in ((total - head - attention, "blocks", "#1f5a99"),
                               (attention, "attention's scores", "#9ec5e8"),
                               (head, "head", "#c4501b")):
        left.bar(names, part, 0.7, bottom, label=label, color=color)
        bottom = bottom + part
    left.legend()
    left.set(xlabel="vocabulary", ylabel="MFLOP of training per byte",
             ylim=(0, 1.2 * total.max()))
    left.tick_params(axis="x", rotation=45)
    for (budget, rows), color in zip(summary(record).items(), ("#8a8a8a", "#1f5a99", "#222222")):
        sizes, mean, low, high = map(np.array, zip(*rows))
        right.errorbar(sizes, mean, (mean - low, high - mean), color=color, marker="o", ms=4,
                       capsize=3, lw=1.3)
        best = int(mean.argmin())
        right.plot(sizes[best], mean[best], "o", ms=11, mfc="none", color=color)
        right.annotate(f"{budget / 1e12:g} TFLOP", (sizes[-1], mean[-1]), (0, 10),
                       textcoords="offset points", color=color, ha="right")
    right.set_xscale("log", base=2)
    right.set_xticks([v["V"] for v in facts], names, rotation=45)
    right.set(xlabel="vocabulary", ylabel="held-out loss, nats per byte")
    best = [min(rows, key=lambda row: row[1])[0] for rows in summary(record).values()]
    where = (f"{best[0]:,} on each budget" if len(set(best)) == 1 else
             f"{best[0]:,} on the smallest budget and {best[-1]:,} on the largest")
    cheap = facts[int(total.argmin())]["V"]
    fig.suptitle(f"A byte is cheapest with {cheap:,} tokens; for the same FLOPs the loss per byte "
                 f"is lowest\nwith {where} (bars: seeds)", x=0.01, ha="left", fontsize=11)
    save(fig, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2, help="runs of each kind (2)")
    parser.add_argument("--fast", action="store_true", help="tiny sizes, a few seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "vocabulary", metavar="DIR",
                        help="where vocabulary.json and .svg go; runs that are there are kept "
                             "(runs/vocabulary)")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error("--seeds must be 1 or more")
    plan = Plan.small() if options.fast else Plan()
    path = options.out / ("vocabulary-fast.json" if options.fast else "vocabulary.json")
    try:
        prepare(options.out)
        record = measure(plan, options.seeds, path)
    except KeyboardInterrupt:
        say(f"stopped; finished runs are in {nearby(path)}: call again to go on" if path.exists()
            else "stopped before the first run was finished; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"vocabulary: {error}")
        sys.exit(2)
    figure(draw, record, path.with_suffix(".svg"))
    if options.json:
        print(json.dumps(plain(record), ensure_ascii=False))
        return
    show(record)
    say(f"{path.name} and {path.stem}.svg are in {nearby(options.out)}")


if __name__ == "__main__":
    main()
