"""ImageNet ResNets with the addition of each block replaced by a fusion, laid out as GluonCV's resnet*_v1d.

References: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; He et al., "Bag of Tricks", CVPR 2019
(the deep stem and average-pool shortcuts of v1d); Dai et al., "Attentional Feature Fusion", WACV 2021.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from gluon_aff.errors import check_booleans, pair

from .network import (
    Network,
    check_drop,
    check_start_stage,
    make_downsample,
    make_fusion,
    make_norm,
    make_stem,
    stage_plan,
)

__all__ = ['Bottleneck', 'Place', 'ResNet']


class Place(NamedTuple):
    """Where a block stands: what the parts that vary from network to network are made from."""

    stage: int  # 1 to 4
    first: bool  # of its stage
    in_channels: int  # of the block
    width: int  # of conv2
    channels: int  # of the block's output
    stride: int
    dilation: int  # of conv2
    size: tuple[int, int] | None  # (H, W) of the block's output, in a network bound to one size of images
    norm: Callable  # makes a normalisation from in_channels


class Bottleneck(HybridBlock):
    """1x1, 3x3 (with the stride), 1x1 convolutions to 4 x planes channels, fused with the shortcut.

    Parameters
    ----------
    place : Place
    parts : ResNet
        Its hooks make what stands for the 3x3 convolution, and the gate behind the last normalisation.
    fuse : callable
        What makes a fusion, from channels.
    pool : HybridBlock, optional
        Halves what enters the 3x3 convolution and the shortcut, (body, x) -> (body, x).
    downsample : HybridBlock, optional
        The shortcut where the shape changes.
    last_gamma : bool, default False
        Start the last normalisation's gamma at zero.

    Input (N, C, H, W); output (N, 4 * planes, ceil(H / stride), ceil(W / stride)).

    Raises
    ------
    ValueError
        If the fusion's reduction does not divide its channels.
    """

    def __init__(self, place, parts, fuse, pool=None, downsample=None, last_gamma=False, prefix=None, params=None):
        super().__init__(prefix=prefix, params=params)
        norm = place.norm
        with self.name_scope():
            self.conv1 = nn.Conv2D(place.width, 1, use_bias=False, in_channels=place.in_channels)
            self.bn1 = norm(in_channels=place.width)
            self.relu1 = nn.Activation('relu')
            self.pool = pool
            self.conv2 = parts.make_conv2(place)
            self.bn2 = norm(in_channels=place.width) if parts.norm_behind_conv2 else None
            self.relu2 = nn.Activation('relu') if parts.norm_behind_conv2 else None
            self.conv3 = nn.Conv2D(place.channels, 1, use_bias=False, in_channels=place.width)
            self.bn3 = norm(in_channels=place.channels, **({'gamma_initializer': 'zeros'} if last_gamma else {}))
            self.gate = parts.make_gate(place)
            self.downsample = downsample
            self.attention = fuse(place.channels)
            self.relu3 = nn.Activation('relu')

    def hybrid_forward(self, F, x):
        body = self.relu1(self.bn1(self.conv1(x)))
        if self.pool:
            body, x = self.pool(body, x)
        body = self.conv2(body)
        if self.bn2:
            body = self.relu2(self.bn2(body))
        body = self.bn3(self.conv3(body))
        if self.gate:
            body = self.gate(body)
        identity = self.downsample(x) if self.downsample else x
        return self.relu3(self.attention.residual(body, identity))


class ResNet(Network):
    """ResNet for ImageNet-like images: a stem, four stages of bottlenecks, average pool, dense layer.

    Parameters
    ----------
    layers : sequence of int
        Number of blocks in each stage.
    classes : int, default 1000
    fusion : str or callable, default 'aff'
        Name in :data:`gluon_aff.FUSIONS`, or what makes a fusion block.
    reduction : int, default 16
        Of the attentional fusions' contexts.
    start_stage : int, default 3
        The stage (1 to 4) from which on `fusion` fuses; before it blocks add, as in the released networks.
    dilated : bool or int, default False
        True or 8: keep stages 3 and 4 at 1/8 of the input's resolution, by dilation. 16: keep stage 4 at 1/16.
    norm_layer, norm_kwargs : the normalisation and more arguments for it, default BatchNorm
    use_global_stats : bool, default False
        Normalise by the running statistics in training, too.
    last_gamma : bool, default False
        Start the gamma of each block's last normalisation at zero.
    deep_stem, stem_width : bool, int, default True, 32
        Three 3x3 convolutions of width w, w, 2w in place of the 7x7 one.
    avg_down : bool, default True
        Shortcuts downsample by an average pool in front of their 1x1 convolution, which is then not strided.
    final_drop : float, default 0
        Dropout ratio in front of the dense layer.
    in_channels : int, default 3
        Channels of the input; 0 takes them from the first one.
    input_size : int or (int, int), optional
        The only (H, W) that the network takes; by default it takes any. Networks with parameters for each place of a
        map, see :mod:`model_zoo.hosts.attention_resnet`, need it.

    Input (N, 3, H, W) with H, W >= 17, odd sizes included; output (N, classes), logits.

    A subclass varies the blocks by the four hooks `make_pool` to `make_gate`, and by `width` and
    `norm_behind_conv2`.

    Attributes
    ----------
    conv1, bn1, relu, maxpool, layer1, layer2, layer3, layer4, avgpool, flat, drop, fc : as in GluonCV's ResNetV1b.

    Raises
    ------
    ValueError
        For an unknown fusion, or a number out of its range.
    """

    head_name = 'fc'
    min_size = 17
    needs_input_size = False
    width = 1  # of conv2, in planes
    norm_behind_conv2 = True  # and ReLU

    def __init__(
        self,
        layers,
        classes=1000,
        fusion='aff',
        reduction=16,
        start_stage=3,
        dilated=False,
        norm_layer=nn.BatchNorm,
        norm_kwargs=None,
        use_global_stats=False,
        last_gamma=False,
        deep_stem=True,
        stem_width=32,
        avg_down=True,
        final_drop=0.0,
        in_channels=3,
        input_size=None,
        prefix=None,
        params=None,
    ):
        super().__init__(classes, in_channels, prefix=prefix, params=params)
        check_start_stage(start_stage, layers, stages=4)
        if input_size is not None or self.needs_input_size:
            self.input_size = pair('input_size', input_size)
            if min(self.input_size) < self.min_size:
                raise ValueError(f'input_size must be at least {self.min_size}, got {input_size!r}.')
        size = self.input_size and tuple(-(-side // 4) for side in self.input_size)
        check_booleans(last_gamma=last_gamma, avg_down=avg_down)
        norm = make_norm(norm_layer, norm_kwargs, use_global_stats)
        with self.name_scope():
            stem, channels = make_stem(deep_stem, stem_width, norm, in_channels)
            if deep_stem:
                self.conv1 = nn.HybridSequential(prefix='conv1_')
                self.conv1.add(*stem)
            else:
                self.conv1 = stem[0]
            self.bn1 = norm(in_channels=channels)
            self.relu = nn.Activation('relu')
            self.maxpool = self.make_pool(channels)
            for stage, (blocks, plan) in enumerate(zip(layers, stage_plan(dilated)), start=1):
                planes = 32 << stage
                stride, first_dilation, dilation = plan
                size = size and tuple(-(-side // stride) for side in size)
                fuse = make_fusion(fusion, reduction, norm, stage, start_stage)
                layer = nn.HybridSequential(prefix=f'layer{stage}_')
                with layer.name_scope():
                    for block in range(blocks):
                        first = block == 0
                        place = Place(
                            stage,
                            first,
                            channels,
                            self.width * planes,
                            4 * planes,
                            stride if first else 1,
                            first_dilation if first else dilation,
                            size,
                            norm,
                        )
                        pool = self.make_block_pool(place)
                        if pool:
                            place = place._replace(stride=1)
                        downsample = (
                            make_downsample(4 * planes, channels, place.stride, norm, avg_down) if first else None
                        )
                        layer.add(Bottleneck(place, self, fuse, pool, downsample, last_gamma))
                        channels = 4 * planes
                setattr(self, f'layer{stage}', layer)
            # Not gluon_aff's GlobalAvgPool, for outputs that are GluonCV's to the last bit.
            self.avgpool = nn.GlobalAvgPool2D()
            self.flat = nn.Flatten()
            self.drop = nn.Dropout(final_drop) if check_drop(final_drop) else None
            self.fc = nn.Dense(self.classes, in_units=channels)

    # GluonCV's script finetune_minc.py gives any network a new head as `output`.
    def __setattr__(self, name, value):
        super().__setattr__('fc' if name == 'output' else name, value)

    @property
    def output(self):
        """The dense layer `fc`, by the name that it has in other networks."""
        return self.fc

    def make_pool(self, channels):
        """What stands for the stem's max-pool."""
        return nn.MaxPool2D(3, 2, 1)

    def make_block_pool(self, place):
        """What halves both branches of a block, (body, x) -> (body, x), so that nothing else of it does, or None."""

    def make_conv2(self, place):
        """What stands for the 3x3 convolution of a block."""
        return nn.Conv2D(
            place.width,
            3,
            place.stride,
            padding=place.dilation,
            dilation=place.dilation,
            use_bias=False,
            in_channels=place.width,
        )

    def make_gate(self, place):
        """What recalibrates a block's body behind its last normalisation, or None."""

    def stages(self):
        return [
            [self.conv1, self.bn1, self.relu, self.maxpool],
            [self.layer1],
            [self.layer2],
            [self.layer3],
            [self.layer4],
        ]

    def hybrid_forward(self, F, x):
        x = self.stage_outputs(x, [4])[0]
        x = self.flat(self.avgpool(x))
        if self.drop:
            x = self.drop(x)
        return self.fc(x)
