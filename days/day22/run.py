"""Day 22 · What a recurrent network remembers: gradients through time, and what they cost."""

import functools
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from days.day22 import studies, through_time
from days.harness import main, print_table, print_text, progress, save, say
from llm.data.text import load_or_default
from llm.layers.recurrent import GRU, RNN
from llm.models import gru, neural_ngram
from llm.models.ngram import NGram
from llm.tokens.chars import CharTokenizer

RATES = {"tanh": .0152, "GRU, keep 0": .0135, "GRU, keep 1": .02, "GRU, keep 3": .02,
         "window": .5}                          # chosen by experiments/recurrence.py
KINDS = {"tanh": RNN, **{f"GRU, keep {k}": functools.partial(GRU, keep=k) for k in (0, 1, 3)}}
MAIN, ORDERS, SEEDS = "GRU, keep 0", (2, 4, 6), 3
COLORS = {"tanh": "#777777", "GRU, keep 0": "#7fa7d1", "GRU, keep 1": "#1f5fa8",
          "GRU, keep 3": "#123b66"}


@dataclass(frozen=True)
class Result:
    corpus: str
    channels: int
    length: int             # tokens of a window in training
    batch: int
    seconds: float          # of training for each network in the comparison
    kernels: bool           # does the GRU of the comparison run on them? They are if quicker
    compared: list          # rows: model, numbers, seconds, steps by seed, nats by seed
    steps: int              # of each model below
    distances: list
    reach: dict             # kind → {"start", "trained"} → for each distance [rms, largest]
    update: dict            # kind → {"start", "trained"} → as through_time.update_gate
    nats: dict              # kind → nats on unseen text after `steps`
    cut: dict               # "start", "trained" → rows: length, cosine, size over whole
    prompt: int
    judged: dict            # order → by place after the prompt: price of real, forced, free text
    own: list               # by place: the model's own price of real and of its free text
    times: list             # rows: T, milliseconds in NumPy, on the kernels; equal B·T
    tokens: int             # B·T of those
    sample: str


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    seen, half = tokenizer.encode(corpus.train), len(corpus.validation) // 2
    unseen = tokenizer.encode(corpus.validation[half:])
    size, C, B, T = tokenizer.vocab_size, *((24, 8, 16) if fast else (128, 32, 64))
    seconds, steps, piece = (.2, 12, 1_000) if fast else (3.0, 150, 20_000)
    report, rng = unseen[:piece], np.random.default_rng(seed)
    judges = {n: NGram.fit(seen[:100_000] if fast else seen, n, size) for n in ORDERS}
    distances = [1, 2, 4, 8] if fast else [1, 2, 4, 8, 16, 32, 64]
    texts = rows_of(unseen[piece:], 2 if fast else 6, distances[-1] + 30)
    n, prompt = (8, 20) if fast else (48, 80)
    tokens, spans = (256, [4, 16]) if fast else (4096, [4, 16, 64, 256, 1024])
    times = studies.step_times(C, tokens, spans, seed, 1 if fast else 4)
    quick = studies.quicker(times, T)
    found = {"reach": {}, "update": {}, "nats": {}}
    with progress(2 * SEEDS + len(KINDS), "training") as bar:
        with quick():
            compared = equal_time(seen, report, size, C, B, T, seconds, seed, judges, bar)
        for kind, layer in KINDS.items():
            start = gru.RecurrentLM(size, C, 1, np.random.default_rng(seed), layer)
            model, _ = studies.recurrent(seen, size, C, layer, RATES[kind], seed, B, T,
                                         steps=steps)
            bar(1, kind)
            both = {"start": start, "trained": model}
            found["reach"][kind] = {k: through_time.reach(m, texts, distances)
                                    for k, m in both.items()}
            found["nats"][kind] = studies.nats(gru.log_probabilities(model, report))
            if kind != "tanh":
                found["update"][kind] = {k: through_time.update_gate(m, texts)
                                         for k, m in both.items()}
            if kind == MAIN:
                kept = both
    span, lengths = (16, [1, 4, 16]) if fast else (128, [1, 2, 4, 8, 16, 32, 64, 128])
    block = rows_of(unseen[piece:], 4 if fast else 32, span + 1)
    cut = {k: through_time.truncated(m, block[:, :-1], block[:, 1:], lengths)
           for k, m in kept.items()}
    model = kept["trained"]
    judged, own = studies.own_text(
        model, judges, rows_of(unseen[piece:], 8 if fast else 1000, prompt + n), prompt, n, rng)
    sample = tokenizer.decode(model.generate(unseen[None, :prompt], 60 if fast else 300, rng)[0])
    return Result(corpus.name, C, T, B, seconds, quick is not nullcontext, compared,
                  steps, distances, **found, cut=cut,
                  prompt=prompt, judged=judged, own=own, times=times, tokens=tokens,
                  sample=sample.replace("\n", "⏎"))


