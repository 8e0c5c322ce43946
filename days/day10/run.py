"""Day 10 · Sums of hinges draw a curve, and what six activations cost beside a product."""

import math
from dataclasses import dataclass

import numpy as np

from days.day10.clock import ACTIVATIONS, CIN, COUT, ROWS, clock
from days.day10.picture import draw
from days.harness import main, print_table
from llm.functions import dense
from llm.functions.hinges import least_squares, network, through


@dataclass(frozen=True)
class Result:
    hinges: list          # m, the number of hidden units
    worst: list           # largest error of the network through m + 1 points of the curve
    bound: list           # h²/8 · max |f''|, derived in the note
    rms: list             # root mean square error of the same networks
    rms_fitted: list      # the same, hinges at the same places, weighted by least squares
    curve: list           # F on every 20th point of the grid
    fits: list            # [m, values at the same points] of the few that are drawn
    activations: list     # names
    at_minus_one: list    # each at −1
    at_one: list          # each at 1
    share_of_linear: list  # time over ROWS × COUT entries / time of the product that made them
    linear_flops: int     # of that product
    linear_gflops: float  # what it reaches
    where_over_ours: float  # time of the sigmoid with np.where / with np.maximum
    where_in_order: float   # time of the former on sorted inputs / on the same as they come
    add_of_linear: float    # time of z + 1 / of the product
    number_over_array: float  # time of the maximum with 0 / with an array of zeros, in the cache
    tanh_form_error: float  # largest |gelu − gelu_erf| over −10 … 10
    matched_error: float    # the same for the cubic term that agrees with erf's series
    closest_cubic: float    # α of the smallest largest |tanh(u) − erf(x/√2)|, to 1e-6


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
        hinges=hinges, worst=worst, bound=bound, rms=rms, rms_fitted=rms_fitted,
        curve=curve(grid)[::20].tolist(), fits=fits,
        activations=[f.__name__ for f in ACTIVATIONS],
        at_minus_one=[float(f(-1.0)) for f in ACTIVATIONS],
        at_one=[float(f(1.0)) for f in ACTIVATIONS],
        linear_flops=2 * ROWS * CIN * COUT, **timed,
        tanh_form_error=float(np.abs(dense.gelu(wide) - dense.gelu_erf(wide)).max()),
        matched_error=float(np.abs(matched(wide) - dense.gelu_erf(wide)).max()),
        closest_cubic=closest_cubic())


def matched(x):
    """The tanh form of GELU with the cubic term of erf's own series."""
    return 0.5 * x * (1 + like_erf(x, 2 / (3 * np.pi) - 1 / 6))


def like_erf(x, cubic):
    """tanh(√(2/π)(x + cubic·x³)), which the tanh form of GELU puts in the place of erf(x/√2)."""
    return np.tanh(dense.GELU_SLOPE * (x + cubic * x**3))


def closest_cubic():
    """The cubic term, on a grid of step 1e-6, that keeps tanh and erf closest at their worst."""
    x = np.linspace(0, 5, 1_001)
    erf = np.array([math.erf(t) for t in x / math.sqrt(2)])
    cubics = np.arange(44_000, 46_001) / 1e6
    return float(min(cubics, key=lambda cubic: np.abs(like_erf(x, cubic) - erf).max()))


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
          f"tanh-GELU is within {result.tanh_form_error:.6f} of x·Φ(x); the cubic term with tanh "
          f"closest to erf\nis {result.closest_cubic:.6f}")


if __name__ == "__main__":
    main(__file__, measure, show, draw)
