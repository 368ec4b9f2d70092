"""The registered networks equal the released ones: names, shapes and number of parameters, and outputs (tests/data)."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from reference import DATA, error, filled, layouts, model_name, parameters, tensor, trainable

from model_zoo import get_model

LAYOUTS = layouts()
COMPUTED = [name for name in LAYOUTS if (DATA / f'{name}.npz').exists()]


def build(layout):
    return filled(get_model(model_name(layout)), LAYOUTS[layout]['weight_gain'])


@pytest.mark.parametrize('layout', LAYOUTS)
def test_parameter_names_shapes_and_count_are_the_released_ones(layout):
    net = get_model(model_name(layout))
    assert {name: list(p.shape) for name, p in parameters(net).items()} == LAYOUTS[layout]['params']
    assert trainable(net) == LAYOUTS[layout]['trainable']


def in_training(net, settings, dtype='float32'):
    """Logits, and the norms of the gradients of sum(logits * c) by name."""
    net.cast(dtype)
    with autograd.record():
        logits = net(tensor(settings['train_input'], seed=3).astype(dtype))
        loss = (logits * tensor(logits.shape, seed=1).astype(dtype)).sum()
    loss.backward()
    return logits, {
        name: float(mx.nd.norm(p.grad()).asscalar()) for name, p in parameters(net).items() if p.grad_req != 'null'
    }


@pytest.mark.parametrize('form', ['eager', 'hybridized'])
@pytest.mark.parametrize('layout', COMPUTED)
def test_outputs_are_the_reference_ones(layout, form):
    expected, settings, net = np.load(DATA / f'{layout}.npz'), LAYOUTS[layout], build(layout)
    if form == 'hybridized':  # with the compiled operators, where they are built
        net.hybridize(static_alloc=True, static_shape=True)
    assert error(net(tensor(settings['input'], seed=0)), expected['logits']) <= 1e-5
    if 'train_logits' in expected:
        with autograd.train_mode():
            # The figures' own distance from float64 is up to 2.6e-4; how float32 rounds depends on the threads.
            assert error(net(tensor(settings['train_input'], seed=3)), expected['train_logits']) <= 6e-4


@pytest.mark.parametrize('layout', [name for name in COMPUTED if 'grad_norms' in np.load(DATA / f'{name}.npz')])
def test_gradients_are_the_reference_ones(layout):
    expected, settings = np.load(DATA / f'{layout}.npz'), LAYOUTS[layout]
    # The figures are of float32; float64 is the same on any number of threads.
    exact, norms = in_training(build(layout), settings, 'float64')
    assert error(exact, expected['train_logits']) <= 3e-4
    assert error([norms[name] for name in expected['grad_names']], expected['grad_norms']) <= 2e-3
    net = build(layout)
    net.hybridize(static_alloc=True, static_shape=True)
    logits, actual = in_training(net, settings)
    assert error(logits, exact.asnumpy()) <= 6e-4
    # Of all parameters; a bias in front of a norm has no gradient but rounding errors.
    names = [name for name in norms if not name.endswith('bias')]
    assert error([actual[name] for name in names], [norms[name] for name in names]) <= 3e-3


@pytest.mark.parametrize('fusion', ['aff', 'iaff'])
def test_a_network_with_the_formula_as_written_has_the_same_gradients_in_float64(fusion, monkeypatch):
    monkeypatch.syspath_prepend(str(DATA.parent.parent / 'benchmarks'))
    from naive import NAIVE

    settings = {'train_input': (8, 3, 16, 16)}
    (actual, norms), (expected, expected_norms) = (
        in_training(filled(get_model('cifar_aff_resnet8', fusion=name, width=1)), settings, 'float64')
        for name in (fusion, NAIVE[fusion])
    )
    assert error(actual, expected.asnumpy()) <= 1e-12
    assert norms.keys() == expected_norms.keys()
    assert error(list(norms.values()), list(expected_norms.values())) <= 1e-12


def test_the_reference_figures_cover_every_host_and_fusion():
    assert len(LAYOUTS) == 18 and len(COMPUTED) == 5
    assert {name.split('_')[0] for name in COMPUTED} == {'add', 'aff', 'iaff'}
