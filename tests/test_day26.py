"""Day 26 · WordPiece and Unigram: published and hand examples, brute force, files, specials."""

import base64
import functools
import json
import math
import re
import time

import numpy as np
import pytest

from days.day26.run import measure
from experiments.alignment import twos_left, twos_right, twos_scattered
from experiments.pathologies_numbers import alignment_of, threes_right
from llm.tokens.bpe import VocabularyError
from llm.tokens.cut import segmenter
from llm.tokens.cut.bert import Bert
from llm.tokens.engine import trie
from llm.tokens.engine.trie import trie_of
from llm.tokens.fast_bpe import FastBPE
from llm.tokens.files.added import normalizer as normalizer_of
from llm.tokens.files.charsmap import (
    BEFORE,
    CONTROL,
    EXTEND,
    MORE_MARKS,
    NO_MARKS,
    PREPEND,
    kinds,
    read_charsmap,
    replaced,
)
from llm.tokens.files.steps import STEPS
from llm.tokens.files.unigram import to_json as unigram_json
from llm.tokens.files.wordpiece import to_json, write_vocab
from llm.tokens.learn.seed import frequent_substrings
from llm.tokens.learn.unigram import e_step, log_shares, losses
from llm.tokens.learn.wordpiece import alphabet, count_words, gain, learn_pieces
from llm.tokens.load import load_tokenizer
from llm.tokens.unigram import Unigram
from llm.tokens.wordpiece import SPECIALS, WordPiece
from tests.charsmap import charsmap, nfkc_rules

HAND = "of is is is if if if if"
BERT_TEST = ["[UNK]", "[CLS]", "[SEP]", "want", "##want", "##ed", "wa", "un", "runn", "##ing", ","]
HAND_PIECES = [("<unk>", 0.0), ("a", math.log(1 / 2)), ("b", math.log(1 / 4)),
               ("ab", math.log(1 / 8)), ("ba", math.log(1 / 8))]


def pieces(tokenizer, text, special=()):
    return [tokenizer.pieces[i] for i in tokenizer.encode(text, special)]


def trained_on(words, pieces, scores):
    """The E-step on words {str: count} with pieces [str] and their log probabilities."""
    store = np.frombuffer("".join(words).encode(), dtype=np.uint8)
    starts = np.cumsum([0, *(len(word.encode()) for word in words)])
    return e_step(store, starts, np.array(list(words.values())), trie_of(
        [piece.encode() for piece in pieces]), np.array(scores))


def all_cuts(text, known):
    """Every way to cut a text into known pieces, tried one by one."""
    if not text:
        return [[]]
    return [[text[:i], *rest] for i in range(1, len(text) + 1) if text[:i] in known
            for rest in all_cuts(text[i:], known)]


def random_vocabulary(rng, letters="abé▁"):
    """Pieces with scores: <unk>, all letters, and some longer ones."""
    names = {"".join(letters[i] for i in rng.integers(0, len(letters), rng.integers(2, 5)))
             for _ in range(25)}
    names = [*letters, *sorted(names)]
    return [("<unk>", 0.0), *zip(names, np.log(rng.dirichlet(np.ones(len(names)))).tolist())]


def log_sum(terms):
    return max(terms) + math.log(sum(math.exp(t - max(terms)) for t in terms))


@pytest.fixture(scope="module")
def small():
    text = "low lower lowest, low-lying; it's 1999's newest. The café in 東京 is new! " * 5
    return WordPiece.train(text, 130)


@pytest.fixture(scope="module")
def low_unigram():
    text = "low lower lowest, low-lying; it's 1999's newest. " * 5 + "\n\nnew  news café café"
    return Unigram.train(text, 350, specials=["<s>", "<s><t>"])


# ---------------------------------------------------------------------- by hand, and as published


def test_word_pieces_by_hand():
    words = count_words([HAND], Bert())
    assert words == {"of": 1, "is": 3, "if": 4}
    letters = alphabet(words, "##")
    assert letters == ["f", "i", "o", "s", "##f", "##i", "##o", "##s"]
    first = {score: learn_pieces(words, list(letters), 9, 1, score, "##")[8]
             for score in ("frequency", "ratio", "gain")}
    assert first == {"frequency": "if", "ratio": "of", "gain": "is"}
    gains = [gain(4, 7, 5, 16, False), gain(3, 7, 3, 16, False), gain(1, 1, 5, 16, False)]
    assert np.round(gains, 2).tolist() == [1.71, 2.94, 1.24]
    tokenizer = WordPiece.train(HAND, 100)
    assert tokenizer.pieces == [*SPECIALS, *letters, "is", "if"]
    assert pieces(tokenizer, "If of isis, fish") == [
        "if", "o", "##f", "is", "##i", "##s", "[UNK]", "[UNK]"]


def test_unigram_by_hand():
    tokenizer = Unigram(HAND_PIECES)
    assert tokenizer.encode("aba").tolist() == [1, 4]                # a|ba: of three, found first
    assert abs(tokenizer.log_likelihood("aba") - math.log(3 / 16)) < 1e-12
    names, scores = zip(*HAND_PIECES[1:])
    counts, nats = trained_on({"aba": 3}, names, scores)
    assert np.allclose(counts, [4, 1, 1, 1]) and abs(nats - 3 * math.log(3 / 16)) < 1e-12
    better = log_shares(counts)
    assert np.allclose(np.exp(better), [4 / 7, 1 / 7, 1 / 7, 1 / 7])
    again, nats = trained_on({"aba": 3}, names, better)
    assert abs(nats - 3 * math.log(72 / 343)) < 1e-12 and 72 / 343 > 3 / 16
    store = np.frombuffer(b"abba", dtype=np.uint8)                   # a, b, ab, ba are in it
    spans = np.array([[0, 1], [1, 2], [0, 2], [2, 4]])
    lost = losses(store, spans, trie_of([b"a", b"b", b"ab", b"ba"]), np.append(better, 0), counts)
    assert np.allclose(lost[2:], math.log(7 / 4))


def test_the_example_of_bert():
    # google-research/bert, tokenization_test.py: test_full_tokenizer, test_wordpiece_tokenizer
    tokenizer = WordPiece(BERT_TEST, SPECIALS[1:4])
    assert tokenizer.encode("UNwant\u00e9d,running").tolist() == [7, 4, 5, 10, 8, 9]
    assert pieces(tokenizer, "unwantedX running") == ["[UNK]", "runn", "##ing"]
    assert Bert().words(" \tHeLLo!how  \n Are yoU?  ") == ["hello", "!", "how", "are", "you", "?"]
    assert Bert().words("H\u00e9llo ah\u535a\u63a8zz") == ["hello", "ah", "\u535a", "\u63a8", "zz"]


# ------------------------------------------------------------------------------ what always holds


