"""INT8 from float32 ONNX files: static quantization by ONNX Runtime, and how much it changes."""

from __future__ import annotations

import logging
import os
import tempfile

import numpy as np

from ..data.class_folders import readable_images
from ..data.images import read_image
from ..files import write_whole
from ..spec import ModelSpec
from ..text import printable
from .external_data import check_no_external_data
from .onnx_writer import import_onnx, import_onnxruntime, session

__all__ = ['compare_onnx', 'quantize_onnx', 'sensitive_nodes']

log = logging.getLogger(__name__)

# All that these networks consist of, down to the gates of the fusions: a single operator in float32 between others
# brings whole maps from INT8 and back, which took more time than the operator itself.
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
BATCH = 8


def quantize_onnx(path, calibration, output=None, exclude=()):
    """Quantize a float32 ONNX file to INT8: statically, in QDQ form, weights per channel.

    Activations are uint8 and weights int8; their ranges are the least and largest values on the calibration images.
    BatchNorm that is not folded and what is not in a convolutional network's usual stock stay in float32.

    Parameters
    ----------
    path : str
        What :func:`gluon_aff.deploy.export_onnx` wrote.
    calibration : str or iterable
        A folder of images (files of which that cannot be read are left out, with a warning), paths of images, or
        batches as the network takes them: float32 arrays (N, C, H, W), or (array, label) as loaders give them; float64
        is rounded.
    output : str, optional
        The file to write; its folder is made. By default NAME-int8.onnx beside NAME.onnx.
    exclude : sequence of str, default ()
        Names of nodes that stay in float32, such as the first of :func:`sensitive_nodes`.

    Returns
    -------
    str
        The file that was written.

    Raises
    ------
    ImportError
        If onnx or onnxruntime is missing or unfit.
    FileNotFoundError, ValueError
        If there is no such file, it is not an ONNX file, it has no such node, or there is nothing to calibrate on.
    OSError
        If the file cannot be written.
    """
    model = _prepared(path)
    unknown = set(exclude) - {node.name for node in model.graph.node}
    if unknown:
        raise ValueError(f'{path} has no node {", ".join(sorted(unknown))}; sensitive_nodes names those that it has.')
    batches = read_batches(path, calibration)
    output = os.fspath(output) if output else f'{os.path.splitext(os.fspath(path))[0]}-int8.onnx'
    write_whole(output, _quantize(model, batches, nodes_to_exclude=list(exclude)))
    return output


def sensitive_nodes(path, calibration):
    """How much each node's quantization alone changes the output.

    Parameters
    ----------
    path : str
        What :func:`gluon_aff.deploy.export_onnx` wrote.
    calibration : str or iterable
        As for :func:`quantize_onnx`; eight images are enough.

    Returns
    -------
    list of (str, float)
        The nodes that :func:`quantize_onnx` quantizes, sums, products and sigmoids of the gates among them, by name,
        with the mean absolute difference of the output when only that node is quantized, the largest first.

    Raises
    ------
    ImportError, FileNotFoundError, ValueError
        As :func:`quantize_onnx` does.
    """
    model, batches = _prepared(path), read_batches(path, calibration)
    quantized = import_onnx().load_from_string(_quantize(model, batches))
    names = {node.name for node in quantized.graph.node}
    first, found = session(_content(path)), []
    for node in model.graph.node:
        if node.op_type in OPERATORS and node.name in names:
            other = session(_quantize_one(model, quantized, node.name))
            found.append((node.name, _compare(first, other, batches)['mean_absolute_difference']))
    return sorted(found, key=lambda each: -each[1])


