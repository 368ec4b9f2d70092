"""The registry of networks by name: register_model, get_model, list_models, model_info."""

from __future__ import annotations

import fnmatch
import inspect
import logging
import os
import re
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from typing import Any, Callable, Sequence

import mxnet as mx
from mxnet.gluon.block import HybridBlock

from gluon_aff._deprecated import deprecated_names, renamed
from gluon_aff.data.class_names import numbered
from gluon_aff.deploy.export_folder import is_export
from gluon_aff.deploy.open_symbol import open_exported
from gluon_aff.errors import check_booleans, unknown
from gluon_aff.inspect.complexity import complexity
from gluon_aff.spec import ModelSpec
from gluon_aff.text import printable

from .hosts.features import Embedder, FeatureMaps
from .hosts.network import Network
from .hosts.timm_options import translate
from .networks import TABLE
from .reported_results import REPORTED, Reported
from .weights import catalog
from .weights.parameters import fill, read_for

__all__ = [
    'ModelCard',
    'get_model',
    'get_model_list',
    'list_models',
    'model_info',
    'pretrained_model_list',
    'purge',
    'register_model',
]

log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class ModelCard:
    """Facts about a registered network, with its default options.

    Attributes
    ----------
    spec : ModelSpec
        Name, task, class names, input and normalisation.
    family, fusion, source : str
    dataset : str
        What its default head and its normalisation are for.
    parameters : int
        Trainable ones.
    multiply_adds : int
        For one image of the spec's input_size.
    weights : tuple of str
        Tags of the released weights, the default first; :func:`model_zoo.list_weights` tells more.
    reported : Reported or None
        What others report of it.
    """

    spec: ModelSpec
    family: str
    fusion: str
    dataset: str
    source: str
    parameters: int
    multiply_adds: int
    weights: tuple[str, ...] = ()
    reported: Reported | None = None

    class_names = renamed('spec.class_names')
    crop_ratio = renamed('spec.crop_ratio')
    input_size = renamed('spec.input_size')
    labels = renamed('spec.class_names')
    mean = renamed('spec.mean')
    published = renamed('reported')
    std = renamed('spec.std')
    task = renamed('spec.task')

    def __repr__(self):
        texts = {field.name: repr(getattr(self, field.name)) for field in fields(self)}
        results = [str(result) for result in self.reported.results] if self.reported else []
        more = [f'{len(results) - 3} more'] if len(results) > 3 else []
        texts['reported'] = '; '.join(results[:3] + more) or 'nothing'
        return '\n    '.join(['ModelCard(', *(f'{name}={text}' for name, text in texts.items())]) + ')'

    @property
    def name(self) -> str:
        """The network's name."""
        return self.spec.name

    @property
    def classes(self) -> int:
        """The number of outputs."""
        return len(self.spec.class_names)


@dataclass(frozen=True)
class _Entry:
    build: Callable
    family: str
    dataset: ModelSpec
    source: str
    counts: tuple[int, int] | None = None  # parameters and multiply-adds, where they are known


_registry = {
    name: _Entry(partial(group.builder, layers, **options), group.family, group.dataset, group.source, tuple(counts))
    for group in TABLE
    for name, layers, options, *counts in group.rows
}


def register_model(name: str | None = None, *, family: str, dataset: ModelSpec, source: str) -> Callable:
    """Register the builder of a network: a decorator, or a function to call with a class or partial.

    Parameters
    ----------
    name : str, default the function's name
        Lower case letters, digits and underscores.
    family : str
        For listings, such as 'ResNet'.
    dataset : ModelSpec
        What the default head is for, such as model_zoo.IMAGENET.
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


def _key(name):
    """A network's name as it is registered: in lower case, with underscores for hyphens."""
    return str(name).lower().replace('-', '_')


def _find(name):
    try:
        return _registry[_key(name)]
    except KeyError:
        if os.path.basename(str(name)) != str(name):
            raise ValueError(f'There is no folder {name}; give one that exists, or the name of a network.') from None
        raise unknown('model', name, _registry) from None


def _options(build):
    parameters = inspect.signature(build).parameters.values()
    return {p.name: p.default for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}


def _build(name, entry, options):
    """The network of an entry; a ValueError, which suggests the nearest names, for an option that it does not take."""
    known = _options(entry.build)
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
        known = {**known, **_options(type(entry.build()))}
    raise unknown(
        f'{name} option',
        wrong,
        [*known, *(option for option in inspect.signature(get_model).parameters if option not in ('name', 'options'))],
    )


