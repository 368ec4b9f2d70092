"""One call each: load_model, get_transform, predict, Predictor by name; what networks and descriptions print."""

import json
import pickle
import random
import subprocess
import sys
from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon.data import DataLoader, SimpleDataset
from PIL import Image
from programs import TOP
from reference import error, filled, refused

from gluon_aff import AFF, FUSIONS
from gluon_aff.data.augmentation import random_resized_crop, write_training
from gluon_aff.deploy import Predictor, export
from model_zoo import Transform, get_model, get_transform, list_models, load_model, model_info, predict
from model_zoo.hosts.attention_resnet import ECAResNet, GEResNet, LIPResNet
from model_zoo.loading import find_spec

SHIPPED = 'fashion_mnist_aff_resnet8'


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (50, 41, 3)).astype(np.uint8)
    path = tmp_path / 'picture.png'
    Image.fromarray(pixels).save(path)
    return path, pixels


@pytest.fixture
def run_folder(tmp_path):
    folder, net = tmp_path / 'run', filled(get_model('cifar_aff_resnet8', classes=3, width=1))
    folder.mkdir()
    net.save_parameters(str(folder / 'best.params'))
    values = {'model': 'cifar_aff_resnet8', 'options': {'classes': 3, 'width': 1}, 'parameters': 'best.params'}
    spec = {'class_names': ['cat', 'dog', 'owl'], 'input_size': [3, 24, 24], 'mean': [0.5] * 3, 'std': [0.25] * 3}
    (folder / 'model.json').write_text(json.dumps({**values, **spec, 'crop_ratio': 1.0}))
    return folder


# get_transform


def test_every_form_of_an_image_gives_what_the_predictor_sees(picture):
    path, pixels = picture
    transform, model = get_transform(SHIPPED), load_model(SHIPPED)
    forms = [str(path), path, Image.open(path), pixels, mx.nd.array(pixels, dtype='uint8')]
    for form in forms:
        x = transform(form)
        assert isinstance(x, mx.nd.NDArray) and x.shape == (3, 32, 32) and x.dtype == np.float32
        assert error(x, model.spec.transform()(str(path))) == 0
    grey = pixels[:, :, :1]
    assert error(transform(grey), transform(grey.repeat(3, axis=2))) == 0
    (predictions,) = predict(SHIPPED, str(path), top_k=10)
    probabilities = model.net(transform(pixels).expand_dims(0)).softmax()[0].asnumpy()
    for name, probability in predictions:
        assert abs(probabilities[model.spec.class_names.index(name)] - probability) <= 1e-5


def test_a_training_transform_is_the_augmentation_of_imagenet(picture):
    path, pixels = picture
    spec, expected = model_info(SHIPPED).spec, np.empty((3, 32, 32), np.float32)
    source = np.random.RandomState(3)
    write_training(expected, random_resized_crop(Image.fromarray(pixels), 32, source), spec.mean, spec.std, source)
    for form in (str(path), pixels, Image.open(path)):
        assert error(get_transform(SHIPPED, train=True, seed=3)(form), expected) == 0
    assert error(get_transform(spec, train=True)(pixels, np.random.RandomState(3)), expected) == 0
    grey = Transform(replace(spec, input_size=(1, 32, 32)), train=True, seed=3)(pixels)
    assert grey.shape == (1, 32, 32)
    assert error(grey[0], np.tensordot([0.299, 0.587, 0.114], expected, 1)) <= 1e-5


def test_a_training_transform_draws_from_its_own_generator_only(picture):
    _, pixels = picture
    before = np.random.get_state()[1].copy(), random.getstate()
    first, second = (get_transform(SHIPPED, train=True)(pixels) for _ in range(2))
    assert error(first, second) > 0, 'without a seed the operating system gives one'
    assert (np.random.get_state()[1] == before[0]).all() and random.getstate() == before[1]
    mx.random.seed(5)
    expected = mx.nd.random.uniform(shape=3)
    mx.random.seed(5)
    get_transform(SHIPPED, train=True)(pixels)
    assert error(mx.nd.random.uniform(shape=3), expected) == 0


@pytest.mark.parametrize('workers, threads', [(0, False), (2, False), (2, True)])
def test_gluons_loader_takes_a_transform(workers, threads):
    images = [np.random.RandomState(0).randint(0, 256, (28, 28, 3)).astype(np.uint8)] * 8
    dataset = SimpleDataset([(image, label) for label, image in enumerate(images)])
    transform = pickle.loads(pickle.dumps(get_transform(SHIPPED, train=True, seed=1)))
    loader = DataLoader(dataset.transform_first(transform), 2, num_workers=workers, thread_pool=threads)
    batches = list(loader)
    assert [y.asnumpy().tolist() for _, y in batches] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    data = np.concatenate([x.asnumpy() for x, _ in batches])
    assert data.shape == (8, 3, 32, 32) and data.dtype == np.float32
    assert len({image.tobytes() for image in data}) == 8, 'no worker repeats what another one draws'


