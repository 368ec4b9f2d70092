"""Common code of the networks: stages, heads, residual blocks, checks of their arguments."""

from __future__ import annotations

import os
from functools import partial
from typing import Callable, NamedTuple, Sequence

import mxnet as mx
import numpy as np
from mxnet.gluon import ParameterDict, nn
from mxnet.gluon.block import HybridBlock
from mxnet.gluon.contrib.nn import Identity
from mxnet.ndarray import NDArray

from gluon_aff._deprecated import renamed
from gluon_aff._mxnet import devices
from gluon_aff.errors import check_booleans, positive
from gluon_aff.layers.fusion import Add, AddAfterNorm, get_fusion
from gluon_aff.layers.kernels import CompiledBlock
from gluon_aff.layers.norm import build_norm

from ..weights.parameters import load_arrays, read_for


def make_norm(norm_layer: Callable, norm_kwargs: dict | None, use_global_stats: bool) -> Callable:
    """A callable that makes the normalisation layers of a network, from in_channels."""
    check_booleans(use_global_stats=use_global_stats)
    kwargs = dict(norm_kwargs or {})
    if use_global_stats:
        kwargs['use_global_stats'] = True
    return partial(build_norm, norm_layer, **kwargs)


def check_drop(final_drop):
    """Return final_drop, or raise a ValueError if it is not a dropout ratio."""
    if not isinstance(final_drop, (int, float)) or not 0 <= final_drop < 1:
        raise ValueError(f'final_drop must be a ratio from 0 to below 1, got {final_drop!r}.')
    return final_drop


def check_start_stage(start_stage, layers, stages=None):
    """Raise a ValueError unless layers has a number of blocks per stage and start_stage is the number of a stage."""
    if stages and len(layers) != stages:
        raise ValueError(f'layers must be {stages} numbers of blocks, got {layers!r}.')
    for blocks in layers:
        positive('A number of blocks', blocks)
    if type(start_stage) is not int or start_stage not in range(1, len(layers) + 1):
        raise ValueError(
            f'start_stage must be 1 to {len(layers)}, the first stage that fuses by attention, got {start_stage!r}.'
        )


