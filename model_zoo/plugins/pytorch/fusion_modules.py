"""The fusion blocks and MS-CAM as PyTorch modules, with the parameter names and formulas of :mod:`gluon_aff`.

Feature maps are (N, C, T), (N, C, H, W) or (N, C, D, H, W). A block has the same parameters for all of them, and loads
the state dict of a block of Conv1d, Conv2d or Conv3d layers by the same names. This file needs nothing but PyTorch.

Reference: Dai et al., "Attentional Feature Fusion", WACV 2021 (arXiv 2009.14082).
"""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    'AFF',
    'Add',
    'AlignedFusion',
    'Concat',
    'ConcatAFF',
    'FUSIONS',
    'Fusion',
    'GlobalAFF',
    'HalfAFF',
    'Highway',
    'IAFF',
    'LocalAFF',
    'MSCAM',
    'MSGAU',
    'MSSA',
    'MSSE',
    'MultiInputAFF',
    'RecursiveAFF',
    'SK',
    'get_fusion',
]

SCALES = ('local', 'global')


def _reshape_weight(module, state_dict, prefix, *_):
    """Before loading, give the weights of a Conv1d or Conv3d of kernel size 1 the shape of a Conv2d's."""
    weight = state_dict.get(prefix + 'weight')
    if weight is not None and weight.ndim != 4 and weight.shape[2:].numel() == 1:
        state_dict[prefix + 'weight'] = weight.reshape(*weight.shape[:2], 1, 1)


def pointwise_conv(in_channels: int, channels: int, bias: bool = True) -> nn.Conv2d:
    """A 1x1 convolution that also loads the weights of a Conv1d or Conv3d."""
    conv = nn.Conv2d(in_channels, channels, 1, bias=bias)
    conv.register_load_state_dict_pre_hook(_reshape_weight)
    return conv


class ChannelContext(nn.Sequential):
    """A bottleneck of two 1x1 convolutions, each with a normalisation; 'global' pools the map to 1x1 first.

    Input (N, C, H, W); output (N, outputs * C, H, W), for 'global' (N, outputs * C, 1, 1).
    """

    def __init__(self, channels, reduction, scale='local', outputs=1, norm_layer=nn.BatchNorm2d):
        if scale not in SCALES:
            raise ValueError(f'scale must be local or global, got {scale!r}.')
        if channels < reduction or channels % reduction:
            raise ValueError(
                f'{channels} channels cannot be squeezed by reduction {reduction}; choose one that divides them.'
            )
        hidden = channels // reduction
        pool = [nn.AdaptiveAvgPool2d(1)] if scale == 'global' else []
        super().__init__(
            *pool,
            pointwise_conv(channels, hidden),
            norm_layer(hidden),
            nn.ReLU(inplace=True),
            pointwise_conv(hidden, outputs * channels),
            norm_layer(outputs * channels),
        )


def _as_images(module, maps):
    """The maps as (N, C, H, W), or (N, C, positions, 1); a ValueError unless they have one shape of 3 to 5 axes."""
    if any(x.shape != maps[0].shape for x in maps) or maps[0].ndim not in (3, 4, 5):
        shapes = ' and '.join(str(tuple(x.shape)) for x in maps)
        raise ValueError(
            f'{type(module).__name__} got {shapes}, but takes feature maps (N, C, T), (N, C, H, W) or (N, C, D, H, W) '
            'of one shape.'
        )
    return maps if maps[0].ndim == 4 else [x.flatten(2).unsqueeze(3) for x in maps]


class Fusion(nn.Module):
    """Base of the fusions of two maps. A subclass defines `formula`, for maps (N, C, H, W), and its layers.

    It takes channels, reduction and norm_layer as :class:`AFF` does. Inputs x, the low-level map or the identity, and
    y, the map with the larger receptive field, and output: (N, C, T), (N, C, H, W) or (N, C, D, H, W).

    Raises
    ------
    ValueError
        If x and y are not maps of one shape.
    """

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.formula(*_as_images(self, (x, y))).reshape(x.shape)

    def formula(self, x: Tensor, y: Tensor) -> Tensor:
        """The fusion of two maps (N, C, H, W)."""
        raise NotImplementedError

    def residual(self, body: Tensor, identity: Tensor) -> Tensor:
        """Fuse a residual block's learned branch with its shortcut."""
        return self(identity, body)


