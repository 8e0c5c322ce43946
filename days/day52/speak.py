"""Day 52 · Talking to a model in the terminal: one prompt continued, or a conversation."""

import contextlib
import sys
import time

import numpy as np

from days.harness import UsageError, say
from llm.generate.conversation import Conversation
from llm.generate.jinja.values import TemplateError
from llm.generate.llama import engine
from llm.generate.pretrained import load
from llm.generate.stream import stream
from llm.generate.truncate import Chooser
from llm.tensors.roofline import read_all


def bandwidth(size=1 << 27, repeats=5):
    """Bytes a second at which this machine reads memory, all threads: the best of some tries."""
    x, best = np.ones(size // 4, dtype=np.float32), np.inf
    read_all(x)
    for _ in range(repeats):
        start = time.perf_counter()
        read_all(x)
        best = min(best, time.perf_counter() - start)
    return size / best


def weights_bytes(engine):
    """What one token reads of the weights: every matrix once, of the embedding one row."""
    return sum(packed.data.nbytes for packed in engine.matrices().values())


class Pace:
    """Counts tokens and seconds from the first token on, and says what they mean in bytes."""

    def __init__(self, engine):
        self.engine, self.peak = engine, bandwidth()
        self.tokens, self.start = 0, time.perf_counter()

    def begin(self):
        self.tokens = 0

    def line(self):
        rate = (self.tokens - 1) / max(time.perf_counter() - self.start, 1e-9)
        share = rate * weights_bytes(self.engine) / self.peak
        return (f"{self.tokens} tokens, {rate:.0f} tokens/s, {100 * share:.0f} % of the "
                f"{self.peak / 1e9:.0f} GB/s that this machine reads")


def converse(prompt, gguf, tokens, temperature, seed):
    """--prompt and --chat."""
    if tokens < 1:
        raise UsageError(f"--tokens {tokens} must be at least 1")
    choose = chooser(temperature, seed)
    model = load(gguf, say)
    quick = engine(model, T_max=min(model.arch.T, 8192))
    if prompt is None:
        chat(quick, model, tokens, choose)
    else:
        continue_prompt(quick, model, prompt, tokens, choose)


def counted(choose, pace):
    """`choose`, and the pace hears of every token."""
    def chosen(logits, so_far):
        i = choose(logits, so_far)
        if not pace.tokens:
            pace.start = time.perf_counter()         # the prompt has been read
        pace.tokens += 1
        return i
    return chosen


def chooser(temperature, seed):
    """Greedy at 0, else with the nucleus of day 41. UsageError below 0."""
    if not temperature >= 0:
        raise UsageError(f"--temperature {temperature} must be 0 or more")
    return Chooser(np.random.default_rng(seed), temperature, top_p=0.95 if temperature else None)


def continue_prompt(engine, model, prompt, n, choose, out=sys.stdout):
    """Stream the continuation of a prompt; Ctrl-C ends it and loses nothing that was shown."""
    if not prompt:
        raise UsageError("--prompt is empty: give at least one word to continue")
    try:
        ids = model.encode(prompt)
    except ValueError as error:
        raise UsageError(f"--prompt: {error}") from None
    T = engine.cache.T_max
    if len(ids) >= T:
        raise UsageError(f"--prompt has {len(ids):,} tokens, and the window only {T:,}: shorten it")
    pace = Pace(engine)
    out.write(prompt)
    out.flush()
    with contextlib.suppress(KeyboardInterrupt):
        show(stream(engine, model.tokenizer, ids, n, counted(choose, pace), ends=model.stops), out)
    out.write("\n")
    say(pace.line())


def show(pieces, out):
    """Write text as it comes."""
    for piece in pieces:
        out.write(piece)
        out.flush()


def chat(engine, model, n, choose, lines=sys.stdin, out=sys.stdout):
    """Questions from `lines` until they end; Ctrl-C ends an answer, and where none is, the chat."""
    try:
        talk = Conversation(engine, model.tokenizer, model.chat_template(), model.stops)
    except TemplateError as error:
        raise UsageError(f"{model.file.path}: {error}; use --prompt") from None
    pace = Pace(engine)
    say("Ask something; Ctrl-D ends the conversation.")
    while True:
        out.write("> ")
        out.flush()
        line = lines.readline()
        if not line:
            break
        if line.strip():
            turn(talk, line.strip(), n, choose, pace, out)
    out.write("\n")


def turn(talk, question, n, choose, pace, out):
    """One question, its answer, and a line on what it cost."""
    pace.begin()
    said = talk.say(question, counted(choose, pace), n)
    try:
        show(said, out)
    except KeyboardInterrupt:
        pass
    except ValueError as error:                 # too long, or half a character: ask again
        say(str(error))
        return
    finally:
        said.close()
    out.write("\n")
    say(f"{pace.line()}; {talk.reused} ids were in the cache, {talk.fresh} were read")
