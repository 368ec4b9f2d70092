"""Our networks in GluonCV's model zoo: known by name, built with its keywords, held to its own zoo's checks."""

import os
import re
from importlib import metadata

import gluoncv
import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo import model_store, segbase
from gluoncv.model_zoo.model_zoo import _models
from mxnet.gluon import nn
from programs import TOP, finish, start
from reference import REPEATED, error, filled, parameters, tensor, tiered

from gluon_aff import _environment
from gluon_aff.data.class_names import FASHION_MNIST
from model_zoo import (
    CIFAR100,
    get_model,
    list_models,
    list_weights,
    model_info,
    register_model,
    register_with_gluoncv,
    registry,
    unregister_from_gluoncv,
)

NAME = 'fashion_mnist_aff_resnet8'
THEIRS = set(_models), dict(model_store._model_sha1), segbase.get_backbone


@pytest.fixture(autouse=True)
def registered():
    register_with_gluoncv()
    yield
    unregister_from_gluoncv()


# Registration


def test_every_network_is_known_to_gluoncv():
    assert set(list_models()) - THEIRS[0] == set(gluoncv.model_zoo.get_model_list()) - THEIRS[0]
    # The names that GluonCV's own networks keep.
    assert set(list_models()) & THEIRS[0] == {'resnext50_32x4d', 'resnext101_32x4d', 'resnext101_64x4d'}
    pretrained = gluoncv.model_zoo.pretrained_model_list()
    assert set(list_models(pretrained=True)) == set(list_models()) & set(pretrained)


def test_registering_twice_is_registering_once_and_is_undone_without_a_trace():
    register_with_gluoncv()
    unregister_from_gluoncv()
    assert (set(_models), dict(model_store._model_sha1), segbase.get_backbone) == THEIRS
    with pytest.raises(ValueError, match=NAME):
        gluoncv.model_zoo.get_model(NAME)
    unregister_from_gluoncv()
    assert (set(_models), dict(model_store._model_sha1), segbase.get_backbone) == THEIRS


@pytest.mark.parametrize('name', ['dla34', 'siamrpn_alexnet_v2_otb15'])
def test_gluoncvs_names_are_not_overwritten(name, monkeypatch):
    monkeypatch.setattr(registry, '_registry', dict(registry._registry))
    register_model(name, family='X', dataset=CIFAR100, source='a test')(get_model)
    before = _models[name]
    register_with_gluoncv()
    assert _models[name] is before and before.__module__.startswith('gluoncv')
    unregister_from_gluoncv()
    assert _models[name] is before


def test_a_network_of_ones_own_is_added_by_another_call(monkeypatch):
    monkeypatch.setattr(registry, '_registry', dict(registry._registry))
    register_model('my_net', family='X', dataset=CIFAR100, source='a test')(
        lambda **options: get_model('cifar_aff_resnet8', **options)
    )
    register_with_gluoncv()
    assert gluoncv.model_zoo.get_model('My_Net', classes=3).classes == 3


def test_keywords_pass_through_unchanged(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        'model_zoo.plugins.gluoncv.get_model', lambda name, **options: seen.update(options) or get_model(NAME)
    )
    options = {'pretrained': 'abcdef01', 'ctx': [mx.cpu(1)], 'root': 'there', 'classes': 3, 'norm_layer': nn.BatchNorm}
    gluoncv.model_zoo.get_model('cifar_aff_resnet8', **options)
    assert seen == options


def test_pretrained_comes_from_the_verified_store_with_names_for_classes(monkeypatch):
    net, ours = gluoncv.model_zoo.get_model(NAME, pretrained=True), get_model(NAME, pretrained=True)
    assert all(
        (a.data() == b.data()).asnumpy().all() for a, b in zip(parameters(net).values(), parameters(ours).values())
    )
    assert net.classes == net.class_names == FASHION_MNIST and ours.classes == 10
    assert model_store._model_sha1[NAME] == list_weights(NAME)[0].digest
    monkeypatch.setattr('model_zoo.weights.catalog.HERE', TOP / 'tests')
    with pytest.raises(ValueError, match='absent'):
        gluoncv.model_zoo.get_model(NAME, pretrained=True)


