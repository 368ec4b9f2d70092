"""A network together with its ModelSpec: a registered one with weights, or that of a training run's folder."""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass, replace
from typing import Any, Sequence

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from gluon_aff._deprecated import deprecated_names, renamed
from gluon_aff.data.class_names import numbered
from gluon_aff.deploy import Predictor, is_export, read_export
from gluon_aff.deploy.graph import device
from gluon_aff.spec import ModelSpec, current
from gluon_aff.validation import check_plain_name, read_json, shown

from .registry import get_model, model_info
from .weights.catalog import choose
from .weights.parameters import load_parameters

# The largest number among the options in a model.json, and in a list of layers or widths.
MAX_NUMBER, MAX_LISTED = 65536, 4096

__all__ = ['LoadedModel', 'find_spec', 'load_model', 'load_or_initialize', 'open_predictor', 'predict']


@dataclass(frozen=True)
class LoadedModel:
    """A network with parameters, and what prepares its input and names its outputs.

    Attributes
    ----------
    spec : ModelSpec
    net : HybridBlock
    """

    spec: ModelSpec
    net: HybridBlock

    class_names = renamed('spec.class_names')
    crop_ratio = renamed('spec.crop_ratio')
    input_size = renamed('spec.input_size')
    labels = renamed('spec.class_names')
    mean = renamed('spec.mean')
    min_size = renamed('spec.min_size')
    name = renamed('spec.name')
    std = renamed('spec.std')
    task = renamed('spec.task')

    def __repr__(self):
        return f'LoadedModel(spec={self.spec!r}, net={type(self.net).__name__})'

    def segment(self, image) -> np.ndarray:
        """The class of each pixel of a photograph, by a segmentation network.

        Parameters
        ----------
        image : str, PIL.Image or numpy.ndarray
            A path or an RGB image, (H, W, 3) uint8, of any size that the network takes.

        Returns
        -------
        numpy.ndarray, int32, (H, W)
            Indices into the class names; :func:`gluon_aff.data.masks.overlay` shows them.

        Raises
        ------
        ValueError
            If the network classifies whole images.
        """
        if self.spec.task != 'segmentation':
            raise ValueError(f'{self.spec.name} classifies whole images; use a fpn_* or unet_* network to segment one.')
        data = self.spec.transform()(image)[None]
        return self.net(mx.nd.array(data, ctx=device(self.net))).argmax(axis=1)[0].asnumpy().astype(np.int32)


def load_model(
    name: str | os.PathLike, weights: str | None = None, *, ctx: mx.Context | Sequence[mx.Context] | None = None
) -> LoadedModel:
    """The network of a registered name or a run's folder, with its parameters and its description.

    Parameters
    ----------
    name : str
        A registered name, or the folder of a training run (with model.json).
    weights : str, optional
        Parameter file, or tag of a released one (default: the first, or the run's best). A model.json beside a file
        gives the network's options and class names; without one the number of classes is the file's.
    ctx : mxnet.Context or list of it, default mxnet.cpu()

    Raises
    ------
    ValueError
        For an unknown name, a folder of no run, or parameters that do not fit.
    FileNotFoundError, DownloadError
        If there are no parameters.
    """
    ctx, name = ctx or mx.cpu(), os.fspath(name)
    if is_export(name):
        raise ValueError(
            f"{name} is an exported folder, which holds no network to train or export; give the run's "
            'folder or the name that it was exported from.'
        )
    if os.path.isdir(name):
        description = read_description(name)
        return _load_run(description, name, weights or _parameters(description, name), ctx)
    card = model_info(name)
    folder = os.path.dirname(os.path.abspath(weights or ''))
    if weights and os.path.isfile(weights) and os.path.isfile(os.path.join(folder, 'model.json')):
        description = read_description(folder)
        if description['model'] == card.name:
            return _load_run(description, folder, weights, ctx)
    net = get_model(card.name, pretrained=weights or True, ctx=ctx)
    changes = (
        {} if os.path.isfile(os.path.expanduser(weights or '')) else choose(card.name, weights or True).spec_changes()
    )
    return LoadedModel(replace(card.spec, class_names=net.class_names or numbered(net.classes), **changes), net)


