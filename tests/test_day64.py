"""Day 64 · Ship it: what is exported is the same model, and a server loses nobody."""

import argparse
import asyncio
import contextlib
import json
import queue
import struct
import threading
import time
from functools import partial

import numpy as np
import pytest

from days.day64.run import measure
from llm.generate import answered, asked, chat, delivery, formats, server
from llm.generate.architecture import Architecture, check_weights, gpt_weights, shapes
from llm.generate.metrics import Metrics
from llm.generate.opened import open_model
from llm.generate.plain import Plain
from llm.generate.pretrained import load
from llm.generate.refused import Refused, flag, number
from llm.generate.served import News, Served, Token, ranked
from llm.generate.server_app import LOCAL, MOST_BODY, Service
from llm.generate.template import CHATML, Message
from llm.generate.truncate import Chooser
from llm.generate.worker import Closed, Full, Worker
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


def theirs(family, where, rng):
    """(arch, our weights, their arrays), for tests that know the other side."""
    arch, weights, _ = make(family, rng)
    return arch, weights, forms.rename(where[forms.family(arch)], arch, weights)


def test_gpt_neox_has_query_key_and_value_of_one_head_together(rng):
    arch, weights, arrays = theirs("gpt_neox", forms.HUGGING_FACE, rng)
    w, b = weights["blocks.1.qkv.w"], weights["blocks.1.qkv.b"]
    found = arrays["gpt_neox.layers.1.attention.query_key_value.weight"]
    bias = arrays["gpt_neox.layers.1.attention.query_key_value.bias"]
    for head in range(4):
        for part in range(3):
            for j in range(8):
                row, ours = head * 24 + part * 8 + j, part * 32 + head * 8 + j
                assert (found[row] == w[:, ours]).all() and bias[row] == b[ours]
    assert set(arrays) == {
        "gpt_neox.embed_in.weight", "gpt_neox.final_layer_norm.weight",
        "gpt_neox.final_layer_norm.bias"} | {
        f"gpt_neox.layers.{i}.{part}.{end}" for i in (0, 1) for end in ("weight", "bias")
        for part in ("input_layernorm", "attention.query_key_value", "attention.dense",
                     "post_attention_layernorm", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")}
    same = arrays["gpt_neox.layers.0.mlp.dense_4h_to_h.weight"]
    assert np.array_equal(same, weights["blocks.0.down.w"].T) and same.flags.c_contiguous


def test_gpt2_keeps_inputs_first(rng):
    arch, weights, arrays = theirs("gpt2", forms.HUGGING_FACE, rng)
    for part, name in (("qkv", "attn.c_attn"), ("project", "attn.c_proj"), ("up", "mlp.c_fc"),
                       ("down", "mlp.c_proj")):
        found = arrays[f"transformer.h.1.{name}.weight"]
        assert np.array_equal(found, weights[f"blocks.1.{part}.w"])
        assert np.array_equal(arrays[f"transformer.h.1.{name}.bias"], weights[f"blocks.1.{part}.b"])
    for part, name in (("norm", "ln_f"), ("blocks.0.norm1", "h.0.ln_1"),
                       ("blocks.0.norm2", "h.0.ln_2")):
        assert np.array_equal(arrays[f"transformer.{name}.weight"], weights[f"{part}.gain"])
        assert np.array_equal(arrays[f"transformer.{name}.bias"], weights[f"{part}.bias"])
    assert np.array_equal(arrays["transformer.wpe.weight"], weights["positions"])
    assert np.array_equal(arrays["transformer.wte.weight"], weights["embed"])
    assert len(arrays) == 4 + 2 * 12


def test_llama_keeps_queries_keys_and_values_apart(rng):
    arch, weights, arrays = theirs("untied", forms.HUGGING_FACE, rng)
    w = weights["blocks.1.qkv.w"].T
    for name, rows in (("q", w[:32]), ("k", w[32:48]), ("v", w[48:])):
        assert np.array_equal(arrays[f"model.layers.1.self_attn.{name}_proj.weight"], rows)
    for part, name in (("project", "self_attn.o_proj"), ("gate", "mlp.gate_proj"),
                       ("up", "mlp.up_proj"), ("down", "mlp.down_proj")):
        assert np.array_equal(arrays[f"model.layers.0.{name}.weight"],
                              weights[f"blocks.0.{part}.w"].T)
    assert np.array_equal(arrays["lm_head.weight"], weights["head"].T)
    assert np.array_equal(arrays["model.embed_tokens.weight"], weights["embed"])
    assert np.array_equal(arrays["model.norm.weight"], weights["norm.gain"])
    for i, name in ((1, "input_layernorm"), (2, "post_attention_layernorm")):
        assert np.array_equal(arrays[f"model.layers.0.{name}.weight"],
                              weights[f"blocks.0.norm{i}.gain"])
    assert len(arrays) == 3 + 2 * 9


def test_gguf_names_of_a_gpt(rng):
    for family, more in (("gpt2", {"position_embd.weight"}), ("gpt_neox", {"output.weight"})):
        arch, weights, arrays = theirs(family, forms.IN_GGUF, rng)
        assert set(arrays) == more | {"token_embd.weight", "output_norm.weight",
                                      "output_norm.bias"} | {
            f"blk.{i}.{part}.{end}" for i in (0, 1) for end in ("weight", "bias")
            for part in ("attn_norm", "attn_qkv", "attn_output", "ffn_norm", "ffn_up", "ffn_down")}
        assert np.array_equal(arrays["blk.1.attn_qkv.weight"], weights["blocks.1.qkv.w"].T)
        assert np.array_equal(arrays["blk.1.ffn_down.weight"], weights["blocks.1.down.w"].T)
        keys = export_gguf.shape_keys(arch, family)
        there = {"gpt2": "gpt2", "gpt_neox": "gptneox"}[family]
        wanted = {"context_length": 48, "embedding_length": 32, "block_count": 2,
                  "feed_forward_length": 128, "attention.head_count": 4,
                  "attention.layer_norm_epsilon": 1e-5}
        if family == "gpt_neox":
            wanted |= {"rope.dimension_count": 8, "rope.freq_base": 10000.0,
                       "use_parallel_residual": False}
            assert np.array_equal(arrays["output.weight"], weights["embed"])
        assert keys == {"general.architecture": there,
                        **{f"{there}.{key}": value for key, value in wanted.items()}}
    arch, *_ = make("llama", rng)
    keys = export_gguf.shape_keys(arch, "llama")
    assert keys["llama.attention.head_count_kv"] == 2 and keys["llama.attention.key_length"] == 8
    assert keys["llama.attention.value_length"] == keys["llama.rope.dimension_count"] == 8
    assert keys["llama.rope.freq_base"] == 500 and len(keys) == 12


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


def test_a_head_without_its_embedding_is_for_check_weights_to_tell(rng):
    arch, _, arrays = theirs("untied", forms.HUGGING_FACE, rng)
    del arrays["model.embed_tokens.weight"]
    found = forms.restore(forms.HUGGING_FACE[forms.family(arch)], arch, arrays)
    assert "head" in found and "embed" not in found
    with pytest.raises(ValueError, match="lack"):
        check_weights(arch, found)


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
        clash = words(("<s>",))
        clash.specials = {"the": 270}
        export_gguf.vocabulary_keys(Architecture(**{**vars(arch), "V": 271}), clash)
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


# ---------------------------------------------------------------- the worker

BLOCK = 2 * 2 * 2 * 8 * 4 * 16                   # k and v, L, K, D, float32, 16 tokens: 4,096 bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "cat"
    arch, weights, tokenizer = make("llama", np.random.default_rng(0), CHATTY, T=256)
    export_hf(path, arch, weights, tokenizer, CHATML)
    return path


@pytest.fixture(scope="module")
def model(folder):
    return open_model(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model that continues texts, has no end, and embeds three ids without a text."""
    path = tmp_path_factory.mktemp("models") / "base"
    arch, weights, tokenizer = make("gpt2", np.random.default_rng(1), T=64)
    weights["embed"][-3:] *= 9                    # which it likes
    export_hf(path, arch, weights, tokenizer)
    return open_model(path)


@contextlib.contextmanager
def working(model, seconds=300, **options):
    worker = Worker(model, **options)
    worker.start()
    try:
        yield worker
    finally:
        worker.close(seconds)
        assert not worker.thread.is_alive()


def ask(model, n=12, prompt="The cat", **more):
    return Served(model.encode(prompt), n, **{"seed": 1, "options": {"temperature": 0.8}, **more})


def listen(worker, request):
    """Submit -> a function that returns all its News, once it has ended."""
    told = queue.Queue()
    request.tell = told.put
    worker.submit(request)

    def all_of_it():
        found = [told.get(timeout=300)]
        while found[-1].reason is None:
            found.append(told.get(timeout=300))
        return found
    return all_of_it


def alone(model, request):
    """The ids that day 42's decoder and day 41's chooser choose, without any company."""
    decoder = model.engine(threads=1)
    choose = Chooser(np.random.default_rng(request.seed), **request.options)
    known = [int(i) for i in request.prompt]
    z = decoder.prefill(known)
    while len(known) < len(request.prompt) + request.n:
        known.append(int(choose(z, known)))
        if known[-1] in request.ends:
            break
        z = decoder.step(known[-1])
    return known[len(request.prompt):]


def held(worker):
    """Make the worker's steps wait for an Event."""
    step, go = worker.scheduler.step, threading.Event()

    def later():
        assert go.wait(300)
        return step()
    worker.scheduler.step = later
    return go


def wait_for(what):
    end = time.monotonic() + 300
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


def test_blocks_and_context_by_hand(model):
    assert Worker(model, memory=10 * BLOCK + 5).pool.blocks == 10
    assert Worker(model, memory=10 * BLOCK + 5).context == 160
    small = Worker(model, most=2, memory=1 << 30)
    assert small.pool.blocks == 32 and small.context == 256          # two whole texts, no more
    assert small.limit == 66 and small.scheduler.rows == 64
    assert Worker(model, most=70, memory=BLOCK).scheduler.rows == 70
    with pytest.raises(ValueError, match="4,095 bytes .* 16 tokens take 4,096"):
        Worker(model, memory=BLOCK - 1)


def test_the_news_are_what_the_model_says_alone_and_grow(model):
    start, steps = time.perf_counter(), []
    with working(model, most=3) as worker:
        step = worker.scheduler.step
        worker.scheduler.step = lambda: (steps.append(1), step())[1]
        asked_for = [ask(model, seed=s, n=10 + s, prompt=TEXT[:5 + s]) for s in range(8)]
        heard = [listen(worker, request) for request in asked_for]
        for request, all_of_it in zip(asked_for, heard):
            news = all_of_it()
            wanted = alone(model, request)
            assert request.ids == wanted
            assert news[-1].text == model.tokenizer.decode(wanted)
            assert news[-1].reason == "length" and news[-1].written == len(wanted)
            assert [n.written for n in news] == list(range(1, len(wanted) + 1))
            assert all(b.text.startswith(a.text) for a, b in zip(news, news[1:]))
            assert news[-1].tokens == ()
        wait_for(lambda: not worker.inside)
        counters = worker.metrics.counters
        assert counters["requests_total", (("reason", "length"),)] == 8
        assert counters["generated_tokens_total", ()] == sum(r.n for r in asked_for)
        assert counters["prompt_tokens_total", ()] == sum(len(r.prompt) for r in asked_for)
        assert sum(worker.metrics.histograms["first_token_seconds"][0]) == 8
        assert sum(worker.metrics.histograms["request_seconds"][0]) == 8
        assert 0 < worker.metrics.histograms["first_token_seconds"][1][0] < (
            worker.metrics.histograms["request_seconds"][1][0]) < 8 * (
            time.perf_counter() - start)
        assert worker.gauges() == {"requests_running": 0, "requests_waiting": 0,
                                   "blocks_free": worker.pool.blocks,
                                   "blocks_total": worker.pool.blocks}
    assert counters["steps_total", ()] == len(steps)         # the worker has ended


def test_who_would_make_the_queue_too_long_is_turned_away(model):
    worker = Worker(model, most=1, waiting=2)
    for _ in range(3):
        worker.submit(ask(model))
    assert worker.gauges()["requests_waiting"] == 3
    with pytest.raises(Full, match="3 requests are here already; come again in 1 s") as full:
        worker.submit(ask(model))
    assert full.value.seconds == 1 and len(worker.inside) == 3
    worker.start()
    wait_for(lambda: not worker.inside)
    worker.submit(ask(model))                                # and now there is room again
    worker.close()


def test_the_time_to_come_again_is_that_between_two_endings(model):
    worker = Worker(model)
    assert worker.patience() == 1
    worker.ended.extend([7.0])
    assert worker.patience() == 1
    worker.ended.extend([10.0, 12.2])
    assert worker.patience() == 3                            # 5.2 / 2 = 2.6
    worker.ended.extend([12.2] * 14)
    assert worker.patience() == 1                            # the last 16: 2.2 / 15


def test_a_cancelled_request_gives_its_blocks_back_and_the_others_go_on(model):
    with working(model, most=2) as worker:
        go = held(worker)
        heard = [listen(worker, ask(model, n=60, seed=s)) for s in range(3)]
        wait_for(lambda: len(worker.inside) == 3)
        for request in list(worker.inside):
            if request.seed != 1 and request.n == 60:
                worker.cancel(request)
        worker.cancel(ask(model))                            # one that was never here
        go.set()
        reasons = [all_of_it()[-1].reason for all_of_it in heard]
        assert sorted(reasons) == ["cancelled", "cancelled", "length"] or len(set(reasons)) == 2
        wait_for(lambda: not worker.inside)
        assert len(worker.pool.free) == worker.pool.blocks


def test_who_is_inside_is_served_to_the_end_when_the_worker_closes(model):
    worker = Worker(model, most=1)
    worker.start()
    heard = [listen(worker, ask(model, seed=s)) for s in range(4)]
    worker.close(300)
    assert [all_of_it()[-1].reason for all_of_it in heard] == ["length"] * 4
    assert not worker.thread.is_alive()
    with pytest.raises(Closed, match="the server is shutting down"):
        worker.submit(ask(model))
    never = Worker(model)
    never.close()                                            # nobody started it
    assert never.closing


def test_who_is_still_inside_when_time_is_up_is_cancelled(model):
    worker = Worker(model)
    step = worker.scheduler.step
    worker.scheduler.step = lambda: (time.sleep(0.05), step())[1]
    worker.start()
    heard = [listen(worker, ask(model, n=200, seed=s)) for s in range(2)]
    start = time.monotonic()
    worker.close(0.1)
    assert time.monotonic() - start < 8 and not worker.thread.is_alive()
    assert [all_of_it()[-1].reason for all_of_it in heard] == ["cancelled"] * 2


def test_those_inside_have_half_a_minute_unless_another_time_is_given(model):
    waited = []
    worker = Worker(model)
    worker.start()
    join = worker.thread.join
    worker.thread.join = lambda seconds: (waited.append(seconds), join(seconds))
    worker.close()
    worker.close(7)
    assert waited == [30, 5, 7, 5]                           # 5 s more for those who are cancelled


def test_a_fault_in_one_request_ends_that_request(model):
    def broken(logits, so_far):
        raise RuntimeError("no")

    with working(model) as worker:
        bad = ask(model, options={"adjust": [broken]})
        too_long = ask(model, n=1000)
        good = ask(model)
        heard = [listen(worker, request) for request in (bad, too_long, good)]
        reasons = [all_of_it()[-1].reason for all_of_it in heard]
        assert reasons == ["error", "error", "length"]
        assert bad.error == "RuntimeError: no" and "need room for 10" in too_long.error
        assert good.ids == alone(model, good)
        assert len(worker.pool.free) == worker.pool.blocks


def test_a_fault_of_the_scheduler_ends_all_and_nobody_comes_in_any_more(model):
    worker = Worker(model)

    def broken():
        raise MemoryError("gone")

    worker.scheduler.step = broken
    heard = [listen(worker, ask(model)) for _ in range(2)]
    worker.start()
    assert [all_of_it()[-1].reason for all_of_it in heard] == ["error", "error"]
    wait_for(lambda: not worker.thread.is_alive())
    with pytest.raises(Closed, match="MemoryError: gone"):
        worker.submit(ask(model))
    worker.close()


# ---------------------------------------------------------------- a request that is served

def test_log_probabilities_by_hand():
    z = np.log([0.5, 0.125, 0.25, 0.125]).astype(np.float32) + 300
    logp, top = ranked(z, 2, 3)
    assert abs(logp - np.log(0.25)) < 1e-4
    assert [i for i, _ in top] == [0, 2, 1]                          # of equals the lower id
    assert np.allclose([p for _, p in top], np.log([0.5, 0.25, 0.125]), atol=1e-4)
    assert ranked(z, 0, 0)[1] == []


def say(model, ids, **more):
    """A Served that is made to choose these ids, and its News after each."""
    request = Served(model.encode("The"), more.pop("n", 50), **more)
    request.options = {"temperature": 0, "adjust": []}
    request.start(model.tokenizer)
    news = []
    for i in ids:
        z = np.zeros(model.arch.V, np.float32)
        z[i] = 5
        request.add(z)
        news.append(request.news())
        if request.reason:
            break
    return request, news


def spelled(model, text):
    return model.tokenizer.encode(text).tolist()


def test_tokens_come_out_with_their_text(model):
    ids = spelled(model, "xö!z")                                     # ö is two tokens
    assert len(ids) == 5
    request, news = say(model, ids, logprobs=2, n=5)
    assert [n.text for n in news] == ["x", "x", "xö", "xö!", "xö!z"]
    assert [len(n.tokens) for n in news] == [1, 1, 3, 4, 5]
    assert [t.begins for t in news[-1].tokens] == [0, 1, 1, 2, 3]
    assert news[-1].reason == "length" and news[-1].tokens[0].top[0][0] == ids[0]
    assert abs(news[-1].tokens[0].logp - (5 - np.log(np.exp(5) + model.arch.V - 1))) < 1e-6


def test_tokens_of_a_stop_string_are_not_listed(model):
    ids = spelled(model, "xq#zy")
    request, news = say(model, ids, logprobs=0, stop=("#z",))
    assert [n.text for n in news] == ["x", "xq", "xq", "xq"]
    assert news[-1].reason == "stop" and [t.id for t in news[-1].tokens] == ids[:2]
    assert news[-1].written == 4


def test_the_id_that_ends_is_counted_and_not_listed(model):
    end = min(model.stops)
    request, news = say(model, [*spelled(model, "xq"), end], logprobs=0, ends=(end,))
    assert news[-1] == News("xq", tuple(request.tokens[:2]), 3, "end")
    request, news = say(model, [195], logprobs=0, n=1)               # half a character at the end
    assert news[-1].text == "\ufffd" and len(news[-1].tokens) == 1


def test_a_complete_pattern_ends_the_text(base):
    kind = formats.Formats(base)
    body = {"type": "json_schema", "json_schema": {"schema": {"enum": [True, "äx"]}}}
    wanted = asked.Asked(Served(base.encode("The"), 20, options={"temperature": 0, "adjust": []}),
                         False, False, False, kind.pattern(body))
    kind.constrain(wanted)
    request = wanted.request
    assert request.ends == () and request.constraint.start == len(request.prompt)
    request.start(base.tokenizer)
    while request.reason is None:
        request.add(np.zeros(base.arch.V, np.float32))
    assert request.reason == "end" and json.loads(request.text) in (True, "äx")


# ---------------------------------------------------------------- what was asked

def parse(opened, chat=False, context=100, **body):
    model = opened
    body = {"model": model.name, **({"messages": [{"role": "user", "content": "hi"}]} if chat else
                                    {"prompt": "The"}), **body}
    return asked.read(body, model, context, chat, formats.Formats(model).pattern)


def test_numbers_and_truth_values_are_checked():
    assert number({}, "x", 0, 1, 7) == 7 and number({"x": None}, "x", 0, 1, 7) == 7
    assert number({"x": 0}, "x", 0, 1, 7) == 0 and number({"x": 1.0}, "x", 0, 1, 7) == 1
    for value in (-0.1, 1.1, "1", True, [1], float("nan")):
        with pytest.raises(Refused, match="x must be a number from 0 to 1") as no:
            number({"x": value}, "x", 0, 1, 7)
        assert no.value.status == 400 and no.value.body["error"]["param"] == "x"
    with pytest.raises(Refused, match="x must be a whole number from 0 to 3, not '1.0'"):
        number({"x": 1.0}, "x", 0, 3, 7, whole=True)
    assert flag({}, "x") is False and flag({"x": None}, "x") is False and flag({"x": True}, "x")
    with pytest.raises(Refused, match="x must be true or false, not '1'"):
        flag({"x": 1}, "x")
    no = Refused(418, "m", "p", "c", "k", {"A": "b"})
    assert no.body == {"error": {"message": "m", "type": "k", "param": "p", "code": "c"}}
    assert (no.status, no.headers, str(no)) == (418, {"A": "b"}, "m")
    assert Refused(400, "m").body["error"]["type"] == "invalid_request_error"


def test_a_plain_request_gets_the_defaults(model):
    found = parse(model)
    request = found.request
    assert (found.chat, found.stream, found.usage, found.pattern) == (False, False, False, None)
    assert request.prompt == model.encode("The") and request.n == 16
    assert request.ends == tuple(model.stops) and request.stop == () and request.logprobs is None
    options = dict(request.options)
    assert len(options.pop("adjust")) == 1
    assert options == {"temperature": 1.0, "top_p": None, "top_k": None, "min_p": None}
    assert parse(model).request.seed != request.seed
    talk = parse(model, chat=True)
    assert talk.chat and len(talk.request.prompt) + talk.request.n == 100    # all the room
    assert talk.request.prompt == model.template.encode(
        model.tokenizer, [Message("user", "hi")]).tolist()


def test_all_settings_arrive(model):
    found = parse(model, prompt=[[5, 6]], max_tokens=98, temperature=0, top_p=0.5, top_k=3,
                  min_p=0.1, stop="a", seed=-1, stream=True, stream_options={"include_usage": True},
                  logit_bias={"7": -100}, frequency_penalty=1, presence_penalty=-2, logprobs=5, n=1,
                  best_of=1, echo=False, suffix=None, user="me")
    request, options = found.request, found.request.options
    assert request.prompt == [5, 6] and request.n == 98 and request.stop == ("a",)
    assert request.seed == 2**64 - 1 and found.stream and found.usage and request.logprobs == 5
    assert (options["temperature"], options["top_p"], options["top_k"], options["min_p"]) == (
        0, 0.5, 3, 0.1)
    _, penalty, bias = options["adjust"]
    assert (penalty.frequency, penalty.presence, penalty.start, penalty.repetition) == (
        1, -2, 2, 1)
    assert bias.table == {7: -100}
    assert parse(model, stop=["a", "b"], seed=3).request.seed == 3
    assert len(parse(model, frequency_penalty=0.5).request.options["adjust"]) == 2
    assert len(parse(model, presence_penalty=0.5).request.options["adjust"]) == 2
    talk = partial(parse, model, True)
    assert talk(max_completion_tokens=3, max_tokens=9).request.n == 3
    assert talk(max_tokens=9).request.n == 9
    assert talk(logprobs=True).request.logprobs == 0
    assert talk(logprobs=True, top_logprobs=20).request.logprobs == 20
    parts = [{"role": "developer", "content": [{"type": "text", "text": "a"},
                                               {"type": "text", "text": "b"}], "name": "x"}]
    assert talk(messages=parts).request.prompt == model.template.encode(
        model.tokenizer, [Message("system", "ab")]).tolist()


@pytest.mark.parametrize("body, said, param", [
    ({"temprature": 1}, "temprature = '1' is not known or not done here", "temprature"),
    ({"n": 2}, "n = '2' is not known or not done", "n"), ({"echo": True}, "echo = 'True'", "echo"),
    ({"messages": []}, "messages = ", "messages"), ({"top_logprobs": 1}, "not known", None),
    ({"model": "dog"}, "no model 'dog' here, only 'cat'", "model"),
    ({"model": None}, "no model 'None'", "model"),
    ({"prompt": ""}, "0 ids; wanted at least one, each from 0 to 271", "prompt"),
    ({"prompt": [272]}, "each from 0 to 271", "prompt"), ({"prompt": [-1]}, "each from", "prompt"),
    ({"prompt": ["a", "b"]}, "one text or one list of ids", "prompt"),
    ({"prompt": [True]}, "one text or one list of ids", "prompt"),
    ({"prompt": 5}, "one text or one list of ids", "prompt"),
    ({"prompt": "\ud800"}, "surrogate", "prompt"),
    ({"max_tokens": 0}, "from 1 to", "max_tokens"),
    ({"prompt": [1] * 90, "max_tokens": 11}, "context is 100 tokens; the prompt has 90 and 11",
     "prompt"),
    ({"stop": ""}, "at most 4, none empty", "stop"), ({"stop": list("abcde")}, "at most 4", "stop"),
    ({"stop": 5}, "stop must be", "stop"), ({"stop": [5]}, "stop must be", "stop"),
    ({"temperature": 2.1}, "from 0 to 2", "temperature"), ({"top_p": 0}, "top_p must", "top_p"),
    ({"top_k": 0}, "top_k must", "top_k"), ({"min_p": 1.1}, "min_p must", "min_p"),
    ({"logprobs": 6}, "from 0 to 5", "logprobs"), ({"stream": "yes"}, "true or false", "stream"),
    ({"stream_options": {"include_usage": True}}, "only of a stream", "stream_options"),
    ({"stream": True, "stream_options": {"x": 1}}, "only of a stream", "stream_options"),
    ({"stream": True, "stream_options": 5}, "only of a stream", "stream_options"),
    ({"logit_bias": {"272": 1}}, "must map ids", "logit_bias"),
    ({"logit_bias": {"x": 1}}, "must map ids", "logit_bias"),
    ({"logit_bias": [1]}, "must map ids", "logit_bias"),
    ({"logit_bias": {"1": 101}}, "from -100 to 100", "1"),
    ({"frequency_penalty": 3}, "from -2 to 2", "frequency_penalty"),
    ({"presence_penalty": -3}, "from -2 to 2", "presence_penalty"),
    ({"response_format": {"type": "xml"}}, "its type must be text, json_object", None),
])
def test_what_is_wrong_in_a_completion_is_said(model, body, said, param):
    with pytest.raises(Refused, match=said) as no:
        parse(model, **body)
    assert no.value.status == (404 if param == "model" else 400)
    assert param is None or no.value.body["error"]["param"] == param


@pytest.mark.parametrize("body, said", [
    ({"messages": []}, "at least one message"), ({"messages": "hi"}, "at least one message"),
    ({"messages": ["hi"]}, "messages.0 must be an object"),
    ({"messages": [{"role": "user", "content": "a", "tool_calls": []}]}, "messages.0 must be"),
    ({"messages": [{"role": "robot", "content": "a"}]}, "messages.0.role must be system, user"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "user"}]}, "messages.1.content"),
    ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "content must be text"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "surrogate"),
    ({"prompt": "x"}, "prompt = 'x' is not known"), ({"logprobs": 2}, "true or false"),
    ({"top_logprobs": 2}, "top_logprobs needs logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "from 0 to 20"),
    ({"max_completion_tokens": 99}, "context is 100 tokens"),
])
def test_what_is_wrong_in_a_conversation_is_said(model, body, said):
    with pytest.raises(Refused, match=said) as no:
        parse(model, chat=True, **body)
    assert no.value.status == 400


