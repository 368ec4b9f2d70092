"""What a training run's or an export's folder holds, for ``gluon-aff info FOLDER``."""

from __future__ import annotations

import json
import os
from contextlib import suppress

from gluon_aff.deploy import is_export
from gluon_aff.deploy.export_folder import read_export
from gluon_aff.spec import ModelSpec

from ..loading import read_description
from ._common import print_table, size

# Of an epoch's record, what is no metric.
NO_METRICS = ('epoch', 'lr', 'time', 'waiting', 'images_per_second')


def print_folder(folder: str) -> None:
    """Print a table about the folder of a training run, or of an export; a ValueError for another folder."""
    rows = _export_rows(folder) if is_export(folder) else _run_rows(folder)
    print_table([(title, text) for title, text in rows if text])


def _run_rows(folder):
    from gluon_aff.train.checkpoint import checkpoints  # which needs GluonCV

    values = read_description(folder)
    record = {
        name: value
        for name, value in list(values.items())[list(values).index('parameters') + 1 :]
        if isinstance(value, (int, float))
    }
    saved = [os.path.basename(path) for path in checkpoints(folder)]
    return [
        ('run', folder),
        ('network', values['model']),
        ('options', ', '.join(f'{name}={value}' for name, value in dict(values['options']).items())),
        *_spec_rows(values),
        ('data set', values.get('dataset')),
        ('best epoch', f'{record["epoch"]}{_of_epochs(folder)}' if 'epoch' in record else ''),
        ('metrics', ', '.join(_number(name, value) for name, value in record.items() if name not in NO_METRICS)),
        ('parameters', _file(folder, values['parameters'])),
        ('checkpoints', f'{len(saved)}, the latest {saved[0]}' if saved else 'none'),
        ('command', values.get('command')),
    ]


def _of_epochs(folder):
    """' of N' where the run's log says how many epochs there were, else ''."""
    with suppress(OSError, ValueError, KeyError, TypeError, IndexError):
        with open(os.path.join(folder, 'log.jsonl'), encoding='utf-8') as file:
            return f' of {json.loads(file.readlines()[-1])["epoch"]}'
    return ''


def _export_rows(folder):
    values = read_export(folder)
    spec, int8 = ModelSpec.from_json(values), values.get('int8') or {}
    return [
        ('export', folder),
        ('network', values['name']),
        *_spec_rows(values),
        ('takes', f'{spec.dtype} ({", ".join(map(str, spec.shape))}){"" if spec.layout == "NHWC" else ", normalised"}'),
        *((kind, _file(folder, record['file'])) for kind, record in values['files'].items()),
        ('INT8', ', '.join(_number(name, value) for name, value in int8.items() if isinstance(value, (int, float)))),
        ('written by', ', '.join(f'{name} {version}' for name, version in values.get('versions', {}).items())),
    ]


def _spec_rows(values):
    names = values['class_names']
    return [
        ('task', values.get('task')),
        ('classes', f'{len(names)}: {", ".join(map(str, names[:4]))}{", ..." if len(names) > 4 else ""}'),
        ('input', f'{size(values["input_size"])}; centre crop {values["crop_ratio"]:g}'),
        ('mean, std', '; '.join(', '.join(f'{value:.4f}' for value in values[name]) for name in ('mean', 'std'))),
    ]


def _number(name, value):
    return f'{name.replace("_", " ")} {value if isinstance(value, int) else format(value, ".4f")}'


def _file(folder, name):
    path = os.path.join(folder, name)
    return f'{name}, {os.path.getsize(path) / 1e6:.1f} MB' if os.path.isfile(path) else f'{name}, missing'
