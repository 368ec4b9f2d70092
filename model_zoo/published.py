"""What others state of the networks, by name: top-1 error on ImageNet and parameters, none of it measured here."""
from __future__ import annotations

from dataclasses import dataclass

__all__ = ['PUBLISHED', 'Published']


@dataclass(frozen=True)
class Published:
    """Published figures of a network; those of several networks come from recipes that differ.

    Attributes
    ----------
    top1_error : float or None
        On ImageNet's validation images, percent.
    parameters : float or None
        As printed, in millions.
    counted : str
        How they were counted: what makes our count the printed one.
    source : str
        Who states it.
    """

    top1_error: float | None
    parameters: float | None
    counted: str
    source: str


SLIDES = "table in the AFF authors' slides"
BINARY = 'with the classifier, in units of 2^20 (without it, in units of 10^6, the figure is the same by chance)'
ROUNDED = 'with the classifier, rounded'
ROUNDED_UP = 'with the classifier, rounded up'
CUT_OFF = 'with the classifier, cut off'

PUBLISHED = {
    'resnet101': Published(23.2, 42.5, BINARY, f'{SLIDES}, from the ECA-Net paper'),
    'eca_resnet101': Published(21.4, 42.5, BINARY, f'{SLIDES}, from the ECA-Net authors'),
    'aa_resnet101': Published(21.3, 45.4, ROUNDED, f'{SLIDES}, from the AA paper'),
    'se_resnet101': Published(20.9, 49.4, ROUNDED_UP, f'{SLIDES}, from the gather-excite paper'),
    'ge_theta_plus_resnet101': Published(20.7, 58.4, ROUNDED_UP, f'{SLIDES}, from the gather-excite paper'),
    'lip_resnet101': Published(20.7, 42.9, ROUNDED, f'{SLIDES}, from the LIP authors'),
    'sk_resnet50': Published(None, 27.5, ROUNDED, 'SKNet paper'),
    'aff_resnet50': Published(20.28, None, '', "the AFF authors' released log"),
    'iaff_resnet50': Published(20.2, 35.1, CUT_OFF, SLIDES),
    'iaff_resnext50_32x4d': Published(19.8, 34.7, CUT_OFF, SLIDES),
}
