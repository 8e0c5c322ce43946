"""Day 55 · Six ways to teach the tuned model one new task, and what each costs.

The task: answer "12 + 19 =" with "19 12", the two numbers exchanged. The model knows the chat form
and has learned to add; it has never copied the numbers of a sum. In the other task, a control, it
answers "It is 31.", words that it knows (day 53's calculator) around a sum that it may know.
"""

import re
import statistics
import time
import tracemalloc
from dataclasses import dataclass, replace

import numpy as np

from days.day53.tuned import tuned
from llm.data.tasks import split, sums
from llm.grad import ops
from llm.grad.tensor import no_grad
from llm.models.gpt import GPT
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.tune.adapters import add_adapters, bitfit
from llm.tune.chat import conversation, example
from llm.tune.lora import add_lora, loss_of, merge
from llm.tune.prefix import add_prefix, add_prompt, rows
from llm.tune.sft import answer_loss, padded_batches, shifted, stack
from llm.tune.share import share

METHODS = ("everything", "adapters", "LoRA", "prefix", "BitFit", "prompt")
# Controls of the study: LoRA in one half of each block alone, with about as many numbers.
HALVES = {"LoRA, attention": (("qkv", "project"), 8), "LoRA, feed-forward": (("up", "down"), 7)}


@dataclass(frozen=True)
class Plan:
    """What is held equal, and each method's size."""

    steps: int
    B: int = 16                # sums a batch, of about 20 tokens each
    largest: int = 29          # number in them, as in what the model was tuned on
    drawn: int = 6000          # tasks, before repeats are left out
    held_out: float = 0.3
    width: int = 16            # of an adapter; this, the rank and the prefix make about 20,000
    rank: int = 4
    alpha: float = 8.0
    P: int = 32                # rows of a prefix or a prompt
    warmup: int = 10


class Task:
    """The tuned model, and examples to learn from, to choose settings by, and to report on."""

    def __init__(self, fast, plan, name="exchange"):
        self.start, self.plan = tuned(fast), plan
        drawn = sums(plan.drawn, np.random.default_rng(55), plan.largest)
        learned, unseen = split(list({t.prompt: t for t in drawn}.values()), plan.held_out)
        half = len(unseen) // 2
        self.learned, self.choose, self.report = (
            [example(self.start.tokenizer, conversation(ANSWERS[name](t))) for t in tasks]
            for tasks in (learned, unseen[:half], unseen[half:]))

    def model(self, method, seed):
        """A model that shares the base's arrays (everything: copies of them), ready for `fit`."""
        plan, rng = self.plan, np.random.default_rng([seed, 1])
        if method == "everything":
            model = GPT(self.start.config, rng)
            model.load_state_dict(self.start.model.state_dict())
            return model
        model = share(self.start.model)
        order = rng.permutation(len(self.learned))
        read = np.concatenate([self.learned[i][0] for i in order])[:plan.P]  # solved examples
        if method in HALVES:
            targets, rank = HALVES[method]
            add_lora(model, rank, 2 * rank, rng, targets)
            return model
        {"adapters": lambda: add_adapters(model, plan.width, rng),
         "LoRA": lambda: add_lora(model, plan.rank, plan.alpha, rng),
         "prefix": lambda: add_prefix(model, rows(model, read)),
         "prompt": lambda: add_prompt(model, rows(model, read)),
         "BitFit": lambda: bitfit(model)}[method]()
        return model

    def train(self, method, rate, seed, steps=None, hooks=(), losses=None):
        """The model of this method after its steps."""
        model, steps = self.model(method, seed), steps or self.plan.steps
        parameters = model.named_parameters()
        run = fit(parameters, lambda batch: loss(method, model, *batch[:2]),
                  padded_batches(self.learned, self.plan.B, 64, np.random.default_rng([seed, 2])),
                  AdamW(parameters, betas=(0.9, 0.99), decay=0.0),
                  WarmupCosine(rate, self.plan.warmup), steps=steps, hooks=hooks)
        if run.interrupted:
            raise KeyboardInterrupt
        if losses is not None:
            losses += run.losses
        return model


def exchanged(task):
    """12 + 19 = is answered by "19 12"."""
    a, b = re.findall(r"\d+", task.prompt)
    return replace(task, answer=f"{b} {a}")


def phrased(task):
    """12 + 19 = is answered by "It is 31."."""
    return replace(task, answer=f"It is {task.answer}.")


ANSWERS = {"exchange": exchanged, "phrase": phrased}


def loss(method, model, inputs, targets):
    """(mean nats an answer token, their number); a frozen head needs no gradient of its own."""
    if method == "everything":
        return answer_loss(model, inputs, targets)
    return loss_of(model, inputs, targets), int((targets >= 0).sum())


def score(model, examples):
    """(nats an answer token, share of answers whose every token is the likeliest one)."""
    inputs, targets = stack(pairs := [shifted(*one) for one in examples],
                            max(len(x) for x, _ in pairs))
    right = np.ones(targets.shape, bool)
    with no_grad():
        asked = targets != -100
        logits = model.logits(model.hidden(inputs)[asked])
        nats = float(ops.cross_entropy(logits, targets[asked]).data)
    right[asked] = logits.data.argmax(axis=-1) == targets[asked]
    return nats, float(right.all(axis=1).mean())


def step_memory(task, method):
    """Bytes that one step needs at its highest, beyond the base's weights: what tracemalloc sees.

    Day 60 writes the same as a ledger: what is trained, its gradient, Adam's two moments, and what
    the forward keeps. For everything, "beyond" counts the weights of the copy, which it trains.
    """
    batch = next(padded_batches(task.learned, task.plan.B, 64, np.random.default_rng(0)))
    task.model(method, 0)                               # so that nothing is loaded in the count
    tracemalloc.start()
    try:
        model = task.model(method, 0)
        parameters = model.named_parameters()
        optimizer = AdamW(parameters, betas=(0.9, 0.99), decay=0.0)
        fit(parameters, lambda b: loss(method, model, *b[:2]), iter([batch, batch]), optimizer,
            lambda step, total: 1e-4, steps=2)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def step_times(task, steps, methods=METHODS):
    """{method: median ms of a step}, the methods taking turns so that all meet the same hours."""
    found = {method: [] for method in methods}
    for turn in range(3):
        for method in methods:
            ends = []
            task.train(method, 1e-4, turn, steps=steps,
                       hooks=[lambda step, ends=ends: ends.append(step.seconds)])
            found[method] += np.diff(ends).tolist()
    return {method: 1000 * statistics.median(times) for method, times in found.items()}


def serving(task, repeats, T=32):
    """[[what, ms for one text of T tokens, numbers that a text adds to the cache]] of a forward."""
    base, config = task.start.model, task.start.config
    models = {"the base": share(base)} | {m: task.model(m, 0) for m in METHODS[1:]}
    merge(merged := task.model("LoRA", 0))
    models["LoRA, merged"] = merged
    ids = np.arange(T)[None] % config.V
    times = {name: [] for name in models}
    with no_grad():
        for _ in range(repeats):
            for name, model in models.items():
                began = time.perf_counter()
                model(ids)
                times[name].append(time.perf_counter() - began)
    extra = {"prefix": task.plan.P, "prompt": task.plan.P}
    return [[name, 1000 * statistics.median(t), 2 * config.L * config.C * extra.get(name, 0)]
            for name, t in times.items()]
