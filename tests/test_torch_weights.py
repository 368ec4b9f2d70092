"""Weights of timm, torchvision and the authors' PyTorch code in our networks, and ours in theirs."""

import json
import os
import pickle
import resource
import struct
import sys
import zipfile

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from PIL import Image
from reference import tiered
from torch_witness import timm, torch

import train_cifar
from gluon_aff._mxnet import structural_parameters
from gluon_aff.train.script import parse
from model_zoo import get_model, list_weights, load_parameters, save_parameters
from model_zoo.cli import main
from model_zoo.from_flags import start_network
from model_zoo.hosts.resnet import ResNet
from model_zoo.loading import load_model, open_predictor
from model_zoo.weights.parameters import read_for
from model_zoo.weights.torch_files import MAX_HEADER, read_state_dict
from model_zoo.weights.torch_names import rename_state_dict, torch_names

save_safetensors = pytest.importorskip('safetensors.numpy').save_file

PLAIN = {'deep_stem': False, 'avg_down': False}
# Our name and options, and timm's name.
PAIRS = {
    'resnet18d': ('add_resnet18', {}),
    'resnet34': ('resnet34', {}),
    'seresnet18': ('se_resnet18', {}),
    'skresnet18': ('sk_resnet18', {}),
    'resnet50d': ('add_resnet50', {}),
    'resnet50': ('resnet50', {}),
    'seresnet50': ('se_resnet50', {}),
    'resnext50d_32x4d': ('resnext50d_32x4d', {}),
    'resnext50_32x4d': ('resnext50_32x4d', {}),
    'skresnext50_32x4d': ('sk_resnet50', {}),
    'wide_resnet50_2': ('wide_resnet50_2', {}),
}
SLOW = {
    'resnet18': ('resnet18', {}),
    'resnet34d': ('add_resnet34', {}),
    'seresnet34': ('se_resnet34', {}),
    'skresnet34': ('sk_resnet34', {}),
    'resnet101': ('resnet101', {}),
    'seresnet101': ('se_resnet101', {}),
    'resnet101d': ('add_resnet101', {}),
    'resnet152d': ('add_resnet152', {}),
    'wide_resnet101_2': ('wide_resnet101_2', {}),
    'resnext101_32x4d': ('resnext101_32x4d', {}),
    'resnext101_32x8d': ('resnext101_32x8d', {}),
    'resnext101_64x4d': ('resnext101_64x4d', {}),
}
IMAGES = np.random.RandomState(1).randn(2, 3, 64, 64).astype('float32')


def error(actual, expected):
    actual, expected = (np.asarray(array, 'float64') for array in (actual, expected))
    return np.abs(actual - expected).max() / np.abs(expected).max()


def randomise(module, seed=0):
    """Give the normalisations and biases of a PyTorch module any values."""
    generator = torch().Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.ndim == 1:  # timm has drawn the weights
            low = 0.5 if name.endswith(('running_var', 'weight')) else -0.2
            tensor.uniform_(low, low + 0.5, generator=generator)
    return module.eval()


def small(**options):
    """A network with timm's names, of four blocks, initialised."""
    net = ResNet([1, 1, 1, 1], classes=5, fusion='add', **PLAIN, **options)
    net.initialize(mx.init.Xavier())
    return net


def values(net):
    return {name: parameter.data().asnumpy() for name, parameter in structural_parameters(net).items()}


def same(actual, expected):
    assert actual.keys() == expected.keys()
    assert all(np.array_equal(actual[name], expected[name]) for name in expected)


def logits_of(module, images=IMAGES):
    with torch().no_grad():
        return module(torch().tensor(images)).numpy()


def gradients(net):
    net.cast('float64')
    with autograd.record():
        logits = net(mx.nd.array(IMAGES, dtype='float64'))
        loss = (logits * mx.nd.cos(logits.detach())).sum()
    loss.backward()
    return logits.asnumpy(), {
        name: parameter.grad().asnumpy()
        for name, parameter in structural_parameters(net).items()
        if parameter.grad_req != 'null'
    }


