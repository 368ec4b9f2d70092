"""Fusion blocks, (x, y) -> z, which replace the addition or concatenation of two feature maps.

Reference: Dai et al., "Attentional Feature Fusion", WACV 2021 (arXiv 2009.14082): AFF and iAFF from sections 3.2 and
3.3, the other strategies from table 4, where each is built on MS-CAM, and the other ways to mix the contexts from table
6, in the supplement. M(.) are MS-CAM's weights.
"""

from __future__ import annotations

from typing import Callable

from mxnet.gluon import ParameterDict, nn

from .._deprecated import renamed
from ..errors import unknown
from . import kernels
from .context import SCALES, ChannelBlock, ChannelContext, MultiScale, PointwiseConv, make_contexts
from .layout import broadcast_spatial, sigmoid

__all__ = [
    'AFF',
    'Add',
    'Concat',
    'ConcatAFF',
    'FUSIONS',
    'GlobalAFF',
    'HalfAFF',
    'Highway',
    'IAFF',
    'LocalAFF',
    'MSGAU',
    'MSSA',
    'MSSE',
    'RecursiveAFF',
    'SK',
    'get_fusion',
]


def soft_weights(F, logits, like):
    """a, where (a, b) is the softmax over the halves of logits (N, 2 C, 1, 1), broadcast to the H and W of `like`."""
    a, b = F.split(logits, num_outputs=2, axis=1)
    # Over two logits softmax is the sigmoid of their difference.
    return broadcast_spatial(F, sigmoid(F, a - b), like)


class Fusion(ChannelBlock):
    """Base of the fusions, from which to derive your own by a method `combine` of maps x and y (N, C, H, W).

    Takes channels, reduction, norm_layer, norm_kwargs and spatial_dims as :class:`AFF` does; x, y and z are then maps
    (N, C, T), (N, C, H, W) or (N, C, D, H, W), which `combine` sees as images. In the formulas x is the low-level map
    or the identity and y the map with the larger receptive field; `residual` orders a residual block's two branches
    accordingly.

    Raises
    ------
    ValueError
        As :class:`AFF` does.
    """

    def residual(self, body, identity):
        """Fuse a residual block's learned branch with its shortcut."""
        return self(identity, body)


class AttentionalFusion(kernels.CompiledBlock, MultiScale, Fusion):
    """Base of the fusions on MS-CAM."""

    gate = renamed('modulate')
    adds_to_shortcut = False  # whether the y of `modulate` is, in a residual block, the shortcut

    def modulate(self, F, u, x, y, suffix='', scale=1, difference=False):
        """Return scale * (M(u) * x + y), or scale * (M(u) * (x - y) + y) of the difference; in the default layout."""
        layers = {context.scale: context.layers for context in self.contexts(suffix)}
        if len(layers) == 2 and type(self).mix is MultiScale.mix and kernels.supports(F, *layers.values()):
            return kernels.modulate(F, u, x, y, layers['local'], layers['global'], scale, difference)
        # Not * and +, which MXNet quantizes: its INT8 product is slower than this one, and knows no uint8. The shortcut
        # comes first: MXNet's mixed precision would take it for bfloat16 once it has met the learned branch.
        product = F.broadcast_mul(x - y if difference else x, self.weights(F, u, suffix))
        z = F.broadcast_add(y, product) if self.adds_to_shortcut else F.broadcast_add(product, y)
        return z if scale == 1 else scale * z

    def select(self, F, u, x, y, suffix='', scale=1):
        """Return scale * (M(u) * x + (1 - M(u)) * y), with one product less; maps in the default layout."""
        return self.modulate(F, u, x, y, suffix, scale, difference=True)


class Add(Fusion):
    """z = x + y: the fusion of ResNet, without parameters.

    Accepts and ignores the reduction and the normalisation of the other fusions. Shapes as for :class:`AFF`.

    Raises
    ------
    ValueError
        If the inputs are not maps of one shape.
    """

    squeezes = False

    def hybrid_forward(self, F, x, y):
        # Not x + y: oneDNN's subgraphs (Module, optimize_for) fuse elemwise_add into the convolution before it, and
        # lose the norm after that convolution in a pre-activation network.
        return F.add_n(x, y)


