"""ImageNet ResNets with the addition of each block replaced by a fusion, laid out as GluonCV's resnet*_v1d.

References: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; He et al., "Bag of Tricks", CVPR 2019
(the deep stem and average-pool shortcuts of v1d); Dai et al., "Attentional Feature Fusion", WACV 2021.
"""

from __future__ import annotations

from functools import partial
from typing import Callable, Sequence

from mxnet.gluon import ParameterDict, nn
from mxnet.gluon.block import HybridBlock

from gluon_aff._deprecated import deprecated_names
from gluon_aff.errors import check_booleans, pair

from .network import (
    BlockConfig,
    Network,
    ResidualBlock,
    check_drop,
    check_start_stage,
    make_downsample,
    make_fusion,
    make_norm,
    make_stage,
    make_stem,
    make_stem_pool,
    stage_configs,
    stage_plan,
)

__all__ = ['BasicBlock', 'BlockConfig', 'Bottleneck', 'ResNet', 'WideResNet']


class Bottleneck(ResidualBlock):
    """1x1, 3x3 (with the stride) and 1x1 convolutions, fused with the shortcut.

    Input (N, C, H, W); output (N, config.channels, ceil(H / stride), ceil(W / stride)).

    Parameters
    ----------
    config : BlockConfig
    network : ResNet
        Its hooks make the 3x3 convolution and the gate after the last normalisation.
    fuse : callable
        Makes a fusion, from channels.
    pool : HybridBlock, optional
        Halves the inputs of the 3x3 convolution and of the shortcut, (body, x) -> (body, x).
    downsample : HybridBlock, optional
        The shortcut where the shape changes.
    last_gamma : bool, default False
        Start the last normalisation's gamma at zero.

    Raises
    ------
    ValueError
        If the fusion's reduction does not divide its channels.
    """

    def __init__(
        self,
        config: BlockConfig,
        network: ResNet,
        fuse: Callable,
        pool: HybridBlock | None = None,
        downsample: HybridBlock | None = None,
        last_gamma: bool = False,
        prefix: str | None = None,
        params: ParameterDict | None = None,
    ):
        super().__init__(prefix=prefix, params=params)
        norm = config.norm
        with self.name_scope():
            self.conv1 = nn.Conv2D(config.width, 1, use_bias=False, in_channels=config.in_channels)
            self.bn1 = norm(in_channels=config.width)
            self.relu1 = nn.Activation('relu')
            self.pool = pool
            self.conv2 = network.make_conv2(config)
            self.bn2 = norm(in_channels=config.width) if network.norm_after_conv2 else None
            self.relu2 = nn.Activation('relu') if network.norm_after_conv2 else None
            self.conv3 = nn.Conv2D(config.channels, 1, use_bias=False, in_channels=config.width)
            self.bn3 = _last_norm(config, last_gamma)
            self.gate = network.make_gate(config)
            self.downsample = downsample
            self.attention = fuse(config.channels)
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
        return self.relu3(self.fuse_shortcut(body, x))


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions, the first with the stride, fused with the shortcut.

    Input (N, C, H, W); output (N, config.channels, ceil(H / stride), ceil(W / stride)).

    Parameters
    ----------
    config, network, fuse, downsample, last_gamma
        See :class:`Bottleneck`; `network.make_conv2` makes the first convolution.

    Raises
    ------
    ValueError
        If the fusion's reduction does not divide its channels.
    """

    def __init__(
        self,
        config: BlockConfig,
        network: ResNet,
        fuse: Callable,
        downsample: HybridBlock | None = None,
        last_gamma: bool = False,
        prefix: str | None = None,
        params: ParameterDict | None = None,
    ):
        super().__init__(prefix=prefix, params=params)
        dilation = config.last_dilation
        with self.name_scope():
            self.conv1 = network.make_conv2(config)
            self.bn1 = config.norm(in_channels=config.width) if network.norm_after_conv2 else None
            self.relu1 = nn.Activation('relu') if network.norm_after_conv2 else None
            self.conv2 = nn.Conv2D(
                config.channels, 3, padding=dilation, dilation=dilation, use_bias=False, in_channels=config.width
            )
            self.bn2 = _last_norm(config, last_gamma)
            self.gate = network.make_gate(config)
            self.downsample = downsample
            self.attention = fuse(config.channels)
            self.relu2 = nn.Activation('relu')

    def hybrid_forward(self, F, x):
        body = self.conv1(x)
        if self.bn1:
            body = self.relu1(self.bn1(body))
        body = self.bn2(self.conv2(body))
        if self.gate:
            body = self.gate(body)
        return self.relu2(self.fuse_shortcut(body, x))


def _last_norm(config, last_gamma):
    """The last normalisation of a block's body; with last_gamma its gamma starts at zero."""
    return config.norm(in_channels=config.channels, **({'gamma_initializer': 'zeros'} if last_gamma else {}))


