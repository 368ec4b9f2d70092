"""A network's inference graph with its parameters: traced once, rewritten, and given to the writers."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Sequence

import mxnet as mx
import numpy as np
from mxnet.gluon import SymbolBlock
from mxnet.gluon.block import HybridBlock

from .._mxnet import dtype_number, has_values, infer_shape, structural_parameters
from ..tracing import trace
from .fold import fold
from .node import Node

__all__ = ['Graph', 'device', 'fold_batchnorm']


class Graph:
    """A network traced as one symbol, with its parameters under their structural names.

    Two traces of one network are equal byte for byte: no name depends on what the process has built before.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Initialised, with one input; it is traced, not changed.

    Attributes
    ----------
    data : Node
        The input.
    outputs : list of (Node, int)
    params : dict of str to numpy.ndarray
        By the name of their node.
    layout : {'NCHW', 'NHWC'}
        Of the input: NCHW takes float32, NHWC (after :meth:`preprocess`) uint8.
    context : mxnet.Context
        The first device of the network's parameters.

    Raises
    ------
    ValueError
        If the network has parameters without values, cannot be traced, or has several inputs.
    """

    def __init__(self, net: HybridBlock):
        if not isinstance(net, HybridBlock):
            raise ValueError(f'A HybridBlock can be traced, not a {type(net).__name__}.')
        owned = net.collect_params() if isinstance(net, SymbolBlock) else structural_parameters(net)
        if not all(map(has_values, owned.values())):
            raise ValueError(
                f'{type(net).__name__} has parameters without values; initialize it, load parameters, or '
                'call it once on data where its widths are taken from the first input.'
            )
        self._load(json.loads(_trace(net).tojson()), {param.name: name for name, param in owned.items()})
        self.layout, self.context = 'NCHW', device(net)
        # A forward pass that still runs may be bringing weights into oneDNN's layout.
        mx.nd.waitall()
        # Not the mean over devices, as Gluon's own export takes it, which would lose the type.
        self.params = {name: param.data(param.list_ctx()[0]).asnumpy() for name, param in owned.items()}

    def _load(self, symbol, structural_names):
        """Take the nodes and outputs of a symbol's JSON."""
        nodes = []
        for row in symbol['nodes']:
            # Attributes such as __init__ are for training.
            attrs = {key: value for key, value in row.get('attrs', {}).items() if not key.startswith('__')}
            inputs = [(nodes[source], index) for source, index, *_ in row['inputs']]
            nodes.append(Node(row['op'], structural_names.get(row['name'], row['name']), attrs, inputs))
        self._attrs = symbol['attrs']
        self.data = next(node for node in nodes if node.op == 'null' and node.name == 'data')
        self.outputs = [(nodes[source], index) for source, index, *_ in symbol['heads']]

    @property
    def dtype(self) -> np.dtype:
        """Type of the input."""
        return np.dtype(np.float32 if self.layout == 'NCHW' else np.uint8)

    def copy(self) -> Graph:
        """A graph that can be rewritten without changing this one; they share the parameters' arrays."""
        copies: dict = {}
        for node in self.nodes():
            inputs = [(copies[source], index) for source, index in node.inputs]
            copies[node] = Node(node.op, node.name, node.attrs, inputs)
        other = object.__new__(Graph)
        vars(other).update(vars(self))
        other.data, other.params = copies.get(self.data, self.data), dict(self.params)
        other.outputs = [(copies[node], index) for node, index in self.outputs]
        return other

    def fold(self) -> Graph:
        """Rewrite the graph for inference, in place, see :func:`fold_batchnorm`; returns the graph."""
        fold(self)
        return self

    def preprocess(self, mean: Sequence[float], std: Sequence[float]) -> Graph:
        """Take uint8 images (N, H, W, C) as input, and normalise them in the graph, in place; returns the graph.

        Parameters
        ----------
        mean, std : sequence of C floats
            Of values in 0..1.
        """
        old, self.data, self.layout = self.data, Node('null', 'data', {'__dtype__': '3'}), 'NHWC'  # MXNet's uint8
        x = Node('Cast', attrs={'dtype': 'float32'}, inputs=[(self.data, 0)])
        x = Node('transpose', attrs={'axes': '(0, 3, 1, 2)'}, inputs=[(x, 0)])
        for op, name, values in (('broadcast_sub', 'mean', mean), ('broadcast_div', 'std', std)):
            value = 255 * np.asarray(values, np.float32).reshape(1, -1, 1, 1)
            x = Node(op, inputs=[(x, 0), (self.parameter(f'preprocess.{name}', value), 0)])
        self.replace(old, x)
        return self

    def nodes(self) -> list:
        """All nodes that the outputs need, each after its inputs."""
        ordered: dict = {}
        pending = [node for node, _ in reversed(self.outputs)]
        while pending:
            node = pending[-1]
            missing = [source for source, _ in reversed(node.inputs) if source not in ordered]
            if missing:
                pending += missing
            else:
                ordered[pending.pop()] = None
        return list(ordered)

    def users(self) -> dict:
        """For each node a list of (node, index among its inputs) that use it; (None, index) for an output."""
        users: dict = {node: [] for node in self.nodes()}
        for node in users:
            for index, (source, _) in enumerate(node.inputs):
                users[source].append((node, index))
        for index, (source, _) in enumerate(self.outputs):
            users[source].append((None, index))
        return users

    def replace(self, old: Node, new: Node) -> None:
        """Let everything that uses the first output of `old` use that of `new`."""
        for node in self.nodes():
            if node is not new:
                node.inputs = [(new if source is old else source, index) for source, index in node.inputs]
        self.outputs = [(new if source is old else source, index) for source, index in self.outputs]

    def parameter(self, name: str, value: np.ndarray) -> Node:
        """A node for a parameter with this value, which replaces an earlier one of the name."""
        self.params[name] = value
        return Node('null', name)

    def value(self, node: Node) -> np.ndarray | None:
        """The value of a parameter's node; None for other nodes."""
        return self.params.get(node.name) if node.op == 'null' else None

    def used(self) -> dict:
        """The parameters that the outputs need, by name."""
        return {
            node.name: self.params[node.name] for node in self.nodes() if node.op == 'null' and node.name in self.params
        }

    def symbol(self) -> mx.sym.Symbol:
        """The graph as MXNet's symbol.

        An operator is named after its first parameter (features.0 has features.0.weight), or else by its kind and a
        running number.
        """
        nodes = self.nodes()
        index_of = {node: index for index, node in enumerate(nodes)}
        return mx.sym.load_json(
            json.dumps(
                {
                    'nodes': self._rows(nodes),
                    'arg_nodes': [index for index, node in enumerate(nodes) if node.op == 'null'],
                    'node_row_ptr': list(range(len(nodes) + 1)),
                    'heads': [[index_of[node], output, 0] for node, output in self.outputs],
                    'attrs': self._attrs,
                }
            )
        )

    def _rows(self, nodes):
        """The nodes as MXNet's JSON has them."""
        index_of = {node: index for index, node in enumerate(nodes)}
        taken, rows = Counter(), []
        for node in nodes:
            name, attrs = node.name, dict(sorted(node.attrs.items()))
            if node.op != 'null':
                stems = [source.name.rpartition('.')[0] for source, _ in node.inputs if source.name in self.params]
                stem = next(filter(None, stems), '')
                name = stem or node.op.strip('_').lower()
                taken[name] += 1
                if not stem or taken[name] > 1:
                    # Four digits, as mx2onnx makes further names by more digits.
                    name = f'{name}_{taken[name]:04d}'
            elif name in self.params:
                # Module, which is told the input's shape only, cannot infer that of every parameter, nor the type.
                value = self.params[name]
                attrs.update(__dtype__=str(dtype_number(value.dtype)), __shape__=str(value.shape))
            inputs = [[index_of[source], index, 0] for source, index in node.inputs]
            rows.append({'op': node.op, 'name': name, 'inputs': inputs, **({'attrs': attrs} if attrs else {})})
        return rows

    def shapes(self, shape: Sequence[int]) -> dict:
        """The shape of each node's first output for an input of this shape.

        Raises
        ------
        mxnet.MXNetError
            If the network does not take such an input.
        """
        internals = self.symbol().get_internals()
        known = {name: value.shape for name, value in self.used().items()}
        _, shapes, _ = infer_shape(internals, data=tuple(shape), **known)
        by_name = dict(zip(internals.list_outputs(), shapes))
        nodes = self.nodes()
        return {
            node: next(by_name[name + end] for end in ('', '_output', '_output0') if name + end in by_name)
            for node, name in zip(nodes, (row['name'] for row in self._rows(nodes)))
        }

    def input_shapes(self, input_size: Sequence[int]) -> tuple:
        """(shape of one input of this size, the same with the names 'N', 'H', 'W' for the sides that may change).

        Parameters
        ----------
        input_size : (C, H, W), or (C, T) or (C, D, H, W)

        Raises
        ------
        ValueError
            If the network does not take this size.
        """
        channels, *sides = input_size
        names = {1: 'T', 2: 'HW', 3: 'DHW'}[len(sides)]

        def shape(batch, *sides):
            return (batch, channels, *sides) if self.layout == 'NCHW' else (batch, *sides, channels)

        def refusal(*sizes):
            try:
                self.shapes(shape(1, *sizes))
            except mx.MXNetError as error:
                return last_line(error)

        reason = refusal(*sides)
        if reason:
            kind = 'images' if len(sides) == 2 else 'inputs'
            raise ValueError(f'The network does not take {kind} of {" x ".join(map(str, input_size))}: {reason}')
        fixed = refusal(*(side + 32 * n for n, side in enumerate(sides, 1))) or refusal(*(2 * side for side in sides))
        return shape(1, *sides), shape('N', *(sides if fixed else names))

    def check_float32(self) -> None:
        """Raise a ValueError if a parameter is of another type."""
        types = {value.dtype.name for value in self.used().values()} - {'float32'}
        if types:
            raise ValueError(
                f'The network is in {min(types)}, and exports are in float32; give a float32 one, '
                "such as the network after net.cast('float32')."
            )

    def digest(self) -> str:
        """SHA-256 of the operators and parameters."""
        running = hashlib.sha256(self.symbol().tojson().encode())
        for name, value in sorted(self.used().items()):
            running.update(f'{name} {value.dtype} {value.shape} '.encode() + value.tobytes())
        return running.hexdigest()

    def block(self) -> SymbolBlock:
        """The graph as a network, on the device of the one that was traced."""
        # The type is only for the inference of types, which else prints a warning.
        block = SymbolBlock(self.symbol(), mx.sym.var('data', dtype=self.dtype))
        return set_parameters(block, self.used(), self.context)


