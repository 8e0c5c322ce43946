"""Day 19 · The figure: shapes, losses, the noisy bowl, Adam's first steps, the range, a spike."""

import matplotlib.pyplot as plt
import numpy as np

from days.day19.bowl import MAKERS, rates_of
from days.harness import save

BLUE, RUST, GREEN, VIOLET = "#1f5fa8", "#c2571a", "#2e7d4f", "#7b5ea7"
COLORS = {"constant": BLUE, "cosine": RUST, "warmup-stable-decay": GREEN, "linear": VIOLET}


def draw(result, path):
    fig, axes = plt.subplots(3, 2, figsize=(9, 9.6))
    for panel, axis in zip((shapes, fall, bowl, moves, ranges, spike), axes.flat):
        panel(axis, result)
    save(fig, path)


def shapes(axis, result):
    top = max(peak for peak, _ in result.best.values())
    for i, (name, (peak, nats)) in enumerate(result.best.items()):
        axis.plot(range(1, result.steps + 1), rates_of(MAKERS[name](peak, result.warmup),
                                                       result.steps), color=COLORS[name])
        axis.text(result.steps, top * (1.48 - 0.11 * i), f"{name}: {nats:.3f} nats",
                  color=COLORS[name], ha="right", va="top")
    gain = result.best["constant"][1] - min(nats for _, nats in result.best.values())
    axis.set(ylim=(0, 1.5 * top), xlabel="step", ylabel="rate")
    axis.set_title(f"Each at its best peak: a rate that ends\nat 0 gains {gain:.2f} nats on "
                   "unseen text")


def fall(axis, result):
    """Training losses of the constant rate and of the one that falls at the end."""
    start = round(0.8 * result.steps)
    for name, curve in result.same.items():
        steps = np.arange(len(curve)) + result.steps - len(curve) + 1
        axis.plot(steps, curve, color=COLORS[name], lw=1.3)
    nats = {name: x for name, peak, x in result.schedules if peak == 0.01}
    top = max(curve[len(curve) // 3] for curve in result.same.values())
    low = min(min(curve) for curve in result.same.values())
    for i, name in enumerate(result.same):
        axis.text(result.steps, top - 0.09 * i * (top - low), f"{name}: {nats[name]:.3f} nats",
                  color=COLORS[name], ha="right", va="top")
    axis.axvspan(start, result.steps, color="0.93", zorder=0)
    axis.set(xlim=(result.steps / 3, result.steps + 4), ylim=(low - 0.02, top + 0.02),
             xlabel="step", ylabel="training loss, mean of 25 steps")
    gain = nats["constant"] - nats["warmup-stable-decay"]
    axis.set_title(f"0.01 from step {result.warmup} to {start} in both: letting it\n"
                   f"fall then gains {gain:.2f} nats on unseen text")


def bowl(axis, result):
    colors = {"constant, high": BLUE, "constant, low": GREEN, "cosine from high": RUST}
    for i, (name, (rates, curve)) in enumerate(result.bowl_curves.items()):
        axis.semilogy(curve, color=colors[name])
        axis.text(len(rates), 1.6 * 0.72**i, f"{name}, {max(rates):.2f}: {curve[-1]:.3f}",
                  ha="right", va="top", color=colors[name])
    axis.set(xlabel="step", ylabel="expected loss")
    axis.set_title("A noisy bowl: a high rate is quick and stays up,\na low one is slow, a "
                   "falling one ends lowest")


def moves(axis, result):
    t = np.arange(1, len(result.moves) + 1)
    axis.semilogx(t, result.moves, color=BLUE)
    axis.semilogx(t, result.moves_noise, color="0.5", ls=(0, (4, 2)))
    axis.text(t[-1], result.moves[-1] + 0.05, "measured", color=BLUE, ha="right", va="bottom")
    axis.text(3.2, result.moves_noise[3] - 0.03, "if gradients\nwere coins", color="0.4",
              ha="right", va="top")
    axis.set(ylim=(0, 1.05), xlabel="step", ylabel="size of the step / rate")
    axis.set_title(f"AdamW's first step is {result.moves[0]:.1f} rates long, its\n"
                   f"{len(result.moves)}th {result.moves[-1]:.2f}, near that of pure noise")


def ranges(axis, result):
    means = [float(np.exp(np.mean(np.log(lowest)))) for _, lowest, _ in result.ranges]
    for i, ((steps, rates, averages), mean, color) in enumerate(
            zip(result.range_curves, means, (GREEN, RUST, BLUE))):
        for average in averages:
            axis.semilogx(rates[:len(average)], average, color=color, lw=1)
            axis.plot(rates[int(np.argmin(average))], min(average), "o", color=color, ms=4)
        axis.text(1.2e-4, 2.55 - 0.2 * i, f"{steps:.0f} steps: {mean:.3f}", color=color, va="top")
    axis.text(1.2e-4, 2.75, "lowest at", color="0.4", va="top")
    axis.set(ylim=(1.9, 5), xlim=(1e-4, 3), xlabel="rate, rising every step",
             ylabel="averaged loss")
    axis.set_title("The range run's lowest average moves with its\n"
                   f"length: {means[0]:.3f} in {result.ranges[0][0]} steps, {means[-1]:.3f} in "
                   f"{result.ranges[-1][0]:,}")


def spike(axis, result):
    for name, color in (("no clipping", RUST), ("clipped", BLUE)):
        curve = result.spike_curves[name]
        shown = range(result.bad_from - 16, min(result.bad_from + 30, len(curve)))
        axis.plot([i + 1 for i in shown], [curve[i] for i in shown], color=color)
    axis.axvspan(result.bad_from - 0.5, result.bad_from + 2.5, color="0.9", zorder=0)
    top = max(result.spike_curves["no clipping"]) * 1.25
    axis.text(result.bad_from - 1, top, "bad\nbatches", color="0.4", ha="right", va="top")
    for y, name, row, color in ((1, "no clipping", result.spikes[0], RUST),
                                (0.91, f"clipped to {result.limit:g}", result.spikes[1], BLUE)):
        axis.text(result.bad_from + 30, y * top, f"{name}: {row[5]:.2f}", color=color, ha="right",
                  va="top")
    axis.set(xlabel="step", ylabel="loss of that step", ylim=(0, top))
    axis.set_title("Six layers, plain steps: mean loss of the\nten steps after three bad batches")