def test_the_gain_is_near_the_pointwise_mutual_information():
    rng = np.random.default_rng(0)
    for _ in range(500):
        total = int(rng.integers(100, 10_000))
        a, b = (int(n) for n in rng.integers(1, total // 3, 2))
        m = int(rng.integers(1, min(a, b) + 1))
        information = math.log(m * total / (a * b))
        per_place = gain(m, a, b, total, False) / m
        assert information - 1.5 < per_place < information + 1
    assert abs(gain(10, 10**6, 10**6, 10**9, False) / 10 - (math.log(.01) - 1)) < 1e-4


def test_no_word_of_letters_that_were_seen_is_unknown(small):
    rng = np.random.default_rng(1)
    letters = "lowerstyngi19éTC東京!"
    for _ in range(200):
        text = "".join(letters[i] for i in rng.integers(0, len(letters), 30))
        assert "[UNK]" not in pieces(small, text)
        assert "[UNK]" in pieces(small, f"{text} now q {text}")


def test_white_space_is_lost_and_nothing_else_of_a_known_text(small):
    rng = np.random.default_rng(2)
    samples = ["low", "newest", "It's", ".", ",", "!", " ", "  ", "\n", "\t", "1999", "café", "-",
               "東京", "wing", "\u3000", "the\u0301"]
    for _ in range(200):
        text = "".join(samples[i] for i in rng.integers(0, len(samples), 20))
        ids = small.encode(text)
        assert small.encode(small.decode(ids)).tolist() == ids.tolist()
        assert small.encode(f"\n{text} \r\n ").tolist() == ids.tolist()
        squeezed = small.bert.normalize(text).split()
        assert small.decode(ids).replace(" ", "") == "".join(squeezed)


@pytest.mark.parametrize("rule", ["spaces", "whole", "gpt2", "smollm", "cl100k", "llama3", "qwen2"])
def test_every_text_comes_back_from_its_unigram_ids(rule):
    tokenizer = Unigram.train("low lower lowest newest 1999's\n\n new. " * 9, 330, rule=rule)
    for text in ("", " ", "low", "  low\n\n lowest 中文 naïve 👍🏽", "a" * 3000, " " * 999, "\x00",
                 "\r\n", "<0x41><0xE4><unk>", "'s't'll 've", "x" * 70 + "  \n", "\u3000x"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text and ids.dtype == np.int32 and ids.ndim == 1
    assert tokenizer.decode(tokenizer.encode("▁low▁")) == " low "    # the one sign that is lost
    spaceless = Unigram.train("lowlower", 300, rule=rule)           # its ▁ is three bytes
    assert spaceless.decode(spaceless.encode(" low  ")) == " low  "


def test_a_round_of_em_never_lowers_the_likelihood():
    heard = []
    rng = np.random.default_rng(2)
    text = "".join("aabcde  "[i] for i in rng.integers(0, 8, 4000))
    Unigram.train(text, 35, byte_fallback=False, seeds=9, report=lambda *row: heard.append(row))
    rounds = [(a[1], b[1]) for a, b in zip(heard, heard[1:]) if a[0] == b[0]]
    assert len(rounds) > 3 and all(after >= before - 1e-6 for before, after in rounds)
    sizes = [pieces for pieces, _ in heard]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] == 34


def test_sampling_is_repeatable_and_a_large_alpha_is_the_best_cut(low_unigram):
    text = "  lowest newest\n\nlow 中文 <0x41>" * 9
    draw = lambda alpha: low_unigram.sample(text, alpha, np.random.default_rng(7))  # noqa: E731
    assert draw(0.2).tolist() == draw(0.2).tolist() != low_unigram.encode(text).tolist()
    assert draw(500.0).tolist() == low_unigram.encode(text).tolist()
    assert all(low_unigram.decode(draw(alpha)) == text for alpha in (0, 0.1, 1))
    for alpha in (-1, 1e7, math.inf, math.nan):
        with pytest.raises(ValueError, match="alpha must be 0 or more and at most 1e6"):
            draw(alpha)


# ---------------------------------------------------------------------------- against brute force


def likelihood(rows):
    """Σ n log(n / N) over the symbols of weighted words: what one round can raise."""
    counts = {}
    for row, weight in rows:
        for symbol in row:
            counts[symbol] = counts.get(symbol, 0) + weight
    total = sum(counts.values())
    return sum(n * math.log(n / total) for n in counts.values()), counts


def merged(row, pair, new):
    out, i = [], 0
    while i < len(row):
        both = tuple(row[i:i + 2]) == pair
        out.append(new if both else row[i])
        i += 1 + both
    return out


def brute_force(words, vocabulary, size, min_count, score):
    """Training once more: every count anew in every round, every gain by really merging."""
    vocabulary = list(vocabulary)
    rows = [([vocabulary.index("##" * (i > 0) + c) for i, c in enumerate(word)], n)
            for word, n in words.items()]
    while len(vocabulary) < size:
        before, single = likelihood(rows)
        counts, scores = {}, {}
        for row, weight in rows:
            for pair in zip(row, row[1:]):
                counts[pair] = counts.get(pair, 0) + weight
        for (a, b), m in counts.items():
            if m < min_count:
                continue
            if score == "frequency":
                scores[a, b] = m
            elif score == "ratio":
                scores[a, b] = m / (single[a] * single[b])
            elif a == b:                         # its places may overlap: the formula decides
                scores[a, b] = gain(m, single[a], single[a], sum(single.values()), True)
            else:
                after = [(merged(row, (a, b), -1), weight) for row, weight in rows]
                scores[a, b] = likelihood(after)[0] - before
        best = max(scores.values(), default=0)
        if best <= 1e-9:
            break
        pair = min(p for p, value in scores.items() if value >= best - 1e-9 * abs(best))
        piece = vocabulary[pair[0]] + vocabulary[pair[1]][2:]
        if piece not in vocabulary:
            vocabulary.append(piece)
        rows = [(merged(row, pair, vocabulary.index(piece)), weight) for row, weight in rows]
    return vocabulary


@pytest.mark.parametrize("score", ["gain", "ratio", "frequency"])
@pytest.mark.parametrize("seed", range(4))
def test_training_equals_counting_anew_and_really_merging(score, seed):
    rng = np.random.default_rng(seed)
    letters = "abc" if seed % 2 else "aab"
    words = {"".join(letters[i] for i in rng.integers(0, 3, rng.integers(1, 9))):
             int(rng.integers(1, 9)) for _ in range(25)}
    start = alphabet(words, "##")
    for min_count in (1, 4):
        fast = learn_pieces(words, list(start), 40, min_count, score, "##")
        assert fast == brute_force(words, start, 40, min_count, score)


def cut_by_hand(tokenizer, word):
    """The rule of WordPiece in Python, over strings."""
    found, start = [], 0
    while start < len(word) <= tokenizer.longest:
        ends = [end for end in range(start + 1, len(word) + 1)
                if tokenizer.prefix * (start > 0) + word[start:end] in tokenizer.ids]
        if not ends:
            break
        found.append(tokenizer.ids[tokenizer.prefix * (start > 0) + word[start:max(ends)]])
        start = max(ends)
    return found if start == len(word) else [tokenizer.ids[tokenizer.unknown]]


@pytest.mark.parametrize("seed", range(6))
def test_each_word_is_cut_as_by_a_search_over_strings(seed):
    rng = np.random.default_rng(seed)
    letters = "abé東ß\U0001d400" if seed % 2 else "ab"
    word = lambda n: "".join(letters[i] for i in rng.integers(0, len(letters), n))  # noqa: E731
    prefix = ("##", "", "@", "a")[seed % 4]
    known = {prefix * int(rng.integers(0, 2)) + word(rng.integers(1, 5)) for _ in range(60)}
    bert = Bert(lower=False, chinese=False)
    tokenizer = WordPiece(["[UNK]", *sorted(known)], ["[UNK]"], prefix=prefix, longest=9, bert=bert)
    for _ in range(300):
        words = [word(rng.integers(1, 12)) for _ in range(5)]
        expected = [i for w in words for i in cut_by_hand(tokenizer, w)]
        assert tokenizer.encode(" ".join(words)).tolist() == expected
        assert tokenizer.encode(" ".join(words)).tolist() == expected      # now from memory


@pytest.mark.parametrize("seed", range(8))
def test_the_cut_is_the_most_probable_of_all_cuts(seed):
    rng = np.random.default_rng(seed)
    pieces = random_vocabulary(rng)
    known, tokenizer = dict(pieces), Unigram(pieces, rule="whole")
    for _ in range(40):
        text = "".join("abé▁"[i] for i in rng.integers(0, 4, rng.integers(1, 11)))
        cuts = all_cuts(text, known)
        best = max(cuts, key=lambda cut: sum(known[piece] for piece in cut))
        assert [pieces[i][0] for i in tokenizer.encode(text)] == best
        total = log_sum([sum(known[piece] for piece in cut) for cut in cuts])
        assert abs(tokenizer.log_likelihood(text) - total) < 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_expected_counts_are_those_of_all_cuts_and_the_gradient_of_the_likelihood(seed):
    rng = np.random.default_rng(seed)
    names, scores = zip(*random_vocabulary(rng)[1:])
    words = {"".join("abé▁"[i] for i in rng.integers(0, 4, rng.integers(1, 10))):
             int(rng.integers(1, 9)) for _ in range(6)}
    counts, nats = trained_on(words, names, scores)
    known, expected = dict(zip(names, scores)), dict.fromkeys(names, 0.0)
    for word, weight in words.items():
        cuts = all_cuts(word, known)
        whole = log_sum([sum(known[piece] for piece in cut) for cut in cuts])
        for cut in cuts:
            for piece in cut:
                expected[piece] += weight * math.exp(sum(known[p] for p in cut) - whole)
    assert np.allclose(counts, list(expected.values()))
    for i in range(len(names)):
        step = 1e-5 * np.eye(len(names))[i]
        rise = trained_on(words, names, scores + step)[1] - trained_on(words, names,
                                                                       scores - step)[1]
        assert abs(rise / 2e-5 - counts[i]) < 1e-4


def test_what_a_piece_is_worth_is_its_count_times_the_gap_to_the_next_best_cut():
    rng = np.random.default_rng(5)
    pieces = random_vocabulary(rng)[1:]
    names, scores = zip(*pieces)
    data = [name.encode() for name in names]
    ends = np.cumsum([0, *map(len, data)])
    counts = rng.uniform(0, 9, len(names))
    lost = losses(np.frombuffer(b"".join(data), dtype=np.uint8), np.stack([ends[:-1], ends[1:]], 1),
                  trie_of(data), np.append(scores, 0.0), counts)
    for (name, score), count, value in zip(pieces, counts, lost):
        others = {other: s for other, s in pieces if other != name}
        rival = max((sum(others[p] for p in cut) for cut in all_cuts(name, others)),
                    default=-math.inf)
        assert value == pytest.approx(count * (score - rival) if count >= 0.5 else 0)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, 2.0])
