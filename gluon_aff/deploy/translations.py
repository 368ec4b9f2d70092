"""MXNet's operators as ONNX nodes: mx2onnx's translations, and ours where those are wrong or missing."""

from __future__ import annotations

import ast
import json
from collections import namedtuple
from typing import TYPE_CHECKING, Sequence

import numpy as np

from .._mxnet import convert_onnx_layer

if TYPE_CHECKING:
    from .graph import Graph

__all__ = ['OPSET', 'translate_graph']

# mx2onnx's translations are of this opset.
OPSET = 13

# What mx2onnx's translations look up of a node's outputs.
Output = namedtuple('Output', 'name dtype')


def translate_graph(graph: Graph, shape: Sequence[int | str]):
    """The onnx.GraphProto of a :class:`gluon_aff.deploy.graph.Graph`; its outputs' shapes are left open.

    It calls the translations registered by mx2onnx, and changes nothing of mx2onnx or onnx, so that any number of
    threads can translate.

    Parameters
    ----------
    graph : Graph
    shape : sequence of int or str
        Of the input, with names for the sides that may have any length.

    Raises
    ------
    NotImplementedError
        For an operator without translation.
    """
    import onnx

    symbol, params = json.loads(graph.symbol().tojson()), graph.used()
    nodes, initializers, lookup = [], [], []  # the lookup: for each node of MXNet's JSON its outputs
    context = {
        'is_input': False,
        'mx_graph': symbol['nodes'],
        'weights': params,
        'proc_nodes': nodes,
        'initializer': initializers,
        'outputs_lookup': lookup,
        'opset_version': OPSET,
    }
    for index, row in enumerate(symbol['nodes']):
        name = row['name']
        if row['op'] != 'null':
            translated, types = _translate(row, {**context, 'idx': index})
            nodes += translated
            lookup.append(_outputs(row, translated, types, lookup))
        elif name in params:
            initializers.append(onnx.numpy_helper.from_array(params[name], name))
            lookup.append([Output(name, params[name].dtype)])
        else:
            lookup.append([Output(name, graph.dtype)])
    heads = [lookup[source][index] for source, index, *_ in symbol['heads']]

    def value(output, shape):
        kind = onnx.helper.np_dtype_to_tensor_dtype(output.dtype)
        return onnx.helper.make_tensor_value_info(output.name, kind, shape)

    used = {name for node in nodes for name in node.input} | {head.name for head in heads}
    for node in nodes:
        node.name = node.name or node.output[0]  # INT8 and profiles refer to nodes by name
        if node.op_type == 'BatchNormalization':
            # Without effect in inference, except that onnx's ReferenceEvaluator takes any other for training.
            for attribute in node.attribute:
                if attribute.name == 'momentum':
                    attribute.f = 1
    constants = {tensor.name: tensor for tensor in initializers if tensor.name in used}
    data = value(Output('data', graph.dtype), shape)
    outputs = [value(head, None) for head in heads]
    return onnx.helper.make_graph(nodes, 'gluon_aff', [data], outputs, list(constants.values()))


def _translate(row, context):
    """(ONNX nodes, types of the outputs or None) for a node of MXNet's JSON."""
    import onnx

    def mx2onnx(row):
        try:
            nodes, types = convert_onnx_layer(row, **context)
        except Exception as error:  # of a dozen undocumented types
            raise NotImplementedError(f'{row["op"]}: {error}') from None
        # Some translations also declare their constants as inputs of the graph.
        return [node for node in nodes if isinstance(node, onnx.NodeProto)], types

    translated = TRANSLATIONS[row['op']](mx2onnx, row, context) if row['op'] in TRANSLATIONS else mx2onnx(row)
    return translated if isinstance(translated, tuple) else (translated, None)


def _outputs(row, nodes, types, lookup):
    """The outputs of a translated node: those with its name, or its name and a number."""
    name = row['name']
    possible = {name: -1, **{f'{name}{number}': number for number in range(100)}}
    names = sorted((output for node in nodes for output in node.output if output in possible), key=possible.get)
    names = names or [nodes[-1].output[0]]
    if types is None:
        source, index, *_ = row['inputs'][0]
        types = [lookup[source][index].dtype] * len(names)
    return [Output(name, np.dtype(dtype)) for name, dtype in zip(names, types)]


def _names(row, context):
    return [context['outputs_lookup'][source][index].name for source, index, *_ in row['inputs']]


def _constant(context, name, values):
    from onnx import numpy_helper

    context['initializer'].append(numpy_helper.from_array(np.asarray(values), name))
    return name


