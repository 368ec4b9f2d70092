"""Guided backpropagation: Springenberg et al., "Striving for Simplicity", ICLR workshop 2015."""

from __future__ import annotations

from functools import partial
from typing import Callable

import numpy as np
from mxnet import autograd, nd
from mxnet.gluon.block import Block, HybridBlock
from mxnet.ndarray import NDArray

from .shadow_network import shadow

__all__ = ['guided_gradient']


class _GuidedReLU(autograd.Function):
    """ReLU that passes on positive gradients only."""

    def forward(self, x):
        y = nd.relu(x)
        self.save_for_backward(y)
        return y

    def backward(self, dy):
        (y,) = self.saved_tensors
        # In numpy, read at once: by MXNet's operators, which run later, the values were at times those of other arrays.
        return nd.array(dy.asnumpy().clip(0) * (y.asnumpy() > 0), ctx=dy.context, dtype=dy.dtype)


class _GuidedOperators:
    """mxnet.nd, with the guided ReLU in place of ReLU: the F of a hybrid_forward."""

    def __init__(self):
        self.functions = []

    def __getattr__(self, name):
        return getattr(nd, name)

    def relu(self, data, **kwargs):
        self.functions.append(_GuidedReLU())
        return self.functions[-1](data)

    def Activation(self, data, act_type, **kwargs):  # noqa: N802 - MXNet's name
        return self.relu(data) if act_type == 'relu' else nd.Activation(data, act_type=act_type, **kwargs)


def guided_gradient(net: Block, x: NDArray, scores_of: Callable[[object], NDArray], head_grad: NDArray) -> np.ndarray:
    """The gradient (N, C, H, W) of the input, by guided backpropagation through every ReLU of a `hybrid_forward`.

    `scores_of` takes the array to differentiate from the network's output; `head_grad` is its gradient.
    """
    twin, twins = shadow(net)
    operators, x = _GuidedOperators(), x.copy()
    x.attach_grad()

    def guided(original, F, *args, **kwargs):
        return original(operators if F is nd else F, *args, **kwargs)

    for block in twins.values():
        if isinstance(block, HybridBlock):
            vars(block)['hybrid_forward'] = partial(guided, block.hybrid_forward)
    try:
        with autograd.record(train_mode=False):
            output = scores_of(twin(x))
        (gradient,) = autograd.grad(output, [x], head_grads=[head_grad], train_mode=False)
        return gradient.asnumpy().astype(np.float64)
    finally:
        # MXNet never frees a Function; this frees its maps.
        for function in operators.functions:
            function.saved_tensors = ()
