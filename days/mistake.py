"""One common mistake, as data: what the drills plant and what each day's test must catch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    """Replace `right` (found exactly once in `file`) by `wrong`, and the day's test must fail."""

    title: str    # one line: what one does wrong
    file: str     # path from the root of the course, e.g. "llm/functions/attention.py"
    right: str    # the correct line or lines, verbatim, indentation included
    wrong: str    # what stands there instead
    symptom: str  # what the learner sees in a run, not where to look
