"""A run's settings as a YAML file, a line for each flag: what --config reads, and every run writes as run.yaml."""

from __future__ import annotations

from typing import Any

import yaml

from ..validation import shown
from .config import TrainConfig, epochs, flags, number

__all__ = ['read_settings', 'settings_text']

STARTING = ('resume', 'overwrite')  # how a run begins, not what it is


def _spellings(name, metadata):
    """The keys that name a field in a file; the first is the one that is written."""
    long_names = [spelling for spelling in (*metadata['names'], *metadata['hidden']) if spelling.startswith('--')]
    own = f'--{name}'
    keys = [*long_names, own] if metadata['names'] else [own, *long_names]
    return [key[2:].replace('_', '-') for key in keys]


def settings_text(config: TrainConfig) -> str:
    """The YAML of a config: the values of all flags but --resume and --overwrite, and the command that it came from."""
    values = {}
    for name, declared in flags(type(config)).items():
        if name not in STARTING:
            value = getattr(config, name)
            values[_spellings(name, declared.metadata)[0]] = list(value) if isinstance(value, tuple) else value
    comment = '# ' + ' '.join(config.command.split()) + '\n' if config.command else ''
    return comment + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def read_settings(path: str, config: type[TrainConfig]) -> dict[str, Any]:
    """The values of a config's fields in a YAML file.

    Parameters
    ----------
    path : str
    config : subclass of TrainConfig
        Its flags without their dashes are the keys, such as ``num-epochs: 20``; null leaves the default.

    Raises
    ------
    ValueError
        If the file cannot be read, is not such YAML, has an unknown key, or a value of another type or range.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = yaml.safe_load(file)
    except OSError as error:
        raise ValueError(f'--config {path} cannot be read ({error.strerror or error}).') from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        mark = getattr(error, 'problem_mark', None)
        line = f', line {mark.line + 1}' if mark else ''
        raise ValueError(
            f'--config {path}{line} is not YAML; write a line such as "num-epochs: 20" for each flag.'
        ) from None
    if not isinstance(content, dict):
        raise ValueError(
            f'--config {path} must have a line such as "num-epochs: 20" for each flag, got {shown(content)}.'
        )
    declared = flags(config)
    fields = {key: name for name, field in declared.items() for key in _spellings(name, field.metadata)}
    values = {}
    for key, value in content.items():
        name = fields.get(str(key).replace('_', '-'))
        if name is None:
            raise ValueError(f'--config {path} has the key {shown(key)}, which is not a flag of this script.')
        if value is not None:
            values[name] = _value(f'--config {path}: {key}', declared[name], value)
    return values


def _value(name, declared, value):
    """A value of the file as the config has it; a ValueError that begins with `name` if it does not fit."""
    accepts = declared.metadata['accepts']
    if isinstance(accepts, number):
        if isinstance(value, str):  # YAML reads 1e-4 as text
            try:
                value = accepts.kind(value)
            except ValueError:
                pass
        expected, fits = accepts.describe(value), accepts.holds(value)
    elif isinstance(accepts, epochs):
        value = [value] if isinstance(value, int) else value
        expected, fits = f'a list of {accepts.describe(value)}', accepts.holds(value)
        value = tuple(value) if fits else value
    elif accepts is not None:
        expected, fits = f'one of {", ".join(accepts)}', value in accepts
    elif declared.default is False and 'const' not in declared.metadata['options']:
        expected, fits = 'true or false', isinstance(value, bool)
    else:
        expected = 'text'
        fits = isinstance(value, str) or isinstance(value, bool) and declared.default is False
    if not fits:
        raise ValueError(f'{name} must be {expected}, got {shown(value)}.')
    return value