def test_sampled_cuts_have_the_probabilities_they_should(alpha):
    pieces = random_vocabulary(np.random.default_rng(3))
    known, tokenizer = dict(pieces), Unigram(pieces, rule="whole")
    cuts = all_cuts("abéab▁bab", known)
    weights = np.exp([alpha * sum(known[piece] for piece in cut) for cut in cuts])
    rng, n = np.random.default_rng(0), 6000
    seen = {tuple(cut): 0 for cut in cuts}
    for _ in range(n):
        seen[tuple(pieces[i][0] for i in tokenizer.sample("abéab bab", alpha, rng))] += 1
    expected = n * weights / weights.sum()
    observed = np.array(list(seen.values()))
    rare = expected < 5                                              # together, as χ² wants it
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], max(expected[rare].sum(), 1e-9))
    free = len(expected) - 1
    limit = free * (1 - 2 / (9 * free) + 3.09 * math.sqrt(2 / (9 * free))) ** 3
    assert len(cuts) > 20 and ((observed - expected) ** 2 / expected).sum() < limit


@pytest.mark.parametrize("seed", range(3))
def test_the_seed_holds_every_repeated_substring_that_can_be_longer(seed):
    rng = np.random.default_rng(seed)
    words = ["".join("aabé"[i] for i in rng.integers(0, 4, rng.integers(1, 30)))
             for _ in range(20)]
    weights = rng.integers(1, 4, 20)
    symbols = np.frombuffer("".join(words).encode("utf-32-le"), dtype="<u4")
    rest = np.concatenate([np.arange(len(word), 0, -1) for word in words])
    found = frequent_substrings(symbols, rest, np.repeat(weights, [len(w) for w in words]), 6, 2,
                                10**6)
    ours = {"".join(map(chr, symbols[a:a + n])): count for a, n, count in zip(*found)}
    counts, after = {}, {}
    for word, weight in zip(words, weights):
        for i in range(len(word)):
            for j in range(i + 2, min(i + 6, len(word)) + 1):
                counts[word[i:j]] = counts.get(word[i:j], 0) + weight
                after.setdefault(word[i:j], set()).add(word[j:j + 1] if j - i < 6 else "")
    assert ours == {piece: n for piece, n in counts.items()          # "" is the end of a word
                    if n >= 2 and (len(after[piece]) > 1 or after[piece] == {""})}
    assert len(found[0]) == len(ours)                                # none is there twice


# -------------------------------------------------------- one text or many, one path or the other


@pytest.mark.parametrize("text", ["", "low", "Ça va 東京", "x" * 300, "\x1c\u0301 a\u0301!", "\n "])
def test_ascii_and_other_texts_take_two_paths_to_one_result(small, text):
    assert small.encode(text + " é").tolist() == [*small.encode(text), *small.encode("é")]


def test_word_pieces_in_a_batch_equal_those_of_single_texts(small):
    rng = np.random.default_rng(3)
    texts = ["", *("low " * int(n) + "東京é" * int(n % 3) for n in rng.integers(0, 99, 300)), ""]
    texts += ["lowest newest " * 30_000, "[CLS]low"]
    expected = [small.encode(text).tolist() for text in texts]
    for threads in (1, 2, 4):
        assert [ids.tolist() for ids in small.encode_batch(texts, threads=threads)] == expected
    low = [small.specials["[CLS]"], small.ids["low"]]
    assert [ids.tolist() for ids in small.encode_batch(texts[-1:] * 2, "all")] == [low, low]


def test_a_unigram_batch_equals_its_texts_on_any_number_of_threads(low_unigram, monkeypatch):
    rng = np.random.default_rng(0)
    texts = ["", "low", "▁low ▁", "<s>low", *("low er\n" * int(n) + "中é" * int(n % 3)
                                             for n in rng.integers(0, 99, 300)), ""]
    texts += ["lowest newest " * 30_000, ""]
    for rule in ("spaces", "gpt2"):
        tokenizer = Unigram(low_unigram.pieces, 0, True, rule, specials=low_unigram.specials)
        expected = [tokenizer.encode(text, "all").tolist() for text in texts]
        for threads in (1, 2, 4):
            assert [ids.tolist() for ids in tokenizer.encode_batch(texts, "all", threads)
                    ] == expected
    assert low_unigram.encode_batch([]) == []
    monkeypatch.setattr(segmenter, "MOST_WORDS", 10)                 # a cache that is full
    monkeypatch.setattr(segmenter, "BLOCK", 16)
    fresh = Unigram(low_unigram.pieces, 0, True, specials=low_unigram.specials)
    assert [fresh.encode(text, "all").tolist() for text in texts[:150]] == [
        low_unigram.encode(text, "all").tolist() for text in texts[:150]]


# ------------------------------------------------------------------------ what WordPiece promises


def test_text_is_prepared_as_bert_does():
    assert Bert().normalize("Ça va,\tΟΔΟΣ?") == "ca va, οδοσ?"
    assert Bert(lower=False).normalize("Ça\u200d va\x00\x7f!") == "Ça va!"
    assert Bert(strip_accents=False).normalize("Ça İ") == "ça i\u0307"
    assert Bert(lower=False, strip_accents=True).normalize("Ça") == "Ca"
    assert Bert().normalize("a中文b") == "a 中  文 b"
    assert Bert(chinese=False).normalize("中") == "中"
    assert Bert(clean=False).normalize("a\x0b\tB") == "a\x0b\tb"
    assert Bert(clean=False).words("a\x0b\tB\x85c") == ["a", "b", "c"]
    assert Bert().words("$5+x=«y» don't\u2028_z_") == [
        "$", "5", "+", "x", "=", "«", "y", "»", "don", "'", "t", "_", "z", "_"]
    assert Bert().words("") == Bert().words(" \n") == [] and Bert().normalize("") == ""


def test_the_longest_match_does_not_look_back():
    tokenizer = WordPiece(["[UNK]", "a", "ab", "##bc", "##b"], ["[UNK]"])
    assert pieces(tokenizer, "abc") == ["[UNK]"]             # a ##bc would have been a way
    assert pieces(tokenizer, "abb abc ab") == ["ab", "##b", "[UNK]", "ab"]


def test_decoding_puts_words_together(small):
    assert small.decode(small.encode("Lowest,  NEWEST!")) == "lowest, newest!"
    apart = WordPiece(small.pieces, cleanup=False)
    assert apart.decode(small.encode("Lowest,  NEWEST!")) == "lowest , newest !"
    assert small.decode([]) == "" and small.decode([small.ids["##o"]]) == "##o"