def make_stem(deep_stem, stem_width, norm, in_channels, small_input):
    """Layers of a stem of stride 2, three 3x3 convolutions (width w, w, 2w) or one 7x7, and its output channels.

    With small_input the stride is 1, and the 7x7 convolution a 3x3 one. The network adds the last normalisation.
    """
    check_booleans(deep_stem=deep_stem, small_input=small_input)
    if not deep_stem:
        kernel, stride = (3, 1) if small_input else (7, 2)
        return [nn.Conv2D(64, kernel, stride, kernel // 2, use_bias=False, in_channels=in_channels)], 64
    width = positive('stem_width', stem_width)
    return [
        nn.Conv2D(width, 3, 1 if small_input else 2, 1, use_bias=False, in_channels=in_channels),
        norm(in_channels=width),
        nn.Activation('relu'),
        nn.Conv2D(width, 3, 1, 1, use_bias=False, in_channels=width),
        norm(in_channels=width),
        nn.Activation('relu'),
        nn.Conv2D(2 * width, 3, 1, 1, use_bias=False, in_channels=width),
    ], 2 * width


def make_stem_pool(small_input):
    """The max-pool that ends a stem; with small_input nothing, under its name."""
    return Identity() if small_input else nn.MaxPool2D(3, 2, 1)


def stage_plan(dilated):
    """(stride, dilation of the first block, dilation of the others) of the four stages of an ImageNet network.

    Dilated, the last stages keep 1/8 (True or 8) or 1/16 (16) of the input's resolution, as segmentation heads expect.
    """
    if dilated not in (False, True, 8, 16):
        raise ValueError(f'dilated must be False, True, 8 or 16, got {dilated!r}.')
    last = {False: [(2, 1, 1), (2, 1, 1)], 16: [(2, 1, 1), (1, 1, 2)]}.get(dilated, [(1, 1, 2), (1, 2, 4)])
    return [(1, 1, 1), (2, 1, 1), *last]


def make_fusion(fusion, reduction, norm, stage, start_stage, add=AddAfterNorm):
    """A callable that makes the fusions of a stage, from channels: `add` before start_stage, `fusion` from it on."""
    make = add if stage < start_stage else get_fusion(fusion)
    return add if make is Add else partial(make, reduction=reduction, norm_layer=norm)


def make_downsample(channels, in_channels, stride, norm=None, pool=True):
    """Shortcut of a block that changes the shape: a 1x1 convolution after an average pool, or a strided one.

    The pool rounds up, as the body's padded 3x3 convolution does, so that both branches agree at odd sizes.
    """
    layers = nn.HybridSequential(prefix='down_')
    with layers.name_scope():
        if pool:
            layers.add(nn.AvgPool2D(stride, stride, ceil_mode=True, count_include_pad=False))
        layers.add(nn.Conv2D(channels, 1, 1 if pool else stride, use_bias=False, in_channels=in_channels))
        if norm:
            layers.add(norm(in_channels=channels))
    return layers


class BlockConfig(NamedTuple):
    """Position and sizes of a residual block."""

    stage: int  # 1 to 4
    first: bool  # of its stage
    in_channels: int  # of the block
    width: int  # of its 3x3 convolution
    channels: int  # of its output
    stride: int
    dilation: int  # of the 3x3 convolution, in a basic block of the first one
    size: tuple[int, int] | None  # (H, W) of the output, in a network with a single input size
    norm: Callable  # makes a normalisation from in_channels
    last_dilation: int  # of a basic block's second convolution


def stage_configs(stage, blocks, in_channels, width, channels, plan, norm, size=None):
    """The BlockConfig of each block of a stage, whose plan is one of :func:`stage_plan`."""
    stride, first_dilation, dilation = plan
    first = BlockConfig(stage, True, in_channels, width, channels, stride, first_dilation, size, norm, dilation)
    rest = first._replace(first=False, in_channels=channels, stride=1, dilation=dilation)
    return [first] + (blocks - 1) * [rest]


def make_stage(prefix, configs, make_block):
    """A stage with a block for each of its configs."""
    stage = nn.HybridSequential(prefix=prefix)
    with stage.name_scope():
        for config in configs:
            stage.add(make_block(config))
    return stage


class ResidualBlock(HybridBlock):
    """Base of the residual blocks, which have an `attention` that fuses and a `downsample`, None for the identity."""

    def fuse_shortcut(self, body, x):
        """Fuse the learned branch with the shortcut of x."""
        identity = self.downsample(x) if self.downsample else x
        return self.attention.residual(body, identity)


class StagedNetwork(CompiledBlock):
    """Base of networks that take images and return feature maps by stage.

    A subclass defines in `stages` which children are the stem (stage 0) and the stages 1, 2, ..., and in `head_name`
    which child is the head.

    Attributes
    ----------
    in_channels : int
        Channels of the input; 0 if they are taken from the first one.
    input_size : (int, int) or None
        The only (H, W) that the network takes; None if it takes any.
    pool_ends_stem : bool
        Whether the stem's last child is a pool.

    Raises
    ------
    ValueError
        When called on anything but images (N, in_channels, H, W) of the network's type, each side of at least
        `min_size`, or of another size than `input_size`.
    """

    head_name = 'output'
    min_size = 1  # below it a feature map would have no pixels
    input_size = None
    pool_ends_stem = False

    def __init__(self, in_channels: int, prefix: str | None = None, params: ParameterDict | None = None):
        super().__init__(prefix=prefix, params=params)
        self.in_channels = positive('in_channels', in_channels, or_zero=True)

    def load_parameters(
        self,
        filename: str | os.PathLike,
        ctx: mx.Context | list[mx.Context] | None = None,
        allow_missing: bool = False,
        ignore_extra: bool = False,
        cast_dtype: bool = False,
        dtype_source: str = 'current',
    ) -> None:
        """Load parameters as Gluon's method does, but with this project's reader.

        The file is compared with the network before anything changes; files of export and of collect_params().save are
        accepted, too. See :func:`model_zoo.load_parameters`, which casts and initialises what is missing.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not a parameter file, is damaged, is another network's, or is of another type and cast_dtype is
            False.
        """
        load_arrays(
            self,
            read_for(self, os.fspath(filename)),
            filename,
            ctx,
            allow_missing,
            ignore_extra,
            cast_dtype=cast_dtype,
            dtype_source=dtype_source,
        )

    def forward(self, x):
        self._check_images(x)
        return super().forward(x)

    def _check_images(self, x):
        if not isinstance(x, NDArray):
            return
        if not self.in_channels:
            self.in_channels = next(p.shape[1] for p in self.collect_params().values() if len(p.shape) == 4)
        dtype = self._input_dtype(x)
        if (
            x.ndim != 4
            or min(x.shape[2:]) < self.min_size
            or x.dtype != dtype
            or self.in_channels not in (0, x.shape[1])
            or self.input_size not in (None, x.shape[2:])
        ):
            sides = (
                f'H and W at least {self.min_size}'
                if self.input_size is None
                else 'H and W {} and {}, the input_size that it was built for'.format(*self.input_size)
            )
            raise ValueError(
                f'{type(self).__name__} takes images (N, {self.in_channels or "C"}, H, W) of {dtype}, '
                f'{sides}, got {x.shape} of {np.dtype(x.dtype)}.'
            )

    def _input_dtype(self, x):
        head = getattr(self, self.head_name)
        return np.dtype(head.weight.dtype if isinstance(head, (nn.Dense, nn.Conv2D)) else x.dtype)

    def stages(self) -> list[list[HybridBlock]]:
        """Children of each stage, the stem first."""
        raise NotImplementedError

    def stage_outputs(self, x, stages: Sequence[int] | None = None) -> list:
        """Feature maps by stage number.

        Parameters
        ----------
        x : NDArray or Symbol, (N, 3, H, W)
        stages : sequence of int, default all
            0 is the stem, 1 the first stage, and so on.

        Returns
        -------
        list of NDArray or Symbol
            A map (N, C, H', W') for each number, in the given order.

        Raises
        ------
        ValueError
            For a number without a stage, or images that the network does not take.
        """
        self._check_images(x)
        layers = self.stages()
        numbers = list(range(len(layers)) if stages is None else stages)
        for stage in numbers:
            if stage not in range(len(layers)):
                raise ValueError(f'{type(self).__name__} has stages 0 to {len(layers) - 1}, not {stage!r}.')
        outputs = []
        for stage_layers in layers[: max(numbers, default=-1) + 1]:
            for layer in stage_layers:
                x = layer(x)
            outputs.append(x)
        return [outputs[stage] for stage in numbers]


class Network(StagedNetwork):
    """Base of the classifiers of images, by a dense layer, and of pixels, by a 1x1 convolution.

    That layer is the attribute `head_name`. Input (N, 3, H, W); output (N, classes) or (N, classes, H, W).

    Attributes
    ----------
    classes : int
        Number of outputs.
    class_names : tuple of str or None
        Name of each output, where loaded parameters say them.
    in_channels : int
        Channels of the input; 0 if they are taken from the first one.

    Raises
    ------
    ValueError
        As :class:`StagedNetwork` does.
    """

    labels = renamed('class_names')

    def __init__(self, classes: int, in_channels: int, prefix: str | None = None, params: ParameterDict | None = None):
        super().__init__(in_channels, prefix=prefix, params=params)
        self.classes = positive('classes', classes)
        self.class_names = None

    def feature_layers(self) -> list[HybridBlock]:
        """The layers up to the map that :meth:`forward_features` returns."""
        raise NotImplementedError

    def pool_layers(self) -> list[HybridBlock]:
        """The layers between that map and the head: pool, flattening, dropout."""
        raise NotImplementedError

    def forward_features(self, x):
        """The last feature map, before the pool.

        Parameters
        ----------
        x : NDArray or Symbol, (N, 3, H, W)

        Returns
        -------
        NDArray or Symbol, (N, C, H', W')
            In segmentation (N, C, H, W), the map before the last convolution.

        Raises
        ------
        ValueError
            For images that the network does not take.
        """
        self._check_images(x)
        for layer in self.feature_layers():
            x = layer(x)
        return x

    def forward_head(self, x, pre_logits: bool = False):
        """The output for a map of :meth:`forward_features`.

        Parameters
        ----------
        x : NDArray or Symbol, (N, C, H', W')
        pre_logits : bool, default False
            Return what the head sees: pooled features (N, C), in segmentation the map itself.

        Returns
        -------
        NDArray or Symbol, (N, classes)
            In segmentation (N, classes, H, W).
        """
        for layer in self.pool_layers():
            x = layer(x)
        return x if pre_logits else getattr(self, self.head_name)(x)

    def hybrid_forward(self, F, x):
        return self.forward_head(self.forward_features(x))

    def reset_classifier(self, classes: int) -> None:
        """Replace the head by a new one with `classes` outputs.

        If the network is initialised, so is the head (Xavier), on the same devices and of the same type.

        Raises
        ------
        ValueError
            If classes is not a positive whole number.
        """
        classes = positive('classes', classes)
        old = getattr(self, self.head_name)
        with self.name_scope():
            # The old one's name, so that exported parameters keep theirs.
            prefix = old.prefix[len(self.prefix) :]
            new = (
                nn.Conv2D(classes, 1, in_channels=old.weight.shape[1], prefix=prefix)
                if isinstance(old, nn.Conv2D)
                else nn.Dense(classes, in_units=old.weight.shape[1], prefix=prefix)
            )
            new.cast(old.weight.dtype)
        ctx = devices(old.weight)
        if ctx:
            new.initialize(mx.init.Xavier(), ctx=ctx)
        setattr(self, self.head_name, new)
        self.classes, self.class_names = classes, None


class FeatureNetwork(Network):
    """Base of the networks laid out as GluonCV's `features` and `output`."""

    def stages(self):
        # Stages are the only HybridSequentials in features; the stem is what precedes the first one.
        stem, stages = [], []
        for layer in self.features:
            if isinstance(layer, nn.HybridSequential):
                stages.append([layer])
            elif not stages:
                stem.append(layer)
        return [stem, *stages]

    def add_head(self, channels, pool, final_drop=0.0):
        """End `features` by a pool and a dropout, and make the dense layer."""
        self._pool_at = len(self.features)
        self.features.add(pool, nn.Flatten())
        if check_drop(final_drop):
            self.features.add(nn.Dropout(final_drop))
        self.output = nn.Dense(self.classes, in_units=channels)

    def feature_layers(self):
        return list(self.features)[: self._pool_at]

    def pool_layers(self):
        return list(self.features)[self._pool_at :]
