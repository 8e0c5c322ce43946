"""Day 38 · What the processor has: which instructions the kernels may use.

A kernel compiled with an instruction that the processor lacks ends the process, so it is asked
first. Numba compiles for the machine it runs on, unless NUMBA_CPU_FEATURES is set: then for the
features in it and those that NUMBA_CPU_NAME's processor has. That is respected here, so that
NUMBA_CPU_NAME=haswell with empty NUMBA_CPU_FEATURES tests the AVX2 kernels on newer machines.
Left out: ARM's own instructions; such a processor gets plain Numba.
"""

import platform

from llvmlite import binding
from numba.core import config

PATHS = {                                   # fastest first: path -> features that it needs
    "vnni": ("avx512f", "avx512bw", "avx512vl", "avx512vnni"),
    "avx2": ("avx2", "fma", "f16c"),
    "plain": (),
}
BUILT_FOR = {"haswell": PATHS["avx2"], "skylake": PATHS["avx2"], "znver3": PATHS["avx2"],
             "cascadelake": PATHS["vnni"] + PATHS["avx2"],
             "znver4": PATHS["vnni"] + PATHS["avx2"]}


def features():
    """The set of features that compiled code may use, in LLVM's names."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return frozenset()
    host = {name for name, has in binding.get_host_cpu_features().items() if has}
    if config.CPU_FEATURES is None:
        return frozenset(host)
    found = host & set(BUILT_FOR.get(config.CPU_NAME, ()))    # an unknown name: nothing is assumed
    for change in config.CPU_FEATURES.split(","):
        if change.startswith("+"):
            found |= host & {change[1:]}
        found.discard(change[1:] if change.startswith("-") else None)
    return frozenset(found)


def paths():
    """The paths that this machine can take, fastest first; "plain" is always the last."""
    has = features()
    return [path for path, wanted in PATHS.items() if has.issuperset(wanted)]


def choose(path=None):
    """The fastest path, or the one asked for; ValueError if the processor cannot take it."""
    can = paths()
    if path is None:
        return can[0]
    if path not in can:
        raise ValueError(f"this processor cannot take the path {path!r}: it has "
                         f"{', '.join(can)}")
    return path
