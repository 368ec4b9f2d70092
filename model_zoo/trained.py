"""A network together with what its outputs mean: a registered one with a parameter file, or a training run's folder."""
from __future__ import annotations

import json
import os
from dataclasses import dataclass

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from gluon_aff.data.images import normalise
from gluon_aff.deploy import Predictor, is_export
from gluon_aff.deploy.graph import device

from .registry import get_model, model_info
from .weights import load_parameters

__all__ = ['Trained', 'open_or_random', 'open_predictor', 'open_trained']


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
            Numbers of `labels`; :func:`gluon_aff.data.segmentation.overlay` shows them.

        Raises
        ------
        ValueError
            If the network classifies whole images.
        """
        if self.task != 'segmentation':
            raise ValueError(f'{self.name} names what a whole image shows; a fpn_* or unet_* network segments one.')
        data = normalise(np.asarray(image)[None], self.mean, self.std)
        return self.net(mx.nd.array(data, ctx=device(self.net))).argmax(axis=1)[0].asnumpy().astype(np.int32)


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
    if is_export(name):
        raise ValueError(f"{name} is an exported folder, whose network cannot be changed any more; give the run's "
                         'folder or the name that it was exported from.')
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


def open_or_random(name, weights=None, ctx=None):
    """What :func:`open_trained` opens; of a network without released parameters, where none are given, random ones.

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
    return Trained(card.name, net, card.labels, card.input_size, card.mean, card.std, card.crop_ratio), True


def open_predictor(name, weights=None, backend=None, ctx=None):
    """What names images: by an exported folder, or by what :func:`open_trained` opens.

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
