"""Old names still work, and say what they are called now."""

import dataclasses
import sys
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from reference import filled, loaded

from gluon_aff._deprecated import MODULES, NAMES
from gluon_aff.data.cifar import Batches
from gluon_aff.data.class_folders import ImageFiles
from gluon_aff.deploy import Predictor
from gluon_aff.spec import ModelSpec
from model_zoo import IMAGENET, get_model, model_info


@pytest.mark.parametrize('module', NAMES)
def test_old_names_are_what_the_new_ones_are(module):
    current = import_module(module)
    for old, new in NAMES[module].items():
        with pytest.warns(DeprecationWarning, match=f'{module}.{old} is now called {new}'):
            value = getattr(current, old)
        elsewhere, _, name = new.rpartition(':')
        assert value is getattr(import_module(elsewhere or module), name)
    with pytest.raises(AttributeError, match='no attribute'):
        assert current.never_a_name


@pytest.mark.parametrize('old', MODULES)
def test_old_modules_import(old):
    current = import_module(MODULES[old])
    with pytest.warns(DeprecationWarning):
        module = import_module(old)
        assert all(getattr(module, name) is getattr(current, name) for name in module.__all__)
        for name in NAMES.get(MODULES[old], {}):
            assert getattr(module, name) is getattr(current, name)


def test_old_attributes_give_the_value_of_the_new_ones():
    net = get_model('cifar_aff_resnet8', classes=2)
    with pytest.warns(DeprecationWarning, match='Network.labels is now called class_names'):
        net.labels = ('cat', 'owl')
    assert net.class_names == ('cat', 'owl')
    for owner in (net, ImageFiles(('cat', 'owl'), (), None)):
        with pytest.warns(DeprecationWarning, match='is now called class_names'):
            assert owner.labels == owner.class_names
    model = loaded('cifar_aff_resnet8', filled(net), ('cat', 'owl'), (3, 32, 32), (0.5,) * 3, (0.2,) * 3)
    for owner in (model_info('cifar_aff_resnet8'), model, Predictor(model)):
        for old in ('labels', 'input_size', 'mean', 'std', 'crop_ratio', 'task'):
            new = 'class_names' if old == 'labels' else old
            with pytest.warns(DeprecationWarning, match=f'{type(owner).__name__}.{old} is now called spec.{new}'):
                assert getattr(owner, old) == getattr(owner.spec, new)


def test_a_data_set_of_the_old_form_is_a_spec():
    import model_zoo

    with pytest.warns(DeprecationWarning):
        build = model_zoo.Dataset
    old = build(IMAGENET.name, (3, 224, 224), IMAGENET.mean, IMAGENET.std, 0.875, lambda: IMAGENET.class_names)
    assert old == IMAGENET


def test_every_public_name_of_version_0_1_imports():
    # Names that were replaced by something of another form are not in the list; the changelog has them.
    for line in (Path(__file__).parent / 'data' / 'names_0_1.txt').read_text(encoding='utf-8').splitlines():
        module, name = line.split()
        moved = module in MODULES or name in NAMES.get(module, {})
        with pytest.warns(DeprecationWarning) if moved else warnings.catch_warnings():
            sys.modules.pop(module if module in MODULES else None, None)
            getattr(import_module(module), name)


def test_a_function_that_has_the_name_of_an_old_module_stays_one():
    import gluon_aff

    with pytest.warns(DeprecationWarning, match='gluon_aff.complexity is now gluon_aff.inspect.complexity'):
        sys.modules.pop('gluon_aff.complexity', None)
        old = import_module('gluon_aff.complexity')
    net = get_model('cifar_aff_resnet8', classes=2)
    net.initialize()
    assert gluon_aff.complexity(net, (1, 3, 32, 32)) == old.complexity(net, (1, 3, 32, 32))


def test_arguments_have_their_old_names_too():
    images, target = np.zeros((4, 32, 32, 3), np.uint8), np.arange(4)
    with pytest.warns(DeprecationWarning, match=r'Batches\(part=\) is now called shard'):
        batches = Batches(images, target, 2, (0.5,) * 3, (0.2,) * 3, part=(1, 2))
    assert [labels.tolist() for _, labels in batches.epoch()] == [[1, 3]]
    with pytest.warns(DeprecationWarning, match=r'ModelSpec\(labels=\) is now called class_names'):
        spec = ModelSpec(
            'a', 'classification', input_size=(1, 8, 8), min_size=1, mean=(0,), std=(1,), crop_ratio=1, labels=('b',)
        )
    assert spec == dataclasses.replace(spec, class_names=('b',)) and spec.class_names == ('b',)