class AddAfterNorm(Add):
    """Add where both maps end in a norm or a ReLU: oneDNN's subgraphs compute it as part of the convolution before."""

    def hybrid_forward(self, F, x, y):
        return x + y


class Concat(Fusion):
    """z = 1x1 convolution of BatchNorm([x, y]) (table 4): concatenation, brought back to C channels.

    Shapes as for :class:`AFF`.

    Parameters
    ----------
    channels, norm_layer, norm_kwargs, spatial_dims : see :class:`AFF`; reduction is accepted and ignored.

    Raises
    ------
    ValueError
        If the inputs are not maps of one shape.
    """

    squeezes = takes_default_layout = False

    def _make_layers(self):
        self.bn = self._make_norm(2 * self.channels)
        self.conv = PointwiseConv(self.channels, 2 * self.channels, use_bias=False)

    def _set_widths(self, channels):
        self.conv.set_widths(channels, 2 * channels)

    def combine(self, F, x, y):
        return self.conv(self.bn(F.concat(x, y, dim=1)))


class AFF(AttentionalFusion):
    """Attentional feature fusion, z = 2 * (M(x + y) * x + (1 - M(x + y)) * y) (section 3.2, eq. 3).

    The factor 2, which the paper does not print and the released networks have, makes M = 1/2 a plain addition.

    Inputs x (the map that M multiplies) and y, and output: images' maps (N, C, H, W), sequences (N, C, T) or volumes
    (N, C, D, H, W). A training batch needs at least two of them. The parameters' shapes are the same for all three.

    Parameters
    ----------
    channels : int, default 0
        C of both inputs; 0 takes it from the first input, as Gluon's layers do. A network that is hybridized before its
        first forward needs it.
    reduction : int, default 4
        r: the contexts squeeze C channels to C / r. The paper uses 4 in basic blocks and 16 in bottlenecks.
    scales : pair of {'local', 'global'}, default ('local', 'global')
        The two contexts that M adds (ablated in table 3); all choices have the same number of parameters.
    norm_layer, norm_kwargs : callable and dict, default :class:`mxnet.gluon.nn.BatchNorm`
        The normalisation of the contexts, called as ``norm_layer(in_channels=..., **norm_kwargs)``.
    spatial_dims : {0, 1, 2, 3}, default 0
        Number of axes behind C; 0 takes it from the first input. A network of sequences or volumes that is hybridized
        before its first forward, or called on symbols, needs it: a symbol has no number of axes, and stands for images.

    Raises
    ------
    ValueError
        If C is smaller than r or not a multiple of it, a scale is unknown, or x and y are not such maps of one shape.
    """

    adds_to_shortcut = True

    def residual(self, body, identity):
        # In the released networks M multiplies the learned branch.
        return self(body, identity)

    def combine(self, F, x, y):
        return self.select(F, F.broadcast_add(x, y), x, y, scale=2)


class IAFF(AFF):
    """Iterative AFF (section 3.3, eq. 4): z = M2(u) * x + (1 - M2(u)) * y with the paper's AFF as u.

    u = M1(x + y) * x + (1 - M1(x + y)) * y. M1 and M2 have their own parameters. There is no factor 2, as in the
    released networks.

    Inputs x (the map that M multiplies) and y; shapes as for :class:`AFF`.

    Parameters
    ----------
    channels, reduction, scales, norm_layer, norm_kwargs, spatial_dims : see :class:`AFF`; the scales hold for both.
    shared_global : bool, default False
        M2 uses the global context of M1 and has none of its own, as in the authors' PyTorch code and in LAION-CLAP,
        where the second one exists and is never used.

    Raises
    ------
    ValueError
        As :class:`AFF` does.
    """

    def __init__(
        self,
        channels: int = 0,
        reduction: int = 4,
        scales: tuple[str, str] = SCALES,
        norm_layer: Callable = nn.BatchNorm,
        norm_kwargs: dict | None = None,
        prefix: str | None = None,
        params: ParameterDict | None = None,
        *,
        spatial_dims: int = 0,
        shared_global: bool = False,
    ):
        super().__init__(
            channels, reduction, scales, norm_layer, norm_kwargs, prefix, params, spatial_dims=spatial_dims
        )
        self.shared_global = shared_global
        with self.name_scope():
            self.local_att2, global_att2 = make_contexts(channels, scales, **self._settings)
            if not shared_global:
                self.global_att2 = global_att2

    def contexts(self, suffix=''):
        local = getattr(self, 'local_att' + suffix)
        return local, self.global_att if self.shared_global else getattr(self, 'global_att' + suffix)

    def combine(self, F, x, y):
        u = self.select(F, F.broadcast_add(x, y), x, y)
        return self.select(F, u, x, y, '2')


