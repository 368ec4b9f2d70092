"""The symbol of a network."""

from __future__ import annotations

import threading

import mxnet as mx

# Held while a network is traced: MXNet keeps the state of it (name scopes, the parameters' symbols) on the blocks.
LOCK = threading.RLock()


def trace(net, names):
    """The symbol that a HybridBlock computes from inputs of these names; the network stays as it was.

    Raises
    ------
    TypeError, mxnet.MXNetError
        If it does not take as many inputs.
    """
    with LOCK:
        untraced = [param for param in net.collect_params().values() if param._var is None]
        try:
            out = net(*map(mx.sym.var, names))
            return mx.sym.Group(list(out)) if isinstance(out, (list, tuple)) else out
        finally:
            # A parameter keeps the symbol, and with it the type, that it was first traced with.
            for param in untraced:
                param._var = None
