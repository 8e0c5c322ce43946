"""Day 51 · Experts with and without a reason to share the work: load, choice, room and time."""

from dataclasses import dataclass

import numpy as np

from days.day35 import job
from days.day48.small import Texts, nats
from days.day51 import look, timing
from days.day51.small import MAIN, VARIANTS, K, N, Plan, loads, make_model, train
from days.harness import main, print_table, progress, save
from llm.tokens.chars import CharTokenizer
from llm.train.fast_gated import fast as kernels

SHOWN = ["experts, α = 0", MAIN, "experts, α = 1", "experts, biases"]
FACTORS = [.5, .75, 1.0, 1.25, 1.5, 2.0, 4.0]
THINGS = ["the token", "the one before", "the one that follows", "position", "token, shuffled"]


@dataclass(frozen=True)
class Result:
    corpus: str
    T: int                # tokens a batch
    experts: int
    k: int
    history: list         # [variant, steps, [loads of each block] by step, N·Σ fP by step]
    finals: list          # [variant, nats, busiest, idlest expert (mean 1), N·Σ fP] held out
    dependence: list      # [which model, which block, share of the choice's entropy by THINGS]
    favourites: list      # of the model with α = 0.01: block, expert: [share, [[token, times]]]
    text: str             # a piece of held-out text …
    colours: list         # … and the first choice of each of its tokens, by block
    capacity: list        # [factor, dropped: by chance, α = 0, α = 0.01; nats: α = 0, α = 0.01]
    places: list          # dropped at factor 1: [[first choices, second] of each window], α = 0.01
    steps: list           # [variant, ms of a training step]
    layers: list          # [tokens, ms dense, ms experts, experts in use]
    wide: list            # C, F of those


def measure(fast, seed):
    plan = Plan.small() if fast else Plan()
    corpus = job.load_corpus("shakespeare", job.Recipe(T=plan.T, characters=plan.characters))
    texts, tokenizer = Texts(plan, corpus), CharTokenizer.from_text(corpus.text)
    rng, total = np.random.default_rng(seed), 40 if fast else 600
    ids, wide = texts.report, (32, 64) if fast else (512, 1024)
    history, finals, models = [], [], {}
    with kernels(), progress(len(SHOWN) * total, "training") as tick:
        for variant in SHOWN:
            record = [variant, [], [], []]
            hooks = [lambda step, model, record=record: note(step, model, record),
                     lambda step, model: tick()]
            models[variant], _ = train(plan, texts, variant, plan.first_rates[0], seed, hooks,
                                       total)
            history.append(record)
            model = models[variant]
            found = N * np.array(loads(model, ids, plan))
            finals.append([variant, nats(model, ids, plan.T), found.max(), found.min(),
                           balance(model)])
        none, main_model = models[SHOWN[0]], models[MAIN]
        raw = make_model(plan, texts.V, MAIN, np.random.default_rng([seed, 0]))
        dependence = [[name, block + 1, shares]
                      for name, model in (("before training", raw), ("α = 0", none),
                                          ("α = 0.01", main_model))
                      for block, shares in enumerate(look.dependence(model, ids, plan.T, rng))]
        inputs, _, first = look.choices(main_model, ids, plan.T, 4)
        return Result(
            corpus.name, plan.B * plan.T, N, K, history, finals, dependence,
            look.favourites(main_model, ids, plan.T, tokenizer), tokenizer.decode(inputs.ravel()),
            [experts.ravel().tolist() for experts in first],
            [[factor, look.by_chance(plan, K, factor, rng),
              *np.transpose([look.limited(m, ids[:20_001], plan, factor)
                             for m in (none, main_model)]).ravel().tolist()]
             for factor in FACTORS],
            look.places(main_model, ids, plan, 1.0).tolist(),
            timing.step_times(plan, texts, [*list(VARIANTS)[:1], *list(VARIANTS)[2:4]],
                              3 if fast else 40),
            timing.layer_times(*wide, N, K, [1, 16, 128] if fast else [1, 4, 16, 64, 256, 1024],
                               rng, 3 if fast else 30), list(wide))


def note(step, model, record, every=10):
    """A hook: what the routers did with this step's batch."""
    if step.step == 1 or step.step % every == 0:
        record[1].append(step.step)
        record[2].append([np.round(m.last.load, 4).tolist() for m in model.mixtures()])
        record[3].append(round(balance(model), 4))


def balance(model):
    """N·Σ fP of the last call, the mean over blocks."""
    return float(np.mean([m.balance_loss().data for m in model.mixtures()]))


def table(result):
    rows = [["model", "nats", "busiest expert", "idlest", "N·Σ fP"]]
    for name, cost, busiest, idlest, value in result.finals:
        rows.append([name, f"{cost:.3f}", f"{busiest:.2f}", f"{idlest:.2f}", f"{value:.3f}"])
    return rows


def show(result):
    print_table(table(result), f"after {result.history[0][1][-1]} steps; loads in means")
    print_table([["model", "block", *THINGS]] + [
        [name, block, *(f"{100 * x:.1f} %" for x in shares)]
        for name, block, shares in result.dependence], "what tells the choice")
    for b, rows in enumerate(result.favourites):
        print_table([["expert", "of all tokens", "over-represented, times"]] + [
            [i, f"{100 * share:.1f} %", "  ".join(f"{t} {x:.1f}" for t, x in top)]
            for i, (share, top) in enumerate(rows)], f"α = 0.01, block {b + 1}")
    print_table([["factor", "by chance", "α = 0", "α = 0.01", "nats, α = 0", "nats, α = 0.01"]] + [
        [f"{row[0]:.2f}", *(f"{100 * x:.1f} %" for x in row[1:4]), *(f"{x:.3f}" for x in row[4:])]
        for row in result.capacity], "choices dropped")
    print_table([["training step", "ms"]] + [[name, f"{ms:.1f}"] for name, ms in result.steps])
    print_table([["tokens", "dense, ms", "experts, ms", "experts in use"]] + [
        [T, f"{a:.2f}", f"{b:.2f}", used] for T, a, b, used in result.layers],
        "one layer, C × F = {} × {}".format(*result.wide))


def draw(result, path):
    from days.day51.picture import draw_all
    save(draw_all(result, FACTORS), path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
