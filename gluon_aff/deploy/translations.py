"""MXNet's operators as ONNX nodes: mx2onnx's translations, node by node, and ours where its are wrong or missing."""

from __future__ import annotations

import ast
import json
from collections import namedtuple

import numpy as np

from .._mxnet import convert_onnx_layer

__all__ = ['OPSET', 'translate_graph']

# mx2onnx's translations are of this opset.
OPSET = 13

# What mx2onnx's translations look up of a node's outputs.
Output = namedtuple('Output', 'name dtype')


def translate_graph(graph, shape, dtype):
    """The onnx.GraphProto of a :class:`gluon_aff.deploy.graph.Graph`; its outputs' shapes are left open.

    It calls the translations that mx2onnx has registered, and changes nothing of mx2onnx's or onnx's, so that any
    number of threads can translate.

    Parameters
    ----------
    graph : Graph
    shape : sequence of int or str
        Of the input, with names for the sides that may have any length.
    dtype : numpy type
        Of the input.

    Raises
    ------
    NotImplementedError
        For an operator without translation.
    """
    import onnx

    symbol, params = graph.symbol(), graph.used()
    rows = json.loads(symbol.tojson())
    context = {
        'is_input': False,
        'mx_graph': rows['nodes'],
        'weights': params,
        'proc_nodes': [],
        'initializer': [],
        'outputs_lookup': [],
        'opset_version': OPSET,
    }
    nodes, lookup = context['proc_nodes'], context['outputs_lookup']
    for index, row in enumerate(rows['nodes']):
        name = row['name']
        if row['op'] != 'null':
            made, types = _translate(row, {**context, 'idx': index})
            nodes += made
            lookup.append(_outputs(row, made, types, lookup))
        elif name in params:
            context['initializer'].append(onnx.numpy_helper.from_array(params[name], name))
            lookup.append([Output(name, params[name].dtype)])
        else:
            lookup.append([Output(name, np.dtype(dtype))])
    heads = [lookup[source][place] for source, place, *_ in rows['heads']]

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
    constants = {each.name: each for each in context['initializer'] if each.name in used}
    return onnx.helper.make_graph(
        nodes,
        'gluon_aff',
        [value(Output('data', np.dtype(dtype)), shape)],
        [value(head, None) for head in heads],
        list(constants.values()),
    )


def _translate(row, context):
    """(ONNX nodes, types of the outputs or None) for a node of MXNet's JSON."""
    import onnx

    def theirs(row):
        try:
            made, types = convert_onnx_layer(row, **context)
        except Exception as error:  # of a dozen undocumented types
            raise NotImplementedError(f'{row["op"]}: {error}') from None
        # Some translations also declare their constants as inputs of the graph.
        return [node for node in made if isinstance(node, onnx.NodeProto)], types

    made = OURS[row['op']](theirs, row, context) if row['op'] in OURS else theirs(row)
    return made if isinstance(made, tuple) else (made, None)


def _outputs(row, made, types, lookup):
    """The outputs of a translated node: those with its name, or its name and a number."""
    name = row['name']
    possible = {name: -1, **{f'{name}{number}': number for number in range(100)}}
    names = sorted((output for node in made for output in node.output if output in possible), key=possible.get)
    names = names or [made[-1].output[0]]
    if types is None:
        source, place, *_ = row['inputs'][0]
        types = [lookup[source][place].dtype] * len(names)
    return [Output(name, np.dtype(dtype)) for name, dtype in zip(names, types)]


def _names(row, context):
    return [context['outputs_lookup'][source][place].name for source, place, *_ in row['inputs']]


def _constant(context, name, values):
    from onnx import numpy_helper

    context['initializer'].append(numpy_helper.from_array(np.asarray(values), name))
    return name


def resize(theirs, row, context):
    """BilinearResize2D; mx2onnx knows only mode='size', and always writes align_corners=True."""
    from onnx.helper import make_node

    attrs, name = row['attrs'], row['name']
    aligned = attrs.get('align_corners', 'True') in ('True', '1')
    if attrs.get('mode', 'size') != 'like':
        if not aligned:
            raise NotImplementedError("BilinearResize2D with align_corners=False is translated with mode='like' only.")
        return theirs(row)
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


def convolution(theirs, row, context):
    """mx2onnx's translation, which would write one-dimensional convolutions correctly, but refuses them."""
    return theirs(
        {**row, 'attrs': {key: value for key, value in row['attrs'].items() if (key, value) != ('layout', 'NCW')}}
    )


def broadcast_to(theirs, row, context):
    """mx2onnx's translation; a side to keep is 1 in ONNX and 0 in MXNet."""
    shape = [side or 1 for side in ast.literal_eval(row['attrs']['shape'])]
    return theirs({**row, 'attrs': {'shape': str(tuple(shape))}})


def group_norm(theirs, row, context):
    """GroupNorm, which mx2onnx lacks, as InstanceNormalization of the groups, each with one gamma and beta."""
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


# (theirs, row of MXNet's JSON, context) -> what mx2onnx's translations return; theirs(row) is mx2onnx's.
OURS = {
    '_contrib_BilinearResize2D': resize,
    'Convolution': convolution,
    'broadcast_to': broadcast_to,
    'GroupNorm': group_norm,
}
