"""Day 35 · The command line of a study: settings, kept runs, Ctrl-C, one record and one figure.

A study has a Plan (and a small one for --fast), `measure(plan, path)` that makes every run which
`path` does not hold yet, `show(record)` and `draw(record, path)`. Left out: the runs themselves.
"""

import argparse
import json
import sys
from pathlib import Path

from days.harness import ROOT, UsageError, figure, machine, nearby, plain, prepare, say

SHARED = {"fast", "json", "out"}


def command_line(name, about, plan, small, measure, show, draw, add_arguments=None):
    """Read the flags, measure, and write DIR/NAME.json and .svg. about: the script's docstring.

    add_arguments(parser) may add flags of the study's own; they reach `measure` by name.

    A bad folder or text ends with one line and status 2, Ctrl-C with status 130; finished runs are
    kept, and the next call goes on.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="tiny sizes, a few seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / name, metavar="DIR",
                        help=f"where {name}.json and .svg go; runs that are there are kept "
                             f"(runs/{name})")
    if add_arguments:
        add_arguments(parser)
    options = parser.parse_args()
    own = {flag: value for flag, value in vars(options).items() if flag not in SHARED}
    path = options.out / (f"{name}-fast.json" if options.fast else f"{name}.json")
    try:
        prepare(options.out)
        record = measure(small if options.fast else plan, path, **own)
    except KeyboardInterrupt:
        say(f"stopped; finished runs are in {nearby(path)}: call again to go on" if path.exists()
            else "stopped before the first run was finished; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"{name}: {error}")
        sys.exit(2)
    figure(draw, record, path.with_suffix(".svg"))
    if options.json:
        print(json.dumps(plain(record), ensure_ascii=False))
        return
    show(record)
    say(f"{path.name} and {path.stem}.svg are in {nearby(options.out)}; {machine()}")
