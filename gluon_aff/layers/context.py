"""Channel attention: the local and global contexts of the fusion blocks, and MS-CAM.

Reference: Dai et al., "Attentional Feature Fusion", WACV 2021, section 3.1 (arXiv 2009.14082).
"""

from __future__ import annotations

from typing import Callable

import numpy as np
from mxnet.gluon import ParameterDict, nn
from mxnet.gluon.block import HybridBlock
from mxnet.ndarray import NDArray

from .._mxnet import children
from ..errors import positive
from .layout import GlobalAvgPool, as_image, broadcast_spatial, default_layout, from_image, sigmoid
from .norm import build_norm

__all__ = ['ChannelContext', 'MSCAM', 'SCALES']

SCALES = ('local', 'global')
MAPS = {1: '(N, C, T)', 2: '(N, C, H, W)', 3: '(N, C, D, H, W)'}  # by their number of spatial axes


class PointwiseConv(HybridBlock):
    """1x1 convolution whose output channels, too, may be unknown (0) until the first input, unlike nn.Conv2D's."""

    def __init__(self, channels, in_channels, use_bias=True, prefix=None, params=None):
        super().__init__(prefix=prefix, params=params)
        with self.name_scope():
            self.weight = self.params.get('weight', shape=(channels, in_channels, 1, 1), allow_deferred_init=True)
            self.bias = (
                self.params.get('bias', shape=(channels,), init='zeros', allow_deferred_init=True) if use_bias else None
            )

    def __repr__(self):
        out, channels = self.weight.shape[:2]
        return f'PointwiseConv({channels or None} -> {out or None}{"" if self.bias is not None else ", bias=False"})'

    def set_widths(self, channels, in_channels):
        """Set the channels that are still unknown; a ValueError if loaded parameters have others."""
        shape = (channels, in_channels, 1, 1)
        if not all(known in (0, side) for known, side in zip(self.weight.shape, shape)):
            raise ValueError(f'{self.name} has parameters of shape {self.weight.shape}, but its input needs {shape}.')
        self.weight.shape = shape
        if self.bias is not None:
            self.bias.shape = (channels,)

    def hybrid_forward(self, F, x, weight, bias=None):
        channels = self.weight.shape[0]
        if not channels:
            raise ValueError(
                f'{self.name} does not know its channels yet; pass channels= to its parent block, or call that block '
                'once on data before you hybridize the network.'
            )
        inputs = (x, weight) if bias is None else (x, weight, bias)
        return F.Convolution(*inputs, kernel=(1, 1), num_filter=channels, no_bias=bias is None, name='fwd')


def context_map(F, context, scale, like):
    """A context of this scale as (N, C, H, W) in the default layout; `like` has its H and W, and that layout."""
    return broadcast_spatial(F, context, like) if scale == 'global' else default_layout(F, context)


def check_spatial_dims(value):
    """The value itself, or a ValueError if it is no number of spatial axes."""
    if value not in (0, *MAPS):
        raise ValueError(f'spatial_dims must be 1, 2 or 3, or 0 for that of the first input, got {value!r}.')
    return value


