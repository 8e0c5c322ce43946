"""`python -m days`: the course map, and the commands to run, test, drill and verify the days."""

import argparse
import math
import os
import sys
from pathlib import Path

from days.harness import Parser, UsageError, say
from days.tools.data import course

ROOT = course.ROOT


def parser():
    """One subcommand for each thing a learner or the CI does."""
    top = Parser(prog="python -m days", description="A language model in sixty-four days. "
                 "Without a command: the course map with your progress.")
    top.add_argument("--plain", action="store_true",
                     help="the map in words, without signs or colour, for screen readers")
    commands = top.add_subparsers(dest="command", metavar="command", parser_class=Parser)

    def command(name, text):
        return commands.add_parser(name, help=text, description=text)

    doctor = command("doctor", "is this machine ready? packages, cores, compiler, cache, network, "
                     "disk, each with its cure")
    doctor.add_argument("--plain", action="store_true", help="words in place of signs and colour")
    run = command("run", "run one day; further flags go to it (run 35 --fast)")
    run.add_argument("day")
    run.add_argument("rest", nargs=argparse.REMAINDER, metavar="…",
                     help="flags of the day: --fast, --seed N, --json, --out DIR")
    command("test", "run the tests of one day").add_argument("day")
    check = command("check", "grade your answers to the exercises of one day")
    check.add_argument("day")
    check.add_argument("--solution", action="store_true", help="grade solution.py instead")
    drill = command("drill", "find a mistake planted in a copy of the course; again: is it fixed?")
    drill.add_argument("day")
    drill.add_argument("mistake", nargs="?", type=int, help="which one (the next one not found)")
    drill.add_argument("--show", action="store_true", help="tell what was planted")
    drill.add_argument("--new", action="store_true", help="throw the copy away and start over")
    practice = command("practice", "write a day's code yourself in a copy; again: grade it")
    practice.add_argument("day")
    practice.add_argument("--new", action="store_true", help="throw the copy away and start over")
    mutants = command("mutants", "plant small faults in a day's code; which does its test miss?")
    mutants.add_argument("day", nargs="?")
    mutants.add_argument("--fixed", action="store_true",
                         help="instead: the faults that a test was written for; what CI runs")
    mutants.add_argument("--sample", type=int, default=40, help="how many to try (40)")
    mutants.add_argument("--seed", type=int, default=0, help="which ones (0)")
    mutants.add_argument("--jobs", type=int, default=2, help="how many to run side by side (2)")
    book = command("book", "build the course as a web site to read, with search, in book/")
    book.add_argument("--days", metavar="A-B", help="only these days, as 7 or 1-15 or 1,4,9-12")
    book.add_argument("--out", metavar="DIR", help="where to write it (book)")
    notes = command("notebook", "write a day as a Jupyter notebook, in .course/notebooks/")
    notes.add_argument("day")
    notes.add_argument("--out", metavar="DIR", type=Path, help="where to (.course/notebooks)")
    notes.add_argument("--new", action="store_true", help="write over the one that is there")
    command("tags", "make the tags day01 … day64 in this clone")
    pages = command("pages", "put a model into the page on attention: the course's own, or yours")
    pages.add_argument("--model", metavar="FILE",
                       help="a model that `run 35` keeps in runs/day35 (the course's own)")
    pages.add_argument("--out", metavar="PAGE",
                       help="the page to write (notes/interactive/attention.html)")
    write = command("write", "refresh the generated parts of the notes and of README.md")
    write.add_argument("days", nargs="*", metavar="day", help="days to write (all)")
    record = command("record", "run days, keep the results, show the numbers in prose that moved")
    record.add_argument("days", nargs="+", metavar="day", help="days to run, as 7 or 41-43")
    record.add_argument("--full", action="store_true", help="the day's long run, into full.json")
    verify = command("verify", "check the whole course; what CI runs")
    verify.add_argument("--quick", action="store_true", help="only what needs no run: seconds")
    verify.add_argument("--numbers", action="store_true",
                        help="also list every number in a Measure that no run stands behind")
    verify.add_argument("--days", metavar="A-B", help="only these days, as 7 or 1-15 or 1,4,9-12")
    verify.add_argument("--jobs", type=int, default=2, help="how many to run side by side (2)")
    verify.add_argument("--minutes", type=float, default=math.inf, metavar="M",
                        help="plant no further mistake after M minutes, and say how many are left")
    return top


