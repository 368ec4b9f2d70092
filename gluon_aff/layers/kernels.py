"""The compiled form of the fusions on MS-CAM with a local and a global context (kernels.cc), where it was built.

It stands in the graph that a hybridized block runs, and nowhere else: called on arrays a block computes with MXNet's
operators, and so does every symbol and every export of it.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import functools
import logging
import re
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, OpHandle, c_str, check_call
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock
from mxnet.ndarray.register import _make_ndarray_function
from mxnet.symbol.register import _make_symbol_function

from ..tracing import LOCK
from .context import plain

# True or False where somebody has asked; None leaves it to each Compilable.
_wanted = contextvars.ContextVar('wanted', default=None)
OPERATORS = ('gluon_aff_squeeze', 'gluon_aff_moments', 'gluon_aff_gate')
# Squeezed channels. The moments cost K^2 for each channel, whatever the map; with 256 on 8x8 maps MXNet's operators are
# quicker. The paper's networks have 128 at most.
WIDEST = 128
# Where the installation builds it.
LIBRARY = Path(__file__).with_name('libgluon_aff.so')


@functools.lru_cache(maxsize=None)
def available():
    """Whether the operators can be used here; they are loaded with this module."""
    if not LIBRARY.exists() or mx.runtime.Features().is_enabled('CUDA'):
        return False  # in a build for GPUs a traced graph may come to run on one
    if not {'avx2', 'fma'} <= set(re.findall(r'\w+', Path('/proc/cpuinfo').read_text(encoding='utf-8'))):
        return False
    try:
        if not hasattr(mx.sym, OPERATORS[0]):  # MXNet refuses to register a name twice
            check_call(_LIB.MXLoadLib(c_str(str(LIBRARY)), ctypes.c_uint(0)))
    except mx.MXNetError as error:
        logging.getLogger('gluon_aff').warning(
            'The compiled operators in %s do not load and are left out: %s',
            LIBRARY,
            str(error).strip().splitlines()[-1],
        )
        return False
    # mx.library.load would make the functions of all operators anew, and undo what amp.init and others have put there.
    for name in OPERATORS:
        handle = OpHandle()
        check_call(_LIB.NNGetOpHandle(c_str(name), ctypes.byref(handle)))
        for module, make in ((mx.nd, _make_ndarray_function), (mx.sym, _make_symbol_function)):
            function = make(handle, name, name)
            setattr(module, name, function)
            setattr(module.op, name, function)
    return True


# Now, under the lock of Python's import, and not when a thread first needs them: MXNet's table of operators must not
# grow while other threads read it.
available()


@contextlib.contextmanager
def compiled(wanted=True):
    """Trace fusion blocks with the compiled operators inside, or without.

    A hybridized block of this project does so by itself. A network of your own that holds such blocks does where it is
    called for the first time inside ``with compiled():``; what it exports then needs the compiled operators, too.
    """
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


class Compilable(HybridBlock):
    """Base of the blocks and networks that run with the compiled operators when they are hybridized.

    Any number of threads may call them, for the first time as well: MXNet keeps the state of tracing and of a call on
    the block and its CachedOp, so one thread at a time is let in; what they compute runs side by side.
    """

    def _call_cached_op(self, *args):
        with LOCK:
            return super()._call_cached_op(*args)

    def _build_cache(self, *args):
        with LOCK:
            if self._backend or _wanted.get() is False or not available():
                return super()._build_cache(*args)
            # Exported and saved is the graph without them.
            with compiled(False):
                portable = self._get_graph(*args)
            self._cached_graph = ()
            try:
                with compiled():
                    super()._build_cache(*args)
            finally:
                self._cached_graph = portable

    def forward(self, x, *args):
        if isinstance(x, mx.sym.Symbol):
            with LOCK:
                return super().forward(x, *args)
        return super().forward(x, *args)


def usable(F, local, pooled):
    """Whether what is traced now should use the operators for two contexts of these layers."""
    layers = (*local, *pooled)
    return (
        F is mx.sym
        and _wanted.get() is True
        and available()
        and local[0].weight.shape[0] <= WIDEST
        and all(type(norm) is nn.BatchNorm for norm in layers[1::2])
        and all(np.dtype(param.dtype) == np.float32 for layer in layers for param in layer._reg_params.values())
    )


def _in_training(F, norm):
    """1 where the graph is run in training, else 0, (1, C, 1, 1).

    There is no such operator, and a Dropout of ones draws random numbers. So another BatchNorm is applied to two points
    4 running deviations apart: in inference they stay 4 apart, in training they become 2 apart. It takes the norm's own
    running statistics, because they must be variables, and with momentum 1 does not change them.
    """
    mean, variance = norm.running_mean.var(), norm.running_var.var()
    # Reshaped here, as MXNet cannot reshape the output of `where` while its shape is unknown.
    point = F.reshape(variance, shape=(1, -1, 1, 1))
    # The points must be finite even if the statistics are not.
    point = F.where((point >= 0) * (point < 1e30), point, F.ones_like(point))
    point = 2 * F.sqrt(point + norm._kwargs['eps'])
    ones = F.ones_like(variance)
    points = F.BatchNorm(
        F.BlockGrad(F.concat(point, -point, dim=0)),
        ones,
        0 * ones,
        mean,
        variance,
        eps=norm._kwargs['eps'],
        momentum=1,
        fix_gamma=False,
    )
    upper, lower = (F.slice_axis(points, axis=0, begin=i, end=i + 1) for i in range(2))
    return F.BlockGrad(upper - lower < 3)


def line(F, norm, mean, deviation):
    """(a, b) with a x + b = norm(x) for a map x of this mean and standard deviation of each channel, (1, C, 1, 1).

    The norm is called on two points for each channel, and two points make a line. In training they are mean + deviation
    and mean - deviation, which have the map's mean and variance, so that what the norm does to its running statistics
    remains its own affair. In inference they are those of the running statistics: an image's output must not depend on
    the others.
    """
    running_mean, running_deviation = (
        F.BlockGrad(F.reshape(values, shape=(1, -1, 1, 1)))
        for values in (norm.running_mean.var(), F.sqrt(norm.running_var.var() + norm._kwargs['eps']))
    )
    # The ones give it the shape while the norm's own is unknown.
    training = _in_training(F, norm) * F.ones_like(mean)
    mean = F.where(training, mean, running_mean)
    deviation = F.where(training, deviation, running_deviation)
    first = mean + deviation
    points = norm(F.concat(first, mean - deviation, dim=0))
    upper, lower = (F.slice_axis(points, axis=0, begin=i, end=i + 1) for i in range(2))
    slope = (upper - lower) / (2 * F.maximum(deviation, 1e-12))  # all of a map of deviation 0 is at the first point
    return slope, upper - slope * first


def gate(F, u, x, y, local, pooled, scale, difference):
    """scale * (m * (x - y) + y), or scale * (m * x + y), with m = sigmoid(local(u) + pooled(u)); plain maps.

    `local` and `pooled` are the contexts' layers: convolution, norm, convolution, norm. A ReLU stands between the
    first norm and the second convolution.
    """
    # Each through an operator of MXNet's, which knows what to do with a gradient that is to be added to.
    weight, bias, wide, wide_bias = (
        F.identity(param.var()) for conv in local[::2] for param in (conv.weight, conv.bias)
    )
    hidden, mean, deviation, mean_u = F.gluon_aff_squeeze(u, weight, bias)
    s, t = line(F, local[1], mean, deviation)
    mean, deviation, _, _ = F.gluon_aff_moments(hidden, s, t, wide, wide_bias)
    slope, shift = line(F, local[3], mean, deviation)

    def dense(values, conv):
        # On 1x1 maps a convolution is a dense layer, which is quicker there.
        out = F.FullyConnected(
            values, F.reshape(conv.weight.var(), shape=(0, -1)), conv.bias.var(), num_hidden=conv.weight.shape[0]
        )
        return F.reshape(out, shape=(0, 0, 1, 1))

    squeezed = F.Activation(pooled[1](dense(mean_u, pooled[0])), act_type='relu')
    shift = shift + slope * F.reshape(wide_bias, shape=(1, -1, 1, 1))
    g = F.broadcast_add(pooled[3](dense(squeezed, pooled[2])), shift)
    wide = F.broadcast_mul(wide, F.reshape(slope, shape=(-1, 1, 1, 1)))
    z = F.gluon_aff_gate(x, y, hidden, s, t, wide, g, scale=scale, difference=difference)
    return plain(F, z)  # so that its gradient is plain when it comes
