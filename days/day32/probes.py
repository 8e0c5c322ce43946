"""Day 32 · What this day measures of a tower: gradients by depth and path, noise, training."""

import functools
import math

import numpy as np

from days.day32.tower import C, Tower
from llm.functions import heads
from llm.grad import ops
from llm.grad.tensor import Tensor, no_grad, primitive
from llm.layers.module import Module
from llm.layers.residual import Residual
from llm.train.adam import AdamW
from llm.train.clip import clip_gradients
from llm.train.schedule import WarmupCosine


def windows(ids, n, T, rng):
    """n texts of T tokens and, one step later, what they should predict."""
    rows = ids[rng.integers(0, len(ids) - T, n)[:, None] + np.arange(T + 1)]
    return rows[:, :-1], rows[:, 1:]


def rms(x):
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def by_depth(model, ids, targets, top=None):
    """rms of ∂loss/∂stream before each layer and after the last, and of the stream there.

    The gradients are caught by adding zeros that have one. top, where given, sets out from the
    last stream in place of the loss's gradient.
    """
    zeros = np.zeros((*ids.shape, model.embed.table.shape[1]), np.float32)
    probes = [Tensor(zeros, requires_grad=True) for _ in range(len(model.layers) + 1)]
    loss, streams = model.loss(ids, targets, probes)
    sizes = [rms(s.data) for s in streams]
    if top is None:
        loss.backward()
    else:
        streams[-1].backward(top)
    return [rms(p.grad) for p in probes], sizes


def by_length(model, ids, targets, top=None):
    """The loss's gradient at the first stream, split by the length of its paths; that of `top`,
    where given, which sets out from the last stream in its place.

    Returns (M + 1, B, T, C): entry k is the sum over all paths through k of the M branches.
    A layer's way back sends what arrives past its branch (same length) and through it (one
    longer). All lengths go through a branch at once, as if each were a text of its own.
    """
    with no_grad():
        streams = [s.data for s in model.streams(ids)]
    if top is None:
        last = Tensor(streams[-1], requires_grad=True)
        model.loss_of(last, targets).backward()
        top = last.grad
    split = top[None]
    for layer, x in zip(reversed(model.layers), reversed(streams[:-1])):
        if not layer.pre:                                        # first back through the norm
            split = vjp(layer.norm, x + branch(layer, Tensor(x)).data, split)
        through = vjp(functools.partial(branch, layer), x, split)
        longer = np.zeros((len(split) + 1, *x.shape), np.float32)
        longer[:-1] += split
        longer[1:] += through
        split = longer
    return split


def branch(layer, x):
    """What a Residual adds to x."""
    return layer.inner(layer.norm(x) if layer.pre else x)


def vjp(f, x, dout):
    """dout (K, B, T, C): K gradients back through f at one x (B, T, C) -> (K, B, T, C)."""
    copies = np.concatenate([x] * len(dout))                     # (K·B, T, C)
    leaf = Tensor(copies, requires_grad=True)
    f(leaf).backward(dout.reshape(copies.shape))
    return leaf.grad.reshape(dout.shape)


def taken(model, ids):
    """Each branch's share of the mean square of the sum it is added to: ms(f) / ms(x + f)."""
    shares = []
    with no_grad():
        for layer, x in zip(model.layers, model.streams(ids)):
            f = branch(layer, x).data
            shares.append(rms(f)**2 / rms(x.data + f)**2)
    return shares


def coins(shares):
    """P(k of these independent coins fall on heads), k = 0 … M."""
    p = np.ones(1)
    for share in shares:
        p = np.convolve(p, [1 - share, share])
    return p


def paths(model, ids, targets):
    """[share of the squared gradient by path length, the same expected]."""
    M = len(model.layers)
    if not isinstance(model.layers[0], Residual):
        return [[0] * M + [1]] * 2                               # one path, through everything
    squares = np.square(by_length(model, ids, targets), dtype=np.float64).mean(axis=(1, 2, 3))
    return [squares / squares.sum(), coins(taken(model, ids))]


def look(V, kind, std, ids, T, seed):
    """One random start on 8 texts: gradients and streams by depth; paths, on 2 of the texts."""
    model = Tower(V, kind, np.random.default_rng(seed), std)
    batch = windows(ids, 8, T, np.random.default_rng(seed))
    return *by_depth(model, *batch), paths(model, *(part[:2] for part in batch))


