"""Day 36 · The state of a random generator as text, and back.

All of NumPy's bit generators are saved: PCG64, PCG64DXSM, MT19937, Philox, SFC64. One whose state
does not survive the way to text and back is refused, so that it is known before a long training
and not after it. Left out: children that were spawned from the seed; only draws are resumed.
"""

import json

import numpy as np


def generator_state(rng):
    """The state as JSON. Raises ValueError if a generator made from it would not be the same."""
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"a {type(rng).__name__} is no np.random.Generator: "
                         "use np.random.default_rng(seed)")
    try:
        text = json.dumps(rng.bit_generator.state, default=np.ndarray.tolist)
        copy = np.random.Generator(type(rng.bit_generator)())
        restore_generator(copy, text)
        same = json.dumps(copy.bit_generator.state, default=np.ndarray.tolist) == text
    except Exception as error:          # of a class that is not NumPy's anything may come
        raise ValueError(f"the state of {type(rng.bit_generator).__name__} cannot be saved "
                         f"({error}): use np.random.default_rng(seed)") from None
    if not same:
        raise ValueError(f"the state of {type(rng.bit_generator).__name__} is not the same after "
                         "saving: use np.random.default_rng(seed)")
    return text


def restore_generator(rng, text):
    """Put the state back, in place. Raises ValueError, before any change, if it is of another
    bit generator or no state."""
    state, mine = json.loads(text), rng.bit_generator.state
    if not isinstance(state, dict) or state.get("bit_generator") != mine["bit_generator"]:
        kind = state.get("bit_generator") if isinstance(state, dict) else None
        raise ValueError(f"the saved state is of {kind}, the generator is "
                         f"{mine['bit_generator']}")
    rng.bit_generator.state = shaped(state, mine)


def shaped(state, like):
    """Lists become arrays again where `like` has arrays."""
    if isinstance(like, dict):
        return {key: shaped(state[key], value) for key, value in like.items()}
    return np.asarray(state, like.dtype) if isinstance(like, np.ndarray) else state
