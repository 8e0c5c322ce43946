"""What every day's run.py shares: flags, JSON, tables, progress bars, figures and clear errors.

A run.py has no algorithm of its own. It defines

    measure(fast, seed) -> Result      a frozen dataclass of plain numbers, strings and lists
    table(result) -> list of rows      the first row is the header; also the table of the note
    show(result)                       prints, mostly print_table(table(result))
    draw(result, path)                 one figure; its title states the finding

and ends with `main(__file__, measure, show, draw)`. A day that also has a long run, of many
minutes, defines `measure(fast, seed, full)`: it gets the flag --full, which writes full.json.
"""

import argparse
import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import itertools
import json
import os
import platform
import re
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLAS_SLEEPS = "OPENBLAS_THREAD_TIMEOUT"
SPOKEN = threading.Event()      # set as soon as the reader has been told anything
LIVE = []                       # the consoles of the progress bars that stand now, one in another


class UsageError(ValueError):
    """The reader asked for something impossible: shown as one line, exit status 2, no traceback."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line instead of a page of usage."""

    def error(self, message):
        say(f"{self.prog}: {message} (--help tells more)")
        sys.exit(2)


def main(file, measure, show, draw, add_arguments=None):
    """Run one day from the command line. Extra flags of `add_arguments` reach `measure` by name."""
    day = re.search(r"day(\d\d)", str(file)).group(1)
    let_blas_sleep(day, file)
    options = parse(day, measure, add_arguments)
    try:
        run(day, options, measure, show, draw)
    except KeyboardInterrupt:
        say(f"day {day} stopped; nothing half-written is left")
        sys.exit(130)
    except BrokenPipeError:                       # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (UsageError, OSError) as error:
        say(f"day {day}: {error}")
        sys.exit(2)


def let_blas_sleep(day, file):
    """From day 35 on start the process again, once, with BLAS's threads asleep when they wait.

    Those days mix NumPy's products with compiled kernels, and a waiting thread that spins takes a
    core from the kernels (day 38). OpenBLAS reads its setting when NumPy is loaded, so it is too
    late to set it here. What you have set yourself stays. Ranks of an MPI job are left alone: its
    launcher would wait for ever for the process that it knew.
    """
    started = getattr(sys.modules["__main__"], "__file__", None)
    ranks = any(name.startswith(("OMPI_COMM_", "PMIX_", "PMI_")) for name in os.environ)
    if (int(day) < 35 or os.name == "nt" or ranks or BLAS_SLEEPS in os.environ or started is None
            or Path(started).resolve() != Path(file).resolve()):
        return
    os.environ[BLAS_SLEEPS] = "10"                    # 2¹⁰ clock cycles; OpenBLAS's own is 2²⁶
    os.execv(sys.executable, sys.orig_argv)


def parse(day, measure, add_arguments):
    """Read the flags all days share, and the day's own."""
    about = sys.modules[measure.__module__].__doc__ or f"Day {day}"
    parser = Parser(
        prog=f"python days/day{day}/run.py", description=about.strip().splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="a few seconds only; what CI runs")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random number (0)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / f"day{day}", metavar="DIR",
                        help=f"where result.json and figure.svg go (runs/day{day})")
    if add_arguments:
        add_arguments(parser)
    if has_full(measure):
        with contextlib.suppress(argparse.ArgumentError):       # the day has added it itself
            parser.add_argument("--full", action="store_true",
                                help="the long run; it writes full.json and full.svg")
    options = vars(parser.parse_args())
    if options["seed"] < 0:
        parser.error("--seed must be 0 or more")
    if options["fast"] and options.get("full"):
        parser.error("--fast and --full exclude each other")
    return options


def has_full(measure):
    """Does the day have a long run besides the usual one?"""
    return "full" in inspect.signature(measure).parameters


def run(day, options, measure, show, draw):
    """Measure, write result.json and figure.svg atomically (full.… for the long run), then show."""
    out, as_json = options.pop("out"), options.pop("json")
    result_name, figure_name = names(options.get("full"))
    prepare(out)
    keep_company()
    started = time.perf_counter()
    result = measure(**options)
    record = {**plain(dataclasses.asdict(result)), "seed": options["seed"],
              "fast": options["fast"], **({"full": True} if options.get("full") else {}),
              "machine": machine(), "run_seconds": round(time.perf_counter() - started, 1)}
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    try:
        write_atomically(out / result_name, text.encode())
        figure(draw, result, out / figure_name)
        lost = None
    except OSError as error:                # a full disk, say: what was measured is still shown
        lost = error.strerror or error
    SPOKEN.set()
    if as_json:
        print(json.dumps(record, ensure_ascii=False))
    else:
        show(result)
    if lost:
        raise UsageError(f"{result_name} and {figure_name} were not kept in {nearby(out)}: {lost}. "
                         "Free some space, or choose another folder with --out.")
    if not as_json:
        say(f"{result_name} and {figure_name} are in {nearby(out)}")


def keep_company(seconds=5.0):
    """Tell a reader who has seen nothing for that long that the work goes on."""
    def tell():
        if not SPOKEN.wait(seconds):
            say("still working: the first run of a day also compiles its code, and keeps it")

    SPOKEN.clear()
    threading.Thread(target=tell, daemon=True).start()


def names(full):
    """The files that a run writes."""
    return ("full.json", "full.svg") if full else ("result.json", "figure.svg")


