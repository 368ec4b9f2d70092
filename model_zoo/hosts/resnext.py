"""ImageNet ResNeXts with the addition of each block replaced by a fusion, laid out as GluonCV's ResNext.

References: Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017; Dai et al.,
"Attentional Feature Fusion", WACV 2021.
"""

from __future__ import annotations

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from gluon_aff.errors import check_booleans, positive

from .network import (
    FeatureNetwork,
    check_drop,
    check_start_stage,
    make_downsample,
    make_fusion,
    make_norm,
    make_stem,
    stage_plan,
)

__all__ = ['ResNeXt', 'ResNeXtBlock']


class ResNeXtBlock(HybridBlock):
    """1x1, grouped 3x3 (with the stride), 1x1 convolutions to 4 x planes channels, fused with the shortcut.

    Parameters
    ----------
    planes, in_channels, stride : int
    cardinality, bottleneck_width : int
        Groups of the 3x3 convolution, and its channels in each at 64 planes.
    norm, fuse : callable
        What makes a normalisation (from in_channels) and a fusion (from channels).
    dilation : int, default 1
        Of the 3x3 convolution.
    downsample : HybridBlock, optional
        The shortcut where the shape changes.
    last_gamma : bool, default False
        Start the last normalisation's gamma at zero.

    Input (N, C, H, W); output (N, 4 * planes, ceil(H / stride), ceil(W / stride)).

    Raises
    ------
    ValueError
        If the fusion's reduction does not divide its channels, or bottleneck_width leaves no channels.
    """

    def __init__(
        self,
        planes,
        in_channels,
        stride,
        cardinality,
        bottleneck_width,
        norm,
        fuse,
        dilation=1,
        downsample=None,
        last_gamma=False,
        prefix=None,
        params=None,
    ):
        super().__init__(prefix=prefix, params=params)
        channels = 4 * planes
        width = cardinality * (planes * bottleneck_width // 64)
        if not width:
            raise ValueError(f'bottleneck_width {bottleneck_width} leaves no channels at {planes} planes.')
        with self.name_scope():
            self.body = nn.HybridSequential(prefix='')
            self.body.add(
                nn.Conv2D(width, 1, use_bias=False, in_channels=in_channels),
                norm(in_channels=width),
                nn.Activation('relu'),
                nn.Conv2D(
                    width,
                    3,
                    stride,
                    padding=dilation,
                    dilation=dilation,
                    groups=cardinality,
                    use_bias=False,
                    in_channels=width,
                ),
                norm(in_channels=width),
                nn.Activation('relu'),
                nn.Conv2D(channels, 1, use_bias=False, in_channels=width),
                norm(in_channels=channels, **({'gamma_initializer': 'zeros'} if last_gamma else {})),
            )
            self.downsample = downsample
            self.attention = fuse(channels)
            self.relu = nn.Activation('relu')

    def hybrid_forward(self, F, x):
        identity = self.downsample(x) if self.downsample else x
        return self.relu(self.attention.residual(self.body(x), identity))


def resnext_stage(
    stage, blocks, planes, channels, plan, cardinality, bottleneck_width, norm, fuse, avg_down, last_gamma
):
    """One stage of `blocks` blocks, the first of which takes `channels` channels and has a shortcut convolution."""
    stride, first_dilation, dilation = plan
    layer = nn.HybridSequential(prefix=f'stage{stage}_')
    with layer.name_scope():
        layer.add(
            ResNeXtBlock(
                planes,
                channels,
                stride,
                cardinality,
                bottleneck_width,
                norm,
                fuse,
                first_dilation,
                make_downsample(4 * planes, channels, stride, norm, avg_down),
                last_gamma,
            )
        )
        for _ in range(blocks - 1):
            layer.add(
                ResNeXtBlock(
                    planes, 4 * planes, 1, cardinality, bottleneck_width, norm, fuse, dilation, last_gamma=last_gamma
                )
            )
    return layer


class ResNeXt(FeatureNetwork):
    """ResNeXt for ImageNet-like images: a stem, four stages of grouped bottlenecks, average pool, dense layer.

    Parameters
    ----------
    layers : sequence of int
        Number of blocks in each stage.
    cardinality, bottleneck_width : int, default 32, 4
        Groups of the 3x3 convolutions, and channels in each group of the first stage.
    classes, fusion, reduction, start_stage, dilated, norm_layer, norm_kwargs, use_global_stats, last_gamma, deep_stem,
    stem_width, avg_down, final_drop, in_channels : see :class:`model_zoo.hosts.resnet.ResNet`; stem_width is 64
        by default, and the first stage's shortcut, which is not strided, has no pool.

    Input (N, 3, H, W) with H, W >= 17, odd sizes included; output (N, classes), logits.

    Attributes
    ----------
    features, output : as in GluonCV's ResNext.

    Raises
    ------
    ValueError
        For an unknown fusion, or a number out of its range.
    """

    min_size = 17

    def __init__(
        self,
        layers,
        cardinality=32,
        bottleneck_width=4,
        classes=1000,
        fusion='aff',
        reduction=16,
        start_stage=3,
        dilated=False,
        norm_layer=nn.BatchNorm,
        norm_kwargs=None,
        use_global_stats=False,
        last_gamma=False,
        deep_stem=True,
        stem_width=64,
        avg_down=True,
        final_drop=0.0,
        in_channels=3,
        prefix=None,
        params=None,
    ):
        super().__init__(classes, in_channels, prefix=prefix, params=params)
        check_start_stage(start_stage, layers, stages=4)
        cardinality = positive('cardinality', cardinality)
        bottleneck_width = positive('bottleneck_width', bottleneck_width)
        check_booleans(last_gamma=last_gamma, avg_down=avg_down)
        norm = make_norm(norm_layer, norm_kwargs, use_global_stats)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix='')
            stem, channels = make_stem(deep_stem, stem_width, norm, in_channels)
            self.features.add(*stem, norm(in_channels=channels), nn.Activation('relu'), nn.MaxPool2D(3, 2, 1))
            for stage, (blocks, plan) in enumerate(zip(layers, stage_plan(dilated)), start=1):
                planes = 32 << stage
                fuse = make_fusion(fusion, reduction, norm, stage, start_stage)
                self.features.add(
                    resnext_stage(
                        stage,
                        blocks,
                        planes,
                        channels,
                        plan,
                        cardinality,
                        bottleneck_width,
                        norm,
                        fuse,
                        avg_down and stage > 1,
                        last_gamma,
                    )
                )
                channels = 4 * planes
            self.features.add(nn.GlobalAvgPool2D(), nn.Flatten())
            if check_drop(final_drop):
                self.features.add(nn.Dropout(final_drop))
            self.output = nn.Dense(self.classes, in_units=channels)
