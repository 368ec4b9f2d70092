"""What the segmentation networks have in common: a pre-activation ResNet's maps, a decoder, a head for each pixel.

Reference: Dai et al., "Attentional Feature Fusion", WACV 2021 (ResNet-20-b with fusion in its long skip connections).
"""

from __future__ import annotations

from functools import partial

from mxnet.gluon import nn

from gluon_aff.layers.aligned import AlignedFusion

from .cifar_resnet import conv3x3, make_trunk
from .network import FeatureNetwork, check_drop, make_norm

__all__ = ['SegmentationNetwork']


def conv_norm_relu(channels, in_channels, norm):
    """3x3 convolution, normalisation and ReLU, as a list of layers."""
    return [conv3x3(channels, in_channels), norm(in_channels=channels), nn.Activation('relu')]


class SegmentationNetwork(FeatureNetwork):
    """Base of the networks that classify each pixel.

    The stem and the three stages are those of :class:`model_zoo.hosts.cifar_resnet.CifarResNet`, with the same
    parameter names; their blocks add. Behind each stage stand the normalisation and the ReLU that end a pre-activation
    network.
    A subclass says in `make_decoder` how the maps of the stages, which have the whole of the input's size, a half and a
    quarter, become one.

    Parameters
    ----------
    layers : sequence of int
        Number of blocks in each of the three stages.
    classes : int, default 2
        Background and stop sign.
    width : int, default 1
        The stages have 16, 32, 64 x width channels. The paper's ablations have width 1; width 4, which the networks
        for 32x32 images have, takes sixteen times the work, at the whole of the input's size.
    fusion : str or callable, default 'aff'
        Of the long skip connections: x is the low-level map, y the high-level one.
    reduction : int, default 4
    norm_layer, norm_kwargs, use_global_stats, in_channels : see :class:`model_zoo.hosts.resnet.ResNet`.
    final_drop : float, default 0
        Dropout ratio in front of the last convolution.

    Input (N, 3, H, W) with H, W >= 3, odd sizes included; output (N, classes, H, W), logits.

    Raises
    ------
    ValueError
        For an unknown fusion, or a number out of its range.
    """

    # Not `output`, so that a trained ResNet's file starts the features (get_model's allow_missing and ignore_extra).
    head_name = 'classifier'
    min_size = 3

    def __init__(
        self,
        layers,
        classes=2,
        width=1,
        fusion='aff',
        reduction=4,
        norm_layer=nn.BatchNorm,
        norm_kwargs=None,
        use_global_stats=False,
        final_drop=0.0,
        in_channels=3,
        prefix=None,
        params=None,
    ):
        super().__init__(classes, in_channels, prefix=prefix, params=params)
        norm = make_norm(norm_layer, norm_kwargs, use_global_stats)
        align = partial(AlignedFusion, fusion=fusion, reduction=reduction, norm_layer=norm)
        with self.name_scope():
            self.features, self.taps, self.merges, self.tail = (nn.HybridSequential(prefix='') for _ in range(4))
            trunk, channels = make_trunk(layers, width, norm, 'add', in_channels=in_channels)
            self.features.add(*trunk)
            for here in channels:
                tap = nn.HybridSequential(prefix='')
                tap.add(norm(in_channels=here), nn.Activation('relu'))
                self.taps.add(tap)
            merges, tail = self.make_decoder(channels, align, norm)
            self.merges.add(*merges)
            self.tail.add(*tail)
            if check_drop(final_drop):
                self.tail.add(nn.Dropout(final_drop))
            self.classifier = nn.Conv2D(self.classes, 1, in_channels=channels[0])

    def make_decoder(self, channels, align, norm):
        """Blocks (low-level map, high-level map) -> map, the lowest resolution first, and the layers behind them.

        Parameters
        ----------
        channels : list of int
            Of the stages. As many as of the first must come out at the end.
        align, norm : callable
            What makes an AlignedFusion (from channels and in_channels) and a normalisation (from in_channels).
        """
        raise NotImplementedError

    def hybrid_forward(self, F, x):
        stages = range(1, 1 + len(self.taps))
        *lows, y = [tap(m) for tap, m in zip(self.taps, self.stage_outputs(x, stages))]
        for merge, low in zip(self.merges, reversed(lows)):
            y = merge(low, y)
        return self.classifier(self.tail(y))
