"""Where else than in residual blocks features are fused: Inception modules, feature pyramids, U-Nets."""

import warnings
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from reference import error, filled, in_every_form, parameters, refused, tensor, trainable

from gluon_aff import AFF, complexity
from model_zoo import FeaturePyramid, get_model
from model_zoo.hosts.cifar_resnet import CifarResNet
from model_zoo.hosts.fpn import FPN
from model_zoo.hosts.inception import Inception, InceptionResNet
from model_zoo.hosts.resnet import ResNet
from model_zoo.hosts.unet import UNet

segmentation = pytest.mark.parametrize('kind', [FPN, UNet])
pyramid_fusions = pytest.mark.parametrize('fusion', ['add', 'concat', 'aff', 'iaff'])


def resized(y, like):
    """OpenCV's bilinear resizing of (N, C, h, w)."""
    size = like.shape[:1:-1]
    return mx.nd.array([[cv2.resize(m, size, interpolation=cv2.INTER_LINEAR) for m in image] for image in y.asnumpy()])


@pytest.mark.parametrize(
    'name', ['cifar_concat_inception_resnet8', 'cifar_iaff_inception_resnet8', 'fpn_iaff_resnet8', 'unet_aff_resnet8']
)
def test_network_of_photographs_is_one_function_in_every_form(name, tmp_path):
    net = filled(get_model(name, width=1), random=np.random.default_rng)
    outputs = in_every_form(net, tmp_path, (tensor((1, 3, 224, 224)),), (tensor((3, 3, 225, 301)),))
    for form, actual in outputs.items():
        assert max(error(y, expected) for y, expected in zip(actual, outputs['eager'])) <= 1e-5, form


# Inception modules


def test_a_dilated_convolution_is_a_5x5_one_with_gaps():
    dilated, true = (filled(Inception(8, 6, AFF, true_5x5=option)) for option in (False, True))
    weight = np.zeros((8, 6, 5, 5), 'float32')
    weight[:, :, ::2, ::2] = dilated.conv5.weight.data().asnumpy()
    true.conv5.weight.set_data(mx.nd.array(weight))
    x = tensor((2, 6, 7, 5))
    assert error(dilated(x), true(x)) <= 1e-6


def test_the_3x3_branch_is_x_and_the_5x5_branch_y():
    module, x, seen = filled(Inception(8, 6, AFF)), tensor((2, 6, 7, 5)), []
    module.fuse.register_forward_pre_hook(lambda block, inputs: seen.extend(inputs))
    module(x)
    assert error(seen[0], module.conv3(x)) == error(seen[1], module.conv5(x)) == 0


@pytest.mark.parametrize('true_5x5', [False, True])
def test_inception_resnet_has_one_module_for_the_second_convolution_of_each_block(true_5x5):
    net, added = (
        kind((2, 1, 1), width=1, fusion='add', **options)
        for kind, options in ((InceptionResNet, {'true_5x5': true_5x5}), (CifarResNet, {}))
    )
    more = (25 if true_5x5 else 9) * sum(c * c for c in (16, 16, 32, 64))
    assert trainable(net) == trainable(added) + more


@pytest.mark.parametrize('fusion', ['add', 'concat', 'aff', 'iaff'])
def test_the_shortcut_of_an_inception_block_is_added(fusion):
    net, x = filled(InceptionResNet((1, 1, 1), width=1, fusion=fusion)), tensor((2, 16, 8, 8))
    block = net.stages()[1][0][0]
    for name, parameter in parameters(block.resfwd[-1]).items():
        if name.startswith('conv') and name.endswith('weight'):
            parameter.set_data(mx.nd.zeros(parameter.shape))
    expected = x if fusion != 'concat' else x + block.resfwd(x)
    assert error(block(x), expected) == 0


# Segmentation


@segmentation
def test_a_trained_classifiers_file_starts_the_features(kind, tmp_path):
    classifier, path = filled(CifarResNet((1, 1, 1), width=1, fusion='add')), str(tmp_path / 'classifier.params')
    classifier.save_parameters(path)
    name = {FPN: 'fpn_aff_resnet8', UNet: 'unet_aff_resnet8'}[kind]
    net, x = get_model(name, pretrained=path, allow_missing=True, ignore_extra=True), tensor((1, 3, 9, 8))
    assert [error(a, b) for a, b in zip(net.stage_outputs(x), classifier.stage_outputs(x))] == [0] * 4
    assert net(x).shape == (1, 2, 9, 8)
    for tap, channels in zip(net.taps, (16, 32, 64)):
        assert list(parameters(tap)) == ['0.gamma', '0.beta', '0.running_mean', '0.running_var']
        assert tap[0].gamma.shape == (channels,)
    for name, parameter in parameters(net.taps[-1][0]).items():
        parameter.set_data(parameters(classifier.features[-4])[name].data())
    expected = mx.nd.relu(classifier.features[-4](classifier.stage_outputs(x)[-1]))
    assert error(net.taps[-1](net.stage_outputs(x)[-1]), expected) == 0


@segmentation
def test_each_low_level_map_is_x_and_the_map_above_it_resized_is_y(kind):
    net, x, seen = filled(kind((1, 1, 1))), tensor((2, 3, 13, 10)), []
    merges = [getattr(merge, 'merge', merge) for merge in net.merges]
    for merge in merges:
        merge.fuse.register_forward_pre_hook(lambda block, inputs: seen.append(inputs))
    net(x)
    low1, low2, top = (tap(m) for tap, m in zip(net.taps, net.stage_outputs(x, [1, 2, 3])))
    first = net.merges[0](low2, top)
    for (found_x, found_y), merge, low, above in zip(seen, merges, (low2, low1), (top, first)):
        assert error(found_x, merge.expand(low)) == 0 and error(found_y, resized(above, low)) <= 1e-5


