"""Day 54 · How fast and how small is a LoRA step on SmolLM2-135M, against peft, in one run?

Rank 8 on all linear layers, B 4, T 256, float32, two threads; the loss counts every token. Each
side works in its own process and they take turns; both start from the same weights (peft draws its
own A) and see the same random tokens, so their first losses must be equal. A step is forward, loss,
backward, clipping and AdamW. A third process makes QLoRA steps, B 1, T 256, for its peak memory.

    python experiments/bench_lora.py --peer peft [--json]

`ratio` is our tokens a second over peft's, `memory` our peak over peft's, of whole processes.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))   # found from anywhere

from days.day38.apart import THREADS, prepare_environment, settings  # noqa: E402
from days.day38.sides import heard, work  # noqa: E402

RANK, ALPHA, RATE = 8, 16, 1e-4
CASES = {"lora": (4, 256), "qlora": (1, 256)}                     # B, T
STEPS, WARM = 2, 2               # a round's; before the first


def batches(case):
    """The batches all sides see: (inputs, targets), new ones each time."""
    import numpy as np
    (B, T), rng = CASES[case], np.random.default_rng(1)
    while True:
        ids = rng.integers(0, 49152, (B, T + 1)).astype(np.int32)
        yield ids[:, :-1].copy(), ids[:, 1:].copy()


def base():
    """SmolLM2, every array in float32."""
    from llm.generate.pretrained import load
    from llm.tune.qlora import open_frozen
    return open_frozen(load())


def our_steps(case, side):
    """A function that makes one of our steps and returns its loss. side: "ours" or "qlora"."""
    import numpy as np

    from llm.generate.pretrained import load
    from llm.train.adam import AdamW
    from llm.train.loop import fit
    from llm.train.schedule import Constant
    from llm.tune.fast_lora import fast
    from llm.tune.lean import lean
    from llm.tune.lora import add_lora, loss_of
    from llm.tune.qlora import open_frozen, open_quantised
    model, source = (open_quantised if side == "qlora" else open_frozen)(load()), batches(case)
    add_lora(model, RANK, ALPHA, np.random.default_rng(0))
    lean(model)
    parameters = model.named_parameters()
    optimizer = AdamW(parameters, decay=0.0)

    def loss(batch):
        return loss_of(model, *batch), batch[1].size

    def step():
        with fast():
            return fit(parameters, loss, source, optimizer, Constant(RATE), steps=1).losses[0]

    return step


def peft(case, side):
    from experiments.peft_lora import peft_steps
    return peft_steps(case)


def compare(case, makers, rounds, say):
    """{side: {losses, seconds, peak_mib}}; the sides take turns."""
    context, workers, found = multiprocessing.get_context("spawn"), {}, {}
    for side, make in makers.items():
        pipe, theirs = context.Pipe()
        process = context.Process(target=work, args=(side, case, make, theirs), daemon=True)
        with settings("peer" if side == "peft" else "ours"):
            process.start()
        found[side] = {"sgemm_gflops": heard(side, pipe)[1], "seconds": []}
        pipe.send(WARM)                                           # warms up and compiles
        found[side]["losses"] = heard(side, pipe)[1]
        workers[side] = process, pipe
        say(f"  {side:6} loss {found[side]['losses'][0]:.4f}")
    for _ in range(rounds):
        for side, (_, pipe) in workers.items():
            pipe.send(STEPS)
            _, losses, seconds, _ = heard(side, pipe)
            found[side]["losses"] += losses
            found[side]["seconds"] += seconds
    for side, (process, pipe) in workers.items():
        pipe.send(0)
        found[side]["peak_mib"] = heard(side, pipe)[1]
        process.join()
    B, T = CASES[case]
    for values in found.values():
        values["step_seconds"] = statistics.median(values["seconds"])
        values["tokens_per_second"] = B * T / values["step_seconds"]
    return found


def report(peer, rounds, say):
    """The JSON object: both cases, ratio of speeds, ratio of memories."""
    makers = {"ours": our_steps} | ({"peft": peft} if peer == "peft" else {})
    say("LoRA, B 4, T 256")
    lora = compare("lora", makers, rounds, say)
    say("QLoRA, B 1, T 256")
    result = {"peer": peer, "threads": THREADS, "rank": RANK, "cases": CASES, "lora": lora,
              "qlora": compare("qlora", {"qlora": our_steps}, rounds, say)["qlora"]}
    if "peft" in lora:
        ours, theirs = lora["ours"], lora["peft"]
        result |= {"ratio": ours["tokens_per_second"] / theirs["tokens_per_second"],
                   "memory": ours["peak_mib"] / theirs["peak_mib"],
                   "first_losses_apart": abs(ours["losses"][0] - theirs["losses"][0])}
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", choices=["peft", "none"], default="none",
                        help="compare with peft (needs torch, transformers and peft)")
    parser.add_argument("--rounds", type=int, default=4, metavar="N",
                        help="of two steps of each side (4)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no more")
    options = parser.parse_args()
    if options.peer == "peft":
        import importlib.util
        if missing := [name for name in ("torch", "transformers", "peft")
                       if importlib.util.find_spec(name) is None]:
            parser.error(f"{', '.join(missing)} missing: pip install -r requirements-dev.txt")
    prepare_environment()
    result = report(options.peer, options.rounds,
                    lambda line: print(line, file=sys.stderr, flush=True))
    from days.harness import machine
    result["machine"] = machine()
    if options.json:
        print(json.dumps(result))
        return
    for side, values in (*result["lora"].items(), ("qlora", result["qlora"])):
        print(f"{side:6}{values['tokens_per_second']:8.0f} tokens/s {values['peak_mib']:8.0f} MiB")
    if "ratio" in result:
        print(f"ours is {result['ratio']:.2f} times as fast as peft, with {result['memory']:.2f} "
              f"of its memory; first losses differ by {result['first_losses_apart']:.1e}")


if __name__ == "__main__":
    main()