def gradients_in_torch(module):
    module.double().train()
    logits = module(torch().tensor(IMAGES).double())
    (logits * torch().cos(logits.detach())).sum().backward()
    return logits.detach().numpy(), {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}


def saved(module, folder, net):
    """A file of a PyTorch module's state dict, once those in the other formats have been read as the same."""
    from safetensors.torch import save_file

    state, paths = module.state_dict(), [str(folder / name) for name in ('zip.pth', 'legacy.pth', 'a.safetensors')]
    torch().save(state, paths[0])
    torch().save(state, paths[1], _use_new_zipfile_serialization=False)
    save_file(state, paths[2])
    first = read_for(net, paths[0])
    for path in paths[1:]:
        same(read_for(net, path), first)
        os.remove(path)
    return paths[0]


@pytest.mark.parametrize('theirs', [*PAIRS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_timm_network_gives_the_same_logits_and_gradients_here_and_ours_in_timm(tmp_path, theirs):
    module = randomise(timm().create_model(theirs, num_classes=10))
    expected = logits_of(module)
    name, options = {**PAIRS, **SLOW}[theirs]
    path = saved(module, tmp_path, get_model(name, **options))
    net = get_model(name, pretrained=path, **options)
    assert error(net(mx.nd.array(IMAGES)).asnumpy(), expected) <= 1e-5

    save_parameters(net, str(tmp_path / 'ours.safetensors'))
    from safetensors.torch import load_file

    again = timm().create_model(theirs, num_classes=10)
    again.load_state_dict(load_file(str(tmp_path / 'ours.safetensors')))
    assert error(logits_of(again.eval()), expected) == 0

    logits, ours = gradients(net)
    expected, grads = gradients_in_torch(module)
    names = torch_names(structural_parameters(net))
    assert error(logits, expected) <= 1e-5
    assert {names[name] for name in ours} == grads.keys()
    assert max(error(grad, grads[names[name]]) for name, grad in ours.items()) <= 1e-4


TORCHVISION = [
    'resnet18',
    'resnet34',
    'resnet50',
    'resnet101',
    'wide_resnet50_2',
    'wide_resnet101_2',
    'resnext50_32x4d',
    'resnext101_32x8d',
    'resnext101_64x4d',
]


def library(name):
    """timm's create_model or torchvision's get_model."""
    models = timm()
    if name == 'timm':
        return models.create_model
    import torchvision

    return torchvision.models.get_model


@pytest.mark.parametrize(
    'source, theirs', [*(('timm', name) for name in (*PAIRS, *SLOW)), *(('torchvision', name) for name in TORCHVISION)]
)
def test_names_and_shapes_are_timms_and_torchvisions(source, theirs):
    name, options = {**PAIRS, **SLOW}[theirs]
    make = library(source)
    with torch().device('meta'):
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in make(theirs).state_dict().items()
            if not name.endswith('num_batches_tracked')
        }
    parameters = structural_parameters(get_model(name, **options))
    names = torch_names(parameters)
    assert {names[name]: parameter.shape for name, parameter in parameters.items()} == shapes


@pytest.mark.parametrize('theirs', tiered(TORCHVISION, quick=['resnet18', 'resnet50', 'resnext50_32x4d']))
def test_a_torchvision_network_gives_the_same_logits_here_and_ours_in_torchvision(tmp_path, theirs):
    module = randomise(library('torchvision')(theirs, num_classes=10))
    net = get_model(theirs, pretrained=saved(module, tmp_path, get_model(theirs)))
    assert error(net(mx.nd.array(IMAGES)).asnumpy(), logits_of(module)) <= 1e-5
    save_parameters(net, str(tmp_path / 'ours.pth'))
    again = library('torchvision')(theirs, num_classes=10)
    again.load_state_dict(torch().load(str(tmp_path / 'ours.pth'), weights_only=True))
    assert error(logits_of(again.eval()), logits_of(module)) == 0


def test_every_record_has_a_network_that_is_compared_with_theirs():
    compared = {name: theirs for theirs, (name, options) in {**PAIRS, **SLOW}.items() if not options}
    for record in list_weights():
        if record.preprocessing:
            assert compared[record.model] == record.aliases[0].split('.')[0]


def test_the_catalogue_is_that_of_the_installed_timm_and_torchvision():
    timm()
    from timm.models import get_pretrained_cfg
    from torchvision.models import get_model_weights

    licences = {'Apache-2.0': 'apache-2.0', 'BSD-3-Clause': 'bsd-3-clause', 'CC-BY-NC-4.0': 'cc-by-nc-4.0'}
    for record in (record for record in list_weights() if record.preprocessing):
        name, values = record.aliases[0], record.preprocessing
        theirs = get_pretrained_cfg(name)
        assert (list(theirs.mean), list(theirs.std)) == (values['mean'], values['std'])
        assert theirs.license == licences[record.license]
        hub = f'https://huggingface.co/{theirs.hf_hub_id}/resolve/main/model.safetensors'
        assert (record.url, record.mirror) == ((theirs.url, hub) if theirs.url else (hub, None))
        if len(record.aliases) > 1:
            weights = get_model_weights(name.split('.')[0])[record.aliases[1]]
            accuracy, sizes = weights.meta['_metrics']['ImageNet-1K'], weights.transforms.keywords
            assert record.url == weights.url and record.mebibytes == weights.meta['_file_size']
            assert list(record.metrics.values()) == [round(1 - accuracy[f'acc@{k}'] / 100, 5) for k in (1, 5)]
            resize = sizes.get('resize_size', 256)
            assert (values['size'], values['crop']) == (sizes['crop_size'], round(sizes['crop_size'] / resize, 4))


def test_a_timm_checkpoint_fine_tuned_here_on_a_folder_and_converted_predicts_the_same_in_timm(tmp_path):
    random, folder = np.random.RandomState(0), tmp_path / 'images'
    for number, colour in enumerate(('blue', 'green', 'red')):
        for image in range(8):
            pixels = random.randint(0, 128, (40, 48, 3), np.uint8)
            pixels[..., number] += 100
            (folder / colour).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / colour / f'{image}.png')
    checkpoint, run, path = (str(tmp_path / name) for name in ('theirs.pth', 'run', 'back.safetensors'))
    torch().save(randomise(timm().create_model('resnet18d', num_classes=1000)).state_dict(), checkpoint)
    options = ['--pretrained', checkpoint, '--input-size', '32', '--num-epochs', '2', '--batch-size', '4']
    flags = [*options, '--lr', '0.01', '--backbone-lr', '1']
    with pytest.raises(SystemExit, match='0'):
        main(['finetune', str(folder), '--model', 'add_resnet18', *flags, '--save-dir', run])
    assert main(['convert', run, '-o', path]) == 0

    from safetensors.torch import load_file

    module = timm().create_model('resnet18d', num_classes=3)
    module.load_state_dict(load_file(path))
    model = load_model(run)
    images = [str(file) for file in sorted(folder.glob('*/*.png'))[::5]]
    inputs = np.stack([model.spec.transform()(image) for image in images])
    expected = logits_of(module.eval(), inputs)
    assert error(model.net(mx.nd.array(inputs)).asnumpy(), expected) <= 1e-5
    names = [predictions[0][0] for predictions in open_predictor(run).predict(images, 1)]
    assert names == [model.spec.class_names[index] for index in expected.argmax(1)]


