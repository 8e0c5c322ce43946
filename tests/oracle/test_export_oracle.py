"""Day 64 · transformers, tokenizers, gguf and llama.cpp open what is exported: the same model."""

import numpy as np
import pytest

from llm.generate.plain import Plain
from llm.generate.template import CHATML, ChatTemplate, Message
from llm.weights import export_gguf
from llm.weights.export import export_hf
from tests.test_day64 import CHATTY, FAMILIES, TEXT, make

WHY = "pip install -r requirements-dev.txt brings the peers of day 64"
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "The cat?"}]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def ids_of(arch, n=24):
    return ((np.arange(n) * 7 + 3) % min(arch.V, 270)).tolist()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind, tolerance", [("F32", 1e-5), ("BF16", 0.05)])
def test_transformers_computes_our_logits(family, kind, tolerance, rng, tmp_path):
    torch = pytest.importorskip("torch", reason=WHY)
    transformers = pytest.importorskip("transformers", reason=WHY)
    arch, weights, tokenizer = make(family, rng, CHATTY)
    export_hf(tmp_path, arch, weights, tokenizer, CHATML, kind=kind)
    theirs, about = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True, dtype=torch.float32)
    assert not any(about.get(key) for key in about), about         # no key missing or unexpected
    assert type(theirs).__name__ == theirs.config.architectures[0]
    ids = ids_of(arch)
    with torch.no_grad():
        found = theirs.eval()(torch.tensor([ids])).logits[0].numpy()
    wanted = Plain(arch, weights).read(ids)
    assert np.abs(found - wanted).max() < tolerance * np.abs(wanted).max()
    assert theirs.generation_config.eos_token_id == [tokenizer.specials["<|im_end|>"]]
    if kind == "F32":
        with torch.no_grad():
            said = theirs.generate(torch.tensor([ids]), max_new_tokens=16, do_sample=False,
                                   pad_token_id=0, eos_token_id=None)[0, len(ids):].tolist()
        assert said == greedy(arch, weights, ids, 16)


def greedy(arch, weights, ids, n):
    decoder, known = Plain(arch, weights), list(ids)
    z = decoder.prefill(ids)
    for _ in range(n):
        known.append(int(z.argmax()))
        z = decoder.step(known[-1])
    return known[len(ids):]


@pytest.mark.parametrize("rule", ["gpt2", "smollm", "qwen2"])
def test_transformers_cuts_text_as_we_do(rule, rng, tmp_path):
    transformers = pytest.importorskip("transformers", reason=WHY)
    from llm.tokens.fast_bpe import FastBPE
    arch, weights, _ = make("llama", rng, CHATTY)
    tokenizer = FastBPE.train(TEXT * 3, arch.V, rule, CHATTY)
    export_hf(tmp_path, arch, weights, tokenizer, CHATML)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in (TEXT, "It's 1234 o'clock…\n\n  äöü 漢字 <|im_end|>", ""):
        found = theirs(text, add_special_tokens=True)["input_ids"]
        assert found == tokenizer.encode(text, special="all").tolist()
        assert theirs.decode(found) == text
    found = theirs.apply_chat_template(MESSAGES, add_generation_prompt=True)["input_ids"]
    ours = [Message(m["role"], m["content"]) for m in MESSAGES]
    assert found == ChatTemplate(CHATML).encode(tokenizer, ours).tolist()
    assert theirs.eos_token == "<|im_end|>" and theirs.model_max_length == arch.T


def test_8_bit_blocks_are_ggmls_bit_for_bit(rng):
    gguf = pytest.importorskip("gguf", reason=WHY)
    w = rng.normal(size=(300, 128)).astype(np.float32) * rng.lognormal(size=(300, 1), sigma=3)
    w = w.astype(np.float32)
    w[7], w[8, 1:] = 0, 0
    theirs = gguf.quants.quantize(w, gguf.GGMLQuantizationType.Q8_0)
    assert np.array_equal(export_gguf.q8_0(w), theirs)


def test_ggmls_reader_finds_what_we_wrote(rng, tmp_path):
    gguf = pytest.importorskip("gguf", reason=WHY)
    arch, weights, tokenizer = make("gpt_neox", rng, CHATTY)
    export_gguf.export_gguf(tmp_path / "x.gguf", arch, weights, tokenizer, CHATML, "F16", "cat")
    theirs = gguf.GGUFReader(tmp_path / "x.gguf")
    assert theirs.fields["general.name"].contents() == "cat"
    assert theirs.fields["gptneox.use_parallel_residual"].contents() is False
    assert theirs.fields["tokenizer.chat_template"].contents() == CHATML
    for tensor in theirs.tensors:
        assert tensor.data_offset % 32 == 0
    by_name = {t.name: t for t in theirs.tensors}
    assert np.array_equal(by_name["token_embd.weight"].data, weights["embed"].astype(np.float16))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind, apart", [("F32", 0.01), ("F16", 0.02), ("Q8_0", 0.2)])
def test_llama_cpp_says_our_tokens(family, kind, apart, rng, tmp_path):
    """Its own logs of the likeliest tokens are ours, and where its choice is not ours, the two are
    nearly tied. It keeps keys and values in 16 bits, and with Q8_0 rounds activations to 8."""
    peer = pytest.importorskip("xllamacpp", reason=WHY)
    arch, weights, tokenizer = make(family, rng)
    weights["embed"][128:256] = 0                    # else random weights begin characters and
    if "head" in weights:                            # leave them, and llama.cpp lists no such token
        weights["head"][:, 128:256] = 0
    path = tmp_path / "x.gguf"
    export_gguf.export_gguf(path, arch, weights, tokenizer, kind=kind)
    params = peer.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel = str(path), arch.T, 1
    params.cpuparams.n_threads, params.verbosity = 1, -1
    server, ids = peer.Server(params), ids_of(arch)
    ask = {"max_tokens": 16, "temperature": 0, "n_probs": 3, "cache_prompt": False}
    said = server.handle_completions({**ask, "prompt": ids})["choices"][0]["logprobs"]["content"]
    theirs = [token["id"] for token in said]
    assert len(theirs) == 16
    z = Plain(arch, weights).read([*ids, *theirs[:-1]])[len(ids) - 1:].astype(np.float64)
    z -= np.log(np.exp(z).sum(axis=1, keepdims=True))
    gaps = [abs(z[j, top["id"]] - top["logprob"])
            for j, token in enumerate(said) for top in token["top_logprobs"]]
    assert np.mean(gaps) < apart
    assert max(z.max(axis=1) - z[np.arange(16), theirs]) < 3 * apart
    if kind == "F32":
        assert theirs == z.argmax(axis=1).tolist()
    usage = server.handle_completions({**ask, "prompt": TEXT[:60], "max_tokens": 1})["usage"]
    assert usage["prompt_tokens"] == len(tokenizer.encode(TEXT[:60]))
