"""Where parameters come from: the catalogue of released files, the cache folder, and the way into a network."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import mxnet as mx
import numpy as np

from gluon_aff._mxnet import devices, load_value, structural_parameters
from gluon_aff.download import digest, fetch
from gluon_aff.errors import unknown
from gluon_aff.params_file import read_parameters
from gluon_aff.text import printable

from ..reported_results import LOGS

__all__ = ['Checkpoint', 'checkpoints', 'default_root', 'get_model_file', 'load_parameters']

HERE = Path(__file__).parent
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A released parameter file, one record of catalog.json.

    Attributes
    ----------
    model, tag : str
        The registered network, and what tells its files apart; the first one of a network is its default.
    dataset, labels : str
        What it was trained on; `labels` names the set of class names.
    outputs : int
        Of the head in the file.
    dtype : str
        Of convolutions and dense layers in the file.
    figures, figures_source : dict, str
        Stated accuracy or error (0..1), and who states it.
    recipe, source, license : str
    url : str or None
        None for a file that is shipped in this package.
    size : int or None
        Bytes, if known.
    digest_kind, digest : str
        See :func:`gluon_aff.download.digest`.
    """

    model: str
    tag: str
    dataset: str
    labels: str
    outputs: int
    dtype: str
    figures: dict
    figures_source: str
    recipe: str
    source: str
    license: str
    url: str | None
    size: int | None
    digest_kind: str
    digest: str

    @property
    def file(self):
        """Name in the cache folder, GluonCV's pattern: the model and eight digits of the digest."""
        return f'{self.model}-{self.digest[:8]}.params'

    def path(self, root=None):
        """Where the file is, or would be after a download."""
        if self.url is None:
            return str(HERE / 'released' / self.file)
        return os.path.join(os.path.expanduser(root or default_root()), self.file)

    def state(self, root=None):
        """'intact', 'damaged' or 'absent'."""
        path = self.path(root)
        if not os.path.isfile(path):
            return 'absent'
        return 'intact' if digest(path, self.digest_kind) == self.digest else 'damaged'

    def get(self, root=None):
        """The file's path, after a download where it is needed.

        Raises
        ------
        DownloadError
            If it cannot be had; says how to put it in place by hand.
        ValueError
            If a file shipped in this package is damaged.
        """
        path = self.path(root)
        if self.url is None:
            if self.state() != 'intact':
                raise ValueError(f'{path} is {self.state()}; install the package again.')
            return path
        mirror = os.environ.get('MXNET_GLUON_REPO')
        urls = [f'{mirror.rstrip("/")}/gluon/models/{self.file}'] if mirror else []
        fetch([*urls, self.url], path, self.digest_kind, self.digest, limit=self.size)
        return path


def default_root():
    """The cache folder: $MXNET_HOME/models, or ~/.mxnet/models."""
    return os.path.join(os.environ.get('MXNET_HOME', os.path.join('~', '.mxnet')), 'models')


@lru_cache(maxsize=None)
def _catalog():
    rows = json.loads((HERE / 'catalog.json').read_text(encoding='utf-8'))['checkpoints']
    # The figures of the authors' files are in published.py.
    return tuple(Checkpoint(**{'figures': LOGS.get((row['model'], row['tag'])), **row}) for row in rows)


def checkpoints(name=None):
    """The released files, of all networks or of one; a network's default comes first.

    Parameters
    ----------
    name : str, optional

    Returns
    -------
    tuple of Checkpoint
    """
    return tuple(each for each in _catalog() if name in (None, each.model))


def choose(name, tag):
    """The released file of a network by tag (True for the default) or by the first eight digits of its digest."""
    found = checkpoints(name)
    if not found:
        raise ValueError(f'No parameters are released for {name}; give the path of a parameter file, or train it.')
    if tag is True:
        return found[0]
    for each in found:
        if tag in (each.tag, each.digest[:8]):
            return each
    raise unknown(f'parameters of {name}:', tag, [each.tag for each in found])


def find(name, pretrained, root):
    """The path of the file that `pretrained` of get_model asks for, and its record if it is a released one."""
    if isinstance(pretrained, (str, os.PathLike)):
        path = os.path.expanduser(pretrained)
        if os.path.isfile(path):
            return path, None
        if isinstance(pretrained, os.PathLike) or os.path.dirname(path) or os.path.splitext(path)[1]:
            raise FileNotFoundError(f'There is no parameter file {path}.')
    chosen = choose(name, pretrained)
    return chosen.get(root), chosen


def get_model_file(name, tag=None, root=None):
    """Path of a released parameter file, downloaded if needed (GluonCV's name for it).

    Parameters
    ----------
    name : str
        Of a registered network.
    tag : str or bool, optional
        Which of its files: a tag, or eight digits of the digest; default the first.
    root : str, default '~/.mxnet/models' (or $MXNET_HOME/models)

    Raises
    ------
    ValueError
        If there is no such file.
    DownloadError
        If it cannot be had.
    """
    return choose(str(name).lower(), tag or True).get(root)


def remove(name, root=None):
    """Remove a network's downloaded files from the cache folder, interrupted and damaged ones included."""
    for each in checkpoints(name):
        if each.url:
            for suffix in ('', '.part', '.corrupt', '.lock'):
                path = each.path(root) + suffix
                if os.path.isfile(path):
                    os.remove(path)


