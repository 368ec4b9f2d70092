"""Feature pyramids with the additions of their top-down way replaced by a fusion.

References: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017; Long et al., "Fully Convolutional
Networks for Semantic Segmentation", CVPR 2015 (the head); Dai et al., "Attentional Feature Fusion", WACV 2021
(ResNet-20-b + FPN).
"""

from __future__ import annotations

from mxnet.gluon import nn

from gluon_aff.errors import positive
from gluon_aff.layers.aligned import AlignedFusion

from .cifar_resnet import conv3x3
from .network import StagedNetwork
from .segmentation_network import SegmentationNetwork, conv_norm_relu

__all__ = ['FPN', 'FeaturePyramid']


class FPN(SegmentationNetwork):
    """Segmentation by a feature pyramid: from the last stage down, each map is fused with the one below it.

    The low-level maps are expanded to the last stage's channels, and a 3x3 convolution to a quarter of them stands in
    front of the last one, at the input's size. 'add' makes the original.

    Takes and gives what :class:`model_zoo.hosts.segmentation_network.SegmentationNetwork` does: (N, 3, H, W) to
    (N, classes, H, W). Raises ValueError as it does.
    """

    def make_decoder(self, channels, align, norm):
        *lows, top = channels
        return [align(top, low) for low in reversed(lows)], conv_norm_relu(channels[0], top, norm)


class FeaturePyramid(StagedNetwork):
    """The pyramid of maps that detectors work on, over any network of the zoo, merged by any fusion on the way down.

    The last of the stages is brought to C channels by a 1x1 convolution; then each map is the fusion of the stage's
    own, brought to C channels, and of the map above it, resized (:class:`gluon_aff.AlignedFusion`). A 3x3 convolution
    ends each level. 'add' makes the original, but that the maps are resized bilinearly.

    Parameters
    ----------
    backbone : model_zoo.Network
        Such as ``get_model('aff_resnet50', pretrained=True)``; its stages become part of the pyramid, as they are.
    stages : sequence of int, default (1, 2, 3, 4)
        Two stages of it or more, rising; 1 to 4 of an ImageNet network are 1/4 to 1/32 of the input's size, C2 to C5.
    channels : int, default 256
        C.
    fusion : str or callable, default 'aff'
        x is the stage's own map, y the one from above.
    reduction : int, default 4
    p6 : bool, default False
        One more level, every second pixel of the last, as for Faster R-CNN's anchors.
    norm_layer, norm_kwargs : the normalisation of the fusions.

    Input (N, 3, H, W), each side at least the backbone's `min_size`; output a list of (N, C, H_i, W_i), the largest map
    first. The backbone may be initialised; ``pyramid.initialize()`` leaves such parameters as they are, with a warning.

    Raises
    ------
    ValueError
        For stages that the backbone has not, or that do not rise, an unknown fusion, or a number out of its range.
    """

    head_name = 'lateral'

    def __init__(
        self,
        backbone,
        stages=(1, 2, 3, 4),
        channels=256,
        fusion='aff',
        reduction=4,
        p6=False,
        norm_layer=nn.BatchNorm,
        norm_kwargs=None,
        prefix=None,
        params=None,
    ):
        if not isinstance(backbone, StagedNetwork):
            raise ValueError(
                f'backbone must be a network of the zoo, as get_model gives it, got a {type(backbone).__name__}.'
            )
        super().__init__(backbone.in_channels, prefix=prefix, params=params)
        known, self._wanted = backbone.stages(), list(stages)
        if len(self._wanted) < 2 or self._wanted != [n for n in range(len(known)) if n in self._wanted]:
            raise ValueError(
                f'stages must be two or more rising numbers of the stages of {type(backbone).__name__}, '
                f'0 to {len(known) - 1}, got {stages!r}.'
            )
        self.min_size = backbone.min_size
        with self.name_scope():
            self.backbone, self.merges, self.smooth = (nn.HybridSequential(prefix='') for _ in range(3))
            # Only what the pyramid uses, so that a Trainer finds a gradient for every parameter.
            for layers in known[: self._wanted[-1] + 1]:
                stage = nn.HybridSequential(prefix='')
                stage.add(*layers)
                self.backbone.add(stage)
            self.lateral = nn.Conv2D(positive('channels', channels), 1, use_bias=False)
            for _ in self._wanted[1:]:
                self.merges.add(AlignedFusion(channels, 0, fusion, reduction, norm_layer, norm_kwargs))
            for _ in self._wanted:
                self.smooth.add(conv3x3(channels, channels))
            self.p6 = nn.MaxPool2D(1, 2) if p6 else None

    def stages(self):
        return [list(stage) for stage in self.backbone]

    def hybrid_forward(self, F, x):
        *lows, top = self.stage_outputs(x, self._wanted)
        levels = [self.lateral(top)]
        for merge, low in zip(self.merges, reversed(lows)):
            levels.append(merge(low, levels[-1]))
        levels = [smooth(level) for smooth, level in zip(self.smooth, levels)][::-1]
        return levels + ([self.p6(levels[-1])] if self.p6 else [])
