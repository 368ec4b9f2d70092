"""Images and data sets: what is read is what was there, and what is broken is refused by name."""

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gluon_aff.data.cifar import Batches
from gluon_aff.data.image_sets import digits, fashion_mnist, hold_out, subset
from gluon_aff.data.preprocessing import evaluation_array, normalise

HALF = ((0.5,) * 3, (0.25,) * 3)


def idx(array):
    return struct.pack(f'>BBBB{array.ndim}I', 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def fashion_dir(tmp_path):
    """Fashion-MNIST's four files with a few made-up images, half of them gzipped."""
    random = np.random.RandomState(0)
    for prefix, count in (('train', 12), ('t10k', 5)):
        images, target = random.randint(0, 256, (count, 28, 28)), random.randint(0, 10, count)
        (tmp_path / f'{prefix}-images-idx3-ubyte.gz').write_bytes(gzip.compress(idx(images), mtime=0))
        (tmp_path / f'{prefix}-labels-idx1-ubyte').write_bytes(idx(target))
    return tmp_path


def test_digits_are_all_of_them_split_without_overlap():
    data = digits()
    assert data.train[0].shape == (1437, 32, 32, 1) and data.test[0].shape == (360, 32, 32, 1)
    assert set(data.test[1]) == set(range(10)) == set(map(int, data.class_names))
    train, test = ({image.tobytes() for image in part[0]} for part in (data.train, data.test))
    assert not train & test


def test_stated_normalisation_centres_the_digits():
    data = digits()
    values = normalise(data.train[0], data.mean, data.std)
    assert abs(values.mean()) < 1e-2 and abs(values.std() - 1) < 1e-2


def test_fashion_mnist_reads_gzipped_and_plain_files(fashion_dir):
    data = fashion_mnist(str(fashion_dir))
    assert data.train[0].shape == (12, 32, 32, 1) and data.test[1].shape == (5,)
    assert len(data.class_names) == 10


def test_fashion_mnist_is_looked_for_where_mxnet_puts_it(fashion_dir, monkeypatch):
    (fashion_dir / 'datasets').mkdir()
    (fashion_dir / 'datasets' / 'fashion-mnist').symlink_to(fashion_dir)
    monkeypatch.setenv('MXNET_HOME', str(fashion_dir))
    np.testing.assert_array_equal(fashion_mnist().test[0], fashion_mnist(str(fashion_dir)).test[0])


@pytest.mark.parametrize(
    'file, content, says',
    [
        ('train-labels-idx1-ubyte', None, 'needs'),
        ('train-labels-idx1-ubyte', b'', 'not an IDX file'),
        ('train-labels-idx1-ubyte', b'<html>not found</html>', 'not an IDX file'),
        ('train-labels-idx1-ubyte', idx(np.zeros(12))[:-1], 'fetch it again'),
        ('train-labels-idx1-ubyte', struct.pack('>BBBBI', 0, 0, 8, 1, 2**32 - 1), 'fetch it again'),
        ('train-labels-idx1-ubyte', idx(np.zeros(11)), 'is not Fashion-MNIST'),
        ('train-labels-idx1-ubyte', idx(np.full(12, 10)), 'is not Fashion-MNIST'),
        ('train-images-idx3-ubyte.gz', gzip.compress(idx(np.zeros((12, 28, 28))), mtime=0)[:-20], 'cannot be read'),
        ('train-images-idx3-ubyte.gz', b'\x1f\x8b' + b'x' * 40, 'cannot be read'),
        ('train-images-idx3-ubyte.gz', gzip.compress(b'', mtime=0)[:10] + b'x' * 40, 'cannot be read'),
        ('t10k-images-idx3-ubyte.gz', gzip.compress(idx(np.zeros((5, 27, 28))), mtime=0), 'is not Fashion-MNIST'),
    ],
)
def test_broken_fashion_mnist_is_refused_in_one_sentence(fashion_dir, file, content, says):
    (fashion_dir / file).unlink()
    if content is not None:
        (fashion_dir / file).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=says) as caught:
        fashion_mnist(str(fashion_dir))
    assert '\n' not in str(caught.value) and str(fashion_dir) in str(caught.value)


