"""One interface to a network, whatever computes it: MXNet, ONNX Runtime or OpenCV."""

from __future__ import annotations

import logging
import os

import mxnet as mx
import numpy as np
from PIL import Image

from .._deprecated import renamed
from ..data.images import read_image, upright
from ..data.walk import find_images
from ..errors import positive
from ..spec import ModelSpec
from ..text import printable
from .backends import BACKENDS, block, open_backend
from .export_folder import read_export

__all__ = ['BACKENDS', 'Predictor']

log = logging.getLogger(__name__)


class Predictor:
    """Classifies or segments images by a network, which it hybridizes, or by an exported folder.

    Several threads may call one predictor; OpenCV and MXNet compute for one at a time.

    Of a folder each file is read once, compared with its digest in model.json, and opened from the bytes that were
    compared. MXNet's readers see no parameter file and no symbol that was not checked before, and an ONNX file that
    keeps values in other files is refused.

    Parameters
    ----------
    source : str or model_zoo.loading.Trained
        A folder that :func:`gluon_aff.deploy.export` wrote, or a network with its description, which MXNet computes.
        For a registered name or a run's folder see :func:`model_zoo.loading.open_predictor`.
    backend : {'mxnet', 'onnxruntime', 'int8', 'opencv'}, optional
        What computes a folder's network: MXNet its symbol, ONNX Runtime its float32 or INT8 file, OpenCV's DNN module
        its float32 file. By default MXNet on a GPU; on the CPU ONNX Runtime if it is installed and the file is there,
        else MXNet.
    ctx : mxnet.Context, default mxnet.cpu()
        MXNet's device; the others compute on the CPU.
    threads : int, optional
        Of ONNX Runtime, which takes all cores by default.

    Attributes
    ----------
    name, task : str
    class_names : list of str
    input_size : (C, H, W)
    min_size : int
        The least H and W.
    spec : gluon_aff.spec.ModelSpec
        All of these.
    mean, std : floats, one for each channel
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

    labels = renamed('class_names')

    def __init__(self, source, backend=None, ctx=None, threads=None):
        device = ctx or mx.cpu()
        if threads is not None:
            positive('threads', threads)
        if isinstance(source, (str, os.PathLike)):
            source = os.fspath(source)
            description = read_export(source)
            spec = ModelSpec.from_json(description)
            self._run = open_backend(source, description, spec, backend, device, threads)
        else:
            if backend not in (None, 'mxnet'):
                raise ValueError(f'MXNet computes a network that is not exported; export it for {backend}.')
            if threads is not None:
                raise ValueError(
                    'threads is for ONNX Runtime, and MXNet computes a network that is not exported; leave it out.'
                )
            spec = ModelSpec.of(source, dynamic=not getattr(source.net, 'input_size', None))
            self._run = block(source.net, device)
        self.spec = spec
        self.name, self.task, self.class_names = spec.name, spec.task, list(spec.class_names)
        self.input_size, self.min_size, self.crop_ratio = spec.input_size, spec.min_size, spec.crop_ratio
        self.mean, self.std = spec.mean, spec.std

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
            If the batch has another shape or type, or the network cannot compute it, or gives an output that is not of
            this shape or not finite.
        """
        spec, least = self.spec, {'N': 1, 'H': self.min_size, 'W': self.min_size}
        if not (
            isinstance(batch, np.ndarray)
            and batch.dtype == spec.dtype
            and batch.ndim == 4
            and all(
                side >= least[wanted] if wanted in least else side == wanted
                for wanted, side in zip(spec.shape, batch.shape)
            )
        ):
            raise ValueError(
                f'{self.name} takes arrays ({", ".join(map(str, spec.shape))}) of {spec.dtype}, H and W '
                f'at least {self.min_size}, got {_kind(batch)}.'
            )
        output = self._run(np.ascontiguousarray(batch))
        sides = batch.shape[2:] if spec.layout == 'NCHW' else batch.shape[1:3]
        shape = (len(batch), len(self.class_names), *(sides if self.task == 'segmentation' else ()))
        if not isinstance(output, np.ndarray) or output.shape != shape or output.dtype.kind != 'f':
            raise ValueError(
                f'{self.name} should give {shape} floats, {len(self.class_names)} classes, and gives '
                f"{_kind(output)}; its file or its model.json is another network's."
            )
        if not np.isfinite(output).all():
            raise ValueError(
                f'{self.name} returns values that are not finite; its parameters are damaged, or its mean '
                'and std are not those that it was trained with.'
            )
        return output

    def feed(self, pixels):
        """RGB images (N, H, W, 3) of uint8 as input of :meth:`logits`."""
        return self.spec.feed(pixels)

    def prepare(self, image):
        """What a classifier sees of an image (a path, a PIL image or an array): (H, W, 3) of uint8, resized, cropped.

        Raises
        ------
        ValueError
            If the image cannot be read or is of another shape or type.
        """
        return self.spec.prepare(_image(image))

    def classify(self, crops, top_k=5):
        """The most probable classes of crops from :meth:`prepare`, computed as one batch.

        Parameters
        ----------
        crops : sequence of numpy.ndarray
            (H, W, 3) of uint8.
        top_k : int, default 5

        Returns
        -------
        list of list of (str, float)
            For each image class names and probabilities, the most probable first.

        Raises
        ------
        ValueError
            If the network segments, or as :meth:`logits` does.
        """
        if self.task == 'segmentation':
            raise ValueError(f'{self.name} is a segmentation network; use segment().')
        positive('top_k', top_k)
        predictions = []
        for scores in _softmax(self.logits(self.feed(np.stack(crops)))):
            best = scores.argsort()[::-1][:top_k]
            predictions.append([(self.class_names[i], float(scores[i])) for i in best])
        return predictions

    def predict(self, images, top_k=5, batch_size=8):
        """The most probable classes of images.

        Parameters
        ----------
        images : str, PIL.Image, numpy.ndarray or sequence
            An image file or a folder of them, an RGB array (H, W, 3) or (N, H, W, 3) of uint8, a PIL image, or a
            sequence of such; files of a folder that are no images are left out, with a warning.
        top_k : int, default 5
        batch_size : int, default 8

        Returns
        -------
        list of list of (str, float)
            For each image class names and probabilities, the most probable first. A folder's images are in the order of
            their names.

        Raises
        ------
        ValueError
            If an image cannot be read or is of another shape or type, or the network segments.
        """
        if self.task == 'segmentation':
            raise ValueError(f'{self.name} is a segmentation network; use segment().')
        positive('top_k', top_k)
        positive('batch_size', batch_size)
        images, predictions = _images(images), []
        for start in range(0, len(images), batch_size):
            crops = [self.prepare(image) for image in images[start : start + batch_size]]
            predictions += self.classify(crops, top_k)
        return predictions

    def segment(self, images, probabilities=False):
        """The class of each pixel of an image, or of each of several.

        A network that takes one size only (exported with a fixed size) sees the image scaled to fit into that size, its
        proportions kept and the rest filled with the mean; its probabilities are scaled back to the image.

        Parameters
        ----------
        images : str, PIL.Image, numpy.ndarray or sequence
            As for :meth:`predict`, of any size that the network takes. They are computed one by one.
        probabilities : bool, default False
            Give the classes' probabilities in place of the most probable class.

        Returns
        -------
        numpy.ndarray or list of it
            (H, W) of int32, indices into `class_names`, or (classes, H, W) of float32; a list where a folder, a
            sequence or an array (N, H, W, 3) is given.

        Raises
        ------
        ValueError
            If an image cannot be read or is of another shape or type, or the network classifies whole images.
        """
        if self.task != 'segmentation':
            raise ValueError(f'{self.name} classifies whole images; use predict().')
        one = (
            not os.path.isdir(images)
            if isinstance(images, (str, os.PathLike))
            else (images.ndim != 4 if isinstance(images, np.ndarray) else isinstance(images, Image.Image))
        )
        maps = [self._segment(_image(image), probabilities) for image in ([images] if one else _images(images))]
        return maps[0] if one else maps

    def _segment(self, image, probabilities):
        size = image.size
        left, top, width, height = 0, 0, *size
        if not self.spec.dynamic:
            image, (left, top, width, height) = _letterbox(image, self.input_size, self.mean)
        logits = self.logits(self.feed(np.asarray(image)[None]))[0, :, top : top + height, left : left + width]
        if (width, height) == size and not probabilities:
            return logits.argmax(0).astype(np.int32)
        scores = _softmax(logits)
        if (width, height) != size:
            scores = np.stack([Image.fromarray(score).resize(size, Image.BILINEAR) for score in scores])
        return scores if probabilities else scores.argmax(0).astype(np.int32)


