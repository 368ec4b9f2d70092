"""A network's inference graph, with its parameters, in a form that can be rewritten."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import warnings
from collections import Counter

import mxnet as mx
import numpy as np
from mxnet.gluon import SymbolBlock
from mxnet.gluon.block import HybridBlock

from .._mxnet import dtype_number, has_values, structural_parameters
from ..tracing import trace

__all__ = ['Graph', 'Node']


class Node:
    """An operator of MXNet's, or (op 'null') an input or parameter.

    Attributes
    ----------
    op, name : str
    attrs : dict of str to str
    inputs : list of (Node, int)
        Each with which of the node's outputs is meant.
    """

    def __init__(self, op, name='', attrs=(), inputs=()):
        self.op, self.name, self.attrs, self.inputs = op, name, dict(attrs), list(inputs)


class Graph:
    """A network traced as one symbol, with its parameters under their structural names.

    Names hold no counter of the process's, so two traces of the same network are equal, byte by byte.

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

    Raises
    ------
    ValueError
        If the network has no parameters yet, or is not a HybridBlock with one input.
    """

    def __init__(self, net):
        if not isinstance(net, HybridBlock):
            raise ValueError(f'A HybridBlock can be traced, not a {type(net).__name__}.')
        owned = net.collect_params() if isinstance(net, SymbolBlock) else structural_parameters(net)
        if not all(map(has_values, owned.values())):
            raise ValueError(
                f'{type(net).__name__} has parameters without values; initialize it, load parameters, or '
                'call it once on data where its widths are taken from the first input.'
            )
        try:
            symbol = trace(net, ['data'])
        except TypeError:
            raise ValueError(f'{type(net).__name__} does not take a single input.') from None
        except (AttributeError, NotImplementedError, mx.MXNetError) as error:
            # GluonCV's GroupNorm asks its input for its device, for one.
            raise ValueError(
                f'{type(net).__name__} has a layer that runs on arrays only and cannot be exported: '
                f'{str(error).strip().splitlines()[-1]}'
            ) from None
        graph = json.loads(symbol.tojson())
        self._version = graph['attrs']
        structural = {param.name: name for name, param in owned.items()}
        nodes = []
        for each in graph['nodes']:
            # Attributes such as __init__ are for training.
            attrs = {key: value for key, value in each.get('attrs', {}).items() if not key.startswith('__')}
            nodes.append(
                Node(
                    each['op'],
                    structural.get(each['name'], each['name']),
                    attrs,
                    [(nodes[source], index) for source, index, *_ in each['inputs']],
                )
            )
        self.data = next(node for node in nodes if node.op == 'null' and node.name == 'data')
        self.outputs = [(nodes[source], index) for source, index, *_ in graph['heads']]
        # The mean over devices, as Gluon's own export takes it, would lose the type.
        # A forward pass that still runs may be bringing weights into oneDNN's layout.
        mx.nd.waitall()
        self.params = {name: param.data(param.list_ctx()[0]).asnumpy() for name, param in owned.items()}

    def nodes(self):
        """All nodes that the outputs need, each behind its inputs."""
        found, pending = {}, [node for node, _ in reversed(self.outputs)]
        while pending:
            node = pending[-1]
            missing = [source for source, _ in reversed(node.inputs) if source not in found]
            if missing:
                pending += missing
            else:
                found[pending.pop()] = None
        return list(found)

    def users(self):
        """For each node a list of (node, place among its inputs) that take it; (None, place) for an output."""
        users = {node: [] for node in self.nodes()}
        for node in users:
            for place, (source, _) in enumerate(node.inputs):
                users[source].append((node, place))
        for place, (source, _) in enumerate(self.outputs):
            users[source].append((None, place))
        return users

    def replace(self, old, new):
        """Let everything that takes the first output of `old` take that of `new`."""
        for node in self.nodes():
            if node is not new:
                node.inputs = [(new if source is old else source, index) for source, index in node.inputs]
        self.outputs = [(new if source is old else source, index) for source, index in self.outputs]

    def preprocess(self, mean, std):
        """Let the input be images (N, H, W, C) of uint8, which the graph normalises: values in 0..1, less mean, by std.

        Parameters
        ----------
        mean, std : sequence of C floats
        """
        row = (1, -1, 1, 1)
        old, self.data = self.data, Node('null', 'data', {'__dtype__': '3'})  # MXNet's number of uint8
        x = Node('Cast', attrs={'dtype': 'float32'}, inputs=[(self.data, 0)])
        x = Node('transpose', attrs={'axes': '(0, 3, 1, 2)'}, inputs=[(x, 0)])
        for op, name, value in (('broadcast_sub', 'mean', mean), ('broadcast_div', 'std', std)):
            value = 255 * np.asarray(value, np.float32).reshape(row)
            x = Node(op, inputs=[(x, 0), (self.parameter(f'preprocess.{name}', value), 0)])
        self.replace(old, x)

    def parameter(self, name, value):
        """A node for a parameter, new or of another value."""
        self.params[name] = value
        return Node('null', name)

    def value(self, node):
        """The value of a parameter's node; None for other nodes."""
        return self.params.get(node.name) if node.op == 'null' else None

    def symbol(self):
        """The graph as an mxnet.sym.Symbol.

        An operator is called after its first parameter (features.0 has features.0.weight), or else by its kind and a
        running number.
        """
        nodes, rows = self.nodes(), self._rows()
        place = {node: i for i, node in enumerate(nodes)}
        return mx.sym.load_json(
            json.dumps(
                {
                    'nodes': rows,
                    'arg_nodes': [i for i, node in enumerate(nodes) if node.op == 'null'],
                    'node_row_ptr': list(range(len(nodes) + 1)),
                    'heads': [[place[node], index, 0] for node, index in self.outputs],
                    'attrs': self._version,
                }
            )
        )

    def _rows(self):
        """The nodes as MXNet's JSON has them."""
        nodes, taken, rows = self.nodes(), Counter(), []
        place = {node: i for i, node in enumerate(nodes)}
        for node in nodes:
            name = node.name
            if node.op != 'null':
                stems = [source.name.rpartition('.')[0] for source, _ in node.inputs if source.name in self.params]
                stem = next(filter(None, stems), '')
                name = stem or node.op.strip('_').lower()
                taken[name] += 1
                if not stem or taken[name] > 1:
                    # Four digits, as mx2onnx makes further names by more digits.
                    name = f'{name}_{taken[name]:04d}'
            attrs = dict(sorted(node.attrs.items()))
            if node.op == 'null' and name in self.params:
                # Module, which is told the input's shape only, cannot infer that of every parameter, nor the type.
                value = self.params[name]
                attrs.update(__dtype__=str(dtype_number(value.dtype)), __shape__=str(value.shape))
            rows.append(
                {
                    'op': node.op,
                    'name': name,
                    'inputs': [[place[source], index, 0] for source, index in node.inputs],
                    **({'attrs': attrs} if attrs else {}),
                }
            )
        return rows

    def shapes(self, shape):
        """For each node the shape of its first output, where the input has this one.

        Raises
        ------
        mxnet.MXNetError
            If the network does not take such an input.
        """
        internals = self.symbol().get_internals()
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():  # MXNet prints what it knows
            warnings.simplefilter('ignore')
            known = {name: value.shape for name, value in self.used().items()}
            _, found, _ = internals.infer_shape(data=shape, **known)
        by_name = dict(zip(internals.list_outputs(), found))
        return {
            node: next(
                by_name[key]
                for key in (row['name'], row['name'] + '_output', row['name'] + '_output0')
                if key in by_name
            )
            for node, row in zip(self.nodes(), self._rows())
        }

    def used(self):
        """The parameters that the outputs need, by name."""
        return {
            node.name: self.params[node.name] for node in self.nodes() if node.op == 'null' and node.name in self.params
        }

    def digest(self):
        """SHA-256 of the operators and parameters."""
        found = hashlib.sha256(self.symbol().tojson().encode())
        for name, value in sorted(self.used().items()):
            found.update(f'{name} {value.dtype} {value.shape} '.encode() + value.tobytes())
        return found.hexdigest()

    def block(self, ctx):
        """The graph as a SymbolBlock with its parameters, on `ctx`."""
        values = self.used()
        # The type is only for the inference of types, which else prints a warning.
        block = SymbolBlock(self.symbol(), mx.sym.var('data', dtype=np.float32))
        for name, param in block.collect_params().items():
            param.shape, param.dtype = values[name].shape, values[name].dtype
            param.initialize(mx.init.Constant(mx.nd.array(values[name], dtype=values[name].dtype)), ctx=ctx)
        return block


def device(net):
    """The first device of a network's parameters; mxnet.cpu() where it has none."""
    return next((param.list_ctx()[0] for param in net.collect_params().values()), mx.cpu())


def number(node, name, default=0):
    """An attribute as a float."""
    return float(node.attrs.get(name, default))


def flag(node, name, default=False):
    """An attribute as a bool."""
    return node.attrs.get(name, str(default)) in ('True', '1')


def like(value, array):
    """`value` in the type of `array`, for parameters computed in another."""
    return np.asarray(value, dtype=array.dtype)
