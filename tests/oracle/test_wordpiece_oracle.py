"""Day 26 · WordPiece: text preparation, ids, decoding, files and training against Hugging Face's.

Strings are day 25's, random and adversarial, with special tokens mixed in. The two sides follow
different versions of Unicode, so code points are left out whose category has changed, and marks,
signs and control characters younger than Unicode 3.2, which the peer's older tables do not know.
"""

import itertools
import unicodedata

import numpy as np
import pytest

from llm.data.text import load
from llm.tokens.cut.bert import Bert
from llm.tokens.files.wordpiece import write_vocab
from llm.tokens.load import load_tokenizer
from llm.tokens.wordpiece import SPECIALS, WordPiece
from tests.oracle.strings import TRICKY, strings

tokenizers = pytest.importorskip("tokenizers")

PARTS = "lower", "strip_accents", "clean", "chinese"
THEIRS = "lowercase", "strip_accents", "clean_text", "handle_chinese_chars"
CONFIGURATIONS = [dict(zip(PARTS, values)) for values in itertools.product(
    (True, False), (None, True, False), (True, False), (True, False))]


def stable(code):
    """Do both sides give this code point the same category, whatever their versions?"""
    now = unicodedata.category(chr(code))
    before = unicodedata.ucd_3_2_0.category(chr(code))
    return now not in ("Cn", "Cs") and (now == before or (before == "Cn" and now[0] in "LNSZ"))


STABLE = {chr(code) for code in range(0x110000) if stable(code)}
EXTRA = ["[CLS]", "[MASK]", "[UNK", "[", "##", "##s", "#", "x" * 100, "x" * 101, "é" * 101, "don't",
         "don 't .", "$5", "ΟΔΟΣ", "İ", "ǆ", "\u1e9e", "豈", "\U0002b81f", "\U0002b820", "中a文"]


def all_strings():
    """Day 25's without what is not stable, and as many with words and signs that BERT minds."""
    rng = np.random.default_rng(26)
    kinds = TRICKY + EXTRA + [" "] * 20
    own = ["".join(kinds[i] for i in rng.integers(0, len(kinds), rng.integers(1, 30)))
           for _ in range(1000)]
    return ["".join(c for c in text if c in STABLE) for text in (*strings(), *EXTRA, *own)]


STRINGS = all_strings()


@pytest.fixture(scope="module")
def trained():
    """One vocabulary with lower case, one without."""
    text = load("python").text[:300_000] + " ".join(TRICKY * 20) + "\n".join(STRINGS)
    return {lower: WordPiece.train(text, 9000, lower=lower) for lower in (True, False)}


def with_bert(tokenizer, bert, specials=SPECIALS):
    return WordPiece(tokenizer.pieces, specials, bert=bert)


def in_hugging_face(ours, path):
    """Hugging Face's reading of the file that we write."""
    ours.save(path / "tokenizer.json")
    return tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))


def assert_same(ours, theirs, special="all"):
    ids = [e.ids for e in theirs.encode_batch(STRINGS, add_special_tokens=False)]
    assert [ours.encode(text, special).tolist() for text in STRINGS] == ids
    assert [found.tolist() for found in ours.encode_batch(STRINGS, special)] == ids
    return ids


@pytest.mark.parametrize("steps", CONFIGURATIONS)
def test_every_code_point_is_normalised_as_the_peer_does(steps):
    ours = Bert(**steps)
    theirs = tokenizers.normalizers.BertNormalizer(
        **{name: steps[part] for name, part in zip(THEIRS, PARTS)})
    points = sorted(STABLE)
    for start in range(0, len(points), 5000):
        text = "".join(f"a{c}B {c}\n" for c in points[start:start + 5000])
        assert ours.normalize(text) == theirs.normalize_str(text)
    for text in STRINGS[::3]:
        assert ours.normalize(text) == theirs.normalize_str(text), repr(text)


def test_code_points_without_a_character_stay_as_they_stay_for_the_peer():
    theirs = tokenizers.normalizers.BertNormalizer(lowercase=False)
    for code in range(0, 0x110000, 97):
        c = chr(code)
        if unicodedata.category(c) == unicodedata.ucd_3_2_0.category(c) == "Cn":
            assert Bert(lower=False).normalize(f"a{c}b") == theirs.normalize_str(f"a{c}b")


