"""GluonCV as a witness: the addition networks are its networks, and code written for it works on ours."""

import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo import get_model as gluoncv_model
from gluoncv.model_zoo.resnext import ResNext
from gluoncv.utils import export_block
from mxnet.gluon import nn
from reference import REPEATED, error, fill, parameters, tensor, tiered

from model_zoo import get_model, list_models, load_parameters

ATTRIBUTES = 'conv1 bn1 relu maxpool layer1 layer2 layer3 layer4 avgpool flat drop fc'.split()


def share_parameters(theirs, ours, folder, load=load_parameters):
    """Fill GluonCV's network, and load the file that it saves into ours."""
    theirs.initialize(mx.init.Zero())
    # Most layers there learn their input channels in the first forward.
    theirs(tensor((1, 3, 64, 64)))
    for name, parameter in parameters(theirs).items():
        parameter.set_data(mx.nd.array(fill(name, parameter.shape)))
    path = str(folder / 'theirs.params')
    theirs.save_parameters(path)
    load(ours, path)


@pytest.mark.parametrize(
    'name, their_name, size',
    [
        ('add_resnet50', 'resnet50_v1d', (224, 224)),
        ('add_resnet101', 'resnet101_v1d', (64, 64)),
        ('add_resnet152', 'resnet152_v1d', (65, 97)),
        ('resnet50', 'resnet50_v1b', (224, 224)),
        ('resnet101', 'resnet101_v1b', (65, 97)),
    ],
)
def test_resnet_is_gluoncvs_with_the_same_names_and_the_same_files_in_both_directions(name, their_name, size, tmp_path):
    theirs, ours = gluoncv_model(their_name), get_model(name)
    assert list(parameters(ours)) == list(parameters(theirs))
    share_parameters(theirs, ours, tmp_path)
    x = tensor((2, 3, *size))
    expected = theirs(x).asnumpy()
    np.testing.assert_array_equal(ours(x).asnumpy(), expected)

    ours.save_parameters(str(tmp_path / 'ours.params'))
    theirs.initialize(mx.init.Zero(), force_reinit=True)
    theirs.load_parameters(str(tmp_path / 'ours.params'))
    np.testing.assert_array_equal(theirs(x).asnumpy(), expected)


OPTIONS = [
    ('resnet50_v1d', {'dilated': True}, {'dilated': True}),
    ('resnet50_v1b', {}, {'deep_stem': False, 'avg_down': False}),
    ('resnet50_v1b', {'dilated': True}, {'dilated': True, 'deep_stem': False, 'avg_down': False}),
    ('resnet50_v1s', {}, {'avg_down': False, 'stem_width': 64}),
]


@pytest.mark.parametrize('name, their_options, our_options', OPTIONS)
def test_options_give_gluoncvs_other_resnets(name, their_options, our_options, tmp_path):
    theirs, ours = gluoncv_model(name, **their_options), get_model('add_resnet50', **our_options)
    # Gluon's own loader, too, takes their file.
    share_parameters(theirs, ours, tmp_path, load=lambda net, path: net.load_parameters(path))
    x = tensor((1, 3, 65, 97))
    np.testing.assert_array_equal(ours(x).asnumpy(), theirs(x).asnumpy())


@pytest.mark.parametrize('depth, layers', [(50, [3, 4, 6, 3]), (101, [3, 4, 23, 3])])
def test_add_resnext_is_resnext_with_the_deep_stem(depth, layers, tmp_path):
    theirs = ResNext(layers, 32, 4, deep_stem=True, avg_down=True, stem_width=64)
    ours = get_model(f'add_resnext{depth}_32x4d')
    share_parameters(theirs, ours, tmp_path)
    x = tensor((2, 3, 64, 96))
    np.testing.assert_array_equal(ours(x).asnumpy(), theirs(x).asnumpy())


def test_resnet_has_gluoncvs_attributes_and_they_chain_to_its_output():
    net, theirs = get_model('add_resnet50', final_drop=0.5), gluoncv_model('resnet50_v1d', final_drop=0.5)
    assert list(net._children) == list(theirs._children) == ATTRIBUTES
    net.initialize()
    x = expected = tensor((1, 3, 64, 64))
    for name in ATTRIBUTES:
        x = getattr(net, name)(x)
    assert error(x, net(expected)) == 0


@pytest.mark.parametrize('name', ['iaff_resnext50_32x4d', 'cifar_aff_resnet8', 'cifar_aff_resnext38_32x4d'])
def test_other_networks_are_output_after_features(name):
    net, x = get_model(name), tensor((1, 3, 32, 32))
    net.initialize()
    assert error(net.output(net.features(x)), net(x)) == 0


class GlobalStats(nn.BatchNorm):
    """BatchNorm that insists on what it is made with."""

    made = 0

    def __init__(self, use_global_stats=False, **kwargs):
        assert use_global_stats is True
        GlobalStats.made += 1
        super().__init__(use_global_stats=use_global_stats, **kwargs)


@pytest.mark.parametrize('name', tiered(list_models(), quick=list_models(exclude=REPEATED)))
def test_use_global_stats_reaches_every_norm(name):
    GlobalStats.made, statistics = 0, sum(key.endswith('running_mean') for key in parameters(get_model(name)))
    get_model(name, use_global_stats=True, norm_layer=GlobalStats)
    assert GlobalStats.made == statistics > 0


@pytest.mark.parametrize('name, head', [('aff_resnet50', 'fc'), ('cifar_aff_resnet8', 'output')])
def test_fine_tuning_as_in_gluoncvs_tutorial(name, head, tmp_path):
    trained, path, x = get_model(name), str(tmp_path / 'trained.params'), tensor((2, 3, 32, 32))
    trained.initialize()
    trained(x)
    trained.save_parameters(path)

    net = get_model(name, pretrained=path)
    with net.name_scope():
        setattr(net, head, nn.Dense(7))
    getattr(net, head).initialize(mx.init.Xavier())
    net.collect_params().reset_ctx(mx.cpu())
    net.hybridize()
    trainer = mx.gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 0.01})
    with mx.autograd.record():
        logits = net(x)
        loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(logits, mx.nd.array([0, 6]))
    loss.backward()
    before = getattr(net, head).weight.data().copy()
    trainer.step(2)
    assert logits.shape == (2, 7)
    assert error(getattr(net, head).weight.data(), before) > 0


@pytest.mark.parametrize('name', ['iaff_resnet50', 'cifar_aff_resnet8'])
def test_export_block_bakes_the_preprocessing_in(name, tmp_path):
    net, path = get_model(name), str(tmp_path / 'net')
    net.initialize()
    export_block(path, net, data_shape=(64, 64, 3), preprocess=True, layout='HWC')
    imported = mx.gluon.SymbolBlock.imports(f'{path}-symbol.json', ['data'], f'{path}-0000.params')
    image = mx.nd.random.uniform(0, 255, (1, 64, 64, 3))
    mean, std = mx.nd.array([123.675, 116.28, 103.53]), mx.nd.array([58.395, 57.12, 57.375])
    assert error(imported(image), net(((image - mean) / std).transpose((0, 3, 1, 2)))) <= 1e-4
