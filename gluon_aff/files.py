"""Files that are whole or absent, and temporary folders; the next call removes what a killed process left behind.

A writer locks what it writes to, and the system releases a process's locks however it ends. On a file system without
locks everything counts as in use, and stays.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from itertools import count
from typing import Iterator

try:
    import fcntl
except ModuleNotFoundError:  # on Windows
    fcntl = None

__all__ = ['atomic', 'locked', 'remove_abandoned', 'replace_folder', 'temporary_folder', 'write_whole']

LOCK = '.lock'  # in a temporary folder
REPLACED = '.replaced-'  # in a temporary folder: what replace_folder() moved there
PARTIAL = re.compile(r'\..+\.\d+\.part')  # names made by atomic()


@contextmanager
def atomic(path: str) -> Iterator[str]:
    """A name to write to in the block; the file is renamed to `path` if the block ends without an error.

    What a killed process left for the same `path` is overwritten.

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
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.remove(partial)
        if isinstance(error, OSError) and error.strerror and error.filename in (None, partial):
            error.filename = path  # so that its sentence names the file
        raise
    finally:
        os.close(descriptor)


@contextmanager
def temporary_folder(parent: str | os.PathLike, prefix: str) -> Iterator[str]:
    """A new folder in `parent` for the block, on the same file system, so that its content can be renamed to there.

    Folders of this prefix that killed processes left are removed first. What :func:`replace_folder` had moved into
    one, and nothing has replaced, is moved back, then and at the end of the block.

    Parameters
    ----------
    parent : str
    prefix : str
        What its name begins with, such as '.export-'.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    remove_abandoned(os.fspath(parent), prefix)
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


def replace_folder(new: str, folder: str) -> None:
    """Rename a folder in a :func:`temporary_folder` to `folder`, in the same parent, replacing a folder there.

    Parameters
    ----------
    new, folder : str

    Raises
    ------
    OSError
        If they cannot be renamed; `folder` is then as it was.
    """
    while True:
        try:
            return os.rename(new, folder)
        except OSError as error:
            # Another thread may have moved what was in the way.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) and not os.path.isdir(folder):
                raise
        kept = tempfile.mkdtemp(prefix=REPLACED, dir=os.path.dirname(new))
        with suppress(FileNotFoundError):  # another process has just moved it
            os.rename(folder, os.path.join(kept, os.path.basename(folder)))


def _remove(folder, ignore_errors=False):
    """Remove a temporary folder, after moving back what it holds of replaced folders that nothing has replaced."""
    for kept in glob.glob(os.path.join(glob.escape(folder), f'{REPLACED}*', '*')):
        with suppress(OSError):  # something is there
            os.rename(kept, os.path.join(os.path.dirname(folder), os.path.basename(kept)))
    shutil.rmtree(folder, ignore_errors)


def remove_abandoned(folder: str, prefix: str | None = None) -> None:
    """Remove from a folder what killed processes left in it: partial files of :func:`atomic`, or temporary folders.

    Parameters
    ----------
    folder : str
    prefix : str, optional
        Remove temporary folders whose names begin so; by default partial files.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    for entry in list(os.scandir(folder)):
        locked = os.path.join(entry.path, LOCK) if prefix else entry.path
        matches = entry.name.startswith(prefix) if prefix else PARTIAL.fullmatch(entry.name)
        if not matches or not os.path.isfile(locked) or os.path.islink(entry.path):
            continue
        try:
            descriptor = _own(locked)
        except OSError:  # another user's, or gone
            continue
        if descriptor is not None:
            if prefix:
                _remove(entry.path, ignore_errors=True)
            else:
                os.remove(entry.path)
            os.close(descriptor)


@contextmanager
def locked(path: str) -> Iterator[bool]:
    """Whether the block has the lock `path`, a file; not where another process or thread has it.

    The file is made, and removed at the end; that of a killed process is in nobody's way.

    Parameters
    ----------
    path : str
        In a folder that exists.

    Raises
    ------
    OSError
        If the file cannot be made.
    """
    descriptor = _own(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.remove(path)
            os.close(descriptor)


def _own(path):
    """A descriptor of the file at `path`, created if missing, and locked; None if another process or thread has it."""
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
            # Its owner renamed or removed it between opening and locking.
        except OSError as error:
            if created and not isinstance(error, BlockingIOError):  # no locks here
                return descriptor
            os.close(descriptor)
            return None
        os.close(descriptor)


def write_whole(path: str, data: bytes) -> None:
    """Write a file that gets its name only after it has been read back.

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


def cut_short(path: str, reason: str | None = None) -> OSError:
    """The OSError for a file that could not be written whole."""
    return OSError(
        f'{path} could not be written whole{f" ({reason})" if reason else ""}; make room on its disk, or '
        'name another folder.'
    )
