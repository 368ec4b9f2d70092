"""Pre-activation ResNets for 32x32 images with the addition of each block replaced by a fusion.

References: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016; Dai et al., "Attentional Feature
Fusion", WACV 2021 (ResNet-20-b: b blocks a stage, depth 6b + 2).
"""

from __future__ import annotations

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from gluon_aff.errors import positive
from gluon_aff.layers.context import GlobalAvgPool

from .network import FeatureNetwork, check_drop, check_start_stage, make_downsample, make_fusion, make_norm

__all__ = ['CifarResNet', 'PreActBlock']


def conv3x3(channels, in_channels, stride=1):
    """3x3 convolution without bias that keeps the size but for the stride."""
    return nn.Conv2D(channels, 3, stride, 1, use_bias=False, in_channels=in_channels)


class PreActBlock(HybridBlock):
    """Twice normalisation, ReLU and 3x3 convolution (the first with the stride), fused with the shortcut.

    Parameters
    ----------
    channels, in_channels, stride : int
    norm, fuse : callable
        What makes a normalisation (from in_channels) and a fusion (from channels).
    second : callable, optional
        What makes the second convolution (from channels and in_channels).

    Input (N, in_channels, H, W); output (N, channels, ceil(H / stride), ceil(W / stride)).

    Raises
    ------
    ValueError
        If the fusion's reduction does not divide its channels.
    """

    def __init__(self, channels, in_channels, stride, norm, fuse, second=conv3x3, prefix=None, params=None):
        super().__init__(prefix=prefix, params=params)
        with self.name_scope():
            # The released files name the body so.
            self.resfwd = nn.HybridSequential(prefix='')
            self.resfwd.add(
                norm(in_channels=in_channels),
                nn.Activation('relu'),
                conv3x3(channels, in_channels, stride),
                norm(in_channels=channels),
                nn.Activation('relu'),
                second(channels, channels),
            )
            changes = stride != 1 or channels != in_channels
            self.downsample = make_downsample(channels, in_channels, stride) if changes else None
            self.attention = fuse(channels)

    def hybrid_forward(self, F, x):
        identity = self.downsample(x) if self.downsample else x
        return self.attention.residual(self.resfwd(x), identity)


def make_trunk(layers, width, norm, fusion, reduction=4, start_stage=1, in_channels=3, block=PreActBlock):
    """Layers of the stem and of the stages, 16, 32, 64, ... x width channels; and the channels of each stage.

    `block` makes a block as :class:`PreActBlock` does.
    """
    check_start_stage(start_stage, layers)
    channels = [16 * positive('width', width) << stage for stage in range(len(layers))]
    # The input's norm as in the released networks. MXNet moves a norm's running statistics in its backward pass, which
    # never reaches this one, so in inference it passes the images on: normalise them beforehand.
    trunk = [norm(in_channels=in_channels, scale=False, center=False), conv3x3(channels[0], in_channels)]
    before = channels[0]
    for stage, (blocks, here) in enumerate(zip(layers, channels), start=1):
        fuse = make_fusion(fusion, reduction, norm, stage, start_stage)
        layer = nn.HybridSequential(prefix=f'stage{stage}_')
        with layer.name_scope():
            layer.add(block(here, before, 1 if stage == 1 else 2, norm, fuse))
            for _ in range(blocks - 1):
                layer.add(block(here, here, 1, norm, fuse))
        trunk.append(layer)
        before = here
    return trunk, channels


class CifarResNet(FeatureNetwork):
    """Pre-activation ResNet for small images: a 3x3 stem, three stages of basic blocks, average pool, dense layer.

    Parameters
    ----------
    layers : sequence of int
        Number of blocks in each of the three stages.
    classes : int, default 100
    width : int, default 4
        The stages have 16, 32, 64 x width channels, the stem as many as the first.
    reduction : int, default 4
    start_stage : int, default 1
        The stage (1 to 3) from which on `fusion` fuses; before it blocks add.
    fusion, norm_layer, norm_kwargs, use_global_stats, final_drop, in_channels : see
        :class:`model_zoo.hosts.resnet.ResNet`.
    block : callable, default PreActBlock
        What makes a block, with the arguments of :class:`PreActBlock`.

    Input (N, 3, H, W) with H, W >= 3; output (N, classes), logits.

    Attributes
    ----------
    features, output : as in GluonCV's CIFARResNetV2.

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
        fusion='aff',
        reduction=4,
        start_stage=1,
        norm_layer=nn.BatchNorm,
        norm_kwargs=None,
        use_global_stats=False,
        final_drop=0.0,
        in_channels=3,
        block=PreActBlock,
        prefix=None,
        params=None,
    ):
        super().__init__(classes, in_channels, prefix=prefix, params=params)
        norm = make_norm(norm_layer, norm_kwargs, use_global_stats)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix='')
            trunk, channels = make_trunk(layers, width, norm, fusion, reduction, start_stage, in_channels, block)
            self.features.add(
                *trunk, norm(in_channels=channels[-1]), nn.Activation('relu'), GlobalAvgPool(), nn.Flatten()
            )
            if check_drop(final_drop):
                self.features.add(nn.Dropout(final_drop))
            self.output = nn.Dense(self.classes, in_units=channels[-1])
