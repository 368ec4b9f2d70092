"""A training script's command line: a config from its flags, its exit status, and the command to run it again."""

from __future__ import annotations

import argparse
import functools
import inspect
import os
import re
import shlex
import sys
from typing import Any, Callable, Mapping, Sequence, TypeVar

from ..program import Parser, python, run_program
from ..text import printable
from .config import TrainConfig, flags
from .settings_file import read_settings
from .stop import Stopped

__all__ = ['launched', 'make_parser', 'parse', 'resuming', 'run_script', 'script', 'starting']

Config = TypeVar('Config', bound=TrainConfig)
# The library's arguments, by the names of its errors, and the flags that set them.
FLAGS = {
    'base_size': '--base-size',
    'batch_size': '--batch-size',
    'crop_ratio': '--crop-ratio',
    'crop_size': '--input-size',
    'final_drop': '--drop-rate',
    'last_gamma': '--last-gamma',
    'start_stage': '--start-layer',
    'val_fraction': '--val-fraction',
}


class _Store(argparse.Action):
    """Stores a value, or True for a flag without one, and in `typed` how the flag was spelled."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, True if self.nargs == 0 else values)
        namespace.typed = {**namespace.typed, self.dest: option_string}


def make_parser(
    config: type[TrainConfig], *, program: str | None = None, settings: Mapping[str, Any] | None = None
) -> argparse.ArgumentParser:
    """The parser of a script's flags, which are the fields of its `config`.

    The first line of the config's docstring describes the script in --help.

    Parameters
    ----------
    config : subclass of TrainConfig
    program : str, default the script's name
    settings : dict, optional
        Values of fields in place of their defaults.
    """
    summary, settings = inspect.getdoc(config).splitlines()[0], settings or {}
    parser = Parser(program or os.path.basename(inspect.getfile(config)), description=summary)
    parser.set_defaults(typed={})
    parser.add_argument(
        '--config', metavar='FILE', help='YAML file of flags, such as the run.yaml of a run; flags win (default: none)'
    )
    group = parser
    for name, declared in flags(config).items():
        if declared.metadata['group']:
            group = parser.add_argument_group(declared.metadata['group'])
        default = settings.get(name, config.__dataclass_fields__[name].default)
        _add(group, name, default, declared.metadata, is_set=name in settings)
    return parser


def parse(
    config: type[Config],
    argv: Sequence[str],
    *,
    command: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Config:
    """The settings that a command line gives.

    Parameters
    ----------
    config : subclass of TrainConfig
    argv : sequence of str
        Its flags win over those in its --config file.
    command : sequence of str, default that of the script
        The words in front of `argv`.
    settings : dict, optional
        Values of fields in place of their defaults; those of the --config file win over them.

    Raises
    ------
    ValueError
        For an unknown flag, a value out of its range, a flag that has no effect beside the others, or a --config file
        that cannot be read.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument('--config', nargs='?')
    path = first.parse_known_args(argv)[0].config
    settings = {**(settings or {}), **(read_settings(path, config) if path else {})}
    parser = make_parser(config, program=' '.join(command or ()), settings=settings)
    words = [*(command or [python(), os.path.relpath(inspect.getfile(config))]), *starting(argv)]
    values = vars(parser.parse_args(argv))
    del values['config']
    parsed = config(**values, command=launched(words))
    useless = parsed.useless_flag()
    if useless:
        parser.error(f'{useless[0]} is of no use {useless[1]}')
    return parsed


def _add(group, name, default, flag, *, is_set):
    shown = ','.join(map(str, default)) if isinstance(default, tuple) else default
    is_off = shown is None or shown is False
    says_default = flag['options']['nargs'] == 0 or flag['options'].get('required') or 'default' in (flag['help'] or '')
    note = f'(default: {"none" if is_off else shown})' if not (is_off and says_default) else ''
    options = {**flag['options'], 'dest': name, 'default': default, 'action': _Store}
    if is_set:
        options.pop('required', None)
    text = argparse.SUPPRESS if flag['help'] is None else f'{flag["help"]} {note}'.strip()
    group.add_argument(*flag['names'] or [f'--{name.replace("_", "-")}'], help=text, **options)
    if flag['hidden']:
        group.add_argument(*flag['hidden'], help=argparse.SUPPRESS, **options)


