"""Day 38 · Several makers of training steps, each in a process of its own, against one clock.

A step is forward, loss, backward, clipping and AdamW, in float32 on two threads. Two libraries'
thread pools disturb each other, so each side works in its own process; they take turns, so that a
slow minute hits all. All start from the same weights and see the same batches, and after 20 steps
their losses must agree. experiments/bench_training.py adds PyTorch as a side.
"""

import contextlib
import multiprocessing
import statistics
import sys
import time

import numpy as np

from days.day38.apart import ignore_interrupts, settings
from llm.models.gpt import GPT, GPTConfig

try:
    import resource
except ImportError:                             # Windows: memory and page faults are left out
    resource = None

CHECKED_STEPS = 20
RATE = 3e-4          # at 1e-3, GPT-2 on random tokens is chaotic: 1e-6 in a weight soon shows
CASES = [                                       # B, T, L, H, C, V, rounds, steps a round
    ("small: B 12, T 64, L 4, C 128, V 65", 12, 64, 4, 4, 128, 65, 7, 40),
    ("medium: B 16, T 128, L 6, C 384, V 65", 16, 128, 6, 6, 384, 65, 5, 4),
    ("GPT-2: B 4, T 64, L 12, C 768, V 50257", 4, 64, 12, 12, 768, 50257, 5, 2),
]


def batches(case):
    """The batches all sides see: (inputs, targets), over and over."""
    _, B, T, _, _, _, V, *_ = case
    rng = np.random.default_rng(1)
    while True:
        rows = rng.integers(0, V, (B, T + 1)).astype(np.int32)
        yield rows[:, :-1].copy(), rows[:, 1:].copy()


def model_of(case):
    """Our GPT with the weights that all sides start from."""
    _, _, T, L, H, C, V, *_ = case
    return GPT(GPTConfig(V=V, T=T, C=C, L=L, H=H), np.random.default_rng(0))


def our_steps(case, side="ours"):
    """A function that makes one of our steps and returns its loss.

    side: "ours" on kernels, "numpy" without, "kept" without, but freed memory is kept for reuse,
    "alone" on kernels, but BLAS's threads wait actively (`fast()` alone), "bf16" on kernels, with
    bfloat16 products. The number of threads is fixed, as it is for the peers, and not chosen by
    the clock: on a machine whose speed wavers, some steps would be those of one thread.
    """
    from llm.grad.lowering import lower  # here: the peers' processes need no Numba
    from llm.kernels.threads import settle
    from llm.train import fast_half, loop
    from llm.train.adam import AdamW
    from llm.train.fast import fast
    from llm.train.loop import fit
    from llm.train.schedule import Constant
    model, source = model_of(case), batches(case)
    parameters = model.named_parameters()
    optimizer = AdamW(parameters, decay=0.01, decays=lambda name, p: True)

    def loss(batch):
        return model.loss(*batch), batch[1].size

    nothing = contextlib.nullcontext
    if side == "kept":
        settle()

    def step():
        with {"ours": fast, "alone": fast, "bf16": fast_half.fast}.get(side, nothing)(), \
                lower({loop.paced: unpaced}):
            return fit(parameters, loss, source, optimizer, Constant(RATE), steps=1).losses[0]

    return step


def unpaced(kind, work, *arguments):
    """In the place of `loop.paced`: all the threads there are."""
    return work(*arguments)


def sgemm_peak():
    """GFLOP/s of NumPy's BLAS at 1024³, the best of several."""
    a = np.ones((1024, 1024), np.float32)
    times = []
    for _ in range(12):
        began = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - began)
    return 2 * 1024**3 / min(times) / 1e9


