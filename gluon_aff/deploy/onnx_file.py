"""ONNX files of networks, by MXNet's own mx2onnx: what it gets wrong is put right around it."""
from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import tempfile
import warnings
from functools import partial

import mxnet as mx
import numpy as np

from ..files import atomic
from .folding import drop_plain, simplify
from .graph import Graph, device

__all__ = ['export_onnx', 'import_onnx', 'import_onnxruntime']

# mx2onnx's translations are of opset 13, of which IR 8 is contemporary; it would write the newest that onnx knows.
OPSET, IR = 13, 8
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
        raise ImportError(f'MXNet writes ONNX files with onnx 1.14 and newer, and {onnx.__version__} is installed; '
                          f'{INSTALL}')
    return onnx


def import_onnxruntime():
    """The onnxruntime package; an ImportError with one sentence if it is missing."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f'This needs the package onnxruntime, which cannot be imported ({error}); {INSTALL}'
                          ) from None
    return onnxruntime


def session(path, threads=None):
    """An onnxruntime.InferenceSession on the CPU."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(os.fspath(path), options, providers=['CPUExecutionProvider'])


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
        If the network has no parameters yet, does not take inputs of this size, holds an operator that cannot be
        written, or ONNX Runtime computes something else.
    OSError
        If the file cannot be written.
    """
    onnx = import_onnx()
    graph = Graph(net)
    simplify(graph)
    drop_plain(graph)
    if preprocess:
        graph.preprocess(*preprocess)
    shape, free = input_shapes(graph, input_size, preprocess)
    named = free if dynamic else ('N', *shape[1:])
    model = _translate(onnx, graph, shape, named, np.uint8 if preprocess else np.float32)
    _clean(onnx, model, metadata or {})
    try:
        onnx.checker.check_model(model)
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(f'MXNet translated {type(net).__name__} into an ONNX graph that is not valid: '
                         f'{_line(error)}') from None
    # mx2onnx leaves the outputs' shapes open.
    del model.graph.output[:]
    model.graph.output.extend(inferred.graph.output)
    for output in model.graph.output:
        batch, *sides = output.type.tensor_type.shape.dim
        batch.dim_param = 'N'
        for side in sides:
            if side.dim_param.startswith('unk'):        # a number in the name that inference gives what it cannot know
                side.Clear()
    with atomic(os.fspath(path)) as partial:
        with open(partial, 'wb') as file:
            file.write(model.SerializeToString())
        _compare(net, partial, input_size, preprocess)


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

    symbol = graph.symbol()

    def refusal(wanted):
        try:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():    # MXNet prints what it knows
                warnings.simplefilter('ignore')
                symbol.infer_shape(data=wanted, **{name: value.shape for name, value in graph.used().items()})
        except mx.MXNetError as error:
            return _line(error)

    said = refusal(shape(1, height, width))
    if said:
        raise ValueError(f'The network does not take images of {channels} x {height} x {width}: {said}')
    bound = refusal(shape(1, height + 32, width + 64)) or refusal(shape(1, 2 * height, 2 * width))
    return shape(1, height, width), shape('N', height, width) if bound else shape('N', 'H', 'W')


def _line(error):
    """One line of an error: the last of MXNet's, which begins with a trace of C++; the first of another library's."""
    lines = str(error).strip().splitlines()
    return lines[-1].split('Check failed: ')[-1] if isinstance(error, mx.MXNetError) else lines[0]


def _translate(onnx, graph, shape, named, dtype):
    # Only now, as mx2onnx registers nothing where onnx is missing.
    import mxnet.onnx
    from mxnet.onnx.mx2onnx._export_onnx import MXNetGraph
    from mxnet.onnx.mx2onnx._op_translations import _op_translations_opset12 as translations
    MXNetGraph.register('_contrib_BilinearResize2D')(resize_like)
    MXNetGraph.register('broadcast_to')(partial(broadcast_to, translations.convert_broadcast_to))
    MXNetGraph.register('Convolution')(partial(convolution, translations.convert_convolution))
    MXNetGraph.register('null')(partial(parameter, translations.convert_weights_and_inputs))
    params = {name: mx.nd.array(value, dtype=value.dtype) for name, value in graph.used().items()}
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, 'model.onnx')
        context = onnx.checker.DEFAULT_CONTEXT      # by which mx2onnx checks what it made
        newest, context.opset_imports = context.opset_imports, {'': OPSET}
        try:
            mxnet.onnx.export_model(graph.symbol(), params, [shape], dtype, file, dynamic=True,
                                    dynamic_input_shapes=[named])
        except (AttributeError, NotImplementedError, onnx.checker.ValidationError) as error:
            raise ValueError(f'The network cannot be written as ONNX: {_line(error)}') from None
        finally:
            context.opset_imports = newest
        return onnx.load(file)


def resize_like(node, **kwargs):
    """ONNX nodes for BilinearResize2D(x, like, mode='like', align_corners=False).

    mx2onnx knows no mode but 'size', and writes align_corners whatever the operator says.
    """
    from mxnet.onnx.mx2onnx._op_translations._op_translations_opset12 import create_tensor, get_inputs
    from onnx.helper import make_node
    name, (x, *like), attrs = get_inputs(node, kwargs)
    if attrs.get('mode') != 'like' or attrs.get('align_corners', 'True') in ('True', '1'):
        raise NotImplementedError("BilinearResize2D is translated with mode='like' and align_corners=False only.")
    for value in (0, 2, 4):
        create_tensor([value], f'{name}_{value}', kwargs['initializer'])
    return [make_node('Shape', [x], [name + '_shape']),
            make_node('Slice', [name + '_shape', name + '_0', name + '_2'], [name + '_batch']),
            make_node('Shape', like, [name + '_like']),
            make_node('Slice', [name + '_like', name + '_2', name + '_4'], [name + '_sides']),
            make_node('Concat', [name + '_batch', name + '_sides'], [name + '_sizes'], axis=0),
            make_node('Resize', [x, '', '', name + '_sizes'], [name], name=name, mode='linear',
                      coordinate_transformation_mode='half_pixel')]


def convolution(theirs, node, **kwargs):
    """mx2onnx's translation, which refuses convolutions of one dimension and writes them rightly."""
    attrs = {key: value for key, value in node['attrs'].items() if (key, value) != ('layout', 'NCW')}
    return theirs({**node, 'attrs': attrs}, **kwargs)


