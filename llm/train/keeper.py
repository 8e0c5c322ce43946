"""Day 36 · A folder of checkpoints: the last few of a run, and the best.

An older checkpoint is deleted only after the newer one is on disk under its name, so the disk has
to hold one more than are kept. Which one is the best is written in the files themselves: there is
no list beside them that could disagree. Left out: two runs in one folder at the same time.
"""

import math
import re
import tempfile
from pathlib import Path

import numpy as np

from llm.train.checkpoint import (
    CheckpointError,
    Progress,
    load_checkpoint,
    opened,
    save_checkpoint,
)
from llm.train.generators import generator_state

NAME = re.compile(r"step-(\d{8,})\.safetensors")


class Checkpoints:
    """The checkpoints of one run in `folder`: step-00000100.safetensors, …

    parts: as in llm.train.checkpoint. keep: how many of the newest stay; the one with the lowest
    score stays too. Raises, now and not after an hour: ValueError for parts that cannot be saved,
    CheckpointError for a folder that cannot be written.
    """

    def __init__(self, folder, parts, keep=3, durable=True):
        if keep < 1:
            raise ValueError(f"keep={keep}: at least the newest checkpoint must stay")
        check_parts(parts)
        self.folder, self.parts, self.keep, self.durable = Path(folder), parts, keep, durable
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise CheckpointError(f"cannot keep checkpoints in {self.folder}: {error.strerror}. "
                                  "Choose another folder") from None

    def paths(self):
        """All checkpoints of the folder, the oldest first."""
        found = [(int(match.group(1)), path) for path in self.folder.iterdir()
                 if (match := NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found)]

    def best(self):
        """The path with the lowest score, the first of equals; None if there is no score."""
        scored = [(score, path) for path in self.paths()
                  if not math.isnan(score := score_of(path))]
        return min(scored, key=lambda item: item[0])[1] if scored else None

    def restore(self, path=None):
        """Put back the newest checkpoint, or that at `path`; returns its Progress.

        An empty folder changes nothing and returns Progress(). Raises CheckpointError.
        """
        paths = self.paths()
        if path is None and not paths:
            return Progress()
        return load_checkpoint(path or paths[-1], self.parts)

    def save(self, progress):
        """Write a checkpoint, then delete those that are no longer kept; returns its path."""
        self.check_newest(progress)
        path = self.folder / f"step-{progress.step:08d}.safetensors"
        save_checkpoint(path, self.parts, progress, self.durable)
        stay = {*self.paths()[-self.keep:], self.best()}
        try:
            for old in [*self.paths(), *self.folder.glob("step-*.part")]:
                if old not in stay:
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(f"saved {path}, but cannot delete {old}: {error.strerror}"
                                  ) from None
        return path

    def hook(self, every, before=None, score=None):
        """For fit(…, hooks=[…], start=before.step): save after each `every` steps and the last.

        before: the Progress at which this call begins; score(): the validation loss, which must
        not draw from the run's generators. A run by the clock may end between two: save then.
        """
        before = before or Progress()
        if every < 1:
            raise ValueError(f"every={every}: save after 1 step or more")
        self.check_newest(before)

        def save(step):
            if step.step % every == 0 or step.step == step.total:
                self.save(before.after(step.step, step.seconds, step.tokens,
                                       score() if score else None))
        return save

    def check_newest(self, progress):
        """A later checkpoint of another run would be taken for the newest, and ours deleted."""
        paths = self.paths()
        if paths and int(NAME.fullmatch(paths[-1].name).group(1)) > progress.step:
            raise CheckpointError(f"{paths[-1]} is later than step {progress.step}: restore it "
                                  "first, delete it, or choose another folder")


def score_of(path):
    """The score in the header; NaN where there is none, or none that can be read."""
    try:
        score = opened(path)[1].score
    except CheckpointError:
        return math.nan
    return math.nan if score is None else score


def check_parts(parts):
    """ValueError for parts that could not be saved or told apart."""
    for name, part in parts.items():
        if not name or "." in name:
            raise ValueError(f"a part cannot be called {name!r}: use a word without dots")
        if isinstance(part, np.random.Generator):
            generator_state(part)
        elif not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict")):
            raise ValueError(f"part {name!r} is a {type(part).__name__}: it must be a NumPy "
                             "Generator or have state_dict() and load_state_dict()")
