"""Rewrites a graph for inference: operators of training removed, BatchNorm made part of the convolutions."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import numpy as np

from .node import Node, flag, number

if TYPE_CHECKING:
    from .graph import Graph

__all__ = ['drop_identity_reshapes', 'fold']

# Element-wise operators on equal shapes, and the same with broadcasting.
BROADCAST = {f'elemwise_{kind}': f'broadcast_{kind}' for kind in ('add', 'sub', 'mul', 'div')}
BROADCAST.update({op: op for op in list(BROADCAST.values())})
IDENTITIES = {'BlockGrad', 'Dropout', '_copy', 'identity'}  # in inference


def fold(graph: Graph) -> None:
    """Rewrite a graph in place, see :func:`gluon_aff.deploy.fold_batchnorm`."""
    _drop_identities(graph)
    _broadcast_contexts(graph)
    _settle_gamma(graph)
    _fold_into_previous(graph)
    _fold_into_next(graph)


def drop_identity_reshapes(graph: Graph) -> None:
    """Remove a graph's reshapes to the same shape and slices of a whole, by which layers.layout sets MXNet's layout."""
    for node in graph.nodes():
        whole = node.op == 'slice_axis' and node.attrs.get('begin') == '0' and node.attrs.get('end') == 'None'
        if whole or node.op == 'Reshape' and node.attrs.get('shape') == '(0, 0, 0, 0)':
            graph.replace(node, node.inputs[0][0])


def _drop_identities(graph):
    """Remove what computes nothing, and write every global average pool as oneDNN's."""
    for node in graph.nodes():
        if node.op in IDENTITIES or _averages_one_value(node):
            graph.replace(node, node.inputs[0][0])
        elif node.op == '_contrib_SyncBatchNorm':
            node.op = 'BatchNorm'  # in inference there is nothing to synchronise
            node.attrs = {key: value for key, value in node.attrs.items() if key not in ('key', 'ndev')}
        elif node.op == '_contrib_AdaptiveAvgPooling2D' and node.attrs.get('output_size') in ('1', '(1,)', '(1, 1)'):
            node.op, node.attrs = 'Pooling', {'pool_type': 'avg', 'global_pool': 'True', 'kernel': '(1, 1)'}


def _averages_one_value(node):
    return (
        node.op == 'Pooling'
        and node.attrs.get('pool_type') == 'avg'
        and not flag(node, 'global_pool')
        and all(
            ast.literal_eval(node.attrs.get(key, default)) == (value, value)
            for key, default, value in (('kernel', '()', 1), ('stride', '(1, 1)', 1), ('pad', '(0, 0)', 0))
        )
    )


def _broadcast_contexts(graph):
    """Broadcast the global contexts, which layers.layout repeats by a product with ones."""
    repeated = {node: _repeated(node) for node in graph.nodes() if _repeated(node)}
    for node, users in graph.users().items():
        if node not in repeated:
            continue
        context, plane = repeated[node]
        for user, index in users:
            if user and user.op in BROADCAST and user.inputs[1 - index][0] not in repeated:
                user.op, user.inputs[index] = BROADCAST[user.op], context
        attrs = {'lhs_axes': '(2, 3)', 'rhs_axes': '(2, 3)'}
        graph.replace(node, Node('broadcast_like', attrs=attrs, inputs=[context, plane]))


def _repeated(node):
    """The inputs (global context, map over whose plane it is repeated) of such a product; None for other nodes."""

    def is_flattened(node):
        return node.op == 'Reshape' and node.attrs.get('shape') == '(0, 0, -1)'

    if node.op != 'reshape_like' or node.inputs[0][0].op != 'batch_dot':
        return None
    (flat, _), (ones, _) = node.inputs[0][0].inputs
    if not is_flattened(flat) or ones.op != 'ones_like' or not is_flattened(ones.inputs[0][0]):
        return None
    return flat.inputs[0], node.inputs[1]


def _settle_gamma(graph):
    """Set gamma to 1 where BatchNorm has fix_gamma and ignores its values."""
    for node in graph.nodes():
        if node.op == 'BatchNorm' and flag(node, 'fix_gamma', True):
            gamma = node.inputs[1][0]
            node.inputs[1] = graph.parameter(gamma.name, np.ones_like(graph.params[gamma.name])), 0
            node.attrs['fix_gamma'] = 'False'


def _fold_into_previous(graph):
    users = graph.users()
    for norm in users:
        conv = norm.inputs[0][0] if norm.inputs else None
        if _can_fold(norm, conv, users) and users[conv] == [(norm, 0)]:
            scale, shift = _scale_and_shift(graph, norm)
            weight, bias = _weight_and_bias(graph, conv)
            _set_weight_and_bias(
                graph, conv, weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), bias * scale + shift
            )
            graph.replace(norm, conv)


def _fold_into_next(graph):
    users = graph.users()
    for norm in users:
        conv = users[norm][0][0] if len(users[norm]) == 1 else None
        # Padding would be of zeros after the normalisation, which are not zeros before it.
        if _can_fold(norm, conv, users) and not any(ast.literal_eval(conv.attrs.get('pad', '()'))):
            weight, bias = _weight_and_bias(graph, conv)
            # Each filter sees the channels of its group only.
            groups = int(conv.attrs.get('num_group', '1'))
            shape = (*weight.shape[:2], *[1] * (weight.ndim - 2))
            scale, shift = (
                np.repeat(values.reshape(groups, -1), len(weight) // groups, 0).reshape(shape)
                for values in _scale_and_shift(graph, norm)
            )
            bias = bias + (weight * shift).reshape(len(weight), -1).sum(1)
            _set_weight_and_bias(graph, conv, weight * scale, bias)
            graph.replace(norm, norm.inputs[0][0])


def _can_fold(norm, conv, users):
    """Whether `norm` is a BatchNorm over the channels, and `conv` a convolution whose weight nothing else uses."""
    return (
        norm.op == 'BatchNorm'
        and int(norm.attrs.get('axis', '1')) == 1
        and conv is not None
        and conv.op == 'Convolution'
        and len(users[conv.inputs[1][0]]) == 1
    )


def _scale_and_shift(graph, norm):
    """The scale and shift by which a BatchNorm computes x * scale + shift in inference, in float64."""
    gamma, beta, mean, var = (graph.value(source).astype(np.float64) for source, _ in norm.inputs[1:])
    scale = gamma / np.sqrt(var + number(norm, 'eps', 1e-3))
    return scale, beta - mean * scale


def _weight_and_bias(graph, conv):
    """The parameters of a convolution, in float64."""
    weight = graph.value(conv.inputs[1][0]).astype(np.float64)
    return weight, np.zeros(len(weight)) if flag(conv, 'no_bias') else graph.value(conv.inputs[2][0]).astype(np.float64)


def _set_weight_and_bias(graph, conv, weight, bias):
    """Give a convolution these parameters, in the type of its present weight."""
    node = conv.inputs[1][0]
    dtype, stem = graph.value(node).dtype, node.name.rpartition('.')[0]
    conv.inputs[1:] = [
        (graph.parameter(node.name, np.asarray(weight, dtype)), 0),
        (graph.parameter(f'{stem}.bias' if stem else 'bias', np.asarray(bias, dtype)), 0),
    ]
    conv.attrs['no_bias'] = 'False'
