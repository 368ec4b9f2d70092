"""Attentional fusion of any number of feature maps.

References: Dai et al., "Attentional Feature Fusion", WACV 2021 (arXiv 2009.14082); Li et al., "Selective Kernel
Networks", CVPR 2019, for the softmax over branches.
"""

from __future__ import annotations

from mxnet.gluon import nn

from ..errors import positive
from .context import ChannelBlock, make_contexts, over_plane, plain

__all__ = ['MultiInputAFF']


class MultiInputAFF(ChannelBlock):
    """AFF of n maps: z = n * (w_1 * x_1 + ... + w_n * x_n), where w_1 + ... + w_n = 1 at each place and channel.

    w is the softmax over (a_1, ..., a_(n-1), 0), where a_i is the sum of a local and a global context of
    x_1 + ... + x_n. The last logit is 0 because softmax sees differences only. So for n = 2 w_1 is the sigmoid of a_1,
    and the block is :class:`gluon_aff.AFF`, with the same parameters. The factor n makes w = 1 / n a plain addition.

    Parameters
    ----------
    channels : int, default 0
        C of all inputs; with 0 it is taken from the first input, see :class:`gluon_aff.AFF`.
    inputs : int, default 2
        n, at least 2.
    reduction, scales, norm_layer, norm_kwargs : see :class:`gluon_aff.AFF`.

    Inputs x_1, ..., x_n and output: (N, C, H, W). A training batch needs at least two images.

    Raises
    ------
    ValueError
        As :class:`gluon_aff.AFF` does, and for another number of inputs.
    """

    def __init__(
        self,
        channels=0,
        inputs=2,
        reduction=4,
        scales=('local', 'global'),
        norm_layer=nn.BatchNorm,
        norm_kwargs=None,
        prefix=None,
        params=None,
    ):
        super().__init__(channels, reduction, norm_layer, norm_kwargs, prefix=prefix, params=params)
        if positive('inputs', inputs) < 2:
            raise ValueError('MultiInputAFF fuses two inputs or more, got inputs=1.')
        self.inputs = inputs
        with self.name_scope():
            self.local_att, self.global_att = make_contexts(channels, scales, outputs=inputs - 1, **self._settings)

    def forward(self, *maps):
        if len(maps) != self.inputs:
            raise ValueError(f'This MultiInputAFF was made for {self.inputs} inputs, got {len(maps)}.')
        return super().forward(*maps)

    def weights(self, F, total):
        """(w_1, ..., w_n), (N, n, C, H, W), of the sum of the inputs, a plain map (N, C, H, W)."""
        first, second = (
            over_plane(F, context(total), context.scale, total) for context in (self.local_att, self.global_att)
        )
        logits = first + second
        # (N, (n - 1) C, H, W) to (N, n - 1, C, H, W)
        logits = F.reshape(logits, shape=(0, -4, self.inputs - 1, -1, -2))
        last = F.zeros_like(F.slice_axis(logits, axis=1, begin=0, end=1))
        return F.softmax(F.concat(logits, last, dim=1), axis=1)

    def hybrid_forward(self, F, *maps):
        maps = [plain(F, each) for each in maps]
        weights = self.weights(F, F.add_n(*maps))
        return self.inputs * F.sum(F.broadcast_mul(F.stack(*maps, axis=1), weights), axis=1)
