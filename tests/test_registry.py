"""The registry and the parameter files: names, cards, and what is loaded from where."""

import os
import re
from functools import partial
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from reference import error, filled, parameters, refused, tensor, trainable

from gluon_aff.inspect.complexity import complexity
from model_zoo import (
    CIFAR100,
    FASHION_MNIST,
    IMAGENET,
    STOP_SIGN,
    get_model,
    get_model_file,
    get_model_list,
    list_models,
    load_parameters,
    model_info,
    pretrained_model_list,
    register_model,
    registry,
)
from model_zoo.hosts.cifar_resnet import CifarResNet

NAME = 'cifar_aff_resnet8'
FUSIONS = ['add', 'aff', 'iaff']


@pytest.fixture
def empty_registry(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, '_registry', dict(registry._registry))


@pytest.fixture
def saved(tmp_path):
    """A network and its file."""
    net, path = filled(get_model(NAME)), str(tmp_path / 'saved.params')
    net.save_parameters(path)
    return net, path


def same(net, other):
    x = tensor((2, 3, 32, 32))
    return error(net(x), other(x)) == 0


# Names


def test_the_networks_of_the_readme_are_registered():
    hosts = [
        '{}_resnet50',
        '{}_resnet101',
        '{}_resnet152',
        '{}_resnext50_32x4d',
        '{}_resnext101_32x4d',
        'cifar_{}_resnext38_32x4d',
        'cifar_{}_resnext47_32x4d',
    ]
    names = {host.format(fusion) for host in hosts for fusion in FUSIONS}
    names |= {
        host.format(fusion) + str(depth)
        for fusion in (*FUSIONS, 'concat')
        for depth in (8, 14, 20, 26)
        for host in ('cifar_{}_resnet', 'cifar_{}_inception_resnet', 'fpn_{}_resnet', 'unet_{}_resnet')
    }
    names |= {f'cifar_{fusion}_resnet32' for fusion in (*FUSIONS, 'concat')}
    names |= {f'{fusion}_resnet{depth}' for fusion in FUSIONS for depth in (18, 34)}
    names |= {f'{fusion}_resnet{depth}_v1b' for fusion in ('aff', 'iaff') for depth in (18, 34)}
    names |= TIMM.keys() | {f'eca_resnet{depth}' for depth in (18, 34, 50)}
    names |= {
        'resnet50',
        'resnet101',
        'se_resnet50',
        'se_resnet101',
        'eca_resnet101',
        'aa_resnet101',
        'ge_theta_plus_resnet101',
        'lip_resnet101',
        'sk_resnet50',
    }
    assert names <= set(list_models())


def test_list_models_is_in_natural_order_without_doubles():
    names = list_models()
    assert len(set(names)) == len(names)
    assert list_models('cifar_aff_resnet?*', exclude='*x4d') == [f'cifar_aff_resnet{n}' for n in (8, 14, 20, 26, 32)]
    assert names.index('aff_resnet50') < names.index('aff_resnet101') < names.index('cifar_add_resnet8')


def test_list_models_takes_wildcards_and_sequences_of_them_in_any_case():
    assert list_models('IAFF_ResNet1[05]?') == ['iaff_resnet101', 'iaff_resnet152']
    assert list_models('aff_resne?t50_*') == ['aff_resnext50_32x4d']
    assert list_models(['add_resnet50', 'aff_resnet5?']) == ['add_resnet50', 'aff_resnet50']
    assert list_models('*ff_resnet50', exclude=('a*', 'cifar*')) == ['iaff_resnet50']
    assert list_models('aff_resnet50', exclude='*') == list_models('resnet5') == []


def test_list_models_pretrained_agrees_with_the_cards():
    expected = [name for name in list_models() if model_info(name).weights]
    assert list_models(pretrained=True) == pretrained_model_list() == expected


def test_gluoncvs_list_is_that_of_list_models():
    assert list(get_model_list()) == list_models()


def test_get_model_takes_the_name_in_any_case_and_leaves_the_network_uninitialised():
    net = get_model('CIFAR_Aff_ResNet8')
    assert parameters(net).keys() == parameters(get_model(NAME)).keys()
    with pytest.raises(RuntimeError, match='has not been initialized'):
        net(tensor((1, 3, 32, 32)))


@pytest.mark.parametrize('find', [get_model, model_info])
def test_unknown_name_is_refused_with_the_nearest_ones(find):
    with refused("Unknown model 'iaf_resnet50'; did you mean .*iaff_resnet50"):
        find('iaf_resnet50')
    for name in ('', 'zzz', None, 50):
        with refused('Unknown model'):
            find(name)


# Cards

