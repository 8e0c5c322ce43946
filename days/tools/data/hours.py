"""What a day takes and what it needs, read from its own files: minutes, and the days it builds on.

Reading is what the note says, running what its result measured. The time for the exercises is an
estimate, and nothing else: so many minutes for each one to think, to attack or to build.
"""

import json
import re
from dataclasses import dataclass

from days.tools.checks.prose import prose, section, unfenced
from days.tools.data import course

THINK, BUILD = 15, 30       # minutes for one exercise: our estimate
DAY_LIST = re.compile(r"\b[Dd]ays?\s+(\d+(?:(?:,? and |, | to |–|-)\d+)*)")
EXERCISE = re.compile(r"^(?:\d+\. |(?=\*{1,2}(?:Think|Attack|Build)\b))(.+(?:\n(?!\d+\. |\n).+)*)",
                      re.M)


@dataclass(frozen=True)
class Time:
    """Minutes of one day, or of several added up."""

    reading: float = 0.0
    running: float = 0.0
    exercises: float = 0.0

    def __add__(self, other):
        return Time(self.reading + other.reading, self.running + other.running,
                    self.exercises + other.exercises)

    @property
    def whole(self):
        return self.reading + self.running + self.exercises


def time(root, day):
    """The minutes of one day; zero where there is no note yet."""
    if not course.written(root, day):
        return Time()
    text = note(root, day)
    start, end = section(text, "Question")
    reading = re.search(r"(\d+) minutes", prose(text)[start:end])
    result = course.part(root, day, "result.json")
    seconds = json.loads(result.read_text(encoding="utf-8")).get("run_seconds", 0) if (
        result.is_file()) else 0
    spent = sum(BUILD if kind == "build" else THINK for kind, _ in exercises(text))
    return Time(float(reading[1]) if reading else 0.0, seconds / 60, float(spent))


def total(root, days):
    """The minutes of several days."""
    return sum((time(root, day) for day in days), Time())


def exercises(text):
    """[(kind, text)] of a note's exercises; the kind is think, attack or build."""
    start, end = section(text, "Exercises")
    part = re.sub(r"<details>.*?</details>", "", unfenced(text)[start:end], flags=re.S)
    found = []
    for item in EXERCISE.findall(part):
        said = " ".join(item.split())
        word = re.search(r"\b(think|attack|build)", said[:80], re.I)
        found.append((word[0].lower() if word else "think", said))
    return found


def builds_on(text):
    """The set of days that *Question* says the note builds on; None where it does not say."""
    start, end = section(text, "Question")
    found = re.search(r"[Bb]uilds on:?\s+(.*?)(?:\n\s*\n|\Z)", prose(text)[start:end], re.S)
    if not found:
        return None
    said = re.sub(r"\s*\([^)]*\)", "", " ".join(found[1].split()))
    return {day for some in DAY_LIST.findall(said) for day in numbers(some)}


def numbers(some):
    """All days of a list such as "04, 07 and 32 to 35"."""
    return {day for first, last in re.findall(r"(\d+)(?:(?: to |–|-)(\d+))?", some)
            for day in range(int(first), int(last or first) + 1)}


def note(root, day):
    """The text of a day's note."""
    return course.part(root, day, "README.md").read_text(encoding="utf-8")
