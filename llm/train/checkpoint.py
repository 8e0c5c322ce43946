"""Day 36 · Checkpoints: a stopped run goes on as if it had never stopped.

A checkpoint is one safetensors file with all that a training step reads: weights, moments, step
counts, the state of every generator, and what has a position of its own. So a resumed run is
bit-identical to one that was never interrupted, if its length is given in steps, on the same BLAS
and kind of processor, and with the same number of BLAS threads in every step. A run by the clock
cannot be; it goes on with its schedule where it stopped (`continued`).

Parts are given by name: {"model": model, "optimizer": optimizer, "rng": rng, …}, each a NumPy
Generator or something with state_dict() and load_state_dict(). Left out: the children that a
generator's seed sequence has spawned, and training on several machines.
"""

import copy
import json
import zlib
from dataclasses import asdict, dataclass

import numpy as np

from llm.train.generators import generator_state, restore_generator
from llm.weights.safetensors import SafeTensors, SafetensorsError, write_safetensors

KIND = "training checkpoint, version 1"


class CheckpointError(OSError):
    """A checkpoint cannot be written or read; the message says why and what to do."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come, over all its calls of `fit`."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    score: float | None = None        # validation loss, where it was measured

    def after(self, step, seconds, tokens, score=None):
        """Progress when this call of `fit` has come to `step` and taken so long."""
        return Progress(step, self.seconds + seconds, self.tokens + tokens, score)


def continued(schedule, before, seconds):
    """The schedule of a run of `seconds` in all that goes on after `before`, by the clock.

    `fit(..., seconds=seconds - before.seconds, start=before.step)` guesses the last step from the
    pace of this call alone, whose first steps may be slow. Here it is guessed from the whole run:
    step · seconds / (seconds taken so far). Raises ValueError where no time is left.
    """
    left = seconds - before.seconds
    if not left > 0:
        raise ValueError(f"{before.seconds:.1f} of {seconds:.1f} seconds are used: nothing is "
                         "left, give the run more")

    def whole(step, total):
        taken = before.seconds + (step - before.step) * left / max(total - before.step, 1)
        return schedule(step, max(int(step * seconds / taken), step))
    return whole


def save_checkpoint(path, parts, progress, durable=True):
    """Write all parts and the progress to `path`, all or nothing. Raises CheckpointError."""
    arrays, texts = {}, {"progress": json.dumps(asdict(progress))}
    for name, part in parts.items():
        if isinstance(part, np.random.Generator):
            texts[f"generator.{name}"] = generator_state(part)
        else:
            arrays |= {f"{name}.{key}": np.asarray(a) for key, a in part.state_dict().items()}
    texts = {"kind": KIND, "parts": json.dumps(sorted(parts)), **texts}
    texts["crc32"] = checksum(arrays, texts)
    try:
        write_safetensors(path, arrays, texts, durable=durable)
    except OSError as error:
        raise CheckpointError(f"cannot save to {path}: {error.strerror or error}. What was saved "
                              "before is still there; free some space or choose another "
                              "folder") from None


def load_checkpoint(path, parts, partial=False):
    """Put the parts of the checkpoint back, in place, and return its Progress.

    partial=True reads only the given parts, to write with a model for example. Raises
    CheckpointError, and changes nothing, if the file is damaged or does not fit the parts.
    """
    file, progress = opened(path)
    texts = {key: text for key, text in file.metadata.items() if key != "crc32"}
    if checksum(file, texts) != file.metadata.get("crc32"):
        raise CheckpointError(f"{path} is damaged: its checksum is wrong. Delete it and go on "
                              "from an older one")
    known = json.loads(texts["parts"])
    if not parts.keys() <= set(known) or not partial and parts.keys() != set(known):
        raise CheckpointError(f"{path} holds the parts {', '.join(known)}, and these were asked "
                              f"for: {', '.join(sorted(parts))}")
    before = {name: kept(part) for name, part in parts.items()}
    try:
        for name, part in parts.items():
            if isinstance(part, np.random.Generator):
                restore_generator(part, texts[f"generator.{name}"])
            else:
                part.load_state_dict(fitting(file, name, part.state_dict()))
    except Exception as error:              # a part of your own may raise anything
        for other, part in parts.items():
            put_back(part, before[other])
        raise CheckpointError(f"{path} does not fit {name!r}: {error}") from None
    return progress


def opened(path):
    """(the open file, its Progress); the data is not read."""
    try:
        file = SafeTensors(path)
    except SafetensorsError as error:
        raise CheckpointError(str(error)) from None
    if file.metadata.get("kind") != KIND:
        raise CheckpointError(f"{path} is no {KIND}, but perhaps the weights of a model")
    try:
        progress = Progress(**json.loads(file.metadata["progress"]))
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path} is damaged: its progress cannot be read") from None
    return file, progress


def kept(part):
    """A copy of all that a load may change."""
    if isinstance(part, np.random.Generator):
        return copy.deepcopy(part.bit_generator.state)
    return {key: np.array(a) for key, a in part.state_dict().items()}


def put_back(part, state):
    """Give a part the state that `kept` has copied."""
    if isinstance(part, np.random.Generator):
        part.bit_generator.state = state
    else:
        part.load_state_dict(state)


def fitting(file, name, mine):
    """The arrays of one part; ValueError for one whose type differs, which would be rounded."""
    prefix = f"{name}."
    found = {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}
    for key in found.keys() & mine.keys():
        if found[key].dtype != np.asarray(mine[key]).dtype:
            raise ValueError(f"{key} is {found[key].dtype} in the file and "
                             f"{np.asarray(mine[key]).dtype} here; it would be rounded")
    return found


def checksum(arrays, texts):
    """CRC-32 of everything but itself, as text: the format has no checksum of its own."""
    crc = zlib.crc32(json.dumps(texts, sort_keys=True).encode())
    for name in sorted(arrays):
        crc = zlib.crc32(np.asarray(arrays[name], order="C").reshape(-1).view(np.uint8), crc)
    return f"{crc:08x}"
