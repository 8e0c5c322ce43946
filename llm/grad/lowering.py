"""Day 15 · Lowering: inside a scope, a twin takes a function's place.

    with lower({gelu: (fast_gelu, fast_gelu_vjp)}):
        loss = model(ids)          # every gelu in here is the fast one

A twin computes the same and has the same signature. The table lives in a context variable: it ends
with the `with` block, also on an error, and another thread does not see it. Nothing is switched on
by an import. What is left out: choosing the twin by shape or dtype; a twin decides that itself.
"""

import contextlib
import functools
from contextvars import ContextVar
from types import MappingProxyType

_twins = ContextVar("twins", default=MappingProxyType({}))


def twin_of(reference, default):
    """The twin that stands in for `reference` here, or `default`."""
    return _twins.get().get(reference, default)


@contextlib.contextmanager
def lower(table):
    """Let each value of `table` take the place of its key until the block ends.

    A primitive (day 15) is replaced by a pair (f, f_vjp), a `lowerable` function by a function.
    Raises TypeError for a key that is neither.
    """
    for reference in table:
        if not getattr(reference, "lowerable", False):
            name = getattr(reference, "__name__", reference)
            raise TypeError(f"{name} cannot be lowered: make it with primitive() or @lowerable")
    token = _twins.set({**_twins.get(), **table})
    try:
        yield
    finally:
        _twins.reset(token)


def lowerable(function):
    """Let a plain function (an optimizer's update, say) be lowered."""
    @functools.wraps(function)
    def call(*args, **options):
        return twin_of(call, function)(*args, **options)
    call.lowerable = True
    return call
