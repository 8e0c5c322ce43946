"""What the learner has done, kept in .course/progress.json, which git ignores."""

import json

from days.harness import UsageError, write_atomically


def path(root):
    return root / ".course" / "progress.json"


def read(root):
    """{"07": {"run": true, "test": true, "check": true, "practice": true, "drills": [1, 2]}}."""
    if not path(root).is_file():
        return {}
    try:
        found = json.loads(path(root).read_text(encoding="utf-8"))
        done = {str(day): dict(done) for day, done in found.items()}
        if not all(type(n) is int for steps in done.values() for n in steps.get("drills", [])):
            raise ValueError("a drill has a number")
        return done
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise UsageError(f"{path(root)} is damaged; delete it to start a new one") from None


def record(root, day, what):
    """Remember one thing done: "run", "test", "check" or "practice"."""
    done = read(root)
    done.setdefault(f"{day:02d}", {})[what] = True
    write(root, done)


def record_drill(root, day, number):
    """Remember that a planted mistake was found."""
    done = read(root)
    today = done.setdefault(f"{day:02d}", {})
    today["drills"] = sorted({*today.get("drills", []), number})
    write(root, done)


def write(root, done):
    path(root).parent.mkdir(exist_ok=True)
    write_atomically(path(root), (json.dumps(done, indent=1, sort_keys=True) + "\n").encode())
