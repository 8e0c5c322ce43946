"""Day 36 · Power cuts, counted: on how many of all possible disks is something lost?"""

import tempfile
from pathlib import Path

from days.day36 import crash, killing
from llm.train.checkpoint import Progress, save_checkpoint
from llm.train.keeper import Checkpoints
from llm.weights import safetensors

LEFT_OUT = {"all five steps": (), "without fsync of the folder": ("folder",),
            "without fsync of the file": ("fsync",), "without both": ("fsync", "folder")}
IN_PLACE = "in place"


def recorded(folder, how, saves=2, size=2):
    """Record `saves` saves, the first step 1; each is promised when it has returned. The first is
    then safely on the disk, however it came there."""
    numbers = killing.Numbers(size)
    before = safetensors.write_whole
    with crash.recording() as recorder:
        keeper = Checkpoints(folder, {"model": numbers}, keep=1)
        try:
            if how == IN_PLACE:
                safetensors.write_whole = killing.in_place
            for step in range(1, saves + 1):
                numbers.x[...] = step
                if how == IN_PLACE:
                    save_checkpoint(killing.only(folder), keeper.parts, Progress(step))
                else:
                    keeper.save(Progress(step))
                recorder.deleted(folder)
                if step == 1:
                    recorder.settle()
                recorder.promise(step)
        finally:
            safetensors.write_whole = before
    return recorder


def judged(folder, recorder, without=()):
    """{"disks", "broken": a final name does not load, "less": than promised, "nothing" loads}."""
    folder.mkdir(exist_ok=True)
    count, known = {"disks": 0, "broken": 0, "less": 0, "nothing": 0}, {}
    for disk, promised in crash.crashes(recorder, without):
        key = frozenset(disk.items())
        if key not in known:
            for path in folder.iterdir():
                path.unlink()
            for name, data in disk.items():
                (folder / name).write_bytes(data)
            known[key] = killing.left(folder)
        newest, bad = known[key]
        if promised:                                   # before the first there is nothing to lose
            count["disks"] += 1
            count["broken"] += bad > 0
            count["less"] += (newest or 0) < promised[-1]
            count["nothing"] += newest is None
    return count


def study():
    """{procedure: what `judged` counts}."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        safe = recorded(folder / "a", "durable")
        found = {name: judged(folder / "b", safe, without) for name, without in LEFT_OUT.items()}
        found[IN_PLACE] = judged(folder / "b", recorded(folder / "c", IN_PLACE))
    return found