def test_other_refusals(model, base):
    for body in ([], "x", None):
        with pytest.raises(Refused, match="must be a JSON object, not a"):
            asked.read(body, model, 10, False, None)
    with pytest.raises(Refused, match="not taught to converse .* use /v1/completions"):
        parse(base, chat=True)
    with pytest.raises(Refused) as no:
        parse(model, prompt=[1] * 200, context=100)
    assert no.value.body["error"]["code"] == "context_length_exceeded"
    with pytest.raises(Refused, match="are to be written"):          # no room at all for an answer
        parse(model, chat=True, context=3)


def test_ids_without_a_text_are_never_chosen(base):
    assert base.arch.V == 273 and base.tokenizer.vocab_size == 270
    change = parse(base).request.options["adjust"][0]
    z = np.arange(273, dtype=np.float32)
    assert change(z, []).tolist() == [*range(270), *[-np.inf] * 3]
    assert change(z[:270], []) is not None and change(z, []).dtype == np.float32
    with working(base) as worker:
        request = parse(base, max_tokens=30, seed=0).request
        assert listen(worker, request)()[-1].reason == "length" and max(request.ids) < 270


# ---------------------------------------------------------------- JSON mode

def test_schemas_become_shapes():
    shape = formats.shape_of
    assert shape({"type": "string", "title": "t", "description": "d"}) is str
    assert [shape({"type": t}) for t in ("integer", "number", "boolean", "null")] == [
        int, float, bool, None]
    assert shape({"enum": ["a", 1, None]}) == ("a", 1, None)
    assert shape({"const": True, "type": "boolean"}) == (True,)
    assert shape({"type": "array", "items": {"type": "string"}}) == [str]
    assert shape({"type": "object", "required": ["b", "a"], "additionalProperties": False,
                  "properties": {"a": {"type": "null"}, "b": {"enum": [1]}}}) == {"a": None,
                                                                                  "b": (1,)}
    assert shape({"type": "object"}) == {}
    nested = {"type": "string"}
    for _ in range(formats.DEEPEST):
        nested = {"type": "array", "items": nested}
    assert shape(nested) == [[[[[[[[str]]]]]]]]
    for wrong, said in (
            ({"type": "array", "items": nested}, "at most 8 deep"), (5, "must be an object"),
            ({"type": "array"}, "must be an object"), ({}, "type must be one of"),
            ({"type": ["string", "null"]}, "type must be one of"),
            ({"type": "string", "pattern": "x"}, "'pattern' of a schema of type 'string'"),
            ({"type": "integer", "minimum": 0}, "'minimum'"), ({"enum": []}, "enum must be"),
            ({"enum": [[1]]}, "enum must be"), ({"enum": 5}, "enum must be"),
            ({"type": "object", "properties": {"a": {"const": 1}}, "required": []}, "all of them"),
            ({"type": "object", "properties": {"a": {"const": 1}}, "required": 5}, "all of them"),
            ({"type": "object", "properties": []}, "all of them required"),
            ({"type": "object", "additionalProperties": True}, "and no others")):
        with pytest.raises(Refused, match=said):
            shape(wrong)


