"""Day 60 · A ledger of memory: what training a GPT or a Llama needs, operation by operation.

Every operation of a step adds bytes that stay (its output, what its backward needs) and needs some
more while it runs. The ledger writes both down as formulas in B, T, C, H, V, L, and adds them up:
the highest point is the memory that the step needs. It describes the NumPy path (days 14 to 34 and
49), without dropout, with rotary positions. Left out: buffers of NumPy and BLAS, about 0.1 MB.
Source: Korthikanti et al. 2022, arXiv 2205.05198, section 4, for counting activations this way.
"""

from collections import namedtuple
from dataclasses import dataclass, replace

from llm.models import gpt, llama

FLOAT = 4                               # bytes
Event = namedtuple("Event", "name direction stays during")       # numbers; `during` at the highest


@dataclass(frozen=True)
class Ledger:
    """Bytes of one training step: what is there always, and the events in their order.

    The last event is the optimizer's. AdamW holds three arrays of one parameter's size at once,
    parameter after parameter, so the largest decides. What the last VJP held is gone by then: the
    tied table's second gradient, which has been added to the first, and the one that arrived.
    """

    parameters: int
    moments: int                        # two numbers a parameter, for AdamW
    gradients: int
    events: tuple                       # of Event, in bytes

    def timeline(self):
        """[(name, direction, bytes after, most bytes during)], beyond parameters and moments."""
        rows, level = [], 0
        for event in self.events:
            rows.append((event.name, event.direction, level + event.stays, level + event.during))
            level += event.stays
        return rows

    def activations(self):
        """Bytes that the forward pass leaves for the backward."""
        return sum(event.stays for event in self.events if event.direction == "forward")

    def peak(self):
        """The most bytes at any moment, parameters and moments included."""
        return self.parameters + self.moments + max(row[3] for row in self.timeline())

    def highest(self):
        """The (name, direction) of the event at the peak."""
        return max(self.timeline(), key=lambda row: row[3])[:2]


def gpt_ledger(config, B, T=None):
    """The Ledger of a GPT with rotary positions for B windows of T tokens (config.T by default).

    Raises ValueError for a config with learned positions, dropout or an untied head, which are not
    described.
    """
    if not config.rotary or config.dropout or not config.tied:
        raise ValueError("the ledger describes rotary positions without dropout, and a tied head; "
                         f"got rotary={config.rotary}, dropout={config.dropout}, "
                         f"tied={config.tied}")
    n, C, V, L = B * (T or config.T), config.C, config.V, config.L
    a, mask = config.H * (T or config.T), (T or config.T) / FLOAT / B
    forward = [("embedding", C, C)]
    for i in range(L):
        freed = 3 * C if i else 0                      # the stream before, and what was added to it
        forward += [("layernorm", 2 * C + 1 - freed, 4 * C - freed), ("linear", 3 * C, 6 * C),
                    ("multi_head", 3 * C + a, attending(C, a, mask)),
                    ("linear", C, 2 * C), ("add", C, C), ("layernorm", C + 1, 3 * C),
                    ("linear", 4 * C, 8 * C), ("gelu", 4 * C, 20 * C), ("linear", C, 2 * C),
                    ("add", C, C)]
    forward += [("layernorm", 1 - C, C), ("unembed", V - C, V - C), ("cross_entropy", V, 2 * V)]
    backward = [("cross_entropy", 0, 0, 0), ("unembed", C - V, C - V, V * C),
                ("layernorm", -V, 3 * C - V, 2 * C)]
    for i in range(L):
        freed = 3 * C if i else 2 * C
        backward += [("add", -freed, -freed, 0), ("linear", 4 * C, 4 * C, 4 * C * C + C),
                     ("gelu", 0, 28 * C, 0), ("linear", -7 * C, -7 * C, 4 * C * C + 4 * C),
                     ("layernorm", -4 * C - 1, -C, 2 * C), ("add", -3 * C, -3 * C, 0),
                     ("linear", C, C, C * C + C),
                     ("multi_head", 2 * C, attending_back(C, a, config.H), 0),
                     ("linear", -5 * C - a, -5 * C - a, 3 * C * C + 3 * C),
                     ("layernorm", -3 * C - 1, 0, 2 * C)]
    backward += [("embedding", -3 * C, -3 * C, V * C)]
    return ledger(gpt.count_parameters(config), n, forward, backward, max(V, 4 * C) * C, V * C, C)


