"""Compiled operators (kernels.cc) for the fusions on MS-CAM with a local and a global context, where they were built.

Only the graph that a hybridized block runs uses them: on arrays, on symbols and in exports a block consists of MXNet's
operators.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
from pathlib import Path
from typing import ContextManager, Iterator

import mxnet as mx
import numpy as np
from mxnet.gluon import nn

from .._deprecated import deprecated_names, renamed_arguments
from .._mxnet import TwoGraphBlock, load_operators, norm_epsilon
from ..instruction_sets import cpu_flags
from .layout import default_layout

__all__ = ['CompiledBlock', 'available', 'compiled']

# True or False inside `compiled`; None leaves the choice to each CompiledBlock.
_enabled: contextvars.ContextVar[bool | None] = contextvars.ContextVar('enabled', default=None)
OPERATORS = ('gluon_aff_squeeze', 'gluon_aff_moments', 'gluon_aff_gate', 'gluon_aff_copies')
# The moments cost K^2 per channel for K hidden channels, whatever the map; with 256 on 8x8 maps MXNet's operators are
# faster. The paper's networks have 128 at most.
MAX_HIDDEN_CHANNELS = 128
LIBRARY = Path(__file__).with_name('libgluon_aff.so')  # made by the installation


@functools.lru_cache(maxsize=None)
def available() -> bool:
    """Whether the operators work here; the first call loads them."""
    if not LIBRARY.exists() or mx.runtime.Features().is_enabled('CUDA'):
        return False  # a graph traced in a GPU build may run on a GPU
    if not {'avx2', 'fma'} <= cpu_flags():
        return False
    try:
        load_operators(LIBRARY, OPERATORS)
    except mx.MXNetError as error:
        logging.getLogger('gluon_aff').warning(
            'The compiled operators in %s do not load and are left out: %s',
            LIBRARY,
            str(error).strip().splitlines()[-1],
        )
        return False
    return True


# Loaded now, under Python's import lock: MXNet's table of operators must not grow while other threads read it.
available()


@renamed_arguments(wanted='enabled')
@contextlib.contextmanager
def compiled(enabled: bool = True) -> Iterator[None]:
    """Trace fusion blocks with the compiled operators, or without.

    A hybridized block of this project uses them by itself. A network of your own that contains such blocks uses them if
    its first call is inside ``with compiled():``; what it exports then needs the compiled operators, too.

    Parameters
    ----------
    enabled : bool, default True
    """
    token = _enabled.set(enabled)
    try:
        yield
    finally:
        _enabled.reset(token)


def graph_to_run() -> ContextManager:
    """The context in which a graph that is only run is traced: with the compiled operators, unless told otherwise."""
    return compiled(_enabled.get() is not False)


class CompiledBlock(TwoGraphBlock):
    """Base of blocks and networks that run the compiled operators when hybridized, and export MXNet's.

    Any number of threads may call them, even for the first time.
    """

    def graph_contexts(self) -> tuple[ContextManager, ContextManager] | None:
        if _enabled.get() is False or not available():
            return None
        return compiled(False), compiled()


def supports(F, local, pooled) -> bool:
    """Whether to use the operators for a local and a global context of these layers in the current trace."""
    layers = (*local, *pooled)
    return (
        F is mx.sym
        and _enabled.get() is True
        and available()
        and local[0].weight.shape[0] <= MAX_HIDDEN_CHANNELS
        and all(type(norm) is nn.BatchNorm for norm in layers[1::2])
        and all(np.dtype(param.dtype) == np.float32 for layer in layers for param in layer.params.values())
    )


def _in_training(F, norm):
    """1 where the graph runs in training, else 0, (1, C, 1, 1).

    MXNet has no such operator, and a Dropout of ones draws random numbers. So another BatchNorm is applied to two
    points 4 running deviations apart: in inference they stay 4 apart, in training they become 2 apart. It takes the
    norm's own running statistics, because they must be variables, and with momentum 1 does not change them.
    """
    mean, variance = norm.running_mean.var(), norm.running_var.var()
    # Reshaped here, as MXNet cannot reshape the output of `where` while its shape is unknown.
    point = F.reshape(variance, shape=(1, -1, 1, 1))
    # The points must be finite even if the statistics are not.
    point = F.where((point >= 0) * (point < 1e30), point, F.ones_like(point))
    point = 2 * F.sqrt(point + norm_epsilon(norm))
    ones = F.ones_like(variance)
    points = F.BatchNorm(
        F.BlockGrad(F.concat(point, -point, dim=0)),
        ones,
        0 * ones,
        mean,
        variance,
        eps=norm_epsilon(norm),
        momentum=1,
        fix_gamma=False,
    )
    upper, lower = (F.slice_axis(points, axis=0, begin=i, end=i + 1) for i in range(2))
    return F.BlockGrad(upper - lower < 3)


def affine_form(F, norm, mean, deviation):
    """(a, b) with a x + b = norm(x) for a map x with this mean and standard deviation per channel, (1, C, 1, 1).

    The norm is called on two points per channel, which determine a and b. In training they are mean + deviation and
    mean - deviation, which have the map's mean and variance, so that the norm updates its running statistics as usual.
    In inference they are those of the running statistics: an image's output must not depend on the others.
    """
    running_mean, running_deviation = (
        F.BlockGrad(F.reshape(values, shape=(1, -1, 1, 1)))
        for values in (norm.running_mean.var(), F.sqrt(norm.running_var.var() + norm_epsilon(norm)))
    )
    # The ones give it the shape while the norm's own is unknown.
    training = _in_training(F, norm) * F.ones_like(mean)
    mean = F.where(training, mean, running_mean)
    deviation = F.where(training, deviation, running_deviation)
    first = mean + deviation
    points = norm(F.concat(first, mean - deviation, dim=0))
    upper, lower = (F.slice_axis(points, axis=0, begin=i, end=i + 1) for i in range(2))
    slope = (upper - lower) / (2 * F.maximum(deviation, 1e-12))  # a map of deviation 0 is all at the first point
    return slope, upper - slope * first


def modulate(F, u, x, y, local, pooled, scale, difference):
    """Return scale * (m * (x - y) + y), or scale * (m * x + y), m = sigmoid(local(u) + pooled(u)); all (N, C, H, W).

    `local` and `pooled` are the contexts' layers: convolution, norm, convolution, norm. A ReLU follows the first norm.
    Maps are in the default layout.
    """
    # Through an operator of MXNet's, which knows what to do with a gradient that is to be added.
    weight, bias, expand, expand_bias = (
        F.identity(param.var()) for conv in local[::2] for param in (conv.weight, conv.bias)
    )
    hidden, mean, deviation, mean_u = F.gluon_aff_squeeze(u, weight, bias)
    s, t = affine_form(F, local[1], mean, deviation)
    mean, deviation, _, _ = F.gluon_aff_moments(hidden, s, t, expand, expand_bias)
    slope, shift = affine_form(F, local[3], mean, deviation)

    def dense(values, conv):
        # On 1x1 maps a convolution is a dense layer, which is faster there.
        out = F.FullyConnected(
            values, F.reshape(conv.weight.var(), shape=(0, -1)), conv.bias.var(), num_hidden=conv.weight.shape[0]
        )
        return F.reshape(out, shape=(0, 0, 1, 1))

    squeezed = F.Activation(pooled[1](dense(mean_u, pooled[0])), act_type='relu')
    shift = shift + slope * F.reshape(expand_bias, shape=(1, -1, 1, 1))
    g = F.broadcast_add(pooled[3](dense(squeezed, pooled[2])), shift)
    expand = F.broadcast_mul(expand, F.reshape(slope, shape=(-1, 1, 1, 1)))
    z = F.gluon_aff_gate(x, y, hidden, s, t, expand, g, scale=scale, difference=difference)
    return default_layout(F, z)  # so that its gradient arrives in the default layout


__getattr__ = deprecated_names(__name__)