def resize(mx2onnx, row, context):
    """BilinearResize2D, of which mx2onnx translates mode='size' and align_corners=True only."""
    from onnx.helper import make_node

    attrs, name = row['attrs'], row['name']
    aligned = attrs.get('align_corners', 'True') in ('True', '1')
    if attrs.get('mode', 'size') != 'like':
        if not aligned:
            raise NotImplementedError("BilinearResize2D with align_corners=False is translated with mode='like' only.")
        return mx2onnx(row)
    x, like = _names(row, context)
    zero, two, four = (_constant(context, f'{name}_{value}', np.int64([value])) for value in (0, 2, 4))
    return [
        make_node('Shape', [x], [name + '_shape']),
        make_node('Slice', [name + '_shape', zero, two], [name + '_batch']),
        make_node('Shape', [like], [name + '_like']),
        make_node('Slice', [name + '_like', two, four], [name + '_sides']),
        make_node('Concat', [name + '_batch', name + '_sides'], [name + '_sizes'], axis=0),
        make_node(
            'Resize',
            [x, '', '', name + '_sizes'],
            [name],
            name=name,
            mode='linear',
            coordinate_transformation_mode='align_corners' if aligned else 'half_pixel',
        ),
    ]


def of_any_rank(mx2onnx, row, context):
    """mx2onnx's translation of convolutions and pools, which refuses those of sequences by their layout only."""
    return mx2onnx(
        {**row, 'attrs': {key: value for key, value in row['attrs'].items() if (key, value) != ('layout', 'NCW')}}
    )


def reshape(mx2onnx, row, context):
    """Reshape, of which mx2onnx lacks most shapes that copy, merge or split axes (-2, -3, -4)."""
    from onnx.helper import make_node

    try:
        return mx2onnx(row)
    except NotImplementedError:
        codes = list(ast.literal_eval(row['attrs'].get('shape', '()')))
        if not codes or row['attrs'].get('reverse') in ('True', '1'):
            raise
    (x,), name = _names(row, context), row['name']
    nodes, sides, axis = [make_node('Shape', [x], [name + '_shape'])], [], 0

    def constant(value):
        return _constant(context, f'{name}_{value}_of_{len(nodes)}', np.int64([value]))

    def add(op, *inputs):
        output = f'{name}_side_{len(nodes)}'
        nodes.append(make_node(op, inputs, [output]))
        return output

    def axes(start, stop):
        return add('Slice', name + '_shape', constant(start), constant(stop))

    while codes:
        code = codes.pop(0)
        if code == -4:  # into two, one of which may be -1
            first, second = codes.pop(0), codes.pop(0)
            whole = axes(axis, axis + 1)
            sides.append(constant(first) if first != -1 else add('Div', whole, constant(second)))
            sides.append(constant(second) if second != -1 else add('Div', whole, constant(first)))
        elif code == -3:
            sides.append(add('Mul', axes(axis, axis + 1), axes(axis + 1, axis + 2)))
            axis += 1
        else:
            sides.append(axes(axis, 2**31) if code == -2 else axes(axis, axis + 1) if code == 0 else constant(code))
        axis += 1
    shape = add('Concat', *sides)
    nodes[-1].attribute.extend(make_node('Concat', sides, [shape], axis=0).attribute)
    return [*nodes, make_node('Reshape', [x, shape], [name], name=name)]


def broadcast_to(mx2onnx, row, context):
    """mx2onnx's translation, with ONNX's 1 for MXNet's 0, a side that stays."""
    shape = [side or 1 for side in ast.literal_eval(row['attrs']['shape'])]
    return mx2onnx({**row, 'attrs': {'shape': str(tuple(shape))}})


def group_norm(mx2onnx, row, context):
    """GroupNorm, which mx2onnx lacks, as InstanceNormalization of the groups."""
    from onnx.helper import make_node

    name, (x, gamma, beta) = row['name'], _names(row, context)
    groups = _constant(context, name + '_groups', np.int64([0, int(row['attrs'].get('num_groups', '1')), -1]))
    return [
        make_node('Reshape', [x, groups], [name + '_instances']),
        make_node(
            'InstanceNormalization',
            [name + '_instances', gamma, beta],
            [name + '_normed'],
            epsilon=float(row['attrs'].get('eps', '1e-5')),
        ),
        make_node('Shape', [x], [name + '_shape']),
        make_node('Reshape', [name + '_normed', name + '_shape'], [name], name=name),
    ]


# (mx2onnx, row of MXNet's JSON, context) -> what mx2onnx's translations return; mx2onnx(row) is the original.
TRANSLATIONS = {
    '_contrib_BilinearResize2D': resize,
    'Convolution': of_any_rank,
    'Deconvolution': of_any_rank,
    'Pooling': of_any_rank,
    'Reshape': reshape,
    'broadcast_to': broadcast_to,
    'GroupNorm': group_norm,
}
