"""Day 52 · SmolLM2 against its peers: ggml's own reader, Jinja, transformers in float32, llama.cpp.

The real file is needed; where it cannot be fetched the tests are skipped and say so. No peer
touches a hub: transformers gets a config and our arrays, llama.cpp the path of the file.
"""

import random
import tempfile

import numpy as np
import pytest

from days.day52.made import gguf_bytes, small_llama
from llm.data.download import TextError
from llm.functions.probability import log_softmax
from llm.generate import llama
from llm.generate.cache import KVCache
from llm.generate.decode import decode
from llm.generate.plain import Plain
from llm.generate.pretrained import load
from llm.generate.template import CHATML, ROLES, ChatTemplate, Message
from llm.kernels import cpu
from llm.weights.blocks import NAMES, dequantise
from llm.weights.gguf import GGUF
from llm.weights.scored import ScoredBPE

WHY = "pip install -r requirements-dev.txt brings the peers of day 52"
TEXTS = ["The history of the English language is",
         "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
         "ROMEO. But, soft! what light through yonder window breaks? It is the east, and " * 6]
LLAMA3 = ("{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
          "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | "
          "trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
          "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
          "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
LINES = ("{% for message in messages %}\n  {% if message['role'] == 'user' %}\n{{ '<|user|>\n' + "
         "message['content'] + eos_token }}\n{%- elif message.role == 'system' -%}\n  {{ 'S' }} \n"
         "{% else %}\n {{ message.content.strip() ~ loop.index }}\n{% endif %}{# a #}\n"
         "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
         "{% endfor %}\n\n")


@pytest.fixture(scope="module")
def real():
    try:
        return load(report=lambda line: None)
    except TextError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def weights(real):
    return real.weights()


# --- ggml's own Python package ----------------------------------------------------------------

@pytest.mark.parametrize("kind", NAMES)
def test_random_blocks_are_dequantised_as_by_ggml(kind):
    gguf = pytest.importorskip("gguf", reason=WHY)
    rng, type_ = np.random.default_rng(0), NAMES[kind]
    raw = rng.integers(256, size=(50, 3 * type_.bytes), dtype=np.uint8)
    with np.errstate(all="ignore"):                       # random halves are infinite at times
        theirs = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[kind])
    assert np.array_equal(dequantise(raw, kind), theirs, equal_nan=True)


def test_the_real_file_is_read_as_by_ggml(real):
    gguf = pytest.importorskip("gguf", reason=WHY)
    theirs = gguf.GGUFReader(real.file.path)
    fields = {key: field.contents() for key, field in theirs.fields.items() if key[:5] != "GGUF."}
    assert fields.keys() == real.file.metadata.keys()
    for key, value in real.file.metadata.items():
        assert (value.tolist() if isinstance(value, np.ndarray) else value) == fields[key], key
    assert [t.name for t in theirs.tensors] == list(real.file.tensors)
    for tensor in theirs.tensors:
        found = real.file.array(tensor.name)
        assert (found == gguf.quants.dequantize(tensor.data, tensor.tensor_type)).all()


def test_our_writer_for_tests_is_read_by_ggml(tmp_path):
    gguf = pytest.importorskip("gguf", reason=WHY)
    metadata, tensors, _ = small_llama(np.random.default_rng(0))
    (tmp_path / "x.gguf").write_bytes(gguf_bytes(metadata, tensors))
    theirs = gguf.GGUFReader(tmp_path / "x.gguf")
    assert [t.name for t in theirs.tensors] == list(tensors)
    assert theirs.fields["llama.block_count"].contents() == 2


