"""Parameters and multiply-adds of any HybridBlock, counted on its traced symbol."""

from __future__ import annotations

import json
import math
from typing import NamedTuple, Sequence

import mxnet as mx
from mxnet.gluon.block import HybridBlock

from .._mxnet import infer_shape
from ..errors import positive
from ..tracing import trace

__all__ = ['Complexity', 'complexity']


class Complexity(NamedTuple):
    """What a network costs for one batch: its trainable `parameters` and its `multiply_adds`."""

    parameters: int
    multiply_adds: int


def _convolution(attrs, inputs, output):
    # weight: (out, in / groups, *kernel)
    return math.prod(output) * math.prod(inputs[1][1:])


def _deconvolution(attrs, inputs, output):
    # weight: (in, out / groups, *kernel); a multiply-add for each input value and weight of its channel
    return math.prod(inputs[0]) * math.prod(inputs[1][1:])


def _dense(attrs, inputs, output):
    return math.prod(output) * inputs[1][1]


def _batch_dot(attrs, inputs, output):
    transposed = attrs.get('transpose_a', 'False') in ('True', '1')
    return math.prod(output) * inputs[0][-2 if transposed else -1]


def _dot(attrs, inputs, output):
    transposed = attrs.get('transpose_a', 'False') in ('True', '1')
    return math.prod(output) * inputs[0][0 if transposed else -1]


MULTIPLY_ADDS = {
    'Convolution': _convolution,
    'Deconvolution': _deconvolution,
    'FullyConnected': _dense,
    'batch_dot': _batch_dot,
    '_linalg_gemm2': _batch_dot,
    'dot': _dot,
}


def complexity(net: HybridBlock, *input_shapes: Sequence[int]) -> Complexity:
    """Count the trainable parameters and the multiply-adds of one forward pass, exactly, without running it.

    Counted are convolutions with their groups, transposed convolutions, dense layers and the matrix products dot,
    batch_dot and linalg.gemm2; not counted are biases, which multiply nothing, bilinear resizing, and fused recurrent
    layers. A multiply-add is 2 FLOPs.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        It is traced, not changed, and may be uninitialised.
    *input_shapes : tuple of int
        Shape of each input, the batch included, such as (1, 3, 224, 224).

    Returns
    -------
    Complexity
        Named tuple (parameters, multiply_adds).

    Raises
    ------
    ValueError
        If the network cannot take inputs of these shapes.
    """
    nodes, shape_of = _traced(net, input_shapes)
    multiply_adds = 0
    for index, node in enumerate(nodes):
        count = MULTIPLY_ADDS.get(node['op'])
        if not count:
            continue
        inputs = [shape_of[source, output] for source, output, *_ in node['inputs']]
        if any(nodes[source]['op'] == 'ones_like' for source, *_ in node['inputs']) and 1 in inputs[0][-1:]:
            continue  # a product with ones over one value repeats it, as broadcast_like would
        multiply_adds += count(node.get('attrs', {}), inputs, shape_of[index, 0])
    trainable = {name for name, param in net.collect_params().items() if param.grad_req != 'null'}
    parameters = sum(
        math.prod(shape_of[index, 0])
        for index, node in enumerate(nodes)
        if node['op'] == 'null' and node['name'] in trainable
    )
    return Complexity(parameters, multiply_adds)


def _traced(net, input_shapes):
    """(nodes of the network's symbol as MXNet's JSON has them, {(index of a node, of its output): shape})."""
    shown = ', '.join(map(str, input_shapes)) or 'no shape'
    try:
        input_shapes = [tuple(positive('A dimension', n) for n in shape) for shape in input_shapes]
    except (TypeError, ValueError):
        raise ValueError(f'An input shape is a tuple of positive whole numbers, got {shown}.') from None
    names = ['data'] if len(input_shapes) == 1 else [f'data{i}' for i in range(len(input_shapes))]
    try:
        internals = trace(net, names).get_internals()
        _, shapes, _ = infer_shape(internals, **dict(zip(names, input_shapes)))
    except (TypeError, mx.MXNetError) as error:
        reason = str(error).strip().splitlines()[-1].split('Check failed: ')[-1]
        raise ValueError(f'The network cannot take inputs of shape {shown}: {reason}') from None
    graph = json.loads(internals.tojson())
    # By index, not by name: a block that is called twice gives two nodes one name.
    return graph['nodes'], {(node, output): shape for (node, output, *_), shape in zip(graph['heads'], shapes)}
