"""The networks that the AFF paper compares itself with: counts, witnesses, sizes of images, and hybrids."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import mxnet as mx
import numpy as np
import pytest
from gluoncv2.model_provider import get_model as gluoncv2_model
from mxnet import autograd, gluon
from mxnet.gluon import nn
from reference import error, filled, in_every_form, parameters, refused, tensor, trainable

from gluon_aff import AFF, IAFF, complexity
from gluon_aff.layers.comparators import ECA, LIP, SE, AAConv, GatherExcite, SharedLIP, SKConv
from model_zoo import get_model, model_info
from model_zoo.hosts.attention_resnet import AAResNet, ECAResNet, GEResNet, LIPResNet, SEResNet, SKResNet
from model_zoo.hosts.resnet import ResNet

LAYERS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# The body of all of them.
V1B = {'fusion': 'add', 'deep_stem': False, 'avg_down': False}
NETWORKS = {
    'ResNet': ResNet,
    'SE': SEResNet,
    'ECA': ECAResNet,
    'GE': GEResNet,
    'AA': AAResNet,
    'LIP': LIPResNet,
    'SK': SKResNet,
}
NAMES = [
    'resnet50',
    'resnet101',
    'se_resnet50',
    'se_resnet101',
    'eca_resnet101',
    'aa_resnet101',
    'ge_theta_plus_resnet101',
    'lip_resnet101',
    'sk_resnet50',
]
ONE_SIZE = ['GE', 'AA']
bound_to_a_size = pytest.mark.parametrize('network', ONE_SIZE)


def shallow(network, size=64, **options):
    """A network of four blocks and five classes, for images of this size."""
    bound = {'input_size': size} if network in ONE_SIZE else {}
    return NETWORKS[network]((1, 1, 1, 1), classes=5, **{**V1B, **bound, **options})


def kinds(net, kind):
    """The blocks of a kind, by their path."""
    actual = {}

    def visit(block, path):
        if isinstance(block, kind):
            actual[path] = block
        for name, child in block._children.items():
            visit(child, f'{path}.{name}'.strip('.'))

    visit(net, '')
    return actual


# Counts


@pytest.mark.parametrize(
    'name, giga',
    [
        ('resnet101', 7.80),
        ('eca_resnet101', 7.80),
        ('aa_resnet101', 8.68),
        ('se_resnet101', 7.81),
        ('ge_theta_plus_resnet101', 7.82),
        ('lip_resnet101', 9.01),
        ('sk_resnet50', 4.46),
    ],
)
def test_multiply_adds_are_those_of_the_reference_implementations(name, giga):
    assert round(model_info(name).multiply_adds / 1e9, 2) == giga


@pytest.mark.parametrize(
    'network, depth, count',
    [
        ('GE', 50, 33_637_592),
        ('LIP', 50, 23_864_232),
        ('AA', 50, 25_813_872),
        ('SK', 101, 48_736_040),
        ('ResNet', 152, 60_192_808),
        ('AA', 152, 61_622_496),
    ],
)
def test_other_depths_have_the_parameters_of_the_reference_implementations(network, depth, count):
    net = NETWORKS[network](LAYERS[depth], **V1B, **({'input_size': 224} if network in ONE_SIZE else {}))
    assert complexity(net, (1, 3, 224, 224)).parameters == trainable(net) == count


@pytest.mark.parametrize(
    'name', [name for name in NAMES if model_info(name).reported and model_info(name).reported.parameters]
)
def test_the_published_parameters_are_ours_as_the_card_counts_them(name):
    card = model_info(name)
    stated, counted = card.reported.parameters, card.reported.counted
    assert counted.startswith('with the classifier, ')
    tenths = card.parameters / (2**20 if '2^20' in counted else 10**6) * 10
    assert stated == {'up': np.ceil, 'rounded': np.round, 'chance)': np.round}[counted.split()[-1]](tenths) / 10


@pytest.mark.parametrize('depth, mega', [(18, 11.15), (34, 20.79), (50, 24.37)])
def test_parameters_of_eca_networks_are_those_that_the_authors_list(depth, mega):
    count = model_info(f'eca_resnet{depth}').parameters
    assert round(count / 2**20, 2) == mega and (depth != 50 or count - model_info('resnet50').parameters == 80)


@pytest.mark.parametrize('name', ['iaff_resnet50', 'iaff_resnext50_32x4d'])
def test_the_published_parameters_of_iaff_are_ours_cut_off(name):
    card = model_info(name)
    assert card.reported.parameters == np.floor(card.parameters / 1e5) / 10 and 'cut off' in card.reported.counted


# Where the attentions are

EVERY_BLOCK = {f'layer{stage}.0' for stage in (1, 2, 3, 4)}


@pytest.mark.parametrize(
    'network, kind, places',
    [
        ('SE', SE, {f'{block}.gate' for block in EVERY_BLOCK}),
        ('ECA', ECA, {f'{block}.gate' for block in EVERY_BLOCK}),
        ('GE', GatherExcite, {f'{block}.gate' for block in EVERY_BLOCK}),
        ('SK', SKConv, {f'{block}.conv2' for block in EVERY_BLOCK}),
        ('AA', AAConv, {f'{block}.conv2' for block in EVERY_BLOCK - {'layer1.0'}}),
        ('LIP', LIP, {'maxpool'}),
        ('LIP', SharedLIP, {f'{block}.pool' for block in EVERY_BLOCK - {'layer1.0'}}),
    ],
)
def test_attentions_stand_where_their_papers_put_them(network, kind, places):
    assert set(kinds(shallow(network), kind)) == places


def test_later_blocks_of_a_stage_have_them_too_but_for_the_pools():
    def count(network, kind):
        options = {'input_size': 64} if network in ONE_SIZE else {}
        return len(kinds(NETWORKS[network]((2, 2, 2, 2), classes=5, **options), kind))

    assert [
        count(*pair)
        for pair in (('SE', SE), ('ECA', ECA), ('GE', GatherExcite), ('SK', SKConv), ('AA', AAConv), ('LIP', SharedLIP))
    ] == [8, 8, 8, 8, 6, 3]


def test_eca_kernels_are_the_released_ones_by_stage():
    assert [block.conv.weight.shape[2] for block in kinds(shallow('ECA'), ECA).values()] == [3, 3, 5, 7]


# Witnesses


def share_by_shape(theirs, ours):
    """Give our parameters the values of theirs, matched by kind and shape, in order."""
    actual = []
    for net in (theirs, ours):
        by_shape = defaultdict(list)
        for name, parameter in parameters(net).items():
            by_shape[name.rsplit('.', 1)[-1], parameter.shape].append(parameter)
        actual.append(by_shape)
    assert {key: len(group) for key, group in actual[0].items()} == {
        key: len(group) for key, group in actual[1].items()
    }
    for key, group in actual[0].items():
        for source, target in zip(group, actual[1][key]):
            target.initialize(mx.init.Constant(source.data()), force_reinit=True)


@pytest.mark.parametrize(
    'name, their_name', [('se_resnet50', 'seresnet50b'), ('se_resnet101', 'seresnet101b'), ('sk_resnet50', 'sknet50')]
)
def test_network_computes_what_gluoncv2s_does(name, their_name):
    theirs, ours, x = gluoncv2_model(their_name), get_model(name), tensor((1, 3, 224, 224))
    share_by_shape(filled(theirs, random=np.random.default_rng), ours)
    expected = theirs(x)
    assert error(ours(x), expected) <= 1e-5 and expected.asnumpy().std() > 0.1


def copy_shared(source, target):
    for name, parameter in parameters(target).items():
        parameter.initialize(mx.init.Constant(parameters(source)[name].data()), force_reinit=True)


@pytest.mark.parametrize('network', ['SE', 'ECA', 'GE'])
def test_with_gates_at_one_the_network_is_the_plain_one(network):
    net, resnet, x = filled(shallow(network)), shallow('ResNet'), tensor((2, 3, 64, 64))
    copy_shared(net, resnet)
    assert error(net(x), resnet(x)) > 1e-2
    # A sigmoid of 40 is 1 in float32.
    for block in kinds(net, (SE, GatherExcite)).values():
        block.excite[2].weight.set_data(mx.nd.zeros(block.excite[2].weight.shape))
        block.excite[2].bias.set_data(mx.nd.full(block.excite[2].bias.shape, 40))
    for block in kinds(net, ECA).values():
        block.gather.register_forward_hook(lambda gather, inputs, z: z.__setitem__(slice(None), 1e6))
        block.conv.weight.set_data(mx.nd.ones(block.conv.weight.shape))
    np.testing.assert_array_equal(net(x).asnumpy(), resnet(x).asnumpy())


def test_lip_network_starts_with_average_pools():
    net, x = shallow('LIP'), tensor((1, 3, 64, 64))
    net.initialize(mx.init.Xavier())
    stem = net.relu(net.bn1(net.conv1(x)))
    average = mx.nd.Pooling(stem, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type='avg', count_include_pad=False)
    assert error(net.stage_outputs(x, [0])[0], average) <= 1e-6


def test_only_the_registered_lip_network_starts_the_last_gammas_at_zero():
    for name in ('lip_resnet101', 'resnet101'):
        gammas = [p for key, p in parameters(get_model(name)).items() if key.endswith('bn3.gamma')]
        for gamma in gammas:
            gamma.initialize()
        assert len(gammas) == 33 and {gamma.data().sum().asscalar() == 0 for gamma in gammas} == {'lip' in name}


# Sizes of images


@pytest.mark.parametrize(
    'network, sizes',
    [
        *((network, (224, 256, 320, 225)) for network in NETWORKS if network not in ONE_SIZE),
        *((network, (size,)) for network in ONE_SIZE for size in (224, 256, 320, 225, (64, 97))),
    ],
)
def test_network_is_one_function_in_every_form_at_every_size(network, sizes):
    net = filled(shallow(network, sizes[0]), random=np.random.default_rng)
    images = [tensor((1, 3, *(size if isinstance(size, tuple) else (size, size)))) for size in sizes]
    with TemporaryDirectory() as folder:
        outputs = in_every_form(net, Path(folder), *((x,) for x in images))
    for form, actual in outputs.items():
        for y, expected in zip(actual, outputs['eager']):
            assert np.isfinite(expected.asnumpy()).all() and error(y, expected) <= 1e-5, form


@pytest.mark.parametrize('name', NAMES)
def test_the_network_itself_at_224(name):
    net, x = filled(get_model(name), random=np.random.default_rng), tensor((1, 3, 224, 224))
    expected = net(x)
    assert expected.shape == (1, 1000) and np.isfinite(expected.asnumpy()).all()
    assert [m.shape[1:] for m in net.stage_outputs(x)] == [
        (64, 56, 56),
        (256, 56, 56),
        (512, 28, 28),
        (1024, 14, 14),
        (2048, 7, 7),
    ]
    net.hybridize()
    assert error(net(x), expected) <= 1e-5


@pytest.mark.parametrize('network, hybridize', [('GE', True), ('AA', False)])
def test_another_size_than_the_networks_own_is_refused_and_the_sentence_names_the_option(network, hybridize):
    net = shallow(network, (64, 96))
    net.initialize()
    if hybridize:
        net.hybridize()
    for size in ((64, 64), (96, 64), (128, 192), (65, 96)):
        with refused(r'H and W 64 and 96, the input_size that it was built for, got'):
            net(tensor((1, 3, *size)))
        with refused('input_size'):
            net.stage_outputs(tensor((1, 3, *size)), [1])
    with refused('cannot take inputs of shape'):
        complexity(net, (1, 3, 64, 64))
    assert net(tensor((1, 3, 64, 96))).shape == (1, 5)


@bound_to_a_size
def test_an_imported_network_computes_nothing_for_another_size(network, tmp_path):
    net = shallow(network, (64, 96))
    net.initialize()
    net.hybridize()
    net(tensor((1, 3, 64, 96)))
    net.export(str(tmp_path / 'net'))
    imported = gluon.SymbolBlock.imports(str(tmp_path / 'net-symbol.json'), ['data'], str(tmp_path / 'net-0000.params'))
    for size in ((17, 17), (32, 48), (96, 64), (32, 192), (128, 192)):
        with pytest.raises(mx.MXNetError):
            imported(tensor((4, 3, *size))).wait_to_read()


@pytest.mark.parametrize('size', [None, 16, 'a', (64,), (64, 64, 64), (64, 0), 64.0])
def test_an_input_size_that_is_none_is_refused(size):
    for name in ('aa_resnet101', 'ge_theta_plus_resnet101'):
        with refused('input_size must be'):
            get_model(name, input_size=size)


def test_any_resnet_may_be_bound_to_a_size():
    net = shallow('SE', input_size=(64, 65))
    net.initialize()
    assert net(tensor((1, 3, 64, 65))).shape == (1, 5)
    with refused('input_size'):
        net(tensor((1, 3, 64, 64)))


# Hybrids


@pytest.mark.parametrize(
    'network, fusion, kind', [(network, *((('aff', AFF), ('iaff', IAFF))[i % 2])) for i, network in enumerate(NETWORKS)]
)
def test_hybrid_learns_a_batch(network, fusion, kind):
    mx.random.seed(1)
    net = shallow(network, 32, fusion=fusion, start_stage=2)
    assert set(kinds(net, kind)) == {f'layer{stage}.0.attention' for stage in (2, 3, 4)}
    net.initialize(mx.init.Xavier())
    net.hybridize()
    x, labels = tensor((4, 3, 32, 32)), mx.nd.array([0, 1, 2, 3])
    loss_of, losses = gluon.loss.SoftmaxCrossEntropyLoss(), []
    trainer = gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 0.01})
    for _ in range(6):
        with autograd.record():
            loss = loss_of(net(x), labels)
        loss.backward()
        trainer.step(4)
        losses.append(loss.mean().asscalar())
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


@pytest.mark.parametrize('name', NAMES)
def test_registered_network_adds_by_default_and_takes_a_fusion(name):
    added, hybrid = get_model(name), get_model(name, fusion='aff', start_stage=4, reduction=32)
    assert model_info(name).fusion == 'add' and not kinds(added, AFF)
    squeezed = 2048 // 32
    context = 2 * 2048 * squeezed + squeezed + 2048 + 2 * squeezed + 2 * 2048
    assert trainable(hybrid) - trainable(added) == 3 * 2 * context


# Extending


def test_a_network_of_ones_own_attention_is_one_hook():
    class Halved(nn.HybridBlock):
        def hybrid_forward(self, F, x):
            return x / 2

    class HalvedResNet(ResNet):
        def make_gate(self, config):
            return Halved() if config.stage == 4 else None

    net = partial(HalvedResNet, (1, 1, 1, 1), classes=5, **V1B)()
    resnet, x = filled(shallow('ResNet')), tensor((1, 3, 64, 64))
    copy_shared(resnet, net)
    last = resnet.layer4[0].bn3
    for parameter in (last.gamma, last.beta):
        parameter.set_data(parameter.data() / 2)
    assert error(net(x), resnet(x)) <= 1e-6