PUBLISHED = {
    'add_resnet50': 25_576_264,
    'aff_resnet50': 30_373_192,
    'iaff_resnet50': 35_170_120,
    'add_resnext50_32x4d': 25_156_776,
    'aff_resnext50_32x4d': 29_953_704,
    'iaff_resnext50_32x4d': 34_750_632,
    'add_resnet101': 44_568_392,
    'aff_resnet101': 53_932_744,
    'iaff_resnet101': 63_297_096,
    'cifar_add_resnet8': 1_249_956,
    'cifar_aff_resnet8': 1_339_332,
    'cifar_iaff_resnet8': 1_428_708,
    'cifar_add_resnet32': 7_450_276,
    'cifar_aff_resnet32': 7_897_156,
    'cifar_iaff_resnet32': 8_344_036,
    'cifar_add_resnext38_32x4d': 6_348_196,
    'cifar_aff_resnext38_32x4d': 7_770_148,
    'cifar_iaff_resnext38_32x4d': 9_192_100,
    'cifar_add_resnext47_32x4d': 7_828_388,
    'cifar_aff_resnext47_32x4d': 9_605_828,
    'cifar_iaff_resnext47_32x4d': 11_383_268,
}
# Of timm's and torchvision's networks; test_torch_weights.py compares the shapes themselves.
TIMM = {
    'add_resnet18': 11_708_744,
    'add_resnet34': 21_816_904,
    'resnet18': 11_689_512,
    'resnet34': 21_797_672,
    'resnet50': 25_557_032,
    'resnet101': 44_549_160,
    'resnext50_32x4d': 25_028_904,
    'resnext50d_32x4d': 25_048_136,
    'resnext101_32x4d': 44_177_704,
    'resnext101_32x8d': 88_791_336,
    'resnext101_64x4d': 83_455_272,
    'wide_resnet50_2': 68_883_240,
    'wide_resnet101_2': 126_886_696,
    'se_resnet18': 11_779_624,
    'se_resnet34': 21_960_416,
    'sk_resnet18': 11_958_056,
    'sk_resnet34': 22_282_376,
}


@pytest.mark.parametrize('name', list_models())
def test_card_says_what_the_network_is(name):
    card, net = model_info(name.upper()), get_model(name)
    assert card.name == name and card.family and card.source
    assert card.fusion in name.split('_') or card.fusion == 'add' and not set(FUSIONS) & set(name.split('_'))
    assert card.parameters == trainable(net) == {**PUBLISHED, **TIMM}.get(name, card.parameters)
    assert (card.parameters, card.multiply_adds) == complexity(net, (1, *card.spec.input_size))
    assert card.classes == net.classes == len(card.spec.class_names)
    assert card.spec.min_size == net.min_size and card.spec.dynamic == (not getattr(net, 'input_size', None))
    data = {'cifar': CIFAR100, 'fashion': FASHION_MNIST, 'fpn': STOP_SIGN, 'unet': STOP_SIGN}.get(
        name.split('_')[0], IMAGENET
    )
    assert card.spec.task == ('segmentation' if data is STOP_SIGN else 'classification')
    assert (card.dataset, card.spec.input_size, card.spec.mean, card.spec.std, card.spec.crop_ratio) == (
        data.name,
        data.input_size,
        data.mean,
        data.std,
        data.crop_ratio,
    )
    _, output, _ = net(mx.sym.var('data')).infer_shape(data=(1, *card.spec.input_size))
    assert output == [(1, card.classes, *(card.spec.input_size[1:] if data is STOP_SIGN else ()))]


@pytest.mark.parametrize('host', ['resnet50', 'resnext101_32x4d', 'cifar_resnet20', 'cifar_resnext38_32x4d'])
def test_each_round_of_attention_adds_the_same_parameters_and_multiply_adds(host):
    prefix, host = ('cifar_', host[len('cifar_') :]) if host.startswith('cifar_') else ('', host)
    add, aff, iaff = (model_info(f'{prefix}{fusion}_{host}') for fusion in FUSIONS)
    assert iaff.parameters - aff.parameters == aff.parameters - add.parameters > 0
    assert iaff.multiply_adds - aff.multiply_adds == aff.multiply_adds - add.multiply_adds > 0


def test_labels_are_the_classes_in_the_order_of_their_numbers():
    imagenet, cifar = model_info('aff_resnet50').spec.class_names, model_info(NAME).spec.class_names
    assert len(imagenet) == 1000 and imagenet[0] == 'tench' and imagenet[999] == 'toilet tissue'
    # The bird and the machine, the tights and the swimsuit: ImageNet has two classes of each word.
    assert {label for label in imagenet if imagenet.count(label) > 1} == {'crane', 'maillot'}
    assert len(set(cifar)) == 100 and list(cifar) == sorted(cifar)
    assert cifar[0] == 'apple' and cifar[99] == 'worm'


