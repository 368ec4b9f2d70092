"""U-Nets with the concatenations of their long skip connections replaced by a fusion.

References: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015; Dai et
al., "Attentional Feature Fusion", WACV 2021 (fusion in long skip connections).
"""

from __future__ import annotations

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .segmentation_network import SegmentationNetwork, conv_norm_relu

__all__ = ['UNet']


class UpBlock(HybridBlock):
    """Fusion of a low-level and a high-level map, and two 3x3 convolutions to the channels of the low-level one.

    Input x (N, in_channels, H, W) and y (N, channels, h, w); output (N, in_channels, H, W).
    """

    def __init__(self, channels, in_channels, align, norm, prefix=None, params=None):
        super().__init__(prefix=prefix, params=params)
        with self.name_scope():
            self.merge = align(channels, in_channels)
            self.body = nn.HybridSequential(prefix='')
            self.body.add(*conv_norm_relu(in_channels, channels, norm), *conv_norm_relu(in_channels, in_channels, norm))

    def hybrid_forward(self, F, x, y):
        return self.body(self.merge(x, y))


class UNet(SegmentationNetwork):
    """Segmentation by a U-Net: from the last stage up, each map is fused with that of the stage before and convolved.

    For the fusion the low-level map is expanded to the channels of the high-level one; two 3x3 convolutions reduce the
    result again. 'concat' gives the original, except that the high-level map is resized bilinearly rather than by a
    transposed convolution. Parameters, shapes and errors are those of
    :class:`model_zoo.hosts.segmentation_network.SegmentationNetwork`.
    """

    def make_decoder(self, channels, align, norm):
        pairs = list(zip(channels[1:], channels))
        return [UpBlock(high, low, align, norm) for high, low in reversed(pairs)], []
