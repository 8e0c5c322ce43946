"""Day 35 · Mistakes that people make here; each makes tests/test_day35.py fail."""

from days.mistake import Mistake

MISTAKES = [
    Mistake(
        title="Targets that are the inputs",
        file="llm/data/batches.py",
        right="        yield rows[:, :-1].copy(), rows[:, 1:].copy()",
        wrong="        yield rows[:, :-1].copy(), rows[:, :-1].copy()",
        symptom="The loss falls to nearly 0 within a few hundred steps, and the page that the "
                "model writes is one token, over and over.",
    ),
    Mistake(
        title="The mean of the microbatches' means",
        file="llm/train/loop.py",
        right="        value.backward(seed)",
        wrong="        value.backward()",
        symptom="With accumulation, training differs from one large batch as soon as the "
                "microbatches hold different numbers of targets.",
    ),
    Mistake(
        title="Validation counts the overlap twice",
        file="llm/data/batches.py",
        right="        targets[:max(scored - start, 0)] = -100",
        wrong="        targets[:0] = -100",
        symptom="The validation loss is a little worse than it should be, and it covers more "
                "tokens than the text has.",
    ),
    Mistake(
        title="Warming up again at every start",
        file="llm/train/loop.py",
        right="    run = Run(start, [], 0, 0.0, 0, False)",
        wrong="    run = Run(0, [], 0, 0.0, 0, False)",
        symptom="A resumed run jumps: its learning rate starts from nothing once more, and the "
                "step numbers in the log begin at 1.",
    ),
    Mistake(
        title="Saving over the old snapshot in place",
        file="llm/train/snapshot.py",
        right='            with os.fdopen(handle, "wb") as file:',
        wrong='            os.close(handle)\n            with open(path, "wb") as file:',
        symptom="After a crash or a full disk while saving there is no snapshot at all: the old "
                "one is gone and the new one is half written.",
    ),
]

EQUIVALENT = [
    ("llm/train/loop.py", "scale(p.grad, share / max(1, weight))",
     "of two numbers the larger is the same in either order"),
    ("llm/train/loop.py", "return max(step, steps)",
     "of two numbers the larger is the same in either order"),
]
