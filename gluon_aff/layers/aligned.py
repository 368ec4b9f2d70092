"""Fusion of two feature maps of different shape, as in feature pyramids and U-Nets.

References: Dai et al., "Attentional Feature Fusion", WACV 2021 (arXiv 2009.14082), long skip connections; Lin et al.,
"Feature Pyramid Networks for Object Detection", CVPR 2017.
"""

from __future__ import annotations

import numpy as np
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock
from mxnet.ndarray import NDArray

from ..errors import positive
from .fusion import get_fusion

__all__ = ['AlignedFusion']


class AlignedFusion(HybridBlock):
    """z = fuse(conv(x), resize(y)): x brought to C channels by a 1x1 convolution, y to the size of x, bilinearly.

    The resizing takes pixel centres (half a pixel from the corner, as in OpenCV), so that doubling is the same at
    every size and place of a map.

    Parameters
    ----------
    channels : int
        C, the channels of y and of the output.
    in_channels : int, default 0
        C_x, the channels of x; 0 takes them from the first x.
    fusion : str or callable, default 'aff'
        Name in :data:`gluon_aff.FUSIONS`, or what makes a fusion block.
    reduction, norm_layer, norm_kwargs : see :class:`gluon_aff.AFF`.

    Inputs x (N, C_x, H, W), the low-level map, and y (N, C, h, w), the high-level one, of any size; output
    (N, C, H, W).

    Raises
    ------
    ValueError
        For an unknown fusion, a reduction that does not divide C, and inputs of other shapes.
    """

    def __init__(
        self,
        channels,
        in_channels=0,
        fusion='aff',
        reduction=4,
        norm_layer=nn.BatchNorm,
        norm_kwargs=None,
        prefix=None,
        params=None,
    ):
        super().__init__(prefix=prefix, params=params)
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
            if (
                x.ndim != 4
                or y.ndim != 4
                or 0 in (*x.shape, *y.shape)
                or x.shape[0] != y.shape[0]
                or known not in (0, x.shape[1])
                or y.shape[1] != self.channels
                or x.dtype != y.dtype
            ):
                raise ValueError(
                    f'AlignedFusion takes x (N, {known or "C"}, H, W) and y (N, {self.channels}, h, w) of '
                    f'one type and the same N, got {x.shape} of {np.dtype(x.dtype)} and {y.shape} of '
                    f'{np.dtype(y.dtype)}.'
                )
        return super().forward(x, y)

    def hybrid_forward(self, F, x, y):
        y = F.contrib.BilinearResize2D(y, x, mode='like', align_corners=False)
        return self.fuse(self.expand(x), y)
