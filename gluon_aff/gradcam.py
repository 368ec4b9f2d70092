"""Where a network looks: class activation maps from its gradients, and the weights by which its fusions choose.

References: Selvaraju et al., "Grad-CAM", ICCV 2017 (Grad-CAM, guided Grad-CAM); Chattopadhay et al., "Grad-CAM++", WACV
2018; Vinogradova et al., "Towards Interpretable Semantic Segmentation via Gradient-weighted Class Activation Mapping",
AAAI 2020 (the score of a region); Dai et al., "Attentional Feature Fusion", WACV 2021 (M).
"""
from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
from mxnet import autograd, nd
from mxnet.base import MXNetError
from mxnet.gluon.block import HybridBlock
from mxnet.ndarray import NDArray
from PIL import Image

from .errors import unknown
from .fusion import AttentionalFusion

__all__ = ['ClassMaps', 'METHODS', 'fusion_weights', 'grad_cam']

METHODS = ('grad_cam', 'grad_cam++', 'guided')


class ClassMaps(NamedTuple):
    """What :func:`grad_cam` gives: maps (N, H, W) float32 in [0, 1], classes (N,) int, and the network's outputs."""

    maps: np.ndarray
    classes: np.ndarray
    outputs: np.ndarray


def grad_cam(net, x, classes=None, layer=None, method='grad_cam', region=None):
    """Show which places of an image speak for a class.

    The network is run in prediction mode, block by block, hybridized or not. Its parameters, their gradients, its
    running statistics, its hooks and its compiled graphs are afterwards what they were before.

    Parameters
    ----------
    net : HybridBlock
        Initialised; (N, C, H, W) to the scores (N, classes) or, in segmentation, (N, classes, H', W').
    x : NDArray, (N, C, H, W)
        The maps of a batch are those of each image alone.
    classes : int or sequence of N ints, optional
        Default the one with the highest score; in segmentation the one, other than the background, 0, that most pixels
        of the image are given, or 1.
    layer : str or Block, optional
        Its output (N, K, h, w) is what is weighed: a block of the network, or its path by attributes and places, such
        as 'layer4.2.bn3' or 'features.4'. Default the last of `net.stages()`, which the networks of the zoo have.
    method : {'grad_cam', 'grad_cam++', 'guided'}, default 'grad_cam'
        'grad_cam' weighs the K maps A by the mean of their gradients, and keeps what is positive of the sum;
        'grad_cam++' by the positive gradients, weighted place by place; 'guided' multiplies Grad-CAM with the
        gradient of the input under guided backpropagation (of ReLU; the largest magnitude of the channels).
    region : array, (H', W') or (N, H', W'), optional
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
    found = _find_layer(net, layer)
    seen = []

    def keep(block, inputs, output):
        if not isinstance(output, NDArray) or output.ndim != 4:
            raise ValueError(f'{found.name} does not give maps (N, K, h, w); name another layer.')
        # Cuts the graph here: what lies before is not differentiated, and no parameter's gradient is written.
        output.attach_grad()
        seen.append(output)

    handle = found.register_forward_hook(keep)
    try:
        with _block_by_block(net), autograd.record(train_mode=False):
            output = net(x)
    finally:
        handle.detach()
    if not seen:
        raise ValueError(f'{type(net).__name__} does not call {found.name}; name a layer that its forward pass uses.')
    if not isinstance(output, NDArray) or output.ndim not in (2, 4):
        raise ValueError(f'{type(net).__name__} does not give scores (N, classes) or (N, classes, H, W).')
    scores = output.asnumpy().astype(np.float32)
    classes = _classes(scores, classes)
    chosen = nd.array(_chosen(scores, classes, region), ctx=output.context, dtype=output.dtype)
    try:
        gradient, = autograd.grad(output, [seen[-1]], head_grads=[chosen], train_mode=False)
    except MXNetError as error:
        if 'unreachable' not in str(error):
            raise
        raise ValueError(f'The output of {type(net).__name__} does not depend on {found.name}; name another '
                         'layer.') from None
    weigh = _plus_plus if method == 'grad_cam++' else _mean
    maps = weigh(*(array.asnumpy().astype(np.float64) for array in (seen[-1], gradient)))
    # Resized from a maximum of 1, for in float32 maps of tiny gradients would vanish.
    maps = _resize(_unit(maps), x.shape[2:])
    if method == 'guided':
        maps = maps * np.abs(_guided_gradient(net, x, chosen)).max(1)
    return ClassMaps(_unit(maps).astype(np.float32), classes, scores)


def fusion_weights(net, x):
    """Show where fusion by attention takes which of its two inputs: M, of z = M x + (1 - M) y, over the image.

    In the residual blocks of AFF and iAFF x is the learned branch and y the shortcut: above 1/2 the block's
    convolutions are preferred, below it what came in. In long skip connections x is the low-level map. Of iAFF it is
    the second, final M; of the fusions that only weigh x, such as MS-GAU, it is x's weight.

    Parameters
    ----------
    net : HybridBlock
        As in :func:`grad_cam`, which says what stays as it was.
    x : NDArray, (N, C, H, W)

    Returns
    -------
    dict of str to numpy.ndarray, float32, (N, H, W)
        In [0, 1], the mean of M over the channels, and over the blocks of a stage, resized bilinearly: for each of
        `net.stages()` with such a fusion ('stage 3'), and for fusions elsewhere by their path ('merges.0'). Empty for
        a network that adds or concatenates.
    """
    groups = {}
    for number, layers in enumerate(net.stages() if hasattr(net, 'stages') else ()):
        for layer in layers:
            groups.update((id(block), f'stage {number}') for _, block in _walk(layer))
    fusions = [(groups.get(id(block), path), block) for path, block in _walk(net)
               if isinstance(block, AttentionalFusion)]
    # RecursiveAFF has a fusion of its two contexts inside, whose M is of no two inputs.
    inner = {id(below) for _, block in fusions for _, below in _walk(block) if below is not block}
    found = {}

    def note(name, original, *args, **kwargs):
        weights = original(*args, **kwargs)
        latest[name] = weights
        return weights

    latest = {}
    chosen = [(name, number, block) for number, (name, block) in enumerate(fusions) if id(block) not in inner]
    try:
        for name, number, block in chosen:
            block.__dict__['weights'] = partial(note, (name, number), block.weights)
        with _block_by_block(net), autograd.pause(train_mode=False):
            net(x)
    finally:
        for _, _, block in chosen:
            block.__dict__.pop('weights', None)
    for (name, _), weights in latest.items():
        mean = weights.asnumpy().astype(np.float64).mean(1)
        found.setdefault(name, []).append(_resize(mean, x.shape[2:]))
    return {name: np.mean(maps, axis=0).clip(0, 1).astype(np.float32) for name, maps in found.items()}


def _walk(block, path=''):
    """(path, block) of a block and of all below it."""
    yield path, block
    for name, child in block._children.items():
        yield from _walk(child, f'{path}.{name}' if path else name)


def _find_layer(net, layer):
    blocks = dict(_walk(net))
    if len(blocks) == 1:
        raise ValueError(f'{type(net).__name__} has no layers to look at; build the network of blocks, as get_model '
                         'does, rather than from a symbol.')
    if layer is None:
        if not hasattr(net, 'stages'):
            raise ValueError(f'{type(net).__name__} has no stages(); give the layer whose maps are to be weighed, '
                             'such as its last convolution.')
        return net.stages()[-1][-1]
    if isinstance(layer, str):
        if not layer or layer not in blocks:
            raise unknown(f'layer of {type(net).__name__}', layer, filter(None, blocks))
        return blocks[layer]
    if not any(layer is block for block in blocks.values()):
        raise ValueError(f'{getattr(layer, "name", layer)} is no layer of {type(net).__name__}.')
    return layer


@contextmanager
def _block_by_block(net):
    """Run a network's blocks one by one, as hooks need; what hybridize() compiled is kept for afterwards."""
    active = [(block, block._active) for _, block in _walk(net) if isinstance(block, HybridBlock)]
    try:
        for block, _ in active:
            # Not hybridize(False), which would throw the compiled graphs away.
            block._active = False
        yield
    finally:
        for block, was in active:
            block._active = was


