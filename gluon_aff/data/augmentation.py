"""Augmentation of ImageNet's training images: random resized crop, mirroring, colour jitter, PCA lighting.

References: Szegedy et al., Going Deeper with Convolutions, CVPR 2015, section 6, for the crop; Krizhevsky, Sutskever
and Hinton, ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012, section 4.1, for the lighting.
Brightness, contrast and saturation are those of mxnet.image, but values are clipped to 0..255 once, at the end:
mxnet.image does not clip, and the record reader and gluon's transforms round and clip after each change. Gluon's
saturation takes 0.114 times blue alone for grey, by mistake (MXNet 1.9.1).
"""

from __future__ import annotations

from typing import Callable, Iterable, Sequence

import numpy as np
from PIL import Image

from .images import upright
from .orientation import orientation

__all__ = ['crop_box', 'draw_colours', 'random_resized_crop', 'recolour', 'write_training']

AREA, ASPECT, TRIALS = (0.08, 1.0), (3 / 4, 4 / 3), 10
JITTER, LIGHTING = 0.4, 0.1
JPEG = ('JPEG', 'MPO')  # Pillow's formats that can be decoded at a reduced size
GREY = np.array([0.299, 0.587, 0.114], np.float32)
# Of the covariance of ImageNet's RGB values in 0..255, as every implementation has them.
EIGENVALUES = np.array([55.46, 4.794, 1.148])
EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


def crop_box(width: int, height: int, random: np.random.RandomState) -> tuple[int, int, int, int]:
    """Draw a crop of 0.08 to 1 of an image's area and an aspect ratio of 3/4 to 4/3, up to rounding.

    Parameters
    ----------
    width, height : int
        Of the image.
    random : numpy.random.RandomState
        The logarithm of the aspect ratio is uniform. The first of ten draws that fits is taken, else the largest
        central square.

    Returns
    -------
    (left, top, width, height)
        Whole pixels, inside the image.
    """
    area = width * height * random.uniform(*AREA, TRIALS)
    low, high = np.log(ASPECT)
    aspect = np.exp(random.uniform(low, high, TRIALS))
    wide = np.maximum(np.sqrt(area * aspect).round().astype(int), 1)
    tall = np.maximum(np.sqrt(area / aspect).round().astype(int), 1)
    fits = np.flatnonzero((wide <= width) & (tall <= height))
    if len(fits):
        wide, tall = int(wide[fits[0]]), int(tall[fits[0]])
        return random.randint(width - wide + 1), random.randint(height - tall + 1), wide, tall
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side


def random_resized_crop(image: Image.Image, size: int, random: np.random.RandomState) -> Image.Image:
    """A random crop of an image, resized to a square.

    Parameters
    ----------
    image : PIL.Image
        From :func:`gluon_aff.data.images.opened`. A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if the crop then
        still has twice the pixels that it needs, which halves the time.
    size : int
        Side of the square in pixels.
    random : numpy.random.RandomState
        See :func:`crop_box`.

    Returns
    -------
    PIL.Image, RGB, (size, size)
    """
    if image.format not in JPEG:
        # Only then is the size certain: newer versions of Pillow swap that of a TIFF while opening it.
        image = upright(image)
    width, height = image.size[::-1] if orientation(image) >= 5 else image.size
    left, top, wide, tall = crop_box(width, height, random)
    reduction = min(wide, tall) // (2 * size)
    if reduction > 1:
        image.draft(None, (image.width // reduction, image.height // reduction))
    image = upright(image)
    x, y = image.width / width, image.height / height
    return image.resize(
        (size, size), Image.Resampling.BILINEAR, (left * x, top * y, (left + wide) * x, (top + tall) * y)
    )


def draw_colours(random: np.random.RandomState) -> tuple[list, np.ndarray]:
    """Draw the colour jitter and the PCA lighting of an image.

    Returns
    -------
    jitter : list of (name, factor)
        'brightness', 'contrast' and 'saturation' in random order, with factors of 0.6 to 1.4.
    light : numpy.ndarray, (3,)
        To be added to R, G and B in 0..255: the eigenvectors of their covariance, scaled by its eigenvalues and by
        normal numbers of standard deviation 0.1.
    """
    names = np.array(['brightness', 'contrast', 'saturation'])[random.permutation(3)]
    factors = random.uniform(1 - JITTER, 1 + JITTER, 3)
    return list(zip(names, factors)), EIGENVECTORS @ (EIGENVALUES * random.normal(0, LIGHTING, 3))


def recolour(values: np.ndarray, jitter: Iterable, light: Sequence[float] | np.ndarray) -> None:
    """Apply colour jitter and lighting to an image in place, then clip it to 0..255.

    With grey = 0.299 R + 0.587 G + 0.114 B, a change mixes factor times the image with 1 - factor times black
    ('brightness'), its mean grey ('contrast') or each pixel's grey ('saturation').

    Parameters
    ----------
    values : numpy.ndarray, float32, (3, H, W)
        In 0..255.
    jitter : sequence of (name, factor)
        Applied in this order.
    light : three floats
        Added to R, G and B at the end.
    """
    grey = GREY[0] * values[0]
    grey += GREY[1] * values[1]
    grey += GREY[2] * values[2]
    mean = grey.mean()
    # Mixtures of mixtures have the form own * values + shared * grey + constant too, so one pass does them all.
    own, shared, constant = 1.0, 0.0, 0.0
    for name, factor in jitter:
        other = {
            'brightness': (0, 0),
            'contrast': (0, (own + shared) * mean + constant),
            'saturation': (own + shared, constant),
        }[name]
        own = factor * own
        shared = factor * shared + (1 - factor) * other[0]
        constant = factor * constant + (1 - factor) * other[1]
    grey *= shared
    values *= own
    values += grey
    values += (constant + np.asarray(light)).astype(np.float32)[:, None, None]
    np.clip(values, 0, 255, out=values)


def write_training(
    out: np.ndarray,
    image: Image.Image,
    mean: Sequence[float],
    std: Sequence[float],
    random: np.random.RandomState,
    augment: Callable | None = None,
) -> None:
    """Write a cropped image as a network's training input: mirrored at random, recoloured and normalised.

    Parameters
    ----------
    out : numpy.ndarray, float32, (3, H, W)
        Written to.
    image : PIL.Image, RGB, (W, H)
    mean, std : three floats each
        Of RGB values in 0..1.
    random : numpy.random.RandomState
    augment : callable, optional
        (RGB PIL.Image, random) -> PIL.Image, such as :class:`gluon_aff.data.autoaugment.AutoAugment`, in place of
        :func:`draw_colours`.
    """
    step = -1 if random.rand() < 0.5 else 1
    if augment:
        image = augment(image, random)
    out[:] = np.asarray(image).transpose(2, 0, 1)[:, :, ::step]
    if not augment:
        recolour(out, *draw_colours(random))
    out *= (1 / (255 * np.asarray(std))).astype(np.float32)[:, None, None]
    out -= (np.asarray(mean) / np.asarray(std)).astype(np.float32)[:, None, None]
