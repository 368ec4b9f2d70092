"""The official files of CIFAR-10 and CIFAR-100: found or downloaded, verified and read.

https://www.cs.toronto.edu/~kriz/cifar.html publishes each in a binary and in a Python version, as archives with their
MD5. MXNet has its own copies of the binary ones, of the same name but without a folder.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from typing import NamedTuple

import numpy as np

from .._mxnet import data_folder
from ..verified_download import digest, fetch
from .cifar_pickle import load_batch

__all__ = ['default_folder', 'load_cifar']

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


class Binary(NamedTuple):
    """A version whose files are records: label bytes, then 1,024 bytes each of red, green and blue."""

    archive: str
    folder: str
    train: tuple
    test: tuple
    labels: tuple  # of a record, in order
    names: None = None  # the class names are in a text file, which is not read

    def read(self, content, label):
        """Rows of pixels and labels of a file."""
        record = len(self.labels) + PIXELS
        if not content or len(content) % record:
            raise ValueError(f'has {len(content)} bytes, not a whole number of records of {record}')
        records = np.frombuffer(content, np.uint8).reshape(-1, record)
        return records[:, len(self.labels) :], records[:, self.labels.index(label)]


class Python(NamedTuple):
    """A version whose files are pickled dicts of an array of pixels and lists of labels."""

    archive: str
    folder: str
    train: tuple
    test: tuple
    names: str  # file of the class names

    def read(self, content, label):
        """Rows of pixels and labels of a file."""
        batch, key = load_batch(content), label + 's'
        rows, target = batch.get('data'), batch.get(key)
        if (
            not isinstance(rows, np.ndarray)
            or rows.ndim != 2
            or rows.shape[1] != PIXELS
            or type(target) is not list
            or not 0 < len(target) == len(rows)
            or not all(type(number) is int for number in target)
        ):
            raise ValueError(f"is not a pickle of 'data', rows of {PIXELS} bytes, and as many {key!r}")
        return rows, target

    def read_names(self, content, label):
        """The class names, in the order of their labels."""
        names = load_batch(content).get(label + '_names')
        if type(names) is not list:
            raise ValueError(f"is not a pickle of '{label}_names'")
        return tuple(name.decode('latin-1') if type(name) is bytes else name for name in names)


BATCHES = tuple(f'data_batch_{i}' for i in range(1, 6))
# The first version is downloaded.
VERSIONS = {
    'cifar10': (
        Binary(
            'cifar-10-binary.tar.gz',
            'cifar-10-batches-bin',
            tuple(f'{batch}.bin' for batch in BATCHES),
            ('test_batch.bin',),
            ('label',),
        ),
        Python('cifar-10-python.tar.gz', 'cifar-10-batches-py', BATCHES, ('test_batch',), 'batches.meta'),
    ),
    'cifar100': (
        Binary(
            'cifar-100-binary.tar.gz', 'cifar-100-binary', ('train.bin',), ('test.bin',), ('coarse_label', 'fine_label')
        ),
        Python('cifar-100-python.tar.gz', 'cifar-100-python', ('train',), ('test',), 'meta'),
    ),
}


def default_folder(name: str) -> str:
    """Where MXNet stores a data set: $MXNET_HOME/datasets/name, or ~/.mxnet/datasets/name."""
    return os.path.join(data_folder(), 'datasets', name)


def load_cifar(
    name: str, label: str, *, class_names: tuple[str, ...], data_dir: str | None = None
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Read a data set from the first version that is in a folder, after a download if there is none.

    Unpacked files come first. They are not verified, so that changed ones can be used, and nothing in them is executed.
    An archive is only opened if its digest is the published one.

    Parameters
    ----------
    name : {'cifar10', 'cifar100'}
    label : {'label', 'fine_label', 'coarse_label'}
        Of CIFAR-10 the first, of CIFAR-100 one of the others.
    class_names : tuple of str
        In the order of the labels.
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
    version, source, contents = _unpacked(VERSIONS[name], data_dir) or _packed(name, data_dir)

    def read(reader, file):
        try:
            return reader(contents.pop(file), label)
        except ValueError as error:
            raise ValueError(f'{source}: {file} {error}; fetch {version.archive} again.') from None

    def split(files):
        rows, labels = [], []
        for file in files:
            pixels, target = read(version.read, file)
            low, high = min(target), max(target)
            if low < 0 or high >= len(class_names):
                raise ValueError(
                    f'{source}: {file} has labels {low} to {high}, of {len(class_names)} classes; '
                    f'fetch {version.archive} again.'
                )
            rows.append(pixels)
            labels.append(np.asarray(target, np.int32))
        images = np.concatenate(rows).reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
        return images, np.concatenate(labels)

    if version.names in contents and read(version.read_names, version.names) != class_names:
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


def _packed(name, data_dir):
    """The same for an archive that is there, or else is downloaded."""
    paths = {version: os.path.join(data_dir, version.archive) for version in VERSIONS[name]}
    version = next((version for version, path in paths.items() if os.path.isfile(path)), VERSIONS[name][0])
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
