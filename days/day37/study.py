"""Day 37 · The tiny GPT of the run: training it in many precisions, and a look at its gradients."""

import contextlib
import time
from dataclasses import dataclass

import numpy as np

from llm.data.batches import random_windows
from llm.grad.lowering import lower
from llm.grad.tensor import no_grad
from llm.models.gpt import GPT, GPTConfig
from llm.tokens.chars import CharTokenizer
from llm.train.adam import AdamW
from llm.train.halves import BF16, FP16, rounded
from llm.train.loop import fit
from llm.train.precision import PRODUCTS, HalfWeights, Scaler, autocast
from llm.train.schedule import Constant, WarmupCosine

B, T, RATE = 8, 32, 4e-3
LATE_RATE = 1e-4                    # of the training that goes on
RANKS = 12                          # log2 of the parts into which a large run cuts its batch


@dataclass(frozen=True)
class Way:
    """One way to train."""

    name: str
    format: object = None           # of the products; None: float32
    scale: int = 0                  # log2 of the loss scale at the start
    interval: int | None = None     # for doubling it; None: fixed
    weights: str = "float32"        # or "nearest", "stochastic": bfloat16
    nudge: float = 0.0              # first weights moved at random by this share of their size


WAYS = [
    Way("float32"),
    Way("float32, start moved by 0.1 %", nudge=1e-3),
    Way("bfloat16 products", BF16),
    Way("float16 products", FP16),
    Way("float16 products, scaled", FP16, 16, 50),
    Way("float16, loss / 4,096", FP16, -RANKS),
    Way("float16, loss / 4,096, scaled", FP16, 16 - RANKS, 50),
    Way("bfloat16 weights, nearest", BF16, weights="nearest"),
    Way("bfloat16 weights, stochastic", BF16, weights="stochastic"),
]


@dataclass(frozen=True)
class Data:
    """Characters as ids, and how many different ones there are."""

    V: int
    train: np.ndarray
    held_out: np.ndarray


def prepare(text):
    """The first 900,000 characters to train on, the 40,000 after them to test."""
    tokenizer = CharTokenizer.from_text(text)
    cut = min(900_000, len(text) * 9 // 10)
    return Data(tokenizer.vocab_size, *map(tokenizer.encode, (text[:cut], text[cut:cut + 40_000])))


def build(data, C, seed):
    """The model of a seed, and the stream of its batches: the same for every way to train."""
    model = GPT(GPTConfig(data.V, T, C, 2, 2), np.random.default_rng(seed))
    return model, random_windows(data.train, B, T, np.random.default_rng([seed, 1]))


def train(way, data, C, steps, seed, state=None, schedule=None):
    """(model, held-out nats, steps skipped, last scale, [share of weights unmoved at each step]).

    state: weights to begin with, and then other batches follow. schedule: warmup and cosine.
    """
    model, batches = build(data, C, seed)
    parameters = model.named_parameters()
    rng = np.random.default_rng([seed, 2])
    if state is not None:
        model.load_state_dict(state)
        batches = random_windows(data.train, B, T, np.random.default_rng([seed, 3]))
    for p in parameters.values() if way.nudge else ():
        p.data *= 1 + np.float32(way.nudge) * rng.standard_normal(p.shape, np.float32)
    optimizer, lost = AdamW(parameters), []
    if way.weights != "float32":
        optimizer = HalfWeights(optimizer, rng if way.weights == "stochastic" else None)
    optimizer = Watched(optimizer, parameters, lost)
    scaler = Scaler(2.0**way.scale, way.interval)

    def loss(batch):
        inputs, targets = batch
        return model.loss(inputs, targets), targets.size

    with autocast(way.format) if way.format else contextlib.nullcontext():
        run = fit(parameters, scaler.loss(loss, parameters), batches, optimizer,
                  schedule or WarmupCosine(RATE, steps // 10), steps=steps)
    return model, held_out(model, data), run.skipped, scaler.scale, lost


LATE = [Way("float32"), Way("bfloat16 weights, nearest", weights="nearest"),
        Way("bfloat16 weights, stochastic", weights="stochastic")]


def go_on(model, data, C, steps, seed):
    """A trained model trains on at a low rate, its products in float32.

    Rows by the ways in LATE: [held-out nats before any step, after `steps`, mean share unmoved].
    """
    state = {name: array.copy() for name, array in model.state_dict().items()}
    rows = []
    for way in LATE:
        _, before, *_ = train(way, data, C, 0, seed, state, Constant(LATE_RATE))
        _, after, *_, lost = train(way, data, C, steps, seed, state, Constant(LATE_RATE))
        rows.append([before, after, float(np.mean(lost))])
    return rows


class Watched:
    """Notes after each step which share of the weights is what it was before."""

    def __init__(self, optimizer, parameters, lost):
        self.optimizer, self.parameters, self.lost = optimizer, parameters, lost

    def step(self, rate):
        parameters = self.parameters
        before = {name: p.data.copy() for name, p in parameters.items()}
        self.optimizer.step(rate)
        same = sum(int((p.data == before[name]).sum()) for name, p in parameters.items())
        self.lost.append(same / sum(p.data.size for p in parameters.values()))


def thirds(shares):
    """Means over the first, the middle and the last tenth of the steps."""
    n, tenth = len(shares), max(len(shares) // 10, 1)
    middle = (n - tenth) // 2
    return [float(np.mean(shares[a:a + tenth])) for a in (0, middle, n - tenth)]


def held_out(model, data):
    """Mean nats a character on 256 windows, in float32: only the weights differ."""
    inputs, targets = next(random_windows(data.held_out, 256, T, np.random.default_rng(0)))
    with no_grad():
        return float(model.loss(inputs, targets).data)


def counting(data):
    """Nats a character on the held-out text for one who knows how frequent each character is."""
    seen = np.bincount(data.train, minlength=data.V) + 1
    return float(-np.log(seen / seen.sum())[data.held_out].mean())


def gradients(data, C, steps, seed):
    """Every number that a product's backward reads or writes, at one step of a float32 run."""
    model, batches = build(data, C, seed)
    parameters, seen = model.named_parameters(), []

    def loss(batch):
        return model.loss(*batch), batch[1].size

    fit(parameters, loss, batches, AdamW(parameters), WarmupCosine(RATE, steps // 10), steps=steps)
    with lower({p: listening(*p.pair, seen) for p in PRODUCTS}):
        model.loss(*next(batches)).backward()
    return np.concatenate(seen)


def listening(f, f_vjp, seen):
    """The pair itself; its backward also notes what comes in and what goes out."""
    def backward(dout, *saved):
        out = f_vjp(dout, *saved)
        seen.extend(g.reshape(-1) for g in (dout, *out) if g is not None)
        return out

    return f, backward


def underflow(g, scale):
    """Shares of the numbers other than 0 that in float16 are [0, subnormal, infinite]."""
    g = g[g != 0]
    half = np.abs(rounded(g * np.float32(scale), FP16))
    zero, infinite = half == 0, np.isinf(half)
    return [float(x.mean()) for x in (zero, (half < np.float32(FP16.normal)) & ~zero, infinite)]


def half_slower(n, seed):
    """How many times longer NumPy takes for an (n, n) product in float16 than in float32."""
    x = np.random.default_rng(seed).standard_normal((n, n), dtype=np.float32)
    times = []
    for a in (x.astype(np.float16), x):
        best = np.inf
        for _ in range(3):
            began = time.perf_counter()
            a @ a
            best = min(best, time.perf_counter() - began)
        times.append(best)
    return times[0] / times[1]
