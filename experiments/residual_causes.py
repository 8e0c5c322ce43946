"""Day 32 · Three controls at the start of training: why do three numbers of day 32 miss its law?

    python experiments/residual_causes.py [--fast] [--json] [--out DIR]

Nothing is trained, and no number depends on the clock. One thread takes about three minutes.

backward: an attention of the pre-norm tower passes back less than averaging alone would. Is it the
norm in front of it? Averaging is followed by the norm's way back, and then the two matrices
between them are drawn anew, so that they know nothing of the gradient.
last: the gradient of the last matrix that writes is a sum over tokens, and falls less with depth
than the stream grows. Do tokens add up what they have in common? Each gets a random sign.
lengths: do the parts of a gradient, one for each length of path, cancel? Mean over random starts
of the sum of their squares, over the mean of the square of their sum.
"""

import argparse
import functools
import json
import sys
from pathlib import Path

import numpy as np

from days.day32.probes import (
    ByValues,
    averaging,
    branch,
    by_length,
    common,
    rms,
    vjp,
    windows,
)
from days.day32.run import T
from days.day32.tower import C, Tower
from days.harness import (
    ROOT,
    UsageError,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    progress,
    say,
    write_atomically,
)
from llm.data.text import load
from llm.functions import heads
from llm.grad import ops
from llm.grad.tensor import Tensor, no_grad
from llm.tokens.chars import CharTokenizer

DEPTHS = (6, 12, 24, 48, 96)
BOTH = ("pre-norm", "post-norm")


