"""One way to ask a network, whatever computes it: MXNet, ONNX Runtime or OpenCV."""
from __future__ import annotations

import importlib.util
import logging
import os
import warnings

import mxnet as mx
import numpy as np
from mxnet.gluon import SymbolBlock
from PIL import Image

from ..data.images import evaluation_crop, normalise, read_image, upright
from ..data.walk import find_images
from ..errors import positive, unknown
from .folder import read_export
from .onnx_file import session

__all__ = ['BACKENDS', 'Predictor']

log = logging.getLogger(__name__)


class Predictor:
    """Names what images show, by a network or what was exported of it.

    Parameters
    ----------
    source : str or model_zoo.trained.Trained
        A folder that :func:`gluon_aff.deploy.export` wrote, or a network with its description, which MXNet computes.
        For a registered name or a run's folder see :func:`model_zoo.trained.open_predictor`.
    backend : {'mxnet', 'onnxruntime', 'int8', 'opencv'}, optional
        What computes a folder's network: MXNet its symbol, ONNX Runtime its float32 or INT8 file, OpenCV's DNN module
        its float32 file. By default ONNX Runtime if it is installed and the file is there, else MXNet.
    ctx : mxnet.Context, default mxnet.cpu()
        MXNet's device.
    threads : int, optional
        Of ONNX Runtime; it takes all cores by default.

    Attributes
    ----------
    name, task : str
    labels : list of str
    input_size : (C, H, W)
    min_size : int
        The least H and W.
    mean, std : three floats each
    crop_ratio : float

    Raises
    ------
    ValueError
        If the path is no exported folder, a file in it is not the exported one, or the backend is unknown or cannot run
        the file.
    FileNotFoundError
        If the folder or a file in it is missing.
    ImportError
        If the backend's package is missing.
    """

    def __init__(self, source, backend=None, ctx=None, threads=None):
        ctx = ctx or mx.cpu()
        if isinstance(source, (str, os.PathLike)):
            source = os.fspath(source)
            said = read_export(source)
            if backend is None:
                there = importlib.util.find_spec('onnxruntime') is not None and 'onnx' in said['files']
                backend = 'onnxruntime' if there or 'symbol' not in said['files'] else 'mxnet'
            if backend not in BACKENDS:
                raise unknown('backend', backend, BACKENDS)
            make, kinds = BACKENDS[backend]
            read_export(source, kinds)
            self._run = make(*(os.path.join(source, said['files'][kind]['file']) for kind in kinds), said,
                             ctx=ctx, threads=threads)
        else:
            if backend not in (None, 'mxnet'):
                raise ValueError(f'MXNet computes a network that is not exported; export it for {backend}.')
            sides = [positive('A side', side) for side in source.input_size]
            fixed = getattr(source.net, 'input_size', None)
            said = {**{key: getattr(source, key) for key in ('name', 'task', 'labels', 'input_size', 'min_size',
                                                             'mean', 'std', 'crop_ratio')},
                    'layout': 'NCHW', 'dtype': 'float32', 'shape': ['N', *(sides if fixed else (sides[0], 'H', 'W'))]}
            source.net.hybridize()
            self._run = _block(source.net, ctx)
        self.name, self.task, self.labels = said['name'], said['task'], list(said['labels'])
        self.input_size, self.min_size = tuple(said['input_size']), said['min_size']
        self.crop_ratio = said['crop_ratio']
        self.mean, self.std = tuple(said['mean']), tuple(said['std'])
        self._layout, self._dtype, self._shape = said['layout'], np.dtype(said['dtype']), said['shape']

    def logits(self, batch):
        """The network's output.

        Parameters
        ----------
        batch : numpy.ndarray
            float32 (N, C, H, W), normalised; of a network exported with preprocessing uint8 (N, H, W, C).

        Returns
        -------
        numpy.ndarray, float32, (N, classes) or (N, classes, H, W)

        Raises
        ------
        ValueError
            If the batch has another shape or type.
        """
        least = {'N': 1, 'H': self.min_size, 'W': self.min_size}
        if not (isinstance(batch, np.ndarray) and batch.dtype == self._dtype and batch.ndim == 4 and all(
                side >= least[wanted] if wanted in least else side == wanted
                for wanted, side in zip(self._shape, batch.shape))):
            raise ValueError(f'{self.name} takes arrays ({", ".join(map(str, self._shape))}) of {self._dtype}, H and W '
                             f'at least {self.min_size}, got {_said(batch)}.')
        return self._run(batch)

    def feed(self, pixels):
        """RGB images (N, H, W, 3) of uint8 as what :meth:`logits` takes."""
        return pixels if self._layout == 'NHWC' else normalise(pixels, self.mean, self.std)

    def predict(self, images, top_k=5, batch_size=8):
        """The most probable classes of images.

        Parameters
        ----------
        images : str or sequence
            An image file or a folder of them, or paths of such, or RGB arrays (H, W, 3) of uint8 and PIL images. Files
            of a folder that are no images are left out, with a warning.
        top_k : int, default 5
        batch_size : int, default 8

        Returns
        -------
        list of list of (str, float)
            For each image labels and probabilities, the most probable first. A folder's images are in the order of
            their names.

        Raises
        ------
        ValueError
            If an image cannot be read or is of another shape or type, or the network segments.
        """
        if self.task == 'segmentation':
            raise ValueError(f'{self.name} is a segmentation network; ask it by segment().')
        positive('top_k', top_k)
        positive('batch_size', batch_size)
        images = [images] if isinstance(images, (str, os.PathLike, np.ndarray, Image.Image)) else list(images)
        images = [image for each in images for image in
                  (_paths(each) if isinstance(each, (str, os.PathLike)) else [each])]
        predictions = []
        for start in range(0, len(images), batch_size):
            crops = [evaluation_crop(_image(each), self.input_size, self.crop_ratio)
                     for each in images[start:start + batch_size]]
            for logits in self.logits(self.feed(np.stack(crops))):
                scores = np.exp(logits - logits.max())
                scores /= scores.sum()
                best = scores.argsort()[::-1][:top_k]
                predictions.append([(self.labels[i], float(scores[i])) for i in best])
        return predictions

    def segment(self, image):
        """The class of each pixel of an image.

        Parameters
        ----------
        image : str, PIL.Image or numpy.ndarray
            A path, or RGB, (H, W, 3) uint8, of any size that the network takes.

        Returns
        -------
        numpy.ndarray, int32, (H, W)
            Numbers of `labels`.

        Raises
        ------
        ValueError
            If the image cannot be read or is of another shape or type, or the network classifies whole images.
        """
        if self.task != 'segmentation':
            raise ValueError(f'{self.name} names what a whole image shows; ask it by predict().')
        pixels = np.asarray(_image(image))
        return self.logits(self.feed(pixels[None]))[0].argmax(0).astype(np.int32)