class FixedScalesAFF(AFF):
    """Base of AFF with a fixed pair of scales."""

    scales: tuple[str, str]

    def __init__(
        self,
        channels: int = 0,
        reduction: int = 4,
        norm_layer: Callable = nn.BatchNorm,
        norm_kwargs: dict | None = None,
        prefix: str | None = None,
        params: ParameterDict | None = None,
        *,
        spatial_dims: int = 0,
    ):
        super().__init__(
            channels, reduction, self.scales, norm_layer, norm_kwargs, prefix, params, spatial_dims=spatial_dims
        )


class GlobalAFF(FixedScalesAFF):
    """AFF with two global contexts: M weights whole channels (table 3, "Global + Global").

    Inputs x (the map that M multiplies) and y; shapes and errors as for :class:`AFF`.

    Parameters
    ----------
    channels, reduction, norm_layer, norm_kwargs, spatial_dims : see :class:`AFF`, whose factor 2 and number of
        parameters it has.
    """

    scales = ('global', 'global')


class LocalAFF(FixedScalesAFF):
    """AFF with two local contexts: M sees each position alone (table 3, "Local + Local").

    Inputs x (the map that M multiplies) and y; shapes and errors as for :class:`AFF`.

    Parameters
    ----------
    channels, reduction, norm_layer, norm_kwargs, spatial_dims : see :class:`AFF`, whose factor 2 and number of
        parameters it has.
    """

    scales = ('local', 'local')


class HalfAFF(AFF):
    """AFF with the mean of the two contexts in place of their sum: M = sigmoid(local / 2 + global / 2) (table 6).

    Inputs x (the map that M multiplies) and y; shapes and errors as for :class:`AFF`.

    Parameters
    ----------
    channels, reduction, scales, norm_layer, norm_kwargs, spatial_dims : see :class:`AFF`, whose factor 2 it has, too.
    """

    def mix(self, F, first, second, like):
        return super().mix(F, first, second, like) / 2


class ConcatAFF(AFF):
    """AFF whose contexts are mixed by a learned 1x1 convolution: M = sigmoid(conv([local, global])) (table 6).

    The convolution has no bias, and 2 C^2 parameters more than :class:`AFF`.

    Inputs x (the map that M multiplies) and y; shapes and errors as for :class:`AFF`.

    Parameters
    ----------
    channels, reduction, scales, norm_layer, norm_kwargs, spatial_dims : see :class:`AFF`, whose factor 2 it has, too.
    """

    def _add_layers(self, channels, scales):
        # The convolution's two halves, so that the global context is convolved at 1x1 instead of all over the map.
        self.local_conv = PointwiseConv(channels, channels, use_bias=False)
        self.global_conv = PointwiseConv(channels, channels, use_bias=False)

    def _set_widths(self, channels):
        self.local_conv.set_widths(channels, channels)
        self.global_conv.set_widths(channels, channels)

    def mix(self, F, first, second, like):
        return super().mix(F, self.local_conv(first), self.global_conv(second), like)


