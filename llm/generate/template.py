"""Day 52 · Chat templates: a list of messages becomes the one text that the model was trained on.

A model continues text. What makes it answer is the form of that text, and the form is part of the
model: its file brings it as a small program (`jinja/`). What the program writes may be a control
token such as <|im_end|>; what people write never is, even where it looks the same.
Left out: tools, images, and templates of other parts of Jinja (they are refused).
"""

from dataclasses import dataclass

import numpy as np

from llm.generate.jinja.program import compile_program
from llm.generate.jinja.values import Text, given, own

ROLES = ("system", "user", "assistant")
CHATML = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
          "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


@dataclass(frozen=True)
class Message:
    """One turn: who speaks, `system`, `user` or `assistant`, and what."""

    role: str
    content: str

    def __post_init__(self):
        if self.role not in ROLES:
            raise ValueError(f"a message is from {', '.join(ROLES)}, not from {self.role!r}")


class ChatTemplate:
    """A template from its source. Raises TemplateError where it cannot be read here.

    bos, eos: what the names bos_token and eos_token stand for.
    """

    def __init__(self, source=CHATML, bos="", eos=""):
        self.source, self.render_values = source, compile_program(source)
        self.names = {"bos_token": own(bos), "eos_token": own(eos)}

    def render(self, messages, answer=True):
        """[Message, …] -> Text. answer: end where the assistant is to speak. TemplateError."""
        turns = [given({"role": m.role, "content": m.content}) for m in messages]
        return self.render_values({**self.names, "messages": turns,
                                   "add_generation_prompt": answer})

    def encode(self, tokenizer, messages, answer=True):
        """[Message, …] -> ids (T,) int32, as `encode_text` has them."""
        return encode_text(tokenizer, self.render(messages, answer))


def encode_text(tokenizer, text):
    """Text -> ids (T,) int32; special tokens are recognised in the template's own parts only.

    Between two of them all parts are one string, so that the ids are those of the whole text.
    """
    assert isinstance(text, Text)
    pattern, plain, ids = tokenizer.pattern("all"), "", []
    for part, is_own in text.parts:
        pieces = pattern.split(part) if is_own else [part]
        for i, piece in enumerate(pieces):
            if i % 2:                                   # a special token: what was before is whole
                ids += [tokenizer.encode(plain), [tokenizer.specials[piece]]]
                plain = ""
            else:
                plain += piece
    return np.concatenate([*ids, tokenizer.encode(plain)]).astype(np.int32)
