"""Pre-activation ResNets for small images, with Inception modules whose concatenation is replaced by a fusion.

References: Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning", AAAI
2017; Dai et al., "Attentional Feature Fusion", WACV 2021 (Inception-ResNet-20-b, fusion in the same layer).
"""

from __future__ import annotations

from functools import partial
from typing import Callable, Sequence

from mxnet.gluon import ParameterDict, nn
from mxnet.gluon.block import HybridBlock

from gluon_aff.layers.fusion import Add

from .cifar_resnet import CifarResNet, PreActBlock, conv3x3

__all__ = ['Inception', 'InceptionResNet']


class Inception(HybridBlock):
    """A 3x3 and a 5x5 convolution of one map, fused: x is the 3x3 branch and y the 5x5 branch.

    Input (N, in_channels, H, W); output (N, channels, H, W).

    Parameters
    ----------
    channels, in_channels : int
    fuse : callable
        Makes a fusion, from channels.
    true_5x5 : bool, default False
        Use a 5x5 convolution rather than a 3x3 one with dilation 2, which spans 5x5 with the parameters of a 3x3.

    Raises
    ------
    ValueError
        If the fusion's reduction does not divide its channels.
    """

    def __init__(
        self,
        channels: int,
        in_channels: int,
        fuse: Callable,
        true_5x5: bool = False,
        prefix: str | None = None,
        params: ParameterDict | None = None,
    ):
        super().__init__(prefix=prefix, params=params)
        span = {'kernel_size': 5} if true_5x5 else {'kernel_size': 3, 'dilation': 2}
        with self.name_scope():
            self.conv3 = conv3x3(channels, in_channels)
            self.conv5 = nn.Conv2D(channels, padding=2, use_bias=False, in_channels=in_channels, **span)
            self.fuse = fuse(channels)

    def hybrid_forward(self, F, x):
        return self.fuse(self.conv3(x), self.conv5(x))


def _make_block(channels, in_channels, stride, norm, fuse, true_5x5):
    # An Inception module replaces the second convolution; the shortcut is added.
    return PreActBlock(
        channels, in_channels, stride, norm, Add, second=partial(Inception, fuse=fuse, true_5x5=true_5x5)
    )


class InceptionResNet(CifarResNet):
    """Pre-activation ResNet for small images with an Inception module as the second convolution of each block.

    `fusion` fuses the module's two branches, 3x3 and 5x5; 'concat', a concatenation and a 1x1 convolution, gives the
    original. The shortcut of each block is added.

    Input (N, 3, H, W) with H, W >= 3; output (N, classes), logits.

    Parameters
    ----------
    true_5x5 : bool, default False
        Use 5x5 convolutions rather than those of the paper's experiments, 3x3 with dilation 2.
    layers, classes, width, fusion, reduction, start_stage
        See :class:`model_zoo.hosts.cifar_resnet.CifarResNet`.
    norm_layer, norm_kwargs, use_global_stats, final_drop, in_channels
        See :class:`model_zoo.hosts.cifar_resnet.CifarResNet`.

    Raises
    ------
    ValueError
        For an unknown fusion, or a number out of its range.
    """

    def __init__(
        self,
        layers: Sequence[int],
        classes: int = 100,
        width: float = 4,
        fusion: str | Callable = 'aff',
        reduction: int = 4,
        start_stage: int = 1,
        true_5x5: bool = False,
        norm_layer: Callable = nn.BatchNorm,
        norm_kwargs: dict | None = None,
        use_global_stats: bool = False,
        final_drop: float = 0.0,
        in_channels: int = 3,
        prefix: str | None = None,
        params: ParameterDict | None = None,
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
            block=partial(_make_block, true_5x5=true_5x5),
            prefix=prefix,
            params=params,
        )
