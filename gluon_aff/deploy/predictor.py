"""One interface to a network, whichever engine computes it."""

from __future__ import annotations

import logging
import os
from importlib import import_module
from typing import Sequence, Union

import mxnet as mx
import numpy as np
from PIL import Image

from .._deprecated import renamed
from ..data.images import to_image
from ..data.walk import find_images
from ..errors import positive
from ..spec import ModelSpec
from ..text import printable
from .backends import BACKENDS, block, default_backend, open_backend
from .export_folder import is_export, read_export

__all__ = ['BACKENDS', 'Predictor']

log = logging.getLogger(__name__)

AnyImage = Union[str, os.PathLike, Image.Image, np.ndarray]
Images = Union[AnyImage, Sequence[AnyImage]]


class Predictor:
    """Classifies or segments images by a network, which it hybridizes, or by an exported folder.

    Several threads may call one predictor; OpenCV and MXNet compute for one at a time.

    Each file of a folder is read once, compared with its digest in model.json, and opened from the bytes that were
    compared. Symbols, parameters and ONNX files are checked before an engine's own readers see them.

    Parameters
    ----------
    source : str or model_zoo.loading.LoadedModel
        A folder that :func:`gluon_aff.deploy.export` wrote, or a network with its description, which MXNet computes.
        Where model_zoo is installed, also what its load_model takes: a registered name or a run's folder.
    backend : {'mxnet', 'onnxruntime', 'int8', 'opencv', 'openvino', 'openvino-bf16', 'openvino-int8'}, optional
        What computes a folder's network: MXNet its symbol, ONNX Runtime its float32 or INT8 file, OpenCV's DNN module
        its float32 file, OpenVINO its float32 file, in float32 or bfloat16, or its INT8 file. By default MXNet on a
        GPU; on the CPU ONNX Runtime if it is installed and the file is there, else MXNet.
    ctx : mxnet.Context, default mxnet.cpu()
        MXNet's device; the others compute on the CPU.
    threads : int, optional
        For ONNX Runtime and OpenVINO; default: all cores.

    Attributes
    ----------
    spec : gluon_aff.spec.ModelSpec
    backend : str
        What computes.

    Raises
    ------
    ValueError
        If the name is unknown, the path is no exported folder or run, a file in it is not the exported one, or the
        backend is unknown or cannot run the file, or the processor cannot compute in the backend's type.
    FileNotFoundError
        If the folder or a file in it is missing.
    ImportError
        If the backend's package is missing or too old.
    """

    crop_ratio = renamed('spec.crop_ratio')
    input_size = renamed('spec.input_size')
    labels = renamed('spec.class_names')
    mean = renamed('spec.mean')
    min_size = renamed('spec.min_size')
    name = renamed('spec.name')
    std = renamed('spec.std')
    task = renamed('spec.task')

    def __init__(self, source, backend: str | None = None, ctx=None, threads: int | None = None):
        context = ctx or mx.cpu()
        if threads is not None:
            positive('threads', threads)
        if isinstance(source, (str, os.PathLike)):
            source = os.fspath(source)
            load_model = _finder_of(source)
            if load_model:
                source = load_model(source, ctx=context)
        if isinstance(source, str):
            description = read_export(source)
            self.spec = ModelSpec.from_json(description)
            self.backend = backend or default_backend(description['files'], context)
            self._run = open_backend(source, description, self.spec, self.backend, context, threads)
            return
        if backend not in (None, 'mxnet'):
            raise ValueError(f'MXNet computes a network that is not exported; export it for {backend}.')
        if threads is not None:
            raise ValueError(
                'threads is for ONNX Runtime and OpenVINO, and MXNet computes a network that is not exported; '
                'leave it out.'
            )
        self.spec, self.backend = source.spec, 'mxnet'
        self._run = block(source.net, context)

    def logits(self, batch: np.ndarray) -> np.ndarray:
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
        spec = self.spec
        smallest = {'N': 1, 'H': spec.min_size, 'W': spec.min_size}
        if not (
            isinstance(batch, np.ndarray)
            and batch.dtype == spec.dtype
            and batch.ndim == 4
            and all(
                length >= smallest[side] if side in smallest else length == side
                for side, length in zip(spec.shape, batch.shape)
            )
        ):
            raise ValueError(
                f'{spec.name} takes arrays ({", ".join(map(str, spec.shape))}) of {spec.dtype}, H and W '
                f'at least {spec.min_size}, got {_describe(batch)}.'
            )
        output = self._run(np.ascontiguousarray(batch))
        sides = batch.shape[2:] if spec.layout == 'NCHW' else batch.shape[1:3]
        shape = (len(batch), len(spec.class_names), *(sides if spec.task == 'segmentation' else ()))
        if not isinstance(output, np.ndarray) or output.shape != shape or output.dtype.kind != 'f':
            raise ValueError(
                f'{spec.name} should give {shape} floats, {len(spec.class_names)} classes, and gives '
                f"{_describe(output)}; its file or its model.json is another network's."
            )
        if not np.isfinite(output).all():
            raise ValueError(
                f'{spec.name} returns values that are not finite; its parameters are damaged, or its mean '
                'and std are not those that it was trained with.'
            )
        return output

    def feed(self, pixels: np.ndarray) -> np.ndarray:
        """The input of :meth:`logits` for pixels, RGB images (N, H, W, 3) of uint8."""
        return self.spec.feed(pixels)

    def prepare(self, image: AnyImage) -> np.ndarray:
        """What a classifier sees of an image (a path, a PIL image or an array): (H, W, 3) of uint8, resized, cropped.

        Raises
        ------
        ValueError
            If the image cannot be read or is of another shape or type.
        """
        return self.spec.prepare(to_image(image))

    def classify(self, crops: Sequence[np.ndarray], top_k: int = 5) -> list:
        """The names and probabilities of the most probable classes, as :meth:`rank`.

        Returns
        -------
        list of list of (str, float)
        """
        names = self.spec.class_names
        return [[(names[index], probability) for index, probability in best] for best in self.rank(crops, top_k)]

    def rank(self, crops: Sequence[np.ndarray], top_k: int = 5) -> list:
        """The most probable classes of crops from :meth:`prepare`, computed as one batch.

        Parameters
        ----------
        crops : sequence of numpy.ndarray
            (H, W, 3) of uint8.
        top_k : int, default 5

        Returns
        -------
        list of list of (int, float)
            For each image the indices and probabilities of its classes, the most probable first.

        Raises
        ------
        ValueError
            If the network segments, or as :meth:`logits` does.
        """
        self._check_task('classification')
        positive('top_k', top_k)
        scores = _softmax(self.logits(self.feed(np.stack(crops))))
        return [[(int(i), float(row[i])) for i in row.argsort()[::-1][:top_k]] for row in scores]

    def predict(self, images: Images, top_k: int = 5, batch_size: int = 8) -> list:
        """The most probable classes of images.

        Parameters
        ----------
        images : str, PIL.Image, numpy.ndarray or sequence
            An image file or a folder of them, an RGB array (H, W, 3) or (N, H, W, 3) of uint8, a PIL image, or a
            sequence of such; a folder's other files are skipped with a warning.
        top_k : int, default 5
        batch_size : int, default 8

        Returns
        -------
        list of list of (str, float)
            For each image the names and probabilities of its classes, the most probable first. A folder's images are in
            the order of their names.

        Raises
        ------
        ValueError
            If an image cannot be read or is of another shape or type, or the network segments.
        """
        self._check_task('classification')
        positive('top_k', top_k)
        positive('batch_size', batch_size)
        listed, predictions = _list_images(images), []
        for start in range(0, len(listed), batch_size):
            crops = [self.prepare(image) for image in listed[start : start + batch_size]]
            predictions += self.classify(crops, top_k)
        return predictions

    def segment(self, images: Images, probabilities: bool = False) -> np.ndarray | list:
        """The class of each pixel of an image, or of several images.

        A network that takes one size only (exported with a fixed size) sees the image scaled to fit into that size, its
        proportions kept and the rest filled with the mean; its probabilities are scaled back to the image.

        Parameters
        ----------
        images : str, PIL.Image, numpy.ndarray or sequence
            As for :meth:`predict`, of any size that the network takes. They are computed one by one.
        probabilities : bool, default False
            Return the classes' probabilities instead of the most probable class.

        Returns
        -------
        numpy.ndarray or list of it
            (H, W) of int32, indices of class names, or (classes, H, W) of float32; a list for a folder, a sequence or
            an array (N, H, W, 3).

        Raises
        ------
        ValueError
            If an image cannot be read or is of another shape or type, or the network classifies whole images.
        """
        self._check_task('segmentation')
        if isinstance(images, (str, os.PathLike)):
            single = not os.path.isdir(images)
        else:
            single = images.ndim != 4 if isinstance(images, np.ndarray) else isinstance(images, Image.Image)
        masks = [
            self._segment(to_image(image), probabilities) for image in ([images] if single else _list_images(images))
        ]
        return masks[0] if single else masks

    def _check_task(self, task):
        if self.spec.task == task:
            return
        if task == 'classification':
            raise ValueError(f'{self.spec.name} is a segmentation network; use segment().')
        raise ValueError(f'{self.spec.name} classifies whole images; use predict().')

    def _segment(self, image, probabilities):
        size = image.size
        (left, top), (width, height) = (0, 0), size
        if not self.spec.dynamic:
            image, (left, top, width, height) = _letterbox(image, self.spec.input_size, self.spec.mean)
        logits = self.logits(self.feed(np.asarray(image)[None]))[0, :, top : top + height, left : left + width]
        if (width, height) == size and not probabilities:
            return logits.argmax(0).astype(np.int32)
        scores = _softmax(logits)
        if (width, height) != size:
            scores = np.stack([Image.fromarray(score).resize(size, Image.BILINEAR) for score in scores])
        return scores if probabilities else scores.argmax(0).astype(np.int32)


