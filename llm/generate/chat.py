"""Day 64 · A chat in the terminal: python -m llm.generate.chat MODEL

MODEL is a folder or a .gguf file as day 64 and others write them, or smollm. With a model that was
taught to converse it holds day 52's Conversation; any other continues what you type. Ctrl-C stops
the answer, not the program; Ctrl-D or /quit ends it. Left out: colours, and editing what was said.
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path

import numpy as np

from llm.generate.conversation import Conversation
from llm.generate.jinja.values import TemplateError
from llm.generate.opened import open_model
from llm.generate.stream import Stream
from llm.generate.truncate import Chooser
from llm.weights.files import write_whole

HELP = """/help         this list
/history      what was said so far
/reset        forget it and begin anew
/save FILE    write it to FILE as JSON
/quit         end (or Ctrl-D); Ctrl-C stops an answer
//text        a message that begins with /"""
AGAIN = "An empty line goes on with the text."


class Completion:
    """For models that only continue texts; the handles are Conversation's.

    Each message is a text of its own; an empty one goes on with the last. What does not fit into
    the window with the answer is cut off at its beginning.
    """

    def __init__(self, engine, model):
        self.engine, self.model, self.ids, self.text = engine, model, [], ""

    def say(self, text, choose, n=256):
        """Yield the continuation piece by piece. ValueError where there is nothing to continue."""
        if text:
            self.ids, self.text = self.model.encode(text), text
        T = self.engine.cache.T_max
        ids = self.ids[-(T - min(n, T // 2)):]
        self.engine.reset()
        stream = Stream(self.engine, self.model.tokenizer, ids, min(n, T - len(ids)), choose,
                        ends=self.model.stops)
        try:
            for piece in stream:
                self.text += piece
                yield piece
        finally:
            self.ids = self.ids + [i for i in stream.ids if i not in self.model.stops]

    def history(self):
        """What was said, for /history and /save."""
        return [{"text": self.text}] if self.text else []


class Chat:
    """The loop around either. write(text) shows; options: system, tokens, temperature, top_p, seed,
    context, as on the command line."""

    def __init__(self, model, options, write):
        self.model, self.options, self.write = model, options, write
        room = min(options.context, model.arch.T) if options.context else model.arch.T
        self.engine = model.engine(T_max=room)
        self.choose = Chooser(np.random.default_rng(options.seed), options.temperature,
                              top_p=options.top_p, adjust=[model.only_text])
        self.reset()

    def reset(self):
        """Begin anew."""
        if self.model.template is None:
            self.talk = Completion(self.engine, self.model)
        else:
            self.talk = Conversation(self.engine, self.model.tokenizer, self.model.template,
                                     self.model.stops, self.options.system)

    def history(self):
        """[{role, content}, …] of a conversation, [{text}] of a text."""
        if self.model.template is None:
            return self.talk.history()
        return [{"role": m.role, "content": m.content} for m in self.talk.messages]

    def run(self, read):
        """Answer every line that read() gives, until it raises EOFError or says /quit."""
        while True:
            try:
                line = read()
            except EOFError:
                self.write("\n")
                return
            except KeyboardInterrupt:                # at the prompt: drop the line
                self.write("\n")
                continue
            if line.strip() == "/quit":
                return
            if line.startswith("/") and not line.startswith("//"):
                self.command(*line[1:].strip().split(maxsplit=1))
            elif line.strip() or self.model.template is None:
                self.answer(line[1:] if line.startswith("//") else line)

    def answer(self, line):
        """One answer, shown as it comes; Ctrl-C keeps what there is of it."""
        try:
            with contextlib.closing(self.talk.say(line, self.choose,
                                                  n=self.options.tokens)) as pieces:
                for piece in pieces:
                    self.write(printable(piece))
        except KeyboardInterrupt:
            self.write(" [stopped]")
        except (ValueError, TemplateError) as error:
            self.write(f"! {error}")
        self.write("\n")

    def command(self, name="", argument=None):
        """What begins with a slash."""
        if name == "help":
            self.write(HELP + "\n" + (AGAIN + "\n" if self.model.template is None else ""))
        elif name == "history":
            for part in self.history():
                who = f"{part['role']}: " if "role" in part else ""
                self.write(printable(who + part.get("content", part.get("text", ""))) + "\n")
        elif name == "reset":
            self.reset()
            self.write("! forgotten\n")
        elif name == "save":
            self.write(f"! {self.save(argument)}\n")
        else:
            self.write(f"! there is no /{name}; /help lists what there is\n")

    def save(self, path):
        """Write the history -> one line about it."""
        if not path:
            return "say where: /save FILE"
        said = {"model": self.model.name, "messages": self.history()}
        try:
            write_whole(Path(path), [json.dumps(said, ensure_ascii=False, indent=1).encode()])
        except OSError as error:
            return f"cannot write {path}: {error.strerror or error}"
        return f"saved to {path}"


def printable(text):
    """A model may write any character, also those that command a terminal: these become U+FFFD."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def parse(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m llm.generate.chat",
                                     description="Talk to a model in the terminal.")
    parser.add_argument("model", help="a folder, a .gguf file, or smollm")
    parser.add_argument("--system", metavar="TEXT", help="the first message of a conversation")
    parser.add_argument("--tokens", type=int, default=256, metavar="N", help="at most (256)")
    parser.add_argument("--temperature", type=float, default=0.7, metavar="T", help="0 to 2 (0.7)")
    parser.add_argument("--top-p", type=float, default=0.95, metavar="P", help="(0.95)")
    parser.add_argument("--seed", type=int, metavar="S", help="another one every time, without")
    parser.add_argument("--context", type=int, default=2048, metavar="N",
                        help="tokens to remember; 0 for all that the model can (2048)")
    options = parser.parse_args(arguments)
    if options.tokens < 1 or options.context < 0 or not 0 <= options.temperature <= 2:
        parser.error("--tokens must be at least 1, --context at least 0, --temperature 0 to 2")
    if not 0 < options.top_p <= 1 or (options.seed or 0) < 0:
        parser.error("--top-p must be above 0 and at most 1, --seed at least 0")
    return options


def main(arguments=None):
    """Talk until Ctrl-D. Exit status 2 and one line if the model cannot be opened."""
    options = parse(arguments)
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - input() then edits and recalls
    sys.stdin.reconfigure(errors="replace")
    show = lambda text: print(text, end="", flush=True)
    try:
        chat = Chat(open_model(options.model), options, show)
    except (OSError, ValueError, TemplateError) as error:
        print(f"chat: {error}", file=sys.stderr)
        return 2
    kind = "continues texts" if chat.model.template is None else "converses"
    print(f"{chat.model.name} {kind}; /help helps", file=sys.stderr)
    chat.run(lambda: input("> " if sys.stdin.isatty() else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
