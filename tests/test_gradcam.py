"""Grad-CAM against its equations in numpy, and that it leaves the network as it was."""

import gc
import threading

import hypothesis.strategies as st
import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

from gluon_aff import AFF, IAFF, SK, MultiInputAFF, RecursiveAFF
from gluon_aff.inspect.grad_cam import METHODS, fusion_weights, grad_cam
from model_zoo import get_model
from model_zoo.plugins.gluoncv import segmentation_model


def network(name='cifar_aff_resnet8', seed=0, **options):
    """A small network of random parameters, whose running statistics are random, too."""
    options = {'classes': 5, 'width': 1, **options}
    net = get_model(name, **options)
    mx.random.seed(seed)
    net.initialize(mx.init.Xavier(magnitude=3))
    random = np.random.RandomState(seed)
    for key, value in net.collect_params().items():
        if key.endswith(('gamma', 'running_var')):
            value.set_data(nd.array(random.uniform(0.5, 1.5, value.shape)))
        elif key.endswith(('beta', 'running_mean')):
            value.set_data(nd.array(random.normal(0, 0.2, value.shape)))
    return net


def images(number=2, size=(32, 32), seed=0):
    return nd.array(np.random.RandomState(seed).normal(size=(number, 3, *size)))


def bilinear(grid, height, width):
    """A map (h, w) at the centres of height x width pixels, held constant beyond the outermost centres."""

    def ends(new, old):
        position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.minimum(position.astype(int), max(old - 2, 0))
        return low, np.minimum(low + 1, old - 1), position - low

    top, bottom, down = ends(height, grid.shape[0])
    left, right, across = ends(width, grid.shape[1])
    rows = grid[top] * (1 - down)[:, None] + grid[bottom] * down[:, None]
    return rows[:, left] * (1 - across) + rows[:, right] * across


def behind_the_last_stage(net, maps):
    """In numpy, what a CIFAR network computes from its last stage's maps (N, K, h, w): logits, d logits[c] / d maps."""
    bn, dense = net.features[5], net.output
    gamma, beta, mean, var = (
        p.data().asnumpy().astype(np.float64)[:, None, None]
        for p in (bn.gamma, bn.beta, bn.running_mean, bn.running_var)
    )
    slope = gamma / np.sqrt(var + bn._kwargs['eps'])
    normed = (maps - mean) * slope + beta
    weight, bias = dense.weight.data().asnumpy().astype(np.float64), dense.bias.data().asnumpy()
    logits = np.maximum(normed, 0).mean((2, 3)) @ weight.T + bias
    area = maps.shape[2] * maps.shape[3]

    def gradient(classes):
        return weight[classes][:, :, None, None] * (normed > 0) * slope / area

    return logits, gradient


def reference(maps, gradients, method):
    """The equations of Grad-CAM and Grad-CAM++, position by position."""
    n, k, h, w = maps.shape
    sums = np.zeros((n, h, w))
    for i in range(n):
        for j in range(k):
            a, g = maps[i, j], gradients[i, j]
            if method == 'grad_cam':
                weight = g.sum() / (h * w)
            else:
                weight = 0
                for y in range(h):
                    for x in range(w):
                        whole = 2 * g[y, x] ** 2 + a.sum() * g[y, x] ** 3
                        if whole:
                            weight += g[y, x] ** 2 / whole * max(g[y, x], 0)
            sums[i] += weight * a
        sums[i] = np.maximum(sums[i], 0)
    return sums


@pytest.mark.parametrize('method', ['grad_cam', 'grad_cam++'])
@pytest.mark.parametrize('name', ['cifar_add_resnet8', 'cifar_iaff_resnet8'])
def test_maps_are_those_of_the_equations_in_numpy(name, method):
    net, x = network(name), images(3)
    (last,) = net.stage_outputs(x, [3])
    maps = last.asnumpy().astype(np.float64)
    logits, gradient = behind_the_last_stage(net, maps)
    np.testing.assert_allclose(net(x).asnumpy(), logits, rtol=1e-4, atol=1e-4)
    for classes in (None, 2, [4, 0, 1]):
        result = grad_cam(net, x, classes, method=method)
        expected = logits.argmax(1) if classes is None else np.broadcast_to(classes, 3)
        assert result.classes.tolist() == expected.tolist()
        for large_map, small in zip(result.maps, reference(maps, gradient(expected), method)):
            large = bilinear(small, 32, 32)
            np.testing.assert_allclose(large_map, large / large.max() if large.max() > 0 else large, atol=1e-5)


