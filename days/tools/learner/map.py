"""The course map in the terminal: phases, days, the minutes they take, and the learner's progress.

A day is passed by its exercises, or by writing it oneself (`practice`): the test that comes with it
passes without the learner. The next step follows what was done: a day is run, then its test, then
its exercises; a mistake to find is offered before the next day. With `plain` each line is words
alone, for screen readers.
"""

from days.tools.data import course, hours
from days.tools.learner import progress

WIDE = 40           # columns of a title
STEPS = ["run", "test", "check", "practice"]
WORDS = {"run": "run", "test": "test passed", "check": "exercises solved",
         "practice": "written by yourself"}


def show(root, plain=False):
    """Print every day by phase, how far the learner is, and what to do next."""
    done = progress.read(root)
    times = {n: hours.time(root, n) for n in course.DAYS}
    (words if plain else signs)(root, done, times)
    here = [n for n in course.DAYS if course.written(root, n)]
    passed = [n for n in here if is_passed(done, n)]
    left = sum(times[n].reading + times[n].running for n in here if n not in passed)
    if not plain:
        print("\n▲ is the spine, the shortest path to a GPT that speaks. Minutes are to read"
              "\nand run a day; its exercises take longer (notes/learning-paths.md).")
    span = f"{left:.0f} minutes" if left < 90 else f"{left / 60:.0f} hours"
    print(f"\n{len(passed)} of {len(here)} days passed; {span} of reading and running are left.")
    for step in next_steps(root, done):
        print(step)


def is_passed(done, day):
    """Has the learner solved the day's exercises, or written its code?"""
    return not {"check", "practice"}.isdisjoint(done.get(f"{day:02d}", {}))


def signs(root, done, times):
    """The map with signs and colour."""
    from rich.text import Text

    from days.harness import console
    screen = console()
    for index, (title, days) in enumerate(course.PHASES, 1):
        screen.print(Text(f"\nPhase {index} · {title}", style="bold"))
        for day in days:
            screen.print(line(root, day, done, times[day.number]))


def line(root, day, done, time):
    """One day: tick, number, spine, title, minutes, what was done."""
    from rich.text import Text
    mine = done.get(f"{day.number:02d}", {})
    steps = [step for step in STEPS if mine.get(step)]
    if steps == STEPS:
        steps = ["all four steps"]          # so that a line fits 80 columns
    if mine.get("drills"):
        steps.append(f"drill {len(mine['drills'])}")
    tick = "✓" if is_passed(done, day.number) else " "
    title = day.title if len(day.title) <= WIDE else f"{day.title[:WIDE - 1].rstrip(' :,')}…"
    text = Text(f" {tick} {day.number:02d} {'▲' if day.spine else ' '} {title}")
    if time.reading:
        text.pad_right(max(1, 49 - len(text)))
        text.append(f"{time.reading + time.running:3.0f} min", style="dim")
    if steps:
        text.pad_right(max(1, 57 - len(text)))
        text.append(" ".join(steps), style="green")
    if not course.written(root, day.number):
        text.stylize("dim")
    return text


def words(root, done, times):
    """The map in words, one sentence a day, without signs, boxes or colour."""
    for index, (title, days) in enumerate(course.PHASES, 1):
        print(f"Phase {index}: {title}.")
        for day in days:
            steps = done.get(f"{day.number:02d}", {})
            said = [f"Day {day.number}: {day.title}"]
            if not course.written(root, day.number):
                said.append("not yet written")
            elif times[day.number].reading:
                time = times[day.number]
                said.append(f"{time.reading + time.running:.0f} minutes")
            said += [WORDS[step] for step in STEPS if steps.get(step)]
            if steps.get("drills"):
                said.append(f"{len(steps['drills'])} planted mistakes found")
            print(", ".join(said).rstrip("?") + ".")


def next_steps(root, done):
    """What to do next, one line each: finish the day that was begun, then go on."""
    here = [n for n in course.DAYS if course.written(root, n)]
    if not done and here:
        yield "first: python -m days doctor, which checks this machine"
    begun = [n for n in here if done.get(f"{n:02d}")]
    follow = next((n for n in here if not is_passed(done, n)), None)
    last = begun[-1] if begun else None
    if last is not None and is_passed(done, last) and not done[f"{last:02d}"].get("drills"):
        yield f"left of day {last}: a planted mistake to find, python -m days drill {last}"
    if follow is None:
        yield "all days are passed: write one yourself, python -m days practice 35" if (
            here) else "no day is written yet"
    elif "test" in done.get(f"{follow:02d}", {}):
        yield f"next: the exercises of day {follow}, python -m days check {follow}"
    elif "run" in done.get(f"{follow:02d}", {}):
        yield f"next: read tests/test_day{follow:02d}.py, then python -m days test {follow}"
    else:
        yield f"next: read days/day{follow:02d}/README.md, then python -m days run {follow}"
