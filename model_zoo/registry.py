"""The registry of networks by name: register_model, get_model, list_models, model_info."""

from __future__ import annotations

import fnmatch
import inspect
import logging
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Callable

from gluon_aff._deprecated import renamed
from gluon_aff.data import cifar, class_names
from gluon_aff.errors import unknown
from gluon_aff.inspect.complexity import complexity
from gluon_aff.text import printable

from .reported_results import PUBLISHED, Published
from .weights import catalog as weights

__all__ = [
    'CIFAR100',
    'Dataset',
    'FASHION_MNIST',
    'IMAGENET',
    'ModelCard',
    'STOP_SIGN',
    'get_model',
    'get_model_list',
    'list_models',
    'model_info',
    'pretrained_model_list',
    'purge',
    'register_model',
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """What the networks of a data set take: input (C, H, W), mean and std of RGB values in 0..1, names of the classes.

    Evaluation resizes the short side to H / crop_ratio and takes the centre H x W; in segmentation it takes whole
    images. The task is what has a class: an image ('classification') or each of its pixels ('segmentation').
    """

    name: str
    input_size: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_ratio: float
    class_names: Callable[[], tuple[str, ...]]
    task: str = 'classification'

    labels = renamed('class_names')


# The recipe's figures (0..255), AFF paper's released training script.
IMAGENET = Dataset(
    'ImageNet-1k',
    (3, 224, 224),
    tuple(v / 255 for v in (123.68, 116.779, 103.939)),
    tuple(v / 255 for v in (58.393, 57.12, 57.375)),
    0.875,
    class_names.imagenet,
)
CIFAR100 = Dataset(
    'CIFAR-100 (fine labels)', (3, 32, 32), cifar.CIFAR_MEAN, cifar.CIFAR_STD, 1.0, lambda: class_names.CIFAR100
)
FASHION_MNIST = Dataset(
    'Fashion-MNIST',
    (3, 32, 32),
    cifar.FASHION_MNIST_MEAN,
    cifar.FASHION_MNIST_STD,
    1.0,
    lambda: class_names.FASHION_MNIST,
)
STOP_SIGN = Dataset(
    'COCO, images with a stop sign',
    (3, 224, 224),
    IMAGENET.mean,
    IMAGENET.std,
    1.0,
    lambda: class_names.STOP_SIGN,
    'segmentation',
)


@dataclass(frozen=True)
class ModelCard:
    """Facts on a registered network, with its default options.

    Attributes
    ----------
    name, family, fusion, source : str
    task : str
        'classification' or 'segmentation'.
    dataset : str
        What its default head and its normalisation are for.
    input_size : tuple (C, H, W)
    mean, std : tuple of float
        Of RGB values in 0..1.
    crop_ratio : float
        Evaluation resizes the short side to H / crop_ratio and takes the centre H x W.
    classes : int
    class_names : tuple of str
        Name of each class.
    parameters : int
        Trainable ones.
    multiply_adds : int
        For one image of input_size.
    weights : tuple of str
        Tags of the released parameter files, the default first; :func:`model_zoo.checkpoints` tells more.
    published : Published or None
        What others state of it.
    """

    name: str
    family: str
    task: str
    fusion: str
    dataset: str
    input_size: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_ratio: float
    classes: int
    class_names: tuple[str, ...]
    parameters: int
    multiply_adds: int
    source: str
    weights: tuple[str, ...] = ()
    published: Published | None = None

    labels = renamed('class_names')


@dataclass(frozen=True)
class _Entry:
    build: Callable
    family: str
    dataset: Dataset
    source: str


_registry = {}


def register_model(name=None, *, family, dataset, source):
    """Register what builds a network; use it as a decorator, or call the result on a class or partial.

    Parameters
    ----------
    name : str, default the function's name
        Lower case letters, digits and underscores.
    family : str
        For listings, such as 'ResNet'.
    dataset : Dataset
        What the default head is for.
    source : str
        The publication the network is from.

    Returns
    -------
    callable
        A decorator that returns the builder unchanged. The builder takes keyword options, `classes` among them, and
        returns a :class:`model_zoo.hosts.network.Network`.

    Raises
    ------
    ValueError
        If the name is taken or has other characters.
    """

    def register(build):
        key = name or getattr(build, '__name__', '')
        if not re.fullmatch('[a-z0-9_]+', key):
            raise ValueError(f'A model name has lower case letters, digits and underscores only, got {key!r}.')
        if key in _registry:
            raise ValueError(f'A model named {key!r} is registered already.')
        _registry[key] = _Entry(build, family, dataset, source)
        return build

    return register


def _find(name):
    try:
        return _registry[str(name).lower()]
    except KeyError:
        raise unknown('model', name, _registry) from None


def _options(entry):
    parameters = inspect.signature(entry.build).parameters.values()
    return {p.name: p.default for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}


def _build(name, entry, options):
    """The network of an entry; a ValueError, which suggests the nearest names, for an option that it does not take."""
    known = _options(entry)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(entry.build).parameters.values())
    wrong = None if takes_any else next((option for option in options if option not in known), None)
    try:
        if not wrong:
            return entry.build(**options)
    except TypeError as error:
        # Options that a builder passes on are refused by the network's class.
        wrong = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if not takes_any or not wrong or wrong[1] not in options:
            raise
        wrong = wrong[1]
        known = {**known, **_options(_Entry(type(entry.build()), '', None, ''))}
    raise unknown(
        f'{name} option',
        wrong,
        [*known, *(option for option in inspect.signature(get_model).parameters if option not in ('name', 'options'))],
    )


