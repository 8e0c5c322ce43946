"""Day 25 · How fast are training and encoding, against Hugging Face tokenizers and tiktoken?

Each side works in a process of its own and they take turns, so that a slow minute hits both. Times
are medians, in seconds, on two threads; compilation is excluded and stated apart. Both sides must
come to the same merges and the same ids, or the script says so and fails.

    python experiments/bench_tokenizers.py --peer tokenizers|tiktoken|none [--json] [--growth]

`ratio` is the peer's time divided by ours: above 1 we are faster. `--growth` adds how our training
grows with the text, from 1.25 to 50 MB (Shakespeare, then Python sources of this machine).
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import resource
import statistics
import sys
import sysconfig
import time
from pathlib import Path

THREADS, ROUNDS = 2, 7
PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
CASES = {                # what the sides do; tiktoken cannot train
    "train 4,096": ("train", 4096), "train 32,000": ("train", 32_000),
    "encode one string, GPT-2": ("string", 1), "encode a batch of lines, GPT-2": ("lines", 1),
    "encode 1,000 strings of 1,000 one by one": ("short", 1000),
    "encode 1,000 strings of 40 one by one": ("short", 40),
    "the same 40s, no word known at first": ("new", 40),
}


def corpus():
    from llm.data.text import load
    return load("shakespeare").text


def digest(value):
    """The same for equal merges or ids, whatever they are kept in."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


class Ours:
    """Our side."""

    def __init__(self):
        from llm.tokens.fast_bpe import FastBPE
        from llm.tokens.files.bpe import GPT2_ORDER, visible
        from llm.tokens.files.gpt2 import load_gpt2
        began = time.perf_counter()
        FastBPE.train("a first call compiles", 260).encode("or loads what was compiled")
        self.compiling = time.perf_counter() - began
        self.gpt2, self.train_class = load_gpt2(), FastBPE
        self.order, self.visible = GPT2_ORDER, visible

    def train(self, text, size):
        return self.train_class.train(text, size, min_count=1, order=self.order)

    def merges(self, trained):
        names = {i: self.visible(piece) for i, piece in trained.pieces.items()}
        return [[names[a], names[b]] for a, b, _ in trained.merges.tolist()]

    def forget(self):
        """Nothing is remembered from the round before."""
        self.gpt2.encoder.caches.clear()

    def string(self, text):
        return self.gpt2.encode(text)

    def lines(self, lines):
        return self.gpt2.encode_batch(lines, threads=THREADS)

    def short(self, line):
        return self.gpt2.encode(line)

    def ids(self, made):
        return made.tolist()


class HuggingFace:
    """tokenizers, with GPT-2's rule."""

    def __init__(self):
        import tokenizers
        self.lib, self.compiling = tokenizers, 0.0
        ours = Ours()
        names = {ours.visible(piece): i for i, piece in ours.gpt2.pieces.items()}
        self.gpt2 = tokenizers.ByteLevelBPETokenizer(
            names, [tuple(pair) for pair in ours.merges(ours.gpt2)])

    def forget(self):
        """Nothing is done: the words it remembers are its own affair."""

    def train(self, text, size):
        made = self.lib.Tokenizer(self.lib.models.BPE())
        made.pre_tokenizer = self.lib.pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.train_from_iterator([text], self.lib.trainers.BpeTrainer(
            vocab_size=size, show_progress=False, min_frequency=1,
            initial_alphabet=self.lib.pre_tokenizers.ByteLevel.alphabet()))
        return made

    def merges(self, trained):
        return json.loads(trained.to_str())["model"]["merges"]

    def string(self, text):
        return self.gpt2.encode(text)

    def lines(self, lines):
        return self.gpt2.encode_batch(lines)

    def short(self, line):
        return self.gpt2.encode(line)

    def ids(self, made):
        return made.ids


class Tiktoken:
    """tiktoken with GPT-2's ranks."""

    def __init__(self):
        import tiktoken

        from llm.tokens.files.gpt2 import load_gpt2
        self.compiling = 0.0
        ranks = {piece: i for i, piece in load_gpt2().pieces.items()}
        self.gpt2 = tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks,
                                      special_tokens={"<|endoftext|>": 50256})

    def forget(self):
        """It remembers nothing."""

    def string(self, text):
        return self.gpt2.encode_ordinary(text)

    def lines(self, lines):
        return self.gpt2.encode_ordinary_batch(lines, num_threads=THREADS)

    def short(self, line):
        return self.gpt2.encode_ordinary(line)

    def ids(self, made):
        return made


SIDES = {"ours": Ours, "tokenizers": HuggingFace, "tiktoken": Tiktoken}


