"""Day 36 · Checkpoints: what they hold, what they cost, and what forgetting or dying costs."""

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from days.day35 import job
from days.day36 import killing, power, study, writing
from days.harness import ROOT, kernels, main, print_table, progress, save


@dataclass(frozen=True)
class Result:
    corpus: str
    parameters: int
    contents: list        # [part of the file, bytes]
    times: list           # [MB, seconds: checksum, without fsync, with both, folder alone]
    total: int            # steps of a run …
    stop: int             # … which dies after so many
    equal: bool           # every run that forgot nothing: bit for bit as if it had not died
    losses_equal: bool    # and its losses
    forgotten: dict       # {what: [nats more than never stopped, one per seed]}
    curves: dict          # {what: mean excess of the training loss, step by step}
    never_stopped: list   # nats a character on the second half of the validation text
    kills: dict           # {how it is written: counts}
    power: dict           # {procedure: counts over all possible disks}


def measure(fast, seed):
    recipe, seeds = study.recipe(fast), range(seed, seed + (2 if fast else 3))
    corpus = job.load_corpus("shakespeare", recipe)
    ids, held = study.encoded(corpus, 1, 2_000 if fast else 30_000)
    here = ROOT / "runs"                       # not /tmp, which may be memory: fsync is free there
    here.mkdir(exist_ok=True)
    sizes, repeats = ((400_000,), 3) if fast else ((400_000, 4_000_000, 40_000_000), 7)
    with tempfile.TemporaryDirectory(dir=here) as folder:
        folder = Path(folder)
        with progress(4 * repeats * len(sizes), "writing") as tick:
            times = writing.times(folder, sizes, repeats, tick)
        kills = killing.every_way(folder, 6 if fast else 100, seed)
        steps = recipe.steps * (1.5 + len(study.WAYS) / 2) + 2
        with study.one_blas_thread(), kernels(), progress(steps * len(seeds), "training") as tick:
            runs = [study.compare(corpus, recipe, s, folder / str(s), ids, held, tick)
                    for s in seeds]
        last = sorted((folder / str(seed)).iterdir())[-1]
        contents = writing.contents(last)
    whole = [run[study.WHOLE] for run in runs]
    nothing = [run["nothing"] for run in runs]
    return Result(
        corpus.name, contents[1][1] // 4, contents, times, recipe.steps, recipe.steps // 2,
        all(run[2] for run in nothing), all(a[0] == b[0] for a, b in zip(nothing, whole)),
        {way: [run[way][1] - w[1] for run, w in zip(runs, whole)] for way in study.WAYS},
        {way: np.mean([np.subtract(run[way][0], w[0]) for run, w in zip(runs, whole)], 0).tolist()
         for way in study.WAYS}, [w[1] for w in whole], kills, power.study())


def spread(values):
    return statistics.stdev(values) / len(values) ** 0.5


def table(result):
    return [["forgotten", "nats more", "± (seeds)", "bit-identical"]] + [
        [what, f"{statistics.mean(v):+.4f}", f"{spread(v):.4f}",
         "yes" if what == "nothing" and result.equal else "no"]
        for what, v in result.forgotten.items()]


def contents_table(result):
    total = sum(size for _, size in result.contents)
    return [["part", "bytes", "bytes a parameter"]] + [
        [name, f"{size:,}", f"{size / result.parameters:.3f}"]
        for name, size in [*result.contents, ["the file", total]]]


def times_table(result):
    return [["MB", "checksum, ms", "without fsync, ms", "with both, ms", "the folder's, ms"]] + [
        [f"{mb:g}", *(f"{1e3 * s:.2f}" for s in seconds)] for mb, *seconds in result.times]


def kill_table(result):
    return [["how", "kills", "part left over", "unloadable file", "nothing loads", "went back"]] + [
        [how, c["kills"], c["left_a_part"], c["broken"], c["nothing"], c["went_back"]]
        for how, c in result.kills.items()]


def power_table(result):
    return [["procedure", "possible disks", "unloadable file", "less than promised",
             "nothing loads"]] + [[name, c["disks"], c["broken"], c["less"], c["nothing"]]
                                  for name, c in result.power.items()]


def show(result):
    print_table(contents_table(result), f"a checkpoint, {result.parameters:,} parameters, AdamW")
    print_table(times_table(result), "time to save")
    print_table(table(result), f"stopped after {result.stop} of {result.total} steps, then resumed")
    print_table(kill_table(result), "kill -9 at random moments")
    print_table(power_table(result), "power cuts, on every disk that POSIX allows")


def smooth(values, width):
    return np.convolve(values, np.ones(width) / width, "valid")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.2), width_ratios=(1.15, 1))
    width = max(result.stop // 10, 1)
    for what, color in zip(("the moments and their counts", "the counts alone", "the step",
                            "nothing"), ("#c8553d", "#b58900", "#6a994e", "#1b4965")):
        y = smooth(result.curves[what], width)
        left.plot(np.arange(len(y)) + result.stop + width, y, color=color, lw=1.6, label=what)
    left.set(xlabel="step", ylabel="training loss above the whole run, nats")
    left.legend(title="forgotten", loc="best")
    rows = [("in place", "in place", "in place"),
            ("renamed, no fsync", "atomic", "without both"),
            ("all five steps", "durable", "all five steps")]
    y = np.arange(len(rows))[::-1]
    share = lambda c, of, key: 100 * c[key] / c[of]
    if result.kills:
        right.barh(y + 0.19, [share(result.kills[k], "kills", "nothing") for _, k, _ in rows], 0.36,
                   color="#c8553d", label="kill −9")
    right.barh(y - 0.19, [share(result.power[p], "disks", "nothing") for *_, p in rows], 0.36,
               color="#1b4965", label="power cut, all possible disks")
    right.set(yticks=y, yticklabels=[name for name, *_ in rows], xlim=(0, 100), ylim=(-0.6, 3.1),
              xlabel="cases in which nothing loads, %")
    right.legend(loc="upper right")
    fig.suptitle("A complete checkpoint goes on exactly; an incomplete one goes elsewhere.\n"
                 "Only a file beside the old one, synced before its name, survives both deaths",
                 x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
