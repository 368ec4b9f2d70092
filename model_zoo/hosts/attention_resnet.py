"""ResNets that the AFF paper compares its networks with, and the SK and SE networks that it builds on.

Each is GluonCV's resnet*_v1b, the comparison's baseline, with an attention of gluon_aff.layers.comparators. It has the
parameters of :class:`model_zoo.hosts.resnet.ResNet`, including `fusion`, and its errors; input (N, 3, H, W), output
(N, classes), logits. All have the stride in the 3x3 convolution.

References: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, and those of the attentions.
"""

from __future__ import annotations

from mxnet.gluon import nn

from gluon_aff.layers.comparators import ECA, LIP, SE, AAConv, GatherExcite, SharedLIP, SKConv

from .resnet import ResNet

__all__ = ['AAResNet', 'ECAResNet', 'ECAResNet18', 'ECAResNet50', 'GEResNet', 'LIPResNet', 'SEResNet', 'SKResNet']


class SEResNet(ResNet):
    """SE-ResNet: squeeze-and-excitation, reduction 16 but to at least 8 channels, in every block.

    Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018; the basic blocks are timm's. The authors' Caffe files have
    the stride in the first 1x1 convolution: as many parameters, 0.23 G multiply-adds less at 101 layers.
    """

    def make_gate(self, config):
        return SE(config.channels, min(16, config.channels // 8))


class ECAResNet(ResNet):
    """ECA-Net: efficient channel attention in every block, with the kernel sizes of the released networks.

    Wang et al., "ECA-Net", CVPR 2020. The released sizes by stage are not those of the paper's equation 12, which are
    5, 5, 5 and 7 with 101 layers. These are the ones with 34, 101 and 152 layers.
    """

    kernel_sizes = (3, 3, 5, 7)

    def make_gate(self, config):
        return ECA(config.channels, self.kernel_sizes[config.stage - 1])


class ECAResNet18(ECAResNet):
    """ECA-Net with the kernel sizes of the released 18-layer network."""

    kernel_sizes = (3, 5, 7, 7)


class ECAResNet50(ECAResNet):
    """ECA-Net with the kernel sizes of the released 50-layer network."""

    kernel_sizes = (3, 5, 5, 7)


class GEResNet(ResNet):
    """Gather-excite network, GE-theta+ with global extent in every block.

    Hu et al., "Gather-Excite", NeurIPS 2018. The gathering kernels are as large as the maps, so the network takes
    images of `input_size` only. Only the 50-layer network was released; this is its block, with the stride in the 3x3
    convolution rather than in the first 1x1.
    """

    needs_input_size = True

    def make_gate(self, config):
        return GatherExcite(config.channels, config.size, norm_layer=config.norm)


class AAResNet(ResNet):
    """AA-ResNet: attention-augmented 3x3 convolutions in stages 2, 3 and 4; kappa = 0.2, upsilon = 0.1.

    Bello et al., "Attention Augmented Convolutional Networks", ICCV 2019: 8 heads of at least 20 key channels, relative
    positions. Their tables are as long as the maps, so the network takes images of `input_size` only.
    """

    needs_input_size = True

    def make_conv2(self, config):
        if config.stage == 1:
            return super().make_conv2(config)
        keys, values = (int(ratio * config.width) // 8 * 8 for ratio in (0.2, 0.1))
        return AAConv(
            config.width,
            max(8 * 20, keys),
            values,
            config.size,
            stride=config.stride,
            dilation=config.dilation,
            in_channels=self.conv2_channels(config),
        )


class LIPResNet(ResNet):
    """LIP-ResNet, with bottleneck-128 logits: local importance pooling wherever a map is halved after the first layer.

    Gao et al., "LIP: Local Importance-based Pooling", ICCV 2019: it replaces the stem's max-pool and the strides of
    both branches in the first block of stages 2, 3 and 4, whose 3x3 convolution becomes a pool and a 1x1 convolution.
    It has bottlenecks only.
    """

    def make_pool(self, channels):
        return LIP(channels)

    def make_block_pool(self, config):
        if not self.bottleneck:
            raise ValueError('LIP-ResNet has bottlenecks only; leave bottleneck=False out.')
        if config.first and config.stage > 1:
            return SharedLIP(config.width, config.in_channels, stride=config.stride)

    def make_conv2(self, config):
        if config.first and config.stage > 1:
            return nn.Conv2D(config.width, 1, use_bias=False, in_channels=config.width)
        return super().make_conv2(config)


class SKResNet(ResNet):
    """SKNet: selective kernel convolutions in every block.

    Li et al., "Selective Kernel Networks", CVPR 2019: of 32 groups, twice as wide as ResNet's 3x3 ones. The basic
    blocks are timm's, where the convolutions have no groups, and half of the input's channels each.
    """

    width = 2
    norm_after_conv2 = False  # SKConv ends in its own

    def make_conv2(self, config):
        basic = {'groups': 1, 'reduction': 8, 'min_width': 16, 'split': True}
        return SKConv(
            config.width,
            stride=config.stride,
            dilation=config.dilation,
            norm_layer=config.norm,
            in_channels=self.conv2_channels(config),
            **({} if self.bottleneck else basic),
        )
