"""Batches of photographs and masks: one random view of each to train on, or whole ones to evaluate on; overlays."""

from __future__ import annotations

import os
from collections import defaultdict

import numpy as np
from PIL import Image

from ..errors import positive
from .images import normalise
from .sharding import batches_of, number_of_batches

__all__ = ['IGNORED', 'SegmentationBatches', 'overlay', 'overlay_names', 'random_view']

# The label of pixels that GluonCV's SegmentationMetric and losses leave out.
IGNORED = -1
MAX_NAME = 240  # bytes of a file's name, most systems' 255 less room for a number
# Of the classes 1, 2, ... in an overlay, in turn; none is a sign's red.
COLOURS = ((0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (255, 128, 0), (64, 96, 255))


def random_view(image, mask, base_size, crop_size, fill, random):
    """A random part of an image and of its mask: scaled, mirrored in half of the cases, cropped.

    As in GluonCV, the long side becomes 0.5 to 2 times `base_size`. What a small image leaves of the crop, on the right
    and below, has the colour `fill` and the label IGNORED.

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
    image = np.asarray(Image.fromarray(image).resize((wide, tall), Image.BILINEAR))
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(int) for new, old in ((tall, height), (wide, width)))
    mask = mask[rows[:, None], columns]
    if random.rand() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    top, left = (random.randint(0, max(side - crop_size, 0) + 1) for side in (tall, wide))
    inside = slice(top, top + crop_size), slice(left, left + crop_size)
    image, mask = image[inside], mask[inside]
    view = np.empty((crop_size, crop_size, 3), np.uint8)
    view[:] = np.round(fill)
    labels = np.full((crop_size, crop_size), IGNORED, np.int32)
    view[: mask.shape[0], : mask.shape[1]] = image
    labels[: mask.shape[0], : mask.shape[1]] = mask
    return view, labels


class SegmentationBatches:
    """Batches (N, 3, H, W) float32 and (N, H, W) float32 masks, as numpy arrays.

    What an epoch gives depends on seed, epoch and the images alone; several workers share it out.

    Parameters
    ----------
    data : sequence of (image, mask)
        Such as :class:`gluon_aff.data.coco.CocoSegmentation`: uint8 (H, W, 3) and int (H, W), IGNORED where there is
        no label.
    batch_size : int
        Of each worker. In evaluation it is 1: images come whole, at their own size, as in GluonCV's evaluation.
    mean, std : three floats each
        Of RGB values in 0..1.
    train : bool, default False
        Shuffle, take a :func:`random_view` of each image, padded with the mean, and leave out the last images that do
        not make a batch for all workers.
    base_size, crop_size : int, default 520, 480
        In training; as in GluonCV's recipes.
    seed : int, default 0
    part : (int, int), default (0, 1)
        Number of this worker, from 0, and of all. In training all workers' batches make up one, in order; in
        evaluation a worker takes every so-manieth image.

    Raises
    ------
    ValueError
        If there are fewer images than a training batch of all workers has, it has one image for a worker (the global
        context's normalisation then gives a constant), there are fewer images to evaluate on than workers, or another
        number is out of its range.
    """

    def __init__(self, data, batch_size, mean, std, train=False, base_size=520, crop_size=480, seed=0, part=(0, 1)):
        self.data, self.mean, self.std, self.train = data, mean, std, train
        self.batch_size, self.seed, self.part = positive('batch_size', batch_size), seed, tuple(part)
        self.base_size, self.crop_size = positive('base_size', base_size), positive('crop_size', crop_size)
        rank, size = self.part
        if not 0 <= rank < size:
            raise ValueError(f'part must be (worker, workers) with workers counted from 0, got {part!r}.')
        if train and not 2 <= batch_size <= len(data) // size:
            raise ValueError(
                f'batch_size must be 2 to {len(data) // size}, the number of training images for each of '
                f'{size} workers, got {batch_size}.'
            )
        if not train and batch_size != 1:
            raise ValueError(
                f'batch_size must be 1 in evaluation, which takes images as large as they are, got {batch_size}.'
            )
        if not train and len(data) < size:
            raise ValueError(
                f'The {len(data)} images to evaluate on are fewer than the {size} workers; take fewer workers.'
            )

    def __len__(self):
        return number_of_batches(len(self.data), self.batch_size, self.part, self.train)

    def epoch(self, number=0, start=0):
        """Iterate over the batches of an epoch, from the batch `start` on."""
        order = np.arange(len(self.data))
        if self.train:
            order = np.random.RandomState([self.seed, number]).permutation(order)
        for chosen in batches_of(order, self.batch_size, self.part, self.train)[start:]:
            yield self._batch([self._view(number, index) if self.train else self.data[index] for index in chosen])

    def _view(self, number, index):
        # A generator for each image, so that neither the batch size nor the worker matters.
        return random_view(
            *self.data[index],
            self.base_size,
            self.crop_size,
            255 * np.asarray(self.mean),
            np.random.RandomState([self.seed, number, index]),
        )

    def _batch(self, pairs):
        images, masks = (np.stack(arrays) for arrays in zip(*pairs))
        return normalise(images, self.mean, self.std), masks.astype(np.float32)


def overlay(image, mask, opacity=0.5):
    """A photograph overlaid with its mask: a colour for each class, none for the background and ignored pixels.

    Parameters
    ----------
    image : PIL.Image or numpy.ndarray
        RGB, (H, W, 3) uint8.
    mask : numpy.ndarray, int (H, W)
        Such as :meth:`model_zoo.loading.LoadedModel.segment` gives.
    opacity : float, default 0.5
        Share of the class's colour, 0 to 1.

    Returns
    -------
    PIL.Image

    Raises
    ------
    ValueError
        If the mask has another size than the image.
    """
    pixels, mask = np.array(image), np.asarray(mask)
    if pixels.shape != (*mask.shape, 3):
        raise ValueError(
            f'A mask (H, W) and an image (H, W, 3) must have one size, got {mask.shape} and {pixels.shape}.'
        )
    inside = mask > 0
    colours = np.asarray(COLOURS)[(mask[inside] - 1) % len(COLOURS)]
    pixels[inside] = np.round((1 - opacity) * pixels[inside] + opacity * colours)
    return Image.fromarray(pixels)


def overlay_names(paths, ending):
    """A file name for the overlay of each image, no two alike, whatever their folders.

    It is the image's own name without its suffix; where several images have the same one, with the suffix or the names
    of the folders in which they differ; and, if that is not enough, with a number. It is cut to 240 bytes.

    Parameters
    ----------
    paths : sequence of str
    ending : str
        What all names end in, such as '-overlay.png'.

    Returns
    -------
    dict of str to str
        Names by path.
    """
    groups, names, taken = defaultdict(list), {}, set()
    for path in dict.fromkeys(paths):
        groups[os.path.splitext(os.path.basename(path))[0].casefold()].append(path)
    for alike in groups.values():
        top = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in alike])
        inside = [os.path.relpath(path, top).replace(os.sep, '-') for path in alike]
        whole = [os.path.basename(path) for path in alike]
        for form in (
            [os.path.splitext(name)[0] for name in whole],
            whole,
            [os.path.splitext(name)[0] for name in inside],
            inside,
        ):
            if len({name.casefold() for name in form}) == len(alike):
                break
        for path, name in zip(alike, form):
            while len(os.fsencode(name)) > MAX_NAME - len(ending):
                name = name[:-1]
            name = next(
                each
                for each in (name, *(f'{name}-{number}' for number in range(2, len(paths) + 2)))
                if each.casefold() not in taken
            )
            taken.add(name.casefold())
            names[path] = name + ending
    return {path: names[path] for path in dict.fromkeys(paths)}