def numbered(count, channels=1):
    """Images that are told apart by their constant value, 1 to count."""
    images = np.arange(1, count + 1, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(images, (count, 32, 32, channels)), np.arange(count)


@given(count=st.integers(2, 60), batch_size=st.integers(2, 60), epoch=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_training_batches_are_full_and_hold_each_image_at_most_once(count, batch_size, epoch):
    images, target = numbered(count)
    if batch_size > count:
        with pytest.raises(ValueError, match='batch_size'):
            Batches(images, target, batch_size, *HALF, train=True)
        return
    batches = list(Batches(images, target, batch_size, *HALF, train=True).epoch(epoch))
    labels = np.concatenate([label for _, label in batches])
    assert all(len(label) == batch_size for _, label in batches)
    assert len(set(labels)) == len(labels) == count // batch_size * batch_size
    for data, label in batches:
        # A crop may bring in zeros, but never another image's value.
        largest = (data * 0.25 + 0.5).max(axis=(1, 2, 3)) * 255
        np.testing.assert_allclose(largest, label + 1, rtol=1e-4)


@given(count=st.integers(1, 60), batch_size=st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_test_batches_hold_every_image_once_and_in_order(count, batch_size):
    images, target = numbered(count)
    batches = Batches(images, target, batch_size, *HALF)
    labels = [label for _, label in batches.epoch()]
    assert np.concatenate(labels).tolist() == list(range(count)) and len(labels) == len(batches)


def test_an_epoch_is_decided_by_seed_and_number():
    data = digits()

    def epoch(seed, number):
        images, label = next(Batches(*data.train, 64, *HALF, train=True, flip=True, seed=seed).epoch(number))
        return np.append(images.ravel(), label)

    assert np.array_equal(epoch(1, 2), epoch(1, 2))
    assert not np.array_equal(epoch(1, 2), epoch(1, 3))
    assert not np.array_equal(epoch(1, 2), epoch(2, 2))


def test_an_epoch_is_in_the_order_that_the_released_runs_had():
    images, target = numbered(12)
    order = np.random.RandomState(7 * 100003 + 2).permutation(12)
    epoch = Batches(images, target, 4, *HALF, train=True, seed=7).epoch(2)
    assert [int(label) for _, labels in epoch for label in labels] == target[order].tolist()


def test_augmentation_is_of_each_image_whatever_the_batch_size_and_of_training_only():
    images, target = numbered(12, channels=1)

    def noted(image, random):
        assert image.mode == 'RGB'
        return image.point(lambda value: random.randint(100, 200))

    def colours(batch_size, epoch, train=True):
        batches = Batches(images, target, batch_size, *HALF, train=train, augment=noted, seed=1)
        return {int(label): data.max() for batch in batches.epoch(epoch) for data, label in zip(*batch)}

    assert colours(12, 1) == colours(3, 1) != colours(3, 2)
    assert len(set(colours(12, 1).values())) > 3
    assert max(colours(12, 1, train=False).values()) < 0, 'the images are dark, and stay so'


def test_seed_epoch_and_image_decide_an_augmentation():
    def shade(image, random):
        return Image.new('RGB', image.size, (int(random.randint(1, 256)),) * 3)

    batches = Batches(*numbered(8), 4, *HALF, train=True, augment=shade, seed=3)
    for data, label in batches.epoch(2):
        expected = [np.random.RandomState([3, 2, int(index)]).randint(1, 256) for index in label]
        np.testing.assert_allclose((data.max((1, 2, 3)) * 0.25 + 0.5) * 255, expected, rtol=1e-4)


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=6), data=st.data())
def test_a_subset_holds_each_class_in_its_share(counts, data):
    target = np.random.RandomState(1).permutation(np.repeat(np.arange(len(counts)), counts))
    images = np.arange(len(target))
    number = data.draw(st.integers(1, len(target)))
    chosen, labels = subset(images, target, number)
    assert len(set(chosen)) == number and (target[chosen] == labels).all()
    for label, count in enumerate(counts):
        assert abs((labels == label).sum() - number * count / len(target)) <= len(counts) / 2 + 1
    assert set(subset(images, target, number - 1 or 1)[0]) <= set(chosen)
    np.testing.assert_array_equal(subset(images, target, number)[0], chosen)


def test_images_that_are_held_out_are_no_others_and_of_all_classes():
    target = np.repeat([0, 1, 2], [600, 300, 100])
    images = np.arange(1000)
    (first, first_target), (second, second_target) = hold_out(images, target, 100)
    assert sorted([*first, *second]) == images.tolist() and np.bincount(second_target).tolist() == [60, 30, 10]
    assert (target[first] == first_target).all() and (target[second] == second_target).all()
    assert np.bincount(subset(first, first_target, 90)[1]).tolist() == [54, 27, 9]
    np.testing.assert_array_equal(hold_out(images, target, 100)[1][0], second)
    for size in (1000, 1001):
        with pytest.raises(ValueError, match=f'1000 images, of which {size} cannot be held out'):
            hold_out(images, target, size)


def test_a_subset_of_uneven_classes_keeps_the_proportions():
    target = np.repeat([0, 1, 2], [600, 300, 100])
    assert np.bincount(subset(target, target, 100)[1]).tolist() == [60, 30, 10]


def test_more_images_than_there_are_are_refused():
    with pytest.raises(ValueError, match='has 5 images, fewer than the 6'):
        subset(np.zeros(5), np.zeros(5), 6)


def test_a_training_batch_of_one_image_is_refused():
    with pytest.raises(ValueError, match='batch_size'):
        Batches(*numbered(5), 1, *HALF, train=True)


def test_flips_only_where_told():
    left = np.zeros((400, 32, 32, 1), np.uint8)
    left[:, :, :8] = 255

    def bright_on_the_right(flip):
        data, _ = next(Batches(left, np.zeros(400), 400, *HALF, train=True, flip=flip).epoch())
        return (data[:, :, :, 16:].mean(axis=(1, 2, 3)) > data[:, :, :, :16].mean(axis=(1, 2, 3))).sum()

    assert bright_on_the_right(False) == 0
    assert 160 <= bright_on_the_right(True) <= 240


def test_normalise_is_the_formula_and_grey_becomes_rgb():
    random = np.random.RandomState(0)
    rgb = random.randint(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    np.testing.assert_allclose(normalise(rgb, mean, std), ((rgb / 255 - mean) / std).transpose(0, 3, 1, 2), atol=1e-5)
    grey = rgb[..., :1]
    np.testing.assert_array_equal(normalise(grey, mean, std), normalise(grey.repeat(3, axis=3), mean, std))


@given(width=st.integers(1, 300), height=st.integers(1, 300), crop_ratio=st.sampled_from([0.875, 1.0]))
@settings(max_examples=40, deadline=None)
def test_any_picture_becomes_the_input_size(width, height, crop_ratio):
    picture = Image.new('RGB', (width, height), (10, 20, 30))
    array = evaluation_array(picture, (3, 64, 48), *HALF, crop_ratio)
    assert array.shape == (3, 64, 48) and array.dtype == np.float32
    np.testing.assert_allclose(array[:, 5, 5], (np.array([10, 20, 30]) / 255 - 0.5) / 0.25, atol=1e-5)


def test_evaluation_takes_the_centre_as_gluoncv_does():
    """Against GluonCV's own transform, whose OpenCV resize does not average as Pillow's does when it shrinks."""
    mx = pytest.importorskip('mxnet')
    from gluoncv.data.transforms.presets.imagenet import transform_eval
    from sklearn.datasets import load_sample_image

    photo = load_sample_image('flower.jpg')
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ours = evaluation_array(Image.fromarray(photo), (3, 224, 224), mean, std)
    theirs = transform_eval(mx.nd.array(photo, dtype='uint8'), resize_short=256, crop_size=224)[0].asnumpy()

    def error(array):
        return np.abs(array - theirs).mean()

    assert error(ours) < 0.08
    assert error(ours) < 0.8 * min(error(np.roll(ours, shift, axis)) for shift in (-1, 1) for axis in (1, 2))


def test_evaluation_of_an_image_of_the_input_size_keeps_its_pixels():
    pixels = np.random.RandomState(0).randint(0, 256, (32, 32, 3)).astype(np.uint8)
    np.testing.assert_array_equal(
        evaluation_array(Image.fromarray(pixels), (3, 32, 32), *HALF, 1.0), normalise(pixels[None], *HALF)[0]
    )
