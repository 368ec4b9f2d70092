"""The ResNets that the AFF paper compares itself with, and the SK and SE networks that it builds on.

Each is GluonCV's resnet*_v1b, the comparison's baseline, with an attention of gluon_aff.layers.comparators in its
place, and takes what :class:`model_zoo.hosts.resnet.ResNet` takes, `fusion` included; images (N, 3, H, W) to logits
(N, classes). The stride is on the 3x3 convolution in all of them. Raises as ResNet does.

References: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, and those of the attentions.
"""

from __future__ import annotations

from mxnet.gluon import nn

from gluon_aff.layers.comparators import ECA, LIP, SE, AAConv, GatherExcite, SharedLIP, SKConv

from .resnet import ResNet

__all__ = ['AAResNet', 'ECAResNet', 'GEResNet', 'LIPResNet', 'SEResNet', 'SKResNet']


class SEResNet(ResNet):
    """SE-ResNet: squeeze-and-excitation, reduction 16, in every block.

    Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018. The authors' Caffe files have the stride on the first 1x1
    convolution: as many parameters, 0.23 G multiply-adds less at 101 layers.
    """

    def make_gate(self, place):
        return SE(place.channels)


class ECAResNet(ResNet):
    """ECA-Net: efficient channel attention in every block, with the kernel sizes of the released 101-layer network.

    Wang et al., "ECA-Net", CVPR 2020. The released sizes, 3, 3, 5 and 7 by stage, are not those of the paper's equation
    12, which are 5, 5, 5 and 7.
    """

    def make_gate(self, place):
        return ECA(place.channels, (3, 3, 5, 7)[place.stage - 1])


class GEResNet(ResNet):
    """Gather-excite network, GE-theta+ with global extent in every block.

    Hu et al., "Gather-Excite", NeurIPS 2018. The gathering kernels are as large as the maps, so the network takes
    images of `input_size` only. Only the 50-layer network was released; this is its block, with the stride on the 3x3
    convolution rather than on the first 1x1.
    """

    needs_input_size = True

    def make_gate(self, place):
        return GatherExcite(place.channels, place.size, norm_layer=place.norm)


class AAResNet(ResNet):
    """AA-ResNet: attention-augmented convolutions for the 3x3 ones of stages 2, 3 and 4; kappa = 0.2, upsilon = 0.1.

    Bello et al., "Attention Augmented Convolutional Networks", ICCV 2019: 8 heads of at least 20 key channels, relative
    positions. Their tables are as long as the maps, so the network takes images of `input_size` only.
    """

    needs_input_size = True

    def make_conv2(self, place):
        if place.stage == 1:
            return super().make_conv2(place)
        keys, values = (int(ratio * place.width) // 8 * 8 for ratio in (0.2, 0.1))
        return AAConv(
            place.width,
            max(8 * 20, keys),
            values,
            place.size,
            stride=place.stride,
            dilation=place.dilation,
            in_channels=place.width,
        )


class LIPResNet(ResNet):
    """LIP-ResNet, with bottleneck-128 logits: local importance pooling for all that halves a map but the first layer.

    Gao et al., "LIP: Local Importance-based Pooling", ICCV 2019: the stem's max-pool, and both branches of the first
    block of stages 2, 3 and 4, whose 3x3 convolution becomes a pool and a 1x1 one.
    """

    def make_pool(self, channels):
        return LIP(channels)

    def make_block_pool(self, place):
        if place.first and place.stage > 1:
            return SharedLIP(place.width, place.in_channels, stride=place.stride)

    def make_conv2(self, place):
        if place.first and place.stage > 1:
            return nn.Conv2D(place.width, 1, use_bias=False, in_channels=place.width)
        return super().make_conv2(place)


class SKResNet(ResNet):
    """SKNet: selective kernel convolutions of 32 groups, twice as wide as ResNet's 3x3 ones, in every block.

    Li et al., "Selective Kernel Networks", CVPR 2019.
    """

    width = 2
    norm_behind_conv2 = False  # its branches end in their own

    def make_conv2(self, place):
        return SKConv(place.width, stride=place.stride, dilation=place.dilation, norm_layer=place.norm)
