"""Day 54 · What models say to the first eight prompts of a list: greedy answers, and one record.

Shared by sums_said.py, exchange_said.py (day 55) and chosen_said.py (day 56). Greedy decoding by
whole forward passes of a training model, so that replaced parts (adapters, a prefix, 4 bits) work
as they do in training. Left out: a cache, since answers are short.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from days.harness import (
    ROOT,
    UsageError,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    say,
    write_atomically,
)
from llm.generate.template import Message
from llm.grad.tensor import no_grad
from llm.tune.chat import END, prompt_ids


def begin(tokenizer, prompt):
    """ids (T,) of a conversation that waits for the answer to this prompt."""
    return np.asarray(prompt_ids(tokenizer, [Message("user", prompt)]))


def greedy(model, tokenizer, ids, most):
    """The likeliest token again and again, up to the end token or `most` tokens, as text."""
    end, answer = tokenizer.specials[END], []
    with no_grad():
        while len(answer) < most:
            row = np.array([[*ids, *answer]], np.int32)                       # (1, T)
            last = model.hidden(row)[:, -1]                                   # (1, C)
            token = int(model.logits(last).data.argmax())
            if token == end:
                break
            answer.append(token)
    return tokenizer.decode(answer).strip().replace("\n", " / ")


def command_line(name, about, measure):
    """Read the flags, measure(fast), write DIR/NAME.json and print its rows."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="tiny sizes, a few seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / name, metavar="DIR",
                        help=f"where {name}.json goes (runs/{name})")
    options = parser.parse_args()
    path = options.out / (f"{name}-fast.json" if options.fast else f"{name}.json")
    try:
        prepare(options.out)
        record = plain(measure(options.fast) | {"machine": machine()})
        write_atomically(path, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
    except KeyboardInterrupt:
        say("stopped; nothing is written")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"{name}: {error}")
        sys.exit(2)
    if options.json:
        print(json.dumps(record, ensure_ascii=False))
        return
    print_table([record["columns"], *record["rows"]])
    say(f"{path.name} is in {nearby(options.out)}; {machine()}")
