"""Day 45 · The reader's GPT in four bits: what each way costs in nats, bytes and time."""

from dataclasses import dataclass

import numpy as np

from days.day35.trained import trained
from days.day43.models import Model, large
from days.day45.draw import draw
from days.day45.layers import layers
from days.day45.models import by_awq, by_gptq, names, rounded, untied, with_groups
from days.day45.score import calibration, characters, mean_and_error, prices, windows
from days.day45.speed import speeds
from days.harness import main, print_table, progress
from llm.generate.architecture import gpt_weights
from llm.kernels.int4 import INT4
from llm.kernels.int8 import INT8
from llm.kernels.matvec import FLOAT32

FORMATS = {"float32": FLOAT32, "INT8": INT8, "INT4": INT4}
WAYS = {"GPTQ": (by_gptq, {}), "GPTQ, fixed grids": (by_gptq, {"static": True}),
        "GPTQ, act-order": (by_gptq, {"act_order": True}), "AWQ": (by_awq, {})}


@dataclass(frozen=True)
class Result:
    corpus: str
    weights: int          # in matrices, the head included
    characters: int       # paid for, of the second half of the held-out text
    windows: int
    calibration: int      # tokens in each calibration text
    float32: float        # nats a character
    rows: list            # [way, bits, bytes, [[nats more, its standard error] a calibration]]
    layers: list          # [matrix, loudest input over the median, α, AWQ's error, GPTQ's]
    speeds: list          # [model, [[format, bytes, tokens a second], …]]


def measure(fast, seed):
    reader = trained(fast)
    arch, weights = gpt_weights(reader.model.state_dict(), reader.config)
    weights = untied(weights)
    ids = np.array(reader.tokenizer.encode(reader.corpus.validation))
    ids = ids[len(ids) // 2:]
    parts, seeds = windows(arch, ids, 40 if fast else 250), range(seed, seed + (1 if fast else 3))
    texts = [calibration(reader, s, 16 if fast else 64) for s in seeds]
    count = characters(reader.tokenizer, arch, parts)
    base = prices(arch, weights, parts)

    def more(groups, changed):
        there = with_groups(weights | changed, groups)
        return list(mean_and_error(prices(arch, there, parts) - base, count))

    in_bytes = {name: INT8.dense(INT8.pack(weights[name]), *weights[name].shape[::-1])
                for name in names(arch)}
    rows = [["INT8", 8, None, [more({}, in_bytes)]],
            ["INT4, nearest", 5, None, [more(*rounded(arch, weights))]],
            ["INT4, nearest, symmetric", 4.5, None, [more(*rounded(arch, weights,
                                                                   symmetric=True))]]]
    with progress(len(WAYS) * len(seeds), "rounding") as tick:
        for way, (how, settings) in WAYS.items():
            found = []
            for one in texts:
                found.append(more(*how(arch, weights, one, **settings)))
                tick()
            rows.append([f"INT4, {way}", 5, None, found])
    by_layer = layers(arch, weights, texts[0], calibration(reader, 1000 + seed, len(texts[0])))
    mine = Model("the reader's GPT", arch, weights, ids.tolist())
    times = []
    with progress(18, "timing") as tick:
        for model in (mine, large(fast, np.random.default_rng(seed))):
            times.append([model.name, speeds(model, FORMATS, min(arch.T, model.arch.T) - 28,
                                             3 if fast else 9, tick)])
    size = {name: size for name, size, _ in times[0][1]}
    for row in rows:
        row[2] = size[row[0].split(",")[0]]
    total = sum(weights[name].size for name in names(arch))
    return Result(reader.corpus.name, total, count, len(parts), sum(map(len, texts[0])),
                  base.sum() / count, [["float32", 32, size["float32"], [[0.0, 0.0]]], *rows],
                  by_layer, times)


def table(result):
    rows = [["weights", "bits", "kB", "nats a character", "more than float32", "calibrations"]]
    for way, bits, size, found in result.rows:
        mean, error = np.mean(found, axis=0)
        spread = [m for m, _ in found]
        rows.append([way, f"{bits:g}", f"{size / 1e3:,.0f}", f"{result.float32 + mean:.4f}",
                     f"{mean:+.4f} ± {error:.4f}" if way != "float32" else "",
                     f"{min(spread):+.4f} to {max(spread):+.4f}" if len(found) > 1 else ""])
    return rows


def speed_table(result):
    """Bytes and tokens a second, a row for each format."""
    rows = [["format", *(f"{name}, {part}" for name, _ in result.speeds
                         for part in ("MB", "tokens/s"))]]
    return rows + [[name, *(text for _, found in result.speeds for text in (
        f"{found[i][1] / 1e6:,.1f}", f"{found[i][2]:,.0f}"))] for i, name in enumerate(FORMATS)]


def layer_table(result):
    return [["matrix", "loudest / median input", "AWQ's α", "AWQ", "GPTQ"]] + [
        [name, f"{loud:.1f}", f"{alpha:.2f}", f"{a:.2f}", f"{g:.2f}"]
        for name, loud, alpha, a, g in result.layers]


def show(result):
    print_table(table(result), f"{result.weights:,} weights; {result.characters:,} held-out "
                "characters; ± the standard error over windows")
    print_table(layer_table(result), "the layer's error on new inputs, over that of nearest")
    print_table(speed_table(result), "the engine")


if __name__ == "__main__":
    main(__file__, measure, show, draw)