def test_normalisation_is_that_of_the_released_recipes():
    assert [round(255 * v, 3) for v in IMAGENET.mean] == [123.68, 116.779, 103.939]
    assert [round(255 * v, 3) for v in IMAGENET.std] == [58.393, 57.12, 57.375]
    assert CIFAR100.mean == (0.4914, 0.4822, 0.4465) and CIFAR100.std == (0.2023, 0.1994, 0.2010)


# Registering


def test_register_model_decorates_a_function(empty_registry):
    @register_model(family='CIFAR ResNet', dataset=CIFAR100, source='this test')
    def decorated_resnet11(classes=7, fusion='iaff', **options):
        return CifarResNet((1, 1, 2), classes=classes, fusion=fusion, **options)

    assert decorated_resnet11(classes=3).classes == 3, 'the function itself stays'
    net = get_model('Decorated_ResNet11', width=1, classes=9)
    assert net.classes == 9 and net.output.weight.shape == (9, 64)
    assert 'decorated_resnet11' in list_models('decorated*')
    assert model_info('decorated_resnet11').parameters == trainable(decorated_resnet11())


@pytest.mark.parametrize(
    'wrong, right',
    [
        ('fusoin', 'fusion'),
        ('widht', 'width'),
        ('reducton', 'reduction'),
        ('pretraind', 'pretrained'),
        ('final_dop', 'final_drop'),
    ],
)
def test_a_mistyped_option_is_suggested_whether_or_not_the_builder_hands_options_on(empty_registry, wrong, right):
    @register_model(family='CIFAR ResNet', dataset=CIFAR100, source='this test')
    def options_resnet11(classes=7, **options):
        return CifarResNet((1, 1, 2), classes=classes, **options)

    @register_model(family='CIFAR ResNet', dataset=CIFAR100, source='this test')
    def all_options_resnet11(**options):
        return options_resnet11(**options)

    for name in (NAME, 'options_resnet11', 'all_options_resnet11'):
        with refused(f"Unknown {name} option '{wrong}'; did you mean (.* or )?{right}[ ?]"):
            get_model(name, **{wrong: 'iaff'})
    assert model_info('all_options_resnet11').classes == 7


def test_an_error_of_the_builder_itself_stays(empty_registry):
    @register_model(family='CIFAR ResNet', dataset=CIFAR100, source='this test')
    def broken_resnet11(classes=7, **options):
        return CifarResNet((1, 1, 2), classes=classes, depth=3)

    with pytest.raises(TypeError, match='depth'):
        get_model('broken_resnet11', width=1)


def test_pretrained_base_loads_all_but_the_head(saved, caplog):
    net, path = saved
    assert get_model(NAME, pretrained_base=False).output.weight._data is None
    for options in ({}, {'classes': 7}):
        base = get_model(NAME, pretrained_base=path, **options)
        assert base.classes == options.get('classes', 100) and base.class_names is None
        assert error(base.features(tensor((2, 3, 32, 32))), net.features(tensor((2, 3, 32, 32)))) == 0
        assert f'head of {NAME} is fresh' in caplog.text
        if not options:
            assert error(base.output.weight.data(), net.output.weight.data()) > 0
    assert same(get_model(NAME, pretrained=path, pretrained_base='no/such/file.params'), net)
    with refused('no/such/file.params', FileNotFoundError):
        get_model(NAME, pretrained_base='no/such/file.params')


def test_register_model_takes_a_row_of_a_table(empty_registry):
    register_model('row_resnet38', family='CIFAR ResNet', dataset=CIFAR100, source='this test')(
        partial(CifarResNet, (6, 6, 6), fusion='aff')
    )
    assert trainable(get_model('row_resnet38')) == model_info('row_resnet38').parameters
    assert model_info('row_resnet38').fusion == 'aff'


def test_a_name_that_is_taken_or_has_other_characters_is_refused(empty_registry):
    before = dict(registry._registry)
    for name in ('aff_resnet50', 'AFF-resnet', 'aff resnet', 'aff_resnet50\n'):
        with refused('registered already' if name == 'aff_resnet50' else 'lower case letters'):
            register_model(name, family='ResNet', dataset=IMAGENET, source='this test')(CifarResNet)
    assert registry._registry == before


# Parameter files: where they are found


def test_a_path_is_loaded(saved):
    net, path = saved
    for pretrained in (path, Path(path)):
        assert same(get_model(NAME, pretrained=pretrained), net)


def test_a_file_name_without_a_suffix_is_a_path_if_there_is_such_a_file(saved, monkeypatch):
    net, path = saved
    monkeypatch.chdir(os.path.dirname(path))
    os.rename('saved.params', 'mine')
    assert same(get_model(NAME, pretrained='mine'), net)


