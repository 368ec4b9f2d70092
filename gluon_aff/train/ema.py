"""An exponential moving average of a network's parameters."""

from __future__ import annotations

from contextlib import contextmanager

import mxnet as mx

__all__ = ['WeightAverage']


class WeightAverage:
    """The average of a network's parameters and running statistics over its updates (Polyak and Juditsky, 1992).

    After each update: average = decay * average + (1 - decay) * parameter, as timm's ModelEmaV2.

    Parameters
    ----------
    net : mxnet.gluon.Block
        Initialised; the average starts as its parameters are.
    decay : float
        At least 0 and below 1, such as 0.999. It averages over about 1 / (1 - decay) updates.

    Raises
    ------
    ValueError
        If decay is out of its range.
    """

    def __init__(self, net, decay):
        if not 0 <= decay < 1:
            raise ValueError(f'decay must be at least 0 and below 1, got {decay!r}.')
        self.net, self.decay = net, decay
        self.values = {name: self._first(parameter).copy() for name, parameter in self._parameters()}

    def _parameters(self):
        return self.net._collect_params_with_prefix().items()

    @staticmethod
    def _first(parameter):
        return parameter.data(parameter.list_ctx()[0])

    def update(self):
        """Take the parameters as they are now into the average."""
        for name, parameter in self._parameters():
            value = self.values[name]
            value *= self.decay
            value += (1 - self.decay) * self._first(parameter)

    @contextmanager
    def applied(self):
        """While it is open, the network has the averaged parameters."""
        own = {name: self._first(parameter).copy() for name, parameter in self._parameters()}
        self._set(self.values)
        try:
            yield self.net
        finally:
            self._set(own)

    def _set(self, values):
        for name, parameter in self._parameters():
            parameter.set_data(values[name])

    def state(self):
        """The average, {structural name: NDArray}, for a checkpoint."""
        return dict(self.values)

    def restore(self, values):
        """Continue from a checkpoint's average."""
        self.values = {name: mx.nd.array(values[name], ctx=value.context) for name, value in self.values.items()}
