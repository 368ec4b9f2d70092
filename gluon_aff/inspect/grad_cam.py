"""What a prediction rests on: class activation maps from gradients, and the weights of a network's fusions.

References: Selvaraju et al., "Grad-CAM", ICCV 2017 (Grad-CAM, guided Grad-CAM); Chattopadhay et al., "Grad-CAM++", WACV
2018; Vinogradova et al., "Towards Interpretable Semantic Segmentation via Gradient-weighted Class Activation Mapping",
AAAI 2020 (the score of a region); Dai et al., "Attentional Feature Fusion", WACV 2021 (M).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, Sequence

import numpy as np
from mxnet import MXNetError, autograd, nd
from mxnet.gluon.block import Block
from mxnet.ndarray import NDArray
from PIL import Image

from ..errors import unknown
from ..layers.fusion import SK, AttentionalFusion
from ..layers.multi_input import MultiInputAFF
from .guided_backprop import guided_gradient
from .shadow_network import shadow, walk

__all__ = ['ClassMaps', 'METHODS', 'fusion_weights', 'grad_cam']

METHODS = ('grad_cam', 'grad_cam++', 'guided')


class ClassMaps(NamedTuple):
    """The result of :func:`grad_cam`: maps (N, H, W) float32 in [0, 1], classes (N,) int, the network's outputs."""

    maps: np.ndarray
    classes: np.ndarray
    outputs: np.ndarray


def grad_cam(
    net: Block,
    x: NDArray,
    classes: int | Sequence[int] | NDArray | None = None,
    *,
    layer: str | Block | None = None,
    method: str = 'grad_cam',
    region: np.ndarray | NDArray | None = None,
) -> ClassMaps:
    """Show which parts of an image are evidence for a class.

    A copy of the network that shares its parameters runs, in prediction mode and block by block. So the network does
    not change, other threads may use it at the same time, and its hooks are not called.

    Parameters
    ----------
    net : HybridBlock
        Initialised; from (N, C, H, W) to scores (N, classes) or, in segmentation, (N, classes, H', W'). If it has
        several outputs, as GluonCV's segmentation networks do, the first is explained.
    x : NDArray, (N, C, H, W)
        The maps of a batch are those of each image alone.
    classes : int, or sequence or array of N ints, optional
        Default the class with the highest score; in segmentation the one with the most pixels apart from the
        background, 0, or class 1 if there is none.
    layer : str or Block, optional
        The layer whose K output maps (N, K, h, w) are added up: a block, or its path by attributes and indices,
        such as 'layer4.2.bn3' or 'features.4'. Default the last stage: of `net.stages()`, or of the attributes
        `layer1`, `layer2`, ..., which GluonCV's ResNets and segmentation networks have.
    method : {'grad_cam', 'grad_cam++', 'guided'}, default 'grad_cam'
        'grad_cam' weights the K maps by the means of their gradients, and keeps the positive part of the sum;
        'grad_cam++' weights them by their positive gradients, which have a weight at each position; 'guided' multiplies
        Grad-CAM by the input's gradient under guided backpropagation (the largest magnitude of the channels).
    region : array or NDArray, (H', W') or (N, H', W'), optional
        In segmentation, the pixels whose scores are added up; default those predicted as the class.

    Returns
    -------
    ClassMaps
        Resized bilinearly to the input's size, each map divided by its maximum; a map without positive values is zero.

    Raises
    ------
    ValueError
        For an unknown method, layer or class, a network with other outputs, a layer whose output is not (N, K, h, w)
        or that does not contribute to the network's output, or a region of another shape.
    """
    if method not in METHODS:
        raise unknown('method', method, METHODS)
    layer = _find_layer(net, layer)
    activations, output = _run_recorded(net, x, layer)
    outputs = output.asnumpy().astype(np.float32)
    explained = _classes(outputs, classes)
    head_grad = nd.array(_head_grad(outputs, explained, region), ctx=output.context, dtype=output.dtype)
    try:
        (gradient,) = autograd.grad(output, [activations], head_grads=[head_grad], train_mode=False)
    except MXNetError as error:
        if 'unreachable' not in str(error) and 'not in a computational graph' not in str(error):
            raise
        raise ValueError(
            f'The output of {type(net).__name__} does not depend on {layer.name}; name another layer.'
        ) from None
    weigh = _plus_plus if method == 'grad_cam++' else _mean
    maps = weigh(*(array.asnumpy().astype(np.float64) for array in (activations, gradient)))
    # Resized from a maximum of 1, for in float32 maps of tiny gradients would vanish.
    maps = _resize(_unit(maps), x.shape[2:])
    if method == 'guided':
        maps = maps * np.abs(guided_gradient(net, x, partial(_scores, net), head_grad)).max(1)
    return ClassMaps(_unit(maps).astype(np.float32), explained, outputs)


def _run_recorded(net, x, layer):
    """(output of the layer, scores of the network), recorded from the layer on."""
    twin, twins = shadow(net)
    activations = []

    def keep(block, inputs, output):
        if not isinstance(output, NDArray) or output.ndim != 4:
            raise ValueError(f'{layer.name} does not give maps (N, K, h, w); name another layer.')
        # Cuts the graph here: the layers before are not differentiated, and no parameter's gradient is written.
        output.attach_grad()
        activations.append(output)

    twins[id(layer)].register_forward_hook(keep)
    with autograd.record(train_mode=False):
        output = _scores(net, twin(x.detach()))
    if not activations:
        raise ValueError(f'{type(net).__name__} does not call {layer.name}; name a layer that its forward pass uses.')
    return activations[-1], output