def test_formats_of_a_response(model):
    kind = formats.Formats(model)
    assert kind.pattern(None) is None and kind.pattern({"type": "text"}) is None
    assert kind.pattern({"type": "json_object"}) == "json_object"
    for wrong in ({"type": "json_schema"}, {"type": "json_schema", "json_schema": 1}, 5, {"a": 1}):
        if wrong == {"a": 1}:
            assert kind.pattern(wrong) is None               # no type: plain text
            continue
        with pytest.raises(Refused, match="its type must be text"):
            kind.pattern(wrong)
    with pytest.raises(Refused, match="response_format: "):
        kind.pattern({"type": "json_schema", "json_schema": {"schema": {"enum": [float("nan")]}}})
    first = kind.table("a")
    assert kind.table("a") is first                          # made once
    for letter in "bcdefgh":
        kind.table(letter)
    kind.table("a")                                          # used again: b is the oldest now
    kind.table("i")
    assert list(kind.tables) == list("cdefghai")
    assert len(kind.pieces) == model.arch.V and kind.pieces[-2:] == [b"", b""]
    assert kind.pieces[65] == b"A"


def test_the_automaton_fits_or_the_request_does_not(model, monkeypatch):
    kind = formats.Formats(model)
    rich = kind.automaton("json_object")
    assert rich.matches(b'{"a":[1]}') and not rich.matches(b'{"a":[[1]]}')
    monkeypatch.setattr(formats, "MOST_CELLS", len(rich.table) * model.arch.V)
    assert len(kind.automaton("json_object").table) == len(rich.table)
    monkeypatch.setattr(formats, "MOST_CELLS", len(rich.table) * model.arch.V - 1)
    assert len(kind.automaton("json_object").table) < len(rich.table)
    monkeypatch.setattr(formats, "MOST_CELLS", 3 * 272)
    with pytest.raises(Refused, match="8 states for a vocabulary of 272 are too many"):
        kind.automaton("abcdefg")
    with pytest.raises(Refused, match="response_format"):
        kind.automaton("(")


