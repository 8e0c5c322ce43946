"""Day 64 · A model of ours as a folder that Hugging Face's libraries open, and back.

    config.json               the architecture, in their words
    generation_config.json    which ids end a text
    tokenizer.json            the vocabulary, merges and splitting rule (day 25)
    tokenizer_config.json     the chat template, if there is one
    model.safetensors         the weights (day 36)

A family fixes what its config does not say: that of GPT-NeoX computes LayerNorm, rotary positions
and GELU with biases, as our GPT does, if it is told not to run both branches at once. config.json
is written last, so that a folder that has one is whole.
Left out: other vocabularies than byte-level BPE, and weights in several files.
Sources: transformers, configuration_gpt2.py, configuration_gpt_neox.py, configuration_llama.py.
"""

import json
from pathlib import Path

import numpy as np

from llm.tokens.bpe import VocabularyError
from llm.tokens.fast_bpe import FastBPE
from llm.weights.files import write_whole
from llm.weights.forms import HUGGING_FACE, family, rename, restore
from llm.weights.safetensors import SafeTensors, SafetensorsError, write_safetensors

TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
CLASSES = {"gpt2": "GPT2LMHeadModel", "gpt_neox": "GPTNeoXForCausalLM",
           "llama": "LlamaForCausalLM"}
NUMBERS = {                                         # our letter: their key
    "gpt2": {"V": "vocab_size", "T": "n_positions", "C": "n_embd", "L": "n_layer", "H": "n_head",
             "F": "n_inner", "eps": "layer_norm_epsilon"},
    "gpt_neox": {"V": "vocab_size", "T": "max_position_embeddings", "C": "hidden_size",
                 "L": "num_hidden_layers", "H": "num_attention_heads", "F": "intermediate_size",
                 "eps": "layer_norm_eps"},
    "llama": {"V": "vocab_size", "T": "max_position_embeddings", "C": "hidden_size",
              "L": "num_hidden_layers", "H": "num_attention_heads", "K": "num_key_value_heads",
              "D": "head_dim", "F": "intermediate_size", "eps": "rms_norm_eps"}}
FIXED = {                                           # what only our form of the family has
    "gpt2": {"activation_function": "gelu_new"},
    "gpt_neox": {"hidden_act": "gelu_new", "use_parallel_residual": False, "rotary_pct": 1.0,
                 "attention_bias": True},
    "llama": {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}}
BASES = {"gpt_neox": "rotary_emb_base", "llama": "rope_theta"}
END_NAMES = ("<|im_end|>", "<|endoftext|>")         # special tokens that end an answer or a text


class ExportError(OSError):
    """The folder holds no model that is read here; one line says why."""


def end_ids(tokenizer):
    """The ids of its special tokens that end something, the end of a turn first; [] without."""
    return [tokenizer.specials[name] for name in END_NAMES if name in tokenizer.specials]


def config_of(arch, tied, kind="F32", ends=()):
    """The contents of config.json. arch: day 42's Architecture; see `family` for errors."""
    name = family(arch)
    rope = {}
    if name in BASES:
        rope = {BASES[name]: float(arch.rotary), "rope_parameters": {
            "rope_type": "default", "rope_theta": float(arch.rotary),
            **({"partial_rotary_factor": 1.0} if name == "gpt_neox" else {})}}
    return {"architectures": [CLASSES[name]], "model_type": name,
            **{key: getattr(arch, letter) for letter, key in NUMBERS[name].items()},
            **FIXED[name], **rope, "tie_word_embeddings": tied, "dtype": TYPES[kind],
            "bos_token_id": None, "eos_token_id": list(ends) or None, "pad_token_id": None}


