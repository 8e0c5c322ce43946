"""Day 52 · Eight requests at once on the real model, against one after another.

SmolLM2-135M from its Q4_1 file, greedy, two threads on each side. Every request reads a prompt of
its own of 32 tokens and writes 128. `ours` is day 47's scheduler with day 52's blocks of 4 bits and
its compiled step, and once more with NumPy between the products; `ours, one by one` is the engine.
The peer gets as many requests in as many threads and batches them itself. Sides are processes of
their own and take turns; a ratio is the median of the rounds' ratios, and above 1 the first side is
faster.

    python experiments/serving.py [--peer llama.cpp] [--rounds 5] [--at-once 8] [--out FILE]
"""

import argparse
import importlib.util
import json
import multiprocessing
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROMPT, TOKENS = 32, 128


class Ours:
    """Day 47's scheduler, over the packed blocks of the file, with day 52's step."""

    step = None

    def __init__(self, gguf, at_once):
        from llm.generate.llama import packed_weights
        from llm.generate.pretrained import load
        model = load(gguf)
        self.arch, self.weights, self.at_once = model.arch, packed_weights(model), at_once
        self.decode = model.tokenizer.decode

    def write(self, prompts):
        from llm.generate.paged import BlockPool
        from llm.generate.read_rows import step_for
        from llm.generate.request import Request
        from llm.generate.scheduler import Scheduler
        blocks = self.at_once * -(-(PROMPT + TOKENS) // 16)
        pool = BlockPool(self.arch, blocks, share=False)
        scheduler = Scheduler(self.arch, self.weights, pool, self.at_once, rows=192,
                              decode=self.step or step_for(self.arch, self.weights, pool))
        made = [Request(prompt, TOKENS, options={"temperature": 0}) for prompt in prompts]
        for request in made:
            scheduler.submit(request)
        scheduler.run()
        return [self.decode(request.ids) for request in made]


class Between(Ours):
    """The same with day 47's own step: NumPy between the products."""

    def __init__(self, gguf, at_once):
        from llm.generate.batch import paged_decode
        super().__init__(gguf, at_once)
        self.step = paged_decode


class OneByOne:
    """Day 52's compiled engine, which serves one text."""

    def __init__(self, gguf, at_once):
        from llm.generate.llama import engine
        from llm.generate.pretrained import load
        model = load(gguf)
        self.engine, self.decode = engine(model, T_max=PROMPT + TOKENS), model.tokenizer.decode

    def write(self, prompts):
        answers = []
        for prompt in prompts:
            self.engine.reset()
            ids = [int(self.engine.prefill(prompt).argmax())]
            while len(ids) < TOKENS:
                ids.append(int(self.engine.step(ids[-1]).argmax()))
            answers.append(self.decode(ids))
        return answers


class LlamaCpp:
    """llama.cpp's server by the wheel xllamacpp, with a slot for each request."""

    def __init__(self, gguf, at_once):
        import xllamacpp
        p = xllamacpp.CommonParams()
        p.model.path, p.n_parallel, p.n_gpu_layers = str(gguf), at_once, 0
        p.n_ctx = at_once * (PROMPT + TOKENS + 32)
        p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 2
        self.server, self.at_once = xllamacpp.Server(p), at_once

    def complete(self, prompt):
        answer = self.server.handle_completions({
            "prompt": [int(i) for i in prompt], "n_predict": TOKENS, "cache_prompt": False,
            "ignore_eos": True, "temperature": 0, "samplers": ["top_k"], "top_k": 1})
        if answer.get("usage", {}).get("completion_tokens") != TOKENS:
            raise RuntimeError(f"llama.cpp answers {str(answer)[:200]}")
        return answer["choices"][0]["text"]

    def write(self, prompts):
        with ThreadPoolExecutor(self.at_once) as threads:
            return list(threads.map(self.complete, prompts))


SIDES = {"ours": Ours, "ours, one by one": OneByOne, "llama.cpp": LlamaCpp,
         "ours, NumPy between": Between}


def work(name, gguf, at_once, pipe):
    """A side's process: answer with (seconds, texts of all) until told to stop."""
    from experiments.bench_decode import quiet
    quiet()
    try:
        from experiments.decode_peers import text_ids
        side = SIDES[name](gguf, at_once)
        pipe.send("ready")
        while (round_ := pipe.recv()) is not None:
            prompts = [text_ids(PROMPT, 49152, 100 * round_ + i).tolist() for i in range(at_once)]
            began = time.perf_counter()
            answers = side.write(prompts)
            pipe.send((time.perf_counter() - began, answers))
    except Exception as error:                           # the parent says it, and goes on
        pipe.send(RuntimeError(f"{name}: {type(error).__name__}: {error}".splitlines()[0]))


class Side:
    """A process that was started, and what it is asked."""

    def __init__(self, name, gguf, at_once):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(name, gguf, at_once, theirs),
                                       daemon=True)
        self.process.start()
        self.hear()

    def hear(self):
        answer = self.pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask(self, round_):
        self.pipe.send(round_)
        return self.hear()

    def stop(self):
        self.pipe.send(None)
        self.process.join()


def alike(a, b):
    """The share of the longer text that comes before the first difference."""
    same = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return same / max(len(a), len(b), 1)


def measure(names, gguf, at_once, rounds):
    """{side: tokens a second, a round each}, and {side: how alike each answer is to ours}."""
    sides = {name: Side(name, gguf, at_once) for name in names}
    speeds, same = {name: [] for name in names}, {name: [] for name in names}
    for round_ in range(rounds + 1):                     # the first does not count
        ours = None
        for name, side in sides.items():
            seconds, answers = side.ask(round_)
            ours = answers if ours is None else ours
            if round_:
                speeds[name].append(at_once * TOKENS / seconds)
                same[name] += [alike(a, b) for a, b in zip(ours, answers)]
    for side in sides.values():
        side.stop()
    return speeds, same


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", choices=["llama.cpp", "none"], default="none")
    parser.add_argument("--gguf", help="another Llama-architecture file (SmolLM2-135M)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--out", type=Path, help="write the result to this JSON file")
    options = parser.parse_args()
    if options.rounds < 1 or options.at_once < 1:
        parser.error("--rounds and --at-once must be at least 1")
    if options.peer == "llama.cpp" and importlib.util.find_spec("xllamacpp") is None:
        parser.error("xllamacpp is not installed: pip install -r requirements-dev.txt")
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from days.harness import machine
    from experiments.bench_decode import prepare_environment
    from llm.data.download import TextError
    from llm.weights.smollm import fetch_smollm
    prepare_environment()
    names = ["ours", "ours, NumPy between", "ours, one by one"]
    names += [] if options.peer == "none" else [options.peer]
    try:
        gguf = str(options.gguf or fetch_smollm())
        speeds, same = measure(names, gguf, options.at_once, options.rounds)
    except (TextError, RuntimeError, OSError) as error:
        parser.exit(2, f"{error}\n")
    result = {"machine": machine(), "rounds": options.rounds, "at_once": options.at_once,
              "prompt": PROMPT, "tokens": TOKENS, "sides": []}
    for name in names:
        ratios = [a / b for a, b in zip(speeds["ours"], speeds[name])]
        result["sides"].append({
            "side": name, "tokens_a_second": statistics.median(speeds[name]),
            "ratio": statistics.median(ratios), "ratio_lowest": min(ratios),
            "ratio_highest": max(ratios), "answers": len(same[name]),
            "alike": statistics.mean(same[name]), "same": sum(a == 1 for a in same[name])})
        print(json.dumps(result["sides"][-1]))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
