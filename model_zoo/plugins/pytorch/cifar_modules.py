"""The networks for small images as PyTorch modules, with the parameter names of :mod:`model_zoo.hosts`.

References: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016; Xie et al., "Aggregated Residual
Transformations for Deep Neural Networks", CVPR 2017; Dai et al., "Attentional Feature Fusion", WACV 2021.
"""

from __future__ import annotations

from functools import partial
from typing import Callable, Sequence

import torch
from torch import Tensor, nn

from .fusion_modules import Add, get_fusion

__all__ = ['CifarResNeXt', 'CifarResNet', 'FeatureClassifier', 'InceptionResNet']


def conv3x3(in_channels: int, channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """3x3 convolution without bias, padded by 1."""
    return nn.Conv2d(in_channels, channels, 3, stride, 1, groups=groups, bias=False)


def make_downsample(in_channels, channels, stride):
    """An average pool that rounds up, and a 1x1 convolution."""
    pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
    return nn.Sequential(pool, nn.Conv2d(in_channels, channels, 1, bias=False))


def make_fuse(fusion, reduction, stage, start_stage):
    """What makes the fusions of a stage, from channels: addition before start_stage."""
    return Add if stage < start_stage else partial(get_fusion(fusion), reduction=reduction)


class Inception(nn.Module):
    """A 3x3 and a 5x5 convolution of one map, fused; the 5x5 one is a 3x3 with dilation 2 unless true_5x5."""

    def __init__(self, in_channels, channels, fuse, true_5x5):
        super().__init__()
        span = {'kernel_size': 5} if true_5x5 else {'kernel_size': 3, 'dilation': 2}
        self.conv3 = conv3x3(in_channels, channels)
        self.conv5 = nn.Conv2d(in_channels, channels, padding=2, bias=False, **span)
        self.fuse = fuse(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fuse(self.conv3(x), self.conv5(x))


class PreActBlock(nn.Module):
    """Two times normalisation, ReLU and 3x3 convolution, fused with the shortcut; `second` is the second of these."""

    def __init__(self, in_channels, channels, stride, fuse, second=None):
        super().__init__()
        self.resfwd = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            conv3x3(in_channels, channels, stride),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            second or conv3x3(channels, channels),
        )
        changes = stride != 1 or channels != in_channels
        self.downsample = make_downsample(in_channels, channels, stride) if changes else None
        self.attention = fuse(channels)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.attention.residual(self.resfwd(x), shortcut)


def inception_block(in_channels, channels, stride, fuse, true_5x5):
    """A block with an Inception module, in which `fuse` fuses, as its second convolution; the shortcut is added."""
    return PreActBlock(in_channels, channels, stride, Add, Inception(channels, channels, fuse, true_5x5))


class InputNorm(nn.BatchNorm2d):
    """The input's normalisation, without scale and shift.

    As in MXNet, which never updates its running statistics and takes any scale in a file for 1.
    """

    def __init__(self, channels):
        super().__init__(channels, momentum=0.0)
        self.requires_grad_(False)
        self.register_load_state_dict_pre_hook(_reset_scale)


def _reset_scale(module, state_dict, prefix, *_):
    if prefix + 'weight' in state_dict:
        state_dict[prefix + 'weight'] = torch.ones_like(state_dict[prefix + 'weight'])


def make_trunk(layers, width, fusion, reduction, start_stage, in_channels, block=PreActBlock):
    """Stem and stages of 16, 32, 64, ... x width channels, and the channels of each stage."""
    channels = [16 * width << stage for stage in range(len(layers))]
    trunk = [InputNorm(in_channels), conv3x3(in_channels, channels[0])]
    before = channels[0]
    for stage, (blocks, after) in enumerate(zip(layers, channels), start=1):
        fuse = make_fuse(fusion, reduction, stage, start_stage)
        first = block(before, after, 1 if stage == 1 else 2, fuse)
        trunk.append(nn.Sequential(first, *(block(after, after, 1, fuse) for _ in range(blocks - 1))))
        before = after
    return trunk, channels


class FeatureClassifier(nn.Module):
    """Base of the classifiers: `features`, which end in a pool, flattening and dropout, and `output`, a linear layer.

    Input (N, in_channels, H, W) with H, W >= 3; output (N, classes), logits.

    Parameters
    ----------
    features : sequence of torch.nn.Module
        The layers before the pool.
    channels, classes : int
    final_drop : float, default 0
        Dropout ratio before the linear layer.
    """

    head_name = 'output'

    def __init__(self, features: Sequence[nn.Module], channels: int, classes: int, *, final_drop: float = 0.0):
        super().__init__()
        drop = [nn.Dropout(final_drop)] if final_drop else []
        self.features = nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *drop)
        self.output = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.features(x))

    def reset_classifier(self, classes: int) -> None:
        """Replace the linear layer by a new one with `classes` outputs, on its device and of its type."""
        weight = self.output.weight
        self.output = nn.Linear(weight.shape[1], classes, device=weight.device, dtype=weight.dtype)


