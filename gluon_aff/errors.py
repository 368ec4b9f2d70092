"""Errors in one sentence, and checks of arguments that raise them."""

from __future__ import annotations

import difflib
import operator
import os

import numpy as np

from .text import printable


def unknown(kind: str, name: object, known) -> ValueError:
    """The ValueError for a name that is not in `known`; it suggests the nearest ones, or lists them all if few."""
    return ValueError(f'Unknown {kind} {name!r}; {suggestion(name, known)}')


def suggestion(name: object, known) -> str:
    """The end of a sentence on a name that is not in `known`: the nearest ones, or all of them if they are few."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.5)
    hint = f'did you mean {printable(" or ".join(near))}?' if near else ''
    if len(known) <= 20:
        hint = f'{hint} Known: {printable(", ".join(known))}.'.strip()
    return hint or f'{len(known)} are known.'


def in_words(error: BaseException) -> str:
    """An error as one sentence, even an operating system's, whose own text is a number and a path."""
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        return f'{error.strerror}.'
    if isinstance(error, OSError) and error.strerror:
        return f'{os.fsdecode(error.filename)} cannot be read or written: {error.strerror}.'
    return str(error)


def positive(name: str, value, *, or_zero: bool = False) -> int:
    """Return `value` as an int of at least 1 (or 0), or raise a ValueError that names the argument."""
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or number < (0 if or_zero else 1):
        raise ValueError(f'{name} must be a positive whole number{" or 0" if or_zero else ""}, got {value!r}.')
    return number


def check_booleans(**arguments) -> None:
    """Raise a ValueError that names the first argument that is neither True nor False."""
    for name, value in arguments.items():
        if not isinstance(value, (bool, np.bool_)) and not (isinstance(value, int) and value in (0, 1)):
            raise ValueError(f'{name} must be True or False, got {value!r}.')


def pair(name: str, value) -> tuple[int, int]:
    """Return one positive whole number or two as (height, width), or raise a ValueError that names the argument."""
    sides = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(sides) != 2:
        raise ValueError(f'{name} must be a positive whole number or a pair (height, width) of them, got {value!r}.')
    return positive(name, sides[0]), positive(name, sides[1])