def test_the_head_of_a_segmentation_network_has_the_files_classes_or_is_fresh(tmp_path, caplog):
    net, path, x = filled(get_model('fpn_add_resnet8', classes=3)), str(tmp_path / 'saved.params'), tensor((1, 3, 9, 9))
    net.save_parameters(path)
    loaded = get_model('fpn_add_resnet8', pretrained=path)
    assert loaded.classes == 3 and error(loaded(x), net(x)) == 0
    fresh = get_model('fpn_add_resnet8', pretrained=path, classes=7)
    assert fresh(x).shape == (1, 7, 9, 9) and 'head of fpn_add_resnet8 is fresh' in caplog.text


def test_a_file_that_does_not_exist_is_file_not_found(tmp_path):
    for pretrained, message in (
        ('missing.params', 'missing.params'),
        (str(tmp_path), str(tmp_path)),
        (str(tmp_path / 'a' / 'b'), 'b'),
    ):
        with refused(re.escape(message), FileNotFoundError):
            get_model(NAME, pretrained=pretrained, root=str(tmp_path))


def test_a_network_without_released_parameters_says_so(tmp_path):
    for pretrained in (True, '0a1b2c3d'):
        with refused(f'No parameters are released for {NAME}'):
            get_model(NAME, pretrained=pretrained, root=str(tmp_path))
    with refused(f'No parameters are released for {NAME}'):
        get_model_file(NAME, root=str(tmp_path))


# Parameter files: what is in them


def test_parameters_go_to_all_devices(saved):
    net, path = saved
    devices = [mx.cpu(0), mx.cpu(1)]
    loaded = get_model(NAME, pretrained=path, ctx=devices)
    assert all(p.list_ctx() == devices for p in parameters(loaded).values())
    assert same(loaded, net)


def test_the_types_of_the_network_stand_whatever_those_of_the_file_are(saved, tmp_path):
    net, path = saved
    half = get_model(NAME)
    half.cast('float16')
    load_parameters(half, path)
    assert {p.data().dtype for name, p in parameters(half).items() if name.endswith('weight')} == {np.float16}
    half.save_parameters(path)
    # Stored as the released ImageNet files are: convolutions and dense layers in float16, norms in float32.
    loaded = get_model(NAME, pretrained=path)
    assert {p.data().dtype for p in parameters(loaded).values()} == {np.float32}
    x = tensor((2, 3, 32, 32))
    assert error(loaded(x), net(x)) <= 1e-2


def test_files_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / 'file.params'
    for content in (b'', b'\n', b'this is no parameter file', b'\x89PNG\r\n\x1a\n' + bytes(100), bytes(64)):
        path.write_bytes(content)
        with refused('parameter file'):
            get_model(NAME, pretrained=str(path))
    for arrays in ([mx.nd.zeros(3)], {}):
        mx.nd.save(str(path), arrays)
        with refused('parameter file'):
            get_model(NAME, pretrained=str(path))


@pytest.mark.parametrize('part', [4, 8, 9, 16, 24, 28, 40, 60, 1000, 0.5, 0.99, -100, -1])
def test_a_file_that_was_cut_off_is_refused(saved, part):
    path = Path(saved[1])
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content)) if isinstance(part, float) else part])
    with refused('parameter file'):
        get_model(NAME, pretrained=str(path))


@pytest.mark.parametrize('position, byte', [(43, 64), (-3, 128)], ids=['shape', 'name'])
def test_a_damaged_file_is_refused(saved, position, byte):
    path = Path(saved[1])
    content = bytearray(path.read_bytes())
    content[position] = byte
    path.write_bytes(content)
    with refused('parameter file|another network'):
        get_model(NAME, pretrained=str(path))


def test_another_networks_file_is_refused_with_the_first_parameters_that_differ(saved):
    _, path = saved
    with refused(r'local_att2\.0\.weight is missing; .*local_att2\.0\.bias is missing; .* and \d+ more'):
        get_model('cifar_iaff_resnet8', pretrained=path)
    with refused(r'attention\.local_att\.0\.weight is unknown'):
        get_model('cifar_add_resnet8', pretrained=path)
    with refused(r'output\.weight has shape \(100, 256\), not \(10, 256\); output\.bias has shape'):
        load_parameters(get_model(NAME, classes=10), path)


def test_a_refused_file_leaves_the_network_as_it_was(saved, tmp_path):
    net, path = saved
    other = str(tmp_path / 'other.params')
    filled(get_model(NAME, classes=10)).save_parameters(other)
    changed = filled(get_model(NAME), gain=2)
    before = {name: p.data().copy() for name, p in parameters(changed).items()}
    with refused('another network'):
        load_parameters(changed, other)
    assert all(error(p.data(), before[name]) == 0 for name, p in parameters(changed).items())
    load_parameters(changed, path)
    assert same(changed, net)
