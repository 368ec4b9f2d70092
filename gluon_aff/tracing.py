"""The symbol of a network."""
from __future__ import annotations

import mxnet as mx


def trace(net, names):
    """The symbol that a HybridBlock computes of inputs of these names; the network stays as it was.

    Raises
    ------
    TypeError, mxnet.MXNetError
        If it does not take as many inputs.
    """
    untraced = [param for param in net.collect_params().values() if param._var is None]
    try:
        out = net(*map(mx.sym.var, names))
        return mx.sym.Group(list(out)) if isinstance(out, (list, tuple)) else out
    finally:
        # A parameter keeps the symbol, and with it the type, that it was first traced with.
        for param in untraced:
            param._var = None
