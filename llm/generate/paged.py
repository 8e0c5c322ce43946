"""Day 47 · The paged cache: keys and values in blocks, which texts take, share and give back.

A block has room for `size` tokens in every layer. A text has a *table*, the list of its blocks in
order; they may lie anywhere. A block in several tables counts its holders. Full blocks are known by
what they hold and all before it, so a text that begins alike can use them, also after those who
wrote them are gone. Left out: moving blocks to another memory, and keys of 16 bits.
"""

import hashlib

import numpy as np


class OutOfBlocks(Exception):
    """Not enough blocks are free. Nothing was changed."""


class BlockPool:
    """`blocks` blocks of `size` tokens: 2·L·K·D numbers a token, all taken at once.

    share: whether full blocks may be found again by `find`. dtype: float32, or float64 for tests.
    Raises ValueError on less than one block or token. Source: Kwon et al. (2023), section 4.
    """

    def __init__(self, arch, blocks, size=16, share=True, dtype=np.float32):
        if blocks < 1 or size < 1:
            raise ValueError(f"a pool of {blocks} blocks of {size} tokens: both must be at least 1")
        self.arch, self.blocks, self.size, self.share = arch, blocks, size, share
        self.k = np.zeros((arch.L, blocks, arch.K, size, arch.D), dtype)
        self.v = np.zeros_like(self.k)
        self.holders = [0] * blocks                  # tables that a block is in
        self.free = dict.fromkeys(range(blocks))     # in order: the one that is longest unused
        self.key = [None] * blocks                   # what a full block holds, and all before it
        self.known = {}                              # key -> the block to use for it

    def write(self, layer, blocks, slots, k, v):
        """Store k and v (K, N, D) of one layer, token j at slots[j] of blocks[j]."""
        self.k[layer, blocks, :, slots] = k.swapaxes(0, 1)
        self.v[layer, blocks, :, slots] = v.swapaxes(0, 1)

    def count(self, tokens):
        """How many blocks so many tokens need."""
        return -(-tokens // self.size)

    def take(self):
        """A block for one holder, the longest unused one; what it held is forgotten."""
        if not self.free:
            raise OutOfBlocks
        block = next(iter(self.free))
        del self.free[block]
        self.forget(block)
        self.holders[block] = 1
        return block

    def forget(self, block):
        """The block's contents will change, so `find` must not return it any more."""
        if self.known.get(self.key[block]) == block:
            del self.known[self.key[block]]
        self.key[block] = None

    def hold(self, block):
        """One more table has this block."""
        self.free.pop(block, None)
        self.holders[block] += 1

    def release(self, table):
        """Give all blocks of a table back and empty it; the last ones will be reused first."""
        while table:
            block = table.pop()
            self.holders[block] -= 1
            if self.holders[block] == 0:
                self.free[block] = None

    def grow(self, table, tokens):
        """Append blocks to the table until it has room for so many tokens: all of them or none."""
        wanted = self.count(tokens) - len(table)
        if wanted > len(self.free):
            raise OutOfBlocks
        for _ in range(wanted):
            table.append(self.take())

    def fork(self, table):
        """A second text that begins as this one does: the same blocks, no copy -> its table."""
        for block in table:
            self.hold(block)
        return list(table)

    def own(self, table, position):
        """Before a token is written there: if others have the block too, a copy takes its place.

        This is copy-on-write. Raises OutOfBlocks if there is no block for the copy.
        """
        block = table[position // self.size]
        if self.holders[block] == 1:
            self.forget(block)
        else:
            mine = self.take()
            self.k[:, mine], self.v[:, mine] = self.k[:, block], self.v[:, block]
            self.holders[block] -= 1
            table[position // self.size] = mine

    def remember(self, table, ids):
        """The blocks that ids (T,) fill, all of them read, can be found from now on."""
        for j in range(len(ids) // self.size if self.share else 0):
            block = table[j]
            if self.key[block] is None:
                before = self.key[table[j - 1]] if j else b""
                self.key[block] = key_of(before, ids[j * self.size:(j + 1) * self.size])
                self.known.setdefault(self.key[block], block)

    def find(self, ids):
        """The blocks that hold the beginning of ids, as many as are known: a list, not yet held."""
        found, key = [], b""
        for j in range(len(ids) // self.size if self.share else 0):
            key = key_of(key, ids[j * self.size:(j + 1) * self.size])
            if key not in self.known:
                break
            found.append(self.known[key])
        return found

    def bytes(self):
        """What keys and values take."""
        return self.k.nbytes + self.v.nbytes


def key_of(before, ids):
    """The key of a full block: a digest of the key before it and of its ids.

    SHA-256, so that no two beginnings have the same key in practice; Python's `hash` gives −1 and
    −2 the same one, and the wrong keys would be read without a sign.
    """
    return hashlib.sha256(before + np.asarray(ids, np.int64).tobytes()).digest()
