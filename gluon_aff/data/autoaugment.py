"""AutoAugment: every image gets one of 25 pairs of operations, which were found by search.

Reference: Cubuk, Zoph, Mané, Vasudevan and Le, AutoAugment: Learning Augmentation Strategies from Data, CVPR 2019,
arXiv 1805.09501. The policies for CIFAR-10 and ImageNet, and the ranges of the magnitudes, are those of the tables in
its appendix; a level of 0 to 9 stands for ten evenly spaced values of the range.

Public implementations differ, from each other and from the paper:

- Policies: torchvision, Kornia, timm (ImageNet alone) and DeepVoltaire/AutoAugment have these rows, the first two
  without the levels that do nothing. Early copies of DeepVoltaire's lack the last ImageNet row and have Equalize with
  0.8, for 0.6, in CIFAR-10's (Equalize 0.2, Equalize 0.6); fast-autoaugment has Color at level 6, for 8, in its
  (Brightness 0.9, Color 0.2). The authors' own code has 95 sub-policies for CIFAR, and its later 'v0' for ImageNet is
  another policy. ImageNet's rows 20 to 24 repeat 4, 1, 13, 14 and 2, so those five are drawn twice as often.
- Levels: the authors' code and timm divide by 10; here, as in torchvision, level 9 is the end of the range.
- Translation: the authors' CIFAR code moves by a pixel a level; here, as in torchvision, the paper's 150 pixels are
  taken for a fraction of the 331 of its ImageNet pictures, but rounded, where torchvision rounds down.
- Color, Contrast, Brightness, Sharpness: the factor is 0.1 + 0.2 * level as in the authors' code and timm, so level 0
  loses most. Torchvision and DeepVoltaire take 1 - 0.1 * level or 1 + 0.1 * level at random, in which the policies'
  (Color, 0) does nothing.
- Posterize: 8 down to 4 bits, as in torchvision; the authors' code goes from 4 down to 1, timm from 4 up to 7.
- Solarize: from 256 down, so level 0 changes nothing; torchvision starts at 255, and timm goes up from 0.
- Resampling and what lies outside: nearest and grey (128, 128, 128); the authors' code fills with the data's mean,
  torchvision with black, and DeepVoltaire shears bicubically.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from ..errors import unknown

__all__ = ['AutoAugment', 'OPERATIONS', 'POLICIES', 'apply']

FILL = (128, 128, 128)
LAST_LEVEL = 9

# Levels of operations that have no magnitude are kept as printed; they do nothing.
POLICIES = {
    'cifar10': (
        (('Invert', 0.1, 7), ('Contrast', 0.2, 6)),
        (('Rotate', 0.7, 2), ('TranslateX', 0.3, 9)),
        (('Sharpness', 0.8, 1), ('Sharpness', 0.9, 3)),
        (('ShearY', 0.5, 8), ('TranslateY', 0.7, 9)),
        (('AutoContrast', 0.5, 8), ('Equalize', 0.9, 2)),
        (('ShearY', 0.2, 7), ('Posterize', 0.3, 7)),
        (('Color', 0.4, 3), ('Brightness', 0.6, 7)),
        (('Sharpness', 0.3, 9), ('Brightness', 0.7, 9)),
        (('Equalize', 0.6, 5), ('Equalize', 0.5, 1)),
        (('Contrast', 0.6, 7), ('Sharpness', 0.6, 5)),
        (('Color', 0.7, 7), ('TranslateX', 0.5, 8)),
        (('Equalize', 0.3, 7), ('AutoContrast', 0.4, 8)),
        (('TranslateY', 0.4, 3), ('Sharpness', 0.2, 6)),
        (('Brightness', 0.9, 6), ('Color', 0.2, 8)),
        (('Solarize', 0.5, 2), ('Invert', 0.0, 3)),
        (('Equalize', 0.2, 0), ('AutoContrast', 0.6, 0)),
        (('Equalize', 0.2, 8), ('Equalize', 0.6, 4)),
        (('Color', 0.9, 9), ('Equalize', 0.6, 6)),
        (('AutoContrast', 0.8, 4), ('Solarize', 0.2, 8)),
        (('Brightness', 0.1, 3), ('Color', 0.7, 0)),
        (('Solarize', 0.4, 5), ('AutoContrast', 0.9, 3)),
        (('TranslateY', 0.9, 9), ('TranslateY', 0.7, 9)),
        (('AutoContrast', 0.9, 2), ('Solarize', 0.8, 3)),
        (('Equalize', 0.8, 8), ('Invert', 0.1, 3)),
        (('TranslateY', 0.7, 9), ('AutoContrast', 0.9, 1)),
    ),
    'imagenet': (
        (('Posterize', 0.4, 8), ('Rotate', 0.6, 9)),
        (('Solarize', 0.6, 5), ('AutoContrast', 0.6, 5)),
        (('Equalize', 0.8, 8), ('Equalize', 0.6, 3)),
        (('Posterize', 0.6, 7), ('Posterize', 0.6, 6)),
        (('Equalize', 0.4, 7), ('Solarize', 0.2, 4)),
        (('Equalize', 0.4, 4), ('Rotate', 0.8, 8)),
        (('Solarize', 0.6, 3), ('Equalize', 0.6, 7)),
        (('Posterize', 0.8, 5), ('Equalize', 1.0, 2)),
        (('Rotate', 0.2, 3), ('Solarize', 0.6, 8)),
        (('Equalize', 0.6, 8), ('Posterize', 0.4, 6)),
        (('Rotate', 0.8, 8), ('Color', 0.4, 0)),
        (('Rotate', 0.4, 9), ('Equalize', 0.6, 2)),
        (('Equalize', 0.0, 7), ('Equalize', 0.8, 8)),
        (('Invert', 0.6, 4), ('Equalize', 1.0, 8)),
        (('Color', 0.6, 4), ('Contrast', 1.0, 8)),
        (('Rotate', 0.8, 8), ('Color', 1.0, 2)),
        (('Color', 0.8, 8), ('Solarize', 0.8, 7)),
        (('Sharpness', 0.4, 7), ('Invert', 0.6, 8)),
        (('ShearX', 0.6, 5), ('Equalize', 1.0, 9)),
        (('Color', 0.4, 0), ('Equalize', 0.6, 3)),
        (('Equalize', 0.4, 7), ('Solarize', 0.2, 4)),
        (('Solarize', 0.6, 5), ('AutoContrast', 0.6, 5)),
        (('Invert', 0.6, 4), ('Equalize', 1.0, 8)),
        (('Color', 0.6, 4), ('Contrast', 1.0, 8)),
        (('Equalize', 0.8, 8), ('Equalize', 0.6, 3)),
    ),
}


def _affine(image, *coefficients):
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.NEAREST, fillcolor=FILL)


# Of each operation: the magnitudes at level 0 and 9, or None, and the function. The coefficients map an output pixel to
# its input pixel, hence the minus signs.
_OPERATIONS = {
    'ShearX': ((0, 0.3), lambda image, value: _affine(image, 1, -value, 0, 0, 1, 0)),
    'ShearY': ((0, 0.3), lambda image, value: _affine(image, 1, 0, 0, -value, 1, 0)),
    'TranslateX': ((0, 150 / 331), lambda image, value: _affine(image, 1, 0, -round(value * image.width), 0, 1, 0)),
    'TranslateY': ((0, 150 / 331), lambda image, value: _affine(image, 1, 0, 0, 0, 1, -round(value * image.height))),
    'Rotate': ((0, 30), lambda image, value: image.rotate(value, Image.Resampling.NEAREST, fillcolor=FILL)),
    'AutoContrast': (None, lambda image, value: ImageOps.autocontrast(image)),
    'Invert': (None, lambda image, value: ImageOps.invert(image)),
    'Equalize': (None, lambda image, value: ImageOps.equalize(image)),
    'Solarize': ((256, 0), lambda image, value: ImageOps.solarize(image, value)),
    'Posterize': ((8, 4), lambda image, value: ImageOps.posterize(image, round(value))),
    'Contrast': ((0.1, 1.9), lambda image, value: ImageEnhance.Contrast(image).enhance(value)),
    'Color': ((0.1, 1.9), lambda image, value: ImageEnhance.Color(image).enhance(value)),
    'Brightness': ((0.1, 1.9), lambda image, value: ImageEnhance.Brightness(image).enhance(value)),
    'Sharpness': ((0.1, 1.9), lambda image, value: ImageEnhance.Sharpness(image).enhance(value)),
}
_SIGNED = ('ShearX', 'ShearY', 'TranslateX', 'TranslateY', 'Rotate')
OPERATIONS = tuple(_OPERATIONS)


def apply(operation: str, image: Image.Image, level: float, sign: int = 1) -> Image.Image:
    """An image after one operation, of the same size; geometric ones take the nearest pixel and fill with grey.

    Parameters
    ----------
    operation : str
        One of `OPERATIONS`, the paper's names.
    image : PIL.Image, RGB
        Not modified.
    level : float
        0 to 9, for evenly spaced magnitudes: shear 0 to 0.3, translation 0 to 150 / 331 of the side, rotation 0 to 30
        degrees, Solarize's threshold 256 to 0, Posterize's bits 8 to 4, and factors of 0.1 to 1.9 for Contrast, Color,
        Brightness and Sharpness. AutoContrast, Invert and Equalize ignore it.
    sign : 1 or -1, default 1
        Direction of the geometric operations: 1 moves right (lower rows, in ShearX), down (columns to the right, in
        ShearY) or turns counter-clockwise.

    Returns
    -------
    PIL.Image, RGB

    Raises
    ------
    ValueError
        If the operation is unknown, or `level` or `sign` out of range.
    """
    if operation not in _OPERATIONS:
        raise unknown('operation', operation, OPERATIONS)
    if not 0 <= level <= LAST_LEVEL or sign not in (1, -1):
        raise ValueError(f'level must be 0 to {LAST_LEVEL} and sign 1 or -1, got {level!r} and {sign!r}.')
    ends, change = _OPERATIONS[operation]
    low, high = ends or (0, 0)
    value = low + (high - low) * level / LAST_LEVEL
    return change(image, sign * value if operation in _SIGNED else value)


class AutoAugment:
    """Applies one of the 25 pairs of operations of a policy, each operation with its own probability.

    Parameters
    ----------
    policy : 'cifar10' or 'imagenet'
        Data set that the policy was found on.

    Raises
    ------
    ValueError
        If the policy is unknown.
    """

    def __init__(self, policy: str):
        if policy not in POLICIES:
            raise unknown('AutoAugment policy', policy, POLICIES)
        self.policy = policy

    def __call__(self, image: Image.Image, random: np.random.RandomState) -> Image.Image:
        """An augmented image, decided by `image` and the state of `random` alone.

        Parameters
        ----------
        image : PIL.Image, RGB
            Of any size. Not modified, and returned itself if no operation is applied.
        random : numpy.random.RandomState
            Advances by the same amount whether or not an operation is applied.

        Returns
        -------
        PIL.Image, RGB, of the same size

        Raises
        ------
        ValueError
            If the image is not RGB.
        """
        if image.mode != 'RGB':
            raise ValueError(f'AutoAugment takes RGB images, got mode {image.mode}.')
        pairs = POLICIES[self.policy]
        pair = pairs[random.randint(len(pairs))]
        for (operation, probability, level), chance, side in zip(pair, random.rand(2), random.rand(2)):
            if chance < probability:
                image = apply(operation, image, level, 1 if side < 0.5 else -1)
        return image
