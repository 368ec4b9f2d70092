"""FPN and U-Net as PyTorch modules, with the parameter names of :mod:`model_zoo.hosts`.

References: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017; Ronneberger et al., "U-Net:
Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015; Dai et al., "Attentional Feature Fusion", WACV
2021.
"""

from __future__ import annotations

from functools import partial
from typing import Callable, Sequence

from torch import Tensor, nn

from .cifar_modules import conv3x3, make_trunk
from .fusion_modules import AlignedFusion

__all__ = ['FPN', 'Segmentation', 'UNet']


def conv_norm_relu(in_channels, channels):
    """3x3 convolution, normalisation and ReLU, as a list of layers."""
    return [conv3x3(in_channels, channels), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


class Segmentation(nn.Module):
    """Base of the networks that classify each pixel: the maps of a pre-activation ResNet, a decoder, a 1x1 convolution.

    Input (N, in_channels, H, W) with H, W >= 3; output (N, classes, H, W), logits.

    Parameters
    ----------
    layers : sequence of int
        Number of blocks in each of the three stages.
    classes, width, fusion, reduction, final_drop, in_channels
        As in :class:`model_zoo.hosts.segmentation_network.SegmentationNetwork`.

    Raises
    ------
    ValueError
        For an unknown fusion, or a reduction that does not divide its channels.
    """

    head_name = 'classifier'

    def __init__(
        self,
        layers: Sequence[int],
        classes: int = 2,
        *,
        width: int = 1,
        fusion: str | Callable = 'aff',
        reduction: int = 4,
        final_drop: float = 0.0,
        in_channels: int = 3,
    ):
        super().__init__()
        trunk, channels = make_trunk(layers, width, 'add', reduction, 1, in_channels)
        self.features = nn.Sequential(*trunk)
        self.taps = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(count), nn.ReLU(inplace=True)) for count in channels)
        merges, tail = self.make_decoder(channels, partial(AlignedFusion, fusion=fusion, reduction=reduction))
        self.merges = nn.ModuleList(merges)
        self.tail = nn.Sequential(*tail, *([nn.Dropout(final_drop)] if final_drop else []))
        self.classifier = nn.Conv2d(channels[0], classes, 1)

    def make_decoder(self, channels: list[int], align: Callable) -> tuple[list[nn.Module], list[nn.Module]]:
        """Modules (low-level map, high-level map) -> map, the lowest resolution first, and the layers that follow."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        norm, stem, *stages = self.features
        x, maps = stem(norm(x)), []
        for stage, tap in zip(stages, self.taps):
            x = stage(x)
            maps.append(tap(x))
        *lows, y = maps
        for merge, low in zip(self.merges, reversed(lows)):
            y = merge(low, y)
        return self.classifier(self.tail(y))


class FPN(Segmentation):
    """Segmentation by a feature pyramid: from the last stage down, each map is fused with the one below it.

    Input (N, in_channels, H, W) with H, W >= 3; output (N, classes, H, W), logits. Options: see :class:`Segmentation`.
    """

    def make_decoder(self, channels, align):
        *lows, top = channels
        return [align(top, low) for low in reversed(lows)], conv_norm_relu(top, channels[0])


class UpBlock(nn.Module):
    """Fusion of a low-level and a high-level map, and two 3x3 convolutions to the channels of the low-level one."""

    def __init__(self, channels, in_channels, align):
        super().__init__()
        self.merge = align(channels, in_channels)
        self.body = nn.Sequential(*conv_norm_relu(channels, in_channels), *conv_norm_relu(in_channels, in_channels))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.body(self.merge(x, y))


class UNet(Segmentation):
    """Segmentation by a U-Net: from the last stage up, each map is fused with that of the stage before and convolved.

    Input (N, in_channels, H, W) with H, W >= 3; output (N, classes, H, W), logits. Options: see :class:`Segmentation`.
    """

    def make_decoder(self, channels, align):
        pairs = list(zip(channels[1:], channels))
        return [UpBlock(high, low, align) for high, low in reversed(pairs)], []