def test_special_tokens_only_where_they_are_allowed(small):
    cls, mask = small.specials["[CLS]"], small.specials["[MASK]"]
    low = small.ids["low"]
    for special in ("all", ["[CLS]", "[MASK]"], "[CLS]"):
        assert small.encode("[CLS]Low[CLS]", special).tolist() == [cls, low, cls]
    assert small.encode("[MASK] low", ["[MASK]"]).tolist() == [mask, low]
    assert not {cls, mask} & set(small.encode("[CLS] low [MASK]").tolist())
    assert cls not in small.encode("[cls]", "all") and mask not in small.encode("[MASK]", "[CLS]")
    word = WordPiece(["[UNK]", "stop", "go", "##stop"], ["[UNK]", "stop"])
    assert pieces(word, "go stop gostop") == ["go", "[UNK]", "go", "##stop"]     # no control token
    assert pieces(word, "gostop", "all") == ["go", "stop"]


def test_training_a_vocabulary_is_deterministic_and_takes_texts_one_at_a_time():
    texts = ["low lower ", "lowest low", "new newest", "new"]
    parts, whole = WordPiece.train(iter(texts), 60), WordPiece.train(" \n".join(texts), 60)
    assert parts.pieces == whole.pieces and parts.vocab_size == len(parts.pieces) <= 60
    assert WordPiece.train(iter([]), 5).pieces == list(SPECIALS)
    assert WordPiece.train("Low", 20, lower=False).pieces[5:8] == ["L", "o", "w"]


def test_a_rare_pair_is_not_considered():
    text = "zq " + "an a n " * 50 + "the " * 9
    assert "zq" in WordPiece.train(text, 60, min_count=1, score="ratio").pieces
    assert "zq" not in WordPiece.train(text, 60, min_count=2, score="ratio").pieces
    learned = WordPiece.train(text, 60, min_count=10).pieces
    assert "an" in learned and "the" not in learned


# -------------------------------------------------------------------------- what Unigram promises


def test_ids_and_sizes_are_as_promised(low_unigram):
    pieces = low_unigram.pieces
    assert len(pieces) == low_unigram.vocab_size == 350
    assert pieces[0] == ("<unk>", 0.0) and pieces[1][0] == "<0x00>" and pieces[256][0] == "<0xFF>"
    scores = [score for _, score in pieces[257:348]]
    assert scores == sorted(scores, reverse=True)
    assert abs(sum(map(math.exp, scores)) - 1) < 1e-6                # a distribution
    assert [name for name, _ in pieces[348:]] == ["<s>", "<s><t>"]
    names = {name for name, _ in pieces}
    assert set("lower st,-yingi'9.ncafé\n".replace(" ", "▁")) <= names and "▁low" in names
    again = Unigram.train("low lower lowest, low-lying; it's 1999's newest. " * 5 +
                          "\n\nnew  news café café", 350, specials=["<s>", "<s><t>"])
    assert again.pieces == pieces
    assert Unigram.train("", 280).vocab_size == 276                  # 19 letters spell the bytes
    assert Unigram.train("", 9, byte_fallback=False).encode("ab").tolist() == [0]


def test_training_takes_texts_one_at_a_time_and_no_piece_goes_across():
    texts = ["low lower ", "lowest low", "new newest"] * 3
    parts = Unigram.train(iter(texts), 60, byte_fallback=False, rule="whole")
    assert not any("wn" in name or "tl" in name for name, _ in parts.pieces)
    whole = Unigram.train("".join(texts), 60, byte_fallback=False, rule="whole")
    assert any("wn" in name for name, _ in whole.pieces)


def test_a_piece_is_at_most_so_long():
    tokenizer = Unigram.train("abcdefghijklmnopqrstuvwxyz " * 9, 60, byte_fallback=False, longest=4)
    assert max(len(name) for name, _ in tokenizer.pieces if name != "<unk>") == 4


def test_a_space_is_put_before_a_text_where_that_is_wanted(low_unigram):
    for prepend, text, same in (("always", "low", " low"), ("first", "low", " low"),
                                ("always", "▁low", " low"), ("always", " low", " low")):
        tokenizer = Unigram(low_unigram.pieces, 0, True, "spaces", prepend, low_unigram.specials)
        assert tokenizer.encode(text).tolist() == low_unigram.encode(same).tolist()
        assert tokenizer.decode(tokenizer.encode(text)) == "low"
        assert tokenizer.encode("").tolist() == []
        both = tokenizer.encode("low<s>low", "all").tolist()
        second = " low" if prepend == "always" else "low"
        assert both == [*low_unigram.encode(" low"), 348, *low_unigram.encode(second)]
    with pytest.raises(ValueError, match="not 'always' with gpt2"):
        Unigram(low_unigram.pieces, 0, True, "gpt2", "always")


def test_what_is_unknown_is_fused_or_written_as_bytes(low_unigram):
    few = Unigram([("<unk>", 0.0), ("a", -1.0), ("▁", -2.0)])
    assert few.encode("中文a文 b").tolist() == [0, 1, 0, 2, 0]
    assert few.encode("<unk>").tolist() == [0]
    some = Unigram([*few.pieces, ("<0xE4>", -3.0), ("<0xB8>", -3.0), ("<0xAD>", -3.0)], 0, True)
    assert some.encode("中a").tolist() == [3, 4, 5, 1]
    assert some.encode("中文a").tolist() == [0, 1]                   # 文 has a byte that is missing
    assert [low_unigram.pieces[i][0] for i in low_unigram.encode("é中")] == [
        "é", "<0xE4>", "<0xB8>", "<0xAD>"]
    nobody = Unigram([("a", -1.0), ("aa", -3.0)], unk_id=None)
    assert nobody.encode("aaa").tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="no piece for 'b' and no unknown token"):
        nobody.encode("aab")
    with pytest.raises(ValueError, match="no piece for 'a' and no unknown token"):
        Unigram([("b", -1.0), ("a", 0.0)], None, specials={"a": 1}).encode("ba")


def test_a_text_that_spells_a_byte_or_a_special_token_is_text(low_unigram):
    text = "<0x41> <unk> <s> <0xE4>"
    ids = low_unigram.encode(text)
    assert low_unigram.decode(ids) == text and not {0, 66, 348, 349} & set(ids.tolist())
    allowed = low_unigram.encode("<s><t>low<s><unk>", "all").tolist()
    assert allowed == [349, *low_unigram.encode("low"), 348, 0]
    assert low_unigram.encode("<s><unk>", ["<s>"]).tolist() == [348, *low_unigram.encode("<unk>")]


# ------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("bert", [Bert(), Bert(lower=False), Bert(False, True, False, False)])
def test_a_word_piece_file_is_read_back(small, bert, tmp_path):
    tokenizer = WordPiece(small.pieces, SPECIALS[:3], "[UNK]", "##", 7, bert, cleanup=False)
    tokenizer.save(tmp_path / "tokenizer.json")
    for again in (WordPiece.load(tmp_path / "tokenizer.json"), WordPiece.load(tmp_path)):
        assert vars(again) | {"encoder": 0} == vars(tokenizer) | {"encoder": 0}
        assert to_json(again) == (tmp_path / "tokenizer.json").read_bytes()
        assert pieces(again, "lowest lowlying") == pieces(tokenizer, "lowest lowlying")


def test_berts_own_file_is_read_back(small, tmp_path):
    write_vocab(small, tmp_path / "vocab.txt")
    assert WordPiece.load(tmp_path).pieces == small.pieces
    assert WordPiece.load(tmp_path / "vocab.txt").specials == small.specials
    assert not WordPiece.load(tmp_path / "vocab.txt", lower=False).bert.lower
    lines = (tmp_path / "vocab.txt").read_text(encoding="utf-8")
    (tmp_path / "vocab.txt").write_bytes(lines.replace("\n", "\r\n").encode())
    assert WordPiece.load(tmp_path).pieces == small.pieces
    with pytest.raises(ValueError, match="does not fit on a line"):
        write_vocab(WordPiece([*small.pieces, "a\n"]), tmp_path / "no.txt")


@pytest.mark.parametrize("rule, prepend", [("spaces", "always"), ("whole", "first"),
                                           ("spaces", "never"), ("gpt2", "never"),
                                           ("smollm", "never"), ("cl100k", "never"),
                                           ("llama3", "never"), ("qwen2", "never")])
