"""Pre-activation ResNets for small images with Inception modules in which a fusion replaces the concatenation.

References: Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning", AAAI
2017; Dai et al., "Attentional Feature Fusion", WACV 2021 (Inception-ResNet-20-b, fusion in the same layer).
"""

from __future__ import annotations

from functools import partial

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from gluon_aff.layers.fusion import Add

from .cifar_resnet import CifarResNet, PreActBlock, conv3x3

__all__ = ['Inception', 'InceptionResNet']


class Inception(HybridBlock):
    """A 3x3 and a 5x5 convolution of one map, fused: x is the 3x3 branch and y the 5x5 branch.

    Parameters
    ----------
    channels, in_channels : int
    fuse : callable
        What makes a fusion (from channels).
    true_5x5 : bool, default False
        A 5x5 convolution in place of the 3x3 one with dilation 2, which spans 5x5 with the parameters of a 3x3.

    Input (N, in_channels, H, W); output (N, channels, H, W).

    Raises
    ------
    ValueError
        If the fusion's reduction does not divide its channels.
    """

    def __init__(self, channels, in_channels, fuse, true_5x5=False, prefix=None, params=None):
        super().__init__(prefix=prefix, params=params)
        span = {'kernel_size': 5} if true_5x5 else {'kernel_size': 3, 'dilation': 2}
        with self.name_scope():
            self.conv3 = conv3x3(channels, in_channels)
            self.conv5 = nn.Conv2D(channels, padding=2, use_bias=False, in_channels=in_channels, **span)
            self.fuse = fuse(channels)

    def hybrid_forward(self, F, x):
        return self.fuse(self.conv3(x), self.conv5(x))


def _block(channels, in_channels, stride, norm, fuse, true_5x5):
    # The Inception module stands in place of the second convolution; the shortcut is added.
    return PreActBlock(
        channels, in_channels, stride, norm, Add, second=partial(Inception, fuse=fuse, true_5x5=true_5x5)
    )


class InceptionResNet(CifarResNet):
    """Pre-activation ResNet for small images with an Inception module for the second convolution of each block.

    The module's two branches, 3x3 and 5x5, are fused by `fusion` ('concat', which is concatenation and a 1x1
    convolution, makes the original); the shortcut of each block is added.

    Parameters
    ----------
    true_5x5 : bool, default False
        5x5 convolutions in place of 3x3 ones with dilation 2, which the paper's experiments have.
    layers, classes, width, fusion, reduction, start_stage, norm_layer, norm_kwargs, use_global_stats, final_drop,
    in_channels : see :class:`model_zoo.hosts.cifar_resnet.CifarResNet`.

    Input (N, 3, H, W) with H, W >= 3; output (N, classes), logits.

    Raises
    ------
    ValueError
        For an unknown fusion, or a number out of its range.
    """

    def __init__(
        self,
        layers,
        classes=100,
        width=4,
        fusion='aff',
        reduction=4,
        start_stage=1,
        true_5x5=False,
        norm_layer=nn.BatchNorm,
        norm_kwargs=None,
        use_global_stats=False,
        final_drop=0.0,
        in_channels=3,
        prefix=None,
        params=None,
    ):
        super().__init__(
            layers,
            classes,
            width,
            fusion,
            reduction,
            start_stage,
            norm_layer,
            norm_kwargs,
            use_global_stats,
            final_drop,
            in_channels,
            block=partial(_block, true_5x5=true_5x5),
            prefix=prefix,
            params=params,
        )