@given(
    st.integers(1, 4), st.integers(1, 6), st.integers(1, 7), st.integers(1, 7), st.integers(2, 5), st.integers(0, 10**6)
)
def test_of_a_pooled_and_dense_network_it_is_class_activation_mapping_up_to_scale(
    n, channels, height, width, classes, seed
):
    random = np.random.RandomState(seed)
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(channels, 3, padding=1, activation='relu', in_channels=2),
        nn.GlobalAvgPool2D(),
        nn.Flatten(),
        nn.Dense(classes, in_units=channels),
    )
    net.initialize(mx.init.Normal(1))
    x = nd.array(random.normal(size=(n, 2, height, width)))
    expected = random.randint(0, classes, n)
    activation = net[0](x).asnumpy()
    cam = np.einsum('nkhw,nk->nhw', activation, net[3].weight.data().asnumpy()[expected]).clip(0)
    top = cam.max((1, 2), keepdims=True)
    result = grad_cam(net, x, expected, layer='0').maps
    np.testing.assert_allclose(
        result, np.divide(cam, top, out=np.zeros_like(cam), where=top > 1e-4 * cam.max()), atol=1e-4
    )


def held(net):
    """All that an explanation of a network might change."""
    blocks = []
    net.apply(blocks.append)
    return (
        {
            name: (
                p.grad_req,
                [d.asnumpy() for d in p.list_data()],
                [g.asnumpy() for g in p.list_grad()] if p.grad_req != 'null' else [],
            )
            for name, p in net.collect_params().items()
        },
        [
            (
                block._active,
                id(block._cached_op),
                len(block._forward_hooks),
                len(block._forward_pre_hooks),
                sorted(block.__dict__),
            )
            for block in blocks
        ],
    )


@pytest.mark.parametrize('hybridized', [False, True])
@pytest.mark.parametrize('method', ['grad_cam', 'guided', 'fusion_weights'])
def test_parameters_gradients_statistics_and_hybridization_stay(method, hybridized):
    net, x = network('cifar_iaff_resnet8'), images(4)
    if hybridized:
        net.hybridize(static_alloc=True)
    with autograd.record():
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(x), nd.array([0, 1, 2, 3]))
    loss.backward()
    before, outputs = held(net), net(x).asnumpy()
    fusion_weights(net, x) if method == 'fusion_weights' else grad_cam(net, x, method=method)
    after = held(net)
    assert any(np.abs(g).sum() for _, _, grads in before[0].values() for g in grads)
    assert before[1] == after[1]
    for name, (request, data, grads) in before[0].items():
        assert request == after[0][name][0]
        for old, new in zip(data + grads, after[0][name][1] + after[0][name][2]):
            np.testing.assert_array_equal(old, new, err_msg=name)
    np.testing.assert_array_equal(net(x).asnumpy(), outputs)
    assert not autograd.is_recording() and not autograd.is_training()


def test_a_refusal_leaves_no_hook_either():
    net = network()
    before = held(net)[1]
    with pytest.raises(ValueError, match='region'):
        grad_cam(net, images(), region=np.ones((32, 32)))
    with pytest.raises(ValueError, match='does not give maps'):
        grad_cam(net, images(), layer='output')
    with pytest.raises(ValueError, match='takes images'):
        fusion_weights(net, nd.zeros((1, 3)))
    assert held(net)[1] == before


@pytest.mark.parametrize('method', ['grad_cam', 'guided'])
def test_hybridized_networks_have_the_same_maps(method):
    net, x = network(), images()
    expected = grad_cam(net, x, method=method).maps
    net.hybridize()
    net(x)
    np.testing.assert_allclose(grad_cam(net, x, method=method).maps, expected, atol=1e-6)


def test_parameters_without_gradient_do_not_matter():
    net, x = network(), images()
    before = grad_cam(net, x).maps
    net.collect_params().setattr('grad_req', 'null')
    np.testing.assert_array_equal(grad_cam(net, x).maps, before)


