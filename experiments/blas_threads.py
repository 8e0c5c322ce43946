"""Day 38 · Has a product the same bits on one and on two threads, and what if it has not?

    python experiments/blas_threads.py [--fast] [--json] [--out DIR]

First the products of a GPT's step, in three sizes, forward and back, on one and on two threads of
OpenBLAS, for each of its kernels that this processor can run. For the cause, the rows of one
product are computed in two pieces on one thread: where may it be cut without changing a bit?
Then day 36's GPT is trained on NumPy, three seeds, twice on each number of threads. About three
minutes.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from days.day35 import job
from days.day36 import study
from days.harness import ROOT, machine, nearby, plain, prepare, print_table, say, write_atomically
from llm.tensors.roofline import Blas

KERNELS = ("Haswell", "SkylakeX", "Sandybridge")    # AVX2, which is Zen's too; AVX-512; AVX
SIZES = ((512, 48), (768, 128), (2048, 384))        # tokens B·T, channels C
SEEDS = 3


def factors(tokens, C):
    """The shapes (M, K, N) of a block's linear layers: outputs, gradients of inputs and weights."""
    for cin, cout in ((C, 3 * C), (C, C), (C, 4 * C), (4 * C, C)):
        yield from ((tokens, cin, cout), (tokens, cout, cin), (cin, tokens, cout))


def products():
    """{"kernel", "products": [rows: tokens, C, how many products, how many differ], "cuts"}."""
    blas, rng, rows = Blas(), np.random.default_rng(0), []
    normal = lambda *shape: rng.standard_normal(shape, dtype=np.float32)

    def on(threads, a, b):
        blas.set_threads(threads)
        return a @ b

    for tokens, C in SIZES:
        pairs = [(normal(M, K), normal(K, N)) for M, K, N in factors(tokens, C)]
        rows.append([tokens, C, len(pairs), sum(not np.array_equal(on(1, *pair), on(2, *pair))
                                                for pair in pairs)])
    a, b = normal(96, 64), normal(64, 64)
    whole = on(1, a, b)
    cuts = [i for i in range(1, len(a)) if np.array_equal(np.vstack([a[:i] @ b, a[i:] @ b]), whole)]
    return {"kernel": blas.kernel, "products": rows, "cuts": cuts}


def with_kernel(name):
    """`products` by an OpenBLAS told to use this kernel, or None where the processor cannot."""
    done = subprocess.run([sys.executable, __file__, "--products"], capture_output=True, text=True,
                          env={**os.environ, "OPENBLAS_CORETYPE": name, "PYTHONPATH": str(ROOT)})
    found = json.loads(done.stdout) if done.returncode == 0 else {}
    return found if found.get("kernel") == name else None


def train(corpus, recipe, seed, threads):
    """(losses of every step, validation loss) with the BLAS on so many threads throughout."""
    Blas().set_threads(threads)
    ids, held = study.encoded(corpus, 1, 30_000)
    run = study.Run(corpus, recipe, seed, ids)
    return run.go(recipe.steps), run.validate(held)


def runs(fast):
    """One seed a row: are repeated runs the same, when do others part, and how far?"""
    recipe = replace(study.recipe(fast), steps=20) if fast else study.recipe(False)
    corpus, rows = job.load_corpus("shakespeare", recipe), []
    for seed in range(SEEDS):
        one, again, two, twice = (train(corpus, recipe, seed, n) for n in (1, 1, 2, 2))
        apart = np.abs(np.subtract(one[0], two[0]))
        rows.append({"seed": seed, "repeated": [one == again, two == twice],
                     "same": one == two, "steps": recipe.steps, "largest": apart.max(),
                     "first": int(np.argmax(apart > 0)) + 1 if apart.any() else None,
                     "validation": [one[1], two[1]]})
    return rows


def show(record):
    print_table([["kernel", "tokens", "C", "products", "differ", "may be cut after rows"]] + [
        [k["kernel"], *row, " ".join(map(str, k["cuts"][:9]))]
        for k in record["kernels"] for row in k["products"]], "one and two threads")
    print_table([["seed", "1 = 1", "2 = 2", "1 = 2", "first step apart", "largest", "validation"]]
                + [[r["seed"], *r["repeated"], r["same"], r["first"], f"{r['largest']:.1e}",
                    " ".join(f"{v:.5f}" for v in r["validation"])] for r in record["runs"]],
                f"trained by {record['blas']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="twenty steps a run")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--products", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "blas_threads", metavar="DIR")
    options = parser.parse_args()
    if options.products:
        print(json.dumps(products()))
        return
    prepare(options.out)
    found = [with_kernel(name) for name in KERNELS]
    record = plain({"kernels": [k for k in found if k], "runs": runs(options.fast),
                    "blas": Blas().kernel, "fast": options.fast, "machine": machine()})
    write_atomically(options.out / "blas_threads.json",
                     (json.dumps(record, indent=1) + "\n").encode())
    if options.json:
        print(json.dumps(record))
        return
    show(record)
    say(f"blas_threads.json is in {nearby(options.out)}")


if __name__ == "__main__":
    main()
