"""Day 41 · Greedy, beams, filters and penalties on the reader's GPT, beside what people wrote."""

from dataclasses import dataclass

import numpy as np

from days.day35.trained import trained
from days.day41.methods import GREEDY, SAMPLED
from days.day41.shaped import PROMPT, SHAPE, Shaped
from days.day41.writing import N, cut_pieces, distinct, report, running, surprisals, words, write
from days.harness import kernels, main, print_table, print_text, progress, save
from llm.generate.beam import beam_search
from llm.grad.tensor import no_grad

WIDTH, BIN = 4, 8            # beams; tokens that a point of the curves is the mean of


@dataclass(frozen=True)
class Result:
    corpus: str
    prompt: int        # tokens given, of held-out text
    length: int        # tokens written after them
    human: list        # one row: pieces, nats a token, their spread over pieces, then distinct-4:
                       # mean, spread, lowest piece, highest piece; share of real words
    rows: list         # [name, pieces, nats, spread, distinct-4: mean, spread, lowest, highest,
                       #  real words, share of pieces below the lowest human one]
    layout: list       # distinct-4 of people's text without speakers, directions and line ends:
                       # mean, spread, lowest, highest
    lengths: dict      # n -> distinct-n of people: mean, spread; of each strategy in turn: mean
    curves: dict       # name -> nats a token, by place, BIN tokens a point
    beam: dict         # whose text is likelier, in how many pieces
    texts: dict        # name -> what it wrote after the first prompt
    shaped: dict       # JSON of a shape: see shaped.py


def measure(fast, seed):
    reader = trained(fast)
    T = reader.config.T
    T0, R, people = (8, 4, 40) if fast else (16, 24, 400)
    n, text = T - T0, reader.corpus.validation
    ids, bare = (np.array(reader.tokenizer.encode(x)) for x in (text, running(text)))
    known = set(words(reader.corpus.train.lower()))
    prompts, given = cut_pieces(ids, R, T)[:, :T0], cut_pieces(ids, people, T)
    beams = max(1, R // 3)
    total = (len(GREEDY) + len(SAMPLED)) * R * n + beams * n
    with kernels(), progress(total, "writing") as advance:
        pieces = write_all(reader.model, prompts, n, seed, advance)
        pieces[f"beam of {WIDTH}"] = np.stack([
            search(reader.model, row, n, advance) for row in prompts[:beams]])
        human = report(reader, "people", given, T0, known)
        rows = [report(reader, name, found, T0, known, human[6]) for name, found in pieces.items()]
        nats = {name: surprisals(reader.model, found, T0) for name, found in pieces.items()}
        nats["people"] = surprisals(reader.model, given, T0)
        theirs = surprisals(reader.model, cut_pieces(ids, R, T), T0)
        shaped = Shaped(reader.model, reader.tokenizer, 24 if fast else 48).measure(
            4 if fast else 40, np.random.default_rng(seed))
    bare = [distinct(row[T0:], N) for row in cut_pieces(bare, people, T)]
    lengths = {k: [np.mean(x := [distinct(row[T0:], k) for row in given]), np.std(x), *(
        np.mean([distinct(row[T0:], k) for row in found]) for found in pieces.values())]
        for k in (1, 8)}
    greedy, beam = nats["greedy"].sum(axis=1), nats[f"beam of {WIDTH}"].sum(axis=1)
    likelier = {"pieces": beams, "beam_over_greedy": int((beam < greedy[:beams]).sum()),
                "human_over_greedy": int((theirs.sum(axis=1) < greedy).sum()), "of": R,
                "gain": float((greedy[:beams] - beam).mean())}
    curves = {name: x[:, :n // BIN * BIN].reshape(len(x), -1, BIN).mean(axis=(0, 2))
              for name, x in nats.items()}
    texts = {name: reader.tokenizer.decode(found[0, T0:]) for name, found in pieces.items()}
    texts["prompt"] = reader.tokenizer.decode(prompts[0])
    return Result(reader.corpus.name, T0, n, human[1:-1], rows,
                  [np.mean(bare), np.std(bare), min(bare), max(bare)], lengths, curves, likelier,
                  texts, shaped)


def write_all(model, prompts, n, seed, advance):
    """Each strategy's pieces: {name: (R, T)}. All rows of all strategies share one batch."""
    methods = GREEDY | SAMPLED
    rngs = np.random.default_rng(seed).spawn(len(methods) * len(prompts))
    choosers = [make(rngs.pop()) for make in methods.values() for _ in prompts]
    found = write(model, np.tile(prompts, (len(methods), 1)), choosers, n, advance)
    return dict(zip(methods, np.split(found, len(methods))))


def search(model, prompt, n, advance):
    """The likeliest continuation that the beam finds, behind its prompt."""
    def step(ids):
        with no_grad():
            return model(np.array([ids])).data[0, -1]
    best = beam_search(step, prompt, n, WIDTH)[0]
    advance(n)
    return np.array([*prompt, *best.ids])


def table(result):
    head = ["strategy", "pieces", "nats a token", f"distinct-{N}", "lowest to highest",
            "below all people", "real words"]
    every = [["people", *result.human, 0.0], *result.rows]
    return [head] + [[name, count, f"{nats:.2f} ± {spread:.2f}", f"{mean:.2f} ± {sd:.2f}",
                      f"{low:.2f}–{high:.2f}", f"{below:.0%}", f"{real:.1%}"]
                     for name, count, nats, spread, mean, sd, low, high, real, below in every]


def show(result):
    print_table(table(result), f"{result.length} tokens after {result.prompt}, {result.corpus}")
    for name in ("prompt", "greedy", f"beam of {WIDTH}", "all tokens", "top-p 0.9"):
        print_text(f"{name:>12}: {result.texts[name][:150]!r}")
    s = result.shaped
    print_text(f"JSON {SHAPE} after {PROMPT!r}: {s['valid']} of {s['tries']} outputs are valid, "
               f"{s['free_valid']} without the mask\n{s['example']}")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.8, 4.4))
    colors = {"people": "#222222", "all tokens": "#2a9d8f", "top-p 0.9": "#e9a03b",
              "greedy": "#c8553d", f"beam of {WIDTH}": "#6d597a"}
    for name, color in colors.items():
        curve = result.curves[name]
        left.plot(BIN * (np.arange(len(curve)) + 0.5), curve, color=color, label=name,
                  lw=2.2 if name == "people" else 1.4)
    left.set(xlabel="tokens after the prompt", ylabel="nats a token, under the model",
             ylim=(0, None))
    left.legend(ncol=2, fontsize=8, loc="lower left")
    right.axvspan(*result.human[5:7], color="#222222", alpha=0.12, lw=0)
    every = [["people", *result.human], *result.rows]
    for y, (name, _, _, _, mean, _, low, high, *_) in enumerate(every):
        color = colors.get(name, "#8d99ae")
        right.plot([low, high], [y, y], color=color, lw=1.6)
        right.plot(mean, y, "o", color=color, ms=5)
    right.set(xlabel=f"distinct-{N}: mean, lowest and highest piece", xlim=(0, 1.03),
              yticks=range(len(every)), yticklabels=[row[0] for row in every])
    right.invert_yaxis()
    greedy, people = result.rows[0][2], result.human[1]
    fig.suptitle(f"What is likeliest is not what people write: {greedy:.1f} nats a token against "
                 f"{people:.1f};\nand greedy text and beams repeat themselves more than people do "
                 "(grey)", x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
