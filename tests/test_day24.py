"""Day 24 · Byte-pair encoding: the hand example, round trips, and an oracle by str.replace."""

import itertools
import json

import numpy as np
import pytest

from days.day24.run import measure
from llm.tokens import bpe
from llm.tokens.bpe import BPE, VocabularyError, best_pair, count_pairs, merge, to_bytes

TEXTS = ["", "a", "aaaa", "Hello, world!\r\n\r\nbye", "naïve café", "中文字符 한글", "👍🏽 🇩🇪",
         "\x00\x01\x7f", "e\u0301", "\ufffd\ufeff", "\U0010ffff"]


def by_replace(merges, text):
    """An independent encoder: ids as characters, merges as str.replace, in the order learned."""
    row = "".join(chr(0xF0000 + b) for b in text.encode())
    for i, (a, b) in enumerate(merges):
        row = row.replace(chr(0xF0000 + a) + chr(0xF0000 + b), chr(0xF0000 + 256 + i))
    return [ord(c) - 0xF0000 for c in row]


def random_text(rng, n, letters="ab c"):
    return "".join(letters[i] for i in rng.integers(0, len(letters), n))


def test_the_example_by_hand():
    tokenizer = BPE.train("aaabdaaabac", 256 + 3)
    assert tokenizer.merges == [(97, 97), (97, 98), (256, 257)]        # Z = aa, Y = ab, X = ZY
    assert tokenizer.pieces[256:] == [b"aa", b"ab", b"aaab"]
    assert tokenizer.encode("aaabdaaabac").tolist() == [258, 100, 258, 97, 99]     # XdXac
    assert tokenizer.decode([258, 100, 258, 97, 99]) == "aaabdaaabac"


def test_overlapping_pairs_merge_from_the_left():
    assert BPE([(97, 97)]).encode("aaa").tolist() == [256, 97]
    assert merge([97] * 5, (97, 97), 256) == [256, 256, 97]


def test_pairs_are_counted_with_their_overlaps():
    assert count_pairs([97, 97, 97, 98]) == {(97, 97): 2, (97, 98): 1}


@pytest.mark.parametrize("seed", range(5))
def test_decode_undoes_encode_for_random_text(seed):
    rng = np.random.default_rng(seed)
    tokenizer = BPE.train(random_text(rng, 400), 300)
    for text in (*TEXTS, random_text(rng, 300, "ab cdé中👍\n")):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert ids.dtype == np.int32 and ids.ndim == 1
        assert len(ids) <= len(text.encode())


@pytest.mark.parametrize("seed", range(5))
def test_ids_equal_those_of_str_replace(seed):
    rng = np.random.default_rng(seed)
    tokenizer = BPE.train(random_text(rng, 500), 310)
    for text in (*TEXTS, random_text(rng, 400), "a" * 50, "ab" * 30):
        assert tokenizer.encode(text).tolist() == by_replace(tokenizer.merges, text)


def test_every_round_merges_the_most_frequent_pair():
    text = random_text(np.random.default_rng(1), 300)
    tokenizer = BPE.train(text, 290)
    ids = list(text.encode())
    for i, pair in enumerate(tokenizer.merges):
        counts = count_pairs(ids)
        assert counts[pair] == max(counts.values())
        shorter = merge(ids, pair, 256 + i)
        assert len(shorter) < len(ids)
        ids = shorter
    assert tokenizer.encode(text).tolist() == ids


def test_ties_go_to_the_smallest_pair():
    assert best_pair({(5, 1): 3, (2, 9): 3, (2, 7): 3, (0, 0): 2}) == (2, 7)
    assert best_pair({}) is None and best_pair({(0, 1): 1}) is None
    assert best_pair({(0, 1): 1, (7, 7): 2}) == (7, 7)
    assert BPE.train("zyzyxwxw", 257).merges == [(120, 119)]          # zy and xw both twice
    assert BPE.train("xwxwzyzy", 257).merges == [(120, 119)]


def test_the_most_frequent_pair_is_not_always_the_one_that_shortens_most():
    text = "aaaaabcxbcybcz"
    assert count_pairs(text.encode())[97, 97] == 4 and BPE.train(text, 257).merges == [(97, 97)]
    assert [len(BPE([pair]).encode(text)) for pair in ((97, 97), (98, 99))] == [12, 11]
    for text, greedy, other in (("aaabab", 5, 4), ("aaaaababab", 8, 7)):
        assert len(BPE.train(text, 257).encode(text)) == greedy
        assert len(BPE([(97, 98)]).encode(text)) == other


@pytest.mark.parametrize("letters, n", [("ab", 9), ("abc", 6)])
def test_no_piece_is_learned_twice_and_a_span_between_borders_is_cut_as_if_alone(letters, n):
    for text in map("".join, itertools.product(letters, repeat=n)):
        trained = BPE.train(text, 300)
        assert len(set(trained.pieces)) == trained.vocab_size
        for k in range(len(trained.merges) + 1):
            part = BPE(trained.merges[:k])
            ids = part.encode(text).tolist()
            for i, j in itertools.combinations(range(len(ids) + 1), 2):
                assert part.encode(part.decode(ids[i:j])).tolist() == ids[i:j]


@pytest.mark.parametrize("k, merges, tokens", [(0, 0, 1), (1, 0, 2), (2, 1, 2), (5, 4, 2)])
def test_a_text_of_one_letter_halves_until_two_tokens_are_left(k, merges, tokens):
    trained = BPE.train("a" * 2**k, 999)
    assert len(trained.merges) == merges and len(trained.encode("a" * 2**k)) == tokens


