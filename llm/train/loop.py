"""Day 35 · The training loop: one loop for pretraining, fine-tuning, reward models and policies.

A step: draw a batch, compute the loss, go backward, clip, set the rate, update. What else one
wants to do at a step (log, validate, save) is a hook. Ctrl-C ends the run after the step at hand.
"""

import contextlib
import math
import signal
import threading
import time
from dataclasses import dataclass

from llm.train.clip import clip_gradients, scale


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
    interrupted: bool         # by Ctrl-C


def fit(parameters, loss, batches, optimizer, schedule, *, steps=None, seconds=None, clip=1.0,
        accumulate=1, hooks=(), start=0):
    """Train until `steps` steps are done or `seconds` have passed, whichever comes first.

    parameters: {name: Tensor}. loss(batch) -> (Tensor, count): the mean over `count` targets.
    batches: an iterator; `accumulate` of them make one step, weighted by their counts, which
    equals one step on all of them at once. schedule(step, total) -> rate. hook(Step) after each.
    start: steps done before, when a stopped run goes on.
    Raises ValueError if neither limit is given.
    """
    if steps is None and seconds is None:
        raise ValueError("say how long: fit(..., steps=2000) or fit(..., seconds=60)")
    run = Run(start, [], 0, 0.0, 0, False)
    began = time.perf_counter()
    with deferred_interrupt() as interrupt:
        while not finished(run, steps, seconds):
            total = expected_total(run, start, steps, seconds)
            run.steps += 1
            value, count = gradients(parameters, loss, batches, accumulate)
            norm = clip_gradients([p.grad for p in parameters.values() if p.grad is not None],
                                  clip)
            rate = schedule(run.steps, max(total, run.steps))
            if math.isfinite(norm):
                optimizer.step(rate)
            else:
                run.skipped += 1
            run.losses.append(value)
            run.tokens += count
            run.seconds = time.perf_counter() - began
            for hook in hooks:
                hook(Step(run.steps, total, value, norm, rate, run.tokens, run.seconds))
            if interrupt.is_set():
                run.interrupted = True
                break
    return run


def gradients(parameters, loss, batches, accumulate):
    """Fill every .grad with the mean over all targets of `accumulate` batches.

    The mean over all is Σ nᵢ·meanᵢ / Σ nᵢ, so each batch's gradient is weighted by its count nᵢ.
    """
    for p in parameters.values():
        p.grad = None
    total, weight = 0.0, 0
    for _ in range(accumulate):
        value, count = loss(next(batches))
        value.backward(None if accumulate == 1 else value.data * 0 + count)
        total, weight = total + float(value.data) * count, weight + count
    if accumulate > 1:
        for p in parameters.values():
            if p.grad is not None:
                scale(p.grad, 1 / max(weight, 1))
    return total / max(weight, 1), weight


def finished(run, steps, seconds):
    return ((steps is not None and run.steps >= steps)
            or (seconds is not None and run.seconds >= seconds))


def expected_total(run, start, steps, seconds):
    """The last step: as told, or as many as the time will allow at the pace so far."""
    done = run.steps - start
    if seconds is None or done == 0:
        return steps if steps is not None else start + 10**6
    by_time = start + int(done * seconds / run.seconds)
    return by_time if steps is None else min(steps, by_time)


@contextlib.contextmanager
def deferred_interrupt():
    """Turn the first Ctrl-C into a flag, so that no update is torn; a second one raises."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def remember(signum, frame):
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)
