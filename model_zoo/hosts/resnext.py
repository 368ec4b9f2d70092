"""ImageNet ResNeXts with the addition of each block replaced by a fusion, laid out as GluonCV's ResNext.

References: Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017; Dai et al.,
"Attentional Feature Fusion", WACV 2021.
"""

from __future__ import annotations

from typing import Callable, Sequence

from mxnet.gluon import ParameterDict, nn
from mxnet.gluon.block import HybridBlock

from gluon_aff.errors import check_booleans, positive

from .network import (
    BlockConfig,
    FeatureNetwork,
    ResidualBlock,
    check_start_stage,
    make_downsample,
    make_fusion,
    make_norm,
    make_stage,
    make_stem,
    make_stem_pool,
    stage_configs,
    stage_plan,
)

__all__ = ['ResNeXt', 'ResNeXtBlock']


class ResNeXtBlock(ResidualBlock):
    """1x1, grouped 3x3 (with the stride) and 1x1 convolutions, fused with the shortcut.

    Input (N, C, H, W); output (N, config.channels, ceil(H / stride), ceil(W / stride)).

    Parameters
    ----------
    config : BlockConfig
    cardinality : int
        Groups of the 3x3 convolution.
    fuse : callable
        Makes a fusion, from channels.
    downsample : HybridBlock, optional
        The shortcut where the shape changes.
    last_gamma : bool, default False
        Start the last normalisation's gamma at zero.

    Raises
    ------
    ValueError
        If the fusion's reduction does not divide its channels.
    """

    def __init__(
        self,
        config: BlockConfig,
        cardinality: int,
        fuse: Callable,
        downsample: HybridBlock | None = None,
        last_gamma: bool = False,
        prefix: str | None = None,
        params: ParameterDict | None = None,
    ):
        super().__init__(prefix=prefix, params=params)
        norm, width, dilation = config.norm, config.width, config.dilation
        with self.name_scope():
            self.body = nn.HybridSequential(prefix='')
            self.body.add(
                nn.Conv2D(width, 1, use_bias=False, in_channels=config.in_channels),
                norm(in_channels=width),
                nn.Activation('relu'),
                nn.Conv2D(width, 3, config.stride, dilation, dilation, cardinality, use_bias=False, in_channels=width),
                norm(in_channels=width),
                nn.Activation('relu'),
                nn.Conv2D(config.channels, 1, use_bias=False, in_channels=width),
                norm(in_channels=config.channels, **({'gamma_initializer': 'zeros'} if last_gamma else {})),
            )
            self.downsample = downsample
            self.attention = fuse(config.channels)
            self.relu = nn.Activation('relu')

    def hybrid_forward(self, F, x):
        return self.relu(self.fuse_shortcut(self.body(x), x))


def make_resnext_stage(configs, cardinality, fuse, avg_down, last_gamma):
    """A stage of ResNeXt blocks."""

    def make_block(config):
        downsample = None
        if config.first:
            downsample = make_downsample(config.channels, config.in_channels, config.stride, config.norm, avg_down)
        return ResNeXtBlock(config, cardinality, fuse, downsample, last_gamma)

    return make_stage(f'stage{configs[0].stage}_', configs, make_block)


def grouped_width(planes, cardinality, bottleneck_width):
    """Channels of the grouped convolutions for these planes; bottleneck_width is those of a group at 64 planes."""
    width = positive('cardinality', cardinality) * (planes * positive('bottleneck_width', bottleneck_width) // 64)
    if not width:
        raise ValueError(f'bottleneck_width {bottleneck_width} leaves no channels at {planes} planes.')
    return width


class ResNeXt(FeatureNetwork):
    """ResNeXt for ImageNet-like images: a stem, four stages of grouped bottlenecks, average pool, dense layer.

    Input (N, 3, H, W) with H, W >= 17, odd sizes included; output (N, classes), logits.

    Parameters
    ----------
    layers : sequence of int
        Number of blocks in each stage.
    cardinality, bottleneck_width : int, default 32, 4
        Groups of the 3x3 convolutions, and channels of each group in the first stage.
    classes, fusion, reduction, start_stage, dilated, norm_layer, norm_kwargs, use_global_stats
        See :class:`model_zoo.hosts.resnet.ResNet`.
    last_gamma, deep_stem, stem_width, avg_down, final_drop, in_channels, small_input
        See :class:`model_zoo.hosts.resnet.ResNet`; stem_width is 64 by default, and the first stage's shortcut, which
        is not strided, has no pool.

    Attributes
    ----------
    features, output : as in GluonCV's ResNext.

    Raises
    ------
    ValueError
        For an unknown fusion, or a number out of its range.
    """

    min_size = 17
    pool_ends_stem = True

    def __init__(
        self,
        layers: Sequence[int],
        cardinality: int = 32,
        bottleneck_width: int = 4,
        classes: int = 1000,
        fusion: str | Callable = 'aff',
        reduction: int = 16,
        start_stage: int = 3,
        dilated: bool | int = False,
        norm_layer: Callable = nn.BatchNorm,
        norm_kwargs: dict | None = None,
        use_global_stats: bool = False,
        last_gamma: bool = False,
        deep_stem: bool = True,
        stem_width: int = 64,
        avg_down: bool = True,
        final_drop: float = 0.0,
        in_channels: int = 3,
        small_input: bool = False,
        prefix: str | None = None,
        params: ParameterDict | None = None,
    ):
        super().__init__(classes, in_channels, prefix=prefix, params=params)
        if small_input:
            self.min_size = 5
        check_start_stage(start_stage, layers, stages=4)
        check_booleans(last_gamma=last_gamma, avg_down=avg_down)
        norm = make_norm(norm_layer, norm_kwargs, use_global_stats)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix='')
            stem, channels = make_stem(deep_stem, stem_width, norm, in_channels, small_input)
            self.features.add(*stem, norm(in_channels=channels), nn.Activation('relu'), make_stem_pool(small_input))
            for stage, (blocks, plan) in enumerate(zip(layers, stage_plan(dilated)), start=1):
                planes = 32 << stage
                width = grouped_width(planes, cardinality, bottleneck_width)
                configs = stage_configs(stage, blocks, channels, width, 4 * planes, plan, norm)
                fuse = make_fusion(fusion, reduction, norm, stage, start_stage)
                self.features.add(make_resnext_stage(configs, cardinality, fuse, avg_down and stage > 1, last_gamma))
                channels = 4 * planes
            self.add_head(channels, nn.GlobalAvgPool2D(), final_drop=final_drop)