def _quantize_one(model, quantized, name):
    """The bytes of a float32 model in which one node is as in the quantized model."""
    onnx, one = import_onnx(), import_onnx().ModelProto()
    one.CopyFrom(model)
    makers = {node.output[0]: node for node in quantized.graph.node}
    takers = {node.input[0]: node for node in quantized.graph.node if node.op_type == 'QuantizeLinear'}
    twin = next(node for node in quantized.graph.node if node.name == name)
    place = next(place for place, node in enumerate(one.graph.node) if node.name == name)
    node, front, behind = one.graph.node[place], [], []
    for index, source in enumerate(twin.input):
        if twin.op_type == 'Sigmoid':
            source = makers[source].input[0]  # past the Identity
        back = makers.get(source)
        if back is None or back.op_type != 'DequantizeLinear':
            continue
        pair = [back]
        if back.input[0] in makers:
            there = onnx.NodeProto()
            there.CopyFrom(makers[back.input[0]])
            there.input[0] = node.input[index]
            pair = [there, back]
        front += [each for each in pair if each not in front]
        node.input[index] = source
    there = takers.get(node.output[0])
    back = there and next(
        (
            each
            for each in quantized.graph.node
            if each.op_type == 'DequantizeLinear' and each.input[0] == there.output[0]
        ),
        None,
    )
    if back:
        behind = [there, back]
        for other in one.graph.node[place + 1 :]:
            for index, source in enumerate(other.input):
                if source == node.output[0]:
                    other.input[index] = back.output[0]
    nodes = [*one.graph.node[:place], *front, node, *behind, *one.graph.node[place + 1 :]]
    copies = []
    for each in nodes:
        copies.append(onnx.NodeProto())
        copies[-1].CopyFrom(each)
    del one.graph.node[:]
    one.graph.node.extend(copies)
    # A bias is dequantized under its own name.
    made, used = (
        {name for each in copies for name in names(each)}
        for names in (lambda each: each.output, lambda each: each.input)
    )
    constants = {each.name: each for graph in (quantized.graph, model.graph) for each in graph.initializer}
    del one.graph.initializer[:]
    one.graph.initializer.extend(constants[name] for name in sorted(used - made) if name in constants)
    return one.SerializeToString()


def compare_onnx(path, other, images):
    """Compare the outputs of two ONNX files of one network on the same images.

    Parameters
    ----------
    path, other : str
        The float32 file and the INT8 one, say.
    images : str or iterable
        As `calibration` of :func:`quantize_onnx`. Where it gives (array, label) the accuracies are compared as well.

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
    return _compare(session(_content(path)), session(_content(other)), read_batches(path, images))


def _compare(first, second, batches):
    """What :func:`compare_onnx` returns, of two sessions."""
    runs = first, second
    count = agree = places = values = 0
    difference = size = 0.0
    right, labelled = np.zeros(2), True
    for data, label in batches:
        first, second = (run.run(None, {'data': data})[0] for run in runs)
        predicted = np.stack([first.argmax(1), second.argmax(1)])
        count, places, values = count + len(data), places + predicted[0].size, values + first.size
        agree += int((predicted[0] == predicted[1]).sum())
        difference += float(np.abs(first.astype(np.float64) - second).sum())
        size += float(np.abs(first.astype(np.float64)).sum())
        labelled = labelled and label is not None
        if labelled:
            right += (predicted == label).reshape(2, -1).sum(1)
    report = {
        'images': count,
        'top1_agreement': agree / places,
        'mean_absolute_difference': difference / values,
        'mean_absolute_logit': size / values,
    }
    if labelled:
        report.update(accuracy=right[0] / places, other_accuracy=right[1] / places)
    return report


def read_batches(path, images):
    """[(array, label or None), ...] of images, as the ONNX file at `path` takes them, or of batches.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no ONNX file, or no image.
    """
    if isinstance(images, (str, os.PathLike)):
        return list(_from_files(_there(path), _in_folder(os.fspath(images))))
    images = list(images)
    if images and isinstance(images[0], (str, os.PathLike)):
        return list(_from_files(_there(path), images))
    found, (shape, dtype) = [], _input(_load(path))
    for batch in images:
        data, label = batch[:2] if isinstance(batch, (tuple, list)) else (batch, None)
        data, label = (each.asnumpy() if hasattr(each, 'asnumpy') else each for each in (data, label))
        data = np.asarray(data)
        if (
            data.ndim != 4
            or not len(data)
            or any(isinstance(side, int) and side != length for side, length in zip(shape, data.shape))
            or (data.dtype.kind != dtype.kind)
        ):
            raise ValueError(
                f'{path} takes batches ({", ".join(map(str, shape))}) of {dtype}, got {data.shape} of {data.dtype}.'
            )
        found.append((data.astype(dtype, copy=False), None if label is None else np.asarray(label)))
    if not found:
        raise ValueError('There are no images; give a folder of them, or batches.')
    return found


def _input(model):
    """(shape, with names for sides of any length; numpy type) of a model's input."""
    kind = model.graph.input[0].type.tensor_type
    return (
        [side.dim_value or side.dim_param for side in kind.shape.dim],
        np.dtype(import_onnx().helper.tensor_dtype_to_np_dtype(kind.elem_type)),
    )


