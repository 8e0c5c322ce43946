"""Day 54 · SmolLM2 learns to add, a little: the model, the sums, and how it does on them."""

from dataclasses import dataclass

import numpy as np

from days.day53.base import base
from llm.data.tasks import split, sums
from llm.data.text import TextError
from llm.generate.pretrained import load
from llm.grad import ops
from llm.grad.tensor import no_grad
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.tune.chat import conversation, example
from llm.tune.lean import lean
from llm.tune.lora import add_lora, freeze, loss_of
from llm.tune.qlora import base_bytes, open_frozen, open_quantised, quantise_base
from llm.tune.sft import padded_batches, shifted, stack
from llm.weights.cursor import GGUFError


@dataclass(frozen=True)
class Plan:
    """What a run does; the rate is that of both bases."""

    steps: int
    B: int = 16              # sums a batch, of about 20 tokens each
    tested: int = 32         # held-out sums
    rank: int = 8
    alpha: float = 16.0
    rate: float = 2e-3       # at its highest, after `warmup` steps


class Source:
    """Where the base comes from: SmolLM2, or day 53's GPT where that cannot be had."""

    def __init__(self, fast, say):
        self.pretrained, self.fast, self.name = None, fast, "our own GPT"
        if not fast:
            try:
                self.pretrained, self.name = load(report=say), "SmolLM2-135M"
            except (GGUFError, TextError) as error:
                say(f"{error} Going on with our own GPT")
        self.tokenizer = (self.pretrained or base(fast)).tokenizer

    def frozen(self, quantised):
        """A new frozen model."""
        if self.pretrained:
            return (open_quantised if quantised else open_frozen)(self.pretrained)
        model = base(self.fast).model
        (quantise_base if quantised else freeze)(model)
        return model


def questions(tokenizer, plan, seed):
    """(examples to learn from, held-out ones): conversations of a sum and its answer."""
    rng = np.random.default_rng([seed, 54])
    learn, test = split(sums(20 * plan.tested + plan.steps * plan.B, rng))
    return [[example(tokenizer, conversation(task)) for task in tasks]
            for tasks in (learn, test[:plan.tested])]


def score(model, examples):
    """(nats an answer token, share of answers whose every token is the likeliest one).

    The second is what greedy decoding would get right: token by token it meets the same contexts.
    """
    pairs = [shifted(*one) for one in examples]
    inputs, targets = stack(pairs, max(len(x) for x, _ in pairs))
    with no_grad():
        asked, right = targets != -100, np.ones(targets.shape, bool)
        logits = model.logits(model.hidden(inputs)[asked])                  # (M, V)
        loss = float(ops.cross_entropy(logits, targets[asked]).data)
    right[asked] = logits.data.argmax(axis=-1) == targets[asked]
    return loss, float(right.all(axis=1).mean())


def learn(source, quantised, plan, seed, tick):
    """Adapters beside a base learn sums -> what the run's table says of it."""
    model = source.frozen(quantised)
    learned, held_out = questions(source.tokenizer, plan, seed)
    before = score(model, held_out)
    add_lora(model, plan.rank, plan.alpha, np.random.default_rng([seed, 1]))
    lean(model)
    parameters, size = model.named_parameters(), base_bytes(model)
    run = fit(parameters, lambda batch: (loss_of(model, *batch[:2]), int((batch[1] >= 0).sum())),
              padded_batches(learned, plan.B, 64, np.random.default_rng([seed, 2])),
              AdamW(parameters, betas=(0.9, 0.99), decay=0.0),
              WarmupCosine(plan.rate, max(1, plan.steps // 10)), steps=plan.steps,
              hooks=[lambda step: tick(1, f"loss {step.loss:.2f}")])
    if run.interrupted:
        raise KeyboardInterrupt
    after = score(model, held_out)
    return {"base": "4 bits" if quantised else "float32", "base_bytes": size,
            "trained": model.count_parameters(), "before": list(before), "after": list(after),
            "losses": run.losses, "seconds": run.seconds / plan.steps}