def main(arguments=None):
    """Parse, do, and return the exit status; what the reader got wrong is one line, status 2."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")        # a terminal without ▲ still gets the map
    try:
        return dispatch(parser().parse_args(arguments))
    except KeyboardInterrupt:
        say("stopped")
        return 130
    except BrokenPipeError:                         # `python -m days | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (UsageError, OSError) as error:
        say(f"python -m days: {error}")
        return 2


def dispatch(options):
    """Call the module of the command; each is imported only when it is needed."""
    if options.command is None:
        from days.tools.learner import map
        return map.show(ROOT, options.plain)
    if options.command == "doctor":
        from days.tools.learner import doctor
        return doctor.doctor(ROOT, options.plain)
    if options.command == "run":
        return run(course.number(options.day), options.rest)
    if options.command == "test":
        return test(course.number(options.day))
    if options.command == "check":
        from days.tools.learner import check
        return check.check(ROOT, course.number(options.day), options.solution)
    if options.command == "drill":
        from days.tools.learner import drill
        return drill.drill(ROOT, course.number(options.day), options.mistake,
                           show=options.show, new=options.new)
    if options.command == "practice":
        from days.tools.learner import practice
        return practice.practice(ROOT, course.number(options.day), new=options.new)
    if options.command == "mutants":
        from days.tools.checks import faults, mutants
        if options.fixed == (options.day is not None):
            raise UsageError("mutants wants a day, or --fixed")
        if min(options.sample, options.jobs) < 1:
            raise UsageError("--sample and --jobs must be 1 or more")
        if options.fixed:
            return faults.check(ROOT, options.jobs)
        return mutants.check(ROOT, course.number(options.day), options.sample, options.seed,
                             options.jobs)
    if options.command == "book":
        from days.tools.book import build
        return build.build(ROOT, options.out, span(options.days))
    if options.command == "notebook":
        from days.tools.learner import notebook
        return notebook.write(ROOT, course.number(options.day), options.out, options.new)
    if options.command == "tags":
        from days.tools.learner import tags
        made = list(tags.build(ROOT))
        say(f"{len(made)} tags, {made[0]} to {made[-1]}; try: git diff {made[-1]}~ {made[-1]}"
            if len(made) > 1 else f"{len(made)} tags")
        return 0
    if options.command == "pages":
        return pages(options.model, options.out)
    if options.command == "write":
        from days.tools.author import write
        chosen = None if options.days in ([], ["all"]) else [course.number(d) for d in options.days]
        return write.write(ROOT, chosen)
    if options.command == "record":
        from days.tools.author import record
        return record.record(ROOT, sorted(span(",".join(options.days))), options.full)
    from days.tools.checks import verify
    if options.jobs < 1 or not options.minutes >= 0:
        raise UsageError("--jobs must be 1 or more, and --minutes 0 or more")
    return verify.verify(ROOT, options.quick, span(options.days), options.jobs,
                         options.numbers, options.minutes)


def span(text):
    """The set of days in "1-15" or "1,4,9-12"; None where nothing was said."""
    if text is None:
        return None
    days = set()
    for piece in text.split(","):
        first, dash, last = piece.partition("-")
        if dash:                                        # 20- is 20 to 64, -20 is 1 to 20
            first, last = first or "1", last or str(max(course.DAYS))
        days |= set(range(course.number(first), course.number(last or first) + 1))
    if not days:
        raise UsageError(f"--days {text} names no day; write it as 1-15")
    return days


def run(day, flags):
    """Run a day's run.py in a process of its own and pass its status on."""
    from days.tools.data import scratch
    from days.tools.learner import progress
    script = need(course.part(ROOT, day, "run.py"), day)
    status = scratch.attended(ROOT, str(script), *flags)
    if status == 0:
        progress.record(ROOT, day, "run")
    return status


def test(day):
    """Run a day's tests and remember that they passed."""
    from days.tools.data import scratch
    from days.tools.learner import progress
    path = need(ROOT / course.test_file(day), day)
    status = scratch.attended(ROOT, "-m", "pytest", str(path), cwd=ROOT)
    if status == 0:
        progress.record(ROOT, day, "test")
    return status


def pages(model, out):
    """Put a model into the page on attention, which comes with day 35."""
    script = need(ROOT / "experiments" / "attention_page.py", 35)
    return course.load(script).make(model, out)


def need(path, day):
    """The path, or one line that says the day is not here."""
    if not path.is_file():
        raise UsageError(f"day {day:02d} is not in this tree: {path.relative_to(ROOT)} is missing")
    return path


if __name__ == "__main__":
    sys.exit(main())
