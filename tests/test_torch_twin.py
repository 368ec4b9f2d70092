"""Our networks and fusion blocks in PyTorch: against Gluon's, in timm, and with state dicts of others' blocks."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from loopback import Server, content
from mxnet import autograd
from reference import error, filled, layouts, model_name, parameters, tensor, trainable
from torch_witness import timm, torch

import gluon_aff
from gluon_aff.verified_download import digest
from model_zoo import get_model, save_parameters
from model_zoo.cli import main
from model_zoo.weights import catalog
from model_zoo.weights.torch_names import torch_names

torch = torch()
timm = timm()
safetensors = pytest.importorskip('safetensors.torch')

from model_zoo.plugins import pytorch  # noqa: E402  (it needs them)
from model_zoo.plugins.pytorch.torch_models import ROWS  # noqa: E402

TOP = Path(__file__).parents[1]
LAYOUTS = layouts()
REGISTERED = pytorch.register_with_timm()
TINY = {'layers': (1, 1, 1, 1), 'channels': (16, 16, 32, 32)}  # of timm's ResNet


def state_of(block):
    """A Gluon block's values by the names of PyTorch."""
    values = parameters(block)
    names = torch_names(values)
    return {names[name]: torch.tensor(parameter.data().asnumpy()) for name, parameter in values.items()}


def twins(name, gain=1.0, **options):
    """A Gluon network, filled, and its PyTorch module with the same parameters."""
    net = filled(get_model(name, **options), gain)
    module = pytorch.create_model(name, **options)
    module.load_state_dict(state_of(net))
    return net, module.eval()


def run(module, *arrays):
    with torch.no_grad():
        return module(*map(torch.tensor, arrays)).numpy()


def random(shape, seed=0):
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype('float32')


def gradients(block, *arrays, dtype='float64'):
    """In Gluon: the output in training, and the gradients of sum(cos * output) for the inputs and parameters."""
    block.cast(dtype)
    inputs = [mx.nd.array(array, dtype=dtype) for array in arrays]
    for array in inputs:
        array.attach_grad()
    with autograd.record():
        output = block(*inputs)
        loss = (output * mx.nd.cos(output.detach())).sum()
    loss.backward()
    values = parameters(block)
    names = torch_names(values)
    grads = {names[name]: p.grad().asnumpy() for name, p in values.items() if p.grad_req != 'null'}
    return output.asnumpy(), [array.grad.asnumpy() for array in inputs], grads


def gradients_in_torch(module, *arrays, dtype=None):
    module.to(dtype or torch.float64).train()
    inputs = [torch.tensor(array, dtype=dtype or torch.float64, requires_grad=True) for array in arrays]
    output = module(*inputs)
    (output * torch.cos(output.detach())).sum().backward()
    grads = {name: p.grad.numpy() for name, p in module.named_parameters() if p.grad is not None}
    return output.detach().numpy(), [array.grad.numpy() for array in inputs], grads


def assert_same_gradients(actual, expected):
    output, inputs, grads = actual
    expected_output, expected_inputs, expected_grads = expected
    assert error(output, expected_output) <= 1e-5
    assert grads.keys() == expected_grads.keys()
    scale = max(np.abs(grad).max() for grad in expected_grads.values()) if grads else 1
    for name, grad in grads.items():  # a bias in front of a norm has none but rounding errors
        other = expected_grads[name].reshape(grad.shape)
        assert np.abs(grad - other).max() <= 1e-4 * max(np.abs(other).max(), 1e-8 * scale), name
    assert all(error(grad, other) <= 1e-4 for grad, other in zip(inputs, expected_inputs))


# Fusion blocks

BLOCKS = {**gluon_aff.FUSIONS, 'ms_cam': gluon_aff.MSCAM}
TORCH_BLOCKS = {**pytorch.FUSIONS, 'ms_cam': pytorch.MSCAM}
SHAPES = [(4, 16, 15), (4, 16, 5, 3), (4, 16, 2, 4, 3)]


def test_every_fusion_has_a_module():
    assert list(pytorch.FUSIONS) == list(gluon_aff.FUSIONS)
    assert set(pytorch.__all__) >= {fusion.__name__ for fusion in gluon_aff.FUSIONS.values()}
    source = Path(pytorch.fusion_modules.__file__).read_text(encoding='utf-8')
    assert set(re.findall(r'(?m)^(?:from|import) (\S+)', source)) == {'__future__', 'typing', 'torch', 'torch.nn'}