@pytest.mark.parametrize(
    'name, size, method',
    [
        ('cifar_aff_resnet8', (32, 32), 'grad_cam++'),
        ('cifar_aff_resnet8', (32, 32), 'guided'),
        ('fpn_aff_resnet8', (20, 33), 'grad_cam'),
    ],
)
def test_a_batch_has_the_maps_of_each_image_alone(name, size, method):
    net, x = network(name), images(3, size)
    together = grad_cam(net, x, method=method)
    assert together.maps.shape == (3, *size) and together.maps.dtype == np.float32
    assert together.maps.min() >= 0 and together.maps.max() == 1
    for i in range(3):
        alone = grad_cam(net, x[i : i + 1], method=method)
        assert alone.classes[0] == together.classes[i]
        np.testing.assert_allclose(together.maps[i], alone.maps[0], atol=1e-4)


def segmentation_gradient(net, x, chosen):
    """The same by another way: the network cut at the layer by hand, backward() on the sum of the chosen scores."""
    lows = [tap(m) for tap, m in zip(net.taps, net.stage_outputs(x, [1, 2, 3]))]
    y = lows.pop().detach()
    y.attach_grad()
    with autograd.record(train_mode=False):
        out = y
        for merge, low in zip(net.merges, reversed(lows)):
            out = merge(low, out)
        score = (net.classifier(net.tail(out)) * nd.array(chosen)).sum()
    score.backward(train_mode=False)
    return y.asnumpy(), y.grad.asnumpy()


def test_segmentation_weighs_the_scores_of_a_region():
    net, x = network('fpn_aff_resnet8'), images(2, (16, 20))
    region = np.zeros((2, 16, 20))
    region[0, :8] = region[1, :, 5:] = 1
    chosen = np.zeros((2, 5, 16, 20))
    chosen[0, 3], chosen[1, 1] = region
    maps, gradients = segmentation_gradient(net, x, chosen)
    result = grad_cam(net, x, [3, 1], layer='taps.2', region=region)
    for large_map, small in zip(result.maps, reference(maps, gradients, 'grad_cam')):
        large = bilinear(small, 16, 20)
        np.testing.assert_allclose(large_map, large / large.max(), atol=1e-4)


def test_segmentation_shows_the_largest_class_but_the_background_where_it_is_predicted():
    net, x = network('unet_aff_resnet8'), images(2, (16, 16))
    result = grad_cam(net, x)
    guess = result.outputs.argmax(1)
    for chosen, pixels in zip(result.classes, guess):
        assert chosen > 0 and (pixels == chosen).sum() == max((pixels == i).sum() for i in range(1, 5))
    explicit = grad_cam(net, x, result.classes, region=guess == result.classes[:, None, None])
    np.testing.assert_array_equal(explicit.maps, result.maps)
    nowhere = grad_cam(net, x, region=np.zeros((16, 16)))
    assert not nowhere.maps.any()


def test_guided_maps_are_those_of_guided_backpropagation_in_numpy():
    random = np.random.RandomState(1)
    w1, w2, w3 = random.normal(size=(6, 3)), random.normal(size=(4, 6)), random.normal(size=(2, 4))
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(6, 1, activation='relu', use_bias=False, in_channels=3),
        nn.Conv2D(4, 1, use_bias=False, in_channels=6),
        nn.HybridLambda(lambda F, x: F.relu(x)),
        nn.Flatten(),
        nn.Dense(2, use_bias=False, in_units=4),
    )
    net.initialize()
    for layer, weight in ((net[0], w1), (net[1], w2), (net[4], w3)):
        layer.weight.set_data(nd.array(weight.reshape(layer.weight.shape)))
    x = random.normal(size=(8, 3))
    a, b = x @ w1.T, np.maximum(x @ w1.T, 0) @ w2.T
    g = np.maximum(w3[1], 0) * (b > 0)
    g = np.maximum(g @ w2, 0) * (a > 0)
    expected = np.abs(g @ w1).max(1)
    cam = np.maximum((np.maximum(b, 0) * w3[1]).sum(1), 0)
    result = grad_cam(net, nd.array(x[:, :, None, None]), 1, layer='2', method='guided')
    np.testing.assert_array_equal(result.maps[:, 0, 0], ((expected > 0) & (cam > 0)).astype(float))
    wide = nd.array(x.T[None, :, :, None])  # the same values as positions of one image
    pooled = nn.HybridSequential()
    pooled.add(net[0], net[1], net[2], nn.GlobalAvgPool2D(), net[3], net[4])
    both = grad_cam(pooled, wide, 1, layer='2', method='guided').maps[0, :, 0]
    np.testing.assert_allclose(both, expected * cam / (expected * cam).max(), atol=1e-5)


