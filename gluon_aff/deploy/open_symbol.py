"""Opens a symbol and parameters of any origin, both read and checked before MXNet sees them."""

from __future__ import annotations

import json
import re

import mxnet as mx
import numpy as np
from mxnet.gluon import SymbolBlock

from .._mxnet import infer_shape
from ..params_file import BFLOAT16, read_parameters
from ..spec import ModelSpec
from ..validation import shown
from .export_folder import read_export, read_file
from .graph import set_parameters

__all__ = ['open_exported', 'open_symbol']

# MXNet's graph reader trusts indices, and some operators whose names begin with an underscore read files or use an
# attribute as a pointer.
OPERATORS = re.compile(
    r'(?!Custom$)[A-Za-z]\w*|_contrib_\w+|_(copy|zeros|ones|full|arange)|_sg_mkldnn_(conv|fully_connected)'
    r'|_r?(plus|minus|mul|div|mod|power|maximum|minimum|hypot|equal|not_equal|greater|lesser'
    r'|greater_equal|lesser_equal)(_scalar)?'
)
LARGE = re.compile(r'(?<![\d.])\d{9,}(?![\d.e])')  # whole numbers whose products MXNet does not check
MAX_NODES = 50_000
FUSED = ('_sg_mkldnn_conv', '_sg_mkldnn_fully_connected')  # hold the operators that they compute as one, as a graph
FUSIBLE = {'null', 'Convolution', 'FullyConnected', 'BatchNorm', 'elemwise_add', 'Activation'}
# Those of INT8 that give a map and the ends of its range.
RANGED = re.compile('_contrib_(quantize_v2|requantize|quantized_\\w+)')


class _DamagedError(Exception):
    """What is wrong with the symbol."""


def _check(condition, reason):
    if not condition:
        raise _DamagedError(reason)


def _is_output(entry, nodes):
    """Whether an entry [node, output, 0] is an output of one of these nodes."""
    if not isinstance(entry, list) or len(entry) not in (2, 3) or not all(type(number) is int for number in entry):
        return False
    if not 0 <= entry[0] < len(nodes):
        return False
    return 0 <= entry[1] < _count_outputs(nodes[entry[0]])


def _count_outputs(node):
    """The number of outputs of a node: one, except for a split and in INT8."""
    attrs, count = node.get('attrs', {}), node.get('attrs', {}).get('num_outputs', '1')
    if node['op'] in ('SliceChannel', 'amp_multicast') and re.fullmatch('[1-9][0-9]{0,3}', count):
        return int(count)
    is_quantized = RANGED.fullmatch(node['op']) or (node['op'] in FUSED and _flag(attrs, 'quantized'))
    return 3 if is_quantized and not _flag(attrs, 'enable_float_output') else 1


def _flag(attrs, name):
    return attrs.get(name, '').lower() in ('true', '1')


def _checked_node(node, earlier):
    """The checked parts of a node; its inputs must be outputs of earlier nodes."""
    _check(isinstance(node, dict), 'a node is malformed')
    op, name, attrs, inputs = node.get('op'), node.get('name'), node.get('attrs', {}), node.get('inputs', [])
    known = {'op', 'name', 'attrs', 'inputs', *(['subgraphs'] if op in FUSED else [])}
    _check(set(node) <= known, 'a node is malformed')
    _check(isinstance(op, str) and OPERATORS.fullmatch(op), f'{shown(op)} is not an operator of exported networks')
    _check(isinstance(name, str) and name.isprintable(), f'a node is named {shown(name)}')
    _check(
        isinstance(attrs, dict) and all(isinstance(value, str) for value in attrs.values()),
        f'the attributes of {shown(name)} are not strings',
    )
    _check(
        not any(map(LARGE.search, attrs.values())) and re.fullmatch('[1-9][0-9]*', attrs.get('num_group', '1')),
        f'the attributes of {shown(name)} hold an impossible number',
    )
    _check(isinstance(inputs, list) and (op != 'null' or not inputs), f'the inputs of {shown(name)} are not a list')
    _check(
        all(_is_output(entry, earlier) and entry[2:] in ([], [0]) for entry in inputs),
        f'an input of {shown(name)} is not an output of an earlier node',
    )
    checked = {'op': op, 'name': name, **({'attrs': attrs} if attrs else {}), 'inputs': inputs}
    if op in FUSED:
        graphs = node.get('subgraphs')
        _check(isinstance(graphs, list) and len(graphs) == 1, f'{shown(name)} does not hold exactly one graph')
        checked['subgraphs'] = [_checked_graph(graphs[0], FUSIBLE)]
        variables = sum(inner['op'] == 'null' for inner in checked['subgraphs'][0]['nodes'])
        ranges = _flag(attrs, 'quantized') and len(inputs) > variables
        _check(len(inputs) == variables or ranges, f'{shown(name)} has another number of inputs than its graph')
    return checked


