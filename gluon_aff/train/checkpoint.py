"""Checkpoints: all that a run needs to continue as if it had never stopped, in one file without pickle.

A file is numpy's .npz: ``parameters/<name>``, ``optimizer/<name>/<number>`` (both in the type they are trained in),
``average/<name>`` with --ema, and ``progress``, a JSON text. It holds no random states: everything random in an epoch
is a function of the seed, the epoch and the image or batch.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import asdict, dataclass, field

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, Trainer

from .._mxnet import has_values, mean_value, structural_parameters, trainer_parameters, trainer_updaters
from ..files import atomic
from ..validation import shown
from .ema import WeightAverage
from .npz_file import Archive, write_npz

__all__ = [
    'Progress',
    'SUMS',
    'checkpoints',
    'read_checkpoint',
    'restore_average',
    'restore_optimizer',
    'restore_parameters',
    'write_checkpoint',
]

SUMS = ('images', 'loss', 'score', 'scores', 'time', 'waiting')  # of an epoch, in this order
MAX_PROGRESS = 1 << 24  # bytes of JSON
LARGEST = 1 << 53  # whole number in a record


@dataclass
class Progress:
    """How far a run has come.

    Attributes
    ----------
    epoch, batch : int
        What comes next: the epoch (from 1) and the batch in it (from 0).
    updates : int
        How many there were.
    sums : dict of str to float
        The epoch's loss, training score and time so far, named as in `SUMS`.
    history : list of dict
        The metrics of each epoch that is done, one record for each.
    best : dict or None
        The record of the best epoch.
    arguments : dict
        What the results depend on, see :func:`gluon_aff.train.resume.run_arguments`.
    """

    epoch: int = 1
    batch: int = 0
    updates: int = 0
    sums: dict = field(default_factory=dict)
    history: list = field(default_factory=list)
    best: dict | None = None
    arguments: dict = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Progress:
        """The Progress in a checkpoint's JSON text, every field of it checked.

        Raises
        ------
        ValueError
            If a field is missing, unknown, or of another type or range.
        """
        fields = json.loads(text)
        if not isinstance(fields, dict) or set(fields) != set(cls.__dataclass_fields__):
            raise ValueError('its progress has other fields')
        self = cls(**fields)
        for name, least in (('epoch', 1), ('batch', 0), ('updates', 0)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value < 2**31:
                raise ValueError(f'its {name} is {shown(value)}')
        _check_record('sums', self.sums)
        if not all(math.isfinite(value) for value in self.sums.values()):
            raise ValueError('its sums are not finite')
        if not isinstance(self.history, list) or len(self.history) != self.epoch - 1:
            raise ValueError(f'its history is not of {self.epoch - 1} epochs')
        for number, record in enumerate(self.history, 1):
            _check_record('history', record)
            if record.get('epoch') != number:
                raise ValueError(f'its history has epoch {shown(record.get("epoch"))} in place {number}')
        if self.best not in self.history and (self.best is not None or self.history):
            raise ValueError('its best epoch is not in its history')
        if not isinstance(self.arguments, dict):
            raise ValueError(f'its arguments are {shown(self.arguments)}')
        return self


def _check_record(name, record):
    """Raise a ValueError unless a record holds numbers by name."""
    if not isinstance(record, dict):
        raise ValueError(f'its {name} holds {shown(record)}')
    for metric, value in record.items():
        if type(value) not in (int, float) or type(value) is int and abs(value) > LARGEST:
            raise ValueError(f'its {name} says that {shown(metric)} is {shown(value)}')


def _arrays(state):
    """The arrays in an optimizer's state of one parameter, which is None, an array, or a nested tuple of arrays."""
    if state is None:
        return []
    if isinstance(state, mx.nd.NDArray):
        return [state]
    return [array for item in state for array in _arrays(item)]


def _names(net, trainer):
    """The structural names of the trainer's parameters, in its order."""
    names = {id(parameter): name for name, parameter in structural_parameters(net).items()}
    return [names[id(parameter)] for parameter in trainer_parameters(trainer)]