@pytest.mark.parametrize(
    'arguments, sentence',
    [
        ({'layer': 'features.44'}, 'Unknown layer of CifarResNet'),
        ({'layer': ''}, 'Unknown layer'),
        ({'layer': nn.Flatten()}, 'is no layer of CifarResNet'),
        ({'method': 'gradcam'}, 'did you mean grad_cam'),
        ({'classes': 5}, 'from 0 to 4'),
        ({'classes': [1, 2, 3]}, 'one for each'),
        ({'classes': 0.5}, 'from 0 to 4'),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        grad_cam(network(), images(), **arguments)
    assert '\n' not in str(caught.value)


class Idle(gluon.HybridBlock):
    """Two layers, of which the output depends on one only, and a third that is not called."""

    def __init__(self):
        super().__init__()
        self.used, self.idle, self.absent = (nn.Conv2D(2, 1, in_channels=3) for _ in range(3))
        self.head = nn.Dense(2)

    def hybrid_forward(self, F, x):
        self.idle(x)
        return self.head(self.used(x))


def test_layers_that_the_output_does_not_depend_on_are_refused(tmp_path):
    net, x = Idle(), images()
    net.initialize()
    assert grad_cam(net, x, layer='used').maps.shape == (2, 32, 32)
    with pytest.raises(ValueError, match='does not depend on') as caught:
        grad_cam(net, x, layer='idle')
    assert '\n' not in str(caught.value)
    with pytest.raises(ValueError, match='does not call'):
        grad_cam(net, x, layer='absent')
    whole = network()
    whole.hybridize()
    whole(x)
    whole.export(str(tmp_path / 'net'))
    imported = gluon.SymbolBlock.imports(str(tmp_path / 'net-symbol.json'), ['data'], str(tmp_path / 'net-0000.params'))
    with pytest.raises(ValueError, match='no layers to look at'):
        grad_cam(imported, x)


def test_a_network_without_stages_asks_for_a_layer_and_takes_a_block():
    net = gluon.model_zoo.vision.squeezenet1_1(classes=3)
    net.initialize(mx.init.Xavier())
    x = images(1, (224, 224))
    with pytest.raises(ValueError, match='name a layer'):
        grad_cam(net, x)
    np.testing.assert_array_equal(
        grad_cam(net, x, 0, layer=net.features).maps, grad_cam(net, x, 0, layer='features').maps
    )


def test_fusion_weights_are_the_means_of_m_by_stage():
    net, x = network('cifar_aff_resnet14'), images(2)
    before = net.stage_outputs(x, [0])[0]
    result = fusion_weights(net, x)
    assert list(result) == ['stage 1', 'stage 2', 'stage 3']
    means = []
    for block in net.features[2]:  # no change of shape in the first stage
        body = block.resfwd(before)
        u = body + before
        local, pooled = (getattr(block.attention, name)(u).asnumpy() for name in ('local_att', 'global_att'))
        means.append((1 / (1 + np.exp(-(local + pooled)))).mean(1))
        before = block(before)
    np.testing.assert_allclose(result['stage 1'], np.mean(means, 0), atol=1e-5)
    assert all(maps.shape == (2, 32, 32) and 0 <= maps.min() and maps.max() <= 1 for maps in result.values())


def test_fusion_weights_say_which_input_is_taken():
    x = images(1, (6, 6), seed=3)
    for fusion in (AFF(3, reduction=1), IAFF(3, reduction=1), RecursiveAFF(3, reduction=1)):
        fusion.initialize(mx.init.Xavier())
        whole = type('Two', (gluon.HybridBlock,), {'hybrid_forward': lambda self, F, x: self.fuse(x, 2 * x)})()
        whole.fuse = fusion
        for bias, expected in ((20, 1), (-20, 0)):
            for name, p in fusion.collect_params().items():
                if name.endswith('beta'):
                    p.set_data(nd.full(p.shape, bias))
            if not isinstance(fusion, RecursiveAFF):
                (maps,) = fusion_weights(whole, x).values()
                np.testing.assert_allclose(maps, expected, atol=1e-3)
        assert list(fusion_weights(whole, x)) == ['fuse']


def test_networks_that_add_have_no_fusion_weights():
    assert fusion_weights(network('cifar_add_resnet8'), images()) == {}
    assert list(fusion_weights(network('fpn_iaff_resnet8'), images(1, (16, 16)))) == ['merges.0.fuse', 'merges.1.fuse']


class Two(gluon.HybridBlock):
    """A fusion of x, 2 x, 3 x, ..."""

    def __init__(self, fuse, inputs=2):
        super().__init__()
        self.fuse, self.inputs = fuse, inputs

    def hybrid_forward(self, F, x):
        return self.fuse(*(i * x for i in range(1, self.inputs + 1)))


@pytest.mark.parametrize('hybridized', [False, True])
def test_fusion_weights_of_sk_are_its_softmax_and_of_many_inputs_one_map_for_each(hybridized):
    x = images(2, (6, 5), seed=3)
    net = Two(SK(3, reduction=1))
    net.initialize(mx.init.Xavier(magnitude=3))
    if hybridized:
        net.hybridize()
    a, b = net.fuse.global_att(3 * x).asnumpy().reshape(2, 2, 3).transpose(1, 0, 2)
    expected = (np.exp(a) / (np.exp(a) + np.exp(b))).mean(1)
    (result,) = fusion_weights(net, x).items()
    assert result[0] == 'fuse' and result[1].shape == (2, 6, 5)
    np.testing.assert_allclose(result[1], np.broadcast_to(expected[:, None, None], (2, 6, 5)), atol=1e-6)

    two, three = Two(MultiInputAFF(3, 2, 1)), Two(MultiInputAFF(3, 3, 1), 3)
    for net in (two, three):
        net.initialize(mx.init.Xavier(magnitude=3))
        maps = fusion_weights(net, x)
        assert list(maps) == [f'fuse, input {i + 1}' for i in range(net.inputs)]
        np.testing.assert_allclose(sum(maps.values()), 1, atol=1e-6)
    same = Two(AFF(3, reduction=1))
    same.initialize()
    for one, other in zip(same.collect_params().values(), two.collect_params().values()):
        one.set_data(other.data())
    np.testing.assert_allclose(fusion_weights(same, x)['fuse'], fusion_weights(two, x)['fuse, input 1'], atol=1e-6)


def test_networks_of_sk_have_fusion_weights_by_stage():
    assert list(fusion_weights(network(fusion='sk'), images())) == ['stage 1', 'stage 2', 'stage 3']


def test_gluoncvs_segmentation_networks_are_explained_by_stage_and_first_output():
    net = segmentation_model('fcn_aff_resnet50', 4, crop_size=32, base_size=32)
    net.initialize()
    x = images(1)
    assert isinstance(net(x), tuple)
    maps = fusion_weights(net, x)
    assert list(maps) == ['stage 3', 'stage 4'], 'the stages that fuse by attention'
    result = grad_cam(net, x, 1, region=np.ones((32, 32)))
    assert result.maps.shape == (1, 32, 32)
    np.testing.assert_array_equal(result.outputs, net(x)[0].asnumpy())
    by_path = grad_cam(net, x, 1, layer='layer4.2', region=np.ones((32, 32)))
    np.testing.assert_array_equal(by_path.maps, result.maps)


@pytest.mark.parametrize('dtype', ['float32', 'uint8'])
def test_classes_and_regions_may_be_arrays_of_mxnet(dtype):
    net, x = network('fpn_aff_resnet8'), images(2, (16, 16))
    region = np.random.RandomState(0).randint(0, 2, (16, 16))
    expected = grad_cam(net, x, [3, 1], region=region)
    for classes in (
        nd.array([3, 1], dtype=dtype),
        [np.int64(3), np.int64(1)],
        [nd.array([3], dtype='int32')[0], 1],
        np.array([3, 1], dtype='int8'),
    ):
        if isinstance(classes, list) and isinstance(classes[0], nd.NDArray):
            classes[0] = classes[0].asscalar()
        result = grad_cam(net, x, classes, region=nd.array(region, dtype=dtype))
        np.testing.assert_array_equal(result.maps, expected.maps)
        assert result.classes.tolist() == [3, 1]
    with pytest.raises(ValueError, match='classes must be'):
        grad_cam(net, x, nd.array([0.5, 1]))


@pytest.mark.parametrize(
    'name, size, method',
    [*(('cifar_aff_resnet8', (32, 32), method) for method in METHODS), ('fpn_aff_resnet8', (16, 16), 'grad_cam')],
)
def test_a_head_of_zeros_has_maps_of_zeros(name, size, method):
    net = network(name)
    getattr(net, net.head_name).weight.set_data(nd.zeros_like(getattr(net, net.head_name).weight.data()))
    result = grad_cam(net, images(2, size), 1, method=method)
    np.testing.assert_array_equal(result.maps, 0)
    assert np.isfinite(result.outputs).all()


def test_nothing_of_the_callers_is_touched():
    net, x = network(), images()
    calls = []
    for block in (net, net.features, net.stages()[-1][-1]):
        block.register_forward_hook(lambda *args: calls.append(args))
    net.hybridize()
    expected = net(x).asnumpy()
    before, count = held(net), len(calls)
    x.attach_grad()
    classes, region = [1, 2], np.ones((32, 32))
    with autograd.record():
        loss = (net(x) * x.mean()).sum()
        count = len(calls)
        for method in METHODS:
            grad_cam(net, x, classes, method=method)
        fusion_weights(net, x)
        assert autograd.is_recording() and autograd.is_training()
    loss.backward()
    assert len(calls) == count and classes == [1, 2] and (region == 1).all()
    assert abs(x.grad).sum() > 0 and x.grad.shape == x.shape
    assert before[1] == held(net)[1]
    identity = nn.HybridSequential()
    identity.add(nn.HybridLambda(lambda F, x: x), nn.Conv2D(2, 1, in_channels=3), nn.GlobalAvgPool2D(), nn.Flatten())
    identity.initialize()
    pixels = images()
    grad_cam(identity, pixels, 1, layer='0')
    assert pixels.grad is None, 'the layer gives the very input'
    net.hybridize(False)
    for block in (net, net.features, net.stages()[-1][-1]):
        block._forward_hooks.clear()
    with autograd.predict_mode():
        np.testing.assert_allclose(net(images()).asnumpy().shape, expected.shape)


def test_guided_maps_keep_no_arrays():
    def held_values():
        nd.waitall()
        gc.collect()
        return sum(array.size for array in gc.get_objects() if isinstance(array, nd.NDArray))

    net, x = network(), images(4)
    grad_cam(net, x, method='guided')
    before = held_values()
    for _ in range(3):
        grad_cam(net, x, method='guided')
    assert held_values() - before < x.size


def test_threads_explain_a_network_that_others_use():
    net, x = network(), images()
    net.hybridize()
    expected, maps, weights = net(x).asnumpy(), grad_cam(net, x).maps, fusion_weights(net, x)['stage 3']
    plus = {method: grad_cam(net, x, method=method).maps for method in METHODS}
    before, problems = held(net)[1], []

    def work(number):
        try:
            for turn in range(3):
                kind = (number + turn) % 5
                if kind == 0:
                    np.testing.assert_array_equal(net(x).asnumpy(), expected)
                elif kind == 1:
                    np.testing.assert_allclose(fusion_weights(net, x)['stage 3'], weights, atol=1e-6)
                else:
                    method = METHODS[kind - 2]
                    np.testing.assert_allclose(grad_cam(net, x, method=method).maps, plus[method], atol=1e-5)
        except BaseException as error:
            problems.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert held(net)[1] == before and net._active
    np.testing.assert_array_equal(grad_cam(net, x).maps, maps)
