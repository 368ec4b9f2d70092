"""The released weights: catalogue, cache and download."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from gluon_aff._deprecated import deprecated_names, renamed
from gluon_aff.data.class_names import BY_NAME
from gluon_aff.errors import suggestion
from gluon_aff.validation import shown
from gluon_aff.verified_download import DownloadError, digest, fetch

from ..reported_results import LOGS
from .torch_files import SAFETENSORS, has_torch, is_torch_file, is_whole

__all__ = ['ReleasedWeights', 'default_root', 'get_model_file', 'list_weights']

HERE = Path(__file__).parent


@dataclass(frozen=True)
class ReleasedWeights:
    """A released parameter file, one record of catalog.json or torch_catalog.json.

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
        See :func:`gluon_aff.verified_download.digest`; of a PyTorch file its first eight digits, or '' if unknown.
    aliases : tuple of str, default ()
        Its other names, such as timm's 'resnet50d.gluon_in1k' and torchvision's 'IMAGENET1K_V2'.
    mirror : str or None
        Address of a .safetensors file with the same parameters, of no known digest.
    mebibytes : float or None
        Size, to three decimals, if its bytes are not known.
    preprocessing : dict or None
        With which the metrics were measured: size (H and W), crop (part of the short side), interpolation, mean, std.
        None for those of the card.
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
    aliases: tuple[str, ...] = ()
    mirror: str | None = None
    mebibytes: float | None = None
    preprocessing: dict[str, Any] | None = None

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
        if not self.digest:
            return self.mirror_file
        suffix = os.path.splitext(self.url)[1] if self.url and is_torch_file(self.url) else '.params'
        return f'{self.model}-{self.digest[:8]}{suffix}'

    @property
    def mirror_file(self) -> str:
        """Name in the cache folder of a .safetensors file of no known digest."""
        return f'{self.aliases[0]}{SAFETENSORS}'

    def spec_changes(self) -> dict[str, Any]:
        """Fields of the card's :class:`gluon_aff.spec.ModelSpec` that are different with these parameters."""
        if not self.preprocessing:
            return {}
        values = self.preprocessing
        size = values['size']
        resized = int(round(size / values['crop'], 2))  # timm and torchvision round down, a ModelSpec rounds up
        return {
            'input_size': (3, size, size),
            'crop_ratio': size / resized,
            'interpolation': values['interpolation'],
            'mean': tuple(values['mean']),
            'std': tuple(values['std']),
        }

    def _downloads(self):
        """(address, name in the cache folder, digest, further check) of each file; without PyTorch not of its own."""
        files = [(self.url, self.file, self.digest, self._has_size if self.digest else is_whole)]
        if self.mirror:
            files.append((self.mirror, self.mirror_file, '', is_whole))
        return files if len(files) == 1 or has_torch() else files[1:]

    def _has_size(self, path):
        return self.mebibytes in (None, round(os.path.getsize(path) / 2**20, 3))

    def path(self, root: str | None = None) -> str:
        """Where the file is, or will be after a download."""
        if self.url is None:
            return str(HERE / 'released' / self.file)
        folder = os.path.expanduser(root or default_root())
        paths = [os.path.join(folder, file) for _, file, _, _ in self._downloads()]
        return next(filter(os.path.isfile, paths), paths[0])

    def file_size(self, parameters: int) -> int:
        """Bytes of the file; where they are not known, those that this number of parameters takes."""
        return self.size or parameters * int(self.dtype[-2:]) // 8

    def state(self, root: str | None = None) -> str:
        """'intact', 'damaged', 'absent', or 'whole' for a file of no known digest."""
        path = self.path(root)
        if not os.path.isfile(path):
            return 'absent'
        if self.digest and os.path.basename(path) == self.file:
            return 'intact' if digest(path, self.digest_kind).startswith(self.digest) else 'damaged'
        return 'whole' if is_whole(path) else 'damaged'

    def get(self, root: str | None = None) -> str:
        """The file's path; downloads it if needed, from its address or, where that fails, from its mirror.

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
        repository, errors = os.environ.get('MXNET_GLUON_REPO'), []
        downloads = self._downloads()
        downloads.sort(key=lambda download: download[1] != os.path.basename(path))  # first what is there
        for url, file, expected, check in downloads:
            path = os.path.join(os.path.dirname(path), file)
            urls = [f'{repository.rstrip("/")}/gluon/models/{file}'] if repository else []
            try:
                fetch([*urls, url], path, self.digest_kind, expected, check=check, limit=self.size)
            except DownloadError as error:
                errors.append(str(error))
            else:
                return path
        raise DownloadError(' Or: '.join(errors))


def default_root() -> str:
    """The cache folder: $MXNET_HOME/models, or ~/.mxnet/models."""
    return os.path.join(os.environ.get('MXNET_HOME', os.path.join('~', '.mxnet')), 'models')


@lru_cache(maxsize=None)
def _catalog():
    records = []
    for name in ('catalog.json', 'torch_catalog.json'):
        content = json.loads((HERE / name).read_text(encoding='utf-8'))
        for row in content['weights']:
            # The metrics of the authors' files are in reported_results.py.
            row = {'metrics': LOGS.get((row['model'], row['tag'])), **content.get('defaults', {}), **row}
            records.append(ReleasedWeights(**{**row, 'aliases': tuple(row.get('aliases', ()))}))
    return tuple(records)


def list_weights(name: str | None = None) -> tuple[ReleasedWeights, ...]:
    """The released weights; a network's default comes first.

    Parameters
    ----------
    name : str, optional
        A network's; default all.
    """
    return tuple(weights for weights in _catalog() if name in (None, weights.model))


def identify(path: str, name: str | None = None) -> tuple[ReleasedWeights, ...]:
    """The released weights that a file is, by its digest.

    Parameters
    ----------
    path : str
    name : str, optional
        Of a network; default any.
    """
    known = [weights for weights in list_weights(name) if weights.digest]
    digests = {kind: digest(path, kind) for kind in {weights.digest_kind for weights in known}}
    return tuple(weights for weights in known if digests[weights.digest_kind].startswith(weights.digest))


def choose(name, tag):
    """The released weights of a network by tag (True for the default), alias or first eight digits of their digest.

    An alias with the name of another network in it, such as timm's 'resnet50d.gluon_in1k', is of any network.
    """
    by_alias = _by_alias(tag)
    if by_alias:
        return by_alias
    released = list_weights(name)
    if not released:
        no_file = '' if tag is True else f'There is no parameter file {shown(tag)}. '
        raise ValueError(
            f'{no_file}No parameters are released for {name}; give the path of a parameter file, or train it.'
        )
    if tag is True:
        return released[0]
    for weights in released:
        if tag in (weights.tag, weights.digest[:8], *weights.aliases):
            return weights
    hint = suggestion(tag, [weights.tag for weights in released])
    raise ValueError(f'{shown(tag)} is neither a parameter file nor a tag of released parameters of {name}; {hint}')


def _by_alias(tag):
    """The released weights of any network that have this alias with a dot; None if there are none."""
    if not isinstance(tag, str) or '.' not in tag:
        return None
    return next((weights for weights in list_weights() if tag in weights.aliases), None)


def find(name, pretrained, root):
    """The path of the file that `pretrained` of get_model asks for, and its record if it is a released one."""
    if isinstance(pretrained, (str, os.PathLike)):
        path = os.path.expanduser(pretrained)
        if os.path.isfile(path):
            return path, None
        is_name = not os.path.splitext(path)[1] or _by_alias(pretrained)
        if isinstance(pretrained, os.PathLike) or os.path.dirname(path) or not is_name:
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
            folder = os.path.dirname(weights.path(root))
            for file in (weights.file, *([weights.mirror_file] if weights.mirror else [])):
                for suffix in ('', '.part', '.corrupt', '.lock'):
                    path = os.path.join(folder, file + suffix)
                    if os.path.isfile(path):
                        os.remove(path)


__getattr__ = deprecated_names(__name__)
