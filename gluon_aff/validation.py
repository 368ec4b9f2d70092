"""Checks of received files: names without folders, regular files of bounded size, JSON."""

from __future__ import annotations

import json
import os
import reprlib
import stat

__all__ = ['check_plain_name', 'read_json', 'regular_file', 'shown']

MAX_JSON = 4 << 20
MAX_DIGITS = 20
_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxstring, _repr.maxother, _repr.maxlong = 2, 60, 60, 40


def shown(value: object) -> str:
    """A short repr of any value, in printable characters."""
    return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in _repr.repr(value))


def check_plain_name(name: object) -> str:
    """Return `name` if it is a file name without folders; raise a ValueError if not."""
    if not (
        isinstance(name, str)
        and 0 < len(name) <= 255
        and name.isprintable()
        and name not in ('.', '..')
        and not set(name) & set('/\\:')
    ):
        raise ValueError(f'a file must be given by its plain name, without folders, got {shown(name)}')
    return name


def regular_file(folder: str, name: str, limit: int) -> bytes:
    """The content of a regular file in a folder.

    Parameters
    ----------
    folder, name : str
    limit : int
        The largest size allowed, in bytes.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the name has folders in it, or the file is a link, a pipe or the like, or too large.
    """
    path = os.path.join(folder, check_plain_name(name))
    if not os.path.lexists(path):
        raise FileNotFoundError(f'There is no file {path}.')
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise ValueError(f'{path} is not a regular file but a link, a folder or a device; put the file itself there.')
    # A link or pipe that took its place since then is not followed or waited for.
    flags = os.O_RDONLY | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0)
    with open(os.open(path, flags), 'rb') as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f'{path} has more than {limit:,} bytes, too many for such a file.')
    return content


def _integer(digits):
    if len(digits) > MAX_DIGITS:  # Python takes quadratic time for the digits of a long number
        raise ValueError(f'a number has {len(digits)} digits')
    return int(digits)


def read_json(folder: str, name: str):
    """The content of the JSON file `name`, of at most 4 MiB, in `folder`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a regular file, or not JSON in UTF-8.
    """
    content = regular_file(folder, name, MAX_JSON)
    try:
        return json.loads(content.decode(), parse_int=_integer)
    except (ValueError, RecursionError) as error:
        reason = 'it is nested too deeply' if isinstance(error, RecursionError) else error
        raise ValueError(f'{os.path.join(folder, name)} cannot be read as JSON: {reason}.') from None
