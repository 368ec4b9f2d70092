"""Where a network looks: class activation maps from its gradients, and the weights of its fusions.

References: Selvaraju et al., "Grad-CAM", ICCV 2017 (Grad-CAM, guided Grad-CAM); Chattopadhay et al., "Grad-CAM++", WACV
2018; Vinogradova et al., "Towards Interpretable Semantic Segmentation via Gradient-weighted Class Activation Mapping",
AAAI 2020 (the score of a region); Dai et al., "Attentional Feature Fusion", WACV 2021 (M).
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from functools import partial
from types import MethodType
from typing import NamedTuple

import numpy as np
from mxnet import MXNetError, autograd, nd
from mxnet.gluon import Parameter
from mxnet.gluon.block import Block, HybridBlock
from mxnet.ndarray import NDArray
from PIL import Image

from .._mxnet import children, detached_copy, has_values, run_unhybridized
from ..errors import unknown
from ..layers.fusion import SK, AttentionalFusion
from ..layers.multi_input import MultiInputAFF

__all__ = ['ClassMaps', 'METHODS', 'fusion_weights', 'grad_cam']

METHODS = ('grad_cam', 'grad_cam++', 'guided')


class ClassMaps(NamedTuple):
    """What :func:`grad_cam` gives: maps (N, H, W) float32 in [0, 1], classes (N,) int, and the network's outputs."""

    maps: np.ndarray
    classes: np.ndarray
    outputs: np.ndarray


def grad_cam(net, x, classes=None, layer=None, method='grad_cam', region=None):
    """Show which parts of an image are evidence for a class.

    The network is run in prediction mode, block by block, hybridized or not, as a copy that shares its parameters. So
    nothing of it changes, not for a moment, and other threads may use it meanwhile; its hooks are not called.

    Parameters
    ----------
    net : HybridBlock
        Initialised; (N, C, H, W) to the scores (N, classes) or, in segmentation, (N, classes, H', W'). Of several
        outputs, as GluonCV's segmentation networks have, the first is explained.
    x : NDArray, (N, C, H, W)
        The maps of a batch are those of each image alone.
    classes : int, or sequence or array of N ints, optional
        Default the one with the highest score; in segmentation the one, other than the background, 0, that most pixels
        of the image are given, or 1.
    layer : str or Block, optional
        Its output (N, K, h, w) is what is weighed: a block of the network, or its path by attributes and places, such
        as 'layer4.2.bn3' or 'features.4'. Default the last of its stages: of `net.stages()`, which the networks of the
        zoo have, or of `layer1`, `layer2`, ..., which GluonCV's ResNets and segmentation networks have.
    method : {'grad_cam', 'grad_cam++', 'guided'}, default 'grad_cam'
        'grad_cam' weighs the K maps A by the mean of their gradients, and keeps what is positive of the sum;
        'grad_cam++' by the positive gradients, weighted place by place; 'guided' multiplies Grad-CAM with the
        gradient of the input under guided backpropagation (of ReLU; the largest magnitude of the channels).
    region : array or NDArray, (H', W') or (N, H', W'), optional
        In segmentation, the pixels whose scores are added up; default those that are given the class.

    Returns
    -------
    ClassMaps
        Each map is divided by its maximum; one without a positive place is zero throughout. Maps of less than the
        input's size are resized bilinearly.

    Raises
    ------
    ValueError
        For an unknown method, layer or class, a network with other outputs, a layer whose output is not (N, K, h, w)
        or that the network does not call, or a region that does not fit.
    """
    if method not in METHODS:
        raise unknown('method', method, METHODS)
    twin, twins = _twin(net)
    layer = _find_layer(net, layer)
    seen = []

    def keep(block, inputs, output):
        if not isinstance(output, NDArray) or output.ndim != 4:
            raise ValueError(f'{layer.name} does not give maps (N, K, h, w); name another layer.')
        # Cuts the graph here: what lies before is not differentiated, and no parameter's gradient is written.
        output.attach_grad()
        seen.append(output)

    twins[id(layer)].register_forward_hook(keep)
    with autograd.record(train_mode=False):
        output = _scores(net, twin(x.detach()))
    if not seen:
        raise ValueError(f'{type(net).__name__} does not call {layer.name}; name a layer that its forward pass uses.')
    scores = output.asnumpy().astype(np.float32)
    classes = _classes(scores, classes)
    chosen = nd.array(_chosen(scores, classes, region), ctx=output.context, dtype=output.dtype)
    try:
        (gradient,) = autograd.grad(output, [seen[-1]], head_grads=[chosen], train_mode=False)
    except MXNetError as error:
        if 'unreachable' not in str(error) and 'not in a computational graph' not in str(error):
            raise
        raise ValueError(
            f'The output of {type(net).__name__} does not depend on {layer.name}; name another layer.'
        ) from None
    weigh = _plus_plus if method == 'grad_cam++' else _mean
    maps = weigh(*(array.asnumpy().astype(np.float64) for array in (seen[-1], gradient)))
    # Resized from a maximum of 1, for in float32 maps of tiny gradients would vanish.
    maps = _resize(_unit(maps), x.shape[2:])
    if method == 'guided':
        maps = maps * np.abs(_guided_gradient(net, x, chosen)).max(1)
    return ClassMaps(_unit(maps).astype(np.float32), classes, scores)


