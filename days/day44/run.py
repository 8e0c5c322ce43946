"""Day 44 · Eight bits: what they cost in nats, when it matters who shares a scale."""

from dataclasses import dataclass

import numpy as np

from days.day35.trained import trained
from days.day44.choices import GROUPED, bits, chosen, cut, grids, outliers, variants
from days.day44.noise import noises, product_noise
from days.day44.speed import speeds
from days.day44.study import compare, inputs_seen
from days.harness import main, print_table, print_text, progress, save
from llm.generate.architecture import gpt_weights
from llm.generate.cache import KVCache
from llm.generate.cache8 import Cache8

LAYER, CHANNEL, BESIDE = 1, 7, 256         # the layer whose noise is shown; the planted outlier


@dataclass(frozen=True)
class Result:
    corpus: str
    shape: dict
    windows: int           # of arch.T tokens that are reported, from the second half
    targets: int           # tokens that are predicted in them
    letters: float         # characters a token
    shares: dict           # {what: share that the percentile keeps}, chosen on the first half
    tried: dict            # {what: {share: KL on the first half}}
    variants: dict         # name -> {nats, error, kl, kl_error, bytes}
    grids: dict            # {by: nats more of weights, ranges 1.00, 1.01, … times as wide}
    bits: list             # [bits, [KL by tensor, channel, group], [nats more, the same]]
    outliers: dict         # {"activations": [[size, {scheme: [KL, nats more]}], …], "keys": …}
    noise: list            # [what, by what scale, most/rms, dB predicted, dB, zeros, e²/(s²/12)]
    product: list          # dB of activations, weights, product predicted, measured, shuffled
    cache: list            # [bytes in float32, in 8 bits] of a full window
    speed: list            # [model, weights, {format: [bytes, s a token, s a prompt]}]
    position: int          # of the tokens that were timed


def measure(fast, seed):
    reader, rng = trained(fast), np.random.default_rng(seed)
    arch, weights = gpt_weights(reader.model.state_dict(), reader.config)
    ids = np.array(reader.tokenizer.encode(reader.corpus.validation))
    first, second = cut(ids[:len(ids) // 2], arch.T), cut(ids[len(ids) // 2:], arch.T)
    n = 4 if fast else 16
    seen, windows = first[:n], second[:2 * n if fast else 128]
    letters = len(reader.tokenizer.decode(windows[:, 1:].ravel())) / len(windows)
    model, sizes = (arch, weights), (1, 16) if fast else (1, 2, 4, 8, 16, 32, 64, 128, 256)
    inputs = inputs_seen(arch, weights, seen)
    speed, position = speeds(fast, rng)
    with progress(len(sizes) + 4, "rounding") as step:
        shares, tried, ranges = chosen(model, inputs, first[n:3 * n], letters)
        step()
        found = compare(model, variants(model, seen, shares, ranges), windows, letters)
        step()
        other_grids = grids(model, windows[:4 * n], letters, 2 if fast else 8)
        step()
        fewer = bits(model, windows[:n], letters, (8, 4) if fast else (8, 7, 6, 5, 4, 3))
        step()
        planted = {kind: [] for kind in ("activations", "keys")}
        for size in sizes:
            for kind, rows in planted.items():
                rows.append([size, outliers(kind, model, size, CHANNEL, seen, windows[:n],
                                            letters)])
            step()
    return Result(reader.corpus.name, vars(arch), len(windows), windows[:, 1:].size,
                  letters / arch.T, shares, tried,
                  found, other_grids, fewer, planted,
                  noises(arch, weights, seen, LAYER, BESIDE, CHANNEL),
                  product_noise(arch, weights, seen, LAYER, rng),
                  [KVCache(arch).bytes(), Cache8(arch).bytes()], speed, position)


def table(r):
    head = ["what is rounded", "MB", "nats a character, more", "KL, millinats a token"]
    return [head] + [[name, f"{v['bytes'] / 1e6:.2f}", f"{v['nats']:+.4f} ± {v['error']:.4f}",
                      f"{1e3 * v['kl']:.2f} ± {1e3 * v['kl_error']:.2f}"]
                     for name, v in r.variants.items() if name != "float32"]


def show(r):
    print_table(table(r), f"float32: {r.variants['float32']['nats']:.4f} nats a character, "
                f"{r.variants['float32']['bytes'] / 1e6:.2f} MB")
    print_table([["bits", "KL by tensor", "channel", "group of 32", "nats more", "", " "]] + [
        [n, *(f"{1e3 * a:.2f}" for a in kl), *(f"{a:+.4f}" for a in nats)]
        for n, kl, nats in r.bits], "weights in fewer bits; KL in millinats a token")
    for kind, rows in r.outliers.items():
        print_table([["times", *rows[0][1]]] + [
            [size, *(f"{1e3 * kl:.2f}" for kl, _ in found.values())] for size, found in rows],
            f"an outlier in the {kind}: KL, millinats a token")
    print_table([["what", "scale", "most/rms", "dB, s²/12", "dB", "zeros", "ratio"]] + [
        [*row[:2], *(f"{a:.1f}" for a in row[2:5]), f"{row[5]:.0%}", f"{row[6]:.2f}"]
        for row in r.noise], "the noise of rounding")
    print_table([["model", "format", "MB", "tokens/s", "GB/s", "ms a prompt"]] + [
        [name, fmt, f"{size / 1e6:.2f}", f"{1 / s:,.0f}", f"{size / s / 1e9:.1f}",
         f"{1e3 * prompt:.1f}" if prompt else ""]
        for name, _, found in r.speed for fmt, (size, s, prompt) in found.items()], "speed")
    print(f"cache: {r.cache[0]:,} and {r.cache[1]:,} bytes")
    for by, nats in r.grids.items():
        print_text(f"nats more on other grids, weights by {by}: "
                   + ", ".join(f"{a:+.4f}" for a in nats))


def draw(r, path):
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 4.4), sharey=True)
    styles = [("o-", "#c8553d"), ("s-", "#b58900"), ("^-", "#6a994e"), ("D-", "#1b4965")]
    for axis, (kind, rows) in zip(axes, r.outliers.items()):
        for (style, color), name in zip(styles, rows[0][1]):
            axis.loglog([size for size, _ in rows], [1e3 * f[name][0] for _, f in rows], style,
                        color=color, ms=4, label=name, base=10)
        sizes = [size for size, _ in rows][::2]
        axis.set(title=f"one outlier in the {kind}", xlabel="times as large as it was")
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:,g}")
        axis.legend(loc="upper left", fontsize=8)
    axes[0].set(ylabel="KL from float32, millinats a token", ylim=(None, 3e4))
    spoilt, cured = (r.outliers["activations"][-1][1][name][0] for name in GROUPED)
    fig.suptitle("Without outliers every 8-bit scheme is near float32; with one, it matters who "
                 f"shares its scale.\nSmoothQuant undoes it: {1e3 * spoilt:,.0f} millinats a token "
                 f"become {1e3 * cured:.1f}", x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
