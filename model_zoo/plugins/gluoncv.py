"""Our networks in GluonCV: known to its model zoo by name, and as backbones of its segmenters and detectors.

References: Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015; Zhao et al., "Pyramid
Scene Parsing Network", CVPR 2017; Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any, Sequence

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from gluon_aff._environment import check_gluoncv
from gluon_aff._mxnet import gluoncv_registry, set_gluoncv_crop_size
from gluon_aff.errors import positive, unknown

from ..hosts.resnet import ResNet
from ..hosts.resnext import ResNeXt
from ..registry import get_model, list_models
from ..weights import list_weights

__all__ = ['feature_layers', 'register_with_gluoncv', 'segmentation_model', 'unregister_from_gluoncv']

# GluonCV's classes, by the names that its own models begin with.
SEGMENTERS = {'fcn': 'FCN', 'psp': 'PSPNet', 'deeplab': 'DeepLabV3'}


def _build(name, **options):
    net = get_model(name, **options)
    # As in GluonCV, whose scripts name what a pretrained network sees by its `classes`.
    if net.class_names:
        net.classes = net.class_names
    return net


def _backbone(theirs, name, **options):
    if callable(name):
        return name(**options)
    # GluonCV has backbones of four of our names: its resnet18_v1b, resnet34_v1b, resnet50_v1s and resnet101_v1s.
    if name.lower() in list_models(exclude=('resnet18', 'resnet34', 'resnet50', 'resnet101')):
        return _as_resnet(get_model(name, **options))
    return theirs(name, **options)


def _as_resnet(net):
    """A ResNet as GluonCV's segmenters use it: a ResNeXt's layers under a ResNet's names."""
    if not isinstance(net, ResNeXt):
        return net
    (*stem, bn1, relu, maxpool), *stages = net.stages()
    if len(stem) > 1:
        conv1 = nn.HybridSequential(prefix='conv1_')
        conv1.add(*stem)
    else:
        (conv1,) = stem
    return SimpleNamespace(
        conv1=conv1,
        bn1=bn1,
        relu=relu,
        maxpool=maxpool,
        **{f'layer{number}': stage for number, (stage,) in enumerate(stages, start=1)},
    )


def register_with_gluoncv() -> None:
    """Make every registered network known to GluonCV under its name, until `unregister_from_gluoncv`.

    Then ``gluoncv.model_zoo.get_model`` builds them with the keywords of :func:`model_zoo.get_model`, released weights
    included, and GluonCV's classes take their names for a network or backbone. ``get_model_list`` lists them, and
    ``pretrained_model_list`` those with released weights. GluonCV's own names keep their meaning. As in GluonCV's
    networks, `classes` of one with released weights is the tuple of class names. Another call adds the networks that
    were registered since.

    Raises
    ------
    ImportError
        If GluonCV is not installed, or its version not in the supported range.
    """
    check_gluoncv()
    from gluoncv.model_zoo import segbase

    networks, digests = gluoncv_registry()
    for name in list_models():
        if name not in networks and name not in digests:
            networks[name] = partial(_build, name)
            for weights in list_weights(name)[:1]:
                digests[name] = weights.digest
    if not isinstance(segbase.get_backbone, partial):
        segbase.get_backbone = partial(_backbone, segbase.get_backbone)


def unregister_from_gluoncv() -> None:
    """Undo `register_with_gluoncv`; networks that were built stay as they are.

    Raises
    ------
    ImportError
        As `register_with_gluoncv`.
    """
    check_gluoncv()
    from gluoncv.model_zoo import segbase

    networks, digests = gluoncv_registry()
    for name in [name for name, build in networks.items() if getattr(build, 'func', None) is _build]:
        del networks[name]
        digests.pop(name, None)
    if isinstance(segbase.get_backbone, partial):
        segbase.get_backbone = segbase.get_backbone.args[0]


