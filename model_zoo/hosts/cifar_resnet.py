"""Pre-activation ResNets for 32x32 images with the addition of each block replaced by a fusion.

References: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016; Dai et al., "Attentional Feature
Fusion", WACV 2021 (ResNet-20-b: b blocks a stage, depth 6b + 2).
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Callable, Sequence

from mxnet.gluon import ParameterDict, nn

from gluon_aff.layers.fusion import Add
from gluon_aff.layers.layout import GlobalAvgPool

from .network import FeatureNetwork, ResidualBlock, check_start_stage, make_downsample, make_fusion, make_norm

__all__ = ['CifarResNet', 'PreActBlock']


def conv3x3(channels, in_channels, stride=1):
    """3x3 convolution without bias, padded by 1."""
    return nn.Conv2D(channels, 3, stride, 1, use_bias=False, in_channels=in_channels)


class PreActBlock(ResidualBlock):
    """Two times normalisation, ReLU and 3x3 convolution (the first with the stride), fused with the shortcut.

    Input (N, in_channels, H, W); output (N, channels, ceil(H / stride), ceil(W / stride)).

    Parameters
    ----------
    channels, in_channels, stride : int
    norm, fuse : callable
        Make a normalisation (from in_channels) and a fusion (from channels).
    second : callable, optional
        Makes the second convolution (from channels and in_channels).

    Raises
    ------
    ValueError
        If the fusion's reduction does not divide its channels.
    """

    def __init__(
        self,
        channels: int,
        in_channels: int,
        stride: int,
        norm: Callable,
        fuse: Callable,
        second: Callable = conv3x3,
        prefix: str | None = None,
        params: ParameterDict | None = None,
    ):
        super().__init__(prefix=prefix, params=params)
        with self.name_scope():
            # Its name in the released files.
            self.resfwd = nn.HybridSequential(prefix='')
            self.resfwd.add(
                norm(in_channels=in_channels),
                nn.Activation('relu'),
                conv3x3(channels, in_channels, stride),
                norm(in_channels=channels),
                nn.Activation('relu'),
                second(channels, channels),
            )
            changes = stride != 1 or channels != in_channels
            self.downsample = make_downsample(channels, in_channels, stride) if changes else None
            self.attention = fuse(channels)

    def hybrid_forward(self, F, x):
        return self.fuse_shortcut(self.resfwd(x), x)


def stage_channels(width, stages):
    """16, 32, 64, ... x width channels, rounded where the width is no whole number."""
    if isinstance(width, bool) or not isinstance(width, Real) or not 1 <= width < math.inf:
        raise ValueError(f'width must be a number, 1 or more, got {width!r}.')
    return [round(16 * width * 2**stage) for stage in range(stages)]


def make_trunk(layers, width, norm, fusion, reduction=4, start_stage=1, in_channels=3, block=PreActBlock):
    """Stem and stages of 16, 32, 64, ... x width channels, and the channels of each stage."""
    check_start_stage(start_stage, layers)
    channels = stage_channels(width, len(layers))
    # The input's norm is that of the released networks. MXNet updates running statistics in the backward pass, which
    # never reaches this norm, so in inference it passes the images on: normalise them beforehand.
    trunk = [norm(in_channels=in_channels, scale=False, center=False), conv3x3(channels[0], in_channels)]
    before = channels[0]
    for stage, (blocks, after) in enumerate(zip(layers, channels), start=1):
        fuse = make_fusion(fusion, reduction, norm, stage, start_stage, Add)
        layer = nn.HybridSequential(prefix=f'stage{stage}_')
        with layer.name_scope():
            layer.add(block(after, before, 1 if stage == 1 else 2, norm, fuse))
            for _ in range(blocks - 1):
                layer.add(block(after, after, 1, norm, fuse))
        trunk.append(layer)
        before = after
    return trunk, channels


class CifarResNet(FeatureNetwork):
    """Pre-activation ResNet for small images: a 3x3 stem, three stages of basic blocks, average pool, dense layer.

    Input (N, 3, H, W) with H, W >= 3; output (N, classes), logits.

    Parameters
    ----------
    layers : sequence of int
        Number of blocks in each of the three stages.
    classes : int, default 100
    width : int or float, default 4
        The stages have 16, 32, 64 x width channels, rounded, the stem as many as the first stage; 1 or more.
    reduction : int, default 4
    start_stage : int, default 1
        The first stage (1 to 3) whose blocks fuse by `fusion`; those before it add.
    fusion, norm_layer, norm_kwargs, use_global_stats, final_drop, in_channels : see
        :class:`model_zoo.hosts.resnet.ResNet`.
    block : callable, default PreActBlock
        Makes a block, from the arguments of :class:`PreActBlock`.

    Attributes
    ----------
    features, output : as in GluonCV's CIFARResNetV2.

    Raises
    ------
    ValueError
        For an unknown fusion, or a number out of its range.
    """

    min_size = 3

    def __init__(
        self,
        layers: Sequence[int],
        classes: int = 100,
        width: float = 4,
        fusion: str | Callable = 'aff',
        reduction: int = 4,
        start_stage: int = 1,
        norm_layer: Callable = nn.BatchNorm,
        norm_kwargs: dict | None = None,
        use_global_stats: bool = False,
        final_drop: float = 0.0,
        in_channels: int = 3,
        block: Callable = PreActBlock,
        prefix: str | None = None,
        params: ParameterDict | None = None,
    ):
        super().__init__(classes, in_channels, prefix=prefix, params=params)
        norm = make_norm(norm_layer, norm_kwargs, use_global_stats)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix='')
            trunk, channels = make_trunk(layers, width, norm, fusion, reduction, start_stage, in_channels, block)
            self.features.add(*trunk, norm(in_channels=channels[-1]), nn.Activation('relu'))
            self.add_head(channels[-1], GlobalAvgPool(), final_drop=final_drop)
