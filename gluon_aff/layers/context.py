"""Channel attention: the contexts that the fusion blocks share, and MS-CAM.

Reference: Dai et al., "Attentional Feature Fusion", WACV 2021, section 3.1 (arXiv 2009.14082).
"""

from __future__ import annotations

import numpy as np
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock
from mxnet.ndarray import NDArray

from ..errors import positive
from .norm import build_norm

__all__ = ['ChannelContext', 'MSCAM', 'SCALES']

SCALES = ('local', 'global')


class PointwiseConv(HybridBlock):
    """1x1 convolution whose output width, too, may be unknown until the first input (0), unlike nn.Conv2D's."""

    def __init__(self, channels, in_channels, use_bias=True, prefix=None, params=None):
        super().__init__(prefix=prefix, params=params)
        with self.name_scope():
            self.weight = self.params.get('weight', shape=(channels, in_channels, 1, 1), allow_deferred_init=True)
            self.bias = (
                self.params.get('bias', shape=(channels,), init='zeros', allow_deferred_init=True) if use_bias else None
            )

    def set_widths(self, channels, in_channels):
        """Settle the widths that were left unknown; a ValueError where loaded parameters have others."""
        if not all(known in (0, wanted) for known, wanted in zip(self.weight.shape, (channels, in_channels))):
            raise ValueError(
                f'{self.name} has parameters of shape {self.weight.shape}, but its input asks for '
                f'{(channels, in_channels, 1, 1)}.'
            )
        self.weight.shape = (channels, in_channels, 1, 1)
        if self.bias is not None:
            self.bias.shape = (channels,)

    def hybrid_forward(self, F, x, weight, bias=None):
        channels = self.weight.shape[0]
        if not channels:
            raise ValueError(
                f'{self.name} does not know its channels yet; give channels= to the block around it, '
                'or call that block once on data before the network is hybridized.'
            )
        inputs = (x, weight) if bias is None else (x, weight, bias)
        return F.Convolution(*inputs, kernel=(1, 1), num_filter=channels, no_bias=bias is None, name='fwd')


class GlobalAvgPool(HybridBlock):
    """Mean over the map, (N, C, H, W) -> (N, C, 1, 1).

    nn.GlobalAvgPool2D gives the same, but its backward is slow on the CPU (benchmarks/global_pool.py).
    """

    def hybrid_forward(self, F, x):
        return F.contrib.AdaptiveAvgPooling2D(x, output_size=1)


def plain(F, x):
    """x, (N, C, H, W), once and for all out of the blocked layout in which oneDNN's convolutions and norms leave a map.

    Otherwise each element-wise operator takes it out again, into memory allocated for that call: on (8, 1024, 14, 14)
    x - y took 10 ms, and takes 1 ms on two plain maps. MXNet's reshape, even to the same shape, gives a plain map.
    """
    return F.reshape(x, shape=(0, 0, 0, 0))


def spread(F, pooled, like):
    """Repeat (N, C, 1, 1) over the plane of `like`, a plain map (N, any, H, W): (N, C, H, W).

    It is a product with ones because the gradient is then a matrix product: the sum over the plane in broadcast_add's
    took ten times as long (135 and 14 ms in a CIFAR AFF network's step of some 800).
    """
    # -1 and not 1 in the shapes: MXNet's reshape does not check that the sizes agree, and reads or writes past the end.
    # slice_axis and not slice, which on oneDNN's blocked layouts can end the process by a division by zero.
    plane = F.reshape(F.slice_axis(like, axis=1, begin=0, end=1), shape=(0, 0, -1))
    ones = F.ones_like(F.BlockGrad(plane))
    return F.reshape_like(
        F.batch_dot(F.reshape(pooled, shape=(0, 0, -1)), ones), like, lhs_begin=2, lhs_end=3, rhs_begin=2, rhs_end=4
    )


def over_plane(F, context, scale, like):
    """A context of this scale as a plain map of the plane of `like`, a plain map (N, any, H, W)."""
    return spread(F, context, like) if scale == 'global' else plain(F, context)


def sigmoid(F, x):
    """F.sigmoid is the same function, not vectorised on the CPU: about three times as slow."""
    return F.Activation(x, act_type='sigmoid')