def script(config: type[TrainConfig]) -> Callable:
    """Make a script's ``main(config)`` one that takes the command line, ``main(argv)``, and what :func:`parse` takes.

    Errors of the library then name the flags in place of its own arguments.

    Parameters
    ----------
    config : subclass of TrainConfig
    """

    def decorate(main: Callable[[Any], Any]) -> Callable[..., Any]:
        @functools.wraps(main)
        def wrapped(argv: Sequence[str], **options: Any) -> Any:
            try:
                return main(parse(config, argv, **options))
            except (ValueError, FileNotFoundError) as error:
                names = rf'(?<![\w/.-])(?:{"|".join(FLAGS)})(?![\w/.-])'
                text = re.sub(names, lambda match: FLAGS[match[0]], str(error))
                if text == str(error):
                    raise
                raise type(error)(text) from None

        return wrapped

    return decorate


def starting(argv: Sequence[str]) -> list[str]:
    """The arguments `argv` of a script without --resume and --overwrite."""
    kept, after_resume = [], False
    for argument in argv:
        dropped = argument in ('--resume', '--overwrite') or argument.startswith('--resume=')
        if not dropped and not (after_resume and not argument.startswith('-')):
            kept.append(argument)
        after_resume = argument == '--resume'
    return kept


def resuming(argv: Sequence[str]) -> list[str]:
    """The arguments `argv` of a script, to go on from the latest checkpoint."""
    return [*starting(argv), '--resume']


def launched(command: Sequence[str]) -> str:
    """A command as one line, after the launcher that started this process, if any."""
    launcher = []
    if os.environ.get('DMLC_ROLE'):
        # gluon_aff.train.launch passes its own call on in the environment, which ssh does not forward.
        launcher = shlex.split(os.environ.get('GLUON_AFF_LAUNCHER', ''))
        workers, servers = (os.environ.get(f'DMLC_NUM_{role}', '') for role in ('WORKER', 'SERVER'))
        ssh = f'python -m gluon_aff.train.launch -n {workers} -s {servers} --launcher ssh -H hosts'
        launcher = launcher or ssh.split()
    elif 'HOROVOD_SIZE' in os.environ:
        launcher = ['horovodrun', '-np', os.environ['HOROVOD_SIZE']]
    return shlex.join([*launcher, *command])


def run_script(
    name: str,
    main: Callable[[Sequence[str]], Any],
    *,
    argv: Sequence[str] | None = None,
    command: Sequence[str] | None = None,
) -> None:
    """Run a script's ``main(argv)`` and exit; an error that a user can mend is one sentence on standard error.

    The exit status is that of :func:`gluon_aff.program.run_program`, or 128 + its number after a signal.

    Parameters
    ----------
    name : str
        Of the script.
    main : callable
    argv : sequence of str, default sys.argv[1:]
    command : sequence of str, default that of the script
        The words in front of `argv`.
    """
    argv = sys.argv[1:] if argv is None else argv

    def work():
        try:
            main(argv)
        except Stopped as stopped:
            again = launched([*(command or [python(), sys.argv[0]]), *resuming(argv)])
            print(f'{name}: {printable(stopped)}\nTo go on: {printable(again)}', file=sys.stderr)
            return 128 + stopped.number
        return 0

    status = run_program(name, work)
    if status and {'DMLC_ROLE', 'HOROVOD_RANK'} & set(os.environ):
        os._exit(status)  # MXNet would wait at the end for the other workers, who may be waiting for this one
    sys.exit(status)