def test_a_file_that_ggml_writes_is_read_by_us(tmp_path):
    gguf = pytest.importorskip("gguf", reason=WHY)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_custom_alignment(64)
    writer.add_array("some.words", ["a", "b"])
    writer.add_float64("some.double", 0.1)
    x = np.arange(24, dtype=np.float32).reshape(3, 8)
    writer.add_tensor("x", x)
    writer.add_tensor("y", x.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = GGUF(tmp_path / "x.gguf")
    assert found.metadata["some.words"] == ["a", "b"] and found.metadata["some.double"] == 0.1
    assert (found.array("x") == x).all() and (found.array("y") == x).all()
    assert found.tensors["y"].offset % 64 == 0


# --- Jinja ------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["real", "chatml", "llama 3", "lines"])
def test_templates_render_as_by_jinja(name, request):
    jinja2 = pytest.importorskip("jinja2", reason=WHY)
    source = {"chatml": CHATML, "llama 3": LLAMA3, "lines": LINES}.get(name)
    source = source or request.getfixturevalue("real").template
    theirs = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(source)
    ours, rng = ChatTemplate(source, "<s>", "</s>"), random.Random(0)
    words = ["hi", "  a <|im_end|>\n", "", "{{ x }}", "ö\n\n", "{% if %}"]
    for _ in range(100):
        messages = [Message(rng.choice(ROLES), rng.choice(words)) for _ in range(rng.randint(1, 5))]
        ask = rng.random() < 0.5
        wanted = theirs.render(messages=[vars(m) for m in messages], add_generation_prompt=ask,
                               bos_token="<s>", eos_token="</s>")
        assert str(ours.render(messages, ask)) == wanted


# --- transformers -----------------------------------------------------------------------------

def as_transformers(arch, weights):
    """transformers' Llama in float32 with our arrays."""
    torch = pytest.importorskip("torch", reason=WHY)
    transformers = pytest.importorskip("transformers", reason=WHY)
    config = transformers.LlamaConfig(
        vocab_size=arch.V, hidden_size=arch.C, intermediate_size=arch.F, num_hidden_layers=arch.L,
        num_attention_heads=arch.H, num_key_value_heads=arch.K, head_dim=arch.D,
        max_position_embeddings=arch.T, rms_norm_eps=arch.eps, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": arch.rotary})
    state = {"model.embed_tokens.weight": weights["embed"], "lm_head.weight": weights["embed"],
             "model.norm.weight": weights["norm.gain"]}
    for i in range(arch.L):
        ours = lambda name, i=i: weights[f"blocks.{i}.{name}"]
        q, k, v = np.split(ours("qkv.w").T, [arch.H * arch.D, (arch.H + arch.K) * arch.D])
        parts = {"self_attn.q_proj": q, "self_attn.k_proj": k, "self_attn.v_proj": v,
                 "self_attn.o_proj": ours("project.w").T, "mlp.gate_proj": ours("gate.w").T,
                 "mlp.up_proj": ours("up.w").T, "mlp.down_proj": ours("down.w").T,
                 "input_layernorm": ours("norm1.gain"),
                 "post_attention_layernorm": ours("norm2.gain")}
        state |= {f"model.layers.{i}.{name}.weight": array for name, array in parts.items()}
    model = transformers.LlamaForCausalLM(config).eval()
    model.load_state_dict({k: torch.from_numpy(np.ascontiguousarray(a)) for k, a in state.items()})

    def logits(ids):
        with torch.no_grad():
            return model(torch.tensor([[int(i) for i in ids]])).logits[0].numpy()
    return logits


def test_logits_equal_transformers_on_three_prompts(real, weights):
    theirs = as_transformers(real.arch, weights)
    for text in TEXTS:
        ids = real.tokenizer.encode(text)
        wanted = theirs(ids)
        found = decode(real.arch, weights, ids, KVCache(real.arch, 256))
        assert np.abs(found - wanted).max() < 1e-3 * np.abs(wanted).max()
        assert (found.argmax(axis=1) == wanted.argmax(axis=1)).all()
        relative = np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
        assert relative.max() < 1e-4


def test_a_made_llama_equals_transformers(tmp_path):
    metadata, tensors, _ = small_llama(np.random.default_rng(1), C=64, H=4, K=2)
    (tmp_path / "x.gguf").write_bytes(gguf_bytes(metadata, tensors))
    model = load(tmp_path / "x.gguf")
    ids = np.random.default_rng(2).integers(model.arch.V, size=50)
    wanted = as_transformers(model.arch, model.weights())(ids)
    found = decode(model.arch, model.weights(), ids, KVCache(model.arch))
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_gpt2s_names_give_transformers_logits():
    torch = pytest.importorskip("torch", reason=WHY)
    transformers = pytest.importorskip("transformers", reason=WHY)
    from llm.models.gpt import GPT, GPTConfig
    from llm.weights.gpt2 import gpt2_state
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=97, n_positions=32, n_embd=48, n_layer=3, n_head=4, initializer_range=0.3))
    theirs.eval()
    ours = GPT(GPTConfig(V=97, T=32, C=48, L=3, H=4), np.random.default_rng(0))
    ours.load_state_dict(gpt2_state({k: v.numpy() for k, v in theirs.state_dict().items()}))
    ids = np.random.default_rng(1).integers(97, size=(2, 32))
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(ids)).logits.numpy()
    assert np.abs(ours(ids).data - wanted).max() < 1e-4 * np.abs(wanted).max()


# --- llama.cpp --------------------------------------------------------------------------------

SURE = ["1, 2, 3, 4, 5, 6, 7, 8,", "To be, or not to be, that is the question:\n",
        "List the days of the week."]                 # the last one asked as a chat
OPEN = ["The history of the English language is", "Once upon a time, there was a",
        "<!DOCTYPE html>\n<html>\n<head>\n"]
MARGIN = 0.7           # nats: rounding activations to 8 bits exchanges no words so far apart


def answers(path, prompts):
    """llama.cpp's 64 greedy tokens to each prompt, with the ids and logs of its 20 likeliest."""
    peer = pytest.importorskip("xllamacpp", reason=WHY)
    params = peer.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel = str(path), 512, 1
    params.cpuparams.n_threads, params.verbosity = 1, -1
    server, found = peer.Server(params), []
    for ids in prompts:
        said = server.handle_completions({"prompt": [int(i) for i in ids], "max_tokens": 64,
                                          "temperature": 0, "n_probs": 20, "cache_prompt": False})
        content = said["choices"][0]["logprobs"]["content"]
        tops = [[(top["id"], top["logprob"]) for top in token["top_logprobs"]] for token in content]
        found.append((ids, [token["id"] for token in content], tops))
    return found