def read_for(net, path):
    """The arrays of a parameter file under the names that `net.save_parameters` gives them.

    A file of ``net.export`` or ``net.collect_params().save`` has the parameters' own names instead, behind the prefix
    of the network that was saved or, with ``strip_prefix``, behind none; names that do not fit stay as they are.

    Parameters
    ----------
    net : mxnet.gluon.Block
    path : str

    Returns
    -------
    dict of str to numpy.ndarray

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`gluon_aff.params_file.read_parameters`.
    """
    arrays, wanted = read_parameters(path), structural_parameters(net)
    if any(name in wanted for name in arrays):
        return arrays
    local = {
        parameter.name[len(net.prefix) :]: name
        for name, parameter in wanted.items()
        if parameter.name.startswith(net.prefix)
    }
    # The prefix with which most names are the network's.
    sizes = {len(name) for name in local}
    fitting = Counter(name[:-size] for name in arrays for size in sizes if name[-size:] in local)
    prefix = max(fitting, key=lambda each: (fitting[each], each), default='')
    return {
        local.get(name[len(prefix) :], name) if name.startswith(prefix) else name: array
        for name, array in arrays.items()
    }


def load_parameters(net, path, ctx=None, allow_missing=False, ignore_extra=False, fresh=()):
    """Load a parameter file into a network; the network's types stand.

    It may be one of Gluon's save_parameters, of export, or of collect_params().save, see :func:`read_for`. It is never
    read by MXNet, and compared with the network before anything is changed.

    Parameters
    ----------
    net : mxnet.gluon.Block
    path : str
    ctx : mxnet.Context or list of it, default where the network is, or mxnet.cpu()
    allow_missing : bool, default False
        Parameters that the file lacks stay, or are initialised (Xavier) if they were not yet; a log line names them.
    ignore_extra : bool, default False
        Parameters that the network lacks are passed over.
    fresh : sequence of str, default ()
        Parameters to initialise (Xavier) even if the file has them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a parameter file, is damaged, or is another network's: names the first few parameters that differ.
    """
    found, wanted = read_for(net, path), structural_parameters(net)
    if allow_missing and not any(name in wanted and name not in fresh for name in found):
        raise _another(path, found, ['it has none of their names'])
    missing = load_arrays(net, found, path, ctx, allow_missing, ignore_extra, fresh, cast_dtype=True)
    for name in [*missing, *fresh]:
        if name in fresh or not devices(wanted[name]):
            wanted[name].initialize(ctx=ctx, default_init=mx.init.Xavier(), force_reinit=True)
    if missing:
        log.warning(
            '%s lacks %d parameters, which are initialised or stay as they were: %s',
            printable(path),
            len(missing),
            _summary(missing),
        )


def load_arrays(
    net,
    arrays,
    path,
    ctx=None,
    allow_missing=False,
    ignore_extra=False,
    fresh=(),
    cast_dtype=False,
    dtype_source='current',
):
    """Give a network the arrays of :func:`read_for`, after they were compared with it; those in `fresh` excepted.

    The arguments are Gluon's, as in mxnet.gluon.Block.load_parameters. Of a parameter that is shared under several
    names one is enough.

    Returns
    -------
    list of str
        Names of the parameters that are missing.

    Raises
    ------
    ValueError
        If they are another network's, or of other types and cast_dtype is False.
    """
    if dtype_source not in ('current', 'saved'):
        raise ValueError(f"dtype_source must be 'current' or 'saved', got {dtype_source!r}.")
    wanted = {name: parameter for name, parameter in structural_parameters(net).items() if name not in fresh}
    loaded = [name for name in wanted if name in arrays]
    shared = {id(wanted[name]) for name in loaded}
    missing = [name for name in wanted if id(wanted[name]) not in shared]
    differences = [] if allow_missing else [f'{name} is missing' for name in missing]
    differences += (
        [] if ignore_extra else [f'{name} is unknown' for name in arrays if name not in wanted and name not in fresh]
    )
    for name in loaded:
        dtype, shape = arrays[name].dtype, arrays[name].shape
        if not _fits(shape, wanted[name].shape):
            differences.append(f'{name} has shape {shape}, not {tuple(wanted[name].shape)}')
        elif dtype.kind != 'f' or not cast_dtype and dtype != np.dtype(wanted[name].dtype):
            differences.append(f'{name} holds {dtype} values, not {np.dtype(wanted[name].dtype)}')
    if differences:
        raise _another(path, arrays, differences)
    for name in loaded:
        dtype = arrays[name].dtype if dtype_source == 'saved' else np.dtype(wanted[name].dtype)
        value = mx.nd.array(arrays[name].astype(dtype), dtype=dtype)
        load_value(
            wanted[name],
            value.as_np_ndarray() if mx.util.is_np_array() else value,
            ctx,
            cast_dtype=cast_dtype,
            dtype_source=dtype_source,
        )
    return missing


def _another(path, arrays, differences):
    more = f' and {len(differences) - 3} more' if len(differences) > 3 else ''
    # Names without a dot are the parameters' own, which GluonCV chooses differently.
    hint = '' if all('.' in name for name in arrays) else '; for a GluonCV network give a file from its save_parameters'
    return ValueError(f'{path} holds the parameters of another network: {"; ".join(differences[:3])}{more}{hint}.')


def _fits(shape, wanted):
    return wanted is None or (len(shape) == len(wanted) and all(w in (0, s) for s, w in zip(shape, wanted)))


def _summary(names):
    """Names in one line, by the blocks they belong to."""
    blocks = sorted(
        {
            name.rsplit('.', 1)[0].split('.attention.')[0] + ('.attention' if '.attention.' in name else '')
            for name in names
        }
    )
    return ', '.join(blocks[:6]) + (f', ... ({len(blocks)} blocks)' if len(blocks) > 6 else '')
