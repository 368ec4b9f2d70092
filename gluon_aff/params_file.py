"""MXNet's parameter files, read in Python, so that no broken or hostile one reaches MXNet's reader, and written whole.

The format (ndarray.cc of MXNet 1.x, little-endian): a list magic and a reserved word, the number of arrays, the arrays,
the number of names, the names. An array is a magic, its storage type, its shape, a device, a type, the values.
"""

from __future__ import annotations

import mmap
import os
import struct

import mxnet as mx
import numpy as np

from .files import atomic, cut_short

__all__ = ['read_parameters', 'write_parameters']

LIST_MAGIC = 0x112
ARRAY_V1, ARRAY_V2, ARRAY_V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
BFLOAT16 = np.dtype([('bfloat16', np.uint16)])  # as MXNet names it
TYPES = dict(enumerate(map(np.dtype, ('float32', 'float64', 'float16', 'uint8', 'int32', 'int8', 'int64', 'bool'))))
TYPES[12] = BFLOAT16
MAX_ARRAYS = 100_000  # a network of a thousand layers has some thousands
MAX_DIMENSIONS = 32
MAX_NAME = 1024
DENSE = 0
HEAD, HEAD_V1, LENGTH = struct.Struct('<Iii'), struct.Struct('<Ii'), struct.Struct('<Q')
# The shape, the device (two numbers), the type.
REST = [struct.Struct(f'<{dimensions}qiii') for dimensions in range(MAX_DIMENSIONS + 1)]


class _DamagedError(Exception):
    """What is wrong with the file."""


class _Reader:
    """Reads values from a buffer, never past its end."""

    def __init__(self, buffer):
        self.buffer, self.size, self.position, self.magics = buffer, len(buffer), 0, set()

    def skip(self, size):
        """Where the next `size` bytes begin."""
        start = self.position
        if size > self.size - start:
            raise _DamagedError(f'it ends at byte {self.size}, within a value')
        self.position = start + size
        return start

    def take(self, layout):
        return layout.unpack_from(self.buffer, self.skip(layout.size))

    def count(self, smallest, what):
        """A count of things of at least `smallest` bytes, for which the rest of the file must have room."""
        (count,) = self.take(LENGTH)
        if count > (self.size - self.position) // smallest:
            raise _DamagedError(f'it claims to hold {count} {what}, more than fit in it')
        if count > MAX_ARRAYS:
            raise _DamagedError(f'it holds {count} {what}, more than the {MAX_ARRAYS} that are read')
        return count

    def array(self):
        start = self.position
        magic, storage, dimensions = self.take(HEAD)
        if magic == ARRAY_V1:
            self.position = start
            storage, dimensions = DENSE, self.take(HEAD_V1)[1]
        if magic not in (ARRAY_V1, ARRAY_V2, ARRAY_V3):
            raise _DamagedError(f'there is no array at byte {start}')
        self.magics.add(magic)
        if storage != DENSE:
            raise _DamagedError('it holds a sparse array')
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise _DamagedError(f'it holds an array of {dimensions} dimensions')
        *shape, _, _, flag = self.take(REST[dimensions])
        if flag not in TYPES:
            raise _DamagedError(f'it holds values of an unknown type ({flag})')
        if min(shape) < 1:
            raise _DamagedError(f'it holds an array of shape {tuple(shape)}')
        dtype, size = TYPES[flag], 1
        for length in shape:
            size *= length
        return np.ndarray(shape, dtype, self.buffer, self.skip(size * dtype.itemsize))

    def name(self):
        (size,) = self.take(LENGTH)
        if size > MAX_NAME:
            raise _DamagedError(f'it holds a name of {size} bytes')
        start = self.skip(size)
        try:
            name = str(self.buffer[start : self.position], 'utf-8')
        except UnicodeDecodeError:
            raise _DamagedError('it holds a name that is not UTF-8') from None
        if not name.isprintable():  # MXNet cuts names at a zero byte
            raise _DamagedError(f'it holds a name with control characters, {name!r}')
        return name


def _read(buffer):
    reader = _Reader(buffer)
    if len(buffer) < 8 or reader.take(LENGTH)[0] != LIST_MAGIC:
        raise _DamagedError('it does not begin like one')
    reader.skip(8)
    arrays = [reader.array() for _ in range(reader.count(HEAD_V1.size + REST[1].size + 1, 'arrays'))]
    count = reader.count(8, 'names')
    if count != len(arrays):
        raise _DamagedError(f'it holds {len(arrays)} arrays and {count} names')
    names = [reader.name() for _ in range(count)]
    if reader.position != len(buffer):
        raise _DamagedError(f'{len(buffer) - reader.position} bytes follow its end')
    if ARRAY_V3 in reader.magics and len(reader.magics) > 1:
        raise _DamagedError('it holds arrays saved with and without NumPy semantics, which MXNet never mixes')
    # Prefixes of Gluon's export.
    names = [name.split(':', 1)[1] if name.startswith(('arg:', 'aux:')) else name for name in names]
    if len(set(names)) < len(names):
        raise _DamagedError('it holds two arrays of one name')
    if not names:
        raise _DamagedError('it is empty')
    return dict(zip(names, arrays))


def read_parameters(path: str, content: bytes | None = None) -> dict[str, np.ndarray]:
    """The arrays, by name, of a file from Gluon's save_parameters or export; nothing in it is executed.

    The arrays are read-only views of the file, so only what is used takes memory.

    Parameters
    ----------
    path : str
    content : bytes, optional
        The file's content, if it has been read; the file itself is then not opened.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a parameter file, is damaged, or holds sparse or empty arrays, which no network's parameters are.
    """
    if content is None and not os.path.isfile(path):
        raise FileNotFoundError(f'There is no parameter file {path}.')
    try:
        if content is not None:
            return _read(memoryview(content))
        with open(path, 'rb') as file:
            if not os.fstat(file.fileno()).st_size:
                raise _DamagedError('it is empty')
            return _read(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except _DamagedError as damage:
        raise ValueError(f'{path} is not a parameter file that Gluon saved, or is damaged: {damage}.') from None


def write_parameters(path: str, arrays: dict[str, mx.nd.NDArray]) -> None:
    """Write a parameter file that gets its name only after it has been read back.

    MXNet does not report a write that fails, so a full disk would leave a file that is cut short.

    Parameters
    ----------
    path : str
        Its folder is made if missing.
    arrays : dict of str to mxnet.NDArray
        By name, which may begin with the prefixes 'arg:' and 'aux:' of an exported network.

    Raises
    ------
    OSError
        If it cannot be written whole; `path` is then as it was.
    """
    mx.nd.waitall()  # a forward pass that still runs may be bringing weights into oneDNN's layout
    with atomic(path) as partial:
        try:
            mx.nd.save(partial, arrays)
            written = read_parameters(partial)
            whole = len(written) == len(arrays) and all(
                _same(written[name.split(':', 1)[-1]], array.asnumpy()) for name, array in arrays.items()
            )
        except (mx.MXNetError, ValueError, KeyError):
            whole = False
        if not whole:
            raise cut_short(path)


def _same(written, array):
    return (written.dtype, written.shape) == (array.dtype, array.shape) and written.tobytes() == array.tobytes()