@pytest.fixture(scope="module")
def prompts(real):
    chat = ChatTemplate(real.template).encode(real.tokenizer, [Message("user", SURE[-1])])
    return [*map(real.tokenizer.encode, SURE[:-1]), chat, *map(real.tokenizer.encode, OPEN)]


@pytest.fixture(scope="module")
def greedy(real, weights, prompts):
    """`answers` from the real file, for which llama.cpp, too, rounds activations to 8 bits; to
    each what our decoder in float32 says at the same places."""
    return [(*answer, behind(weights, real, *answer[:2]))
            for answer in answers(real.file.path, prompts)]


def behind(weights, real, ids, theirs):
    """Log-probabilities (n, V), in float32, where llama.cpp chose its tokens."""
    logits = Plain(real.arch, weights, 512).read([*ids, *theirs[:-1]])[len(ids) - 1:]
    return log_softmax(logits.astype(np.float64))


def apart(z, tops):
    """Differences of llama.cpp's logs from ours (n, V), at its likeliest tokens."""
    return [log - z[j, i] for j, top in enumerate(tops) for i, log in top]


def margins(z):
    """By how much the likeliest token leads."""
    return np.diff(np.sort(z, axis=1)[:, -2:])[:, 0]


def test_llama_cpp_in_float32_writes_the_tokens_of_our_decoder(real, weights, prompts):
    """The same weights as floats: nothing is rounded to 8 bits, only its cache to 16."""
    peers = pytest.importorskip("experiments.decode_peers", reason=WHY)
    pytest.importorskip("gguf", reason=WHY)
    with tempfile.TemporaryDirectory() as folder:
        said = answers(peers.retyped(real.file.path, "F32", folder), prompts)
    for ids, theirs, tops in said:
        z = behind(weights, real, ids, theirs)
        assert np.abs(apart(z, tops)).max() < 0.05
        sure = margins(z) > 0.05
        assert sure.mean() > 0.8 and (z.argmax(axis=1) == theirs)[sure].all()


@pytest.mark.parametrize("way", cpu.paths())
def test_the_engine_is_as_near_to_float32_as_llama_cpp_and_parts_from_it_at_near_ties(
        real, greedy, way):
    """Both round activations, 32 to a scale, and every build of llama.cpp adds in another order. So
    their texts part, at another place on another processor, but only where two words are close."""
    engine, ours, rounded, counts = llama.engine(real, way, T_max=256), [], [], []
    for ids, theirs, tops, wanted in greedy:
        engine.reset()
        z = [engine.prefill(ids).copy(), *(engine.step(i).copy() for i in theirs[:-1])]
        z = log_softmax(np.stack(z).astype(np.float64))
        sure = margins(wanted) > MARGIN
        for log in (wanted, z):
            assert (log.argmax(axis=1) == theirs)[sure].all()
        rounded += apart(wanted, tops)
        ours += [z[j, i] - wanted[j, i] for j, top in enumerate(tops) for i, _ in top]
        counts.append(sure.sum())
    assert counts[0] == 64 and sum(counts) > 192, f"{counts} of 64 tokens are sure: too few"
    mean = lambda differences: np.sqrt(np.mean(np.square(differences)))
    assert mean(ours) < 1.25 * mean(rounded) < 0.25


# --- tokenizers -------------------------------------------------------------------------------

def test_vocabularies_with_scores_encode_as_by_hugging_face():
    """A list of merges that says the same: for each piece, best first, every cut in two pieces."""
    peer = pytest.importorskip("tokenizers", reason=WHY)
    rng, learned, letters = random.Random(0), [], list("▁abcde")
    while len(learned) < 60:
        piece = rng.choice(letters + learned) + rng.choice(letters + learned)
        if len(piece) < 7 and piece not in learned:
            learned.append(piece)
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *letters, *learned]
    ids = {piece: i for i, piece in enumerate(pieces)}
    merges = [(piece[:k], piece[k:]) for piece in learned for k in range(1, len(piece))
              if piece[:k] in ids and piece[k:] in ids]
    theirs = peer.Tokenizer(peer.models.BPE(vocab=ids, merges=merges, byte_fallback=True,
                                            unk_token="<unk>"))
    theirs.normalizer = peer.normalizers.Sequence([peer.normalizers.Prepend("▁"),
                                                   peer.normalizers.Replace(" ", "▁")])
    scores = [0.0] * (259 + len(letters)) + [-float(i) for i in range(len(learned))]
    ours = ScoredBPE(pieces, scores, {"<unk>": 0, "<s>": 1, "</s>": 2}, range(3, 259))
    for _ in range(1000):
        text = "".join(rng.choice("abcde  é") for _ in range(rng.randint(1, 40)))
        assert ours.encode(text).tolist() == theirs.encode(text).ids
        assert ours.decode(ours.encode(text)) == text
