"""Day 53 · SmolLM2 learns a new format: a story's beginning in, one line of JSON out.

The prompt is the story alone; nothing says what to do with it. So what the model does before
training is its own idea, and what it does afterwards it has from fewer than fifty examples.
"""

import json
from dataclasses import dataclass

import numpy as np

from days.day53.solve import Speaker
from days.harness import progress
from llm.data.stories import stories
from llm.data.tasks import OPENING
from llm.functions.probability import log_softmax
from llm.generate.pretrained import load
from llm.generate.template import Message
from llm.grad.tensor import no_grad
from llm.train.adam import AdamW
from llm.train.fast_gated import fast as kernels
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.tune.chat import example
from llm.tune.packing import pack_attention, pick
from llm.tune.pretrained import trainable
from llm.tune.sft import IGNORE, packed_batches, sft_loss, shifted

T = 200                            # tokens a row: two examples
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
    forms: list           # of the samples, the share in the format: before, after
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


def learn(steps=24, rate=1e-4, B=1, tests=20, seeds=(0, 1), plays=""):
    """Fine-tune SmolLM2 once a seed -> FullResult. plays: held-out text, to see what is lost."""
    opened = load()
    template = opened.chat_template()
    _, test = apart(0, tests, np.random.default_rng(1000))
    unseen = {messages[0].content for messages in test}
    cut = lambda m: example(opened.tokenizer, m, template)
    held, ids = [cut(m) for m in test], opened.encode(plays)
    model = trainable(opened, T)
    speaker = lambda: Speaker(*model.for_inference(), opened.tokenizer, template, T)
    speak = lambda: answers(speaker(), test[:8])
    said, before, after, losses = [speak()], look(model, held, ids, plays), [], []
    kept = {name: p.data.copy() for name, p in model.named_parameters().items()}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        train = [m for m in apart(400, 0, rng)[0] if m[0].content not in unseen]
        for name, p in model.named_parameters().items():
            p.data[...] = kept[name]
        run, read, learned = tune(model, [cut(m) for m in train], steps, rate, B, rng)
        losses.append(run.losses)
        after.append(look(model, held, ids, plays))
        if seed == seeds[0]:
            said.append(speak())
    names = ("answers right, share", "nats per answer token", "nats per character of Shakespeare")
    table = [[name, before[i], *(row[i] for row in after)] for i, name in enumerate(names)]
    forms = [sum(map(form, texts)) / len(texts) for texts in said]
    samples = [[" / ".join(text.split("\n")).replace("|", "¦") for text in (m[0].content, a, b)]
               for m, a, b in zip(test, *said)]
    return FullResult(sum(a.size for a in kept.values()), steps, rate, read, learned, tests,
                      table, forms, losses, samples)


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


def answers(speaker, test):
    """What the model says to the stories, greedily."""
    said = []
    with progress(len(test), "SmolLM2 answers") as tick:
        for messages in test:
            said.append(speaker.answer(messages[:1], 60))
            tick(1)
    return said


def look(model, held, ids, plays):
    """[share of answers that greedy decoding would get right to the last character and end there,
    nats per answer token, nats per character of plays].

    If every token of the right answer is the likeliest after those before it, greedy decoding
    writes exactly this answer; otherwise it leaves it at the first token that is not.
    """
    right, total, count = 0, 0.0, 0
    with no_grad(), kernels():
        for one in held:
            inputs, targets = shifted(*one)
            where = np.flatnonzero(targets != IGNORE)
            logits = model.logits(pick(model.hidden(inputs[None]), where)).data
            right += bool((logits.argmax(axis=-1) == targets[where]).all())
            total -= float(log_softmax(logits)[np.arange(len(where)), targets[where]].sum())
            count += len(where)
        lost = 0.0
        for first in range(0, len(ids) - 1, T):
            part = ids[first:first + T + 1]
            lost += float(model.loss(part[None, :-1], part[None, 1:]).data) * (len(part) - 1)
    return [right / len(held), total / count, lost / len(plays)]


def draw(result, fig, left, right):
    """Loss by step for each seed, and the two shares before and after."""
    for seed, losses in enumerate(result.losses):
        left.plot(range(1, len(losses) + 1), losses, label=f"seed {seed}")
    left.set_xlabel("step of fine-tuning")
    left.set_ylabel("nats per answer token")
    left.set_ylim(bottom=0)
    left.legend()
    names, rows = ["right to the last character", "in the format"], result.rows[0]
    for i, (before, after) in enumerate(((rows[1], rows[2:]), (result.forms[0], result.forms[1:]))):
        right.plot([i] * len(after), after, "o", color="#c2571a", label=None if i else "after")
        right.plot([i], [before], "s", color="#1f5a99", label=None if i else "before")
    right.set_xticks(range(2), names)
    right.set_xlim(-0.5, 1.5)
    right.set_ylim(-0.05, 1.05)
    right.set_ylabel("share of unseen stories")
    right.legend(loc="center")
    share = 100 * np.mean(rows[2:])
    fig.suptitle(f"After {result.steps} steps SmolLM2 turns {share:.0f} % of unseen stories into "
                 "the new format, all facts right", x=0.01, ha="left", fontsize=10.5)
