"""numpy's .npz files, one array at a time: not pickled, not compressed, and never larger in memory than in the file."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping
from typing import Iterator, NamedTuple

import numpy as np
from numpy.lib import format as npy

__all__ = ['Archive', 'Header', 'write_npz']

PIECE = 1 << 20


def write_npz(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as numpy.savez does, but close the file on a full disk, too, so that Python does not complain later.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with zipfile.ZipFile(path, 'w') as file:
        for name, array in arrays.items():
            with file.open(f'{name}.npy', 'w', force_zip64=True) as entry:
                npy.write_array(entry, np.asanyarray(array), allow_pickle=False)


class Header(NamedTuple):
    """The type and shape of an array that is not read yet."""

    dtype: np.dtype
    shape: tuple


class Archive(Mapping):
    """The arrays of an uncompressed .npz file by name; each is read when it is asked for.

    numpy's own reader allocates what an array's header states, before it looks whether the file has as much; here every
    header is compared with the file first, and the file with its checksums.

    Parameters
    ----------
    path : str

    Attributes
    ----------
    path : str
    headers : dict of str to Header

    Raises
    ------
    Exception
        Of any type, from zipfile or numpy, if it is not such a file or is damaged.
    """

    def __init__(self, path: str):
        self.path, self._file = path, zipfile.ZipFile(path)
        self._entries = {re.sub(r'\.npy\Z', '', entry.filename): entry for entry in self._file.infolist()}
        if len(self._entries) < len(self._file.infolist()):
            raise ValueError('two arrays have one name')
        sizes = [(entry.file_size, entry.compress_size) for entry in self._entries.values()]
        if any(full != stored for full, stored in sizes) or sum(full for full, _ in sizes) > os.path.getsize(path):
            raise ValueError('its arrays are compressed, or overlap')
        self.headers = {name: self._checked(entry) for name, entry in self._entries.items()}

    def _checked(self, entry: zipfile.ZipInfo) -> Header:
        with self._file.open(entry) as file:
            while file.read(PIECE):  # to the end, where zipfile compares the checksum
                pass
        with self._file.open(entry) as file:
            try:
                version = npy.read_magic(file)
                shape, fortran_order, dtype = npy.read_array_header_1_0(file)
            except Exception:  # numpy evaluates the header as a literal, which can fail in many ways
                version = shape = fortran_order = dtype = None
            if version != (1, 0) or dtype.kind not in 'fiu' or fortran_order or min(shape, default=0) < 0:
                raise ValueError(f'{entry.filename} is not an array of numbers')
            size = dtype.itemsize
            for side in shape:
                size *= side
            if file.tell() + size != entry.file_size:
                raise ValueError(f'{entry.filename} has another size than its header states')
        return Header(dtype, shape)

    def __getitem__(self, name: str) -> np.ndarray:
        with self._file.open(self._entries[name]) as file:
            return npy.read_array(file, allow_pickle=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self.headers)

    def __len__(self) -> int:
        return len(self.headers)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
