"""Day 35 · One training of the main job: its hooks, its looks, and what Ctrl-C does to it."""

import contextlib
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from days.day35 import job, kept
from days.harness import nearby, progress, say
from llm.data.batches import random_windows
from llm.data.text import Corpus
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine

LOOKS = 5                          # at the validation text on the way, at least; the model is kept
EVERY = 50                         # seconds between two looks of a long run


@dataclass
class Session:
    """A state in training, and where it is kept."""

    state: job.State
    corpus: Corpus
    path: Path
    seconds: float                 # of training in all, with what earlier runs have used
    new: bool                      # not a resumed one
    points: list = field(default_factory=list)        # (seconds, nats) of each look
    told_to_end: bool = False                         # by SIGTERM

    def train(self, train, sample):
        """The loop with its hooks: a live line, and now and then a look at the validation text.

        Afterwards the model is kept. Ends the program where SIGTERM asked for it.
        """
        state, recipe = self.state, self.state.recipe
        budget = state.time_left(self.seconds)
        parameters = state.model.named_parameters()

        def loss(batch):
            return state.model.loss(*batch), batch[1].size

        looks = max(LOOKS, int(budget / EVERY) - 1)
        with progress(round(budget), "training") as tick:
            shown = 0.0

            def live(step):
                nonlocal shown
                tick(step.seconds - shown, f"loss {step.loss:.2f} · "
                     f"{step.tokens / step.seconds / 1000:.0f}k tokens/s")
                shown = step.seconds

            def look(step):
                if len(self.points) < looks and (
                        step.seconds >= (len(self.points) + 1) * budget / (looks + 1)):
                    losses = job.token_losses(state, sample, budget / 30)
                    self.points.append((round(step.seconds, 1), float(
                        losses.sum() / job.characters(state, sample, len(losses)))))
                    self.keep(step.step, state.used + step.seconds)

            batches = random_windows(train, recipe.B, recipe.T, state.rng)
            with self.stoppable():
                run = fit(parameters, loss, batches, state.optimizer,
                          WarmupCosine(recipe.rate, recipe.warmup), seconds=budget,
                          steps=recipe.steps and state.step + recipe.steps, clip=recipe.clip,
                          hooks=[live, look], start=state.step, on_interrupt=self.acknowledge)
        used = state.used + run.seconds
        self.keep(run.steps, used if run.interrupted else max(used, self.seconds))
        if self.told_to_end:
            say(f"told to end; the model is kept in {nearby(self.path)}")
            sys.exit(128 + signal.SIGTERM)
        return run

    def keep(self, step, seconds):
        """Save; the first time, a model of an earlier training is set aside."""
        if self.new:
            kept.set_aside(self.path)
            self.new = False
        kept.keep(self.path, self.state, step, seconds)

    def acknowledge(self, signum):
        """Say at once that the signal was seen; the step at hand takes its time."""
        self.told_to_end = signum == signal.SIGTERM
        if not self.told_to_end:
            say("stopping after this step: the model is kept, then validated. "
                "Ctrl-C again ends at once")

    @contextlib.contextmanager
    def stoppable(self):
        """Ctrl-C in this block ends the run, and tells what of the training is safe."""
        try:
            yield
        except KeyboardInterrupt:
            where = nearby(self.path)
            say(f"no model was kept yet; {where} is as it was" if self.new and self.path.exists()
                else "no model was kept yet" if not self.path.exists()
                else f"the model is kept in {where}; --resume goes on with it")
            raise
