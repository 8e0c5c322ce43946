"""Day 26 · Unigram vocabularies in Hugging Face's tokenizer.json, read and written.

Besides the pieces, the file says how text is cut into words: Metaspace writes ▁ for a space and
cuts before each one; a regular expression of day 25, or white space, may cut first. Readers return
the arguments of Unigram. Passed over: the post_processor, which puts special tokens around a text's
ids, and the decoder, since pieces put together are the text.
Leaves out: steps of normalizers and ways to cut that are not known here; each is refused by name.
"""

import json

from llm.tokens.files.added import read_added, write_added
from llm.tokens.files.bpe import parse
from llm.tokens.files.llama import META, PREPEND
from llm.tokens.files.rules import PATTERNS, same

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
REGEX = {"gpt2": GPT2, "smollm": GPT2, **PATTERNS}
DIGITS = {"type": "Digits", "individual_digits": True}


def pre_tokenizer(rule, prepend):
    """The object that means `rule` and `prepend` in a tokenizer.json."""
    meta = {"type": "Metaspace", "replacement": META, "prepend_scheme": prepend,
            "split": rule in ("spaces", "words")}
    if rule == "words":
        return {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, meta]}
    if rule not in REGEX:
        return meta
    cut = {"type": "Split", "pattern": {"Regex": REGEX[rule]}, "behavior": "Isolated",
           "invert": False}
    before = [DIGITS, cut] if rule == "smollm" else [cut]
    return {"type": "Sequence", "pretokenizers": [*before, meta]}


def rule_of(pre):
    """(rule, prepend) that a pre_tokenizer object means. ValueError if it is none of ours."""
    pre = modern(pre)
    for prepend in PREPEND:
        for rule in ("spaces", "whole", "words", *REGEX):
            if same(pre, pre_tokenizer(rule, prepend)):
                return rule, prepend
    raise ValueError(f"the pre_tokenizer {json.dumps(pre)[:300]} is neither Metaspace alone nor "
                     "Metaspace after WhitespaceSplit or one of day 25's rules")


def modern(pre):
    """A pre_tokenizer object in which Metaspace is written as new files write it."""
    if isinstance(pre, dict) and pre.get("type") == "Metaspace":
        old = {True: "always", False: "never"}[pre.get("add_prefix_space", True)]
        return {"split": True, "prepend_scheme": old, **pre}
    if isinstance(pre, dict) and pre.get("type") == "Sequence":
        return pre | {"pretokenizers": [modern(part) for part in pre["pretokenizers"]]}
    return pre


def from_json(text):
    """The text of a tokenizer.json -> arguments of Unigram."""
    found = parse(text, "tokenizer.json")
    model = found.get("model") or {}
    vocab = model.get("vocab")
    if model.get("type", "Unigram") != "Unigram" or not isinstance(vocab, list):
        raise ValueError(f"the model is {model.get('type')!r}; only Unigram with a list of pieces "
                         "is read here")
    for part in ("truncation", "padding"):
        if found.get(part):
            raise ValueError(f"{part} {json.dumps(found[part])[:100]} is not supported")
    pieces, (specials, flags) = [(piece, score) for piece, score in vocab], read_added(found)
    for name, i in sorted(specials.items(), key=lambda item: item[1]):
        if i == len(pieces):                               # it stands behind the model's pieces
            pieces.append((name, 0.0))
    rule, prepend = rule_of(found.get("pre_tokenizer"))
    return {"pieces": pieces, "unk_id": model.get("unk_id"), "rule": rule, "prepend": prepend,
            "byte_fallback": bool(model.get("byte_fallback")), "specials": specials, "flags": flags,
            "normalizer": found.get("normalizer")}


def to_json(unigram):
    """The bytes of a tokenizer.json that Hugging Face's tokenizers reads to the same ids."""
    decoder = {"type": "Metaspace", "replacement": META, "prepend_scheme": unigram.prepend,
               "split": True}
    if unigram.byte_fallback:
        decoder = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, decoder]}
    whole = {"version": "1.0", "truncation": None, "padding": None,
             "added_tokens": write_added(unigram.specials, unigram.flags),
             "normalizer": unigram.normalizer,
             "pre_tokenizer": pre_tokenizer(unigram.rule, unigram.prepend),
             "post_processor": None, "decoder": decoder,
             "model": {"type": "Unigram", "unk_id": unigram.unk_id,
                       "vocab": [list(piece) for piece in unigram.pieces],
                       "byte_fallback": unigram.byte_fallback}}
    return json.dumps(whole, ensure_ascii=False, indent=1).encode()