def test_classes_is_a_number_where_no_released_names_apply():
    assert gluoncv.model_zoo.get_model(NAME).classes == 10
    assert gluoncv.model_zoo.get_model(NAME, pretrained=True, classes=4).classes == 4
    net = gluoncv.model_zoo.get_model(NAME, pretrained=True)
    net.reset_classifier(3)
    assert net.classes == 3


@pytest.mark.parametrize('version', ['0.10.4.post4', '0.9.0', '0.11.0b20220401', '1.0'])
def test_a_gluoncv_out_of_range_is_refused_in_one_sentence(version, monkeypatch):
    monkeypatch.setattr(_environment.metadata, 'version', lambda name: version)
    with pytest.raises(ImportError) as refused:
        register_with_gluoncv()
    assert str(refused.value) == (
        f"This works with GluonCV >=0.10.5,<0.11, and {version} is installed; run: pip install 'gluoncv>=0.10.5,<0.11'"
    )


@pytest.mark.parametrize('version', ['0.10.5', '0.10.5.post0', '0.10.9'])
def test_a_gluoncv_in_range_is_accepted(version, monkeypatch):
    monkeypatch.setattr(_environment.metadata, 'version', lambda name: version)
    register_with_gluoncv()


def test_the_range_is_that_of_the_requirement():
    assert f'gluoncv{_environment.GLUONCV}' in (TOP / 'pyproject.toml').read_text(encoding='utf-8')
    assert metadata.version('gluoncv').startswith('0.10.5')


WITHOUT = """
import sys
sys.modules['gluoncv'] = None
import mxnet as mx
import gluon_aff, model_zoo
from model_zoo.cli import main
net = model_zoo.get_model('fashion_mnist_aff_resnet8', pretrained=True)
assert net(mx.nd.zeros((1, 3, 32, 32))).shape == (1, 10) and net.class_names[0] == 'T-shirt/top'
assert model_zoo.model_info('aff_resnet50').spec.class_names[999] == 'toilet tissue'
assert len(model_zoo.feature_layers('aff_resnet50')) == 4
assert main(['list', 'iaff_resnet50']) == 0
import gluon_aff.data.cifar, gluon_aff.data.imagenet, gluon_aff.data.masks
for needs in (model_zoo.register_with_gluoncv, lambda: model_zoo.segmentation_model('fcn_aff_resnet50', 2),
              lambda: __import__('gluon_aff.train')):
    try:
        needs()
    except ImportError as error:
        assert str(error) == ("This needs GluonCV, which is not installed; run: pip install 'gluoncv>=0.10.5,<0.11'")
    else:
        raise AssertionError(needs)
"""


def test_without_gluoncv_the_rest_works_and_what_needs_it_says_so():
    status, _, err = finish(start('-c', WITHOUT))
    assert status == 0, err


# The checks that GluonCV's tests make of its own networks


def small(name, **options):
    """A network by GluonCV's get_model, and the smallest sides of images that suit a test."""
    fixed = name.startswith(('aa_', 'ge_'))
    if fixed:
        options['input_size'] = 32
    if '_resnext' in name and name.startswith('cifar'):
        options['cardinality'] = 8
    return gluoncv.model_zoo.get_model(name, **options), [(32, 32)] if fixed else [(32, 32), (33, 47)]


@pytest.mark.parametrize('name', tiered(list_models(), quick=list_models(exclude=REPEATED)))
def test_any_batch_on_any_context_with_any_number_of_classes(name):
    devices = [mx.cpu(0), mx.cpu(1)]
    net, sizes = small(name, pretrained=False, ctx=devices, classes=7)
    net.initialize(mx.init.Xavier(), ctx=devices)
    net.hybridize()
    segments = model_info(name).spec.task == 'segmentation'
    for images, size in zip((1, 3), sizes * 2):
        x = mx.nd.random.uniform(shape=(images, 3, *size))
        outputs = [net(x.as_in_context(ctx)) for ctx in devices]
        assert [y.context for y in outputs] == devices
        assert outputs[0].shape == (images, 7, *(size if segments else ()))
        assert np.isfinite(outputs[0].asnumpy()).all() and error(outputs[1], outputs[0]) == 0
    net.collect_params().reset_ctx(mx.cpu(1))
    assert error(net(x.as_in_context(mx.cpu(1))), outputs[0]) == 0


