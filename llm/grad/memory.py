"""Day 15 · Watching memory: what is allocated after each operation, forward and backward.

An example of lowering: inside `watching`, each primitive is replaced by a twin that calls the very
same pair and writes down what Python's `tracemalloc` counts. Left out: memory that NumPy does not
report (BLAS buffers), and the memory of other threads.
"""

import contextlib
import tracemalloc

from llm.grad.lowering import lower


@contextlib.contextmanager
def watching(primitives):
    """Yield a list that fills with (name, "forward" or "backward", bytes after, most bytes during).

    primitives: those to watch, from `llm.grad.ops` and `llm.grad.tensor`. Bytes count from the
    start of the block. Slows every allocation down: nothing to be timed belongs in here.
    Raises ValueError inside another `watching` (or any other use of tracemalloc).
    """
    if tracemalloc.is_tracing():
        raise ValueError("memory is being traced already: leave that block first")
    log = []
    with lower({primitive: twin(primitive, log) for primitive in primitives}):
        tracemalloc.start()
        try:
            yield log
        finally:
            tracemalloc.stop()


def twin(primitive, log):
    """The pair of `primitive`, each half with a note in `log` after it."""
    def noting(function, direction):
        def call(*args, **options):
            tracemalloc.reset_peak()
            result = function(*args, **options)
            log.append((primitive.__name__, direction, *tracemalloc.get_traced_memory()))
            return result
        return call
    f, f_vjp = primitive.pair
    return noting(f, "forward"), noting(f_vjp, "backward")
