"""Whether an ONNX file keeps values in other files, found in its bytes without any library.

ONNX Runtime opens the files that a model names while it makes a session, some versions anywhere on the machine, so the
bytes are looked at before. Only what can hold a tensor is walked: messages of onnx.proto, by the numbers of their
fields.
"""

from __future__ import annotations

__all__ = ['check_no_external_data']

EXTERNAL, LOCATION = 13, 14
TENSOR = {EXTERNAL: 'external', LOCATION: 'location'}
SPARSE = {1: TENSOR, 2: TENSOR}
ATTRIBUTE = {5: TENSOR, 10: TENSOR, 22: SPARSE, 23: SPARSE}
NODE = {5: ATTRIBUTE}
GRAPH = {1: NODE, 5: TENSOR, 15: SPARSE}
ATTRIBUTE.update({6: GRAPH, 11: GRAPH})
FUNCTION = {7: NODE, 11: ATTRIBUTE}
MODEL = {7: GRAPH, 20: {1: GRAPH, 2: GRAPH}, 25: FUNCTION}
FIXED = {1: 8, 5: 4}  # bytes by wire type
VARINT, LENGTH = 0, 2
MAX_MESSAGES = 2_000_000  # a large network has some ten thousand


class _MalformedError(Exception):
    pass


def _varint(buffer, position, end):
    value = shift = 0
    while position < end and shift < 70:
        byte = buffer[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
    raise _MalformedError


def _fields(buffer, position, end):
    """(number, wire type, start, end) of each field of a message; a varint's value stands for its start."""
    while position < end:
        key, position = _varint(buffer, position, end)
        number, wire = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise _MalformedError
        if wire == VARINT:
            value, position = _varint(buffer, position, end)
            yield number, wire, value, position
            continue
        size = FIXED.get(wire)
        if wire == LENGTH:
            size, position = _varint(buffer, position, end)
        if size is None or size > end - position:
            raise _MalformedError
        yield number, wire, position, position + size
        position += size


def _search(buffer):
    """(whether there is external data, whether there are functions); the second only where there is none."""
    messages, seen, functions = [(MODEL, 0, len(buffer))], 0, False
    while messages:
        message, start, end = messages.pop()
        for number, wire, first, last in _fields(buffer, start, end):
            seen += 1
            if seen > MAX_MESSAGES:
                raise _MalformedError
            inside = message.get(number)
            if inside == 'external' or (inside == 'location' and (wire != VARINT or first)):
                return True, functions
            functions = functions or inside is FUNCTION
            if isinstance(inside, dict) and wire == LENGTH:
                messages.append((inside, first, last))
    return False, functions


def check_no_external_data(content, path):
    """Raise a ValueError where an ONNX file keeps values in other files, has functions of its own, or is none.

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
    try:
        # The second is the mark of ONNX Runtime's own format, which is not ONNX.
        external, functions = _search(memoryview(content))
        if content[4:8] == b'ORTM':
            raise _MalformedError
    except _MalformedError:
        raise ValueError(f'{path} is not an ONNX file, or is damaged.') from None
    if external:
        raise ValueError(
            f'{path} keeps values in other files (external data), which could be any on this machine; '
            'save all of them in the file itself.'
        )
    if functions:  # ONNX Runtime follows one that calls itself until the process crashes
        raise ValueError(
            f'{path} defines functions of its own, which exported networks do not; export the network again.'
        )