def fusion_weights(net, x):
    """Show which of its inputs fusion by attention prefers where: M of z = M x + (1 - M) y, over the image.

    In the residual blocks of AFF and iAFF x is the learned branch and y the shortcut: above 1/2 the block's
    convolutions are preferred, below it what came in. In long skip connections x is the low-level map. Of iAFF it is
    the second, final M; of the fusions that only weigh x, such as MS-GAU, it is x's weight. Of SK, whose weight is one
    number for each channel, the map is the same all over the image. MultiInputAFF has a map for each of its inputs.

    Parameters
    ----------
    net : HybridBlock
        As in :func:`grad_cam`, which says what stays as it was.
    x : NDArray, (N, C, H, W)

    Returns
    -------
    dict of str to numpy.ndarray, float32, (N, H, W)
        In [0, 1], the mean of M over the channels, and over the blocks of a stage, resized bilinearly: for each stage,
        as in :func:`grad_cam`, with such a fusion ('stage 3'), and for fusions elsewhere by their path ('merges.0').
        With MultiInputAFF, 'fuse, input 1', 'fuse, input 2', ... Empty for a network that adds or concatenates.
    """
    twin, twins = _twin(net)
    groups = {}
    for number, layers in _stages(net):
        for layer in layers:
            groups.update((id(block), f'stage {number}') for _, block in _walk(layer))
    fusions = {
        id(block): (path, block)
        for path, block in _walk(net)
        if isinstance(block, (AttentionalFusion, SK, MultiInputAFF))
    }
    # RecursiveAFF has a fusion of its two contexts inside, whose M is of no two inputs.
    for _, block in list(fusions.values()):
        for _, below in _walk(block):
            if below is not block:
                fusions.pop(id(below), None)
    latest = {}

    def note(number, original, *args, **kwargs):
        latest[number] = weights = original(*args, **kwargs)
        return weights

    for number in fusions:
        vars(twins[number])['weights'] = partial(note, number, twins[number].weights)
    with autograd.pause(train_mode=False):
        twin(x.detach())
    maps = {}
    for number, (path, _) in fusions.items():
        if number not in latest:
            continue
        name, mean = groups.get(number, path), latest[number].asnumpy().astype(np.float64).mean(-3)
        # (N, H, W), or of several inputs (N, n, H, W)
        named = {name: mean} if mean.ndim == 3 else {f'{name}, input {i + 1}': mean[:, i] for i in range(mean.shape[1])}
        for key, values in named.items():
            maps.setdefault(key, []).append(_resize(values, x.shape[2:]))
    return {name: np.mean(group, axis=0).clip(0, 1).astype(np.float32) for name, group in maps.items()}


def _walk(block, path=''):
    """(path, block) of a block and of all below it."""
    yield path, block
    for name, child in children(block).items():
        yield from _walk(child, f'{path}.{name}' if path else name)