# Files


@pytest.fixture
def files(tmp_path):
    """A folder of one network's state dict in three .safetensors files, the network, and the state dict."""
    net = small()
    names = torch_names(structural_parameters(net))
    state = {names[name]: value for name, value in values(net).items()}
    save_safetensors(state, str(tmp_path / 'plain.safetensors'))
    save_safetensors({f'module.{name}': value for name, value in state.items()}, str(tmp_path / 'module.safetensors'))
    save_safetensors(values(net), str(tmp_path / 'gluon.safetensors'))
    return tmp_path, net, state


def test_safetensors_load_by_their_names_or_ours(files):
    folder, net, _ = files
    for path in folder.iterdir():
        again = small()
        load_parameters(again, path)
        same(values(again), values(net))


def test_pytorchs_files_load_in_all_formats_and_wrappers(files):
    folder, net, state = files
    tensors = {name: torch().tensor(value) for name, value in state.items()}
    for number in (1, 7):
        tensors[f'bn{number}.num_batches_tracked'] = torch().tensor(5)
    module = {f'module._orig_mod.{name}': tensor for name, tensor in tensors.items()}
    old = {name: tensor + 1 for name, tensor in tensors.items()}
    for number, (content, suffix, zipped) in enumerate(
        [
            (tensors, '.pth', True),
            (tensors, '.pt', False),
            (module, '.bin', True),
            ({'epoch': 3, 'optimizer': {'state': {}}, 'state_dict': module}, '.pth.tar', True),
            ({'model': old, 'model_ema': tensors, 'arch': 'resnet'}, '.pth', False),
            ({'model_state_dict': {f'model.{name}': tensor for name, tensor in tensors.items()}}, '.pth', True),
            ({name: torch().nn.Parameter(t, requires_grad=False) for name, t in tensors.items()}, '.pth', True),
        ]
    ):
        path = str(folder / f'{number}{suffix}')
        torch().save(content, path, _use_new_zipfile_serialization=zipped)
        again = small()
        again.load_parameters(path)
        same(values(again), values(net))
    path = str(folder / 'ours.pth')
    save_parameters(net, path)
    same({name: tensor.numpy() for name, tensor in torch().load(path).items()}, state)
    assert main(['verify', path]) == 0


