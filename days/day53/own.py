"""Day 53 · Your own examples: read, checked, learned from, and tried out."""

import numpy as np

from days.day53.solve import Speaker
from days.day53.tuned import copy_of
from days.harness import UsageError, kernels, print_table, progress, say
from llm.generate.architecture import gpt_weights
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.tune.chat import example
from llm.tune.jsonl import Preference, numbered
from llm.tune.packing import pack_attention
from llm.tune.sft import evaluate, packed_batches, sft_loss

RATE = 1e-3


def learn(start, path, steps, seed):
    """Fine-tune a copy of the base on the file; one line in ten is kept for a test. Fewer than
    ten are all learned, and looked at again. Prints the loss before and after, and answers to the
    first prompts.

    Raises UsageError or TextError, one line with the line of the file, where it cannot be used.
    """
    if steps < 1:
        raise UsageError(f"--steps {steps}: wanted at least 1")
    kept = examples_of(start, path)
    test, train = kept[9::10] or kept, [one for i, one in enumerate(kept) if i % 10 != 9]
    model = copy_of(start)
    cut = lambda side: [made for _, made in side]
    before = evaluate(model, cut(test))
    speakers = [Speaker.of(start)]
    borders, parameters = pack_attention(model), model.named_parameters()
    batches = packed_batches(cut(train), 4, start.config.T, np.random.default_rng(seed))
    optimizer = AdamW(parameters, betas=(0.9, 0.99))
    with kernels(), progress(steps, "learning from your examples") as tick:
        fit(parameters, sft_loss(model, borders), batches, optimizer, WarmupCosine(RATE, 10),
            steps=steps, hooks=[lambda step: tick(1, f"loss {step.loss:.2f}")])
    speakers.append(Speaker(*gpt_weights(model.state_dict(), start.config), start.tokenizer))
    on = f"{len(test)} others" if len(test) < len(kept) else f"the same {len(test)}"
    say(f"{len(train)} examples learned; on {on}: {before:.2f} nats per answer token "
        f"before, {evaluate(model, cut(test)):.2f} after")
    print_table([["prompt", "wanted", "before", "after"],
                 *([m[-2].content, m[-1].content, *(s.answer(m[:-1]) for s in speakers)]
                   for m, _ in test[:8])], "the first eight prompts of the test")


def examples_of(start, path):
    """[(messages, (ids, mask)), …] of the file's lines that fit into the window."""
    made, long = [], []
    for n, messages in numbered(path):
        if isinstance(messages, Preference):
            raise UsageError(f"{path}, line {n}: two answers to choose from are for later days; "
                             "write instruction and output, or messages")
        try:
            one = example(start.tokenizer, messages)
        except ValueError as error:
            raise UsageError(f"{path}, line {n}: {error}") from None
        if len(one[0]) - 1 > start.config.T:
            long.append((n, len(one[0])))
        else:
            made.append((messages, one))
    if long:
        say(f"{len(long)} of {len(long) + len(made)} examples are left out: they are longer than "
            f"the window of {start.config.T} tokens (line {long[0][0]} has {long[0][1]})")
    if not made:
        raise UsageError(f"{path}: no example fits into the window of {start.config.T} tokens; "
                         "shorten them")
    return made
