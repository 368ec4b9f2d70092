"""numpy's .npz files, read array by array and within the size of the file: no pickle, no compression, no evaluation."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

__all__ = ['Archive', 'Header']

# As numpy.save writes it: its magic, version 1.0, the length of a header that fills up 64 bytes, the header.
MAGIC, MAGIC_LENGTH = b'\x93NUMPY\x01\x00', 10
HEADER = re.compile(rb"\{'descr': '(<f[248]|<i[48]|\|[iu]1)', 'fortran_order': False, 'shape': \(([\d, ]*)\), \} *\n")
MAX_HEADER = 1024
MAX_DIMENSIONS = 32
MAX_ENTRIES = 200_000
PIECE = 1 << 20


class Header(NamedTuple):
    """The type and shape of an array that is not read yet."""

    dtype: np.dtype
    shape: tuple


class Archive(Mapping):
    """The arrays of an uncompressed .npz file by name, each read when it is asked for.

    Opening it reads no array, but checks that all of them fit in the file: so what an array takes in memory is never
    more than the file has.

    Parameters
    ----------
    path : str

    Attributes
    ----------
    path : str
    headers : dict of str to Header

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError
        If it is not such a file. Reading a damaged array raises zipfile.BadZipFile.
    """

    def __init__(self, path):
        self.path, self._file = path, zipfile.ZipFile(path)
        entries = self._file.infolist()
        if len(entries) > MAX_ENTRIES or len({entry.filename for entry in entries}) < len(entries):
            raise ValueError('too many arrays, or two of one name')
        if any(
            entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size for entry in entries
        ):
            raise ValueError('it is compressed')
        if sum(entry.file_size for entry in entries) > os.path.getsize(path):
            raise ValueError('its arrays overlap')
        self.headers, self._entries = {}, {}
        for entry in entries:
            name = re.sub(r'\.npy\Z', '', entry.filename)
            self.headers[name], self._entries[name] = self._header(entry), entry

    def _header(self, entry):
        with self._file.open(entry) as file:
            start = file.read(MAGIC_LENGTH)
            length = int.from_bytes(start[-2:], 'little')
            text = file.read(min(length, MAX_HEADER))
        match = HEADER.fullmatch(text)
        if len(text) < length or not start.startswith(MAGIC) or not match:
            raise ValueError(f'{entry.filename} is not an array of numbers')
        header = Header(np.dtype(match[1].decode()), tuple(int(side) for side in re.findall(rb'\d+', match[2])))
        size = header.dtype.itemsize
        for side in header.shape:
            size *= side
        if len(header.shape) > MAX_DIMENSIONS or len(start) + len(text) + size != entry.file_size:
            raise ValueError(f'{entry.filename} has another size than its header states')
        return header

    def __getitem__(self, name):
        dtype, shape = self.headers[name]
        content = self._file.read(self._entries[name])  # and compares the checksum
        begin = MAGIC_LENGTH + int.from_bytes(content[MAGIC_LENGTH - 2 : MAGIC_LENGTH], 'little')
        return np.frombuffer(content, dtype, offset=begin).reshape(shape)

    def __iter__(self):
        return iter(self.headers)

    def __len__(self):
        return len(self.headers)

    def verify(self):
        """Read the whole file, a piece at a time, and compare the checksums."""
        for entry in self._entries.values():
            with self._file.open(entry) as file:
                while file.read(PIECE):
                    pass

    def close(self):
        """Let go of the file."""
        self._file.close()
