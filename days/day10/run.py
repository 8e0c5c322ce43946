"""Day 10 · Sums of hinges draw a curve, and what six activations cost beside a product."""

from dataclasses import dataclass

import numpy as np

from days.day10.clock import ACTIVATIONS, CIN, COUT, ROWS, clock
from days.harness import main, print_table, save
from llm.functions import dense
from llm.functions.hinges import least_squares, network, through


@dataclass(frozen=True)
class Result:
    hinges: list          # m, the number of hidden units
    worst: list           # largest error of the network through m + 1 points of the curve
    bound: list           # h²/8 · max |f''|, derived in the note
    rms: list             # root mean square error of the same networks
    rms_fitted: list      # the same, hinges at the same places, weighted by least squares
    fits: list            # [m, values on the grid] of the few that are drawn
    activations: list     # names
    at_minus_one: list    # each at −1
    at_one: list          # each at 1
    share_of_linear: list  # time over ROWS × COUT entries / time of the product that made them
    linear_flops: int     # of that product
    linear_gflops: float  # what it reaches
    leading_axes: float   # time of x @ w on (64, 8, C) as it is / reshaped to (512, C)
    where_over_ours: float  # time of the sigmoid with np.where / with np.maximum
    add_over_relu: float  # time of z + 1 / of ReLU
    tanh_form_error: float  # largest |gelu − gelu_erf| over −10 … 10
    matched_error: float    # the same for the cubic term that agrees with erf's series


def curve(x):
    """The curve to draw, two waves of different length."""
    return np.sin(x) + np.sin(3 * x) / 3


def bend(x):
    """Its second derivative."""
    return -np.sin(x) - 3 * np.sin(3 * x)


def measure(fast, seed):
    """Networks of 2 to 256 hinges, built and fitted; then the clock."""
    grid = np.linspace(0, 2 * np.pi, 4_801)
    hinges = [2, 4, 8, 16, 32, 64, 128] if fast else [2, 4, 8, 16, 32, 64, 128, 256]
    worst, bound, rms, rms_fitted, fits = [], [], [], [], []
    for m in hinges:
        points = np.linspace(0, 2 * np.pi, m + 1)
        drawn = network(grid[:, None], *through(points, curve(points)))[:, 0]
        fitted = network(grid[:, None], *least_squares(points[:-1], grid, curve(grid)))[:, 0]
        worst.append(float(np.abs(drawn - curve(grid)).max()))
        bound.append(float((2 * np.pi / m) ** 2 / 8 * np.abs(bend(grid)).max()))
        rms.append(float(np.sqrt(np.mean((drawn - curve(grid)) ** 2))))
        rms_fitted.append(float(np.sqrt(np.mean((fitted - curve(grid)) ** 2))))
        if m in (4, 8, 16):
            fits.append([m, drawn[::20].tolist()])
    rng = np.random.default_rng(seed)
    timed = clock(rng, 5 if fast else 100)
    wide = np.linspace(-10, 10, 20_001)
    return Result(
        hinges=hinges, worst=worst, bound=bound, rms=rms, rms_fitted=rms_fitted, fits=fits,
        activations=[f.__name__ for f in ACTIVATIONS],
        at_minus_one=[float(f(-1.0)) for f in ACTIVATIONS],
        at_one=[float(f(1.0)) for f in ACTIVATIONS],
        linear_flops=2 * ROWS * CIN * COUT, **timed,
        tanh_form_error=float(np.abs(dense.gelu(wide) - dense.gelu_erf(wide)).max()),
        matched_error=float(np.abs(matched(wide) - dense.gelu_erf(wide)).max()))


def matched(x):
    """The tanh form of GELU with the cubic term of erf's own series."""
    cubic = 2 / (3 * np.pi) - 1 / 6
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + cubic * x**3)))


def table(result):
    """How the error falls with the number of hinges."""
    rows = [["hinges", "largest error", "bound", "r.m.s. error", "fitted instead"]]
    for row in zip(result.hinges, result.worst, result.bound, result.rms, result.rms_fitted):
        rows.append([f"{row[0]}", *(f"{error:.5f}" for error in row[1:])])
    return rows


def show(result):
    """The hinges, then the activations."""
    print_table(table(result), "one hidden layer drawing sin x + sin(3x)/3 on 0 … 2π")
    print_table([["activation", "at -1", "at 1", "time / product"], *(
        [name, f"{a:.6f}", f"{b:.6f}", f"{share:.2f}"] for name, a, b, share in zip(
            result.activations, result.at_minus_one, result.at_one, result.share_of_linear))],
        f"over ({ROWS}, {COUT}) entries")
    print(f"the product ({ROWS}, {CIN})·({CIN}, {COUT}): {result.linear_flops / 1e6:.0f} MFLOP at "
          f"{result.linear_gflops:.0f} GFLOP/s\n"
          f"tanh-GELU is within {result.tanh_form_error:.6f} of x·Φ(x)")


def draw(result, path):
    """Left: the curve and three networks. Right: the largest error against the bound."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 4.0), width_ratios=[1.35, 1])
    grid = np.linspace(0, 2 * np.pi, len(result.fits[0][1]))
    left.plot(grid, curve(grid), color="#bbbbbb", lw=5, solid_capstyle="round")
    left.text(5.85, -.9, "the curve", color="#888888")
    places = [(3.3, .1), (1.95, 1.05), (-.2, 1.05)]
    for (m, values), colour, (x, y) in zip(result.fits, ["#b3442e", "#d99a2b", "#1f5f8b"], places):
        left.plot(grid, values, color=colour, lw=1.4)
        left.text(x, y, f"{m} hinges", color=colour)
    left.set(xlabel="x", ylabel="F(x) and its networks", ylim=(-1.1, 1.2), xlim=(-.3, 6.9),
             xticks=[0, np.pi, 2 * np.pi],
             xticklabels=["0", "π", "2π"])
    right.plot(result.hinges, result.bound, ":", color="#666666")
    right.plot(result.hinges, result.worst, "o-", ms=4, color="#1f5f8b")
    right.text(20, .12, "dotted: the bound\nh²/8 · max |F″|", color="#666666", fontsize=9)
    right.text(2.2, .006, "largest error", color="#1f5f8b")
    right.set(xscale="log", yscale="log", xlabel="hinges", ylabel="largest error",
              xticks=result.hinges[::2],
              xticklabels=result.hinges[::2])
    right.minorticks_off()
    fig.suptitle(f"Twice the hinges, a quarter of the error: {result.worst[-2]:.5f} with "
                 f"{result.hinges[-2]}, {result.worst[-1]:.5f} with {result.hinges[-1]}",
                 x=.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