def test_a_unigram_file_is_read_back(low_unigram, rule, prepend, tmp_path):
    for byte_fallback in (True, False):
        tokenizer = Unigram(low_unigram.pieces, 0, byte_fallback, rule, prepend, {"<s>": 348})
        tokenizer.save(tmp_path / "tokenizer.json")
        for again in (Unigram.load(tmp_path), Unigram.load(tmp_path / "tokenizer.json"),
                      load_tokenizer(tmp_path)):
            assert vars(again) | {"segmenter": 0} == vars(tokenizer) | {"segmenter": 0}
            assert unigram_json(again) == (tmp_path / "tokenizer.json").read_bytes()


def test_older_files_say_add_prefix_space_and_keep_added_tokens_apart(low_unigram, tmp_path):
    found = json.loads(unigram_json(low_unigram))
    for old, prepend in ((True, "always"), (False, "never")):
        found["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": old}
        found["added_tokens"].append({"id": 350 + (not old), "content": f"<{old}>"})
        (tmp_path / "tokenizer.json").write_text(json.dumps(found), encoding="utf-8")
        tokenizer = Unigram.load(tmp_path)
        assert (tokenizer.rule, tokenizer.prepend) == ("spaces", prepend)
    assert tokenizer.specials["<False>"] == 351 and tokenizer.vocab_size == 352
    assert tokenizer.encode("<True><False>", "all").tolist() == [350, 351]


def test_any_tokenizer_is_loaded_by_what_is_in_its_file(small, tmp_path):
    fast = FastBPE.train("low lower lowest " * 3, 270, specials=["<|x|>"])
    fast.save(tmp_path / "bpe.json")
    small.save(tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path / "bpe.json").encode("lowest").tolist() == fast.encode(
        "lowest").tolist()
    for path in (tmp_path, tmp_path / "tokenizer.json", str(tmp_path)):
        assert load_tokenizer(path).pieces == small.pieces
    for model in ({"type": "WordLevel"}, {}, [], {"type": []}, {"type": 7}):
        (tmp_path / "other.json").write_text(json.dumps({"model": model}))
        with pytest.raises(VocabularyError, match="other.json"):
            load_tokenizer(tmp_path / "other.json")
    old = json.loads((tmp_path / "tokenizer.json").read_text())
    del old["model"]["type"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert load_tokenizer(tmp_path / "old.json").pieces == small.pieces


# ------------------------------------------------------------------------------------------ edges


def test_a_word_may_have_a_hundred_characters():
    tokenizer = WordPiece(["[UNK]", "é", "##é", "x"], ["[UNK]"], bert=Bert(lower=False))
    assert len(tokenizer.encode("é" * 100)) == 100
    assert pieces(tokenizer, "é" * 101) == ["[UNK]"] and pieces(tokenizer, "é" * 9999) == ["[UNK]"]
    assert len(tokenizer.encode("é x " * 5000)) == 10_000


def test_a_random_cut_ends_whatever_the_scores_are():
    rng = np.random.default_rng(0)
    one = Unigram([("?", 0.0), ("a", -1.0)], 0)                       # <unk> may be a character
    assert one.encode("a?b").tolist() == one.sample("a?b", 0.5, rng).tolist() == [1, 0]
    assert one.log_likelihood("a?") == -1.0
    low = Unigram([("<unk>", 0.0), ("a", -1e308), ("aa", -1.7e308)])   # their sum overflows
    assert set(low.sample("a" * 99, 1.0, rng).tolist()) <= {1, 2}


def test_a_trie_that_is_full_says_so(monkeypatch):
    monkeypatch.setattr(trie, "MOST_NODES", 5)
    store = np.frombuffer(b"abcdef", dtype=np.uint8)
    assert len(trie.build.py_func(store, np.array([[0, 4]]))[1]) == 5       # the root and four
    with pytest.raises(ValueError, match="a trie holds 2.23 nodes"):
        trie.build.py_func(store, np.array([[0, 4], [1, 2]]))


def test_a_long_word_does_not_underflow():
    names, scores = ["a", "aa"], [-9.0, -9.5]
    counts, nats = trained_on({"a" * 5000: 2}, names, scores)
    assert np.isfinite(nats) and nats < -40_000                      # exp(-745) is 0 already
    assert abs(counts @ [1, 2] - 10_000) < 1e-3                      # every letter is in one piece


@pytest.mark.parametrize("change, message", [
    ({"model": None}, "model is None"), ({"model": {"type": "BPE", "vocab": {}}}, "'BPE'"),
    ({"normalizer": {"type": "NFC"}}, "normalizer.*NFC"), ({"normalizer": []}, "cannot read"),
    ({"normalizer": {"type": "BertNormalizer", "stem": True}}, "normalizer.*stem"),
    ({"pre_tokenizer": None}, "pre_tokenizer"), ({"pre_tokenizer": {"type": "Whitespace"}},
                                                 "pre_tokenizer.*Whitespace"),
    ({"decoder": {"type": "ByteLevel"}}, "decoder.*ByteLevel"),
    ({"decoder": {"type": "WordPiece", "prefix": "@@"}}, "decoder.*@@"),
    ({"truncation": {"max_length": 8}}, "truncation"), ({"padding": {"pad_id": 0}}, "padding"),
    ({"added_tokens": [{"id": 0, "content": "[PAD]", "normalized": True}]}, "PAD.*normalized"),
    ({"added_tokens": [{"id": 7, "content": "[PAD]"}]}, "PAD.*id 7"),
    ({"added_tokens": [{"id": 999, "content": "[X]"}]}, "999.*id is missing"),
    ({"added_tokens": 7}, "cannot read"),
])
def test_an_unsupported_word_piece_file_is_refused(small, tmp_path, change, message):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(to_json(small)) | change), encoding="utf-8")
    with pytest.raises(VocabularyError, match=message):
        WordPiece.load(path)


@pytest.mark.parametrize("change, message", [
    ({"vocab": {"[UNK]": 0, "a": 2}}, "'a' has the id 2"),
    ({"vocab": {"[UNK]": 0, "a": 0}}, "share one"), ({"vocab": {"[UNK]": 0, "a": -1}}, "id -1"),
    ({"vocab": {"[UNK]": 0, "a": "1"}}, "'1' for an id"), ({"vocab": [["a", .5]]}, "0.5 for an id"),
    ({"vocab": {"[UNK]": 0, "a": True}}, "True for an id"), ({"vocab": {"[UNK]": 0, "": 1}}, "''"),
    ({"vocab": {"a": 0}}, r"\[UNK\]' is not in"), ({"unk_token": None}, "None is not in"),
    ({"vocab": {"[UNK]": 0, "\ud800": 1}}, "lone surrogate"),
    ({"max_input_chars_per_word": 0}, "longest is 0"), ({"max_input_chars_per_word": "7"}, "'7'"),
])
def test_a_damaged_word_piece_model_is_refused(small, tmp_path, change, message):
    found = json.loads(to_json(small)) | {"added_tokens": []}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(found | {"model": found["model"] | change}), encoding="utf-8")
    with pytest.raises(VocabularyError, match=message):
        WordPiece.load(path)
    del found["model"]["unk_token"]
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(VocabularyError, match="no unk_token"):
        WordPiece.load(path)