def _classes(scores, classes):
    number = scores.shape[1]
    if classes is None and scores.ndim == 2:
        return scores.argmax(1)
    if classes is None:
        pixels = np.stack([(scores.argmax(1) == i).sum((1, 2)) for i in range(number)], 1)
        return 1 + pixels[:, 1:].argmax(1) if number > 1 else np.zeros(len(scores), int)
    classes = np.asarray(classes)
    if classes.shape not in ((), (len(scores),)) or classes.dtype.kind not in 'iu' or not (
            (classes >= 0) & (classes < number)).all():
        raise ValueError(f'classes must be a number from 0 to {number - 1}, or {len(scores)} of them, one for each '
                         f'image; got {classes.tolist()}.')
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
    region = np.asarray(region)
    if region.shape not in (scores.shape[2:], (len(scores), *scores.shape[2:])):
        raise ValueError(f'region must be {scores.shape[2:]}, or that for each of {len(scores)} images, '
                         f'got {region.shape}.')
    chosen[images, classes] = np.broadcast_to(region, (len(scores), *scores.shape[2:]))
    return chosen


def _mean(maps, gradients):
    """Grad-CAM, equations 1 and 2: maps and gradients (N, K, h, w) to (N, h, w)."""
    return np.maximum(np.einsum('nkhw,nk->nhw', maps, gradients.mean((2, 3))), 0)


