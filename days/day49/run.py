"""Day 49 · Fewer key heads: what a token costs, what a model loses, and what pooling keeps."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from days.day49 import decoding
from days.day49.costs import ladder
from days.day49.small import small_models
from days.harness import main, print_table, progress, save
from llm.generate.cache import cache_bytes
from llm.models.llama import LlamaConfig
from llm.train.fast_gated import fast as kernels


@dataclass(frozen=True)
class Result:
    corpus: str
    shape: dict           # of the wide model
    threads: int          # that the engine may use
    Ks: list
    rows: list            # [tokens before, ms for each K]
    empty: list           # ms for each K with nothing in the cache
    weights: list         # bytes of the matrices, for each K
    cache: list           # [bytes by the formula, bytes measured] of a full cache, for each K
    head: list            # ms of one query head on a full cache: from memory, read a moment ago
    steps: list           # [K, ms of a training step, ms of its copies, bytes copied]
    ladder: list          # [change, parameters, cached numbers a token]
    trained: list         # [K, parameters, nats] of small Llamas, one seed, few steps
    pooled: list          # [K, way, nats right after, nats after a few steps]
    sizes: list           # [K, keys, values]: a group's mean over its heads, in length
    apart: list           # largest difference of logits over the largest: decode, engine
    small_steps: list     # steps of the small Llamas, and after pooling


def measure(fast, seed):
    rng, Ks = np.random.default_rng(seed), [4, 2, 1] if fast else [8, 4, 2, 1]
    config = decoding.TINY if fast else decoding.LARGE
    contexts = [8, 32, 62] if fast else [128, 512, 1024, 2048, 4095]
    repeats = 3 if fast else 21
    with kernels(), progress(len(contexts) + 4 + 3, "measuring") as tick:
        found = decoding.engines(config, Ks, rng)
        empty, *rows = decoding.token_times(found, [0, *contexts], repeats, tick)
        archs = [engine.arch for engine in found.values()]
        cache = [[cache_bytes(arch, config.T), found[arch.K].cache.bytes()] for arch in archs]
        weights = [decoding.weight_bytes(engine) for engine in found.values()]
        threads = found[1].threads
        del found
        head = decoding.head_times(config.C // config.H, config.T, 2**(20 if fast else 26), rng,
                                   repeats)
        step = dataclasses.replace(decoding.STEP, T=16, L=1) if fast else decoding.STEP
        steps = [[*row, decoding.copied_bytes(step, row[0], 8)] for row in
                 decoding.step_times(step, [4, 2, 1], 8, rng, repeats)]
        tick(2)
        small = small_models(fast, seed, tick)
    return Result(small.pop("corpus"), dataclasses.asdict(config), threads, Ks, rows, empty[1:],
                  weights, cache, head, steps, ladder(LlamaConfig()), **small)


def table(result):
    """Milliseconds a token, and the cache that it reads, for each K."""
    one = [total / result.shape["T"] for total, _ in result.cache]
    return [["tokens before", *(f"K = {K}, MB" for K in result.Ks),
             *(f"K = {K}, ms" for K in result.Ks)]] + [
        [f"{n:,}", *(f"{n * size / 1e6:.1f}" for size in one), *(f"{ms:.2f}" for ms in times)]
        for n, *times in [[0, *result.empty], *result.rows]]


def shares(result):
    """For each K at the longest text: [K, the cache's share of the bytes, of the time, ms, ms by
    the times of one head].

    The last: a thread has H/threads query heads in a layer, and these meet K/threads key heads, at
    least one. It takes the first query head on each from memory, the others from its cache.
    """
    n, *times = result.rows[-1]
    full, mine = n / result.shape["T"], result.shape["H"] / result.threads
    found = []
    for K, (total, _), weights, empty, ms in zip(result.Ks, result.cache, result.weights,
                                                 result.empty, times, strict=True):
        cold = max(K / result.threads, 1)
        heads = cold * result.head[0] + (mine - cold) * result.head[1]
        found.append([K, total * full / (total * full + weights), 1 - empty / ms, ms,
                      empty + result.shape["L"] * full * heads])
    return found


def show(result):
    print_table(table(result), "one token through the engine: MB of cache that it reads, and ms")
    print_table([["K", "cache's share of bytes", "of time", "ms", "by one head's times"]] + [
        [K, f"{a:.0%}", f"{b:.0%}", f"{ms:.2f}", f"{by:.2f}"]
        for K, a, b, ms, by in shares(result)])
    print(f"one query head on {result.shape['T']:,} keys: {1e3 * result.head[0]:.0f} µs from "
          f"memory, {1e3 * result.head[1]:.0f} µs read a moment ago")
    print_table([["K", "ms a training step", "ms of copies", "MB copied"]] + [
        [K, f"{ms:.2f}", f"{copies:.2f}", f"{size / 1e6:.1f}"]
        for K, ms, copies, size in result.steps])
    print_table([["SmolLM2-135M's shape", "parameters", "cached numbers a token"]] + [
        [name, f"{n:,}", f"{cache:,}"] for name, n, cache in result.ladder])
    print_table([["K", "parameters", f"nats after {result.small_steps[0]} steps"]] + [
        [K, f"{n:,}", f"{x:.3f}"] for K, n, x in result.trained])
    print_table([["pooled to", "way", "right after", f"{result.small_steps[1]} steps later"]] + [
        [K, way, f"{a:.3f}", f"{b:.3f}"] for K, way, a, b in result.pooled])


def draw(result, path):
    """Left: ms against context. Right: the cache's share in bytes and in time."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4), width_ratios=[1.2, 1])
    colors = ["#c8553d", "#b58900", "#6a994e", "#1b4965"]
    n = [0, *(row[0] for row in result.rows)]
    for i, K in enumerate(result.Ks):
        ms = [result.empty[i], *(row[1 + i] for row in result.rows)]
        left.plot(n, ms, "o-", color=colors[i], ms=4, label=f"K = {K}")
    left.set(xlabel="tokens in the cache", ylabel="ms a token", ylim=(0, None))
    left.xaxis.set_major_formatter("{x:,.0f}")
    left.legend(loc="upper left")
    found = shares(result)
    for side, (j, name, color) in enumerate(((1, "in the bytes", "#9ec5e8"),
                                             (2, "in the time", "#1b4965"))):
        bars = right.bar([x - .2 + .4 * side for x in range(len(found))],
                         [100 * row[j] for row in found], .38, color=color, label=name)
        right.bar_label(bars, fmt="%.0f", padding=2, fontsize=8)
    right.set_xticks(range(len(found)), [f"K = {row[0]}" for row in found])
    right.set(ylabel=f"% that is the cache's, at {n[-1] + 1:,} tokens", ylim=(0, 100))
    right.legend(loc="lower center", bbox_to_anchor=(.5, 1), ncols=2)
    last = result.rows[-1]
    fig.suptitle(f"Behind {last[0]:,} tokens, a token with K = {result.Ks[-1]} takes "
                 f"{last[-1] / last[1]:.2f} times as long as with K = {result.Ks[0]};\n"
                 "with few key heads, the time does not fall as the bytes do", x=0.01, ha="left",
                 fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
