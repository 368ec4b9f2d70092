"""ONNX files of networks, by MXNet's own mx2onnx: what it gets wrong is put right around it."""

from __future__ import annotations

import json
import os

import mxnet as mx
import numpy as np

from ..files import write_whole
from .folding import drop_plain, simplify
from .graph import Graph, device
from .portability import make_portable
from .translations import OPSET, translate_graph

__all__ = ['export_onnx', 'import_onnx', 'import_onnxruntime']

IR = 8  # contemporary with opset 13
OLDEST = (1, 14)
TOLERANCE = 1e-4
INSTALL = "run: pip install 'gluon_aff[onnx]'"


def import_onnx():
    """The onnx package.

    Raises
    ------
    ImportError
        If it is missing, or of a version that MXNet's mx2onnx does not work with.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError(f'ONNX files need the package onnx, which cannot be imported ({error}); {INSTALL}') from None
    if tuple(int(part) for part in onnx.__version__.split('.')[:2]) < OLDEST:
        raise ImportError(
            f'MXNet writes ONNX files with onnx 1.14 and newer, and {onnx.__version__} is installed; {INSTALL}'
        )
    return onnx


def import_onnxruntime():
    """The onnxruntime package; an ImportError with one sentence if it is missing."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f'This needs the package onnxruntime, which cannot be imported ({error}); {INSTALL}'
        ) from None
    return onnxruntime


def session(file, threads=None):
    """An onnxruntime.InferenceSession on the CPU, of a path or of a file's bytes."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is in the exception
    if threads:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        file if isinstance(file, bytes) else os.fspath(file), options, providers=['CPUExecutionProvider']
    )


def export_onnx(net, path, input_size=(3, 224, 224), preprocess=None, metadata=None, dynamic=True):
    """Write a network as an ONNX file, in the form for inference, and check it.

    BatchNorm is folded (:func:`gluon_aff.deploy.fold_batchnorm`). The file is of opset 13 and IR 8; parameters are
    initializers and not inputs; the batch size is dynamic, and so are height and width where the network takes more
    than one size. It passes onnx.checker and shape inference, and, where onnxruntime is installed, gives the network's
    output for two random images to 1e-4 of the largest absolute value. The same parameters give the same bytes.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Initialised, in float32.
    path : str
        The file; its folder is made.
    input_size : (C, H, W), default (3, 224, 224)
        A size that the network takes.
    preprocess : (mean, std), optional
        Of RGB values in 0..1: then the input is (N, H, W, C) uint8 and the graph normalises it.
    metadata : dict of str to anything that JSON takes, optional
        Embedded under these keys.
    dynamic : bool, default True
        Let height and width be dynamic where they can be. OpenCV's DNN module needs them fixed where the network
        resizes maps, as FPN and U-Net do.

    Raises
    ------
    ImportError
        If onnx is missing or unfit.
    ValueError
        If the network has no parameters yet, is not of float32, does not take inputs of this size, holds an
        operator that cannot be written, or ONNX Runtime computes something else.
    OSError
        If the file cannot be written.
    """
    onnx = import_onnx()
    graph = Graph(net)
    check_float32(graph, net)
    simplify(graph)
    drop_plain(graph)
    if preprocess:
        graph.preprocess(*preprocess)
    shape, free = input_shapes(graph, input_size, preprocess)
    # Where both maps are 1x1 it is unknown which is broadcast over the other.
    make_portable(
        graph, tuple(8 * side if isinstance(name, str) and side > 1 else side for side, name in zip(shape, free))
    )
    ranks = [len(graph.shapes(shape)[node]) for node, _ in graph.outputs]
    try:
        made = translate_graph(graph, free if dynamic else ('N', *shape[1:]), np.uint8 if preprocess else np.float32)
    except NotImplementedError as error:
        raise ValueError(f'The network cannot be written as ONNX: {_line(error)}') from None
    model = onnx.helper.make_model(
        made, opset_imports=[onnx.helper.make_opsetid('', OPSET)], ir_version=IR, producer_name='gluon_aff'
    )
    onnx.helper.set_model_props(
        model,
        {
            key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            for key, value in sorted((metadata or {}).items())
        },
    )
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        del model.graph.output[:]
        model.graph.output.extend(inferred.graph.output)
        for output, rank in zip(model.graph.output, ranks):
            shape = output.type.tensor_type.shape
            if not shape.dim:  # after a Reshape to another map's shape, of which inference knows nothing
                shape.dim.extend(onnx.TensorShapeProto.Dimension() for _ in range(rank))
            batch, *sides = shape.dim
            batch.dim_param = 'N'
            for side in sides:
                if side.dim_param.startswith('unk'):  # a number in the name that inference gives what it cannot know
                    side.Clear()
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(
            f'MXNet translated {type(net).__name__} into an ONNX graph that is not valid: {_line(error)}'
        ) from None
    written = model.SerializeToString()
    _compare(net, written, input_size, preprocess)
    write_whole(os.fspath(path), written)


def check_float32(graph, net):
    """Raise a ValueError where a network's parameters are not all of float32."""
    types = {value.dtype.name for value in graph.used().values()} - {'float32'}
    if types:
        raise ValueError(
            f'{type(net).__name__} is in {min(types)}, and exports are in float32; give a float32 one, '
            "such as the network after net.cast('float32')."
        )


def input_shapes(graph, input_size, preprocess):
    """A shape of the input, and the same with names for the sides that may have another length.

    Raises
    ------
    ValueError
        If the network does not take this size.
    """
    channels, height, width = input_size

    def shape(batch, height, width):
        return (batch, height, width, channels) if preprocess else (batch, channels, height, width)

    def refusal(wanted):
        try:
            graph.shapes(wanted)
        except mx.MXNetError as error:
            return _line(error)

    reason = refusal(shape(1, height, width))
    if reason:
        raise ValueError(f'The network does not take images of {channels} x {height} x {width}: {reason}')
    bound = refusal(shape(1, height + 32, width + 64)) or refusal(shape(1, 2 * height, 2 * width))
    return shape(1, height, width), shape('N', height, width) if bound else shape('N', 'H', 'W')


def _line(error):
    """One line of an error: the last of MXNet's, which begins with a trace of C++; the first of another library's."""
    lines = str(error).strip().splitlines()
    return lines[-1].split('Check failed: ')[-1] if isinstance(error, mx.MXNetError) else lines[0]


def _compare(net, written, input_size, preprocess):
    """Raise a ValueError where ONNX Runtime does not compute what the network does, on two random images."""
    try:
        run = session(written)
    except ImportError:
        return  # the file is written without it, too
    random = np.random.RandomState(0)
    channels, height, width = input_size
    if preprocess:
        pixels = random.randint(0, 256, (2, height, width, channels)).astype(np.uint8)
        data = ((pixels / 255 - np.asarray(preprocess[0])) / preprocess[1]).transpose(0, 3, 1, 2)
    else:
        pixels = data = random.uniform(-1, 1, (2, channels, height, width)).astype(np.float32)
    expected = net(mx.nd.array(data, ctx=device(net)))
    expected = expected if isinstance(expected, (list, tuple)) else [expected]
    for found, wanted in zip(run.run(None, {'data': pixels}), (each.asnumpy() for each in expected)):
        error = np.abs(found - wanted).max() / (np.abs(wanted).max() or 1)  # a head may start at zero
        if not error <= TOLERANCE:
            raise ValueError(
                f"ONNX Runtime's output is {error:.1e} of the largest value away from the network's; "
                'the file was not written.'
            )
