"""The course map in the terminal: phases, days, and the learner's progress."""

from rich.text import Text

from days.harness import console
from days.tools.data import course
from days.tools.learner import progress

STEPS = ["run", "test", "check", "practice"]


def show(root):
    """Print every day by phase; days not written yet are dim, days whose test passed ticked."""
    done = progress.read(root)
    screen = console()
    for index, (title, days) in enumerate(course.PHASES, 1):
        screen.print(Text(f"\nPhase {index} · {title}", style="bold"))
        for day in days:
            screen.print(line(root, day, done.get(f"{day.number:02d}", {})))
    count = sum(course.written(root, n) for n in course.DAYS)
    passed = sum("test" in steps for steps in done.values())
    screen.print(f"\n{passed} of {count} days passed · ▲ the spine, the shortest path to a GPT "
                 "that speaks")
    follow = next((n for n in course.DAYS if course.written(root, n)
                   and "test" not in done.get(f"{n:02d}", {})), None)
    if follow:
        screen.print(f"next: read days/day{follow:02d}/README.md, then python -m days run {follow}",
                     markup=False)


def line(root, day, done):
    """One day: tick, number, spine, title, what was done."""
    steps = [step for step in STEPS if done.get(step)]
    if done.get("drills"):
        steps.append(f"drill {len(done['drills'])}")
    tick = "✓" if "test" in done else " "
    text = Text(f" {tick} {day.number:02d} {'▲' if day.spine else ' '} {day.title}")
    if steps:
        text.pad_right(max(1, 56 - len(text)))
        text.append(" ".join(steps), style="green")
    if not course.written(root, day.number):
        text.stylize("dim")
    return text
