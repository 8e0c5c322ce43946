"""Day 56 · The study behind run.py: labellers, reward models, and every answer they can be shown.

A prompt has 56 possible answers with known probabilities. So a trained model scores all of them
once, and what a labeller would say, what the best of n would be and how far it is from the sampler
are sums over these, not samples.
"""

from dataclasses import dataclass, replace

import numpy as np

from days.harness import kernels
from llm.align.best_of import best_of_n, kl
from llm.align.pairs import encode_answers, encode_pairs, pair_batches
from llm.align.reward import RewardModel
from llm.data.preferences import candidates, held_out, pairs
from llm.data.taste import FAMILIES, draw_prompt, fillers, utility
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine


@dataclass(frozen=True)
class Settings:
    """How a reward model is trained, and on how many prompts it is judged."""

    pairs: int = 5760          # with labels, each for a prompt of its own
    noise: float = 0.5         # of the labellers
    B: int = 32                # pairs a batch
    steps: int = 180
    rate: float = 8e-4         # peak, decayed to 0 along a cosine
    warmup: int = 20           # steps
    prompts: int = 48          # held out, a quarter of each family

    @classmethod
    def small(cls):
        """For `--fast`."""
        return cls(pairs=60, B=4, steps=8, prompts=8)


@dataclass(frozen=True)
class Grid:
    """P held-out prompts with all their K answers: what is known about them without a model."""

    prompts: list              # P prompts, families in turn
    rows: list                 # P·K Encoded
    p: np.ndarray              # (K,): how often each is drawn, the same for all prompts
    u: np.ndarray              # (P, K) utility
    fillers: np.ndarray        # (P, K)

    def family(self, name):
        """The numbers of the prompts of one family."""
        return np.arange(FAMILIES.index(name), len(self.prompts), len(FAMILIES))


def make_grid(tokenizer, T, n, rng):
    """n different held-out prompts, families in turn, and all answers to them."""
    prompts, rows, u, counts = [], [], [], []
    while len(prompts) < n:
        prompt = draw_prompt(rng, FAMILIES[len(prompts) % len(FAMILIES)])
        if not held_out(prompt) or prompt in prompts:
            continue
        p, answers = zip(*candidates(prompt), strict=True)
        prompts.append(prompt)
        rows += encode_answers(tokenizer, prompt, answers, T)
        u.append([utility(prompt, answer) for answer in answers])
        counts.append([fillers(answer) for answer in answers])
    return Grid(prompts, rows, np.array(p), np.array(u), np.array(counts))


def train(start, data, settings, seed, tick=lambda n, note: None):
    """A reward model from a copy of start's weights; data: [(chosen, rejected), …]. -> (it, Run).

    start: called for the body, since each call returns arrays of its own.
    """
    rng = np.random.default_rng([seed, 56])
    model = RewardModel(start().model, rng)
    optimizer = AdamW(model.named_parameters(), betas=(0.9, 0.99))
    with kernels():
        run = fit(model.named_parameters(), model.loss, pair_batches(data, settings.B, rng),
                  optimizer, WarmupCosine(settings.rate, settings.warmup), steps=settings.steps,
                  hooks=[lambda step: tick(1, f"loss {step.loss:.2f}")])
    if run.interrupted:
        raise KeyboardInterrupt
    return model, run


def labelled(start, settings, seed, likes_length=0.0):
    """Pairs of one labeller, encoded; the prompts and answers of a seed are the same for all."""
    found = pairs(settings.pairs, np.random.default_rng([seed, 560]), settings.noise,
                  likes_length=likes_length)
    return encode_pairs(start.tokenizer, found, start.config.T)[0]


def rewards(model, grid):
    """(P, K): the model's reward of every answer, centred on what is drawn."""
    with kernels():
        found = model.score(grid.rows).reshape(grid.u.shape)
    return found - np.mean(found @ grid.p)


