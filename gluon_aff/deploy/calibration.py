"""Batches for an ONNX file, of images or of what loaders give."""

from __future__ import annotations

import logging
import os
from typing import Iterable

import numpy as np

from ..data.class_folders import readable_images
from ..data.images import read_image
from ..spec import ModelSpec
from ..text import printable
from .onnx_files import import_onnx, load_onnx

__all__ = ['read_batches']

log = logging.getLogger(__name__)

BATCH = 8


def read_batches(path: str, images: str | Iterable) -> list:
    """[(array, labels or None), ...] as the ONNX file at `path` takes them.

    Parameters
    ----------
    path : str
    images : str or iterable
        As `calibration` of :func:`gluon_aff.deploy.quantize_onnx`.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no ONNX file, no image, or a batch that the file does not take.
    """
    model = load_onnx(path)
    if isinstance(images, (str, os.PathLike)):
        return list(_from_files(path, model, _in_folder(os.fspath(images))))
    images = list(images)
    if not images:
        raise ValueError('There are no images; give a folder of them, or batches.')
    if isinstance(images[0], (str, os.PathLike)):
        return list(_from_files(path, model, images))
    kind = model.graph.input[0].type.tensor_type
    shape = [side.dim_value or side.dim_param for side in kind.shape.dim]
    dtype = np.dtype(import_onnx().helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return [_checked(path, batch, shape, dtype) for batch in images]


def _checked(path, batch, shape, dtype):
    """(array, labels or None) of an array or an (array, labels), of numpy or MXNet."""
    data, labels = batch[:2] if isinstance(batch, (tuple, list)) else (batch, None)
    data, labels = (array.asnumpy() if hasattr(array, 'asnumpy') else array for array in (data, labels))
    data = np.asarray(data)
    if (
        data.ndim != 4
        or not len(data)
        or any(isinstance(side, int) and side != length for side, length in zip(shape, data.shape))
        or data.dtype.kind != dtype.kind
    ):
        raise ValueError(
            f'{path} takes batches ({", ".join(map(str, shape))}) of {dtype}, got {data.shape} of {data.dtype}.'
        )
    return data.astype(dtype, copy=False), None if labels is None else np.asarray(labels)


def _in_folder(folder):
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'There is no folder {folder} of images.')
    files, skipped = readable_images([folder])
    for sentence in skipped.values():
        log.warning(printable(sentence))
    if not files:
        raise ValueError(f'Folder {folder} holds no image that can be read.')
    return files


def _from_files(path, model, files):
    try:
        spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    except ValueError as error:
        raise ValueError(
            f'{path} does not say how images are prepared for it ({str(error).rstrip(".")}); give batches '
            'rather than a folder.'
        ) from None
    for start in range(0, len(files), BATCH):
        yield spec.feed(np.stack([spec.prepare(read_image(file)) for file in files[start : start + BATCH]])), None
