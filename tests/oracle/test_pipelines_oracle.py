"""Day 26 · The pipelines of real tokenizers, built as transformers builds them: the same ids.

Vocabularies are tiny and come from the trainers of `tokenizers`; what stands around them (the
normalizer, the pre_tokenizer, the flags of special tokens) is that of transformers'
convert_slow_tokenizer.py and models/*/tokenization_*.py. Each is compared on 5,000 strings.
"""

import unicodedata

import numpy as np
import pytest

from llm.data.text import load
from llm.tokens.load import load_tokenizer
from tests.oracle.strings import FIXED, STRINGS, TRICKY

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers  # noqa: E402

NASTY = ["<s>", "</s>", "<unk>", "<mask>", "<extra_id_0>", "wörd", "thé", "<a", "b>", "▁", " ", " ",
         " ", "  ", "\t", "\n", "\r\n", "\xa0", "\u2003", "\u3000", "\x85", "\x1f", "\x00", "\x7f",
         "a", "b", "é", "e\u0301", "\u0301", "a\u0308\u0301", "Å", "ﬁ", "Ａ", "ｂ", "ｶﾞ", "½", "①",
         "中", "한", "각", "ك", "لا", "ال\u0651", "٣", "७", "👩\u200d👧", "🇩🇪", "👍🏽", "\u200d",
         "\u200b", "\u00ad", "\ufeff", "``", "''", "ß", "İ", "Σ", "ς", "ſ", "A", "B", "the", "_",
         "1", "23", "4567", ".", ",", "!", "'s", "/", "//"]
CORPUS = load("python").text[:150_000] + "".join(TRICKY[:-3]) * 20 + "".join(FIXED)[:20_000]


def strings(n=5000, seed=2):
    """The strings of day 25's oracle, and others full of special tokens and blanks."""
    rng, made = np.random.default_rng(seed), list(STRINGS)
    while len(made) < n:
        kind = NASTY if len(made) % 3 else NASTY[:26]
        made.append("".join(kind[i] for i in rng.integers(0, len(kind), rng.integers(1, 40))))
    return made


def stable(character):
    """Is this character the same to both sides, whose tables are of different age?"""
    now, before = (data.category(character) for data in (unicodedata, unicodedata.ucd_3_2_0))
    return now == before or (before == "Cn" and now[0] in "LNSZ")


TEXTS = strings()
STABLE = ["".join(filter(stable, text)) for text in TEXTS]      # for those that fold characters


def assert_same(theirs, tmp_path, special="all", texts=TEXTS):
    """Our reading of the file that they write, and theirs of the one that we write, agree."""
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path / "tokenizer.json")
    expected = [found.ids for found in theirs.encode_batch(texts, add_special_tokens=False)]
    for text, ids in zip(texts, expected, strict=True):
        assert ours.encode(text, special).tolist() == ids, repr(text)
    assert [ids.tolist() for ids in ours.encode_batch(texts, special)] == expected
    ours.save(tmp_path / "ours.json")
    again = Tokenizer.from_file(str(tmp_path / "ours.json"))
    assert [found.ids for found in again.encode_batch(texts, add_special_tokens=False)] == expected
    return ours


def byte_level(**options):
    """A tiny GPT-2."""
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, **options)
    theirs.train_from_iterator([CORPUS], trainers.BpeTrainer(
        vocab_size=1500, show_progress=False, initial_alphabet=theirs.pre_tokenizer.alphabet()))
    return theirs


def test_there_are_five_thousand_strings():
    assert len(TEXTS) == 5000 and len(set(TEXTS)) > 4800


@pytest.mark.parametrize("normalizer", [None, tokenizers.normalizers.NFC()])
def test_the_flags_of_special_tokens(normalizer, tmp_path):
    """As RoBERTa's <mask>, T5's sentinels and others that nobody has yet."""
    theirs = byte_level()
    if normalizer:
        theirs.normalizer = normalizer
    theirs.add_special_tokens([AddedToken("<mask>", lstrip=True), AddedToken("</s>", rstrip=True),
                               AddedToken("<extra_id_0>", lstrip=True, rstrip=True), "<s>"])
    theirs.add_tokens([AddedToken("wörd", single_word=True), AddedToken("<a"), AddedToken("  "),
                       AddedToken("e\u0301", normalized=True), AddedToken("<b>", normalized=True),
                       AddedToken("thé", single_word=True, lstrip=True, rstrip=True),
                       AddedToken("\t", rstrip=True, normalized=False)])
    assert_same(theirs, tmp_path)


def test_a_mask_of_bert_may_take_blanks_along(tmp_path):
    theirs = Tokenizer(models.WordPiece(unk_token="<unk>"))
    theirs.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    theirs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    theirs.train_from_iterator([CORPUS], trainers.WordPieceTrainer(
        vocab_size=1500, show_progress=False, special_tokens=["<unk>", "<s>", "</s>"]))
    theirs.add_special_tokens([AddedToken("<mask>", lstrip=True), AddedToken("<a>b", rstrip=True),
                               AddedToken("<a", single_word=True)])
    assert_same(theirs, tmp_path, texts=STABLE)