def test_every_code_point_is_cut_as_the_peer_does():
    ours = Bert(lower=False, strip_accents=False, clean=False, chinese=False)
    theirs = tokenizers.pre_tokenizers.BertPreTokenizer()
    points = sorted(STABLE)
    for start in range(0, len(points), 5000):
        text = "".join(f"a{c}b {c}{c} " for c in points[start:start + 5000])
        assert ours.words(text) == [word for word, _ in theirs.pre_tokenize_str(text)]


@pytest.mark.parametrize("steps", CONFIGURATIONS[::5])
def test_ids_equal_the_peers_for_every_configuration(trained, steps, tmp_path):
    ours = with_bert(trained[steps["lower"]], Bert(**steps))
    ids = assert_same(ours, in_hugging_face(ours, tmp_path))
    assert len(set(itertools.chain(*ids))) > 200


@pytest.mark.parametrize("lower", [True, False])
def test_without_special_tokens_their_names_are_text(trained, lower, tmp_path):
    ours = trained[lower]
    theirs = in_hugging_face(with_bert(ours, ours.bert, ()), tmp_path)
    assert_same(ours, theirs, ())
    assert ours.specials["[CLS]"] not in ours.encode("[CLS] x [MASK]")


@pytest.mark.parametrize("prefix, longest", [("", 7), ("@@", 3), ("x", 100)])
def test_other_prefixes_and_lengths_too(trained, prefix, longest, tmp_path):
    pieces = {piece.replace("##", prefix) if piece != "##" else piece: None
              for piece in trained[True].pieces}
    ours = WordPiece(pieces, prefix=prefix, longest=longest)
    assert_same(ours, in_hugging_face(ours, tmp_path))


@pytest.mark.parametrize("cleanup", [True, False])
def test_decoding_equals_the_peers(trained, cleanup, tmp_path):
    ours = WordPiece([*trained[False].pieces, "'s", "do not", "##'m", "...", "n't", "' "],
                     bert=Bert(lower=False), cleanup=cleanup)
    theirs = in_hugging_face(ours, tmp_path)
    rng = np.random.default_rng(0)
    for n in range(300):
        ids = rng.integers(0, ours.vocab_size, n % 20)
        ids[rng.random(len(ids)) < .3] = ours.vocab_size - 1 - n % 6
        assert ours.decode(ids) == theirs.decode(ids.tolist(), skip_special_tokens=False)
    for text in STRINGS[::5]:
        ids = ours.encode(text)
        assert ours.decode(ids) == theirs.decode(ids.tolist(), skip_special_tokens=False)


@pytest.mark.parametrize("lower", [True, False])
def test_files_that_the_peer_trained_are_read_to_the_same_ids(lower, tmp_path):
    theirs = tokenizers.BertWordPieceTokenizer(lowercase=lower)
    theirs.train_from_iterator([load("python").text[:300_000], *STRINGS], vocab_size=6000,
                               show_progress=False)
    theirs.save(str(tmp_path / "tokenizer.json"))
    theirs.save_model(str(tmp_path))
    for ours in (WordPiece.load(tmp_path / "tokenizer.json"), load_tokenizer(tmp_path),
                 WordPiece.load(tmp_path / "vocab.txt", lower=lower)):
        assert ours.bert == Bert(lower=lower) and ours.vocab_size == theirs.get_vocab_size()
        assert_same(ours, theirs)


@pytest.mark.parametrize("lower", [True, False])
def test_the_peer_reads_our_vocab_txt(trained, lower, tmp_path):
    write_vocab(trained[lower], tmp_path / "vocab.txt")
    theirs = tokenizers.BertWordPieceTokenizer(str(tmp_path / "vocab.txt"), lowercase=lower)
    assert theirs.get_vocab() == trained[lower].ids
    assert_same(trained[lower], theirs)


def test_the_peers_trainer_counts_pairs_and_learns_what_score_frequency_learns():
    text = load("python").text[:300_000]
    theirs = tokenizers.BertWordPieceTokenizer()
    theirs.train_from_iterator([text], vocab_size=500, show_progress=False)
    learned = {piece for piece in theirs.get_vocab() if len(piece.removeprefix("##")) > 1}
    ours = [piece for piece in WordPiece.train(text, 700, score="frequency").pieces
            if len(piece.removeprefix("##")) > 1]
    assert len(learned) > 300 and set(ours[:len(learned)]) == learned
