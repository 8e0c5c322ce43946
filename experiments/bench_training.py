"""Day 38 · How fast is a training step, against PyTorch, in one run on one machine?

Three GPTs; a step is forward, loss, backward, clipping and AdamW, in float32 on two threads. Each
side works in a process of its own, since two libraries' thread pools disturb each other; they take
turns, so that a slow minute hits both. Both start from the same weights and see the same batches,
and after 20 steps their losses must agree.

Every process starts with the settings its libraries choose for themselves, whatever the caller's
environment says, on two threads. Our own then changes two: `fast()` lets Numba's threads sleep when
they wait, and OPENBLAS_THREAD_TIMEOUT=10 does the same for those of NumPy's BLAS.

    python experiments/bench_training.py --peer torch [--json] [--cases 0 1 2]

`ratio` is the better of PyTorch eager and compiled, divided by ours: above 1 we are faster.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import statistics
import sys
import time
from pathlib import Path

try:
    import resource
except ImportError:                             # Windows: memory and page faults are left out
    resource = None

THREADS, CHECKED_STEPS = 2, 20
RATE = 3e-4          # at 1e-3, GPT-2 on random tokens is chaotic: 1e-6 in a weight soon shows
CASES = [                                       # B, T, L, H, C, V, rounds, steps a round
    ("small: B 12, T 64, L 4, C 128, V 65", 12, 64, 4, 4, 128, 65, 7, 40),
    ("medium: B 16, T 128, L 6, C 384, V 65", 16, 128, 6, 6, 384, 65, 5, 4),
    ("GPT-2: B 4, T 64, L 12, C 768, V 50257", 4, 64, 12, 12, 768, 50257, 5, 2),
]
SETTINGS = {                                    # by side; libraries read them when they are loaded
    "ours": {"OPENBLAS_THREAD_TIMEOUT": "10"},  # cycles until a thread sleeps: 2¹⁰, not 2²⁶
    "spins": {"GOMP_SPINCOUNT": "300000"},      # libgomp's own choice, so that settle() leaves it
}


def batches(case):
    """The batches all sides see: (inputs, targets), over and over."""
    import numpy as np
    _, B, T, _, _, _, V, *_ = case
    rng = np.random.default_rng(1)
    while True:
        rows = rng.integers(0, V, (B, T + 1)).astype(np.int32)
        yield rows[:, :-1].copy(), rows[:, 1:].copy()


def model_of(case):
    """Our GPT with the weights that all sides start from."""
    import numpy as np

    from llm.models.gpt import GPT, GPTConfig
    _, _, T, L, H, C, V, *_ = case
    return GPT(GPTConfig(V=V, T=T, C=C, L=L, H=H), np.random.default_rng(0))


def our_steps(case, side="ours"):
    """A function that makes one of our steps and returns its loss.

    side: "ours" on kernels, "numpy" without, "kept" without, but freed memory is kept for reuse,
    "spins" on kernels, but the threads of both pools wait actively.
    """
    from llm.kernels.threads import settle
    from llm.train.adam import AdamW
    from llm.train.fast import fast
    from llm.train.loop import fit
    from llm.train.schedule import Constant
    model, source = model_of(case), batches(case)
    parameters = model.named_parameters()
    optimizer = AdamW(parameters, decay=0.01, decays=lambda name, p: True)

    def loss(batch):
        return model.loss(*batch), batch[1].size

    if side == "kept":
        settle()

    def step():
        with fast() if side in ("ours", "spins") else contextlib.nullcontext():
            return fit(parameters, loss, source, optimizer, Constant(RATE), steps=1).losses[0]

    return step


def torch_steps(case, compiled):
    """The same for PyTorch, eager or compiled."""
    import torch

    from experiments.torch_gpt import TorchGPT, to_torch
    torch.set_num_threads(THREADS)
    ours, source = model_of(case), batches(case)
    model = TorchGPT(ours.config)
    model.load_state_dict(to_torch(ours.state_dict()))
    del ours
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01, fused=True)
    forward = torch.compile(model) if compiled else model

    def step():
        inputs, targets = (torch.from_numpy(a).long() for a in next(source))
        optimizer.zero_grad(set_to_none=True)
        loss = forward(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def sgemm_peak():
    """GFLOP/s of NumPy's BLAS at 1024³, the best of several."""
    import numpy as np
    a = np.ones((1024, 1024), np.float32)
    times = []
    for _ in range(12):
        began = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - began)
    return 2 * 1024**3 / min(times) / 1e9