def check_size(block, x, size, stride=1):
    """Raise a ValueError if x is an array that this stride does not reduce to maps of the block's size."""
    if isinstance(x, NDArray) and (x.ndim != 4 or tuple(-(-side // stride) for side in x.shape[2:]) != size):
        height, width = (stride * side for side in size)
        raise ValueError(
            f'{type(block).__name__} has parameters for maps (N, C, {height}, {width}) only, got '
            f'{x.shape}; build it, or its network, for that size.'
        )


class ChannelBlock(HybridBlock):
    """Base of the blocks on feature maps of one shape: (N, C, T), (N, C, H, W) or (N, C, D, H, W).

    A subclass defines `combine` on maps (N, C, H, W), or else `hybrid_forward` on maps as they are.

    Parameters
    ----------
    channels : int, default 0
        C; 0 takes it from the first input, as Gluon's layers do. A network that is hybridized before its first forward
        needs it.
    reduction : int, default 4
        r: the contexts squeeze C channels to C / r.
    norm_layer, norm_kwargs
        The normalisation, called as ``norm_layer(in_channels=..., **norm_kwargs)``.
    spatial_dims : {0, 1, 2, 3}, default 0
        Number of axes behind C; 0 takes it from the first input. A network of other than images that is hybridized
        before its first forward, or called on symbols, needs it: a symbol has no number of axes, and stands for images.

    Raises
    ------
    ValueError
        If C is smaller than r or not a multiple of it, or the inputs are not such maps of one shape.
    """

    squeezes = True  # False if the block ignores reduction
    takes_default_layout = True  # False if `combine` begins with operators that know oneDNN's layouts

    def __init__(
        self,
        channels: int = 0,
        reduction: int = 4,
        norm_layer: Callable = nn.BatchNorm,
        norm_kwargs: dict | None = None,
        prefix: str | None = None,
        params: ParameterDict | None = None,
        *,
        spatial_dims: int = 0,
    ):
        super().__init__(prefix=prefix, params=params)
        self.spatial_dims = check_spatial_dims(spatial_dims)
        self.channels = positive('channels', channels, or_zero=True)
        self.reduction = positive('reduction', reduction)
        self._settings = {'reduction': reduction, 'norm_layer': norm_layer, 'norm_kwargs': dict(norm_kwargs or {})}
        if self.channels:
            self._check_reduction(self.channels)
        with self.name_scope():
            self._make_layers()

    def _make_layers(self):
        """Make the layers of a block that has no further options."""

    def __repr__(self):
        return super().__repr__() if children(self) else f'{type(self).__name__}({self.channels or None})'

    def _make_norm(self, channels):
        return build_norm(self._settings['norm_layer'], channels, **self._settings['norm_kwargs'])

    def _check_reduction(self, channels):
        if self.squeezes and (channels < self.reduction or channels % self.reduction):
            raise ValueError(
                f'{type(self).__name__} cannot squeeze {channels} channels by reduction '
                f'{self.reduction}; choose a reduction that divides {channels}.'
            )

    def _set_widths(self, channels):
        """Set what depends on C in the block's own layers."""

    def _set_channels(self, channels):
        self._check_reduction(channels)
        self._set_widths(channels)
        for child in children(self).values():
            if isinstance(child, ChannelBlock):
                child._set_channels(channels)
        self.channels = channels

    def forward(self, x, *args):
        if isinstance(x, NDArray):
            shapes = [tuple(array.shape) for array in (x, *args)]
            types = {np.dtype(array.dtype).name for array in (x, *args)}
            if len(types) > 1:
                raise ValueError(f'{type(self).__name__} got inputs of {" and ".join(sorted(types))}; cast one.')
            dims = self.spatial_dims or len(shapes[0]) - 2
            if len(set(shapes)) > 1 or len(shapes[0]) != 2 + dims or dims not in MAPS or 0 in shapes[0]:
                kinds = MAPS[self.spatial_dims] if self.spatial_dims else f'{MAPS[1]}, {MAPS[2]} or {MAPS[3]}'
                raise ValueError(
                    f'{type(self).__name__} got {" and ".join(map(str, shapes))}, but takes feature maps '
                    f'{kinds} of one shape; project the channels and resize first.'
                )
            if self.channels == 0:
                self._set_channels(shapes[0][1])
            elif self.channels != shapes[0][1]:
                raise ValueError(
                    f'{type(self).__name__} was made for {self.channels} channels, but its input '
                    f'{shapes[0]} has {shapes[0][1]}.'
                )
            self.spatial_dims = dims
        return super().forward(x, *args)

    def hybrid_forward(self, F, *maps, **params):
        if self.spatial_dims in (0, 2):
            images = [default_layout(F, x) for x in maps] if self.takes_default_layout else maps
            return self.combine(F, *images, **params)
        image = self.combine(F, *(as_image(F, x, self.spatial_dims) for x in maps), **params)
        return self._from_image(F, image, maps[0])

    def combine(self, F, *maps):
        """The block's output for maps (N, C, H, W) in the default layout."""
        raise NotImplementedError

    def _from_image(self, F, image, like):
        return from_image(F, image, like, self.spatial_dims)


class ChannelContext(ChannelBlock, nn.HybridSequential):
    """Channel context of one scale (section 3.1, eq. 1): a bottleneck of two 1x1 convolutions, each with BatchNorm.

    Input (N, C, H, W); output (N, outputs * C, H, W) for 'local', (N, outputs * C, 1, 1) for 'global'. Sequences
    (N, C, T) and volumes (N, C, D, H, W) likewise.

    Parameters
    ----------
    channels, reduction, norm_layer, norm_kwargs, spatial_dims : see :class:`gluon_aff.AFF`.
    scale : {'local', 'global'}, default 'local'
        'global' pools the map to 1x1 first. In training its BatchNorm then sees one value per image, so a batch
        needs at least two images (MXNet returns beta for one, silently).
    outputs : int, default 1
        How many C-channel maps the second convolution gives, stacked along the channels.

    Raises
    ------
    ValueError
        For an unknown scale, or channels that `reduction` does not divide.
    """

    takes_default_layout = False

    def __init__(
        self,
        channels: int = 0,
        reduction: int = 4,
        scale: str = 'local',
        outputs: int = 1,
        norm_layer: Callable = nn.BatchNorm,
        norm_kwargs: dict | None = None,
        prefix: str | None = None,
        params: ParameterDict | None = None,
        *,
        spatial_dims: int = 0,
    ):
        super().__init__(channels, reduction, norm_layer, norm_kwargs, prefix, params, spatial_dims=spatial_dims)
        if scale not in SCALES:
            raise ValueError(f'scale must be local or global, got {scale!r}.')
        self.scale, self.outputs = scale, outputs
        hidden, out = channels // reduction, channels * outputs
        with self.name_scope():
            if scale == 'global':
                self.add(GlobalAvgPool())
            self.add(
                PointwiseConv(hidden, channels),
                self._make_norm(hidden),
                nn.Activation('relu'),
                PointwiseConv(out, hidden),
                self._make_norm(out),
            )

    @property
    def layers(self):
        """(convolution, norm, convolution, norm); a ReLU follows the first norm."""
        squeeze, norm, _, expand, last = list(children(self).values())[-5:]
        return squeeze, norm, expand, last

    def _set_widths(self, channels):
        squeeze, _, expand, _ = self.layers
        hidden, out = channels // self.reduction, channels * self.outputs
        squeeze.set_widths(hidden, channels)
        expand.set_widths(out, hidden)

    def combine(self, F, x):
        return nn.HybridSequential.hybrid_forward(self, F, x)

    def _from_image(self, F, image, like):
        if self.scale == 'global':
            return F.reshape(image, shape=(0, 0, *[1] * (self.spatial_dims - 1), -1))
        return super()._from_image(F, image, like)


def make_contexts(channels, scales, **settings):
    """Two contexts of a pair of scales; a ValueError if it is not such a pair."""
    if not isinstance(scales, (tuple, list)) or len(scales) != 2:
        raise ValueError(f'scales must be a pair such as (local, global), got {scales!r}.')
    return [ChannelContext(channels, scale=scale, **settings) for scale in scales]


class MultiScale(ChannelBlock):
    """Base of the blocks that weight channels by M(X) = sigmoid(local(X) + global(X)) (section 3.1, eq. 2)."""

    def __init__(
        self,
        channels: int = 0,
        reduction: int = 4,
        scales: tuple[str, str] = SCALES,
        norm_layer: Callable = nn.BatchNorm,
        norm_kwargs: dict | None = None,
        prefix: str | None = None,
        params: ParameterDict | None = None,
        *,
        spatial_dims: int = 0,
    ):
        super().__init__(channels, reduction, norm_layer, norm_kwargs, prefix, params, spatial_dims=spatial_dims)
        # Released files name them local_att and global_att whatever the scales, and append 2 in iAFF's second round.
        with self.name_scope():
            self.local_att, self.global_att = make_contexts(channels, scales, **self._settings)
            self._add_layers(channels, scales)

    def contexts(self, suffix=''):
        """The two contexts that a round adds; `suffix` is that of the second round's names."""
        return getattr(self, 'local_att' + suffix), getattr(self, 'global_att' + suffix)

    def _add_layers(self, channels, scales):
        """Make a subclass's own layers."""

    @property
    def _pooled(self):
        return self.local_att.scale == self.global_att.scale == 'global'

    def align(self, F, first, second, like):
        """Both contexts in the default layout and one shape, that of `like` unless both are global."""
        if self._pooled:
            return first, second
        return [
            context_map(F, context, att.scale, like)
            for context, att in ((first, self.local_att), (second, self.global_att))
        ]

    def mix(self, F, first, second, like):
        """The logits of M from the two contexts; a global one is (N, C, 1, 1)."""
        first, second = self.align(F, first, second, like)
        return F.broadcast_add(first, second)

    def weights(self, F, x, suffix=''):
        """M(x) of a map x (N, C, H, W) in the default layout, in the same shape."""
        first, second = self.contexts(suffix)
        weights = sigmoid(F, self.mix(F, first(x), second(x), x))
        return broadcast_spatial(F, weights, x) if self._pooled else weights


class MSCAM(MultiScale):
    """Multi-scale channel attention module, X' = X * M(X) (section 3.1, figure 1).

    Input and output (N, C, H, W), (N, C, T) or (N, C, D, H, W). A training batch needs at least two maps.

    Parameters
    ----------
    channels, reduction, scales, norm_layer, norm_kwargs, spatial_dims : see :class:`gluon_aff.AFF`.

    Raises
    ------
    ValueError
        As :class:`gluon_aff.AFF` does.
    """

    def combine(self, F, x):
        return F.broadcast_mul(x, self.weights(F, x))
