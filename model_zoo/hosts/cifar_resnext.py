"""ResNeXts for 32x32 images with the addition of each block replaced by a fusion.

References: Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017; Dai et al.,
"Attentional Feature Fusion", WACV 2021 (ResNeXt-38-32x4d).
"""

from __future__ import annotations

from mxnet.gluon import nn

from gluon_aff.errors import check_booleans, positive
from gluon_aff.layers.context import GlobalAvgPool

from .network import FeatureNetwork, check_drop, check_start_stage, make_fusion, make_norm
from .resnext import resnext_stage

__all__ = ['CifarResNeXt']


class CifarResNeXt(FeatureNetwork):
    """ResNeXt for small images: a 3x3 stem, three stages of grouped bottlenecks, average pool, dense layer.

    Parameters
    ----------
    layers : sequence of int
        Number of blocks in each of the three stages.
    classes : int, default 100
    width : int, default 4
        The stem has 16 x width channels, the stages 16, 32, 64 x width planes of four times as many channels.
    cardinality, bottleneck_width : int, default 32, 4
        Groups of the 3x3 convolutions, and channels in each at 64 planes.
    start_stage : int, default 1
        The stage (1 to 3) from which on `fusion` fuses; before it blocks add.
    fusion, reduction, norm_layer, norm_kwargs, use_global_stats, last_gamma, final_drop, in_channels : see
        :class:`model_zoo.hosts.resnet.ResNet`.

    Input (N, 3, H, W) with H, W >= 3; output (N, classes), logits.

    Attributes
    ----------
    features, output : as in GluonCV's CIFARResNext.

    Raises
    ------
    ValueError
        For an unknown fusion, or a number out of its range.
    """

    min_size = 3

    def __init__(
        self,
        layers,
        classes=100,
        width=4,
        cardinality=32,
        bottleneck_width=4,
        fusion='aff',
        reduction=16,
        start_stage=1,
        norm_layer=nn.BatchNorm,
        norm_kwargs=None,
        use_global_stats=False,
        last_gamma=False,
        final_drop=0.0,
        in_channels=3,
        prefix=None,
        params=None,
    ):
        super().__init__(classes, in_channels, prefix=prefix, params=params)
        check_start_stage(start_stage, layers)
        cardinality = positive('cardinality', cardinality)
        bottleneck_width = positive('bottleneck_width', bottleneck_width)
        planes = channels = 16 * positive('width', width)
        check_booleans(last_gamma=last_gamma)
        norm = make_norm(norm_layer, norm_kwargs, use_global_stats)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix='')
            self.features.add(
                nn.Conv2D(channels, 3, 1, 1, use_bias=False, in_channels=in_channels),
                norm(in_channels=channels),
                nn.Activation('relu'),
            )
            for stage, blocks in enumerate(layers, start=1):
                plan = (1 if stage == 1 else 2, 1, 1)
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
                        True,
                        last_gamma,
                    )
                )
                planes, channels = 2 * planes, 4 * planes
            self.features.add(GlobalAvgPool(), nn.Flatten())
            if check_drop(final_drop):
                self.features.add(nn.Dropout(final_drop))
            self.output = nn.Dense(self.classes, in_units=channels)