class RecursiveAFF(AFF):
    """AFF whose contexts are themselves fused by AFF: M = sigmoid(AFF'(local, global)) (table 6).

    AFF'(l, g) = 2 * (M'(l + g) * l + (1 - M'(l + g)) * g), with the global context broadcast over the map: a second
    MS-CAM selects between the local and the global context; with M' = 1/2 this is :class:`AFF`. The formula is our
    reading of the table.

    Inputs x (the map that M multiplies) and y; shapes and errors as for :class:`AFF`.

    Parameters
    ----------
    channels, reduction, scales, norm_layer, norm_kwargs, spatial_dims : see :class:`AFF`, whose factor 2 it has, too;
        they apply to both levels, so that it has twice the parameters.
    """

    def _add_layers(self, channels, scales):
        self.fuse = AFF(channels, scales=scales, **self._settings)

    def mix(self, F, first, second, like):
        return self.fuse(*self.align(F, first, second, like))


class MSGAU(AttentionalFusion):
    """z = M(y) * x + y: modulation by a partial context, as in the global attention upsample (table 4).

    Inputs x (low-level or identity) and y (larger receptive field); shapes and errors as for :class:`AFF`.

    Parameters
    ----------
    channels, reduction, scales, norm_layer, norm_kwargs, spatial_dims : see :class:`AFF`.
    """

    def combine(self, F, x, y):
        return self.modulate(F, y, x, y)


class MSSE(AttentionalFusion):
    """z = x + M(y) * y: refinement by a partial context, as in squeeze-and-excitation (table 4).

    Inputs x (low-level or identity) and y (larger receptive field); shapes and errors as for :class:`AFF`.

    Parameters
    ----------
    channels, reduction, scales, norm_layer, norm_kwargs, spatial_dims : see :class:`AFF`.
    """

    adds_to_shortcut = True

    def combine(self, F, x, y):
        return self.modulate(F, y, y, x)


class MSSA(AttentionalFusion):
    """z = M(x + y) * x + y: modulation by the full context, as in spatial attention (table 4).

    Inputs x (low-level or identity) and y (larger receptive field); shapes and errors as for :class:`AFF`.

    Parameters
    ----------
    channels, reduction, scales, norm_layer, norm_kwargs, spatial_dims : see :class:`AFF`.
    """

    def combine(self, F, x, y):
        return self.modulate(F, F.broadcast_add(x, y), x, y)


class Highway(AttentionalFusion):
    """z = M(x) * x + (1 - M(x)) * y: soft selection by a partial context, as in highway networks (table 4).

    Inputs x (low-level or identity) and y (larger receptive field); shapes and errors as for :class:`AFF`.

    Parameters
    ----------
    channels, reduction, scales, norm_layer, norm_kwargs, spatial_dims : see :class:`AFF`.
    """

    def combine(self, F, x, y):
        return self.select(F, x, x, y)


class SK(Fusion):
    """z = 2 * (a * x + b * y), (a, b) the softmax over two outputs of the global context of x + y (table 4).

    The selective kernel's fusion (Li et al., CVPR 2019); the factor 2 makes a = b = 1/2 a plain addition.

    Shapes and errors as for :class:`AFF`.

    Parameters
    ----------
    channels, reduction, norm_layer, norm_kwargs, spatial_dims : see :class:`AFF`.
    """

    def _make_layers(self):
        self.global_att = ChannelContext(self.channels, scale='global', outputs=2, **self._settings)

    def weights(self, F, u):
        """a(u) of a map u (N, C, H, W) in the default layout, in the same shape."""
        return soft_weights(F, self.global_att(u), u)

    def combine(self, F, x, y):
        weights = self.weights(F, F.broadcast_add(x, y))
        return 2 * F.broadcast_add(F.broadcast_mul(x - y, weights), y)


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
    """Look up a fusion by name; a callable is returned unchanged.

    Parameters
    ----------
    fusion : str or callable
        A key of `FUSIONS`, in any case, or a callable that makes a :class:`Fusion` from ``channels``, ``reduction``,
        ``norm_layer`` and ``norm_kwargs``, such as ``functools.partial(AFF, scales=('global', 'global'))``.

    Raises
    ------
    ValueError
        For an unknown name; suggests the nearest ones.
    """
    if callable(fusion):
        return fusion
    name = str(fusion).lower()
    if name not in FUSIONS:
        raise unknown('fusion', fusion, FUSIONS)
    return FUSIONS[name]
