"""Day 64 · What was asked: the JSON of OpenAI's two completion endpoints becomes a request of ours.

Whatever stands in a body is a claim from outside. Each value is checked for type and range before
anything is done with it, and what is not known or not done here is refused by name: a parameter
that is silently ignored gives answers that nobody asked for.
Left out: several answers, tools, images, `echo` and `suffix`; JSON schemas beyond `shape_of`.
Source: OpenAI, API reference, "Create completion" and "Create chat completion".
"""

import secrets
from dataclasses import dataclass
from functools import partial

from llm.generate.jinja.values import TemplateError
from llm.generate.penalties import Bias, Penalty
from llm.generate.refused import Refused, flag, number
from llm.generate.served import Served
from llm.generate.template import ROLES, Message

COMMON = {"model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "stop", "seed", "stream",
          "stream_options", "logit_bias", "frequency_penalty", "presence_penalty", "logprobs",
          "response_format", "n", "user"}
KEYS = {False: COMMON | {"prompt", "best_of", "echo", "suffix"},
        True: COMMON | {"messages", "max_completion_tokens", "top_logprobs"}}
ONLY = {"n": 1, "best_of": 1, "echo": False, "suffix": None}     # other values are not done here


@dataclass(frozen=True)
class Asked:
    """A request and how its answer is to be sent."""

    request: Served
    chat: bool
    stream: bool
    usage: bool                # whether a stream ends with the numbers of tokens
    pattern: str | None        # what the answer must match: `Formats.pattern` of formats.py


def read(body, model, context, chat, pattern_of):
    """body (parsed JSON) -> Asked. pattern_of(response_format) -> pattern or None.

    Raises Refused: 404 for another model, else 400.
    """
    if not isinstance(body, dict):
        raise Refused(400, f"the body must be a JSON object, not a {type(body).__name__}")
    for key, value in body.items():
        if key not in KEYS[chat] or (key in ONLY and value not in (None, ONLY[key])):
            raise Refused(400, f"{key} = {str(value)[:40]!r} is not known or not done here", key)
    if body.get("model") != model.name:
        raise Refused(404, f"there is no model {str(body.get('model'))[:80]!r} here, only "
                           f"{model.name!r}", "model", "model_not_found")
    prompt = messages(body, model) if chat else prompt_ids(body, model)
    room = context - len(prompt)
    key = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    n = number(body, key, 1, 1 << 30, max(room, 1) if chat else 16, True)
    if n > room:
        raise Refused(400, f"this model's context is {context} tokens; the prompt has "
                           f"{len(prompt)} and {n} are to be written. Shorten either",
                      "messages" if chat else "prompt", "context_length_exceeded")
    stream = flag(body, "stream")
    options = {"temperature": float(number(body, "temperature", 0, 2, 1.0)),
               "top_p": number(body, "top_p", 1e-6, 1, None),
               "top_k": number(body, "top_k", 1, 1 << 30, None, True),
               "min_p": number(body, "min_p", 1e-6, 1, None),
               "adjust": adjustments(body, model, len(prompt))}
    seed = number(body, "seed", -1 << 63, (1 << 64) - 1, secrets.randbits(63), True)
    request = Served(prompt, n, seed % (1 << 64), options, tuple(model.stops), stops(body),
                     logprobs=wanted_logprobs(body, chat))
    after = body.get("stream_options") or {}
    if not isinstance(after, dict) or set(after) - {"include_usage"} or after and not stream:
        raise Refused(400, "stream_options may hold include_usage, and only of a stream",
                      "stream_options")
    return Asked(request, chat, stream, flag(after, "include_usage"),
                 pattern_of(body.get("response_format")))


def prompt_ids(body, model):
    """`prompt`: a text, or a list of ids."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], (str, list)):
        prompt = prompt[0]
    if isinstance(prompt, str):
        ids = encoded(model.encode, prompt, "prompt")
    elif isinstance(prompt, list) and all(type(i) is int for i in prompt):
        ids = prompt
    else:
        raise Refused(400, "prompt must be one text or one list of ids", "prompt")
    if not ids or not all(0 <= i < model.arch.V for i in ids):
        raise Refused(400, f"the prompt has {len(ids)} ids; wanted at least one, each from 0 to "
                           f"{model.arch.V - 1}", "prompt")
    return ids


def encoded(encode, text, param):
    """ids of a text; Refused where it holds half a surrogate pair, which JSON can write."""
    try:
        return [int(i) for i in encode(text)]
    except ValueError as error:
        raise Refused(400, str(error), param) from None


def messages(body, model):
    """`messages` through the model's template -> ids."""
    if model.template is None:
        raise Refused(400, f"{model.name} was not taught to converse (its file has no chat "
                           "template); use /v1/completions", "messages")
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise Refused(400, "messages must be a list of at least one message", "messages")
    turns = [turn(i, message) for i, message in enumerate(given)]
    try:
        return encoded(partial(model.template.encode, model.tokenizer), turns, "messages")
    except TemplateError as error:
        raise Refused(400, f"the model's template refuses these messages: {error}",
                      "messages") from None


def turn(i, message):
    """One message; its content is a text or a list of parts that are texts."""
    where = f"messages.{i}"
    if not isinstance(message, dict) or set(message) - {"role", "content", "name"}:
        raise Refused(400, f"{where} must be an object with role and content", where)
    role = {"developer": "system"}.get(message.get("role"), message.get("role"))
    if role not in ROLES:
        raise Refused(400, f"{where}.role must be {', '.join(ROLES)}, not "
                           f"{str(role)[:40]!r}", where)
    content = message.get("content")
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text"
                                         and isinstance(part.get("text"), str) for part in content):
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise Refused(400, f"{where}.content must be text", where)
    return Message(role, content)


def stops(body):
    """`stop`: a text or up to four."""
    given = body.get("stop")
    given = [] if given is None else [given] if isinstance(given, str) else given
    if not isinstance(given, list) or len(given) > 4 or not all(
            isinstance(s, str) and s for s in given):
        raise Refused(400, "stop must be one text or a list of at most 4, none empty", "stop")
    return tuple(given)


def wanted_logprobs(body, chat):
    """How many likely tokens are listed with each; None: no log-probabilities."""
    if not chat:
        return number(body, "logprobs", 0, 5, None, True)
    top = number(body, "top_logprobs", 0, 20, None, True)
    if flag(body, "logprobs"):
        return top or 0
    if top is not None:
        raise Refused(400, "top_logprobs needs logprobs: true", "top_logprobs")
    return None


def adjustments(body, model, start):
    """What changes the logits before the draw: see `only_text`; penalties, biases."""
    found = [model.only_text]
    frequency, presence = (number(body, key, -2, 2, 0.0)
                           for key in ("frequency_penalty", "presence_penalty"))
    if frequency or presence:
        found.append(Penalty(frequency=frequency, presence=presence, start=start))
    given = body.get("logit_bias") or {}
    try:
        table = {int(key): number(given, key, -100, 100, 0.0) for key in given}
        if not all(0 <= i < model.tokenizer.vocab_size for i in table):
            raise ValueError
    except (TypeError, ValueError, AttributeError):
        raise Refused(400, "logit_bias must map ids of the vocabulary to numbers from -100 to 100",
                      "logit_bias") from None
    return [*found, Bias(table)] if table else found
