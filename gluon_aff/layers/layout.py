"""Operators on feature maps: their number of axes, and what avoids slow or faulty code in MXNet's CPU build."""

from __future__ import annotations

from mxnet.gluon.block import HybridBlock

__all__ = ['GlobalAvgPool', 'as_image', 'broadcast_spatial', 'default_layout', 'from_image', 'sigmoid']


def as_image(F, x, spatial_dims):
    """Flatten the spatial axes of (N, C, T) or (N, C, D, H, W) to (N, C, 1, L), which the operators on images take.

    To 1x1 convolutions, norms and means over the map the positions are a set, so this changes no result. The map is in
    the default layout, too.
    """
    return F.reshape(default_layout(F, x, 3) if spatial_dims == 3 else x, shape=(0, 0, 1, -1))


def from_image(F, image, like, spatial_dims):
    """Undo :func:`as_image`: the channels stay, and the spatial axes become those of `like`."""
    if spatial_dims == 1:  # one operator, which every engine reads
        return F.reshape(image, shape=(0, 0, -1))
    return F.reshape_like(image, like, lhs_begin=2, lhs_end=4, rhs_begin=2, rhs_end=2 + spatial_dims)


def default_layout(F, x, spatial_dims=2):
    """Convert a map once from the blocked layout that oneDNN's convolutions and norms leave.

    Otherwise every element-wise operator converts it again, into memory allocated for that call: on (8, 1024, 14, 14)
    x - y took 10 ms, and takes 1 ms in the default layout. MXNet's reshape, even to the same shape, converts images. In
    a graph it does not convert volumes, and the next operator fails ("could not create a primitive descriptor").
    """
    if spatial_dims == 3:
        return F.slice_axis(x, axis=1, begin=0, end=None)
    return F.reshape(x, shape=(0, 0, 0, 0))


def broadcast_spatial(F, pooled, like):
    """Broadcast (N, C, 1, 1) to (N, C, H, W), the size of `like`, (N, any, H, W) in the default layout.

    It is a product with ones because the gradient is then a matrix product: the sum over H and W in broadcast_add's
    took ten times as long (135 and 14 ms in a CIFAR AFF network's step of some 800).
    """
    # -1 and not 1 in the shapes: MXNet's reshape does not check that the sizes agree, and reads or writes past the end.
    # slice_axis and not slice, which on oneDNN's blocked layouts can end the process by a division by zero.
    plane = F.reshape(F.slice_axis(like, axis=1, begin=0, end=1), shape=(0, 0, -1))
    ones = F.ones_like(F.BlockGrad(plane))
    return F.reshape_like(
        F.batch_dot(F.reshape(pooled, shape=(0, 0, -1)), ones), like, lhs_begin=2, lhs_end=3, rhs_begin=2, rhs_end=4
    )


def sigmoid(F, x):
    """Sigmoid; F.sigmoid is not vectorised on the CPU and takes about three times as long."""
    return F.Activation(x, act_type='sigmoid')


class GlobalAvgPool(HybridBlock):
    """Global average pool, (N, C, H, W) -> (N, C, 1, 1), whose gradient is faster on the CPU than nn.GlobalAvgPool2D's.

    See benchmarks/global_pool.py.
    """

    def __repr__(self):
        return 'GlobalAvgPool()'

    def hybrid_forward(self, F, x):
        return F.contrib.AdaptiveAvgPooling2D(x, output_size=1)
