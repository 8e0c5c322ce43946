"""Day 25 · Ids equal those of tiktoken and of Hugging Face tokenizers.

Strings are random and adversarial: see strings.py.
"""

import json

import numpy as np
import pytest

from llm.data.download import TextError
from llm.data.text import load
from llm.tokens.bpe import BPE
from llm.tokens.engine.split import split
from llm.tokens.fast_bpe import FastBPE
from llm.tokens.files.bpe import GPT2_ORDER, visible
from llm.tokens.files.gpt2 import load_gpt2
from tests.oracle.strings import ALPHABET, STRINGS, TRICKY

tiktoken = pytest.importorskip("tiktoken")
tokenizers = pytest.importorskip("tokenizers")

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
CL100K_PATTERN = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+|"
                  r" ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s")


@pytest.fixture(scope="module")
def gpt2():
    try:
        return load_gpt2()
    except TextError as error:
        pytest.skip(str(error))


def trained(rule, size=3000, **options):
    text = load("python").text[:400_000] + "".join(TRICKY) * 20 + "".join(STRINGS)
    return FastBPE.train(text, size, rule, **options)


def in_tiktoken(ours, pattern):
    return tiktoken.Encoding("ours", pat_str=pattern, special_tokens=ours.specials,
                             mergeable_ranks={piece: i for i, piece in ours.pieces.items()})


def in_hugging_face(ours, path):
    """Hugging Face's reading of the file that we write."""
    ours.save(path / "tokenizer.json")
    return tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))


def assert_same(ours, theirs):
    for text, ids in zip(STRINGS, theirs, strict=True):
        assert ours.encode(text).tolist() == ids, repr(text)
        assert ours.decode(ids) == text
    assert [ids.tolist() for ids in ours.encode_batch(STRINGS)] == theirs


def test_gpt2_ids_equal_tiktoken(gpt2):
    assert_same(gpt2, in_tiktoken(gpt2, GPT2_PATTERN).encode_ordinary_batch(STRINGS))


def test_gpt2_ids_equal_hugging_face(gpt2, tmp_path):
    theirs = in_hugging_face(FastBPE(gpt2.pieces, gpt2.merges), tmp_path)
    assert_same(gpt2, [e.ids for e in theirs.encode_batch(STRINGS)])


def test_hugging_face_reads_gpt2_files_to_the_same_ids(gpt2):
    names = {visible(piece): i for i, piece in gpt2.pieces.items()}
    back = list(names)
    theirs = tokenizers.ByteLevelBPETokenizer(names, [(back[a], back[b])
                                                      for a, b, _ in gpt2.merges.tolist()])
    assert_same(gpt2, [e.ids for e in theirs.encode_batch(STRINGS)])


def test_cl100k_rule_equals_tiktoken():
    ours = trained("cl100k")
    assert_same(ours, in_tiktoken(ours, CL100K_PATTERN).encode_ordinary_batch(STRINGS))


@pytest.mark.parametrize("rule", ["whole", "gpt2", "smollm", "cl100k", "llama3", "qwen2"])
def test_every_rule_equals_hugging_face(rule, tmp_path):
    ours = trained(rule)
    assert_same(ours, [e.ids for e in in_hugging_face(ours, tmp_path).encode_batch(STRINGS)])


def test_llama3_rule_equals_tiktoken_with_its_pattern():
    from llm.tokens.files.rules import LLAMA3
    ours = trained("llama3")
    assert_same(ours, in_tiktoken(ours, LLAMA3).encode_ordinary_batch(STRINGS))


@pytest.mark.parametrize("rule", ["gpt2", "smollm", "cl100k"])
def test_every_code_point_has_the_class_that_the_peer_gives_it(rule, tmp_path):
    theirs = in_hugging_face(FastBPE.from_merges([], rule), tmp_path).pre_tokenizer
    for start in range(0, len(ALPHABET), 977 if rule == "gpt2" else 7919):
        block = ALPHABET[start:start + 400]
        text = "".join(f"a{c} {c}1{c}!{c}\n" for c in block)
        spans = [text[a:b] for _, (a, b) in theirs.pre_tokenize_str(text)]
        assert split(text, rule) == spans


def test_special_tokens_equal_both_peers(gpt2, tmp_path):
    enc = in_tiktoken(gpt2, GPT2_PATTERN)
    theirs = in_hugging_face(gpt2, tmp_path)
    end = "<|endoftext|>"
    for text in (end, end * 3, f"a{end}b", f" {end} {end}\n", f"x  {end}  y", *STRINGS):
        ids = enc.encode(text, allowed_special="all")
        assert gpt2.encode(text, "all").tolist() == ids == theirs.encode(text).ids
        assert gpt2.encode(text).tolist() == enc.encode_ordinary(text)


