"""Selective kernel convolution.

Reference: Li et al., "Selective Kernel Networks", CVPR 2019 (arXiv 1903.06586).
"""

from __future__ import annotations

from typing import Callable

from mxnet import init
from mxnet.gluon import ParameterDict, nn

from ...errors import check_booleans, positive
from ..context import ChannelBlock
from ..fusion import soft_weights
from ..layout import GlobalAvgPool, default_layout

__all__ = ['SKConv']


class SKConv(ChannelBlock):
    """Selective kernel convolution, a A + b B: A a 3x3 convolution of the input, B one of dilation 2 for 5x5.

    The paper's equations 1 to 6: z = relu(BatchNorm(W s)) with s the mean of A + B over the map, and (a, b) the softmax
    over the two outputs of a second layer on z. A and B are grouped and end in BatchNorm and ReLU; their sum
    does not. No layer has a bias.

    Input (N, in_channels, H, W); output (N, C, ceil(H / stride), ceil(W / stride)). The normalisation of z sees one
    value per image: a training batch needs at least two.

    Parameters
    ----------
    channels : int
        C.
    groups : int, default 32
        Of the two convolutions.
    stride, dilation : int, default 1, 1
        Of the two convolutions; B has twice the dilation.
    reduction, min_width : int, default 16, 32
        z has max(C / reduction, min_width) values.
    norm_layer, norm_kwargs : the normalisation, default BatchNorm, see :class:`gluon_aff.AFF`.
    in_channels : int, default C
    split : bool, default False
        A is of the first half of the input's channels and B of the second, as in timm's SK-ResNet-18 and 34.

    Raises
    ------
    ValueError
        If the groups do not divide C, in_channels is odd with split, a number is out of its range, or the input is not
        (N, in_channels, H, W).
    """

    squeezes = False

    def __init__(
        self,
        channels: int,
        groups: int = 32,
        stride: int = 1,
        dilation: int = 1,
        reduction: int = 16,
        min_width: int = 32,
        norm_layer: Callable = nn.BatchNorm,
        norm_kwargs: dict | None = None,
        in_channels: int | None = None,
        split: bool = False,
        prefix: str | None = None,
        params: ParameterDict | None = None,
    ):
        in_channels = positive('channels', channels) if in_channels is None else in_channels
        super().__init__(
            positive('in_channels', in_channels),
            reduction,
            norm_layer,
            norm_kwargs,
            prefix=prefix,
            params=params,
            spatial_dims=2,
        )
        check_booleans(split=split)
        if split and in_channels % 2:
            raise ValueError(f'in_channels must be even to be split in halves, got {in_channels}.')
        self.split = split
        if channels % positive('groups', groups):
            raise ValueError(f'groups must divide the {channels} channels, got {groups}.')
        hidden = max(channels // reduction, positive('min_width', min_width))
        with self.name_scope():
            self.small, self.large = (
                self._branch(channels, in_channels // (1 + split), groups, stride, factor * dilation)
                for factor in (1, 2)
            )
            self.select = nn.HybridSequential()
            with self.select.name_scope():
                self.select.add(
                    GlobalAvgPool(),
                    nn.Conv2D(hidden, 1, use_bias=False, in_channels=channels, weight_initializer=init.Normal(0.01)),
                    self._make_norm(hidden),
                    nn.Activation('relu'),
                    nn.Conv2D(
                        2 * channels, 1, use_bias=False, in_channels=hidden, weight_initializer=init.Normal(0.01)
                    ),
                )

    def _branch(self, channels, in_channels, groups, stride, dilation):
        branch = nn.HybridSequential()
        with branch.name_scope():
            branch.add(
                nn.Conv2D(channels, 3, stride, dilation, dilation, groups, use_bias=False, in_channels=in_channels),
                self._make_norm(channels),
                nn.Activation('relu'),
            )
        return branch

    def hybrid_forward(self, F, x):
        halves = F.split(default_layout(F, x), num_outputs=2, axis=1) if self.split else (x, x)
        small, large = (default_layout(F, branch(half)) for branch, half in zip((self.small, self.large), halves))
        difference = small - large
        weights = soft_weights(F, self.select(F.broadcast_add(small, large)), difference)
        return F.broadcast_add(large, F.broadcast_mul(difference, weights))
