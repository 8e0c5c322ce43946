"""Day 25 · Fast BPE: GPT-2's published ids, the same ids as day 24, files, specials, streams."""

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time
import unicodedata
import zipfile

import numpy as np
import pytest

from days.day25.run import measure
from experiments.bpe_training import heap_moves, replayed, without_compiler
from llm.data.download import TextError
from llm.tokens.bpe import BPE, VocabularyError
from llm.tokens.engine import encoder, stream, words
from llm.tokens.engine.classes import class_table
from llm.tokens.engine.specials import CIRCLED, Finder, is_word
from llm.tokens.engine.split import AT_SPACES, RULES, split
from llm.tokens.engine.stream import encode_file, encode_stream
from llm.tokens.fast_bpe import FastBPE
from llm.tokens.files import gpt2 as gpt2_module
from llm.tokens.files.added import NFC
from llm.tokens.files.bpe import GPT2_ORDER, from_gpt2, to_json, visible
from llm.tokens.files.gpt2 import load_gpt2, write_gpt2
from llm.tokens.files.tiktoken import load_tiktoken

TEXTS = ["", "a", " ", "Hello, world", "don't  stop\n\n  now", "naïve café 中文 한글 ٣٤", "👍🏽 🇩🇪",
         "a" * 300, "ab" * 200, "'s't'll 've 're", "\r\n \t\x0b\u3000 x", "x" * 70 + "  \n"]
END = "<|endoftext|>"


def random_text(rng, n, letters="ab c'"):
    return "".join(letters[i] for i in rng.integers(0, len(letters), n))


def python_words(text, rule):
    """The rules once more, over the standard library's `re`, whose letters are unicodedata's."""
    letters = r"[^\W\d_]"
    if rule == "o200k":                     # its classes as lists of what the samples have
        upper, lower, sign = "A-ZÉ中\u0301", "a-zéſ中\u0301", r"(?:_|\u0301|[^\s\w])"
        first, tail = r"(?:_|[^\r\n\w])?", "(?i:'(?:[sdmt]|ll|ve|re))?"
        return re.findall(rf"{first}[{upper}]*[{lower}]+{tail}|{first}[{upper}]+[{lower}]*{tail}|"
                          rf"[0-9]{{1,3}}| ?{sign}+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+", text)
    if rule == "smollm":
        parts = re.split("([0-9])", text)
        return [w for part in parts for w in (
            [part] if re.fullmatch("[0-9]", part) else python_words(part, "gpt2"))]
    if rule == "gpt2":
        pattern = rf"'(?:[sdmt]|ll|ve|re)| ?{letters}+| ?[0-9]+| ?(?:_|[^\s\w])+|\s+(?!\S)|\s+"
    else:
        digits = "[0-9]" if rule == "qwen2" else "[0-9]{1,3}"
        tail = r"\s+\Z|" if rule == "cl100k" else ""
        pattern = (rf"(?i:'(?:[sdmt]|ll|ve|re))|(?:_|[^\r\n\w])?{letters}+|{digits}|"
                   rf" ?(?:_|[^\s\w])+[\r\n]*|{tail}\s*[\r\n]+|\s+(?!\S)|\s+")
    return re.findall(pattern, text)


@pytest.fixture(scope="module")
def gpt2():
    try:
        return load_gpt2()
    except TextError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def small():
    text = "low lower lowest, low-lying; it's 1999's newest. " * 5 + "\n\nnew  news 中文 中文 café"
    return FastBPE.train(text, 330, specials=(END, "<|x|>"))


def test_the_example_by_hand():
    tokenizer = FastBPE.train("low low lower newest", 256 + 3, "gpt2")
    # the words are low (1), " low" (1), " lower" (1), " newest" (1): we occurs twice, lo and ow 3x
    assert tokenizer.merges[:, :2].tolist() == [[108, 111], [256, 119], [32, 257]]
    assert tokenizer.encode("low lower").tolist() == [257, 258, 101, 114]
    assert tokenizer.encode(" lower").tolist() == [258, 101, 114]
    assert split("low low lower newest") == ["low", " low", " lower", " newest"]


def test_gpt2_says_hello(gpt2):
    assert gpt2.encode("Hello,").tolist() == [15496, 11]
    assert gpt2.encode("Hello world").tolist() == [15496, 995]
    assert gpt2.vocab_size == 50257 and gpt2.specials == {END: 50256}


@pytest.mark.parametrize("seed", range(4))
def test_without_splitting_the_merges_and_ids_are_those_of_day_24(seed):
    rng = np.random.default_rng(seed)
    text = random_text(rng, 1500) + "中文é" * seed
    slow, fast = BPE.train(text, 256 + 90), FastBPE.train(text, 256 + 90, "whole")
    assert [tuple(pair) for pair in fast.merges[:, :2].tolist()] == slow.merges
    for sample in (*TEXTS, random_text(rng, 500), "a" * 63):
        assert fast.encode(sample).tolist() == slow.encode(sample).tolist()


@pytest.mark.parametrize("rule", ["gpt2", "smollm", "cl100k"])
def test_each_word_gets_the_ids_of_day_24(rule):
    rng = np.random.default_rng(7)
    fast = FastBPE.train(random_text(rng, 3000, "abc '1\n"), 400, rule)
    slow = BPE(fast.merges[:, :2].tolist())
    for text in (*TEXTS, random_text(rng, 800, "abc '1\n")):
        expected = [i for word in split(text, rule) for i in slow.encode(word).tolist()]
        assert fast.encode(text).tolist() == expected


