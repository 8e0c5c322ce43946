"""Day 35 · The training loop: one loop for pretraining, fine-tuning, reward models and policies.

A step: draw a batch, compute the loss, go backward, clip, set the rate, update. What else one
wants to do at a step (log, validate, save) is a hook. Ctrl-C, or being told to end by SIGTERM,
ends the run after the step at hand. Left out: what a stopped run needs to go on (snapshot.py).
"""

import contextlib
import math
import signal
import threading
import time
from dataclasses import dataclass

import numpy as np

from llm.grad.lowering import lowerable
from llm.train.clip import clip_gradients, scale

ONE_PRESS = 0.3         # seconds in which a second signal is the echo of the first


@dataclass
class Step:
    """What a hook is told after each step."""

    step: int           # 1, 2, …
    total: int          # the last step, as far as is known now
    loss: float         # mean nats per token before the update
    norm: float         # of the gradient before clipping
    rate: float         # learning rate of this step
    tokens: int         # trained on so far in this call
    seconds: float      # since the start of this call


@dataclass
class Run:
    """What fit returns."""

    steps: int                # the last step done
    losses: list              # one per step of this call
    tokens: int
    seconds: float
    skipped: int              # steps whose gradient was not finite
    interrupted: bool         # by Ctrl-C or SIGTERM


def fit(parameters, loss, batches, optimizer, schedule, *, steps=None, seconds=None, clip=1.0,
        accumulate=1, hooks=(), start=0, on_interrupt=None):
    """Train until `steps` steps are done or `seconds` have passed, whichever comes first -> Run.

    parameters: {name: Tensor}. loss(batch) -> (Tensor, count): the mean over `count` targets.
    batches: an iterator; `accumulate` of them make one step, weighted by their counts, which
    equals one step on all of them at once. schedule(step, total) -> rate. hook(Step) after each.
    clip: the longest norm of a gradient, or None. start: steps done before, when a stopped run
    goes on. on_interrupt(signum): called once, at the moment of the signal; the step then ends.
    Raises ValueError if neither limit is given, if one makes no sense, or when batches run out.
    """
    check_limits(steps, seconds, accumulate)
    run = Run(start, [], 0, 0.0, 0, False)
    size = sum(p.data.size for p in parameters.values())
    began = time.perf_counter()

    def one_step():
        value, count = gradients(parameters, loss, batches, accumulate)
        norm = clip_gradients([p.grad for p in parameters.values() if p.grad is not None],
                              math.inf if clip is None else clip)
        run.seconds = time.perf_counter() - began
        total = expected_total(run.steps + 1, start, run.seconds, steps, seconds)
        rate = schedule(run.steps + 1, total)
        if math.isfinite(norm):
            optimizer.step(rate)
        else:
            run.skipped += 1
        return value, count, norm, rate, total

    with deferred_interrupt(on_interrupt) as interrupt:
        while not finished(run, steps, seconds):
            value, count, norm, rate, total = paced(("step", size, accumulate), one_step)
            run.steps += 1
            run.losses.append(value)
            run.tokens += count
            run.seconds = time.perf_counter() - began
            for hook in hooks:
                hook(Step(run.steps, total, value, norm, rate, run.tokens, run.seconds))
            if interrupt.is_set():
                run.interrupted = True
                break
    return run


def check_limits(steps, seconds, accumulate):
    """ValueError unless a limit is given, none is below 0, and a step takes at least one batch."""
    if steps is None and (seconds is None or seconds == math.inf):
        raise ValueError("say how long: fit(..., steps=2000) or fit(..., seconds=60)")
    if seconds is not None and not seconds >= 0 or steps is not None and steps < 0:
        raise ValueError(f"seconds {seconds} and steps {steps} must be at least 0")
    if accumulate < 1 or accumulate % 1:
        raise ValueError(f"a step takes 1 batch or more, not accumulate={accumulate}")


@lowerable
def paced(kind, work, *arguments):
    """work(*arguments), a piece of work that comes again and again; `kind` names its size.

    Day 38 takes this function's place: it times the pieces and chooses the threads for the next.
    """
    return work(*arguments)


def gradients(parameters, loss, batches, accumulate):
    """Fill every .grad with the mean over all targets of `accumulate` batches.

    The mean over all is Σ nᵢ·meanᵢ / Σ nᵢ, so each batch's gradient is weighted by its count nᵢ:
    first by its share of what equal batches would have, which leaves gradients as large as they
    are, and at the end all of them by what the counts really were.
    """
    for p in parameters.values():
        p.grad = None
    total, weight, share = 0.0, 0, 0
    for _ in range(accumulate):
        try:
            batch = next(batches)
        except StopIteration:
            raise ValueError("the batches have run out before the last step: give an iterator "
                             "that goes on, or fewer steps") from None
        value, count = loss(batch)
        share = share or accumulate * max(count, 1)
        seed = None if accumulate == 1 else np.full_like(value.data, count / share)
        value.backward(seed)
        total, weight = total + float(value.data) * count, weight + count
    if accumulate > 1:
        for p in parameters.values():
            if p.grad is not None:
                scale(p.grad, share / max(weight, 1))
    return total / max(weight, 1), weight


def finished(run, steps, seconds):
    """Has the run reached one of its limits? None is no limit."""
    return ((steps is not None and run.steps >= steps)
            or (seconds is not None and run.seconds >= seconds))


def expected_total(step, start, passed, steps, seconds):
    """The last step: as told, or as many as the time will allow at the pace so far.

    step: the one at hand; it and those since `start` have taken `passed` seconds. Never less than
    `step` itself, so that a schedule sees no step after the last.
    """
    if seconds is None or seconds == math.inf:
        return max(steps, step)
    by_time = start + int((step - start) * seconds / max(passed, 1e-9))
    return max(by_time if steps is None else min(steps, by_time), step)


@contextlib.contextmanager
def deferred_interrupt(call=None):
    """Turn the first Ctrl-C or SIGTERM into a flag, so that no update is torn; a second one raises.

    call(signum): called at the first. One press of Ctrl-C may arrive twice, from the terminal and
    from the process that started this one. So a signal that follows within ONE_PRESS seconds
    counts as the same press.
    """
    flag, first = threading.Event(), 0.0
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def remember(signum, frame):
        nonlocal first
        now = time.monotonic()
        if not flag.is_set():
            flag.set()
            first = now
            if call is not None:
                call(signum)
        elif now - first > ONE_PRESS:
            raise KeyboardInterrupt

    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(number, remember) for number in numbers]
    try:
        yield flag
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
