"""The processes that train one network together: alone, over MXNet's kvstore, or over Horovod."""

from __future__ import annotations

import atexit
import os
from typing import Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon

from .._mxnet import connect_trainer, free_kvstore, mean_value

__all__ = ['KVSTORES', 'HorovodWorkers', 'KVStoreWorkers', 'Workers', 'get_workers']

KVSTORES = ('device', 'local', 'dist_sync', 'dist_device_sync', 'horovod')


class Workers:
    """One process with all its devices; the base of those that share the work.

    Parameters
    ----------
    kvstore : str or mxnet.kvstore.KVStore, default 'device'
        What sums gradients of several devices.

    Attributes
    ----------
    rank, size : int
        The number of this process, from 0, and how many there are.
    local_rank : int or None
        Its number on this machine, where each process takes the device of that number.
    """

    rank, size, local_rank = 0, 1, None

    def __init__(self, kvstore: str | mx.kvstore.KVStore | None = 'device'):
        self.kvstore = kvstore

    @property
    def shard(self) -> tuple[int, int]:
        """(rank, size): the part of the images that is this process's."""
        return self.rank, self.size

    def trainer(self, parameters: gluon.ParameterDict, optimizer: mx.optimizer.Optimizer) -> gluon.Trainer:
        """A gluon.Trainer that begins with rank 0's values and sums gradients over the workers.

        It updates in each process, so that every one holds the optimizer's state and can be resumed.
        """
        return gluon.Trainer(parameters, optimizer, kvstore=self.kvstore, update_on_kvstore=False)

    def images(self, count: int) -> int:
        """What Trainer.step takes for a batch of `count` images in each worker."""
        return count * self.size

    def total(self, numbers: float | Sequence[float] | np.ndarray) -> np.ndarray:
        """The sum over all workers of an array of numbers, float64; all of them have to call."""
        return np.asarray(numbers, np.float64)

    def average(self, parameters: Sequence[gluon.Parameter]) -> None:
        """Replace the values of parameters, such as running statistics, by their mean over all workers."""
        if self.size == 1 or not parameters:
            return
        values = [mean_value(parameter).asnumpy() for parameter in parameters]
        mean = self.total(np.concatenate([value.ravel() for value in values])) / self.size
        ends = np.cumsum([value.size for value in values])[:-1]
        for parameter, old, new in zip(parameters, values, np.split(mean, ends)):
            parameter.set_data(mx.nd.array(new.reshape(old.shape), dtype=old.dtype))


class KVStoreWorkers(Workers):
    """Workers of MXNet's parameter server, started by its launcher, see :mod:`gluon_aff.train.launch`.

    Parameters
    ----------
    kind : {'dist_sync', 'dist_device_sync'}

    Raises
    ------
    ValueError
        If this process was not started by a launcher.
    """

    FIRST_KEY = 1 << 20  # above the trainer's, one for each parameter

    def __init__(self, kind: str):
        if os.environ.get('DMLC_ROLE') != 'worker':
            raise ValueError(
                f'--kvstore {kind} is for processes that a launcher starts; put "python -m '
                'gluon_aff.train.launch -n WORKERS -s SERVERS --launcher local" in front of the command.'
            )
        super().__init__(mx.kv.create(kind))
        self.rank, self.size = self.kvstore.rank, self.kvstore.num_workers
        self._keys = {}
        atexit.register(self._close)

    def _close(self) -> None:
        # Before Python shuts down: MXNet closes it later, which sometimes aborts the process.
        mx.nd.waitall()
        free_kvstore(self.kvstore)

    def trainer(self, parameters: gluon.ParameterDict, optimizer: mx.optimizer.Optimizer) -> gluon.Trainer:
        trainer = super().trainer(parameters, optimizer)
        # Left to the first step, the pull of a parameter may come after the exchange of its gradient, which has the
        # same key, and then gets the gradient in its place.
        connect_trainer(trainer)
        mx.nd.waitall()
        return trainer

    def total(self, numbers: float | Sequence[float] | np.ndarray) -> np.ndarray:
        array = np.asarray(numbers, np.float64)
        if array.size not in self._keys:
            key = self._keys[array.size] = self.FIRST_KEY + len(self._keys)
            self.kvstore.init(key, mx.nd.zeros(array.size, dtype='float64'))
        # A fresh array each time: a dist kvstore pulls into the one it pushed.
        values = mx.nd.array(array.ravel(), dtype='float64')
        self.kvstore.pushpull(self._keys[array.size], values, out=values)
        return values.asnumpy().reshape(array.shape)


class HorovodWorkers(Workers):
    """Workers of Horovod, started by horovodrun; each takes the GPU of its local rank.

    Raises
    ------
    ImportError
        If Horovod is not installed with its MXNet part.
    """

    def __init__(self) -> None:
        try:
            import horovod.mxnet as hvd
        except ImportError as error:
            raise ImportError(f'--kvstore horovod needs Horovod built with HOROVOD_WITH_MXNET=1 ({error}).') from None
        hvd.init()
        super().__init__(None)
        self._hvd = hvd
        self.rank, self.size, self.local_rank = hvd.rank(), hvd.size(), hvd.local_rank()

    def trainer(self, parameters: gluon.ParameterDict, optimizer: mx.optimizer.Optimizer) -> gluon.Trainer:
        self._hvd.broadcast_parameters(parameters, root_rank=0)
        return self._hvd.DistributedTrainer(parameters, optimizer)

    def images(self, count: int) -> int:
        return count  # DistributedTrainer divides by the number of workers

    def total(self, numbers: float | Sequence[float] | np.ndarray) -> np.ndarray:
        values = mx.nd.array(np.asarray(numbers), dtype='float64')
        return self._hvd.allreduce(values, average=False).asnumpy()


def get_workers(kvstore: str = 'device') -> Workers:
    """The workers that a --kvstore flag names.

    Parameters
    ----------
    kvstore : {'device', 'local', 'dist_sync', 'dist_device_sync', 'horovod'}

    Raises
    ------
    ValueError
        For another name, or a dist kvstore without a launcher.
    ImportError
        If Horovod is asked for and missing.
    """
    if kvstore not in KVSTORES:
        raise ValueError(f'A kvstore is one of {", ".join(KVSTORES)}, got {kvstore!r}.')
    if kvstore == 'horovod':
        return HorovodWorkers()
    return KVStoreWorkers(kvstore) if kvstore.startswith('dist') else Workers(kvstore)