def fusion_weights(net: Block, x: NDArray) -> dict[str, np.ndarray]:
    """Show which input each fusion prefers: M of z = M x + (1 - M) y, over the image.

    In the residual blocks of AFF and iAFF x is the learned branch and y the shortcut: above 1/2 the block's
    convolutions are preferred, below it the shortcut. In long skip connections x is the low-level map. iAFF's M is the
    second, final one; for fusions that only weigh x, such as MS-GAU, M is that weight. SK's weight is one number for
    each channel, so its map is constant. MultiInputAFF has a map for each of its inputs.

    Parameters
    ----------
    net : HybridBlock
        As in :func:`grad_cam`; it stays as it was.
    x : NDArray, (N, C, H, W)

    Returns
    -------
    dict of str to numpy.ndarray, float32, (N, H, W)
        In [0, 1], the mean of M over the channels and over the blocks of a stage, resized bilinearly: by stage, as in
        :func:`grad_cam` ('stage 3'), or elsewhere by the fusion's path ('merges.0'). With MultiInputAFF, 'fuse, input
        1', 'fuse, input 2', ... Empty for a network that adds or concatenates.
    """
    twin, twins = shadow(net)
    stage_of = {}
    for number, layers in _stages(net):
        for layer in layers:
            stage_of.update((id(block), f'stage {number}') for _, block in walk(layer))
    fusions = {
        id(block): (path, block)
        for path, block in walk(net)
        if isinstance(block, (AttentionalFusion, SK, MultiInputAFF))
    }
    # RecursiveAFF has a fusion of its two contexts inside, whose M is of no two inputs.
    for _, block in list(fusions.values()):
        for _, below in walk(block):
            if below is not block:
                fusions.pop(id(below), None)
    latest = {}

    def keep(key, original, *args, **kwargs):
        latest[key] = weights = original(*args, **kwargs)
        return weights

    for key in fusions:
        vars(twins[key])['weights'] = partial(keep, key, twins[key].weights)
    with autograd.pause(train_mode=False):
        twin(x.detach())
    maps = {}
    for key, (path, _) in fusions.items():
        if key not in latest:
            continue
        name, mean = stage_of.get(key, path), latest[key].asnumpy().astype(np.float64).mean(-3)
        # (N, H, W), or of several inputs (N, n, H, W)
        named = {name: mean} if mean.ndim == 3 else {f'{name}, input {i + 1}': mean[:, i] for i in range(mean.shape[1])}
        for title, values in named.items():
            maps.setdefault(title, []).append(_resize(values, x.shape[2:]))
    return {title: np.mean(group, axis=0).clip(0, 1).astype(np.float32) for title, group in maps.items()}


def _stages(net):
    """(number, blocks) of each known stage of a network."""
    if hasattr(net, 'stages'):
        return list(enumerate(net.stages()))
    layers = ((number, getattr(net, f'layer{number}', None)) for number in range(1, 10))
    return [(number, [layer]) for number, layer in layers if isinstance(layer, Block)]


def _find_layer(net, layer):
    blocks = dict(walk(net))
    if len(blocks) == 1:
        raise ValueError(
            f'{type(net).__name__} has no layers to look at; build the network of blocks, as get_model '
            'does, rather than from a symbol.'
        )
    if layer is None:
        stages = _stages(net)
        if not stages:
            raise ValueError(f'{type(net).__name__} has no stages(); name a layer, such as its last convolution.')
        return stages[-1][1][-1]
    if isinstance(layer, str):
        if not layer or layer not in blocks:
            raise unknown(f'layer of {type(net).__name__}', layer, filter(None, blocks))
        return blocks[layer]
    if not any(layer is block for block in blocks.values()):
        raise ValueError(f'{getattr(layer, "name", layer)} is no layer of {type(net).__name__}.')
    return layer


def _scores(net, output):
    """The scores in a network's output: all of it, or the first of several."""
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
    as_float, classes = isinstance(classes, NDArray), _numbers(classes)
    if as_float and (classes % 1 == 0).all():  # NDArrays hold floats by default
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


def _head_grad(scores, classes, region):
    """The gradient of the classes' score with respect to the network's output: 1 where a score counts."""
    gradient = np.zeros_like(scores)
    images = np.arange(len(scores))
    if scores.ndim == 2:
        if region is not None:
            raise ValueError('A region is for segmentation networks; this one scores whole images.')
        gradient[images, classes] = 1
        return gradient
    if region is None:
        region = scores.argmax(1) == classes[:, None, None]
    region = _numbers(region)
    if region.shape not in (scores.shape[2:], (len(scores), *scores.shape[2:])):
        raise ValueError(
            f'region must be {scores.shape[2:]}, or that for each of {len(scores)} images, got {region.shape}.'
        )
    gradient[images, classes] = np.broadcast_to(region, (len(scores), *scores.shape[2:]))
    return gradient


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
    """(N, h, w) to (N, H, W), bilinear, the centres of pixels aligned."""
    if maps.shape[1:] == tuple(size):
        return maps
    return np.stack(
        [np.asarray(Image.fromarray(values.astype(np.float32)).resize(size[::-1], Image.BILINEAR)) for values in maps]
    ).astype(np.float64)