def feature_layers(name: str, **options: Any) -> list[str]:
    """Names of the last layer of each stage, for GluonCV's feature expanders.

    Parameters
    ----------
    name : str
        Of a registered network.
    **options
        The network's, as for :func:`model_zoo.get_model`.

    Returns
    -------
    list of str
        One for each stage, stage 1 first; in an ImageNet network they have 1/4 to 1/32 of the input's size. Without the
        network's prefix and ``_output``, as FeatureExpander, FPNFeatureExpander and SSD expect them.

    Raises
    ------
    ValueError
        For an unknown name or option.
    """
    net = get_model(name, **options)
    maps = net.stage_outputs(mx.sym.var('data'), range(1, len(net.stages())))
    return [features.name[len(net.prefix) :] for features in maps]


def segmentation_model(
    name: str,
    nclass: int,
    *,
    output_stride: int = 8,
    aux: bool = True,
    base_size: int = 520,
    crop_size: int = 480,
    pretrained_base: bool | str = False,
    ctx: mx.Context | Sequence[mx.Context] | None = None,
    root: str | None = None,
    norm_layer: type = nn.BatchNorm,
    norm_kwargs: dict | None = None,
    **options: Any,
) -> HybridBlock:
    """GluonCV's FCN, PSPNet or DeepLabV3 on a dilated network of ours. Registers with GluonCV, which builds it.

    Parameters
    ----------
    name : str
        'fcn', 'psp' or 'deeplab', and a network for ImageNet, which takes `dilated`, as in 'fcn_iaff_resnet50' or
        'psp_aff_resnext50_32x4d'.
    nclass : int
    output_stride : {8, 16}
        Of the backbone's last map, in pixels of the input.
    aux : bool, default True
        A second head, on the third stage.
    base_size, crop_size : int, default 520, 480
        As in GluonCV: crop_size is the side of the images in training, a multiple of output_stride.
    pretrained_base : bool or str, default False
        The backbone's parameters, as `pretrained` of :func:`model_zoo.get_model`. Without, the backbone is left
        uninitialised; the heads are initialised in any case.
    ctx : mxnet.Context or list of it, default mxnet.cpu()
    root : str, default '~/.mxnet/models' (or $MXNET_HOME/models)
    norm_layer, norm_kwargs : the normalisation of backbone and heads, and more arguments for it
    **options
        The backbone's: fusion, reduction, use_global_stats, ...

    Returns
    -------
    gluoncv.model_zoo.segbase.SegBaseModel
        Input (N, 3, crop_size, crop_size); output a tuple of logits (N, nclass, crop_size, crop_size), the second
        head's last. ``predict`` takes images of any size.

    Raises
    ------
    ValueError
        For an unknown name or option, or one out of its range.
    ImportError
        If GluonCV is not installed, or its version not in the supported range.
    """
    head, _, backbone = str(name).lower().partition('_')
    if head not in SEGMENTERS:
        raise unknown('segmentation head', head, SEGMENTERS)
    if output_stride not in (8, 16):
        raise ValueError(f'output_stride must be 8 or 16, got {output_stride!r}.')
    if positive('crop_size', crop_size) % output_stride:
        raise ValueError(f'crop_size must be a multiple of the output_stride {output_stride}, got {crop_size}.')

    host = get_model(backbone)
    if not isinstance(host, (ResNet, ResNeXt)) or not getattr(host, 'bottleneck', True):
        raise ValueError(
            f'{name} needs a ResNet or ResNeXt for ImageNet with bottlenecks, such as iaff_resnet50, not {backbone}.'
        )

    # GluonCV asks for `dilated=True`, which is a stride of 8.
    def build(dilated, **settings):
        net = get_model(backbone, dilated=output_stride, root=root, **settings, **options)
        if net.input_size not in (None, (crop_size, crop_size)):
            raise ValueError(f'{backbone} takes images of one size only; give input_size={crop_size}, the crop_size.')
        return _as_resnet(net)

    register_with_gluoncv()
    import gluoncv

    # The heads size their maps for a stride of 8.
    net = getattr(gluoncv.model_zoo, SEGMENTERS[head])(
        positive('nclass', nclass),
        backbone=build,
        aux=aux,
        ctx=ctx or mx.cpu(),
        pretrained_base=pretrained_base,
        base_size=base_size,
        crop_size=crop_size * 8 // output_stride,
        norm_layer=norm_layer,
        norm_kwargs=norm_kwargs,
    )
    set_gluoncv_crop_size(net, crop_size)
    return net
