"""Day 26 · The pipelines of real tokenizers, built as transformers builds them: the same ids.

Vocabularies are tiny and come from the trainers of `tokenizers`; what stands around them (the
normalizer, the pre_tokenizer, the flags of special tokens) is that of transformers'
convert_slow_tokenizer.py and models/*/tokenization_*.py. Each is compared on 5,000 strings.
"""

import base64
import functools
import json
import unicodedata

import numpy as np
import pytest

from llm.data.text import load
from llm.tokens.engine.split import split
from llm.tokens.fast_bpe import FastBPE
from llm.tokens.files.charsmap import replaced
from llm.tokens.files.tiktoken import load_tiktoken
from llm.tokens.load import load_tokenizer
from llm.tokens.unigram import BYTES
from tests.charsmap import charsmap, nfkc_rules
from tests.oracle.strings import ALPHABET, FIXED, STRINGS, TRICKY

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers  # noqa: E402, E501

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


def test_gpt2_with_a_space_before_the_text(tmp_path):
    """As RoBERTa and GPT-2 with add_prefix_space."""
    theirs = byte_level()
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    theirs.add_special_tokens(["<s>", "</s>", AddedToken("<mask>", lstrip=True)])
    assert_same(theirs, tmp_path)


def characters(vocab_size=1500):
    """A tiny byte-fallback BPE: all bytes, and merges of characters."""
    theirs = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    theirs.normalizer = normalizers.Replace(" ", "▁")
    theirs.pre_tokenizer = pre_tokenizers.Metaspace("▁", "never")
    theirs.train_from_iterator([CORPUS], trainers.BpeTrainer(
        vocab_size=vocab_size, show_progress=False, limit_alphabet=150,
        special_tokens=["<unk>", "<s>", "</s>", *BYTES]))
    found = json.loads(theirs.to_str())
    found["added_tokens"] = found["added_tokens"][:3]      # the bytes are no special tokens
    return Tokenizer.from_str(json.dumps(found))


@pytest.mark.parametrize("kind", ["legacy", "first", "always", "gemma", "across"])
def test_llama_2_and_mistral(kind, tmp_path):
    """LlamaConverter with legacy, LlamaTokenizer, and a normalizer without a first space."""
    theirs = characters()
    space = normalizers.Replace(" ", "▁")
    theirs.normalizer = {"legacy": normalizers.Sequence([normalizers.Prepend("▁"), space]),
                         "gemma": space}.get(kind)
    theirs.pre_tokenizer = pre_tokenizers.Metaspace("▁", kind, split=False) if kind in (
        "first", "always") else None
    if kind == "across":                                   # pieces with a space inside and behind
        theirs = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        theirs.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), space])
        theirs.train_from_iterator(CORPUS[:30_000].split("\n"), trainers.BpeTrainer(
            vocab_size=1500, show_progress=False, special_tokens=["<unk>", "<s>", "</s>", *BYTES]))
        found = json.loads(theirs.to_str())
        found["added_tokens"] = found["added_tokens"][:3]
        theirs = Tokenizer.from_str(json.dumps(found))
    theirs.add_special_tokens([AddedToken("<mask>", lstrip=True), "<extra_id_0>"])
    theirs.add_tokens([AddedToken("<a", normalized=True), AddedToken("thé", single_word=True)])
    ours = assert_same(theirs, tmp_path)
    assert ours.encoder.numbers[0] == (0 if kind == "across" else 1)
    theirs.decoder = Tokenizer.from_file(str(tmp_path / "ours.json")).decoder
    for text in TEXTS:
        ids = ours.encode(text)
        if "\ufffd" not in ours.decode(ids):
            assert theirs.decode(ids.tolist(), skip_special_tokens=False) == ours.decode(ids)


O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|"
         r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")    # tiktoken, openai_public.py


