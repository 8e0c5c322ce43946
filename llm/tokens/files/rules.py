"""Day 25 · How a tokenizer.json says that text is cut: a rule's name <-> a pre_tokenizer object.

engine/split.py has the rules as loops over bytes; a file describes one by a regular expression. No
expression is run here: an object is compared with the objects of the rules that are known.
Leaves out: other ways to write the same expression.
"""

import json

# One alternative after another, the first that matches is a word. \p{L}: a letter of any script,
# \p{N}: a number, (?!\S): at the end or before white space. (?i:…): in either case.
ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
GPT4_PARTS = (r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
              r"\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = ENDINGS + "|" + GPT4_PARTS
BEFORE = r"[^\r\n\p{L}\p{N}]?"                   # one sign or space may stand before a word …
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"       # … and a word is capitals, then small letters;
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"             # letters without case are both
PATTERNS = {
    "llama3": LLAMA3,
    "qwen2": LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"),
    "cl100k": LLAMA3.replace(r"\s*[\r\n]+", r"\s+\z|\s*[\r\n]+"),
    "o200k": (f"{BEFORE}{UPPER}*{LOWER}+{ENDINGS}?|{BEFORE}{UPPER}+{LOWER}*{ENDINGS}?|"
              + GPT4_PARTS.partition("|")[2].replace(r"+[\r\n]*", r"+[\r\n/]*")),
}
WITH_SPACE = ("whole", "gpt2")     # rules that may put a space before a text (prepend="always")


def pre_tokenizer(rule, prepend="never"):
    """The object that means `rule` and `prepend` in a tokenizer.json."""
    level = {"type": "ByteLevel", "add_prefix_space": prepend == "always", "trim_offsets": True,
             "use_regex": rule in ("gpt2", "smollm")}
    if rule == "smollm":
        first = {"type": "Digits", "individual_digits": True}
    elif rule in PATTERNS:
        first = {"type": "Split", "pattern": {"Regex": PATTERNS[rule]}, "behavior": "Isolated",
                 "invert": False}
    else:
        return level
    return {"type": "Sequence", "pretokenizers": [first, level]}


def rule_of(found):
    """(rule, prepend) that a pre_tokenizer object means. ValueError if it is none of ours."""
    for rule in ("whole", "gpt2", "smollm", *PATTERNS):
        for prepend in ("never", "always") if rule in WITH_SPACE else ("never",):
            if same(found, pre_tokenizer(rule, prepend)):
                return rule, prepend
    raise ValueError(f"the pre_tokenizer {json.dumps(found)[:300]} is none of the rules of "
                     "split.py")


def same(found, wanted):
    """Does the object `found` cut as `wanted` does?

    It may have parts that `wanted` has not. use_regex is true where it is not given, and
    trim_offsets does not matter to ids.
    """
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(wanted, dict) and isinstance(found, dict):
        found = {"use_regex": True, **found, "trim_offsets": True}
        return all(key in found and same(found[key], wanted[key]) for key in wanted)
    return found == wanted
