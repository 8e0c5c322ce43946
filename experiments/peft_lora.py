"""Day 54 · The same fine-tuning in PyTorch with peft: the peer of bench_lora.py.

Needs torch, transformers and peft (requirements-dev.txt); nothing in llm/ imports this.
"""

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from llm.tune.peft_files import PARTS


def llama(config, state):
    """transformers' Llama with the arrays of our state_dict, which is emptied on the way."""
    theirs = LlamaForCausalLM(LlamaConfig(
        vocab_size=config.V, hidden_size=config.C, intermediate_size=config.F,
        num_hidden_layers=config.L, num_attention_heads=config.H, num_key_value_heads=config.K,
        max_position_embeddings=config.T, rms_norm_eps=config.eps, rope_theta=config.base,
        tie_word_embeddings=config.tied, use_cache=False))
    names = renamed(config)
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            if name == "lm_head.weight" and config.tied:
                continue
            ours, rows = names[name]
            array = state[ours]
            p.copy_(torch.from_numpy(np.ascontiguousarray(
                array.T[rows] if array.ndim == 2 and ours != "embed.table" else array)))
    return theirs


def renamed(config):
    """{their name: (ours, which outputs of it)}."""
    D, every = config.C // config.H, slice(None)
    ends = np.cumsum([0, config.H * D, config.K * D, config.K * D]).tolist()
    names = {"model.embed_tokens.weight": ("embed.table", every),
             "model.norm.weight": ("norm.gain", every), "lm_head.weight": ("head.w", every)}
    for i in range(config.L):
        layer, mine = f"model.layers.{i}.", f"blocks.{i}."
        names[layer + "input_layernorm.weight"] = (mine + "mix.norm.gain", every)
        names[layer + "post_attention_layernorm.weight"] = (mine + "think.norm.gain", every)
        for part, theirs in PARTS.items():
            for j, name in enumerate(theirs):
                rows = slice(ends[j], ends[j + 1]) if len(theirs) == 3 else every
                names[f"{layer}{name}.weight"] = (f"{mine}{part}.w", rows)
    return names


def peft_steps(case):
    """A function that makes one step and returns its loss."""
    from days.day38.apart import THREADS
    from experiments.bench_lora import ALPHA, RANK, RATE, base, batches
    model = base()
    theirs = llama(model.config, model.state_dict())
    del model
    torch.set_num_threads(THREADS)
    theirs = get_peft_model(theirs, LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = [p for p in theirs.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, RATE, weight_decay=0.0, fused=True)
    source = batches(case)
    theirs.train()

    def step():
        inputs, targets = (torch.from_numpy(a).long() for a in next(source))
        optimizer.zero_grad(set_to_none=True)
        logits = theirs(input_ids=inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return loss.item()

    return step
