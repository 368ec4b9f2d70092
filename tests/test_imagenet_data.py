"""Images in folders and RecordIO files: what is found, refused and left out, how it is changed, and in what order."""

import collections
import errno
import io
import os
import random as python_random
import struct
import threading

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from scipy.stats import ks_2samp
from sklearn.datasets import load_sample_images

from gluon_aff.data.augmentation import crop_box, draw_colours, random_resized_crop, recolour, write_training
from gluon_aff.data.autoaugment import AutoAugment
from gluon_aff.data.class_folders import ImageFiles, image_folders
from gluon_aff.data.imagenet import Images
from gluon_aff.data.images import opened, read_image
from gluon_aff.data.preprocessing import evaluation_array, normalise, short_side
from gluon_aff.data.record_file import RecordFile
from gluon_aff.data.record_writer import write_records
from model_zoo.cli import main

PHOTOS = load_sample_images().images
STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def photo(number, width=60, height=40):
    """A crop of a photograph, another one for each number."""
    top, left = np.random.RandomState(number).randint(0, 300, 2)
    return Image.fromarray(PHOTOS[number % 2][top : top + height, left : left + width])


def tree(root, classes, count, name='{}.jpg'):
    """A folder of `count` images for each class; all images differ."""
    for number, label in enumerate(classes):
        os.makedirs(os.path.join(root, label))
        for i in range(count):
            photo(1000 * number + i).save(os.path.join(root, label, name.format(i)))
    return root


def pair(root, classes='ab', train=4, val=2):
    tree(root / 'train', classes, train)
    tree(root / 'val', classes, val)
    return root


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """26 training images of 2 classes."""
    return image_folders(pair(tmp_path_factory.mktemp('files'), train=13), workers=1).train


def batches(loader, number=0, start=0):
    """Copies of what an epoch gives."""
    return [(data.copy(), label) for data, label in loader.epoch(number, start)]


def joined(epoch):
    """Arrays of a list of batches in one."""
    return tuple(np.concatenate(arrays) for arrays in zip(*epoch))


def same(ones, others):
    return len(ones) == len(others) and all(
        np.array_equal(a, b) for one, other in zip(ones, others) for a, b in zip(one, other)
    )


def test_classes_are_the_sorted_folder_names_and_val_has_the_numbers_of_train(tmp_path):
    tree(tmp_path / 'train', ['b', 'Éclair', 'a 1', 'B'], 1)
    tree(tmp_path / 'val', ['b', 'B'], 2)
    folders = image_folders(tmp_path)
    assert folders.class_names == folders.train.class_names == folders.val.class_names == ('B', 'a 1', 'b', 'Éclair')
    assert folders.train.target.tolist() == [0, 1, 2, 3] and folders.val.target.tolist() == [0, 0, 2, 2]
    assert folders.skipped == {}
    assert [os.path.basename(os.path.dirname(path)) for path in folders.val.paths] == ['B', 'B', 'b', 'b']


