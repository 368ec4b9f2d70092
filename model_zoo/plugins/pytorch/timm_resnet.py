"""timm's ResNet with the addition of each block replaced by a fusion.

timm's class stays as it is, so that all that timm does with a ResNet (feature maps, other heads, freezing, its training
scripts) works. The parameter names are those that :mod:`model_zoo.weights.torch_names` gives to our networks.

Reference: Dai et al., "Attentional Feature Fusion", WACV 2021.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Sequence

from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from .fusion_modules import get_fusion

__all__ = ['FusionBasicBlock', 'FusionBottleneck', 'timm_arguments']


class FusingBlock(nn.Module):
    """Base of timm's blocks with a fusion, `attention`, in place of the addition; it stands before timm's class.

    Parameters
    ----------
    inplanes, planes, *arguments, **options
        As in timm.
    fuse : callable
        Makes a fusion, from channels and norm_layer.
    """

    expansion: int

    def __init__(self, inplanes: int, planes: int, *arguments: Any, fuse: Callable, **options: Any):
        super().__init__(inplanes, planes, *arguments, **options)
        fusion = fuse(planes * self.expansion, norm_layer=options.get('norm_layer') or nn.BatchNorm2d)
        self.attention = fusion.to(device=options.get('device'), dtype=options.get('dtype'))

    def fuse_shortcut(self, body: Tensor, shortcut: Tensor) -> Tensor:
        """Fuse the two branches, after timm's gate and stochastic depth of the first."""
        if self.se is not None:
            body = self.se(body)
        if self.drop_path is not None:
            body = self.drop_path(body)
        return self.attention.residual(body, shortcut)


class FusionBasicBlock(FusingBlock, BasicBlock):
    """timm's basic block with a fusion in place of the addition.

    Input (N, inplanes, H, W); output (N, planes, ceil(H / stride), ceil(W / stride)).

    Parameters
    ----------
    inplanes, planes, *arguments, fuse, **options
        See :class:`FusingBlock`.
    """

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.aa(self.act1(self.drop_block(self.bn1(self.conv1(x)))))
        x = self.bn2(self.conv2(x))
        return self.act2(self.fuse_shortcut(x, shortcut))


class FusionBottleneck(FusingBlock, Bottleneck):
    """timm's bottleneck with a fusion in place of the addition.

    Input (N, inplanes, H, W); output (N, 4 * planes, ceil(H / stride), ceil(W / stride)).

    Parameters
    ----------
    inplanes, planes, *arguments, fuse, **options
        See :class:`FusingBlock`.
    """

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.aa(self.act2(self.drop_block(self.bn2(self.conv2(x)))))
        x = self.bn3(self.conv3(x))
        return self.act3(self.fuse_shortcut(x, shortcut))


def timm_arguments(
    layers: Sequence[int],
    *,
    fusion: str | Callable = 'aff',
    reduction: int = 16,
    start_stage: int = 3,
    deep_stem: bool = True,
    stem_width: int = 32,
    avg_down: bool = True,
    cardinality: int = 1,
    bottleneck_width: int = 64,
    bottleneck: bool = True,
) -> dict[str, Any]:
    """The arguments of :class:`timm.models.resnet.ResNet` that build a network of :mod:`model_zoo.hosts`.

    Parameters
    ----------
    layers, fusion, reduction, start_stage, deep_stem, stem_width, avg_down, bottleneck
        As in :class:`model_zoo.hosts.resnet.ResNet`.
    cardinality, bottleneck_width : int, default 1, 64
        Groups of the 3x3 convolution, and channels of each at 64 planes.

    Returns
    -------
    dict of str to object

    Raises
    ------
    ValueError
        For an unknown fusion.
    """
    plain, fused = (Bottleneck, FusionBottleneck) if bottleneck else (BasicBlock, FusionBasicBlock)
    fusing: Any = partial(fused, fuse=partial(get_fusion(fusion), reduction=reduction))
    fusing.expansion = fused.expansion  # which timm asks the block for
    return {
        'block': tuple(plain if fusion == 'add' or stage < start_stage else fusing for stage in range(1, 5)),
        'layers': tuple(layers),
        'stem_type': 'deep' if deep_stem else '',
        'stem_width': stem_width if deep_stem else 64,
        'avg_down': avg_down,
        'cardinality': cardinality,
        'base_width': bottleneck_width,
    }
