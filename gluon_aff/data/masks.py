"""Batches of photographs and masks, random views to train on and whole images to evaluate on; overlays of masks."""

from __future__ import annotations

import os
from collections import defaultdict
from itertools import chain, count
from typing import Any, Sequence

import numpy as np
from PIL import Image

from .._deprecated import renamed_arguments
from ..errors import positive
from ..text import distinct_names
from .loader import Loader
from .preprocessing import normalise

__all__ = ['IGNORED', 'SegmentationBatches', 'overlay', 'overlay_names', 'random_view']

# The label of pixels that GluonCV's SegmentationMetric and losses ignore.
IGNORED = -1
MAX_NAME = 240  # bytes of a file's name: 255 on most systems, less room for a number
# Of the classes 1, 2, ... in an overlay, cyclically; none is the red of a sign.
COLOURS = ((0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (255, 128, 0), (64, 96, 255))


def random_view(
    image: np.ndarray,
    mask: np.ndarray,
    base_size: int,
    crop_size: int,
    fill: Sequence[float],
    random: np.random.RandomState,
) -> tuple[np.ndarray, np.ndarray]:
    """Scale, mirror and crop an image and its mask at random.

    As in GluonCV, the long side becomes 0.5 to 2 times `base_size`. A smaller image is padded on the right and below
    with the colour `fill` and the label IGNORED.

    Parameters
    ----------
    image, mask : numpy.ndarray, uint8 (H, W, 3) and int (H, W)
    base_size, crop_size : int
        In pixels; the crop is a square.
    fill : three numbers, 0..255
    random : numpy.random.RandomState

    Returns
    -------
    image, mask : numpy.ndarray, uint8 (crop_size, crop_size, 3) and int32 (crop_size, crop_size)
    """
    height, width = mask.shape
    scale = random.randint(base_size // 2, 2 * base_size + 1) / max(height, width)
    tall, wide = (max(1, round(side * scale)) for side in (height, width))
    image = np.asarray(Image.fromarray(image).resize((wide, tall), Image.Resampling.BILINEAR))
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(int) for new, old in ((tall, height), (wide, width)))
    mask = mask[rows[:, None], columns]
    if random.rand() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    top, left = (random.randint(0, max(side - crop_size, 0) + 1) for side in (tall, wide))
    inside = slice(top, top + crop_size), slice(left, left + crop_size)
    image, mask = image[inside], mask[inside]
    view = np.empty((crop_size, crop_size, 3), np.uint8)
    view[:] = np.round(fill)
    view_mask = np.full((crop_size, crop_size), IGNORED, np.int32)
    view[: mask.shape[0], : mask.shape[1]] = image
    view_mask[: mask.shape[0], : mask.shape[1]] = mask
    return view, view_mask


@renamed_arguments(data='source', part='shard')
class SegmentationBatches(Loader):
    """Batches (N, 3, H, W) float32 and (N, H, W) float32 masks of photographs.

    Parameters
    ----------
    source : sequence of (image, mask)
        Such as :class:`gluon_aff.data.coco.CocoSegmentation`: uint8 (H, W, 3) and int (H, W), IGNORED where there is
        no label.
    batch_size : int
        In evaluation it is 1: images keep their own size, as in GluonCV's evaluation.
    mean, std : three floats each
        Of RGB values in 0..1.
    train : bool, default False
        Shuffle, and take a :func:`random_view` of each image, padded with the mean.
    base_size, crop_size : int, default 520, 480
        In training, as in GluonCV's recipes.
    seed, shard
        See :class:`gluon_aff.data.loader.Loader`.

    Raises
    ------
    ValueError
        As :class:`gluon_aff.data.loader.Loader`, if `batch_size` is not 1 in evaluation, there are fewer images to
        evaluate on than processes, or a size is not positive.
    """

    def __init__(
        self,
        source: Any,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        train: bool = False,
        base_size: int = 520,
        crop_size: int = 480,
        seed: int = 0,
        shard: tuple[int, int] = (0, 1),
    ):
        super().__init__(len(source), batch_size, train=train, seed=seed, shard=shard)
        self.source, self.mean, self.std = source, mean, std
        self.base_size, self.crop_size = positive('base_size', base_size), positive('crop_size', crop_size)
        if not train and batch_size != 1:
            raise ValueError(f'batch_size must be 1 in evaluation, as images keep their own size, got {batch_size}.')
        if not train and self.total < self.shard[1]:
            raise ValueError(
                f'The {self.total} images to evaluate on are fewer than the {self.shard[1]} processes; '
                'take fewer processes.'
            )

    def _load(self, indices, number):
        pairs = [self._view(number, index) if self.train else self.source[index] for index in indices]
        images, masks = (np.stack(arrays) for arrays in zip(*pairs))
        return normalise(images, self.mean, self.std), masks.astype(np.float32)

    def _view(self, number, index):
        fill = 255 * np.asarray(self.mean)
        return random_view(*self.source[index], self.base_size, self.crop_size, fill, self._random(number, index))


def overlay(image: Image.Image | np.ndarray, mask: np.ndarray, opacity: float = 0.5) -> Image.Image:
    """Overlay an image with its mask: a colour for each class, none for the background and ignored pixels.

    Parameters
    ----------
    image : PIL.Image or numpy.ndarray
        RGB, (H, W, 3) uint8.
    mask : numpy.ndarray, int (H, W)
        Such as :meth:`model_zoo.loading.LoadedModel.segment` gives.
    opacity : float, default 0.5
        Of the class's colour, 0 to 1.

    Returns
    -------
    PIL.Image

    Raises
    ------
    ValueError
        If mask and image differ in size.
    """
    pixels, mask = np.array(image), np.asarray(mask)
    if pixels.shape != (*mask.shape, 3):
        raise ValueError(
            f'A mask (H, W) and an image (H, W, 3) must have the same size, got {mask.shape} and {pixels.shape}.'
        )
    inside = mask > 0
    colours = np.asarray(COLOURS)[(mask[inside] - 1) % len(COLOURS)]
    pixels[inside] = np.round((1 - opacity) * pixels[inside] + opacity * colours)
    return Image.fromarray(pixels)


def overlay_names(paths: Sequence[str], ending: str) -> dict[str, str]:
    """A unique file name for the overlay of each image.

    It is the image's name without its suffix. If several images share it, the suffix, the folders of
    :func:`gluon_aff.text.distinct_names` or a number are added. It is cut to 240 bytes.

    Parameters
    ----------
    paths : sequence of str
    ending : str
        Of all names, such as '-overlay.png'.

    Returns
    -------
    dict of str: str
        Names by path.
    """
    groups, names, taken = defaultdict(list), {}, set()
    for path in dict.fromkeys(paths):
        groups[os.path.splitext(os.path.basename(path))[0].casefold()].append(path)
    for alike in groups.values():
        stems = [os.path.splitext(os.path.abspath(path))[0] for path in alike]
        same_stem = len({stem.casefold() for stem in stems}) < len(alike)
        for path, name in zip(alike, distinct_names(map(os.path.abspath, alike) if same_stem else stems)):
            name = name.lstrip(os.sep).replace(os.sep, '-')
            while len(os.fsencode(name)) > MAX_NAME - len(ending):
                name = name[:-1]
            numbered = (f'{name}-{number}' for number in count(2))
            name = next(unique for unique in chain([name], numbered) if unique.casefold() not in taken)
            taken.add(name.casefold())
            names[path] = name + ending
    return {path: names[path] for path in dict.fromkeys(paths)}