class CifarResNet(FeatureClassifier):
    """Pre-activation ResNet for small images: a 3x3 stem, three stages of basic blocks, average pool, linear layer.

    Input (N, in_channels, H, W) with H, W >= 3; output (N, classes), logits.

    Parameters
    ----------
    layers : sequence of int
        Number of blocks in each of the three stages.
    classes, width, fusion, reduction, start_stage, final_drop, in_channels
        As in :class:`model_zoo.hosts.cifar_resnet.CifarResNet`.
    block : callable, default PreActBlock
        Makes a block, from the arguments of PreActBlock.

    Raises
    ------
    ValueError
        For an unknown fusion, or a reduction that does not divide its channels.
    """

    def __init__(
        self,
        layers: Sequence[int],
        classes: int = 100,
        *,
        width: int = 4,
        fusion: str | Callable = 'aff',
        reduction: int = 4,
        start_stage: int = 1,
        final_drop: float = 0.0,
        in_channels: int = 3,
        block: Callable = PreActBlock,
    ):
        trunk, channels = make_trunk(layers, width, fusion, reduction, start_stage, in_channels, block)
        norm_relu = [nn.BatchNorm2d(channels[-1]), nn.ReLU(inplace=True)]
        super().__init__([*trunk, *norm_relu], channels[-1], classes, final_drop=final_drop)


class InceptionResNet(CifarResNet):
    """A CifarResNet with an Inception module as the second convolution of each block; `fusion` fuses its branches.

    Input (N, in_channels, H, W) with H, W >= 3; output (N, classes), logits.

    Parameters
    ----------
    layers, classes : see :class:`CifarResNet`
    true_5x5 : bool, default False
        Use 5x5 convolutions rather than 3x3 ones with dilation 2.
    **options
        The others of :class:`CifarResNet`.
    """

    def __init__(self, layers: Sequence[int], classes: int = 100, *, true_5x5: bool = False, **options):
        super().__init__(layers, classes, block=partial(inception_block, true_5x5=true_5x5), **options)


class ResNeXtBlock(nn.Module):
    """1x1, grouped 3x3 (with the stride) and 1x1 convolutions, fused with the shortcut."""

    def __init__(self, in_channels, width, channels, stride, groups, fuse):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            conv3x3(width, width, stride, groups),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.downsample = None
        if stride != 1 or channels != in_channels:
            self.downsample = make_downsample(in_channels, channels, stride).append(nn.BatchNorm2d(channels))
        self.attention = fuse(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.attention.residual(self.body(x), shortcut))


class CifarResNeXt(FeatureClassifier):
    """ResNeXt for small images: a 3x3 stem, three stages of grouped bottlenecks, average pool, linear layer.

    Input (N, in_channels, H, W) with H, W >= 3; output (N, classes), logits.

    Parameters
    ----------
    layers : sequence of int
        Number of blocks in each of the three stages.
    classes, width, cardinality, bottleneck_width, fusion, reduction, start_stage, final_drop, in_channels
        As in :class:`model_zoo.hosts.cifar_resnext.CifarResNeXt`.

    Raises
    ------
    ValueError
        For an unknown fusion, or a reduction that does not divide its channels.
    """

    def __init__(
        self,
        layers: Sequence[int],
        classes: int = 100,
        *,
        width: int = 4,
        cardinality: int = 32,
        bottleneck_width: int = 4,
        fusion: str | Callable = 'aff',
        reduction: int = 16,
        start_stage: int = 1,
        final_drop: float = 0.0,
        in_channels: int = 3,
    ):
        planes = before = 16 * width
        features = [conv3x3(in_channels, before), nn.BatchNorm2d(before), nn.ReLU(inplace=True)]
        for stage, blocks in enumerate(layers, start=1):
            fuse = make_fuse(fusion, reduction, stage, start_stage)
            block_width = cardinality * (planes * bottleneck_width // 64)
            layer = nn.Sequential()
            for number in range(blocks):
                stride = 2 if number == 0 and stage > 1 else 1
                layer.append(ResNeXtBlock(before, block_width, 4 * planes, stride, cardinality, fuse))
                before = 4 * planes
            features.append(layer)
            planes *= 2
        super().__init__(features, before, classes, final_drop=final_drop)