def write_checkpoint(
    path: str, net: HybridBlock, trainer: Trainer, progress: Progress, *, average: WeightAverage | None = None
) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path : str
    net : HybridBlock
    trainer : mxnet.gluon.Trainer
        With update_on_kvstore=False.
    progress : Progress
    average : WeightAverage, optional

    Raises
    ------
    FloatingPointError
        If a parameter is no longer finite; nothing is written.
    """
    arrays = {
        f'parameters/{name}': mean_value(parameter).asnumpy()
        for name, parameter in structural_parameters(net).items()
        if has_values(parameter)
    }
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise FloatingPointError(f'{name} is no longer finite after update {progress.updates}.')
    names = _names(net, trainer)
    for index, state in trainer_updaters(trainer)[0].states.items():
        for number, array in enumerate(_arrays(state)):
            arrays[f'optimizer/{names[index]}/{number}'] = array.asnumpy()
    for name, array in (average.state() if average else {}).items():
        arrays[f'average/{name}'] = array.asnumpy()
    arrays['progress'] = np.frombuffer(json.dumps(asdict(progress)).encode(), np.uint8)
    with atomic(path) as partial:
        write_npz(partial, arrays)
        read_checkpoint(partial)[0].close()


def read_checkpoint(path: str) -> tuple[Archive, Progress]:
    """The arrays and the progress of the checkpoint at `path`.

    The whole file is compared with its checksums, in little memory; an array is read when it is asked for.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a checkpoint, or is damaged.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'There is no checkpoint {path}.')
    try:
        arrays = Archive(path)
        header = arrays.headers['progress']
        if header.dtype != np.uint8 or header.shape[0] > MAX_PROGRESS:
            raise ValueError('its progress is not text')
        progress = Progress.parse(arrays['progress'].tobytes().decode())
        del arrays.headers['progress']
    except Exception as error:  # a file from others can raise anything in zipfile, numpy and json
        reason = str(error) if type(error) is ValueError else type(error).__name__
        raise ValueError(f'{path} is not a checkpoint, or is damaged ({reason}); resume from an earlier one.') from None
    return arrays, progress


def restore_parameters(net: HybridBlock, arrays: Archive, path: str) -> None:
    """Set the parameters of `net`, whose shapes may be unknown yet, to the `arrays` of the checkpoint at `path`.

    Raises
    ------
    ValueError
        If names, shapes or types differ; the network then stays as it was.
    """
    saved = {
        name[len('parameters/') :]: header for name, header in arrays.headers.items() if name.startswith('parameters/')
    }
    parameters = structural_parameters(net)
    unlike = sorted(set(saved) ^ set(parameters)) or sorted(
        name
        for name, parameter in parameters.items()
        if np.dtype(parameter.dtype) != saved[name].dtype
        or len(parameter.shape) != len(saved[name].shape)
        or any(side not in (0, saved_side) for side, saved_side in zip(parameter.shape, saved[name].shape))
    )
    if unlike:
        raise ValueError(
            f'{path} is from another network: {", ".join(unlike[:3])}{", ..." * (len(unlike) > 3)} '
            f'{"differ" if len(unlike) > 1 else "differs"}.'
        )
    for name, parameter in parameters.items():
        parameter.set_data(mx.nd.array(arrays[f'parameters/{name}'], dtype=parameter.dtype))


def restore_optimizer(net: HybridBlock, trainer: Trainer, arrays: Archive) -> None:
    """Give a fresh trainer the optimizer's states of a checkpoint, on each of its devices.

    Parameters
    ----------
    net : HybridBlock
        Whose parameters are restored already.
    trainer : mxnet.gluon.Trainer
        Its optimizer's `begin_num_update` is the number of updates so far; before the first there are no states.
    arrays : Archive
        From :func:`read_checkpoint`.

    Raises
    ------
    ValueError
        If they do not fit the optimizer, or some are missing.
    """
    saved = {name: header for name, header in arrays.headers.items() if name.startswith('optimizer/')}
    for index, (name, parameter) in enumerate(zip(_names(net, trainer), trainer_parameters(trainer))):
        if parameter.grad_req == 'null' or not trainer.optimizer.begin_num_update:
            continue
        for updater, weight in zip(trainer_updaters(trainer), parameter.list_data()):
            state = trainer.optimizer.create_state_multi_precision(index, weight)
            for number, array in enumerate(_arrays(state)):
                key = f'optimizer/{name}/{number}'
                if arrays.headers.get(key) != (np.dtype(array.dtype), array.shape):
                    raise ValueError(
                        f'{arrays.path} lacks the optimizer state of {name}, or has another one than this '
                        'optimizer; resume from an earlier checkpoint.'
                    )
                array[:] = mx.nd.array(arrays[key], dtype=array.dtype)
                saved.pop(key, None)
            updater.states[index], updater.states_synced[index] = state, True
    if saved:
        raise ValueError(
            f'{arrays.path} has an unknown optimizer state, {next(iter(saved))}; resume from an earlier checkpoint.'
        )


def restore_average(average: WeightAverage, arrays: Archive) -> None:
    """Continue a fresh `average` from the `arrays` of a checkpoint, see :func:`read_checkpoint`.

    Raises
    ------
    ValueError
        If they do not fit, or are missing.
    """
    saved = {name: arrays.headers.get(f'average/{name}') for name in average.state()}
    for name, value in average.state().items():
        if saved[name] != (np.dtype('float32'), value.shape):
            raise ValueError(f'{arrays.path} lacks the average of {name}; resume from an earlier checkpoint.')
    average.restore({name: arrays[f'average/{name}'] for name in saved})


def checkpoints(folder: str) -> list[str]:
    """Paths of the checkpoints in a folder, the latest first."""
    names = os.listdir(folder) if os.path.isdir(folder) else ()
    paths = [os.path.join(folder, name) for name in sorted(names) if re.fullmatch(r'checkpoint-\d{8}\.npz', name)]
    return [path for path in reversed(paths) if os.path.isfile(path)]
