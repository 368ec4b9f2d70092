"""ImageNet ResNets with the addition of each block replaced by a fusion, laid out as GluonCV's resnet*_v1d.

References: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; He et al., "Bag of Tricks", CVPR 2019
(the deep stem and average-pool shortcuts of v1d); Dai et al., "Attentional Feature Fusion", WACV 2021.
"""
from __future__ import annotations

from functools import partial

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .network import (Network, check_drop, check_start_stage, make_downsample, make_fusion, make_norm, make_stem,
                      stage_plan)
from .registry import IMAGENET, register_model

__all__ = ['Bottleneck', 'ResNet']


class Bottleneck(HybridBlock):
    """1x1, 3x3 (with the stride), 1x1 convolutions to 4 x planes channels, fused with the shortcut.

    Parameters
    ----------
    planes, in_channels, stride : int
    norm, fuse : callable
        What makes a normalisation (from in_channels) and a fusion (from channels).
    dilation : int, default 1
        Of the 3x3 convolution.
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

    def __init__(self, planes, in_channels, stride, norm, fuse, dilation=1, downsample=None, last_gamma=False,
                 prefix=None, params=None):
        super().__init__(prefix=prefix, params=params)
        channels = 4 * planes
        with self.name_scope():
            self.conv1 = nn.Conv2D(planes, 1, use_bias=False, in_channels=in_channels)
            self.bn1 = norm(in_channels=planes)
            self.relu1 = nn.Activation('relu')
            self.conv2 = nn.Conv2D(planes, 3, stride, padding=dilation, dilation=dilation, use_bias=False,
                                   in_channels=planes)
            self.bn2 = norm(in_channels=planes)
            self.relu2 = nn.Activation('relu')
            self.conv3 = nn.Conv2D(channels, 1, use_bias=False, in_channels=planes)
            self.bn3 = norm(in_channels=channels, **({'gamma_initializer': 'zeros'} if last_gamma else {}))
            self.downsample = downsample
            self.attention = fuse(channels)
            self.relu3 = nn.Activation('relu')

    def hybrid_forward(self, F, x):
        body = self.relu1(self.bn1(self.conv1(x)))
        body = self.relu2(self.bn2(self.conv2(body)))
        body = self.bn3(self.conv3(body))
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
    dilated : bool, default False
        Keep stages 3 and 4 at 1/8 of the input's resolution, by dilation.
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

    Input (N, 3, H, W) with H, W >= 17, odd sizes included; output (N, classes), logits.

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

    def __init__(self, layers, classes=1000, fusion='aff', reduction=16, start_stage=3, dilated=False,
                 norm_layer=nn.BatchNorm, norm_kwargs=None, use_global_stats=False, last_gamma=False, deep_stem=True,
                 stem_width=32, avg_down=True, final_drop=0.0, in_channels=3, prefix=None, params=None):
        super().__init__(classes, in_channels, prefix=prefix, params=params)
        check_start_stage(start_stage, layers, stages=4)
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
            self.maxpool = nn.MaxPool2D(3, 2, 1)
            for stage, (blocks, plan) in enumerate(zip(layers, stage_plan(dilated)), start=1):
                planes = 32 << stage
                stride, first_dilation, dilation = plan
                fuse = make_fusion(fusion, reduction, norm, stage, start_stage)
                layer = nn.HybridSequential(prefix=f'layer{stage}_')
                with layer.name_scope():
                    for block in range(blocks):
                        first = block == 0
                        layer.add(Bottleneck(
                            planes, channels, stride if first else 1, norm, fuse,
                            first_dilation if first else dilation,
                            make_downsample(4 * planes, channels, stride, norm, avg_down) if first else None,
                            last_gamma))
                        channels = 4 * planes
                setattr(self, f'layer{stage}', layer)
            # Not gluon_aff's GlobalAvgPool, for outputs that are GluonCV's to the last bit.
            self.avgpool = nn.GlobalAvgPool2D()
            self.flat = nn.Flatten()
            self.drop = nn.Dropout(final_drop) if check_drop(final_drop) else None
            self.fc = nn.Dense(self.classes, in_units=channels)

    def stages(self):
        return [[self.conv1, self.bn1, self.relu, self.maxpool],
                [self.layer1], [self.layer2], [self.layer3], [self.layer4]]

    def hybrid_forward(self, F, x):
        x = self.stage_outputs(x, [4])[0]
        x = self.flat(self.avgpool(x))
        if self.drop:
            x = self.drop(x)
        return self.fc(x)


LAYERS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

for _fusion in ('add', 'aff', 'iaff'):
    for _depth, _layers in LAYERS.items():
        register_model(f'{_fusion}_resnet{_depth}', family='ResNet', dataset=IMAGENET,
                       source=f'AFF paper, section 4; host: resnet{_depth}_v1d of GluonCV')(
            partial(ResNet, _layers, fusion=_fusion))
