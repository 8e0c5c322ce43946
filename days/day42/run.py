"""Day 42 · One token with a cache and without: seconds, bytes, and life past the window."""

from dataclasses import dataclass, replace

import numpy as np

from days.day35.trained import trained
from days.day42 import policies, timing
from days.harness import main, print_table, progress, save
from llm.generate.architecture import gpt_weights
from llm.generate.cache import KVCache, cache_bytes
from llm.generate.decode import count_flops


@dataclass(frozen=True)
class Result:
    corpus: str
    shape: dict           # of the reader's GPT
    equal: list           # [tokens a chunk, largest difference to day 34's logits, of the largest]
    rows: list            # [tokens before, ms without, ms with, FLOPs without, FLOPs with]
    meet: int             # tokens before one whose cache is as large as the weights it meets
    prompt: list          # [tokens a chunk, ms for a prompt of prompt_tokens]
    prompt_tokens: int
    heads: list           # [K, bytes by formula, measured, ms of a token, of a layer's scores]
    heads_shape: dict
    targets: int          # tokens scored in each piece
    pieces: int
    past: list            # [tokens of cache, nats a token anew, {policy: [nats more, ± its error]}]
    controls: dict        # [nats more than anew, ± its error], at the full window
    sink: list            # mean attention on the first token, a row for each layer
    even: float           # what it would be if all keys got the same


def measure(fast, seed):
    reader, rng = trained(fast), np.random.default_rng(seed)
    arch, weights = gpt_weights(reader.model.state_dict(), reader.config)
    ids = np.array(reader.tokenizer.encode(reader.corpus.validation))
    ids = ids[len(ids) // 2:]
    ends = (0, 4, 16, 64) if fast else (0, 4, 16, 64, 128, 256, 512, 1024, 2047)
    chunks, tokens = ((1, 64), 64) if fast else ((1, 8, 64, 512), 512)
    longer, repeats = replace(arch, T=max(2048, ends[-1] + 1)), 5 if fast else 15
    wide = {"T": 256, "C": 64, "L": 2, "H": 4} if fast else {"T": 4096, "C": 256, "L": 4, "H": 8}
    archs = {K: timing.wide(K, **wide) for K in (8, 4, 2, 1) if wide["H"] >= K}
    with progress(repeats * (len(ends) + 3), "timing") as step:
        rows = []
        for t in ends:
            cached, anew = timing.token_seconds(longer, weights, rng, t, repeats, step)
            rows.append([t, 1e3 * anew, 1e3 * cached, count_flops(arch, 0, t + 1),
                         count_flops(arch, t, 1)])
        prompt = timing.prompt_seconds(longer, weights, ids[:tokens], chunks, repeats, step)
        tokens_at = timing.cached_seconds(archs, rng, repeats, step)
        scores = timing.score_seconds(archs, rng, repeats, step)
    heads = [[K, cache_bytes(a, a.T), KVCache(a).bytes(), 1e3 * tokens_at[K], 1e3 * scores[K]]
             for K, a in archs.items()]
    sizes, count = ((8, arch.T), 3) if fast else ((8, 16, 32, 64, arch.T), 8)
    targets = 40 if fast else 160
    parts = policies.pieces(ids, count, arch.T + targets)
    past, controls = policies.summed(
        *policies.beyond(reader.model, arch, weights, parts, sizes))
    sink = np.mean([policies.attention_on(arch, weights, part[:arch.T], 0) for part in parts], 0)
    queries = np.arange(arch.T // 2, arch.T)
    return Result(
        reader.corpus.name, vars(arch), timing.equality(reader.model, arch, weights, ids), rows,
        timing.weights_in_products(arch) // (2 * arch.L * arch.K * arch.D),
        [[size, 1e3 * s] for size, s in prompt.items()], tokens, heads, wide, targets, count,
        past, controls, sink.tolist(), float(np.mean(1 / (queries + 1))))


def table(result):
    head = ["tokens before", "ms without", "ms with", "ratio", "FLOPs, ratio", "cache, kB"]
    size = 8 * result.shape["L"] * result.shape["K"] * result.shape["D"]
    return [head] + [[f"{t:,}", f"{anew:.2f}", f"{cached:.2f}", f"{anew / cached:.1f}",
                      f"{more / one:,.0f}", f"{size * (t + 1) / 1e3:,.0f}"]
                     for t, anew, cached, more, one in result.rows]


def past_table(past):
    """Nats a token read anew, and what each policy costs more."""
    return [["cache", "nats, read anew", *past[0][2]]] + [
        [T, f"{anew:.3f}", *(f"{mean:+.3f} ± {error:.3f}" for mean, error in more.values())]
        for T, anew, more in past]


def show(result):
    print_table(table(result), "one token more, with the cache and without")
    print_table([["K", "bytes, 2·L·T·K·D·4", "measured", "ms a token", "scores, a layer"]] + [
        [K, f"{a:,}", f"{b:,}", f"{ms:.2f}", f"{score:.2f}"]
        for K, a, b, ms, score in result.heads],
        f"heads of keys and values, {result.heads_shape['T']:,} tokens cached")
    print_table([["tokens a chunk", f"ms for a prompt of {result.prompt_tokens}"]] + [
        [size, f"{ms:.1f}"] for size, ms in result.prompt], "the prompt in chunks")
    print_table(past_table(result.past), "past the cache: nats a token more than read anew")
    for name, (mean, error) in result.controls.items():
        print(f"{name}: {mean:+.3f} ± {error:.3f} nats")
    print(f"attention on the first token: {np.mean(result.sink):.4f} in the mean; even shares "
          f"would be {result.even:.4f}")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4))
    t = [row[0] + 1 for row in result.rows]
    for j, name, color in ((1, "without a cache", "#c8553d"), (2, "with the cache", "#1b4965")):
        left.loglog(t, [row[j] for row in result.rows], "o-", color=color, ms=4, label=name)
    left.set(xlabel="position of the token", ylabel="ms for the token")
    left.xaxis.set_major_formatter("{x:,.0f}")
    left.yaxis.set_major_formatter("{x:,g}")
    left.minorticks_off()
    left.legend(loc="upper left")
    x = np.arange(len(result.past))
    names = list(result.past[0][2])
    for i, name in enumerate(names):
        mean, error = zip(*(more[name] for *_, more in result.past))
        right.errorbar(x + 0.12 * (i - 1.5), mean, error, fmt="o", ms=4, capsize=2, label=name,
                       color=["#c8553d", "#1b4965", "#6a994e", "#b58900"][i])
    right.axhline(0, color="#bbbbbb", lw=1, zorder=0)
    right.set(xlabel="tokens that the cache holds", ylabel="nats a token more than read anew",
              xticks=x, xticklabels=[str(T) for T, *_ in result.past])
    right.legend(loc="upper right")
    last = result.rows[-1]
    fig.suptitle(f"At position {last[0] + 1:,} a token without a cache takes "
                 f"{last[1] / last[2]:,.0f} times as long.\nWhen the cache is full, how one makes "
                 "room matters only where the cache is small", x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