class Add(Fusion):
    """z = x + y, without parameters; accepts and ignores those of the others."""

    def __init__(self, channels: int = 0, reduction: int = 4, *, norm_layer: Callable = nn.BatchNorm2d):
        super().__init__()

    def formula(self, x, y):
        return x + y


class Concat(Fusion):
    """z = 1x1 convolution of BatchNorm([x, y]) (table 4)."""

    def __init__(self, channels: int, reduction: int = 4, *, norm_layer: Callable = nn.BatchNorm2d):
        super().__init__()
        self.bn = norm_layer(2 * channels)
        self.conv = pointwise_conv(2 * channels, channels, bias=False)

    def formula(self, x, y):
        return self.conv(self.bn(torch.cat([x, y], 1)))


class MultiScale(nn.Module):
    """Base of the blocks that weight channels by M(X) = sigmoid(local(X) + global(X)) (section 3.1, eq. 2)."""

    rounds = 1  # number of M, each with its own parameters

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        *,
        scales: tuple[str, str] = SCALES,
        norm_layer: Callable = nn.BatchNorm2d,
    ):
        super().__init__()
        for suffix in ('', '2')[: self.rounds]:
            for name, scale in zip(('local_att', 'global_att'), scales):
                context = ChannelContext(channels, reduction, scale, norm_layer=norm_layer)
                self.add_module(name + suffix, context)
        self._add_layers(channels, reduction, scales=scales, norm_layer=norm_layer)

    def _add_layers(self, channels, reduction, **options):
        """Make the layers that a subclass has besides the contexts, from the arguments of the block."""

    def mix(self, first: Tensor, second: Tensor) -> Tensor:
        """The logits of M from the two contexts, of which a global one is (N, C, 1, 1)."""
        return first + second

    def weights(self, x: Tensor, suffix: str = '') -> Tensor:
        """M(x) of a map (N, C, H, W), in its shape, or (N, C, 1, 1) if both contexts are global."""
        first, second = getattr(self, 'local_att' + suffix), getattr(self, 'global_att' + suffix)
        return torch.sigmoid(self.mix(first(x), second(x)))


class MSCAM(MultiScale):
    """Multi-scale channel attention module, X' = X * M(X) (section 3.1, figure 1).

    Input and output (N, C, T), (N, C, H, W) or (N, C, D, H, W); options and errors as :class:`AFF`.
    """

    def forward(self, x: Tensor) -> Tensor:
        (image,) = _as_images(self, (x,))
        return (image * self.weights(image)).reshape(x.shape)


class AttentionalFusion(MultiScale, Fusion):
    """Base of the fusions on MS-CAM."""

    def select(self, u: Tensor, x: Tensor, y: Tensor, suffix: str = '') -> Tensor:
        """M(u) * x + (1 - M(u)) * y."""
        return (x - y) * self.weights(u, suffix) + y


class AFF(AttentionalFusion):
    """Attentional feature fusion, z = 2 * (M(x + y) * x + (1 - M(x + y)) * y) (section 3.2, eq. 3).

    The factor 2, which the paper does not print and the released networks have, makes M = 1/2 a plain addition.

    Inputs x (the map that M multiplies) and y, and output: (N, C, T), (N, C, H, W) or (N, C, D, H, W). A training batch
    needs at least two of them.

    Parameters
    ----------
    channels : int
        C of both inputs.
    reduction : int, default 4
        r: the contexts squeeze C channels to C / r. The paper uses 4 in basic blocks and 16 in bottlenecks.
    scales : pair of {'local', 'global'}, default ('local', 'global')
        The two contexts that M adds.
    norm_layer : callable, default :class:`torch.nn.BatchNorm2d`
        Makes a normalisation from a number of channels.

    Raises
    ------
    ValueError
        If C is not a multiple of r, a scale is unknown, or x and y are not maps of one shape.
    """

    def residual(self, body, identity):
        # In the released networks M multiplies the learned branch.
        return self(body, identity)

    def formula(self, x, y):
        return 2 * self.select(x + y, x, y)


def _drop_second_global(module, state_dict, prefix, *_):
    """Before loading, drop the parameters of a second global context."""
    for name in [name for name in state_dict if name.startswith(prefix + 'global_att2.')]:
        del state_dict[name]


