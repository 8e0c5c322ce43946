"""Day 39 · A GPT's forward and backward, every line written out: no tape, no new arrays.

f: the functions that do the work, a module such as plain.py (NumPy) or kernels/by_hand.py (Numba).
w: the weights, g: their gradients, s: the activations, all of them views into one arena.
N = BT rows (tokens). What a function writes to comes last among its arrays; a gradient has the
shape of what it is the gradient of. Left out: dropout. Sources: days 14, 21, 27, 31 and 34 for
each line of backward.
"""


def forward(f, w, s, count):
    """Σ −log p(target) / count, a float. s.ids, s.targets (N,): −100 where nothing is asked.

    s.logits holds their own gradient afterwards: forward and backward of the loss are one pass.
    """
    b, k = w.parts[0], s.parts[0]
    f.embed(s.ids, w.table, w.positions, k.x)                                      # (N, C)
    f.norm(k.x, b.gain1, b.bias1, w.eps, s.h, k.mean1, k.rstd1)
    for b, k, after, then in zip(w.parts, s.parts, w.parts[1:], s.parts[1:]):
        f.matmul(s.h, b.qkv, k.qkv)                                                # (N, 3C)
        f.turn(k.qkv, b.qkv_b, w.cos, w.sin)
        f.matmul(k.q, k.k.mT, k.weights)                                           # (B, H, T, T)
        f.softmax(k.weights, w.factor)
        f.matmul(k.weights, k.v, k.mixed)                                          # (B, H, T, D)
        f.matmul(k.merged, b.project, k.mid)                                       # (N, C)
        f.add_norm(k.x, b.project_b, k.mid, b.gain2, b.bias2, w.eps, s.h, k.mean2, k.rstd2)
        f.matmul(s.h, b.up, k.up)                                                  # (N, 4C)
        f.gelu(k.up, b.up_b, s.bent)
        f.matmul(s.bent, b.down, then.x)                                           # (N, C)
        f.add_norm(k.mid, b.down_b, then.x, after.gain1, after.bias1, w.eps, s.h,
                   then.mean1, then.rstd1)
    f.matmul(s.h, w.table.T, s.logits)                                             # (N, V)
    return f.cross_entropy(s.targets, count, s.logits)


def backward(f, w, g, s):
    """Fill g. `forward` was called before with the same w and s; what it kept is used up.

    norm_back puts the norm's output where its input was: the product behind it needs that output
    for the gradient of its matrix. gelu_back does the same. s.dx is the gradient of the stream.
    """
    b, k, last = w.parts[-1], s.parts[-1], g.parts[-1]
    f.matmul(s.logits, w.table, s.h)                                               # (N, C)
    s.dx.fill(0)
    f.norm_back(s.h, b.gain1, b.bias1, k.mean1, k.rstd1, k.x, s.dx,
                last.gain1, last.bias1, g.parts[-2].down_b)
    f.matmul(s.logits.T, k.x, g.table)                                             # (V, C)
    for i in reversed(range(len(s.parts) - 1)):
        b, k, d = w.parts[i], s.parts[i], g.parts[i]
        f.matmul(s.dx, b.down.T, s.dup)                                            # (N, 4C)
        f.gelu_back(b.up_b, k.up, s.dup, d.up_b)
        f.matmul(k.up.T, s.dx, d.down)                                             # (4C, C)
        f.matmul(s.dup, b.up.T, s.h)                                               # (N, C)
        f.norm_back(s.h, b.gain2, b.bias2, k.mean2, k.rstd2, k.mid, s.dx,
                    d.gain2, d.bias2, d.project_b)
        f.matmul(k.mid.T, s.dup, d.up)                                             # (C, 4C)
        f.matmul(s.dx, b.project.T, s.h)                                           # (N, C)
        f.matmul(k.merged.T, s.dx, d.project)                                      # (C, C)
        f.matmul(k.weights.mT, s.dmixed, s.dv)                                     # (B, H, T, D)
        f.matmul(s.dmixed, k.v.mT, s.dweights)                                     # (B, H, T, T)
        f.softmax_back(k.weights, w.factor, s.dweights)
        f.matmul(s.dweights, k.k, s.dq)                                            # (B, H, T, D)
        f.matmul(s.dweights.mT, k.q, s.dk)
        f.turn_back(s.dqkv, w.cos, w.sin, d.qkv_b)
        f.matmul(s.dqkv, b.qkv.T, s.h)                                             # (N, C)
        f.norm_back(s.h, b.gain1, b.bias1, k.mean1, k.rstd1, k.x, s.dx,
                    d.gain1, d.bias1, g.parts[i - 1].down_b if i else s.nowhere)
        f.matmul(k.x.T, s.dqkv, d.qkv)                                             # (C, 3C)
    f.embed_back(s.ids, s.dx, g.table, g.positions)
