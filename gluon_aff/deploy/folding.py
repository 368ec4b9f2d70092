"""Graphs for inference: what only training needs goes, and BatchNorm becomes part of the convolutions."""

from __future__ import annotations

import ast

import numpy as np

from .graph import Graph, Node, device, flag, like, number

__all__ = ['fold_batchnorm']

# What computes value by value: of same-shape inputs, and with broadcasting.
BROADCAST = {
    'elemwise_add': 'broadcast_add',
    'elemwise_sub': 'broadcast_sub',
    'elemwise_mul': 'broadcast_mul',
    'elemwise_div': 'broadcast_div',
}
BROADCAST.update({op: op for op in list(BROADCAST.values())})
NOTHING = {'BlockGrad', 'Dropout', '_copy', 'identity'}


def fold_batchnorm(net):
    """The network for inference: every BatchNorm beside a convolution folded into it, no operators of training left.

    A BatchNorm behind a convolution that nothing else uses scales its weights and makes its bias; so does one in front
    of a 1x1 convolution without padding that nothing else uses. Others, such as those in front of a ReLU in a
    pre-activation network, stay. The repeating of a global context, which is a matrix product for the sake of its
    gradient, becomes broadcasting.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Initialised, with one input; it stays as it is.

    Returns
    -------
    mxnet.gluon.SymbolBlock
        On the first device of the network's parameters. The outputs are the network's to 1e-5 of the largest;
        parameters have their structural names.

    Raises
    ------
    ValueError
        If the network has no parameters yet, or is not a HybridBlock with one input.
    """
    graph = Graph(net)
    simplify(graph)
    return graph.block(device(net))


def simplify(graph):
    """Rewrite a graph for inference, in place: see :func:`fold_batchnorm`."""
    _drop(graph)
    _broadcast(graph)
    _settle_gamma(graph)
    _fold_behind(graph)
    _fold_in_front(graph)


def _drop(graph):
    """Remove what computes nothing, and write every global average pool as oneDNN's."""
    for node in graph.nodes():
        averages_one = (
            node.op == 'Pooling'
            and node.attrs.get('pool_type') == 'avg'
            and not flag(node, 'global_pool')
            and all(
                ast.literal_eval(node.attrs.get(key, default)) == (value, value)
                for key, default, value in (('kernel', '()', 1), ('stride', '(1, 1)', 1), ('pad', '(0, 0)', 0))
            )
        )
        if node.op in NOTHING or averages_one:
            graph.replace(node, node.inputs[0][0])
        elif node.op == '_contrib_SyncBatchNorm':
            node.op = 'BatchNorm'  # in inference there is nothing to synchronise
            node.attrs = {key: value for key, value in node.attrs.items() if key not in ('key', 'ndev')}
        elif node.op == '_contrib_AdaptiveAvgPooling2D' and node.attrs.get('output_size') in ('1', '(1,)', '(1, 1)'):
            node.op, node.attrs = 'Pooling', {'pool_type': 'avg', 'global_pool': 'True', 'kernel': '(1, 1)'}


def _spread(node):
    """What `broadcast_spatial` of layers.layout repeats, and the map whose plane it takes; None for other nodes."""

    def is_flattened(node):
        return node.op == 'Reshape' and node.attrs.get('shape') == '(0, 0, -1)'

    if node.op != 'reshape_like' or node.inputs[0][0].op != 'batch_dot':
        return None
    (flat, _), (ones, _) = node.inputs[0][0].inputs
    if not is_flattened(flat) or ones.op != 'ones_like' or not is_flattened(ones.inputs[0][0]):
        return None
    return flat.inputs[0], node.inputs[1]


