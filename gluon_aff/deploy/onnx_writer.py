"""Networks as ONNX files, translated by MXNet's own mx2onnx with corrections."""

from __future__ import annotations

import json
import os
from typing import Sequence

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from .._deprecated import deprecated_names
from ..files import write_whole
from .fold import drop_identity_reshapes
from .graph import Graph
from .onnx_files import import_onnx, session
from .portability import make_portable
from .translations import OPSET, translate_graph

__all__ = ['export_onnx', 'write_onnx']

IR = 8  # contemporary with opset 13
TOLERANCE = 1e-4


def export_onnx(
    net: HybridBlock,
    path: str,
    input_size: Sequence[int] = (3, 224, 224),
    preprocess: tuple | None = None,
    metadata: dict | None = None,
    dynamic: bool = True,
) -> None:
    """Write a network as an ONNX file, in the form for inference, and check it.

    BatchNorm is folded (:func:`gluon_aff.deploy.fold_batchnorm`). The file is of opset 13 and IR 8; parameters are
    initializers and not inputs; the batch size is dynamic, and so are height and width where the network takes more
    than one size, or a sequence's T and a volume's D, H and W. It passes onnx.checker and shape inference, and, where
    onnxruntime is installed, gives the network's output for two random images to 1e-4 of the largest absolute value.
    The same parameters give the same bytes.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Initialised, in float32.
    path : str
        The file; its folder is made.
    input_size : (C, H, W), default (3, 224, 224)
        A size that the network takes; (C, T) for sequences, (C, D, H, W) for volumes.
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
    import_onnx()
    graph = Graph(net)
    if preprocess:
        graph.preprocess(*preprocess)
    write_onnx(graph, path, input_size=input_size, metadata=metadata, dynamic=dynamic)


def write_onnx(
    graph: Graph, path: str, *, input_size: Sequence[int], metadata: dict | None = None, dynamic: bool = True
) -> None:
    """Write a traced network as :func:`export_onnx` does.

    Parameters
    ----------
    graph : Graph
        It is not changed; it may be folded already, and take preprocessed images.
    path, input_size, metadata, dynamic
        As for :func:`export_onnx`, whose errors are raised.
    """
    graph.check_float32()
    traced, graph = graph, graph.copy().fold()
    drop_identity_reshapes(graph)
    shape, names = graph.input_shapes(input_size)
    # Where both maps are 1x1 it is unknown which is broadcast over the other.
    larger = [8 * side if isinstance(name, str) and side > 1 else side for side, name in zip(shape, names)]
    make_portable(graph, larger)
    model = _translate(graph, names if dynamic else ('N', *shape[1:]), metadata or {})
    shapes = graph.shapes(shape)
    _complete(model, [len(shapes[node]) for node, _ in graph.outputs])
    content = model.SerializeToString()
    _compare(traced, content, (2, *shape[1:]))
    write_whole(os.fspath(path), content)


def _translate(graph, shape, metadata):
    """The onnx.ModelProto of a graph."""
    onnx = import_onnx()
    try:
        translated = translate_graph(graph, shape)
    except NotImplementedError as error:
        raise ValueError(f'The network cannot be written as ONNX: {_first_line(error)}') from None
    model = onnx.helper.make_model(
        translated, opset_imports=[onnx.helper.make_opsetid('', OPSET)], ir_version=IR, producer_name='gluon_aff'
    )
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for key, value in sorted(metadata.items())
    }
    onnx.helper.set_model_props(model, texts)
    return model


def _complete(model, ranks):
    """Add the outputs' shapes, of these ranks, and check the model."""
    onnx = import_onnx()
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
                if side.dim_param.startswith('unk'):  # inference's name for what it cannot know
                    side.Clear()
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(
            f'MXNet translated the network into an ONNX graph that is not valid: {_first_line(error)}'
        ) from None


def _first_line(error):
    return str(error).strip().splitlines()[0]


def _compare(graph, content, shape):
    """Raise a ValueError if ONNX Runtime's outputs for random images differ from MXNet's."""
    try:
        onnx_session = session(content)
    except ImportError:
        return  # the file is written without it, too
    random = np.random.RandomState(0)
    if graph.layout == 'NHWC':
        data = random.randint(0, 256, shape).astype(np.uint8)
    else:
        data = random.uniform(-1, 1, shape).astype(np.float32)
    expected = graph.block()(mx.nd.array(data, ctx=graph.context, dtype=data.dtype))
    expected = expected if isinstance(expected, (list, tuple)) else [expected]
    for output, array in zip(onnx_session.run(None, {'data': data}), expected):
        array = array.asnumpy()
        error = np.abs(output - array).max() / (np.abs(array).max() or 1)  # a head may start at zero
        if not error <= TOLERANCE:
            raise ValueError(
                f"ONNX Runtime's output is {error:.1e} of the largest value away from the network's; "
                'the file was not written.'
            )


__getattr__ = deprecated_names(__name__)