def _stages(net):
    """(number, blocks) of each known stage of a network."""
    if hasattr(net, 'stages'):
        return list(enumerate(net.stages()))
    numbers = range(1, 10)
    return [
        (number, [layer])
        for number in numbers
        for layer in [getattr(net, f'layer{number}', None)]
        if isinstance(layer, Block)
    ]


def _find_layer(net, layer):
    blocks = dict(_walk(net))
    if len(blocks) == 1:
        raise ValueError(
            f'{type(net).__name__} has no layers to look at; build the network of blocks, as get_model '
            'does, rather than from a symbol.'
        )
    if layer is None:
        stages = _stages(net)
        if not stages:
            raise ValueError(
                f'{type(net).__name__} has no stages(); give the layer whose maps are to be weighed, '
                'such as its last convolution.'
            )
        return stages[-1][1][-1]
    if isinstance(layer, str):
        if not layer or layer not in blocks:
            raise unknown(f'layer of {type(net).__name__}', layer, filter(None, blocks))
        return blocks[layer]
    if not any(layer is block for block in blocks.values()):
        raise ValueError(f'{getattr(layer, "name", layer)} is no layer of {type(net).__name__}.')
    return layer


def _twin(net):
    """A network on the same arrays that runs block by block and has no hooks, and its blocks by the others' ids."""
    twins, parameters = {id(block): copy.copy(block) for _, block in _walk(net)}, {}

    def shared(parameter):
        # Autograd keeps its records on the arrays; separate ones leave the caller's graphs alone.
        if not has_values(parameter):
            return parameter
        if id(parameter) not in parameters:
            parameters[id(parameter)] = detached_copy(parameter)
        return parameters[id(parameter)]

    def swapped(value):
        if isinstance(value, Block):
            return twins.get(id(value), value)
        if isinstance(value, Parameter):
            return shared(value)
        if type(value) in (list, tuple, set):
            return type(value)(map(swapped, value))
        if type(value) in (dict, OrderedDict):
            return type(value)((key, swapped(item)) for key, item in value.items())
        if isinstance(value, MethodType) and id(value.__self__) in twins:
            return MethodType(value.__func__, twins[id(value.__self__)])
        return value

    for twin in twins.values():
        vars(twin).update({name: swapped(value) for name, value in vars(twin).items()})
        run_unhybridized(twin)
    return twins[id(net)], twins


def _scores(net, output):
    """A network's output, or the first of several, where it is scores."""
    first = output[0] if isinstance(output, (list, tuple)) and output else output
    if not isinstance(first, NDArray) or first.ndim not in (2, 4):
        raise ValueError(f'{type(net).__name__} does not give scores (N, classes) or (N, classes, H, W).')
    return first


def _numbers(values):
    """An array, a number or a sequence of them, NDArrays included, as a numpy array."""
    if isinstance(values, (list, tuple)):
        return np.array([_numbers(value) for value in values])
    return values.asnumpy() if isinstance(values, NDArray) else np.asarray(values)


def _classes(scores, classes):
    number = scores.shape[1]
    if classes is None and scores.ndim == 2:
        return scores.argmax(1)
    if classes is None:
        pixels = np.stack([(scores.argmax(1) == i).sum((1, 2)) for i in range(number)], 1)
        return 1 + pixels[:, 1:].argmax(1) if number > 1 else np.zeros(len(scores), int)
    given, classes = classes, _numbers(classes)
    # NDArrays hold floats by default.
    if isinstance(given, NDArray) and (classes % 1 == 0).all():
        classes = classes.astype(int)
    if (
        classes.shape not in ((), (len(scores),))
        or classes.dtype.kind not in 'iu'
        or not ((classes >= 0) & (classes < number)).all()
    ):
        raise ValueError(
            f'classes must be a number from 0 to {number - 1}, or {len(scores)} of them, one for each '
            f'image; got {classes.tolist()}.'
        )
    return np.broadcast_to(classes, len(scores)).astype(int)


