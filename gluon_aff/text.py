"""Safe printing of text of any origin, such as names of files and classes."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from contextlib import contextmanager
from pathlib import PurePath
from typing import Iterable, Iterator, TextIO

__all__ = ['any_character', 'distinct_names', 'printable']

# Control characters, invisible marks, lone surrogates, line and paragraph separators.
ESCAPED = {'Cc', 'Cf', 'Cs', 'Zl', 'Zp'}
# Needed by some languages and many emoji.
JOINERS = '\u200c\u200d'


def printable(text: object) -> str:
    r"""``str(text)`` on one line, with all that a terminal would act on or hide as Python escapes, such as \n or \x1b.

    Escaped are control characters, ends of lines and paragraphs, marks that change the direction of writing or are
    invisible (joiners are kept), and bytes of a file name that are not text (as \udcff).
    """
    return ''.join(
        c.encode('unicode_escape').decode() if unicodedata.category(c) in ESCAPED and c not in JOINERS else c
        for c in str(text)
    )


def distinct_names(paths: Iterable[str | os.PathLike]) -> list[str]:
    """The shortest end of each path that no other path has: ``1.png``, or ``a/1.png`` where ``b/1.png`` is there, too.

    A path that is the end of another one stays whole. Upper and lower case count as the same.
    """
    split = [PurePath(path).parts for path in paths]
    ends = Counter(tuple(map(str.casefold, parts[i:])) for parts in set(split) for i in range(len(parts)))

    def shortest(parts):
        unique = (parts[i:] for i in reversed(range(len(parts))) if ends[tuple(map(str.casefold, parts[i:]))] == 1)
        return os.path.join('', *next(unique, parts))

    return [shortest(parts) for parts in split]


@contextmanager
def any_character(stream: TextIO) -> Iterator[None]:
    """Within the block, write characters that a stream's encoding lacks as escapes, to sys.stdout for instance."""
    if not hasattr(stream, 'reconfigure'):  # such as io.StringIO, which takes any character
        yield
        return
    errors = stream.errors
    stream.reconfigure(errors='backslashreplace')
    try:
        yield
    finally:
        stream.reconfigure(errors=errors)
