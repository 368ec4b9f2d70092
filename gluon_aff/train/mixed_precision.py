"""A network whose convolutions and dense layers are computed in bfloat16, for training on a CPU.

References: Micikevicius et al., "Mixed Precision Training", ICLR 2018; Kalamkar et al., "A Study of BFLOAT16 for Deep
Learning Training", 2019 (arXiv 1905.12322), by which bfloat16 needs no scaling of the loss.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Sequence, Tuple

import mxnet as mx
from mxnet.gluon import Block, HybridBlock

from .._mxnet import RewrittenBlock
from ..instruction_sets import check_instruction_sets, cpu_flags
from ..layers import kernels

__all__ = ['bfloat16_network', 'check_bfloat16']

# Operators that take and give maps of bfloat16, and how many of their first inputs are maps, None for all. oneDNN
# computes them in float32, in one pass over half the bytes.
ON_MAPS = {
    'Activation': 1,
    'BatchNorm': 1,
    'Concat': None,
    'Flatten': 1,
    'Pooling': 1,
    'Reshape': 1,
    'add_n': None,
    'elemwise_add': None,
    'gluon_aff_gate': 2,
    'gluon_aff_squeeze': 1,
}
# Operators whose maps are in the default layout, whatever their inputs' is; others than convolutions keep it.
IN_DEFAULT_LAYOUT = ('Reshape', 'amp_cast', 'gluon_aff_copies', 'gluon_aff_gate')
BLOCK = 16  # channels in a block of oneDNN's layout
IMAGE_CHANNELS = 4  # at most

Entry = Tuple[int, int]  # (number of a node, number of its output)


def check_bfloat16(ctx: Sequence[mx.Context]) -> None:
    """Raise a ValueError if bfloat16 fails on these devices, or is slower than float32."""
    if any(device.device_type != 'cpu' for device in ctx):
        raise ValueError('--dtype bfloat16 trains on a CPU only; take float16 with --num-gpus.')
    problem, remedy = '--dtype bfloat16 is slower than float32, or fails, without AVX512-BF16 or AMX', 'take float32'
    if not cpu_flags():
        raise ValueError(f'{problem}, which this processor does not tell that it has; {remedy}.')
    check_instruction_sets('MXNet', {'avx512_bf16', 'amx_bf16'}, problem, remedy)


def bfloat16_network(net: Block) -> HybridBlock:
    """A network on the parameters of `net` that computes its convolutions and dense layers in bfloat16.

    Parameters, norms, sigmoids and the fusions' gates stay float32, and so do layers on 1x1 maps: they take no time,
    and the norms behind them would enlarge the errors. Maps between are bfloat16 where an operator takes them. `net`
    stays as it is; it is traced at the first call.

    Raises
    ------
    ValueError
        If `net` is not a HybridBlock.
    """
    if not isinstance(net, HybridBlock):
        raise ValueError(f'--dtype bfloat16 needs a HybridBlock, got a {type(net).__name__}; take float32.')
    network = RewrittenBlock(net, lambda symbol, **shapes: _Rewriting(symbol, shapes).result(), kernels.graph_to_run)
    network.hybridize(static_alloc=True, static_shape=True)
    return network


class _Rewriting:
    """The nodes of a symbol, as its JSON has them, copied one after the other with casts in between."""

    def __init__(self, symbol: mx.sym.Symbol, shapes: dict[str, tuple]):
        self.source = json.loads(symbol.tojson())
        self.users = Counter((node, output) for row in self.source['nodes'] for node, output, *_ in row['inputs'])
        internals = symbol.get_internals()
        self.shapes = dict(zip(internals.list_outputs(), internals.infer_shape_partial(**shapes)[1]))
        self.rows: list[dict] = []
        self.in_bfloat16: set[Entry] = set()
        self.in_default_layout: set[Entry] = set()
        self.made: dict[tuple, Entry] = {}

    def result(self) -> mx.sym.Symbol:
        """The rewritten symbol; its outputs are float32."""
        numbers: list[int] = []
        for row in self.source['nodes']:
            inputs = [(numbers[node], output) for node, output, *_ in row['inputs']]
            is_shared = any(self.users[node, output] > 1 for node, output, *_ in row['inputs'])
            numbers.append(self.copy(row, inputs, is_shared))
        heads = [self.cast((numbers[node], output), 'float32') for node, output, *_ in self.source['heads']]
        rows, heads = self.with_copies(heads)
        source = {
            **self.source,
            'nodes': rows,
            'arg_nodes': [number for number, row in enumerate(rows) if row['op'] == 'null'],
            'node_row_ptr': list(range(len(rows) + 1)),
            'heads': [[*head, 0] for head in heads],
        }
        return mx.sym.load_json(json.dumps(source))

    def copy(self, row: dict, inputs: list[Entry], is_shared: bool) -> int:
        """Copy a node, with casts and conversions of its inputs; `is_shared` says that one of them has other users."""
        op, attrs = row['op'], row.get('attrs', {})
        shape, maps = self.shape(inputs[0]) if inputs else (), inputs[: ON_MAPS.get(op)]
        is_linear = self.is_linear(op, attrs, shape)
        keeps = self.takes_bfloat16(op, attrs, maps) and self.in_bfloat16.issuperset(maps)
        if is_linear:
            if attrs.get('num_group', '1') != '1':
                # A forward pass in float32 leaves weights in groups in a layout that amp_cast cannot read.
                inputs[1] = self.make('_mul_scalar', [inputs[1]], {'scalar': 1.0})
            inputs = self.widened(op, attrs, [self.cast(entry, 'bfloat16') for entry in inputs])
        elif keeps:
            maps = self.laid_out(op, maps, is_shared)
            inputs = [*maps, *(self.cast(entry, 'float32') for entry in inputs[len(maps) :])]
        else:
            inputs = [self.cast(entry, 'float32') for entry in inputs]
        number = self.add(row['op'], row['name'], inputs, attrs)
        if is_linear or (keeps and op != 'gluon_aff_squeeze'):
            self.in_bfloat16.add((number, 0))
            if op in IN_DEFAULT_LAYOUT or (keeps and inputs[0] in self.in_default_layout):
                self.in_default_layout.add((number, 0))
        return number

    def is_linear(self, op: str, attrs: dict, shape: tuple) -> bool:
        """Whether a node, on data of this shape, is a layer to compute in bfloat16."""
        if op == 'FullyConnected':
            return len(shape) in (2, 4) and shape[2:] != (1, 1)
        is_2d = len(shape) == 4 and attrs.get('layout', 'None') in ('NCHW', 'None')
        return op == 'Convolution' and is_2d and shape[2:] != (1, 1)

    def takes_bfloat16(self, op: str, attrs: dict, maps: list[Entry]) -> bool:
        """Whether a node takes maps of bfloat16."""
        shapes = [self.shape(entry) for entry in maps]
        if op == 'BatchNorm':
            return len(shapes[0]) == 4 and attrs.get('axis', '1') == '1'
        if op == 'Concat':  # its backward pass fails unless a block divides the channels
            return attrs.get('dim', '1') == '1' and all(len(shape) == 4 and not shape[1] % BLOCK for shape in shapes)
        if op == 'Reshape':  # fails on a gradient of another number of axes
            return attrs.get('shape') == '(0, 0, 0, 0)'
        return op in ON_MAPS and attrs.get('act_type', 'relu') == 'relu'

    def shape(self, entry: Entry) -> tuple:
        """The shape of an entry; () where it is not known."""
        name = self.rows[entry[0]]['name']
        return next(filter(None, map(self.shapes.get, (name, f'{name}_output', f'{name}_output{entry[1]}'))), ())

    def add(self, op: str, name: str, inputs: Sequence[Entry], attrs: dict) -> int:
        """Add a node, and return its number."""
        self.rows.append({'op': op, 'name': name, 'inputs': list(inputs), 'attrs': attrs})
        return len(self.rows) - 1

    def make(self, op: str, inputs: Sequence[Entry], attrs: dict[str, Any], shape: tuple = ()) -> Entry:
        """The output of a node that was not in the symbol, made once; by default of the first input's shape."""
        key = op, *inputs, *attrs.items()
        if key not in self.made:
            name = f'bfloat16_{len(self.made)}'
            self.shapes[name] = shape or self.shape(inputs[0])
            self.made[key] = self.add(op, name, inputs, {key: str(value) for key, value in attrs.items()}), 0
        return self.made[key]

    def cast(self, entry: Entry, dtype: str) -> Entry:
        """The entry in this type, float32 or bfloat16."""
        if (entry in self.in_bfloat16) == (dtype == 'bfloat16'):
            return entry
        made = self.make('amp_cast', [entry], {'dtype': dtype})
        if dtype == 'bfloat16':
            self.in_bfloat16.add(made)
            self.in_default_layout.add(made)
        return made

    def widened(self, op: str, attrs: dict, inputs: list[Entry]) -> list[Entry]:
        """The inputs of a layer; a convolution on images gets channels of zeros, for oneDNN's fast one takes blocks."""
        data, weight, *bias = inputs
        outputs, channels, *sides = self.shape(weight)
        if len(sides) != 2 or channels > IMAGE_CHANNELS or outputs % BLOCK or attrs.get('num_group', '1') != '1':
            return inputs
        # The data by a convolution: the backward pass of MXNet's Concat ends the process on a gradient in blocks.
        side = BLOCK, channels, 1, 1
        eye = self.make('_eye', [], {'N': BLOCK, 'M': channels, 'dtype': 'float32'}, side[:2])
        eye = self.cast(self.make('Reshape', [eye], {'shape': side}, side), 'bfloat16')
        data = self.make('Convolution', [data, eye], {'kernel': (1, 1), 'num_filter': BLOCK, 'no_bias': True})
        zeros = self.make('_zeros', [], {'shape': (outputs, BLOCK - channels, *sides), 'dtype': 'float32'}, side)
        weight = self.make('Concat', [weight, self.cast(zeros, 'bfloat16')], {'num_args': 2, 'dim': 1})
        return [data, weight, *bias]

    def laid_out(self, op: str, maps: list[Entry], is_shared: bool) -> list[Entry]:
        """Maps of bfloat16 in the layout that suits an operator: MXNet is slow where it has no blocks, or not always.

        A norm takes 20 times as long on the default layout, and sums are slow unless all summands are in blocks: those
        of a block, and those of gradients, which have the layout of the users' maps.
        """
        are_default = self.in_default_layout.issuperset(maps)
        if op == 'BatchNorm' or (op in ('add_n', 'elemwise_add') and not are_default):
            return [self.converted(entry) if entry in self.in_default_layout else entry for entry in maps]
        if op == 'Reshape' and is_shared and not are_default:
            return [self.converted(entry) for entry in maps]
        return maps

    def converted(self, entry: Entry) -> Entry:
        """A map in blocks whose gradient is in blocks: multiplied by one, for only convolutions choose a layout."""
        _, channels, *sides = self.shape(entry) or (0, 1)
        if len(sides) != 2 or channels % BLOCK:
            return entry
        side = channels, 1, 1, 1
        ones = self.cast(self.make('_ones', [], {'shape': side, 'dtype': 'float32'}, side), 'bfloat16')
        attrs = {'kernel': (1, 1), 'num_filter': channels, 'num_group': channels, 'no_bias': True}
        made = self.make('Convolution', [entry, ones], attrs)
        self.in_bfloat16.add(made)
        return made

    def with_copies(self, heads: list[Entry]) -> tuple[list[dict], list[Entry]]:
        """The nodes and outputs, with copies of maps whose gradients MXNet would add up slowly, in several layouts."""
        users: dict[Entry, list[str]] = {}
        for row in self.rows:
            for entry in row['inputs']:
                users.setdefault(entry, []).append(row['op'])
        rows: list[dict] = []
        numbers: list[int] = []
        copies: dict[Entry, Any] = {}

        def moved(entry):
            return next(copies[entry]) if entry in copies else (numbers[entry[0]], entry[1])

        for number, row in enumerate(self.rows):
            rows.append({**row, 'inputs': [[*moved(entry), 0] for entry in row['inputs']]})
            numbers.append(len(rows) - 1)
            ops = users.get((number, 0), [])
            if (number, 0) in self.in_default_layout and 1 < len(ops) < 10 and {*ops} != {'Convolution'}:
                if kernels.available():
                    name, attrs = f'{row["name"]}_copies', {'number': str(len(ops))}
                    inputs = [[numbers[-1], 0, 0]]
                    rows.append({'op': 'gluon_aff_copies', 'name': name, 'inputs': inputs, 'attrs': attrs})
                    copies[number, 0] = iter([(len(rows) - 1, output) for output in range(len(ops))])
        return rows, [moved(entry) for entry in heads]