def test_the_first_differences_are_named_as_for_params(files):
    folder, _, state = files
    changed = {
        **state,
        'fc.weight': np.ones((5, 3), 'float32'),
        'bn1.weight': np.ones(64, 'int32'),
        'head': state['fc.bias'],
    }
    del changed['layer1.0.conv1.weight']
    save_safetensors(changed, str(folder / 'changed.safetensors'))
    with pytest.raises(ValueError) as caught:
        load_parameters(small(), str(folder / 'changed.safetensors'))
    message = str(caught.value)
    assert 'holds the parameters of another network: layer1.0.conv1.weight is missing; head is unknown; ' in message
    assert 'and 1 more' in message and '\n' not in message


def test_an_aff_network_starts_from_a_plain_backbone(files, caplog):
    folder, _, state = files
    net = ResNet([1, 1, 1, 1], classes=5, fusion='iaff', **PLAIN)
    with pytest.raises(ValueError, match='attention.* is missing'):
        load_parameters(net, folder / 'plain.safetensors')
    load_parameters(net, folder / 'plain.safetensors', allow_missing=True)
    assert 'layer3.0.attention' in caplog.text and 'are initialised or stay as they were' in caplog.text
    assert np.array_equal(net.layer4[0].conv3.weight.data().asnumpy(), state['layer4.0.conv3.weight'])


@pytest.mark.parametrize('used', [False, True])
def test_the_authors_pytorch_names_load_and_an_unused_context_is_the_first(used):
    net = ResNet([1, 1, 1, 1], classes=5, fusion='iaff', start_stage=1, reduction=4, **PLAIN)
    net.initialize(mx.init.Xavier())
    names = torch_names(structural_parameters(net))
    state = {names[name].replace('attention', 'fuse_mode'): value + 1 for name, value in values(net).items()}
    if not used:
        state.update({n: 0 * v for n, v in state.items() if 'global_att2' in n and n.endswith('running_mean')})
    renamed = rename_state_dict(state, names)
    assert renamed.keys() == names.keys()
    for name, value in renamed.items():
        source = name if used else name.replace('global_att2', 'global_att')
        assert np.array_equal(value, state[names[source].replace('attention', 'fuse_mode')])


