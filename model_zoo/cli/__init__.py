"""The command line: ``gluon-aff COMMAND``, or ``python -m model_zoo COMMAND``.

Each module in this folder is the command of its name. Its docstring is the help, ``add_arguments(parser)`` declares its
flags, and ``run(args)`` does the work and returns the exit status: 0, or 1 where a part of it could not be done. What
a command alone needs is imported in ``run``. Modules whose names begin with an underscore are no commands.
"""

from __future__ import annotations

import pkgutil
import warnings
from importlib import import_module
from typing import Sequence

from gluon_aff import __version__
from gluon_aff.program import Parser, run_program

__all__ = ['main']


def build_parser() -> Parser:
    """The parser of the command line, with all commands."""
    parser = Parser(prog='gluon-aff', description='Networks with attentional feature fusion.')
    parser.add_argument('--version', action='version', version=f'gluon-aff {__version__}', help='show the version')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for _, name, _ in pkgutil.iter_modules(__path__):
        if name.startswith('_'):
            continue
        module = import_module(f'.{name}', __name__)
        command = commands.add_parser(name, help=module.__doc__, description=module.__doc__)
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
        The exit status: 0, 1 where a part of the work could not be done, or that of
        :func:`gluon_aff.program.run_program`.
    """

    def work():
        args = build_parser().parse_args(argv)
        return args.run(args)

    with warnings.catch_warnings():
        # Pillow's readers warn of damaged metadata and sizes; what matters of it is an error here.
        warnings.filterwarnings('ignore', module='PIL')
        warnings.filterwarnings('ignore', 'Glyph .* missing')  # a figure has a box in its place
        return run_program('gluon-aff', work)