def _softmax(logits):
    """Probabilities of logits (classes,) or (classes, H, W), or of a batch (N, classes) of the former."""
    axis = -1 if logits.ndim < 3 else 0
    scores = np.exp(logits - logits.max(axis, keepdims=True), dtype=np.float32)
    return scores / scores.sum(axis, keepdims=True)


def _letterbox(image, input_size, mean):
    """The image scaled to fit in the middle of (C, H, W), the rest the mean colour, and (left, top, width, height)."""
    _, height, width = input_size
    scale = min(width / image.width, height / image.height)
    size = tuple(min(most, max(1, round(scale * side))) for side, most in zip(image.size, (width, height)))
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    colour = tuple(int(np.clip(round(255 * value), 0, 255)) for value in mean)
    filled = Image.new('RGB', (width, height), colour if len(colour) == 3 else colour[:1] * 3)
    filled.paste(image if size == image.size else image.resize(size, Image.BILINEAR), (left, top))
    return filled, (left, top, *size)


def _images(images):
    """A list of paths and images from any input of :meth:`Predictor.predict`."""
    if isinstance(images, (str, os.PathLike, np.ndarray, Image.Image)):
        images = [images]
    flat = []
    for image in images:
        if isinstance(image, (str, os.PathLike)):
            flat += _paths(image)
        elif isinstance(image, np.ndarray) and image.ndim == 4:
            flat += list(image)
        else:
            flat.append(image)
    return flat


def _paths(path):
    images, skipped = find_images([path])
    for sentence in skipped.values():
        log.warning(printable(sentence))
    return images


def _image(image):
    """A path, a PIL image or an array as an upright RGB PIL.Image."""
    if isinstance(image, (str, os.PathLike)):
        return read_image(os.fspath(image))
    if isinstance(image, Image.Image):
        return upright(image)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f'An image is a path or an RGB array (H, W, 3) of uint8, got {_kind(image)}.')
    return Image.fromarray(image)


def _kind(array):
    return f'{array.shape} of {array.dtype}' if isinstance(array, np.ndarray) else f'a {type(array).__name__}'
