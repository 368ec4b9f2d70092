"""The symbol of a network."""

from __future__ import annotations

import mxnet as mx
from mxnet.gluon.block import HybridBlock

from ._mxnet import LOCK, forget_symbols

__all__ = ['trace']


def trace(net: HybridBlock, names: list[str]) -> mx.sym.Symbol:
    """Trace a network with inputs of these names, and leave it as it was.

    Raises
    ------
    TypeError, mxnet.MXNetError
        If the network does not take that many inputs.
    """
    with LOCK, forget_symbols(net.collect_params().values()):
        out = net(*map(mx.sym.var, names))
        return mx.sym.Group(list(out)) if isinstance(out, (list, tuple)) else out