def test_fusions_have_the_channels_of_the_high_level_maps():
    def aff(channels):
        return trainable(AFF(channels, reduction=4))

    for kind, channels in ((FPN, (64, 64)), (UNet, (64, 32))):
        more = trainable(kind((1, 1, 1), fusion='aff')) - trainable(kind((1, 1, 1), fusion='add'))
        assert more == sum(map(aff, channels)), kind


@segmentation
def test_a_change_in_a_corner_reaches_the_output_there_first(kind):
    # Without a global context, so that what is seen far away comes through the convolutions.
    net, x = filled(kind((1, 1, 1), fusion='add')), tensor((1, 3, 64, 64))
    changed = x.copy()
    changed[:, :, 0, 0] += 1
    difference = mx.nd.abs(net(changed) - net(x)).asnumpy()[0].sum(0)
    assert difference[0, 0] > 0 and difference[-8:].max() == difference[:, -8:].max() == 0


# Feature pyramids over other networks


@pytest.fixture(scope='module')
def backbone():
    return filled(ResNet((1, 1, 1, 1), classes=5, fusion='iaff'))


def pyramid_of(net, **options):
    """A pyramid with all its parameters filled, those of the network included."""
    pyramid = FeaturePyramid(net, channels=32, **options)
    pyramid.lateral.initialize()
    pyramid.merges.initialize()
    pyramid.smooth.initialize()
    pyramid(tensor((1, 3, 32, 32)))
    for part in (pyramid.lateral, pyramid.merges, pyramid.smooth):
        filled(part)
    return pyramid


@pyramid_fusions
def test_pyramid_is_one_function_with_several_outputs_in_every_form(backbone, fusion, tmp_path):
    pyramid = pyramid_of(backbone, fusion=fusion, p6=True)
    batches = [tensor((1, 3, 64, 64)), tensor((3, 3, 65, 97))]
    eager = [pyramid(x) for x in batches]
    for levels, x in zip(eager, batches):
        sizes = [tuple(-(-side // factor) for side in x.shape[2:]) for factor in (4, 8, 16, 32, 64)]
        assert [level.shape for level in levels] == [(len(x), 32, *size) for size in sizes]
    pyramid.hybridize()
    forms = [[pyramid(x) for x in batches]]
    path = str(Path(tmp_path) / 'pyramid')
    pyramid.export(path)
    imported = mx.gluon.SymbolBlock.imports(f'{path}-symbol.json', ['data'], f'{path}-0000.params')
    forms.append([imported(x) for x in batches])
    for form in forms:
        for actual, expected in zip(form, eager):
            assert len(actual) == 5 and max(map(error, actual, expected)) <= 1e-5


def test_pyramid_of_additions_is_computed_from_the_stages_as_lin_et_al_do(backbone):
    pyramid, x = pyramid_of(backbone, stages=(1, 3, 4), fusion='add', p6=True), tensor((2, 3, 65, 97))
    low, middle, top = backbone.stage_outputs(x, [1, 3, 4])
    third = pyramid.lateral(top)
    second = pyramid.merges[0].expand(middle) + resized(third, middle)
    first = pyramid.merges[1].expand(low) + resized(second, low)
    expected = [pyramid.smooth[2](first), pyramid.smooth[1](second), pyramid.smooth[0](third)]
    expected.append(expected[-1][:, :, ::2, ::2])
    assert max(map(error, pyramid(x), expected)) <= 1e-5


def test_pyramid_trains_every_parameter_and_leaves_the_network_usable(backbone):
    net, x = filled(ResNet((1, 1, 1, 1), classes=5)), tensor((4, 3, 64, 64))
    expected = net(x)
    pyramid = pyramid_of(net, stages=(2, 3), fusion='aff')
    assert error(net(x), expected) == 0
    trainer = mx.gluon.Trainer(pyramid.collect_params(), 'sgd', {'learning_rate': 1e-6})
    with mx.autograd.record():
        loss = sum((level**2).mean() for level in pyramid(x))
    loss.backward()
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # Trainer warns of a parameter without a gradient
        trainer.step(1)


@pytest.mark.parametrize('name', ['add_resnet50', 'iaff_resnext50_32x4d'])
def test_pyramid_stands_on_any_imagenet_network(name):
    actual = complexity(FeaturePyramid(get_model(name)), (1, 3, 224, 224))
    backbone = complexity(get_model(name), (1, 3, 224, 224))
    assert actual.parameters > backbone.parameters - 2048 * 1000 and actual.multiply_adds > backbone.multiply_adds


@pytest.mark.parametrize(
    'options, message',
    [
        ({'stages': (1,)}, 'two or more rising numbers'),
        ({'stages': (2, 1)}, 'rising'),
        ({'stages': (1, 1)}, 'rising'),
        ({'stages': (3, 5)}, 'stages of ResNet, 0 to 4, got'),
        ({'stages': 'ab'}, 'rising'),
        ({'channels': 0}, 'channels'),
        ({'fusion': 'afff'}, 'did you mean aff'),
        ({'reduction': 3}, 'reduction 3'),
    ],
)
def test_pyramid_options_out_of_their_range_are_refused(backbone, options, message):
    with refused(message):
        FeaturePyramid(backbone, **options)


def test_pyramid_refuses_other_blocks_and_what_is_no_image(backbone):
    with refused('backbone must be a network of the zoo'):
        FeaturePyramid(nn.HybridSequential())
    pyramid = pyramid_of(backbone)
    for x in (
        tensor((3, 64, 64)),
        tensor((1, 1, 64, 64)),
        tensor((1, 3, 16, 64)),
        tensor((1, 3, 64, 64)).astype('int32'),
    ):
        with refused('FeaturePyramid takes images'):
            pyramid(x)