def test_json_mode_writes_json_within_its_tokens(model):
    kind = formats.Formats(model)
    with working(model, most=4) as worker:
        heard = []
        for seed in range(6):
            found = parse(model, chat=True, context=200, seed=seed, max_tokens=20 + seed,
                          temperature=1.5, response_format={"type": "json_object"})
            kind.constrain(found)
            heard.append(listen(worker, found.request))
        for all_of_it in heard:
            last = all_of_it()[-1]
            assert isinstance(json.loads(last.text), dict) and last.reason == "end"
    found = parse(model, max_tokens=2, response_format={"type": "json_object"})
    with pytest.raises(Refused, match="limit 2 from start"):
        kind.constrain(found)


# ---------------------------------------------------------------- what is answered

def an_answer(model, chat, **body):
    return answered.Answer(model, parse(model, chat=chat, **body))


def test_whole_answers_by_hand(model):
    tokens = (Token(65, 0, -0.5, [(65, -0.5), (195, -np.inf)]),)
    last = News("A", tokens, 2, "end")
    answer = an_answer(model, False, logprobs=2)
    read = len(model.encode("The"))
    assert answer.whole(last) == {
        **answer.base, "object": "text_completion", "usage": {
            "prompt_tokens": read, "completion_tokens": 2, "total_tokens": read + 2},
        "choices": [{"index": 0, "text": "A", "finish_reason": "stop", "logprobs": {
            "tokens": ["A"], "token_logprobs": [-0.5], "text_offset": [0],
            "top_logprobs": [{"A": -0.5, "\ufffd": -9999.0}]}}]}
    assert answer.base["id"].startswith("cmpl-") and answer.base["model"] == "cat"
    assert abs(answer.base["created"] - time.time()) < 5
    answer = an_answer(model, True, logprobs=True, top_logprobs=2)
    found = answer.whole(last._replace(reason="length"))
    assert found["object"] == "chat.completion" and found["id"].startswith("chatcmpl-")
    assert found["choices"] == [{
        "index": 0, "finish_reason": "length",
        "message": {"role": "assistant", "content": "A", "refusal": None},
        "logprobs": {"refusal": None, "content": [{
            "token": "A", "logprob": -0.5, "bytes": [65], "top_logprobs": [
                {"token": "A", "logprob": -0.5, "bytes": [65]},
                {"token": "\ufffd", "logprob": -9999.0, "bytes": [195]}]}]}}]
    assert an_answer(model, True).whole(last)["choices"][0]["logprobs"] is None
    json.dumps(found, allow_nan=False)


