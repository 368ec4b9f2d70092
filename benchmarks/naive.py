"""AFF and iAFF written from their formulas in Gluon's layers, the baseline of the benchmarks of the fusion blocks.

Parameters have the names and shapes of gluon_aff.AFF's and gluon_aff.IAFF's, so that each loads the other's files.
"""

from mxnet.gluon import nn


def context(channels, reduction, norm, pooled):
    """Channel context of one scale (AFF paper, section 3.1)."""
    hidden = channels // reduction
    layers = nn.HybridSequential()
    if pooled:
        layers.add(nn.GlobalAvgPool2D())
    layers.add(
        nn.Conv2D(hidden, 1, in_channels=channels),
        norm(in_channels=hidden),
        nn.Activation('relu'),
        nn.Conv2D(channels, 1, in_channels=hidden),
        norm(in_channels=channels),
    )
    return layers


class NaiveAFF(nn.HybridBlock):
    """z = 2 * (M(x + y) * x + (1 - M(x + y)) * y), M(u) = sigmoid(local(u) + global(u))."""

    suffixes = ('',)

    def __init__(self, channels, reduction=4, norm_layer=nn.BatchNorm, norm_kwargs=None):
        super().__init__()
        with self.name_scope():
            for suffix in self.suffixes:
                for name, pooled in (('local_att', False), ('global_att', True)):
                    setattr(
                        self,
                        name + suffix,
                        context(
                            channels, reduction, lambda **kwargs: norm_layer(**kwargs, **(norm_kwargs or {})), pooled
                        ),
                    )
            self.sigmoid = nn.Activation('sigmoid')

    def residual(self, body, identity):
        return self(body, identity)

    def fuse(self, F, u, x, y, suffix=''):
        local, pooled = getattr(self, 'local_att' + suffix)(u), getattr(self, 'global_att' + suffix)(u)
        weight = self.sigmoid(F.broadcast_add(local, pooled))
        return F.broadcast_mul(x, weight) + F.broadcast_mul(y, 1 - weight)

    def hybrid_forward(self, F, x, y):
        return 2 * self.fuse(F, x + y, x, y)


class NaiveIAFF(NaiveAFF):
    """z = M2(u) * x + (1 - M2(u)) * y with u = M1(x + y) * x + (1 - M1(x + y)) * y."""

    suffixes = ('', '2')

    def hybrid_forward(self, F, x, y):
        u = self.fuse(F, x + y, x, y)
        return self.fuse(F, u, x, y, '2')


NAIVE = {'aff': NaiveAFF, 'iaff': NaiveIAFF}
