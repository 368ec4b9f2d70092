"""Networks in fewer bits as MXNet's symbol: INT8 and bfloat16, which plain MXNet 1.9.1 computes on a CPU."""

from __future__ import annotations

import json
from typing import Sequence

import mxnet as mx
import numpy as np
from mxnet.contrib import amp, quantization

from .._mxnet import monitored_values
from .calibration import PercentileCollector, make_collector
from .graph import Graph
from .int8 import compare

__all__ = ['bfloat16_symbol', 'calibrate', 'compare_symbols', 'quantize_symbol', 'sensitive_operators']

# INT8 of these is slower than float32 (the product, which MXNet does not vectorise) or loses most (a norm on its own).
FLOAT_OPERATORS = ['elemwise_mul', 'BatchNorm']
# How much of the range the results of a signed sum leave unused, see `_widen_signed_sums`.
UINT8_BY_INT8 = 255 / 127


def quantize_symbol(
    graph: Graph, collector: PercentileCollector, *, exclude: Sequence[str] = ()
) -> tuple[mx.sym.Symbol, dict[str, mx.nd.NDArray]]:
    """The symbol of a network in INT8, and its parameters by name.

    Convolutions and dense layers, with the norms, sums and ReLUs behind them, compute in INT8: weights per channel,
    activations with one range each. The gates of the fusions stay in float32.

    Parameters
    ----------
    graph : Graph
        Folded, of float32; it is not changed.
    collector : PercentileCollector
        The ranges, which :func:`calibrate` gives.
    exclude : sequence of str, default ()
        Names of operators of the graph's symbol that stay in float32.
    """
    symbol, arguments, states = _parts(graph)
    exclude = [*exclude, *_float_operators(graph)]
    fused = symbol.get_backend_symbol('MKLDNN_QUANTIZE')
    quantized, _, _, _ = quantization.quantize_graph(
        fused,
        arguments,
        states,
        excluded_sym_names=exclude,
        excluded_op_names=FLOAT_OPERATORS,
        calib_mode='customize',
        quantized_dtype='auto',
        LayerOutputCollector=collector,
    )
    quantized, arguments, states = quantization.calib_graph(
        quantized, arguments, states, collector, calib_mode='customize', quantized_dtype='auto', logger=None
    )
    return _widen_signed_sums(quantized.get_backend_symbol('MKLDNN_QUANTIZE')), {**arguments, **states}


def calibrate(graph: Graph, batches: Sequence, ranges: str) -> PercentileCollector:
    """The ranges of a graph's maps on some images, for any number of calls of :func:`quantize_symbol`.

    Parameters
    ----------
    graph : Graph
        Folded, of float32; it is not changed.
    batches : sequence of (numpy.ndarray, labels or None)
        Of images, as the network takes them.
    ranges : {'percentile', 'naive', 'entropy'}
        Where the ranges end: at the 99.99th percentile of the magnitudes, at the least and largest value, or where the
        distribution changes least.
    """
    symbol, arguments, states = _parts(graph)
    fused = symbol.get_backend_symbol('MKLDNN_QUANTIZE')
    collector, maps = make_collector(ranges), set(fused.get_internals().list_outputs()) - {*arguments, *states}

    def collect(name, array):
        name, values = name.decode(), monitored_values(array)
        if name in maps:
            collector.add(name, values)

    for data, _ in batches:
        executor = fused.bind(mx.cpu(), {'data': _array(data), **arguments}, aux_states=states, grad_req='null')
        executor.set_monitor_callback(collect, monitor_all=True)
        executor.forward(is_train=False)
        mx.nd.waitall()
    return collector


def bfloat16_symbol(graph: Graph) -> tuple[mx.sym.Symbol, dict[str, mx.nd.NDArray]]:
    """The symbol of a network whose convolutions and dense layers compute in bfloat16, and its parameters by name.

    Input, output and the gates of the fusions are in float32, the parameters of those layers in bfloat16.

    Parameters
    ----------
    graph : Graph
        Folded, of float32; it is not changed.
    """
    symbol, arguments, states = amp.convert_model(*_parts(graph), target_dtype='bfloat16', cast_optional_params=True)
    return symbol, {**arguments, **states}