def test_pieces_of_a_stream_by_hand(model):
    token = lambda i, begins: Token(i, begins, -1.0, [])
    answer = an_answer(model, False, logprobs=0, stream=True,
                       stream_options={"include_usage": True})
    said = [answer.pieces(News(*n)) for n in (
        ("A", (token(65, 0),), 1, None), ("A", (token(65, 0),), 2, None),
        ("AB", (token(65, 0), token(66, 1)), 3, "stop"))]
    assert [len(s) for s in said] == [1, 0, 3]
    assert said[0][0]["choices"] == [{"index": 0, "text": "A", "finish_reason": None, "logprobs": {
        "tokens": ["A"], "token_logprobs": [-1.0], "top_logprobs": [{}], "text_offset": [0]}}]
    assert said[2][0]["choices"][0]["text"] == "B"
    assert said[2][0]["choices"][0]["logprobs"]["tokens"] == ["B"]
    assert said[2][1]["choices"] == [
        {"index": 0, "text": "", "finish_reason": "stop", "logprobs": None}]
    assert said[2][2]["choices"] == [] and said[2][2]["usage"]["completion_tokens"] == 3
    answer = an_answer(model, True, stream=True)
    assert answer.chunk(role="assistant")["choices"][0]["delta"] == {"role": "assistant",
                                                                     "content": ""}
    piece, end = answer.pieces(News("A", (), 1, "end"))
    assert piece["choices"][0]["delta"] == {"content": "A"} and end["choices"][0]["delta"] == {}
    assert piece["object"] == "chat.completion.chunk" and end["id"] == piece["id"]
    assert answered.event("[DONE]") == "data: [DONE]\n\n"
    assert answered.event({"a": "ö\n"}) == 'data: {"a": "ö\\n"}\n\n'


