"""Day 54 · SmolLM2 learns sums through adapters, beside a base in float32 and one in 4 bits.

A flag of its own: --full, ten times the steps.
"""

from dataclasses import asdict, dataclass

import numpy as np

from days.day35.trained import trained
from days.day54 import costs, errors, sums
from days.harness import main, print_table, progress, save, say
from llm.models.llama import LlamaConfig
from llm.tune.fast_lora import fast as kernels
from llm.tune.lora import FrozenLinear

BATCHES = ((4, 256), (1, 256))          # of the account: B, T


@dataclass(frozen=True)
class Result:
    model: str
    plan: dict            # of sums.Plan
    runs: list            # of sums.learn: a base in float32, then one in 4 bits
    account: list         # [way, numbers trained, FLOPs a token, kept a token, {part: bytes} …]
    errors: list          # [way, bits, relative squared error of: normal numbers, GPT, the model]
    backward: list        # [rows, Cin, Cout, ms with dW, ms without]


def measure(fast, seed, full=False):
    """`fast` uses a tiny GPT of ours, so that it needs no download; `full` trains longer."""
    plan = sums.Plan(4, tested=8) if fast else sums.Plan(160 if full else 16)
    rng, source = np.random.default_rng(seed), sums.Source(fast, say)
    with kernels(), progress(2 * plan.steps, "learning sums") as tick:
        runs = [sums.learn(source, quantised, plan, seed, tick) for quantised in (False, True)]
        shapes = [(64, 32, 64)] if fast else [(1024, 576, 960), (1024, 576, 1536),
                                              (1024, 1536, 576)]
        backward = [[*shape, *errors.backward_times(rng, *shape, 20)] for shape in shapes]
    gpt = np.concatenate([w.data.reshape(-1, 64) for path, w in
                          trained(fast).model.named_parameters().items() if path.endswith(".w")])
    matrix = dict(source.frozen(False).named(FrozenLinear))["blocks.1.think.inner.up"].weight()
    normal = rng.standard_normal((64, 64) if fast else (1024, 1024)).astype(np.float32)
    return Result(source.name, asdict(plan), runs, account(LlamaConfig(), plan.rank),
                  errors.errors([normal, gpt, matrix]), backward)


def account(config, rank):
    """Of SmolLM2's shape, whatever model was trained."""
    everything = costs.count_parameters(config)
    return [[way, everything if way == "everything" else costs.trained(config, rank),
             costs.flops(config, way, rank), costs.kept(config, way, rank, 256),
             *(costs.account(config, way, rank, B, T) for B, T in BATCHES)] for way in costs.WAYS]


def table(result):
    rows = [["base", "frozen, MB", "trained", "nats an answer token, before", "after",
             "sums right, before", "after ", "s a step"]]
    for run in result.runs:
        rows.append([run["base"], f"{run['base_bytes'] / 1e6:.0f}", f"{run['trained']:,}",
                     f"{run['before'][0]:.2f}", f"{run['after'][0]:.2f}",
                     f"{100 * run['before'][1]:.0f} %", f"{100 * run['after'][1]:.0f} %",
                     f"{run['seconds']:.2f}"])
    return rows


def show(result):
    p = result.plan
    print_table(table(result), f"{result.model}, rank {p['rank']}, {p['steps']} steps of "
                f"{p['B']} sums")
    print_table([["trained", "numbers", "MFLOP a token", "kept a token", *(
        f"{part}, MB" for part in result.account[0][4])]] + [
        [way, f"{n:,}", f"{flops / 1e6:.0f}", f"{kept:,}", *(f"{b / 1e6:.0f}" for b in
                                                           parts.values())]
        for way, n, flops, kept, parts, _ in result.account], "SmolLM2, B 4, T 256: the account")
    print_table([["four bits", "bits a weight", "normal numbers", "our GPT", result.model]] + [
        [name, f"{bits:.3f}", *(f"{x:.5f}" for x in values)]
        for name, bits, *values in result.errors], "squared error over squared length")
    print_table([["backward of a layer", "with dW, ms", "without, ms"]] + [
        [f"{N:,} rows, {cin} to {cout}", f"{full:.2f}", f"{less:.2f}"]
        for N, cin, cout, full, less in result.backward])


def draw(result, path):
    """Left: memory by part. Right: the loss, step by step, on both bases."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4), width_ratios=[1.1, 1])
    names, bottom = [row[0] for row in result.account], np.zeros(len(result.account))
    for part, color, label in (("weights", "#1b4965", "weights"),
                               ("trained", "#c8553d", "gradient and Adam"),
                               ("kept", "#8fb8d0", "kept for the backward")):
        sizes = np.array([row[5][part] / 1e6 for row in result.account])
        left.bar(names, sizes, 0.6, bottom, color=color, label=label)
        bottom += sizes
    for x, total in enumerate(bottom):
        left.annotate(f"{total:.0f} MB", (x, total), (0, 3), textcoords="offset points",
                      ha="center", fontsize=8.5)
    left.set(ylabel="MB, B 1, T 256", title="SmolLM2-135M: the account",
             ylim=(0, bottom.max() * 1.1))
    left.tick_params(axis="x", labelsize=8.5)
    left.legend(fontsize=8.5)
    for run, color, style in zip(result.runs, ("#1b4965", "#c8553d"), ("o-", "s--")):
        steps = range(1, len(run["losses"]) + 1)
        right.plot(steps, run["losses"], style, ms=3.5, lw=1.2, color=color,
                   label=f"base in {run['base']}", markevery=max(1, len(run["losses"]) // 20))
    right.set(xlabel="step", ylabel="nats an answer token", ylim=(0, None),
              title=f"{result.model} learns sums")
    right.xaxis.get_major_locator().set_params(integer=True)
    right.legend(fontsize=8.5)
    first, last = bottom[0], bottom[-1]
    fig.suptitle(f"Frozen and in 4 bits, a model can be fine-tuned in {last / first:.2f} of the "
                 "memory that training everything takes", x=.01, ha="left", fontsize=10.5)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
