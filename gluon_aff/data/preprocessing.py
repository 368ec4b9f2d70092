"""From an RGB image to a network's input: resize, centre crop, normalise."""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np
from PIL import Image

FILTERS = {'bilinear': Image.Resampling.BILINEAR, 'bicubic': Image.Resampling.BICUBIC}
SUPPORT = {Image.Resampling.BILINEAR: 1, Image.Resampling.BICUBIC: 2}  # pixels of the larger scale on either side

__all__ = ['evaluation_array', 'evaluation_crop', 'normalise', 'short_side']


def normalise(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """uint8 images as float32 (N, 3, H, W): scaled to 0..1, minus mean, divided by std; grey becomes RGB.

    Parameters
    ----------
    images : numpy.ndarray, uint8, (N, H, W, 1) or (N, H, W, 3)
    mean, std : three floats each
        Of RGB values in 0..1.
    """
    scale = (1 / (255 * np.asarray(std))).astype(np.float32)[:, None, None]
    shift = (np.asarray(mean) / np.asarray(std)).astype(np.float32)[:, None, None]
    # Transposing floats would take five times as long as bytes.
    values = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) * scale
    values -= shift
    return values


def short_side(size: int, crop_ratio: float) -> int:
    """The pixels that the short side is resized to for a centre crop of `size`: ceil(size / crop_ratio)."""
    # Rounded first, as 21 / 0.7 is a little more than 30.
    return math.ceil(round(size / crop_ratio, 6))


def evaluation_crop(
    image: Image.Image, input_size: Sequence[int], crop_ratio: float = 0.875, interpolation: str = 'bilinear'
) -> np.ndarray:
    """The part of an RGB image that a network sees: its short side resized to ceil(H / crop_ratio), its centre cropped.

    Parameters
    ----------
    image : PIL.Image
    input_size : (C, H, W)
    crop_ratio : float, default 0.875
    interpolation : {'bilinear', 'bicubic'}, default 'bilinear'
        Pillow's filter, which is antialiased.

    Returns
    -------
    numpy.ndarray, uint8, (H, W, 3)
    """
    resample = FILTERS[interpolation]
    _, height, width = input_size
    tall, wide = short_side(height, crop_ratio), short_side(width, crop_ratio)
    if image.width * tall >= image.height * wide:
        size = (image.width * tall // image.height, tall)
    else:
        size = (wide, image.height * wide // image.width)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    box = left, top, left + width, top + height
    if size == image.size:
        return np.asarray(image.crop(box))
    # The crop alone is rounded slightly differently, so it is computed only if the rest would be most of the work. A
    # crop_ratio above 1 gives a black border.
    if min(left, top) < 0 or size[0] * size[1] <= 8 * width * height:
        return np.asarray(image.resize(size, resample).crop(box))
    return np.asarray(_resized(image, size, box, resample))


def _resized(image, size, box, resample):
    """`image.resize(size).crop(box)`, computing nothing but the crop."""
    # Pillow's box has single precision, so it is relative to the small part of the image that crop and filter need.
    starts, ends, within = [], [], []
    for old, new, low, high in zip(image.size, size, box[:2], box[2:]):
        margin = math.ceil(SUPPORT[resample] * max(1, old / new)) + 1
        starts.append(max(low * old // new - margin, 0))
        ends.append(min(-(-high * old // new) + margin, old))
        within.append((low * old / new - starts[-1], high * old / new - starts[-1]))
    (left, right), (top, bottom) = within
    part = image.crop((*starts, *ends))
    return part.resize((box[2] - box[0], box[3] - box[1]), resample, (left, top, right, bottom))


def evaluation_array(
    image: Image.Image,
    input_size: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    crop_ratio: float = 0.875,
) -> np.ndarray:
    """An RGB image as a network's input: :func:`evaluation_crop`, normalised.

    Parameters
    ----------
    image : PIL.Image
    input_size : (C, H, W)
    mean, std : three floats each
        Of RGB values in 0..1.
    crop_ratio : float, default 0.875

    Returns
    -------
    numpy.ndarray, float32, (3, H, W)
    """
    return normalise(evaluation_crop(image, input_size, crop_ratio)[None], mean, std)[0]
