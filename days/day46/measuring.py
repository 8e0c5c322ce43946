"""Day 46 · What a draft is worth: tokens a pass, seconds a pass, and both together."""

import itertools
import math
import time

import numpy as np

from days.day43.ways import PAUSE
from llm.functions.probability import softmax
from llm.generate.drafts import Lookup, ModelDraft, Table
from llm.generate.engine import Engine
from llm.generate.reading import Compiled
from llm.generate.speculative import chances, draw, speculate
from llm.generate.speedup import acceptance
from llm.generate.truncate import Chooser
from llm.grad.tensor import no_grad


def rounds(make_target, make_draft, prompts, n, gamma, seed, **options):
    """Every prompt continued by n ids -> a list of (guesses, kept), one for each round."""
    log = []
    for i, prompt in enumerate(prompts):
        choose = Chooser(np.random.default_rng([seed, i]), **options)
        for _ in speculate(make_target(), make_draft(), prompt, n, choose, gamma, log=log):
            pass
    return log


def summary(log):
    """[tokens a pass, share of the judged guesses that were kept, guesses a pass, ± of the first].

    What follows a refused guess is not judged. ±: the standard error, as if rounds were
    independent.
    """
    guesses, kept = np.array(log).T
    judged = np.minimum(guesses, kept + 1)
    return [float((kept + 1).mean()), float(kept.sum() / max(judged.sum(), 1)),
            float(guesses.mean()), float(kept.std() / math.sqrt(len(kept)))]


def by_place(log, gamma):
    """Share kept of the guesses at place 1 … γ that were judged: [share, how many were judged]."""
    full = [kept for guesses, kept in log if guesses == gamma]
    judged = [sum(kept >= j for kept in full) for j in range(gamma)]
    return [[sum(kept > j for kept in full) / max(count, 1), count]
            for j, count in enumerate(judged)]


def by_past(log):
    """Share kept of the first guesses, by what became of the last guess of the round before:
    [share after a refusal, how many, share after none was refused, how many]."""
    found = [(before[1] == before[0], kept > 0) for before, (guesses, kept)
             in itertools.pairwise(log) if before[0] and guesses]
    parts = [[kept for fine, kept in found if fine == wanted] for wanted in (False, True)]
    return [x for part in parts for x in (sum(part) / max(len(part), 1), len(part))]


def drafts_of(V, models, ngram):
    """name -> a function that makes the draft for a new text. models: {name: (arch, weights)}."""
    quick = {name: Engine(*parts, threads=1) for name, parts in models.items()}

    def fresh(engine):
        engine.reset()
        return ModelDraft(Compiled(engine))

    made = {name: (lambda e=engine: fresh(e)) for name, engine in quick.items()}
    window = ngram.order - 1
    made["n-grams of the training text"] = lambda: Table(
        lambda text: np.log(ngram.distribution(np.array(text[-window:]))))
    made["lookup in the text so far"] = lambda: Lookup(V)
    return made


def fastest(functions, rounds, calls=5):
    """Seconds of the fastest call of each function, taken in turns, with a pause before each.

    The fastest, since all else that runs on the machine can only slow a call down; the pause as
    on day 43, since the workers of one thread pool spin for a while after their work.
    """
    best = dict.fromkeys(functions, math.inf)
    for _ in range(rounds):
        for name, function in functions.items():
            time.sleep(PAUSE if rounds > 3 else 0)
            for i in range(calls + 1):                        # the first wakes the threads
                start = time.perf_counter()
                function()
                spent = time.perf_counter() - start
                best[name] = min(best[name], spent) if i else best[name]
    return best


def pass_seconds(model, ids, before, sizes, rounds):
    """{n: seconds of reading n ids behind `before` others, with all their logits}."""
    model.truncate(0)
    model.read(ids[:before])

    def read(n):
        model.truncate(before)
        model.read(ids[before:before + n], n)

    return fastest({n: (lambda n=n: read(n)) for n in sizes}, rounds)


def guess_seconds(make, text, rounds, gamma=4, **options):
    """Seconds that a draft takes for one guess, drawing included, its text being read already."""
    choose, draft = Chooser(np.random.default_rng(0), **options), make()
    draft.propose(text, gamma, choose)

    def guess():
        draft.truncate(len(text) - 1)
        draft.propose(text, gamma, choose)

    return fastest({"guess": guess}, rounds)["guess"] / gamma


def draw_seconds(logits, rounds, **options):
    """Seconds from logits to an id: what plain decoding pays besides the pass."""
    choose = Chooser(np.random.default_rng(0), **options)
    return fastest({"draw": lambda: draw(chances(choose, logits, []), choose.rng)},
                            rounds)["draw"]


def written(make_target, prompts, n, seed):
    """What the target writes alone: each prompt and n ids more."""
    texts = []
    for i, prompt in enumerate(prompts):
        choose = Chooser(np.random.default_rng([seed, 1, i]))
        texts.append([*prompt, *speculate(make_target(), Lookup(1), prompt, n, choose, 0)])
    return texts


def agreements(target, models, ngram, texts, given):
    """{draft: mean Σ min(p, q)} over the places behind the first `given` ids of each text."""
    found = {name: [] for name in [*models, "n-grams of the training text"]}
    for text in texts:
        ids = np.array(text)
        with no_grad():
            read = lambda model, ids=ids: softmax(model(ids[None, :-1]).data[0])[given - 1:]
            p = read(target)
            for name, model in models.items():
                found[name].append(acceptance(p, read(model)).mean())
        q = [ngram.distribution(ids[at - ngram.order + 1:at]) for at in range(given, len(ids))]
        found["n-grams of the training text"].append(acceptance(p, np.array(q)).mean())
    return {name: float(np.mean(rows)) for name, rows in found.items()}


def speeds(targets, made, prompts, n, seed, grid, gammas, passes, guess, drawing):
    """[target, temperature, draft, γ, predicted, measured] at the γ that is predicted to be best.

    Predicted from the tokens a pass that were counted and the costs that were timed one by one.
    """
    found = []
    for where, target in targets.items():
        one = passes[where][1] + drawing
        for temperature, rows in grid.items():
            for name, make in made.items():
                gains = {}
                for gamma, (tokens, _, guesses, _) in zip(gammas, rows[name]):
                    chunk = between(passes[where], guesses + 1)
                    cost = guesses * guess[name] + chunk + tokens * drawing
                    gains[gamma] = tokens * one / cost
                gamma = max(gains, key=gains.get)
                found.append([where, float(temperature), name, gamma, gains[gamma],
                              measured(target, make, prompts, n, gamma, seed, float(temperature))])
    return found


def between(seconds, n):
    """Seconds of a pass over n ids, n not whole: along the line between the sizes measured."""
    return float(np.interp(n, list(seconds), list(seconds.values())))


def measured(target, make_draft, prompts, n, gamma, seed, temperature):
    """Times as fast with the draft as without: the median over the prompts, taken in turns."""
    ratios = []
    for i, prompt in enumerate(prompts):
        spent = []
        for g in (0, gamma):
            choose = Chooser(np.random.default_rng([seed, i]), temperature)
            target.truncate(0)
            target.read(prompt[:-1])
            draft = make_draft()
            time.sleep(0.02)
            start = time.perf_counter()
            for _ in speculate(target, draft, prompt, n, choose, g):
                pass
            spent.append(time.perf_counter() - start)
        ratios.append(spent[0] / spent[1])
    return float(np.median(ratios))
