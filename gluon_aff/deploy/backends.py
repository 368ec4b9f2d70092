"""The engines that compute an exported network: MXNet its symbol, the others its ONNX files."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import weakref
from collections import OrderedDict
from functools import partial
from typing import Callable

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from ..errors import unknown
from ..instruction_sets import check_instruction_sets
from ..spec import ModelSpec
from ..validation import shown
from .export_folder import read_file
from .onnx_files import check_onnx, import_onnxruntime, session
from .open_symbol import open_symbol
from .openvino_engine import check_int8, compile_onnx, import_openvino

__all__ = ['BACKENDS', 'block', 'default_backend', 'open_backend']

OPENCV_SHAPES = 2  # a folder's batches, and the last one, which is smaller
TRIAL_SECONDS = 120
OPENVINO_TRIAL = (
    'sys.modules["openvino_telemetry"] = None; import openvino; openvino.Core().read_model(sys.stdin.buffer.read())'
)
_locks, _all_locks = weakref.WeakKeyDictionary(), threading.Lock()


def _cannot_run(engine, path, error):
    """The ValueError for a file that an engine cannot open or run."""
    # OpenVINO's first lines say where in its source the error was raised.
    lines = [line for line in str(error).strip().splitlines() if not line.startswith(('Exception from', 'Check '))]
    line = next(iter(lines), type(error).__name__)
    return ValueError(
        f'{engine} cannot run {path} ({shown(line)[1:-1]}); export the network again, or use another backend.'
    )


def block(net: HybridBlock, ctx: mx.Context, **options) -> Callable:
    """A function (batch) -> output by which MXNet computes `net`, hybridized with these `options`, on the device `ctx`.

    It computes for one thread at a time, whichever predictor asks: neither the tracing of a network nor its memory is
    made for several.
    """
    with _all_locks:
        lock = _locks.setdefault(net, threading.Lock())
    with lock:
        net.hybridize(**options)

    def run(batch):
        with lock:
            return net(mx.nd.array(batch, ctx=ctx, dtype=batch.dtype)).asnumpy()

    return run


def _mxnet(symbol, params, path, spec, ctx, threads):
    compute = block(open_symbol(symbol, params, path, spec, ctx), ctx, static_alloc=True, static_shape=True)

    def run(batch):
        try:
            return compute(batch)
        except mx.MXNetError as error:
            raise _cannot_run('MXNet', path, error) from None

    return run


def _mxnet_bfloat16(*args):
    check_instruction_sets('MXNet', {'avx512bw'}, 'bfloat16 in MXNet needs AVX512', 'use the backend mxnet')
    return _mxnet(*args)


def _onnxruntime(content, path, spec, ctx, threads):
    check_onnx(content, path)
    import_onnxruntime()
    # Its errors have no class in common but Exception.
    try:
        onnx_session = session(content, threads)
    except Exception as error:
        raise _cannot_run('ONNX Runtime', path, error) from None

    def run(batch):
        try:
            return onnx_session.run(None, {'data': batch})[0]
        except Exception as error:
            raise _cannot_run('ONNX Runtime', path, error) from None

    return run


def _survives(content, trial):
    """Whether a program runs that gets the file as its standard input: a damaged file can crash or stop a reader."""
    try:
        return not subprocess.run(
            [sys.executable, '-c', f'import sys; sys.path[:] = {sys.path!r}; {trial}'],
            input=content,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TRIAL_SECONDS,
        ).returncode
    except subprocess.TimeoutExpired:
        return False


def _openvino(content, path, spec, ctx, threads, dtype='float32'):
    check_onnx(content, path)
    import_openvino()
    if dtype == 'int8':
        check_int8()
    if not _survives(content, OPENVINO_TRIAL):
        raise _cannot_run('OpenVINO', path, 'its reader fails')
    try:
        compiled = compile_onnx(content, threads=threads, bfloat16=dtype == 'bfloat16')
    except RuntimeError as error:
        raise _cannot_run('OpenVINO', path, error) from None
    idle = []  # a request computes for one thread at a time

    def run(batch):
        try:
            request = idle.pop()
        except IndexError:
            request = compiled.create_infer_request()
        try:
            return request.infer([batch], share_inputs=True)[0]
        except RuntimeError as error:
            raise _cannot_run('OpenVINO', path, error) from None
        finally:
            idle.append(request)

    return run


def _opencv(content, path, spec, ctx, threads):
    import cv2

    if spec.layout == 'NHWC':
        raise ValueError(f"OpenCV's DNN module takes no uint8 images; export {spec.name} without preprocessing.")
    engine = ()
    if spec.task == 'segmentation' and spec.dynamic:
        # OpenCV 4 and version 5's classic engine silently take an unknown side for 1.
        if not hasattr(cv2.dnn, 'ENGINE_NEW'):
            raise ValueError(
                f'The DNN module of OpenCV {cv2.__version__} cannot resize maps to a size that is only '
                f'known when it runs; export {spec.name} with a fixed size (--fixed-size), or take '
                'OpenCV 5.'
            )
        engine = (cv2.dnn.ENGINE_NEW,)
    check_onnx(content, path)
    refusal = f"OpenCV's DNN module does not know an operator of {spec.name}, or its file is damaged; use ONNX Runtime."
    nets, lock = OrderedDict(), threading.Lock()

    def read():
        try:
            return cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8), *engine)
        except cv2.error:
            raise ValueError(refusal) from None

    def run(batch):
        # A network remembers the first shape, and computes another one wrongly after maps of 1x1.
        with lock:
            net = nets[batch.shape] = nets.pop(batch.shape, None) or read()
            if len(nets) > OPENCV_SHAPES:
                nets.popitem(last=False)
            net.setInput(batch)
            try:
                return net.forward()
            except cv2.error:
                raise ValueError(refusal) from None

    trial = (
        'import cv2, numpy; '
        f'net = cv2.dnn.readNetFromONNX(numpy.frombuffer(sys.stdin.buffer.read(), "uint8"), *{engine!r}); '
        f'net.setInput(numpy.zeros({(1, *spec.input_size)!r}, "float32")); net.forward()'
    )
    if not _survives(content, trial):
        raise ValueError(refusal)
    return run


# What opens the files of these kinds as a function (batch) -> logits.
BACKENDS: dict[str, tuple[Callable, tuple[str, ...]]] = {
    'mxnet': (_mxnet, ('symbol', 'params')),
    'mxnet-bf16': (_mxnet_bfloat16, ('symbol-bf16', 'params-bf16')),
    'mxnet-int8': (_mxnet, ('symbol-int8', 'params-int8')),
    'onnxruntime': (_onnxruntime, ('onnx',)),
    'int8': (_onnxruntime, ('int8',)),
    'opencv': (_opencv, ('onnx',)),
    'openvino': (_openvino, ('onnx',)),
    'openvino-bf16': (partial(_openvino, dtype='bfloat16'), ('onnx',)),
    'openvino-int8': (partial(_openvino, dtype='int8'), ('int8',)),
}


def default_backend(files: dict, ctx: mx.Context) -> str:
    """Of an export's files, by kind: MXNet on a GPU, else ONNX Runtime if it is installed and its file is there."""
    if ctx.device_type != 'cpu':
        return 'mxnet'
    installed = importlib.util.find_spec('onnxruntime') is not None
    return 'onnxruntime' if 'onnx' in files and (installed or 'symbol' not in files) else 'mxnet'


