"""ModelSpec.transform: from any image to the network's input."""

from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from reference import refused

from gluon_aff.data.preprocessing import evaluation_array
from model_zoo import CIFAR100, IMAGENET, STOP_SIGN, load_model


@pytest.fixture
def photo():
    return np.random.RandomState(0).randint(0, 256, (70, 90, 3)).astype(np.uint8)


def test_a_path_a_pil_image_and_an_array_are_the_same_input(photo, tmp_path):
    image = Image.fromarray(photo)
    image.save(tmp_path / 'photo.png')
    expected = evaluation_array(image, IMAGENET.input_size, IMAGENET.mean, IMAGENET.std, 0.875)
    transform = IMAGENET.transform()
    for source in (str(tmp_path / 'photo.png'), tmp_path / 'photo.png', image, photo):
        np.testing.assert_array_equal(transform(source), expected)
    for wrong in (photo.astype(np.float32), photo[..., 0], None):
        with refused('An image is a path or an RGB array'):
            transform(wrong)


def test_segmentation_sees_the_whole_image_and_nhwc_its_bytes(photo):
    assert STOP_SIGN.transform()(photo).shape == (3, 70, 90)
    np.testing.assert_array_equal(replace(STOP_SIGN, layout='NHWC').transform()(photo), photo)
    grey = replace(CIFAR100, input_size=(1, 32, 32))
    assert grey.transform()(photo).shape == (1, 32, 32) and grey.mean == CIFAR100.mean[:1]


def test_a_loaded_model_takes_what_its_transform_gives(photo):
    model = load_model('fashion_mnist_aff_resnet8')
    assert model.net(mx.nd.array(model.spec.transform()(photo)[None])).shape == (1, len(model.spec.class_names))


def test_statistics_are_one_for_each_channel_and_equal_ones_hold_for_all():
    for mean in ((0.5,), (0.5,) * 3):
        assert replace(CIFAR100, input_size=(4, 32, 32), mean=mean, std=(0.2,)).mean == (0.5,) * 4
    for mean in ((0.4, 0.5, 0.6), (0.5, 0.5)):
        with refused('mean must be numbers from -1000 to 1000, one for each of the 4 channels, got'):
            replace(CIFAR100, input_size=(4, 32, 32), mean=mean, std=(0.2,))
