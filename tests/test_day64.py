"""Day 64 · Ship it: what is exported is the same model, and a server loses nobody."""

import json
import struct

import numpy as np
import pytest

from llm.generate.architecture import Architecture, check_weights, gpt_weights, shapes
from llm.generate.opened import open_model
from llm.generate.plain import Plain
from llm.generate.pretrained import load
from llm.generate.template import CHATML, Message
from llm.models.gpt import GPT, GPTConfig
from llm.models.llama import Llama, LlamaConfig
from llm.tokens.fast_bpe import FastBPE
from llm.weights import export, export_gguf, forms
from llm.weights.blocks import dequantise
from llm.weights.cursor import GGUFError
from llm.weights.export import ExportError, export_hf, import_hf, weights_of
from llm.weights.gguf import GGUF
from llm.weights.safetensors import SafeTensors

TEXT = "The cat sat on the mat. The cat sat on the other mat, and the dog ate the cat's hat."
CHATTY = ("<|im_start|>", "<|im_end|>")
FAMILIES = ["gpt2", "gpt_neox", "llama", "untied"]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def words(specials=(), rule="gpt2"):
    return FastBPE.train(TEXT * 3, 270 + len(specials), rule, specials)


def make(family, rng, specials=(), C=32, T=48):
    """(arch, weights, tokenizer): random, biases and gains too, a family as its name says."""
    tokenizer = words(specials)
    V = tokenizer.vocab_size + (3 if family == "gpt2" else 0)        # ids that no piece has
    if family in ("gpt2", "gpt_neox"):
        config = GPTConfig(V=V, T=T, C=C, L=2, H=4, rotary=family == "gpt_neox")
        arch, weights = gpt_weights(GPT(config, rng).state_dict(), config)
    else:
        config = LlamaConfig(V=V, T=T, C=C, L=2, H=4, K=2, F=64, base=500.0, eps=2.0**-17,
                             tied=family == "llama")
        arch, weights = Llama(config, rng).for_inference()
    noise = lambda a: (a + 0.2 * rng.standard_normal(a.shape)).astype(np.float32)
    return arch, {name: noise(a) for name, a in weights.items()}, tokenizer


def logits(arch, weights, n=20):
    return Plain(arch, weights).read((np.arange(n) * 7 % arch.V).tolist())


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert found[name].dtype == np.float32 and np.array_equal(found[name], wanted[name]), name


# ---------------------------------------------------------------- export

def test_the_blocks_by_hand():
    row = np.zeros((1, 32), np.float32)
    row[0, :5] = [-254, 127, 1, -1, 0.9]                  # d = 2: −127, 63.5, 0.5, −0.5, 0.45
    found = export_gguf.q8_0(row)
    assert found.shape == (1, 34) and found[0, :2].view(np.float16) == 2
    assert found[0, 2:8].view(np.int8).tolist() == [-127, 64, 1, -1, 0, 0]
    assert dequantise(found, "Q8_0")[0, :5].tolist() == [-254, 128, 2, -2, 0]
    assert export_gguf.q8_0(np.zeros((2, 64), np.float32)).tolist() == [[0] * 68] * 2


def test_a_file_by_hand(tmp_path):
    export_gguf.write_gguf(tmp_path / "x.gguf", {"a": 5}, {
        "w": ((1, 2), "F32", np.array([1, 2], "<f4")), "v": ((3,), "F32", np.zeros(3, "<f4"))})
    data = (tmp_path / "x.gguf").read_bytes()
    assert data[:24] == struct.pack("<4sIQQ", b"GGUF", 3, 2, 1)          # 24 bytes
    assert data[24:41] == struct.pack("<QcII", 1, b"a", 4, 5)            # 8 + 1 + 4 + 4
    assert data[41:82] == struct.pack("<QcIQQIQ", 1, b"w", 2, 2, 1, 0, 0)    # inputs first
    assert data[82:115] == struct.pack("<QcIQIQ", 1, b"v", 1, 3, 0, 32)
    assert data[115:128] == bytes(13) and data[128:136] == struct.pack("<ff", 1, 2)
    assert data[136:160] == bytes(24) and len(data) == 128 + 32 + 32
    file = GGUF(tmp_path / "x.gguf")
    assert file.metadata == {"a": 5} and file.array("w").tolist() == [[1, 2]]