def test_names_of_other_networks_are_ours():
    for name in ('cifar_aff_resnext38_32x4d', 'fpn_aff_resnet8', 'ge_theta_plus_resnet101'):
        names = list(structural_parameters(get_model(name)))
        expected = [name.replace('.gamma', '.weight').replace('.beta', '.bias') for name in names]
        assert list(torch_names(names).values()) == expected


@pytest.mark.parametrize('options', [{}, PLAIN])
def test_stages_of_a_resnext_alone_have_the_names_that_they_have_in_it(options):
    names = torch_names(structural_parameters(get_model('add_resnext50_32x4d', **options)))
    first = 4 if options else 10
    for count in (1, 2, 3):
        some = [name for name in names if name.split('.')[1] in {str(first + stage) for stage in range(count)}]
        assert torch_names(some) == {name: names[name] for name in some}


# Hostile files


def write_header(path, header, data=b'', size=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', len(header) if size is None else size) + header + data)
    return path


def tensor(start, end, dtype='F32', shape=(2,)):
    return {'dtype': dtype, 'shape': list(shape), 'data_offsets': [start, end]}


HEADERS = {
    'huge header': ({}, b'', 1 << 63),
    'long header': (b' ' * (MAX_HEADER + 1), b''),
    'header past the end': ({}, b'', 1000),
    'overlap': ({'a': tensor(0, 8), 'b': tensor(4, 12)}, bytes(12)),
    'out of the file': ({'a': tensor(0, 80, shape=(20,))}, bytes(8)),
    'negative': ({'a': tensor(-8, 0)}, bytes(8)),
    'overflow': ({'a': tensor(0, 0, shape=(1 << 62, 4))}, b''),
    'nested': (b'[' * 100_000, b''),
    'not text': (b'\xff\xfe', b''),
    'float8': ({'a': tensor(0, 2, 'F8_E4M3')}, bytes(2)),
    'empty': ({}, b''),
}


def refused(path):
    """The message of a refusal, which takes little memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError) as caught:
        read_state_dict(str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10  # KiB
    message = str(caught.value)
    assert str(path) in message and '\n' not in message and message.count('. ') <= 1 and message.endswith('.')
    return message


@pytest.mark.parametrize('kind', HEADERS)
def test_a_hostile_safetensors_file_is_refused_in_one_sentence(tmp_path, kind):
    refused(write_header(tmp_path / 'x.safetensors', *HEADERS[kind]))


def test_bfloat16_is_read_as_float32(tmp_path):
    path = write_header(tmp_path / 'x.safetensors', {'a': tensor(0, 4, 'BF16')}, b'\x80\x3f\x20\xc0')
    (value,) = read_state_dict(str(path)).values()
    assert value.dtype == np.float32 and value.tolist() == [1, -2.5]


def test_bfloat16_of_pytorch_is_read_as_float32(tmp_path):
    values = torch().tensor([1, -2.5], dtype=torch().bfloat16)
    torch().save({'a': values}, tmp_path / 'x.pth')
    (value,) = read_state_dict(str(tmp_path / 'x.pth')).values()
    assert value.dtype == np.float32 and value.tolist() == [1, -2.5]


def test_a_million_tensors_are_refused(tmp_path):
    entry = '"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    header = '{' + ','.join(entry % number for number in range(1_000_000)) + '}'
    assert 'its header has more than 4 MiB' in refused(write_header(tmp_path / 'x.safetensors', header.encode()))


class Command:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


@pytest.mark.parametrize('zipped', [False, True])
def test_a_hostile_file_of_pytorchs_is_refused_and_nothing_is_executed(tmp_path, zipped):
    path, trace = tmp_path / 'x.pth', tmp_path / 'trace'
    torch().save({'a': torch().ones(2), 'b': Command(trace)}, str(path), _use_new_zipfile_serialization=zipped)
    assert 'more than tensors and plain values (posix.system)' in refused(path)
    path.write_bytes(pickle.dumps(Command(trace)))
    refused(path)
    assert not trace.exists()
    one, many = torch().ones(1), 400_000
    torch().save([one[:] for _ in range(10)], str(path), _use_new_zipfile_serialization=zipped)
    assert 'no state dict' in refused(path)
    # An object made again and again of one set of arguments, in five bytes each; and one of 2 GiB.
    for body, says in (
        (b'c__builtin__\ncomplex\nq\x01)q\x02' + many * b'h\x01h\x02R' + b'.', 'more than 100,000 tensors'),
        (b'c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.', 'bytearray'),
    ):
        if zipped:
            with zipfile.ZipFile(path, 'w') as archive:
                archive.writestr('x/data.pkl', b'\x80\x02' + body)
        else:
            path.write_bytes(b'\x80\x02' + body)
        assert says in refused(path)


@pytest.mark.parametrize('suffix', ['safetensors', 'pth'])
def test_a_file_larger_than_any_network_is_not_opened(tmp_path, suffix):
    path = tmp_path / f'x.{suffix}'
    with path.open('wb') as file:
        file.truncate(5 << 30)  # of holes
    assert 'more than 4 GiB' in refused(path)


def test_a_compressed_or_cut_file_of_pytorchs_is_refused(tmp_path):
    path = tmp_path / 'x.pth'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('x/data.pkl', pickle.dumps({}, protocol=2))
        archive.writestr('x/data/0', bytes(1 << 20))
    torch()
    assert 'compressed' in refused(path)
    for zipped in (False, True):
        torch().save({'a': torch().ones(1000)}, str(path), _use_new_zipfile_serialization=zipped)
        path.write_bytes(path.read_bytes()[:-2000])
        assert 'damaged' in refused(path)


def test_without_pytorch_one_sentence_names_the_way(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch', None)
    path = tmp_path / 'x.pth'
    path.write_bytes(b'PK')
    with pytest.raises(ImportError, match=r'x\.pth needs PyTorch 2\.6 .* not installed; install torch, or use a .saf'):
        get_model('resnet50', pretrained=str(path))


# The command line


def test_convert_goes_to_pytorch_and_back(tmp_path, capsys):
    name = 'fashion_mnist_aff_resnet8'
    net = get_model(name, pretrained=True)
    out, back = str(tmp_path / 'x.safetensors'), str(tmp_path / 'x.params')
    assert main(['convert', name, '-o', out]) == 0
    assert main(['convert', out, '--model', name, '-o', back]) == 0
    same(values(get_model(name, pretrained=back)), values(net))
    assert main(['verify', out, '--model', name]) == 0
    assert f'it fits {name}' in capsys.readouterr().out
    config = parse(train_cifar.Config, ['--model', name, '--dataset', 'fashion_mnist', '--pretrained', out])
    started, _ = start_network(config, net.class_names, ctx=[mx.cpu()])
    same(values(started), values(net))
    for arguments, says in (
        ([out, '-o', back], '--model'),
        ([name, '-o', 'x.onnx'], '.safetensors'),
        ([name, '--model', name, '-o', out], '--model'),
    ):
        assert main(['convert', *arguments]) == 2
        message = capsys.readouterr().err
        assert says in message and message.count('\n') == 1


def test_convert_takes_a_run(tmp_path):
    net = get_model('cifar_add_resnet8', classes=3, width=1)
    net.initialize(mx.init.Xavier())
    net.save_parameters(str(tmp_path / 'best.params'))
    description = {
        'model': 'cifar_add_resnet8',
        'options': {'classes': 3, 'width': 1},
        'class_names': ['a', 'b', 'c'],
        'input_size': [3, 32, 32],
        'mean': [0.5, 0.5, 0.5],
        'std': [0.2, 0.2, 0.2],
        'crop_ratio': 1.0,
        'parameters': 'best.params',
    }
    (tmp_path / 'model.json').write_text(json.dumps(description))
    for number, source in enumerate((tmp_path, tmp_path / 'best.params')):
        path = tmp_path / 'out' / f'{number}.safetensors'
        assert main(['convert', str(source), '-o', str(path)]) == 0
        again = get_model('cifar_add_resnet8', pretrained=str(path), width=1)
        same(values(again), values(net))