def broadcast_to(theirs, node, **kwargs):
    """mx2onnx's translation, with ONNX's word for a side that stays: 1, where MXNet's is 0."""
    shape = [side or 1 for side in ast.literal_eval(node['attrs']['shape'])]
    return theirs({**node, 'attrs': {'shape': str(tuple(shape))}}, **kwargs)


def parameter(theirs, node, **kwargs):
    """mx2onnx's translation of parameters, but not number by number: iaff_resnet50's took ten seconds."""
    if kwargs['is_input']:
        return theirs(node, **kwargs)
    from onnx import numpy_helper
    value = kwargs['weights'][node['name']]
    kwargs['initializer'].append(numpy_helper.from_array(value, node['name']))
    return theirs(node, **{**kwargs, 'weights': {node['name']: value[:0]}, 'initializer': []})


def _clean(onnx, model, metadata):
    """Bring what mx2onnx wrote to the form that runtimes expect."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    constants = {each.name: each for each in graph.initializer if each.name in used}
    # ONNX Runtime takes an initializer that is an input as well for one that may change, and folds nothing into it.
    inputs = [each for each in graph.input if each.name not in constants]
    for field, values in ((graph.initializer, list(constants.values())), (graph.input, inputs)):
        del field[:]
        field.extend(values)
    graph.name = 'gluon_aff'
    for node in graph.node:
        node.name = node.name or node.output[0]     # INT8 and profiles speak of nodes by name
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid('', OPSET))
    model.ir_version, model.producer_name, model.producer_version = IR, 'gluon_aff', ''
    onnx.helper.set_model_props(model, {key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
                                        for key, value in sorted(metadata.items())})


def _compare(net, path, input_size, preprocess):
    """Raise a ValueError where ONNX Runtime does not compute what the network does, on two random images."""
    try:
        run = session(path)
    except ImportError:
        return      # the file is written without it, too
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
        error = np.abs(found - wanted).max() / np.abs(wanted).max()
        if not error <= TOLERANCE:
            raise ValueError(f"ONNX Runtime's output is {error:.1e} of the largest value away from the network's; "
                             'the file was not written.')
