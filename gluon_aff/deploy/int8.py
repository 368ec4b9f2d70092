"""INT8 from float32 ONNX files: static quantization by ONNX Runtime, and how much it changes."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from typing import Any, Iterable, Sequence

import numpy as np

from ..files import write_whole
from .calibration import PercentileCollector, make_collector, read_batches
from .onnx_files import INSTALL, import_onnx, import_onnxruntime, load_onnx, read_onnx, session

__all__ = ['compare_onnx', 'quantize_onnx', 'sensitive_nodes']

OLDEST_RUNTIME = (1, 17)  # the first that takes ranges

# All operators of these networks, down to the attention weights of the fusions: converting whole maps for a single
# float32 operator took longer than the operator itself.
OPERATORS = [
    'Add',
    'AveragePool',
    'Concat',
    'Conv',
    'Flatten',
    'Gemm',
    'GlobalAveragePool',
    'MaxPool',
    'Mul',
    'Relu',
    'Reshape',
    'Resize',
    'Sigmoid',
    'Split',
]


def quantize_onnx(
    path: str,
    calibration: str | Iterable,
    output: str | None = None,
    exclude: Sequence[str] = (),
    *,
    ranges: str = 'naive',
) -> str:
    """Quantize a float32 ONNX file to INT8: statically, in QDQ form, weights per channel.

    Activations are uint8, in the ranges that they have on the calibration images, and weights int8. BatchNorm that is
    not folded, and operators that are rare in convolutional networks, stay in float32.

    Parameters
    ----------
    path : str
        What :func:`gluon_aff.deploy.export_onnx` wrote.
    calibration : str or iterable
        A folder of images (unreadable ones are skipped with a warning), paths of images, or batches as the network
        takes them: float32 arrays (N, C, H, W), or (array, labels) as loaders give them; float64 is rounded.
    output : str, optional
        The file to write; its folder is made. By default NAME-int8.onnx beside NAME.onnx.
    exclude : sequence of str, default ()
        Names of nodes that stay in float32, such as the first of :func:`sensitive_nodes`.
    ranges : {'naive', 'percentile', 'entropy'}, default 'naive'
        Where the ranges end: at the least and largest value, at the 99.99th percentile of the magnitudes, or where the
        distribution changes least.

    Returns
    -------
    str
        The file that was written.

    Raises
    ------
    ImportError
        If onnx or onnxruntime is missing or unfit.
    FileNotFoundError, ValueError
        If there is no such file, it is not an ONNX file, it has no such node, there is nothing to calibrate on, or the
        ranges are unknown.
    OSError
        If the file cannot be written.
    """
    model = prepared(path)
    unknown = set(exclude) - {node.name for node in model.graph.node}
    if unknown:
        raise ValueError(f'{path} has no node {", ".join(sorted(unknown))}; sensitive_nodes names those that it has.')
    batches = read_batches(path, calibration)
    output = os.fspath(output) if output else f'{os.path.splitext(os.fspath(path))[0]}-int8.onnx'
    write_whole(output, quantize(model, batches, calibrate(model, batches, ranges), exclude))
    return output


def sensitive_nodes(path: str, calibration: str | Iterable, *, ranges: str = 'naive') -> list[tuple[str, float]]:
    """How much each node's quantization alone changes the output.

    Parameters
    ----------
    path : str
        What :func:`gluon_aff.deploy.export_onnx` wrote.
    calibration : str or iterable
        As for :func:`quantize_onnx`; eight images are enough.
    ranges : str, default 'naive'
        As for :func:`quantize_onnx`.

    Returns
    -------
    list of (str, float)
        The names of the nodes that :func:`quantize_onnx` quantizes, with the mean absolute difference of the output
        when only that node is quantized, the largest first.

    Raises
    ------
    ImportError, FileNotFoundError, ValueError
        As :func:`quantize_onnx` does.
    """
    model, batches = prepared(path), read_batches(path, calibration)
    return sensitivities(model, batches, calibrate(model, batches, ranges))


def sensitivities(model: Any, batches: Sequence, collector: PercentileCollector) -> list[tuple[str, float]]:
    """What :func:`sensitive_nodes` gives, of a :func:`prepared` model and what :func:`calibrate` gave."""
    quantized = import_onnx().load_from_string(quantize(model, batches, collector))
    names = {node.name for node in quantized.graph.node}
    expected = _outputs(model.SerializeToString(), batches)
    differences = []
    for node in model.graph.node:
        if node.op_type in OPERATORS and node.name in names:
            changed = _outputs(_quantize_one(model, quantized, node.name), batches)
            difference = np.mean([np.abs(a - b).mean() for a, b in zip(expected, changed)])
            differences.append((node.name, float(difference)))
    return sorted(differences, key=lambda difference: -difference[1])


def compare_onnx(path: str, other: str, images: str | Iterable) -> dict:
    """Compare the outputs of two ONNX files of one network on the same images.

    Parameters
    ----------
    path, other : str
        Such as the float32 file and the INT8 one.
    images : str or iterable
        As `calibration` of :func:`quantize_onnx`. Where it gives (array, labels) the accuracies are compared as well.

    Returns
    -------
    dict
        'images', 'top1_agreement' (share of images, or of pixels, for which both predict the same class),
        'mean_absolute_difference' (of the logits), 'mean_absolute_logit' (of the first file's) and, with labels,
        'accuracy' and 'other_accuracy'.

    Raises
    ------
    ImportError, FileNotFoundError, ValueError
        As :func:`quantize_onnx` does.
    """
    import_onnxruntime()
    return compare_files(read_onnx(path), read_onnx(other), read_batches(path, images))


def compare_files(first: str | bytes, second: str | bytes, batches: Sequence) -> dict:
    """The report of :func:`compare_onnx`, of two files or their bytes."""
    sessions = [session(file) for file in (first, second)]
    return compare(
        (data, labels, *(onnx_session.run(None, {'data': data})[0] for onnx_session in sessions))
        for data, labels in batches
    )


def _outputs(file, batches):
    """The output of an ONNX file for each batch."""
    onnx_session = session(file)
    return [onnx_session.run(None, {'data': data})[0] for data, _ in batches]


def compare(computed: Iterable) -> dict:
    """The report of :func:`compare_onnx`, of (batch, labels or None, the one's logits, the other's)."""
    images = agreeing = predictions = values = 0
    difference = size = 0.0
    correct, labelled = np.zeros(2), True
    for data, labels, a, b in computed:
        predicted = np.stack([a.argmax(1), b.argmax(1)])
        images, predictions, values = images + len(data), predictions + predicted[0].size, values + a.size
        agreeing += int((predicted[0] == predicted[1]).sum())
        difference += float(np.abs(a.astype(np.float64) - b).sum())
        size += float(np.abs(a.astype(np.float64)).sum())
        labelled = labelled and labels is not None
        if labelled:
            correct += (predicted == labels).reshape(2, -1).sum(1)
    report = {
        'images': images,
        'top1_agreement': agreeing / predictions,
        'mean_absolute_difference': difference / values,
        'mean_absolute_logit': size / values,
    }
    if labelled:
        report.update(accuracy=correct[0] / predictions, other_accuracy=correct[1] / predictions)
    return report


def prepared(path: str) -> Any:
    """The onnx.ModelProto of a float32 file, in operators that ONNX Runtime has INT8 kernels for.

    x - (-y) becomes x + y, and x - y becomes x + -1 * y.
    """
    onnx, model = import_onnx(), load_onnx(path)
    if any(node.op_type == 'QuantizeLinear' for node in model.graph.node):
        raise ValueError(f'{path} is quantized already; give the float32 file.')
    negatives = {node.output[0]: node for node in model.graph.node if node.op_type == 'Neg'}
    nodes = []
    for node in model.graph.node:
        if node.op_type == 'Sub' and node.input[1] in negatives:
            node.op_type, node.input[1] = 'Add', negatives[node.input[1]].input[0]
        elif node.op_type == 'Sub':
            negative = node.name + '_negative'
            nodes.append(onnx.helper.make_node('Mul', [node.input[1], 'minus_one'], [negative], name=negative))
            node.op_type, node.input[1] = 'Add', negative
        nodes.append(node)
    used = {name for node in nodes for name in node.input} | {output.name for output in model.graph.output}
    _set_nodes(model, [node for node in nodes if used & set(node.output)])
    # Keeps ONNX Runtime from advising, in the log, its own preparation, which folding makes needless.
    properties = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**properties, 'onnx.quant.pre_process': 'onnxruntime.quant'})
    if 'minus_one' in used:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(-1), 'minus_one'))
    return model


def calibrate(model: Any, batches: Sequence, ranges: str) -> PercentileCollector:
    """The ranges of a :func:`prepared` model's maps, by name; only one image's maps are in memory at a time."""
    collector, watched = make_collector(ranges), _copied(model)
    del watched.graph.output[:]
    names = [name for node in model.graph.node for name in node.output]
    watched.graph.output.extend(import_onnx().ValueInfoProto(name=name) for name in names)
    onnx_session = session(watched.SerializeToString())
    for data, _ in batches:
        for image in data:
            values = zip(names, onnx_session.run(names, {'data': image[None]}))
            for name, value in [('data', image), *values]:
                if value.dtype == np.float32:
                    collector.add(name, value)
    return collector


def quantize(model: Any, batches: Sequence, collector: PercentileCollector, exclude: Sequence[str] = ()) -> bytes:
    """The quantized file of a :func:`prepared` model, with the ranges that :func:`calibrate` gave."""
    onnxruntime = import_onnxruntime()
    if tuple(map(int, onnxruntime.__version__.split('.')[:2])) < OLDEST_RUNTIME:
        raise ImportError(
            f'INT8 needs onnxruntime 1.17 or newer, and {onnxruntime.__version__} is installed; {INSTALL}'
        )
    import onnxruntime.quantization as quantization

    class Reader(quantization.CalibrationDataReader):
        left = iter([{'data': batches[0][0][:1]}])  # ONNX Runtime insists on an image

        def get_next(self):
            return next(self.left, None)

    with tempfile.TemporaryDirectory() as folder:
        source, output = (os.path.join(folder, name) for name in ('prepared.onnx', 'quantized.onnx'))
        import_onnx().save(model, source)
        quantization.quantize_static(
            source,
            output,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=OPERATORS,
            nodes_to_exclude=[*exclude, *_unfit(model)],
            extra_options={'TensorQuantOverrides': _overrides(model, collector)},
        )
        quantized = import_onnx().load(output)
    _separate_sigmoids(quantized)
    return quantized.SerializeToString()


def _overrides(model, collector):
    """The ranges as ONNX Runtime takes them; what is used by a ReLU only gets the range of the ReLU's output."""
    ranges = dict(collector.min_max_dict)
    uses = Counter(name for node in model.graph.node for name in node.input)
    for node in model.graph.node:
        if node.op_type == 'Relu' and uses[node.input[0]] == 1:
            ranges[node.input[0]] = ranges[node.output[0]]
    return {name: [{'rmin': np.float32(low), 'rmax': np.float32(high)}] for name, (low, high) in ranges.items()}


def _unfit(model):
    """Names of the nodes that stay in float32: what the input does not change, and convolutions with computed weights.

    The first are AA's numbers of relative positions, which must not be rounded; OpenVINO has ECA's convolutions, the
    second, not in INT8.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    changing = {value.name for value in model.graph.input} - stored
    names = []
    for node in model.graph.node:
        if not changing.isdisjoint(node.input):
            changing.update(node.output)
        else:
            names.append(node.name)
        if node.op_type == 'Conv' and node.input[1] not in stored:
            names.append(node.name)
    return names


def _separate_sigmoids(model):
    """Put an Identity before each Sigmoid of a quantized model.

    OpenCV 5 computes an INT8 sum with the Sigmoid after it as one, wrongly; ONNX Runtime removes the Identity.
    """
    nodes = []
    for node in model.graph.node:
        if node.op_type == 'Sigmoid':
            name = node.name + '_input'
            nodes.append(import_onnx().helper.make_node('Identity', [node.input[0]], [name], name=name))
            node.input[0] = name
        nodes.append(node)
    _set_nodes(model, nodes)


def _quantize_one(model, quantized, name):
    """The bytes of a float32 model in which one node is as in the quantized model."""
    single = _copied(model)
    nodes = list(single.graph.node)
    position = next(index for index, node in enumerate(nodes) if node.name == name)
    node, later = nodes[position], nodes[position + 1 :]
    nodes = [
        *nodes[:position],
        *_dequantized_inputs(node, quantized),
        node,
        *_quantized_output(node, quantized),
        *later,
    ]
    for other in later:
        for index, source in enumerate(other.input):
            if source == node.output[0]:
                other.input[index] = nodes[-len(later) - 1].output[0]
    _set_nodes(single, nodes)
    # A bias is dequantized under its own name.
    made, used = ({tensor for node in nodes for tensor in getattr(node, side)} for side in ('output', 'input'))
    constants = {tensor.name: tensor for graph in (quantized.graph, model.graph) for tensor in graph.initializer}
    del single.graph.initializer[:]
    single.graph.initializer.extend(constants[name] for name in sorted(used - made) if name in constants)
    return single.SerializeToString()


def _dequantized_inputs(node, quantized):
    """Let a float32 node have the inputs of the quantized one; returns the nodes that quantize and dequantize them."""
    makers = {other.output[0]: other for other in quantized.graph.node}
    twin = next(other for other in quantized.graph.node if other.name == node.name)
    conversions = []
    for index, source in enumerate(twin.input):
        if twin.op_type == 'Sigmoid':
            source = makers[source].input[0]  # before the Identity
        dequantize = makers.get(source)
        if dequantize is None or dequantize.op_type != 'DequantizeLinear':
            continue
        pair = [dequantize]
        if dequantize.input[0] in makers:
            quantize = _copied(makers[dequantize.input[0]])
            quantize.input[0] = node.input[index]
            pair = [quantize, dequantize]
        conversions += [conversion for conversion in pair if conversion not in conversions]
        node.input[index] = source
    return conversions


def _quantized_output(node, quantized):
    """The nodes that quantize and dequantize the output of the quantized node of this name, if there are any."""
    for quantize in quantized.graph.node:
        if quantize.op_type == 'QuantizeLinear' and quantize.input[0] == node.output[0]:
            for dequantize in quantized.graph.node:
                if dequantize.op_type == 'DequantizeLinear' and dequantize.input[0] == quantize.output[0]:
                    return [quantize, dequantize]
    return []


def _copied(message):
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _set_nodes(model, nodes):
    nodes = [_copied(node) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
