"""Networks as MXNet's symbol and parameters, which every binding of MXNet loads without this project's code."""

from __future__ import annotations

import os

import mxnet as mx
from mxnet.gluon.block import HybridBlock

from ..files import write_whole
from ..params_file import write_parameters
from .graph import Graph

__all__ = ['export_symbol', 'write_symbol', 'write_symbol_files']


def export_symbol(net: HybridBlock, path: str, preprocess: tuple | None = None) -> None:
    """Write a network as <path>-symbol.json and <path>-0000.params, as Gluon's own export names them.

    ``mxnet.gluon.SymbolBlock.imports`` and ``mxnet.model.load_checkpoint`` read them. Parameters have their structural
    names, so the second file can be loaded into the network as well. The same parameters give the same bytes.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Initialised, with one input; written as it is: give :func:`gluon_aff.deploy.fold_batchnorm`'s result for the
        form for inference.
    path : str
        What the file names begin with; the folder is made.
    preprocess : (mean, std), optional
        Of RGB values in 0..1: then the input is (N, H, W, C) uint8 and the graph normalises it.

    Raises
    ------
    ValueError
        If the network has no parameters yet, or is not a HybridBlock with one input.
    OSError
        If the files cannot be written and read back.
    """
    graph = Graph(net)
    write_symbol(graph.preprocess(*preprocess) if preprocess else graph, path)


def write_symbol(graph: Graph, path: str) -> None:
    """Write a traced network, `graph`, as :func:`export_symbol` does, to the same files, named from `path`."""
    values = {name: mx.nd.array(value, dtype=value.dtype) for name, value in graph.used().items()}
    write_symbol_files(graph.symbol(), values, path)


def write_symbol_files(symbol: mx.sym.Symbol, values: dict[str, mx.nd.NDArray], path: str) -> None:
    """Write a symbol and its parameters by name, to the files that :func:`export_symbol` names."""
    path, states = os.fspath(path), set(symbol.list_auxiliary_states())
    values = {f'{"aux" if name in states else "arg"}:{name}': value for name, value in values.items()}
    write_parameters(f'{path}-0000.params', values)
    write_whole(f'{path}-symbol.json', symbol.tojson(remove_amp_cast=False).encode())
