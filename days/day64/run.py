"""Day 64 · Ship it: the same model in five files, before a crowd, and on one thread.

Flags of its own: --export DIR keeps the files.
"""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from days.day35.trained import trained
from days.day64 import crowd, edge, shipped
from days.harness import main, print_table, progress, save
from llm.generate.architecture import gpt_weights
from llm.generate.opened import open_model

MB = 1e6
STAGES = [("python", "Python"), ("numpy", "NumPy"), ("imports", "Numba and the course"),
          ("open", "the model, opened"), ("written", "while it writes")]


@dataclass(frozen=True)
class Result:
    forms: list           # rows of `shipped.compare`
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
            len(shipped.FORMS) + len(clients) + (1 if fast else 4), "shipping") as tick:
        paths = shipped.write(Path(export or folder), arch, weights, reader.tokenizer)
        forms, positions = shipped.compare(arch, weights, reader.tokenizer, paths, text,
                                           lambda: tick(1))
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
        edges = []
        small, n = paths["GGUF", "Q8_0"], 20 if fast else 100
        plans = [("the reader's GPT", small, arch.T, False)] + ([] if fast else [
            ("SmolLM2-135M", "smollm", 256, True), ("SmolLM2-135M", "smollm", 256, False),
            ("SmolLM2-135M", "smollm", 8192, False)])
        for name, source, T, half in plans:
            edges.append({"name": name, "T": T, "half": half, **edge.budget(source, T, n, half)})
            tick(1)
    return Result(forms, positions, len(text), sum(a.size for a in weights.values()), most, tokens,
                  crowds, edges)


def table(result):
    return [["form", "type", "MB", "nats a character", "largest change of a logit",
             "other next token, %"]] + [
        [form, kind, f"{size / MB:.2f}", f"{nats:.4f}", f"{far:.2g}", f"{100 * other:.2f}"]
        for form, kind, size, nats, far, other in result.forms]


def crowd_table(result):
    return [["clients", "tokens/s", "ms to the first: p50", "p95", "ms to the end, mean",
             "inside, counted", "inside, by Little", "lost", "changed"]] + [
        [c["clients"], f"{c['rate']:,.0f}", *(f"{1e3 * s:.1f}" for s in c["first"]),
         f"{1e3 * c['response']:.0f}", f"{c['inside']:.1f}", f"{c['asked'] * c['response']:.1f}",
         c["lost"], c["changed"]] for c in result.crowds]


def edge_table(result):
    return [["model", "cache", "weights, MB", "cache, MB", "all memory, MB", "of it before the "
             "model", "s to the first token", "tokens/s", "limit by reading"]] + [
        [e["name"], f"{e['T']:,} × {16 if e['half'] else 32} bits", f"{e['weights'] / MB:.1f}",
         f"{e['cache'] / MB:.1f}", f"{e['written'] / MB:.0f}", f"{e['imports'] / MB:.0f}",
         f"{e['first']:.2f}", f"{e['rate']:,.0f}", f"{e['read'] / e['weights']:,.0f}"]
        for e in result.edges]


def show(result):
    print_table(table(result), f"{result.weights:,} weights, {result.positions:,} next tokens")
    print_table(crowd_table(result), f"at most {result.most} in a batch, {result.tokens} tokens "
                                     "an answer")
    print_table(edge_table(result), "one thread")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
    edges = [e for i, e in enumerate(result.edges)
             if e["name"] not in [before["name"] for before in result.edges[:i]]]
    colours = ["#c9c9c9", "#9db4c8", "#5b8db8", "#c4501b", "#e9a184"]
    for j, e in enumerate(edges):
        below = 0
        for (key, name), colour in zip(STAGES, colours):
            left.bar(j, (e[key] - below) / MB, bottom=below / MB, color=colour, width=0.55,
                     label=name if j == 0 else None)
            below = e[key]
        left.annotate(f"{below / MB:.0f} MB\n{e['rate']:,.0f} tokens/s", (j, below / MB), (0, 3),
                      textcoords="offset points", ha="center", fontsize=9)
    left.set_xticks(range(len(edges)), [e["name"] for e in edges])
    left.set(ylabel="MB of memory, one thread", xlim=(-0.6, len(edges) - 0.4),
             ylim=(0, 1.45 * max(e["written"] for e in edges) / MB))
    left.legend(fontsize=8, ncols=2, loc="upper left", reverse=True)
    count = [c["clients"] for c in result.crowds]
    right.plot(count, [c["rate"] for c in result.crowds], "o-", color="#1f5a99")
    right.set_xscale("log", base=2)
    right.set_xticks(count, count)
    right.set_xlabel("clients at once")
    right.set_ylabel("tokens a second, all together", color="#1f5a99")
    right.set_ylim(bottom=0)
    right.axvline(result.most, color="#999999", lw=0.8, ls=":")
    right.annotate("places in the batch", (result.most, 0), (3, 5), textcoords="offset points",
                   fontsize=8, color="#666666")
    other = right.twinx()
    other.plot(count, [1e3 * c["first"][0] for c in result.crowds], "s--", color="#c4501b")
    other.set_ylabel("ms to the first token, median", color="#c4501b")
    other.set_yscale("log")
    other.spines["right"].set_visible(True)
    first = edges[0]
    fig.suptitle(f"{100 * first['imports'] / first['written']:.0f} % of our model's memory is "
                 "Python before it; beyond the batch, more clients only wait", x=0.01, ha="left",
                 fontsize=11)
    save(fig, path)


def add_arguments(parser):
    parser.add_argument("--export", type=Path, metavar="DIR", help="keep the exported files there")


if __name__ == "__main__":
    main(__file__, measure, show, draw, add_arguments)