@pytest.mark.parametrize('name', list_models(exclude=[*REPEATED, '*101*', '*152*'], pretrained=True))
def test_pretrained_networks_initialise_and_move_as_gluoncvs_do(name, tmp_path, monkeypatch):
    path = str(tmp_path / 'released.params')
    net = get_model(name)
    net.initialize()
    net.save_parameters(path)
    # The download is not the subject here.
    monkeypatch.setattr('model_zoo.weights.catalog.find', lambda *_: (path, list_weights(name)[0]))
    net, x = gluoncv.model_zoo.get_model(name, pretrained=True, root='nowhere'), tensor((2, 3, 32, 32))
    before = net(x)
    with pytest.warns(UserWarning, match='already initialized'):
        net.initialize()
    net.collect_params().reset_ctx(mx.cpu(1))
    assert error(net(x.as_in_context(mx.cpu(1))), before) == 0
    assert net.classes == list_weights(name)[0].class_names


# Normalisation: use_global_stats and freeze_bn, SyncBatchNorm


def one_step(net, images=4):
    """Forward and backward in training mode; whether the running statistics moved."""
    statistics = {key: p.data().copy() for key, p in parameters(net).items() if 'running' in key}
    with mx.autograd.record():
        value = net(tensor((images, 3, 32, 32))).sum()
    value.backward()
    mx.nd.waitall()
    return {key for key, before in statistics.items() if error(parameters(net)[key].data() + 1, before + 1) > 0}


@pytest.mark.parametrize('name', ['sk_resnet50', 'iaff_resnext50_32x4d', 'cifar_iaff_resnet8', 'fpn_aff_resnet8'])
def test_frozen_norms_keep_their_running_statistics_in_training(name):
    assert one_step(filled(get_model(name, classes=3, use_global_stats=True))) == set()
    net = filled(get_model(name, classes=3))
    gluoncv.utils.freeze_bn(net)
    assert one_step(net) == set()
    gluoncv.utils.freeze_bn(net, False)
    # All but the norm of the input, which no gradient reaches.
    assert len(one_step(net)) >= len([key for key in parameters(net) if 'running' in key]) - 2


SYNC = """
import mxnet as mx, numpy as np
from mxnet.gluon.contrib.nn import SyncBatchNorm
from reference import filled, parameters, tensor
from model_zoo import get_model

def statistics(devices, **options):
    net = filled(get_model('cifar_aff_resnet8', width=1, **options))
    net.collect_params().reset_ctx(devices)
    # MXNet blocks in each layer until the other device is there: a device's layers must be pushed as one.
    net.hybridize(static_alloc=True, static_shape=True)
    parts = mx.gluon.utils.split_and_load(tensor((8, 3, 16, 16)), devices)
    mx.nd.waitall()
    for x in parts:
        net(x)
    mx.nd.waitall()
    with mx.autograd.record():
        outputs = [net(x) for x in parts]
    mx.autograd.backward(outputs)
    mx.nd.waitall()
    return {name: [data.asnumpy() for data in p.list_data()]
            for name, p in parameters(net).items() if 'running' in name}

both = statistics([mx.cpu(0), mx.cpu(1)], norm_layer=SyncBatchNorm, norm_kwargs={'num_devices': 2})
whole, half = statistics([mx.cpu(0)]), statistics([mx.cpu(0), mx.cpu(1)])
local = [name for name in both if 'running_mean' in name and 'resfwd.3' in name]
for name, (a, b) in both.items():
    np.testing.assert_array_equal(a, b)
    if name in local:
        np.testing.assert_allclose(a, whole[name][0], rtol=1e-3, atol=1e-5)
        assert abs(half[name][0] - half[name][1]).max() > 1e-4
assert local
"""


def test_statistics_agree_on_two_devices_with_sync_batch_norm():
    status, _, err = finish(start('-c', SYNC, PYTHONPATH=f'{TOP}{os.pathsep}{TOP / "tests"}'), 60)
    assert status == 0, re.sub('(?m)^.*MKLDNN.*$', '', err)