class ResNet(Network):
    """ResNet for ImageNet-like images: a stem, four stages of blocks, average pool, dense layer.

    Input (N, 3, H, W) with H, W >= 17 (5 with small_input), odd sizes included; output (N, classes), logits.

    A subclass varies the blocks by the four hooks `make_pool` to `make_gate`, and by `width`, `basic_width` and
    `norm_after_conv2`.

    Parameters
    ----------
    layers : sequence of int
        Number of blocks in each stage.
    classes : int, default 1000
    fusion : str or callable, default 'aff'
        Name in :data:`gluon_aff.FUSIONS`, or a callable that makes a fusion block.
    reduction : int, default 16
        Of the attentional fusions' contexts.
    start_stage : int, default 3
        The first stage (1 to 4) whose blocks fuse by `fusion`; those before it add, as in the released networks.
    dilated : bool or int, default False
        True or 8: keep stages 3 and 4 at 1/8 of the input's resolution, by dilation. 16: keep stage 4 at 1/16.
    norm_layer, norm_kwargs : the normalisation and its further arguments, default BatchNorm
    use_global_stats : bool, default False
        Normalise by the running statistics in training, too.
    last_gamma : bool, default False
        Start the gamma of each block's last normalisation at zero.
    deep_stem, stem_width : bool, int, default True, 32
        Three 3x3 convolutions of width w, w, 2w in place of the 7x7 one.
    avg_down : bool, default True
        Shortcuts downsample by an average pool before their 1x1 convolution, which is then not strided.
    final_drop : float, default 0
        Dropout ratio before the dense layer.
    in_channels : int, default 3
        Channels of the input; 0 takes them from the first one.
    input_size : int or (int, int), optional
        The only (H, W) that the network takes; by default it takes any. Networks with parameters for each position of a
        map, see :mod:`model_zoo.hosts.attention_resnet`, need it.
    bottleneck : bool, default True
        False: basic blocks, of two 3x3 convolutions and a fourth of the channels, as in ResNet-18 and 34.
    small_input : bool, default False
        A stem that keeps the resolution, for small images and fine detail: stride 1, no max-pool, a 3x3 convolution in
        place of the 7x7 one. The authors' PyTorch code keeps the max-pool: ``net.maxpool = nn.MaxPool2D(3, 2, 1)``.

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
    pool_ends_stem = True
    needs_input_size = False
    width = 1  # of a bottleneck's 3x3 convolution, in planes
    basic_width = 1  # of a basic block's first one
    norm_after_conv2 = True  # and ReLU

    def __init__(
        self,
        layers: Sequence[int],
        classes: int = 1000,
        fusion: str | Callable = 'aff',
        reduction: int = 16,
        start_stage: int = 3,
        dilated: bool | int = False,
        norm_layer: Callable = nn.BatchNorm,
        norm_kwargs: dict | None = None,
        use_global_stats: bool = False,
        last_gamma: bool = False,
        deep_stem: bool = True,
        stem_width: int = 32,
        avg_down: bool = True,
        final_drop: float = 0.0,
        in_channels: int = 3,
        input_size: int | tuple[int, int] | None = None,
        bottleneck: bool = True,
        small_input: bool = False,
        prefix: str | None = None,
        params: ParameterDict | None = None,
    ):
        super().__init__(classes, in_channels, prefix=prefix, params=params)
        check_start_stage(start_stage, layers, stages=4)
        check_booleans(last_gamma=last_gamma, avg_down=avg_down, bottleneck=bottleneck)
        self.bottleneck = bottleneck
        if small_input:
            self.min_size = 5
        if input_size is not None or self.needs_input_size:
            self.input_size = pair('input_size', input_size)
            if min(self.input_size) < self.min_size:
                raise ValueError(f'input_size must be at least {self.min_size}, got {input_size!r}.')
        size = self.input_size and tuple(-(-side // (1 if small_input else 4)) for side in self.input_size)
        norm = make_norm(norm_layer, norm_kwargs, use_global_stats)
        with self.name_scope():
            stem, channels = make_stem(deep_stem, stem_width, norm, in_channels, small_input)
            if deep_stem:
                self.conv1 = nn.HybridSequential(prefix='conv1_')
                self.conv1.add(*stem)
            else:
                self.conv1 = stem[0]
            self.bn1 = norm(in_channels=channels)
            self.relu = nn.Activation('relu')
            self.maxpool = make_stem_pool(True) if small_input else self.make_pool(channels)
            for stage, (blocks, plan) in enumerate(zip(layers, stage_plan(dilated)), start=1):
                planes = 32 << stage
                out_channels = 4 * planes if bottleneck else planes
                width = planes * (self.width if bottleneck else self.basic_width)
                size = size and tuple(-(-side // plan[0]) for side in size)
                fuse = make_fusion(fusion, reduction, norm, stage, start_stage)
                configs = stage_configs(stage, blocks, channels, width, out_channels, plan, norm, size)
                make_block = partial(self._make_block, fuse=fuse, avg_down=avg_down, last_gamma=last_gamma)
                setattr(self, f'layer{stage}', make_stage(f'layer{stage}_', configs, make_block))
                channels = out_channels
            # Not gluon_aff's GlobalAvgPool, so that outputs are bit-equal to GluonCV's.
            self.avgpool = nn.GlobalAvgPool2D()
            self.flat = nn.Flatten()
            self.drop = nn.Dropout(final_drop) if check_drop(final_drop) else None
            self.fc = nn.Dense(self.classes, in_units=channels)

    def _make_block(self, config, fuse, avg_down, last_gamma):
        stride = config.stride
        pool = self.make_block_pool(config)
        if pool:
            config = config._replace(stride=1)
        downsample = None
        if (config.in_channels, 1) != (config.channels, stride):
            downsample = make_downsample(config.channels, config.in_channels, config.stride, config.norm, avg_down)
        if not self.bottleneck:
            return BasicBlock(config, self, fuse, downsample, last_gamma)
        return Bottleneck(config, self, fuse, pool, downsample, last_gamma)

    # GluonCV's script finetune_minc.py replaces the head of any network as `output`.
    def __setattr__(self, name, value):
        super().__setattr__('fc' if name == 'output' else name, value)

    @property
    def output(self):
        """The dense layer `fc`, by its name in other networks."""
        return self.fc

    def make_pool(self, channels):
        """The pool that ends the stem."""
        return make_stem_pool(small_input=False)

    def make_block_pool(self, config):
        """A pool (body, x) -> (body, x) that replaces the strides of a block, or None."""

    def make_conv2(self, config):
        """The 3x3 convolution of a bottleneck, the first one of a basic block."""
        return nn.Conv2D(
            config.width,
            3,
            config.stride,
            padding=config.dilation,
            dilation=config.dilation,
            use_bias=False,
            in_channels=self.conv2_channels(config),
        )

    def conv2_channels(self, config):
        """Channels of the input of that convolution."""
        return config.width if self.bottleneck else config.in_channels

    def make_gate(self, config):
        """A channel gate after the last normalisation of a block's body, or None."""

    def stages(self):
        return [
            [self.conv1, self.bn1, self.relu, self.maxpool],
            [self.layer1],
            [self.layer2],
            [self.layer3],
            [self.layer4],
        ]

    def feature_layers(self):
        return [layer for stage in self.stages() for layer in stage]

    def pool_layers(self):
        return [self.avgpool, self.flat, *([self.drop] if self.drop else [])]


class WideResNet(ResNet):
    """Wide ResNet: the 3x3 convolution of each bottleneck has twice the channels.

    Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016; with 50 and 101 layers as in torchvision.
    """

    width = basic_width = 2


__getattr__ = deprecated_names(__name__)
