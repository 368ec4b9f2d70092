"""Opens a symbol and parameters from others: both are read and checked here before MXNet sees them."""

from __future__ import annotations

import contextlib
import io
import json
import re
import warnings

import mxnet as mx
from mxnet.gluon import SymbolBlock

from .._mxnet import load_value
from ..params_file import read_parameters
from ..validation import shown

__all__ = ['open_symbol']

# MXNet's graph reader trusts indices, and some operators that begin with an underscore read files or use an attribute
# as a pointer.
OPERATORS = re.compile(
    r'(?!Custom$)[A-Za-z]\w*|_contrib_\w+|_(copy|zeros|ones|full|arange)'
    r'|_r?(plus|minus|mul|div|mod|power|maximum|minimum|hypot|equal|not_equal|greater|lesser'
    r'|greater_equal|lesser_equal)(_scalar)?'
)
LARGE = re.compile(r'(?<![\d.])\d{9,}(?![\d.e])')  # whole numbers whose products MXNet does not check
MAX_NODES = 50_000


class _DamagedError(Exception):
    """What is wrong with the symbol."""


def _check(right, reason):
    if not right:
        raise _DamagedError(reason)


def _is_index(value, end):
    return type(value) is int and 0 <= value < end


def _node(node, before, nodes):
    """The checked parts of a node; its inputs must be outputs of earlier nodes."""
    _check(isinstance(node, dict) and set(node) <= {'op', 'name', 'attrs', 'inputs'}, 'a node is malformed')
    op, name, attrs, inputs = (
        node.get(key, missing) for key, missing in (('op', None), ('name', None), ('attrs', {}), ('inputs', []))
    )
    _check(isinstance(op, str) and OPERATORS.fullmatch(op), f'{shown(op)} is not an operator of exported networks')
    _check(isinstance(name, str) and name.isprintable(), f'a node is named {shown(name)}')
    _check(
        isinstance(attrs, dict) and all(isinstance(value, str) for value in attrs.values()),
        f'the attributes of {shown(name)} are not strings',
    )
    _check(
        not any(map(LARGE.search, attrs.values())) and re.fullmatch('[1-9][0-9]*', attrs.get('num_group', '1')),
        f'the attributes of {shown(name)} hold a number that cannot be',
    )
    _check(isinstance(inputs, list) and (op != 'null' or not inputs), f'the inputs of {shown(name)} are not a list')
    for entry in inputs:
        _check(
            isinstance(entry, list)
            and len(entry) in (2, 3)
            and _is_index(entry[0], before)
            and _is_index(entry[1], _outputs(nodes[entry[0]]))
            and entry[2:] in ([], [0]),
            f'an input of {shown(name)} is not an output of an earlier node',
        )
    return {'op': op, 'name': name, **({'attrs': attrs} if attrs else {}), 'inputs': inputs}


def _outputs(node):
    """The number of a node's outputs that others may use: one, except for a split."""
    count = node.get('attrs', {}).get('num_outputs', '1')
    return int(count) if re.fullmatch('[1-9][0-9]{0,3}', count) and node['op'] == 'SliceChannel' else 1


def _graph(content):
    """The symbol's JSON, written again from its checked parts."""
    try:
        graph = json.loads(content.decode())
    except (ValueError, RecursionError):
        raise _DamagedError('it is not JSON') from None
    _check(isinstance(graph, dict) and isinstance(graph.get('nodes'), list), 'it holds no nodes')
    nodes, heads = [], graph.get('heads')
    _check(1 <= len(graph['nodes']) <= MAX_NODES, f'it holds {len(graph["nodes"])} nodes')
    for number, node in enumerate(graph['nodes']):
        nodes.append(_node(node, number, nodes))
    _check(
        isinstance(heads, list)
        and len(heads) == 1
        and isinstance(heads[0], list)
        and len(heads[0]) in (2, 3)
        and _is_index(heads[0][0], len(nodes))
        and _is_index(heads[0][1], _outputs(nodes[heads[0][0]])),
        'it does not have exactly one output',
    )
    return json.dumps(
        {
            'nodes': nodes,
            'arg_nodes': [i for i, node in enumerate(nodes) if node['op'] == 'null'],
            'heads': [[*heads[0][:2], 0]],
            'attrs': {'mxnet_version': ['int', 10901]},
        }
    )


def open_symbol(symbol, params, name, spec, ctx):
    """The network of a -symbol.json and a .params file.

    Parameters
    ----------
    symbol, params : bytes
        Their contents.
    name : str
        What errors call the network.
    spec : gluon_aff.spec.ModelSpec
    ctx : mxnet.Context

    Returns
    -------
    mxnet.gluon.SymbolBlock

    Raises
    ------
    ValueError
        If the symbol is not a graph of MXNet's operators with one output, the parameters belong to another network, or
        it does not take the input of the spec.
    """
    arrays = read_parameters(name, params)
    try:
        graph = mx.sym.load_json(_graph(symbol))
        wanted = [*graph.list_arguments(), *graph.list_auxiliary_states()]
        _check(
            sorted(wanted) == sorted(['data', *arrays]) and 'self' not in arrays,
            'the parameters belong to another network',
        )
        _check(all(array.dtype.kind == 'f' for array in arrays.values()), 'its parameters are not floats')
        shape = [{'N': 1, 'H': spec.input_size[1], 'W': spec.input_size[2]}.get(side, side) for side in spec.shape]
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():  # MXNet prints what it knows
            warnings.simplefilter('ignore')
            graph.infer_shape(data=tuple(shape), **{key: array.shape for key, array in arrays.items()})
            net = SymbolBlock(graph, [mx.sym.var('data')])
        for key, parameter in net.collect_params().items():
            value = mx.nd.array(arrays[key], dtype=arrays[key].dtype)
            load_value(parameter, value, ctx, cast_dtype=True, dtype_source='saved')
    except (_DamagedError, AssertionError, mx.MXNetError) as error:
        reason = str(error) if isinstance(error, _DamagedError) else 'MXNet cannot build it'
        raise ValueError(f'{name} is not a usable symbol: {reason}; export the network again.') from None
    return net