def _broadcast(graph):
    """Put broadcasting in place of every product with ones."""
    spreads = {node: found for node, found in ((node, _spread(node)) for node in graph.nodes()) if found}
    for node, users in graph.users().items():
        if node not in spreads:
            continue
        pooled, plane = spreads[node]
        for user, place in users:
            if user and user.op in BROADCAST and user.inputs[1 - place][0] not in spreads:
                user.op, user.inputs[place] = BROADCAST[user.op], pooled
        graph.replace(
            node, Node('broadcast_like', attrs={'lhs_axes': '(2, 3)', 'rhs_axes': '(2, 3)'}, inputs=[pooled, plane])
        )


def drop_plain(graph):
    """Remove what `default_layout` of layers.layout put in: other engines than MXNet keep their layouts themselves."""
    for node in graph.nodes():
        if node.op == 'Reshape' and node.attrs.get('shape') == '(0, 0, 0, 0)':
            graph.replace(node, node.inputs[0][0])


def _settle_gamma(graph):
    """Let gamma be ones where BatchNorm takes it as that whatever it holds."""
    for node in graph.nodes():
        if node.op == 'BatchNorm' and flag(node, 'fix_gamma', True):
            gamma = node.inputs[1][0]
            node.inputs[1] = graph.parameter(gamma.name, np.ones_like(graph.params[gamma.name])), 0
            node.attrs['fix_gamma'] = 'False'


def _scale_and_shift(graph, norm):
    """A BatchNorm in inference as x * scale + shift, in float64."""
    gamma, beta, mean, var = (graph.value(source).astype(np.float64) for source, _ in norm.inputs[1:])
    scale = gamma / np.sqrt(var + number(norm, 'eps', 1e-3))
    return scale, beta - mean * scale


def _weights(graph, conv):
    """Weight and bias of a convolution, in float64."""
    weight = graph.value(conv.inputs[1][0]).astype(np.float64)
    return weight, np.zeros(len(weight)) if flag(conv, 'no_bias') else graph.value(conv.inputs[2][0]).astype(np.float64)


def _put(graph, conv, weight, bias):
    """Give a convolution these parameters, in the type of those that it has."""
    node = conv.inputs[1][0]
    old, stem = graph.value(node), node.name.rpartition('.')[0]
    conv.inputs[1:] = [
        (graph.parameter(node.name, like(weight, old)), 0),
        (graph.parameter(f'{stem}.bias' if stem else 'bias', like(bias, old)), 0),
    ]
    conv.attrs['no_bias'] = 'False'


def _folds(graph, norm, conv, users):
    """Whether a node is a BatchNorm over the channels, and another a convolution whose weight nothing else uses."""
    return (
        norm.op == 'BatchNorm'
        and int(norm.attrs.get('axis', '1')) == 1
        and conv is not None
        and conv.op == 'Convolution'
        and len(users[conv.inputs[1][0]]) == 1
    )


def _fold_behind(graph):
    users = graph.users()
    for norm in users:
        conv = norm.inputs[0][0] if norm.inputs else None
        if _folds(graph, norm, conv, users) and users[conv] == [(norm, 0)]:
            scale, shift = _scale_and_shift(graph, norm)
            weight, bias = _weights(graph, conv)
            _put(graph, conv, weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), bias * scale + shift)
            graph.replace(norm, conv)


def _fold_in_front(graph):
    users = graph.users()
    for norm in users:
        conv = users[norm][0][0] if len(users[norm]) == 1 else None
        # Padding would be of zeros behind the normalisation, which are not zeros in front of it.
        if _folds(graph, norm, conv, users) and not any(ast.literal_eval(conv.attrs.get('pad', '()'))):
            weight, bias = _weights(graph, conv)
            # Each filter sees the channels of its group only.
            groups = int(conv.attrs.get('num_group', '1'))
            scale, shift = (
                np.repeat(values.reshape(groups, -1), len(weight) // groups, 0).reshape(
                    *weight.shape[:2], *[1] * (weight.ndim - 2)
                )
                for values in _scale_and_shift(graph, norm)
            )
            bias = bias + (weight * shift).reshape(len(weight), -1).sum(1)
            _put(graph, conv, weight * scale, bias)
            graph.replace(norm, norm.inputs[0][0])