def test_every_kind_of_image_and_of_name_is_read(tmp_path):
    pair(tmp_path)
    folder = tmp_path / 'train' / 'a'
    for old in folder.iterdir():
        old.unlink()
    left = np.zeros((40, 60), np.uint8)
    left[:, :30] = 200
    grey = Image.fromarray(left)
    (folder / 'deep' / 'deeper').mkdir(parents=True)
    grey.save(folder / 'GREY.JPG')
    grey.convert('CMYK').save(folder / 'cmyk.jpeg')
    grey.convert('P').save(folder / 'deep' / 'palette.gif')
    grey.convert('RGB').save(folder / 'deep' / 'deeper' / '写真 é.webp', lossless=True)
    grey.convert('RGBA').save(folder / 'alpha.png')
    grey.convert('LA').save(folder / 'grey alpha.png')
    grey.convert('1', dither=Image.NONE).point(lambda v: v * 200 // 255, 'L').save(folder / 'x.BMP')
    Image.fromarray(left.astype(np.uint16) * 257).save(folder / 'sixteen.png')
    Image.fromarray(left.astype(np.uint16) * 257).save(folder / 'sixteen.tif')
    exif = grey.getexif()
    exif[0x0112] = 6
    grey.rotate(90, expand=True).save(folder / 'turned.jpg', exif=exif, quality=100)
    grey.save(folder / 'really a png.jpg', 'PNG')
    for hidden in ('.hidden.jpg', '._GREY.JPG', '.DS_Store'):
        (folder / hidden).write_text('no image')
    (folder / '.cache').mkdir()
    (folder / '.cache' / 'x.jpg').write_text('no image')
    (tmp_path / 'elsewhere').mkdir()
    grey.save(tmp_path / 'elsewhere' / 'linked.png')
    (folder / 'link.png').symlink_to(tmp_path / 'elsewhere' / 'linked.png')
    (folder / 'link').symlink_to(tmp_path / 'elsewhere')
    (folder / 'link' / 'back').symlink_to(folder)
    folders = image_folders(tmp_path)
    assert folders.skipped == {}
    assert (folders.train.target == 0).sum() == 13
    data, label = joined(Images(folders.train, 40, 5, (0,) * 3, (1,) * 3, crop_ratio=1.0).epoch())
    for path, image in zip(folders.train.paths, data[label == 0] * 255):
        assert np.abs(image[:, :, :18] - 200).max() < 6 and np.abs(image[:, :, 22:]).max() < 6, path


def test_five_per_cent_corrupt_files_are_named_and_skipped(tmp_path):
    tree(tmp_path / 'train', 'ab', 50)
    tree(tmp_path / 'val', 'ab', 2)
    jpeg = io.BytesIO()
    photo(5, 300, 200).save(jpeg, 'JPEG', progressive=True)
    bad = {
        'train/a/3.jpg': b'',
        'train/a/4.jpg': b'<html>not found</html>',
        'val/b/1.jpg': jpeg.getvalue()[:2000],
        'train/b/0.jpg': (tmp_path / 'train/b/0.jpg').read_bytes()[:-40],
        'train/b/x.png': b'\x89PNG\r\n\x1a\n' + bytes(60),
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / 'train' / 'b' / 'dangling.jpg').symlink_to(tmp_path / 'nowhere')
    (tmp_path / 'train' / 'b' / 'notes.txt').write_text('x')
    (tmp_path / 'train' / 'beside.jpg').write_bytes(jpeg.getvalue())
    folders = image_folders(tmp_path, workers=3)
    also = ['train/b/dangling.jpg', 'train/b/notes.txt', 'train/beside.jpg']
    assert set(folders.skipped) == {str(tmp_path / name) for name in [*bad, *also]}
    assert len(folders.train) == 97 and len(folders.val) == 3
    assert not set(folders.skipped) & {*folders.train.paths, *folders.val.paths}
    for path, why in folders.skipped.items():
        assert path in why and '\n' not in why


@given(kept=st.floats(0, 0.999), options=st.sampled_from([{}, {'progressive': True}, {'quality': 100}]))
@settings(max_examples=40)
def test_reduced_decoding_finds_every_file_that_is_cut_short(kept, options):
    """Even where Pillow was told to make do with them, as importing gluoncv.data does."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    whole = io.BytesIO()
    photo(1, 200, 150).save(whole, 'JPEG', **options)
    content = whole.getvalue()[: int(kept * (len(whole.getvalue()) - 2))]

    def decoded(reduced):
        try:
            with opened(io.BytesIO(content), 'x') as image:
                if reduced:
                    image.draft(None, (1, 1))
                image.load()
            return True
        except ValueError:
            return False

    assert not decoded(True) and not decoded(False)


@given(data=st.data(), kind=st.sampled_from(['JPEG', 'PNG', 'GIF', 'BMP']))
@settings(max_examples=150)
def test_damaged_bytes_are_an_image_or_one_sentence(data, kind):
    image, content = Image.new('RGB', (30, 20), (1, 2, 3)), io.BytesIO()
    exif = image.getexif()
    exif.update({0x0112: 6, 0x010E: 'hello'})
    image.save(content, kind, **({'exif': exif} if kind in ('JPEG', 'PNG') else {}))
    content = bytearray(content.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 400) - 1))] = data.draw(st.integers(0, 255))
    try:
        with opened(io.BytesIO(bytes(content)), 'x') as image:
            assert read_image(io.BytesIO(bytes(content))).mode == 'RGB'
    except ValueError as error:
        assert '\n' not in str(error)


def files_in(*names):
    def make(root):
        pair(root)
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text('no image')

    return make


def without(*names):
    def make(root):
        pair(root)
        for name in names:
            os.rename(root / name, root / ('.' + name.replace('/', '-')))

    return make


@pytest.mark.parametrize(
    'make, fraction, says',
    [
        (without('val'), None, 'no folder .*val;.*val_fraction'),
        (without('train'), None, 'no folder .*train;'),
        (without('train', 'val'), 0.5, 'no class folder'),
        (without('train/a', 'train/b'), None, 'train has no class folder'),
        (without('train/a'), None, 'train has one class folder'),
        (files_in('train/c/x.jpg'), None, r'Class c of .*train is empty: none of its 1 image files'),
        (files_in('train/c/x.txt'), None, r'Class c of .*train is empty: its folder holds no image file'),
        (files_in('val/a/x.jpg', 'val/d/.x.jpg'), None, r'Class d of .*val is empty'),
        (lambda root: tree(pair(root) / 'val', ['x', 'y'], 1), None, r'val has class folders that .*train lacks: x, y'),
        (pair, 0.1, 'has train/ and val/; leave val_fraction out'),
        (lambda root: tree(root, 'ab', 3), 0.0, 'between 0 and 1, got 0'),
        (lambda root: tree(root, 'ab', 3), 1, 'between 0 and 1, got 1'),
        (lambda root: tree(root, 'ab', 1), 0.5, 'one image for each class'),
        (lambda root: root.rmdir(), 0.5, 'There is no folder'),
    ],
)
def test_trees_that_do_not_fit_are_refused_in_one_sentence(tmp_path, make, fraction, says):
    root = tmp_path / 'data'
    root.mkdir()
    make(root)
    with pytest.raises((ValueError, FileNotFoundError), match=says) as caught:
        image_folders(root, fraction)
    assert '\n' not in str(caught.value)


@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=3), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 5)
)
@settings(max_examples=15)
def test_a_split_is_of_each_class_and_of_names_and_seed_alone(tmp_path_factory, counts, fraction, seed):
    if max(counts) == 1:
        return
    splits = []
    for reverse in (False, True):
        root = tmp_path_factory.mktemp('split')
        names = [f'{label}/{i}.png' for label, count in zip('abc', counts) for i in range(count)]
        for name in reversed(names) if reverse else names:
            (root / name).parent.mkdir(exist_ok=True)
            Image.new('L', (2, 2)).save(root / name)
        folders = image_folders(root, fraction, seed=seed)
        splits.append([[os.path.relpath(path, root) for path in split.paths] for split in (folders.train, folders.val)])
        assert sorted(splits[-1][0] + splits[-1][1]) == sorted(names)
        for number, count in enumerate(counts):
            held_out = (folders.val.target == number).sum()
            assert 0 < (folders.train.target == number).sum() and (held_out > 0) == (count > 1)
            assert abs(held_out - count * fraction) <= 1
    assert splits[0] == splits[1]


@given(width=st.integers(1, 400), height=st.integers(1, 400), seed=st.integers(0, 1000))
@settings(max_examples=200)
def test_a_crop_lies_inside_and_within_the_bounds_of_area_and_aspect(width, height, seed):
    left, top, wide, tall = crop_box(width, height, np.random.RandomState(seed))
    assert left >= 0 and top >= 0 and wide >= 1 and tall >= 1 and left + wide <= width and top + tall <= height
    if (wide, tall) != (min(width, height),) * 2:
        # Half a pixel is what rounding can add or take.
        assert (wide - 0.5) / (tall + 0.5) <= 4 / 3 and (wide + 0.5) / max(tall - 0.5, 1e-9) >= 3 / 4
        assert (wide + 0.5) * (tall + 0.5) >= 0.08 * width * height
    else:
        assert abs(2 * left + wide - width) <= 1 or wide <= width


def test_crops_are_distributed_as_mxnets_are():
    image = mx.nd.zeros((60, 90, 1))
    theirs = np.array([mx.image.random_size_crop(image, (2, 2), (0.08, 1), (3 / 4, 4 / 3))[1] for _ in range(1500)])
    random = np.random.RandomState(0)
    ours = np.array([crop_box(90, 60, random) for _ in range(1500)])
    for values in (
        lambda box: box[:, 0],
        lambda box: box[:, 1],
        lambda box: box[:, 2] * box[:, 3],
        lambda box: box[:, 2] / box[:, 3],
    ):
        assert ks_2samp(values(ours), values(theirs)).pvalue > 0.01


def test_an_image_too_long_for_any_crop_gives_the_square_in_its_middle():
    assert crop_box(1000, 10, np.random.RandomState(0)) == (495, 0, 10, 10)
    assert crop_box(3, 200, np.random.RandomState(0)) == (0, 98, 3, 3)


@pytest.mark.parametrize('orientation', [1, 3, 6])
def test_a_large_jpeg_is_decoded_to_less_and_gives_the_same_crop(orientation):
    image = Image.fromarray(PHOTOS[0])
    exif = image.getexif()
    exif[0x0112] = orientation
    jpeg, png = io.BytesIO(), io.BytesIO()
    image.save(jpeg, 'JPEG', quality=95, exif=exif)
    Image.open(jpeg).save(png, 'PNG', exif=exif)
    sizes = []
    for seed in range(12):
        with opened(jpeg) as image:
            ours = random_resized_crop(image, 32, np.random.RandomState(seed))
            sizes.append(image.size)
        with opened(png) as image:
            expected = random_resized_crop(image, 32, np.random.RandomState(seed))
        ours, expected = np.asarray(ours, float), np.asarray(expected, float)
        shifted = min(np.abs(np.roll(ours, shift, axis) - expected).mean() for shift in (-1, 1) for axis in (0, 1))
        assert ours.shape == (32, 32, 3) and np.abs(ours - expected).mean() < min(3, shifted / 3)
    assert min(sizes) < (200, 200) < max(sizes)


def recoloured(pixels, *changes):
    """`recolour` of another array, (3, H, W)."""
    values = pixels.transpose(2, 0, 1).astype(np.float32)
    recolour(values, *changes)
    return values


def by_mxnet(name, factor, image, monkeypatch):
    """One of mxnet.image's changes, with a factor that it did not draw."""
    make = {
        'brightness': mx.image.BrightnessJitterAug,
        'contrast': mx.image.ContrastJitterAug,
        'saturation': mx.image.SaturationJitterAug,
    }[name]
    with monkeypatch.context() as patch:
        patch.setattr(python_random, 'uniform', lambda low, high: factor - 1)
        return make(0.4)(image)


def test_colours_are_changed_as_mxnet_image_does(monkeypatch):
    pixels = np.asarray(photo(3))
    random = np.random.RandomState(0)
    orders = set()
    for _ in range(20):
        jitter, light = draw_colours(random)
        orders.add(tuple(name for name, _ in jitter))
        assert sorted(orders.copy().pop()) == ['brightness', 'contrast', 'saturation']
        assert all(0.6 <= factor <= 1.4 for _, factor in jitter)
        expected = mx.nd.array(pixels, dtype=np.float32)
        for name, factor in jitter:
            expected = by_mxnet(name, factor, expected, monkeypatch)
        expected = np.clip(expected.asnumpy() + light, 0, 255).transpose(2, 0, 1)
        np.testing.assert_allclose(recoloured(pixels, jitter, light), expected, atol=1e-3)
    assert len(orders) == 6


@pytest.mark.parametrize('name', ['brightness', 'contrast', 'saturation'])
@pytest.mark.parametrize('factor', [0.6, 1.0, 1.4])
def test_each_change_of_colours_is_its_definition(name, factor):
    pixels = np.asarray(photo(2))
    image = pixels.astype(float)
    grey = image @ [0.299, 0.587, 0.114]
    other = {'brightness': 0, 'contrast': grey.mean(), 'saturation': grey[..., None]}[name]
    expected = np.clip(factor * image + (1 - factor) * other, 0, 255).transpose(2, 0, 1)
    ours = recoloured(pixels, [(name, factor)], (0, 0, 0))
    np.testing.assert_allclose(ours, expected, atol=1e-3)
    if name != 'saturation':
        # Gluon's takes 0.114 of blue for the grey, in MXNet 1.9.1.
        gluons = getattr(mx.nd.image, f'random_{name}')(mx.nd.array(pixels, dtype=np.uint8), factor, factor)
        np.testing.assert_allclose(ours, gluons.asnumpy().transpose(2, 0, 1), atol=1.01)


def test_light_is_that_of_mxnet_and_alexnet(monkeypatch):
    random = np.random.RandomState(4)
    jitter, light = draw_colours(random)
    again = np.random.RandomState(4)
    again.permutation(3), again.uniform(size=3)
    alpha = again.normal(0, 0.1, 3)
    gluons = mx.nd.image.adjust_lighting(mx.nd.zeros((2, 2, 3)), alpha=tuple(alpha))
    np.testing.assert_allclose(light, gluons.asnumpy()[0, 0], atol=1e-3)
    np.testing.assert_allclose(recoloured(np.full((2, 2, 3), 100), [], light)[:, 0, 0], 100 + light, rtol=1e-5)


def test_half_of_the_images_are_mirrored_and_values_are_normalised():
    ramp = Image.fromarray(np.broadcast_to(np.arange(0, 250, 10, np.uint8)[:, None], (5, 25, 3)).copy())
    mirrored = 0
    for seed in range(200):
        values = np.empty((3, 5, 25), np.float32)
        write_training(values, ramp, *STATISTICS, np.random.RandomState(seed))
        mirrored += values[0, 0, 0] > values[0, 0, -1]
        random = np.random.RandomState(seed)
        random.rand()
        expected = recoloured(np.asarray(ramp), *draw_colours(random)).transpose(1, 2, 0) / 255
        expected = ((expected - STATISTICS[0]) / STATISTICS[1]).transpose(2, 0, 1)
        np.testing.assert_allclose(np.sort(values), np.sort(expected), atol=1e-5)
    assert 75 < mirrored < 125


def test_autoaugment_takes_the_place_of_the_change_of_colours(files):
    policy = AutoAugment('imagenet')
    data, _ = joined(Images(files, 24, 13, *STATISTICS, train=True, augment=policy, seed=3).epoch(2))
    order = np.random.RandomState([3, 2]).permutation(26)
    for index, values in zip(order, data):
        random = np.random.RandomState([3, 2, index])
        with files.open(index) as image:
            image = random_resized_crop(image, 24, random)
        mirrored = random.rand() < 0.5
        expected = normalise(np.asarray(policy(image, random))[None], *STATISTICS)[0]
        np.testing.assert_array_equal(values[:, :, ::-1] if mirrored else values, expected)


@pytest.mark.parametrize(
    'size, crop_ratio, side', [(224, 0.875, 256), (32, 1.0, 32), (21, 0.7, 30), (224, 0.9, 249), (299, 0.875, 342)]
)
def test_the_short_side_is_rounded_up_as_in_gluoncvs_scripts(size, crop_ratio, side):
    assert short_side(size, crop_ratio) == side


def test_an_epoch_does_not_depend_on_threads_or_batch_size_but_on_seed_and_number(files):
    reference = joined(Images(files, 24, 13, *STATISTICS, train=True, workers=1, seed=1).epoch(4))
    for options in ({'workers': 2}, {'workers': 5}, {'batch_size': 2}):
        loader = Images(
            files, 24, **{'batch_size': 13, **options}, mean=STATISTICS[0], std=STATISTICS[1], train=True, seed=1
        )
        assert same([joined(loader.epoch(4))], [reference])
    for seed, number in ((1, 5), (2, 4)):
        other = joined(Images(files, 24, 13, *STATISTICS, train=True, seed=seed).epoch(number))
        assert not np.array_equal(other[0], reference[0]) and not np.array_equal(other[1], reference[1])


def test_seed_epoch_and_image_decide_a_crop(files):
    data, _ = next(Images(files, 8, 4, *STATISTICS, train=True, seed=3).epoch(2))
    expected = np.empty((4, 3, 8, 8), np.float32)
    for out, index in zip(expected, np.random.RandomState([3, 2]).permutation(len(files))):
        random = np.random.RandomState([3, 2, index])
        with files.open(index) as image:
            write_training(out, random_resized_crop(image, 8, random), *STATISTICS, random, None)
    np.testing.assert_array_equal(data, expected)


@given(size=st.integers(1, 3), batch_size=st.integers(2, 5), number=st.integers(0, 3), train=st.booleans())
@settings(max_examples=12)
def test_the_shards_together_are_what_one_worker_sees(files, size, batch_size, number, train):
    def loader(batch_size, shard=(0, 1)):
        return Images(files, 8, batch_size, *STATISTICS, train=train, shard=shard, workers=2)

    whole = batches(loader(batch_size * size), number)
    shards = [batches(loader(batch_size, (index, size)), number) for index in range(size)]
    if train:
        assert len(whole) == 26 // (batch_size * size) == len(loader(batch_size, (0, size)))
        assert same(whole, [joined(one_each) for one_each in zip(*shards)])
    else:
        everything = joined(whole)
        for index, shard in enumerate(shards):
            assert same([joined(shard)], [tuple(array[index::size] for array in everything)])
            assert len(shard) == len(loader(batch_size, (index, size)))


def test_validation_is_every_image_once_in_order_as_evaluated(files):
    loader = Images(files, 24, 4, *STATISTICS)
    whole = batches(loader)
    assert [len(data) for data, _ in whole] == [4] * 6 + [2] and len(loader) == 7
    data, label = joined(whole)
    assert label.tolist() == files.target.tolist() and label.dtype == np.float32 == data.dtype
    for path, values in zip(files.paths, data):
        np.testing.assert_array_equal(values, evaluation_array(read_image(path), (3, 24, 24), *STATISTICS))


class Counted(ImageFiles):
    """Image files that note which of them are opened."""

    def open(self, index):
        self.__dict__.setdefault('opened', collections.Counter())[index] += 1
        return super().open(index)


def counted(files):
    return Counted(files.class_names, files.paths, files.target)


@pytest.mark.parametrize('train', [True, False])
def test_resuming_gives_the_rest_of_the_epoch_and_reads_nothing_else(files, train):
    source = counted(files)
    loader = Images(source, 16, 4, *STATISTICS, train=train)
    whole = batches(loader, 3)
    for start in (0, 2, len(loader) - 1, len(loader)):
        source.opened.clear()
        assert same(batches(loader, 3, start), whole[start:])
        assert sum(source.opened.values()) == sum(len(label) for _, label in whole[start:])


def test_stopping_early_leaves_no_thread_and_reads_few_batches_in_advance(files):
    source, before = counted(files), threading.active_count()
    epoch = Images(source, 16, 2, *STATISTICS, train=True, workers=3).epoch()
    next(epoch)
    assert threading.active_count() > before
    epoch.close()
    assert threading.active_count() == before
    assert sum(source.opened.values()) <= 6
    with pytest.raises(KeyError):
        for _ in Images(source, 16, 2, *STATISTICS, train=True, workers=3).epoch():
            raise KeyError('of the consumer')
    assert threading.active_count() == before


def test_an_error_of_a_thread_reaches_the_consumer_as_it_is(files):
    class OwnError(Exception):
        pass

    def fail(image, random):
        if random.rand() < 0.1:
            raise OwnError('a fault of the policy')
        return image

    before = threading.active_count()
    with pytest.raises(OwnError, match='a fault of the policy'):
        batches(Images(files, 16, 2, *STATISTICS, train=True, augment=fail))
    assert threading.active_count() == before


def test_a_file_that_is_gone_or_broken_since_the_check_is_named(tmp_path):
    files = image_folders(pair(tmp_path)).train
    loader = Images(files, 16, 8, *STATISTICS, train=True)
    os.remove(files.paths[5])
    with pytest.raises(ValueError, match=f'There is no file {files.paths[5]}'):
        batches(loader)
    with open(files.paths[5], 'w') as file:
        file.write('no image')
    with pytest.raises(ValueError, match=f'{files.paths[5]} is not an image that can be read'):
        batches(loader)


@pytest.mark.parametrize(
    'options, says',
    [
        ({'batch_size': 38}, r'batch_size must be 2 to (\d+), as there are \1 training images, got 38'),
        ({'batch_size': 1}, 'batch_size must be 2 to'),
        ({'batch_size': 0}, 'batch_size must be a positive'),
        ({'batch_size': 13, 'shard': (0, 3)}, 'batch_size must be 2 to (8|12) for each of 3 processes'),
        ({'shard': (2, 2)}, r'shard must be \(index, count\) .* got \(2, 2\)'),
        ({'shard': (-1, 2)}, 'shard must be'),
        ({'workers': 0}, 'workers must be'),
        ({'size': 0}, 'size must be'),
    ],
)
def test_loaders_refuse_what_does_not_fit(files, records, options, says):
    given_options = {'size': 16, 'batch_size': 4, 'train': True, **options}
    for source in (files, records):
        with pytest.raises(ValueError, match=says):
            Images(source, mean=STATISTICS[0], std=STATISTICS[1], **given_options)


@pytest.fixture(scope='module')
def packed(tmp_path_factory):
    """What gluon-aff records makes of 26 + 7 images, two unreadable, and names of all kinds."""
    root = tmp_path_factory.mktemp('records')
    tree(root / 'tree', ['cat', 'ça va', 'owl'], 11)
    os.rename(root / 'tree/owl/3.jpg', root / 'tree/owl/a\tb\nc.jpg')
    os.rename(root / 'tree/owl/4.jpg', root / 'tree/owl/ é;#?.jpg')
    (root / 'tree/cat/2.jpg').write_text('no image')
    (root / 'tree/cat/notes.txt').write_text('no image')
    photo(7).save(root / 'tree/cat/x.png')
    assert (
        main(
            [
                'records',
                str(root / 'tree'),
                '-o',
                str(root / 'new' / 'out'),
                '--val-fraction',
                '0.2',
                '--resize',
                '48',
                '--quality',
                '100',
                '--workers',
                '2',
            ]
        )
        == 1
    )
    return root / 'new' / 'out'


def test_packed_records_are_the_images_of_the_tree(packed):
    assert sorted(os.listdir(packed)) == ['classes.txt', 'train.idx', 'train.rec', 'val.idx', 'val.rec']
    folders = image_folders(packed.parent.parent / 'tree', 0.2)
    for name, files in (('train', folders.train), ('val', folders.val)):
        records = RecordFile(packed / f'{name}.rec', packed / f'{name}.idx')
        assert records.class_names == ('cat', 'owl', 'ça va') and len(records) == len(files)
        order = np.arange(len(files))
        if name == 'train':
            order = np.random.RandomState(0).permutation(order)
        assert records.target.tolist() == files.target[order].tolist()
        for index, of in enumerate(order):
            with records.open(index) as image:
                assert image.size == (72, 48) and image.format == 'JPEG'
                expected = read_image(files.paths[of]).resize((72, 48), Image.BILINEAR)
                assert np.abs(np.asarray(image, float) - np.asarray(expected, float)).mean() < 3
        ours = mx.recordio.MXIndexedRecordIO(str(packed / f'{name}.idx'), str(packed / f'{name}.rec'), 'r')
        for index in range(len(records)):
            header, content = mx.recordio.unpack(ours.read_idx(index))
            with records.open(index) as image:
                assert image.fp.getvalue() == content and header.label == records.target[index]


def test_packing_names_what_it_leaves_out(tmp_path, capsys):
    pair(tmp_path / 'tree')
    (tmp_path / 'tree/val/a/0.jpg').write_text('no image')
    assert main(['records', str(tmp_path / 'tree'), '-o', str(tmp_path / 'out'), '--resize', '0']) == 1
    out, err = capsys.readouterr()
    assert 'train.rec: 8 images of 2 classes' in out and 'val.rec: 3 images of 2 classes' in out
    assert f'{tmp_path}/tree/val/a/0.jpg is not an image' in err and '1 files were left out' in err
    with RecordFile(tmp_path / 'out/train.rec').open(0) as image:
        assert image.size == (60, 40)
    assert main(['records', str(tmp_path / 'tree'), '-o', str(tmp_path / 'out'), '--quality', '101']) == 2
    assert main(['records', str(tmp_path), '-o', str(tmp_path / 'other')]) == 2
    assert not (tmp_path / 'other').exists()


def test_packing_that_breaks_off_leaves_no_file(tmp_path, monkeypatch):
    pair(tmp_path / 'tree')

    def full(file, *record):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr('gluon_aff.data.record_writer.write_record', full)
    with pytest.raises(OSError, match="No space left on device: .*out'"):
        write_records(tmp_path / 'tree', tmp_path / 'out')
    assert os.listdir(tmp_path / 'out') == []


def record_file(path, images, index=True):
    """Write images (label, content) as MXNet does."""
    writer = mx.recordio.MXIndexedRecordIO(str(path.with_suffix('.idx')), str(path), 'w')
    for number, (label, content) in enumerate(images):
        writer.write_idx(number, mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), content))
    writer.close()
    if not index:
        os.remove(path.with_suffix('.idx'))