def prepare(out):
    """Make the folder now, so that a bad --out is told before the long work and not after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UsageError(f"cannot write to --out {out}: {error.strerror}. "
                         "Choose another folder.") from None


def write_atomically(path, data):
    """Write bytes so that `path` is either the old file or the whole new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def figure(draw, result, path):
    """Draw off screen in one style; the same numbers give the same bytes."""
    import matplotlib
    matplotlib.use("svg")
    import matplotlib.pyplot as plt
    style = {"svg.hashsalt": "llm", "figure.figsize": (7.2, 4.2), "font.size": 10,
             "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11,
             "axes.titlelocation": "left", "legend.frameon": False, "figure.dpi": 100,
             "figure.constrained_layout.use": True, "svg.fonttype": "none",
             "figure.facecolor": "white"}
    with plt.rc_context(style):
        try:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                part = Path(folder) / path.name
                draw(result, part)
                text = part.read_text(encoding="utf-8")
            write_atomically(path, re.sub(r"[ \t]+$", "", text, flags=re.M).encode())
        finally:
            plt.close("all")


def save(fig, path):
    """Write one figure without the date, so that a rerun changes nothing."""
    fig.savefig(path, format="svg", metadata={"Date": None})


def print_table(rows, title=None):
    """Print rows (the first is the header) as a rich table; numbers to the right.

    Where the table is too wide, its heads are broken before a number or a row's short name is.
    """
    from rich.table import Table
    screen, grid = console(), Table(title=title, title_justify="left")
    columns = [[str(cell) for cell in column]
               for column in itertools.zip_longest(*rows, fillvalue="")]
    longest = [max(map(len, cells), default=0) for _, *cells in columns]
    natural = sum(max(len(head), n) + 3 for (head, *_), n in zip(columns, longest)) + 1
    for j, (head, *cells) in enumerate(columns):
        digits = all(re.match(r"[-+−]?[\d.]", cell or "x") and " · " not in cell for cell in cells)
        if natural > screen.width:
            widest = max([longest[j], *map(len, head.split())])
            head = textwrap.fill(head, widest) if widest else head
        grid.add_column(head, justify="right" if digits else "left", overflow="fold",
                        no_wrap=j == 0 and longest[j] <= 24)
    for cells in zip(*(cells for _, *cells in columns)):
        grid.add_row(*cells)
    screen.print(grid, markup=False)


def print_text(text):
    """Print lines, each broken between words where the terminal ends."""
    from rich.text import Text
    console().print(Text(text))


def console(stderr=False):
    """A rich console; 80 columns where the terminal does not say otherwise."""
    from rich.console import Console
    width = None if sys.stdout.isatty() else 80
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False,
                   emoji=False)


def say(line):
    """One line for the reader, on stderr, so that stdout stays the result."""
    SPOKEN.set()
    screen = LIVE[-1] if LIVE else console(stderr=True)         # it goes above a bar, not into it
    screen.print(line, markup=False, soft_wrap=True)


@contextlib.contextmanager
def progress(total, label):
    """A progress bar on stderr: `with progress(500, "training") as step: step(1, "loss 2.1")`.

    Where stderr is a file, a pipe or a terminal without cursor, a plain line every few seconds.
    """
    SPOKEN.set()
    if (out := console(stderr=True)).is_dumb_terminal or not out.is_terminal:
        yield plain_progress(total, label)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )
    bar = Progress(TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(),
                   TimeRemainingColumn(compact=True), TextColumn("{task.fields[note]}"),
                   console=out, transient=True)
    with bar:
        task = bar.add_task(label, total=total, note="")
        LIVE.append(out)
        try:
            yield lambda n=1, note="": bar.update(task, advance=n, note=note)
        finally:
            LIVE.remove(out)


def plain_progress(total, label, every=5.0):
    """A step function that says now and then how far the work is."""
    done, said = 0, time.monotonic()

    def step(n=1, note=""):
        nonlocal done, said
        done += n
        if time.monotonic() - said >= every:
            said = time.monotonic()
            say(f"{label}: {done:.0f} of {total:.0f} {note}".rstrip())

    return step


def kernels():
    """`with kernels(): …` runs on day 38's kernels where this tree has them, else on NumPy.

    The days before 38 may not import them: at `git checkout day35` they do not exist yet.
    """
    if importlib.util.find_spec("llm.train.fast") is None:
        return contextlib.nullcontext()
    return importlib.import_module("llm.train.fast").fast()


def machine():
    """The machine and the versions, as one line for the result."""
    import numba
    import numpy as np
    return (f"{cpu_name()}, {os.cpu_count()} cores, {platform.system()}, "
            f"Python {platform.python_version()}, NumPy {np.__version__}, "
            f"Numba {numba.__version__}")


def cpu_name():
    """The processor's name and its widest vectors, or the architecture where that is not told."""
    with contextlib.suppress(OSError):
        about = Path("/proc/cpuinfo").read_text()
        found = re.search(r"model name\s*:\s*(.+)", about)
        if found:
            widest = re.search(r"\bavx512f\b", about) or re.search(r"\bavx2\b", about)
            name = {"avx512f": " with AVX-512", "avx2": " with AVX2"}
            return " ".join(found.group(1).split()) + (name[widest.group()] if widest else "")
    return platform.processor() or platform.machine()


def plain(value):
    """NumPy scalars and arrays, tuples and paths as plain JSON values."""
    import numpy as np
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    return value


def nearby(path):
    """A path as the reader would type it."""
    with contextlib.suppress(ValueError):
        return path.resolve().relative_to(Path.cwd())
    return path
