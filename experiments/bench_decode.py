"""Day 52 · How fast does the real model write and read, beside llama.cpp and transformers?

SmolLM2-135M from its Q4_1 file, greedy, one text, two threads on each side. Every side works in a
process of its own and they take turns, so that a slow minute hits both; a ratio is the median of
the rounds' ratios. In every round our process also reads 256 MB of memory, front to back on both
threads: decoding reads each weight once a token, so that is the limit it is held against.

    python experiments/bench_decode.py --peer llama.cpp [--json] [--cases decode prefill …]

decode: 128 tokens behind a prompt of 7. prefill: a prompt of 512. context: decoding behind 128,
1,024 and 4,096 tokens. load: a new process, from its start to the first token behind 7. memory:
its resident bytes after 128 tokens. types: decode and prefill of the same weights as Q4_0 and
Q8_0 blocks. paths: decode and prefill on each path that this processor can take (--paths: on
some), beside the peer at its best. cache: ours behind 4,096 tokens with a cache of 16 bits.
`ratio` is peer's time divided by ours, so above 1 we are faster; for memory it is ours by the
peer's.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

THREADS, ROUNDS, LOADS = 2, 7, 5
PROMPT = [504, 1463, 282, 260, 2321, 1789, 314]          # The history of the English language is
CASES = ("decode", "prefill", "context", "load", "memory", "types", "paths", "cache")
CONTEXTS = (128, 1024, 4096)
# OpenBLAS's worker sleeps at once when it has nothing to do: 2¹⁰ cycles, not 2²⁶.
SETTINGS = {"ours": {"OPENBLAS_THREAD_TIMEOUT": "10"}}


def work(side, arguments, pipe):
    """A side's process: make the engine, then do what is asked until told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)         # the parent alone answers Ctrl-C
    quiet()
    try:
        import numpy as np

        from experiments.decode_peers import ENGINES, text_ids
        engine = ENGINES[side](*arguments)
        ids = lambda n: np.array(PROMPT) if n == len(PROMPT) else text_ids(n, 49152)
        engine.write(ids(len(PROMPT)), 2)
        pipe.send(("ready", engine.seconds))
        while (request := pipe.recv()) is not None:
            what, n, *more = request
            if what == "read":
                answer = n / engine.read(ids(n))
            elif what == "write":
                answer = engine.write(ids(n), *more)
            elif what == "memory":
                answer = resident()
            elif what == "bandwidth":
                answer = bandwidth()
            else:
                answer = getattr(engine, what)(*([n] if n else []))
            pipe.send((what, answer))
    except Exception as error:                           # the parent says it, and goes on
        pipe.send(("failed", f"{type(error).__name__}: {error}".splitlines()[0]))


def quiet():
    """llama.cpp writes its log to the file handles; ours and transformers' warnings go too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def resident():
    """(bytes of this process in memory now, those of them that belong to no file); Linux only."""
    found = dict.fromkeys(("VmRSS", "RssAnon"), 0)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in found:
                found[name] = 1024 * int(rest.split()[0])
    return found["VmRSS"], found["RssAnon"]


def bandwidth(size=1 << 28, repeats=5):
    """Bytes a second read from memory by all threads, the best of some tries."""
    import numpy as np

    from llm.tensors.roofline import read_all
    if not hasattr(bandwidth, "array"):
        bandwidth.array = np.ones(size // 4, np.float32)
        read_all(bandwidth.array)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        read_all(bandwidth.array)
        times.append(time.perf_counter() - began)
    return size / min(times)


class Side:
    """A process that was started, and what it is asked."""

    def __init__(self, side, *arguments):
        context = multiprocessing.get_context("spawn")
        self.side, (self.pipe, theirs) = side, context.Pipe()
        self.process = context.Process(target=work, args=(side, arguments, theirs), daemon=True)
        os.environ.update(SETTINGS.get(side, {}))
        began = time.perf_counter()
        self.process.start()
        for name in SETTINGS.get(side, {}):
            del os.environ[name]
        self.load = self.hear()
        self.started = time.perf_counter() - began

    def hear(self):
        try:
            kind, answer = self.pipe.recv()
        except EOFError:
            kind, answer = "failed", "its process ended"
        if kind == "failed":
            raise RuntimeError(f"{self.side}: {answer}")
        return answer

    def ask(self, what, n=0, *more):
        self.pipe.send((what, n, *more))
        return self.hear()

    def stop(self):
        self.pipe.send(None)
        self.process.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def turns(sides, rounds, *request, memory=False):
    """Ask the sides in turn -> {side: [answers]}, and bandwidths by round if `memory`."""
    found, reads = {side.side: [] for side in sides}, []
    for _ in range(rounds):
        if memory:
            reads.append(sides[0].ask("bandwidth"))
        for side in sides:
            found[side.side].append(side.ask(*request))
    return found, reads


def entry(name, unit, found, **more):
    """One case of the JSON: medians, and the ratio with its lowest and highest round."""
    ours, *peers = found
    case = {"case": name, "unit": unit, "ours": statistics.median(found[ours]), **more}
    if peers:
        ratios = [a / b for a, b in zip(found[ours], found[peers[0]])]
        if unit != "tokens/s":
            ratios = [1 / ratio for ratio in ratios] if unit == "s" else ratios
        case |= {"peer": statistics.median(found[peers[0]]), "ratio": statistics.median(ratios),
                 "ratio_lowest": min(ratios), "ratio_highest": max(ratios)}
    return case


def share(sides, rates, reads, context):
    """How much of the memory's speed decoding uses: {token_bytes, bandwidth, share}."""
    size = sides[0].ask("token_bytes", context)
    return {"token_bytes": size, "bandwidth": statistics.median(reads),
            "share": statistics.median(rate * size / read for rate, read in zip(rates, reads))}


