"""ModelSpec: what prepares a network's input and names its outputs, in one checked description."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Callable

import numpy as np
from PIL import Image

from ._deprecated import renamed, renamed_arguments
from .data.images import to_image
from .data.preprocessing import FILTERS, evaluation_crop, normalise, short_side
from .validation import shown

__all__ = ['ModelSpec']

VERSION = 2  # of model.json; version 1 has `labels` for class_names
TASKS = ('classification', 'segmentation')
LUMA = (19595, 38470, 7471)  # of red, green and blue, by 65536: ITU-R 601-2, as Pillow computes grey
LAYOUTS = {'NCHW': 'float32', 'NHWC': 'uint8'}  # an exported network normalises uint8 images itself
TEXTS = ('name', 'task', 'interpolation', 'layout', 'dtype')
MAX_NAME, MAX_CLASSES, MAX_SIDE, MAX_CHANNELS = 1000, 65_536, 2048, 1024


@renamed_arguments(labels='class_names')
@dataclass(frozen=True, repr=False)
class ModelSpec:
    """What prepares a network's input and names its outputs.

    Attributes
    ----------
    name : str
        Of the network; in :mod:`model_zoo.datasets` of the data set.
    task : {'classification', 'segmentation'}
        Whether an image has a class or each of its pixels.
    class_names : tuple of str
        The name of each output.
    input_size : (C, H, W)
        H and W from min_size to 2048 pixels.
    min_size : int
        The smallest H and W that the network takes.
    mean, std : tuple of float
        Of values in 0..1, one for each channel. One value, or three equal ones, apply to all channels; a network of one
        channel sees grey and takes the first of three.
    crop_ratio : float
        Above 0, up to 1: the short side is resized to ceil(H / crop_ratio), 4096 at most, for a centre crop of (H, W).
    interpolation : {'bilinear', 'bicubic'}, default 'bilinear'
        How images are resized: Pillow's filter, which is antialiased.
    layout : {'NCHW', 'NHWC'}, default 'NCHW'
        NCHW takes normalised float32; NHWC takes uint8 images and normalises them itself.
    dynamic : bool, default True
        Whether the network takes other sizes than input_size.

    Raises
    ------
    ValueError
        If a value has the wrong type, is out of range or is not finite.
    """

    name: str
    task: str
    class_names: tuple[str, ...]
    input_size: tuple[int, int, int]
    min_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_ratio: float
    interpolation: str = 'bilinear'
    layout: str = 'NCHW'
    dynamic: bool = True

    labels = renamed('class_names')

    def __post_init__(self) -> None:
        for field in ('class_names', 'input_size', 'mean', 'std'):
            value = getattr(self, field)
            value = value.tolist() if hasattr(value, 'tolist') else value  # of a numpy array
            object.__setattr__(self, field, tuple(value) if isinstance(value, list) else value)
        self._check('name', _is_text(self.name) and self.name.isprintable(), 'a printable text')
        self._check('task', self.task in TASKS, 'classification or segmentation')
        self._check(
            'class_names',
            _is_tuple(self.class_names, _is_text) and len(self.class_names) <= MAX_CLASSES,
            f'1 to {MAX_CLASSES:,} texts of 1 to {MAX_NAME} characters',
        )
        self._check('min_size', _is_integer(self.min_size, 1, MAX_SIDE), f'a whole number from 1 to {MAX_SIDE}')
        self._check(
            'input_size',
            _is_tuple(self.input_size, lambda side: _is_integer(side, 1, MAX_SIDE))
            and len(self.input_size) == 3
            and self.input_size[0] <= MAX_CHANNELS
            and min(self.input_size[1:]) >= self.min_size,
            f'channels, height and width, the sides at least {self.min_size} (min_size) and at most {MAX_SIDE}',
        )
        self._check_statistics('mean', -1000, 'from -1000')
        self._check_statistics('std', 1e-6, 'from 0.000001')
        self._check(
            'crop_ratio',
            _is_number(self.crop_ratio, 1e-3, 1)
            and max(short_side(side, self.crop_ratio) for side in self.input_size[1:]) <= 2 * MAX_SIDE,
            f'a number above 0 and up to 1, by which the sides of input_size give {2 * MAX_SIDE} at most',
        )
        self._check(
            'interpolation',
            isinstance(self.interpolation, str) and self.interpolation in FILTERS,
            'bilinear or bicubic',
        )
        self._check('layout', isinstance(self.layout, str) and self.layout in LAYOUTS, 'NCHW or NHWC')
        self._check('dynamic', isinstance(self.dynamic, bool), 'true or false')

    def __repr__(self):
        texts = {field.name: repr(getattr(self, field.name)) for field in fields(self)}
        names = self.class_names
        if len(names) > 4:
            texts['class_names'] = f'({names[0]!r}, {names[1]!r}, ..., {names[-1]!r}) [{len(names)}]'
        return f'{type(self).__name__}({", ".join(f"{name}={text}" for name, text in texts.items())})'

    def _check_statistics(self, field, least, lower):
        """One number for each channel."""
        value, channels = getattr(self, field), self.input_size[0]
        right = _is_tuple(value, lambda number: _is_number(number, least, 1000))
        if right and len(value) in (1, 3) and (channels == 1 or len(set(value)) == 1):
            value = value[:1] * channels
            object.__setattr__(self, field, value)
        expected = f'numbers {lower} to 1000, one for each of the {channels} channels'
        self._check(field, right and len(value) == channels, expected)

    def _check(self, field, right, expected):
        if not right:
            raise ValueError(f'{field} must be {expected}, got {shown(getattr(self, field))}.')

    @property
    def dtype(self) -> str:
        """'float32' or 'uint8', the type of the network's input."""
        return LAYOUTS[self.layout]

    @property
    def shape(self) -> tuple:
        """The input's four sides in the order of the layout, with 'N', 'H' and 'W' for those that may change."""
        channels, *sides = self.input_size
        sides = ('H', 'W') if self.dynamic else sides
        return ('N', channels, *sides) if self.layout == 'NCHW' else ('N', *sides, channels)

    def transform(self) -> Callable[[Any], np.ndarray]:
        """The function that makes an image the network's input.

        Returns
        -------
        callable
            Takes a path, a PIL.Image or an RGB array (H, W, 3) of uint8. Gives a numpy array for one image, (C, H, W)
            of float32 or, in layout NHWC, (H, W, C) of uint8: resized and cropped for a classifier, whole for
            segmentation. Raises a ValueError for an image that cannot be read or has another shape or type.
        """

        def apply(image):
            image = to_image(image)
            pixels = self.prepare(image) if self.task == 'classification' else np.asarray(image)
            return self.feed(pixels[None])[0]

        return apply

    def prepare(self, image: Image.Image) -> np.ndarray:
        """What a classifier sees of an RGB image: (H, W, 3) of uint8, resized and cropped in the centre."""
        return evaluation_crop(image, self.input_size, self.crop_ratio, self.interpolation)

    def feed(self, pixels: np.ndarray) -> np.ndarray:
        """RGB images (N, H, W, 3) of uint8 as the network's input, in its layout and type; grey for one channel.

        Raises
        ------
        ValueError
            If the network takes neither one channel nor three.
        """
        channels = self.input_size[0]
        if channels not in (1, 3):
            raise ValueError(f'{self.name} takes {channels} channels, and images have three; use logits().')
        if channels == 1:
            luma = pixels.astype(np.uint32) @ np.array(LUMA, np.uint32)
            pixels = ((luma + (1 << 15)) >> 16).astype(np.uint8)[..., None]
        if self.layout == 'NHWC':
            return pixels
        return normalise(pixels, self.mean, self.std)

    def to_json(self) -> dict:
        """A dict for a JSON file, which :meth:`from_json` reads back as an equal spec."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        del values['dynamic']  # shape says it
        return {'version': VERSION, **values, 'dtype': self.dtype, 'shape': list(self.shape)}

    @classmethod
    def from_json(cls, values: dict, **known: Any) -> ModelSpec:
        """The spec in the content of a JSON file of any version; other keys are ignored.

        Parameters
        ----------
        values : dict
            Without `version` it is of the first.
        **known
            Values that replace the file's.

        Raises
        ------
        ValueError
            If a value is missing, has the wrong type, is out of range, is not finite or contradicts another.
        """
        values = {**current(values), **known}
        version = values.get('version', 1)
        if not _is_integer(version, 1, VERSION):
            raise ValueError(f'version must be 1 to {VERSION}, got {shown(version)}; a newer gluon_aff may read it.')
        missing = [field.name for field in fields(cls) if field.default is MISSING and field.name not in values]
        if missing:
            raise ValueError(f'it lacks {", ".join(missing)}.')
        names = [field.name for field in fields(cls) if field.name in values and field.name != 'dynamic']
        spec = cls(**{name: values[name] for name in names})
        if 'shape' in values and values['shape'] != list(spec.shape):
            spec = replace(spec, dynamic=False)
            if values['shape'] != list(spec.shape):
                raise ValueError(
                    f'shape must be the input_size in the order of the layout, with "N" for the batch and '
                    f'"H", "W" for sides that may change, got {shown(values["shape"])}.'
                )
        if values.get('dtype', spec.dtype) != spec.dtype:
            raise ValueError(f'dtype must be {spec.dtype}, that of the layout, got {shown(values["dtype"])}.')
        return spec

    @classmethod
    def from_metadata(cls, texts: dict[str, str]) -> ModelSpec:
        """The spec in an ONNX file's metadata, {key: text}, where all but strings are written as JSON.

        Raises
        ------
        ValueError
            As :meth:`from_json` does.
        """
        names = {field.name for field in fields(cls)} | {'version', 'labels', 'dtype', 'shape'}
        values = {}
        for key in names & set(texts):
            try:
                values[key] = texts[key] if key in TEXTS else json.loads(texts[key])
            except (ValueError, RecursionError):
                raise ValueError(f'{key} must be JSON, got {shown(texts[key])}.') from None
        return cls.from_json(values)


def current(values: dict) -> dict:
    """The content of a model.json of any version, under today's keys."""
    if 'labels' not in values or 'class_names' in values:
        return values
    return {'class_names' if key == 'labels' else key: value for key, value in values.items()}


def _is_text(value):
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME


def _is_integer(value, least, most):
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value, least, most):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def _is_tuple(value, is_right):
    return isinstance(value, tuple) and len(value) > 0 and all(map(is_right, value))