def segmented_peak(config, B, size):
    """The most bytes of a GPT's step where `size` blocks are a segment (llm/layers/segment.py).

    The first segment is reached last: all other gradients are there, but no other segment's input.
    The last is reached first: all inputs are there. In both a GPT of `size` blocks runs, and three
    more arrays (B, T, C): its second output, and the gradient that arrives, with a copy.
    """
    whole, part = gpt_ledger(config, B), gpt_ledger(replace(config, L=size), B)
    stream = FLOAT * B * config.T * config.C
    last = stream * (config.L // size - 1)
    first = whole.gradients - part.gradients
    inner = max(row[3] for row in part.timeline()[:-1]) + 3 * stream
    return max(whole.parameters + whole.moments + max(first, last) + inner,
               whole.parameters + whole.moments + whole.timeline()[-1][3])


def llama_ledger(config, B, T=None):
    """The Ledger of a Llama (tied head) for B windows of T tokens (config.T by default)."""
    if not config.tied:
        raise ValueError("the ledger describes a head that is the embedding once more")
    n, C, V, F, L = B * (T or config.T), config.C, config.V, config.F, config.L
    a, mask = config.H * (T or config.T), (T or config.T) / FLOAT / B
    w = C + 2 * config.K * C // config.H               # width of queries, keys and values
    shared = config.K < config.H                       # then `spread` makes wider ones
    forward = [("embedding", C, C)]
    for i in range(L):
        freed = 3 * C if i else 0
        forward += [("rmsnorm", 2 * C + 1 - freed, 3 * C - freed), ("linear", w, w),
                    ("spread", 3 * C * shared, 3 * C * shared),
                    ("multi_head", 3 * C + a - w * shared, attending(C, a, mask) - w * shared),
                    ("linear", C, C), ("add", C, C), ("rmsnorm", C + 1, 2 * C), ("linear", F, F),
                    ("linear", F, F), ("swiglu", F, 3 * F), ("linear", C, C), ("add", C, C)]
    forward += [("rmsnorm", 1 - C, 0), ("unembed", V - C, V - C), ("cross_entropy", V, 2 * V)]
    backward = [("cross_entropy", 0, 0, 0), ("unembed", C - V, C - V, V * C),
                ("rmsnorm", -V, 2 * C - V, C)]
    for i in range(L):
        freed = 3 * C if i else 2 * C
        backward += [("add", -freed, -freed, 0), ("linear", F, F, C * F), ("swiglu", F, 3 * F, 0),
                     ("linear", C - 3 * F, C - 3 * F, C * F), ("linear", C - F, C - F, C * F),
                     ("rmsnorm", -C - F - 1, C - F, C), ("add", -3 * C, -3 * C, 0),
                     ("linear", C, C, C * C),
                     ("multi_head", 2 * C, attending_back(C, a, config.H), 0)]
        backward += ([("spread", -6 * C - a + w, -7 * C - a + 2 * w, 0),
                      ("linear", -2 * C, -2 * C, C * w)] if shared else
                     [("spread", -6 * C - a, -6 * C - a, 0), ("linear", C, C, C * w)])
        backward += [("rmsnorm", -w - 1, 2 * C - w, C)]
    backward += [("embedding", -3 * C, -3 * C, V * C)]
    return ledger(llama.count_parameters(config), n, forward, backward, max(V, F) * C, V * C, C)


def attending(C, a, mask):
    """At most, while heads attend: scores, their exponentials and weights, or queries and keys
    that are turned. mask: the T² bytes of which token may see which, as numbers a token."""
    return max(2 * C + 3 * a, 4 * C + a) + mask


def attending_back(C, a, H):
    """At most, on the way back through the heads: two arrays of scores, or queries, keys, values,
    their gradients and, of several heads, what arrives, in the heads' order."""
    return max(2 * C + 2 * a, 10 * C if H > 1 else 7 * C)


def ledger(N, n, forward, backward, largest, table, C):
    """Numbers a token, and numbers of parameters' gradients, become bytes.

    largest: numbers of the largest parameter; table: of the tied one, whose second gradient is gone
    when the optimizer begins, as are the C numbers a token that arrived and one of the last norm.
    """
    events = [Event(name, "forward", FLOAT * n * stays, FLOAT * n * during)
              for name, stays, during in forward]
    events += [Event(name, "backward", FLOAT * (n * stays + made), FLOAT * (n * during + made))
               for name, stays, during, made in backward]
    gone = table + n * (C + 1)
    events.append(Event("adamw", "update", -FLOAT * gone, FLOAT * (3 * largest - gone)))
    return Ledger(FLOAT * N, 2 * FLOAT * N, FLOAT * N, tuple(events))