def encoded(image, kind='PNG'):
    content = io.BytesIO()
    image.save(content, kind)
    return content.getvalue()


def numbered(count, size=12):
    """Images of one grey each, that tell their number, which is their class."""
    return [(float(i), encoded(Image.new('RGB', (size, size), (5 * i + 3,) * 3))) for i in range(count)]


def test_classes_are_named_by_classes_txt_by_imagenet_or_by_number(tmp_path):
    from gluoncv.data import ImageNet1kAttr

    record_file(tmp_path / 'x.rec', numbered(3))
    assert RecordFile(tmp_path / 'x.rec').class_names == ('class 0', 'class 1', 'class 2')
    (tmp_path / 'classes.txt').write_text('a\nb\nc\nd\n')
    assert RecordFile(tmp_path / 'x.rec').class_names == ('a', 'b', 'c', 'd')
    (tmp_path / 'classes.txt').write_text('a\nb')
    with pytest.raises(ValueError, match='names 2 classes, but .* images of class 2'):
        RecordFile(tmp_path / 'x.rec')
    os.remove(tmp_path / 'classes.txt')
    record_file(tmp_path / 'x.rec', [(999.0, numbered(1)[0][1])])
    assert RecordFile(tmp_path / 'x.rec').class_names == tuple(ImageNet1kAttr().classes)


