"""A network together with what its outputs mean: a registered one with a parameter file, or a training run's folder."""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from gluon_aff._deprecated import renamed
from gluon_aff.deploy import Predictor, is_export
from gluon_aff.deploy.graph import device
from gluon_aff.spec import ModelSpec, current
from gluon_aff.validation import check_plain_name, read_json, shown

from .registry import get_model, model_info
from .weights.catalog import load_parameters

# The largest number among the options in a model.json, and in a list of layers or widths.
MAX_NUMBER, MAX_LISTED = 65536, 4096

__all__ = ['Trained', 'open_or_random', 'open_predictor', 'open_trained']


@dataclass(frozen=True)
class Trained:
    """A network and what prepares its input and names its outputs; see :class:`model_zoo.ModelCard`."""

    name: str
    net: HybridBlock
    class_names: tuple
    input_size: tuple
    mean: tuple
    std: tuple
    crop_ratio: float

    labels = renamed('class_names')

    @property
    def task(self):
        """'classification' or 'segmentation'."""
        return model_info(self.name).task

    @property
    def min_size(self):
        """The least height and width that the network takes."""
        return self.net.min_size

    def segment(self, image):
        """The class of each pixel of a photograph, by a segmentation network.

        Parameters
        ----------
        image : PIL.Image or numpy.ndarray
            RGB, (H, W, 3) uint8, of any size that the network takes; :func:`gluon_aff.data.images.read_image`
            reads one.

        Returns
        -------
        numpy.ndarray, int32, (H, W)
            Numbers of `class_names`; :func:`gluon_aff.data.masks.overlay` shows them.

        Raises
        ------
        ValueError
            If the network classifies whole images.
        """
        if self.task != 'segmentation':
            raise ValueError(f'{self.name} classifies whole images; use a fpn_* or unet_* network to segment one.')
        data = ModelSpec.of(self).feed(np.asarray(image)[None])
        return self.net(mx.nd.array(data, ctx=device(self.net))).argmax(axis=1)[0].asnumpy().astype(np.int32)


def open_trained(name, weights=None, ctx=None):
    """Build the network of a registered name or a run's folder, and load its parameters.

    Parameters
    ----------
    name : str
        A registered name, or the folder of a training run (with model.json).
    weights : str, optional
        Parameter file, or tag of a released one (default: the first). A model.json beside a file says the network's
        options and class names; without one the number of classes is the file's.
    ctx : mxnet.Context or list of it, default mxnet.cpu()

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        For an unknown name, a folder that is no run's, or parameters that do not fit.
    FileNotFoundError, DownloadError
        If there are no parameters.
    """
    ctx = ctx or mx.cpu()
    if is_export(name):
        raise ValueError(
            f"{name} is an exported folder, which holds no network to train or export; give the run's "
            'folder or the name that it was exported from.'
        )
    if os.path.isdir(name):
        description = _read_description(name)
        return _described(description, name, weights or _parameters(description, name), ctx)
    card = model_info(name)
    beside = os.path.dirname(os.path.abspath(weights or ''))
    if weights and os.path.isfile(weights) and os.path.isfile(os.path.join(beside, 'model.json')):
        description = _read_description(beside)
        if description['model'] == card.name:
            return _described(description, beside, weights, ctx)
    net = get_model(card.name, pretrained=weights or True, ctx=ctx)
    class_names = net.class_names or tuple(f'class {i}' for i in range(net.classes))
    return Trained(card.name, net, class_names, card.input_size, card.mean, card.std, card.crop_ratio)


def open_or_random(name, weights=None, ctx=None):
    """As :func:`open_trained`, but with random parameters if none are given or released.

    Parameters
    ----------
    name, weights, ctx : see :func:`open_trained`

    Returns
    -------
    Trained, bool
        And whether its parameters are random.

    Raises
    ------
    ValueError, FileNotFoundError, DownloadError
        As :func:`open_trained` does.
    """
    if weights is not None or os.path.isdir(name) or model_info(name).weights:
        return open_trained(name, weights, ctx), False
    card = model_info(name)
    net = get_model(name)
    net.initialize(mx.init.Xavier(), ctx=ctx or mx.cpu())
    return Trained(card.name, net, card.class_names, card.input_size, card.mean, card.std, card.crop_ratio), True