def backward(V, ids, seed):
    """[gain backward, by averaging alone, with the norm, with matrices drawn anew, how wide the
    stream is at the first eighth of the places] of each attention, in the setting of `gains`."""
    model, rng = Tower(V, "pre-norm", np.random.default_rng(seed)), np.random.default_rng(seed)
    for attention, hidden in zip(model.layers[::2], model.layers[1::2]):
        attention.inner, hidden.inner.bend = ByValues(attention.inner), ops.relu
    inputs, _ = windows(ids, 8, T, rng)
    arrived = rng.standard_normal((8, T, C)).astype(np.float32)[None]
    with no_grad():
        streams = [s.data for s in model.streams(inputs)]
    found = []
    for layer, x in zip(reversed(model.layers), reversed(streams[:-1])):
        through = vjp(functools.partial(branch, layer), x, arrived)
        if isinstance(layer.inner, ByValues):
            gain = functools.partial(gain_of, rms(x), rms(arrived))
            A, dout = turned_weights(layer, x), arrived[0]
            averaged = (A @ dout[:, None]).swapaxes(0, 1)            # (H, B, T, C)
            found.append([gain(through), averaging(layer, x, dout)[1],
                          gain(vjp(layer.norm, x, averaged)),
                          np.mean([gain(vjp(layer.norm, x, anew(A, dout, rng)[None]))
                                   for _ in range(4)]),
                          rms(x[:, :T // 8]) / rms(x)])
        arrived = arrived + through
    return found[::-1]


def gain_of(width, sent, back):
    """Of mean squares, with the norm's division by the stream's width left out, as in `gains`."""
    return (width * rms(back) / sent)**2


def turned_weights(layer, x):
    """The attention's weights as the way back uses them: Aᵀ (B, H, T, T)."""
    a = layer.inner.attention
    with no_grad():
        _, saved = heads.multi_head(a.qkv(layer.norm(Tensor(x))).data, H=a.H)
    return saved[3].swapaxes(-1, -2)


def anew(A, dout, rng):
    """dout (B, T, C) back through a new projection, the averages Aᵀ, and a new value matrix."""
    project, values = rng.standard_normal((2, C, C)).astype(np.float32) / C**0.5
    return heads.merge_heads(A @ heads.split_heads(dout @ project, A.shape[1])) @ values


def last(V, kind, depth, ids, seed):
    """[rms gradient of the last matrix that writes; with a random sign for each token; rms of its
    input; how much of that the tokens have in common; width of the last stream]."""
    model = Tower(V, kind, np.random.default_rng(seed), depth=depth)
    rng = np.random.default_rng(seed)
    batch = windows(ids, 8, T, rng)
    zeros = np.zeros((8, T, C), np.float32)
    probes = [Tensor(zeros, requires_grad=True) for _ in range(depth + 1)]
    loss, streams = model.loss(*batch, probes)
    loss.backward()
    layer, x, dout = model.layers[-1], streams[-2].data, probes[-1].grad
    if not layer.pre:                                                # first back through its norm
        dout = vjp(layer.norm, x + branch(layer, Tensor(x)).data, dout[None])[0]
    inputs = layer.norm(Tensor(x)) if layer.pre else Tensor(x)
    h = layer.inner.bend(layer.inner.up(inputs)).data                # (8, T, 2C)
    signs = rng.choice(np.float32([-1, 1]), (8, T, 1))
    product = lambda dout: rms(h.reshape(-1, 2 * C).T @ dout.reshape(-1, C))
    assert np.isclose(product(dout), rms(layer.inner.down.w.grad), rtol=1e-3)
    return product(dout), product(signs * dout), rms(h), common(h), rms(streams[-1].data)


def lengths(V, kind, ids, seed):
    """[sum of the squares of the parts, square of their sum], of a random gradient that does not
    pass the scores, on 2 texts."""
    model, rng = Tower(V, kind, np.random.default_rng(seed)), np.random.default_rng(seed)
    for layer in model.layers[::2]:
        layer.inner = ByValues(layer.inner)
    split = by_length(model, *windows(ids, 2, T, rng),
                      rng.standard_normal((2, T, C)).astype(np.float32))
    return sum(rms(part)**2 for part in split), rms(split.sum(axis=0))**2


def compared(pairs):
    """The quotient of two means with its standard error, and where nine single ones in ten lie."""
    squares, whole = np.array(pairs).T
    quotient = squares.mean() / whole.mean()
    error = (squares - quotient * whole).std(ddof=1) / len(whole)**0.5 / whole.mean()
    return {"starts": len(whole), "quotient": quotient, "error": error,
            "mean of quotients": (squares / whole).mean(),
            "single": np.quantile(squares / whole, (0.05, 0.95)).tolist()}


def measure(fast):
    corpus = load("shakespeare")
    tokenizer = CharTokenizer.from_text(corpus.text)
    V, ids = tokenizer.vocab_size, tokenizer.encode(corpus.train)
    starts, many, depths = (2, 3, DEPTHS[:2]) if fast else (24, 400, DEPTHS)
    with progress(starts * (1 + 2 * len(depths)) + 2 * many, "random starts") as advance:
        def each(n, f, *arguments):
            found = []
            for seed in range(n):
                found.append(f(*arguments, seed))
                advance(1)
            return found
        back = np.array(each(starts, backward, V, ids))              # (starts, layers, 5)
        ratio = np.log(back[..., :1] / back[..., 2:4])
        deep = {kind: [[M, *np.exp(np.log(each(starts, last, V, kind, M, ids)).mean(axis=0))]
                       for M in depths] for kind in BOTH}
        parts = {kind: compared(each(many, lengths, V, kind, ids)) for kind in BOTH}
    return {"starts": starts, "backward": back.mean(axis=0).tolist(),
            "error": np.exp(ratio.std(axis=0, ddof=1) / starts**0.5).tolist(),   # factors
            "last": deep, "lengths": parts, "fast": fast, "machine": machine()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="tiny sizes, in seconds")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "residual_causes",
                        metavar="DIR")
    options = parser.parse_args()
    prepare(options.out)
    record = plain(measure(options.fast))
    write_atomically(options.out / "residual_causes.json",
                     (json.dumps(record, indent=1) + "\n").encode())
    if options.json:
        print(json.dumps(record))
        return
    print_table([["attention", "gain backward", "averaging", "and norm", "matrices anew",
                  "width in front"]] + [
        [i, *(f"{x:.3f}" for x in row)] for i, row in enumerate(record["backward"])])
    for kind, rows in record["last"].items():
        print_table([["layers", "last matrix", "random signs", "its input", "in common", "stream"]]
                    + [[M, f"{g:.2e}", f"{s:.2e}", f"{h:.3f}", f"{same:.0%}", f"{wide:.2f}"]
                       for M, g, s, h, same, wide in rows], kind)
    for kind, found in record["lengths"].items():
        print(kind, found)
    say(f"residual_causes.json is in {nearby(options.out)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"residual_causes: {error}")
        sys.exit(2)
