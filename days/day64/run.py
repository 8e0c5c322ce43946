"""Day 64 · Ship it: the same model in five files, before a crowd, and on one thread.

Flags of its own: --export DIR keeps the files.
"""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from days.day35.trained import trained
from days.day64 import crowd, edge, shipped
from days.day64.report import MB, crowd_table, draw, edge_table, wrong_table
from days.harness import main, print_table, progress
from llm.generate.architecture import gpt_weights
from llm.generate.opened import open_model

EDGES = [(256, True, True), (256, False, True), (8192, False, True), (8192, False, False)]


@dataclass(frozen=True)
class Result:
    forms: list           # rows of `shipped.compare`
    lead: list            # median lead of the likeliest logit: everywhere, where Q8_0 changes it
    wrong: list           # rows of `shipped.misreadings`
    positions: int        # next tokens compared
    characters: int       # of held-out text
    weights: int          # of the reader's GPT
    most: int             # requests in a batch
    tokens: int           # of an answer
    crowds: list          # a crowd.Seen for each number of clients
    edges: list           # {name, half, T, …} of edge.py, one thread


def measure(fast, seed, export=None):
    reader = trained(fast)
    arch, weights = gpt_weights(reader.model.state_dict(), reader.config)
    text = reader.corpus.validation[len(reader.corpus.validation) // 2:]
    text = text[:3_000 if fast else 20_000]
    clients = [1, 4, 16] if fast else [1, 2, 4, 8, 16, 32, 64]
    most, tokens, rounds = (4, 8, 2) if fast else (16, 48, 3)
    with tempfile.TemporaryDirectory() as folder, progress(
            len(shipped.FORMS) + len(clients) + (1 if fast else 5), "shipping") as tick:
        paths = shipped.write(Path(export or folder), arch, weights, reader.tokenizer)
        forms, wanted, lead = shipped.compare(arch, weights, reader.tokenizer, paths, text,
                                              lambda: tick(1))
        wrong = shipped.misreadings(arch, weights, reader.tokenizer, text, wanted)
        model = open_model(paths["folder", "F32"])
        ids = reader.tokenizer.encode(text).tolist()
        prompts = [ids[20 * j + seed:20 * j + seed + 16] for j in range(max(clients) * rounds)]
        crowds, known = [], None
        for count in clients:
            seen, texts = crowd.watch(model, prompts, count, rounds, tokens, most)
            row = asdict(seen)
            row["changed"] = crowd.changed(texts, known) if known else 0
            known = (known or {}) | texts
            crowds.append(row)
            tick(1)
        small, n = paths["GGUF", "Q8_0"], 20 if fast else 100
        plans = [("the reader's GPT", small, arch.T, False, True)] + ([] if fast else [
            ("SmolLM2-135M", "smollm", *rest) for rest in EDGES])
        edges = []
        for name, source, T, half, huge in plans:
            first = not (fast or any(e["name"] == name for e in edges))
            edges.append({"name": name, "T": T, "half": half, "huge": huge,
                          **edge.budget(source, T, n, half, huge, warm=first)})
            tick(1)
    count = sum(a.size for a in weights.values())
    return Result(forms, lead, wrong, len(wanted), len(text), count, most, tokens, crowds, edges)


def table(result):
    return [["form", "type", "MB", "nats a character", "largest change of a logit",
             "other next token, %"]] + [
        [form, kind, f"{size / MB:.2f}", f"{nats:.4f}", f"{far:.2g}", f"{100 * other:.2f}"]
        for form, kind, size, nats, far, other in result.forms]


def show(result):
    print_table(table(result), f"{result.weights:,} weights, {result.positions:,} next tokens")
    print_table(wrong_table(result))
    print_table(crowd_table(result), f"at most {result.most} in a batch, {result.tokens} tokens "
                                     "an answer")
    print_table(edge_table(result), "one thread")


def add_arguments(parser):
    parser.add_argument("--export", type=Path, metavar="DIR", help="keep the exported files there")


if __name__ == "__main__":
    main(__file__, measure, show, draw, add_arguments)
