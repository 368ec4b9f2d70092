"""Feature pyramids with the additions of their top-down path replaced by a fusion.

References: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017; Long et al., "Fully Convolutional
Networks for Semantic Segmentation", CVPR 2015 (the head); Dai et al., "Attentional Feature Fusion", WACV 2021
(ResNet-20-b + FPN).
"""

from __future__ import annotations

from typing import Callable, Sequence

from mxnet.gluon import ParameterDict, nn

from gluon_aff.errors import positive
from gluon_aff.layers.multi_input import AlignedFusion

from .cifar_resnet import conv3x3
from .network import StagedNetwork
from .segmentation_network import SegmentationNetwork, conv_norm_relu

__all__ = ['FPN', 'FeaturePyramid']


class FPN(SegmentationNetwork):
    """Segmentation by a feature pyramid: from the last stage down, each map is fused with the one below it.

    The low-level maps are expanded to the last stage's channels; before the head, a 3x3 convolution reduces these to a
    quarter, at the input's size. 'add' gives the original. Parameters, shapes and errors are those of
    :class:`model_zoo.hosts.segmentation_network.SegmentationNetwork`.
    """

    def make_decoder(self, channels, align, norm):
        *lows, top = channels
        return [align(top, low) for low in reversed(lows)], conv_norm_relu(channels[0], top, norm)


class FeaturePyramid(StagedNetwork):
    """Feature pyramid for detectors over any network of the zoo, with any fusion in its top-down path.

    A 1x1 convolution brings the last of the stages to C channels; every other level is the fusion of its stage's map,
    brought to C channels, and of the level above, resized (:class:`gluon_aff.AlignedFusion`). A 3x3 convolution ends
    each level. 'add' gives the original, except that maps are resized bilinearly.

    Input (N, 3, H, W), each side at least the backbone's `min_size`; output a list of (N, C, H_i, W_i), the largest map
    first. The backbone may be initialised; ``pyramid.initialize()`` leaves such parameters as they are, with a warning.

    Parameters
    ----------
    backbone : model_zoo.Network
        Such as ``get_model('aff_resnet50', pretrained=True)``; the pyramid shares its stages.
    stages : sequence of int, default (1, 2, 3, 4)
        Two or more of its stages, ascending; 1 to 4 of an ImageNet network have 1/4 to 1/32 of the input's size, C2 to
        C5.
    channels : int, default 256
        C.
    fusion : str or callable, default 'aff'
        x is the map of the stage, y the level above.
    reduction : int, default 4
    p6 : bool, default False
        Add a level, every second pixel of the last one, as for Faster R-CNN's anchors.
    norm_layer, norm_kwargs : the normalisation of the fusions.

    Raises
    ------
    ValueError
        For stages that the backbone lacks or that do not ascend, an unknown fusion, or a number out of its range.
    """

    head_name = 'lateral'

    def __init__(
        self,
        backbone: StagedNetwork,
        stages: Sequence[int] = (1, 2, 3, 4),
        channels: int = 256,
        fusion: str | Callable = 'aff',
        reduction: int = 4,
        p6: bool = False,
        norm_layer: Callable = nn.BatchNorm,
        norm_kwargs: dict | None = None,
        prefix: str | None = None,
        params: ParameterDict | None = None,
    ):
        if not isinstance(backbone, StagedNetwork):
            raise ValueError(
                f'backbone must be a network of the zoo, such as get_model returns, not a {type(backbone).__name__}.'
            )
        super().__init__(backbone.in_channels, prefix=prefix, params=params)
        known, self._numbers = backbone.stages(), list(stages)
        if len(self._numbers) < 2 or self._numbers != [n for n in range(len(known)) if n in self._numbers]:
            raise ValueError(
                f'stages must be two or more rising numbers of the stages of {type(backbone).__name__}, '
                f'0 to {len(known) - 1}, got {stages!r}.'
            )
        self.min_size = backbone.min_size
        with self.name_scope():
            self.backbone, self.merges, self.smooth = (nn.HybridSequential(prefix='') for _ in range(3))
            # Only the stages in use, so that every parameter of a Trainer has a gradient.
            for layers in known[: self._numbers[-1] + 1]:
                stage = nn.HybridSequential(prefix='')
                stage.add(*layers)
                self.backbone.add(stage)
            self.lateral = nn.Conv2D(positive('channels', channels), 1, use_bias=False)
            for _ in self._numbers[1:]:
                self.merges.add(AlignedFusion(channels, 0, fusion, reduction, norm_layer, norm_kwargs))
            for _ in self._numbers:
                self.smooth.add(conv3x3(channels, channels))
            self.p6 = nn.MaxPool2D(1, 2) if p6 else None

    def stages(self):
        return [list(stage) for stage in self.backbone]

    def hybrid_forward(self, F, x):
        *lows, top = self.stage_outputs(x, self._numbers)
        levels = [self.lateral(top)]
        for merge, low in zip(self.merges, reversed(lows)):
            levels.append(merge(low, levels[-1]))
        levels = [smooth(level) for smooth, level in zip(self.smooth, levels)][::-1]
        return levels + ([self.p6(levels[-1])] if self.p6 else [])
