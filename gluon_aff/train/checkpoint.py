"""Checkpoints: all that a run needs to go on as if it had never stopped, in one file without pickle.

A file is numpy's .npz: ``parameters/<name>``, ``optimizer/<name>/<part>`` (both in the type they are trained in) and
``progress``, a JSON text. It holds no random states: everything random in an epoch is a function of the seed, the
epoch and the image or batch.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import zipfile
import zlib
from dataclasses import asdict, dataclass, field

import mxnet as mx
import numpy as np

from .._mxnet import has_values, mean_value, structural_parameters, trainer_parameters, trainer_updaters
from ..files import atomic
from ..validation import shown
from .npz_file import Archive

__all__ = [
    'Progress',
    'SUMS',
    'checkpoints',
    'read_checkpoint',
    'restore_optimizer',
    'restore_parameters',
    'write_checkpoint',
]

SUMS = ('images', 'loss', 'score', 'scores', 'time', 'waiting')  # of an epoch, in this order
MAX_PROGRESS = 1 << 24  # bytes of JSON
LARGEST = 1 << 53  # whole number in a figure


@dataclass
class Progress:
    """How far a run has come.

    Attributes
    ----------
    epoch, batch : int
        What comes next: the epoch (from 1) and the batch in it (from 0).
    updates : int
        Of the parameters, so far.
    sums : dict of str to float
        Of the epoch's loss, training score and time, so far.
    history : list of dict
        One record of figures for each epoch that is done.
    best : dict or None
        The record of the best one.
    arguments : dict
        Those of the run that its results depend on.
    """

    epoch: int = 1
    batch: int = 0
    updates: int = 0
    sums: dict = field(default_factory=dict)
    history: list = field(default_factory=list)
    best: dict | None = None
    arguments: dict = field(default_factory=dict)

    @classmethod
    def parse(cls, text):
        """The Progress that a checkpoint's JSON text holds, every field of it checked.

        Parameters
        ----------
        text : str

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
        _check_figures('sums', self.sums)
        if not all(math.isfinite(value) for value in self.sums.values()):
            raise ValueError('its sums are not finite')
        if not isinstance(self.history, list) or len(self.history) != self.epoch - 1:
            raise ValueError(f'its history is not of {self.epoch - 1} epochs')
        for number, record in enumerate(self.history, 1):
            _check_figures('history', record)
            if record.get('epoch') != number:
                raise ValueError(f'its history has epoch {shown(record.get("epoch"))} in place {number}')
        if self.best not in self.history and (self.best is not None or self.history):
            raise ValueError('its best epoch is not in its history')
        if not isinstance(self.arguments, dict):
            raise ValueError(f'its arguments are {shown(self.arguments)}')
        return self


def _check_figures(name, figures):
    """Raise a ValueError unless `figures` are numbers by name."""
    if not isinstance(figures, dict):
        raise ValueError(f'its {name} holds {shown(figures)}')
    for figure, value in figures.items():
        if type(value) not in (int, float) or type(value) is int and abs(value) > LARGEST:
            raise ValueError(f'its {name} says that {shown(figure)} is {shown(value)}')


def _leaves(state):
    """The arrays in an optimizer's state of one parameter: none, one, or a nested tuple of them."""
    if state is None:
        return []
    if isinstance(state, mx.nd.NDArray):
        return [state]
    return [leaf for part in state for leaf in _leaves(part)]


def _names(net, trainer):
    """Of the trainer's parameters, in its order, the names in the network's files."""
    names = {id(parameter): name for name, parameter in structural_parameters(net).items()}
    return [names[id(parameter)] for parameter in trainer_parameters(trainer)]