def _plus_plus(maps, gradients):
    """Grad-CAM++, equations 19 and 20, for the exponential of the score, whose own factor cancels in the map."""
    square = gradients ** 2
    whole = 2 * square + maps.sum((2, 3), keepdims=True) * gradients ** 3
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
    return np.stack([np.asarray(Image.fromarray(each.astype(np.float32)).resize(size[::-1], Image.BILINEAR))
                     for each in maps]).astype(np.float64)


class _GuidedReLU(autograd.Function):
    """ReLU that passes on positive gradients only (Springenberg et al., "Striving for Simplicity", 2015)."""

    def forward(self, x):
        y = nd.relu(x)
        self.save_for_backward(y)
        return y

    def backward(self, dy):
        y, = self.saved_tensors
        # In numpy, read at once: by MXNet's operators, which run later, the values were at times those of other arrays.
        return nd.array(dy.asnumpy().clip(0) * (y.asnumpy() > 0), ctx=dy.context, dtype=dy.dtype)


class _GuidedOperators:
    """mxnet.nd, with the guided ReLU in place of ReLU: the F of a hybrid_forward."""

    def __getattr__(self, name):
        return getattr(nd, name)

    def relu(self, data, **kwargs):
        return _GuidedReLU()(data)

    def Activation(self, data, act_type, **kwargs):  # noqa: N802 - MXNet's name
        return _GuidedReLU()(data) if act_type == 'relu' else nd.Activation(data, act_type=act_type, **kwargs)


def _guided_gradient(net, x, chosen):
    """The gradient of the input (N, C, H, W) by guided backpropagation."""
    blocks = [block for _, block in _walk(net) if isinstance(block, HybridBlock)]
    operators, x = _GuidedOperators(), x.copy()
    x.attach_grad()

    def guided(original, F, *args, **kwargs):
        return original(operators if F is nd else F, *args, **kwargs)

    try:
        for block in {id(block): block for block in blocks}.values():
            block.__dict__['hybrid_forward'] = partial(guided, block.hybrid_forward)
        with _block_by_block(net), autograd.record(train_mode=False):
            output = net(x)
    finally:
        for block in blocks:
            block.__dict__.pop('hybrid_forward', None)
    gradient, = autograd.grad(output, [x], head_grads=[chosen], train_mode=False)
    return gradient.asnumpy().astype(np.float64)
