"""Day 25 · What is different in Llama 2's and Mistral's tokenizer.json: characters, then bytes.

Their merges join characters, not bytes. A character that is no piece becomes the pieces of its
bytes, which are written <0xE4>. A space is written ▁. One is put before a text, by the normalizer
(Prepend) or by the pre_tokenizer (Metaspace), and nothing cuts the text into words.
Leaves out: files without all the bytes, whose unknown characters become an unknown token.
"""

META = "▁"                                     # U+2581
BYTES = {f"<0x{b:02X}>": b for b in range(256)}
PREPEND = ("always", "first", "never")


def take_bytes(vocab):
    """Take the pieces of bytes out of vocab {piece: id}: {byte: id}."""
    return {BYTES[piece]: vocab.pop(piece) for piece in list(vocab) if piece in BYTES}


def piece_of(text):
    """The bytes that a piece stands for: "▁the" -> b" the"."""
    return text.replace(META, " ").encode()


def written(piece):
    """A piece as the files write it: b" the" -> "▁the"."""
    return piece.decode().replace(" ", META)


def pre_tokenizer(prepend):
    """The object that means `prepend` in a tokenizer.json."""
    return None if prepend == "never" else {"type": "Metaspace", "replacement": META,
                                            "prepend_scheme": prepend, "split": False}


def prepend_of(pre):
    """What a pre_tokenizer object puts before a text. ValueError if it does something else."""
    for prepend in PREPEND:
        if pre == pre_tokenizer(prepend):
            return prepend
    raise ValueError(f"the pre_tokenizer {str(pre)[:300]} is not supported with byte_fallback: "
                     "only Metaspace that does not split, or none")


def decoder(strips):
    """The object that puts pieces together; strips: and takes the first space off."""
    steps = [{"type": "Replace", "pattern": {"String": META}, "content": " "},
             {"type": "ByteFallback"}, {"type": "Fuse"}]
    first = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if strips else []
    return {"type": "Sequence", "decoders": steps + first}