@pytest.mark.parametrize('shape', SHAPES, ids=['1-D', '2-D', '3-D'])
@pytest.mark.parametrize('name', BLOCKS)
def test_a_block_is_gluons_on_maps_of_any_rank(name, shape):
    block, module = filled(BLOCKS[name](16, 4)), TORCH_BLOCKS[name](16, 4)
    module.load_state_dict(state_of(block))
    maps = [random(shape, seed) for seed in range(1 if name == 'ms_cam' else 2)]
    # Gluon's block sees (N, C, positions, 1): no fusion knows where positions are.
    images = [array if array.ndim == 4 else array.reshape(*shape[:2], -1, 1) for array in maps]
    expected = block(*map(mx.nd.array, images)).asnumpy().reshape(shape)
    assert error(run(module.eval(), *maps), expected) <= 1e-5
    output, inputs, grads = gradients(block, *images)
    expected = output.reshape(shape), [grad.reshape(shape) for grad in inputs], grads
    assert_same_gradients(gradients_in_torch(module, *maps), expected)


@pytest.mark.parametrize('scales', [('global', 'global'), ('local', 'local'), ('global', 'local')])
def test_other_scales_are_gluons(scales):
    for name in ('iaff', 'recursive_aff', 'ms_cam'):
        block, module = filled(BLOCKS[name](16, 4, scales=scales)), TORCH_BLOCKS[name](16, 4, scales=scales)
        module.load_state_dict(state_of(block))
        maps = [random(SHAPES[1], seed) for seed in range(1 if name == 'ms_cam' else 2)]
        assert error(run(module.eval(), *maps), block(*map(mx.nd.array, maps))) <= 1e-5


def test_fusion_of_many_inputs_and_of_two_sizes_is_gluons():
    for inputs in (2, 3):
        block, module = filled(gluon_aff.MultiInputAFF(16, inputs)), pytorch.MultiInputAFF(16, inputs)
        module.load_state_dict(state_of(block))
        maps = [random(SHAPES[1], seed) for seed in range(inputs)]
        assert_same_gradients(gradients_in_torch(module, *maps), gradients(block, *maps))
    block, module = filled(gluon_aff.AlignedFusion(16, 8)), pytorch.AlignedFusion(16, 8)
    module.load_state_dict(state_of(block))
    maps = random((2, 8, 7, 9)), random((2, 16, 4, 3), 1)
    assert error(run(module.eval(), *maps), block(*map(mx.nd.array, maps))) <= 1e-5
    assert_same_gradients(gradients_in_torch(module, *maps), gradients(block, *maps))


# Blocks of others, as the authors' PyTorch code and LAION-CLAP name their layers.


class TheirContext(torch.nn.Sequential):
    def __init__(self, dimensions, channels, hidden, pool):
        conv, norm = getattr(torch.nn, f'Conv{dimensions}d'), getattr(torch.nn, f'BatchNorm{dimensions}d')
        layers = [conv(channels, hidden, 1), norm(hidden), torch.nn.ReLU(), conv(hidden, channels, 1), norm(channels)]
        super().__init__(*([getattr(torch.nn, f'AdaptiveAvgPool{dimensions}d')(1)] if pool else []), *layers)


class TheirBlock(torch.nn.Module):
    """AFF or, with a second round, iAFF whose second global context is never used."""

    def __init__(self, dimensions, rounds):
        super().__init__()
        for suffix in ('', '2')[:rounds]:
            self.add_module('local_att' + suffix, TheirContext(dimensions, 16, 4, False))
            self.add_module('global_att' + suffix, TheirContext(dimensions, 16, 4, True))
        self.rounds = rounds

    def forward(self, x, y):
        m = (self.local_att(x + y) + self.global_att(x + y)).sigmoid()
        z = m * x + (1 - m) * y
        if self.rounds == 1:
            return 2 * z
        m = (self.local_att2(z) + self.global_att(z)).sigmoid()
        return m * x + (1 - m) * y


