"""Day 40 · Scaling laws: loss as a function of parameters and data, and how to spend a budget.

    L(N, D) = E + A/N^α + B/D^β          N parameters, D training tokens, L nats per token

E is the loss that no model and no amount of data gets below; the other two terms are what too
small a model and too little data cost. Source: Hoffmann et al. 2022, arXiv 2203.15556, eq. 2 and
appendix D.3. Left out: their Huber loss, which forgives outliers.
"""

from dataclasses import dataclass

import numpy as np

EXPONENTS = (0.02, 2.0)                # where α and β are looked for
ZOOM, FINER = 11, 2.5                  # rounds of the search, each so many times finer
SIDE = 11                              # points of its grid along each side


@dataclass(frozen=True)
class Law:
    """L = E + A/N^α + B/D^β. `spread` is the root mean square of the relative residuals."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    spread: float = 0.0

    def loss(self, N, D):
        """Nats per token; N and D may be arrays."""
        return self.E + self.A * np.power(N, -self.alpha) + self.B * np.power(D, -self.beta)

    def best(self, flops, per_parameter=6.0):
        """(N, D) of the lowest loss where `per_parameter`·N·D = flops.

        With D = F/N, F = flops / per_parameter, dL/dN = 0 reads αA/N^α = βB/D^β, hence
        N = (αA/βB)^(1/(α+β)) · F^(β/(α+β)). Source: Hoffmann et al. 2022, eq. 4.
        Raises ValueError where A or B is 0: then more of one always helps.
        """
        if not (self.A > 0 and self.B > 0):
            raise ValueError(f"with A = {self.A} and B = {self.B} no size is the best")
        F = flops / per_parameter
        N = ((self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
             * F ** (self.beta / (self.alpha + self.beta)))
        return N, F / N


def effective(unique, epochs, R):
    """How many fresh tokens `epochs` readings of `unique` tokens are worth: D′ in place of D.

    D′ = U + U·R·(1 − exp(−(epochs − 1)/R)). The first repetitions are worth nearly a first reading
    each, and no number of them is worth more than R. Raises ValueError where epochs < 1 or R ≤ 0.
    Source: Muennighoff et al. 2023, arXiv 2305.16264, section 3.1.
    """
    if np.any(np.asarray(epochs) < 1) or R <= 0:
        raise ValueError(f"{epochs} epochs and R = {R}: wanted epochs ≥ 1 and R > 0")
    return unique + unique * R * -np.expm1((1 - np.asarray(epochs)) / R)


def fit_law(N, D, L, E=None):
    """The Law of least relative error through runs N, D, L, each (n,), n > 5.

    E: the floor where it is known, as an entropy is; else it is fitted too. For given α and β the
    law is linear in E, A and B: three weighted normal equations. So only (α, β) is searched, on a
    grid that zooms in. E, A and B are at least 0. Raises ValueError where shapes differ, a number
    is not positive, or there are no more runs than the five unknowns.
    """
    N, D, L = check(5, N, D, L)
    return Law(*search(L, np.log(N / N.mean()), np.log(D / D.mean()), N.mean(), D.mean(), E))


def check(unknowns, *columns):
    """The columns in float64; ValueError where no law can go through them."""
    columns = [np.asarray(column, np.float64) for column in columns]
    if any(c.ndim != 1 or c.shape != columns[0].shape for c in columns):
        raise ValueError(f"columns of shapes {[c.shape for c in columns]}: one number a run")
    if len(columns[0]) <= unknowns:
        raise ValueError(f"{len(columns[0])} runs cannot fix {unknowns} unknowns: train more")
    if not all((np.isfinite(c) & (c > 0)).all() for c in columns):
        raise ValueError("parameters, tokens and losses must be positive and finite")
    return columns


def search(L, ln_n, ln_d, mean_n, mean_d, E=None):
    """(E, A, B, α, β, spread) by a grid over the exponents that zooms in on the best."""
    low, high = np.log(EXPONENTS[0]), np.log(EXPONENTS[1])
    center, half = np.full(2, (low + high) / 2), (high - low) / 2
    best = (np.inf,)
    for _ in range(ZOOM):
        steps = half * np.linspace(-1, 1, SIDE)
        alphas = np.exp(np.clip(center[0] + steps, low, high))
        betas = np.exp(np.clip(center[1] + steps, low, high))
        a, b = (grid.ravel() for grid in np.meshgrid(alphas, betas, indexing="ij"))
        terms = [np.full((len(a), len(L)), float(E is None)), np.exp(-a[:, None] * ln_n),
                 np.exp(-b[:, None] * ln_d)]
        errors, weights = linear(np.stack(terms, axis=-1) / L[:, None], 1 - (E or 0.0) / L)
        i = int(errors.argmin())
        if errors[i] < best[0]:
            best = errors[i], weights[i], a[i], b[i]
        center, half = np.log([best[2], best[3]]), half / FINER
    error, weight, alpha, beta = best
    return (float(weight[0]) if E is None else float(E), float(weight[1] * mean_n ** alpha),
            float(weight[2] * mean_d ** beta), float(alpha), float(beta),
            float(np.sqrt(error / len(L))))


def linear(rows, target):
    """Weights ≥ 0 that bring rows·weights nearest to the target, for each of G grid points.

    rows (G, n, k), target (n,) -> (sums of squares (G,), weights (G, k)). Where the best weights
    of all are ≥ 0 they are the answer. Elsewhere some are 0; every choice of these is tried.
    """
    G, _, k = rows.shape
    errors, weights = np.full(G, float(target @ target)), np.zeros((G, k))
    left = np.arange(G)                                   # points without an answer
    for mask in range(2 ** k - 1, 0, -1):                 # all weights first
        kept = [j for j in range(k) if mask >> j & 1]
        part = rows[left][:, :, kept]
        gram = part.swapaxes(1, 2) @ part                 # (points, kept, kept)
        size = np.sqrt(np.einsum("gkk->gk", gram))
        size = np.where(size > 0, size, 1.0)
        gram = gram / (size[:, :, None] * size[:, None, :])
        fixed = np.linalg.det(gram) > 1e-13               # else two columns say the same
        gram = np.where(fixed[:, None, None], gram, np.eye(len(kept)))
        w = np.linalg.solve(gram, (target @ part / size)[:, :, None])[:, :, 0] / size
        error = ((np.einsum("gnk,gk->gn", part, w) - target) ** 2).sum(axis=1)
        better = fixed & (w >= 0).all(axis=1) & (error < errors[left])
        errors[left[better]], weights[left[better]] = error[better], 0
        weights[np.ix_(left[better], kept)] = w[better]
        left = left[~better] if len(kept) == k else left
    return errors, weights


def parabola(N, L):
    """The lowest point of a parabola in ln N through losses of one budget: (N, L, inside).

    inside: whether the lowest point lies between the smallest and the largest N, and is a lowest.
    Raises ValueError for fewer than 3 different sizes.
    Source: Hoffmann et al. 2022, section 3.2.
    """
    x, L = np.log(np.asarray(N, np.float64)), np.asarray(L, np.float64)
    if len(np.unique(x)) < 3:
        raise ValueError(f"{len(np.unique(x))} different sizes: a parabola needs 3")
    middle = x.mean()
    a, b, c = np.polyfit(x - middle, L, 2)
    low = middle - b / (2 * a)
    return (float(np.exp(low)), float(c - b * b / (4 * a)),
            bool(a > 0 and x.min() < low < x.max()))


def bootstrap(fit, columns, rng, n=200):
    """n fits, each to as many runs, drawn with replacement: what `fit(*columns)` might have been.

    Draws with too few different runs to be fitted are drawn again. The 2.5th and 97.5th percentile
    of a coefficient are the ends of its 95 % interval. Source: Efron 1979, section 2.
    """
    columns = [np.asarray(column) for column in columns]
    fits = []
    while len(fits) < n:
        rows = rng.integers(0, len(columns[0]), len(columns[0]))
        if len(np.unique(rows)) > len(columns[0]) // 2:
            fits.append(fit(*(column[rows] for column in columns)))
    return fits