def decode(sides, rounds, name="decode"):
    found, reads = turns(sides, rounds, "write", len(PROMPT), 128, memory=True)
    context = len(PROMPT) + 64                              # on the average
    return entry(name, "tokens/s", found, **share(sides, found["ours"], reads, context))


def prefill(sides, rounds, name="prefill"):
    return entry(name, "tokens/s", turns(sides, rounds, "read", 512)[0])


def contexts(sides, rounds):
    """Behind more and more tokens, and what is left of the speed behind the fewest."""
    cases = []
    for n in CONTEXTS:
        found, reads = turns(sides, rounds, "write", n, 128, memory=True)
        more = share(sides, found["ours"], reads, n + 64)
        cases.append(entry(f"context {n}", "tokens/s", found, **more))
        for who in ("ours", "peer"):
            if who in cases[0]:
                cases[-1][f"{who}_left"] = cases[-1][who] / cases[0][who]
    return cases


def loads(names, arguments):
    """Seconds from the start of a process to its first token, and to an engine without imports."""
    found, engines = {name: [] for name in names}, {name: [] for name in names}
    for _ in range(LOADS):
        for name in names:
            with Side(name, *arguments) as side:
                found[name].append(side.started)
                engines[name].append(side.load)
    return [entry("load", "s", found), entry("load, imports apart", "s", engines)]


def memories(names, arguments):
    """Resident bytes after 128 tokens: with room for 4,096, and ours small."""
    found, kinds = {}, [("memory", arguments[:1] + (4096,))]
    for name in names:
        with Side(name, *kinds[0][1]) as side:
            side.ask("write", len(PROMPT), 128)
            found[name] = [side.ask("memory")]
    import numpy as np
    with Side("ours", arguments[0], 1024, None, np.float16) as side:
        side.ask("write", len(PROMPT), 128)
        small = side.ask("memory")
    total = {name: [values[0][0]] for name, values in found.items()}
    return [entry("memory", "bytes", total, without_files={
        name: values[0][1] for name, values in found.items()}),
        {"case": "memory, small", "unit": "bytes", "ours": small[0], "without_files": small[1]}]


def types(names, gguf, rounds, folder):
    """The same weights as other blocks, on both sides."""
    from experiments.decode_peers import retyped
    cases = []
    for kind in ("Q4_0", "Q8_0"):
        with contextlib.ExitStack() as stack:
            path = retyped(gguf, kind, folder)
            sides = [stack.enter_context(Side(name, path, 1024)) for name in names]
            cases += [decode(sides, rounds, f"decode {kind}"),
                      prefill(sides, rounds, f"prefill {kind}")]
    return cases


def paths(names, gguf, rounds, chosen):
    """Ours on paths of this processor, beside the peer as it is."""
    from llm.kernels import cpu
    cases = []
    for path in chosen or cpu.paths():
        with contextlib.ExitStack() as stack:
            sides = [stack.enter_context(Side("ours", gguf, 1024, path))]
            sides += [stack.enter_context(Side(name, gguf, 1024)) for name in names[1:]]
            for measured, what in ((decode, "decode"), (prefill, "prefill")):
                cases.append(measured(sides, rounds, f"{what}, {path}") | {"rounds": rounds})
    return cases