def test_an_image_with_the_magic_number_in_it_and_a_label_of_one_value_are_read(tmp_path):
    magic = struct.pack('<I', 0xCED7230A)
    content = encoded(Image.new('RGB', (9, 9), (7, 8, 9)), 'BMP')
    content += (-len(content) % 4) * b'\0' + magic + b'text' + magic
    writer = mx.recordio.MXRecordIO(str(tmp_path / 'x.rec'), 'w')
    for label in (1.0, [2.0]):
        writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, label, 0, 0), content))
    writer.close()
    assert (tmp_path / 'x.rec').read_bytes().count(magic) > 2
    records = RecordFile(tmp_path / 'x.rec')
    assert records.target.tolist() == [1, 2]
    ((data, label),) = batches(Images(records, 8, 2, (0,) * 3, (1,) * 3))
    np.testing.assert_allclose(data[1, :, 4, 4] * 255, (7, 8, 9), atol=0.01)
    assert label.tolist() == [1, 2]


JPEG_HEAD = encoded(photo(0), 'JPEG')[:400]


@pytest.mark.parametrize(
    'content, index, says',
    [
        (b'', None, 'holds no image'),
        (b'<html>not found</html>', None, 'is not a RecordIO file'),
        (lambda whole: whole[: len(whole) // 3], None, 'is cut short: image 1'),
        (lambda whole: whole[: len(whole) // 2], b'0\t0\n1\t112\n2\t224\n', 'does not belong to .*: it has 3 records'),
        (lambda whole: whole[:-9], None, 'is cut short: image 3'),
        (lambda whole: whole + b'\0' * 8, None, 'is damaged at byte'),
        (lambda whole: whole[:4] + b'\xff\xff\xff\x1f' + whole[8:], None, 'is cut short: image 0'),
        (lambda whole: whole[:4] + b'\x10\0\0\x20' + whole[8:], None, 'damaged at byte 0|not a RecordIO'),
        (lambda whole: whole[:7] + b'\x20' + whole[8:], None, 'is damaged at byte'),
        (lambda whole: whole[:7] + b'\x40' + whole[8:], None, 'is damaged at byte|not a RecordIO'),
        (lambda whole: whole, b'0\t0\n', 'does not belong to .*: it has 1 records, the file has 4'),
        (lambda whole: whole, b'0\t0\n1\t4\n2\t8\n3\t12\n', 'does not belong'),
        (lambda whole: whole, b'\xff\xfe', 'is not an index'),
        (lambda whole: whole, b'no index', 'is not an index'),
        ([(0.5, JPEG_HEAD)], None, 'has the label 0.5'),
        ([(-1.0, JPEG_HEAD)], None, 'has the label -1'),
        ([(1e9, JPEG_HEAD)], None, 'has the label 1e\\+09'),
        ([(float('nan'), JPEG_HEAD)], None, 'has the label nan'),
        ([([1.0, 2.0], JPEG_HEAD)], None, 'has 2 labels'),
        ([(0.0, b'')], None, 'is damaged|not a RecordIO|not an image'),
        ([(0.0, b'no image')], None, 'image 0 of .* is not an image that can be read'),
        ([(0.0, encoded(Image.fromarray(np.float32([[0, 1]])), 'TIFF'))], None, 'image 0 of .* floating-point numbers'),
        ([(0.0, encoded(photo(0))), (16777215.0, encoded(photo(0)))], None, 'has the label 16777215; .* 0 to 99999'),
    ],
)
def test_broken_record_files_are_refused_in_one_sentence(tmp_path, content, index, says):
    path = tmp_path / 'x.rec'
    record_file(path, content if isinstance(content, list) else numbered(4), index=False)
    if not isinstance(content, list):
        path.write_bytes(content(path.read_bytes()) if callable(content) else content)
    if index is not None:
        path.with_suffix('.idx').write_bytes(index)
    with pytest.raises(ValueError, match=says) as caught:
        RecordFile(path)
    assert '\n' not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_missing_record_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='no file .*x.rec; .*gluon-aff records'):
        RecordFile(tmp_path / 'x.rec')
    record_file(tmp_path / 'x.rec', numbered(2))
    with pytest.raises(FileNotFoundError, match='no file .*y.idx'):
        RecordFile(tmp_path / 'x.rec', tmp_path / 'y.idx')


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp('numbered') / 'semi;colon #1.rec'
    record_file(path, numbered(37), index=False)
    return RecordFile(path)


def test_an_image_of_records_that_is_damaged_inside_or_too_large_is_left_out_by_name(tmp_path):
    png = bytearray(encoded(photo(0)))
    png[len(png) // 2] ^= 255
    damaged = [JPEG_HEAD[:100] + bytes(300) + b'\xff\xd9', bytes(png)]
    record_file(tmp_path / 'x.rec', [*numbered(3), *((3.0, content) for content in damaged)], index=False)
    with open(tmp_path / 'x.rec', 'ab') as file:
        begin, length = file.tell(), 2**28 + 24
        file.write(struct.pack('<II', 0xCED7230A, length) + bytes(24))
        file.truncate(begin + 8 + length)
    source = RecordFile(tmp_path / 'x.rec', workers=2)
    assert source.target.tolist() == [0, 1, 2] and sorted(source.skipped) == [3, 4, 5]
    for number, sentence in source.skipped.items():
        assert sentence.startswith(f'image {number} of {tmp_path}') and '\n' not in sentence
    assert 'more than the 256 MiB' in source.skipped[5]
    ((data, label),) = batches(Images(source, 8, 3, *STATISTICS, train=True))
    assert sorted(label.tolist()) == [0, 1, 2]


def test_a_record_file_gives_whole_epochs_to_images_as_folders_do(packed):
    source = RecordFile(packed / 'train.rec')
    whole = batches(Images(source, 16, 6, *STATISTICS, train=True), 2)
    shards = [batches(Images(source, 16, 3, *STATISTICS, train=True, workers=1, shard=(i, 2)), 2) for i in (0, 1)]
    assert same(whole, [joined(one_each) for one_each in zip(*shards)]) and len(whole) == len(source) // 6
