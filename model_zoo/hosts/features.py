"""Networks without their head: the maps of the stages, for networks that build on them, and embeddings.

Reference: Wightman, "PyTorch Image Models" (timm), whose names these are: features_only, out_indices, feature_info, and
num_classes=0.
"""

from __future__ import annotations

from functools import cached_property
from itertools import chain
from typing import Sequence

import numpy as np
from mxnet.gluon import nn

from gluon_aff._mxnet import children
from gluon_aff.tracing import trace

from .network import Network, StagedNetwork

__all__ = ['Embedder', 'FeatureInfo', 'FeatureMaps']


class FeatureInfo(list):
    """What the maps of a :class:`FeatureMaps` are: for each a dict of num_chs, reduction and module, as in timm."""

    def channels(self) -> list[int]:
        """C of each map."""
        return [row['num_chs'] for row in self]

    def reduction(self) -> list[int]:
        """Stride of each map, in pixels of the input."""
        return [row['reduction'] for row in self]

    def module_name(self) -> list[str]:
        """Name of the layer that each map comes from."""
        return [row['module'] for row in self]


class SharedLayers(StagedNetwork):
    """Base of the networks made of another one's layers, which keep their names, parameters and devices.

    Raises
    ------
    ValueError
        If `net` is no network of the zoo; when called, as :class:`model_zoo.hosts.network.StagedNetwork` does.
    """

    def __init__(self, net: StagedNetwork, stages: list):
        # The network's prefix, so that files with the parameters' own names fit, too.
        super().__init__(net.in_channels, prefix=net.prefix)
        self.min_size, self.input_size = net.min_size, net.input_size
        names = {}
        for name, child in children(net).items():
            names[child] = name
            if isinstance(child, nn.HybridSequential):
                names.update((layer, f'{name}.{index}') for index, layer in enumerate(child))
        self._names = [[names[layer] for layer in layers] for layers in stages]
        with self.name_scope():
            for layer in chain(*stages):
                parent, _, index = names[layer].partition('.')
                if not index:
                    setattr(self, parent, layer)
                    continue
                if parent not in children(self):
                    setattr(self, parent, nn.HybridSequential(prefix=''))
                getattr(self, parent).add(layer)

    def stages(self):
        return [[self._layer(name) for name in names] for names in self._names]

    def _layer(self, name):
        parent, _, index = name.partition('.')
        child = getattr(self, parent)
        return child[int(index)] if index else child

    def _input_dtype(self, x):
        stem = (parameter for layer in self.stages()[0] for parameter in layer.collect_params().values())
        return np.dtype(next(parameter.dtype for parameter in stem if len(parameter.shape) == 4))


class FeatureMaps(SharedLayers):
    """The maps that a network's stages end in, for a decoder or a detector: ``get_model(name, features_only=True)``.

    Map 0 is the stem's, before a pool that ends it; map 1 is that of the first stage, and so on. In a pre-activation
    network the last map is, like the others, not normalised. The network's layers are shared, under their names, so
    that a file of the network's parameters loads with ``ignore_extra=True``.

    Input (N, 3, H, W); output a list of maps (N, C_i, H_i, W_i), H_i = ceil(H / reduction_i).

    Parameters
    ----------
    net : model_zoo.Network
    out_indices : sequence of int, default all
        Numbers of maps, in the order in which they are returned; negative ones count from the last.

    Raises
    ------
    ValueError
        For a number that is no map's; when called, as :class:`model_zoo.hosts.network.StagedNetwork` does.
    """

    def __init__(self, net: StagedNetwork, out_indices: Sequence[int] | None = None):
        stem, *stages = net.stages()
        if net.pool_ends_stem:
            *stem, pool = stem
            stages[0] = [pool, *stages[0]]
        count = 1 + len(stages)
        indices = range(count) if out_indices is None else out_indices
        if (
            not isinstance(indices, (list, tuple, range))
            or not indices
            or not all(type(index) is int and -count <= index < count for index in indices)
        ):
            raise ValueError(
                f'out_indices must be numbers of the maps of {type(net).__name__}, such as (1, 2, 3): '
                f'0 to {count - 1}, got {out_indices!r}.'
            )
        self.out_indices = tuple(index % count for index in indices)
        super().__init__(net, [stem, *stages][: max(self.out_indices) + 1])

    @cached_property
    def feature_info(self) -> FeatureInfo:
        """Channels, reduction (stride) and module of each map."""
        height, width = self.input_size or (256, 256)
        _, shapes, _ = trace(self, ['data']).infer_shape(data=(1, self.in_channels or 3, height, width))
        return FeatureInfo(
            {
                'num_chs': channels,
                # Each stage halves the map, rounding up, or leaves it.
                'reduction': next(2**power for power in range(12) if -(-height // 2**power) <= rows),
                'module': self._names[index][-1],
            }
            for index, (_, channels, rows, _) in zip(self.out_indices, shapes)
        )

    def hybrid_forward(self, F, x):
        return self.stage_outputs(x, self.out_indices)


class Embedder(SharedLayers):
    """A classifier without its head, as in timm with num_classes=0: what the head would see.

    The layers are shared, as in :class:`FeatureMaps`. Input (N, 3, H, W); output (N, C), or (N, C, H', W') without the
    pool.

    Parameters
    ----------
    net : model_zoo.Network
    pool : bool, default True

    Raises
    ------
    ValueError
        For a segmentation network; when called, as :class:`model_zoo.hosts.network.StagedNetwork` does.
    """

    def __init__(self, net: Network, pool: bool = True):
        layers = net.pool_layers()
        if not layers:
            raise ValueError(
                f'{type(net).__name__} segments images and has no embedding of a whole one; '
                'features_only=True gives its feature maps.'
            )
        super().__init__(net, [net.feature_layers(), layers if pool else []])

    def hybrid_forward(self, F, x):
        return self.stage_outputs(x)[-1]
