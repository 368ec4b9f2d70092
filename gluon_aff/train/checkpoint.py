"""Checkpoints: all that a run needs to go on as if it had never stopped, in one file without pickle.

A file is numpy's .npz: ``parameters/<name>``, ``optimizer/<name>/<part>`` (both in the type they are trained in) and
``progress``, a JSON text. Random states are none of it: everything random in an epoch is a function of the seed, the
epoch and the image or batch.
"""
from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from dataclasses import asdict, dataclass, field

import mxnet as mx
import numpy as np

from ..files import atomic

__all__ = ['Progress', 'checkpoints', 'read_checkpoint', 'restore_optimizer', 'restore_parameters', 'write_checkpoint']


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


def _leaves(state):
    """The arrays in an optimizer's state of one parameter: none, one, or a nested tuple of them."""
    if state is None:
        return []
    if isinstance(state, mx.nd.NDArray):
        return [state]
    return [leaf for part in state for leaf in _leaves(part)]


def _names(net, trainer):
    """Of the trainer's parameters, in its order, the names in the network's files."""
    names = {id(parameter): name for name, parameter in net._collect_params_with_prefix().items()}
    return [names[id(parameter)] for parameter in trainer._params]


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
    arrays = {f'parameters/{name}': parameter._reduce().asnumpy()
              for name, parameter in net._collect_params_with_prefix().items() if parameter._data is not None}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise FloatingPointError(f'{name} is no longer finite after update {progress.updates}.')
    names = _names(net, trainer)
    for index, state in trainer._updaters[0].states.items():
        arrays.update({f'optimizer/{names[index]}/{part}': leaf.asnumpy()
                       for part, leaf in enumerate(_leaves(state))})
    arrays['progress'] = np.frombuffer(json.dumps(asdict(progress)).encode(), np.uint8)
    with atomic(path) as partial, open(partial, 'wb') as file:
        np.savez(file, **arrays)


def read_checkpoint(path):
    """(arrays by name, Progress) of a checkpoint.

    Parameters
    ----------
    path : str

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no checkpoint, or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file.items())
        return arrays, Progress(**json.loads(arrays.pop('progress').tobytes().decode()))
    except FileNotFoundError:
        raise FileNotFoundError(f'There is no checkpoint {path}.') from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError, NotImplementedError, RuntimeError,
            zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f'{path} is not a checkpoint, or damaged ({type(error).__name__}); resume from an earlier '
                         'one.') from None


def restore_parameters(net, arrays, path):
    """Give a network, initialised or not yet of known shapes, the parameters of a checkpoint.

    Parameters
    ----------
    net : HybridBlock
    arrays : dict of str to numpy.ndarray
        From :func:`read_checkpoint`.
    path : str
        For the error.

    Raises
    ------
    ValueError
        If names, shapes or types differ; the network is then as it was.
    """
    saved = {name[len('parameters/'):]: array for name, array in arrays.items() if name.startswith('parameters/')}
    wanted = net._collect_params_with_prefix()
    unlike = sorted(set(saved) ^ set(wanted)) or sorted(
        name for name, parameter in wanted.items() if np.dtype(parameter.dtype) != saved[name].dtype
        or len(parameter.shape) != saved[name].ndim
        or any(side not in (0, given) for side, given in zip(parameter.shape, saved[name].shape)))
    if unlike:
        raise ValueError(f"{path} is of another network: {', '.join(unlike[:3])}{', ...' * (len(unlike) > 3)} "
                         f'{"differ" if len(unlike) > 1 else "differs"}.')
    for name, parameter in wanted.items():
        parameter.set_data(mx.nd.array(saved[name], dtype=saved[name].dtype))


def restore_optimizer(net, trainer, arrays):
    """Give a fresh trainer the optimizer's states of a checkpoint, on each of its devices.

    Parameters
    ----------
    net : HybridBlock
        Whose parameters are restored already.
    trainer : mxnet.gluon.Trainer
    arrays : dict of str to numpy.ndarray
        From :func:`read_checkpoint`.

    Raises
    ------
    ValueError
        If they do not fit the optimizer.
    """
    for index, (name, parameter) in enumerate(zip(_names(net, trainer), trainer._params)):
        prefix = f'optimizer/{name}/'
        saved = [arrays[f'{prefix}{part}'] for part in range(sum(key.startswith(prefix) for key in arrays))]
        if not saved:
            continue
        for updater, weight in zip(trainer._updaters, parameter.list_data()):
            state = trainer.optimizer.create_state_multi_precision(index, weight)
            leaves = _leaves(state)
            if [(leaf.shape, np.dtype(leaf.dtype)) for leaf in leaves] != [(a.shape, a.dtype) for a in saved]:
                raise ValueError(f'The checkpoint has other optimizer states of {name} than this optimizer.')
            for leaf, array in zip(leaves, saved):
                leaf[:] = mx.nd.array(array, dtype=array.dtype)
            updater.states[index], updater.states_synced[index] = state, True


def checkpoints(folder):
    """Paths of the checkpoints in a folder, the latest first.

    Parameters
    ----------
    folder : str
    """
    found = [name for name in (os.listdir(folder) if os.path.isdir(folder) else ())
             if re.fullmatch(r'checkpoint-\d{8}\.npz', name)]
    return [os.path.join(folder, name) for name in sorted(found, reverse=True)]
