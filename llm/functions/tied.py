"""Day 34 · The tied head: one table (V, C) that reads tokens in and scores them on the way out.

Left out: an untied head, which is a Linear without bias.
"""


def unembed(x, table):
    """x (..., C) · table (V, C)ᵀ -> logits (..., V): how well x matches each token's row.

    Costs 2·C·V FLOPs a token. Raises ValueError where the last axes differ.
    Source: Press & Wolf (2017), section 3.
    """
    if x.shape[-1] != table.shape[-1]:
        raise ValueError(f"x {x.shape} and table {table.shape}: the last axes must agree")
    rows = x.reshape(-1, x.shape[-1])                                 # (N, C)
    return (rows @ table.T).reshape(*x.shape[:-1], len(table)), (x, table)


def unembed_vjp(dout, x, table):
    """dx = dout · table and dtable = doutᵀ x, summed over all tokens: 4·C·V FLOPs a token.

    A token's row gets a part from every position, not only from those that hold the token.
    """
    rows = dout.reshape(-1, dout.shape[-1])                           # (N, V)
    return (rows @ table).reshape(x.shape), rows.T @ x.reshape(-1, x.shape[-1])