def load_or_initialize(
    name: str, weights: str | None = None, *, ctx: mx.Context | Sequence[mx.Context] | None = None
) -> tuple[LoadedModel, bool]:
    """As :func:`load_model`, but with random parameters if none are given or released.

    Parameters
    ----------
    name, weights, ctx : see :func:`load_model`

    Returns
    -------
    LoadedModel, bool
        And whether its parameters are random.
    """
    if weights is not None or os.path.isdir(name) or model_info(name).weights:
        return load_model(name, weights, ctx=ctx), False
    net = get_model(name)
    net.initialize(mx.init.Xavier(), ctx=ctx or mx.cpu())
    return LoadedModel(model_info(name).spec, net), True


def open_predictor(
    name: str | os.PathLike, weights: str | None = None, *, backend: str | None = None, ctx: mx.Context | None = None
) -> Predictor:
    """A Predictor for an exported folder, or for what :func:`load_model` loads.

    Parameters
    ----------
    name : str
        An exported folder, a training run's folder, or a registered name.
    weights, ctx : see :func:`load_model`
    backend : str, optional
        See :class:`gluon_aff.deploy.Predictor`.

    Raises
    ------
    ValueError, FileNotFoundError, DownloadError, ImportError
        As :func:`load_model` and the Predictor do; or if weights are given with an exported folder.
    """
    name = os.fspath(name)
    if not is_export(name):
        return Predictor(load_model(name, weights, ctx=ctx), backend, ctx)
    if weights:
        raise ValueError(f'{name} is an exported folder, which has its parameters in it; leave the weights out.')
    return Predictor(name, backend, ctx)


def predict(
    name: str | os.PathLike,
    images: Any,
    *,
    top_k: int = 5,
    weights: str | None = None,
    backend: str | None = None,
    ctx: mx.Context | None = None,
    batch_size: int = 8,
) -> list:
    """The most probable classes of images, by a network that is loaded for this call.

    To predict more than once, make a :class:`gluon_aff.deploy.Predictor`, which keeps the network.

    Parameters
    ----------
    name, weights, backend, ctx : see :func:`open_predictor`
        The network.
    images, top_k, batch_size : see :meth:`gluon_aff.deploy.Predictor.predict`
        An image file, a folder of them, a PIL image, an RGB array (H, W, 3) of uint8, or a sequence of such.

    Returns
    -------
    list of list of (str, float)
        For each image the names and probabilities of its classes, the most probable first.

    Raises
    ------
    ValueError, FileNotFoundError, DownloadError, ImportError
        As :func:`open_predictor` does; for an image that cannot be read, or a segmentation network, for which
        ``Predictor(name).segment(images)`` is.
    """
    return open_predictor(name, weights, backend=backend, ctx=ctx).predict(images, top_k, batch_size)


def find_spec(name: str | os.PathLike) -> ModelSpec:
    """The description of a registered name, or of the folder of a training run or an export; no parameters are read.

    Raises
    ------
    ValueError
        For an unknown name, a folder of neither, or a damaged model.json.
    """
    name = os.fspath(name)
    if is_export(name):
        return ModelSpec.from_json(read_export(name))
    if os.path.isdir(name):
        return _run_spec(read_description(name), name)
    return model_info(name).spec


def _run_spec(description, folder):
    """The ModelSpec in a run's model.json."""
    card = model_info(description['model'])
    try:
        return ModelSpec.from_json(description, name=card.name, task=card.spec.task, min_size=card.spec.min_size)
    except ValueError as error:
        raise _damaged(folder, error) from None


def _damaged(folder, reason):
    return ValueError(f'{os.path.join(folder, "model.json")} is damaged: {reason}')


def read_description(folder):
    try:
        values = read_json(folder, 'model.json')
    except FileNotFoundError:
        raise ValueError(f"{folder} is not a training run's folder: it has no model.json.") from None
    except OSError as error:
        raise ValueError(f'{folder}/model.json cannot be read: {error.strerror}.') from None
    values = current(values) if isinstance(values, dict) else {}
    keys = ('model', 'options', 'class_names', 'input_size', 'mean', 'std', 'crop_ratio', 'parameters')
    missing = [key for key in keys if key not in values]
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


def _load_run(description, folder, weights, ctx):
    path = os.path.join(folder, 'model.json')
    net = _build(description['model'], description['options'], path)
    spec = _run_spec(description, folder)
    if len(spec.class_names) != net.classes:
        count = len(spec.class_names)
        raise _damaged(folder, f'class_names must be {net.classes}, one for each class, got {count}.')
    load_parameters(net, weights, ctx=ctx)
    return LoadedModel(replace(spec, dynamic=not getattr(net, 'input_size', None)), net)


__getattr__ = deprecated_names(__name__)
