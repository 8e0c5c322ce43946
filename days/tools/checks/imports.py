"""Imports look back, never ahead: each file may import from its own and earlier days only.

Also: `llm/` imports NumPy, Numba, the standard library and itself, and nothing else, three rooms
excepted; its rooms import one way; no file under `days/` imports an experiment; an `__init__.py`
is a docstring.
"""

import ast
import sys

from days.tools.checks.imported import UNKNOWN, imported
from days.tools.data import ownership

OURS = {"llm", "days", "tests", "experiments"}
NUMERIC = {"numpy", "numba"}
RUNTIME = NUMERIC | {"matplotlib", "rich", "pytest"}
EVERYWHERE = {"llvmlite": ["llm/kernels/"]}             # comes with Numba
IN_FUNCTIONS = {"mpi4py": ["llm/scale/"], "starlette": ["llm/generate/server"],
                "uvicorn": ["llm/generate/server"]}     # extras
# The frame looks ahead in one place only, after it has looked whether the file is there.
GUARDED = {("days/harness.py", "llm.train.fast")}

# Which rooms of llm/ a room may import besides itself. Each one names only rooms above it.
LEAVES = {"functions", "tensors", "kernels"}
TEXT = LEAVES | {"data", "tokens"}
TRAINABLE = TEXT | {"grad", "layers", "models"}
ROOMS = {
    "kernels": set(),                                   # leaves: NumPy and Numba only
    "tensors": set(),
    "functions": {"tensors"},
    "data": {"functions"},
    "tokens": {"functions", "data", "kernels"},
    "grad": {"functions", "tensors"},
    "layers": {"functions", "tensors", "grad"},
    "quantize": LEAVES | {"data", "grad", "layers"},
    "weights": TEXT | {"quantize"},
    "generate": TEXT | {"quantize", "weights"},         # plain arrays: no layers, no tape
    "models": TEXT | {"grad", "layers", "generate"},
    "train": TRAINABLE | {"weights", "generate", "quantize"},
    "tune": TRAINABLE | {"weights", "generate", "quantize", "train"},
    "align": TRAINABLE | {"weights", "generate", "quantize", "train", "tune"},
    "scale": TRAINABLE | {"weights", "generate", "quantize", "train"},
}


def faults(root, owners):
    """Every import of the course that looks where it must not, as lines."""
    found = []
    for path in owners:
        if not path.endswith(".py") or path.split("/")[0] not in ownership.ROOMS:
            continue
        try:
            tree = ast.parse((root / path).read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError) as error:
            found.append(f"{path}: is not Python: {error}")
            continue
        if path.endswith("/__init__.py") and path.startswith("llm/") and not only_docstring(tree):
            found.append(f"{path}: an __init__.py is a docstring and nothing else")
        for one in imported(tree, path):
            longer = f"{one.module}.{one.alias}" if one.alias else one.module
            module = longer if file_of(longer, owners) else one.module
            reason = forbidden(path, module, one.at_start, owners)
            if reason and (path, module) not in GUARDED:
                found.append(f"{path}: imports {module}, {reason}")
    return list(dict.fromkeys(found))


def only_docstring(tree):
    """Is the module one docstring?"""
    return len(tree.body) == 1 and ast.get_docstring(tree) is not None


def file_of(module, owners):
    """The file of one of our modules, or None."""
    stem = module.replace(".", "/")
    return next((p for p in (f"{stem}.py", f"{stem}/__init__.py") if p in owners), None)


def forbidden(path, module, at_start, owners):
    """Why `path` may not import `module`, or None."""
    if module == UNKNOWN:
        return "so nobody can check it" if path.startswith("llm/") else None
    first = module.split(".")[0]
    in_llm = path.startswith("llm/")
    if first not in OURS:
        return foreign(path, first, at_start)
    if in_llm and first != "llm":
        return f"but llm/ knows nothing of {first}/"
    if first == "experiments" and path.startswith("days/"):
        return "but experiments use the days, not days the experiments: move it into its day"
    target = file_of(module, owners)
    if target is None:
        return "which no file of the course defines"
    if owners[target] > owners[path]:
        return f"of day {owners[target]:02d}, but the file belongs to " + (
            f"day {owners[path]:02d}" if owners[path] else "the frame")
    if in_llm and module != "llm":
        room, other = path.split("/")[1], target.split("/")[1]
        if room != other and other not in ROOMS.get(room, set()):
            return f"but {room}/ does not import {other}/"
    return None


def foreign(path, package, at_start):
    """Why a file may not import a package that is not ours, or None."""
    if package in sys.stdlib_module_names:
        return None
    if path.startswith("llm/") and package not in NUMERIC:
        if path.startswith(tuple(EVERYWHERE.get(package, ()))):
            return None
        if not path.startswith(tuple(IN_FUNCTIONS.get(package, ()))):
            return "but llm/ imports NumPy, Numba and the standard library only"
        extra = "which is an extra: import it inside the function that needs it"
        return extra if at_start else None
    peer = path.startswith(("tests/oracle/", "experiments/", "notes/")) or not at_start
    if package not in RUNTIME and not peer:
        return "which requirements.txt does not install; import it where it is used, if it is there"
    return None