def get_model(
    name: str,
    pretrained: bool | str = False,
    *,
    ctx: mx.Context | Sequence[mx.Context] | None = None,
    root: str | None = None,
    allow_missing: bool = False,
    ignore_extra: bool = False,
    pretrained_base: bool | str = False,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    **options: Any,
) -> HybridBlock:
    """Build a network by name.

    Parameters
    ----------
    name : str
        As `list_models` gives it, in any case; hyphens count as underscores. With _int8 behind it: the network in INT8,
        as GluonCV names such models, from the folder NAME_int8 in `root`, or `root` itself, that
        ``gluon-aff export NAME --format symbol-int8`` wrote; it has no options.
    pretrained : bool or str, default False
        True: the released parameters, downloaded once and verified. A str: a tag of them ('fine', 'tv2_in1k'), the
        first eight digits of their digest, timm's name of those of any network ('resnet50d.gluon_in1k'), or the path of
        a parameter file: Gluon's, or a PyTorch state dict (.safetensors, .pth) by timm's, torchvision's or the authors'
        names. :func:`model_zoo.list_weights` tells the preprocessing that they expect. The number of classes is the
        file's; where `classes` says another one, the head is fresh (Xavier) and a log line says so. Where `in_channels`
        is not the file's three, the stem's kernels are summed (for one channel) or repeated, as in timm.
    ctx : mxnet.Context or list of it, default mxnet.cpu()
        Where the parameters go. Only with `pretrained`; else the network is left uninitialised.
    root : str, default '~/.mxnet/models' (or $MXNET_HOME/models)
        Folder in which released parameters are kept.
    allow_missing, ignore_extra : bool, default False
        As in Gluon's load_parameters. With allow_missing GluonCV's resnet50_v1d file, say, starts the backbone of
        aff_resnet50; what it lacks is initialised (Xavier) and named in a log line.
    pretrained_base : bool or str, default False
        As `pretrained`, but the head is fresh (Xavier). Ignored if `pretrained` is given, as in GluonCV's segmenters
        and detectors.
    features_only : bool, default False
        Return a :class:`model_zoo.hosts.features.FeatureMaps`, the stages without the head.
    out_indices : sequence of int, default all
        With `features_only`: the maps to return, 0 of the stem, 1 of the first stage, ...
    **options
        The network's: classes, fusion, reduction, start_stage, norm_layer, norm_kwargs, use_global_stats, final_drop,
        in_channels, ...; the class of the network documents them. timm's num_classes, drop_rate and in_chans are
        understood; num_classes=0 leaves the head out, and with it global_pool='' the pool.

    Returns
    -------
    mxnet.gluon.HybridBlock
        Input (N, 3, H, W), output (N, classes), or in segmentation (N, classes, H, W); without the head pooled features
        (N, C), or maps.

    Raises
    ------
    ValueError
        For an unknown name or option (it suggests the nearest ones), an option out of its range, or a parameter file
        that does not fit.
    FileNotFoundError
        If the parameter file does not exist.
    DownloadError
        If the download fails; an OSError that says how to put the file in place by hand.
    """
    check_booleans(features_only=features_only)
    if _is_int8(name):
        return _open_int8(_key(name), root, ctx, options)
    if out_indices is not None and not features_only:
        raise ValueError('out_indices chooses among the maps of features_only=True; give that, too.')
    entry, name = _find(name), _key(name)
    options, pool = translate(options, _options(entry.build))
    if features_only:
        options.pop('classes', None)  # of the head
    net = _build(name, entry, options)
    if features_only:
        net = FeatureMaps(net, out_indices)
    elif pool is not None:
        net = Embedder(net, pool=pool == 'avg')
    if not pretrained and not pretrained_base:
        return net

    path, record = catalog.find(name, pretrained or pretrained_base, root)
    arrays, adapt_input = read_for(net, path), 'in_channels' in options
    if not isinstance(net, Network):
        # Extra ones are of the head.
        fill(net, arrays, path, ctx, allow_missing=allow_missing, ignore_extra=True, adapt_input=adapt_input)
        return net
    in_file = arrays.get(f'{net.head_name}.weight')
    head = getattr(net, net.head_name)
    outputs = net.classes if in_file is None or in_file.ndim != len(head.weight.shape) else len(in_file)
    fresh = ()
    if not pretrained or outputs != net.classes and 'classes' in options:
        fresh = (f'{net.head_name}.weight', f'{net.head_name}.bias')
        log.warning('%s has %d outputs; the head of %s is fresh, with %d.', printable(path), outputs, name, net.classes)
    elif outputs != net.classes:
        net.reset_classifier(outputs)
    fill(
        net,
        arrays,
        path,
        ctx,
        allow_missing=allow_missing,
        ignore_extra=ignore_extra,
        fresh=fresh,
        adapt_input=adapt_input,
    )
    if not fresh:
        names = record.class_names if record else entry.dataset.class_names
        net.class_names = names if len(names) == outputs else None
    return net