def work(side, case, pipe):
    """A side's process: make steps when told to, answer with (losses, seconds of each)."""
    ignore_interrupts()
    try:
        step = (torch_steps(case, side == "compiled") if side in ("eager", "compiled")
                else our_steps(case, side))
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


def ignore_interrupts():
    """Ctrl-C reaches all processes of a terminal; the parent alone answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def used():
    """(peak memory in MiB, page faults) of this process so far; zeros where nobody counts them."""
    if resource is None:
        return 0.0, 0
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), usage.ru_minflt


@contextlib.contextmanager
def settings(side):
    """Processes that start inside this block find the settings of that side."""
    names = SETTINGS.get(side, {})
    os.environ.update(names)
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def flops(case):
    """FLOPs of a step: 6 per weight in a product and token, and 12·T·C·L for attention, halved
    since the future is not visited."""
    _, B, T, L, _, C, V, *_ = case
    return B * T * (6 * (12 * L * C * C + V * C) + 6 * T * C * L)


def compare(case, sides, say):
    """One case: all sides in turn; returns what the JSON holds."""
    context, workers = multiprocessing.get_context("spawn"), {}
    *_, rounds, per_round = case
    peak, losses, times, memory, faults = None, {}, {}, {}, {}
    for side in sides:
        pipe, theirs = context.Pipe()
        process = context.Process(target=work, args=(side, case, theirs), daemon=True)
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
    return summary(case, peak, losses, times, memory, faults)


def heard(side, pipe):
    """What a process answers; raises RuntimeError if it failed in the middle."""
    answer = pipe.recv()
    if answer[0] == "failed":
        raise RuntimeError(f"{side} stopped: {answer[1]}")
    return answer


def summary(case, peak, losses, times, memory, faults):
    ms = {side: 1000 * statistics.median(values) for side, values in times.items()}
    peers = {side: value for side, value in ms.items() if side in ("eager", "compiled")}
    best = min(peers, key=peers.get) if peers else None
    apart = max((abs(values[-1] - losses["ours"][-1]) for values in losses.values()), default=0)
    return {"case": case[0], "ours": ms["ours"], "peer": peers.get(best), "peer_is": best,
            "ratio": peers[best] / ms["ours"] if best else None, "milliseconds": ms,
            "sgemm_gflops": peak,
            "share_of_sgemm_peak": {side: flops(case) / (value / 1000) / 1e9 / peak
                                    for side, value in ms.items()},
            "peak_memory_mib": memory, "page_faults_a_step": faults,
            "loss_difference_after_20_steps": apart, "same_losses": apart < 1e-3}


def show(result):
    for side, value in result["milliseconds"].items():
        print(f"  {side:9}{value:9.1f} ms  {result['share_of_sgemm_peak'][side]:5.0%} of sgemm's "
              f"{result['sgemm_gflops']:.0f} GFLOP/s  {result['peak_memory_mib'][side]:7.0f} MiB")
    if result["ratio"]:
        print(f"  ratio {result['ratio']:.2f} against {result['peer_is']}; losses differ by "
              f"{result['loss_difference_after_20_steps']:.1e}"
              f"{'' if result['same_losses'] else '  ← TOO MUCH'}")


def prepare_environment():
    """Two threads each, and no other setting that the processes would inherit."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(min(THREADS, os.cpu_count()))
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_THREAD_TIMEOUT",
                 "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        os.environ.pop(name, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", choices=["torch", "none"], default="none",
                        help="compare with PyTorch, eager and compiled (needs torch)")
    parser.add_argument("--cases", type=int, nargs="+", default=[0, 1, 2], choices=[0, 1, 2],
                        help="which of the three shapes (all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no more")
    options = parser.parse_args()
    if options.peer == "torch":
        import importlib.util
        if importlib.util.find_spec("torch") is None:
            parser.error("torch is not installed: pip install -r requirements-dev.txt")
    prepare_environment()
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

    def say(line):
        print(line, file=sys.stderr, flush=True)

    sides = ["ours"] + (["eager", "compiled"] if options.peer == "torch" else [])
    results = []
    for index in options.cases:
        say(CASES[index][0])
        results.append(compare(CASES[index], sides, say))
        if not options.json:
            print(CASES[index][0])
            show(results[-1])
    if options.json:
        from days.harness import machine
        print(json.dumps({"peer": options.peer, "machine": machine(), "threads": THREADS,
                          "cases": results}))


if __name__ == "__main__":
    main()
