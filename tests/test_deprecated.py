"""Old names still work, and say what they are called now."""

import pytest

from gluon_aff.data.class_folders import ImageFiles
from model_zoo import get_model, model_info


def test_the_names_of_classes_are_read_and_set_under_their_old_name():
    net = get_model('cifar_aff_resnet8', classes=2)
    with pytest.warns(DeprecationWarning, match='Network.labels is now called class_names'):
        net.labels = ('cat', 'owl')
    assert net.class_names == ('cat', 'owl')
    for owner in (net, model_info('cifar_aff_resnet8'), ImageFiles(('cat', 'owl'), (), None)):
        with pytest.warns(DeprecationWarning, match='is now called class_names'):
            assert owner.labels == owner.class_names
