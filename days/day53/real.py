"""Day 53 · SmolLM2 learns a new format: a story's beginning in, one line of JSON out.

The prompt is the story alone; nothing says what to do with it. So what the model does before
training is its own idea, and what it does afterwards it has from a few hundred examples.
"""

import json
from dataclasses import dataclass

import numpy as np

from days.day53.solve import Speaker
from days.harness import progress
from llm.data.stories import stories
from llm.data.tasks import OPENING
from llm.functions.probability import log_softmax
from llm.generate.plain import Plain
from llm.generate.pretrained import load
from llm.generate.template import Message
from llm.train.adam import AdamW
from llm.train.fast_gated import fast as kernels
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.tune.chat import example
from llm.tune.packing import pack_attention
from llm.tune.pretrained import trainable
from llm.tune.sft import evaluate, packed_batches, sft_loss

T = 256                            # tokens a row: two or three examples
FIELDS = ("name", "kind", "home", "colour", "toy")


@dataclass(frozen=True)
class FullResult:
    """What --full measures on SmolLM2-135M, for each seed and on average."""

    parameters: int
    steps: int
    rate: float
    tokens: int           # read in training, by one seed
    answers: int          # of them the assistant's
    tests: int            # stories that are asked about
    rows: list            # [what, before, after each seed …]
    losses: list          # one list a seed: nats per answer token of each step
    samples: list         # [story, before, after], the first eight of the test


def facts(n, rng):
    """n conversations of two messages: the beginning of a story, its facts as JSON."""
    made = []
    for line in stories(n, rng).splitlines():
        opening, kind, name, home, colour, toy = OPENING.match(line).groups()
        answer = dict(zip(FIELDS, (name, kind, home, colour, toy)))
        made.append([Message("user", opening), Message("assistant", json.dumps(answer))])
    return made


def apart(n, tests, rng):
    """(train, test): n and `tests` conversations about different stories."""
    seen, made = set(), []
    for messages in facts(2 * (n + tests) + 20, rng):
        if messages[0].content not in seen:
            seen.add(messages[0].content)
            made.append(messages)
    return made[tests:tests + n], made[:tests]


def form(text):
    """Is it one line of JSON with the five fields, in their order, and nothing else?"""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and tuple(found) == FIELDS and json.dumps(found) == text


def learn(steps=30, rate=1e-4, B=2, tests=24, seeds=(0, 1, 2), plays=""):
    """Fine-tune SmolLM2 once a seed -> FullResult. plays: held-out text, to see what is lost."""
    opened = load()
    template = opened.chat_template()
    _, test = apart(0, tests, np.random.default_rng(1000))
    unseen = {messages[0].content for messages in test}
    cut = lambda m: example(opened.tokenizer, m, template)
    held, ids = [cut(m) for m in test], opened.encode(plays)
    model = trainable(opened, T)
    speak = lambda: Speaker(*model.for_inference(), opened.tokenizer, template, T)
    before, rows, losses, read = look(model, speak(), test, held, ids, plays), [], [], 0
    kept = {name: p.data.copy() for name, p in model.named_parameters().items()}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        train = [m for m in apart(400, 0, rng)[0] if m[0].content not in unseen]
        for name, p in model.named_parameters().items():
            p.data[...] = kept[name]
        run, read, learned = tune(model, [cut(m) for m in train], steps, rate, B, rng)
        losses.append(run.losses)
        rows.append(look(model, speak(), test, held, ids, plays))
    names = ("the format, share of stories", "format and facts, share", "nats per answer token",
             "nats per character of Shakespeare")
    table = [[name, before[i], *(row[i] for row in rows)] for i, name in enumerate(names)]
    samples = [[m[0].content, a, b] for m, a, b in zip(test[:8], before[4], rows[0][4])]
    return FullResult(sum(a.size for a in kept.values()), steps, rate, read, learned, tests,
                      table, losses, samples)


def tune(model, examples, steps, rate, B, rng):
    """(Run, tokens read, answers among them) of all weights in float32, by AdamW."""
    borders, parameters = pack_attention(model), model.named_parameters()
    counted = [0, 0]

    def batches():
        for batch in packed_batches(examples, B, T, rng):
            counted[0] += int((batch[2] >= 0).sum())
            counted[1] += int((batch[1] >= 0).sum())
            yield batch

    optimizer = AdamW(parameters, betas=(0.9, 0.99), decay=0.0)
    with kernels(), progress(steps, "SmolLM2 learns") as tick:
        run = fit(parameters, sft_loss(model, borders), batches(), optimizer,
                  WarmupCosine(rate, 3), steps=steps,
                  hooks=[lambda step: tick(1, f"loss {step.loss:.3f}")])
    if run.interrupted:
        raise KeyboardInterrupt
    return run, *counted


def look(model, speaker, test, held, ids, plays):
    """[share in the format, share right, nats per answer token, nats per character, answers]."""
    answers = []
    with progress(len(test), "SmolLM2 answers") as tick:
        for messages in test:
            answers.append(speaker.answer(messages[:1], 70))
            tick(1)
    right = [a == m[1].content for a, m in zip(answers, test)]
    nats = evaluate(model, held, 8)
    reader = Plain(*model.for_inference(), len(ids))
    logits = reader.read(ids[:-1]).astype(np.float64)
    lost = -log_softmax(logits)[np.arange(len(logits)), ids[1:]]
    return [float(np.mean([form(a) for a in answers])), float(np.mean(right)), nats,
            float(lost.sum() / len(plays)), answers]


def draw(result, fig, left, right):
    """Loss by step for each seed, and the two shares before and after."""
    for seed, losses in enumerate(result.losses):
        left.plot(range(1, len(losses) + 1), losses, label=f"seed {seed}")
    left.set_xlabel("step of fine-tuning")
    left.set_ylabel("nats per answer token")
    left.set_ylim(bottom=0)
    left.legend()
    names = ["in the format", "format and facts"]
    for i, (_, before, *after) in enumerate(result.rows[:2]):
        right.plot([i] * len(after), after, "o", color="#c2571a", label="after" if not i else None)
        right.plot([i], [before], "s", color="#1f5a99", label="before" if not i else None)
    right.set_xticks(range(2), names)
    right.set_xlim(-0.5, 1.5)
    right.set_ylim(-0.05, 1.05)
    right.set_ylabel(f"share of {result.tests} unseen stories")
    right.legend(loc="center")
    share = np.mean(result.rows[1][2:])
    fig.suptitle(f"After {result.steps} steps SmolLM2 puts {100 * share:.0f} % of unseen stories "
                 "into the new format with all facts right", x=0.01, ha="left", fontsize=10.5)
