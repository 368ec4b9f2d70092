"""Normalisation layers of any kind through one call."""

from __future__ import annotations

import inspect
from math import gcd
from typing import Callable

from mxnet.gluon.block import HybridBlock

__all__ = ['build_norm']


def build_norm(norm_layer: Callable, in_channels: int, **kwargs) -> HybridBlock:
    """Make a normalisation layer, ``norm_layer(in_channels=in_channels, **kwargs)``.

    GroupNorm, MXNet's or GluonCV's, does not get the arguments that it lacks: in_channels, center, scale. If its groups
    do not divide the channels, it gets fewer that do and that have at least two channels each, because a single value
    is normalised to zero on 1x1 maps.

    Parameters
    ----------
    norm_layer : callable
        A class such as :class:`mxnet.gluon.nn.BatchNorm`, or a partial of one.
    in_channels : int
    **kwargs
        Further arguments of norm_layer.

    Raises
    ------
    ValueError
        If GroupNorm is to use global statistics.
    """
    known = inspect.signature(norm_layer).parameters
    kwargs['in_channels'] = in_channels
    groups = next((name for name in ('num_groups', 'ngroups') if name in known), None)
    if groups:
        if kwargs.pop('use_global_stats', False):
            raise ValueError('GroupNorm has no global statistics; leave use_global_stats out.')
        lacking = {'in_channels', 'center', 'scale'} - known.keys()
        kwargs = {key: value for key, value in kwargs.items() if key not in lacking}
        count = kwargs.get(groups, known[groups].default)
        kwargs[groups] = count if in_channels % count == 0 else gcd(count, max(in_channels // 2, 1))
        if in_channels % kwargs[groups]:
            kwargs[groups] = 1
    return norm_layer(**kwargs)
