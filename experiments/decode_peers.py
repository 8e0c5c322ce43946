"""Day 52 · Three engines behind the same handles, for experiments/bench_decode.py.

Each has `read(ids)`, seconds to read a prompt, and `write(ids, n)`, tokens a second after that
prompt, greedy. Each runs the same GGUF file on two threads, at the fastest settings known to us.
"""

import time
from pathlib import Path

import numpy as np


def text_ids(n, V, seed=0):
    """n ids that stand for a text; which ones makes no difference to speed."""
    return np.random.default_rng(seed).integers(min(1000, V // 2), V - 100, n)


class Ours:
    """path: "vnni", "avx2" or "plain"; None: the fastest. dtype: of the cache."""

    def __init__(self, gguf, T, path=None, dtype=np.float32):
        from llm.generate import llama
        from llm.generate.pretrained import load
        began = time.perf_counter()
        self.model = load(gguf)
        self.engine = llama.engine(self.model, path, T_max=T, dtype=dtype)
        self.seconds = time.perf_counter() - began
        self.seen = None
        for i in range(8):                              # the engine learns what a thread can do
            self.engine.step(i)

    def read(self, ids):
        self.engine.reset()
        began = time.perf_counter()
        self.engine.prefill(ids)
        return time.perf_counter() - began

    def write(self, ids, n):
        if self.seen is None or not np.array_equal(self.seen, ids):
            self.read(ids[:-1])
            self.seen = ids
        self.engine.truncate(len(ids) - 1)
        i = int(self.engine.step(int(ids[-1])).argmax())
        began = time.perf_counter()
        for _ in range(n):
            i = int(self.engine.step(i).argmax())
        return n / (time.perf_counter() - began)

    def token_bytes(self, context):
        """What a token must read: every matrix once, and the keys and values so far."""
        cache, arch = self.engine.cache, self.model.arch
        weights = sum(w.data.nbytes for w in self.engine.matrices().values())
        return weights + 2 * arch.L * arch.K * arch.D * cache.k.itemsize * context

    def formats(self):
        return sorted({w.format.name for w in self.engine.matrices().values()})


class LlamaCpp:
    """llama.cpp by the wheel xllamacpp; its own clock, so that no HTTP or JSON counts."""

    def __init__(self, gguf, T, path=None, dtype=None):
        import xllamacpp
        began = time.perf_counter()
        p = xllamacpp.CommonParams()
        p.model.path, p.n_ctx, p.n_parallel, p.n_gpu_layers = str(gguf), T, 1, 0
        p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 2
        self.server = xllamacpp.Server(p)
        self.seconds = time.perf_counter() - began

    def complete(self, ids, n, cached):
        answer = self.server.handle_completions({
            "prompt": [int(i) for i in ids], "n_predict": n, "cache_prompt": cached,
            "ignore_eos": True, "temperature": 0, "samplers": ["top_k"], "top_k": 1})
        if "timings" not in answer:
            raise RuntimeError(f"llama.cpp answers {str(answer)[:200]}")
        return answer["timings"]

    def read(self, ids):
        return self.complete(ids, 1, False)["prompt_ms"] / 1000

    def write(self, ids, n):
        return self.complete(ids, n, True)["predicted_per_second"]


class Transformers:
    """transformers' Llama in float32 with the file's weights, PyTorch eager on two threads."""

    def __init__(self, gguf, T, path=None, dtype=None):
        import torch
        import transformers

        from llm.generate.pretrained import load
        began = time.perf_counter()
        torch.set_num_threads(2)
        torch.set_grad_enabled(False)
        model = load(gguf)
        arch, weights = model.arch, model.weights()
        config = transformers.LlamaConfig(
            vocab_size=arch.V, hidden_size=arch.C, intermediate_size=arch.F,
            num_hidden_layers=arch.L, num_attention_heads=arch.H, num_key_value_heads=arch.K,
            head_dim=arch.D, max_position_embeddings=arch.T, rms_norm_eps=arch.eps,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": arch.rotary})
        names = {"project.w": "self_attn.o_proj", "gate.w": "mlp.gate_proj", "up.w": "mlp.up_proj",
                 "down.w": "mlp.down_proj", "norm1.gain": "input_layernorm",
                 "norm2.gain": "post_attention_layernorm"}
        state = {"model.embed_tokens.weight": weights["embed"],
                 "lm_head.weight": weights["embed"], "model.norm.weight": weights["norm.gain"]}
        for i in range(arch.L):
            cuts = [arch.H * arch.D, (arch.H + arch.K) * arch.D]
            parts = np.split(weights[f"blocks.{i}.qkv.w"].T, cuts)
            parts = {f"self_attn.{c}_proj": part for c, part in zip("qkv", parts)}
            parts |= {theirs: weights[f"blocks.{i}.{ours}"].T for ours, theirs in names.items()}
            state |= {f"model.layers.{i}.{name}.weight": w for name, w in parts.items()}
        self.model = transformers.LlamaForCausalLM(config).eval()
        self.model.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(w))
                                    for name, w in state.items()})
        self.torch, self.seconds, self.seen = torch, time.perf_counter() - began, None

    def step(self, ids, cache):
        ids = self.torch.as_tensor(np.asarray(ids))[None]
        return self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)

    def read(self, ids):
        began = time.perf_counter()
        self.step(ids, None)
        return time.perf_counter() - began

    def write(self, ids, n):
        out = self.step(ids, None)
        began = time.perf_counter()
        for _ in range(n):
            out = self.step([int(out.logits[0, -1].argmax())], out.past_key_values)
        return n / (time.perf_counter() - began)


ENGINES = {"ours": Ours, "llama.cpp": LlamaCpp, "transformers": Transformers}


def retyped(gguf, kind, folder):
    """The same weights in another type of blocks, as a file: every matrix rounded once more.

    kind: "Q4_0" or "Q8_0"; "F32" rounds nothing. Metadata and vectors are copied. Needs the package
    gguf.
    """
    import gguf as ggml
    path = Path(folder) / f"{kind}.gguf"
    reader, wanted = ggml.GGUFReader(gguf), ggml.GGMLQuantizationType[kind]
    writer = ggml.GGUFWriter(path, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            sub = field.types[-1] if field.types[0] == ggml.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub)
    for tensor in reader.tensors:
        data, now = tensor.data, tensor.tensor_type
        if len(tensor.shape) > 1 and now != wanted:
            data, now = ggml.quantize(ggml.dequantize(data, now), wanted), wanted
        writer.add_tensor(tensor.name, data, raw_dtype=now)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
