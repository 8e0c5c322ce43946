"""Day 64 · What is answered: News of a request in the JSON of OpenAI's two endpoints.

Whole, or as the pieces of a stream: each says what is new since the one before. Left out: `usage`
in details, fingerprints, and refusals.
Source: OpenAI, API reference, "The chat completion object", "… chunk object", "The completion
object".
"""

import json
import secrets
import time

FINISHED = {"length": "length", "end": "stop", "stop": "stop"}      # our reason -> theirs


class Answer:
    """One answer to an Asked: an id and a time, and then its parts."""

    def __init__(self, model, asked):
        self.model, self.asked, self.chat = model, asked, asked.chat
        self.texts, self.seen, self.listed = model.tokenizer, "", 0
        self.base = {"id": ("chatcmpl-" if self.chat else "cmpl-") + secrets.token_hex(12),
                     "created": int(time.time()), "model": model.name}

    def whole(self, news):
        """The object that answers a request without a stream."""
        choice = {"index": 0, "logprobs": self.logprobs(news.tokens),
                  "finish_reason": FINISHED[news.reason]}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": news.text, "refusal": None}
        else:
            choice["text"] = news.text
        return {**self.base, "object": "chat.completion" if self.chat else "text_completion",
                "choices": [choice], "usage": self.usage(news)}

    def usage(self, news):
        """How many tokens were read and written."""
        prompt = len(self.asked.request.prompt)
        return {"prompt_tokens": prompt, "completion_tokens": news.written,
                "total_tokens": prompt + news.written}

    def chunk(self, text="", tokens=(), reason=None, role=None):
        """One piece of a stream."""
        choice = {"index": 0, "logprobs": self.logprobs(tokens) if tokens else None,
                  "finish_reason": reason}
        if self.chat:
            choice["delta"] = {**({"role": role} if role else {}),
                               **({"content": text} if text or role or tokens else {})}
        else:
            choice["text"] = text
        return {**self.base, "choices": [choice],
                "object": "chat.completion.chunk" if self.chat else "text_completion"}

    def pieces(self, news):
        """The chunks that a message adds to the stream, perhaps none."""
        text, tokens = news.text[len(self.seen):], news.tokens[self.listed:]
        self.seen, self.listed = news.text, len(news.tokens)
        found = [self.chunk(text, tokens)] if text or tokens else []
        if news.reason:
            found.append(self.chunk(reason=FINISHED[news.reason]))
            if self.asked.usage:
                found.append({**found[-1], "choices": [], "usage": self.usage(news)})
        return found

    def logprobs(self, tokens):
        """Tokens as the endpoint lists them; None where nobody asked."""
        if self.asked.request.logprobs is None:
            return None
        if self.chat:
            return {"content": [{**self.named(t.id, t.logp),
                                 "top_logprobs": [self.named(*pair) for pair in t.top]}
                                for t in tokens], "refusal": None}
        return {"tokens": [self.name(t.id) for t in tokens],
                "token_logprobs": [finite(t.logp) for t in tokens],
                "top_logprobs": [{self.name(i): finite(p) for i, p in t.top} for t in tokens],
                "text_offset": [t.begins for t in tokens]}

    def named(self, i, logp):
        """A token of a chat's log-probabilities."""
        piece = self.piece(i)
        return {"token": piece.decode("utf-8", "replace"), "logprob": finite(logp),
                "bytes": list(piece)}

    def name(self, i):
        """The text of a token."""
        return self.piece(i).decode("utf-8", "replace")

    def piece(self, i):
        """The bytes of a token."""
        return bytes(self.texts.table[i]) if i < self.texts.vocab_size else b""


def finite(logp):
    """ln 0 is written as −9999, as OpenAI does: JSON has no −∞."""
    return max(logp, -9999.0)


def event(content):
    """One server-sent event: `data:`, JSON on one line, an empty line."""
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return f"data: {text}\n\n"
