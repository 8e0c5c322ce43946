"""The days of the course, and its tools: `python -m days`."""

import importlib.util
import sys

lacking = [name for name in ("numpy", "numba", "matplotlib", "rich")
           if importlib.util.find_spec(name) is None]
if lacking and sys.argv[1:2] != ["doctor"]:         # who tells what is missing, and the cure
    sys.exit(f"this Python ({sys.executable}) lacks {', '.join(lacking)}: run `make test` once, "
             "then activate the environment with `source .venv/bin/activate` "
             r"(on Windows: .venv\Scripts\activate)")
