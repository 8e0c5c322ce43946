"""Day 38 · How fast is a training step, against PyTorch, in one run on one machine?

Three GPTs, in float32 on two threads; how the sides take turns is in days/day38/sides.py. Every
process starts with the settings its libraries choose for themselves, whatever the caller's
environment says, on two threads. Our own then changes two: `fast()` lets Numba's threads sleep when
they wait, and OPENBLAS_THREAD_TIMEOUT=10 does the same for those of NumPy's BLAS.

    python experiments/bench_training.py --peer torch [--bf16] [--json] [--cases 0 1 2]

`ratio` is the better of PyTorch eager and compiled, divided by ours: above 1 we are faster. With
--bf16 both sides also multiply bfloat16 numbers, PyTorch under its autocast; `bf16_ratio` compares
those two, and `bf16_against_fp32` is PyTorch's better float32 divided by our bfloat16.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))   # found from anywhere

from days.day38.apart import THREADS, prepare_environment  # noqa: E402
from days.day38.sides import CASES, RATE, batches, compare, model_of  # noqa: E402


def torch_steps(case, side):
    """The same for PyTorch, eager or compiled, in float32 or under bfloat16's autocast."""
    import torch

    from experiments.torch_gpt import TorchGPT, to_torch
    torch.set_num_threads(THREADS)
    ours, source = model_of(case), batches(case)
    model = TorchGPT(ours.config)
    model.load_state_dict(to_torch(ours.state_dict()))
    del ours
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01, fused=True)
    forward = torch.compile(model) if "compiled" in side else model

    def step():
        inputs, targets = (torch.from_numpy(a).long() for a in next(source))
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in side):
            loss = forward(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def show(result):
    for side, value in result["milliseconds"].items():
        print(f"  {side:14}{value:9.1f} ms  {result['share_of_sgemm_peak'][side]:5.0%} of sgemm's "
              f"{result['sgemm_gflops']:.0f} GFLOP/s  {result['peak_memory_mib'][side]:7.0f} MiB")
    if result["ratio"]:
        print(f"  ratio {result['ratio']:.2f} against {result['peer_is']}; losses differ by "
              f"{result['loss_difference_after_20_steps']:.1e}"
              f"{'' if result['same_losses'] else '  ← TOO MUCH'}")
    if result.get("bf16_ratio"):
        print(f"  bfloat16: ratio {result['bf16_ratio']:.2f} against {result['bf16_peer_is']}, "
              f"{result['bf16_against_fp32']:.2f} against PyTorch's float32")


def with_bf16(result):
    """The result of a case, and how bfloat16 compares."""
    ms = result["milliseconds"]
    theirs = {side: value for side, value in ms.items() if side.endswith(" bf16")}
    if theirs and result["peer"]:
        best = min(theirs, key=theirs.get)
        result |= {"bf16_peer_is": best, "bf16_ratio": theirs[best] / ms["bf16"],
                   "bf16_against_fp32": result["peer"] / ms["bf16"]}
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", choices=["torch", "none"], default="none",
                        help="compare with PyTorch, eager and compiled (needs torch)")
    parser.add_argument("--cases", type=int, nargs="+", default=[0, 1, 2], choices=[0, 1, 2],
                        help="which of the three shapes (all)")
    parser.add_argument("--bf16", action="store_true",
                        help="also with bfloat16 products on both sides")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no more")
    options = parser.parse_args()
    if options.peer == "torch":
        import importlib.util
        if importlib.util.find_spec("torch") is None:
            parser.error("torch is not installed: pip install -r requirements-dev.txt")
    prepare_environment()

    def say(line):
        print(line, file=sys.stderr, flush=True)

    names = ["eager", "compiled"] + ["eager bf16", "compiled bf16"] * options.bf16
    peers = dict.fromkeys(names, torch_steps) if options.peer == "torch" else {}
    sides = ["ours"] + ["bf16"] * options.bf16
    results = []
    for index in options.cases:
        say(CASES[index][0])
        results.append(with_bf16(compare(CASES[index], sides, say, peers)))
        if not options.json:
            print(CASES[index][0])
            show(results[-1])
    if options.json:
        from days.harness import machine
        print(json.dumps({"peer": options.peer, "machine": machine(), "threads": THREADS,
                          "cases": results}))


if __name__ == "__main__":
    main()
