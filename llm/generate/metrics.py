"""Day 64 · Metrics in Prometheus' text form: counters, gauges and histograms.

A counter only grows; whoever reads it twice knows the rate. A histogram counts how many values were
at most so large, for a fixed list of borders, so that histograms of many servers can be added.
Left out: labels of histograms, and everything that needs more than one process.
Source: Prometheus, "Exposition formats", text-based format.
"""

import threading

BORDERS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
HELP = {"requests_total": "Requests that ended, by the reason.",
        "responses_total": "HTTP responses, by path and status.",
        "prompt_tokens_total": "Tokens of prompts.", "generated_tokens_total": "Tokens chosen.",
        "steps_total": "Batches read.", "requests_running": "Requests in the batch.",
        "requests_waiting": "Requests in the queue.", "blocks_free": "Blocks that nobody holds.",
        "blocks_total": "Blocks of keys and values.",
        "first_token_seconds": "From arrival to the first token.",
        "request_seconds": "From arrival to the end."}


class Metrics:
    """Counters and histograms that several threads may feed."""

    def __init__(self, prefix="llm_"):
        self.prefix, self.lock = prefix, threading.Lock()
        self.counters, self.histograms = {}, {}

    def add(self, name, amount, **labels):
        """Add to a counter; each set of labels has a counter of its own."""
        with self.lock:
            key = name, tuple(sorted(labels.items()))
            self.counters[key] = self.counters.get(key, 0) + amount

    def observe(self, name, value):
        """Put a value into a histogram."""
        with self.lock:
            counts, total = self.histograms.setdefault(name, ([0] * (len(BORDERS) + 1), [0.0]))
            counts[sum(value > border for border in BORDERS)] += 1
            total[0] += value

    def text(self, gauges=()):
        """Everything, for GET /metrics. gauges {name: value} are added as they are."""
        lines = []
        with self.lock:
            for name in sorted({name for name, _ in self.counters}):
                lines += self.head(name, "counter")
                lines += [f"{self.prefix}{name}{shown(labels)} {value:g}"
                          for (n, labels), value in sorted(self.counters.items()) if n == name]
            for name, value in dict(gauges).items():
                lines += [*self.head(name, "gauge"), f"{self.prefix}{name} {value:g}"]
            for name, (counts, total) in sorted(self.histograms.items()):
                lines += self.head(name, "histogram")
                below = 0
                for border, count in zip((*map(str, BORDERS), "+Inf"), counts):
                    below += count
                    lines.append(f'{self.prefix}{name}_bucket{{le="{border}"}} {below}')
                lines += [f"{self.prefix}{name}_sum {total[0]:g}",
                          f"{self.prefix}{name}_count {below}"]
        return "\n".join(lines) + "\n"

    def head(self, name, kind):
        """The two lines before a metric."""
        return [f"# HELP {self.prefix}{name} {HELP[name]}", f"# TYPE {self.prefix}{name} {kind}"]


def shown(labels):
    """{a="x",b="y"}, or nothing; values are escaped."""
    escape = lambda v: str(v).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return "{" + ",".join(f'{k}="{escape(v)}"' for k, v in labels) + "}" if labels else ""