def export_hf(folder, arch, weights, tokenizer, template=None, kind="F32"):
    """Write the five files. weights: as in `check_weights`; template: source of a chat template.

    kind: F32, F16 or BF16. Raises ValueError for what cannot be written there, with nothing
    written: an architecture or vocabulary of no such form, or weights beyond float16.
    """
    if kind not in TYPES:
        raise ValueError(f"weights are written as {', '.join(TYPES)}, not {kind!r}")
    check_vocabulary(arch, tokenizer)
    config = config_of(arch, "head" not in weights, kind, ends := end_ids(tokenizer))
    arrays = rename(HUGGING_FACE[config["model_type"]], arch, weights)
    if kind == "F16":
        arrays = {name: to_half(name, array) for name, array in arrays.items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    tokenizer.save(folder / "tokenizer.json")
    names = {i: name for name, i in tokenizer.specials.items()}
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": arch.T,
        "clean_up_tokenization_spaces": False,
        **({"eos_token": names[ends[0]]} if ends else {}),
        **({"chat_template": template} if template else {})})
    write_json(folder / "generation_config.json",
               {"bos_token_id": None, "eos_token_id": ends or None})
    write_safetensors(folder / "model.safetensors", arrays, {"format": "pt"},
                      bf16=arrays if kind == "BF16" else ())
    write_json(folder / "config.json", config)


def check_vocabulary(arch, tokenizer):
    """ValueError unless it is byte-level and the model has an embedding for each of its ids."""
    if not isinstance(tokenizer, FastBPE):
        raise ValueError(f"a vocabulary of the kind {type(tokenizer).__name__} is not written "
                         "here; byte-level BPE, day 25's FastBPE, is")
    if tokenizer.vocab_size > arch.V:
        raise ValueError(f"the tokenizer has {tokenizer.vocab_size:,} ids and the model embeds "
                         f"{arch.V:,}; do they belong together?")


def to_half(name, array):
    """float32 -> float16; ValueError where a weight is too large for it."""
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise ValueError(f"{name} holds {np.abs(array).max():.3g}, and float16 ends at 65,504; "
                         "write BF16 or F32")
    return half


def write_json(path, content):
    """One JSON file, whole or not there."""
    write_whole(path, [json.dumps(content, ensure_ascii=False, indent=1).encode() + b"\n"])


def import_hf(folder):
    """A folder -> ({field of Architecture: value}, weights, tokenizer, template or None, ends).

    Weights become float32. Raises ExportError, one line, for what is not read here.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    name = config.get("model_type")
    if name not in NUMBERS:
        raise ExportError(f"{folder} holds a {name!r} model; {', '.join(NUMBERS)} are read here")
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default" or config.get("rope_scaling"):
        raise ExportError(f"{folder} stretches its rotary angles, which is not run here")
    said = {"rotary_pct": rope.get("partial_rotary_factor", 0.25), **config}
    for key, wanted in FIXED[name].items():
        if said.get(key, wanted) != wanted:
            raise ExportError(f"{folder} has {key} {said[key]!r}; only {wanted!r} is run here")
    try:
        about = {letter: config[key] for letter, key in NUMBERS[name].items()
                 if key in config or letter not in "DK"}
        about.setdefault("K", about["H"])
        about.setdefault("D", about["C"] // about["H"])
        if name in BASES:
            about["rotary"] = rope.get("rope_theta", config.get(BASES[name]))
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ExportError(f"{folder / 'config.json'} does not say {error}") from None
    if name == "llama":
        about |= {"norm": "rms", "feed_forward": "swiglu"}
    try:
        arrays = {key: np.asarray(array, np.float32) for key, array in
                  SafeTensors(folder / "model.safetensors").items()}
        tokenizer = FastBPE.load(folder / "tokenizer.json")
    except (SafetensorsError, VocabularyError) as error:
        raise ExportError(str(error)) from None
    more = folder / "tokenizer_config.json"
    template = read_json(more).get("chat_template") if more.exists() else None
    ends = config.get("eos_token_id")
    return about, arrays, tokenizer, template, ends if isinstance(ends, list) else (
        [] if ends is None else [ends])


def read_json(path):
    """A JSON object; ExportError where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror}; is it a model's folder?"
                          ) from None
    except ValueError as error:
        raise ExportError(f"{path} is not whole JSON: {error}") from None
    if not isinstance(found, dict):
        raise ExportError(f"{path} holds a {type(found).__name__}, not an object")
    return found


def weights_of(arrays, arch):
    """Their arrays as ours; arch: the Architecture that config.json describes. ExportError."""
    try:
        return restore(HUGGING_FACE[family(arch)], arch, arrays)
    except ValueError as error:
        raise ExportError(f"the weights do not fit config.json: {error}") from None