def open_backend(
    folder: str, description: dict, spec: ModelSpec, backend: str, ctx: mx.Context, threads: int | None
) -> Callable:
    """A function (batch) -> logits by which a backend computes an exported network.

    Parameters
    ----------
    folder : str
    description : dict
        The content of its model.json, from :func:`gluon_aff.deploy.read_export`.
    spec : gluon_aff.spec.ModelSpec
        The same, as a spec.
    backend, ctx, threads
        As for :class:`gluon_aff.deploy.Predictor`.

    Raises
    ------
    ValueError, FileNotFoundError, ImportError
        As :class:`gluon_aff.deploy.Predictor`.
    """
    files = description['files']
    if backend not in BACKENDS:
        raise unknown('backend', backend, BACKENDS)
    opener, kinds = BACKENDS[backend]
    if backend != 'mxnet' and ctx.device_type != 'cpu':
        raise ValueError(
            f"Backend {backend} computes on the CPU only; use backend 'mxnet' for {ctx}, or leave the device out."
        )
    if backend.startswith(('mxnet', 'opencv')) and threads is not None:
        raise ValueError(f'threads is for ONNX Runtime and OpenVINO, not for backend {backend}; leave it out.')
    contents = [read_file(folder, description, kind) for kind in kinds]
    return opener(*contents, os.path.join(folder, files[kinds[0]]['file']), spec, ctx, threads)
