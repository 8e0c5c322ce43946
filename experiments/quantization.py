"""Day 52 · A real model in fewer bits: what nearest, AWQ and GPTQ cost SmolLM2-135M.

    python experiments/quantization.py            # about ten minutes; goes on where it was stopped
    python experiments/quantization.py --fast     # a tiny random model, seconds, nothing is kept

The only file at hand holds weights of about four bits, so that file, widened to float32, is the
baseline; nothing here is compared with the weights as they were trained. The matrices of the
blocks are rounded again, in other ways than the file's; embedding and head stay as they are.
AWQ and GPTQ hear 4,096 tokens of Shakespeare; the price is nats a byte on other plays, and ± the
standard error of the difference over windows. One calibration text: small differences between
AWQ and GPTQ are no verdict. Writes quantization.json and quantization.svg.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from days.day45.capture import listen
from days.harness import figure, machine, print_table, save, say, write_atomically
from llm.data.text import load as load_text
from llm.functions.probability import log_softmax
from llm.generate.architecture import Architecture, shapes
from llm.generate.cache import KVCache
from llm.generate.decode import decode
from llm.generate.pretrained import load
from llm.kernels.int8 import INT8
from llm.quantize.awq import awq, divide_outputs
from llm.quantize.gptq import gptq
from llm.quantize.int4 import quantise

HERE = Path(__file__).with_suffix(".json")
GRIDS = {"4 bits, groups of 128": {"bits": 4, "group": 128},
         "3 bits, groups of 32": {"bits": 3, "group": 32}}
PARTS = ("qkv.w", "project.w", "up.w", "gate.w", "down.w")
ALPHAS = tuple(i / 10 for i in range(11))


def names(arch):
    """The matrices that are rounded."""
    return [f"blocks.{i}.{part}" for i in range(arch.L) for part in PARTS]


def by_nearest(arch, weights, seen, **grid):
    return {name: quantise(weights[name], **grid).dense() for name in names(arch)}


def by_gptq(arch, weights, seen, **grid):
    """All Hessians from the model as it is: a pass for each of 30 blocks would take too long."""
    return {name: gptq(weights[name], seen[name].hessian, **grid).dense() for name in names(arch)}


def by_awq(arch, weights, seen, **grid):
    """What the norms and `up` make is scaled. Values are not: three query heads share one."""
    new = {}
    for i in range(arch.L):
        part = lambda name, i=i: f"blocks.{i}.{name}"

        def best(name, w):
            return awq(w, seen[name].hessian, seen[name].mean, ALPHAS, **grid)       # noqa: B023

        down = best(part("down.w"), weights[part("down.w")])
        up = divide_outputs(weights[part("up.w")], down.s)
        both = best(part("up.w"), np.concatenate([up, weights[part("gate.w")]], axis=1))
        qkv = best(part("qkv.w"), weights[part("qkv.w")])
        dense = both.groups.dense()
        new |= {part("down.w"): down.groups.dense(), part("qkv.w"): qkv.groups.dense(),
                part("up.w"): dense[:, :arch.F], part("gate.w"): dense[:, arch.F:],
                part("project.w"): quantise(weights[part("project.w")], **grid).dense(),
                part("norm1.gain"): divide_outputs(weights[part("norm1.gain")], qkv.s),
                part("norm2.gain"): divide_outputs(weights[part("norm2.gain")], both.s)}
    return new


def in_bytes(arch, weights, seen):
    return {name: INT8.dense(INT8.pack(weights[name]), *weights[name].shape[::-1])
            for name in names(arch)}


def rows_of_the_table():
    """name -> (function, settings)."""
    rows = {"INT8": (in_bytes, {})}
    for grid, settings in GRIDS.items():
        for way, how in (("nearest", by_nearest), ("AWQ", by_awq), ("GPTQ", by_gptq)):
            rows[f"{grid}, {way}"] = (how, settings)
    return rows


def stored_bits(arch, bits=8, group=None):
    """Of all matrices: with two float16 a group, or one float32 an output where there is none."""
    must, _ = shapes(arch)
    return sum(bits * K * N + 32 * N * (-(-K // group) if group else 1)
               for K, N in (must[name] for name in names(arch)))


def windows(ids, T, count):
    starts = np.linspace(0, len(ids) - T - 1, count).astype(int)
    return [ids[s:s + T + 1] for s in starts]


def prices(arch, weights, parts):
    """Nats for the second half of each window."""
    found = []
    for ids in parts:
        half = len(ids) // 2
        z = log_softmax(decode(arch, weights, ids[:-1], KVCache(arch, len(ids)))[half:]
                        .astype(np.float64))
        found.append(float(-z[np.arange(len(z)), ids[half + 1:]].sum()))
    return np.array(found)


def real():
    """SmolLM2, its weights, calibration texts, windows to pay for, and their bytes."""
    model = load(report=say)
    corpus = load_text("shakespeare")
    calm, held = (np.asarray(model.tokenizer.encode(text[:200_000]))
                  for text in (corpus.train, corpus.validation))
    parts = windows(held, 512, 8)
    count = sum(len(model.tokenizer.table[i]) for ids in parts for i in ids[257:].tolist())
    return model.arch, model.weights(), windows(calm, 511, 8), parts, count


def tiny():
    """The same of a random model: for --fast."""
    rng = np.random.default_rng(0)
    arch = Architecture(V=60, T=64, C=36, L=2, H=6, K=2, D=6, F=40, norm="rms", rotary=100.0,
                        feed_forward="swiglu")
    weights = {name: (name.endswith("gain") + rng.standard_normal(shape) * (
        0.1 if len(shape) == 1 else shape[0] ** -0.5)).astype(np.float32)
               for name, shape in shapes(arch)[0].items()}
    ids = rng.integers(0, 60, 500)
    return arch, weights, windows(ids, 31, 3), windows(ids, 32, 5), 80


def measure(fast):
    arch, weights, calm, parts, count = tiny() if fast else real()
    kept = json.loads(HERE.read_text()) if not fast and HERE.exists() else {}
    found = kept.setdefault("found", {})
    seen, total = None, sum(weights[name].size for name in names(arch))

    def keep(where, key, value):
        where[key] = value
        if not fast:
            write_atomically(HERE, (json.dumps(kept, indent=1) + "\n").encode())

    if "base" not in kept:
        keep(kept, "base", prices(arch, weights, parts).tolist())
        keep(kept, "about", {"bytes": count, "weights": total, "windows": len(parts), "machine":
                             machine(), "calibration": sum(map(len, calm))})
    for name, (how, settings) in rows_of_the_table().items():
        if name in found:
            continue
        if seen is None and how in (by_awq, by_gptq):
            say("listening to the calibration text")
            seen = listen(arch, weights, calm)
        more = prices(arch, weights | how(arch, weights, seen, **settings), parts) - kept["base"]
        bits = stored_bits(arch, **settings)
        keep(found, name, {"bits": bits / total, "megabytes": bits / 8e6,
                           "more": float(more.sum() / count),
                           "error": float(more.std(ddof=1) * len(more) ** 0.5 / count)})
        say(f"{name}: {found[name]['more']:+.4f} ± {found[name]['error']:.4f} nats a byte")
    return kept


def table(kept):
    base, found = sum(kept["base"]) / kept["about"]["bytes"], kept["found"]
    return [["blocks", "bits", "MB", "nats a byte", "more than the file"]] + [
        ["the file, as float32", "", "", f"{base:.4f}", ""]] + [
        [name, f"{found[name]['bits']:.2f}", f"{found[name]['megabytes']:.0f}",
         f"{base + found[name]['more']:.4f}",
         f"{found[name]['more']:+.4f} ± {found[name]['error']:.4f}"]
        for name in rows_of_the_table()]


def draw(kept, path):
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots(figsize=(7.4, 4))
    rows, found = list(rows_of_the_table())[::-1], kept["found"]
    for y, name in enumerate(rows):
        one = found[name]
        ax.errorbar(one["more"], y, xerr=one["error"], fmt="o", color="#1b4965", capsize=2, ms=5)
    ax.axvline(0, color="#bbbbbb", lw=1)
    ax.set(yticks=range(len(rows)), xlabel="nats a byte more than the 4-bit file")
    ax.set_yticklabels([f"{name} ({found[name]['megabytes']:.0f} MB)" for name in rows])
    best = min(("nearest", "AWQ", "GPTQ"), key=lambda way: found[f"3 bits, groups of 32, {way}"][
        "more"])
    ax.set_title(f"SmolLM2's blocks rounded again: at 3 bits {best} costs least")
    save(fig, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true")
    fast = parser.parse_args().fast
    kept = measure(fast)
    print_table(table(kept), "held-out Shakespeare")
    if not fast:
        figure(draw, kept, HERE.with_suffix(".svg"))


if __name__ == "__main__":
    main()
