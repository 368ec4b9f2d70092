"""Parameters and multiply-adds of any HybridBlock, counted on its traced symbol."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import math
from typing import NamedTuple

import mxnet as mx

from ..errors import positive
from ..tracing import trace

__all__ = ['Complexity', 'complexity']


class Complexity(NamedTuple):
    """What a network costs for one batch: trainable parameters, multiply-adds, and (if asked for) element-wise work."""

    parameters: int
    multiply_adds: int
    elementwise: int = 0


def _convolution(attrs, inputs, output):
    # weight: (out, in / groups, *kernel)
    return math.prod(output) * math.prod(inputs[1][1:])


def _deconvolution(attrs, inputs, output):
    # weight: (in, out / groups, *kernel), one multiply-add for every input value and weight of its channel
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
MOVES = {
    'Reshape',
    'Flatten',
    'transpose',
    'SwapAxis',
    'Concat',
    'SliceChannel',
    'slice',
    'slice_axis',
    'slice_like',
    'expand_dims',
    'squeeze',
    'reshape_like',
    'Cast',
    'BlockGrad',
    'identity',
    '_copy',
    'Dropout',
    'broadcast_like',
    'broadcast_to',
    'shape_array',
    'ones_like',
    'zeros_like',
    'Pad',
    'stack',
    'tile',
    'repeat',
}


def complexity(net, *input_shapes, elementwise=False):
    """Count the trainable parameters and the multiply-adds of one forward pass, exactly, without running it.

    Counted are convolutions with their groups, transposed convolutions, dense layers and the matrix products dot,
    batch_dot and linalg.gemm2; biases are not multiplications and do not count, nor does bilinear resizing; fused
    recurrent layers are not known. 2 FLOPs make a multiply-add.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        It is traced, not changed, and may be uninitialised.
    *input_shapes : tuple of int
        Shape of each input, the batch included, such as (1, 3, 224, 224).
    elementwise : bool, default False
        Also count element-wise work: one operation for each value read by a pooling window, normalised, activated,
        added, multiplied or resized.

    Returns
    -------
    Complexity
        Named tuple (parameters, multiply_adds, elementwise).

    Raises
    ------
    ValueError
        If the network cannot take inputs of these shapes.
    """
    given = ', '.join(map(str, input_shapes)) or 'no shape'
    try:
        input_shapes = [tuple(positive('A dimension', n) for n in shape) for shape in input_shapes]
    except (TypeError, ValueError):
        raise ValueError(f'An input shape is a tuple of positive whole numbers, got {given}.') from None
    names = ['data'] if len(input_shapes) == 1 else [f'data{i}' for i in range(len(input_shapes))]
    try:
        internals = trace(net, names).get_internals()
        with contextlib.redirect_stdout(io.StringIO()):  # MXNet prints the arguments of an inference that fails
            _, shapes, _ = internals.infer_shape(**dict(zip(names, input_shapes)))
    except (TypeError, mx.MXNetError) as error:
        reason = str(error).strip().splitlines()[-1].split('Check failed: ')[-1]
        raise ValueError(f'The network cannot take inputs of shape {given}: {reason}') from None

    graph = json.loads(internals.tojson())
    nodes = graph['nodes']
    # By place, not by name: a block that is called twice gives two nodes one name.
    shape_of = {(node, index): shape for (node, index, *_), shape in zip(graph['heads'], shapes)}

    multiply_adds = work = 0
    for i, node in enumerate(nodes):
        if node['op'] == 'null':
            continue
        attrs = node.get('attrs', {})
        inputs = [shape_of[source, index] for source, index, *_ in node['inputs']]
        output = shape_of[i, 0]
        if any(nodes[source]['op'] == 'ones_like' for source, *_ in node['inputs']) and 1 in inputs[0][-1:]:
            continue  # a product with ones over one value repeats it, as broadcast_like would
        if node['op'] in MULTIPLY_ADDS:
            multiply_adds += MULTIPLY_ADDS[node['op']](attrs, inputs, output)
        elif node['op'] == 'Pooling':
            window = inputs[0][2:] if attrs.get('global_pool') in ('True', '1') else ast.literal_eval(attrs['kernel'])
            work += math.prod(output) * math.prod(window)
        elif node['op'] not in MOVES:
            work += max(math.prod(shape) for shape in (output, *inputs[:1]))

    trainable = {name for name, param in net.collect_params().items() if param.grad_req != 'null'}
    parameters = sum(
        math.prod(shape_of[i, 0]) for i, node in enumerate(nodes) if node['op'] == 'null' and node['name'] in trainable
    )
    return Complexity(parameters, multiply_adds, work if elementwise else 0)
