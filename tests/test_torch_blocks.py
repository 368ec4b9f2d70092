"""State dicts of the PyTorch port's and LAION-CLAP's fusion blocks in ours, and ours in theirs."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from reference import error, filled, parameters, refused, tensor
from torch_witness import torch

from gluon_aff import AFF, IAFF, MSCAM
from model_zoo import load_parameters, save_parameters

SIDES = {1: (9,), 2: (5, 4), 3: (3, 2, 4)}
OURS = {'aff': AFF, 'iaff': lambda channels: IAFF(channels, shared_global=True), 'ms_cam': MSCAM}


def witness(kind, dims, channels=8, reduction=4):
    """A block with the port's names and layers and any values; its iAFF makes a context that it does not use."""
    nn, hidden = torch().nn, channels // reduction

    def context(pooled):
        convolution, norm = getattr(nn, f'Conv{dims}d'), getattr(nn, f'BatchNorm{dims}d')
        layers = [
            convolution(channels, hidden, 1),
            norm(hidden),
            nn.ReLU(),
            convolution(hidden, channels, 1),
            norm(channels),
        ]
        return nn.Sequential(*[getattr(nn, f'AdaptiveAvgPool{dims}d')(1)] * pooled, *layers)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            for name in ('local_att', 'global_att', *(('local_att2', 'global_att2') if kind == 'iaff' else ())):
                setattr(self, name, context(name.startswith('global')))

        def forward(self, x, y=None):
            if kind == 'ms_cam':
                return x * (self.local_att(x) + self.global_att(x)).sigmoid()
            m = (self.local_att(x + y) + self.global_att(x + y)).sigmoid()
            u = m * x + (1 - m) * y
            if kind == 'aff':
                return 2 * u
            m = (self.local_att2(u) + self.global_att(u)).sigmoid()
            return m * x + (1 - m) * y

    block = Block()
    random = np.random.RandomState(0)
    for tensor_ in block.state_dict().values():
        if tensor_.is_floating_point():
            tensor_.copy_(torch().tensor(random.uniform(0.2, 0.8, tuple(tensor_.shape))))
    return block


def maps(kind, dims):
    return [tensor((6, 8, *SIDES[dims]), seed).asnumpy() for seed in range(1 if kind == 'ms_cam' else 2)]


@pytest.mark.parametrize('kind', OURS)
@pytest.mark.parametrize('dims', SIDES)
def test_a_block_of_the_port_gives_its_outputs_and_gradients_here_and_ours_in_the_port(kind, dims, tmp_path):
    module, block, arrays = witness(kind, dims), OURS[kind](8), maps(kind, dims)
    path = str(tmp_path / 'block.pth')
    torch().save(module.state_dict(), path, _use_new_zipfile_serialization=dims != 2)
    load_parameters(block, path)
    block.hybridize()
    theirs = [torch().tensor(array, requires_grad=True) for array in arrays]
    ours = [mx.nd.array(array) for array in arrays]
    expected = module.eval()(*theirs).detach().numpy()
    assert error(block(*ours), expected) <= 1e-5

    save_parameters(block, str(tmp_path / 'ours.pth'))
    again = witness(kind, dims).eval()
    torch().nn.init.zeros_(again.local_att[0].weight)
    missing = again.load_state_dict(torch().load(str(tmp_path / 'ours.pth')), strict=False)
    assert not missing.unexpected_keys
    assert all('global_att2' in key or 'num_batches' in key for key in missing.missing_keys)
    assert error(again(*theirs).detach().numpy(), expected) <= 1e-6

    cotangent = tensor(expected.shape, 9)
    for x in ours:
        x.attach_grad()
    with autograd.record():
        z = block(*ours)
        loss = (z * cotangent).sum()
    loss.backward()
    trained = module.train()(*theirs)
    (trained * torch().tensor(cotangent.asnumpy())).sum().backward()
    assert error(z, trained.detach().numpy()) <= 1e-5
    assert max(error(x.grad, y.grad.numpy()) for x, y in zip(ours, theirs)) <= 1e-4
    named = dict(module.named_parameters())
    largest = max(np.abs(p.grad.numpy()).max() for p in named.values() if p.grad is not None)
    for name, p in parameters(block).items():
        if p.grad_req != 'null':
            grad = named[name.replace('gamma', 'weight').replace('beta', 'bias')].grad.numpy()
            assert np.abs(p.grad().asnumpy().reshape(grad.shape) - grad).max() <= 1e-4 * largest, name


def state_dict(block, dims):
    """The state dict in which PyTorch has a block of ours, with 1x1 kernels of so many axes."""
    renamed = {}
    for name, parameter in parameters(block).items():
        array = parameter.data().asnumpy()
        name = name.replace('gamma', 'weight').replace('beta', 'bias')
        renamed[name] = array.reshape(*array.shape[:2], *[1] * dims) if array.ndim == 4 else array
    return renamed


@pytest.fixture
def save_file():
    return pytest.importorskip('safetensors.numpy').save_file


@pytest.mark.parametrize('dims', SIDES)
def test_state_dicts_load_by_name_and_from_a_part_of_a_larger_model(dims, tmp_path, save_file):
    source, path = filled(AFF(8)), str(tmp_path / 'block.safetensors')
    x, y = (tensor((2, 8, *SIDES[dims]), seed) for seed in range(2))
    expected = source(x, y)
    state = state_dict(source, dims)
    save_file(state, path)
    block = AFF(8)
    load_parameters(block, path)
    assert error(block(x, y), expected) == 0
    assert {name: p.shape for name, p in parameters(block).items()} == {
        name: p.shape for name, p in parameters(source).items()
    }

    save_parameters(block, path)  # it has been called on such maps
    from safetensors.numpy import load_file

    assert {name: array.shape for name, array in load_file(path).items()} == {
        name: array.shape for name, array in state.items()
    }

    model = {f'module.audio.fusion.{name}': array for name, array in state.items()}
    save_file({**model, 'module.audio.head.weight': np.ones((3, 8), 'float32')}, path)
    block = AFF()
    load_parameters(block, path, prefix='audio.fusion.')
    assert error(block(x, y), expected) == 0
    with refused("no parameter whose name begins with 'text.'; its names are audio.fusion"):
        load_parameters(AFF(8), path, prefix='text.')
    with refused('local_att.0.weight is missing'):
        load_parameters(AFF(8), path, prefix='audio.')


def test_a_second_global_context_that_was_never_used_is_left_out_or_replaced(tmp_path, save_file):
    source, path = filled(IAFF(8)), str(tmp_path / 'block.safetensors')
    state, x, y = state_dict(source, 2), *(tensor((2, 8, 5, 4), seed) for seed in range(2))
    save_file(state, path)
    used = IAFF(8)
    load_parameters(used, path)
    assert error(used(x, y), source(x, y)) == 0, 'both contexts are used'

    shared = IAFF(8, shared_global=True)
    load_parameters(shared, path)
    for name in state:
        if 'global_att2' in name and name.endswith('running_mean'):
            state[name] = np.zeros_like(state[name])
    save_file(state, path)
    load_parameters(used, path)
    assert error(used(x, y), shared(x, y)) <= 1e-6
