"""Channel gates, computed from the whole map: SE, gather-excite and ECA.

Each docstring has its reference. All blocks raise a ValueError for a number out of its range and for a map that they
were not made for.
"""

from __future__ import annotations

import math
from typing import Callable

from mxnet import init
from mxnet.gluon import ParameterDict, nn

from ...errors import pair, positive
from ..context import ChannelBlock, check_size
from ..layout import GlobalAvgPool, broadcast_spatial, default_layout

__all__ = ['ECA', 'GatherExcite', 'SE']


class Excite(nn.HybridSequential):
    """Channel gates, sigmoid(W2 relu(W1 z + b1) + b2), from a value z per channel: (N, C, 1, 1) -> (N, C, 1, 1)."""

    def __init__(self, channels, reduction, prefix=None, params=None):
        super().__init__(prefix=prefix, params=params)
        hidden = channels // reduction
        with self.name_scope():
            # Standard deviation 0.01 as in the authors' training files, so that the gates start near 1/2.
            self.add(
                nn.Conv2D(hidden, 1, in_channels=channels, weight_initializer=init.Normal(0.01)),
                nn.Activation('relu'),
                nn.Conv2D(channels, 1, in_channels=hidden, weight_initializer=init.Normal(0.01)),
                nn.Activation('sigmoid'),
            )


class SE(ChannelBlock):
    """Squeeze-and-excitation, x' = s x with s = sigmoid(W2 relu(W1 z)) and z the mean of x over the map.

    Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, equations 2 to 4. W1 and W2 have biases, as in the released
    networks.

    Input and output (N, C, H, W).

    Parameters
    ----------
    channels : int
        C.
    reduction : int, default 16
        W1 squeezes C values to C / reduction.

    Raises
    ------
    ValueError
        If C is smaller than the reduction or not a multiple of it, or the input is not (N, C, H, W).
    """

    def __init__(
        self, channels: int, reduction: int = 16, prefix: str | None = None, params: ParameterDict | None = None
    ):
        super().__init__(positive('channels', channels), reduction, prefix=prefix, params=params, spatial_dims=2)
        with self.name_scope():
            self.gather = GlobalAvgPool()
            self.excite = Excite(channels, reduction)

    def hybrid_forward(self, F, x):
        x = default_layout(F, x)
        return F.broadcast_mul(x, broadcast_spatial(F, self.excite(self.gather(x)), x))


class GatherExcite(ChannelBlock):
    """Gather-excite with parameters and global extent (theta+), x' = x sigmoid(W2 relu(W1 g + b1) + b2).

    g = relu(BatchNorm(depthwise convolution of x with a kernel as large as the map)). Hu et al., "Gather-Excite:
    Exploiting Feature Context in Convolutional Neural Networks", NeurIPS 2018: GE-theta+, as the authors' network file
    has it.

    Input and output (N, C, H, W). The normalisation sees one value per image: a training batch needs at least two.

    Parameters
    ----------
    channels : int
        C.
    size : int or (int, int)
        (H, W) of the map. The kernel has C * H * W weights, so the block takes a single map size.
    reduction : int, default 16
        W1 squeezes C values to C / reduction.
    norm_layer, norm_kwargs : the normalisation, default BatchNorm, see :class:`gluon_aff.AFF`.

    Raises
    ------
    ValueError
        If C is smaller than the reduction or not a multiple of it, or the input is not (N, C, H, W) of this size.
    """

    def __init__(
        self,
        channels: int,
        size: int | tuple[int, int],
        reduction: int = 16,
        norm_layer: Callable = nn.BatchNorm,
        norm_kwargs: dict | None = None,
        prefix: str | None = None,
        params: ParameterDict | None = None,
    ):
        super().__init__(
            positive('channels', channels), reduction, norm_layer, norm_kwargs, prefix, params, spatial_dims=2
        )
        self.size = pair('size', size)
        with self.name_scope():
            self.gather = nn.HybridSequential()
            with self.gather.name_scope():
                self.gather.add(
                    nn.Conv2D(channels, self.size, groups=channels, use_bias=False, in_channels=channels),
                    self._make_norm(channels),
                    nn.Activation('relu'),
                )
            self.excite = Excite(channels, reduction)

    def forward(self, x):
        check_size(self, x, self.size)
        return super().forward(x)

    def hybrid_forward(self, F, x):
        weights = self.excite(self.gather(x))
        x = default_layout(F, x)
        return F.broadcast_mul(x, broadcast_spatial(F, weights, x))


class RowConv(nn.Conv1D):
    """Conv1D of one channel, padded, without bias, as a convolution of two dimensions: MXNet has only that in INT8."""

    def hybrid_forward(self, F, x, weight, bias=None):
        length = self.weight.shape[2]
        y = F.Convolution(
            F.expand_dims(x, axis=2),
            F.expand_dims(weight, axis=2),
            kernel=(1, length),
            pad=(0, length // 2),
            num_filter=1,
            no_bias=True,
        )
        return F.reshape(y, shape=(0, 0, -1))


class ECA(ChannelBlock):
    """Efficient channel attention, x' = x sigmoid(k weights convolved along the channels of z), z the mean of x.

    Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", CVPR 2020, equations 9
    (the convolution, which has no bias) and 12 (its size).

    Input and output (N, C, H, W).

    Parameters
    ----------
    channels : int
        C.
    kernel_size : int, optional
        k, odd. By default equation 12's odd number near (log2(C) + 1) / 2: 3 for 64 channels, 5 for 128 to 1024, 7 for
        2048. The authors' networks have others, 3, 3, 5 and 7 by stage.

    Raises
    ------
    ValueError
        If kernel_size is not odd, or the input is not (N, C, H, W).
    """

    squeezes = False

    def __init__(
        self,
        channels: int,
        kernel_size: int | None = None,
        prefix: str | None = None,
        params: ParameterDict | None = None,
    ):
        super().__init__(positive('channels', channels), prefix=prefix, params=params, spatial_dims=2)
        if kernel_size is None:
            kernel_size = int((math.log2(channels) + 1) / 2) // 2 * 2 + 1
        if positive('kernel_size', kernel_size) % 2 == 0:
            raise ValueError(f'kernel_size must be odd, so that the output has as many channels, got {kernel_size}.')
        with self.name_scope():
            self.conv = RowConv(
                1,
                kernel_size,
                padding=kernel_size // 2,
                use_bias=False,
                in_channels=1,
                weight_initializer=init.Uniform(kernel_size**-0.5),
            )
            self.gather = GlobalAvgPool()

    def hybrid_forward(self, F, x):
        x = default_layout(F, x)
        row = F.reshape(self.gather(x), shape=(0, 1, -1))
        weights = F.reshape(F.sigmoid(self.conv(row)), shape=(0, -1, 1, 1))
        return F.broadcast_mul(x, broadcast_spatial(F, weights, x))
