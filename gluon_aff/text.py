"""Safe printing of text of any origin, such as names of files and classes."""

from __future__ import annotations

import unicodedata
from contextlib import contextmanager
from typing import Iterator, TextIO

__all__ = ['any_character', 'printable']

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
