"""The Predictor: threads, shapes, several images at once, sizes; and the predict command's flags."""

import threading
from dataclasses import replace

import cv2
import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from reference import available, error, filled, loaded, refused

from gluon_aff.deploy import Predictor, export
from gluon_aff.deploy.predictor import BACKENDS
from model_zoo import get_model
from model_zoo.cli import main
from model_zoo.loading import load_model

pytest.importorskip('onnx', reason="needs the extra 'onnx'")
pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")

SHIPPED = 'fashion_mnist_aff_resnet8'
FPN = 'fpn_aff_resnet8'


def pixels(*shape):
    return np.random.RandomState(0).randint(0, 256, (*shape, 3)).astype(np.uint8)


def data(count, side):
    return np.random.RandomState(side).randn(count, 3, side, side).astype(np.float32)


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp('export') / 'exported'
    export(load_model(SHIPPED), str(folder))
    return str(folder)


@pytest.fixture(scope='module')
def segmenter():
    return loaded(FPN, filled(get_model(FPN)), ('no', 'yes'), (3, 48, 32), (0.5,) * 3, (0.2,) * 3)


@pytest.fixture(scope='module')
def fixed(segmenter, tmp_path_factory):
    folder = tmp_path_factory.mktemp('export') / 'fixed'
    export(segmenter, str(folder), dynamic=False)
    return str(folder)


def test_opencv_is_right_after_other_shapes(exported):
    opencv, expected = Predictor(exported, 'opencv'), Predictor(exported, 'onnxruntime')
    for side, count in ((4, 1), (32, 1), (64, 2), (4, 3), (32, 2), (32, 1)):
        assert error(opencv.logits(data(count, side)), expected.logits(data(count, side))) <= 1e-5


@pytest.mark.parametrize('backend', ['mxnet', 'onnxruntime', 'opencv', None])
def test_several_threads_call_one_network(exported, backend):
    predictor, opened = Predictor(exported, backend), load_model(SHIPPED)
    batches = [data(1 + number % 2, 16) + number for number in range(16)]
    expected = [predictor.logits(batch) for batch in batches]
    outputs = {}

    def ask(first):
        asked = predictor if backend else Predictor(opened)
        for number in range(first, 64, 4):
            outputs[number] = asked.logits(batches[number % 16])

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outputs) == 64 and max(error(outputs[number], expected[number % 16]) for number in outputs) <= 1e-5


def test_arrays_of_several_images_are_taken(exported, segmenter, tmp_path):
    predictor, batch = Predictor(exported), pixels(3, 40, 32)
    one_by_one = [predictor.predict(image)[0] for image in batch]
    for images in (batch, list(batch), [batch[:2], Image.fromarray(batch[2])]):
        for predictions, expected in zip(predictor.predict(images, batch_size=2), one_by_one):
            assert [label for label, _ in predictions] == [label for label, _ in expected]
            assert [p for _, p in predictions] == pytest.approx([p for _, p in expected], abs=1e-6)
    with refused(r'An image is a path or an RGB array \(H, W, 3\) of uint8, got \(40, 32, 4\)'):
        predictor.predict(np.zeros((2, 40, 32, 4), np.uint8))

    predictor = Predictor(segmenter)
    expected = [segmenter.segment(image) for image in batch]
    for number, image in enumerate(batch):
        Image.fromarray(image).save(tmp_path / f'{number}.png')
    for images in (batch, list(batch), [batch[:2], Image.fromarray(batch[2])], str(tmp_path)):
        maps = predictor.segment(images)
        assert isinstance(maps, list) and len(maps) == 3
        np.testing.assert_array_equal(maps, expected)
    np.testing.assert_array_equal(predictor.segment(str(tmp_path / '1.png')), expected[1])
    probabilities = predictor.segment(batch[0], probabilities=True)
    assert probabilities.shape == (2, 40, 32) and probabilities.dtype == np.float32
    assert np.abs(probabilities.sum(0) - 1).max() <= 1e-6
    np.testing.assert_array_equal(probabilities.argmax(0), expected[0])


@pytest.mark.parametrize('backend', [name for name in BACKENDS if 'int8' not in name and 'bf16' not in name])
def test_a_segmentation_network_of_one_size_takes_images_of_any(segmenter, fixed, backend):
    predictor = Predictor(fixed, available(backend))
    image = pixels(48, 32)
    assert (predictor.segment(image) == segmenter.segment(image)).mean() > 0.999
    # Half as large, upright: the network sees it enlarged in the middle, with the mean colour above and below.
    small = np.asarray(Image.fromarray(pixels(16, 16)).resize((16, 16)))
    seen = np.full((48, 32, 3), 128, np.uint8)
    seen[8:40] = np.asarray(Image.fromarray(small).resize((32, 32), Image.BILINEAR))
    inside = Predictor(segmenter).segment(seen, probabilities=True)[:, 8:40]
    expected = np.stack([np.asarray(Image.fromarray(score).resize((16, 16), Image.BILINEAR)) for score in inside])
    assert np.abs(predictor.segment(small, probabilities=True) - expected).max() <= 1e-4
    for height, width in ((1, 1), (500, 3), (97, 301)):
        assert predictor.segment(pixels(height, width)).shape == (height, width)


