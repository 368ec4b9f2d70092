"""The registered networks are the released ones, number by number (tests/data)."""
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


@pytest.mark.parametrize('layout', COMPUTED)
def test_outputs_and_gradients_are_the_reference_ones(layout):
    expected, settings, net = np.load(DATA / f'{layout}.npz'), LAYOUTS[layout], build(layout)
    assert error(net(tensor(settings['input'], seed=0)), expected['logits']) <= 1e-5
    if 'train_logits' not in expected:
        return
    with autograd.record():
        logits = net(tensor(settings['train_input'], seed=3))
        loss = (logits * tensor(logits.shape, seed=1)).sum()
    loss.backward()
    assert error(logits, expected['train_logits']) <= 2e-4
    gradients = [parameters(net)[name].grad() for name in expected['grad_names']]
    assert error([float(mx.nd.norm(g).asscalar()) for g in gradients], expected['grad_norms']) <= 1e-3


def test_the_reference_figures_cover_every_host_and_fusion():
    assert len(LAYOUTS) == 18 and len(COMPUTED) == 5
    assert {name.split('_')[0] for name in COMPUTED} == {'add', 'aff', 'iaff'}