def randomise(module):
    for name, value in module.state_dict().items():
        if value.ndim == 1:
            value.uniform_(0.5, 1.5) if name.endswith('var') else value.normal_()
    return module


@pytest.mark.parametrize('dimensions', [1, 2, 3])
def test_state_dicts_of_others_blocks_load_by_name(dimensions):
    torch.manual_seed(0)
    maps = [random(SHAPES[dimensions - 1], seed) for seed in range(2)]
    for rounds, module in ((1, pytorch.AFF(16)), (2, pytorch.IAFF(16, shared_global=True))):
        theirs = randomise(TheirBlock(dimensions, rounds)).eval()
        state = theirs.state_dict()
        before = dict(state)
        module.load_state_dict(state)
        assert state.keys() == before.keys() and all(state[name] is before[name] for name in state)
        assert error(run(module.eval(), *maps), run(theirs, *maps)) <= 1e-5
        assert_same_gradients(gradients_in_torch(module, *maps), gradients_in_torch(theirs, *maps))
        assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_mistake_with_a_block_is_one_sentence():
    x = torch.zeros(2, 16, 4, 4)
    for call, says in (
        (
            lambda: pytorch.AFF(16)(x, x[:, :, :2]),
            r'AFF got \(2, 16, 4, 4\) and \(2, 16, 2, 4\), but takes feature maps',
        ),
        (lambda: pytorch.MSCAM(16)(x[0, 0]), r'MSCAM got \(4, 4\), but takes'),
        (lambda: pytorch.AFF(18), '18 channels cannot be squeezed by reduction 4; choose one that divides them'),
        (lambda: pytorch.AFF(16, scales=('local', 'far')), "scale must be local or global, got 'far'"),
        (lambda: pytorch.get_fusion('af'), "Unknown fusion 'af'"),
        (lambda: pytorch.create_model('aff_resnet51'), "Unknown PyTorch network 'aff_resnet51'; did you mean"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


# Networks

QUICK = ['aff_cifar_resnet_b1_w4', 'iaff_cifar_resnext38_32x4d', 'iaff_resnet50', 'aff_resnext50_32x4d']


def tiered(values, quick):
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.mark.parametrize('layout', tiered(LAYOUTS, QUICK))
def test_an_authors_layout_has_gluons_logits_and_gradients(layout):
    settings = LAYOUTS[layout]
    net, module = twins(model_name(layout), settings['weight_gain'])
    assert sum(p.numel() for p in module.parameters() if p.requires_grad) == settings['trainable']
    images = tensor(settings['input']).asnumpy()
    assert error(run(module, images), net(mx.nd.array(images))) <= 1e-5
    images = random((3, 3, 64, 64) if 'cifar' not in layout else (4, 3, 16, 16))
    expected = gradients(net, images)
    assert_same_gradients(gradients_in_torch(module, images), expected)


@pytest.mark.parametrize('name', tiered(ROWS, ['iaff_resnet34_v1b', 'resnext50d_32x4d', 'cifar_aff_resnext38_32x4d']))
def test_every_network_has_gluons_names_shapes_and_count(name):
    net = get_model(name)
    names = torch_names(parameters(net))
    with torch.device('meta'):
        module = pytorch.create_model(name)
    shapes = {key: tuple(t.shape) for key, t in module.state_dict().items() if not key.endswith('num_batches_tracked')}
    assert shapes == {names[key]: tuple(parameter.shape) for key, parameter in parameters(net).items()}
    assert sum(p.numel() for p in module.parameters() if p.requires_grad) == trainable(net)


@pytest.mark.parametrize(
    'name', tiered(ROWS, ['aff_resnet18', 'cifar_concat_inception_resnet8', 'fpn_iaff_resnet8', 'unet_aff_resnet8'])
)
def test_every_network_has_gluons_logits(name):
    net, module = twins(name, gain=0.5)  # with larger ones the deepest amplify the last bit of float64
    size = 64 if timm.is_model(name) else 33 if 'net_' in name else 32
    images = random((2, net.in_channels, size, size))
    net.cast('float64')
    with torch.no_grad():
        logits = module.double()(torch.tensor(images).double()).numpy()
    assert error(logits, net(mx.nd.array(images, dtype='float64'))) <= 1e-6  # MXNet resizes in float32


@pytest.mark.parametrize('name', ['cifar_aff_inception_resnet8', 'fpn_aff_resnet8', 'unet_concat_resnet8'])
def test_other_networks_have_gluons_gradients(name):
    net, module = twins(name)
    images = random((4, 3, 15, 13))
    assert_same_gradients(gradients_in_torch(module, images), gradients(net, images))


def compiled(module, backend='inductor'):
    if backend == 'inductor' and not shutil.which(os.environ.get('CXX', 'g++')):
        pytest.skip('torch.compile needs a C++ compiler')
    torch.compiler.reset()
    return torch.compile(module, fullgraph=True, backend=backend)


def test_a_compiled_block_is_gluons():
    block, module = filled(gluon_aff.IAFF(16, 4)), pytorch.IAFF(16, 4)
    module.load_state_dict(state_of(block))
    maps = [random(SHAPES[1], seed) for seed in range(2)]
    output, inputs, grads = gradients_in_torch(compiled(module), *maps)
    grads = {name.replace('_orig_mod.', ''): grad for name, grad in grads.items()}
    assert_same_gradients((output, inputs, grads), gradients(block, *maps))


# torch.compile(backend='inductor') takes minutes of g++ for a network; aot_eager runs the graphs that it compiles.
@pytest.mark.parametrize('backend', ['aot_eager', pytest.param('inductor', marks=pytest.mark.slow)])
@pytest.mark.parametrize('layout', tiered(LAYOUTS, QUICK[:1]))
def test_a_compiled_layout_has_gluons_logits_and_gradients(layout, backend):
    settings = LAYOUTS[layout]
    net, module = twins(model_name(layout), settings['weight_gain'])
    images = tensor(settings['input']).asnumpy()
    assert error(run(compiled(module, backend), images), net(mx.nd.array(images))) <= 1e-5
    images = random((3, 3, 64, 64) if 'cifar' not in layout else (4, 3, 16, 16))
    output, inputs, grads = gradients_in_torch(compiled(module, backend), images)
    grads = {name.replace('_orig_mod.', ''): grad for name, grad in grads.items()}
    assert_same_gradients((output, inputs, grads), gradients(net, images))


# In timm


def test_timm_lists_the_networks_and_keeps_its_own_names():
    assert {'aff_resnet50', 'iaff_resnet50', 'aff_resnext50_32x4d', 'iaff_resnext50_32x4d'} <= set(REGISTERED)
    assert set(REGISTERED) <= set(timm.list_models())
    for name in REGISTERED:
        records = catalog.list_weights(name)
        assert {f'{name}.{record.tag}' for record in records} <= set(timm.list_pretrained())
        assert not records or timm.models.get_pretrained_cfg(name).tag == records[0].tag
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert pytorch.register_with_timm() == []
    assert timm.models.model_entrypoint('resnet50').__module__ == 'timm.models.resnet'


# As timm's tests/test_models.py checks its own.


@pytest.mark.parametrize('name', tiered(REGISTERED, ['iaff_resnet50']))
def test_timms_checks_of_forward_and_backward(name):
    model = timm.create_model(name).eval()
    images = torch.randn(2, 3, 64, 64)
    outputs = model(images)
    assert outputs.shape == (2, 1000) and not outputs.isnan().any()
    model.set_grad_checkpointing()
    assert torch.allclose(outputs, model(images), rtol=1e-4, atol=1e-5)
    model = timm.create_model(name, num_classes=42, drop_path_rate=0.1, drop_rate=0.1).train()
    outputs = model(images)
    outputs.mean().backward()
    assert outputs.shape == (2, 42) and not outputs.isnan().any()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize('name', tiered(REGISTERED, ['aff_resnext50_32x4d']))
def test_timms_checks_of_heads_and_features(name):
    model = timm.create_model(name).eval()
    cfg, names, images = model.pretrained_cfg, model.state_dict(), torch.randn(1, 3, 96, 96)
    assert f'{cfg["first_conv"]}.weight' in names and f'{cfg["classifier"]}.weight' in names
    features = model.forward_features(images)
    assert features.shape == (1, model.num_features, 3, 3)
    pooled = model.forward_head(features, pre_logits=True)
    model.reset_classifier(0)
    assert torch.equal(model(images), pooled) and pooled.shape == (1, model.num_features)
    model.reset_classifier(7)
    assert model(images).shape == (1, 7)
    last, maps = model.forward_intermediates(images)
    assert torch.equal(last, maps[-1])
    model.reset_classifier(0, '')
    assert torch.equal(model(images), features)
    backbone = timm.create_model(name, features_only=True, out_indices=(1, 4)).eval()
    shapes = [tuple(output.shape) for output in backbone(images)]
    first = model.num_features // 8
    assert shapes == [(1, first, 24, 24), (1, model.num_features, 3, 3)]
    info = backbone.feature_info
    assert info.channels() == [first, model.num_features] and info.reduction() == [4, 32]


def test_timms_tools_take_the_blocks():
    from timm.optim import create_optimizer_v2
    from timm.utils import ModelEmaV3, freeze

    model = timm.create_model('iaff_resnet50', **TINY, in_chans=1, num_classes=3)
    groups = timm.models.group_parameters(model, model.group_matcher(coarse=True))
    assert 'layer3.0.attention.local_att2.0.weight' in sum(groups.values(), [])
    freeze(model, ['conv1', 'bn1', 'layer1', 'layer2', 'layer3'])
    frozen = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = create_optimizer_v2([p for p in model.parameters() if p.requires_grad], 'sgd', lr=0.1)
    ema = ModelEmaV3(model)
    loss = model.train()(torch.randn(4, 1, 64, 64)).square().sum()
    loss.backward()
    optimizer.step()
    ema.update(model)
    for name, value in model.state_dict().items():
        frozen_still = torch.equal(value, frozen[name])
        assert frozen_still == name.startswith(('conv1', 'bn1', 'layer1', 'layer2', 'layer3')) or 'layer4' in name
    with torch.device('meta'):
        assert timm.create_model('aff_resnet50').layer3[0].attention.local_att[0].weight.is_meta


# Files


def write_as_released(net, path):
    """Write a network's parameters as the authors did: those of convolutions and dense layers in float16."""
    values = {
        name: parameter.data().astype('float16' if name.endswith('weight') else 'float32')
        for name, parameter in parameters(net).items()
    }
    mx.nd.save(str(path), values)
    net.load_parameters(str(path), cast_dtype=True)


def test_released_weights_in_timm_are_downloaded_verified_and_gluons(tmp_path, monkeypatch):
    net, path = get_model('iaff_resnet50'), tmp_path / 'released'
    write_as_released(filled(net, LAYOUTS['iaff_resnet50']['weight_gain'], np.random.default_rng), path)
    (real, *_) = catalog.list_weights('iaff_resnet50')
    record = replace(real, digest_kind='sha256', digest=digest(str(path), 'sha256'))
    monkeypatch.setattr(catalog, '_catalog', lambda: (record,))
    images = random((1, 3, 64, 64))
    with Server(content(path.read_bytes())) as server:
        monkeypatch.setenv('MXNET_GLUON_REPO', server.address)
        model = timm.create_model('iaff_resnet50', pretrained=True, cache_dir=str(tmp_path)).eval()
        assert server.paths == [f'/gluon/models/{record.file}'] and (tmp_path / record.file).is_file()
        assert error(run(model, images), net(mx.nd.array(images))) <= 1e-5
        assert 'state_dict' not in model.pretrained_cfg and model.pretrained_cfg['crop_pct'] == 0.875
        grey = timm.create_model(
            'iaff_resnet50.imagenet', pretrained=True, num_classes=5, in_chans=1, cache_dir=str(tmp_path)
        )
        assert grey.fc.out_features == 5 and torch.equal(grey.layer4[0].conv1.weight, model.layer4[0].conv1.weight)
        maps = timm.create_model('iaff_resnet50', pretrained=True, features_only=True, cache_dir=str(tmp_path)).eval()
        assert torch.equal(maps(torch.tensor(images))[-1], model.forward_features(torch.tensor(images)))
        assert len(server.paths) == 1


def test_shipped_weights_give_gluons_logits():
    name = 'fashion_mnist_aff_resnet8'
    module, images = pytorch.create_model(name, pretrained=True).eval(), random((8, 3, 32, 32))
    assert error(run(module, images), get_model(name, pretrained=True)(mx.nd.array(images))) <= 1e-5
    fresh = pytorch.create_model(name, pretrained=True, classes=3)
    assert fresh.output.out_features == 3
    assert torch.equal(fresh.features[2][0].resfwd[2].weight, module.features[2][0].resfwd[2].weight)


@pytest.mark.parametrize('name', ['cifar_aff_resnet8', 'fpn_iaff_resnet8', 'aff_resnext50_32x4d'])
@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_ours_saved_opens_in_pytorch_and_back(tmp_path, name, suffix):
    images, ours, theirs = random((2, 3, 64, 64)), str(tmp_path / f'ours{suffix}'), str(tmp_path / f'theirs{suffix}')
    net = filled(get_model(name, classes=5), 1.0, np.random.default_rng)
    expected = net(mx.nd.array(images)).asnumpy()
    save_parameters(net, ours)
    module = pytorch.create_model(name, pretrained=ours).eval()
    assert error(run(module, images), expected) <= 1e-5
    if name in REGISTERED:  # timm's own ways
        module = timm.create_model(name, num_classes=5, checkpoint_path=ours).eval()
        overlay = {'file': ours, 'num_classes': 5}
        again = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay).eval()
        assert error(run(again, images), run(module, images)) == 0
    if suffix == '.pth':
        torch.save({'state_dict': module.state_dict(), 'epoch': 3}, theirs)
    else:
        safetensors.save_model(module, theirs)
    again = get_model(name, pretrained=theirs)
    assert again.classes == 5 and error(again(mx.nd.array(images)), expected) <= 1e-5
    params = str(tmp_path / 'x.params')
    if name == 'cifar_aff_resnet8':  # the command, both ways
        back = str(tmp_path / f'back{suffix}')
        assert main(['convert', theirs, '--model', name, '-o', params]) == 0
        assert main(['convert', params, '--model', name, '-o', back]) == 0
        assert error(run(pytorch.create_model(name, pretrained=back).eval(), images), expected) <= 1e-5
    with pytest.raises(ValueError, match=f'ours{suffix} holds the parameters of another network: ') as caught:
        pytorch.create_model('iaff_resnet50' if name in REGISTERED else 'cifar_iaff_resnet8', pretrained=ours)
    assert '\n' not in str(caught.value)


def test_a_network_of_the_authors_pytorch_code_loads(tmp_path):
    torch.manual_seed(0)
    build = partial(pytorch.create_model, 'iaff_resnet18_v1b', classes=5, **TINY)
    shared = partial(pytorch.IAFF, shared_global=True)
    theirs, unused = randomise(build(fusion=shared)).eval(), build().state_dict()
    state = {**{name: value for name, value in unused.items() if 'global_att2' in name}, **theirs.state_dict()}
    path, images = str(tmp_path / 'x.pth'), random((2, 3, 64, 64))
    torch.save({name.replace('.attention.', '.fuse_mode.'): value for name, value in state.items()}, path)
    expected = run(theirs, images)
    for fusion in ('iaff', shared):
        assert error(run(build(fusion=fusion, pretrained=path).eval(), images), expected) <= 1e-5
    with pytest.raises(ValueError, match='holds the parameters of another network'):
        build(fusion='aff', pretrained=path)


def test_timms_scripts_know_the_networks(tmp_path, monkeypatch, capsys):
    (tmp_path / 'script.py').write_text(
        'import sys, beside, timm\nprint(beside.x, len(timm.create_model(sys.argv[1]).state_dict()), __name__)\n'
    )
    (tmp_path / 'beside.py').write_text('x = 1\n')
    monkeypatch.setattr(sys, 'path', sys.path[:])
    monkeypatch.setattr(sys, 'argv', ['with_timm.py', str(tmp_path / 'script.py'), 'aff_resnet50'])
    runpy.run_path(str(TOP / 'examples' / 'with_timm.py'), run_name='__main__')
    entries = len(timm.create_model('aff_resnet50').state_dict())
    assert capsys.readouterr().out.split() == ['1', str(entries), '__main__']


def test_only_the_plugin_imports_pytorch():
    code = "import model_zoo, model_zoo.cli, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code], cwd=TOP).returncode == 0