def _is_int8(name):
    """Whether this is a registered network's name with _int8 behind it."""
    key = _key(name)
    return key not in _registry and key.endswith('_int8') and key[: -len('_int8')] in _registry


def _open_int8(key, root, ctx, options):
    """The exported INT8 form of a network."""
    name, contexts = key[: -len('_int8')], ctx if isinstance(ctx, (list, tuple)) else [ctx or mx.cpu()]
    if options or any(context.device_type != 'cpu' for context in contexts):
        raise ValueError(f'{key} is read as it was exported, for the CPU; leave {", ".join(options) or "ctx"} out.')
    folder = os.path.join(os.path.expanduser(root or catalog.default_root()), key)
    if root and is_export(root):
        folder = root
    if not is_export(folder):
        raise FileNotFoundError(
            f'There is no {key} in {folder}; make it by: gluon-aff export {name} --format symbol-int8 '
            f'--calibrate FOLDER_OF_IMAGES -o {folder}.'
        )
    return open_exported(folder, '-int8', contexts[0])


def list_models(
    pattern: str | Sequence[str] = '*', exclude: str | Sequence[str] = (), pretrained: bool = False
) -> list[str]:
    """Names of the registered networks, in natural order.

    Parameters
    ----------
    pattern : str or sequence of str, default '*'
        Names, or shell wildcards such as 'iaff_*' or '*resnext*'; a name is listed if one of them fits.
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
        return any(fnmatch.fnmatchcase(name, p.lower() if '[' in p else _key(p)) for p in patterns)

    def natural(name):
        return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', name)]

    return sorted(
        (
            name
            for name in _registry
            if fits(name, pattern) and not fits(name, exclude) and (not pretrained or catalog.list_weights(name))
        ),
        key=natural,
    )


@lru_cache(maxsize=None)
def _count(name):
    """Classes, least size, whether other sizes fit, parameters and multiply-adds of a network outside the table."""
    entry = _find(name)
    net = entry.build()
    dynamic = not getattr(net, 'input_size', None)
    return (net.classes, net.min_size, dynamic, *complexity(net, (1, *entry.dataset.input_size)))


def model_info(name: str) -> ModelCard:
    """The card of a registered network.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    entry, name = _find(name), _key(name)
    options, names = _options(entry.build), entry.dataset.class_names
    if entry.counts:
        classes, min_size = len(names), entry.build.func.min_size
        dynamic, counts = not options.get('input_size'), entry.counts
    else:
        classes, min_size, dynamic, *counts = _count(name)
    if classes != len(names):
        names = numbered(classes)
    parameters, multiply_adds = counts
    return ModelCard(
        spec=replace(entry.dataset, name=name, class_names=names, min_size=min_size, dynamic=dynamic),
        family=entry.family,
        fusion=options.get('fusion', ''),
        dataset=entry.dataset.name,
        source=entry.source,
        parameters=parameters,
        multiply_adds=multiply_adds,
        weights=tuple(weights.tag for weights in catalog.list_weights(name)),
        reported=REPORTED.get(name),
    )


def get_model_list() -> list[str]:
    """Names of all registered networks (GluonCV's name for `list_models()`)."""
    return list_models()


def pretrained_model_list() -> list[str]:
    """Names of the networks with released parameters (GluonCV's name for `list_models(pretrained=True)`)."""
    return list_models(pretrained=True)


def purge(root: str | None = None) -> None:
    """Remove the downloaded files of registered networks from the cache folder; others, such as GluonCV's, stay.

    Parameters
    ----------
    root : str, default '~/.mxnet/models' (or $MXNET_HOME/models)
    """
    for name in _registry:
        catalog.remove(name, root)


__getattr__ = deprecated_names(__name__)