def get_model(
    name,
    pretrained=False,
    ctx=None,
    root=None,
    allow_missing=False,
    ignore_extra=False,
    pretrained_base=False,
    **options,
):
    """Build a network by name.

    Parameters
    ----------
    name : str
        As `list_models` gives it, in any case.
    pretrained : bool or str, default False
        True: the released parameters, downloaded once and verified. A str: a tag of them ('fine', 'coarse'), the first
        eight digits of their digest, or the path of a parameter file. The number of classes is the file's; where
        `classes` says another one, the head is fresh (Xavier) and a log line says so.
    ctx : mxnet.Context or list of it, default mxnet.cpu()
        Where the parameters go. Only with `pretrained`; else the network is left uninitialised.
    root : str, default '~/.mxnet/models' (or $MXNET_HOME/models)
        Folder in which released parameters are kept.
    allow_missing, ignore_extra : bool, default False
        As in Gluon's load_parameters. With allow_missing GluonCV's resnet50_v1d file, say, starts the backbone of
        aff_resnet50; what it lacks is initialised (Xavier) and named in a log line.
    pretrained_base : bool or str, default False
        As `pretrained`, for all but the head, which is fresh (Xavier). Without effect where `pretrained` is given, as
        in GluonCV's segmenters and detectors.
    **options
        The network's: classes, fusion, reduction, start_stage, norm_layer, norm_kwargs, use_global_stats,
        final_drop, ...; the class of the network documents them.

    Returns
    -------
    mxnet.gluon.HybridBlock
        Input (N, 3, H, W), output (N, classes), or in segmentation (N, classes, H, W).

    Raises
    ------
    ValueError
        For an unknown name or option (it suggests the nearest ones), an option out of its range, or a parameter file
        that does not fit.
    FileNotFoundError
        If the parameter file does not exist.
    DownloadError
        If the released parameters cannot be had; an OSError that says how to put them in place by hand.
    """
    entry, name = _find(name), str(name).lower()
    net = _build(name, entry, options)
    if not pretrained and not pretrained_base:
        return net

    path, record = weights.find(name, pretrained or pretrained_base, root)
    in_file = weights.read_for(net, path).get(f'{net.head_name}.weight')
    head = getattr(net, net.head_name)
    outputs = net.classes if in_file is None or in_file.ndim != len(head.weight.shape) else len(in_file)
    fresh = ()
    if not pretrained or outputs != net.classes and 'classes' in options:
        fresh = (f'{net.head_name}.weight', f'{net.head_name}.bias')
        log.warning('%s has %d outputs; the head of %s is fresh, with %d.', printable(path), outputs, name, net.classes)
    elif outputs != net.classes:
        net.reset_classifier(outputs)
    weights.load_parameters(net, path, ctx, allow_missing, ignore_extra, fresh)
    if not fresh:
        net.class_names = class_names.named(record.labels) if record else _class_names(entry, outputs)
    return net


def _class_names(entry, outputs):
    """Names of the outputs if there are as many as the network's own data set has classes."""
    names = entry.dataset.class_names()
    return names if len(names) == outputs else None


def list_models(pattern='*', exclude=(), pretrained=False):
    """Names of the registered networks, in natural order.

    Parameters
    ----------
    pattern : str or sequence of str, default '*'
        Shell wildcards, such as 'iaff_*' or '*resnext*'; a name is listed if one of them fits.
    exclude : str or sequence of str, default ()
        Wildcards of names to leave out.
    pretrained : bool, default False
        Only those with released parameters.

    Returns
    -------
    list of str
    """

    def fits(name, patterns):
        patterns = [patterns] if isinstance(patterns, str) else patterns
        return any(fnmatch.fnmatchcase(name, p.lower()) for p in patterns)

    def natural(name):
        return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', name)]

    return sorted(
        (
            name
            for name in _registry
            if fits(name, pattern) and not fits(name, exclude) and (not pretrained or weights.checkpoints(name))
        ),
        key=natural,
    )


@lru_cache(maxsize=None)
def _count(name):
    """(classes, trainable parameters, multiply-adds for one image) of a registered network with its default options."""
    entry = _find(name)
    net = entry.build()
    return (net.classes, *complexity(net, (1, *entry.dataset.input_size))[:2])


def model_info(name):
    """The card of a registered network.

    Parameters
    ----------
    name : str

    Returns
    -------
    ModelCard

    Raises
    ------
    ValueError
        For an unknown name.
    """
    entry, name = _find(name), str(name).lower()
    options, data = _options(entry), entry.dataset
    classes, parameters, multiply_adds = _count(name)
    return ModelCard(
        name=name,
        family=entry.family,
        task=data.task,
        fusion=options.get('fusion', ''),
        dataset=data.name,
        input_size=data.input_size,
        mean=data.mean,
        std=data.std,
        crop_ratio=data.crop_ratio,
        classes=classes,
        class_names=data.class_names(),
        parameters=parameters,
        multiply_adds=multiply_adds,
        source=entry.source,
        weights=tuple(each.tag for each in weights.checkpoints(name)),
        published=PUBLISHED.get(name),
    )


def get_model_list():
    """Names of all registered networks (GluonCV's name for `list_models()`)."""
    return list_models()


def pretrained_model_list():
    """Names of the networks with released parameters (GluonCV's name for `list_models(pretrained=True)`)."""
    return list_models(pretrained=True)


def purge(root=None):
    """Remove the downloaded files of registered networks from the cache folder; others, such as GluonCV's, stay.

    Parameters
    ----------
    root : str, default '~/.mxnet/models' (or $MXNET_HOME/models)
    """
    for name in _registry:
        weights.remove(name, root)