def write_checkpoint(path, net, trainer, progress):
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path : str
    net : HybridBlock
    trainer : mxnet.gluon.Trainer
        That updates on the workers, not in the kvstore.
    progress : Progress

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
        arrays.update({f'optimizer/{names[index]}/{part}': leaf.asnumpy() for part, leaf in enumerate(_leaves(state))})
    arrays['progress'] = np.frombuffer(json.dumps(asdict(progress)).encode(), np.uint8)
    with atomic(path) as partial:
        with open(partial, 'wb') as file:
            np.savez(file, **arrays)
        read_checkpoint(partial)[0].close()


def read_checkpoint(path):
    """(arrays by name, Progress) of a checkpoint.

    The whole file is compared with its checksums, in little memory; an array is read when it is asked for.

    Parameters
    ----------
    path : str

    Returns
    -------
    Archive, Progress

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
        arrays.verify()
        if arrays.headers['progress'].dtype != np.uint8 or arrays.headers['progress'].shape[0] > MAX_PROGRESS:
            raise ValueError('its progress is not text')
        progress = Progress.parse(arrays['progress'].tobytes().decode())
        del arrays.headers['progress']
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        EOFError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = str(error) if type(error) is ValueError else type(error).__name__
        raise ValueError(f'{path} is not a checkpoint, or is damaged ({reason}); resume from an earlier one.') from None
    return arrays, progress


def restore_parameters(net, arrays, path):
    """Give a network, initialised or not yet of known shapes, the parameters of a checkpoint.

    Parameters
    ----------
    net : HybridBlock
    arrays : Archive
        From :func:`read_checkpoint`; its shapes and types are compared before an array is read.
    path : str
        For the error.

    Raises
    ------
    ValueError
        If names, shapes or types differ; the network is then as it was.
    """
    saved = {
        name[len('parameters/') :]: header for name, header in arrays.headers.items() if name.startswith('parameters/')
    }
    wanted = structural_parameters(net)
    unlike = sorted(set(saved) ^ set(wanted)) or sorted(
        name
        for name, parameter in wanted.items()
        if np.dtype(parameter.dtype) != saved[name].dtype
        or len(parameter.shape) != len(saved[name].shape)
        or any(side not in (0, given) for side, given in zip(parameter.shape, saved[name].shape))
    )
    if unlike:
        raise ValueError(
            f'{path} is from another network: {", ".join(unlike[:3])}{", ..." * (len(unlike) > 3)} '
            f'{"differ" if len(unlike) > 1 else "differs"}.'
        )
    for name, parameter in wanted.items():
        parameter.set_data(mx.nd.array(arrays[f'parameters/{name}'], dtype=parameter.dtype))


def restore_optimizer(net, trainer, arrays):
    """Give a fresh trainer the optimizer's states of a checkpoint, on each of its devices.

    Parameters
    ----------
    net : HybridBlock
        Whose parameters are restored already.
    trainer : mxnet.gluon.Trainer
        Its optimizer's `begin_num_update` says how many updates there were; before the first one there are no states.
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
            for number, leaf in enumerate(_leaves(state)):
                key = f'optimizer/{name}/{number}'
                if arrays.headers.get(key) != (np.dtype(leaf.dtype), leaf.shape):
                    raise ValueError(
                        f'{arrays.path} lacks the optimizer state of {name}, or has another one than this '
                        'optimizer; resume from an earlier checkpoint.'
                    )
                leaf[:] = mx.nd.array(arrays[key], dtype=leaf.dtype)
                saved.pop(key, None)
            updater.states[index], updater.states_synced[index] = state, True
    if saved:
        raise ValueError(
            f'{arrays.path} has an unknown optimizer state, {next(iter(saved))}; resume from an earlier checkpoint.'
        )


def checkpoints(folder):
    """Paths of the checkpoints in a folder, the latest first.

    Parameters
    ----------
    folder : str
    """
    found = [
        name
        for name in (os.listdir(folder) if os.path.isdir(folder) else ())
        if re.fullmatch(r'checkpoint-\d{8}\.npz', name) and os.path.isfile(os.path.join(folder, name))
    ]
    return [os.path.join(folder, name) for name in sorted(found, reverse=True)]