def test_a_device_or_threads_that_a_backend_has_not_are_refused(exported):
    for backend in ('onnxruntime', 'opencv'):
        with refused("computes on the CPU only; use backend 'mxnet'"):
            Predictor(exported, backend, ctx=mx.gpu(0))
    for source, backend in ((exported, 'mxnet'), (exported, 'opencv'), (load_model(SHIPPED), None)):
        with refused('threads is for ONNX Runtime'):
            Predictor(source, backend, threads=1)
    with refused('threads must be a positive whole number'):
        Predictor(exported, threads=0)


def called(capsys, *args):
    status = main([str(arg) for arg in args])
    return (status, *capsys.readouterr())


def test_flags_that_do_nothing_are_refused(exported, fixed, capsys, tmp_path):
    Image.fromarray(pixels(20, 30)).save(tmp_path / 'a.png')
    for flags, says in (
        (('--gpu', 0, '--backend', 'onnxruntime'), '--gpu is for MXNet, and --backend onnxruntime'),
        (('--gpu', 99), '--gpu 99 is not there'),
        (('--gpu', -1), '--gpu -1 is not there'),
    ):
        status, out, err = called(capsys, 'predict', exported, tmp_path, *flags)
        assert status == 2 and says in err and err.count('\n') == 1 and not out
    for flag, value in (('--top-k', 5), ('--format', 'table'), ('--batch-size', 2)):
        status, out, err = called(capsys, 'predict', fixed, tmp_path, '-o', tmp_path / 'o', flag, value)
        assert status == 2 and f'{flag} is for classification networks' in err and err.count('\n') == 1
    status, out, err = called(capsys, 'predict', fixed, tmp_path / 'a.png', '-o', tmp_path / 'o')
    assert status == 0 and 'takes images of 32 x 48 only; others are scaled' in err
    assert Image.open(out.strip()).size == (30, 20)


def test_predict_computes_batches_and_names_every_image_in_order(exported, capsys, tmp_path, monkeypatch):
    for number in range(5):
        Image.fromarray(np.roll(pixels(33, 40), number)).save(tmp_path / f'{number}.png')
    (tmp_path / '2.png').write_bytes(b'no image')
    sizes, logits = [], Predictor.logits
    monkeypatch.setattr(Predictor, 'logits', lambda self, batch: sizes.append(len(batch)) or logits(self, batch))
    results = [
        called(capsys, 'predict', exported, tmp_path, '--format', 'csv', '--batch-size', size) for size in (1, 2, 9)
    ]
    assert sizes == [1, 1, 1, 1, 2, 1, 1, 4]
    for status, out, err in results:
        assert status == 1 and '2.png is not an image' in err and '1 of 5 images could not be read' in err
        assert [line.split(',')[:2] for line in out.splitlines()[1::5]] == [
            [str(tmp_path / f'{number}.png'), '1'] for number in (0, 1, 3, 4)
        ]


def test_a_network_that_fails_ends_the_command(exported, capsys, tmp_path, monkeypatch):
    Image.fromarray(pixels(20, 30)).save(tmp_path / 'a.png')
    monkeypatch.setattr(
        cv2.dnn,
        'readNetFromONNX',
        lambda *_: type(
            'Net',
            (),
            {'setInput': lambda self, batch: None, 'forward': lambda self: np.full((1, 10), np.nan, np.float32)},
        )(),
    )
    status, out, err = called(capsys, 'predict', exported, tmp_path, '--backend', 'opencv')
    assert (status, out) == (2, '') and 'returns values that are not finite' in err and err.count('\n') == 1


def test_a_network_of_one_channel_sees_grey(tmp_path):
    net = filled(get_model('cifar_add_resnet8', classes=3, in_channels=1))
    # Of values for three channels it takes the first.
    model = loaded('cifar_add_resnet8', net, ('a', 'b', 'c'), (1, 32, 32), (0.4, 0.5, 0.6), (0.3, 0.2, 0.1))
    folders = [str(tmp_path / name) for name in ('floats', 'pixels')]
    for folder in folders:
        export(model, folder, preprocess=folder == folders[1])
    image = Image.fromarray(pixels(32, 32))
    grey = (np.asarray(image.convert('L'), np.float32)[None, None] / 255 - 0.4) / 0.3
    scores = net(mx.nd.array(grey)).asnumpy()[0]
    expected = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    cases = [(folder, name) for folder in folders for name in ('mxnet', 'onnxruntime', 'opencv')][:-1]
    for predictor in (Predictor(model), *(Predictor(*case) for case in cases)):
        assert dict(predictor.predict(image)[0]) == pytest.approx(dict(zip('abc', expected.tolist())), abs=1e-5)
    with refused('takes no uint8 images'):
        Predictor(folders[1], 'opencv')
    with refused('takes 4 channels, and images have three'):
        replace(Predictor(model).spec, input_size=(4, 32, 32)).feed(pixels(1, 32, 32))