def _trace(net):
    try:
        return trace(net, ['data'])
    except TypeError:
        raise ValueError(f'{type(net).__name__} does not take a single input.') from None
    except (AttributeError, NotImplementedError, mx.MXNetError) as error:
        # GluonCV's GroupNorm asks its input for its device, for one.
        raise ValueError(
            f'{type(net).__name__} has a layer that runs on arrays only and cannot be exported: {last_line(error)}'
        ) from None


def fold_batchnorm(net: HybridBlock) -> SymbolBlock:
    """The network for inference: BatchNorm folded into the convolutions beside it, operators of training removed.

    A BatchNorm after a convolution that nothing else uses scales its weights and makes its bias; so does one before a
    1x1 convolution without padding that nothing else uses. Others, such as those before a ReLU in a pre-activation
    network, stay. A global context, which is repeated by a matrix product for the sake of its gradient, is broadcast.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Initialised, with one input; it is not changed.

    Returns
    -------
    mxnet.gluon.SymbolBlock
        On the first device of the network's parameters. The outputs are the network's to 1e-5 of the largest;
        parameters have their structural names.

    Raises
    ------
    ValueError
        If the network has parameters without values, cannot be traced, or has several inputs.
    """
    return Graph(net).fold().block()


def device(net: HybridBlock) -> mx.Context:
    """The first device of the parameters of `net`; mxnet.cpu() if it has none."""
    return next((param.list_ctx()[0] for param in net.collect_params().values()), mx.cpu())


def set_parameters(block: SymbolBlock, values: dict, ctx: mx.Context) -> SymbolBlock:
    """The block itself, initialised on a device with these arrays."""
    for name, param in block.collect_params().items():
        value = mx.nd.array(values[name], dtype=values[name].dtype)
        param.shape, param.dtype = value.shape, value.dtype
        param.initialize(mx.init.Constant(value), ctx=ctx)
    return block


def last_line(error: Exception) -> str:
    """What an error of MXNet's says after its C++ trace."""
    return str(error).strip().splitlines()[-1].split('Check failed: ')[-1]
