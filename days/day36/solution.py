"""Day 36 · Solutions of the exercises."""

import numpy as np

from llm.weights.safetensors import SafeTensors


class Windows:
    def __init__(self, ids, B, T, rng):
        self.ids, self.B, self.T, self.rng = ids, B, T, rng
        self.starts = np.arange(0, len(ids) - T, T)
        self.order, self.at = self.starts.copy(), len(self.starts)     # an epoch begins next

    def __next__(self):
        if self.at + self.B > len(self.order):
            self.order, self.at = self.rng.permutation(self.starts), 0
        chosen = self.order[self.at:self.at + self.B]
        self.at += self.B
        rows = self.ids[chosen[:, None] + np.arange(self.T + 1)].astype(np.int32)
        return rows[:, :-1], rows[:, 1:]

    def state_dict(self):
        return {"order": self.order, "at": np.array(self.at)}

    def load_state_dict(self, state):
        self.order, self.at = np.array(state["order"]), int(state["at"])


def resumable_windows(ids, B, T, rng):
    return Windows(ids, B, T, rng)


def average_checkpoints(paths, part):
    files = [SafeTensors(path) for path in paths]
    if not files:
        raise ValueError("no checkpoints to average")
    prefix, found = f"{part}.", {}
    names = [sorted(name for name in file if name.startswith(prefix)) for file in files]
    if any(other != names[0] for other in names):
        raise ValueError(f"{paths[0]} and another have different names")
    for name in names[0]:
        total = np.zeros(files[0].entries[name].shape)
        for path, file in zip(paths, files):
            if file[name].shape != total.shape:
                raise ValueError(f"{path}: {name} is {file[name].shape}, not {total.shape}")
            total += file[name]
        found[name.removeprefix(prefix)] = (total / len(files)).astype(files[0][name].dtype)
    return found