def _checked_symbol(content):
    """The symbol's JSON, written again from its checked parts."""
    try:
        graph = json.loads(content.decode())
    except (ValueError, RecursionError):
        raise _DamagedError('it is not JSON') from None
    return json.dumps({**_checked_graph(graph), 'attrs': {'mxnet_version': ['int', 10901]}})


def _checked_graph(graph, operators=None):
    """The checked parts of a graph, all of whose nodes are of these operators if they are given."""
    _check(isinstance(graph, dict) and isinstance(graph.get('nodes'), list), 'it holds no nodes')
    _check(1 <= len(graph['nodes']) <= MAX_NODES, f'it holds {len(graph["nodes"])} nodes')
    nodes, heads = [], graph.get('heads')
    for node in graph['nodes']:
        nodes.append(_checked_node(node, nodes))
        _check(not operators or nodes[-1]['op'] in operators, f'{shown(nodes[-1]["op"])} cannot be part of a fused one')
    _check(
        isinstance(heads, list) and len(heads) == 1 and _is_output(heads[0], nodes),
        'it does not have exactly one output',
    )
    return {
        'nodes': nodes,
        'arg_nodes': [index for index, node in enumerate(nodes) if node['op'] == 'null'],
        'heads': [[*heads[0][:2], 0]],
    }


def open_exported(folder: str, form: str, ctx: mx.Context) -> SymbolBlock:
    """The network of an exported folder's symbol in a form ('', '-bf16' or '-int8').

    Raises
    ------
    ValueError, FileNotFoundError
        As :func:`gluon_aff.deploy.read_export` and :func:`open_symbol` do.
    """
    description = read_export(folder)
    symbol, params = (read_file(folder, description, kind + form) for kind in ('symbol', 'params'))
    return open_symbol(symbol, params, folder, ModelSpec.from_json(description), ctx)


def open_symbol(symbol: bytes, params: bytes, name: str, spec: ModelSpec, ctx: mx.Context) -> SymbolBlock:
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
        graph = mx.sym.load_json(_checked_symbol(symbol))
        names = [*graph.list_arguments(), *graph.list_auxiliary_states()]
        _check(
            sorted(names) == sorted(['data', *arrays]) and 'self' not in arrays,
            'the parameters belong to another network',
        )
        known = all(array.dtype.kind == 'f' or array.dtype in (np.int8, BFLOAT16) for array in arrays.values())
        _check(known, 'its parameters are neither floats nor of INT8')
        shape = [{'N': 1, 'H': spec.input_size[1], 'W': spec.input_size[2]}.get(side, side) for side in spec.shape]
        infer_shape(graph, data=tuple(shape), **{key: array.shape for key, array in arrays.items()})
        net = SymbolBlock(graph, [mx.sym.var('data', dtype=spec.dtype)])  # of no type, MXNet warns
        return set_parameters(net, arrays, ctx)
    except (_DamagedError, AssertionError, mx.MXNetError) as error:
        reason = str(error) if isinstance(error, _DamagedError) else 'MXNet cannot build it'
        raise ValueError(f'{name} is not a usable symbol: {reason}; export the network again.') from None
