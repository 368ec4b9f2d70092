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
    stage_configs,
    stage_plan,
)

__all__ = ['BlockConfig', 'Bottleneck', 'ResNet']


class Bottleneck(ResidualBlock):
    """1x1, 3x3 (with the stride), 1x1 convolutions to 4 x planes channels, fused with the shortcut.

    Input (N, C, H, W); output (N, 4 * planes, ceil(H / stride), ceil(W / stride)).

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
            self.bn3 = norm(in_channels=config.channels, **({'gamma_initializer': 'zeros'} if last_gamma else {}))
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


class ResNet(Network):
    """ResNet for ImageNet-like images: a stem, four stages of bottlenecks, average pool, dense layer.

    Input (N, 3, H, W) with H, W >= 17, odd sizes included; output (N, classes), logits.

    A subclass varies the blocks by the four hooks `make_pool` to `make_gate`, and by `width` and `norm_after_conv2`.

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
    width = 1  # of conv2, in planes
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
        prefix: str | None = None,
        params: ParameterDict | None = None,
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
                size = size and tuple(-(-side // plan[0]) for side in size)
                fuse = make_fusion(fusion, reduction, norm, stage, start_stage)
                configs = stage_configs(stage, blocks, channels, self.width * planes, 4 * planes, plan, norm, size)
                make_block = partial(self._make_block, fuse=fuse, avg_down=avg_down, last_gamma=last_gamma)
                setattr(self, f'layer{stage}', make_stage(f'layer{stage}_', configs, make_block))
                channels = 4 * planes
            # Not gluon_aff's GlobalAvgPool, so that outputs are bit-equal to GluonCV's.
            self.avgpool = nn.GlobalAvgPool2D()
            self.flat = nn.Flatten()
            self.drop = nn.Dropout(final_drop) if check_drop(final_drop) else None
            self.fc = nn.Dense(self.classes, in_units=channels)

    def _make_block(self, config, fuse, avg_down, last_gamma):
        pool = self.make_block_pool(config)
        if pool:
            config = config._replace(stride=1)
        downsample = None
        if config.first:
            downsample = make_downsample(config.channels, config.in_channels, config.stride, config.norm, avg_down)
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
        return nn.MaxPool2D(3, 2, 1)

    def make_block_pool(self, config):
        """A pool (body, x) -> (body, x) that replaces the strides of a block, or None."""

    def make_conv2(self, config):
        """The 3x3 convolution of a block."""
        return nn.Conv2D(
            config.width,
            3,
            config.stride,
            padding=config.dilation,
            dilation=config.dilation,
            use_bias=False,
            in_channels=config.width,
        )

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


__getattr__ = deprecated_names(__name__)
