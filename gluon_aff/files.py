"""Files that are whole or absent."""
from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager

__all__ = ['atomic']


@contextmanager
def atomic(path):
    """A name to write to instead of `path`, which takes its place, on the disk, when the block ends without an error.

    Parameters
    ----------
    path : str
        Its folder is made if missing.

    Raises
    ------
    OSError
        If the folder cannot be made or written to; `path` is then as it was.
    """
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=f'.{name[:50]}.', suffix='.part', dir=folder)
    os.close(descriptor)
    try:
        yield partial
        os.chmod(partial, 0o666 & ~_umask())
        with open(partial, 'rb') as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
