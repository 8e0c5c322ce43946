"""Day 46 · Speculative decoding: is it exact, how many tokens a pass, and does it pay?"""

from dataclasses import asdict, dataclass

import numpy as np

from days.day35.trained import trained
from days.day43.models import random_model
from days.day46 import controlled, exact, measuring
from days.day46.drafting import Recipe, agreement, draft
from days.day46.figure import ENGINE, PLAIN, WIDE, draw
from days.harness import main, print_table, progress
from llm.generate.architecture import gpt_weights
from llm.generate.engine import Engine
from llm.generate.reading import Compiled, Plain
from llm.models.gpt import count_parameters
from llm.models.ngram import NGram


@dataclass(frozen=True)
class Result:
    corpus: str
    shape: dict           # of the target
    recipe: dict          # of the drafts
    parameters: list      # of the target, of a draft
    exact: list           # [rule, χ², its limit, samples, cells]
    tokens: int           # written in each cell of `grid`
    gammas: list
    grid: dict            # {temperature: {draft: [[tokens a pass, kept, guesses a pass, ±]]}}
    places: dict          # {draft: [share kept at place 1 …, how many were judged]}, temperature 1
    past: dict            # {draft: [kept after a refusal, how many, after none, how many]}, γ = 1
    own: dict             # {draft: mean Σ min(p, q) over text that the target wrote}
    text: dict            # {draft: [the same over held-out text, nats a token of the draft]}
    wide: dict            # shape of the wide model
    passes: dict          # {target: [[ids at once, ms]]}
    guess: dict           # {draft: µs of one guess}
    drawing: float        # µs from logits to an id
    controlled: list      # [α, γ, tokens a pass, speedup by the formula, measured], wide model
    speeds: list          # [target, temperature, draft, γ, predicted speedup, measured speedup]


def measure(fast, seed):
    reader = trained(fast)
    arch, weights = gpt_weights(reader.model.state_dict(), reader.config)
    ids = np.array(reader.tokenizer.encode(reader.corpus.validation))
    ids = ids[len(ids) // 2:]
    kinds = {"distilled": Recipe.small("distilled") if fast else Recipe(),
             "trained on text": Recipe.small("text") if fast else Recipe("text", steps=1250)}
    models = {name: draft(reader, recipe) for name, recipe in kinds.items()}
    ngram = NGram.fit(reader.tokenizer.encode(reader.corpus.train), 3, arch.V)
    made = measuring.drafts_of(arch.V, {name: gpt_weights(m.state_dict(), m.config)
                                        for name, m in models.items()}, ngram)
    count, n, given = (2, 12, 6) if fast else (12, 64, 16)
    gammas = (1, 3) if fast else (1, 2, 3, 4, 6, 8)
    prompts = [part[:given].tolist() for part in np.array_split(ids, count)]
    plain = lambda: Plain(arch, weights)
    grid, places, past = {"1.0": {}, "0.0": {}}, {}, {}
    with progress(2 * len(made) * len(gammas), "writing") as step:
        for temperature, rows in grid.items():
            for name, make in made.items():
                logs = {}
                for gamma in gammas:
                    logs[gamma] = measuring.rounds(plain, make, prompts, n, gamma, seed,
                                                   temperature=float(temperature))
                    step(1, name)
                rows[name] = [measuring.summary(log) for log in logs.values()]
                if temperature == "1.0":
                    places[name] = measuring.by_place(logs[gammas[-1]], gammas[-1])
                    past[name] = measuring.by_past(logs[1])
    written = measuring.written(plain, prompts, n, seed)
    own = measuring.agreements(reader.model, models, ngram, written, given)
    text = {name: agreement(reader, m, ids, 2 if fast else 60)[:2] for name, m in models.items()}
    wide = random_model("wide", np.random.default_rng(seed), **(
        {"V": 300, "T": 64, "C": 64, "L": 2, "H": 2, "F": 256} if fast else
        {"V": 1024, "T": 128, "C": 768, "L": 4, "H": 12, "F": 3072}))
    targets = {PLAIN: Plain(arch, weights), ENGINE: Compiled(Engine(arch, weights)),
               WIDE: Compiled(Engine(wide.arch, wide.weights))}
    sizes, turns = ((1, 2, 4), 2) if fast else ((1, 2, 3, 4, 5, 7, 9, 17), 5)
    passes = {name: measuring.pass_seconds(t, ids % t.arch.V, given, sizes, turns)
              for name, t in targets.items()}
    options = {"temperature": 1.0}
    guess = {name: measuring.guess_seconds(make, 2 * prompts[0], turns, **options)
             for name, make in made.items()}
    drawing = measuring.draw_seconds(targets[PLAIN].read([1])[0], turns, **options)
    speeds = measuring.speeds({PLAIN: targets[PLAIN], ENGINE: targets[ENGINE]}, made,
                              prompts[:6], n, seed, grid, gammas, passes, guess, drawing)
    known = controlled.gains(targets[WIDE], [i % wide.arch.V for i in prompts[0]],
                             8 if fast else 64, (0.5, 0.9), gammas[1:] if fast else (1, 2, 4, 8),
                             passes[WIDE], drawing, seed)
    return Result(
        reader.corpus.name, vars(arch), asdict(kinds["distilled"]),
        [count_parameters(m.config) for m in (reader.model, models["distilled"])],
        exact.checked(plain, made["distilled"], prompts[0], seed, 3, 60 if fast else 1500),
        n * count, gammas, grid, places, past, own, text, vars(wide.arch),
        {name: [[size, 1e3 * s] for size, s in found.items()] for name, found in passes.items()},
        {name: 1e6 * s for name, s in guess.items()}, 1e6 * drawing, known, speeds)


def table(result):
    columns = [f"γ = {gamma}" for gamma in result.gammas]
    return [["draft", "temperature", "kept", *columns]] + [
        [name, temperature, f"{100 * rows[-1][1]:.0f} %", *(f"{row[0]:.2f}" for row in rows)]
        for temperature, drafts in result.grid.items() for name, rows in drafts.items()]


def show(result):
    print_table([["rule", "χ²", "limit"]] + [[rule, f"{found:.1f}", f"{limit:.1f}"]
                                             for rule, found, limit, *_ in result.exact],
                "is it the target's distribution?")
    print_table(table(result), "new tokens for each pass of the target, with γ guesses")
    names = list(result.passes)
    print_table([["ids at once", *names]] + [
        [rows[0][0], *(f"{row[1]:.3f}" for row in rows)]
        for rows in zip(*result.passes.values())], "ms of a pass")
    print_table([["draft", "µs a guess", "Σ min(p, q)", "kept at place 1, 2, …"]] + [
        [name, f"{us:.0f}", f"{result.own[name]:.3f}" if name in result.own else "",
         " ".join(f"{share:.2f}" for share, _ in result.places[name])]
        for name, us in result.guess.items()], "the drafts")
    print_table([["α", "γ", "tokens a pass", "formula", "measured"]] + [
        [alpha, gamma, *(f"{x:.2f}" for x in rest)] for alpha, gamma, *rest in result.controlled],
        "a wide model and a draft that errs on purpose: times as fast as alone")
    print_table([["target", "temperature", "draft", "γ", "predicted", "measured"]] + [
        [*row[:4], f"{row[4]:.2f}", f"{row[5]:.2f}"] for row in result.speeds],
        "times as fast as the target alone")


if __name__ == "__main__":
    main(__file__, measure, show, draw)
