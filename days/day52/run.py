"""Day 52 · A real model, read by hand: does it say what it should, how well, how fast?

Flags of its own: --prompt TEXT, --chat, --gguf FILE, --tokens N, --temperature T.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from days.day35.trained import trained
from days.day52 import made, speak, study
from days.harness import main, print_table, print_text, save, say
from llm.generate import evaluate
from llm.generate.architecture import gpt_weights
from llm.generate.llama import engine
from llm.generate.plain import Plain
from llm.generate.pretrained import load

HISTORY = "The history of the English language is"


@dataclass(frozen=True)
class Result:
    model: str
    file_bytes: int
    kinds: list           # [type, tensors, weights, bytes]
    opened: list          # seconds: to read the tables, to make float32 arrays of all weights
    ids: list             # of HISTORY
    next_id: int
    continuation: str     # greedy
    corpus: str
    overlap: float        # of the held-out text's runs of 13 words, the share in the training text
    evaluated: list       # [what, measure, SmolLM2, the reader's GPT, by chance]
    mean_choice: dict     # {choices: [right by mean per byte, of the real model and the GPT]}
    calibrated: dict      # {model: [rows, error, tokens, error that chance alone would make]}
    wrong: list           # [reader, nats per byte, next token after HISTORY]
    places: list          # [first, last, nats a token read right, read without the permutation]
    bandwidth: float      # bytes a second read from memory
    speed: list           # [decoder, bytes of weights a token, tokens a second]
    rounded: list         # nats per byte of one text: in float32, and as the engine computes
    talk: list            # [question, answer, ids reused, ids read]
    alone: str            # the answer to the last question in a conversation of its own


def measure(fast, seed, prompt=None, chat=False, gguf=None, tokens=200, temperature=0.7):
    """`fast` uses a made model of random weights, so that it needs no download."""
    if prompt is not None or chat:
        speak.converse(prompt, gguf, tokens, temperature, seed)
        raise SystemExit(0)
    reader = trained(fast)
    with made.source(fast, gguf) as path:
        start = time.perf_counter()
        model = load(path, say)
        opened = time.perf_counter() - start
        weights = model.weights()
        floats = time.perf_counter() - start - opened
        name = "SmolLM2-135M" if path is None else Path(path).stem
        return look(fast, seed, name, model, weights, reader, [opened, floats])


def look(fast, seed, name, model, weights, reader, opened):
    """Everything that is measured, on an open model and the reader's GPT."""
    T = min(64 if fast else 512, model.arch.T // 2)
    plain, small = Plain(model.arch, weights, 2 * T), Plain(*gpt_weights(
        reader.model.state_dict(), reader.config))
    held_out = reader.corpus.validation[len(reader.corpus.validation) // 2:]
    both = [(plain, model.tokenizer, T), (small, reader.tokenizer, reader.config.T)]
    ids = model.tokenizer.encode(HISTORY)
    judged = study.judge(fast, both, held_out, np.random.default_rng(seed))
    short = held_out[:300 if fast else 1200]
    wrong = study.nearly_right(model, weights, T, short, ids)
    quick = engine(model, T_max=2 * T)
    said, speed = study.pace(fast, plain, quick, ids)
    rounded = [evaluate.nats_per_byte(read, model.tokenizer, short[:len(short) // 2], 2 * T)
               for read in (plain.read, study.stepwise(quick))]
    talk, alone = study.turns(fast, model, quick) if model.template else ([], "")
    return Result(
        name, len(model.file.data), study.kinds(model.file), opened, ids.tolist(),
        int(plain.read(ids)[-1].argmax()), model.tokenizer.decode(said), reader.corpus.name,
        evaluate.overlap(reader.corpus.train, held_out), *judged, wrong,
        study.by_place(fast, model, weights, held_out[:1000 if fast else 10000]),
        speak.bandwidth(1 << 22 if fast else 1 << 27), speed, rounded, talk, alone)


def table(result):
    number = lambda x: "" if x is None else f"{x:.3f}" if x % 1 and x < 3 else f"{x:.0f}"
    return [["", "measured in", result.model, "the reader's GPT", "by chance"]] + [
        [name, unit, *map(number, values)] for name, unit, *values in result.evaluated]


def show(result):
    print_table([["type", "tensors", "weights", "bytes", "bits a weight"]] + [
        [name, n, f"{count:,}", f"{size:,}", f"{8 * size / count:.1f}"]
        for name, n, count, size in result.kinds], result.model)
    print_table(table(result))
    print_table([["reader", "nats a byte", "next token"]] + [
        [name, f"{nats:.3f}", repr(token)] for name, nats, token in result.wrong])
    print_table([["decoder", "MB a token", "tokens/s", "GB/s", "share of the bandwidth"]] + [
        [name, f"{size / 1e6:.0f}", f"{rate:.1f}", f"{size * rate / 1e9:.1f}",
         f"{100 * size * rate / result.bandwidth:.0f} %"] for name, size, rate in result.speed])
    print_text(HISTORY + result.continuation)
    for question, answer, reused, fresh in result.talk:
        print_text(f"> {question}  [{reused} ids in the cache, {fresh} read]\n{answer}")
    print_text(f"> the last question, alone\n{result.alone}")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4), width_ratios=(1, 1.2))
    left.plot([0, 1], [0, 1], color="#999999", lw=1)
    for key, name, colour in (("real", result.model, "#1f5a99"),
                              ("reader", "the reader's GPT", "#c4501b")):
        rows, error, *_ = result.calibrated[key]
        sure, share, _ = np.array(rows).T
        label = f"{name}: off by {100 * error:.1f} points"
        left.plot(sure, share, "o-", color=colour, ms=4, lw=1.2, label=label)
    left.set(xlabel="probability given to the likeliest token",
             ylabel="share of times that it came")
    left.legend(loc="lower right", fontsize=8)
    names, nats, _ = zip(*result.wrong[::-1])
    right.barh(range(len(names)), nats, color=["#c4501b"] * (len(names) - 1) + ["#1f5a99"])
    right.set_yticks(range(len(names)), names)
    right.set_xlabel("nats a byte on held-out text")
    for y, (_, value, token) in enumerate(result.wrong[::-1]):
        right.annotate(f"{value:.2f}  {token!r}", (value, y), (3, 0), textcoords="offset points",
                       va="center", fontsize=8)
    right.set_xlim(0, max(nats) * 1.25)
    same = sum(token == result.wrong[0][2] for *_, token in result.wrong[1:])
    fig.suptitle(f"{same} of {len(names) - 1} wrong readers still say {result.wrong[0][2]!r}: "
                 "one right word proves little", x=0.01, ha="left", fontsize=11)
    save(fig, path)


def add_arguments(parser):
    parser.add_argument("--prompt", metavar="TEXT", help="continue TEXT, streaming")
    parser.add_argument("--chat", action="store_true", help="hold a conversation")
    parser.add_argument("--gguf", type=Path, metavar="FILE", help="another Llama than SmolLM2")
    parser.add_argument("--tokens", type=int, default=200, metavar="N", help="at most (200)")
    parser.add_argument("--temperature", type=float, default=0.7, metavar="T", help="(0.7)")


if __name__ == "__main__":
    main(__file__, measure, show, draw, add_arguments)