def values_vjp(dout, *saved):
    """The way back of `multi_head` through its values alone."""
    (dqkv,) = heads.multi_head_vjp(dout, *saved)
    return (dqkv * (np.arange(dqkv.shape[-1]) >= dqkv.shape[-1] // 3 * 2),)


class ByValues(Module):
    """The same attention, but queries and keys, and so the scores, get no gradient."""

    answer = staticmethod(primitive(heads.multi_head, values_vjp))

    def __init__(self, attention):
        self.attention = attention

    def __call__(self, x):
        a = self.attention
        return a.project(self.answer(a.qkv(x), H=a.H, rule=a.rule))


def controls(V, kind, ids, T, seed):
    """The growth of the gradient over the growth of the stream, which the law says is 1: of the
    loss's gradient; of a random one that sets out from the last stream; of the same where, besides,
    none passes the scores; of the same with ReLU for GELU. Then the mean length of the paths of
    the third, and by the coins; last the sum of the squares of its path lengths over the square of
    their sum. If they are uncorrelated, the two agree in the mean over starts, each by itself; the
    mean of this quotient is then still above 1."""
    model = Tower(V, kind, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    batch = windows(ids, 8, T, rng)
    top = rng.standard_normal((8, T, C)).astype(np.float32)
    sizes = [by_depth(model, *batch), by_depth(model, *batch, top)]
    for layer in model.layers[::2]:
        layer.inner = ByValues(layer.inner)
    sizes.append(by_depth(model, *batch, top))
    found = split_up(model, [part[:2] for part in batch], top[:2])
    for layer in model.layers[1::2]:
        layer.inner.bend = ops.relu
    sizes.append(by_depth(model, *batch, top))
    return [(g[0] / g[-1]) / (s[-1] / s[0]) for g, s in sizes] + found


def split_up(model, batch, top):
    """Of the gradient that becomes of `top`: mean length of its paths, by the coins, and how the
    squares of the lengths add up."""
    if not isinstance(model.layers[0], Residual):
        return [len(model.layers), len(model.layers), 1.0]
    split = by_length(model, *batch, top)
    squares = np.square(split, dtype=np.float64).mean(axis=(1, 2, 3))
    length = float(squares @ np.arange(len(squares)) / squares.sum())
    return [length, sum(taken(model, batch[0])),
            float(squares.sum() / rms(split.sum(axis=0))**2)]


def gains(model, ids, top):
    """Of each branch of a pre-norm tower, first to last: [mean square of what comes out for 1 that
    goes in, the same on the way back, how much the tokens of the stream before it have in common,
    how much of the gradient that arrives stands at the first places, and what the first two would
    be if the branch did nothing but average over tokens]. `top` (B, T, C) sets out from the last
    stream.
    """
    with no_grad():
        streams = [s.data for s in model.streams(ids)]
    found, arrived = [], top[None]
    for layer, x in zip(reversed(model.layers), reversed(streams[:-1])):
        through = vjp(functools.partial(branch, layer), x, arrived)
        found.append([rms(branch(layer, Tensor(x)).data)**2,
                      (rms(x) * rms(through) / rms(arrived))**2,     # the norm divides by rms(x)
                      common(x), early(arrived), *averaging(layer, x, arrived[0])])
        arrived = arrived + through
    return found[::-1]


def averaging(layer, x, dout):
    """What an attention's weights alone make of the mean squares of norm(x) and, going back, of
    dout, both (B, T, C): the mean over its heads, without values and matrices. 1 where the branch
    is no attention."""
    if not isinstance(layer.inner, ByValues):
        return 1.0, 1.0
    with no_grad():
        inputs = layer.norm(Tensor(x))
        _, saved = heads.multi_head(layer.inner.attention.qkv(inputs).data,
                                    H=layer.inner.attention.H)
    weights = saved[3]                                           # (B, H, T, T)
    return tuple((rms(A @ y[:, None]) / rms(y))**2
                 for A, y in ((weights, inputs.data), (weights.swapaxes(-1, -2), dout)))


def common(x):
    """Mean square of a text's mean over its tokens (..., T, C), over that of all: 1/T to 1."""
    return (rms(x.mean(axis=-2)) / rms(x))**2


def early(x):
    """Share of the sum of squares (..., T, C) at the first eighth of the places; even is 1/8."""
    squares = np.square(x, dtype=np.float64)
    return float(squares[..., :x.shape[-2] // 8, :].sum() / squares.sum())


def pre_norm_gains(V, ids, T, seed):
    """`gains` of a random gradient that does not pass the scores, with ReLU for GELU."""
    model, rng = Tower(V, "pre-norm", np.random.default_rng(seed)), np.random.default_rng(seed)
    for attention, hidden in zip(model.layers[::2], model.layers[1::2]):
        attention.inner, hidden.inner.bend = ByValues(attention.inner), ops.relu
    inputs, _ = windows(ids, 8, T, rng)
    return gains(model, inputs, rng.standard_normal((8, T, C)).astype(np.float32))


def deep(V, kind, depth, ids, T, seed):
    """Width of the last stream, its gradient, and that of the last matrix that writes."""
    model = Tower(V, kind, np.random.default_rng(seed), depth=depth)
    gradients, sizes = by_depth(model, *windows(ids, 8, T, np.random.default_rng(seed)))
    return sizes[-1], gradients[-1], rms(model.layers[-1].inner.down.w.grad)


def noisy(V, rate, ids, seed, draws):
    """How far dropout moves the last pre-norm stream, relative to it: expected from the shares
    `taken`, one draw, the mean of `draws`, and what that would be if the mean were kept."""
    model = Tower(V, "pre-norm", np.random.default_rng(seed), dropout=rate)
    rng = np.random.default_rng(seed)
    expected = np.sqrt(rate / (1 - rate) * sum(taken(model, ids)))
    with no_grad():
        still = model.streams(ids)[-1].data
        moved = np.array([model.streams(ids, rng)[-1].data for _ in range(draws)]) - still
    one, mean = rms(moved) / rms(still), rms(moved.mean(axis=0)) / rms(still)
    return float(expected), one, mean, one / draws**0.5


def learn(model, ids, unseen, T, steps, rate, seed, advance, warmup=None):
    """The same AdamW for all; the loss on unseen text afterwards. Steps that explode are left
    out, as on day 19. Warmup takes a tenth of the steps unless it is given."""
    rng, optimizer = np.random.default_rng(seed), AdamW(model.named_parameters())
    schedule = WarmupCosine(rate, warmup or max(steps // 10, 1))
    for step in range(1, steps + 1):
        loss, _ = model.loss(*windows(ids, 8, T, rng))
        model.zero_grad()
        loss.backward()
        if math.isfinite(clip_gradients([p.grad for p in optimizer.parameters.values()], 1.0)):
            optimizer.step(schedule(step, steps))
        advance(1, f"loss {float(loss.data):.2f}")
    return nats(model, unseen, T, seed)


def nats(model, text, T, seed):
    """The loss on 128 windows of a text."""
    with no_grad():
        return float(model.loss(*windows(text, 128, T, np.random.default_rng(seed)))[0].data)