@pytest.mark.parametrize("k, merges, tokens", [(0, 0, 2), (1, 1, 2), (2, 1, 3), (5, 4, 3)])
def test_one_letter_more_stays_at_the_end(k, merges, tokens):
    trained = BPE.train("a" * (2**k + 1), 999)
    assert len(trained.merges) == merges and len(trained.encode("a" * (2**k + 1))) == tokens


def test_training_stops_where_no_pair_occurs_twice():
    assert BPE.train("abcdef", 1000).vocab_size == 256
    assert BPE.train("", 300).vocab_size == 256
    assert BPE.train("abab", 1000).merges == [(97, 98)]


def test_invalid_bytes_become_the_replacement_character():
    assert BPE().decode([0xFF]) == "\ufffd"
    assert BPE().decode([72, 0xE4, 0xB8]) == "H\ufffd"


def test_save_and_load_give_the_same_ids(tmp_path):
    tokenizer = BPE.train("the cat and the hat", 265)
    tokenizer.save(tmp_path / "bpe.json")
    again = BPE.load(tmp_path / "bpe.json")
    assert again.merges == tokenizer.merges
    assert again.encode("the hat").tolist() == tokenizer.encode("the hat").tolist()


@pytest.mark.parametrize("damage", [lambda t: t[:-5], lambda t: "[]", lambda t: '{"merges": 3}',
                                    lambda t: '{"merges": [[97, 900]]}', lambda t: "",
                                    lambda t: '{"merges": ["12"]}', lambda t: "[" * 100_000,
                                    lambda t: '{"merges": [[Infinity, 1]]}',
                                    lambda t: '{"merges": [[1.0, 1]]}',
                                    lambda t: '{"merges": [[true, 1]]}'])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "bpe.json"
    BPE([(97, 97)]).save(path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(VocabularyError, match="bpe.json"):
        BPE.load(path)


def test_a_missing_file_and_one_that_asks_for_terabytes_are_refused(tmp_path):
    path = tmp_path / "bpe.json"
    with pytest.raises(VocabularyError, match="bpe.json: No such file.*Save one"):
        BPE.load(path)
    doubling = [[97, 97], *([256 + i, 256 + i] for i in range(45))]
    path.write_text(json.dumps({"merges": doubling[:20]}))
    assert len(BPE.load(path).pieces[-1]) == 1 << 20
    path.write_text(json.dumps({"merges": doubling}))
    with pytest.raises(VocabularyError, match="more than 268,435,456 bytes"):
        BPE.load(path)


def test_merges_whose_pieces_just_fit_are_taken_and_one_byte_less_is_too_little(monkeypatch):
    merges = [[97, 97], [256, 97], [256, 256]]                       # pieces of 2, 3 and 4 bytes
    monkeypatch.setattr(bpe, "MOST", 9)
    bpe.check_size(merges)
    monkeypatch.setattr(bpe, "MOST", 8)
    with pytest.raises(ValueError, match="more than 8 bytes"):
        bpe.check_size(merges)


def test_the_byte_0_can_be_merged_on_either_side(tmp_path):
    tokenizer = BPE([(97, 0), (0, 97)])
    tokenizer.save(tmp_path / "bpe.json")
    for one in (tokenizer, BPE.load(tmp_path / "bpe.json")):
        assert one.pieces[256:] == [b"a\0", b"\0a"]
        assert one.encode("a\0\0a").tolist() == [256, 257]
    for pair in ((-1, 97), (97, -1), (256, 97)):
        with pytest.raises(ValueError, match="merge number 0 joins"):
            BPE([pair])


def test_the_cure_for_halves_of_a_character_works():
    with pytest.raises(ValueError, match="lone surrogate") as error:
        to_bytes("\ud83d\udc4d")
    cure = str(error.value).split(" with text.")[1]
    for text, whole in (("\ud83d\udc4d", "\U0001f44d"), ("a\ud83db", "a\ufffdb")):
        assert eval(f"text.{cure}", {"text": text}) == whole


def test_bad_input_is_refused_with_the_cure():
    with pytest.raises(ValueError, match="not bytes"):
        to_bytes(b"abc")
    with pytest.raises(ValueError, match="not NoneType"):
        BPE().encode(None)
    with pytest.raises(ValueError, match=r"lone surrogate '\\ud800' at position 2"):
        BPE().encode("ab\ud800")
    with pytest.raises(ValueError, match="vocab_size 255 is smaller than the base alphabet"):
        BPE.train("abc", 255)
    with pytest.raises(ValueError, match=r"merge number 1 joins \(97, 257\)"):
        BPE([(97, 97), (97, 257)])
    for ids in ([256], [-1], [0, 9999]):
        with pytest.raises(ValueError, match="not in the vocabulary of 256 ids"):
            BPE().decode(ids)


def test_merges_shorten_the_text_and_carry_over_to_unseen_text():
    result = measure(fast=True, seed=0)
    seen = [row[2] for row in result.rows]
    unseen = [row[3] for row in result.rows]
    assert seen[0] == unseen[0] == 1.0
    assert seen == sorted(seen) and unseen == sorted(unseen)
    assert seen[-1] > 1.5 and unseen[-1] > 1.3
    assert result.round_trip
    assert abs(result.rows[0][5] - result.shuffled[0][1]) < 0.1      # shuffling keeps the bytes
    assert result.rows[-1][5] < result.rows[0][5] - 0.3              # dependence makes tokens cheap
    assert result.shuffled[-1][1] > result.shuffled[0][1] - 0.01     # and nothing else does
    merges, T, V, n, least = result.gains[-1]
    assert (merges, V) == (95, 351) and least == T / (V * np.log(V)) + 2 < n
    assert len(result.spread) == 3 and max(result.spread) - min(result.spread) < 0.3
