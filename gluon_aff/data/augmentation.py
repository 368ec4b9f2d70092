"""The random changes of ImageNet's training images: crop, mirror, colours.

Reference: the crop is that of Szegedy et al., Going Deeper with Convolutions, CVPR 2015, section 6; the light is
Krizhevsky, Sutskever and Hinton's, ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012, section
4.1. Brightness, contrast and saturation are those of mxnet.image, but for values beyond 0..255: it leaves them, the
record reader and gluon's transforms round each change to 0..255, and here they are cut once, at the end. Gluon's
saturation takes 0.114 of blue for grey, by mistake (MXNet 1.9.1).
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from .images import upright
from .orientation import orientation

__all__ = ['crop_box', 'draw_colours', 'random_resized_crop', 'recolour', 'write_training']

AREA, ASPECT, TRIALS = (0.08, 1.0), (3 / 4, 4 / 3), 10
JITTER, LIGHTING = 0.4, 0.1
JPEG = ('JPEG', 'MPO')
GREY = np.array([0.299, 0.587, 0.114], np.float32)
# Of the covariance of ImageNet's RGB values in 0..255: AlexNet's, in the figures that every implementation has.
EIGENVALUES = np.array([55.46, 4.794, 1.148])
EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


def crop_box(width, height, random):
    """A random part of an image: 0.08 to 1 of its area, and as wide as 3/4 to 4/3 of its height, up to rounding.

    Parameters
    ----------
    width, height : int
        Of the image.
    random : numpy.random.RandomState
        The aspect is drawn evenly in its logarithm. The first of ten draws that fits is taken, or the largest square in
        the middle.

    Returns
    -------
    (left, top, width, height)
        Whole pixels, inside of the image.
    """
    area = width * height * random.uniform(*AREA, TRIALS)
    aspect = np.exp(random.uniform(*np.log(ASPECT), TRIALS))
    wide = np.maximum(np.sqrt(area * aspect).round().astype(int), 1)
    tall = np.maximum(np.sqrt(area / aspect).round().astype(int), 1)
    fits = np.flatnonzero((wide <= width) & (tall <= height))
    if len(fits):
        wide, tall = int(wide[fits[0]]), int(tall[fits[0]])
        return random.randint(width - wide + 1), random.randint(height - tall + 1), wide, tall
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side


def random_resized_crop(image, size, random):
    """A random part of an image, resized to a square.

    Parameters
    ----------
    image : PIL.Image
        As :func:`gluon_aff.data.images.opened` gives it. A JPEG is decoded to 1/2, 1/4 or 1/8 where the crop still has
        twice the pixels that it needs, which takes half of the time.
    size : int
        Pixels of the square's side.
    random : numpy.random.RandomState
        See :func:`crop_box`.

    Returns
    -------
    PIL.Image, RGB, (size, size)
    """
    if image.format not in JPEG:
        # Its size is certain only then: newer versions of Pillow turn that of a TIFF beforehand.
        image = upright(image)
    width, height = image.size[::-1] if orientation(image) >= 5 else image.size
    left, top, wide, tall = crop_box(width, height, random)
    reduction = min(wide, tall) // (2 * size)
    if reduction > 1:
        image.draft(None, (image.width // reduction, image.height // reduction))
    image = upright(image)
    x, y = image.width / width, image.height / height
    return image.resize((size, size), Image.BILINEAR, (left * x, top * y, (left + wide) * x, (top + tall) * y))


def draw_colours(random):
    """Brightness, contrast and saturation in random order, each with a factor of 0.6 to 1.4, and the light.

    Parameters
    ----------
    random : numpy.random.RandomState

    Returns
    -------
    jitter : list of (name, factor)
    light : numpy.ndarray, (3,)
        What to add to R, G and B in 0..255: the eigenvectors of their covariance, by its eigenvalues and by normal
        numbers of standard deviation 0.1.
    """
    names = np.array(['brightness', 'contrast', 'saturation'])[random.permutation(3)]
    factors = random.uniform(1 - JITTER, 1 + JITTER, 3)
    return list(zip(names, factors)), EIGENVECTORS @ (EIGENVALUES * random.normal(0, LIGHTING, 3))


def recolour(values, jitter, light):
    """Change the colours of an image in place, in one way after another; values are cut to 0..255 after the last.

    With grey = 0.299 R + 0.587 G + 0.114 B, each makes a mixture of the image, by its factor, and of black
    ('brightness'), of its mean grey ('contrast'), of each pixel's grey ('saturation'), by 1 - factor.

    Parameters
    ----------
    values : numpy.ndarray, float32, (3, H, W)
        In 0..255.
    jitter : sequence of (name, factor)
    light : three floats
        Added in the end, to R, G and B.
    """
    grey = GREY[0] * values[0]
    grey += GREY[1] * values[1]
    grey += GREY[2] * values[2]
    mean = grey.mean()
    # A mixture of mixtures is own * values + shared * grey + constant again: one pass does for all of them.
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


def write_training(out, image, mean, std, random, augment=None):
    """Write an image as a network's input in training: mirrored or not, its colours changed, normalised.

    Parameters
    ----------
    out : numpy.ndarray, float32, (3, H, W)
        Where it goes.
    image : PIL.Image, RGB, (W, H)
    mean, std : three floats each
        Of RGB values in 0..1.
    random : numpy.random.RandomState
    augment : callable, optional
        (RGB PIL.Image, random) -> another, such as :class:`gluon_aff.data.autoaugment.AutoAugment`. It takes the place
        of :func:`draw_colours`.
    """
    step = -1 if random.rand() < 0.5 else 1
    if augment:
        image = augment(image, random)
    out[:] = np.asarray(image).transpose(2, 0, 1)[:, :, ::step]
    if not augment:
        recolour(out, *draw_colours(random))
    out *= (1 / (255 * np.asarray(std))).astype(np.float32)[:, None, None]
    out -= (np.asarray(mean) / np.asarray(std)).astype(np.float32)[:, None, None]