def _finder_of(source):
    """What loads a name or a run's folder: model_zoo's load_model; None for an export, or without model_zoo."""
    is_name = os.path.basename(source) == source and not os.path.exists(source)
    is_run = os.path.isfile(os.path.join(source, 'model.json')) and not is_export(source)
    try:
        # Imported when it is needed only, as this library works without named networks.
        return import_module('model_zoo').load_model if is_name or is_run else None
    except ModuleNotFoundError as error:
        if error.name != 'model_zoo':
            raise
        return None


def _softmax(logits):
    """Probabilities of logits (classes, H, W) or (N, classes)."""
    axis = -1 if logits.ndim < 3 else 0
    scores = np.exp(logits - logits.max(axis, keepdims=True), dtype=np.float32)
    return scores / scores.sum(axis, keepdims=True)


def _letterbox(image, input_size, mean):
    """(the image scaled to fit in the middle of (C, H, W), the rest in the mean colour; left, top, width, height)."""
    _, height, width = input_size
    scale = min(width / image.width, height / image.height)
    size = tuple(min(most, max(1, round(scale * side))) for side, most in zip(image.size, (width, height)))
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    colour = tuple(int(np.clip(round(255 * value), 0, 255)) for value in mean)
    canvas = Image.new('RGB', (width, height), colour if len(colour) == 3 else colour[:1] * 3)
    canvas.paste(image if size == image.size else image.resize(size, Image.BILINEAR), (left, top))
    return canvas, (left, top, *size)


def _list_images(images) -> list:
    """A list of paths and images from any input of :meth:`Predictor.predict`."""
    if isinstance(images, (str, os.PathLike, np.ndarray, Image.Image)):
        images = [images]
    flat = []
    for image in images:
        if isinstance(image, (str, os.PathLike)):
            files, skipped = find_images([image])
            for sentence in skipped.values():
                log.warning(printable(sentence))
            flat += files
        elif isinstance(image, np.ndarray) and image.ndim == 4:
            flat += list(image)
        else:
            flat.append(image)
    return flat


def _describe(array):
    return f'{array.shape} of {array.dtype}' if isinstance(array, np.ndarray) else f'a {type(array).__name__}'