def test_ids_beyond_the_vocabulary_have_no_bytes(base):
    answer = an_answer(base, False)
    assert answer.piece(272) == b"" and answer.piece(270) == b"" and answer.piece(65) == b"A"


# ---------------------------------------------------------------- delivery

def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 300))


def test_news_reach_the_loop_and_a_stream_ends_with_done(model):
    async def hear():
        with working(model) as worker:
            found = parse(model, chat=True, max_tokens=4, seed=0, stream=True)
            news = delivery.let_in(worker, found.request)
            answer = answered.Answer(model, found)
            return [e async for e in delivery.events(found.request, news, answer)], found.request

    events, request = run(hear())
    assert events[-1] == "data: [DONE]\n\n"
    chunks = [json.loads(e.removeprefix("data: ")) for e in events[:-1]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
    assert text == request.text and chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_faults_and_cancellations_reach_the_client(model):
    async def hear(stream, reason, error):
        worker, found = Worker(model), parse(model, stream=stream)
        news = delivery.let_in(worker, found.request)
        found.request.reason, found.request.error = reason, error
        found.request.tell(News("", (), 0, reason))
        if stream:
            answer = answered.Answer(model, found)
            return [e async for e in delivery.events(found.request, news, answer)]
        return await delivery.last(worker, found.request, news, asyncio.Event().wait)

    for reason, error, status in (("error", "E: x", 500), ("cancelled", "", 503)):
        with pytest.raises(Refused, match=error or "shutting down") as no:
            run(hear(False, reason, error))
        assert no.value.status == status and no.value.body["error"]["type"] == "server_error"
        event, = run(hear(True, reason, error))
        assert json.loads(event[6:]) == no.value.body


def test_no_room_is_429_and_closed_is_503(model):
    async def come(worker):
        return delivery.let_in(worker, parse(model).request)

    worker = Worker(model, most=1, waiting=0)
    run(come(worker))
    with pytest.raises(Refused, match="the server is full: 1 requests") as no:
        run(come(worker))
    assert no.value.status == 429 and no.value.headers == {"Retry-After": "1"}
    assert no.value.body["error"]["code"] == "queue_full"
    assert no.value.body["error"]["type"] == "rate_limit_error"
    for request in list(worker.inside):
        request.tell(None)                                   # the loop is gone: nothing happens
    worker.closing = True
    with pytest.raises(Refused, match="shutting down") as no:
        run(come(worker))
    assert no.value.status == 503 and no.value.body["error"]["type"] == "server_error"


def test_whoever_hangs_up_is_cancelled(model):
    status, worker, request = run(leave(model))
    assert status == 499 and request.reason == "cancelled"
    assert len(worker.pool.free) == worker.pool.blocks


async def leave(model):
    with working(model) as worker:
        go, found = held(worker), parse(model, max_tokens=90)
        news = delivery.let_in(worker, found.request)
        said = iter(["http.request", "http.disconnect"])

        async def receive():
            return {"type": next(said)}

        with pytest.raises(Refused) as no:
            await delivery.last(worker, found.request, news, receive)
        go.set()
        await asyncio.to_thread(wait_for, lambda: not worker.inside)
        return no.value.status, worker, found.request


# ---------------------------------------------------------------- metrics

def test_metrics_by_hand():
    metrics = Metrics()
    metrics.add("steps_total", 2)
    metrics.add("steps_total", 1)
    metrics.add("requests_total", 1, reason='a"\\\n')
    metrics.observe("request_seconds", 0.005)
    metrics.observe("request_seconds", 0.3)
    metrics.observe("request_seconds", 100)
    lines = metrics.text({"blocks_free": 7}).splitlines()
    assert lines[:6] == [
        "# HELP llm_requests_total Requests that ended, by the reason.",
        "# TYPE llm_requests_total counter",
        'llm_requests_total{reason="a\\"\\\\\\n"} 1',
        "# HELP llm_steps_total Batches read.", "# TYPE llm_steps_total counter",
        "llm_steps_total 3"]
    assert lines[6:9] == ["# HELP llm_blocks_free Blocks that nobody holds.",
                          "# TYPE llm_blocks_free gauge", "llm_blocks_free 7"]
    assert lines[10] == "# TYPE llm_request_seconds histogram"
    assert lines[11] == 'llm_request_seconds_bucket{le="0.005"} 1'
    assert 'llm_request_seconds_bucket{le="0.25"} 1' in lines
    assert 'llm_request_seconds_bucket{le="0.5"} 2' in lines
    assert lines[-3:] == ['llm_request_seconds_bucket{le="+Inf"} 3',
                          "llm_request_seconds_sum 100.305", "llm_request_seconds_count 3"]
    assert Metrics("x_").text() == "\n"


# ---------------------------------------------------------------- the endpoints

class Web:
    """Calls an ASGI application without a socket."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, method, path, body=b"", headers=(), leave=False):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"host": "localhost:1", "content-type": "application/json", **dict(headers)}
        scope = {"type": "http", "asgi": {"version": "3.0"}, "method": method, "path": path,
                 "raw_path": path.encode(), "query_string": b"", "scheme": "http",
                 "root_path": "", "http_version": "1.1", "client": None, "server": None,
                 "headers": [(k.encode(), v.encode()) for k, v in given.items()]}
        halves, sent = [data[:5], data[5:]], []

        async def receive():
            if halves:
                return {"type": "http.request", "body": halves.pop(0), "more_body": bool(halves)}
            if not leave:
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        await self.app(scope, receive, send)
        headers = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        text = b"".join(m.get("body", b"") for m in sent[1:]).decode()
        is_json = headers.get("content-type", "").startswith("application/json")
        return sent[0]["status"], headers, json.loads(text) if is_json else text


def browse(model, visit, key=None, hosts=LOCAL, **options):
    """Run `await visit(web, service)` while the application lives."""
    pytest.importorskip("starlette", reason="pip install -r requirements-serve.txt")
    service = Service(model, Worker(model, **options), key, hosts)

    async def live():
        app = service.app()
        async with app.router.lifespan_context(app):
            return await visit(Web(app), service)

    found = run(live())
    assert not service.worker.thread.is_alive()
    return found


def test_the_endpoints_answer(model):
    async def visit(web, service):
        card = {"id": "cat", "object": "model", "created": service.began, "owned_by": "you"}
        assert await web("GET", "/v1/models") == (200, *(await web("GET", "/v1/models"))[1:])
        assert (await web("GET", "/v1/models"))[2] == {"object": "list", "data": [card]}
        assert (await web("GET", "/v1/models/cat"))[2] == card
        status, _, body = await web("GET", "/v1/models/dog")
        assert status == 404 and body["error"]["code"] == "model_not_found"
        assert (await web("GET", "/health"))[::2] == (200, {"status": "ok"})
        body = {"model": "cat", "prompt": "The", "max_tokens": 6, "seed": 4}
        status, _, whole = await web("POST", "/v1/completions", body)
        assert status == 200 and whole["usage"]["completion_tokens"] == 6
        status, headers, text = await web("POST", "/v1/completions", {**body, "stream": True})
        assert status == 200 and headers["content-type"].startswith("text/event-stream")
        assert headers["cache-control"] == "no-cache" and text.endswith("data: [DONE]\n\n")
        parts = [json.loads(line[6:]) for line in text.split("\n\n")[:-2]]
        assert "".join(p["choices"][0]["text"] for p in parts) == whole["choices"][0]["text"]
        talk = {"model": "cat", "messages": [{"role": "user", "content": "a"}], "max_tokens": 40,
                "response_format": {"type": "json_object"}}
        status, _, found = await web("POST", "/v1/chat/completions", talk)
        assert status == 200
        assert isinstance(json.loads(found["choices"][0]["message"]["content"]), dict)
        assert abs(service.began - time.time()) < 30
        status, headers, text = await web("GET", "/metrics")
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'llm_responses_total{path="/v1/completions",status="200"} 2' in text
        assert 'llm_responses_total{path="/v1/models/{name:path}",status="404"} 1' in text
        assert f"llm_blocks_total {service.worker.pool.blocks}" in text

    browse(model, visit)


def test_what_the_endpoints_refuse(model):
    async def visit(web, service):
        post = partial(web, "POST", "/v1/completions")
        assert MOST_BODY == 2**20
        full = b"{" + b" " * (MOST_BODY - 2) + b"}"
        assert (await post(full))[0] == 404                  # exactly as large as allowed: no model
        status, headers, _ = await post(full + b" ")
        assert status == 413 and headers["connection"] == "close"
        status, _, body = await post(b"{'a'")
        assert status == 400 and body["error"]["message"].startswith("the body is not JSON: ")
        assert (await post(b"[" * 100_000))[0] == 400
        assert (await post(b"{}", {"content-type": "text/plain"}))[0] == 415
        assert (await post(b"{}", {"content-type": "application/json; charset=utf-8"}))[0] == 404
        status, _, body = await web("GET", "/v1/completions")
        assert status == 405 and "GET /v1/completions is not here" in body["error"]["message"]
        assert (await web("GET", "/"))[0] == 404
        status, _, body = await web("GET", "/health", headers={"host": "evil.example:80"})
        assert status == 421 and "'evil.example:80'" in body["error"]["message"]
        for good in ("localhost", "127.0.0.1:8064", "[::1]:80", "[::1]"):
            assert (await web("GET", "/health", headers={"host": good}))[0] == 200
        short = {"model": "cat", "prompt": "The", "max_tokens": 1,
                 "response_format": {"type": "json_object"}}
        assert (await post(short))[0] == 400

    browse(model, visit)


def test_a_key_opens_and_health_needs_none(model):
    async def visit(web, service):
        status, headers, body = await web("GET", "/v1/models", headers={"host": "any.name"})
        assert status == 401 and body["error"]["code"] == "invalid_api_key"
        assert headers["www-authenticate"] == "Bearer"
        for shown, status in (("Bearer k", 200), ("Bearer kk", 401), ("k", 401), ("é", 401)):
            assert (await web("GET", "/metrics", headers={"authorization": shown}))[0] == status
        assert (await web("GET", "/health"))[0] == 200

    browse(model, visit, key="k", hosts=None)


def test_a_busy_a_broken_and_a_closing_server_say_so(model):
    async def visit(web, service):
        body = {"model": "cat", "prompt": "The", "max_tokens": 90}
        go = held(service.worker)
        first = asyncio.ensure_future(web("POST", "/v1/completions", body))
        await asyncio.to_thread(wait_for, lambda: service.worker.inside)
        status, headers, said = await web("POST", "/v1/completions", body)
        assert status == 429 and headers["retry-after"] == "1"
        go.set()
        assert (await first)[0] == 200
        gone = await web("POST", "/v1/completions", body, leave=True)
        assert gone[0] == 499
        await asyncio.to_thread(wait_for, lambda: not service.worker.inside)
        await web("POST", "/v1/completions", {**body, "stream": True}, leave=True)
        await asyncio.to_thread(wait_for, lambda: not service.worker.inside)
        assert len(service.worker.pool.free) == service.worker.pool.blocks
        service.worker.closing = True
        assert (await web("GET", "/health"))[::2] == (503, {"status": "closing"})
        assert (await web("POST", "/v1/completions", body))[0] == 503
        service.worker.closing, service.worker.fault = False, "F: x"
        assert (await web("GET", "/health"))[2] == {"status": "F: x"}
        service.worker.fault, service.formats = None, None
        status, _, said = await web("POST", "/v1/completions", body)     # a fault of ours
        assert status == 500 and "AttributeError" in said["error"]["message"]
        assert said["error"]["type"] == "server_error"

    browse(model, visit, most=1, waiting=0)


# ---------------------------------------------------------------- the programs

def test_the_servers_command_line(folder, monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("LLM_API_KEY", raising=False)
    options = server.parse(["m"])
    assert (options.host, options.port, options.api_key) == ("127.0.0.1", 8064, None)
    assert (options.most, options.waiting, options.memory, options.name) == (16, 64, 256, None)
    monkeypatch.setenv("LLM_API_KEY", "k")
    assert server.parse(["m"]).api_key == "k" and server.parse(["m", "--port", "0"]).port == 0
    assert server.parse(["m", "--waiting", "0", "--most", "1", "--memory", "1",
                         "--port", "65535"]).memory == 1
    for wrong in (["--most", "0"], ["--waiting", "-1"], ["--memory", "0"], ["--port", "65536"],
                  ["--port", "-1"]):
        with pytest.raises(SystemExit):
            server.parse(["m", *wrong])
    service = server.make(server.parse([str(folder), "--name", "kit", "--memory", "2", "--most",
                                        "3", "--waiting", "4"]))
    assert service.model.name == "kit" and service.key == "k" and service.hosts == LOCAL
    assert service.worker.limit == 7 and service.worker.pool.blocks == 3 * 16
    assert server.make(server.parse([str(folder), "--host", "0.0.0.0"])).hosts is None
    for near in ("::1", "localhost"):
        assert server.make(server.parse([str(folder), "--host", near])).hosts == LOCAL
    capsys.readouterr()
    monkeypatch.setattr(server, "missing", lambda: ["starlette", "uvicorn"])
    assert server.main(["m"]) == 2
    assert capsys.readouterr().err == (
        "server: the server needs starlette and uvicorn: pip install -r requirements-serve.txt\n")
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda name: None)
    monkeypatch.undo()
    assert set(server.missing()) <= {"starlette", "uvicorn"}
    if not server.missing():
        assert server.main([str(tmp_path / "absent"), "--port", "0"]) == 2
        assert "nothing of this name" in capsys.readouterr().err
        assert server.main([str(folder), "--port", "0", "--host", "no.such.host.invalid"]) == 2
        assert capsys.readouterr().err.startswith("server: ")


class Typed:
    """What somebody types, line by line; an exception is raised instead."""

    def __init__(self, *lines):
        self.lines = [*lines, EOFError()]

    def __call__(self):
        line = self.lines.pop(0)
        if isinstance(line, BaseException) or line is KeyboardInterrupt:
            raise line
        return line


def chatting(model, *lines, write=None, **options):
    """(the Chat, all that was written) after these lines."""
    said = []
    options = argparse.Namespace(**{"system": None, "tokens": 12, "temperature": 0.0, "top_p": 1.0,
                                    "seed": 0, "context": 0, **options})
    talk = chat.Chat(model, options, write or said.append)
    talk.run(Typed(*lines))
    return talk, "".join(said)


def test_a_conversation_in_the_terminal(model):
    talk, said = chatting(model, "Hi", "", "/history", system="Be brief.")
    assert [m["role"] for m in talk.history()] == ["system", "user", "assistant"]
    answer = talk.history()[2]["content"]
    assert said == chat.printable(f"{answer}\nsystem: Be brief.\nuser: Hi\nassistant: {answer}\n\n")
    talk, said = chatting(model, "Hi", "/reset", "/history", "//x")
    assert [m["content"] for m in talk.history()][0] == "/x" and "! forgotten\n" in said
    _, said = chatting(model, "/help", "/nix", "/", "/quit", "never read")
    assert said == chat.HELP + "\n! there is no /nix; /help lists what there is\n" \
        "! there is no /; /help lists what there is\n"
    _, said = chatting(model, "x" * 300, "\ud800")
    assert said.count("! ") == 2 and "shorten it" in said


def test_ctrl_c_stops_the_answer_and_not_the_program(model):
    said = []

    def write(text):
        said.append(text)
        if len(said) == 3:
            raise KeyboardInterrupt

    talk, _ = chatting(model, "Hi", KeyboardInterrupt, "Again", write=write)
    assert " [stopped]" in said
    roles = [m["role"] for m in talk.history()]
    assert roles == ["user", "assistant"] * 2 and talk.history()[2]["content"] == "Again"
    assert talk.history()[1]["content"]


def test_a_base_model_continues_and_an_empty_line_goes_on(base):
    talk, said = chatting(base, "The cat", "", "/history")
    decoder = base.engine(threads=1)
    known = base.encode("The cat")
    z = decoder.prefill(known)
    for _ in range(24):
        known.append(int(z[:270].argmax()))
        z = decoder.step(known[-1])
    assert talk.talk.ids == known and talk.talk.text == base.tokenizer.decode(known)
    assert said.endswith(chat.printable(talk.talk.text) + "\n\n")
    assert talk.history() == [{"text": talk.talk.text}]
    talk, said = chatting(base, "", "/help", "/reset")
    assert said.startswith("! nothing to continue") and chat.AGAIN in said
    assert talk.history() == []
    talk, _ = chatting(base, "The " * 60, "", context=32, tokens=40)  # 16 read, 16 written
    assert talk.engine.cache.T_max == 32 and len(talk.talk.ids) > 64
    fresh, _ = chatting(base, "The cat", "The dog")
    assert fresh.talk.text.startswith("The dog")


def test_the_history_is_saved_whole_or_not_at_all(model, tmp_path):
    path = tmp_path / "said.json"
    talk, said = chatting(model, "Hé", f"/save {path}", "/save", f"/save {tmp_path / 'no' / 'x'}")
    assert json.loads(path.read_text()) == {"model": "cat", "messages": talk.history()}
    assert f"! saved to {path}\n! say where: /save FILE\n! cannot write" in said


def test_what_commands_a_terminal_is_shown_as_a_mark():
    assert chat.printable("a\n\tö\x1b[2J\x07\r") == "a\n\tö\ufffd[2J\ufffd\ufffd"


def test_the_chats_command_line(folder, monkeypatch, capsys, tmp_path):
    options = chat.parse(["m"])
    assert (options.system, options.tokens, options.temperature, options.top_p, options.seed,
            options.context) == (None, 256, 0.7, 0.95, None, 2048)
    assert chat.parse(["m", "--temperature", "0", "--context", "0", "--top-p", "1"]).top_p == 1
    for wrong in (["--tokens", "0"], ["--context", "-1"], ["--temperature", "2.1"],
                  ["--temperature", "-1"], ["--top-p", "0"], ["--top-p", "1.1"], ["--seed", "-1"]):
        with pytest.raises(SystemExit):
            chat.parse(["m", *wrong])
    assert chat.parse(["m", "--tokens", "1", "--seed", "0", "--temperature", "2"]).seed == 0

    class Input:
        reconfigure = staticmethod(lambda **options: None)
        isatty = staticmethod(lambda: False)

    monkeypatch.setattr("sys.stdin", Input)
    typed = Typed("/nix")
    monkeypatch.setattr("builtins.input", lambda prompt: typed())
    capsys.readouterr()
    assert chat.main([str(folder)]) == 0
    said = capsys.readouterr()
    assert said.err == "cat converses; /help helps\n" and said.out.startswith("! there is no /nix")
    assert chat.main([str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.startswith("chat: ")


# ---------------------------------------------------------------- the run

def test_the_headline():
    found = measure(fast=True, seed=0)
    size = {(form, kind): row[0] for form, kind, *row in found.forms}
    assert size["GGUF", "Q8_0"] < size["GGUF", "F16"] < size["GGUF", "F32"]
    changed = {(form, kind): row[3] for form, kind, *row in found.forms}
    assert changed["folder", "F32"] == changed["GGUF", "F32"] == 0 < changed["GGUF", "Q8_0"] < 0.05
    by_key = {name: row for name, *row in found.wrong}
    assert list(by_key.values())[0][1] < 1e-3                    # the reader of `misread` is right
    assert by_key["hidden_act left out"][2] < 0.02
    assert by_key["qkv not put head by head"][2] > 0.5
    for crowd in found.crowds:
        assert crowd["lost"] == crowd["changed"] == 0
        assert abs(crowd["asked"] * crowd["response"] / crowd["inside"] - 1) < 0.5
    edge = found.edges[0]
    assert edge["python"] < edge["numpy"] < edge["imports"] <= edge["open"] <= edge["written"]
    assert edge["rate"] > 0 and edge["cache"] == 2 * 2 * 32 * 32 * 4
