"""What every network of the zoo has in common: its stages by number, its head, its shortcuts."""

from __future__ import annotations

from functools import partial

import mxnet as mx
import numpy as np
from mxnet.gluon import nn
from mxnet.ndarray import NDArray

from gluon_aff._deprecated import renamed
from gluon_aff.errors import check_booleans, positive
from gluon_aff.layers.fusion import Add, get_fusion
from gluon_aff.layers.kernels import Compilable
from gluon_aff.layers.norm import build_norm

from ..weights.parameters import load_arrays, read_for


def make_norm(norm_layer, norm_kwargs, use_global_stats):
    """One callable for the normalisation that a network's arguments ask for; the caller's dict stays as it is."""
    check_booleans(use_global_stats=use_global_stats)
    kwargs = dict(norm_kwargs or {})
    if use_global_stats:
        kwargs['use_global_stats'] = True
    return partial(build_norm, norm_layer, **kwargs)


def check_drop(final_drop):
    """final_drop, or a ValueError if it is not a dropout ratio."""
    if not isinstance(final_drop, (int, float)) or not 0 <= final_drop < 1:
        raise ValueError(f'final_drop must be a ratio from 0 to below 1, got {final_drop!r}.')
    return final_drop


def check_start_stage(start_stage, layers, stages=None):
    """Raise a ValueError where layers has no number of blocks for each stage, or start_stage is no stage's number."""
    if stages and len(layers) != stages:
        raise ValueError(f'layers must be {stages} numbers of blocks, got {layers!r}.')
    for blocks in layers:
        positive('A number of blocks', blocks)
    if type(start_stage) is not int or start_stage not in range(1, len(layers) + 1):
        raise ValueError(
            f'start_stage must be 1 to {len(layers)}, the stage from which on attention fuses, got {start_stage!r}.'
        )


def make_stem(deep_stem, stem_width, norm, in_channels):
    """Layers of the first convolution, stride 2: three 3x3 (width w, w, 2w) or one 7x7; and the channels they give.

    The normalisation behind the last one is left to the network.
    """
    check_booleans(deep_stem=deep_stem)
    if not deep_stem:
        return [nn.Conv2D(64, 7, 2, 3, use_bias=False, in_channels=in_channels)], 64
    width = positive('stem_width', stem_width)
    return [
        nn.Conv2D(width, 3, 2, 1, use_bias=False, in_channels=in_channels),
        norm(in_channels=width),
        nn.Activation('relu'),
        nn.Conv2D(width, 3, 1, 1, use_bias=False, in_channels=width),
        norm(in_channels=width),
        nn.Activation('relu'),
        nn.Conv2D(2 * width, 3, 1, 1, use_bias=False, in_channels=width),
    ], 2 * width


def stage_plan(dilated):
    """(stride, dilation of the first block, dilation of the others) of the four stages of an ImageNet network.

    Dilated, the last stages keep 1/8 (True or 8) or 1/16 (16) of the input's resolution, as segmentation heads expect.
    """
    if dilated not in (False, True, 8, 16):
        raise ValueError(f'dilated must be False, True, 8 or 16, got {dilated!r}.')
    last = {False: [(2, 1, 1), (2, 1, 1)], 16: [(2, 1, 1), (1, 1, 2)]}.get(dilated, [(1, 1, 2), (1, 2, 4)])
    return [(1, 1, 1), (2, 1, 1), *last]


def make_fusion(fusion, reduction, norm, stage, start_stage):
    """What makes the fusion of a stage, called with its channels: addition before start_stage, `fusion` from it on."""
    if stage < start_stage:
        return Add
    return partial(get_fusion(fusion), reduction=reduction, norm_layer=norm)


def make_downsample(channels, in_channels, stride, norm=None, pool=True):
    """The shortcut of a block that changes its shape: 1x1 convolution, behind an average pool or itself strided.

    The pool rounds up, as the body's padded 3x3 convolution does, so both branches agree at odd sizes.
    """
    layers = nn.HybridSequential(prefix='down_')
    with layers.name_scope():
        if pool:
            layers.add(nn.AvgPool2D(stride, stride, ceil_mode=True, count_include_pad=False))
        layers.add(nn.Conv2D(channels, 1, 1 if pool else stride, use_bias=False, in_channels=in_channels))
        if norm:
            layers.add(norm(in_channels=channels))
    return layers


