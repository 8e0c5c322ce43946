"""Day 44 · A GPT whose matrices, their inputs and its keys and values can each be rounded.

One forward over many windows at once, in NumPy. What is rounded is written back as the floats that
are meant, so all that differs from the integer kernel is the order of float32 sums.
"""

from dataclasses import dataclass

import numpy as np

from llm.functions.dense import gelu
from llm.generate.decode import attend, norm
from llm.generate.rotate import turn
from llm.quantize.calibrate import fixed
from llm.quantize.int8 import dequantize, quantize

TOKEN = {"axis": -1}                       # activations: a scale for each token
TENSOR, CHANNEL, GROUP = {}, {"axis": 0}, {"axis": 0, "group": 32}     # weights (inputs, outputs)


@dataclass(frozen=True)
class Scheme:
    """What is rounded and how: arguments of `quantize`, or None for nothing.

    inputs: of the activations that matrices meet; "fixed": the affine range kept for each matrix.
    cache: keys and values, a scale for each token and head.
    """

    weights: dict | None = None
    inputs: dict | str | None = None
    cache: bool = False


def matrices(arch, weights):
    """name -> matrix (K, N), with the head; a tied one is the embedding's transpose."""
    found = {name: w for name, w in weights.items() if name.endswith(".w")}
    return found | {"head": weights.get("head", weights["embed"].T)}


def rounded(x, options):
    return dequantize(quantize(x, **options))


def products(arch, weights, scheme, ranges=None):
    """(product(name, x), bytes of all matrices). ranges: name -> (low, high), for fixed inputs."""
    kept, size = {}, 0
    for name, w in matrices(arch, weights).items():
        quantised = None if scheme.weights is None else quantize(w, **scheme.weights)
        kept[name] = w if quantised is None else dequantize(quantised)
        size += w.nbytes if quantised is None else quantised.bytes()

    def product(name, x):
        if scheme.inputs == "fixed":
            x = rounded(x, {"symmetric": False, "calibrate": fixed(*ranges[name])})
        elif scheme.inputs is not None:
            x = rounded(x, scheme.inputs)
        return x @ kept[name]
    return product, size


def forward(arch, weights, ids, product, cache=False):
    """ids (B, T) -> logits (B, T, V) of day 34's GPT with rotary positions."""
    (B, T), H, K, D = ids.shape, arch.H, arch.K, arch.D
    heads = lambda a, n: a.reshape(B, T, n, D).swapaxes(1, 2).reshape(B * n, T, D)
    linear = lambda name, x: product(name + ".w", x) + weights.get(name + ".b", np.float32(0))
    x = weights["embed"][ids].reshape(B * T, arch.C)
    for i in range(arch.L):
        part = lambda name, i=i: f"blocks.{i}.{name}"
        qkv = linear(part("qkv"), norm(arch, weights, part("norm1"), x))
        q, k, v = np.split(qkv, [H * D, (H + K) * D], axis=1)
        q, k = (turn(heads(a, n), np.arange(T), arch.rotary) for a, n in ((q, H), (k, K)))
        v = heads(v, K)
        if cache:
            k, v = rounded(k, TOKEN), rounded(v, TOKEN)
        mixed = attend(q, k, v, 0).reshape(T, B, H * D).swapaxes(0, 1).reshape(B * T, -1)
        x = x + linear(part("project"), mixed)
        inside = gelu(linear(part("up"), norm(arch, weights, part("norm2"), x)))
        x = x + linear(part("down"), inside)
    return product("head", norm(arch, weights, "norm", x)).reshape(B, T, -1)


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def inputs_seen(arch, weights, windows):
    """name -> what the matrix multiplies, (B·T, K), in the float32 model."""
    plain, seen = products(arch, weights, Scheme())[0], {}

    def listen(name, x):
        seen[name] = x
        return plain(name, x)
    forward(arch, weights, windows[:, :-1], listen)
    return seen


def ranges_of(seen, calibrate):
    """name -> (low, high), the range that a calibration wants for each matrix's inputs."""
    return {name: tuple(float(np.squeeze(end)) for end in calibrate(x.reshape(1, -1), 8, False))
            for name, x in seen.items()}


def compare(model, variants, windows, characters, step=lambda: None, size=16):
    """name -> {nats, error, kl, kl_error, bytes}, from windows (n, T + 1) of ids.

    variants: name -> (weights, scheme, ranges). nats: a character, more than the float32 model
    `model` = (arch, weights), with the standard error of the difference over windows. kl: nats a
    token by which the model's own predictions are given away, KL(float32 ‖ variant). characters: of
    a window's targets, in the mean. The float32 model itself is under "float32".
    """
    arch, weights = model
    plain, plain_bytes = products(arch, weights, Scheme())
    made = {name: (w, *products(arch, w, scheme, ranges), scheme.cache)
            for name, (w, scheme, ranges) in variants.items()}
    loss, kl, base = {name: [] for name in made}, {name: [] for name in made}, []
    for start in range(0, len(windows), size):
        part = windows[start:start + size]
        ids, targets = part[:, :-1], part[:, 1:, None]
        exact = log_softmax(forward(arch, weights, ids, plain))
        p, paid = np.exp(exact), -np.take_along_axis(exact, targets, -1)[..., 0]
        base += paid.sum(axis=1, dtype=np.float64).tolist()
        for name, (w, product, _, cache) in made.items():
            found = log_softmax(forward(arch, w, ids, product, cache))
            more = -np.take_along_axis(found, targets, -1)[..., 0] - paid
            loss[name] += more.sum(axis=1, dtype=np.float64).tolist()
            kl[name] += (p * (exact - found)).sum(-1).mean(-1, dtype=np.float64).tolist()
            step()
    error = lambda a: float(np.std(a, ddof=1) / len(a) ** 0.5)
    result = {"float32": {"nats": float(np.mean(base)) / characters, "bytes": plain_bytes}}
    return result | {name: {
        "nats": float(np.mean(loss[name])) / characters, "error": error(loss[name]) / characters,
        "kl": float(np.mean(kl[name])), "kl_error": error(kl[name]), "bytes": made[name][2]}
        for name in made}
