"""Files that are whole or absent, and temporary folders; the next call removes what a killed process left of either.

The writer holds a lock on what it writes to, and the system releases a process's locks however it ends. Where a
file system has no locks, everything counts as in use, and stays.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from itertools import count

try:
    import fcntl
except ModuleNotFoundError:  # on Windows
    fcntl = None

__all__ = ['atomic', 'remove_abandoned', 'replace_folder', 'temporary_folder', 'write_whole']

LOCK = '.lock'  # in a temporary folder
REPLACED = '.replaced-'  # in one, what replace_folder() moved there
PARTIAL = re.compile(r'\..+\.\d+\.part')  # of atomic()


@contextmanager
def atomic(path):
    """A name to write to instead of `path`, which takes its place, on the disk, when the block ends without an error.

    What a process that was killed within such a block left for the same `path` is overwritten.

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
    for number in count():
        # Shortened, as a name has at most 255 bytes.
        partial = os.path.join(folder, f'.{name[:50]}.{number}.part')
        try:
            descriptor = _own(partial)
        except OSError:
            if not os.path.lexists(partial):
                raise
            continue  # another user's, or not a file
        if descriptor is not None:
            break
    try:
        os.truncate(descriptor, 0)
        yield partial
        with open(partial, 'rb') as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.remove(partial)
        raise
    finally:
        os.close(descriptor)


@contextmanager
def temporary_folder(parent, prefix):
    """A new folder for the block, inside `parent`, so that what it holds can be renamed to there.

    Those of this prefix that killed processes left are removed first. What :func:`replace_folder` had moved
    there is moved back, by them and at the end of the block, where nothing has taken its place.

    Parameters
    ----------
    parent : str
    prefix : str
        Of its name, such as '.export-'.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    remove_abandoned(parent, prefix)
    descriptor = None
    while descriptor is None:
        folder = tempfile.mkdtemp(prefix=prefix, dir=parent)
        with suppress(FileNotFoundError):  # another process removed it as abandoned
            descriptor = _own(os.path.join(folder, LOCK))
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(descriptor)


def replace_folder(new, folder):
    """Let a folder inside a :func:`temporary_folder` take the place of `folder`, beside that one, and its name.

    Parameters
    ----------
    new, folder : str
        Paths; at the second there is a folder or nothing.

    Raises
    ------
    OSError
        If they cannot be renamed; `folder` is then as it was.
    """
    while True:
        try:
            return os.rename(new, folder)
        except OSError:
            if not os.path.isdir(folder):
                raise
        kept = tempfile.mkdtemp(prefix=REPLACED, dir=os.path.dirname(new))
        with suppress(FileNotFoundError):  # another process has just moved it
            os.rename(folder, os.path.join(kept, os.path.basename(folder)))


def _remove(folder, ignore_errors=False):
    """Remove a temporary folder, once what was replaced but by nothing is back in its place."""
    for kept in glob.glob(os.path.join(glob.escape(folder), f'{REPLACED}*', '*')):
        with suppress(OSError):  # something is there
            os.rename(kept, os.path.join(os.path.dirname(folder), os.path.basename(kept)))
    shutil.rmtree(folder, ignore_errors)


def remove_abandoned(folder, prefix=None):
    """Remove from a folder what killed processes left in it: partial files of :func:`atomic`, or temporary folders.

    Parameters
    ----------
    folder : str
    prefix : str, optional
        Of the temporary folders to remove; without it, partial files are.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    for entry in list(os.scandir(folder)):
        held = os.path.join(entry.path, LOCK) if prefix else entry.path
        wanted = entry.name.startswith(prefix) if prefix else PARTIAL.fullmatch(entry.name)
        if not wanted or not os.path.isfile(held) or os.path.islink(entry.path):
            continue
        try:
            descriptor = _own(held)
        except OSError:  # another user's, or gone
            continue
        if descriptor is not None:
            if prefix:
                _remove(entry.path, ignore_errors=True)
            else:
                os.remove(entry.path)
            os.close(descriptor)


def _own(path):
    """A descriptor of the file at `path`, made if missing and locked; None if another process or thread has it."""
    while True:
        created = True
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            created = False
            try:
                descriptor = os.open(path, os.O_RDWR | getattr(os, 'O_NOFOLLOW', 0))
            except FileNotFoundError:  # renamed or removed meanwhile
                continue
        try:
            if fcntl is None:
                raise OSError
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
            # Between opening and locking it, its owner renamed or removed it.
        except OSError as error:
            if created and not isinstance(error, BlockingIOError):  # no locks here
                return descriptor
            os.close(descriptor)
            return None
        os.close(descriptor)


def write_whole(path, data):
    """Write bytes to a file, which gets its name only after it has been read back.

    Parameters
    ----------
    path : str
        Its folder is made if missing.
    data : bytes

    Raises
    ------
    OSError
        If it cannot be written whole; `path` is then as it was.
    """
    reason = None
    with atomic(path) as partial:
        try:
            with open(partial, 'wb') as file:
                file.write(data)
            with open(partial, 'rb') as file:
                whole = file.read() == data
        except OSError as error:
            whole, reason = False, error.strerror
        if not whole:
            raise cut_short(path, reason)


def cut_short(path, reason=None):
    """The OSError for a file that could not be written whole."""
    return OSError(
        f'{path} could not be written whole{f" ({reason})" if reason else ""}; make room on its disk, or '
        'name another folder.'
    )
