"""Day 29 · One solution of each exercise."""

import numpy as np


def contributions(out, w):
    """Head h meets its own D rows of w: (B, H, T, D) @ (H, D, C)."""
    H, D = out.shape[1], out.shape[3]
    return out @ w.reshape(H, D, -1)


def prune(qkv_w, qkv_b, project_w, H, keep):
    """Columns (q | k | v, head, channel) of the first, rows (head, channel) of the last."""
    C, keep = len(project_w), list(keep)
    D = C // H
    w = qkv_w.reshape(C, 3, H, D)[:, :, keep].reshape(C, -1)
    b = qkv_b.reshape(3, H, D)[:, keep].reshape(-1)
    return w, b, np.ascontiguousarray(project_w.reshape(H, D, -1)[keep]).reshape(len(keep) * D, -1)
