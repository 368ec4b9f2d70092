"""Rewrites a graph into operators that all inference engines compute alike."""

from __future__ import annotations

import numpy as np

from .graph import Node, flag

__all__ = ['make_portable']


def make_portable(graph, shape):
    """Rewrite a graph for inference, in place, to the same values in operators that all engines get right.

    Parameters
    ----------
    graph : gluon_aff.deploy.graph.Graph
    shape : tuple of int
        Of an input that is large enough for maps to differ from their means.
    """
    for node in graph.nodes():
        if node.op in ('add_n', 'ElementWiseSum') and len(node.inputs) == 2:
            node.op, node.attrs = 'elemwise_add', {}  # Add, which all engines fuse and quantize, and not Sum
    _subtract_negative(graph, graph.shapes(shape))
    _dense_as_convolution(graph, graph.shapes(shape))
    _slice(graph, graph.shapes(shape))


def _subtract_negative(graph, shapes):
    """Write a + b as a - (-b) where b is broadcast over a.

    OpenCV 5 takes an Add behind a convolution for a residual connection of one shape, and fails.
    """
    for node in graph.nodes():
        if node.op != 'broadcast_add':
            continue
        a, b = sorted((source for source, _ in node.inputs), key=lambda source: -np.prod(shapes[source]))
        if shapes[a] != shapes[b]:
            places = dict(node.inputs)
            node.op = 'broadcast_sub'
            node.inputs = [(a, places[a]), (Node('negative', inputs=[(b, places[b])]), 0)]


def _dense_as_convolution(graph, shapes):
    """Write a dense layer on means over whole maps as the 1x1 convolution that it is.

    OpenCV's classic engine reads no Gemm where height and width are dynamic, its new one no Gemm in INT8.
    """
    users = graph.users()
    for node in users:
        if node.op != 'FullyConnected':
            continue
        source, index = node.inputs[0]
        while source.op == 'Flatten':
            source, index = source.inputs[0]
        weight = node.inputs[1][0]
        value = graph.value(weight)
        if value is None or len(users[weight]) != 1 or shapes[source][2:] != (1, 1) or not flag(node, 'flatten', True):
            continue
        inputs = [(source, index), (graph.parameter(weight.name, value[..., None, None]), 0), *node.inputs[2:]]
        attrs = {
            'kernel': '(1, 1)',
            'num_filter': node.attrs['num_hidden'],
            'no_bias': node.attrs.get('no_bias', 'False'),
        }
        graph.replace(node, Node('Flatten', inputs=[(Node('Convolution', attrs=attrs, inputs=inputs), 0)]))


def _slice(graph, shapes):
    """Write a split as slices: ncnn's converter reads no Split without sizes."""
    for node in graph.nodes():
        for place, (source, index) in enumerate(node.inputs):
            if source.op == 'SliceChannel' and not flag(source, 'squeeze_axis'):
                axis = int(source.attrs.get('axis', '1'))
                size = shapes[source][axis]
                node.inputs[place] = (
                    Node(
                        'slice_axis',
                        attrs={'axis': str(axis), 'begin': str(index * size), 'end': str((index + 1) * size)},
                        inputs=source.inputs,
                    ),
                    0,
                )