def test_the_words_of_o200k(tmp_path):
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(O200K), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    theirs.train_from_iterator([CORPUS], trainers.BpeTrainer(
        vocab_size=1500, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    ours = assert_same(theirs, tmp_path)
    assert ours.rule == "o200k"
    cut = pre_tokenizers.Split(tokenizers.Regex(O200K), "isolated")
    rng = np.random.default_rng(0)
    letters = ["a", "B", "ǅ", "ʰ", "中", "\u0301", "'", "'s", "'LL", "'ſ", " ", "\n", "/", "!", "1",
               "é", "É", "Ω", "ß", "\t", "_", "\U000e0100"]
    for _ in range(5000):
        text = "".join(letters[i] for i in rng.integers(0, len(letters), rng.integers(1, 20)))
        assert split(text, "o200k") == [word for word, _ in cut.pre_tokenize_str(text)], repr(text)


def test_the_file_of_tiktoken_with_the_words_of_o200k(tmp_path):
    tiktoken = pytest.importorskip("tiktoken")
    ours = FastBPE.train(CORPUS, 2000, "o200k")
    theirs = tiktoken.Encoding("o200k", pat_str=O200K, special_tokens={},
                               mergeable_ranks={piece: i for i, piece in ours.pieces.items()})
    (tmp_path / "o.tiktoken").write_bytes(b"".join(
        base64.b64encode(piece) + b" %d\n" % i for i, piece in ours.pieces.items()))
    ours = load_tiktoken(tmp_path / "o.tiktoken", "o200k")
    for text, ids in zip(TEXTS, theirs.encode_ordinary_batch(TEXTS), strict=True):
        assert ours.encode(text).tolist() == ids, repr(text)


@functools.cache
def pieces(*specials):
    """The list of a tiny Unigram vocabulary."""
    theirs = Tokenizer(models.Unigram())
    theirs.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always")
    theirs.train_from_iterator(CORPUS[:60_000].split("\n"), trainers.UnigramTrainer(
        vocab_size=1200, special_tokens=list(specials), unk_token="<unk>", show_progress=False))
    return json.loads(theirs.to_str())["model"]["vocab"]


TABLE = normalizers.Precompiled(charsmap(nfkc_rules()))
WORDS = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", "always")]
DOUBLE = tokenizers.Regex(" {2,}")
FAMILIES = {
    "t5": (TABLE, pre_tokenizers.Sequence(WORDS), ["<pad>", "</s>", "<unk>"],
           [AddedToken("<extra_id_0>", lstrip=True, rstrip=True), "</s>", "<unk>"]),
    "t5, converted": (normalizers.Sequence([TABLE, normalizers.Strip(left=False, right=True),
                                            normalizers.Replace(DOUBLE, "▁")]), WORDS[1],
                      ["<pad>", "</s>", "<unk>"], ["<extra_id_0>", "</s>", "<unk>"]),
    "xlm-r": (TABLE, pre_tokenizers.Sequence(WORDS), ["<s>", "<pad>", "</s>", "<unk>"],
              [AddedToken("<mask>", lstrip=True), "<s>", "</s>", "<unk>"]),
    "xlnet": (normalizers.Sequence([
        normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(),
        normalizers.StripAccents(), TABLE]), pre_tokenizers.Sequence(WORDS),
        ["<unk>", "<s>", "</s>", "<cls>", "<sep>"],
        [AddedToken("<mask>", lstrip=True), "<s>", "</s>", "<unk>",
         AddedToken("thé", normalized=True)]),
    "albert": (normalizers.Sequence([
        normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(),
        normalizers.StripAccents(), normalizers.Lowercase(), TABLE,
        normalizers.Replace(DOUBLE, " ")]), pre_tokenizers.Sequence(WORDS),
        ["<pad>", "<unk>", "[CLS]", "[SEP]"], [AddedToken("<mask>", lstrip=True), "<unk>"]),
}


@pytest.mark.parametrize("lift", [0.0, 7.5])
@pytest.mark.parametrize("name", FAMILIES)
def test_families_of_unigram_models(name, lift, tmp_path):
    """As T5Converter, T5Tokenizer, XLMRobertaTokenizer, XLNetTokenizer and AlbertConverter."""
    normalizer, pre, specials, added = FAMILIES[name]
    vocab = [(piece, score + lift if score else score) for piece, score in pieces(*specials)]
    theirs = Tokenizer(models.Unigram(vocab, specials.index("<unk>")))
    theirs.normalizer, theirs.pre_tokenizer = normalizer, pre
    theirs.add_special_tokens(added)
    ours = assert_same(theirs, tmp_path, texts=STABLE)
    assert (max(score for _, score in ours.pieces) > 0) == (lift > 0)


def test_every_character_joins_or_not_as_it_does_there():
    """Glued to a letter that is replaced, a character is lost; before one, it loses that one."""
    rules = {"a": "X"} | {c: "Y" for c in ALPHABET if ord(c) < 0x700 and c > "a"}
    theirs = normalizers.Precompiled(charsmap(rules))
    single = {ord(c): value for c, value in rules.items()}
    known = list(filter(stable, ALPHABET[1:]))
    for k in range(0, len(known), 500):
        text = "".join(f"a{c}.{c}a.\r{c}." for c in known[k:k + 500])
        assert replaced(text, rules, single) == theirs.normalize_str(text)
