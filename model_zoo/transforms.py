"""A network's transform, from an image to its input: for prediction, and at random for training."""

from __future__ import annotations

import os
import zlib
from multiprocessing import current_process
from typing import Any

import mxnet as mx
import numpy as np
from PIL import Image

from gluon_aff.data.augmentation import GREY, random_resized_crop, write_training
from gluon_aff.data.images import opened, to_image
from gluon_aff.spec import ModelSpec
from gluon_aff.validation import shown

from .loading import find_spec

__all__ = ['Transform', 'get_transform']


class Transform:
    """Makes an image a network's input, (C, H, W) of float32.

    Called on a path, a PIL.Image, or an RGB or grey image (H, W, 3) or (H, W, 1) of uint8, as numpy.ndarray or NDArray;
    ``dataset.transform_first`` of Gluon's data sets takes it, in a DataLoader with any number of workers.

    Without `train` the image is resized and its centre cropped (for segmentation: left whole) and normalised. With it a
    random part is cropped, mirrored, recoloured and normalised, see :mod:`gluon_aff.data.augmentation`; the random
    numbers come from the transform's own generator, or from one that a call gives: ``transform(image, random)``.

    Parameters
    ----------
    spec : gluon_aff.spec.ModelSpec
    train : bool, default False
    seed : int, optional
        Of the generator; by default the operating system's. Each worker process has its own, by `seed` and the name of
        the process. Which worker gets which image is not determined, so only ``num_workers=0`` repeats exactly.

    Raises
    ------
    ValueError
        If `train` is set for segmentation, where the mask must be cropped, too, or for input that is not square; when
        called, for what is no such image or cannot be read.
    """

    def __init__(self, spec: ModelSpec, train: bool = False, *, seed: int | None = None):
        if not isinstance(spec, ModelSpec):
            raise ValueError(f'spec must be a ModelSpec, such as model_info(name).spec, got {shown(spec)}.')
        channels, height, width = spec.input_size
        if train and (spec.task != 'classification' or spec.layout != 'NCHW' or height != width or channels > 3):
            raise ValueError(
                f'train=True crops squares for a classifier of grey or RGB images; {spec.name} is for {spec.task} of '
                f'{channels} x {height} x {width}, {spec.layout}.'
            )
        if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2**32):
            raise ValueError(f'seed must be a whole number from 0 to {2**32 - 1}, got {seed!r}.')
        self.spec, self.train, self.seed = spec, train, seed
        self._random, self._process = None, None

    def __repr__(self):
        return f'Transform({self.spec.name}, {self.spec.input_size}, train={self.train}, seed={self.seed})'

    def __call__(self, image: Any, random: np.random.RandomState | None = None) -> mx.nd.NDArray:
        if isinstance(image, mx.nd.NDArray):
            image = image.asnumpy()
        if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 1:
            image = image.repeat(3, axis=2)
        if not self.train:
            array = self.spec.transform()(image)
        elif isinstance(image, (str, os.PathLike)):
            with opened(os.fspath(image)) as file:
                array = self._augmented(file, random or self._generator())
        else:
            array = self._augmented(to_image(image), random or self._generator())
        return mx.nd.array(array, dtype=array.dtype)

    def _augmented(self, image: Image.Image, random):
        channels, side, _ = self.spec.input_size
        out = np.empty((3, side, side), np.float32)
        write_training(out, random_resized_crop(image, side, random), self.spec.mean, self.spec.std, random)
        return out if channels == 3 else np.tensordot(GREY, out, 1)[None]

    def _generator(self):
        """The generator of this process; a forked worker must not repeat what its parent and its siblings draw."""
        if self._process != os.getpid():
            name = current_process().name
            seed = self.seed if name == 'MainProcess' or self.seed is None else (self.seed, zlib.crc32(name.encode()))
            self._random, self._process = np.random.RandomState(seed), os.getpid()
        return self._random


def get_transform(name: str | ModelSpec, train: bool = False, *, seed: int | None = None) -> Transform:
    """The transform from an image to a network's input.

    Parameters
    ----------
    name : str or gluon_aff.spec.ModelSpec
        A registered name, the folder of a training run or of an export, or a description.
    train : bool, default False
        Crop, mirror and recolour at random, for training.
    seed : int, optional
        With `train`, see :class:`Transform`; global generators are never used.

    Returns
    -------
    Transform
        From a path, a PIL.Image or an array (H, W, 3) of uint8 to an NDArray (C, H, W) of float32.

    Raises
    ------
    ValueError
        For an unknown name, a folder of neither, or as :class:`Transform` does.
    """
    return Transform(name if isinstance(name, ModelSpec) else find_spec(name), train, seed=seed)
