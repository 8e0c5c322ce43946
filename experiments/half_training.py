"""Day 38 · Does training on bfloat16 products end where training in float32 ends?

    python experiments/half_training.py [--fast] [--out DIR]

A GPT (B 12, T 64, L 4, H 4, C 128) is trained for 200 steps on Shakespeare's characters, from each
of three seeds and in both arithmetics. A seed decides the start and the order of the data, so a
pair of runs differs in nothing but the arithmetic. The loss is the mean over fixed windows of the
held-out tenth. As a control, every seed is also trained in float32 with the weights of its start
changed by one part in ten million: what rounding of any kind does to a run, bfloat16 or not.
Writes DIR/half_training.json (DIR: experiments).
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))   # found from anywhere

from days.harness import machine, print_table, progress, write_atomically  # noqa: E402
from llm.data.batches import random_windows  # noqa: E402
from llm.data.text import load  # noqa: E402
from llm.models.gpt import GPT, GPTConfig  # noqa: E402
from llm.tokens.chars import CharTokenizer  # noqa: E402
from llm.train import fast_half  # noqa: E402
from llm.train.adam import AdamW  # noqa: E402
from llm.train.fast import fast  # noqa: E402
from llm.train.loop import fit  # noqa: E402
from llm.train.schedule import WarmupCosine  # noqa: E402

KINDS = {"float32": (fast, 0.0), "bfloat16 products": (fast_half.fast, 0.0),
         "float32, start changed by 1e-7": (fast, 1e-7)}


def trained(train, held, V, seed, steps, context, change):
    """The held-out loss (nats a character) after `steps` steps."""
    B, T = 12, 64
    model = GPT(GPTConfig(V=V, T=T, C=128, L=4, H=4), np.random.default_rng(seed))
    parameters = model.named_parameters()
    noise = np.random.default_rng(seed + 1000)
    for p in parameters.values():
        p.data *= (1 + change * noise.standard_normal(p.data.shape)).astype(np.float32)
    batches = random_windows(train, B, T, np.random.default_rng(seed + 2000))
    with context():
        run = fit(parameters, lambda batch: (model.loss(*batch), batch[1].size), batches,
                  AdamW(parameters, decay=0.01), WarmupCosine(3e-3, warmup=steps // 10),
                  steps=steps)
    if run.steps < steps:                          # Ctrl-C ends `fit` early and without an error
        raise KeyboardInterrupt
    with fast():                                   # all are judged in float32
        windows = random_windows(held, 50, T, np.random.default_rng(0))
        return float(np.mean([model.loss(*next(windows)).data for _ in range(8)]))


def measure(seeds, steps):
    """{kind: [loss of each seed]} and the differences from float32."""
    text = load("shakespeare").text
    tokenizer = CharTokenizer.from_text(text)
    ids = np.array(tokenizer.encode(text), np.int32)
    cut = len(ids) * 9 // 10
    losses = {kind: [] for kind in KINDS}
    with progress(seeds * len(KINDS), "training") as tick:
        for seed in range(seeds):
            for kind, (context, change) in KINDS.items():
                losses[kind].append(trained(ids[:cut], ids[cut:], tokenizer.vocab_size, seed, steps,
                                            context, change))
                tick()
    right = np.array(losses["float32"])
    apart = {kind: (np.array(found) - right).tolist() for kind, found in losses.items()}
    return {"steps": steps, "losses": losses, "differences": apart,
            "spread_of_seeds": float(right.std(ddof=1)), "machine": machine(),
            "largest": {kind: float(np.abs(found).max()) for kind, found in apart.items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="2 seeds of 10 steps; nothing is kept")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="DIR",
                        help="where half_training.json goes (experiments)")
    options = parser.parse_args()
    try:
        record = measure(*((2, 10) if options.fast else (3, 200)))
    except KeyboardInterrupt:
        sys.exit("stopped; nothing is written")
    rows = [["nats a character", *(f"seed {i}" for i in range(len(record["losses"]["float32"])))]]
    print_table(rows + [[kind, *(f"{loss:.4f}" for loss in found)]
                        for kind, found in record["losses"].items()])
    if not options.fast:
        options.out.mkdir(parents=True, exist_ok=True)
        write_atomically(options.out / "half_training.json", json.dumps(record, indent=1).encode())


if __name__ == "__main__":
    main()
