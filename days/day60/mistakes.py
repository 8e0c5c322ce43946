"""Day 60 · Mistakes that people make here; each makes tests/test_day60.py fail."""

from days.mistake import Mistake

LEDGER, AGAIN = "llm/scale/memory.py", "llm/grad/recompute.py"

MISTAKES = [
    Mistake(
        title="dropout drops other numbers in the second run",
        file=AGAIN,
        right="                rng.bit_generator.state = state",
        wrong="                pass",
        symptom="The loss falls, more slowly. The gradient belongs to another network than the "
                "loss: the second run has drawn fresh numbers."),
    Mistake(
        title="the generator is left where the second run left it",
        file=AGAIN,
        right="                rng.bit_generator.state = after",
        wrong="                pass",
        symptom="Gradients are right. But the next step drops the same numbers as this one, and a "
                "resumed run is no longer the run that was interrupted."),
    Mistake(
        title="a segment whose input wants no gradient is not recorded",
        file=AGAIN,
        right="        parent = (x.node or x) if x.requires_grad else None\n"
              "        out.node = Node(\"recompute\", vjp, (), [parent], out.shape, out.dtype)",
        wrong="        if x.requires_grad:\n"
              "            out.node = Node(\"recompute\", vjp, (), [x.node or x], out.shape, "
              "out.dtype)",
        symptom="The parameters of the first segment never get a gradient, where its input is "
                "plain data."),
    Mistake(
        title="Adam's moments are counted once",
        file=LEDGER,
        right="    return Ledger(FLOAT * N, 2 * FLOAT * N, FLOAT * N, tuple(events))",
        wrong="    return Ledger(FLOAT * N, FLOAT * N, FLOAT * N, tuple(events))",
        symptom="The mean is there and the mean of squares is forgotten. For large models the "
                "prediction is a quarter too low, and the run that was to fit does not."),
    Mistake(
        title="only what stays is counted, not what an operation needs while it runs",
        file=LEDGER,
        right="            rows.append((event.name, event.direction, level + event.stays, "
              "level + event.during))",
        wrong="            rows.append((event.name, event.direction, level + event.stays, "
              "level + max(event.stays, 0)))",
        symptom="The peak is told too low, by a tenth or more. GELU and the softmax of the loss "
                "need several arrays for an instant."),
]

EQUIVALENT = [
    (LEDGER, "return max(10 * C if H > 1 else 7 * C, 2 * C + 2 * a)",
     "a maximum does not mind the order"),
]
