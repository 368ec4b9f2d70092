"""Text from others, such as names of files and classes, made fit to print."""

from __future__ import annotations

import unicodedata
from contextlib import contextmanager

__all__ = ['any_character', 'printable']

# Controls, marks without a shape, lone surrogates, line and paragraph separators.
ESCAPED = {'Cc', 'Cf', 'Cs', 'Zl', 'Zp'}
# Some languages and many emoji need these two.
JOINERS = '\u200c\u200d'


def printable(text):
    r"""`text` on one line, with all that a terminal would act on or hide written as Python escapes, such as \n or \x1b.

    Escaped are control characters, ends of lines and paragraphs, marks that change the direction of writing or are
    invisible (joiners are kept), and bytes of a file name that are not text (as \udcff).

    Parameters
    ----------
    text : object
        What ``str`` makes a text of.

    Returns
    -------
    str
    """
    return ''.join(
        c.encode('unicode_escape').decode() if unicodedata.category(c) in ESCAPED and c not in JOINERS else c
        for c in str(text)
    )


@contextmanager
def any_character(stream):
    """Within the block, a character that the encoding of a stream lacks is written as an escape.

    Parameters
    ----------
    stream : text stream
        Such as sys.stdout. One without an encoding, such as io.StringIO, takes any character, and stays as it is.
    """
    if not hasattr(stream, 'reconfigure'):
        yield
        return
    errors = stream.errors
    stream.reconfigure(errors='backslashreplace')
    try:
        yield
    finally:
        stream.reconfigure(errors=errors)
