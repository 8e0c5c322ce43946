"""Day 26 · Unigram ids equal those of Hugging Face tokenizers, whoever trained and whoever reads.

The strings are those of day 25's oracle, and more that are hostile to Unigram: the character ▁, the
names of bytes and of the unknown token, long runs whose segmentations tie.
"""

import json

import numpy as np
import pytest

from llm.data.text import load
from llm.tokens.unigram import BYTES, Unigram
from tests.oracle.strings import FIXED, STRINGS, TRICKY

tokenizers = pytest.importorskip("tokenizers")

META = ["▁", "▁▁", " ▁", "▁ ", "▁a", "<0x41>", "<0xE4>", "<0x41", "<unk", "unk>", "<s>"]


def hostile(n=600, seed=1):
    """Texts full of what means something inside a Unigram vocabulary."""
    rng = np.random.default_rng(seed)
    parts = META + TRICKY + ["a", "b", "ab", " "] * 5
    made = ["▁" * 50, " ▁" * 40, "▁ " * 40, "<0x41>" * 30, "ab" * 500 + "a", "aab" * 300]
    made += ["".join(parts[i] for i in rng.integers(0, len(parts), rng.integers(1, 40)))
             for _ in range(n)]
    return [text.replace("<unk>", "<unk") for text in made]


TEXTS = STRINGS + hostile()
CORPUS = load("python").text[:200_000] + "".join(TRICKY[:-3]) * 20 + "".join(FIXED)[:20_000]


def in_hugging_face(ours, path):
    """Hugging Face's reading of the file that we write."""
    ours.save(path / "tokenizer.json")
    return tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))


def in_ours(theirs, path):
    """Our reading of the file that Hugging Face writes."""
    theirs.save(str(path / "theirs.json"))
    return Unigram.load(path / "theirs.json")


def assert_same(ours, theirs, texts=TEXTS, decoded=True):
    for text, found in zip(texts, theirs.encode_batch(texts), strict=True):
        ids = ours.encode(text)
        assert ids.tolist() == found.ids, repr(text)
        if decoded and ours.prepend == "never" and ours.byte_fallback:
            assert ours.decode(ids) == text.replace("▁", " ")
    assert [ids.tolist() for ids in ours.encode_batch(texts[:500])] == [
        found.ids for found in theirs.encode_batch(texts[:500])]


def test_there_are_two_thousand_strings_and_more():
    assert len(TEXTS) > 2600 and len(set(TEXTS)) > 2500 and set(FIXED) <= set(TEXTS)


@pytest.mark.parametrize("byte_fallback", [True, False])
@pytest.mark.parametrize("rule, prepend", [
    ("spaces", "always"), ("spaces", "first"), ("spaces", "never"), ("whole", "always"),
    ("whole", "never"), ("gpt2", "never"), ("smollm", "never"), ("cl100k", "never"),
    ("llama3", "never"), ("qwen2", "never")])
def test_hugging_face_reads_our_file_to_the_same_ids(rule, prepend, byte_fallback, tmp_path):
    corpus = CORPUS if rule != "whole" else CORPUS[:60_000]
    ours = Unigram.train(corpus, 2500, byte_fallback, rule, prepend)
    assert_same(ours, in_hugging_face(ours, tmp_path))


@pytest.mark.parametrize("byte_fallback", [True, False])
@pytest.mark.parametrize("prepend, split", [("always", True), ("never", True), ("first", False)])
def test_a_vocabulary_trained_by_hugging_face_gives_the_same_ids(prepend, split, byte_fallback,
                                                                 tmp_path):
    theirs = tokenizers.Tokenizer(tokenizers.models.Unigram(byte_fallback=byte_fallback))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace("▁", prepend, split)
    theirs.decoder = tokenizers.decoders.Metaspace("▁", prepend, split)
    names = ["<unk>", "<s>", "</s>"] + BYTES * byte_fallback
    theirs.train_from_iterator(CORPUS[:60_000].split("\n"), tokenizers.trainers.UnigramTrainer(
        vocab_size=1500, special_tokens=names, unk_token="<unk>", show_progress=False))
    found = json.loads(theirs.to_str())
    found["added_tokens"] = found["added_tokens"][:3]      # the bytes are no special tokens
    found["model"]["byte_fallback"] = byte_fallback
    theirs = tokenizers.Tokenizer.from_str(json.dumps(found))
    ours = in_ours(theirs, tmp_path)
    plain = [text.replace("<s>", "<s").replace("</s>", "</s") for text in TEXTS]
    assert_same(ours, theirs, plain, decoded=False)
    for text in ("<s>a b</s>", "a <s> b", " <s></s>c", "<unk>", "x<unk> y"):
        assert ours.encode(text, "all").tolist() == theirs.encode(text).ids


@pytest.mark.parametrize("seed", range(6))
def test_ties_are_broken_as_hugging_face_breaks_them(seed, tmp_path):
    """Whole scores, few letters: nearly every text has many best segmentations."""
    rng = np.random.default_rng(seed)
    names = {"<unk>"}
    while len(names) < 60:
        names.add("".join("ab▁é"[i] for i in rng.integers(0, 4, rng.integers(1, 6))))
    pieces = [("<unk>", 0.0)] + [(name, -float(rng.integers(1, 4))) for name in sorted(
        names - {"<unk>"})]
    for split in (True, False):
        theirs = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=0))
        theirs.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace("▁", "never", split)
        ours = in_ours(theirs, tmp_path)
        texts = ["".join("abé x"[i] for i in rng.integers(0, 5, rng.integers(1, 50)))
                 for _ in range(400)]
        assert_same(ours, theirs, texts + TEXTS[:200], decoded=False)


def test_the_names_of_unknown_and_bytes_in_a_text_act_as_they_do_there(tmp_path):
    """Where they are no special tokens, Hugging Face lets a text match them; so do we."""
    pieces = [("<unk>", 0.0), ("a", -1.0), ("<", -2.0), *((name, -9.0) for name in BYTES)]
    texts = ["<unk>", "a<unk>", "<unk><unk>", "x<unk>", "<0x41>", "é<0xC3>", "<<unk>>", "x<0x41>y"]
    for byte_fallback in (True, False):
        theirs = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, 0, byte_fallback))
        theirs.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace("▁", "never")
        assert_same(in_ours(theirs, tmp_path), theirs, texts + TEXTS, decoded=False)


def test_special_tokens_equal_where_all_are_allowed(tmp_path):
    for prepend in ("always", "first", "never"):
        ours = Unigram.train(CORPUS[:50_000], 1200, prepend=prepend, specials=["<s>", "<|x|>"])
        theirs = in_hugging_face(ours, tmp_path)
        for text in (*TEXTS[:400], "<s>", "<s> <s>", "a<s>b <|x|>", " <|x|>a", "<unk> <s"):
            assert ours.encode(text, "all").tolist() == theirs.encode(text).ids, repr(text)


def test_decoding_equals_hugging_face_where_no_text_is_lost(tmp_path):
    ours = Unigram.train(CORPUS[:50_000], 1200)
    theirs = in_hugging_face(ours, tmp_path)
    for text in TEXTS[:800]:
        ids = ours.encode(text)
        assert theirs.decode(ids.tolist(), skip_special_tokens=False) == ours.decode(ids)


def test_written_scores_are_read_exactly_by_hugging_face(tmp_path):
    ours = Unigram.train(CORPUS, 4000)
    theirs = json.loads(in_hugging_face(ours, tmp_path).to_str())["model"]["vocab"]
    assert [(piece, score) for piece, score in theirs] == ours.pieces
