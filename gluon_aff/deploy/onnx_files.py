"""ONNX files of any origin: the packages that open them, and what is checked before."""

from __future__ import annotations

import os
import re

from .._deprecated import deprecated_names

__all__ = ['check_onnx', 'import_onnx', 'import_onnxruntime', 'load_onnx', 'read_onnx', 'session']

OLDEST = (1, 14)
INSTALL = "run: pip install 'gluon_aff[onnx]'"

# ONNX Runtime opens the files that a model names while it makes a session, some versions anywhere on the machine. A
# tensor names its file under the key "location", which a protocol buffer holds in one piece after its length, 8,
# written in one to ten bytes.
LOCATION, LENGTH = b'location', re.compile(rb'(\x08|\x88[\x80-\xff]{0,8}[\x00-\x7f])\Z')
FUNCTIONS = 25  # the field of onnx.proto's ModelProto
FIXED_SIZES = {1: 8, 5: 4}  # bytes by wire type of protocol buffers
VARINT, BYTES = 0, 2
MAX_FIELDS = 10_000  # a model has about ten


def import_onnx():
    """The onnx package.

    Raises
    ------
    ImportError
        If it is missing, or too old for MXNet's mx2onnx.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError(f'ONNX files need the package onnx, which cannot be imported ({error}); {INSTALL}') from None
    if tuple(map(int, onnx.__version__.split('.')[:2])) < OLDEST:
        raise ImportError(
            f'MXNet writes ONNX files with onnx 1.14 and newer, and {onnx.__version__} is installed; {INSTALL}'
        )
    return onnx


def import_onnxruntime():
    """The onnxruntime package.

    Raises
    ------
    ImportError
        If it is missing.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f'This needs the package onnxruntime, which cannot be imported ({error}); {INSTALL}'
        ) from None
    return onnxruntime


def session(file: str | bytes, threads: int | None = None):
    """An onnxruntime.InferenceSession on the CPU, of a path or of a file's bytes; `threads` defaults to all cores."""
    onnxruntime = import_onnxruntime()

    class Session(onnxruntime.InferenceSession):  # type: ignore[name-defined]
        # Else it prints that it fails and tries the same again.
        _enable_fallback = property(lambda self: False, lambda self, value: None)

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is in the exception
    # Without VNNI it would add INT8's products in 16 bits, which saturate.
    options.add_session_config_entry('session.x64quantprecision', '1')
    if threads:
        options.intra_op_num_threads = threads
    return Session(file if isinstance(file, bytes) else os.fspath(file), options, providers=['CPUExecutionProvider'])


def read_onnx(path: str) -> bytes:
    """The content of the ONNX file at `path`, checked by :func:`check_onnx`; a FileNotFoundError if there is none."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f'There is no ONNX file {path}.')
    with open(path, 'rb') as file:
        content = file.read()
    check_onnx(content, path)
    return content


def load_onnx(path: str):
    """The onnx.ModelProto of the file at `path`; errors as :func:`read_onnx` and :func:`import_onnx`."""
    onnx = import_onnx()
    from google.protobuf.message import DecodeError

    try:
        return onnx.load_from_string(read_onnx(path))
    except DecodeError:
        raise _damaged(path) from None


def check_onnx(content: bytes, path: str) -> None:
    """Raise a ValueError if an ONNX file could make an engine read other files or crash; needs no other package.

    Parameters
    ----------
    content : bytes
        All of it.
    path : str
        What the error calls it.

    Raises
    ------
    ValueError
        If a tensor in it is kept elsewhere, it defines functions, or it is not the protocol buffer of a model.
    """
    if any(LENGTH.search(content[max(0, hit.start() - 10) : hit.start()]) for hit in re.finditer(LOCATION, content)):
        raise ValueError(
            f'{path} keeps values in other files (external data), which could be any on this machine; '
            'save all of them in the file itself.'
        )
    # The second is the mark of ONNX Runtime's own format, which is not ONNX.
    fields = _field_numbers(memoryview(content))
    if fields is None or content[4:8] == b'ORTM':
        raise _damaged(path)
    if FUNCTIONS in fields:  # ONNX Runtime follows one that calls itself until the process crashes
        raise ValueError(
            f'{path} defines functions of its own, which exported networks do not; export the network again.'
        )


def _damaged(path):
    return ValueError(f'{path} is not an ONNX file, or is damaged.')


def _field_numbers(buffer):
    """The numbers of a message's own fields; None if it is not a protocol buffer."""
    numbers, position = [], 0
    try:
        while position < len(buffer) and len(numbers) < MAX_FIELDS:
            key, position = _varint(buffer, position)
            wire = key & 7
            size = FIXED_SIZES.get(wire, 0)
            if wire in (VARINT, BYTES):
                value, position = _varint(buffer, position)
                size = value if wire == BYTES else 0
            elif not size:
                return None
            numbers.append(key >> 3)
            position += size
    except IndexError:
        return None
    return numbers if position == len(buffer) and all(0 < number < 1 << 29 for number in numbers) else None


def _varint(buffer, position):
    """(value, position after it) of an integer of up to ten bytes."""
    value = 0
    for index in range(10):
        byte = buffer[position + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise IndexError


__getattr__ = deprecated_names(__name__)
