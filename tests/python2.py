"""Pickles as Python 2's cPickle writes them in protocol 2, which is how CIFAR's Python version was made."""

import struct

import numpy as np


class _Writer:
    def __init__(self):
        self.out, self.kept = [], 0

    def keep(self):
        self.kept += 1  # cPickle counts from 1
        self.out.append(b'q%c' % self.kept if self.kept < 256 else b'r' + struct.pack('<I', self.kept))

    def many(self, items, write, one, some):
        """In batches of a thousand, as APPENDS and SETITEMS are."""
        for start in range(0, len(items), 1000):
            batch = items[start : start + 1000]
            self.out.append(b'(' if len(batch) > 1 else b'')
            for item in batch:
                write(item)
            self.out.append(some if len(batch) > 1 else one)

    def pair(self, item):
        self.write(item[0])
        self.write(item[1])

    def array(self, value):
        fortran = value.flags.f_contiguous and not value.flags.c_contiguous
        self.name('numpy.core.multiarray', '_reconstruct')
        self.name('numpy', 'ndarray')
        self.write((0,))
        self.write(b'b')
        self.out.append(b'\x87')
        self.keep()
        self.out.append(b'R')
        self.keep()
        self.out.append(b'(K\x01')
        self.write(value.shape)
        self.name('numpy', 'dtype')
        self.write((value.dtype.str[1:].encode(), 0, 1))
        self.out.append(b'R')
        self.keep()
        self.write((3, b'|', None, None, None, -1, -1, 0))
        self.out.append(b'b')
        self.write(bool(fortran))
        self.write(value.tobytes('A'))
        self.out.append(b'tb')

    def name(self, module, attribute):
        self.out.append(f'c{module}\n{attribute}\n'.encode())
        self.keep()

    def write(self, value):
        if value is None:
            self.out.append(b'N')
        elif isinstance(value, bool):
            self.out.append(b'\x88' if value else b'\x89')
        elif isinstance(value, int):
            self.out.append(
                b'K%c' % value
                if 0 <= value < 256
                else b'M' + struct.pack('<H', value)
                if 0 <= value < 65536
                else b'J' + struct.pack('<i', value)
            )
        elif isinstance(value, bytes):
            self.out += [b'U%c' % len(value) if len(value) < 256 else b'T' + struct.pack('<i', len(value)), value]
            self.keep()
        elif isinstance(value, np.ndarray):
            self.array(value)
        elif isinstance(value, tuple):
            self.out.append(b'(' if len(value) > 3 else b'')
            for item in value:
                self.write(item)
            self.out.append([b')', b'\x85', b'\x86', b'\x87', b't'][min(len(value), 4)])
            if value:
                self.keep()
        elif isinstance(value, list):
            self.out.append(b']')
            self.keep()
            self.many(value, self.write, b'a', b'e')
        else:
            self.out.append(b'}')
            self.keep()
            self.many(list(value.items()), self.pair, b's', b'u')


def dumps(value):
    """Of None, bool, int of 32 bits, bytes (its str), arrays, and tuples, lists and dicts of these."""
    writer = _Writer()
    writer.write(value)
    return b'\x80\x02' + b''.join(writer.out) + b'.'
