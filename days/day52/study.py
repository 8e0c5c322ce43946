"""Day 52 · What is measured of a model: its file, its judgement, its speed, its memory for talk."""

import time

import numpy as np

from days.day52 import texts, wrong
from days.day52.speak import weights_bytes
from days.harness import progress
from llm.generate import evaluate
from llm.generate.conversation import Conversation
from llm.generate.plain import Plain

TURNS = ["List the days of the week.", "Now the months of the year.",
         "What is the capital of France?"]


def kinds(file):
    """[type, tensors, weights, bytes], the largest first."""
    found = {}
    for tensor in file.tensors.values():
        row = found.setdefault(tensor.kind.name, [0, 0, 0])
        row[:] = row[0] + 1, row[1] + tensor.count, row[2] + tensor.size
    return sorted(([name, *row] for name, row in found.items()), key=lambda row: -row[3])


def judge(fast, both, held_out, rng):
    """Texts, choices and calibration of both models."""
    pieces = [("held-out Shakespeare", held_out[:500 if fast else 4000]),
              ("a famous sonnet", texts.FAMOUS), ("new verse in his manner", texts.NEW_VERSE),
              ("new prose", texts.NEW_PROSE)]
    ends = [(" ".join(stem.split()[-3:]), choices) for stem, choices in texts.LINES]
    choices = [("facts", texts.FACTS), ("famous lines", texts.LINES),
               ("their last three words", ends)]
    rows, means, calibrated = [], {}, {}
    with progress(2 * (len(pieces) + len(choices)), "evaluating") as step:
        for name, text in pieces:
            rows.append([name, "nats a byte"])
            for model, words, T in both:
                rows[-1].append(evaluate.nats_per_byte(model.read, words, text, T))
                step(1, name)
            rows[-1].append(None)
        for name, items in choices:
            items = fitting(items, both)[:3 if fast else None]
            found = []
            for model, words, _ in both:
                found.append(np.array([evaluate.answer(model.read, words, *item)
                                       for item in items]) == 0)
                step(1, name)
            rows.append([name, f"right of {len(items)}", *(int(f[:, 0].sum()) for f in found),
                         len(items) / 4])
            means[name] = [int(f[:, 1].sum()) for f in found]
    for name, (model, words, T) in zip(("real", "reader"), both):
        ids = words.encode(held_out[4000:4500 if fast else 10000])
        sure, right = evaluate.top_predictions(model.read, ids, T)
        calibrated[name] = [*evaluate.calibration(sure, right), len(right),
                            evaluate.calibration_by_chance(sure, rng)]
    return rows, means, calibrated


def fitting(items, both):
    """The questions that each model can read whole, with any of the choices."""
    return [(question, choices) for question, choices in items
            if all(len(words.encode(question + choice)) <= model.cache.T_max + 1
                   for model, words, _ in both for choice in choices)]


def stepwise(engine):
    """`read` for evaluation, of an engine that reads token by token: ids (n,) -> logits (n, V)."""
    def read(ids):
        engine.reset()
        return np.array([engine.step(int(i)).copy() for i in ids])
    return read


def nearly_right(model, weights, T, text, ids):
    """[reader, nats a byte of text, the next token after ids] for every wrong reader."""
    found = []
    with progress(len(wrong.READERS), "wrong readers") as step:
        for name, change in wrong.READERS.items():
            one = Plain(*change(model.arch, weights), 2 * T)
            found.append([name, evaluate.nats_per_byte(one.read, model.tokenizer, text, T),
                          model.tokenizer.decode([int(one.read(ids)[-1].argmax())])])
            step(1, name)
    return found


def by_place(fast, model, weights, text):
    """[first, last, nats a token of the right reader, of the one without the permutation].

    Many short windows are read, each from its own beginning; the place counts from there.
    """
    ids = model.tokenizer.encode(text)
    n, T = (2, 16) if fast else (24, 64)
    places, nats = [(1, 4), (5, 16)] + ([] if fast else [(17, 64)]), []
    for change in list(wrong.READERS.values())[:2]:
        one = Plain(*change(model.arch, weights), T)
        nats.append(-np.mean([evaluate.log_probabilities(one.read, ids[i * T:i * T + T + 1], T + 1)
                              for i in range(n)], axis=0))
    return [[a, b, *(float(x[a - 1:b].mean()) for x in nats)] for a, b in places]


def pace(fast, plain, quick, ids):
    """Greedy tokens of the quick engine, and [decoder, bytes a token, tokens a second] of both."""
    n, said, rates = 8 if fast else 64, [], []
    for decoder, count in ((plain, n // 4), (quick, n)):
        for _ in range(2):              # the second time compiled, and BLAS's threads asleep
            decoder.reset()
            logits, said = decoder.prefill(ids), []
            start = time.perf_counter()
            for _ in range(count):
                said.append(int(logits.argmax()))
                logits = decoder.step(said[-1])
            seconds = time.perf_counter() - start
        rates.append(count / seconds)
    floats = 4 * sum(w.size for name, w in plain.weights.items() if name != "positions")
    return said, [["NumPy, float32", floats, rates[0]],
                  ["engine", weights_bytes(quick), rates[1]]]


def turns(fast, model, quick):
    """[question, answer, ids reused, ids read] of three greedy turns; and the last asked alone."""
    questions = TURNS[:2] if fast else TURNS
    talk = Conversation(quick, model.tokenizer, model.chat_template(), model.stops)
    alone = Conversation(quick, model.tokenizer, model.chat_template(), model.stops)
    found = [[question, *ask(fast, talk, question)] for question in questions]
    return found, ask(fast, alone, questions[-1])[0]


def ask(fast, talk, question):
    """(answer, ids reused, ids read) of one greedy turn."""
    said = "".join(talk.say(question, lambda z, _: int(z.argmax()), 8 if fast else 60))
    return said, talk.reused, talk.fresh
