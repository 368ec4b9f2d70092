"""CIFAR-10's and CIFAR-100's official files: found or downloaded, verified, read.

https://www.cs.toronto.edu/~kriz/cifar.html publishes each in a binary and in a Python version, as archives with their
MD5. MXNet has its own copies of the binary ones, of the same name but without a folder.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from dataclasses import dataclass

import numpy as np

from .._mxnet import data_folder
from ..download import digest, fetch
from .plain_pickle import load_plain

__all__ = ['BinaryVersion', 'PythonVersion', 'default_folder', 'load_cifar']

SITE = 'https://www.cs.toronto.edu/~kriz'
MXNET_MIRROR = 'https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com'
# (kind, digest) of the official archive, then of MXNet's.
DIGESTS = {
    'cifar-10-binary.tar.gz': (
        ('md5', 'c32a1d4ab5d03f1284b67883e8d87530'),
        ('sha1', 'fab780a1e191a7eda0f345501ccd62d20f7ed891'),
    ),
    'cifar-10-python.tar.gz': (('md5', 'c58f30108f718f92721af3b95e74349a'),),
    'cifar-100-binary.tar.gz': (
        ('md5', '03b5dce01913d631647c71ecec9e9cb8'),
        ('sha1', 'a0bb982c76b83111308126cc779a992fa506b90b'),
    ),
    'cifar-100-python.tar.gz': (('md5', 'eb9058c3a382ffc7106e4002c42a8d85'),),
}
SIZE, PIXELS = 32, 3 * 32 * 32


@dataclass(frozen=True)
class BinaryVersion:
    """Files of records: label bytes, then 1,024 bytes each of red, green and blue.

    Attributes
    ----------
    archive, folder : str
        The archive's name, and the folder in it.
    train, test : tuple of str
        Files in the folder.
    label_bytes, column : int
        How many labels a record has, and which of them is meant.
    """

    archive: str
    folder: str
    train: tuple
    test: tuple
    label_bytes: int
    column: int
    names = None  # are in a file of text, which nothing here needs

    def read(self, content):
        """Rows of pixels and labels of a file."""
        record = self.label_bytes + PIXELS
        if not content or len(content) % record:
            raise ValueError(f'has {len(content)} bytes, no whole number of records of {record}')
        records = np.frombuffer(content, np.uint8).reshape(-1, record)
        return records[:, self.label_bytes :], records[:, self.column]


@dataclass(frozen=True)
class PythonVersion:
    """Pickled dicts of an array of pixels and lists of labels; never unpickled, see :func:`load_plain`.

    Attributes
    ----------
    archive, folder, train, test
        As in :class:`BinaryVersion`.
    names : str
        File of the classes' names.
    key : str
        With an s the key of the labels, with _names that of the names.
    """

    archive: str
    folder: str
    train: tuple
    test: tuple
    names: str
    key: str

    def read(self, content):
        """Rows of pixels and labels of a file."""
        batch, key = load_plain(content), self.key + 's'
        rows, target = batch.get('data'), batch.get(key)
        if (
            not isinstance(rows, np.ndarray)
            or rows.ndim != 2
            or rows.shape[1] != PIXELS
            or type(target) is not list
            or not 0 < len(target) == len(rows)
            or not all(type(label) is int for label in target)
        ):
            raise ValueError(f"is no pickle of 'data', rows of {PIXELS} bytes, and as many {key!r}")
        return rows, target

    def read_names(self, content):
        """The classes' names, in their order."""
        names = load_plain(content).get(self.key + '_names')
        if type(names) is not list:
            raise ValueError(f"is no pickle of '{self.key}_names'")
        return tuple(name.decode('latin-1') if type(name) is bytes else name for name in names)


def default_folder(name):
    """Where MXNet keeps a data set: $MXNET_HOME/datasets/name, or ~/.mxnet/datasets/name.

    Parameters
    ----------
    name : str
    """
    return os.path.join(data_folder(), 'datasets', name)


