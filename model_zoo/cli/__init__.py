"""The command line: ``gluon-aff COMMAND``, or ``python -m model_zoo COMMAND``.

Each module in this folder is the command of its name. Its docstring is the help, ``add_arguments(parser)`` declares its
flags, and ``run(args)`` does the work and returns the exit status: 0, or 1 where a part of it could not be done. What
a command alone needs is imported in ``run``. Modules whose names begin with an underscore are no commands.
"""

from __future__ import annotations

import os
import pkgutil
import sys
import warnings
from importlib import import_module
from typing import Sequence

from gluon_aff.errors import in_words
from gluon_aff.text import any_character

from ._common import Parser, say

__all__ = ['main']


def build_parser() -> Parser:
    """The parser of the command line, with all commands."""
    parser = Parser(prog='gluon-aff', description='Networks with attentional feature fusion.', allow_abbrev=False)
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for _, name, _ in pkgutil.iter_modules(__path__):
        if name.startswith('_'):
            continue
        module = import_module(f'.{name}', __name__)
        command = commands.add_parser(name, help=module.__doc__, description=module.__doc__, allow_abbrev=False)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, default sys.argv[1:]

    Returns
    -------
    int
        The exit status: 0, 1 where a part of the work could not be done, or 2 for wrong arguments, files or data, with
        one sentence on standard error.
    """
    with any_character(sys.stdout), warnings.catch_warnings():
        # Pillow's readers warn of damaged metadata and sizes; what matters of it is an error here.
        warnings.filterwarnings('ignore', module='PIL')
        warnings.filterwarnings('ignore', 'Glyph .* missing')  # a figure has a box in its place
        try:
            args = build_parser().parse_args(argv)
            status = args.run(args)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            # The reader, such as head, has seen enough; keep Python from flushing into the closed pipe at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (ValueError, OSError, ImportError) as error:
            say(in_words(error))
            return 2