def work(side, case, make, pipe):
    """A side's process: make steps when told to, answer with (losses, seconds of each)."""
    ignore_interrupts()
    try:
        step = make(case, side)
        pipe.send(("ready", sgemm_peak() if side == "ours" else None))
        while (n := pipe.recv()) > 0:
            losses, times, (_, before) = [], [], used()
            for _ in range(n):
                began = time.perf_counter()
                losses.append(step())
                times.append(time.perf_counter() - began)
            peak, now = used()
            pipe.send(("steps", losses, times, (now - before) / n))
        pipe.send(("memory", peak))
    except Exception as error:                      # told to the parent, which goes on without us
        pipe.send(("failed", f"{type(error).__name__}: {error}".splitlines()[0]))


def used():
    """(peak memory in MiB, page faults) of this process so far; zeros where nobody counts them."""
    if resource is None:
        return 0.0, 0
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), usage.ru_minflt


def flops(case):
    """FLOPs of a step: 6 per weight in a product and token, and 12·T·C·L for attention, halved
    since the future is not visited."""
    _, B, T, L, _, C, V, *_ = case
    return B * T * (6 * (12 * L * C * C + V * C) + 6 * T * C * L)


def compare(case, sides, say, peers=None):
    """One case: all sides in turn; returns what the JSON holds.

    peers: {side: make} for sides that are not ours; make(case, side) -> a function that makes one
    step and returns its loss, in a process of its own.
    """
    makers = dict.fromkeys(sides, our_steps) | (peers or {})
    context, workers = multiprocessing.get_context("spawn"), {}
    *_, rounds, per_round = case
    peak, losses, times, memory, faults = None, {}, {}, {}, {}
    for side, make in makers.items():
        pipe, theirs = context.Pipe()
        process = context.Process(target=work, args=(side, case, make, theirs), daemon=True)
        with settings(side):
            process.start()
        kind, value = pipe.recv()
        if kind == "failed":
            say(f"  {side} left out: {value}")
            continue
        peak = value or peak
        pipe.send(CHECKED_STEPS)                    # also warms up and compiles
        answer = pipe.recv()
        if answer[0] == "failed":
            say(f"  {side} left out: {answer[1]}")
            continue
        workers[side], losses[side], times[side] = (process, pipe), answer[1], []
        say(f"  {side:9} loss {losses[side][0]:.4f} → {losses[side][-1]:.4f} "
            f"after {CHECKED_STEPS} steps")
    for _ in range(rounds):
        for side, (_, pipe) in workers.items():
            pipe.send(per_round)
            _, _, spent, faults[side] = heard(side, pipe)
            times[side] += spent
    for side, (process, pipe) in workers.items():
        pipe.send(0)
        _, memory[side] = heard(side, pipe)
        process.join()
    return summary(case, peak, losses, times, memory, faults, peers or {})


def heard(side, pipe):
    """What a process answers; raises RuntimeError if it failed in the middle."""
    answer = pipe.recv()
    if answer[0] == "failed":
        raise RuntimeError(f"{side} stopped: {answer[1]}")
    return answer


def summary(case, peak, losses, times, memory, faults, peers):
    """The medians, and the ratio of the best peer to ours."""
    ms = {side: 1000 * statistics.median(values) for side, values in times.items()}
    theirs = {side: value for side, value in ms.items() if side in peers and "bf16" not in side}
    best = min(theirs, key=theirs.get) if theirs else None
    apart = max((abs(values[-1] - losses["ours"][-1]) for side, values in losses.items()
                 if "bf16" not in side), default=0)
    half = {side: abs(values[-1] - losses["ours"][-1]) for side, values in losses.items()
            if "bf16" in side}
    return {"case": case[0], "ours": ms["ours"], "peer": theirs.get(best), "peer_is": best,
            "ratio": theirs[best] / ms["ours"] if best else None, "milliseconds": ms,
            "sgemm_gflops": peak,
            "share_of_sgemm_peak": {side: flops(case) / (value / 1000) / 1e9 / peak
                                    for side, value in ms.items()},
            "peak_memory_mib": memory, "page_faults_a_step": faults,
            "loss_difference_after_20_steps": apart, "same_losses": apart < 1e-3,
            "bf16_loss_difference_after_20_steps": half}