def equal_time(seen, report, size, C, B, T, seconds, seed, judges, bar):
    """Rows: model, how many numbers, seconds, steps by seed, nats by seed."""
    judge = judges[ORDERS[-1]]
    rows = [[f"counting, order {ORDERS[-1]}", judge.size, None, [], [
        studies.nats(judge.log_probabilities(report))]]]
    for name in ("day 16's network", MAIN):
        steps, nats = [], []
        for s in range(seed, seed + SEEDS):
            if name == MAIN:
                model, k = studies.recurrent(seen, size, C, KINDS[MAIN], RATES[MAIN], s, B, T,
                                             seconds=seconds)
                logp = gru.log_probabilities(model, report)
            else:
                model, k = studies.window(seen, size, 2 * C, RATES["window"], s, seconds=seconds)
                logp = neural_ngram.log_probabilities(model, report)
            steps.append(k)
            nats.append(studies.nats(logp))
            bar(1, f"{name} {nats[-1]:.2f}")
        rows.append([name, model.count_parameters(), seconds, steps, nats])
    return rows


def rows_of(ids, n, length):
    """n pieces of `length` tokens, evenly spread over ids: (n, length)."""
    starts = np.linspace(0, len(ids) - length, n).astype(int)
    return np.stack([ids[at:at + length] for at in starts])


def table(result):
    far = result.distances[-1]
    rows = [["layer", "u, start", "u, trained", "its 90 % quantile",
             f"gradient after {far} tokens, start", "trained", f"nats after {result.steps} steps"]]
    for kind, r in result.reach.items():
        u = result.update.get(kind)
        rows.append([kind, *((f"{u['start'][0]:.2f}", f"{u['trained'][0]:.2f}",
                              f"{u['trained'][1]:.3f}") if u else [""] * 3),
                     *(f"{r[k][-1][0]:.1e}" for k in ("start", "trained")),
                     f"{result.nats[kind]:.2f}"])
    return rows


def show(result):
    print_table(table(result), f"{result.corpus}, {result.channels} channels")
    print_table([["model", "numbers", "steps", "nats, lowest to highest"], *(
        [name, f"{count:,}", " ".join(map(str, steps)), f"{min(nats):.3f} to {max(nats):.3f}"]
        for name, count, _, steps, nats in result.compared)], f"{result.seconds:g} s of training")
    print_table([["gradient cut every", "cosine, start", "trained"], *(
        [a[0], f"{a[1]:.3f}", f"{b[1]:.3f}"] for a, b in zip(*result.cut.values()))])
    print_table([["T", "B", "NumPy, ms", "kernels, ms"], *(
        [T, result.tokens // T, f"{a:.1f}", f"{b:.1f}"] for T, a, b in result.times)], "one step")
    print_table([["order of the judge", "real text", "drawn after real text", "free text"], *(
        [order, *(f"{np.mean(prices):.2f}" for prices in three)]
        for order, three in result.judged.items())], "nats a character, by counting")
    print("the model's own price: of real text {:.2f}, of its free text {:.2f} nats".format(
        *map(np.mean, result.own)))
    print_text(result.sample)


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 4.2))
    for kind, r in result.reach.items():
        for state, style in (("start", "--"), ("trained", "-")):
            sizes = [rms for rms, _ in r[state]]
            left.loglog(result.distances, sizes, style, color=COLORS[kind],
                        label=kind if state == "trained" else None)
    left.plot([], [], "--", color="0.3", label="before training")
    left.set(xlabel="tokens between the state and the gradient", xticks=result.distances,
             ylabel="size of the gradient that arrives (1: all)")
    left.set_xticks(result.distances, map(str, result.distances))
    left.minorticks_off()
    left.legend(fontsize=8.5, loc="lower left")
    far = result.distances[-1]
    plain, gated = (result.reach[k]["trained"][-1][0] for k in ("tanh", MAIN))
    left.set_title(f"After {far} tokens a trained GRU passes {gated:.0e}\n"
                   f"of a gradient, the tanh network {plain:.0e}")
    spans = [T for T, *_ in result.times]
    for j, (name, color) in enumerate((("NumPy", "#c2571a"), ("Numba", "#2e7d4f")), 1):
        values = [row[j] for row in result.times]
        right.semilogx(spans, values, "o-", color=color)
        right.annotate(name, (spans[0], values[0]), (0, 8), textcoords="offset points",
                       color=color)
    right.set_xticks(spans, map(str, spans))
    right.minorticks_off()
    right.set(xlabel=f"T, tokens in sequence (B = {result.tokens:,}/T)", ylabel="ms a step",
              ylim=(0, None))
    right.set_title(f"The same work takes {result.times[-1][1] / result.times[0][1]:.1f} times as "
                    f"long\nwith T = {spans[-1]} as with T = {spans[0]} in NumPy")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
