"""Base of the segmentation networks: the maps of a pre-activation ResNet, a decoder, a head for each pixel.

Reference: Dai et al., "Attentional Feature Fusion", WACV 2021 (ResNet-20-b with fusion in its long skip connections).
"""

from __future__ import annotations

from functools import partial
from typing import Callable, Sequence

from mxnet.gluon import ParameterDict, nn

from gluon_aff.layers.multi_input import AlignedFusion

from .cifar_resnet import conv3x3, make_trunk
from .network import FeatureNetwork, check_drop, make_norm

__all__ = ['SegmentationNetwork']


def conv_norm_relu(channels, in_channels, norm):
    """3x3 convolution, normalisation and ReLU, as a list of layers."""
    return [conv3x3(channels, in_channels), norm(in_channels=channels), nn.Activation('relu')]


class SegmentationNetwork(FeatureNetwork):
    """Base of the networks that classify each pixel.

    The stem and the three stages are those of :class:`model_zoo.hosts.cifar_resnet.CifarResNet`, with the same
    parameter names; their blocks add. The normalisation and the ReLU that end a pre-activation network follow each
    stage. A subclass defines in `make_decoder` how the maps of the stages, at 1, 1/2 and 1/4 of the input's size, are
    merged.

    Input (N, 3, H, W) with H, W >= 3, odd sizes included; output (N, classes, H, W), logits.

    Parameters
    ----------
    layers : sequence of int
        Number of blocks in each of the three stages.
    classes : int, default 2
        Background and stop sign.
    width : int or float, default 1
        The stages have 16, 32, 64 x width channels. The paper's ablations use 1; 4, as in the networks for 32x32
        images, takes sixteen times the work, much of it at the input's size.
    fusion : str or callable, default 'aff'
        Fuses the long skip connections: x is the low-level map, y the high-level one.
    reduction : int, default 4
    norm_layer, norm_kwargs, use_global_stats, in_channels : see :class:`model_zoo.hosts.resnet.ResNet`.
    final_drop : float, default 0
        Dropout ratio before the last convolution.

    Raises
    ------
    ValueError
        For an unknown fusion, or a number out of its range.
    """

    # Not `output`, so that a ResNet's file initialises the features (with get_model's allow_missing and ignore_extra).
    head_name = 'classifier'
    min_size = 3

    def __init__(
        self,
        layers: Sequence[int],
        classes: int = 2,
        width: float = 1,
        fusion: str | Callable = 'aff',
        reduction: int = 4,
        norm_layer: Callable = nn.BatchNorm,
        norm_kwargs: dict | None = None,
        use_global_stats: bool = False,
        final_drop: float = 0.0,
        in_channels: int = 3,
        prefix: str | None = None,
        params: ParameterDict | None = None,
    ):
        super().__init__(classes, in_channels, prefix=prefix, params=params)
        norm = make_norm(norm_layer, norm_kwargs, use_global_stats)
        align = partial(AlignedFusion, fusion=fusion, reduction=reduction, norm_layer=norm)
        with self.name_scope():
            # The names are those in parameter files; `taps` are the normalisations that follow the stages.
            self.features, self.taps, self.merges, self.tail = (nn.HybridSequential(prefix='') for _ in range(4))
            trunk, channels = make_trunk(layers, width, norm, 'add', in_channels=in_channels)
            self.features.add(*trunk)
            for stage_channels in channels:
                norm_relu = nn.HybridSequential(prefix='')
                norm_relu.add(norm(in_channels=stage_channels), nn.Activation('relu'))
                self.taps.add(norm_relu)
            merges, tail = self.make_decoder(channels, align, norm)
            self.merges.add(*merges)
            self.tail.add(*tail)
            if check_drop(final_drop):
                self.tail.add(nn.Dropout(final_drop))
            self.classifier = nn.Conv2D(self.classes, 1, in_channels=channels[0])

    def make_decoder(self, channels, align, norm):
        """Blocks (low-level map, high-level map) -> map, the lowest resolution first, and the layers that follow.

        Parameters
        ----------
        channels : list of int
            Of the stages; the output must have those of the first.
        align, norm : callable
            Make an AlignedFusion (from channels and in_channels) and a normalisation (from in_channels).
        """
        raise NotImplementedError

    def pool_layers(self):
        return []

    def forward_features(self, x):
        stages = range(1, 1 + len(self.taps))
        *lows, y = [norm_relu(m) for norm_relu, m in zip(self.taps, self.stage_outputs(x, stages))]
        for merge, low in zip(self.merges, reversed(lows)):
            y = merge(low, y)
        return self.tail(y)
