"""RandAugment: a few operations drawn evenly, all at one strength.

Reference: Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space", NeurIPS 2020.
The operations, their ranges and the 30 steps of the strength are those of torchvision's RandAugment; translations are
rounded to the nearest pixel, where it cuts, and Solarize starts above 255, where it inverts 255 at once.
"""

from __future__ import annotations

from .autoaugment import apply

__all__ = ['RandAugment']

OPERATIONS = (
    'Identity',
    'ShearX',
    'ShearY',
    'TranslateX',
    'TranslateY',
    'Rotate',
    'Brightness',
    'Color',
    'Contrast',
    'Sharpness',
    'Posterize',
    'Solarize',
    'AutoContrast',
    'Equalize',
)
ENHANCEMENTS = ('Brightness', 'Color', 'Contrast', 'Sharpness')
STRENGTHS = 30


class RandAugment:
    """Gives an image several operations, drawn evenly, of one strength and random sign.

    Parameters
    ----------
    number : int, default 2
        Of operations for an image.
    strength : int, default 9
        0 to 30; 30 is as far as AutoAugment goes.

    Raises
    ------
    ValueError
        If one is out of its range.
    """

    def __init__(self, number=2, strength=9):
        if not (isinstance(number, int) and 1 <= number <= len(OPERATIONS)):
            raise ValueError(f'number must be a whole number from 1 to {len(OPERATIONS)}, got {number!r}.')
        if not (isinstance(strength, int) and 0 <= strength <= STRENGTHS):
            raise ValueError(f'strength must be a whole number from 0 to {STRENGTHS}, got {strength!r}.')
        self.number, self.strength = number, strength

    def __call__(self, image, random):
        """The image, augmented; it depends on `image` and the state of `random` alone.

        Parameters
        ----------
        image : PIL.Image, RGB
            Of any size; left as it is.
        random : numpy.random.RandomState

        Returns
        -------
        PIL.Image, RGB, of the same size
        """
        level = 9 * self.strength / STRENGTHS
        for chosen, sign in zip(random.randint(len(OPERATIONS), size=self.number), random.choice((1, -1), self.number)):
            operation = OPERATIONS[chosen]
            if operation in ENHANCEMENTS:
                # AutoAugment's levels run from the factor 0.1 to 1.9, and 1 changes nothing.
                image = apply(operation, image, 4.5 + sign * level / 2)
            elif operation != 'Identity':
                image = apply(operation, image, level, int(sign))
        return image