def check_size(block, x, size, stride=1):
    """Raise a ValueError where x is an array from which this stride does not lead to a map of the block's size."""
    if isinstance(x, NDArray) and (x.ndim != 4 or tuple(-(-side // stride) for side in x.shape[2:]) != size):
        height, width = (stride * side for side in size)
        raise ValueError(
            f'{type(block).__name__} has parameters for maps (N, C, {height}, {width}) only, got '
            f'{x.shape}; build it, or the network around it, for that size.'
        )


class ChannelBlock(HybridBlock):
    """Base of the blocks on feature maps (N, C, H, W) of one shape, with C given or read off the first input.

    Parameters
    ----------
    channels : int, default 0
        C. With 0 it is taken from the first input, as in Gluon's layers; a network that is hybridized before its
        first forward needs it given.
    reduction : int, default 4
        r: the contexts squeeze C channels to C / r.
    norm_layer, norm_kwargs : the normalisation, called as ``norm_layer(in_channels=..., **norm_kwargs)``.

    Raises
    ------
    ValueError
        If C is smaller than r or not a multiple of it, or the inputs are not (N, C, H, W) of one shape.
    """

    squeezes = True  # False where reduction has nothing to act on

    def __init__(self, channels=0, reduction=4, norm_layer=nn.BatchNorm, norm_kwargs=None, prefix=None, params=None):
        super().__init__(prefix=prefix, params=params)
        self.channels = positive('channels', channels, or_zero=True)
        self.reduction = positive('reduction', reduction)
        self._settings = {'reduction': reduction, 'norm_layer': norm_layer, 'norm_kwargs': dict(norm_kwargs or {})}
        if self.channels:
            self._check_reduction(self.channels)

    def _norm(self, channels, **kwargs):
        return build_norm(self._settings['norm_layer'], channels, **{**self._settings['norm_kwargs'], **kwargs})

    def _check_reduction(self, channels):
        if self.squeezes and (channels < self.reduction or channels % self.reduction):
            raise ValueError(
                f'{type(self).__name__} cannot squeeze {channels} channels by reduction '
                f'{self.reduction}; choose a reduction that divides {channels}.'
            )

    def _set_widths(self, channels):
        """Settle what depends on C in the block's own layers."""

    def _set_channels(self, channels):
        self._check_reduction(channels)
        self._set_widths(channels)
        for child in self._children.values():
            if isinstance(child, ChannelBlock):
                child._set_channels(channels)
        self.channels = channels

    def forward(self, x, *args):
        if isinstance(x, NDArray):
            shapes = [tuple(array.shape) for array in (x, *args)]
            types = {np.dtype(array.dtype).name for array in (x, *args)}
            if len(types) > 1:
                raise ValueError(f'{type(self).__name__} got inputs of {" and ".join(sorted(types))}; cast one.')
            if len(set(shapes)) > 1 or len(shapes[0]) != 4 or 0 in shapes[0]:
                raise ValueError(
                    f'{type(self).__name__} got {" and ".join(map(str, shapes))}, but takes feature maps '
                    '(N, C, H, W) of one shape; project the channels and resize first.'
                )
            if self.channels == 0:
                self._set_channels(shapes[0][1])
            elif self.channels != shapes[0][1]:
                raise ValueError(
                    f'{type(self).__name__} was made for {self.channels} channels, but its input '
                    f'{shapes[0]} has {shapes[0][1]}.'
                )
        return super().forward(x, *args)


class ChannelContext(ChannelBlock, nn.HybridSequential):
    """Channel context of one scale (section 3.1, eq. 1): a bottleneck of two 1x1 convolutions, each with BatchNorm.

    Parameters
    ----------
    channels, reduction, norm_layer, norm_kwargs : as in the fusion blocks (4-D inputs, reduction 4 by default).
    scale : {'local', 'global'}, default 'local'
        'global' pools the map to 1x1 first. In training its BatchNorm then sees one value per image, so a batch
        needs at least two images (MXNet returns beta for one, silently).
    outputs : int, default 1
        How many C-channel maps the second convolution gives, stacked along the channels.

    Input (N, C, H, W); output (N, outputs * C, H, W) for 'local', (N, outputs * C, 1, 1) for 'global'.

    Raises
    ------
    ValueError
        For an unknown scale, or channels that `reduction` does not divide.
    """

    def __init__(
        self,
        channels=0,
        reduction=4,
        scale='local',
        outputs=1,
        norm_layer=nn.BatchNorm,
        norm_kwargs=None,
        prefix=None,
        params=None,
    ):
        super().__init__(channels, reduction, norm_layer, norm_kwargs, prefix=prefix, params=params)
        if scale not in SCALES:
            raise ValueError(f'scale must be local or global, got {scale!r}.')
        self.scale, self.outputs = scale, outputs
        hidden, out = channels // reduction, channels * outputs
        with self.name_scope():
            if scale == 'global':
                self.add(GlobalAvgPool())
            self.add(
                PointwiseConv(hidden, channels),
                self._norm(hidden),
                nn.Activation('relu'),
                PointwiseConv(out, hidden),
                self._norm(out),
            )

    @property
    def layers(self):
        """Convolution, norm, convolution, norm; a ReLU stands behind the first norm."""
        squeeze, norm, _, expand, last = list(self._children.values())[-5:]
        return squeeze, norm, expand, last

    def _set_widths(self, channels):
        squeeze, _, expand, _ = self.layers
        hidden, out = channels // self.reduction, channels * self.outputs
        squeeze.set_widths(hidden, channels)
        expand.set_widths(out, hidden)


def make_contexts(channels, scales, **settings):
    """The two contexts of a pair of scales; a ValueError if it is not such a pair."""
    if not isinstance(scales, (tuple, list)) or len(scales) != 2:
        raise ValueError(f'scales must be a pair such as (local, global), got {scales!r}.')
    return [ChannelContext(channels, scale=scale, **settings) for scale in scales]


class MultiScale(ChannelBlock):
    """Base of the blocks that weigh channels by M(X) = sigmoid(local(X) + global(X)) (section 3.1, eq. 2)."""

    rounds = 1  # how many M with parameters of their own

    def __init__(
        self,
        channels=0,
        reduction=4,
        scales=('local', 'global'),
        norm_layer=nn.BatchNorm,
        norm_kwargs=None,
        prefix=None,
        params=None,
    ):
        super().__init__(channels, reduction, norm_layer, norm_kwargs, prefix=prefix, params=params)
        # The released files say local_att and global_att whatever the scales are, and append 2 in the second round.
        with self.name_scope():
            for suffix in ('', '2')[: self.rounds]:
                pair = make_contexts(channels, scales, **self._settings)
                setattr(self, 'local_att' + suffix, pair[0])
                setattr(self, 'global_att' + suffix, pair[1])

    @property
    def _pooled(self):
        return self.local_att.scale == self.global_att.scale == 'global'

    def align(self, F, first, second, like):
        """The two contexts as plain maps of one shape, that of `like` unless both are global."""
        if self._pooled:
            return first, second
        return [
            over_plane(F, context, att.scale, like)
            for context, att in ((first, self.local_att), (second, self.global_att))
        ]

    def mix(self, F, first, second, like):
        """What M is the sigmoid of, out of the two contexts; a global one is (N, C, 1, 1)."""
        first, second = self.align(F, first, second, like)
        return first + second

    def weights(self, F, x, suffix=''):
        """M(x), of the shape of x, a plain map (N, C, H, W)."""
        first, second = getattr(self, 'local_att' + suffix), getattr(self, 'global_att' + suffix)
        weights = sigmoid(F, self.mix(F, first(x), second(x), x))
        return spread(F, weights, x) if self._pooled else weights


class MSCAM(MultiScale):
    """Multi-scale channel attention module, X' = X * M(X) (section 3.1, figure 1).

    Parameters
    ----------
    channels, reduction, scales, norm_layer, norm_kwargs : see :class:`AFF`.

    Input and output (N, C, H, W). A training batch needs at least two images.

    Raises
    ------
    ValueError
        As :class:`AFF` does.
    """

    def hybrid_forward(self, F, x):
        x = plain(F, x)
        return x * self.weights(F, x)
