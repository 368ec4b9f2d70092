"""The official files of CIFAR-10 and CIFAR-100: found or downloaded, verified and read.

https://www.cs.toronto.edu/~kriz/cifar.html publishes each in a binary and in a Python version, as archives with their
MD5. MXNet has its own copies of the binary ones, of the same name but without a folder.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from dataclasses import dataclass
from typing import Sequence

import mxnet as mx
import numpy as np

from ..download import digest, fetch
from .cifar_pickle import load_batch

__all__ = ['BinaryVersion', 'PythonVersion', 'default_folder', 'load_cifar']

SITE = 'https://www.cs.toronto.edu/~kriz'
MXNET_MIRROR = 'https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com'
# (kind, digest) of the official archive, then of MXNet's copy.
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
        Name of the archive, and of the folder in it.
    train, test : tuple of str
        Files in the folder.
    label_bytes, column : int
        How many labels a record has, and which of them to use.
    """

    archive: str
    folder: str
    train: tuple
    test: tuple
    label_bytes: int
    column: int
    names = None  # the class names are in a text file, which is not read

    def read(self, content):
        """Rows of pixels and labels of a file."""
        record = self.label_bytes + PIXELS
        if not content or len(content) % record:
            raise ValueError(f'has {len(content)} bytes, not a whole number of records of {record}')
        records = np.frombuffer(content, np.uint8).reshape(-1, record)
        return records[:, self.label_bytes :], records[:, self.column]


@dataclass(frozen=True)
class PythonVersion:
    """Pickled dicts of an array of pixels and lists of labels, read by :func:`load_batch`.

    Attributes
    ----------
    archive, folder, train, test
        As in :class:`BinaryVersion`.
    names : str
        File of the class names.
    key : str
        Appended 's' it is the key of the labels, appended '_names' that of the class names.
    """

    archive: str
    folder: str
    train: tuple
    test: tuple
    names: str
    key: str

    def read(self, content):
        """Rows of pixels and labels of a file."""
        batch, key = load_batch(content), self.key + 's'
        rows, target = batch.get('data'), batch.get(key)
        if (
            not isinstance(rows, np.ndarray)
            or rows.ndim != 2
            or rows.shape[1] != PIXELS
            or type(target) is not list
            or not 0 < len(target) == len(rows)
            or not all(type(label) is int for label in target)
        ):
            raise ValueError(f"is not a pickle of 'data', rows of {PIXELS} bytes, and as many {key!r}")
        return rows, target

    def read_names(self, content):
        """The class names, in the order of their labels."""
        names = load_batch(content).get(self.key + '_names')
        if type(names) is not list:
            raise ValueError(f"is not a pickle of '{self.key}_names'")
        return tuple(name.decode('latin-1') if type(name) is bytes else name for name in names)


def default_folder(name: str) -> str:
    """Where MXNet stores a data set: $MXNET_HOME/datasets/name, or ~/.mxnet/datasets/name."""
    return os.path.join(os.path.expanduser(mx.base.data_dir()), 'datasets', name)


def load_cifar(
    name: str, classes: tuple[str, ...], versions: Sequence[BinaryVersion | PythonVersion], data_dir: str | None = None
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Read the images and labels of the first version that is in a folder, after a download if there is none.

    Unpacked files come first. They are not verified, so that changed ones can be used, and nothing in them is executed.
    An archive is only opened if its digest is the published one.

    Parameters
    ----------
    name : {'cifar10', 'cifar100'}
        MXNet's name of the data set.
    classes : tuple of str
        Class names, in the order of their labels.
    versions : sequence of BinaryVersion or PythonVersion
        The first is downloaded.
    data_dir : str, optional
        Folder of the archive, or of its unpacked files; default :func:`default_folder`.

    Returns
    -------
    train, test : (images, labels)
        uint8 (N, 32, 32, 3) and int32 (N,).

    Raises
    ------
    DownloadError
        If it cannot be downloaded; the message says which file to save where.
    FileNotFoundError
        If some of the unpacked files are missing.
    ValueError
        If an archive is not the published one, or a file is damaged.
    """
    data_dir = os.path.expanduser(data_dir or default_folder(name))
    version, source, contents = _unpacked(versions, data_dir) or _packed(name, versions, data_dir)

    def read(reader, file):
        try:
            return reader(contents.pop(file))
        except ValueError as error:
            raise ValueError(f'{source}: {file} {error}; fetch {version.archive} again.') from None

    def split(files):
        rows, targets = [], []
        for file in files:
            pixels, target = read(version.read, file)
            low, high = min(target), max(target)
            if low < 0 or high >= len(classes):
                raise ValueError(
                    f'{source}: {file} has labels {low} to {high}, of {len(classes)} classes; '
                    f'fetch {version.archive} again.'
                )
            rows.append(pixels)
            targets.append(np.asarray(target, np.int32))
        images = np.concatenate(rows).reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
        return images, np.concatenate(targets)

    if version.names in contents and read(version.read_names, version.names) != classes:
        raise ValueError(f"{source}: {version.names} names other classes than {name}'s; fetch {version.archive} again.")
    return split(version.train), split(version.test)


def _unpacked(versions, data_dir):
    """The version whose unpacked files are there, their folder and their contents by name; None without any."""
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
    """The same for an archive that is there, or else is downloaded."""
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
    elif not any(digest(path, kind) == expected for kind, expected in (published, *others)):
        kind, expected = published
        raise ValueError(
            f'{path} is not the published archive, or cut off: its {kind} is {digest(path, kind)}, not '
            f'{expected} ({os.path.getsize(path)} bytes); remove it to have it downloaded, or unpack it to '
            'use it nevertheless.'
        )
    files = version.train + version.test + (version.names,)
    members = {form: file for file in files if file for form in (f'{version.folder}/{file}', file)}
    contents = {}
    with tarfile.open(path, 'r|gz') as archive:
        for member in archive:
            file = members.get(posixpath.normpath(member.name))
            if file and member.isfile():
                contents[file] = archive.extractfile(member).read()
    return version, path, contents