def test_training_inside_words_equals_counting_anew_in_every_round():
    text = random_text(np.random.default_rng(3), 2000, "aab  b'c")
    words, pairs = [list(word.encode()) for word in split(text)], []
    fast = FastBPE.train(text, 256 + 60)
    for new in range(256, 256 + len(fast.merges)):
        counts = {}
        for ids in words:
            for pair in zip(ids, ids[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        pairs.append(min(counts, key=lambda p: (-counts[p], p)))
        words = [merged(ids, pairs[-1], new) for ids in words]
    assert [tuple(pair) for pair in fast.merges[:, :2].tolist()] == pairs


def merged(ids, pair, new):
    out = []
    for i in ids:
        if out and (out[-1], i) == pair:
            out[-1] = new
        else:
            out.append(i)
    return out


@pytest.mark.parametrize("rule", ["gpt2", "smollm", "cl100k", "llama3", "qwen2", "o200k"])
@pytest.mark.parametrize("seed", range(3))
def test_words_equal_those_of_a_regular_expression(rule, seed):
    rng = np.random.default_rng(seed)
    samples = ["'s", "'S", "'LL", "'ve", "'re", "x", "é", "Q", " ", "  ", "\n", "\r", "\t", "7",
               "123", "!", "_", "'", "中", "\u3000", "\x85", "don't", "👍"]
    samples += ["A", "AB", "aB", "\u0301", "/", "ſ"] * (rule == "o200k")
    for _ in range(400):
        text = "".join(samples[i] for i in rng.integers(0, len(samples), rng.integers(1, 25)))
        assert split(text, rule) == python_words(text, rule), repr(text)


@pytest.mark.parametrize("rule", RULES)
def test_no_byte_is_lost_in_splitting(rule):
    rng = np.random.default_rng(5)
    for _ in range(50):
        codes = rng.integers(0, 0x11000, 40)
        text = "".join(chr(c) for c in codes if not 0xD800 <= c < 0xE000)
        assert "".join(split(text, rule)) == text
        assert "" not in split(text, rule)


def test_classes_are_those_of_unicodedata():
    table = class_table()
    for text, kind in (("aéЖ中ªⅰ", 1), ("5½Ⅷ٣", 2), (" \t\u3000\x85", 3), ("\n\r", 4),
                       ("!_\u0301\u200b👍\x1c", 0)):
        for c in text:
            expected = 2 if unicodedata.category(c)[0] == "N" else kind
            assert table[ord(c)] == expected, hex(ord(c))


def test_every_text_comes_back(small):
    for text in TEXTS:
        ids = small.encode(text)
        assert small.decode(ids) == text
        assert ids.dtype == np.int32 and ids.ndim == 1
    assert small.decode([0xFF]) == "\ufffd"


def test_short_texts_get_the_ids_of_long_ones_whether_their_words_are_new_or_known(small):
    rng = np.random.default_rng(9)
    for n in [*range(60), 1990, 1999, 2000, 2010]:
        text = random_text(rng, n, "low er\n7é")
        expected = small.encode_batch([text])[0].tolist()
        fresh = FastBPE(small.pieces, small.merges)
        assert fresh.encode(text).tolist() == expected          # every word is new
        assert fresh.encode(text).tolist() == expected          # and now known
        assert fresh.encode(text + " lo").tolist() == small.encode_batch([text + " lo"])[0].tolist()


def test_a_table_of_words_grows_with_short_texts_as_with_a_long_one(small):
    texts, together = [f" {n}low{n:x}" for n in range(9000)], FastBPE(small.pieces, small.merges)
    expected = [ids.tolist() for ids in together.encode_batch(texts, threads=1)]
    fresh = FastBPE(small.pieces, small.merges)
    for n, text in enumerate(texts):
        assert fresh.encode(text).tolist() == expected[n]
        if n & (n + 1) == 0 or n % 1000 == 0:
            (cache,) = fresh.encoder.caches
            assert len(cache.tokens) >= len(cache.store)          # a kernel checks no bounds
            assert len(cache.token_starts) > len(cache.hashes) >= cache.n


def test_a_batch_equals_its_texts_on_any_number_of_threads(small):
    rng = np.random.default_rng(0)
    texts = ["", *TEXTS, "", *(random_text(rng, n, "low er\n") for n in range(300)), ""]
    texts += ["lowest " * 60_000, ""]
    expected = [small.encode(text).tolist() for text in texts]
    for threads in (1, 2, 4):
        assert [ids.tolist() for ids in small.encode_batch(texts, threads=threads)] == expected
    assert small.encode_batch([]) == []


def test_a_full_cache_is_emptied_and_ids_stay(small, monkeypatch):
    monkeypatch.setattr(encoder, "MOST_WORDS", 10)
    monkeypatch.setattr(encoder, "BLOCK", 16)
    text = " ".join(str(i) for i in range(2000)) + "  lowest"            # too long for a short text
    tokenizer = FastBPE(small.pieces, small.merges)
    ids = tokenizer.encode(text)
    assert small.decode(ids) == text and tokenizer.encoder.caches[0].n < 40     # of 2,001 words
    assert ids.tolist() == [i for word in split(text) for i in small.encode(word).tolist()]


def test_two_words_with_one_hash_have_two_slots():
    table, data = words.Words(), np.frombuffer(b"abxyz", dtype=np.uint8)
    table.add(data, 0, np.array([2]))                            # "ab" is word 0
    h = words.hashed(data, 0, 2)
    state = table.slots, table.hashes, table.starts, table.store
    taken = words.slot_of(data, 0, 2, h, *state)
    assert table.slots[taken] == 1
    for first, last in ((2, 4), (2, 5), (0, 1)):                 # other words, the same hash given
        other = words.slot_of(data, first, last, h, *state)
        assert other != taken and table.slots[other] == 0
    assert table.slots[words.slot_of(data, 2, 4, h + (1 << 40), *state)] == 0


def test_the_fourth_byte_of_a_letter_decides_its_class():
    word = "a\U000102C0b"                   # a Carian letter; \U000102F0 is a number
    assert split(word, "gpt2") == [word]
    assert split("a\U000102F0b", "gpt2") == ["a", "\U000102F0", "b"]


def test_words_keep_their_numbers_when_the_table_has_grown():
    known = [f"{n:x}".encode() for n in range(40_000)]           # many share a slot
    data, table = np.frombuffer(b"".join(known), dtype=np.uint8), words.Words()
    ends = np.cumsum([*map(len, known)])
    half = len(known) // 2
    first = table.add(data, 0, ends[:half])
    slots = len(table.slots)
    table.add(data, int(ends[half - 1]), ends[half:])
    assert len(table.slots) > slots                              # entered anew
    assert table.add(data, 0, ends[:half]).tolist() == first.tolist() and table.n == len(known)


def test_the_short_cut_for_ascii_letters_stops_before_other_letters():
    for rule in ("gpt2", "smollm", "cl100k"):
        tail = ["\u0301y"] if rule == "cl100k" else ["\u0301", "y"]
        assert split("caféteria naïve abcЖ x\u0301y", rule) == [
            "caféteria", " naïve", " abcЖ", " x", *tail]


def test_a_word_of_a_million_letters_is_no_trap(small):
    assert len(small.encode("low" * 300_000)) == 300_000


def test_special_tokens_count_only_where_allowed(small):
    end, x = small.specials[END], small.specials["<|x|>"]
    text = f"low{END}{END}<|x|> low{END}"
    assert end not in small.encode(text) and small.decode(small.encode(text)) == text
    low, space_low = small.encode("low").tolist(), small.encode(" low").tolist()
    assert small.encode(text, "all").tolist() == [*low, end, end, x, *space_low, end]
    only = small.encode(text, [END]).tolist()
    assert only == [*low, end, end, *small.encode("<|x|> low").tolist(), end]
    assert small.encode(text, END).tolist() == only
    assert small.decode(small.encode(text, "all")) == text
    assert small.encode("", "all").tolist() == []
    assert [ids.tolist() for ids in small.encode_batch([text, "low", END], "all")] == [
        small.encode(text, "all").tolist(), low, [end]]


def test_the_longer_of_two_special_tokens_counts():
    tokenizer = FastBPE.from_merges([], "gpt2", ["<a>", "<a><b>"])
    assert tokenizer.encode("<a><b><a>", "all").tolist() == [257, 256]


@pytest.mark.parametrize("rule", ["gpt2", "smollm", "cl100k", "llama3", "o200k"])
def test_a_stream_in_pieces_of_any_size_gives_the_same_ids(rule):
    rng = np.random.default_rng(1)
    samples = ["low", "'s", "'", "re", " ", "  ", "\n", "\r\n", "12", "345", "!", "é", "中文",
               "AB", "C", "\u0301", "/", END, "<|x|>", "<|end", "of", "text|>"]
    tokenizer = FastBPE.from_merges(           # merges that betray where a word was cut
        [(32, 32), (10, 32), (32, 10), (10, 10), (13, 10), (39, 115), (39, 114), (49, 50),
         (108, 111), (32, 108), (33, 10), (256, 256)], rule, [END, "<|x|>"])
    for special in ((), "all"):
        for _ in range(120):
            text = "".join(samples[i] for i in rng.integers(0, len(samples), 60))
            size = int(rng.integers(1, 40))
            chunks = [text[i:i + size] for i in range(0, len(text), size)]
            parts = list(encode_stream(tokenizer, chunks, special))
            assert np.concatenate(parts).tolist() == tokenizer.encode(text, special).tolist()


def test_a_stream_without_a_safe_cut_is_looked_at_ever_more_rarely(small, monkeypatch):
    looked = []
    monkeypatch.setattr(stream, "safe_cut", lambda text, *_: looked.append(len(text)) or 0)
    assert len(list(encode_stream(small, ["\n"] * 5000))) == 1
    assert looked == [2 ** i for i in range(13)]             # 1, 2, 4 … of 5,000 characters


def test_a_file_is_read_in_blocks(small, tmp_path):
    path = tmp_path / "text.txt"
    text = "low lower\r\nlowest 中文\n" * 400
    path.write_bytes(text.encode())
    parts = list(encode_file(small, path, block=1000))
    assert len(parts) > 5 and np.concatenate(parts).tolist() == small.encode(text).tolist()
    path.write_bytes(b"abc \xff\xfe")
    with pytest.raises(VocabularyError, match="not UTF-8"):
        list(encode_file(small, path))


def test_training_takes_texts_one_at_a_time():
    texts = ["low lower ", "lowest low", "new newest"]
    parts = FastBPE.train(iter(texts), 270)
    assert len(parts.merges) > 3 and parts.vocab_size <= 270
    assert FastBPE.train(iter([]), 300).vocab_size == 256
    assert len(FastBPE.train(iter(["a", "b"] * 20), 300).merges) == 0    # a|b is never a word
    assert len(FastBPE.train("ab" * 20, 300).merges) > 0


def test_no_piece_is_learned_twice():
    text = random_text(np.random.default_rng(3), 6000, "ab")
    tokenizer = FastBPE.train(text, 700, "whole")
    assert tokenizer.merges[:, :2].tolist() == [list(p) for p in BPE.train(text, 700).merges]
    assert len(set(tokenizer.pieces.values())) == tokenizer.vocab_size


@pytest.mark.parametrize("rule", RULES)
def test_tokenizer_json_is_read_back(rule, tmp_path):
    tokenizer = FastBPE.train("low lower lowest é 中文 " * 3, 280, rule, [END], order=GPT2_ORDER)
    tokenizer.save(tmp_path / "tokenizer.json")
    again = FastBPE.load(tmp_path / "tokenizer.json")
    assert (again.pieces, again.rule, again.specials) == (
        tokenizer.pieces, rule, {END: tokenizer.vocab_size - 1})
    assert again.merges.tolist() == tokenizer.merges.tolist()
    assert to_json(again.pieces, again.merges, again.rule, again.specials) == (
        tmp_path / "tokenizer.json").read_bytes()


def test_special_tokens_stand_in_the_vocabulary_of_the_file(small):
    vocab = json.loads(to_json(small.pieces, small.merges, "gpt2", {END: 500}))["model"]["vocab"]
    assert vocab[END] == 500 and vocab["Ġlow"] == small.encode(" low")[0]
    with pytest.raises(ValueError, match="written like an ordinary piece"):
        to_json(small.pieces, small.merges, "gpt2", {"Ġlow": 500})


def test_gpt2_files_are_read_back(small, tmp_path):
    tokenizer = FastBPE(small.pieces, small.merges, "gpt2", {END: small.specials[END]})
    write_gpt2(tokenizer, tmp_path)
    again = FastBPE.load(tmp_path)
    assert again.pieces == tokenizer.pieces and again.specials == tokenizer.specials
    assert again.merges.tolist() == tokenizer.merges.tolist()


def test_bytes_are_written_as_gpt2_wrote_them():
    assert visible(b" the\n") == "ĠtheĊ" and visible(bytes([0, 0x7F, 0xAD])) == "Āġ\u0143"
    assert GPT2_ORDER[:3] == [33, 34, 35] and sorted(GPT2_ORDER) == list(range(256))


def test_a_vocabulary_may_lack_bytes_but_says_so():
    pieces = {i: bytes([i]) for i in range(128)}
    tokenizer = FastBPE(pieces, [])
    assert tokenizer.encode("plain").tolist() == list(b"plain")
    with pytest.raises(ValueError, match="no id for byte 0xc3"):
        tokenizer.encode("café")
    with pytest.raises(ValueError, match="smaller than the base alphabet"):
        FastBPE({i: bytes([i]) for i in range(100)}, [])


@pytest.mark.parametrize("name, damage, message", [
    ("merges.txt", lambda t: t[:len(t) // 2], "names the piece|no merge makes|cut short"),
    ("merges.txt", lambda t: t.rsplit("\n", 3)[0] + "\n", "no merge makes"),
    ("merges.txt", lambda t: t + "q zz\n", "names the piece 'zz'|names the piece 'qzz'"),
    ("merges.txt", lambda t: t + "a b c\n", "not two pieces"),
    ("vocab.json", lambda t: t[:-20], "cut short"),
    ("vocab.json", lambda t: "[1, 2]", "holds a list"),
    ("vocab.json", lambda t: t.replace(": 70,", ": 71,"), "share an id"),
    ("vocab.json", lambda t: t.replace(": 70,", ": -7,"), "for an id"),
    ("vocab.json", lambda t: t.replace(": 70,", ": 2000000000,"), "2000000000"),
    ("vocab.json", lambda t: t.replace('"lo"', '"l€"'), "names the piece 'lo'"),
    ("vocab.json", lambda t: t[:-1] + ', "€": 400}', "stands for no byte"),
])
def test_damaged_gpt2_files_are_refused(tmp_path, small, name, damage, message):
    write_gpt2(FastBPE(small.pieces, small.merges), tmp_path)
    path = tmp_path / name
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(VocabularyError, match=message):
        FastBPE.load(tmp_path)


@pytest.mark.parametrize("change, message", [
    ({"model": None}, "only BPE"), ({"model": {"type": "Unigram", "vocab": []}}, "Unigram"),
    ({"normalizer": {"type": "Nmt"}}, "normalizer {'type': 'Nmt'} is not supported"),
    ({"truncation": {"max_length": 8}}, "truncation"), ({"padding": {"length": 8}}, "padding"),
    ({"added_tokens": [{"id": 10**12, "content": "x"}]}, "an id is 1000000000000"),
    ({"added_tokens": [{"id": 10**7, "content": "x"}]}, "10000000"),
    ({"pre_tokenizer": None}, "pre_tokenizer"),
    ({"added_tokens": [{"id": 97, "content": "x"}]}, "special token 'x' needs"),
    ({"added_tokens": [{"id": 1}]}, "content"), ({"added_tokens": 7}, "cannot read"),
])
def test_unsupported_tokenizer_json_is_refused(tmp_path, small, change, message):
    path = tmp_path / "tokenizer.json"
    found = json.loads(to_json(small.pieces, small.merges, "gpt2", {}))
    path.write_text(json.dumps(found | change), encoding="utf-8")
    with pytest.raises(VocabularyError, match=message):
        FastBPE.load(path)


def test_gpt2_files_are_not_written_where_they_would_be_read_as_something_else(small, tmp_path):
    for rule in ("whole", "cl100k"):
        with pytest.raises(ValueError, match=f"not '{rule}'; use save"):
            write_gpt2(FastBPE(small.pieces, small.merges, rule), tmp_path)
    for name in ("lo", "<|a|>"):
        with pytest.raises(ValueError, match=f"'{re.escape(name)}' is special"):
            write_gpt2(FastBPE(small.pieces, small.merges, "gpt2", {name: 999, END: 998}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_id_may_be_far_from_the_others_where_no_file_says_so(small):
    tokenizer = FastBPE(small.pieces, small.merges, "gpt2", {"<s>": 5000})
    assert tokenizer.encode("<s>", "all").tolist() == [5000]
    for i in (1 << 24, 10**12):                     # a table with a row for each would not fit
        with pytest.raises(ValueError, match=f"an id is {i}, and a model has a row"):
            FastBPE(small.pieces, small.merges, "gpt2", {"<s>": i})
        with pytest.raises(ValueError, match=f"an id is {i}"):
            FastBPE(small.pieces | {i: b"zq"}, [*small.merges.tolist(), (122, 113, i)])


def test_a_word_that_is_a_piece_is_that_piece_whatever_merges_would_make(small, tmp_path):
    pieces = small.pieces | {900: b" zq", 901: b"xyz"}          # no merge makes these
    merges = small.merges
    plain, whole = (FastBPE(pieces, merges, "gpt2", whole_words=w) for w in (False, True))
    for text, ids in (("low zq xyz", [900]), ("xyz", [901]),
                      ("xyz" + " low" * 900 + " zq", [901, 900])):
        assert [i for i in whole.encode(text).tolist() if i >= 900] == ids    # short and long texts
        assert not set(plain.encode(text).tolist()) & {900, 901}
        assert whole.decode(whole.encode(text)) == text
    assert whole.encode("xyzlow").tolist() == plain.encode("xyzlow").tolist()     # no whole word
    assert [i.tolist() for i in whole.encode_batch(["xyz", " zq"] * 3)] == [[901], [900]] * 3
    for cache in whole.encoder.caches:
        cache.clear()                                          # a full cache is emptied
    assert whole.encode("xyz zq").tolist() == [901, 900]
    whole.save(tmp_path / "tokenizer.json")
    again = FastBPE.load(tmp_path / "tokenizer.json")
    assert again.whole_words and again.encode("xyz zq").tolist() == [901, 900]
    with pytest.raises(VocabularyError, match="no merge makes 2 of the pieces"):
        plain.save(tmp_path / "plain.json")
        FastBPE.load(tmp_path / "plain.json")
    assert FastBPE(small.pieces, merges, "gpt2", whole_words=True).encoder.given is None


def test_accents_are_composed_where_that_is_asked_for(small, tmp_path):
    loose, tight = "cafe\u0301 now", "café now"
    tokenizer = FastBPE(small.pieces, small.merges, "gpt2", {"<|x|>": 999}, normalizer=NFC)
    assert tokenizer.encode(loose).tolist() == small.encode(tight).tolist()
    assert tokenizer.encode_batch([loose, tight])[0].tolist() == small.encode(tight).tolist()
    assert tokenizer.encode(f"<|x|>{loose}", "all").tolist() == [999, *small.encode(tight).tolist()]
    assert small.encode(loose).tolist() != small.encode(tight).tolist()
    assert tokenizer.decode(tokenizer.encode(loose)) == tight
    tokenizer.save(tmp_path / "tokenizer.json")
    assert FastBPE.load(tmp_path / "tokenizer.json").encode(loose).tolist() == tokenizer.encode(
        tight).tolist()
    with pytest.raises(ValueError, match="cannot be cut before it is normalised"):
        next(encode_stream(tokenizer, [loose]))


def test_a_file_of_tiktoken_by_hand_and_what_is_wrong_with_one(tmp_path):
    pieces = [bytes([b]) for b in range(256)] + [b"ab", b"bc", b"abc", b" abc"]
    path = tmp_path / "x.tiktoken"
    lines = [f"{base64.b64encode(piece).decode()} {rank}" for rank, piece in enumerate(pieces)]
    path.write_text("\n".join(lines) + "\n")
    tokenizer = load_tiktoken(path, "gpt2", {"<end>": 300})
    assert tokenizer.encode("abc abc bcab").tolist() == [258, 259, 32, 257, 256]
    assert tokenizer.encode("abcd").tolist() == [258, 100]      # ab, then ab + c: two ways to abc
    assert tokenizer.encode("<end>", "all").tolist() == [300]
    for text, message in (("YQ== 0\nYg== x", "line 2"), ("YQ== 0\n???? 1", "line 2 of"),
                          ("YQ==", "line 1"), ("YQ== 0\nYg== 0", "one rank to two pieces"),
                          ("YQ== 0", "base alphabet")):
        path.write_text(text)
        with pytest.raises(VocabularyError, match=message):
            load_tiktoken(path)
    with pytest.raises(VocabularyError, match="there is no file"):
        load_tiktoken(tmp_path / "none.tiktoken")
    with pytest.raises(VocabularyError, match="no splitting rule 'o300k'"):
        path.write_text("\n".join(lines) + "\n")
        load_tiktoken(path, "o300k")


def test_merges_without_a_version_line_keep_their_first_merge(small, tmp_path):
    write_gpt2(FastBPE(small.pieces, small.merges), tmp_path)
    path = tmp_path / "merges.txt"
    path.write_text(path.read_text("utf-8").split("\n", 1)[1], "utf-8")
    assert FastBPE.load(tmp_path).merges.tolist() == small.merges.tolist()


def test_two_ids_of_the_same_bytes_and_dropout_are_refused(small, tmp_path):
    with pytest.raises(ValueError, match="two ids of the vocabulary stand for the same bytes"):
        FastBPE(small.pieces | {900: b"lo"}, small.merges)
    found = json.loads(to_json(small.pieces, small.merges, "gpt2", {}))
    for part, value in (("dropout", 0.1), ("end_of_word_suffix", "</w>")):
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(found | {"model": found["model"] | {part: value}}), "utf-8")
        with pytest.raises(VocabularyError, match=f"{part} .* is not supported"):
            FastBPE.load(path)


def test_a_stream_waits_where_a_special_token_may_go_on(small):
    tokenizer = FastBPE(small.pieces, small.merges, "gpt2", {"<a>": 900, "<a>b": 901})
    text = "low lower lowest low <a>b low"
    for cut in range(len(text)):
        found = np.concatenate(list(encode_stream(tokenizer, [text[:cut], text[cut:]], "all")))
        assert found.tolist() == tokenizer.encode(text, "all").tolist()


def test_missing_files_are_named(tmp_path):
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        with pytest.raises(VocabularyError, match=re.escape(str(path))):
            FastBPE.load(path)
    with pytest.raises(ValueError, match="cut short"):
        from_gpt2("{", "")


def test_bad_input_is_refused_with_the_cure(small):
    for text in (b"bytes", 7, None, ["low"]):
        with pytest.raises(ValueError, match="encodes str"):
            small.encode(text)
    with pytest.raises(ValueError, match="lone surrogate"):
        small.encode("a\udfff")
    with pytest.raises(ValueError, match="lone surrogate"):
        small.encode_batch(["a", "\ud800"], "all")
    with pytest.raises(ValueError, match="list of str"):
        small.encode_batch("low")
    with pytest.raises(ValueError, match=r"unknown special token '<\|y\|>'.*<\|x\|>"):
        small.encode("low", ["<|y|>"])
    with pytest.raises(ValueError, match="unknown special token"):
        small.encode("low", "<|y|>")
    with pytest.raises(ValueError, match="no splitting rule 'gpt5'"):
        FastBPE.train("low", 300, "gpt5")
    with pytest.raises(ValueError, match="encodes str"):
        FastBPE.train(b"low", 300)
    for size in (255, 256):
        with pytest.raises(ValueError, match="smaller than the base alphabet"):
            FastBPE.train("low", size, specials=[END])
    for ids, message in (([9999], "id 9999"), ([-1], "id -1"), ([[1]], "shape"), ([.5], "float")):
        with pytest.raises(ValueError, match=message):
            small.decode(ids)
    for merges, message in (([(97, 98, 99)], "merge number 0"), ([(97, 500, 600)], "number 0")):
        with pytest.raises(ValueError, match=message):
            FastBPE(small.pieces, merges)
    with pytest.raises(ValueError, match="special token"):
        FastBPE(small.pieces, small.merges, specials={END: 97})
    with pytest.raises(ValueError, match="two ids of the vocabulary stand for the same bytes"):
        FastBPE(small.pieces | {1000: b"low"}, small.merges)


def test_gpt2_is_fetched_once(tmp_path, monkeypatch, small):
    write_gpt2(FastBPE(small.pieces, small.merges), tmp_path)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, inside in gpt2_module.FILES.items():
            file.write(tmp_path / name, inside)
    calls = []
    monkeypatch.setattr(gpt2_module, "SHA256", {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in gpt2_module.FILES})
    monkeypatch.setenv("LLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gpt2_module, "fetch", lambda *a, **k: calls.append(a) or archive.getvalue())
    assert [len(load_gpt2().pieces) for _ in range(3)] == [len(small.pieces)] * 3
    assert len(calls) == 1
    for name, damage in (("merges.txt", lambda text: text[:-9]), ("vocab.json", lambda text: "{"),
                         ("merges.txt", lambda text: text + "\n")):       # the pair stays readable
        path = tmp_path / "cache" / "gpt2" / name
        path.write_text(damage(path.read_text("utf-8")), "utf-8")
        before = len(calls)
        assert len(load_gpt2().pieces) == len(small.pieces) and len(calls) == before + 1
        assert path.read_bytes() == (tmp_path / name).read_bytes()
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("LLM_CACHE", str(tmp_path / "file"))
    with pytest.raises(TextError, match="Set LLM_CACHE to a folder of your own"):
        load_gpt2()


def test_importing_compiles_nothing():
    code = ("import llm.tokens.fast_bpe as f, llm.tokens.engine.merges as m, sys; "
            "sys.exit(len(m.learn.signatures) + len(m.apply.signatures))")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_cold_training_compiles_each_helper_once(tmp_path):
    """Numba compiles anew for each int of Python that is passed on, and for each width."""
    code = ("import llm.tokens.fast_bpe as f\n"
            "from llm.tokens.engine import cased, classes, heap, merges, split, words\n"
            "f.FastBPE.train('low lower lowest ' * 9, 260)\n"
            "for room in (cased, classes, heap, merges, split, words):\n"
            "    for name, helper in vars(room).items():\n"
            "        if len(getattr(helper, 'signatures', ())) > 1 and name != 'packed':\n"
            "            print(name, helper.signatures)\n")            # packed is one line
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)})
    assert done.stdout == ""


def test_fast_and_readable_agree_and_the_cache_has_few_words():
    result = measure(fast=True, seed=0)
    assert result.same_ids and result.same_merges and result.round_trip
    assert result.distinct_words < result.words / 3
    places = [row[3] for row in result.trained]                # the note's bound S on all merging
    assert 0 < places[0] < places[1] < result.distinct_bytes < result.size / 3
    assert result.anew > 0


MARKS = {"<mask>": ("lstrip",), "<x>": ("rstrip",), "lów": ("single_word",), "<a": (),
         "e\u0301": ("normalized",)}


def test_special_tokens_take_the_white_space_along_that_their_flags_say(small, tmp_path):
    ids = {name: 500 + i for i, name in enumerate(MARKS)}
    tokenizer = FastBPE(small.pieces, small.merges, "gpt2", ids, flags=MARKS, normalizer=NFC)
    for text, parts in (("<mask>", ["", "<mask>", ""]),
                        ("new \t<mask> it", ["new", "<mask>", " it"]),
                        ("a<x> \n\u3000b", ["a", "<x>", "b"]),
                        ("<x>  <mask>", ["", "<x>", "", "<mask>", ""]),
                        ("lów, lówer _lów lów\u0327 \u24d0lów lów",
                         ["", "lów", ", lówer _lów lów\u0327 \u24d0lów ", "lów", ""]),
                        ("a\x1f<mask>\x1f", ["a\x1f", "<mask>", "\x1f"]),
                        ("é", ["", "e\u0301", ""]),
                        ("caf\u00e9 cafe\u0301", ["caf", "e\u0301", " caf", "e\u0301", ""])):
        assert tokenizer.cut(text, "all") == parts
        plain = [small.encode(part).tolist() for part in parts[::2]]
        wanted = [i for k, part in enumerate(parts) for i in (
            [ids[part]] if k % 2 else plain[k // 2])]
        assert tokenizer.encode(text, "all").tolist() == wanted
    assert tokenizer.cut(" <mask>  lów", ["lów"]) == [" <mask>  ", "lów", ""]     # only the named
    tokenizer.save(tmp_path / "tokenizer.json")
    again = FastBPE.load(tmp_path / "tokenizer.json")
    assert again.flags == {name: flags for name, flags in MARKS.items() if flags}
    assert again.normalizer == NFC and again.specials == ids
    with pytest.raises(ValueError, match="flags of special tokens"):
        write_gpt2(FastBPE(small.pieces, small.merges, specials={END: 500},
                           flags={END: ("lstrip",)}), tmp_path)


def test_a_stream_is_refused_where_a_special_token_takes_white_space_along(small):
    tokenizer = FastBPE(small.pieces, small.merges, "gpt2", {"<m>": 500, "<n>": 501},
                        flags={"<m>": ("lstrip",)})
    assert np.concatenate(list(encode_stream(tokenizer, ["low <m>"]))).tolist() == small.encode(
        "low <m>").tolist()
    assert next(encode_stream(tokenizer, ["<n>"], ["<n>"])).tolist() == [501]
    with pytest.raises(ValueError, match="flags such as lstrip"):
        next(encode_stream(tokenizer, ["low"], "all"))


@pytest.mark.parametrize("form, loose, same", [
    ("NFC", "e\u0301 ﬁ", "é ﬁ"), ("NFD", "é ﬁ", "e\u0301 ﬁ"),
    ("NFKC", "e\u0301 ﬁ ½ Ａ", "é fi 1⁄2 A"), ("NFKD", "é ﬁ", "e\u0301 fi")])
def test_each_form_of_unicode_may_be_asked_for(small, tmp_path, form, loose, same):
    """Claude's tokenizer.json asks for NFKC."""
    tokenizer = FastBPE(small.pieces, small.merges, "gpt2", normalizer={"type": form})
    assert tokenizer.encode(loose).tolist() == small.encode(same).tolist()
    assert tokenizer.encode(loose).tolist() != small.encode(loose).tolist()
    tokenizer.save(tmp_path / "tokenizer.json")
    assert FastBPE.load(tmp_path / "tokenizer.json").decode(tokenizer.encode(loose)) == same


def test_tokens_with_white_space_in_a_row_take_time_in_proportion():
    finder = Finder([" ", "<x>"], {" ": ("lstrip", "rstrip"), "<x>": ("lstrip",)})
    start = time.process_time()
    parts = finder.split(" " * 200_000 + "a" + " " * 200_000 + "<x>")
    assert parts.count(" ") > 1000 and time.process_time() - start < 5


def test_a_normalizer_whose_steps_blow_a_text_up_is_refused(small, tmp_path):
    grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    for steps, message in (([grow] * 40, "times as long"), ([NFC] * 70, "times as long"),
                           ([{"type": "Prepend", "prepend": "x" * 2000}], "times as long"),
                           ([{"type": "Replace", "pattern": {"Regex": "a"}, "content": "b"}],
                            "only a pattern that is a String"), ([7], "cannot read"),
                           ([{"type": "Lowercase"}], "Lowercase.*not supported")):
        found = json.loads(to_json(small.pieces, small.merges, "gpt2", {}))
        found["normalizer"] = {"type": "Sequence", "normalizers": steps}
        (tmp_path / "tokenizer.json").write_text(json.dumps(found), "utf-8")
        with pytest.raises(VocabularyError, match=message):
            FastBPE.load(tmp_path / "tokenizer.json")


def test_the_rule_of_o200k_begins_a_word_at_a_capital_behind_a_small_letter():
    for text, cut in (("camelCase HTTPServer", ["camel", "Case", " HTTPServer"]),
                        ("AB'S it'LL", ["AB'S", " it'LL"]), ("中AAA", ["中", "AAA"]),
                        ("中AAAx", ["中AAAx"]), ("A中B中CC d", ["A中B中", "CC", " d"]),
                        ("\u0301A", ["\u0301", "A"]),
                        ("!\u0301a!!\u0301a", ["!\u0301a", "!!\u0301", "a"]),
                        ("1234x/\n/y", ["123", "4", "x", "/\n/", "y"]),
                        ("'sab 'S", ["'sab", " '", "S"])):
        assert split(text, "o200k") == cut
    assert len(split("中" + "A" * 300_000, "o200k")) == 2


LLAMA = {"▁": 3, "a": 4, "b": 5, "é": 6, "中": 7, "▁a": 8, "ab": 9, "▁ab": 10, "▁▁": 11}


@pytest.fixture(scope="module")
def llama():
    """Pieces of characters; bytes are 20 to 275."""
    ascii_ = {chr(c): 300 + c for c in range(0x21, 0x7F) if chr(c) not in LLAMA}
    pieces = {i: text.replace("▁", " ").encode() for text, i in (LLAMA | ascii_).items()}
    return FastBPE(pieces, [(3, 4, 8), (4, 5, 9), (8, 5, 10), (3, 3, 11)], "whole", {"<s>": 1},
                   prepend="always", fallback={b: 20 + b for b in range(256)})


def test_a_character_that_is_no_piece_becomes_its_bytes(llama):
    assert llama.encode("ab").tolist() == [10]
    assert llama.encode(" ab").tolist() == [10]                     # the space is there already
    assert llama.encode("  ab▁a").tolist() == [3, 10, 8]            # the lower rank first
    assert llama.encode("é中ü\n").tolist() == [3, 6, 7, 20 + 0xC3, 20 + 0xBC, 30]
    assert llama.encode("a<s>b", "all").tolist() == [8, 1, 3, 5]
    assert llama.encode("").tolist() == [] and llama.encode("<s>", "all").tolist() == [1]
    for text in TEXTS:
        if text[:1] != " ":
            assert llama.decode(llama.encode(text)) == text
    assert llama.decode([10]) == "ab" and llama.decode([1, 10]) == "<s> ab"
    assert [ids.tolist() for ids in llama.encode_batch(TEXTS)] == [
        llama.encode(text).tolist() for text in TEXTS]


def test_a_text_is_cut_at_spaces_only_where_no_piece_has_one_behind_another_character(llama):
    assert llama.encoder.numbers == AT_SPACES
    rng = np.random.default_rng(0)
    across = FastBPE(llama.pieces | {12: b"b "}, [*llama.merges.tolist(), (5, 3, 12)], "whole",
                     prepend="first", fallback=llama.fallback)
    assert across.encoder.numbers == RULES["whole"]
    assert across.encode("b b").tolist() == [3, 12, 5]
    whole = FastBPE(llama.pieces, llama.merges, "whole", prepend="always", fallback=llama.fallback)
    whole.encoder.numbers = RULES["whole"]
    for _ in range(100):
        text = random_text(rng, 60, "  abé\n")
        assert whole.encode(text).tolist() == llama.encode(text).tolist()
    assert len(llama.encode("ab" * 300_000)) == 300_000


def test_files_of_llama_2_are_read_back_and_what_is_wrong_with_one_is_said(llama, tmp_path):
    path = tmp_path / "tokenizer.json"
    spaces = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    for prepend, normalizer in (("always", None), ("first", None), ("never", spaces)):
        saved = FastBPE(llama.pieces, llama.merges, "whole", {"<s>": 1}, normalizer=normalizer,
                        prepend=prepend, fallback=llama.fallback)
        saved.save(path)
        again = FastBPE.load(path)
        assert (again.pieces, again.fallback, again.prepend) == (
            saved.pieces, saved.fallback, prepend)
        for text in ("ab", " ab", "a<s>ab", "<s> b"):
            assert again.encode(text, "all").tolist() == saved.encode(text, "all").tolist()
        assert again.decode(again.encode("ab")) == "ab"
    assert again.encode(" ab").tolist() == [3, 10]                  # Prepend does not look
    assert FastBPE(llama.pieces, llama.merges, "whole", fallback=llama.fallback).decode(
        [10]) == " ab"
    found = json.loads(path.read_text("utf-8"))
    model = found["model"]
    less = {piece: i for piece, i in model["vocab"].items() if piece != "<0xE4>"}
    for change, message in (
            ({"model": model | {"ignore_merges": True}}, "ignore_merges and byte_fallback"),
            ({"model": model | {"vocab": less}}, "1 bytes have no piece, such as <0xE4>"),
            ({"model": model | {"vocab": model["vocab"] | {"<0xE4>": 21}}}, "of their own"),
            ({"model": model | {"vocab": model["vocab"] | {" ": 999}}}, "same bytes"),
            ({"model": model | {"merges": model["merges"][:-1]}}, "no merge makes 1 of the pieces"),
            ({"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "split": True,
                                "prepend_scheme": "first"}}, "Metaspace that does not split")):
        path.write_text(json.dumps(found | change), "utf-8")
        with pytest.raises(VocabularyError, match=message):
            FastBPE.load(path)
    for options in ({"rule": "gpt2"}, {"whole_words": True}, {"prepend": "last"},
                    {"prepend": "first", "fallback": None}):
        with pytest.raises(ValueError, match="do not go together"):
            FastBPE(llama.pieces, llama.merges, **{"rule": "whole", "fallback": llama.fallback,
                                                   **options})
    with pytest.raises(ValueError, match="pieces of characters"):
        write_gpt2(llama, tmp_path)
    with pytest.raises(ValueError, match="cannot be cut before"):
        next(encode_stream(llama, ["a"]))


def test_gpt2_may_put_a_space_before_a_text(small, tmp_path):
    tokenizer = FastBPE(small.pieces, small.merges, "gpt2", {"<s>": 500}, prepend="always")
    low = small.encode(" low").tolist()
    assert tokenizer.encode("low").tolist() == tokenizer.encode(" low").tolist() == low
    assert tokenizer.encode("low<s>low", "all").tolist() == [*low, 500, *low]
    assert tokenizer.encode("\nlow").tolist() == small.encode(" \nlow").tolist()
    assert tokenizer.decode(low) == " low" and tokenizer.encode("").tolist() == []
    tokenizer.save(tmp_path / "tokenizer.json")
    assert FastBPE.load(tmp_path / "tokenizer.json").prepend == "always"


@pytest.mark.parametrize("rule", ["gpt2", "whole"])
def test_training_does_not_learn_from_special_tokens(rule):
    rng = np.random.default_rng(0)
    parts = [random_text(rng, 20, "ab ") for _ in range(200)]
    names = ["<|x|>", "<|x|>b", "<y>"]
    text = "".join(part + ("<|x|>", "<|x|>", "<|x|>b")[n % 3] for n, part in enumerate(parts))
    tokenizer = FastBPE.train(text, 330, rule, names)
    assert tokenizer.vocab_size == 330 and set(tokenizer.specials) == set(names)
    assert not any(set(b"<|x>") & set(piece) for i, piece in tokenizer.pieces.items() if i > 255)
    between = re.split("<\\|x\\|>b|<\\|x\\|>", text)
    same = FastBPE.train(iter(between), 327, rule)
    assert tokenizer.merges.tolist() == same.merges.tolist()        # nothing is merged across
    across = FastBPE.train(re.sub("<\\|x\\|>b|<\\|x\\|>", "", text), 327, rule)
    assert across.merges.tolist() != same.merges.tolist()
    ids = tokenizer.encode("<|x|>b<|x|>", "all").tolist()
    assert ids == [tokenizer.specials["<|x|>b"], tokenizer.specials["<|x|>"]]
    with pytest.raises(ValueError, match="encodes str"):
        FastBPE.train([b"low"], 300, specials=["<|x|>"])


def test_the_heap_alone_does_what_it_does_in_training():
    text = "low low lower newest " * 9
    symbols = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    moves = heap_moves(symbols, np.array([0, len(symbols)]), np.array([1]), 12)
    pops = int((moves[:, 0] > 0).sum())
    assert 12 <= pops < len(moves)
    assert replayed(moves) == len(moves) - 2 * pops
    assert min(without_compiler(text, 12, 1)) > 0           # raises if merges differ


def test_letters_marks_digits_and_circled_letters_make_words():
    assert all(map(is_word, "aÉ中ʰ\u0301\u0903\u20dd7٣Ⅷ_‿\u200dⒶⓩ\U0001f130\U0001f189"))
    assert not any(map(is_word, " ½²①-'!\u200b👍\U0001f14a\n"))
    assert (len(set(CIRCLED)), sum(CIRCLED)) == (130, 10421333)


def test_the_limits_of_files_are_where_they_are_said_to_be(small, tmp_path):
    path, step = tmp_path / "tokenizer.json", {"type": "Replace", "pattern": {"String": "a"}}
    found = json.loads(to_json(small.pieces, small.merges, "gpt2", {}))
    for times, new, good in ((64, "b", True), (65, "b", False), (1, "a" * 1000, True),
                             (1, "a" * 1001, False)):
        found["normalizer"] = {"type": "Sequence", "normalizers": [step | {"content": new}] * times}
        path.write_text(json.dumps(found), "utf-8")
        if good:
            assert FastBPE.load(path).encode("aba").tolist() == small.encode(
                f"{new}b{new}").tolist()
        else:
            with pytest.raises(VocabularyError, match="times as long"):
                FastBPE.load(path)
    for c in " ~":
        with pytest.raises(ValueError, match=f"1 printable ASCII characters are missing.*{c!r}"):
            FastBPE({i: bytes([i]) for i in range(256) if chr(i) != c}, [])
