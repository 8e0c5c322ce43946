"""Every module that a Python file imports: by statement, by name, or in text that it runs.

`importlib.import_module("torch")`, `__import__("torch")` and `exec("import torch")` import as much
as `import torch` does. Where the name is not written out, what is imported cannot be told.
"""

import ast
import re
from dataclasses import dataclass

UNKNOWN = "a module whose name is not written out"
BY_NAME = {"import_module", "__import__", "run_module"}
AS_TEXT = {"exec", "eval", "compile"}
STATEMENT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+import\b|import\s+([\w.]+))", re.M)


@dataclass(frozen=True)
class Import:
    """A module, as a dotted name from the root; `alias` may be a module or a name in it."""

    module: str
    alias: str
    at_start: bool      # when the file is loaded, not when one of its functions is called


def imported(tree, path):
    """Yield an Import for each module that the file at `path` names."""
    if path.startswith(("llm/", "days/")) and any(map(runs_text, ast.walk(tree))):
        documents = docstrings(tree)
        said = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)
                and isinstance(node.value, str) and node.value not in documents]
        for text in said:
            yield from (Import(a or b, "", False) for a, b in STATEMENT.findall(text))
    renamed = {alias.asname or alias.name: alias.name for node in ast.walk(tree)
               if isinstance(node, ast.ImportFrom) for alias in node.names}
    yield from within(tree, path, renamed, True)


def within(node, path, renamed, at_start):
    """The imports in the statements below a node; those of a function run later."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, "", at_start) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = absolute("." * child.level + (child.module or ""), path)
            yield from (Import(base, alias.name, at_start) for alias in child.names)
        elif isinstance(child, ast.Call) and called(child, renamed) in BY_NAME:
            name = child.args[0] if child.args else None
            known = isinstance(name, ast.Constant) and isinstance(name.value, str)
            yield Import(absolute(name.value, path) if known else UNKNOWN, "", at_start)
        later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from within(child, path, renamed, at_start and not later)


def absolute(name, path):
    """A module's name from the root: `.x` in llm/a/b.py is llm.a.x."""
    level = len(name) - len(name.lstrip("."))
    package = path.split("/")[:-level] if level else []
    return ".".join([*package, *filter(None, [name.lstrip(".")])])


def called(call, renamed):
    """The last name of what is called, under the name that it was imported by."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return renamed.get(call.func.id, call.func.id) if isinstance(call.func, ast.Name) else None


def runs_text(node):
    """Is this a call of exec, eval or compile? (`model.eval()` and `re.compile` are others.)"""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute):
        owner = node.func.value
        return (node.func.attr in AS_TEXT and isinstance(owner, ast.Name)
                and owner.id == "builtins")
    return isinstance(node.func, ast.Name) and node.func.id in AS_TEXT


def docstrings(tree):
    """The docstrings of a module, its classes and its functions."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return {ast.get_docstring(node, clean=False) for node in ast.walk(tree)
            if isinstance(node, kinds)}