class IAFF(AFF):
    """Iterative AFF (section 3.3, eq. 4): z = M2(u) * x + (1 - M2(u)) * y with the paper's AFF as u.

    u = M1(x + y) * x + (1 - M1(x + y)) * y. There is no factor 2, as in the released networks.

    Inputs x (the map that M multiplies) and y, and output: (N, C, T), (N, C, H, W) or (N, C, D, H, W).

    Parameters
    ----------
    channels, reduction, scales, norm_layer : see :class:`AFF`.
    shared_global : bool, default False
        M2 uses the global context of M1, as the authors' PyTorch code and LAION-CLAP do. The second one in their state
        dicts, which is never used, is then ignored.

    Raises
    ------
    ValueError
        As :class:`AFF` does.
    """

    rounds = 2

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        *,
        scales: tuple[str, str] = SCALES,
        norm_layer: Callable = nn.BatchNorm2d,
        shared_global: bool = False,
    ):
        super().__init__(channels, reduction, scales=scales, norm_layer=norm_layer)
        self.shared_global = shared_global
        if shared_global:
            del self.global_att2
            self.register_load_state_dict_pre_hook(_drop_second_global)

    def weights(self, x, suffix=''):
        if suffix and self.shared_global:
            return torch.sigmoid(self.mix(self.local_att2(x), self.global_att(x)))
        return super().weights(x, suffix)

    def formula(self, x, y):
        u = self.select(x + y, x, y)
        return self.select(u, x, y, '2')


class FixedScalesAFF(AFF):
    """Base of AFF with a fixed pair of scales."""

    scales: tuple[str, str]

    def __init__(self, channels: int, reduction: int = 4, *, norm_layer: Callable = nn.BatchNorm2d):
        super().__init__(channels, reduction, scales=self.scales, norm_layer=norm_layer)


class GlobalAFF(FixedScalesAFF):
    """AFF with two global contexts (table 3)."""

    scales = ('global', 'global')


class LocalAFF(FixedScalesAFF):
    """AFF with two local contexts (table 3)."""

    scales = ('local', 'local')


class HalfAFF(AFF):
    """AFF with the mean of the two contexts in place of their sum (table 6)."""

    def mix(self, first, second):
        return super().mix(first, second) / 2


class ConcatAFF(AFF):
    """AFF whose contexts are mixed by a learned 1x1 convolution without bias, of both concatenated (table 6)."""

    def _add_layers(self, channels, reduction, **options):
        # The convolution's two halves, so that a global context is convolved at 1x1.
        self.local_conv = pointwise_conv(channels, channels, bias=False)
        self.global_conv = pointwise_conv(channels, channels, bias=False)

    def mix(self, first, second):
        return super().mix(self.local_conv(first), self.global_conv(second))


class RecursiveAFF(AFF):
    """AFF whose contexts are themselves fused by AFF (table 6), in our reading of it."""

    def _add_layers(self, channels, reduction, **options):
        self.fuse = AFF(channels, reduction, **options)

    def mix(self, first, second):
        return self.fuse(*torch.broadcast_tensors(first, second))


class MSGAU(AttentionalFusion):
    """z = M(y) * x + y: modulation by a partial context (table 4); options as :class:`AFF`."""

    def formula(self, x, y):
        return self.weights(y) * x + y


class MSSE(AttentionalFusion):
    """z = x + M(y) * y: refinement by a partial context (table 4); options as :class:`AFF`."""

    def formula(self, x, y):
        return x + self.weights(y) * y


class MSSA(AttentionalFusion):
    """z = M(x + y) * x + y: modulation by the full context (table 4); options as :class:`AFF`."""

    def formula(self, x, y):
        return self.weights(x + y) * x + y


class Highway(AttentionalFusion):
    """z = M(x) * x + (1 - M(x)) * y: soft selection by a partial context (table 4); options as :class:`AFF`."""

    def formula(self, x, y):
        return self.select(x, x, y)


class SK(Fusion):
    """z = 2 * (a * x + b * y), (a, b) the softmax over two outputs of the global context of x + y (table 4)."""

    def __init__(self, channels: int, reduction: int = 4, *, norm_layer: Callable = nn.BatchNorm2d):
        super().__init__()
        self.global_att = ChannelContext(channels, reduction, 'global', 2, norm_layer)

    def formula(self, x, y):
        a, b = self.global_att(x + y).chunk(2, 1)
        # Over two logits softmax is the sigmoid of their difference.
        return 2 * ((x - y) * torch.sigmoid(a - b) + y)


