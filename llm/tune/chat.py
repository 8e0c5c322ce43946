"""Day 53 · Chat examples: a conversation becomes ids, and a mask of what the assistant says.

The model is to learn to answer, not to ask. So only the tokens that the assistant writes count, in
each of its turns, and the end token that says the turn is over. Works with any tokenizer that has
the two special tokens of ChatML. Left out: tools and images in messages.
"""

from functools import cache

import numpy as np

from llm.data.tasks import turns
from llm.generate.template import ROLES, ChatTemplate, Message

START, END = "<|im_start|>", "<|im_end|>"


@cache
def chatml():
    """The plain ChatML template, which adds nothing to the messages."""
    return ChatTemplate()


def example(tokenizer, messages, template=None):
    """[Message, …] -> (ids (T + 1,) int32, mask (T + 1,) bool), one position of text each.

    The mask is True on the assistant's tokens and on the <|im_end|> that closes each of its turns;
    after the last one the example ends. template: a ChatTemplate that closes turns by <|im_end|>;
    plain ChatML if not given. Raises ValueError where the messages are out of order or one is
    empty, where the tokenizer lacks the special tokens, or the template writes no such turns.
    """
    template, end = template or chatml(), end_id(tokenizer)
    check_order(messages, "assistant")
    ids = template.encode(tokenizer, messages, answer=False)
    mask = np.zeros(len(ids), bool)
    for i, message in enumerate(messages):
        if message.role == "assistant":
            before = template.encode(tokenizer, messages[:i], answer=True)
            first = len(before)
            stops = np.flatnonzero(ids[first:] == end)
            if not np.array_equal(ids[:first], before) or not stops.size:
                raise ValueError(f"message {i}: the template or a space at the beginning of the "
                                 "answer makes other tokens before it than when it is asked for; "
                                 f"strip {message.content[:20]!r}")
            last = first + stops[0] + 1
            mask[first:last] = True
    return ids[:last], mask[:last]


def prompt_ids(tokenizer, messages, template=None):
    """[Message, …] up to a user's -> ids (T,) int32 that end where the assistant is to speak.

    Raises ValueError as `example` does.
    """
    end_id(tokenizer)
    check_order(messages, "user")
    return (template or chatml()).encode(tokenizer, messages, answer=True)


def read_back(tokenizer, ids):
    """The messages of ids in ChatML, with or without a last <|im_end|>: what was rendered.

    Raises ValueError where ids are not a row of whole turns.
    """
    start, end, messages = tokenizer.specials[START], end_id(tokenizer), []
    ids = np.asarray(ids)
    firsts = np.flatnonzero(ids == start)
    if not firsts.size or firsts[0] != 0:
        raise ValueError(f"a conversation in ChatML begins with {START}")
    for a, b in zip(firsts, [*firsts[1:], len(ids)]):
        turn, *rest = np.split(ids[a + 1:b], np.flatnonzero(ids[a + 1:b] == end))
        role, line, content = tokenizer.decode(turn).partition("\n")
        if not line or len(rest) > 1 or rest and tokenizer.decode(rest[0][1:]) not in ("", "\n"):
            raise ValueError(f"the turn at token {a} is not {START}role\\n … {END}")
        messages.append(Message(role, content))
    return messages


def conversation(task):
    """A Task of llm/data/tasks.py -> [Message, …] that solve it."""
    return [Message(*turn) for turn in turns(task)]


def end_id(tokenizer):
    """The id of <|im_end|>; ValueError for a tokenizer without ChatML's special tokens."""
    specials = getattr(tokenizer, "specials", {})
    lacking = [text for text in (START, END) if text not in specials]
    if lacking:
        raise ValueError(f"the tokenizer has no special token {' and no '.join(lacking)}, so it "
                         "cannot tell turns from text: learn it with specials=(…)")
    return specials[END]


def check_order(messages, last):
    """ValueError unless a system message or none, then user and assistant in turn, up to `last`."""
    roles = [message.role for message in messages]
    first = 1 if roles[:1] == [ROLES[0]] else 0
    for i, role in enumerate(roles[first:], first):
        if role != ("user", "assistant")[(i - first) % 2]:
            raise ValueError(f"message {i} is from {role!r}: after a system message, or none, "
                             "user and assistant take turns, and the user begins")
    if len(roles) == first or roles[-1] != last:
        raise ValueError(f"the messages end with {roles[-1] if roles else 'nothing'!r}: wanted "
                         f"{last!r} as the last")
    for i, message in enumerate(messages):
        if not message.content.strip():
            raise ValueError(f"message {i}, from {message.role!r}, is empty: there is nothing to "
                             "read or to learn; leave it out")
