"""Day 36 · Mistakes that people make with checkpoints; each makes tests/test_day36.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="Overwriting the old file in place",
        file="llm/weights/files.py",
        right='    part = path.with_name(f"{path.name}.{os.getpid()}.part")',
        wrong="    part = path",
        symptom="When the process dies or the disk is full while saving, neither the old "
                "checkpoint nor the new one is left."),
    Mistake(
        title="Renaming before the contents are on disk",
        file="llm/weights/files.py",
        right="            if durable:\n                os.fsync(handle)\n",
        wrong="",
        symptom="Nothing, until the power fails: then the newest checkpoint has its right name "
                "and its right length, and holds zeros."),
    Mistake(
        title="The folder is not synced before the older file is deleted",
        file="llm/weights/files.py",
        right="    if durable:\n        sync_folder(path.parent)\n",
        wrong="",
        symptom="Nothing, until the power fails: then the new name may not have reached the disk "
                "while the deletion of the old one has."),
    Mistake(
        title="The state goes into a new generator",
        file="llm/train/generators.py",
        right="    rng.bit_generator.state = shaped(state, mine)",
        wrong="    rng = np.random.Generator(type(rng.bit_generator)())\n"
              "    rng.bit_generator.state = shaped(state, mine)",
        symptom="The resumed run draws the windows of a fresh start: the batches hold the old "
                "generator, and only a local name was changed."),
    Mistake(
        title="The best checkpoint is deleted with the old ones",
        file="llm/train/keeper.py",
        right="        stay = {*self.paths()[-self.keep:], self.best()}",
        wrong="        stay = set(self.paths()[-self.keep:])",
        symptom="After a long run that has begun to overfit, only its last states are left."),
    Mistake(
        title="The clock begins again",
        file="llm/train/checkpoint.py",
        right="        taken = before.seconds + (step - before.step) * left / "
              "max(total - before.step, 1)",
        wrong="        taken = (step - before.step) * left / max(total - before.step, 1)",
        symptom="A run that was stopped after half an hour of one hour goes on at a rate that "
                "is much too high: it believes that it is far from its end."),
    Mistake(
        title="bfloat16 by cutting off",
        file="llm/weights/bfloat16.py",
        right="    rounded = (bits + (0x7FFF + last)) >> 16",
        wrong="    rounded = bits >> 16",
        symptom="Every weight moves towards 0, by half a unit in the last place on average."),
    Mistake(
        title="Of two arrays with one name the later wins",
        file="llm/weights/header.py",
        right="            if key in seen:",
        wrong="            if False:",
        symptom="Two programs read two different models from the same file."),
]