def open_predictor(name, weights=None, backend=None, ctx=None):
    """A Predictor for an exported folder, or for what :func:`open_trained` opens.

    Parameters
    ----------
    name : str
        An exported folder, a training run's folder, or a registered name.
    weights, ctx : see :func:`open_trained`
    backend : str, optional
        See :class:`gluon_aff.deploy.Predictor`.

    Returns
    -------
    gluon_aff.deploy.Predictor

    Raises
    ------
    ValueError, FileNotFoundError, DownloadError, ImportError
        As :func:`open_trained` and the Predictor do; or if weights are given with an exported folder.
    """
    if not is_export(name):
        return Predictor(open_trained(name, weights, ctx), backend, ctx)
    if weights:
        raise ValueError(f'{name} is an exported folder, which has its parameters in it; leave the weights out.')
    return Predictor(name, backend, ctx)


def _read_description(folder):
    try:
        values = read_json(folder, 'model.json')
        values = current(values) if isinstance(values, dict) else {}
    except FileNotFoundError:
        raise ValueError(f"{folder} is not a training run's folder: it has no model.json.") from None
    except OSError as error:
        raise ValueError(f'{folder}/model.json cannot be read: {error.strerror}.') from None
    missing = [
        key
        for key in ('model', 'options', 'class_names', 'input_size', 'mean', 'std', 'crop_ratio', 'parameters')
        if key not in values
    ]
    if missing:
        raise ValueError(f'{folder}/model.json lacks {", ".join(missing)}; give the folder of a training run.')
    return values


def _parameters(description, folder):
    """The path of the run's parameter file: a regular one in its folder."""
    try:
        path = os.path.join(folder, check_plain_name(description['parameters']))
    except ValueError as error:
        raise ValueError(f'{folder}/model.json is damaged, as {error}.') from None
    if os.path.islink(path):
        raise ValueError(f'{path} is a link; put the parameter file itself there.')
    return path


def _build(name, options, path):
    """The network that a model.json names, of an architecture's own options and numbers that a network can have."""
    reserved = [key for key in inspect.signature(get_model).parameters if key != 'options']
    if not isinstance(options, dict) or not all(map(_is_option, options.values())) or set(options) & set(reserved):
        raise ValueError(
            f"{path}: options must be the network's own, of numbers up to {MAX_NUMBER} and texts, got {shown(options)}."
        )
    if not isinstance(name, str):
        raise ValueError(f'{path}: model must be the name of a network, got {shown(name)}.')
    try:
        return get_model(name, **options)
    except ValueError:
        raise
    except Exception as error:  # an option of a wrong type can raise anything
        raise ValueError(
            f'{path}: {name} cannot be built with the options {shown(options)} ({type(error).__name__}).'
        ) from None


def _is_option(value):
    if isinstance(value, list):  # of layers and channels
        return len(value) <= 16 and all(type(number) is int and abs(number) <= MAX_LISTED for number in value)
    if isinstance(value, dict):  # norm_kwargs
        return len(value) <= 16 and all(_is_option(inner) for inner in value.values() if not isinstance(inner, dict))
    return value is None or isinstance(value, str) or (isinstance(value, (int, float)) and abs(value) <= MAX_NUMBER)


def _described(description, folder, weights, ctx):
    path = os.path.join(folder, 'model.json')
    net = _build(description['model'], description['options'], path)
    name = description['model'].lower()
    try:
        spec = ModelSpec.from_json(description, name=name, task=model_info(name).task, min_size=net.min_size)
        if len(spec.class_names) != net.classes:
            raise ValueError(f'class_names must be {net.classes}, one for each class, got {len(spec.class_names)}.')
    except ValueError as error:
        raise ValueError(f'{path} is damaged: {error}') from None
    load_parameters(net, weights, ctx=ctx)
    return Trained(spec.name, net, spec.class_names, spec.input_size, spec.mean, spec.std, spec.crop_ratio)
