"""ResNeXts for 32x32 images with the addition of each block replaced by a fusion.

References: Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017; Dai et al.,
"Attentional Feature Fusion", WACV 2021 (ResNeXt-38-32x4d).
"""

from __future__ import annotations

from typing import Callable, Sequence

from mxnet.gluon import ParameterDict, nn

from gluon_aff.errors import check_booleans, positive
from gluon_aff.layers.layout import GlobalAvgPool

from .cifar_resnet import conv3x3
from .network import FeatureNetwork, check_start_stage, make_fusion, make_norm, stage_configs
from .resnext import grouped_width, make_resnext_stage

__all__ = ['CifarResNeXt']


class CifarResNeXt(FeatureNetwork):
    """ResNeXt for small images: a 3x3 stem, three stages of grouped bottlenecks, average pool, dense layer.

    Input (N, 3, H, W) with H, W >= 3; output (N, classes), logits.

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
        The first stage (1 to 3) whose blocks fuse by `fusion`; those before it add.
    fusion, reduction, norm_layer, norm_kwargs, use_global_stats, last_gamma, final_drop, in_channels : see
        :class:`model_zoo.hosts.resnet.ResNet`.

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
        layers: Sequence[int],
        classes: int = 100,
        width: int = 4,
        cardinality: int = 32,
        bottleneck_width: int = 4,
        fusion: str | Callable = 'aff',
        reduction: int = 16,
        start_stage: int = 1,
        norm_layer: Callable = nn.BatchNorm,
        norm_kwargs: dict | None = None,
        use_global_stats: bool = False,
        last_gamma: bool = False,
        final_drop: float = 0.0,
        in_channels: int = 3,
        prefix: str | None = None,
        params: ParameterDict | None = None,
    ):
        super().__init__(classes, in_channels, prefix=prefix, params=params)
        check_start_stage(start_stage, layers)
        planes = channels = 16 * positive('width', width)
        check_booleans(last_gamma=last_gamma)
        norm = make_norm(norm_layer, norm_kwargs, use_global_stats)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix='')
            self.features.add(conv3x3(channels, in_channels), norm(in_channels=channels), nn.Activation('relu'))
            for stage, blocks in enumerate(layers, start=1):
                plan = (1 if stage == 1 else 2, 1, 1)
                group_width = grouped_width(planes, cardinality, bottleneck_width)
                configs = stage_configs(stage, blocks, channels, group_width, 4 * planes, plan, norm)
                fuse = make_fusion(fusion, reduction, norm, stage, start_stage)
                self.features.add(make_resnext_stage(configs, cardinality, fuse, True, last_gamma))
                planes, channels = 2 * planes, 4 * planes
            self.add_head(channels, GlobalAvgPool(), final_drop=final_drop)
