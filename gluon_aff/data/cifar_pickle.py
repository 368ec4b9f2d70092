"""CIFAR's pickled batches, read without executing anything.

``pickle.load`` imports and calls whatever a file names. This unpickler knows five names, those that pickles of bytes
and of numpy arrays contain, and none of them is looked up: stand-ins that hold data take their place. It derives from
the Python implementation of pickle.Unpickler, as that of C fills its memo up to any index that a file names, and takes
extension codes from a cache without asking ``find_class``.
"""

from __future__ import annotations

import io
import pickle

import numpy as np

from .._deprecated import deprecated_names

__all__ = ['load_batch']

# Of plain data in protocols 2 to 4: no persistent ids, extension codes, classes that are instantiated, sets or buffers.
OPERATIONS = (
    'PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINSTRING SHORT_BINSTRING BINUNICODE '
    'SHORT_BINUNICODE BINBYTES SHORT_BINBYTES EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 TUPLE EMPTY_LIST APPEND APPENDS '
    'EMPTY_DICT SETITEM SETITEMS BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD'
).split()


class _RefusedError(ValueError):
    """Why a sound pickle is refused."""


class _Stateless:
    """Has no state to restore: without this, unpickling could set attributes, even of a class."""

    __slots__ = ()

    def __setstate__(self, state):
        raise TypeError


class _NDArray(_Stateless):
    """In place of numpy.ndarray."""


class _UInt8:
    """In place of numpy.dtype, of uint8 alone."""

    def __init__(self, name, *flags):
        if name not in ('u1', b'u1', '|u1', b'|u1'):
            raise _RefusedError('has an array of other than bytes')

    def __setstate__(self, state):
        """Ignore the byte order and the like, which bytes do not have."""


class _Array:
    """In place of numpy's _reconstruct: an array that is empty until its state is set."""

    value = np.zeros(0, np.uint8)

    def __init__(self, kind, shape, dtype):
        if kind is not _NDArray:
            raise TypeError

    def __setstate__(self, state):
        _, shape, dtype, fortran, content = state
        # numpy would work out a negative length itself.
        if type(dtype) is not _UInt8 or any(length < 0 for length in shape):
            raise _RefusedError('has an array of other than bytes')
        self.value = np.frombuffer(content, np.uint8).reshape(shape, order='F' if fortran else 'C')


class _Bytes(_Stateless):
    """In place of _codecs.encode, which protocol 2 writes the bytes of Python 3 with."""

    def __new__(cls, text, encoding):
        if encoding != 'latin1':
            raise TypeError
        return str.encode(text, 'latin-1')


class _Dict(_Stateless, dict):
    """A dict with texts for keys: other keys could be nested so deeply that their hash takes forever."""

    __slots__ = ()

    def __setitem__(self, key, value):
        if type(key) not in (str, bytes):
            raise TypeError
        super().__setitem__(key, value)


NAMES = {
    ('numpy.core.multiarray', '_reconstruct'): _Array,
    ('numpy._core.multiarray', '_reconstruct'): _Array,  # numpy 2
    ('numpy', 'ndarray'): _NDArray,
    ('numpy', 'dtype'): _UInt8,
    ('_codecs', 'encode'): _Bytes,
}


class _Unpickler(pickle._Unpickler):
    dispatch = {code: pickle._Unpickler.dispatch[code] for code in (getattr(pickle, name)[0] for name in OPERATIONS)}
    dispatch[pickle.EMPTY_DICT[0]] = lambda self: self.append(_Dict())

    def find_class(self, module, name):
        if (module, name) not in NAMES:
            raise _RefusedError(f'is a pickle of more than plain data (it names {f"{module} {name}"[:80]!r})')
        return NAMES[module, name]


def load_batch(content: bytes) -> dict:
    """The dict in a pickle of protocol 2 to 4.

    Parameters
    ----------
    content : bytes
        As Python 2 or 3 writes a dict of None, bool, int, str, bytes, list, tuple, dict and numpy.uint8 arrays.

    Returns
    -------
    dict
        Keys are str. Python 2's strings are bytes. Arrays are values of this dict, and read-only.

    Raises
    ------
    ValueError
        If it is anything else, or damaged. The message is to follow the name of the file.
    """
    try:
        batch = _Unpickler(io.BytesIO(content), encoding='bytes').load()
        return {
            key if type(key) is str else key.decode('latin-1'): value.value if type(value) is _Array else value
            for key, value in batch.items()
        }
    except _RefusedError:
        raise
    except Exception:  # whatever the operations of a damaged file lead to
        raise ValueError('is not a pickle of plain data, or is damaged') from None


__getattr__ = deprecated_names(__name__)
