"""Pickles of plain data and arrays of bytes, read without unpickling.

``pickle.load`` imports and calls whatever a file names. Here the operations are parsed by the standard library's
pickletools and carried out on a stack that holds data only: a name is compared with the four that numpy's arrays are
written with and never looked up, so there is nothing on it that could be called.
"""

from __future__ import annotations

import pickletools

import numpy as np

__all__ = ['load_plain']

RECONSTRUCT, NDARRAY, DTYPE, ENCODE, UINT8 = (object() for _ in range(5))
# The last one is how Python 3 writes bytes in protocol 2.
NAMES = {
    'numpy.core.multiarray _reconstruct': RECONSTRUCT,
    'numpy ndarray': NDARRAY,
    'numpy dtype': DTYPE,
    '_codecs encode': ENCODE,
}

PLAIN = {'BININT', 'BININT1', 'BININT2', 'LONG1', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINBYTES', 'SHORT_BINBYTES'}
BYTES_OF_PYTHON_2 = {'BINSTRING', 'SHORT_BINSTRING'}
NEW = {
    'NONE': lambda: None,
    'NEWTRUE': lambda: True,
    'NEWFALSE': lambda: False,
    'EMPTY_TUPLE': tuple,
    'EMPTY_LIST': list,
    'EMPTY_DICT': dict,
}


class _NotPlainError(ValueError):
    """A sound pickle, but not of what is read here."""


class _Array:
    """An array between _reconstruct, which makes it empty, and the state that fills it."""

    value = np.zeros(0, np.uint8)

    def fill(self, state):
        _, shape, dtype, fortran, content = state
        # numpy would take a negative length for one to be found out.
        if dtype is not UINT8 or any(length < 0 for length in shape):
            raise _NotPlainError('has an array of other than bytes')
        self.value = np.frombuffer(content, np.uint8).reshape(shape, order='F' if fortran else 'C')


def load_plain(content):
    """The dict that a pickle of protocol 2 to 4 holds, if it is one of plain data and arrays of bytes.

    Parameters
    ----------
    content : bytes
        As Python 2 or 3 writes None, bool, int, str, bytes, list, tuple, dict with such keys and numpy.uint8 arrays.

    Returns
    -------
    dict
        Keys are str. Python 2's strings are bytes. Arrays are values of this dict; they cannot be written to.

    Raises
    ------
    ValueError
        If it is anything else, or damaged. The message is what the file is or has, to be put after its name.
    """
    try:
        value = _run(content)
        return {
            key if type(key) is str else key.decode('latin-1'): each.value if type(each) is _Array else each
            for key, each in value.items()
        }
    except _NotPlainError:
        raise
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError):
        raise ValueError('is no pickle, or a damaged one') from None


def _run(content):
    stack, below, memo = [], [], {}  # `below` are the stacks under each mark
    for operation, argument, _ in pickletools.genops(content):
        name = operation.name
        if name in PLAIN:
            stack.append(argument)
        elif name in BYTES_OF_PYTHON_2:
            stack.append(argument.encode('latin-1'))
        elif name in NEW:
            stack.append(NEW[name]())
        elif name == 'MARK':
            below.append(stack)
            stack = []
        elif name in ('TUPLE', 'APPENDS', 'SETITEMS'):
            items, stack = stack, below.pop()
            _gather(name, stack, items)
        elif name in ('TUPLE1', 'TUPLE2', 'TUPLE3', 'APPEND', 'SETITEM'):
            count = {'APPEND': 1, 'SETITEM': 2}.get(name) or int(name[-1])
            _gather(name, stack, [stack.pop() for _ in range(count)][::-1])
        elif name in ('BINPUT', 'LONG_BINPUT'):
            memo[argument] = stack[-1]
        elif name == 'MEMOIZE':
            memo[len(memo)] = stack[-1]
        elif name in ('BINGET', 'LONG_BINGET'):
            stack.append(memo[argument])
        elif name == 'GLOBAL':
            stack.append(_named(argument))
        elif name == 'STACK_GLOBAL':
            attribute, module = stack.pop(), stack.pop()
            stack.append(_named(' '.join((module, attribute))))
        elif name == 'REDUCE':
            arguments, called = stack.pop(), stack.pop()
            stack.append(_made(called, *arguments))
        elif name == 'BUILD':
            state = stack.pop()
            if stack[-1] is not UINT8:  # whose state, byte order and the like, says nothing
                stack[-1].fill(state)
        elif name == 'STOP':
            return stack.pop()
        elif name not in ('PROTO', 'FRAME'):
            raise _NotPlainError(f'is a pickle of more than plain data (it has the operation {name})')


def _gather(name, stack, items):
    """Put the items into the list or dict on the stack, or on it as a tuple."""
    if name.startswith('TUPLE'):
        stack.append(tuple(items))
    elif name.startswith('APPEND'):
        list.extend(stack[-1], items)
    else:
        keys = items[::2]
        # Of these alone the hash is not that of what they hold, which can be nested without end.
        if len(items) % 2 or not all(type(key) in (str, bytes) for key in keys):
            raise TypeError
        dict.update(stack[-1], zip(keys, items[1::2]))


def _named(name):
    if name not in NAMES:
        raise _NotPlainError(f'is a pickle of more than plain data (it names {name[:80]!r})')
    return NAMES[name]


def _made(called, *arguments):
    """What calling one of the names would give."""
    if called is ENCODE:
        text, encoding = arguments
        if type(encoding) is not str or encoding != 'latin1':
            raise TypeError
        return str.encode(text, 'latin-1')
    if called is DTYPE:
        if type(arguments[0]) not in (str, bytes) or arguments[0] not in ('u1', b'u1', '|u1', b'|u1'):
            raise _NotPlainError('has an array of other than bytes')
        return UINT8
    if called is RECONSTRUCT and arguments[0] is NDARRAY:
        return _Array()
    raise TypeError
