"""Day 38 · The same GPT in PyTorch: the peer of bench_training.py and the oracle of the tests.

Written as one would write it there: fused QKV projection, scaled_dot_product_attention, tied head.
Needs torch (requirements-dev.txt); nothing in llm/ imports this.
"""

import torch
from torch import nn
from torch.nn import functional as F

NAMES = {"mix.norm": "norm1", "mix.inner.qkv": "qkv", "mix.inner.project": "project",
         "think.norm": "norm2", "think.inner.up": "up", "think.inner.down": "down"}


class TorchBlock(nn.Module):
    def __init__(self, C, H):
        super().__init__()
        self.H = H
        self.norm1, self.norm2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.qkv, self.project = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.up, self.down = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (part.view(B, T, self.H, C // self.H).transpose(1, 2)
                   for part in self.qkv(self.norm1(x)).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(y.transpose(1, 2).reshape(B, T, C))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class TorchGPT(nn.Module):
    """ids, targets (B, T) -> mean cross-entropy."""

    def __init__(self, config):
        super().__init__()
        self.embed = nn.Embedding(config.V, config.C)
        self.positions = nn.Embedding(config.T, config.C)
        self.blocks = nn.ModuleList(TorchBlock(config.C, config.H) for _ in range(config.L))
        self.norm = nn.LayerNorm(config.C)

    def forward(self, ids, targets):
        x = self.embed(ids) + self.positions.weight[:ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.embed.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def torch_name(name):
    """Our parameter's name, and whether PyTorch keeps it transposed."""
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    stem, _, last = name.rpartition(".")
    return (f"{stem}.{'bias' if last in ('b', 'bias') else 'weight'}", last == "w")


def to_torch(state):
    """Our state_dict (name -> array) as PyTorch's."""
    renamed = {}
    for name, array in state.items():
        theirs, transposed = torch_name(name)
        renamed[theirs] = torch.from_numpy(array.T.copy() if transposed else array.copy())
    return renamed
