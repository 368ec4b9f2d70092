"""Images in a RecordIO file (.rec, with an index .idx), MXNet's format for ImageNet.

A record is MXNet's magic number, a word with the kind and the length, a header (flag, label, two ids), and the content
of an image file, padded to a multiple of four bytes. Content that contains the magic number at a multiple of four bytes
is split there into several records, without it. MXNet's own reader and writer of this format end the process, or raise
with a C++ trace, on a damaged file or a full disk.
"""

from __future__ import annotations

import io
import os
import re
import struct
from typing import BinaryIO, ContextManager

import numpy as np
from PIL import Image

from .._deprecated import renamed
from ..errors import positive
from . import class_names
from .check import unreadable
from .images import MAX_BYTES, opened

__all__ = ['RecordFile', 'write_record']

MAGIC, MAGIC_BYTES = 0xCED7230A, struct.pack('<I', 0xCED7230A)
FRAME, HEADER = struct.Struct('<II'), struct.Struct('<IfQQ')
MAX_CLASSES = 100_000  # a larger label means damage


class RecordFile:
    """A checked RecordIO file of labelled images; each is decoded once, to leave out unreadable ones.

    Parameters
    ----------
    path : str
    index : str, optional
        Its .idx file; default that of the same name, if there is one. It is checked, but not needed.
    workers : int, default 4
        Number of decoding threads.

    Attributes
    ----------
    class_names : tuple of str
        The lines of classes.txt in the same folder if there is one; else ImageNet's if there are 1000 classes; else
        'class 0', ...
    target : numpy.ndarray, int, (N,)
    records : numpy.ndarray, int, (N,)
        Number of each image's record in the file.
    skipped : dict of int: str
        A sentence for each record that was left out, by number.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or no such index.
    ValueError
        If it is damaged or has no readable image, a label is not a whole number below 100,000, or the index or the
        class names belong to another file.
    """

    labels = renamed('class_names')

    def __init__(self, path: str | os.PathLike, index: str | None = None, *, workers: int = 4):
        positive('workers', workers)
        self.path = os.fspath(path)
        for file in filter(None, (self.path, index)):
            if not os.path.isfile(file):
                raise FileNotFoundError(
                    f'There is no file {file}; name a .rec file, such as gluon-aff records makes '
                    'from folders of images, and its .idx, if any.'
                )
        self._offsets, self.target = self._scan()
        beside = os.path.splitext(self.path)[0] + '.idx'
        if index or os.path.isfile(beside):
            self._check_index(index or beside)
        records = range(len(self.target))
        self.skipped = unreadable(records, self._open, f'check {self.path}', workers)
        self.records = np.delete(records, np.array(list(self.skipped), int))
        self.target = self.target[self.records]
        if not len(self):
            raise ValueError(f'{self.path} holds no image that can be read: {self.skipped[0]}')
        self.class_names = self._names()

    def __len__(self) -> int:
        return len(self.target)

    @property
    def offsets(self) -> np.ndarray:
        """Begin and end of each image's record in the file, in bytes, (N, 2)."""
        return np.stack([self._offsets[self.records], self._offsets[self.records + 1]], 1)

    def open(self, index: int) -> ContextManager[Image.Image]:
        """Context manager of an image, see :func:`gluon_aff.data.images.opened`."""
        return self._open(self.records[index])

    def _open(self, record):
        return opened(io.BytesIO(self._content(record)), f'image {record} of {self.path}')

    def _content(self, record):
        """The image file in a record."""
        begin, end = self._offsets[record : record + 2]
        if end - begin > MAX_BYTES:
            raise ValueError(
                f'image {record} of {self.path} has more than the {MAX_BYTES >> 20} MiB that are read; make it smaller.'
            )
        with open(self.path, 'rb') as file:
            file.seek(begin)
            content = file.read(end - begin)
        if len(content) < end - begin:
            raise ValueError(f'{self.path} has become shorter since it was opened; copy or make it again.')
        pieces, position = [], 0
        while position < len(content):
            _, word = FRAME.unpack_from(content, position)
            position += FRAME.size
            pieces.append(content[position : position + _length(word)])
            position += _padded(word)
        content = MAGIC_BYTES.join(pieces)
        return content[HEADER.size + 4 * HEADER.unpack_from(content)[0] :]

    def _scan(self):
        """Offsets and labels, from the head of each record."""
        offsets, target = [], []
        total, position, unfinished = os.path.getsize(self.path), 0, False
        with open(self.path, 'rb', buffering=0) as file:
            while position < total:
                file.seek(position)
                head = file.read(FRAME.size + HEADER.size + 4)
                if len(head) < FRAME.size or not head.startswith(MAGIC_BYTES):
                    raise self._damaged(position)
                word = FRAME.unpack_from(head)[1]
                # Kind 0 is a whole record; 1, 2 and 3 are the first, a middle and the last piece of one.
                kind, end = word >> 29, position + FRAME.size + _length(word)
                if kind > 3 or unfinished != (kind >= 2):
                    raise self._damaged(position)
                if end > total:
                    raise ValueError(
                        f'{self.path} is cut short: image {len(offsets)} ends at byte {end} of {total}; '
                        'copy or make it again.'
                    )
                if kind < 2:
                    offsets.append(position)
                    target.append(self._label(head[FRAME.size : FRAME.size + _length(word)], position))
                unfinished = kind in (1, 2)
                position += FRAME.size + _padded(word)
        if unfinished or not offsets:
            raise ValueError(f'{self.path} {"is cut short" if offsets else "holds no image"}; copy or make it again.')
        return np.array([*offsets, total]), np.array(target, np.int32)

    def _damaged(self, position):
        if position == 0:
            return ValueError(f'{self.path} is not a RecordIO file; name a .rec file, such as gluon-aff records makes.')
        return ValueError(f'{self.path} is damaged at byte {position}; copy or make it again.')

    def _label(self, content, position):
        if len(content) < HEADER.size:
            raise self._damaged(position)
        values, label, _, _ = HEADER.unpack_from(content)
        if values == 1 and len(content) < HEADER.size + 4:
            raise self._damaged(position)
        if values == 1:
            (label,) = struct.unpack_from('<f', content, HEADER.size)
        if values > 1 or not (0 <= label < MAX_CLASSES and label == int(label)):
            what = f'{values} labels' if values > 1 else f'the label {label:.9g}'
            raise ValueError(
                f'An image of {self.path}, at byte {position}, has {what}; each needs one whole number '
                f'from 0 to {MAX_CLASSES - 1}, that of its class.'
            )
        return int(label)

    def _check_index(self, index):
        try:
            with open(index, encoding='utf-8') as file:
                offsets = sorted(int(line.split('\t')[1]) for line in file)
        except (ValueError, IndexError):
            raise ValueError(
                f'{index} is not an index of a RecordIO file; make it anew, or remove it, as it is not needed here.'
            ) from None
        if offsets != self._offsets[:-1].tolist():
            raise ValueError(
                f'{index} does not belong to {self.path}: it has {len(offsets)} records, the file has '
                f'{len(self)}, or they are at other offsets; make it anew, or remove it, as it is not '
                'needed here.'
            )

    def _names(self):
        classes = int(self.target.max()) + 1
        path = os.path.join(os.path.dirname(self.path), 'classes.txt')
        if os.path.isfile(path):
            names = class_names.read_class_names(path)
            if len(names) < classes:
                raise ValueError(
                    f'{path} names {len(names)} classes, but {self.path} has images of class '
                    f'{classes - 1}; it needs a line for each class.'
                )
            return names
        return class_names.IMAGENET if classes == 1000 else class_names.numbered(classes)


def _length(word):
    return word & 2**29 - 1


def _padded(word):
    """The length, padded to a multiple of four bytes."""
    return _length(word) + 3 & ~3


def write_record(file: BinaryIO, label: int, key: int, content: bytes) -> None:
    """Append a labelled image to a RecordIO file.

    Parameters
    ----------
    file : binary file
        Positioned at its end.
    label : int
    key : int
        The image's number.
    content : bytes
        Of an image file.
    """
    content = HEADER.pack(0, label, key, 0) + content
    cuts = [match.start() for match in re.finditer(re.escape(MAGIC_BYTES), content) if match.start() % 4 == 0]
    begins, ends = [0, *(cut + 4 for cut in cuts)], [*cuts, len(content)]
    for number, (begin, end) in enumerate(zip(begins, ends)):
        kind = 0 if not cuts else 1 if number == 0 else 3 if number == len(cuts) else 2
        file.write(FRAME.pack(MAGIC, kind << 29 | end - begin))
        file.write(content[begin:end])
        file.write(bytes(-(end - begin) % 4))
