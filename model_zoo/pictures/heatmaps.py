"""Grad-CAM as rows of pictures, one for each network, as in the AFF paper's figures.

Reference: Dai et al., "Attentional Feature Fusion", WACV 2021, figures with Grad-CAM.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Sequence

import cv2
import mxnet as mx
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap

from gluon_aff._deprecated import deprecated_names
from gluon_aff.deploy.graph import device
from gluon_aff.errors import unknown
from gluon_aff.inspect.grad_cam import fusion_weights, grad_cam
from gluon_aff.style import COLOURS
from gluon_aff.text import printable

from ..loading import LoadedModel, load_model, load_or_initialize

__all__ = ['Panel', 'Row', 'Scale', 'check_class_names', 'enlarged', 'image_row', 'network_rows', 'open_model']

PANEL = 224  # pixels of a panel's longer side; smaller images are enlarged before a map is laid over them
BATCH = 8  # images that go through a network at once
BLUE_TO_ORANGE = LinearSegmentedColormap.from_list(
    'blue_to_orange', ('#00395a', COLOURS[0], '#f5f5f5', COLOURS[1], '#6b2f00')
)
# Half the widths of the colour scales of M, the smallest of which that fits is taken.
HALF_RANGES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Panel:
    """A picture, uint8 (H, W, 3), with its caption; `starred` if the predicted class is not the one asked for."""

    picture: np.ndarray
    caption: str
    starred: bool = False


@dataclass(frozen=True)
class Scale:
    """The colours of values from `low` to `high`, and what the values mean."""

    colormap: Colormap
    low: float
    high: float
    meaning: str


@dataclass(frozen=True)
class Row:
    """A title, a panel for each image, and the colour scale of the panels, if they have one."""

    title: str
    panels: list[Panel]
    scale: Scale | None = None


EVIDENCE = Scale(colormaps['turbo'], 0, 1, 'evidence for the class\n(1: most in the image)')


def open_model(name: str, ctx: mx.Context | None = None) -> tuple[LoadedModel, bool]:
    """Load a network by name on `ctx`; the second value says whether its parameters are random.

    Parameters
    ----------
    name : str
        A registered name, NAME=FILE (a parameter file, or the tag of a released one), or a training run's folder.
    ctx : mxnet.Context, default mxnet.cpu()

    Raises
    ------
    ValueError, FileNotFoundError, DownloadError
        As :func:`model_zoo.loading.load_model`.
    """
    if os.path.isdir(name):
        return load_model(name, ctx=ctx), False
    name, _, weights = name.partition('=')
    return load_or_initialize(name, weights or None, ctx=ctx)


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """An image, uint8 (H, W, 3), its pixels repeated if its longer side is below PANEL."""
    scale = max(1, PANEL / max(pixels.shape))
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)


def image_row(crops: Sequence[np.ndarray], captions: Sequence[str]) -> Row:
    """The row of the images themselves: `crops`, (H, W, 3) of uint8, and their `captions`."""
    return Row('image', [Panel(enlarged(pixels), caption) for pixels, caption in zip(crops, captions)])


def network_rows(
    model: LoadedModel,
    crops: Sequence[np.ndarray],
    *,
    title: str,
    truths: Sequence[str] | None = None,
    method: str = 'grad_cam',
    with_fusion: bool = False,
) -> list[Row]:
    """Grad-CAM of the class that a network predicts, for each image.

    Parameters
    ----------
    model : LoadedModel
        For a segmentation network the class is the one that :func:`gluon_aff.inspect.grad_cam.grad_cam` chooses.
    crops : sequence of numpy.ndarray, uint8 (H, W, 3)
        From `model.spec.prepare`.
    title : str
        Of the row.
    truths : sequence of str, optional
        The class of each image; a caption is starred where the network predicts another.
    method : str, default 'grad_cam'
        One of :data:`gluon_aff.inspect.grad_cam.METHODS`.
    with_fusion : bool, default False
        Add a row for each stage with fusion by attention: M, orange above 1/2, where the first input counts more, blue
        below, its mean in the caption. The scale of a row is as wide as its values need, around 1/2.

    Returns
    -------
    list of Row
    """
    ctx, spec = device(model.net), model.spec
    pictures = [enlarged(pixels) for pixels in crops]
    explained, fused = [], {}
    for start in range(0, len(crops), BATCH):
        data = mx.nd.array(spec.feed(np.stack(crops[start : start + BATCH])), ctx=ctx)
        for number, (evidence, class_number, output) in enumerate(
            zip(*grad_cam(model.net, data, method=method)), start
        ):
            name, score, is_right = _prediction(spec, output, class_number, truths[number] if truths else None)
            heat = _overlay(pictures[number], evidence, EVIDENCE, 0.65)
            explained.append(Panel(heat, f'{printable(name)}\n{score}', not is_right))
        for stage, weights in (fusion_weights(model.net, data) if with_fusion else {}).items():
            fused.setdefault(stage, []).extend(weights)
    fusion_rows = [_fusion_row(f'{title}, M of {stage}', pictures, weights) for stage, weights in fused.items()]
    return [Row(title, explained, EVIDENCE), *fusion_rows]


def _fusion_row(title, pictures, weights):
    """The row of a stage, from M (H, W) of each image."""
    reach = max(np.abs(m - 0.5).max() for m in weights)
    half = next(half for half in HALF_RANGES if half >= reach - 1e-6)
    scale = Scale(BLUE_TO_ORANGE, 0.5 - half, 0.5 + half, 'M, the weight of\nthe first input')
    panels = [Panel(_overlay(picture, m, scale, 0.75), f'mean {m.mean():.2f}') for picture, m in zip(pictures, weights)]
    return Row(title, panels, scale)


def check_class_names(truths: Sequence[str], models: Sequence[LoadedModel]) -> None:
    """Raise a ValueError if one of the `truths` is not a class of any of the `models`."""
    known = {synonym for model in models for name in model.spec.class_names for synonym in _synonyms(name)}
    for truth in truths:
        if truth.lower() not in known:
            raise unknown('class', truth, known)


def _synonyms(name):
    """A class's name and, as in ImageNet's, its synonyms between commas; lower case."""
    return {name.lower(), *(synonym.strip() for synonym in name.lower().split(','))}


def _prediction(spec, output, number, truth):
    """(class name, score in words, whether it is the truth) of a network's output for an image."""
    name = spec.class_names[number]
    is_right = truth is None or truth.lower() in _synonyms(name)
    if output.ndim == 3:
        share = (output.argmax(0) == number).mean()
        return name, f'{share:.1%} of the pixels', is_right and (truth is None or share > 0)
    odds = np.exp(output - output.max())
    return name, f'{odds[number] / odds.sum():.2f}', is_right


def _overlay(picture, values, scale, alpha):
    """A map (H, W) in the colours of its scale, over the picture in faint grey, which hardly changes them."""
    grey = np.uint8(picture.mean(2, keepdims=True).repeat(3, 2) / 2 + 64)
    large = cv2.resize(values, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    colours = scale.colormap((large - scale.low) / (scale.high - scale.low), bytes=True)[..., :3]
    return cv2.addWeighted(grey, 1 - alpha, np.ascontiguousarray(colours), alpha, 0)


__getattr__ = deprecated_names(__name__)