def sensitive_operators(graph: Graph, collector: PercentileCollector, batches: Sequence) -> list[tuple[str, float]]:
    """How much each convolution and dense layer changes the output when it alone computes in INT8.

    Parameters
    ----------
    graph, collector
        As for :func:`quantize_symbol`.
    batches : sequence of (numpy.ndarray, labels or None)
        Images to measure on; eight are enough.

    Returns
    -------
    list of (str, float)
        Names of operators and the mean absolute difference of the output, the largest first.
    """
    attributes = json.loads(graph.symbol().tojson())['nodes']
    names = [row['name'] for row in attributes if row['op'] in ('Convolution', 'FullyConnected')]
    original, values = _float_parts(graph)
    expected, differences = outputs(original, values, batches), []
    for name in names:
        others = [other for other in names if other != name]
        symbol, values = quantize_symbol(graph, collector, exclude=others)
        differences.append((name, float(np.abs(outputs(symbol, values, batches) - expected).mean())))
    return sorted(differences, key=lambda difference: -difference[1])


def compare_symbols(graph: Graph, quantized: tuple, batches: Sequence) -> dict:
    """What :func:`gluon_aff.deploy.compare_onnx` reports, of a graph and its (symbol, parameters) in fewer bits."""
    forms = [_float_parts(graph), quantized]

    def both(data):
        return [outputs(symbol, values, [(data, None)]) for symbol, values in forms]

    return compare((data, labels, *both(data)) for data, labels in batches)


def outputs(symbol: mx.sym.Symbol, values: dict[str, mx.nd.NDArray], batches: Sequence) -> np.ndarray:
    """What a symbol gives for all batches, along the first axis."""
    states = {name: values[name] for name in symbol.list_auxiliary_states()}
    arguments = {name: value for name, value in values.items() if name not in states}
    computed = []
    for data, _ in batches:
        executor = symbol.bind(mx.cpu(), {'data': _array(data), **arguments}, aux_states=states, grad_req='null')
        computed.append(executor.forward(is_train=False)[0].asnumpy())
    return np.concatenate(computed)


def _array(values):
    return mx.nd.array(values, dtype=values.dtype)


def _parts(graph):
    """(symbol, arguments, auxiliary states) of a graph."""
    symbol = graph.symbol()
    values = {name: _array(value) for name, value in graph.used().items()}
    states = {name: values.pop(name) for name in symbol.list_auxiliary_states()}
    return symbol, values, states


def _float_parts(graph):
    symbol, arguments, states = _parts(graph)
    return symbol, {**arguments, **states}


def _float_operators(graph):
    """Names of the operators of a graph that are better in float32.

    - Means over whole maps, which in INT8 have the maps' range and lose most of their bits: the logits of the shipped
      AFF network then change by 0.15 instead of 0.10, and 1 % of its classes instead of 0.7 %.
    - Convolutions in groups, but for those with one channel in each: MXNet scales the weights of a whole group as those
      of its first channel, and is wrong by 5 to 30 %.
    - ReLUs behind gates. A gate gives a float32 map, and the next one takes it again; iaff_resnet50 is 5 % slower if it
      is in INT8 between them.
    """
    rows = json.loads(graph.symbol().tojson())['nodes']

    def stays(row):
        attrs = row.get('attrs', {})
        if row['op'] == 'Activation':
            return rows[row['inputs'][0][0]]['op'] in ('broadcast_add', '_mul_scalar')
        if row['op'] == 'Convolution':
            return attrs.get('num_group', '1') not in ('1', attrs['num_filter'])
        return row['op'] == 'Pooling' and attrs.get('global_pool') in ('True', '1')

    return [row['name'] for row in rows if stays(row)]


def _widen_signed_sums(symbol):
    """Keep MXNet from cutting off the upper half of a sum with a signed map and a ReLU in a convolution.

    It scales the result to uint8 and writes it, in place of the signed map, as int8.
    """
    graph = json.loads(symbol.tojson())
    nodes = graph['nodes']
    for row in nodes:
        attrs = row.get('attrs', {})
        if row['op'] != '_sg_mkldnn_conv' or not _is(attrs, 'quantized', 'with_sum', 'with_postsum_act'):
            continue
        (summand, _, *_) = row['inputs'][-5]  # before the ranges of the data and of the summand
        if _is_signed(nodes, summand) and 'max_calib_range' in attrs:
            attrs['max_calib_range'] = str(float(attrs['max_calib_range']) * UINT8_BY_INT8)
    return mx.sym.load_json(json.dumps(graph))


def _is(attrs, *names):
    return all(attrs.get(name, '').lower() in ('true', '1') for name in names)


def _is_signed(nodes, index):
    """Whether a node of a quantized symbol gives int8 and not uint8."""
    row = nodes[index]
    attrs = row.get('attrs', {})
    if row['op'] in ('_contrib_quantized_pooling', '_contrib_quantized_act', '_contrib_quantized_flatten'):
        return _is_signed(nodes, row['inputs'][0][0])
    if row['op'] == '_sg_mkldnn_conv':
        return not (_is(attrs, 'with_act') or _is(attrs, 'with_postsum_act'))
    return float(attrs.get('min_calib_range', '-1')) < 0
