"""An exponential moving average of a network's parameters."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator, Mapping

import mxnet as mx

from .._mxnet import has_values, structural_parameters

__all__ = ['WeightAverage']


class WeightAverage:
    """The average of a network's parameters and running statistics over its updates (Polyak and Juditsky, 1992).

    After each update: average = decay * average + (1 - decay) * parameter, as timm's ModelEmaV2, in float32. Of several
    devices it takes the first's running statistics.

    Parameters
    ----------
    net : mxnet.gluon.Block
        Initialised; the average starts as its parameters are.
    decay : float
        At least 0 and below 1, such as 0.999. It averages over about 1 / (1 - decay) updates.

    Raises
    ------
    ValueError
        If decay is out of its range, or a parameter has no values yet.
    """

    def __init__(self, net: mx.gluon.Block, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f'decay must be at least 0 and below 1, got {decay!r}.')
        self.net, self.decay = net, decay
        for name, parameter in self._parameters():
            if not has_values(parameter):
                raise ValueError(f'{name} has no values to average yet; call the network on an image first.')
        self.values = {name: self._first(parameter).copy() for name, parameter in self._parameters()}

    def _parameters(self):
        return structural_parameters(self.net).items()

    @staticmethod
    def _first(parameter):
        return parameter.list_data()[0].astype('float32', copy=False)

    def update(self) -> None:
        """Take the parameters as they are now into the average."""
        for name, parameter in self._parameters():
            value = self.values[name]
            value *= self.decay
            value += (1 - self.decay) * self._first(parameter)

    @contextmanager
    def applied(self) -> Iterator[mx.gluon.Block]:
        """While it is open, the network has the averaged parameters."""
        own = [[array.copy() for array in parameter.list_data()] for _, parameter in self._parameters()]
        for name, parameter in self._parameters():
            parameter.set_data(self.values[name].astype(parameter.dtype, copy=False))
        try:
            yield self.net
        finally:
            for arrays, (_, parameter) in zip(own, self._parameters()):
                for array, value in zip(parameter.list_data(), arrays):
                    array[:] = value

    def state(self) -> dict[str, mx.nd.NDArray]:
        """The average, {structural name: NDArray}, for a checkpoint."""
        return dict(self.values)

    def restore(self, values: Mapping[str, Any]) -> None:
        """Continue from the average of a checkpoint, by structural name."""
        self.values = {name: mx.nd.array(values[name], ctx=value.context) for name, value in self.values.items()}
