"""Old names still work, and say what they are called now."""

from importlib import import_module

import pytest
from reference import filled, loaded

from gluon_aff._deprecated import MODULES, NAMES
from gluon_aff.data.class_folders import ImageFiles
from gluon_aff.deploy import Predictor
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
