"""The optimizers of the scripts: AdamW, and a Nesterov momentum that does not depend on how oneDNN stores weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import mxnet as mx
import numpy as np

from .._mxnet import begin_update, trainer_parameters, update_count

if TYPE_CHECKING:
    from .config import TrainConfig

__all__ = ['OPTIMIZERS', 'AdamW', 'Nesterov', 'clip_factor', 'make_optimizer', 'no_weight_decay']

# Names of MXNet's registry, and the fields of TrainConfig that each takes besides the learning rate and wd.
OPTIMIZERS = {'nesterov': ('momentum',), 'adagrad': (), 'adamw': ()}


def make_optimizer(
    config: TrainConfig, schedule: mx.lr_scheduler.LRScheduler, *, updates: int = 0
) -> mx.optimizer.Optimizer:
    """The optimizer of a `config`, by its `schedule`, after `updates` updates; for float16 it keeps float32 weights."""
    return mx.optimizer.create(
        config.optimizer,
        lr_scheduler=schedule,
        begin_num_update=updates,
        multi_precision=config.dtype == 'float16',
        wd=config.wd,
        **{name: getattr(config, name) for name in OPTIMIZERS[config.optimizer]},
    )


def no_weight_decay(net: mx.gluon.Block) -> None:
    """Exempt biases, beta and gamma of `net` from weight decay (He et al., "Bag of Tricks", CVPR 2019)."""
    for parameter in net.collect_params('.*(beta|gamma|bias)').values():
        parameter.wd_mult = 0


def clip_factor(trainer: mx.gluon.Trainer, limit: float, images: int) -> float:
    """What to divide the gradients by, so that their common norm is at most `limit`, as PyTorch's clip_grad_norm_.

    Parameters
    ----------
    trainer : mxnet.gluon.Trainer
        After allreduce_grads: each device has the sum over the devices and workers, and over accumulated batches.
    limit : float
    images : int
        That the sum is over; the gradients are those of the mean.

    Returns
    -------
    float
        1 or more; 1 where the norm is not finite, for the parameters then tell.
    """
    gradients = [p.list_grad()[0] for p in trainer_parameters(trainer) if p.grad_req != 'null']
    norms = mx.nd.concat(*[gradient.astype('float32', copy=False).norm() for gradient in gradients], dim=0).asnumpy()
    norm = float(np.linalg.norm(norms.astype(np.float64))) / images
    return max((norm + 1e-6) / limit, 1.0) if math.isfinite(norm) else 1.0


@mx.optimizer.register
class Nesterov(mx.optimizer.NAG):
    """MXNet's NAG, registered as 'nesterov', without the fault that makes equal runs differ.

    v = momentum * v - lr * (grad + wd * weight); weight = weight + momentum * v - lr * (grad + wd * weight).

    MXNet's operator writes the weight before it computes v. In place, v thus gets the new weight's decay; but where
    oneDNN keeps a weight in a layout of its own, which depends on the timing of an earlier evaluation, the operator
    works on a copy and v gets the old one's. Here it never works in place.

    Its arguments are those of :class:`mxnet.optimizer.NAG`: momentum, and the general ones.
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


@mx.optimizer.register
class AdamW(mx.optimizer.Optimizer):
    """Adam with decoupled weight decay, by name 'adamw' (Loshchilov and Hutter, ICLR 2019).

    As PyTorch's AdamW: weight = (1 - lr wd) weight - lr m / (sqrt(v) + epsilon), with m and v corrected for their bias.

    Parameters
    ----------
    learning_rate : float, default 0.001, or the lr_scheduler's
    beta1, beta2 : float, default 0.9, 0.999
        How much of the gradient's mean and of its square's the next update keeps.
    epsilon : float, default 1e-8
    wd : float, default 0.01
    **kwargs
        Of mxnet.optimizer.Optimizer.
    """

    def __init__(self, learning_rate=None, beta1=0.9, beta2=0.999, epsilon=1e-8, wd=0.01, lr_scheduler=None, **kwargs):
        if learning_rate is None and lr_scheduler is None:
            learning_rate = 0.001
        super().__init__(learning_rate=learning_rate, lr_scheduler=lr_scheduler, wd=wd, **kwargs)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def create_state(self, index, weight):
        """The means of the gradient and of its square, zero."""
        return tuple(mx.nd.zeros(weight.shape, weight.context, dtype=weight.dtype) for _ in range(2))

    def update(self, index, weight, grad, state):
        """Update a weight in place by its gradient."""
        lr, wd = begin_update(self, index)
        steps = update_count(self, index)
        second = math.sqrt(1 - self.beta2**steps)
        # Not in place: see Nesterov.
        mx.nd.contrib.adamw_update(
            weight,
            grad,
            *state,
            mx.nd.array([self.rescale_grad], ctx=weight.context),
            lr=lr * second / (1 - self.beta1**steps),
            eta=1.0,
            wd=lr * wd,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon * second,
            clip_gradient=self.clip_gradient or -1.0,
        ).copyto(weight)