def test_special_tokens_may_have_the_first_ids(tmp_path):
    plain = trained("smollm", 1000)
    shifted = FastBPE({i + 2: piece for i, piece in plain.pieces.items()}, plain.merges + 2,
                      "smollm", {"<|endoftext|>": 0, "<|x|>": 1})
    theirs = in_hugging_face(shifted, tmp_path)
    for text in ("<|x|>hi 12<|endoftext|>", *STRINGS[:300]):
        assert shifted.encode(text, "all").tolist() == theirs.encode(text).ids


@pytest.mark.parametrize("size, min_count", [(600, 2), (2000, 2), (4000, 1)])
def test_training_learns_the_very_merges_of_hugging_face(size, min_count):
    text = load("python").text[:300_000]
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.train_from_iterator([text], tokenizers.trainers.BpeTrainer(
        vocab_size=size, min_frequency=min_count, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    merges = json.loads(theirs.to_str())["model"]["merges"]
    ours = FastBPE.train(text, size, min_count=min_count, order=GPT2_ORDER)
    assert [[visible(ours.pieces[a]), visible(ours.pieces[b])] for a, b, _ in ours.merges] == merges


def test_the_readable_day_24_equals_tiktoken():
    ours = BPE.train("low lower lowest " * 3 + "naïve façade 中文 中文" * 2, 290)
    enc = tiktoken.Encoding("day24", pat_str=r"[\s\S]+", special_tokens={},
                            mergeable_ranks={piece: i for i, piece in enumerate(ours.pieces)})
    for text in STRINGS[1:300]:
        assert ours.encode(text[:200]).tolist() == enc.encode_ordinary(text[:200])


def pipeline(ours, tmp_path, **parts):
    """Our vocabulary with other parts, as a file that the peer reads, writes and reads again."""
    ours.save(tmp_path / "ours.json")
    found = json.loads((tmp_path / "ours.json").read_text("utf-8"))
    found["model"] |= parts.pop("model", {})
    (tmp_path / "given.json").write_text(json.dumps(found | parts), "utf-8")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "given.json"))
    theirs.save(str(tmp_path / "tokenizer.json"))
    return theirs, FastBPE.load(tmp_path / "tokenizer.json")


def test_the_pipeline_of_llama_3_gives_the_same_ids(tmp_path):
    """Whole words first: some pieces here can be made by no merge."""
    plain = trained("llama3")
    cut = FastBPE(plain.pieces, plain.merges[:-400], "llama3", {"<|begin_of_text|>": 3500},
                  whole_words=True)
    theirs, ours = pipeline(cut, tmp_path)
    assert ours.whole_words and ours.encoder.given is not None
    assert_same(ours, [e.ids for e in theirs.encode_batch(STRINGS)])
    merged = FastBPE(plain.pieces, plain.merges[:-400], "llama3")
    assert any(merged.encode(text).tolist() != ours.encode(text).tolist() for text in STRINGS)


@pytest.mark.parametrize("rule", ["qwen2", "gpt2"])
def test_the_pipelines_of_qwen_2_and_gpt_neox_give_the_same_ids(rule, tmp_path):
    """Text is composed first; GPT-NeoX has runs of spaces that are tokens of their own."""
    spaces = [{"id": 5000 + n, "content": " " * n, "normalized": True, "special": False,
               "single_word": False, "lstrip": False, "rstrip": False} for n in (24, 8, 4, 2)]
    end = spaces[0] | {"id": 4999, "content": "<|endoftext|>", "normalized": False, "special": True}
    theirs, ours = pipeline(trained(rule), tmp_path, normalizer={"type": "NFC"},
                            added_tokens=[end, *spaces] if rule == "gpt2" else [end])
    texts = [*STRINGS, "e\u0301a\u0308 A\u030a<|endoftext|>o\u0302", "x" + " " * 37 + "y\n      z"]
    for text, theirs_ids in zip(texts, [e.ids for e in theirs.encode_batch(texts)], strict=True):
        assert ours.encode(text, "all").tolist() == theirs_ids, repr(text)


def test_the_file_of_tiktoken_gives_the_same_ids(tmp_path):
    import base64

    from llm.tokens.files.tiktoken import load_tiktoken
    plain = trained("cl100k")
    order = np.random.default_rng(0).permutation(len(plain.pieces) - 256) + 256
    ranks = {piece: int(i if i < 256 else order[i - 256])       # no longer in the order of merging
             for i, piece in plain.pieces.items()}
    (tmp_path / "x.tiktoken").write_bytes(b"".join(
        base64.b64encode(piece) + b" %d\n" % rank for piece, rank in ranks.items()))
    ours = load_tiktoken(tmp_path / "x.tiktoken", "cl100k", {"<|end|>": 9000})
    theirs = tiktoken.Encoding("x", pat_str=CL100K_PATTERN, mergeable_ranks=ranks,
                               special_tokens={"<|end|>": 9000})
    assert_same(ours, theirs.encode_ordinary_batch(STRINGS))
    assert ours.encode("a<|end|>", "all").tolist() == theirs.encode("a<|end|>",
                                                                    allowed_special="all")
