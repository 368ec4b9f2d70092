"""Attention-augmented convolution.

Reference: Bello et al., "Attention Augmented Convolutional Networks", ICCV 2019 (arXiv 1904.09925).
"""

from __future__ import annotations

from mxnet import init
from mxnet.gluon import ParameterDict, nn
from mxnet.gluon.block import HybridBlock

from ...errors import pair, positive
from ..context import check_size

__all__ = ['AAConv']


def distances(F, table, length):
    """table[j - i + length - 1] for all i and j, (length, length, depth), from a table of 2 length - 1 distances."""
    positions = F.slice_axis(F.contrib.arange_like(table, axis=0), axis=0, begin=0, end=length)
    index = F.broadcast_sub(F.reshape(positions, shape=(1, -1)), F.reshape(positions, shape=(-1, 1))) + (length - 1)
    return F.take(table, F.cast(index, 'float32'))  # which it is, but MXNet's bfloat16 pass wants to be told


class AAConv(HybridBlock):
    """Attention-augmented 3x3 convolution: part of the output channels come from self-attention over the whole map.

    The paper's equations 1 to 4, [convolution(x), projection(concatenated heads)]. A head's logits between positions
    (y, x) and (y', x') are (q . k + q . r_W[x' - x] + q . r_H[y' - y]) / sqrt(d) with d = key_channels / heads; the
    tables r_W and r_H of relative positions are learned and shared by the heads. No convolution has a bias.

    Input (N, in_channels, stride * H, stride * W), or up to stride - 1 less on each side; output (N, channels, H, W).

    Parameters
    ----------
    channels : int
        Of the output, attention included.
    key_channels, value_channels : int
        Of the queries and of the keys, and of the values, all heads together.
    size : int or (int, int)
        (H, W) of the output. The tables hold 2 H - 1 and 2 W - 1 distances, so the block takes a single input size.
    heads : int, default 8
    stride, dilation : int, default 1, 1
        The stride applies to both branches, the dilation to the convolution.
    in_channels : int, default 0
        Of the input; 0 takes them from the first one.

    Raises
    ------
    ValueError
        If the heads do not divide key_channels and value_channels, no channels are left to the convolution, or the
        input is of another size.
    """

    def __init__(
        self,
        channels: int,
        key_channels: int,
        value_channels: int,
        size: int | tuple[int, int],
        heads: int = 8,
        stride: int = 1,
        dilation: int = 1,
        in_channels: int = 0,
        prefix: str | None = None,
        params: ParameterDict | None = None,
    ):
        super().__init__(prefix=prefix, params=params)
        self.size, self.heads, self.stride = pair('size', size), positive('heads', heads), positive('stride', stride)
        self.keys, self.values = positive('key_channels', key_channels), positive('value_channels', value_channels)
        for name, number in (('key_channels', self.keys), ('value_channels', self.values)):
            if number % heads:
                raise ValueError(f'{name} must be a multiple of the {heads} heads, got {number}.')
        if positive('channels', channels) <= value_channels:
            raise ValueError(f'value_channels must be below the {channels} channels, got {value_channels}.')
        self.depth = self.keys // heads
        with self.name_scope():
            self.conv = nn.Conv2D(
                channels - value_channels, 3, stride, dilation, dilation, use_bias=False, in_channels=in_channels
            )
            self.qkv = nn.Conv2D(2 * self.keys + self.values, 1, stride, use_bias=False, in_channels=in_channels)
            self.proj = nn.Conv2D(self.values, 1, use_bias=False, in_channels=self.values)
            self.rel_height, self.rel_width = (
                self.params.get(name, shape=(2 * length - 1, self.depth), init=init.Normal(self.depth**-0.5))
                for name, length in zip(('rel_height', 'rel_width'), self.size)
            )

    def forward(self, x):
        check_size(self, x, self.size, self.stride)
        return super().forward(x)

    def hybrid_forward(self, F, x, rel_height, rel_width):
        (height, width), keys, depth = self.size, self.keys, self.depth
        positions = height * width
        # This only checks the size, which a symbol does not know: with another one the reshapes below would compute
        # nonsense or crash.
        qkv = F.broadcast_to(self.qkv(x), shape=(0, 0, height, width))
        q = F.reshape(F.slice_axis(qkv, axis=1, begin=0, end=keys), shape=(-1, depth, height, width)) * depth**-0.5
        k = F.reshape(F.slice_axis(qkv, axis=1, begin=keys, end=2 * keys), shape=(-1, depth, positions))
        v = F.reshape(
            F.slice_axis(qkv, axis=1, begin=2 * keys, end=None), shape=(-1, self.values // self.heads, positions)
        )

        # One axis at a time, that axis first: (H, N * heads * W, depth) with (H, H', depth), and likewise for W.
        down = F.batch_dot(
            F.reshape(F.transpose(q, axes=(2, 0, 3, 1)), shape=(height, -1, depth)),
            distances(F, rel_height, height),
            transpose_b=True,
        )
        across = F.batch_dot(
            F.reshape(F.transpose(q, axes=(3, 0, 2, 1)), shape=(width, -1, depth)),
            distances(F, rel_width, width),
            transpose_b=True,
        )
        down = F.transpose(F.reshape(down, shape=(0, -1, width, height, 1)), axes=(1, 0, 2, 3, 4))
        across = F.transpose(F.reshape(across, shape=(0, -1, height, 1, width)), axes=(1, 2, 0, 3, 4))
        logits = F.batch_dot(F.reshape(q, shape=(0, 0, -1)), k, transpose_a=True)
        logits = F.reshape(logits, shape=(-1, height, width, height, width))
        logits = F.broadcast_add(F.broadcast_add(logits, down), across)

        weights = F.softmax(F.reshape(logits, shape=(-1, positions, positions)), axis=-1)
        attended = F.reshape(F.batch_dot(v, weights, transpose_b=True), shape=(-1, self.values, height, width))
        # Flat: the backward of oneDNN's concatenation of maps fails unless 16 divides the first one's channels.
        branches = (F.reshape(branch, shape=(0, 0, -1)) for branch in (self.conv(x), self.proj(attended)))
        return F.reshape(F.concat(*branches, dim=1), shape=(0, 0, height, width))
