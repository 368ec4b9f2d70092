"""A network together with what its outputs mean: a registered one with a parameter file, or a training run's folder."""
from __future__ import annotations

import json
import os
from dataclasses import dataclass

import mxnet as mx
from mxnet.gluon.block import HybridBlock

from .registry import get_model, model_info
from .weights import load_parameters

__all__ = ['Trained', 'open_trained']


@dataclass(frozen=True)
class Trained:
    """A network and what prepares its input and names its outputs; see :class:`model_zoo.ModelCard`."""

    name: str
    net: HybridBlock
    labels: tuple
    input_size: tuple
    mean: tuple
    std: tuple
    crop_ratio: float


def open_trained(name, weights=None, ctx=None):
    """Build the network that `name` says and load its parameters.

    Parameters
    ----------
    name : str
        A registered name, or the folder of a training run (with model.json).
    weights : str, optional
        Parameter file, or tag of a released one (default: the first). A model.json beside a file says the network's
        options and labels; without one the number of classes is the file's.
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
    if os.path.isdir(name):
        said = _read_description(os.path.join(name, 'model.json'))
        return _described(said, weights or os.path.join(name, said['parameters']), ctx)
    card = model_info(name)
    beside = os.path.join(os.path.dirname(os.path.abspath(weights or '')), 'model.json')
    if weights and os.path.isfile(weights) and os.path.isfile(beside):
        said = _read_description(beside)
        if said['model'] == card.name:
            return _described(said, weights, ctx)
    net = get_model(card.name, pretrained=weights or True, ctx=ctx)
    labels = net.labels or tuple(f'class {i}' for i in range(net.classes))
    return Trained(card.name, net, labels, card.input_size, card.mean, card.std, card.crop_ratio)


def _read_description(path):
    try:
        with open(path, encoding='utf-8') as file:
            said = json.load(file)
        missing = [key for key in ('model', 'options', 'labels', 'input_size', 'mean', 'std', 'crop_ratio',
                                   'parameters') if key not in said]
    except FileNotFoundError:
        raise ValueError(f"{os.path.dirname(path)} is not a training run's folder: it has no model.json.") from None
    except (OSError, ValueError) as error:
        raise ValueError(f'{path} cannot be read as JSON: {error}.') from None
    if missing:
        raise ValueError(f'{path} lacks {", ".join(missing)}; give the folder of a training run.')
    return said


def _described(said, weights, ctx):
    net = get_model(said['model'], **said['options'])
    load_parameters(net, weights, ctx=ctx)
    return Trained(said['model'], net, tuple(said['labels']), tuple(said['input_size']), tuple(said['mean']),
                   tuple(said['std']), said['crop_ratio'])