FUSIONS: dict[str, type[Fusion]] = {
    'add': Add,
    'concat': Concat,
    'aff': AFF,
    'iaff': IAFF,
    'ms_gau': MSGAU,
    'ms_se': MSSE,
    'ms_sa': MSSA,
    'sk': SK,
    'highway': Highway,
    'global_aff': GlobalAFF,
    'local_aff': LocalAFF,
    'half_aff': HalfAFF,
    'concat_aff': ConcatAFF,
    'recursive_aff': RecursiveAFF,
}


def get_fusion(fusion: str | Callable) -> Callable:
    """Look up a fusion by its name in `FUSIONS`; a callable is returned unchanged.

    Parameters
    ----------
    fusion : str or callable
        A name, or what makes a :class:`Fusion` from ``channels``, ``reduction`` and ``norm_layer``.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    if callable(fusion):
        return fusion
    if str(fusion).lower() not in FUSIONS:
        raise ValueError(f'Unknown fusion {fusion!r}; known: {", ".join(FUSIONS)}.')
    return FUSIONS[str(fusion).lower()]


class MultiInputAFF(nn.Module):
    """AFF of n maps: z = n * (w_1 * x_1 + ... + w_n * x_n), where w_1 + ... + w_n = 1 at each position and channel.

    w is the softmax over (a_1, ..., a_(n-1), 0), where a_i is the sum of a local and a global context of
    x_1 + ... + x_n; for n = 2 it is :class:`AFF`, with the same parameters.

    Inputs x_1, ..., x_n and output: (N, C, T), (N, C, H, W) or (N, C, D, H, W).

    Parameters
    ----------
    channels : int
        C of all inputs.
    inputs : int, default 2
        n.
    reduction, scales, norm_layer : see :class:`AFF`.

    Raises
    ------
    ValueError
        As :class:`AFF` does, and for another number of inputs.
    """

    def __init__(
        self,
        channels: int,
        inputs: int = 2,
        *,
        reduction: int = 4,
        scales: tuple[str, str] = SCALES,
        norm_layer: Callable = nn.BatchNorm2d,
    ):
        super().__init__()
        if inputs < 2:
            raise ValueError(f'MultiInputAFF fuses two inputs or more, got inputs={inputs}.')
        self.inputs = inputs
        self.local_att, self.global_att = (
            ChannelContext(channels, reduction, scale, inputs - 1, norm_layer) for scale in scales
        )

    def forward(self, *maps: Tensor) -> Tensor:
        if len(maps) != self.inputs:
            raise ValueError(f'This MultiInputAFF was made for {self.inputs} inputs, got {len(maps)}.')
        images = torch.stack(_as_images(self, maps), 1)
        total = images.sum(1)
        logits = self.local_att(total) + self.global_att(total)
        logits = logits.unflatten(1, (self.inputs - 1, -1))
        logits = torch.cat([logits, torch.zeros_like(logits[:, :1])], 1)
        return (self.inputs * (images * logits.softmax(1)).sum(1)).reshape(maps[0].shape)


class AlignedFusion(nn.Module):
    """z = fuse(conv(x), resize(y)): a 1x1 convolution brings x to C channels, bilinear resizing y to the size of x.

    Inputs x (N, C_x, H, W), the low-level map, and y (N, C, h, w), the high-level one; output (N, C, H, W).

    Parameters
    ----------
    channels, in_channels : int
        C and C_x.
    fusion : str or callable, default 'aff'
        See :func:`get_fusion`.
    reduction, norm_layer : see :class:`AFF`.

    Raises
    ------
    ValueError
        For an unknown fusion, or a reduction that does not divide C.
    """

    def __init__(
        self,
        channels: int,
        in_channels: int,
        *,
        fusion: str | Callable = 'aff',
        reduction: int = 4,
        norm_layer: Callable = nn.BatchNorm2d,
    ):
        super().__init__()
        self.expand = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.fuse = get_fusion(fusion)(channels, reduction, norm_layer=norm_layer)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        y = functional.interpolate(y, size=x.shape[2:], mode='bilinear', align_corners=False)
        return self.fuse(self.expand(x), y)
