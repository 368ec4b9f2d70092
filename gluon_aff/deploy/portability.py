"""Rewrites a graph into the operators that all inference engines compute correctly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

import numpy as np

from .node import Node, flag

if TYPE_CHECKING:
    from .graph import Graph

__all__ = ['make_portable']


def make_portable(graph: Graph, shape: Sequence[int]) -> None:
    """Rewrite a graph for inference, in place, to the same values in operators that all engines compute correctly.

    Parameters
    ----------
    graph : gluon_aff.deploy.graph.Graph
    shape : tuple of int
        An input shape large enough for maps to differ in shape from their means.
    """
    for node in graph.nodes():
        if node.op in ('add_n', 'ElementWiseSum') and len(node.inputs) == 2:
            node.op, node.attrs = 'elemwise_add', {}  # Add, which all engines fuse and quantize, unlike Sum
    _subtract_negative(graph, graph.shapes(shape))
    _dense_as_convolution(graph, graph.shapes(shape))
    _slice_splits(graph, graph.shapes(shape))


def _subtract_negative(graph, shapes):
    """Write a + b as a - (-b) where b is broadcast over a.

    OpenCV 5 takes an Add after a convolution for a residual connection of equal shapes, and fails.
    """
    for node in graph.nodes():
        if node.op != 'broadcast_add':
            continue
        large, small = sorted(node.inputs, key=lambda entry: -np.prod(shapes[entry[0]]))
        if shapes[large[0]] != shapes[small[0]]:
            node.op = 'broadcast_sub'
            node.inputs = [large, (Node('negative', inputs=[small]), 0)]


def _dense_as_convolution(graph, shapes):
    """Write a dense layer on global means as a 1x1 convolution.

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


def _slice_splits(graph, shapes):
    """Write splits as slices: ncnn's converter reads no Split without sizes."""
    for node in graph.nodes():
        for position, (source, index) in enumerate(node.inputs):
            if source.op == 'SliceChannel' and not flag(source, 'squeeze_axis'):
                axis = int(source.attrs.get('axis', '1'))
                size = shapes[source][axis]
                attrs = {'axis': str(axis), 'begin': str(index * size), 'end': str((index + 1) * size)}
                node.inputs[position] = Node('slice_axis', attrs=attrs, inputs=source.inputs), 0
