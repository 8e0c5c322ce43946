"""Day 54 · Adapters of a Llama in the files of the library peft, to be read there and here.

    folder/adapter_config.json           rank, alpha, which layers
    folder/adapter_model.safetensors     lora_A (r, in) and lora_B (out, r) for each layer

peft keeps queries, keys and values apart and multiplies from the left, so our A is cut into three
and everything is transposed: lora_A = Aᵀ, lora_B = Bᵀ. Left out: ranks that differ from layer to
layer, trained biases, DoRA, adapters on the embedding; such a folder is refused.
Source: peft, docs/source/developer_guides/checkpoint.md.
"""

import json
from pathlib import Path

import numpy as np

from llm.functions.lowrank import parts
from llm.tune.lora import LoRALinear, add_lora
from llm.weights.files import write_whole
from llm.weights.safetensors import SafeTensors, write_safetensors

PARTS = {"mix.inner.qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
         "mix.inner.project": ["self_attn.o_proj"], "think.inner.gate": ["mlp.gate_proj"],
         "think.inner.up": ["mlp.up_proj"], "think.inner.down": ["mlp.down_proj"]}
REFUSED = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "layers_to_transform",
           "lora_bias", "fan_in_fan_out")


def save_adapters(folder, model, base_name=""):
    """Write the adapters of a Llama to `folder`, which is made if it does not exist.

    base_name: what peft should call the base model. Raises ValueError where the model has none,
    or they differ in rank, alpha or kind, and OSError where the disk does not take it.
    """
    found = dict(model.named(LoRALinear))
    kinds = {(layer.rank, layer.alpha, layer.rslora) for layer in found.values()}
    if len(kinds) != 1:
        raise ValueError(f"adapters of {len(kinds)} kinds (rank, alpha, rslora): peft's file as "
                         "written here has room for one")
    (rank, alpha, rslora), = kinds
    arrays = {}
    for path, layer in found.items():
        for name, (low, high, part) in zip(their_names(path), parts(layer.widths, rank),
                                           strict=True):
            arrays[f"{name}.lora_A.weight"] = layer.a.data[:, part].T
            arrays[f"{name}.lora_B.weight"] = layer.b.data[:, low:high].T
    targets = sorted({name.rpartition(".")[2] for path in found for name in their_names(path)})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base_name,
              "r": rank, "lora_alpha": alpha, "use_rslora": rslora, "target_modules": targets,
              "lora_dropout": 0.0, "bias": "none", "inference_mode": True}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "adapter_model.safetensors", arrays, {"format": "pt"})
    write_whole(folder / "adapter_config.json", [(json.dumps(config, indent=2) + "\n").encode()])


def load_adapters(folder, model, rng=None):
    """Put the adapters of `folder` beside the layers of a Llama that has none -> {path: layer}.

    Raises ValueError where the folder asks for what is left out here, or does not fit the model.
    """
    folder = Path(folder)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    odd = [key for key in REFUSED if config.get(key)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or odd:
        raise ValueError(f"{folder} holds {config.get('peft_type')} with {odd or 'biases'}: only "
                         "plain LoRA and rsLoRA are read here")
    file = SafeTensors(folder / "adapter_model.safetensors")
    stems = {name.rpartition(".lora_")[0] for name in file}
    paths = [path for i in range(model.config.L) for part in PARTS
             if set(their_names(path := f"blocks.{i}.{part}")) & stems]
    wanted = {f"{name}.lora_{end}.weight" for path in paths for name in their_names(path)
              for end in "AB"}
    if not paths or wanted != set(file):
        raise ValueError(f"{folder} does not fit this model: "
                         f"{sorted(wanted ^ set(file))[:3]} stand on one side only")
    found = add_lora(model, config["r"], config["lora_alpha"], rng or np.random.default_rng(0),
                     paths, config.get("use_rslora", False))
    for path, layer in found.items():
        names = their_names(path)
        sides = [np.concatenate([file[f"{name}.lora_{end}.weight"].astype(np.float32)
                                 for name in names]).T if end == "A" else
                 np.concatenate([file[f"{name}.lora_B.weight"] for name in names]).T
                 for end in "AB"]
        for tensor, array in zip((layer.a, layer.b), sides):
            if array.shape != tensor.shape:
                raise ValueError(f"{path}: {array.shape} in {folder}, wanted {tensor.shape}")
            tensor.data = np.array(array, tensor.dtype, order="C")
    return found


def their_names(path):
    """blocks.3.mix.inner.qkv -> three names of peft's, for queries, keys and values."""
    _, i, part = path.split(".", 2) if path.count(".") > 2 else ("", "", path)
    if part not in PARTS:
        raise ValueError(f"{path!r} is no layer of a Llama; peft has no name for it here")
    return [f"base_model.model.model.layers.{i}.{name}" for name in PARTS[part]]