def test_orders_by_hand():
    arch = Architecture(V=5, T=4, C=8, L=1, H=2, K=2, D=4, F=8, rotary=10.0)
    assert forms.as_ours(arch).tolist() == list(range(24))
    assert forms.head_by_head(arch).tolist() == [
        0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23]
    one = Architecture(V=5, T=4, C=8, L=1, H=2, K=1, D=4, F=8, rotary=10.0)
    assert forms.neighbours(one).tolist() == [
        0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 13, 14, 15]
    assert forms.cuts(one) == [8, 12]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_holds_the_same_model(family, rng, tmp_path):
    arch, weights, tokenizer = make(family, rng, CHATTY)
    export_hf(tmp_path, arch, weights, tokenizer, CHATML)
    about, arrays, again, template, ends = import_hf(tmp_path)
    assert Architecture(**about) == arch and template == CHATML
    assert ends == [tokenizer.specials["<|im_end|>"]]
    same(weights_of(arrays, arch), weights)
    assert again.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
    assert again.specials == tokenizer.specials
    model = open_model(tmp_path)
    assert model.arch == arch and model.stops == {ends[0]} and model.name == tmp_path.name
    ids = list(range(20))
    wanted = Plain(arch, weights).read(ids)[-1]
    assert np.allclose(model.engine(threads=1).prefill(ids), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_gguf_file_holds_the_same_model(family, rng, tmp_path):
    arch, weights, tokenizer = make(family, rng, CHATTY)
    export_gguf.export_gguf(tmp_path / "x.gguf", arch, weights, tokenizer, CHATML)
    model = open_model(tmp_path / "x.gguf")
    assert model.name == "x" and model.first is None
    assert model.stops == {tokenizer.specials["<|im_end|>"]}
    assert {**vars(model.arch), "eps": 0, "rotary": 0} == {**vars(arch), "eps": 0, "rotary": 0}
    assert model.arch.eps == np.float32(arch.eps) and model.arch.rotary == arch.rotary
    assert model.encode(TEXT) == tokenizer.encode(TEXT).tolist()
    text = str(model.template.render([Message("user", "hi")]))
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    ids = list(range(20))
    wanted = Plain(arch, weights).read(ids)[-1]
    assert np.allclose(model.engine(threads=1).prefill(ids), wanted, rtol=1e-4, atol=1e-4)


def test_day_52_reads_our_llama_exactly(rng, tmp_path):
    for family in ("llama", "untied"):
        arch, weights, tokenizer = make(family, rng)
        export_gguf.export_gguf(tmp_path / "x.gguf", arch, weights, tokenizer)
        model = load(tmp_path / "x.gguf")
        same(model.weights(), weights)
        assert np.allclose(logits(model.arch, model.weights()), logits(arch, weights), 1e-4, 1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_smaller_types_round_each_matrix_as_promised(family, rng, tmp_path):
    arch, weights, tokenizer = make(family, rng)
    their, sizes = forms.family(arch), {}
    form = forms.IN_GGUF[their]
    for kind in ("F32", "F16", "Q8_0"):
        export_gguf.export_gguf(tmp_path / "x.gguf", arch, weights, tokenizer, kind=kind, name="n")
        file = GGUF(tmp_path / "x.gguf")
        assert file.metadata["general.file_type"] == {"F32": 0, "F16": 1, "Q8_0": 7}[kind]
        assert file.metadata["general.name"] == "n"
        sizes[kind] = len(file.data)
        found = forms.restore(form, arch, {name: file.array(name) for name in file.tensors})
        for name, array in weights.items():
            if array.ndim == 1 or name == "positions" or kind == "F32":
                assert np.array_equal(found[name], array), name
            elif kind == "F16":
                assert np.array_equal(found[name], array.astype(np.float16)), name
            else:
                error = np.abs(found[name] - array).max()
                assert 0 < error <= 0.51 * np.abs(array).max() / 127, name
    assert sizes["F32"] > 1.5 * sizes["F16"] > 2 * sizes["Q8_0"]


def test_rows_that_are_no_whole_blocks_stay_in_16_bits(rng, tmp_path):
    arch, weights, tokenizer = make("gpt_neox", rng, C=40)
    export_gguf.export_gguf(tmp_path / "x.gguf", arch, weights, tokenizer, kind="Q8_0")
    file = GGUF(tmp_path / "x.gguf")
    kinds = {name: tensor.kind.name for name, tensor in file.tensors.items()}
    assert kinds["blk.0.attn_qkv.weight"] == "F16" and kinds["blk.0.ffn_down.weight"] == "Q8_0"
    assert kinds["blk.0.ffn_up.bias"] == "F32"
    with pytest.raises(ValueError, match=r"rows of 40 weights, shape \(3, 40\)"):
        export_gguf.q8_0(np.zeros((3, 40), np.float32))


def test_a_file_of_8_bits_is_what_the_numbers_say(rng):
    w = rng.normal(size=(5, 96)).astype(np.float32)
    raw = export_gguf.q8_0(w)
    assert raw.shape == (5, 102)
    blocks = w.reshape(-1, 32)
    d = np.abs(blocks).max(axis=1, keepdims=True) / 127
    assert (np.abs(dequantise(raw, "Q8_0").reshape(-1, 32) - blocks) <= 0.56 * d).all()


def test_without_biases_others_get_zeros(rng, tmp_path):
    arch, weights, tokenizer = make("gpt2", rng)
    bare = {n: a for n, a in weights.items() if n in shapes(arch)[0]}
    export_hf(tmp_path / "a", arch, bare, tokenizer)
    arrays = import_hf(tmp_path / "a")[1]
    found = weights_of(arrays, arch)
    check_weights(arch, found)
    assert found.keys() == weights.keys()
    assert not any(found[n].any() for n in found if n.endswith(("bias", ".b")))
    assert np.array_equal(logits(arch, found), logits(arch, bare))


@pytest.mark.parametrize("kind, dtype", [("F16", "float16"), ("BF16", "bfloat16")])
def test_a_folder_in_two_bytes_a_weight(kind, dtype, rng, tmp_path):
    arch, weights, tokenizer = make("llama", rng)
    export_hf(tmp_path, arch, weights, tokenizer, kind=kind)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == dtype
    stored = SafeTensors(tmp_path / "model.safetensors")
    assert {e.dtype for e in stored.entries.values()} == {kind}
    assert stored.metadata == {"format": "pt"}
    found = weights_of(import_hf(tmp_path)[1], arch)
    step = 2.0**-8 if kind == "BF16" else 2.0**-11
    for name, array in weights.items():
        assert (np.abs(found[name] - array) <= step * np.abs(array) + 1e-7).all()


def test_the_config_in_others_words(rng):
    arch, weights, _ = make("gpt_neox", rng)
    config = export.config_of(arch, True, ends=[7])
    assert config["model_type"] == "gpt_neox" and config["use_parallel_residual"] is False
    assert config["hidden_act"] == "gelu_new" and config["rotary_pct"] == 1.0
    assert config["eos_token_id"] == [7] and config["bos_token_id"] is None
    assert (config["hidden_size"], config["intermediate_size"]) == (32, 128)
    assert config["rope_parameters"]["rope_theta"] == 10000.0
    arch, *_ = make("llama", rng)
    config = export.config_of(arch, False)
    assert config["num_key_value_heads"] == 2 and config["rope_theta"] == 500.0
    assert config["eos_token_id"] is None and config["tie_word_embeddings"] is False
    arch, *_ = make("gpt2", rng)
    assert "rope_parameters" not in export.config_of(arch, True)


def test_a_vocabulary_without_an_end_names_a_byte_that_never_comes(rng, tmp_path):
    arch, weights, tokenizer = make("gpt2", rng)
    keys = export_gguf.vocabulary_keys(arch, tokenizer)
    assert keys["tokenizer.ggml.eos_token_id"] == keys["tokenizer.ggml.eot_token_id"] == 255
    assert keys["tokenizer.ggml.tokens"][-3:] == ["[unused 270]", "[unused 271]", "[unused 272]"]
    assert keys["tokenizer.ggml.token_type"][-4:] == [1, 5, 5, 5]
    assert "tokenizer.chat_template" not in keys and keys["tokenizer.ggml.add_bos_token"] is False
    both = words(("<|endoftext|>", "<|im_end|>"))
    arch = Architecture(**{**vars(arch), "V": both.vocab_size})
    keys = export_gguf.vocabulary_keys(arch, both)
    assert keys["tokenizer.ggml.eos_token_id"] == both.specials["<|endoftext|>"]
    assert keys["tokenizer.ggml.eot_token_id"] == both.specials["<|im_end|>"]
    assert keys["tokenizer.ggml.token_type"][-2:] == [3, 3]
    assert export.end_ids(both) == [both.specials["<|im_end|>"], both.specials["<|endoftext|>"]]


def test_what_has_no_form_elsewhere_is_refused(rng, tmp_path):
    arch, weights, tokenizer = make("gpt_neox", rng)
    folder = tmp_path / "folder"
    odd = Architecture(**{**vars(arch), "norm": "rms"})
    with pytest.raises(ValueError, match="norm 'rms', feed-forward 'gelu'"):
        export_hf(folder, odd, weights, tokenizer)
    for change in ({"K": 2}, {"D": 4}, {"feed_forward": "swiglu"}):
        with pytest.raises(ValueError, match="no architecture that others read"):
            forms.family(Architecture(**{**vars(arch), **change}))
    with pytest.raises(ValueError, match="no architecture that others read"):
        forms.family(Architecture(**{**vars(arch), "norm": "rms", "feed_forward": "swiglu",
                                     "rotary": None}))
    with pytest.raises(ValueError, match="F32, F16, BF16, not 'Q8_0'"):
        export_hf(folder, arch, weights, tokenizer, kind="Q8_0")
    with pytest.raises(ValueError, match="F32, F16, Q8_0, not 'BF16'"):
        export_gguf.export_gguf(folder, arch, weights, tokenizer, kind="BF16")
    with pytest.raises(ValueError, match="270 ids and the model embeds 200"):
        export_hf(folder, Architecture(**{**vars(arch), "V": 200}), weights, tokenizer)
    with pytest.raises(ValueError, match="of the kind list is not written"):
        export_hf(folder, arch, weights, [])
    with pytest.raises(ValueError, match="rule 'whole' has no name"):
        export_gguf.export_gguf(folder, arch, weights, words(rule="whole"))
    with pytest.raises(ValueError, match="'the' is written like an ordinary piece"):
        export_gguf.vocabulary_keys(Architecture(**{**vars(arch), "V": 271}), words(("the",)))
    large = {**weights, "blocks.0.up.w": weights["blocks.0.up.w"] + np.float32(1e5)}
    with pytest.raises(ValueError, match="dense_h_to_4h.weight holds 1e"):
        export_hf(folder, arch, large, tokenizer, kind="F16")
    with pytest.raises(ValueError, match="float16 ends at 65,504"):
        export_gguf.q8_0(np.full((1, 32), 1e8, np.float32))
    llama, weights, _ = make("llama", rng)
    with pytest.raises(ValueError, match="blocks.0.qkv.b has no place"):
        export_hf(folder, llama, {**weights, "blocks.0.qkv.b": np.zeros(64, np.float32)}, tokenizer)
    assert not folder.exists()


def test_folders_that_cannot_be_read_say_why(rng, tmp_path):
    arch, weights, tokenizer = make("gpt_neox", rng)
    with pytest.raises(ExportError, match=r"cannot read .*config.json: .*a model's folder\?"):
        import_hf(tmp_path)
    with pytest.raises(ExportError, match="neither a folder .* nothing of this name"):
        open_model(tmp_path / "absent")
    export_hf(tmp_path, arch, weights, tokenizer)
    config = json.loads((tmp_path / "config.json").read_text())

    def refuse(match, **change):
        new = {key: v for key, v in {**config, **change}.items() if v != "gone"}
        (tmp_path / "config.json").write_text(json.dumps(new))
        with pytest.raises(ExportError, match=match):
            open_model(tmp_path)

    refuse("holds a 'mamba' model", model_type="mamba")
    refuse("use_parallel_residual True; only False", use_parallel_residual=True)
    refuse("rotary_pct 0.25; only 1.0", rotary_pct=0.25)
    refuse("rotary_pct 0.25; only 1.0", rotary_pct="gone", rope_parameters={})
    refuse("stretches its rotary", rope_scaling={"factor": 2.0})
    refuse("stretches its rotary", rope_parameters={"rope_type": "yarn"})
    refuse("does not say 'hidden_size'", hidden_size="gone")
    refuse("must be at least 1", num_hidden_layers=0)
    refuse("lack", num_hidden_layers=3)
    refuse("holds 'gpt_neox.layers.1", num_hidden_layers=1)
    refuse("96 outputs; 72", hidden_size=24)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ExportError, match="is not whole JSON"):
        import_hf(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ExportError, match="holds a list, not an object"):
        import_hf(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"eos_token_id": 5}))
    assert import_hf(tmp_path)[4] == [5]
    (tmp_path / "tokenizer_config.json").unlink()
    assert import_hf(tmp_path)[3] is None
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ExportError, match=r"model.safetensors: only 1 bytes"):
        import_hf(tmp_path)