def _paths(path):
    images, skipped = find_images([path])
    for sentence in skipped.values():
        log.warning(sentence)
    return images


def _image(image):
    """What a path, a PIL image or an array is, as an RGB PIL.Image, upright."""
    if isinstance(image, (str, os.PathLike)):
        return read_image(os.fspath(image))
    if isinstance(image, Image.Image):
        return upright(image)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f'An image is a path or an RGB array (H, W, 3) of uint8, got {_said(image)}.')
    return Image.fromarray(image)


def _said(array):
    return f'{array.shape} of {array.dtype}' if isinstance(array, np.ndarray) else f'a {type(array).__name__}'


def _block(net, ctx):
    return lambda batch: net(mx.nd.array(batch, ctx=ctx, dtype=batch.dtype)).asnumpy()


def _mxnet(symbol, params, said, ctx, threads):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')     # that it takes the types from the parameters, as it should
        net = SymbolBlock.imports(symbol, ['data'], params, ctx=ctx)
    net.hybridize(static_alloc=True, static_shape=True)
    return _block(net, ctx)


def _onnxruntime(path, said, ctx, threads):
    run = session(path, threads)
    return lambda batch: run.run(None, {'data': batch})[0]


def _opencv(path, said, ctx, threads):
    import cv2
    # It would take a side that it does not know for 1, and say nothing.
    if said['layout'] == 'NHWC':
        raise ValueError(f"OpenCV's DNN module takes no uint8 images; export {said['name']} without preprocessing.")
    if said['task'] == 'segmentation' and not isinstance(said['shape'][2], int):
        raise ValueError(f"OpenCV's DNN module cannot resize maps to a size that it only knows when it runs; export "
                         f"{said['name']} with a fixed size (--fixed-size).")
    unable = f"OpenCV's DNN module does not know an operator of {said['name']}, or not in this form; use ONNX Runtime."
    try:
        net = cv2.dnn.readNetFromONNX(path)
    except cv2.error:
        raise ValueError(unable) from None

    def run(batch):
        net.setInput(batch)
        try:
            return net.forward()
        except cv2.error:
            raise ValueError(unable) from None
    return run


# What makes a function (batch) -> logits, and the files that it needs.
BACKENDS = {'mxnet': (_mxnet, ('symbol', 'params')), 'onnxruntime': (_onnxruntime, ('onnx',)),
            'int8': (_onnxruntime, ('int8',)), 'opencv': (_opencv, ('onnx',))}
