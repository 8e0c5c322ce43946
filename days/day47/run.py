"""Day 47 · Serving many: continuous against static batching, blocks against windows, B by B."""

from dataclasses import dataclass

import numpy as np

from days.day43.models import random_model, readers
from days.day47 import rows, serving
from days.day47.plan import FAST, FULL
from days.day47.report import (
    block_row,
    company_table,
    draw,
    places_table,
    rows_table,
    share_row,
    share_table,
    size_table,
    summed,
)
from days.harness import main, print_table, print_text, progress
from llm.generate.batch import pack_rows

MODES = {"static": True, "continuous": False}


@dataclass(frozen=True)
class Result:
    model: str
    shape: dict
    most: int             # requests at once
    counts: dict          # requests a stream, streams, blocks of the pool, tokens a block
    answer: list          # mean and longest answer that were drawn, mean prompt, in tokens
    loads: list           # [share of capacity or None, requests a second, {mode: a row of NUMBERS}]
    places: list          # [requests at once, {mode: [tokens a second, steps]}], all at once
    alone: float          # tokens a second, one request after another
    sizes: list           # [tokens a block, share unused, predicted, at once, tokens a second, …]
    sharing: list         # [shared?, tokens read, reused, tokens a second, ms to first: p50, p95]
    limits: list          # bytes a second from memory, FLOPs a second of our product
    small: dict           # B -> ms a step, the reader's GPT; 0: the compiled engine, one text
    wide: dict            # the same for a model that does not fit into a cache
    wide_shape: dict
    costs: list           # [B, FLOPs, bytes, ms by the roofline] of the wide model
    company: list         # [way to multiply, share of rows with other bits, requests changed, of]


def measure(fast, seed):
    reader, rng, plan = readers(fast), np.random.default_rng(seed), FAST if fast else FULL
    arch, weights, ids = reader.arch, pack_rows(reader.weights), np.array(reader.ids)
    places = plan.most * arch.T // 2                    # half of what the longest texts would need
    pool = {"blocks": places // 16, "size": 16, "most": plan.most}
    seeds = [seed + i for i in range(plan.streams)]
    stream = lambda s, load=plan.load, n=plan.count: serving.requests(
        load, ids, n, np.random.default_rng(s))
    wide = random_model("wide", rng, **plan.wide)
    jobs = 2 * (1 + len(plan.shares) + len(plan.others)) + len(plan.sizes) + 2
    jobs = jobs * plan.streams + 2 * len(plan.rows)
    with progress(jobs + 5, "serving") as tick:
        def serve(s, at, load=plan.load, **options):
            report = serving.serve(arch, weights, stream(s, load), at, **{**pool, **options})
            tick(1)
            return report

        serving.serve(arch, weights, stream(seed, n=4), None, **pool)     # compiles
        loads = [[None, 0.0, {name: summed([serve(s, None, static=static) for s in seeds])
                              for name, static in MODES.items()}]]
        capacity = loads[0][2]["continuous"][0] / np.mean([r.n for s in seeds for r in stream(s)])
        for share in plan.shares:
            rate = share * capacity
            times = [serving.poisson(rate, plan.count, np.random.default_rng([s, 1]))
                     for s in seeds]
            loads.append([share, rate, {name: summed(
                [serve(s, at, static=static) for s, at in zip(seeds, times)])
                for name, static in MODES.items()}])
        tried = [[most, {name: summed([serve(s, None, static=static, most=most)
                                       for s in seeds])[:2] for name, static in MODES.items()}]
                 for most in plan.others]
        tried.append([plan.most, {name: n[:2] for name, n in loads[0][2].items()}])
        alone = serve(seed, None, most=1)
        sizes = [block_row(size, arch.T, [
            serve(s, None, blocks=places // size, size=size, share=False, most=64)
            for s in seeds]) for size in plan.sizes]
        sharing = [share_row(share, [serve(s, None, plan.common, share=share) for s in seeds])
                   for share in (False, True)]
        small = rows.step_seconds(arch, reader.weights, plan.rows, plan.position,
                                  4 * plan.repeats, tick)
        small[0] = rows.engine_seconds(arch, reader.weights, plan.position, 10)
        large = rows.step_seconds(wide.arch, wide.weights, plan.rows, plan.position,
                                  plan.repeats, tick)
        large[0] = rows.engine_seconds(wide.arch, wide.weights, plan.position, 3)
        limits = rows.machine_limits(rng, fast)
        again = stream(seed, plan.longer, plan.count * 2 // 3)
        company = rows.company(arch, reader.weights, lambda: [rows.request_like(r) for r in again],
                               tick)
    costs = []
    for B in plan.rows:
        flops, size = rows.costs(wide.arch, wide.weights, B, plan.position)
        costs.append([B, flops, size, 1e3 * max(size / limits[0], flops / limits[1])])
    all_of_them = [r for s in seeds for r in stream(s)]
    return Result(
        reader.name, vars(arch), plan.most,
        {"requests": plan.count, "streams": plan.streams, **pool, "places": places},
        [float(np.mean([r.n for r in all_of_them])), max(r.n for r in all_of_them),
         float(np.mean([len(r.prompt) for r in all_of_them]))],
        loads, sorted(tried, key=lambda row: row[0]), alone.tokens / alone.seconds, sizes, sharing,
        list(limits),
        {B: 1e3 * s for B, s in small.items()}, {B: 1e3 * s for B, s in large.items()},
        vars(wide.arch), costs, company)


def table(result):
    head = ["load", "batching", "tokens/s", "first token, ms: p50", "p95", "p99",
            "ms a token: p50", "p95", "p99"]
    return [head] + [
        ["all at once" if share is None else f"{share:.0%}", name, f"{n[0]:,.0f}",
         *(f"{x:,.0f}" for x in n[3:6]), *(f"{x:.2f}" for x in n[6:9])]
        for share, _, both in result.loads for name, n in both.items()]


def show(result):
    print_table(table(result), "static against continuous batching")
    print(f"one after another: {result.alone:,.0f} tokens/s")
    print_table(places_table(result), "requests at once, when all are there")
    print_table(size_table(result), "the same memory in blocks of another size")
    print_table(share_table(result), "common beginnings")
    print_table(rows_table(result), "one step with B rows")
    print_text(
        f"the compiled engine: {1e3 / result.small[0]:,.0f} and {1e3 / result.wide[0]:,.0f} "
        f"tokens/s; memory {result.limits[0] / 1e9:.0f} GB/s, product "
        f"{result.limits[1] / 1e9:.0f} GFLOP/s")
    print_table(company_table(result), "16 at once against alone")


if __name__ == "__main__":
    main(__file__, measure, show, draw)