def _in_folder(folder):
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'There is no folder {folder} of images.')
    files, skipped = readable_images([folder])
    for sentence in skipped.values():
        log.warning(printable(sentence))
    if not files:
        raise ValueError(f'Folder {folder} holds no image that can be read.')
    return files


def _from_files(path, files):
    try:
        spec = ModelSpec.from_metadata({each.key: each.value for each in _load(path).metadata_props})
    except ValueError as error:
        raise ValueError(
            f'{path} does not say how images are prepared for it ({str(error).rstrip(".")}); give batches '
            'rather than a folder.'
        ) from None
    for start in range(0, len(files), BATCH):
        yield spec.feed(np.stack([spec.prepare(read_image(file)) for file in files[start : start + BATCH]])), None


def _there(path):
    if not os.path.isfile(path):
        raise FileNotFoundError(f'There is no ONNX file {path}.')
    return os.fspath(path)


def _content(path):
    """The bytes of an ONNX file that has all values in itself."""
    with open(_there(path), 'rb') as file:
        content = file.read()
    check_no_external_data(content, path)
    return content


def _load(path):
    onnx = import_onnx()
    from google.protobuf.message import DecodeError

    try:
        return onnx.load_from_string(_content(path))
    except DecodeError:
        raise ValueError(f'{path} is not an ONNX file, or is damaged.') from None


def _prepared(path):
    """The model in operators that ONNX Runtime has INT8 kernels for: sums, and no differences.

    x - (-y) becomes x + y, and x - y becomes x + -1 * y.
    """
    onnx, model = import_onnx(), _load(path)
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
    del model.graph.node[:]
    model.graph.node.extend(node for node in nodes if used & set(node.output))
    # Keeps ONNX Runtime from advising, in the log, its own preparation, of which folding is the use.
    onnx.helper.set_model_props(
        model,
        {**{each.key: each.value for each in model.metadata_props}, 'onnx.quant.pre_process': 'onnxruntime.quant'},
    )
    if 'minus_one' in used:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(-1), 'minus_one'))
    return model


def _part_sigmoids(model):
    """Put an Identity in front of each Sigmoid of a quantized model.

    OpenCV 5 computes an INT8 sum with the Sigmoid behind it as one, wrongly; ONNX Runtime removes the Identity.
    """
    onnx, nodes = import_onnx(), []
    for node in model.graph.node:
        if node.op_type == 'Sigmoid':
            name = node.name + '_input'
            nodes.append(onnx.helper.make_node('Identity', [node.input[0]], [name], name=name))
            node.input[0] = name
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _quantize(model, batches, **nodes):
    """The bytes of the quantized file."""
    import_onnxruntime()
    import onnxruntime.quantization as quantization

    class Reader(quantization.CalibrationDataReader):
        left = iter([{'data': data} for data, _ in batches])

        def get_next(self):
            return next(self.left, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared, output = (os.path.join(folder, name) for name in ('prepared.onnx', 'quantized.onnx'))
        import_onnx().save(model, prepared)
        quantization.quantize_static(
            prepared,
            output,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=OPERATORS,
            **nodes,
        )
        quantized = import_onnx().load(output)
    _part_sigmoids(quantized)
    return quantized.SerializeToString()