def test_a_folder_gives_its_transform(run_folder, tmp_path, picture):
    model = load_model(run_folder)
    assert find_spec(str(run_folder)) == replace(model.spec, dynamic=find_spec(run_folder).dynamic)
    assert get_transform(run_folder)(picture[0]).shape == (3, 24, 24)
    export(model, str(tmp_path / 'exported'), preprocess=True)
    assert get_transform(tmp_path / 'exported')(picture[0]).dtype == np.uint8
    with refused('train=True crops squares'):
        get_transform(tmp_path / 'exported', train=True)
    (tmp_path / 'run' / 'model.json').write_text('{"model": 3}')
    for folder, says in ((run_folder, 'lacks'), (tmp_path, "is not a training run's folder")):
        with refused(says):
            get_transform(folder)


@pytest.mark.parametrize(
    'call, says',
    [
        (lambda: get_transform('nothing'), 'Unknown model'),
        (lambda: Transform('resnet50'), 'spec must be a ModelSpec'),
        (lambda: get_transform('unet_aff_resnet8', train=True), 'train=True crops squares for a classifier'),
        (lambda: get_transform(SHIPPED, train=True, seed=-1), 'seed must be a whole number'),
        (lambda: get_transform(SHIPPED)('none.png'), 'There is no file none.png'),
        (lambda: get_transform(SHIPPED)(np.zeros((4, 4, 3))), 'An image is a path'),
        (lambda: get_transform(SHIPPED, train=True)(None), 'An image is a path'),
        (lambda: predict('fashion_mnist_aff_resnet9', 'none.png'), 'did you mean fashion_mnist_aff_resnet8'),
        (lambda: predict(SHIPPED, 'none.png'), 'There is no file none.png'),
        (lambda: predict(SHIPPED, 'none.png', top_k=0), 'top_k must be a positive whole number'),
        (lambda: Predictor('fashion_mnist_aff_resnet9'), 'did you mean fashion_mnist_aff_resnet8'),
        (lambda: Predictor(SHIPPED, 'onnxruntime'), 'MXNet computes a network that is not exported'),
    ],
)
def test_a_mistake_is_one_sentence(call, says):
    with refused(says):
        call()


# predict and Predictor


def test_predict_and_predictor_take_names_and_folders(run_folder, tmp_path, picture):
    path, pixels = picture
    expected = Predictor(SHIPPED).predict([path, path], top_k=2)
    assert predict(SHIPPED, [pixels, str(path)], top_k=2) == expected and len(expected[0]) == 2
    expected = Predictor(load_model(run_folder)).predict(path)
    assert predict(run_folder, path) == Predictor(str(run_folder)).predict(path) == expected
    assert sorted(name for name, _ in expected[0]) == ['cat', 'dog', 'owl']
    weights = str(run_folder / 'best.params')
    assert load_model('cifar_aff_resnet8', weights).spec == load_model(run_folder).spec
    assert predict('cifar_aff_resnet8', path, weights=weights) == expected
    export(load_model(run_folder), str(tmp_path / 'exported'))
    (predictions,) = predict(tmp_path / 'exported', path, backend='mxnet')
    assert [name for name, _ in predictions] == [name for name, _ in expected[0]]


def test_predictor_finds_a_name_where_nothing_else_has_been_imported():
    code = (
        'import sys; from gluon_aff.deploy import Predictor; assert "model_zoo" not in sys.modules; '
        f'print(Predictor({SHIPPED!r}).spec.name)'
    )
    out = subprocess.run([sys.executable, '-c', code], cwd=TOP, capture_output=True, text=True, check=True).stdout
    assert out.strip() == SHIPPED


# What is printed


def test_a_card_and_a_model_fit_a_screen():
    for name in list_models():
        lines = repr(model_info(name)).splitlines()
        assert sum(1 + len(line) // 80 for line in lines) <= 20 and lines[0] == 'ModelCard(', name
    text = repr(load_model(SHIPPED))
    assert len(text) < 8 * 80 and 'CifarResNet' in text and "'Ankle boot') [10]" in text
    assert "class_names=('cat', 'owl')" in repr(replace(model_info(SHIPPED).spec, class_names=('cat', 'owl')))


def test_networks_print_their_widths():
    text = str(AFF(64, reduction=4))
    assert 'PointwiseConv(64 -> 16)' in text and 'PointwiseConv(16 -> 64)' in text
    assert 'PointwiseConv(None -> None)' in str(AFF())
    assert str(FUSIONS['add'](64)) == 'Add(64)' and 'PointwiseConv(128 -> 64, bias=False)' in str(FUSIONS['concat'](64))
    fuse = AFF()
    fuse.initialize()
    fuse(mx.nd.ones((2, 8, 3, 3)), mx.nd.ones((2, 8, 3, 3)))
    assert 'PointwiseConv(8 -> 2)' in str(fuse)
    for build in (ECAResNet, LIPResNet, lambda *args: GEResNet(*args, input_size=32)):
        assert '(\n\n' not in str(build((1, 1, 1, 1)))
