"""Day 52 · The tokenizer inside a GGUF file: pieces, merges, special tokens, splitting rule.

A byte-level vocabulary ("gpt2" in the file) becomes day 25's FastBPE. The file names its splitting
rule and does not describe it, so the name must be one that is known here.
Left out: SentencePiece vocabularies ("llama", "t5"), WordPiece ("bert"), and rules that look whole
words up before merging ("llama-bpe"); each is refused by name.
Source: ggml, docs/gguf.md, "Tokenizer"; llama.cpp, llama-vocab.cpp, `llama_vocab_pre_type`.
"""

from llm.tokens.fast_bpe import FastBPE
from llm.tokens.files.bpe import assemble
from llm.weights.cursor import GGUFError
from llm.weights.llama import need

RULES = {"smollm": "smollm", "starcoder": "smollm", "refact": "smollm", "command-r": "smollm",
         "codeshell": "smollm", "gpt-2": "gpt2", "phi-2": "gpt2", "qwen2": "qwen2"}
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)       # tokenizer.ggml.token_type


def tokenizer(file):
    """FastBPE from an open GGUF. GGUFError says which part is missing or not supported."""
    model, pre = (need(file, f"tokenizer.ggml.{key}", str) for key in ("model", "pre"))
    if model != "gpt2":
        raise GGUFError(f"{file.path} has a vocabulary of the kind {model!r}; only byte-level BPE "
                        "('gpt2') is read here")
    if pre not in RULES:
        raise GGUFError(f"{file.path} splits text by the rule {pre!r}; known are "
                        f"{', '.join(RULES)}")
    pieces = need(file, "tokenizer.ggml.tokens", list)
    merges = need(file, "tokenizer.ggml.merges", list)
    kinds = list(file.metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(pieces)))
    if len(kinds) != len(pieces):
        raise GGUFError(f"{file.path} has {len(pieces):,} pieces and {len(kinds):,} types of them")
    try:
        vocab = {piece: i for i, piece in enumerate(pieces) if kinds[i] == NORMAL}
        specials = {piece: i for i, piece in enumerate(pieces) if kinds[i] != NORMAL}
        if len(vocab) + len(specials) < len(pieces):
            raise ValueError("two pieces are the same")
        return FastBPE(**assemble(vocab, [m.split(" ") for m in merges], RULES[pre], specials))
    except (ValueError, AttributeError, TypeError) as error:
        raise GGUFError(f"{file.path} has a vocabulary that contradicts itself: {error}") from None


def stop_ids(file):
    """The ids that end an answer: the file's end of text and end of turn, and <|im_end|>."""
    keys = [f"tokenizer.ggml.{key}_token_id" for key in ("eos", "eot")]
    ids = {need(file, key) for key in keys if key in file.metadata}
    pieces = need(file, "tokenizer.ggml.tokens", list)
    wrong = [i for i in ids if not 0 <= i < len(pieces)]
    if wrong:
        raise GGUFError(f"{file.path} ends answers with id {wrong[0]}, but there are "
                        f"{len(pieces):,} only")
    return frozenset(ids)
