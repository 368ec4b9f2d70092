"""Nesterov's momentum as MXNet defines it, whatever the layout of the weights in memory."""

from __future__ import annotations

import mxnet as mx

from .._mxnet import begin_update

__all__ = ['Nesterov']


@mx.optimizer.register
class Nesterov(mx.optimizer.NAG):
    """MXNet's NAG, by name 'nesterov', without the fault that makes two equal runs differ.

    v = momentum * v - lr * (grad + wd * weight); weight = weight + momentum * v - lr * (grad + wd * weight).

    MXNet's operator writes the weight before it computes v. In place, v thus gets the new weight's decay; but where
    oneDNN keeps a weight in a layout of its own, which depends on the timing of an earlier evaluation, the operator
    works on a copy and v gets the old one's. Here it never works in place.

    Parameters
    ----------
    momentum : float
    **kwargs
        Of mxnet.optimizer.Optimizer.
    """

    def update(self, index, weight, grad, state):
        if state is None:
            return super().update(index, weight, grad, state)
        lr, wd = begin_update(self, index)
        mx.nd.nag_mom_update(
            weight, grad, state, lr=lr, wd=wd, momentum=self.momentum, rescale_grad=self.rescale_grad
        ).copyto(weight)

    def update_multi_precision(self, index, weight, grad, state):
        if isinstance(state, tuple):
            return super().update_multi_precision(index, weight, grad, state)
        return self.update(index, weight, grad, state)
