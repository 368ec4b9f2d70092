"""Local importance pooling, with the logits of LIP-ResNet.

Reference: Gao et al., "LIP: Local Importance-based Pooling", ICCV 2019 (arXiv 1908.04156). The exponential and the
pools are computed in float32 in networks of any type: e^12 overflows float16.
"""

from __future__ import annotations

import numpy as np
from mxnet.gluon import ParameterDict, nn
from mxnet.gluon.block import HybridBlock
from mxnet.ndarray import NDArray

from ...errors import positive
from ..context import ChannelBlock
from ..layout import sigmoid

__all__ = ['LIP', 'SharedLIP', 'importance_pool']


def importance_pool(F, x, logits, kernel_size=3, stride=2, padding=1):
    """Local importance pooling, sum(x e^logits) / sum(e^logits) over each window, for each channel.

    The paper's section 3, with importance F(I) = e^logits. With equal logits it is an average without the padding.

    Parameters
    ----------
    F : mxnet.nd or mxnet.sym
    x, logits : NDArray or Symbol, (N, C, H, W)
        Of float32 or float64.
    kernel_size, stride, padding : int, default 3, 2, 1

    Returns
    -------
    NDArray or Symbol, (N, C, H', W')
    """

    def average(values):
        return F.Pooling(
            values, pool_type='avg', kernel=(kernel_size, kernel_size), stride=(stride, stride), pad=(padding, padding)
        )

    importance = F.exp(logits)
    return average(F.broadcast_mul(x, importance)) / average(importance)


class Float32(HybridBlock):
    """Base of blocks that compute in float32 in a network of any type, whose inputs and output keep their type."""

    outer_dtype = 'float32'

    def cast(self, dtype):
        super().cast('float32')
        self.outer_dtype = np.dtype(dtype).name

    def to(self, F, dtype, x):
        return x if self.outer_dtype == 'float32' else F.cast(x, dtype=dtype)


class InstanceNorm(Float32, nn.InstanceNorm):
    """nn.InstanceNorm with a trained gamma; MXNet's operator knows float32 only."""

    def __init__(self, channels, prefix=None, params=None):
        super().__init__(scale=True, in_channels=channels, prefix=prefix, params=params)

    def hybrid_forward(self, F, x, gamma, beta):
        return self.to(F, self.outer_dtype, super().hybrid_forward(F, self.to(F, 'float32', x), gamma, beta))


class ImportancePool(Float32):
    """importance_pool with logits 12 sigmoid(y), of (0, 12), computed in float32: (x, y) -> (N, C, H', W')."""

    def __init__(self, stride, prefix=None, params=None):
        super().__init__(prefix=prefix, params=params)
        self.stride = positive('stride', stride)

    def __repr__(self):
        return f'ImportancePool(stride={self.stride})'

    def hybrid_forward(self, F, x, y):
        x, y = self.to(F, 'float32', x), self.to(F, 'float32', y)
        return self.to(F, self.outer_dtype, importance_pool(F, x, 12 * sigmoid(F, y), stride=self.stride))


def logit_head(channels, in_channels, kernel_size):
    """Convolution and InstanceNorm before a logit's sigmoid; both start at zero, so that the pool is an average."""
    head = nn.HybridSequential()
    with head.name_scope():
        head.add(
            nn.Conv2D(
                channels,
                kernel_size,
                padding=kernel_size // 2,
                use_bias=False,
                in_channels=in_channels,
                weight_initializer='zeros',
            ),
            InstanceNorm(channels),
        )
    return head


class LIP(ChannelBlock):
    """Local importance pooling whose logits are 12 sigmoid(InstanceNorm(3x3 convolution of x)), window 3x3.

    The paper's section 3, the projection logits of figure 4 (d): it replaces a max-pool. It starts as an average.

    Input (N, C, H, W); output (N, C, ceil(H / stride), ceil(W / stride)).

    Parameters
    ----------
    channels : int
        C.
    stride : int, default 2

    Raises
    ------
    ValueError
        If the input is not (N, C, H, W).
    """

    squeezes = False

    def __init__(self, channels: int, stride: int = 2, prefix: str | None = None, params: ParameterDict | None = None):
        super().__init__(positive('channels', channels), prefix=prefix, params=params, spatial_dims=2)
        with self.name_scope():
            self.logit = logit_head(channels, channels, 3)
            self.pool = ImportancePool(stride)

    def hybrid_forward(self, F, x):
        return self.pool(x, self.logit(x))


class SharedLIP(HybridBlock):
    """Local importance pooling of both branches of a residual block, with logits from one trunk on the block's input.

    The paper's section 3, the bottleneck logits of figure 4 (e): t = two convolutions of x, 1x1 and 3x3, each with
    InstanceNorm and ReLU; the logits of a branch are 12 sigmoid(InstanceNorm(1x1 convolution of t)). It starts as an
    average.

    Inputs: the learned branch (N, body_channels, H, W) and the block's input x (N, channels, H, W). Output: both,
    pooled to (ceil(H / stride), ceil(W / stride)).

    Parameters
    ----------
    body_channels, channels : int
        Of the two inputs.
    width : int, default 128
        Channels of t.
    stride : int, default 2

    Raises
    ------
    ValueError
        If a number is out of its range, or the inputs are not such maps of one size.
    """

    def __init__(
        self,
        body_channels: int,
        channels: int,
        width: int = 128,
        stride: int = 2,
        prefix: str | None = None,
        params: ParameterDict | None = None,
    ):
        super().__init__(prefix=prefix, params=params)
        self.widths = positive('body_channels', body_channels), positive('channels', channels)
        width = positive('width', width)
        with self.name_scope():
            self.trunk = nn.HybridSequential()
            with self.trunk.name_scope():
                self.trunk.add(
                    nn.Conv2D(width, 1, use_bias=False, in_channels=channels),
                    InstanceNorm(width),
                    nn.Activation('relu'),
                    nn.Conv2D(width, 3, padding=1, use_bias=False, in_channels=width),
                    InstanceNorm(width),
                    nn.Activation('relu'),
                )
            self.body_logit = logit_head(body_channels, width, 1)
            self.logit = logit_head(channels, width, 1)
            self.pool = ImportancePool(stride)

    def forward(self, body, x):
        if isinstance(x, NDArray):
            shapes = [tuple(array.shape) for array in (body, x)]
            if (
                any(len(shape) != 4 for shape in shapes)
                or [shape[1] for shape in shapes] != list(self.widths)
                or (shapes[0][:1] + shapes[0][2:] != shapes[1][:1] + shapes[1][2:])
            ):
                raise ValueError(
                    f'{type(self).__name__} takes maps (N, {self.widths[0]}, H, W) and '
                    f'(N, {self.widths[1]}, H, W) of one size, got {shapes[0]} and {shapes[1]}.'
                )
        return super().forward(body, x)

    def hybrid_forward(self, F, body, x):
        t = self.trunk(x)
        return self.pool(body, self.body_logit(t)), self.pool(x, self.logit(t))
