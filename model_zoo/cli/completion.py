"""Print a script that completes commands, flags, networks and files in a shell: bash, zsh, tcsh, fish or powershell."""

from __future__ import annotations

import argparse

SHELLS = ('bash', 'zsh', 'tcsh', 'fish', 'powershell')
# What an argument of these metavars is.
NETWORKS, FILES, FOLDERS = ('NAME', 'PATTERN'), ('FILE', 'FILE.png', 'IMAGE'), ('DIR', 'FOLDER', 'TREE')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('shell', choices=SHELLS, help='for bash: gluon-aff completion bash > ~/.gluon-aff-completion')


def run(args: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError:
        raise ImportError("gluon-aff completion needs shtab; run: pip install 'gluon_aff[completion]'") from None
    from . import build_parser

    parser = build_parser()
    (commands,) = (action.choices.values() for action in parser._actions if action.dest == 'command')
    for action in (action for command in commands for action in command._actions):
        if action.metavar in NETWORKS:
            action.complete = {'bash': '_gluon_aff_names', 'zsh': '_gluon_aff_names'}
        elif action.metavar in FILES or action.metavar in FOLDERS:
            action.complete = shtab.FILE if action.metavar in FILES else shtab.DIRECTORY
    print(shtab.complete(parser, args.shell, root_prefix='gluon_aff', preamble=_preamble()))
    return 0


def _preamble():
    """Shell functions that complete the name of a network, or the folder of a run."""
    from ..registry import list_models

    names = ' '.join(list_models())
    return {
        # Some versions of shtab call it with another IFS, at which compgen splits the names.
        'bash': f'_gluon_aff_names() {{\n  local IFS=" "\n  compgen -W "{names}" -- $1\n  compgen -d -- $1\n}}',
        'zsh': f'_gluon_aff_names() {{\n  compadd -- {names}\n  _files -/\n}}',
    }