def test_a_gguf_gpt_that_is_not_ours_is_refused(rng, tmp_path):
    arch, weights, tokenizer = make("gpt_neox", rng)
    path = tmp_path / "x.gguf"

    def refuse(match, change=lambda metadata, tensors: None):
        metadata = {**export_gguf.shape_keys(arch, "gpt_neox"),
                    **export_gguf.vocabulary_keys(arch, tokenizer)}
        arrays = forms.rename(forms.IN_GGUF["gpt_neox"], arch, weights)
        tensors = {n: (a.shape, *export_gguf.encode(n, a, "F32")) for n, a in arrays.items()}
        change(metadata, tensors)
        export_gguf.write_gguf(path, metadata, tensors)
        with pytest.raises(GGUFError, match=match):
            open_model(path)

    refuse("both branches at once", lambda m, t: m.update({"gptneox.use_parallel_residual": True}))
    refuse("both branches at once", lambda m, t: m.pop("gptneox.use_parallel_residual"))
    refuse("turns a part", lambda m, t: m.update({"gptneox.rope.dimension_count": 2}))
    refuse("no token_embd.weight", lambda m, t: t.pop("token_embd.weight"))
    refuse("no heads", lambda m, t: m.update({"gptneox.attention.head_count": 0}))
    refuse("lack", lambda m, t: t.pop("blk.1.ffn_up.weight"))
    refuse("none of our arrays", lambda m, t: t.update({"odd": ((1,), "F32", np.ones(1, "<f4"))}))
    refuse("not finite", lambda m, t: t.update(
        {"output_norm.bias": ((32,), "F32", np.full(32, np.nan, "<f4"))}))
