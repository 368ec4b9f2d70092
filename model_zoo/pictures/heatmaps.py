"""Where networks look, as rows of pictures: the AFF paper's figures have one for each network.

Reference: Dai et al., "Attentional Feature Fusion", WACV 2021, figures with Grad-CAM.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import cv2
import mxnet as mx
import numpy as np

from gluon_aff.data.images import evaluation_crop
from gluon_aff.deploy.graph import device
from gluon_aff.errors import unknown
from gluon_aff.inspect.grad_cam import fusion_weights, grad_cam
from gluon_aff.spec import ModelSpec
from gluon_aff.text import printable

from ..loading import open_or_random, open_trained

__all__ = ['Panel', 'Row', 'crop', 'enlarged', 'look', 'open_model']

PANEL = 224  # pixels of a panel's longer side; smaller images are enlarged before a map is laid over them
BATCH = 8  # images that go through a network at once


@dataclass(frozen=True)
class Panel:
    """A picture, uint8 (H, W, 3), with its caption; `starred` where the network names another class than asked for."""

    picture: np.ndarray
    caption: str
    starred: bool = False


@dataclass(frozen=True)
class Row:
    """A title and a panel for each image."""

    title: str
    panels: list


def open_model(name, ctx=None):
    """A network by name, with its parameters where there are any.

    Parameters
    ----------
    name : str
        A registered name, NAME=FILE (a parameter file, or the tag of a released one), or a training run's folder.
    ctx : mxnet.Context, default mxnet.cpu()

    Returns
    -------
    Trained, bool
        And whether its parameters are random, because none are released and none are given.

    Raises
    ------
    ValueError, FileNotFoundError, DownloadError
        As :func:`model_zoo.loading.open_trained`.
    """
    if os.path.isdir(name):
        return open_trained(name, None, ctx), False
    name, _, weights = name.partition('=')
    return open_or_random(name, weights or None, ctx)


def crop(model, image):
    """What a network sees of a photograph: the centre of the resized image.

    Parameters
    ----------
    model : Trained
    image : PIL.Image
        RGB.

    Returns
    -------
    numpy.ndarray, uint8, (H, W, 3)
    """
    return evaluation_crop(image, model.input_size, model.crop_ratio)


def enlarged(picture):
    """A picture, uint8 (H, W, 3), with its pixels repeated up to PANEL on the longer side where it is smaller."""
    if max(picture.shape) >= PANEL:
        return picture
    times = PANEL / max(picture.shape)
    return cv2.resize(picture, None, fx=times, fy=times, interpolation=cv2.INTER_NEAREST)


def look(model, crops, title, truths=None, method='grad_cam', with_fusion=False):
    """Grad-CAM of the class that a network names, for photographs.

    Parameters
    ----------
    model : Trained
        Segmentation networks are shown the same crop, and explain the class that
        :func:`gluon_aff.inspect.grad_cam.grad_cam` chooses.
    crops : sequence of numpy.ndarray, uint8 (H, W, 3)
        What :func:`crop` gives of each photograph.
    title : str
        Of the row.
    truths : sequence of str, optional
        The class of each image; a caption is starred where the network names another.
    method : str, default 'grad_cam'
        Of :data:`gluon_aff.inspect.grad_cam.METHODS`.
    with_fusion : bool, default False
        Add a row for each stage with fusion by attention: M, orange where the branch that M multiplies is taken, blue
        where the other one is, its mean in the caption.

    Returns
    -------
    list of Row
    """
    ctx, spec = device(model.net), ModelSpec.of(model)
    explained, fused = [], {}
    for start in range(0, len(crops), BATCH):
        pictures = [enlarged(each) for each in crops[start : start + BATCH]]
        data = mx.nd.array(spec.feed(np.stack(crops[start : start + BATCH])), ctx=ctx)
        found = grad_cam(model.net, data, method=method)
        for index, (picture, heat) in enumerate(zip(pictures, found.maps)):
            label, score, right = _verdict(
                model, found.outputs[index], found.classes[index], truths and truths[start + index]
            )
            explained.append(
                Panel(_blend(picture, heat, cv2.COLORMAP_TURBO, 0.5), f'{printable(label)}\n{score}', not right)
            )
        for stage, maps in (fusion_weights(model.net, data) if with_fusion else {}).items():
            for picture, weights in zip(pictures, maps):
                grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
                fused.setdefault(stage, []).append(
                    Panel(_blend(grey, weights, DIVERGING, 0.75), f'mean {weights.mean():.2f}')
                )
    return [Row(title, explained), *(Row(f'{title}, M of {stage}', panels) for stage, panels in fused.items())]


def check_labels(truths, models):
    """Raise a ValueError for a class that none of the networks (Trained) knows."""
    known = {name for model in models for names in model.class_names for name in _names(names)}
    for truth in truths:
        if truth.lower() not in known:
            raise unknown('class', truth, known)


def _names(label):
    """A class's name, and the synonyms that ImageNet's have, separated by commas; lower case."""
    return {label.lower(), *(name.strip() for name in label.lower().split(','))}


def _verdict(model, output, number, truth):
    """(label, score in words, whether it is the truth) of what a network says of an image."""
    label = model.class_names[number]
    right = truth is None or truth.lower() in _names(label)
    if output.ndim == 3:
        share = (output.argmax(0) == number).mean()
        return label, f'{share:.1%} of the pixels', right and (truth is None or share > 0)
    odds = np.exp(output - output.max())
    return label, f'{odds[number] / odds.sum():.2f}', right


def _diverging():
    """256 colours for OpenCV (BGR), from blue over white to orange."""
    ends, white = np.array([[178, 114, 0], [0, 94, 213]]), np.full(3, 245)
    place = np.linspace(-1, 1, 256)[:, None]
    colours = white + abs(place) * (np.where(place < 0, ends[0], ends[1]) - white)
    return np.round(colours).astype(np.uint8)[:, None]


DIVERGING = _diverging()


def _blend(picture, values, colours, share):
    """A picture with a map (H, W) in [0, 1] laid over it in colours of which `share` is seen."""
    large = cv2.resize(values, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    heat = cv2.applyColorMap(np.round(255 * large.clip(0, 1)).astype(np.uint8), colours)
    return cv2.addWeighted(picture, 1 - share, cv2.cvtColor(heat, cv2.COLOR_BGR2RGB), share, 0)
