"""What the tests share: the reference figures in tests/data, the tensors that they were computed from, and checks."""

from __future__ import annotations

import gzip
import json
import zlib
from contextlib import contextmanager
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from gluon_aff.deploy.openvino_engine import import_openvino
from gluon_aff.spec import ModelSpec
from model_zoo import LoadedModel, model_info

DATA = Path(__file__).parent / 'data'


def fill(name, shape, gain=1.0, random=np.random.RandomState):
    """The parameter with this structural name, the same on every machine."""
    random = random(zlib.crc32(name.encode()))
    leaf = name.rsplit('.', 1)[-1]
    if leaf == 'weight':
        return (random.standard_normal(shape) * np.sqrt(gain / np.prod(shape[1:]))).astype('float32')
    if leaf in ('gamma', 'running_var'):
        return random.uniform(0.5, 1.5, shape).astype('float32')
    return (random.standard_normal(shape) * 0.1).astype('float32')


def tensor(shape, seed=0):
    """An input, or the c of the loss sum(output * c)."""
    return mx.nd.array(np.random.RandomState(seed).uniform(-1, 1, shape).astype('float32'))


def parameters(block):
    """Parameters by structural name, as save_parameters writes them."""
    return block._collect_params_with_prefix()


def filled(block, gain=1.0, random=np.random.RandomState):
    """The block itself, with the parameters that its structural names stand for; their shapes must be known.

    np.random.default_rng is quicker, and gives other values than the reference figures are of.
    """
    for name, parameter in parameters(block).items():
        value = mx.nd.array(fill(name, parameter.shape, gain, random))
        parameter.initialize(mx.init.Constant(value), ctx=mx.cpu(), force_reinit=True)
    return block


def trainable(block):
    """Number of trainable parameters."""
    return sum(int(np.prod(p.shape)) for p in parameters(block).values() if p.grad_req != 'null')


def error(actual, expected):
    """Largest difference, relative to the largest absolute value expected."""
    actual, expected = (a.asnumpy() if isinstance(a, mx.nd.NDArray) else np.asarray(a) for a in (actual, expected))
    assert actual.shape == expected.shape
    return np.abs(actual.astype('float64') - expected).max() / np.abs(expected).max()


def layouts():
    """Layout by name: input, train_input, weight_gain, trainable, and params (shape by structural name)."""
    return json.loads(gzip.decompress((DATA / 'parameters.json.gz').read_bytes()))


def model_name(layout):
    """The registered network of a layout: aff_cifar_resnet_b5_w4 is cifar_aff_resnet32."""
    if '_cifar_' not in layout:
        return layout
    fusion, host = layout.split('_cifar_')
    if host.startswith('resnet_b'):
        host = f'resnet{6 * int(host[len("resnet_b") :].split("_")[0]) + 2}'
    return f'cifar_{fusion}_{host}'


# Names of networks that repeat the blocks of others, in other numbers or widths; the slow tier runs them, too.
REPEATED = ['*resnet34*', 'resnext*', 'wide_*', 'i*_v1b', 'eca_resnet[1-9]?', 'sk_resnet18']


def tiered(values, quick):
    """Parameters of a test: those in `quick` run always, the others in the slow tier only."""
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values]


def available(backend):
    """The backend; the test is skipped where OpenVINO is not installed."""
    if backend and backend.startswith('openvino'):
        try:
            import_openvino()
        except ImportError:
            pytest.skip("needs the extra 'openvino'")
    return backend


@contextmanager
def refused(match, kind=ValueError):
    """The block of code is refused with one sentence of ours, which `match` is found in."""
    with pytest.raises(kind, match=match) as caught:
        yield
    message = str(caught.value)
    assert not isinstance(caught.value, (mx.MXNetError, UnicodeError)), 'the error is not worded by the library'
    assert '\n' not in message and 'Traceback' not in message and 'src/' not in message, message


def in_every_form(block, folder, *batches):
    """Outputs for each batch (a tuple of inputs): eager, hybridized, with static memory, and exported and imported."""
    outputs = {'eager': [block(*batch) for batch in batches]}
    block.hybridize()
    outputs['hybridized'] = [block(*batch) for batch in batches]
    path = str(folder / 'exported')
    block.export(path)
    block.hybridize(static_alloc=True, static_shape=True)
    # Its memory is used again in the next call.
    outputs['static'] = [block(*batch).copy() for batch in batches]
    names = ['data'] if len(batches[0]) == 1 else [f'data{i}' for i in range(len(batches[0]))]
    imported = mx.gluon.SymbolBlock.imports(f'{path}-symbol.json', names, f'{path}-0000.params')
    outputs['imported'] = [imported(*batch) for batch in batches]
    return outputs


def loaded(name, net, class_names, input_size, mean, std):
    """A LoadedModel of a network that a test made."""
    spec = ModelSpec(name, model_info(name).spec.task, class_names, input_size, net.min_size, mean, std, 1.0)
    return LoadedModel(spec, net)
