"""Imports look back, never ahead: each file may import from its own and earlier days only.

Also: `llm/` imports NumPy, Numba, the standard library and itself, and nothing else; its rooms
import one way; an `__init__.py` is a docstring. Only import statements are seen, which are all
that the course uses; `importlib` calls in the frame are not followed.
"""

import ast
import sys

OURS = {"llm", "days", "tests", "experiments"}
NUMERIC = {"numpy", "numba"}
RUNTIME = NUMERIC | {"matplotlib", "rich", "pytest"}

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
        if not path.endswith(".py"):
            continue
        try:
            tree = ast.parse((root / path).read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError) as error:
            found.append(f"{path}: is not Python: {error}")
            continue
        if path.endswith("/__init__.py") and path.startswith("llm/") and not only_docstring(tree):
            found.append(f"{path}: an __init__.py is a docstring and nothing else")
        for module, top_level in imported(tree, path, owners):
            reason = forbidden(path, module, top_level, owners)
            if reason:
                found.append(f"{path}: imports {module}, {reason}")
    return found


def only_docstring(tree):
    """Is the module one docstring?"""
    return len(tree.body) == 1 and ast.get_docstring(tree) is not None


def imported(tree, path, owners):
    """(full module name, is it at the top level) of every import statement in a file."""
    for node in ast.walk(tree):
        top = node in tree.body
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:                              # from . import x: relative to the package
                package = path.split("/")[:-node.level]
                base = ".".join([*package, *filter(None, [base])])
            for alias in node.names:
                longer = f"{base}.{alias.name}"
                yield (longer if file_of(longer, owners) else base), top


def file_of(module, owners):
    """The file of one of our modules, or None."""
    stem = module.replace(".", "/")
    return next((p for p in (f"{stem}.py", f"{stem}/__init__.py") if p in owners), None)


def forbidden(path, module, top_level, owners):
    """Why `path` may not import `module`, or None."""
    first = module.split(".")[0]
    in_llm = path.startswith("llm/")
    if first not in OURS:
        return foreign(path, first, top_level)
    if in_llm and first != "llm":
        return f"but llm/ knows nothing of {first}/"
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


def foreign(path, package, top_level):
    """Why a file may not import a package that is not ours, or None."""
    if package in sys.stdlib_module_names:
        return None
    if path.startswith("llm/") and package not in NUMERIC:
        return "but llm/ imports NumPy, Numba and the standard library only"
    peer = path.startswith(("tests/oracle/", "experiments/")) or not top_level
    if package not in RUNTIME and not peer:
        return "which requirements.txt does not install; import it where it is used, if it is there"
    return None
