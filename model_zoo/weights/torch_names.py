"""Parameter names in PyTorch: those of timm and torchvision, and of the authors' PyTorch code."""

from __future__ import annotations

import re
from typing import Collection

import numpy as np

__all__ = ['rename_state_dict', 'torch_names']

NORM = {'gamma': 'weight', 'beta': 'bias'}
SE = {'.gate.excite.0.': '.se.fc1.', '.gate.excite.2.': '.se.fc2.'}
# The layers of a ResNeXt block's body.
BODY = {'0': 'conv1', '1': 'bn1', '3': 'conv2', '4': 'bn2', '6': 'conv3', '7': 'bn3'}
# The layers of a selective kernel convolution.
SK = {
    'small.0': 'paths.0.conv',
    'small.1': 'paths.0.bn',
    'large.0': 'paths.1.conv',
    'large.1': 'paths.1.bn',
    'select.1': 'attn.fc_reduce',
    'select.2': 'attn.bn',
    'select.4': 'attn.fc_select',
}


def torch_names(names: Collection[str]) -> dict[str, str]:
    """The names that a network's parameters have in a PyTorch state dict.

    For ImageNet ResNets, SE-ResNets, SKNets and ResNeXts they are timm's (and torchvision's), with those of the fusions
    in `attention` of each block. For other networks only a normalisation's gamma and beta change, into weight and bias.

    Parameters
    ----------
    names : collection of str
        All structural names of one network.

    Returns
    -------
    dict of str to str
    """
    stages = sorted({int(match[1]) for match in (re.match(r'features\.(\d+)\.\d+\.body\.', n) for n in names) if match})
    resnext = stages[:1] in ([4], [10])  # after a shallow or a deep stem; CIFAR's begin at 3
    pools = [name for name in names if re.fullmatch(r'features\.\d+\.0\.downsample\.2\.gamma', name)]
    pooled = bool(pools) or stages == [10]  # the first stage alone has no pool
    selective = any('.small.' in name for name in names)
    squeeze = {} if any('.gate.gather.' in name for name in names) else SE
    renamed = {}
    for name in names:
        theirs = _resnext_name(name, stages, pooled) if resnext else _sknet_name(name) if selective else name
        for ours, timm in squeeze.items():
            theirs = theirs.replace(ours, timm)
        renamed[name] = _torch_norm(theirs)
    return renamed


def _torch_norm(name):
    module, dot, parameter = name.rpartition('.')
    return module + dot + NORM.get(parameter, parameter)


def _resnext_name(name, stages, pooled):
    """The name in timm of an ImageNet ResNeXt's parameter; `pooled`: its shortcuts pool before their convolution."""
    module, *path = name.split('.')
    if module != 'features':
        return name.replace('output.', 'fc.', 1)
    layer = int(path[0])
    if layer < stages[0]:
        last = stages[0] - 3  # the stem ends in a normalisation, ReLU and max-pool
        stem = 'bn1' if layer == last else 'conv1' if last == 1 else f'conv1.{layer}'
        return '.'.join([stem, *path[1:]])
    _, block, part, *path = path
    if part == 'body':
        part, path = BODY.get(path[0], f'body.{path[0]}'), path[1:]
    elif part == 'downsample' and pooled and layer == stages[0]:  # timm has an identity in place of the pool
        path = [str(int(path[0]) + 1), *path[1:]]
    return '.'.join([f'layer{stages.index(layer) + 1}', block, part, *path])


def _sknet_name(name):
    """The name in timm of an SKNet's parameter; its blocks name each convolution and normalisation as a pair."""
    match = re.fullmatch(r'(layer\d\.\d+\.)(conv|bn)(\d)\.(?:(\w+\.\d)\.)?(\w+)', name)
    if not match:
        return name
    block, kind, number, layer, parameter = match.groups()
    return f'{block}conv{number}.{SK[layer] if layer else kind}.{parameter}'


def rename_state_dict(arrays: dict[str, np.ndarray], names: Collection[str]) -> dict[str, np.ndarray]:
    """The arrays of a PyTorch state dict under a network's structural names; unknown names stay.

    The state dict may have the names of :func:`torch_names`, the structural ones, with gamma and beta or weight and
    bias, or those of the authors' PyTorch code, where a block's fusion is `fuse_mode`. That code's iAFF, like those
    derived from it, has a second global context that it never uses. It is left out where the network has none
    (:class:`gluon_aff.IAFF` with ``shared_global=True``). Elsewhere, where it was never used, as its running means
    show, the first one's parameters take its place, which gives that code's outputs in inference.

    Parameters
    ----------
    arrays : dict of str to numpy.ndarray
    names : collection of str
        All structural names of the network.
    """
    arrays = _without_unused_contexts(arrays, names)
    ours = {}
    for name, theirs in torch_names(names).items():
        for alias in (name, _torch_norm(name), theirs, theirs.replace('.attention.', '.fuse_mode.')):
            ours.setdefault(alias, name)
    renamed = {}
    for name, array in arrays.items():
        known = ours.get(name, name)
        renamed[name if known in renamed else known] = array
    return renamed


def _without_unused_contexts(arrays, names):
    """The arrays of a state dict without the second global contexts that a PyTorch iAFF never used."""
    second = {name: name.replace('global_att2.', 'global_att.') for name in arrays if _is_second(name)}
    if not any(map(_is_second, names)):
        return {name: array for name, array in arrays.items() if name not in second}

    def used(contexts):
        return any(arrays[name].any() for name in contexts if name.endswith('.running_mean') and name in arrays)

    # A network that was not trained shows nothing, except by the names of the authors' code.
    theirs = any('.fuse_mode.' in name for name in second)
    if used(second) or not (theirs or used(second.values())):
        return arrays
    return {**arrays, **{name: arrays[first] for name, first in second.items() if first in arrays}}


def _is_second(name):
    return 'global_att2' in name.split('.')