def work(side, pipe):
    """A side's process: do the case it is told, answer with (seconds, digest of the result)."""
    try:
        text = corpus()
        lines, mine = text.splitlines(keepends=True), SIDES[side]()
        pipe.send(("ready", mine.compiling))
        while (job := pipe.recv()) is not None:
            (kind, size), check = job
            one_by_one = kind in ("short", "new")
            pieces = [text[i * size:(i + 1) * size] for i in range(1000)] if one_by_one else []
            if kind != "short":
                mine.forget()
            began = time.perf_counter()
            if kind == "train":
                made = mine.train(text, size)
            elif one_by_one:
                made = [mine.short(piece) for piece in pieces]
            else:
                made = getattr(mine, kind)(lines if kind == "lines" else text)
            seconds = time.perf_counter() - began
            same = None
            if check and kind == "train":
                same = digest(mine.merges(made))
            elif check:
                same = digest(mine.ids(made) if kind == "string" else [mine.ids(m) for m in made])
            pipe.send(("done", seconds, same))
    except Exception as error:                  # told to the parent
        pipe.send(("failed", f"{type(error).__name__}: {error}".splitlines()[0], None))


def start(target, *arguments):
    pipe, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    return pipe


def ask(pipe, job):
    pipe.send(job)
    return answer(pipe)


def answer(pipe):
    kind, *rest = pipe.recv()
    if kind == "failed":
        sys.exit(f"bench_tokenizers: {rest[0]}")
    return rest


def compare(peer, rounds):
    """All cases both sides can do: a list of what the JSON holds, and seconds of compiling."""
    pipes = {side: start(work, side) for side in ("ours", peer) if side != "none"}
    compiling = {side: answer(pipe)[0] for side, pipe in pipes.items()}["ours"]
    results = []
    for name, job in CASES.items():
        if job[0] == "train" and peer == "tiktoken":
            continue
        digests = {side: ask(pipe, (job, True))[1] for side, pipe in pipes.items()}    # warms up
        times = {side: [] for side in pipes}
        for _ in range(rounds):
            for side, pipe in pipes.items():
                times[side].append(ask(pipe, (job, False))[0])
        seconds = {side: statistics.median(values) for side, values in times.items()}
        theirs = seconds.get(peer)
        results.append({"case": name, "ours": seconds["ours"], "peer": theirs,
                        "ratio": theirs / seconds["ours"] if theirs else None,
                        "same_result": len(set(digests.values())) == 1})
    for pipe in pipes.values():
        pipe.send(None)
    return results, compiling


def sources(size):
    """Python files of this machine, sorted by path, until there are `size` characters."""
    parts, total = [], 0
    for key in ("stdlib", "purelib"):
        for path in sorted(Path(sysconfig.get_path(key)).rglob("*.py")):
            if total >= size:
                return "".join(parts)[:size]
            parts.append(path.read_text(encoding="utf-8", errors="replace"))
            total += len(parts[-1])
    return "".join(parts)


def grow(size, pipe):
    """Train 32,000 tokens on `size` characters: seconds and the peak memory of this process."""
    try:
        text = corpus()[:size]
        text += sources(size - len(text)) if len(text) < size else ""
        mine = Ours()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        began = time.perf_counter()
        mine.train(text, 32_000)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        pipe.send(("done", {"characters": len(text), "seconds": seconds, "peak_mib": peak,
                            "peak_before_training_mib": before}))
    except Exception as error:
        pipe.send(("failed", f"{type(error).__name__}: {error}"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", choices=["tokenizers", "tiktoken", "none"], default="none")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"timings a case ({ROUNDS})")
    parser.add_argument("--growth", action="store_true", help="also train on 1.25 to 50 MB")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no more")
    options = parser.parse_args()
    os.environ.update(RAYON_NUM_THREADS=str(THREADS), TOKENIZERS_PARALLELISM="true")
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from days.harness import machine
    results, compiling = compare(options.peer, options.rounds)
    sizes = [1_250_000, 2_500_000, 5_057_198, 15_000_000, 50_000_000] if options.growth else []
    growth = [answer(start(grow, size))[0] for size in sizes]
    if options.json:
        print(json.dumps({"peer": options.peer, "machine": machine(), "threads": THREADS,
                          "first_call_seconds": compiling, "cases": results, "growth": growth}))
    else:
        for case in results:
            tail = f"{case['peer']:9.4f} s   ratio {case['ratio']:.2f}" if case["ratio"] else ""
            print(f"{case['case']:40}{case['ours']:9.4f} s {tail}"
                  f"{'' if case['same_result'] else '   ← RESULTS DIFFER'}")
        for row in growth:
            print(f"train 32,000 on {row['characters'] / 1e6:5.2f} MB {row['seconds']:7.2f} s, "
                  f"peak {row['peak_mib']:.0f} MiB ({row['peak_before_training_mib']:.0f} before)")
        print(f"our first calls, compiled or loaded from Numba's cache: {compiling:.1f} s")
    if not all(case["same_result"] for case in results):
        sys.exit("bench_tokenizers: the two sides do not agree")


if __name__ == "__main__":
    main()