def half_cache(gguf, rounds):
    """Ours behind many tokens, with keys and values in 16 bits."""
    import numpy as np
    with Side("ours", gguf, CONTEXTS[-1] + 256, None, np.float16) as side:
        found, reads = turns([side], rounds, "write", CONTEXTS[-1], 128, memory=True)
        more = share([side], found["ours"], reads, CONTEXTS[-1] + 64)
        return entry(f"context {CONTEXTS[-1]}, 16-bit cache", "tokens/s", found, **more)


def measure(peer, chosen, gguf, rounds, on, say):
    """All chosen cases -> the JSON's list."""
    names, cases = ["ours"] + ([] if peer == "none" else [peer]), []

    def note(*new):
        cases.extend(new)
        for case in new:
            say(line(case))

    if {"decode", "prefill", "context"} & set(chosen):
        with contextlib.ExitStack() as stack:
            sides = [stack.enter_context(Side(name, gguf, CONTEXTS[-1] + 256)) for name in names]
            if "decode" in chosen:
                note(decode(sides, rounds))
            if "prefill" in chosen:
                note(prefill(sides, rounds))
            if "context" in chosen:
                note(*contexts(sides, rounds))
    if "load" in chosen:
        note(*loads(names, (gguf, 1024)))
    if "memory" in chosen:
        note(*memories(names, (gguf,)))
    if "types" in chosen and peer != "transformers":
        with tempfile.TemporaryDirectory() as folder:
            note(*types(names, gguf, rounds, folder))
    if "paths" in chosen:
        note(*paths(names, gguf, rounds, on))
    if "cache" in chosen:
        note(half_cache(gguf, rounds))
    return cases


def merged(old, new):
    """Cases that were kept, with those of the same name exchanged."""
    names = [case["case"] for case in new]
    return [case for case in old if case["case"] not in names] + new


def line(case):
    """A case in words."""
    scale = 1e6 if case["unit"] == "bytes" else 1
    unit = "MB" if scale > 1 else case["unit"]
    text = f"{case['case']:28}{case['ours'] / scale:9.4g} {unit}"
    if "ratio" in case:
        text += (f"   peer {case['peer'] / scale:9.4g}   ratio {case['ratio']:.2f} "
                 f"({case['ratio_lowest']:.2f} … {case['ratio_highest']:.2f})")
    if "share" in case:
        text += f"   {case['share']:.0%} of {case['bandwidth'] / 1e9:.1f} GB/s"
    return text


def prepare_environment():
    """Two threads each, and no other setting that the processes would inherit."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(min(THREADS, os.cpu_count()))
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_THREAD_TIMEOUT",
                 "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        os.environ.pop(name, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", choices=["llama.cpp", "transformers", "none"], default="none")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--paths", nargs="+", metavar="PATH", help="only these of the processor's")
    parser.add_argument("--gguf", help="another Llama-architecture file (SmolLM2-135M)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of a side ({ROUNDS})")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no more")
    parser.add_argument("--out", type=Path, help="keep the result in this JSON file, by peer; "
                        "paths alone stand apart")
    options = parser.parse_args()
    needs = {"llama.cpp": "xllamacpp", "transformers": "transformers"}.get(options.peer)
    import importlib.util
    if needs and importlib.util.find_spec(needs) is None:
        parser.error(f"{needs} is not installed: pip install -r requirements-dev.txt")
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds} must be at least 1")
    prepare_environment()
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from llm.data.download import TextError
    from llm.weights.smollm import fetch_smollm
    try:
        gguf = str(options.gguf or fetch_smollm())
        cases = measure(options.peer, options.cases, gguf, options.rounds, options.paths,
                        lambda text: print(text, file=sys.stderr, flush=True))
    except (TextError, RuntimeError, OSError) as error:
        parser.exit(2, f"{error}\n")
    from days.harness import machine
    result = {"peer": options.peer, "machine": machine(), "threads": THREADS,
              "rounds": options.rounds, "cases": cases}
    if options.json:
        print(json.dumps(result))
    if options.out:
        found = json.loads(options.out.read_text()) if options.out.is_file() else {}
        name = options.peer.replace(".", "_")
        if options.cases == ["paths"]:
            name += "_paths"
            result["cases"] = merged(found.get(name, {}).get("cases", []), cases)
        found[name] = result
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