@pytest.mark.parametrize("name, data, message", [
    ("vocab.txt", b"a\n\nb\n", "line 2 is empty"), ("vocab.txt", b"[UNK]\na\na\n", "'a'.*twice"),
    ("vocab.txt", b"a\nb\n", r"\[UNK\]"), ("vocab.txt", b"", "line 1 is empty|UNK"),
    ("vocab.txt", b"\xff\xfe", "not UTF-8"), ("tokenizer.json", b'{"model": {"ty', "cut short"),
    ("tokenizer.json", b"[]", "holds a list"), ("tokenizer.json", b"", "cut short"),
])
def test_a_damaged_file_of_word_pieces_is_refused(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(VocabularyError, match=message):
            WordPiece.load(path)
        with pytest.raises(VocabularyError, match=message):
            load_tokenizer(path)


def test_missing_word_piece_files_are_named(tmp_path):
    for path in (tmp_path, tmp_path / "tokenizer.json", tmp_path / "no.txt"):
        with pytest.raises(VocabularyError, match=re.escape(str(path))):
            WordPiece.load(path)
        with pytest.raises(VocabularyError, match=re.escape(str(path))):
            load_tokenizer(path)


@pytest.mark.parametrize("change, message", [
    ({"model": None}, "model is None"), ({"model": {"type": "BPE", "vocab": {}}}, "'BPE'"),
    ({"normalizer": {"type": "Precompiled"}}, "precompiled_charsmap"),
    ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAA"}}, "padding|cut short"),
    ({"normalizer": {"type": "BertNormalizer"}}, "normalizer.*BertNormalizer"),
    ({"normalizer": {"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""}}, "a String"),
    ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKD"}] * 3}}, "5832 times"),
    ({"truncation": {"max_length": 8}}, "truncation.*8"), ({"padding": {"pad_id": 0}}, "padding"),
    ({"pre_tokenizer": None}, "pre_tokenizer null"),
    ({"pre_tokenizer": {"type": "Metaspace", "replacement": "_"}}, "pre_tokenizer.*_"),
    ({"pre_tokenizer": {"type": "WhitespaceSplit"}}, "pre_tokenizer.*WhitespaceSplit"),
    ({"added_tokens": [{"id": 7, "content": "<unk>"}]}, "'<unk>' has the id 7"),
    ({"added_tokens": [{"id": 999, "content": "<y>"}]}, "'<y>' has the id 999"),
    ({"added_tokens": 7}, "cannot read"), ({"model": {"type": "Unigram", "vocab": 7}}, "list"),
])
def test_an_unsupported_unigram_file_is_refused(low_unigram, tmp_path, change, message):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(unigram_json(low_unigram)) | change), encoding="utf-8")
    with pytest.raises(VocabularyError, match=message):
        Unigram.load(path)


@pytest.mark.parametrize("pieces, unk_id, message", [
    ([], None, "empty"), ([["a", -1.0], ["a", -2.0]], None, "id 1 is 'a', which is there twice"),
    ([["", -1.0]], None, "no piece"), ([[7, -1.0]], None, "id 0 is 7"),
    ([["a", 1e101]], None, "'a' has 1e.101"), ([["a", "b"]], None, "could not convert"),
    ([["a", float("nan")]], None, "nan"), ([["a", float("-inf")]], None, "-inf"),
    ([["a"]], None, "unpack"), ([["a", -1.0]], 1, "unk_id 1 is not among"),
    ([["a", -1.0]], -1, "unk_id -1"), ([["a", -1.0]], "a", "unk_id 'a'"),
    ([["\ud800", -1.0]], None, "surrogate"),
])
def test_a_damaged_unigram_model_is_refused(low_unigram, tmp_path, pieces, unk_id, message):
    found = json.loads(unigram_json(low_unigram)) | {"added_tokens": []}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(found | {"model": {"type": "Unigram", "vocab": pieces,
                                                  "unk_id": unk_id}}), encoding="utf-8")
    with pytest.raises(VocabularyError, match=message):
        Unigram.load(path)
    path.write_text(path.read_text()[:-20], encoding="utf-8")
    with pytest.raises(VocabularyError, match="cut short"):
        Unigram.load(path)
    with pytest.raises(VocabularyError, match="no.json"):
        Unigram.load(tmp_path / "no.json")


def test_bad_input_to_word_pieces_is_refused_with_the_cure(small):
    for text in (b"bytes", 7, None, ["low"]):
        with pytest.raises(ValueError, match="encodes str"):
            small.encode(text)
        with pytest.raises(ValueError, match="encodes str"):
            small.encode_batch(["low", text], "all")
    for text in ("a\udfff", "\ud800", "é\ud800"):
        with pytest.raises(ValueError, match="lone surrogate"):
            small.encode(text)
    with pytest.raises(ValueError, match="list of str"):
        small.encode_batch("low")
    with pytest.raises(ValueError, match=r"unknown special token '\[X\]'.*\[CLS\]"):
        small.encode("low", "[X]")
    with pytest.raises(ValueError, match="no score 'pmi'; there are ratio, gain, frequency"):
        WordPiece.train("low", 100, score="pmi")
    with pytest.raises(ValueError, match="encodes str"):
        WordPiece.train(b"low", 100)
    with pytest.raises(ValueError, match="vocab_size 10 is smaller than the 5 special tokens and "
                                         "the alphabet of 6 pieces"):
        WordPiece.train("low", 10)
    for ids, message in (([9999], "id 9999"), ([-1], "id -1"), ([[1]], "shape"), ([.5], "float")):
        with pytest.raises(ValueError, match=message):
            small.decode(ids)
    for known, longest, message in ((["[UNK]", "a", "a"], 9, "'a' is in the vocabulary twice"),
                                    (["[UNK]", ""], 9, "one character or more, not ''"),
                                    (["[UNK]", 7], 9, "not 7"), (["[UNK]"], 0, "longest is 0"),
                                    (["a"], 9, r"'\[UNK\]' is not in the vocabulary")):
        with pytest.raises(ValueError, match=message):
            WordPiece(known, [], longest=longest)


def test_bad_input_to_unigram_is_refused_with_the_cure(low_unigram):
    for text in (b"bytes", 7, None, ["low"]):
        with pytest.raises(ValueError, match="encodes str"):
            low_unigram.encode(text)
        with pytest.raises(ValueError, match="encodes str"):
            low_unigram.encode_batch(["low", text], "all")
    for text in ("a\udfff", "\ud800"):
        with pytest.raises(ValueError, match="lone surrogate"):
            low_unigram.encode(text)
    with pytest.raises(ValueError, match="list of str"):
        low_unigram.encode_batch("low")
    with pytest.raises(ValueError, match="unknown special token '<x>'.*<unk>"):
        low_unigram.encode("low", "<x>")
    with pytest.raises(ValueError, match="no splitting rule 'word'; there are spaces, words, wh"):
        Unigram.train("low", 300, rule="word")
    for special in ("0", "<▁x>"):
        with pytest.raises(ValueError, match="is one character, or has a ▁.*another name"):
            Unigram.train("low", 300, specials=[special])
    with pytest.raises(ValueError, match="22 different characters.*room for 13; ask for more"):
        Unigram.train("low", 270)
    with pytest.raises(ValueError, match="encodes str"):
        Unigram.train(b"low", 300)
    for ids, message in (([350], "id 350"), ([-1], "id -1"), ([[1]], "shape"), ([.5], "float")):
        with pytest.raises(ValueError, match=message):
            low_unigram.decode(ids)


# ---------------------------------------------------------------------------------------- the run


def test_the_headline_of_the_run():
    result = measure(fast=True, seed=0)
    bytes_ = np.array([row[1:4] for row in result.rows])
    assert (np.diff(bytes_, axis=0) > 0).all()                       # a larger one packs more
    assert (bytes_[:, 0] > bytes_[:, 1]).all()                       # BPE more than Unigram
    bits = np.array([row[4:6] for row in result.rows])
    assert (np.diff(bits, axis=0) < 0).all()      # and costs fewer bits
    for V, _, _, _, bpe, uni, gap, error in result.rows:
        assert gap == bpe - uni and 0 < error < 0.1
        _, _, _, _, reported = min((row for row in result.seeds if row[0] == V),
                                   key=lambda row: row[3])
        assert reported == uni                      # chosen on one half, reported on the other
    rules = {(V, score): row for V, score, *row in result.rules}
    for V in (600, 800):
        assert rules[V, "gain"][1] < rules[V, "frequency"][1] < rules[V, "ratio"][1]
        assert rules[V, "ratio"][0] < 0.8 * rules[V, "gain"][0] < rules[V, "frequency"][0]
        assert rules[V, "frequency"][3:] == [0, 0]
    if result.digits:
        assert abs(sum(share for _, share in result.digits) - 1) < 1e-9
        assert 0.15 < result.aligned < 0.3 and dict(result.digits)["2+2"] == 0.52


def test_the_three_ways_to_cut_in_twos_differ_in_where_they_cut():
    for n in (123, 987, 1234, 1998):
        for cut in (twos_right, twos_left, twos_scattered):
            assert "".join(cut(n)) == str(n) and max(map(len, cut(n))) == 2
    assert twos_right(123) == ["1", "23"] and twos_left(123) == ["12", "3"]
    assert twos_right(1234) == twos_left(1234) == ["12", "34"]
    assert {tuple(map(len, twos_scattered(n))) for n in range(100, 2000)} == {
        (1, 2), (2, 1), (2, 2), (1, 2, 1)}
    pairs = range(10, 40)
    for cut in (twos_right, twos_left, threes_right, lambda n: [str(n)[:1], str(n)[1:]]):
        borders = lambda n: {len(str(n)) - k for k in  # noqa: E731
                             np.cumsum([len(p) for p in cut(n)])[:-1]} & {1}  # noqa: B023
        alike = np.mean([borders(a) == borders(b) == borders(a + b) for a in pairs for b in pairs])
        assert abs(alignment_of(cut, pairs) - alike) < 1e-12


# ------------------------------------------------- what an operator, a sign or a constant decides


def test_characters_that_berts_code_names():
    bert = Bert()
    assert bert.words("a\U0002b81fb") == ["a", "\U0002b81f", "b"]
    assert bert.words("a\U0002b880b") == ["a\U0002b880b"]             # as Hugging Face has it
    assert bert.words("a\ufffdb\x00c") == ["abc"]                     # what is left of broken text


def test_an_unknown_character_costs_ten_nats_more_than_the_rarest_piece():
    # two <unk>, or one and a dear piece: the border lies at -10 - 5 - 5 for "ab"
    for score, ids in ((-16.0, [1]), (-14.0, [1]), (-16.5, [1])):
        assert Unigram([("<unk>", 0.0), ("ab", score)]).encode("ab").tolist() == ids
    dear = Unigram([("<unk>", 0.0), ("b", -1.0), ("ab", -13.0)])
    assert dear.segmenter.scores[-1] == -23.0


def test_every_character_is_a_piece_even_one_that_no_cut_needs():
    tokenizer = Unigram.train("qu " * 40 + "quit quick " * 20, 300, rule="spaces", seeds=9)
    names = {name for name, _ in tokenizer.pieces}
    assert set("quitck") <= names
    text = "quest quit quiz queen quiet " * 30 + "abc abd abe " * 5
    for size in (290, 294):                                  # pruned to hardly more than letters
        names = {name for name, _ in Unigram.train(text, size, rule="spaces", seeds=9).pieces}
        assert set(text.replace(" ", "")) <= names


def test_the_first_byte_says_how_long_a_character_is():
    for character in "a\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff":
        data = character.encode()
        assert trie.width(data[0]) == len(data)
    assert trie.width(0xF0) == 4 and trie.width(0xE0) == 3 and trie.width(0xC0) == 2


def test_overlapping_pairs_count_once():
    assert gain(2, 3, 3, 10, True) == gain(1, 3, 3, 10, True)        # aaa: one place can merge
    assert gain(3, 4, 4, 10, True) == gain(2, 4, 4, 10, True)


def test_the_most_useful_substrings_are_kept_and_none_goes_across_words():
    words = ["abcd", "abcd", "xy", "xy", "xy", "yab"]
    symbols = np.frombuffer("".join(words).encode("utf-32-le"), dtype="<u4")
    rest = np.concatenate([np.arange(len(word), 0, -1) for word in words])
    weights = np.ones(len(symbols), np.int64)
    found = frequent_substrings(symbols, rest, weights, 6, 2, 1)
    assert [list(x) for x in found] == [[0], [4], [2]]               # 2 · 4 before 3 · 2
    every = frequent_substrings(symbols, rest, weights, 6, 2, 99)
    texts = {"".join(map(chr, symbols[a:a + n])) for a, n, _ in zip(*every)}
    assert texts == {"abcd", "bcd", "cd", "xy", "ab"}


def test_special_tokens_may_take_white_space_along(small, low_unigram, tmp_path):
    flags = {"[MASK]": ("lstrip", "rstrip"), "<s>": ("rstrip", "single_word")}
    words = WordPiece(small.pieces, small.specials, bert=small.bert, flags=flags)
    grams = Unigram(low_unigram.pieces, 0, True, "whole", "always", low_unigram.specials, flags)
    for name, saved in (("words", words), ("grams", grams)):
        saved.save(tmp_path / name)
        for tokenizer in (saved, load_tokenizer(tmp_path / name)):
            assert tokenizer.flags == {name: flags[name] for name in flags
                                       if name in tokenizer.specials} or tokenizer is saved
    assert words.cut("low [MASK]  low", "all") == ["low", "[MASK]", "low"]
    assert grams.cut("low <s>\n low x<s> <s><t>", "all") == [
        " low ", "<s>", " low x<s> ", "<s><t>", ""]
    low = low_unigram.encode(" low x").tolist()
    assert grams.encode("<s>  low x", "all").tolist() == [low_unigram.specials["<s>"], *low]
    assert grams.encode("low x").tolist() == low


def test_training_does_not_learn_from_special_tokens():
    rng = np.random.default_rng(0)
    parts = ["".join("ab cd"[i] for i in rng.integers(0, 5, 25)) for _ in range(150)]
    text = "<s>".join(parts)
    words = WordPiece.train(text, 60, [*SPECIALS, "<s>"])
    assert words.pieces == WordPiece.train(iter(parts), 60, [*SPECIALS, "<s>"]).pieces
    assert not any("<" in piece or "s" in piece for piece in words.pieces[len(SPECIALS) + 1:])
    for prepend, texts in (("never", parts), ("always", parts),
                           ("first", [" " * (n == 0 and part[0] != " ") + part
                                      for n, part in enumerate(parts)])):
        grams = Unigram.train(text, 60, False, "whole", prepend, ["<s>"])
        same = Unigram.train(iter(texts), 60, False, "whole",
                             "never" if prepend == "first" else prepend, ["<s>"])
        assert grams.pieces == same.pieces and grams.specials == {"<unk>": 0, "<s>": 59}
        assert not any("<" in piece for piece, _ in grams.pieces[1:-1])
    for kind in (WordPiece, Unigram):
        with pytest.raises(ValueError, match="encodes str"):
            kind.train([b"low"], 300, specials=["[UNK]", "<s>"])


def test_the_floor_costs_at_most_a_thousandth_of_a_nat_for_each_piece():
    counts = np.array([0.0, 1e-5, 2e-4, 3.0, 40.0])
    exact = (counts[counts > 0] * np.log(counts[counts > 0] / counts.sum())).sum()
    floored = (counts * log_shares(counts)).sum()
    assert exact - 1e-3 * len(counts) <= floored <= exact


# --------------------------------------------------------- tables of characters, and normalizers


TABLE = {"ﬁ": "fi", "Ａ": "A", "e\u0301": "é", "e\u0301\u0302": "ế", "\r": " ", "x": "", "\t": " ",
         "\u1100\u1161": "가"}


def read(rules):
    table = read_charsmap(charsmap(rules))
    return functools.partial(replaced, table=table, single={
        ord(key): value for key, value in table.items() if len(key) == 1})


def test_a_table_of_characters_is_read_back():
    assert read_charsmap(charsmap(TABLE)) == {key: value for key, value in TABLE.items()
                                              if len(key.encode()) < 6}
    rules = nfkc_rules() | {"\u0301\u0302": "short", "\u1100\u1161": "six bytes"}
    assert len(rules) > 4000 and read_charsmap(charsmap(rules)) == {
        key: value for key, value in rules.items() if len(key.encode()) < 6}


def test_clusters_are_replaced_and_else_characters():
    step = read(TABLE)
    for text, wanted in (
            ("", ""), ("ﬁx", "fi"), ("cafe\u0301!", "café!"), ("Ａ\u0301", "A"),
            ("Ａ\u20dd", "A\u20dd"),                                 # six bytes are taken apart
            ("e\u0301\u0302", "é"), ("e\u0302\u0301", "e\u0302\u0301"), ("a\r\nb", "a b"),
            ("a\n\rb", "a\n b"), ("\t\u0301x", " \u0301"), ("\u0301e\u0301", "\u0301é"),
            ("e\u0301e\u0301", "éé"), ("\u0600Ａ", "\u0600A"), ("xe\u0301x", "é")):
        assert step(text) == wanted, ascii(text)
    assert step("e\u0301" * 50_000) == "é" * 50_000


def units_of(blob):
    size = int.from_bytes(blob[:4], "little")
    return np.frombuffer(blob, "<u4", size // 4, 4).copy(), blob[4 + size:]


def packed(units, strings):
    return len(units.tobytes()).to_bytes(4, "little") + units.astype("<u4").tobytes() + strings


def test_a_damaged_or_hostile_table_of_characters_is_refused():
    blob = charsmap({"ab": "c", "d": "e"})
    units, strings = units_of(blob)
    loop = np.zeros(512, np.uint32)                         # each node is its own child for byte 2
    loop[0], loop[3] = 1 << 10, 2 | 2 << 10
    double = loop.copy()                                    # and for byte 4, so two ways each time
    double[5] = 4 | 4 << 10
    half, _ = units_of(charsmap({"é": "e"}))
    half[half == 0xA9] = 0                                  # the second byte is no byte of it now
    half[half & 255 == 0xC3] |= 1 << 8
    far = units.copy()
    far[0] |= 1 << 25
    wrong = units.copy()
    wrong[units >> 31 == 1] = (1 << 31) + 99
    deep = units.copy()
    deep[units & 255 == ord("d")] |= 1 << 30
    for bad, message in ((b"", "cut short"), (blob[:3], "cut short"), (blob[:40], "cut short"),
                         ((5).to_bytes(4, "little") + blob[4:], "cut short"),
                         (b"\0" * 12, "cut short"), (packed(loop, strings), "or a loop"),
                         (packed(double, strings), "or a loop"),
                         (packed(far, strings), "steps out of its array"),
                         (packed(deep, strings), "steps out of its array"),
                         (packed(units[:-1], strings), "steps out of its array"),
                         (packed(wrong, strings), "no string that starts at byte"),
                         (packed(units, b"c" * 9000 + b"\0"), "and soon ends"),
                         (packed(units, strings[:-1]), "and soon ends"),
                         (packed(units, b"\xff\0\xff\0"), "utf-8"),
                         (packed(half, strings), "utf-8")):
        start = time.process_time()
        with pytest.raises(ValueError, match=message):
            read_charsmap(bad)
        assert time.process_time() - start < 10


T5 = {"type": "Sequence", "normalizers": [
    {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap(TABLE)).decode()},
    {"type": "Strip", "strip_left": False, "strip_right": True},
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]}


@pytest.mark.parametrize("step, text, wanted", [
    ({"type": "Strip", "strip_left": True, "strip_right": False}, " \u3000a\x1f \n", "a\x1f \n"),
    ({"type": "Strip", "strip_left": False, "strip_right": True}, " a\x1f \n", " a\x1f"),
    ({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\\1"}, "a  b c   ",
     "a\\1b c\\1"),
    ({"type": "Replace", "pattern": {"String": "``"}, "content": '"'}, "```a", '"`a'),
    ({"type": "NFKD"}, "ﬁé", "fie\u0301"), ({"type": "NFD"}, "ﬁé", "ﬁe\u0301"),
    ({"type": "NFKC"}, "ﬁe\u0301", "fié"), ({"type": "NFC"}, "e\u0301", "é"),
    ({"type": "StripAccents"}, "e\u0301\u0903\u20dda", "ea"),
    ({"type": "Lowercase"}, "ΟΔΟΣ İ", "οδοσ i\u0307"), (T5, "Ａ   ﬁx \t", "A▁fi"),
])
def test_each_step_of_a_normalizer(step, text, wanted):
    assert normalizer_of(step, STEPS)(text) == wanted


def test_words_between_white_space_get_a_space_each(low_unigram, tmp_path):
    words = Unigram(low_unigram.pieces, 0, True, "words", "always", low_unigram.specials,
                    {"<s>": ("lstrip",)}, T5)
    spaces = Unigram(low_unigram.pieces, 0, True, "spaces", "always")
    for text, same in (("low  newest", " low newest"), ("\n low\x85new\u3000 ", " low new"),
                       ("", ""), (" \t", ""), ("▁low ▁ new", " low  new"),
                       ("low\x1fnew", " low\x1fnew"),
                       ("ﬁ  cafe\u0301", " fi café")):
        assert words.encode(text).tolist() == spaces.encode(same).tolist(), ascii(text)
        assert words.decode(words.encode(text)) == same[1:]
        assert words.log_likelihood(text) == spaces.log_likelihood(same)
    assert words.encode("low \n<s>new", "all").tolist() == [
        *spaces.encode("low"), words.specials["<s>"], *spaces.encode("new")]
    words.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path)
    assert (again.rule, again.prepend, again.normalizer) == ("words", "always", T5)
    found = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    old = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
    found["pre_tokenizer"]["pretokenizers"][1] = old                 # as t5-base itself has it
    (tmp_path / "tokenizer.json").write_text(json.dumps(found), "utf-8")
    assert load_tokenizer(tmp_path).rule == "words"
    for rule, prepend in (("words", "never"), ("words", "first"), ("gpt2", "always")):
        with pytest.raises(ValueError, match="prepend is one of"):
            Unigram(low_unigram.pieces, rule=rule, prepend=prepend)
        with pytest.raises(ValueError, match="prepend is one of"):
            Unigram.train("low", 300, rule=rule, prepend=prepend)
    trained = Unigram.train("low low\nlow\tnew", 300, rule="words", prepend="always")
    assert "▁low" in dict(trained.pieces) and "\n" not in dict(trained.pieces)
    same = Unigram.train(" low low low new", 300, rule="spaces", prepend="always")
    assert trained.pieces == same.pieces


def test_scores_may_be_above_0(tmp_path):
    names = ["<unk>", "a", "b", "ab", "ba"]
    up = Unigram(zip(names, [0.0, 1.0, 1.0, 2.5, 1.5]), rule="whole")
    assert up.encode("aba").tolist() == [3, 1]                       # 3.5, not 3 or 2.5
    assert up.encode("aab").tolist() == [1, 3] and up.encode("c").tolist() == [0]
    cuts = [3.0, 3.5, 2.5]
    assert abs(up.log_likelihood("aba") - log_sum(cuts)) < 1e-12
    up.save(tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path).pieces == up.pieces
    draws = [tuple(up.sample("aba", 1.0, np.random.default_rng(s))) for s in range(300)]
    assert 80 < draws.count((3, 1)) < 220 and len(set(draws)) == 3
    for score in (1e100, math.nan, math.inf):
        with pytest.raises(ValueError, match="for a score"):
            Unigram([("a", score)], None)


def test_lists_of_characters_are_those_that_the_peer_agrees_with():
    """tests/oracle compares every character; here is what a slip of the pen would change."""
    for characters, size, total in ((NO_MARKS, 31, 351515), (MORE_MARKS, 107, 88882685),
                                    (BEFORE, 26, 1025922)):
        assert (len(set(characters)), sum(characters)) == (size, total)
    for c, kind in (("\u0301", EXTEND), ("\u0903", EXTEND), ("\u200d", EXTEND), ("\u102b", 0),
                    ("\u00ad", CONTROL), ("\r", CONTROL), ("\u2028", CONTROL), ("\u0600", PREPEND),
                    ("\U000e0100", EXTEND), ("\U000e0001", CONTROL), ("a", 0),
                    ("\U0001f3fb", EXTEND)):
        assert kinds()[ord(c)] == kind


def test_steps_that_make_no_text_longer_may_be_many():
    steps = [{"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "StripAccents"},
             {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
             {"type": "Replace", "pattern": {"String": "``"}, "content": '"'}]
    step = normalizer_of({"type": "Sequence", "normalizers": steps * 16}, STEPS)
    assert step("  a``  e\u0301 ") == 'a"▁e'
    with pytest.raises(ValueError, match="times as long"):
        normalizer_of({"type": "Sequence", "normalizers": steps * 17}, STEPS)
