"""Day 38 · A training step before and after: each primitive on NumPy and on its kernel."""

import contextlib
import importlib.util
import statistics
import time
from dataclasses import dataclass

import numpy as np

from days.harness import main, print_table, progress, save
from experiments.bench_training import CASES, compare, prepare_environment, sgemm_peak
from llm.functions.heads import NO_RULE
from llm.grad import ops, tensor
from llm.kernels.threads import settle
from llm.layers import attention, norm
from llm.models.gpt import GPT, GPTConfig
from llm.train.adam import AdamW, adamw_update
from llm.train.clip import clip_gradients
from llm.train.fast import fast, twins


@dataclass(frozen=True)
class Result:
    shape: str                    # of the GPT and its batch
    names: list                   # of the primitives, forward and backward together
    numpy_ms: list                # one call of each on the reference
    kernel_ms: list               # … and on its twin
    step_numpy_ms: float          # forward, loss, backward, clip, AdamW
    step_kernel_ms: float
    sgemm_gflops: float
    share_numpy: float            # of that, in a step
    share_kernel: float
    peer: str                     # "" where PyTorch is not installed
    peer_ms: float | None


def measure(fast, seed):
    """Time every primitive at one GPT's shapes, then whole steps, then PyTorch if it is there."""
    B, T, L, H, C, V = (2, 16, 1, 2, 32, 65) if fast else (12, 64, 4, 4, 128, 65)
    repeats = 3 if fast else 30
    settle()                                           # before any thread of Numba's starts
    calls = primitives(B, T, H, C, V, np.random.default_rng(seed))
    names, numpy_ms, kernel_ms = [], [], []
    with progress(len(calls) + 2, "timing") as tick:
        for name, reference, twin in calls:
            slow, quick = in_turns([reference, twin], repeats)
            names, numpy_ms, kernel_ms = names + [name], numpy_ms + [slow], kernel_ms + [quick]
            tick()
        if fast:
            steps, peak, peer = in_turns([one_step(B, T, L, H, C, V, seed, kernels)
                                          for kernels in (False, True)], repeats), sgemm_peak(), {}
        else:                           # each in a process of its own, PyTorch too if it is there
            prepare_environment()
            torch = ["eager"] if importlib.util.find_spec("torch") else []
            peer = compare(CASES[0], ["numpy", "ours", *torch], lambda line: None)
            steps = [peer["milliseconds"][side] for side in ("numpy", "ours")]
            peak = peer["sgemm_gflops"]
        tick(2)
    work = B * T * (6 * (12 * L * C * C + V * C) + 6 * T * C * L) / 1e9
    return Result(f"B {B}, T {T}, L {L}, H {H}, C {C}, V {V}", names, numpy_ms, kernel_ms,
                  *steps, peak, *(work / (ms / 1000) / peak for ms in steps),
                  "PyTorch eager" if peer.get("peer") else "", peer.get("peer"))


def primitives(B, T, H, C, V, rng):
    """(name, reference call, twin call): forward and backward of each at this GPT's shapes."""
    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    cases = [
        ("linear C→4C", ops.linear, (normal(B, T, C), normal(C, 4 * C), normal(4 * C)), {}),
        ("GELU", ops.gelu, (normal(B, T, 4 * C),), {}),
        ("LayerNorm", norm.layernorm, (normal(B, T, C), normal(C), normal(C)), {}),
        ("attention", attention.multi_head, (normal(B, T, 3 * C),), {"H": H, "rule": NO_RULE}),
        ("cross-entropy", ops.cross_entropy, (normal(B, T, V), rng.integers(0, V, (B, T))), {}),
        ("embedding", ops.embedding, (normal(V, C), rng.integers(0, V, (B, T))), {}),
        ("residual add", tensor.add, (normal(B, T, C), normal(B, T, C)), {}),
    ]
    table = twins()
    calls = [(name, both_ways(key.pair, arrays, options), both_ways(table[key], arrays, options))
             for name, key, arrays, options in cases]
    state = [normal(C, 12 * C) for _ in range(3)] + [np.abs(normal(C, 12 * C))]
    settings = (*state, 1, 1e-3, 0.9, 0.99, 1e-8, 0.0)
    return calls + [("AdamW, 12C² numbers", lambda: adamw_update.__wrapped__(*settings),
                     lambda: table[adamw_update](*settings))]


def both_ways(pair, arrays, options):
    """A call that goes forward and back once."""
    f, f_vjp = pair
    dout = np.ones_like(f(*arrays, **options)[0])

    def call():
        _, saved = f(*arrays, **options)
        f_vjp(dout, *saved)

    return call


def one_step(B, T, L, H, C, V, seed, kernels):
    """A call that makes a whole training step."""
    rng = np.random.default_rng(seed)
    model = GPT(GPTConfig(V=V, T=T, C=C, L=L, H=H), rng)
    parameters, ids = model.named_parameters(), rng.integers(0, V, (B, T))
    optimizer = AdamW(parameters)

    def call():
        with fast() if kernels else contextlib.nullcontext():
            model.zero_grad()
            model.loss(ids, ids).backward()
            clip_gradients([p.grad for p in parameters.values()], 1.0)
            optimizer.step(1e-4)

    return call


def in_turns(calls, repeats):
    """Median milliseconds of each call; they take turns, so that a slow moment hits all."""
    times = [[] for _ in calls]
    for _ in range(repeats + 1):                       # the first round only warms up
        for call, spent in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            spent.append(1000 * (time.perf_counter() - began))
    return [statistics.median(spent[1:]) for spent in times]


def table(result):
    rows = [["forward and backward", "NumPy, ms", "kernel, ms", "ratio"]]
    for row in [*zip(result.names, result.numpy_ms, result.kernel_ms, strict=True),
                ("whole step", result.step_numpy_ms, result.step_kernel_ms)]:
        rows.append([row[0], f"{row[1]:.2f}", f"{row[2]:.2f}", f"{row[1] / row[2]:.1f}"])
    return rows


def show(result):
    print_table(table(result), title=result.shape)
    print(f"share of sgemm's {result.sgemm_gflops:.0f} GFLOP/s in a step: "
          f"{result.share_numpy:.0%} before, {result.share_kernel:.0%} after")
    if result.peer:
        print(f"{result.peer}: {result.peer_ms:.1f} ms, "
              f"{result.peer_ms / result.step_kernel_ms:.2f} times ours")


def draw(result, path):
    import matplotlib.pyplot as plt
    order = np.argsort(np.array(result.numpy_ms) / np.array(result.kernel_ms))
    fig, ax = plt.subplots()
    for y, i in enumerate(order):
        slow, quick = result.numpy_ms[i], result.kernel_ms[i]
        ax.plot([quick, slow], [y, y], color="#bbbbbb", lw=2, zorder=1)
        ax.plot(slow, y, "o", color="#777777")
        ax.plot(quick, y, "o", color="#1f5a99")
        ax.annotate(f"{slow / quick:.1f}×", (max(slow, quick), y), (8, -3),
                    textcoords="offset points", color="#333333")
    ax.set_yticks(range(len(order)), [result.names[i] for i in order])
    ax.set_xscale("log")
    ax.set_xlabel("milliseconds, forward and backward (blue: kernel, grey: NumPy)")
    ax.set_title(f"With fast() a step takes {result.step_kernel_ms:.0f} ms, not "
                 f"{result.step_numpy_ms:.0f}:\nof its parts, {result.names[order[-1]]} gains most")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
