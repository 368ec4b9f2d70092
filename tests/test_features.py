"""Networks without their head, timm's keywords, other numbers of channels, and gluon-aff embed."""

from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from reference import error, filled, in_every_form, parameters, refused, tensor, tiered
from test_networks import ONE_SIZE, SMALL, STAGES, every_host
from torch_witness import timm, torch

from gluon_aff.deploy import export_onnx, fold_batchnorm
from model_zoo import Embedder, FeatureMaps, get_model, list_models, model_info
from model_zoo.cli import main

SHIPPED = 'fashion_mnist_aff_resnet8'
SEGMENTERS = ('FPN', 'U-Net')


def small(host, **options):
    return filled(SMALL[host](**options, **({'input_size': (64, 48)} if host in ONE_SIZE else {})))


def check_info(net, maps, x):
    """What a FeatureMaps states is what comes out."""
    info = net.feature_info
    assert len(info) == len(maps) == len(info.channels()) == len(info.reduction()) == len(info.module_name())
    for row, features in zip(info, maps):
        sides = [-(-side // row['reduction']) for side in x.shape[2:]]
        assert features.shape == (len(x), row['num_chs'], *sides), row


@every_host
def test_the_maps_are_those_of_the_stages_and_as_stated(host, tmp_path):
    net, x = small(host), tensor((2, 3, 64, 48))
    maps = FeatureMaps(net)
    expected, (channels, _) = net.stage_outputs(x), STAGES[host]
    outputs = in_every_form(maps, tmp_path, (x,))
    check_info(maps, outputs['eager'][0], x)
    assert maps.feature_info.channels() == list(channels)
    for number, module in enumerate(maps.feature_info.module_name()):
        assert module.split('.')[0] in ('features', 'relu', f'layer{number}')
    for form, (computed,) in outputs.items():
        for number in range(1, len(channels)):
            assert error(computed[number], expected[number]) <= 1e-5, form
        assert error(computed[0], outputs['eager'][0][0]) <= 1e-5, form
    # The head and a decoder are not among the parameters; the others have their names.
    own, all_of_them = parameters(maps), parameters(net)
    assert own.items() <= all_of_them.items()
    assert not any(key.startswith((net.head_name, 'taps', 'merges', 'tail')) for key in own)


def test_map_0_is_before_the_pool_that_ends_the_stem_as_in_timm():
    net, x = small('ResNet'), tensor((1, 3, 64, 64))
    (stem,) = FeatureMaps(net, [0])(x)
    assert stem.shape == (1, 64, 32, 32) and error(net.maxpool(stem), net.stage_outputs(x, [0])[0]) == 0
    theirs = timm().create_model('resnet26', features_only=True)
    ours = FeatureMaps(net).feature_info
    assert ours.channels() == theirs.feature_info.channels() and ours.reduction() == theirs.feature_info.reduction()


def test_maps_are_chosen_by_number_and_in_that_order():
    net, x = small('CIFAR ResNet'), tensor((1, 3, 33, 47))
    everything = FeatureMaps(net)(x)
    for numbers in ((1, 2), (2, 0), [-1], (3, -3)):
        maps = FeatureMaps(net, numbers)
        chosen = maps(x)
        check_info(maps, chosen, x)
        assert [error(f, everything[number]) for f, number in zip(chosen, numbers)] == [0] * len(numbers)
    assert 'features.4' not in repr(FeatureMaps(net, (0, 1))) and len(FeatureMaps(net, (0, 1)).features) == 3
    for numbers in (4, (4,), (-5,), (), 'abc', (1.0,), (True,)):
        with refused('out_indices must be numbers of the maps of CifarResNet'):
            FeatureMaps(net, numbers)


def test_dilated_features_keep_their_stated_stride():
    net = FeatureMaps(small('ResNet', dilated=True, input_size=(65, 33)), (3, 4))
    x = tensor((1, 3, 65, 33))
    assert net.feature_info.reduction() == [8, 8]
    check_info(net, net(x), x)


@pytest.mark.parametrize('name', tiered(list_models(), quick=['cifar_add_resnet8', 'unet_add_resnet8']))
def test_every_network_states_its_maps(name):
    side = model_info(name).spec.input_size[1]
    options = {'input_size': side} if name.startswith(('aa_', 'ge_')) else {}
    net, x = (
        filled(get_model(name, features_only=True, **options), 0.25, np.random.default_rng),
        tensor((1, 3, side, side)),
    )
    eager = net(x)
    check_info(net, eager, x)
    net.hybridize()
    with_symbol = fold_batchnorm(net)
    for outputs in (net(x), with_symbol(x)):
        assert [error(f, e) <= 1e-4 for f, e in zip(outputs, eager)] == [True] * len(eager)


def test_features_load_what_the_network_and_they_themselves_save(tmp_path):
    net, x = get_model(SHIPPED, pretrained=True), tensor((2, 3, 32, 32))
    expected = net.stage_outputs(x, [1, 3])
    features = get_model(SHIPPED, pretrained=True, features_only=True, out_indices=(1, 3))
    features.save_parameters(str(tmp_path / 'own.params'))
    features.hybridize()
    features(x)
    features.export(str(tmp_path / 'exported'))
    net.save_parameters(str(tmp_path / 'net.params'))
    for file in ('own.params', 'exported-0000.params', 'net.params'):
        options = {'features_only': True, 'out_indices': (1, 3), 'classes': 7}
        loaded = get_model(SHIPPED, pretrained=str(tmp_path / file), **options)(x)
        assert [error(f, e) for f, e in zip(loaded, expected)] == [0, 0], file
    other = get_model('cifar_aff_resnet8')
    other.initialize()
    other.save_parameters(str(tmp_path / 'other.params'))
    with refused('parameters of another network'):
        get_model(SHIPPED, pretrained=str(tmp_path / 'other.params'), features_only=True)


def test_maps_are_written_as_onnx_with_an_output_for_each(tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    net, x = get_model(SHIPPED, pretrained=True, features_only=True), tensor((2, 3, 40, 32))
    export_onnx(net, str(tmp_path / 'net.onnx'), (3, 32, 32))
    session = onnxruntime.InferenceSession(str(tmp_path / 'net.onnx'), providers=['CPUExecutionProvider'])
    outputs = session.run(None, {'data': x.asnumpy()})
    assert len(outputs) == 4 and max(error(y, e) for y, e in zip(outputs, net(x))) <= 1e-5


@pytest.mark.parametrize('image', [(1, 3, 2, 2), (1, 4, 32, 32), (3, 32, 32)])
def test_features_refuse_what_the_network_refuses(image):
    for build in (FeatureMaps, Embedder):
        net = build(small('CIFAR ResNet'))
        with refused(f'{build.__name__} takes images .N, 3, H, W. of float32'):
            net(tensor(image))
        with refused('of float32'):
            net(tensor((1, 3, 32, 32)).astype('uint8'))


@every_host
def test_forward_is_forward_head_of_forward_features(host, tmp_path):
    net, x = small(host, final_drop=0.3), tensor((2, 3, 64, 48))
    features = net.forward_features(x)
    pooled, logits = net.forward_head(features, pre_logits=True), net.forward_head(features)
    assert error(logits, net(x)) == 0
    if host in SEGMENTERS:
        assert pooled is features and features.shape[2:] == (64, 48)
        with refused('has no embedding of a whole one'):
            Embedder(net)
        return
    assert error(pooled, features.mean((2, 3))) <= 1e-5
    for form, (output,) in in_every_form(Embedder(net), tmp_path, (x,)).items():
        assert error(output, pooled) <= 1e-5, form
    assert error(Embedder(net, pool=False)(x), features) <= 1e-6


# timm's keywords


def test_timms_keywords_are_ours():
    net = get_model('cifar_aff_resnet8', num_classes=7, in_chans=1, drop_rate=0.5, global_pool='avg')
    assert net.classes == 7 and net.in_channels == 1 and 'p = 0.5' in repr(net)
    x = tensor((2, 3, 32, 32))
    assert get_model(SHIPPED, True, num_classes=0)(x).shape == (2, 64)
    assert get_model(SHIPPED, True, num_classes=0, global_pool='')(x).shape == (2, 64, 8, 8)


@pytest.mark.parametrize(
    'options, says',
    [
        ({'num_classes': 3, 'classes': 3}, 'num_classes is another name of classes; give one of them'),
        ({'num_classes': 0, 'classes': 3}, 'num_classes is another name of classes'),
        ({'in_chans': 1, 'in_channels': 1}, 'in_chans is another name of in_channels'),
        ({'drop_rate': 0.1, 'final_drop': 0.1}, 'drop_rate is another name of final_drop'),
        ({'global_pool': 'max'}, "global_pool must be 'avg', or '' for none, got 'max'"),
        ({'global_pool': None}, 'global_pool must be'),
        ({'global_pool': ''}, 'leaves a map, which the head does not take; give num_classes=0'),
        ({'num_classes': -1}, 'classes must be a positive whole number'),
        ({'classes': 0}, 'classes must be a positive whole number'),
        ({'drop_rate': 2}, 'final_drop must be a ratio'),
        ({'out_indices': (1, 2)}, 'out_indices chooses among the maps of features_only=True'),
        ({'features_only': 'yes'}, 'features_only must be True or False'),
        ({'num_clases': 3}, 'Unknown cifar_aff_resnet8 option .num_clases'),
    ],
)
def test_a_mistaken_keyword_is_one_sentence(options, says):
    with refused(says):
        get_model('cifar_aff_resnet8', **options)


def test_a_segmentation_network_without_a_head_is_refused():
    with refused('has no embedding of a whole one; features_only=True gives its feature maps'):
        get_model('unet_aff_resnet8', num_classes=0)


# Other numbers of channels


def test_grey_gives_what_grey_in_three_channels_gives(caplog):
    net, x = get_model(SHIPPED, pretrained=True), tensor((2, 1, 32, 32))
    one = get_model(SHIPPED, pretrained=True, in_channels=1)
    assert 'takes 3 channels; its first convolution is adapted to 1' in caplog.text
    assert error(one(x), net(mx.nd.repeat(x, 3, axis=1))) <= 1e-5
    features = get_model(SHIPPED, pretrained=True, in_chans=1, features_only=True)(x)
    assert error(features[-1], net.stage_outputs(mx.nd.repeat(x, 3, axis=1))[-1]) <= 1e-5


@pytest.mark.parametrize('host', ['ResNet', 'ResNeXt', 'CIFAR ResNet'])
def test_the_stem_is_adapted_as_by_timm(host, tmp_path):
    from model_zoo.weights import load_parameters

    net, path = small(host), str(tmp_path / 'net.params')
    net.save_parameters(path)
    key = next(key for key, parameter in parameters(net).items() if len(parameter.shape) == 4)
    timm()
    from timm.models._manipulate import adapt_input_conv

    for channels in (1, 2, 4, 7):
        other = SMALL[host](in_channels=channels)
        load_parameters(other, path, adapt_input=True)
        theirs = adapt_input_conv(channels, torch().tensor(parameters(net)[key].data().asnumpy())).numpy()
        assert error(parameters(other)[key].data(), theirs) <= 1e-6, channels
        x = tensor((2, channels, 32, 32))
        assert np.isfinite(other(x).asnumpy()).all()


def test_only_a_stem_of_three_channels_is_adapted(tmp_path):
    net = get_model('cifar_add_resnet8', width=1, in_channels=4)
    filled(net).save_parameters(str(tmp_path / 'four.params'))
    with refused('parameters of another network'):
        get_model('cifar_add_resnet8', str(tmp_path / 'four.params'), width=1, in_channels=2)


# gluon-aff embed


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    random = np.random.RandomState(0)
    for name in ('a.png', 'b.png', 'c.png'):
        Image.fromarray(random.randint(0, 256, (40, 36, 3)).astype(np.uint8)).save(folder / name)
    return folder


def test_embed_writes_names_and_embeddings(pictures, tmp_path, capsys):
    (pictures / 'bad.png').write_bytes(b'not a picture')
    (pictures / 'notes.txt').write_text('nor this')
    output = tmp_path / 'new' / 'e.npz'
    status = main(['embed', SHIPPED, str(pictures), '-o', str(output), '--batch-size', '2'])
    out, err = capsys.readouterr()
    assert status == 1 and '3 embeddings of 64 numbers' in out
    lines = err.splitlines()
    assert all(line.startswith('gluon-aff: ') for line in lines) and 'bad.png is not an image' in err
    assert '1 of 4 images could not be read' in err and 'notes.txt' in err and 'Traceback' not in err
    with np.load(output) as held:  # without pickle
        names, embeddings = held['names'], held['embeddings']
    assert names.tolist() == [str(pictures / name) for name in ('a.png', 'b.png', 'c.png')]
    assert embeddings.dtype == np.float32 and embeddings.shape == (3, 64)
    net, transform = get_model(SHIPPED, pretrained=True), model_info(SHIPPED).spec.transform()
    x = mx.nd.array(np.stack([transform(str(path)) for path in names]))
    assert error(embeddings, net.forward_head(net.forward_features(x), pre_logits=True)) <= 1e-5
    assert [path.name for path in output.parent.iterdir()] == ['e.npz']


@pytest.mark.parametrize(
    'args, says',
    [
        ([SHIPPED, 'none.png', '-o', 'e.npz'], 'There is no file none.png.'),
        (['nothing', 'a.png', '-o', 'e.npz'], 'Unknown model'),
        (['unet_aff_resnet8', 'a.png', '-o', 'e.npz'], 'No parameters are released'),
        ([SHIPPED, 'a.png'], '-o/--output'),
        ([SHIPPED, 'a.png', '-o', 'e.npz', '--batch-size', '0'], '--batch-size must be a whole number'),
        ([SHIPPED, 'pictures/a.png', '-o', 'pictures'], 'pictures'),
    ],
)
def test_mistakes_of_embed_are_one_sentence(args, says, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(['embed', *args]) == 2
    out, err = capsys.readouterr()
    assert out == '' and says in err and 'Traceback' not in err and err.splitlines()[-1].startswith('gluon-aff: ')
    assert not Path('e.npz').exists()