def sigmoid(x):
    """1 / (1 + e^−x), without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def all_pairs(grid, r, noise, which=slice(None)):
    """Gaps (u(a) − u(b)) / noise, margins r(a) − r(b) and weights of all pairs a ≠ b, flat.

    Both orders are there, so the labels are on both sides. Weights sum to 1.
    """
    u, r = grid.u[which] / noise, r[which]
    weight = np.outer(grid.p, grid.p) * (1 - np.eye(len(grid.p)))
    gap, margin = (x[:, :, None] - x[:, None, :] for x in (u, r))
    w = np.broadcast_to(weight / weight.sum() / len(u), gap.shape)
    return gap.ravel(), margin.ravel(), w.ravel()


def agreement(gap, margin, w):
    """How often a fresh label agrees with the model's order; equal rewards count half.

    With the utility itself as the margin this is the best there is.
    """
    says = (np.sign(margin) + 1) / 2
    return float(w @ (sigmoid(gap) * says + sigmoid(-gap) * (1 - says)))


def nats(gap, margin, w):
    """The mean loss on fresh labels: cross-entropy of σ(margin) under σ(gap)."""
    lost = np.maximum(-margin, 0) + np.log1p(np.exp(-np.abs(margin)))      # the other: + margin
    return float(w @ (lost + sigmoid(-gap) * margin))


def by_gap(gap, margin, w, edges):
    """Rows [lowest, highest gap, share of pairs, σ predicted, agreement]; no empty bins."""
    rows = []
    for low, high in zip(edges, edges[1:]):
        at = (np.abs(gap) > low) & (np.abs(gap) <= high)
        if w[at].sum() > 0:
            v = w[at] / w[at].sum()
            rows.append([low, high, float(w[at].sum()), float(v @ sigmoid(np.abs(gap[at]))),
                         agreement(gap[at], margin[at], v)])
    return rows


def calibration(gap, margin, w, edges, seeds=1):
    """Rows [mean σ(margin), mean σ(gap), share of pairs], by bins of σ(margin) above ½."""
    said, true, rows = sigmoid(margin), sigmoid(gap), []
    for low, high in zip(edges, edges[1:]):
        at = (said >= low) & (said < high)
        if w[at].sum() > 0:
            v = w[at] / w[at].sum()
            rows.append([float(v @ said[at]), float(v @ true[at]), float(2 * w[at].sum() / seeds)])
    return rows


def correlation(grid, r):
    """Of reward and utility, over the answers to one prompt, as they are drawn."""
    r, u = (x - (x @ grid.p)[:, None] for x in (r, grid.u))
    return float(((r * u) @ grid.p).sum() / np.sqrt(((r * r) @ grid.p).sum()
                                                    * ((u * u) @ grid.p).sum()))


def slope(grid, r):
    """Mean change of r for one filler more, the same words behind it: least squares, by weight."""
    P, K = r.shape
    shape = P, -1, len(set(grid.fillers[0]))                        # (P, contents, m)
    m, y = (x.reshape(shape).astype(float) for x in (grid.fillers, r))
    w = np.broadcast_to(grid.p.reshape(shape[1:]), m.shape)
    w = w / w.sum(-1, keepdims=True)
    m, y = (x - (w * x).sum(-1, keepdims=True) for x in (m, y))
    return float((w * m * y).sum() / (w * m * m).sum())


def blind_slope(grid, noise, likes_length=0.0):
    """The best reward of a filler for a model that sees nothing but fillers, times the noise.

    Of all rewards k · fillers the one with the lowest loss on this labeller's labels, by Newton.
    """
    seen = replace(grid, u=grid.u + likes_length * grid.fillers)
    gap, more, w = all_pairs(seen, grid.fillers.astype(float), noise)
    k = 0.0
    for _ in range(30):
        said = sigmoid(k * more)
        k -= (w @ ((said - sigmoid(gap)) * more)) / (w @ (said * (1 - said) * more**2))
    return float(k * noise)


def curve(grid, r, ns):
    """Of the best of n by r, means over prompts: rows [n, r, utility, fillers, KL to the draws]."""
    rows = []
    for n in ns:
        q = np.array([best_of_n(grid.p, one, n) for one in r])                     # (P, K)
        rows.append([n, *(float((q * x).sum(1).mean()) for x in (r, grid.u, grid.fillers)),
                     float(np.mean([kl(one, grid.p) for one in q]))])
    return rows


def disagreement(grid, models):
    """(within, between): root mean square of what seeds disagree about, of (S, P, K) rewards.

    within: differences of answers to one prompt, which the pairs tell about. between: the means of
    prompts, which they do not.
    """
    r = np.asarray(models, float)
    means = r @ grid.p                                                              # (S, P)
    apart = lambda x, w: float(np.sqrt((x.var(axis=0, ddof=1) * w).sum() / np.sum(
        np.broadcast_to(w, x.shape[1:]))))
    return apart(r - means[..., None], grid.p), apart(means - means.mean(1, keepdims=True), 1.0)

