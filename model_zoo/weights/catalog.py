"""The released weights: catalogue, cache and download."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gluon_aff._deprecated import deprecated_names, renamed
from gluon_aff.data.class_names import BY_NAME
from gluon_aff.errors import suggestion
from gluon_aff.validation import shown
from gluon_aff.verified_download import digest, fetch

from ..reported_results import LOGS

__all__ = ['ReleasedWeights', 'default_root', 'get_model_file', 'list_weights']

HERE = Path(__file__).parent


@dataclass(frozen=True)
class ReleasedWeights:
    """A released parameter file, one record of catalog.json.

    Attributes
    ----------
    model, tag : str
        The registered network, and what tells its files apart; the first one of a network is its default.
    dataset, classes : str
        What it was trained on, and the key of its classes in :data:`gluon_aff.data.class_names.BY_NAME`.
    outputs : int
        Of the head in the file.
    dtype : str
        Of convolutions and dense layers in the file.
    metrics, metrics_source : dict, str
        Reported accuracy or error (0..1), and who reports it.
    recipe, source, license : str
    url : str or None
        None for a file that is shipped in this package.
    size : int or None
        Bytes, if known.
    digest_kind, digest : str
        See :func:`gluon_aff.verified_download.digest`.
    """

    model: str
    tag: str
    dataset: str
    classes: str
    outputs: int
    dtype: str
    metrics: dict[str, float]
    metrics_source: str
    recipe: str
    source: str
    license: str
    url: str | None
    size: int | None
    digest_kind: str
    digest: str

    figures = renamed('metrics')
    figures_source = renamed('metrics_source')
    labels = renamed('classes')

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each output."""
        return BY_NAME[self.classes]

    @property
    def file(self) -> str:
        """Name in the cache folder, GluonCV's pattern: the model and eight digits of the digest."""
        return f'{self.model}-{self.digest[:8]}.params'

    def path(self, root: str | None = None) -> str:
        """Where the file is, or will be after a download."""
        if self.url is None:
            return str(HERE / 'released' / self.file)
        return os.path.join(os.path.expanduser(root or default_root()), self.file)

    def file_size(self, parameters: int) -> int:
        """Bytes of the file; where they are not known, those that this number of parameters takes."""
        return self.size or parameters * int(self.dtype[-2:]) // 8

    def state(self, root: str | None = None) -> str:
        """'intact', 'damaged' or 'absent'."""
        path = self.path(root)
        if not os.path.isfile(path):
            return 'absent'
        return 'intact' if digest(path, self.digest_kind) == self.digest else 'damaged'

    def get(self, root: str | None = None) -> str:
        """The file's path; downloads it if needed.

        Raises
        ------
        DownloadError
            If the download fails; says how to put the file in place by hand.
        ValueError
            If a file shipped with this package is damaged.
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


def default_root() -> str:
    """The cache folder: $MXNET_HOME/models, or ~/.mxnet/models."""
    return os.path.join(os.environ.get('MXNET_HOME', os.path.join('~', '.mxnet')), 'models')


@lru_cache(maxsize=None)
def _catalog():
    rows = json.loads((HERE / 'catalog.json').read_text(encoding='utf-8'))['weights']
    # The metrics of the authors' files are in reported_results.py.
    return tuple(ReleasedWeights(**{'metrics': LOGS.get((row['model'], row['tag'])), **row}) for row in rows)


def list_weights(name: str | None = None) -> tuple[ReleasedWeights, ...]:
    """The released weights; a network's default comes first.

    Parameters
    ----------
    name : str, optional
        A network's; default all.
    """
    return tuple(weights for weights in _catalog() if name in (None, weights.model))


def choose(name, tag):
    """The released weights of a network by tag (True for the default) or by the first eight digits of their digest."""
    released = list_weights(name)
    if not released:
        no_file = '' if tag is True else f'There is no parameter file {shown(tag)}. '
        raise ValueError(
            f'{no_file}No parameters are released for {name}; give the path of a parameter file, or train it.'
        )
    if tag is True:
        return released[0]
    for weights in released:
        if tag in (weights.tag, weights.digest[:8]):
            return weights
    hint = suggestion(tag, [weights.tag for weights in released])
    raise ValueError(f'{shown(tag)} is neither a parameter file nor a tag of released parameters of {name}; {hint}')


def find(name, pretrained, root):
    """The path of the file that `pretrained` of get_model asks for, and its record if it is a released one."""
    if isinstance(pretrained, (str, os.PathLike)):
        path = os.path.expanduser(pretrained)
        if os.path.isfile(path):
            return path, None
        if isinstance(pretrained, os.PathLike) or os.path.dirname(path) or os.path.splitext(path)[1]:
            raise FileNotFoundError(f'There is no parameter file {path}.')
    weights = choose(name, pretrained)
    return weights.get(root), weights


def get_model_file(name: str, tag: str | bool | None = None, root: str | None = None) -> str:
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
        If the download fails.
    """
    return choose(str(name).lower(), tag or True).get(root)


def remove(name, root=None):
    """Remove a network's downloaded files from the cache folder, with interrupted and damaged ones."""
    for weights in list_weights(name):
        if weights.url:
            for suffix in ('', '.part', '.corrupt', '.lock'):
                path = weights.path(root) + suffix
                if os.path.isfile(path):
                    os.remove(path)


__getattr__ = deprecated_names(__name__)