def load_cifar(name, classes, versions, data_dir=None):
    """Images and labels of the first version that is in a folder, after a download where there is none.

    Unpacked files come before archives, and are taken as they are; an archive must be the published one.

    Parameters
    ----------
    name : {'cifar10', 'cifar100'}
        MXNet's name of the data set.
    classes : tuple of str
        Names of the classes, in the order of their labels.
    versions : sequence of BinaryVersion or PythonVersion
        The first is the one to download.
    data_dir : str, optional
        Folder of an archive, or of what is in it; default :func:`default_folder`.

    Returns
    -------
    train, test : (images, labels)
        uint8 (N, 32, 32, 3) and int32 (N,).

    Raises
    ------
    DownloadError
        If it is not there and cannot be downloaded; says which file to put where.
    FileNotFoundError
        If some of its unpacked files are missing.
    ValueError
        If an archive is not the published one, or a file is damaged.
    """
    data_dir = os.path.expanduser(data_dir or default_folder(name))
    version, place, contents = _unpacked(versions, data_dir) or _packed(name, versions, data_dir)

    def read(reader, file):
        try:
            return reader(contents.pop(file))
        except ValueError as error:
            raise ValueError(f'{place}: {file} {error}; fetch {version.archive} again.') from None

    def split(files):
        rows, targets = [], []
        for file in files:
            pixels, target = read(version.read, file)
            low, high = min(target), max(target)
            if low < 0 or high >= len(classes):
                raise ValueError(
                    f'{place}: {file} has labels {low} to {high}, of {len(classes)} classes; '
                    f'fetch {version.archive} again.'
                )
            rows.append(pixels)
            targets.append(np.asarray(target, np.int32))
        images = np.concatenate(rows).reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
        return images, np.concatenate(targets)

    if version.names in contents and read(version.read_names, version.names) != classes:
        raise ValueError(f"{place}: {version.names} names other classes than {name}'s; fetch {version.archive} again.")
    return split(version.train), split(version.test)


def _unpacked(versions, data_dir):
    """The version whose files are there, their folder, and the content of each; None where there are none."""
    for version in versions:
        for folder in (os.path.join(data_dir, version.folder), data_dir):
            paths = {file: os.path.join(folder, file) for file in version.train + version.test}
            missing = [file for file, path in paths.items() if not os.path.isfile(path)]
            if len(missing) == len(paths):
                continue
            if missing:
                raise FileNotFoundError(
                    f'{folder} lacks {", ".join(missing)}; unpack {version.archive} there again, '
                    'or remove what is there of it.'
                )
            if version.names and os.path.isfile(os.path.join(folder, version.names)):
                paths[version.names] = os.path.join(folder, version.names)
            return version, folder, {file: _content(path) for file, path in paths.items()}
    return None


def _content(path):
    with open(path, 'rb') as file:
        return file.read()


def _packed(name, versions, data_dir):
    """The same of the archive that is there, or of the first version's, downloaded."""
    paths = {version: os.path.join(data_dir, version.archive) for version in versions}
    version = next((version for version, path in paths.items() if os.path.isfile(path)), versions[0])
    path, (published, *others) = paths[version], DIGESTS[version.archive]
    if not os.path.isfile(path):
        mirror = os.environ.get('MXNET_GLUON_REPO') or MXNET_MIRROR
        fetch(
            [f'{SITE}/{version.archive}', f'{mirror.rstrip("/")}/gluon/dataset/{name}/{version.archive}'],
            path,
            *published,
            also=others,
        )
    elif not any(digest(path, kind) == wanted for kind, wanted in (published, *others)):
        kind, wanted = published
        raise ValueError(
            f'{path} is not the published archive, or cut off: its {kind} is {digest(path, kind)}, not '
            f'{wanted} ({os.path.getsize(path)} bytes); remove it to have it downloaded, or unpack it to '
            'use it nevertheless.'
        )
    files = version.train + version.test + (version.names,)
    wanted = {form: file for file in files if file for form in (f'{version.folder}/{file}', file)}
    contents = {}
    with tarfile.open(path, 'r|gz') as archive:  # once, from the beginning to the end
        for member in archive:
            file = wanted.get(posixpath.normpath(member.name))
            if file and member.isfile():
                contents[file] = archive.extractfile(member).read()
    return version, path, contents