def _chosen(scores, classes, region):
    """The gradient of the classes' score with respect to the network's output: 1 where a score counts."""
    chosen = np.zeros_like(scores)
    images = np.arange(len(scores))
    if scores.ndim == 2:
        if region is not None:
            raise ValueError('A region is for segmentation networks; this one scores whole images.')
        chosen[images, classes] = 1
        return chosen
    if region is None:
        region = scores.argmax(1) == classes[:, None, None]
    region = _numbers(region)
    if region.shape not in (scores.shape[2:], (len(scores), *scores.shape[2:])):
        raise ValueError(
            f'region must be {scores.shape[2:]}, or that for each of {len(scores)} images, got {region.shape}.'
        )
    chosen[images, classes] = np.broadcast_to(region, (len(scores), *scores.shape[2:]))
    return chosen


def _mean(maps, gradients):
    """Grad-CAM, equations 1 and 2: maps and gradients (N, K, h, w) to (N, h, w)."""
    return np.maximum(np.einsum('nkhw,nk->nhw', maps, gradients.mean((2, 3))), 0)


def _plus_plus(maps, gradients):
    """Grad-CAM++, equations 19 and 20, for the exponential of the score, whose own factor cancels in the map."""
    square = gradients**2
    whole = 2 * square + maps.sum((2, 3), keepdims=True) * gradients**3
    shares = np.divide(square, whole, out=np.zeros_like(square), where=whole != 0)
    return np.maximum(np.einsum('nkhw,nk->nhw', maps, (shares * np.maximum(gradients, 0)).sum((2, 3))), 0)


def _unit(maps):
    """Maps (N, H, W) divided by their maxima; those of zeros stay."""
    top = maps.max((1, 2), keepdims=True)
    return np.divide(maps, top, out=np.zeros_like(maps), where=top > 0)


def _resize(maps, size):
    """(N, h, w) to (N, H, W), bilinear, pixels' centres aligned."""
    if maps.shape[1:] == tuple(size):
        return maps
    return np.stack(
        [np.asarray(Image.fromarray(each.astype(np.float32)).resize(size[::-1], Image.BILINEAR)) for each in maps]
    ).astype(np.float64)


class _GuidedReLU(autograd.Function):
    """ReLU that passes on positive gradients only (Springenberg et al., "Striving for Simplicity", 2015)."""

    def forward(self, x):
        y = nd.relu(x)
        self.save_for_backward(y)
        return y

    def backward(self, dy):
        (y,) = self.saved_tensors
        # In numpy, read at once: by MXNet's operators, which run later, the values were at times those of other arrays.
        return nd.array(dy.asnumpy().clip(0) * (y.asnumpy() > 0), ctx=dy.context, dtype=dy.dtype)


class _GuidedOperators:
    """mxnet.nd, with the guided ReLU in place of ReLU: the F of a hybrid_forward."""

    def __init__(self):
        self.used = []

    def __getattr__(self, name):
        return getattr(nd, name)

    def relu(self, data, **kwargs):
        self.used.append(_GuidedReLU())
        return self.used[-1](data)

    def Activation(self, data, act_type, **kwargs):  # noqa: N802 - MXNet's name
        return self.relu(data) if act_type == 'relu' else nd.Activation(data, act_type=act_type, **kwargs)


def _guided_gradient(net, x, chosen):
    """The gradient of the input (N, C, H, W) by guided backpropagation."""
    twin, twins = _twin(net)
    operators, x = _GuidedOperators(), x.copy()
    x.attach_grad()

    def guided(original, F, *args, **kwargs):
        return original(operators if F is nd else F, *args, **kwargs)

    for block in twins.values():
        if isinstance(block, HybridBlock):
            vars(block)['hybrid_forward'] = partial(guided, block.hybrid_forward)
    try:
        with autograd.record(train_mode=False):
            output = _scores(net, twin(x))
        (gradient,) = autograd.grad(output, [x], head_grads=[chosen], train_mode=False)
        return gradient.asnumpy().astype(np.float64)
    finally:
        # MXNet never frees a Function; this frees its maps.
        for function in operators.used:
            function.saved_tensors = ()
