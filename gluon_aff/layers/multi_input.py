"""Fusion of more than two feature maps, and of two of different shape, as in feature pyramids and U-Nets.

References: Dai et al., "Attentional Feature Fusion", WACV 2021 (arXiv 2009.14082), long skip connections; Li et al.,
"Selective Kernel Networks", CVPR 2019, for the softmax over branches; Lin et al., "Feature Pyramid Networks for Object
Detection", CVPR 2017.
"""

from __future__ import annotations

from typing import Callable

import numpy as np
from mxnet.gluon import ParameterDict, nn
from mxnet.gluon.block import HybridBlock
from mxnet.ndarray import NDArray

from ..errors import positive
from .context import MAPS, SCALES, ChannelBlock, check_spatial_dims, context_map, make_contexts
from .fusion import get_fusion
from .layout import as_image, default_layout, from_image

__all__ = ['AlignedFusion', 'MultiInputAFF']


class MultiInputAFF(ChannelBlock):
    """AFF of n maps: z = n * (w_1 * x_1 + ... + w_n * x_n), where w_1 + ... + w_n = 1 at each position and channel.

    w is the softmax over (a_1, ..., a_(n-1), 0), where a_i is the sum of a local and a global context of
    x_1 + ... + x_n. The last logit is 0 because softmax depends on differences only. So for n = 2 w_1 is the sigmoid of
    a_1, and the block is :class:`gluon_aff.AFF`, with the same parameters. The factor n makes w = 1 / n an addition.

    Inputs x_1, ..., x_n and output: (N, C, H, W), (N, C, T) or (N, C, D, H, W). A training batch needs at least two
    maps.

    Parameters
    ----------
    channels : int, default 0
        C of all inputs; 0 takes it from the first input, see :class:`gluon_aff.AFF`.
    inputs : int, default 2
        n, at least 2.
    reduction, scales, norm_layer, norm_kwargs, spatial_dims : see :class:`gluon_aff.AFF`.

    Raises
    ------
    ValueError
        As :class:`gluon_aff.AFF` does, and for another number of inputs.
    """

    def __init__(
        self,
        channels: int = 0,
        inputs: int = 2,
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
        if positive('inputs', inputs) < 2:
            raise ValueError('MultiInputAFF fuses two inputs or more, got inputs=1.')
        self.inputs = inputs
        with self.name_scope():
            self.local_att, self.global_att = make_contexts(channels, scales, outputs=inputs - 1, **self._settings)

    def forward(self, *maps):
        if len(maps) != self.inputs:
            raise ValueError(f'This MultiInputAFF was made for {self.inputs} inputs, got {len(maps)}.')
        return super().forward(*maps)

    def weights(self, F, total):
        """(w_1, ..., w_n), (N, n, C, H, W), of the inputs' sum (N, C, H, W) in the default layout."""
        first, second = (
            context_map(F, context(total), context.scale, total) for context in (self.local_att, self.global_att)
        )
        logits = first + second
        # (N, (n - 1) C, H, W) to (N, n - 1, C, H, W)
        logits = F.reshape(logits, shape=(0, -4, self.inputs - 1, -1, -2))
        last = F.zeros_like(F.slice_axis(logits, axis=1, begin=0, end=1))
        return F.softmax(F.concat(logits, last, dim=1), axis=1)

    def combine(self, F, *maps):
        weights = self.weights(F, F.add_n(*maps))
        return self.inputs * F.sum(F.broadcast_mul(F.stack(*maps, axis=1), weights), axis=1)


class AlignedFusion(HybridBlock):
    """z = fuse(conv(x), resize(y)): a 1x1 convolution brings x to C channels, bilinear resizing y to the size of x.

    The resizing aligns pixel centres (half a pixel from the corner, as OpenCV does), so that doubling is the same at
    every size and position.

    Inputs x (N, C_x, H, W), the low-level map, and y (N, C, h, w), the high-level one, of any size; output
    (N, C, H, W). Sequences (N, C, T) and volumes (N, C, D, H, W) likewise, by linear and trilinear resizing.

    Parameters
    ----------
    channels : int
        C, the channels of y and of the output.
    in_channels : int, default 0
        C_x, the channels of x; 0 takes them from the first x.
    fusion : str or callable, default 'aff'
        Name in :data:`gluon_aff.FUSIONS`, or a callable that makes a fusion block.
    reduction, norm_layer, norm_kwargs, spatial_dims : see :class:`gluon_aff.AFF`.

    Raises
    ------
    ValueError
        For an unknown fusion, a reduction that does not divide C, and inputs of other shapes.
    """

    def __init__(
        self,
        channels: int,
        in_channels: int = 0,
        fusion: str | Callable = 'aff',
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
        self.channels = positive('channels', channels)
        self.in_channels = positive('in_channels', in_channels, or_zero=True)
        with self.name_scope():
            self.expand = nn.Conv2D(channels, 1, use_bias=False, in_channels=in_channels)
            self.fuse = get_fusion(fusion)(
                channels=channels, reduction=reduction, norm_layer=norm_layer, norm_kwargs=norm_kwargs
            )

    def forward(self, x, y):
        if isinstance(x, NDArray):
            known = self.in_channels or self.expand.weight.shape[1]
            dims = self.spatial_dims or x.ndim - 2
            if (
                dims not in MAPS
                or x.ndim != 2 + dims
                or y.ndim != 2 + dims
                or 0 in (*x.shape, *y.shape)
                or x.shape[0] != y.shape[0]
                or known not in (0, x.shape[1])
                or y.shape[1] != self.channels
                or x.dtype != y.dtype
            ):
                sides = MAPS.get(dims, MAPS[2])[len('(N, C, ') :]
                raise ValueError(
                    f'AlignedFusion takes x (N, {known or "C"}, {sides} and y (N, {self.channels}, {sides.lower()} of '
                    f'one type and the same N, got {x.shape} of {np.dtype(x.dtype)} and {y.shape} of '
                    f'{np.dtype(y.dtype)}.'
                )
            self.spatial_dims = dims
        return super().forward(x, y)

    def hybrid_forward(self, F, x, y):
        if self.spatial_dims in (0, 2):
            # The resized y is in this layout; in bfloat16 it is of float32, which MXNet then makes of x, too.
            return self.fuse(default_layout(F, self.expand(x)), resize_like(F, y, x))
        image = as_image(F, x, self.spatial_dims)
        if self.spatial_dims == 1:
            resized = resize_like(F, as_image(F, y, 1), image)
        else:
            resized = as_image(F, self._resize_volume(F, y, x), 2)
        return from_image(F, self.fuse(self.expand(image), resized), x, self.spatial_dims)

    def _resize_volume(self, F, y, like):
        """Resize y (N, C, d, h, w) to (N, C, D, H * W), first in each slice, then along D."""
        y, like = default_layout(F, y, 3), default_layout(F, like, 3)
        slices = resize_like(F, F.reshape(y, shape=(0, -3, 0, 0)), F.reshape(like, shape=(0, -3, 0, 0)))
        columns = F.reshape(slices, shape=(0, -4, self.channels, -1, -3))
        return resize_like(F, columns, F.reshape(like, shape=(0, 0, 0, -3)))


def resize_like(F, x, like):
    """Resize (N, C, h, w) bilinearly to the H and W of `like`, by the centres of pixels."""
    return F.contrib.BilinearResize2D(x, like, mode='like', align_corners=False)