class StagedNetwork(Compilable):
    """Base of networks that take images and return feature maps by stage.

    A subclass says in `stages` which children make up the stem (stage 0) and the stages 1, 2, ..., and in `head_name`
    which child stands behind them.

    Attributes
    ----------
    in_channels : int
        Channels of the input; 0 if they are taken from the first one.
    input_size : (int, int) or None
        The only (H, W) that the network takes; None if it takes any.

    Raises
    ------
    ValueError
        When called on anything but images (N, in_channels, H, W) of the network's type, each side of at least
        `min_size`, or of another size than `input_size`.
    """

    head_name = 'output'
    min_size = 1  # below it a map would vanish on the way
    input_size = None

    def __init__(self, in_channels, prefix=None, params=None):
        super().__init__(prefix=prefix, params=params)
        self.in_channels = positive('in_channels', in_channels, or_zero=True)

    def load_parameters(
        self, filename, ctx=None, allow_missing=False, ignore_extra=False, cast_dtype=False, dtype_source='current'
    ):
        """As Gluon's load_parameters, but the file never reaches MXNet's own reader.

        It is read in Python and compared with the network before anything is changed; files of export and of
        collect_params().save are taken as well. See :func:`model_zoo.load_parameters`, which casts on its own and
        initialises what is missing.

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
            read_for(self, filename),
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
        head = getattr(self, self.head_name)
        wanted = np.dtype(head.weight.dtype if isinstance(head, (nn.Dense, nn.Conv2D)) else x.dtype)
        if (
            x.ndim != 4
            or min(x.shape[2:]) < self.min_size
            or x.dtype != wanted
            or self.in_channels not in (0, x.shape[1])
            or self.input_size not in (None, x.shape[2:])
        ):
            sides = (
                f'H and W at least {self.min_size}'
                if self.input_size is None
                else 'H and W {} and {}, the input_size that it was built for'.format(*self.input_size)
            )
            raise ValueError(
                f'{type(self).__name__} takes images (N, {self.in_channels or "C"}, H, W) of {wanted}, '
                f'{sides}, got {x.shape} of {np.dtype(x.dtype)}.'
            )

    def stages(self):
        """The children of each stage: a list of lists of blocks, the stem first."""
        raise NotImplementedError

    def stage_outputs(self, x, stages=None):
        """Feature maps by stage number.

        Parameters
        ----------
        x : NDArray or Symbol, (N, 3, H, W)
        stages : sequence of int, default all
            0 is the stem, 1 the first stage, and so on.

        Returns
        -------
        list of NDArray or Symbol
            One map (N, C, H', W') for each number, in the order asked for.

        Raises
        ------
        ValueError
            For a number that the network has no stage for, or images that it does not take.
        """
        self._check_images(x)
        layers = self.stages()
        wanted = range(len(layers)) if stages is None else list(stages)
        for stage in wanted:
            if stage not in range(len(layers)):
                raise ValueError(f'{type(self).__name__} has stages 0 to {len(layers) - 1}, not {stage!r}.')
        outputs = []
        for stage in layers[: max(wanted, default=-1) + 1]:
            for layer in stage:
                x = layer(x)
            outputs.append(x)
        return [outputs[stage] for stage in wanted]


class Network(StagedNetwork):
    """Base of the networks that name classes: of images by a dense layer, of their pixels by a 1x1 convolution.

    The layer is the attribute `head_name`. Input (N, 3, H, W); output (N, classes) or (N, classes, H, W).

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

    def __init__(self, classes, in_channels, prefix=None, params=None):
        super().__init__(in_channels, prefix=prefix, params=params)
        self.classes = positive('classes', classes)
        self.class_names = None

    def reset_classifier(self, classes):
        """Put a fresh head with `classes` outputs in place of the present one; everything else stays.

        Where the network is initialised the head is, too: on the same devices, in the same type (Xavier).

        Raises
        ------
        ValueError
            If classes is not a positive whole number.
        """
        classes = positive('classes', classes)
        old = getattr(self, self.head_name)
        with self.name_scope():
            # Of the old one's name, so that exported parameters keep theirs.
            prefix = old.prefix[len(self.prefix) :]
            new = (
                nn.Conv2D(classes, 1, in_channels=old.weight.shape[1], prefix=prefix)
                if isinstance(old, nn.Conv2D)
                else nn.Dense(classes, in_units=old.weight.shape[1], prefix=prefix)
            )
            new.cast(old.weight.dtype)
        devices = (
            old.weight.list_ctx()
            if old.weight._data is not None
            else (old.weight._deferred_init[1] if old.weight._deferred_init else None)
        )
        if devices:
            new.initialize(mx.init.Xavier(), ctx=devices)
        setattr(self, self.head_name, new)
        self.classes, self.class_names = classes, None


class FeatureNetwork(Network):
    """Base of the networks laid out as GluonCV's `features` and `output`."""

    def stages(self):
        # Every stage is the only HybridSequential inside features; what stands before the first one is the stem.
        stem, stages = [], []
        for layer in self.features:
            if isinstance(layer, nn.HybridSequential):
                stages.append([layer])
            elif not stages:
                stem.append(layer)
        return [stem, *stages]

    def hybrid_forward(self, F, x):
        return self.output(self.features(x))
