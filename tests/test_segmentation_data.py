"""COCO masks and batches of them: what is read is what was drawn, and what cannot be trusted is left out by name."""

import copy
import importlib.util
import json
import re
import time
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest
from gluoncv.loss import SoftmaxCrossEntropyLoss
from gluoncv.utils.metrics.segmentation import SegmentationMetric
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from reference import refused

from gluon_aff.data import coco
from gluon_aff.data.coco import CocoSegmentation
from gluon_aff.data.masks import IGNORED, SegmentationBatches, overlay_names, random_view

HALF = ((0.5,) * 3, (0.25,) * 3)
WIDTH, HEIGHT = 24, 16


def runs(mask):
    """Uncompressed run-length encoding: column by column, zeros first."""
    values = mask.ravel(order='F')
    edges = np.flatnonzero(np.diff(values)) + 1
    counts = np.diff([0, *edges, len(values)]).tolist()
    return {'counts': ([0] if values[0] else []) + counts, 'size': list(mask.shape)}


def compressed(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {'counts': encoded['counts'].decode(), 'size': list(mask.shape)}


def box(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def annotation(number, image, segmentation, category=13, **more):
    return {
        'id': number,
        'image_id': image,
        'category_id': category,
        'iscrowd': 0,
        'segmentation': segmentation,
        **more,
    }


CONTENT = {
    'categories': [{'id': 1, 'name': 'person'}, {'id': 13, 'name': 'stop sign'}, {'id': 9, 'name': 'boat'}],
    'images': [{'id': number, 'file_name': f'{number}.png', 'width': WIDTH, 'height': HEIGHT} for number in (3, 4, 5)],
    'annotations': [
        annotation(31, 3, [box(2, 3, 7, 9)], bbox=[2, 3, 5, 6]),
        annotation(32, 3, [box(0, 0, 24, 16)], category=1),
        annotation(41, 4, [box(10, 5, 12, 6)]),
        annotation(51, 5, [box(0, 0, 5, 5)], category=1),
    ],
}


@pytest.fixture
def folder(tmp_path):
    random = np.random.RandomState(0)
    for entry in CONTENT['images']:
        Image.fromarray(random.randint(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)).save(tmp_path / entry['file_name'])
    return tmp_path


def read(folder, content=CONTENT, category='stop sign'):
    path = Path(folder) / 'instances.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return CocoSegmentation(str(path), str(folder), category)


def changed(change):
    content = copy.deepcopy(CONTENT)
    change(content)
    return content


def mask_of(*boxes):
    mask = np.zeros((HEIGHT, WIDTH), np.int32)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 1
    return mask


# Masks


def test_images_of_the_category_are_read_with_their_masks(folder):
    data = read(folder)
    assert (
        data.class_names == ('background', 'stop sign') and data.ids == [3, 4] and len(data) == 2 and data.report == []
    )
    image, mask = data[0]
    assert image.dtype == np.uint8 and mask.dtype == np.int32
    np.testing.assert_array_equal(image, np.asarray(Image.open(folder / '3.png')))
    np.testing.assert_array_equal(mask, mask_of((2, 3, 7, 9)))
    people = read(folder, category='person')
    assert people.ids == [3, 5] and people[0][1].all()


@settings(max_examples=60)
@given(data=st.data(), height=st.integers(1, 9), width=st.integers(1, 9))
def test_run_lengths_compressed_or_not_give_the_mask_that_they_encode(tmp_path_factory, data, height, width):
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width)))
    mask = mask.reshape(height, width)
    mask[data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))] = True
    folder = tmp_path_factory.mktemp('rle')
    Image.new('RGB', (width, height)).save(folder / '1.png')
    for encoded in (runs(mask), compressed(mask)):
        rle_data = read(
            folder,
            {
                'categories': CONTENT['categories'],
                'annotations': [annotation(1, 1, encoded)],
                'images': [{'id': 1, 'file_name': '1.png', 'width': width, 'height': height}],
            },
        )
        np.testing.assert_array_equal(rle_data[0][1], mask)


def test_long_runs_are_decompressed(folder):
    mask = np.zeros((700, 900), bool)
    mask[100:650, 3:890] = True
    Image.new('RGB', (900, 700)).save(folder / '3.png')
    data = read(
        folder,
        changed(
            lambda c: (
                c['images'][0].update(width=900, height=700),
                c['annotations'][0].update(segmentation=compressed(mask), bbox=None),
            )
        ),
    )
    np.testing.assert_array_equal(data[0][1], mask)


def test_parts_of_an_object_and_several_objects_are_one_mask(folder):
    data = read(
        folder,
        changed(
            lambda c: c['annotations'].extend(
                [
                    annotation(33, 3, [box(10, 0, 12, 4), box(20, 10, 24, 16)]),
                    annotation(34, 3, runs(mask_of((0, 15, 3, 16)))),
                ]
            )
        ),
    )
    np.testing.assert_array_equal(data[0][1], mask_of((2, 3, 7, 9), (10, 0, 12, 4), (20, 10, 24, 16), (0, 15, 3, 16)))


def test_crowds_are_ignored_where_no_object_is(folder):
    crowd = mask_of((0, 0, 12, 16))
    data = read(folder, changed(lambda c: c['annotations'].insert(0, annotation(30, 3, runs(crowd), iscrowd=1))))
    expected = np.where(crowd, IGNORED, 0)
    expected[3:9, 2:7] = 1
    np.testing.assert_array_equal(data[0][1], expected)
    assert data.report == []


# What cannot be trusted


def first(**fields):
    return lambda content: content['annotations'][0].update(fields)


def polygon(*points):
    return first(segmentation=[list(points)])


def counts(values, size=(HEIGHT, WIDTH)):
    return first(segmentation={'counts': values, 'size': list(size)})


GOOD = box(2, 3, 7, 9)
DISTRUSTED = {
    'no points': (polygon(), 'annotation 31 has a polygon that is not three points'),
    'two points': (polygon(1, 1, 5, 5), 'annotation 31 has a polygon that is not three points'),
    'half a point': (polygon(1, 1, 5, 5, 3, 1, 2), 'annotation 31 has a polygon that is not three points'),
    'words': (polygon(1, 1, 5, 5, 3, 'a'), 'annotation 31 has a polygon that is not three points'),
    'not a number': (polygon(1, 1, 5, 5, 3, float('nan')), 'annotation 31 has a polygon that is not three points'),
    'endless': (polygon(1, 1, 5, 5, 3, float('inf')), 'annotation 31 has a polygon that is not three points'),
    'huge': (polygon(1, 1, 5, 5, 3, 10**400), 'annotation 31 has a polygon that is not three points'),
    'a flat list': (first(segmentation=GOOD), 'annotation 31 has a polygon that is not three points'),
    'right of it': (polygon(2, 3, 26, 3, 2, 9), r'annotation 31 has a polygon from \(2, 3\) to \(26, 9\), outside'),
    'left of it': (polygon(-3, 3, 7, 3, 2, 9), 'outside the image of 24 x 16'),
    'below it': (polygon(2, 3, 7, 3, 2, 18), 'outside the image of 24 x 16'),
    'a line': (polygon(2, 3, 7, 3, 2, 3), 'annotation 31 has a polygon whose points lie on one line'),
    'a line beside a good one': (
        first(segmentation=[GOOD, [2, 3, 12, 13, 7, 8, 4, 5]]),
        'annotation 31 has a polygon whose points lie on one line',
    ),
    'a point': (first(segmentation=[[5, 5] * 4, GOOD]), 'annotation 31 has a polygon whose points lie on one line'),
    'less than a pixel': (polygon(2.1, 3.1, 2.3, 3.1, 2.3, 3.3), 'annotation 31 covers no pixel'),
    'endless outline': (polygon(*[0, 0, 24, 0, 24, 16] * 100), 'longer than the edges of all pixels'),
    'no segmentation': (first(segmentation=[]), 'annotation 31 has no segmentation'),
    'none': (first(segmentation=None), 'annotation 31 has no segmentation'),
    'no width': (first(bbox=[2, 3, 0, 6]), r'annotation 31 has a box of no area, \[2, 3, 0, 6\]'),
    'negative': (first(bbox=[2, 3, 5, -6]), 'annotation 31 has a box of no area'),
    'no box': (first(bbox=[]), 'annotation 31 has a box of no area'),
    'a box of words': (first(bbox=['2', '3', '5', '6']), 'annotation 31 has a box of no area'),
    'a box out of it': (first(bbox=[2, 3, 24, 6]), r'has a box, \[2, 3, 24, 6\], outside the image of 24 x 16'),
    'a box left of it': (first(bbox=[-4, 3, 11, 6]), 'has a box, .*, outside the image'),
    'a box elsewhere': (first(bbox=[7, 3, 5, 6]), r'has a box, \[7, 3, 5, 6\], outside of its segmentation'),
    'no such category': (
        lambda c: c['annotations'].append(annotation(33, 3, [GOOD], category=99)),
        'annotation 33 is of category 99, which the file does not list',
    ),
    'a category by name': (
        lambda c: c['annotations'].append(annotation(33, 3, [GOOD], category='stop sign')),
        'annotation 33 is of category stop sign, which the file does not list',
    ),
    'another crowd': (first(iscrowd=2), 'annotation 31 has an iscrowd that is neither 0 nor 1, 2'),
    'a crowd in words': (first(iscrowd='false'), "annotation 31 has an iscrowd that is neither 0 nor 1, 'false'"),
    'a list of crowds': (first(iscrowd=[0]), 'annotation 31 has an iscrowd that is neither 0 nor 1'),
    'another size': (counts([10, 4, 370], (WIDTH, HEIGHT)), 'annotation 31 has damaged run lengths'),
    'too short': (counts([10, 4, 300]), 'annotation 31 has damaged run lengths'),
    'too long': (counts([10, 4, 10**12]), 'annotation 31 has damaged run lengths'),
    'a negative count': (counts([10, -4, 378]), 'annotation 31 has damaged run lengths'),
    'a fraction': (counts([10.5, 4, 369.5]), 'annotation 31 has damaged run lengths'),
    'cut off': (counts(compressed(mask_of((2, 3, 7, 9)))['counts'][:-1]), 'annotation 31 has damaged run lengths'),
    'no code': (counts('~~~'), 'annotation 31 has damaged run lengths'),
    'no counts': (first(segmentation={'size': [HEIGHT, WIDTH]}), 'annotation 31 has damaged run lengths'),
    'nothing': (counts([HEIGHT * WIDTH]), 'annotation 31 covers no pixel'),
    'crowd only': (first(iscrowd=1), 'shows crowds only'),
    'missing file': (lambda c: c['images'][0].update(file_name='gone.png'), r'gone.png\) is left out: There is no'),
    'no file name': (lambda c: c['images'][0].pop('file_name'), 'it has no file_name'),
    'a number for a name': (lambda c: c['images'][0].update(file_name=3), 'it has no file_name'),
    'an empty name': (lambda c: c['images'][0].update(file_name=''), 'it has no file_name'),
    'a folder': (lambda c: c['images'][0].update(file_name='.'), 'is not an image that can be read'),
    'a zero byte': (lambda c: c['images'][0].update(file_name='3.png\0'), 'is not an image that can be read'),
    'lines in a name': (lambda c: c['images'][0].update(file_name='3\n\x1b[2J.png'), r'3\\n\\x1b\[2J.png'),
    'the folder above': (lambda c: c['images'][0].update(file_name='../3.png'), 'its file_name leaves the folder'),
    'up and down': (lambda c: c['images'][0].update(file_name='a/../../b/3.png'), 'its file_name leaves the folder'),
    'from the root': (lambda c: c['images'][0].update(file_name='/etc/3.png'), 'its file_name leaves the folder'),
    'another width': (lambda c: c['images'][0].update(width=25), 'it is 24 x 16, not 25 x 16'),
    'turned': (lambda c: c['images'][0].update(width=16, height=24), 'it is 24 x 16, not 16 x 24'),
    'no size': (lambda c: c['images'][0].pop('width'), 'it is 24 x 16, not None x 16'),
    'a fraction of a pixel': (lambda c: c['images'][0].update(width=24.5), 'it is 24 x 16, not 24.5 x 16'),
    'a size in words': (lambda c: c['images'][0].update(width='24.0'), "it is 24 x 16, not '24.0' x 16"),
    'an endless size': (lambda c: c['images'][0].update(width=float('inf')), 'it is 24 x 16, not inf x 16'),
    'an id twice': (lambda c: c['images'].append({**c['images'][0], 'file_name': '5.png'}), 'two images of this id'),
    'an edit': (lambda c: c['annotations'].append(annotation(31, 3, [box(0, 0, 3, 3)])), 'two annotations of id 31'),
    'of another category': (
        lambda c: c['annotations'].append(annotation(31, 3, [GOOD], category=9)),
        'two annotations of id 31',
    ),
}


@pytest.mark.parametrize('case', DISTRUSTED)
def test_image_whose_mask_cannot_be_trusted_is_left_out_and_reported_by_its_id(folder, case):
    change, says = DISTRUSTED[case]
    data = read(folder, changed(change))
    assert data.ids == [4] and len(data.report) == 1
    assert data.report[0].startswith('Image 3 (') and '\n' not in data.report[0]
    assert re.search(says, data.report[0]), data.report[0]
    np.testing.assert_array_equal(data[0][1], mask_of((10, 5, 12, 6)))


def test_an_annotation_of_an_image_that_is_not_listed_is_reported(folder):
    data = read(folder, changed(lambda c: c['annotations'].append(annotation(99, 77, [GOOD]))))
    assert data.ids == [3, 4] and data.report == ['Annotation 99 is of image 77, which the file does not list.']


def test_every_annotation_of_a_category_or_an_image_that_is_not_listed_is_reported(folder):
    data = read(
        folder,
        changed(
            lambda c: c['annotations'].extend(
                [
                    annotation(61, 5, [GOOD], category=99),
                    annotation(98, 77, [GOOD]),
                    annotation(99, 77, [GOOD], category='x'),
                ]
            )
        ),
    )
    assert data.ids == [3, 4] and [line.split(' is')[0] for line in data.report] == [
        'Annotation 98',
        'Annotation 99',
        f'Image 5 ({folder / "5.png"})',
    ]


WRITTEN = {'fractions': float, 'texts': str}


@pytest.mark.parametrize('form', WRITTEN)
def test_whole_numbers_may_be_written_as_floats_or_strings(folder, form):
    write = WRITTEN[form]

    def change(content):
        crowd = annotation(42, 4, runs(mask_of((0, 0, 3, 3))), iscrowd=1)
        content['annotations'].append(crowd)
        for entries in content.values():
            for entry in entries:
                entry.update(
                    {
                        key: write(entry[key])
                        for key in ('id', 'width', 'height', 'iscrowd', 'category_id', 'image_id')
                        if key in entry
                    }
                )
        crowd['segmentation'] = {key: list(map(write, values)) for key, values in crowd['segmentation'].items()}
        content['images'].reverse()
        content['images'][0].update(id=5)

    data = read(folder, changed(change))
    assert data.report == [] and data.ids == [4, 3] and set(map(type, data.ids)) == {int}
    np.testing.assert_array_equal(data[1][1], mask_of((2, 3, 7, 9)))
    np.testing.assert_array_equal(data[0][1], mask_of((10, 5, 12, 6)) - mask_of((0, 0, 3, 3)))


def test_categories_may_be_named_by_numbers(folder):
    for name in (7, 7.0, '7'):
        data = read(folder, changed(lambda c, name=name: c['categories'][1].update(name=name)), category='7')
        assert data.ids == [3, 4] and data.class_names == ('background', '7')


def test_strings_other_than_whole_numbers_are_ids_as_they_are(folder):
    def change(content):
        content['images'][0].update(id='003')
        content['images'][1].update(id='image-4')
        content['annotations'][0].update(image_id='003')
        content['annotations'][2].update(image_id='image-4')

    data = read(folder, changed(change))
    assert data.ids == ['003', 'image-4'] and 'image 3, which the file does not list' not in ' '.join(data.report)


@pytest.mark.parametrize('value', [True, False])
def test_iscrowd_may_be_true_or_false_and_is_false_where_it_is_missing(folder, value):
    data = read(
        folder,
        changed(
            lambda c: (
                c['annotations'][0].pop('iscrowd'),
                c['annotations'].append(annotation(33, 3, [box(10, 0, 12, 4)], iscrowd=value)),
            )
        ),
    )
    assert (data[0][1] == 1).sum() == (30 if value else 38) and (data[0][1] == IGNORED).sum() == (8 if value else 0)


def test_a_file_with_a_byte_order_mark_is_read(folder):
    (folder / 'instances.json').write_text(json.dumps(CONTENT), encoding='utf-8-sig')
    assert CocoSegmentation(str(folder / 'instances.json'), str(folder)).ids == [3, 4]


@pytest.mark.parametrize(
    'change',
    [
        first(segmentation={'counts': 'o' * 10**6, 'size': [HEIGHT, WIDTH]}),
        first(segmentation={'counts': '0' * 10**6, 'size': [HEIGHT, WIDTH]}),
        first(segmentation={'counts': ('O' * 12 + '?') * 10**5, 'size': [HEIGHT, WIDTH]}),
        polygon(*[0, 0, 24, 16, 0, 16] * 10**5),
    ],
    ids=['one number', 'zeros', 'large numbers', 'points'],
)
def test_a_large_wrong_segmentation_is_refused_quickly(folder, change):
    start = time.process_time()
    data = read(folder, changed(change))
    assert data.ids == [4] and 'annotation 31 has' in data.report[0] and len(data.report[0]) < 300
    assert time.process_time() - start < 3


def test_many_objects_of_one_image_are_read_in_time_that_grows_with_their_number(folder):
    Image.new('RGB', (1000, 1000)).save(folder / '3.png')
    dots = np.zeros((1000, 1000), bool)
    dots[::2] = True
    start = time.process_time()
    data = read(
        folder,
        changed(
            lambda c: (
                c['images'][0].update(width=1000, height=1000),
                c['annotations'][0].update(segmentation=compressed(dots)),
                c['annotations'].extend(annotation(n, 3, [box(2, 3, 7, 9)]) for n in range(100, 2100)),
            )
        ),
    )
    assert time.process_time() - start < 10
    assert data[0][1].sum() == 500_000 + 15


def test_what_is_wrong_with_other_categories_or_is_there_twice_alike_does_not_matter(folder):
    def change(content):
        content['annotations'][1].update(segmentation=[[1, 2]])
        content['annotations'].append(content['annotations'][0])
        content['images'].append(content['images'][0])

    data = read(folder, changed(change))
    assert data.ids == [3, 4] and data.report == []


def test_polygons_may_stick_out_by_a_pixel_as_cocos_do(folder):
    data = read(folder, changed(polygon(-0.5, -0.8, 24.6, -0.8, 24.6, 16.9, -0.5, 16.9)))
    assert data.report == [] and data[0][1].all()


@pytest.mark.parametrize('part', [0, 10, 100, 1000])
@pytest.mark.parametrize('suffix', ['png', 'jpg'])
def test_a_damaged_image_is_left_out(folder, suffix, part):
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(
        folder / f'a.{suffix}', quality=95
    )
    whole = (folder / f'a.{suffix}').read_bytes()
    assert len(whole) > 1000
    (folder / f'a.{suffix}').write_bytes(whole[:part])
    data = read(folder, changed(lambda c: c['images'][0].update(file_name=f'a.{suffix}')))
    assert data.ids == [4] and 'is not an image that can be read' in data.report[0]


@pytest.mark.parametrize('value', [0, 1, 2, 8, 9, 65535])
def test_an_image_that_its_exif_data_turn_is_left_out(folder, value):
    exif = Image.Exif()
    exif[0x0112] = value
    Image.open(folder / '3.png').save(folder / 'turned.jpg', exif=exif)
    data = read(folder, changed(lambda c: c['images'][0].update(file_name='turned.jpg')))
    if 2 <= value <= 8:
        assert data.ids == [4] and 'EXIF' in data.report[0]
    else:
        assert data.ids == [3, 4] and data.report == []


@pytest.mark.parametrize(
    'name, options',
    [
        ('x.png', {'exif': b'Exif\0\0garbage'}),
        ('x.webp', {'exif': b'garbage'}),
        ('x.jpg', {'exif': b'Exif\0\0MM\0*'}),
        ('x.jpg', {'exif': b'Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\1\0\1\0\0\0\6\0\0\0'}),
        ('x.tif', {'tiffinfo': {700: b'\xff'}}),
    ],
)
def test_damaged_metadata_and_an_orientation_that_is_none_leave_the_image(folder, name, options):
    Image.open(folder / '3.png').save(folder / name, **options)
    data = read(folder, changed(lambda c: c['images'][0].update(file_name=name)))
    assert data.ids == [3, 4] and data.report == [] and data[0][0].shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    'image, options, says',
    [
        (Image.new('RGB', (WIDTH, HEIGHT)), {'tiffinfo': {274: 6}}, 'EXIF or XMP data turn it'),
        (Image.new('RGB', (WIDTH, HEIGHT)), {'tiffinfo': {700: b'tiff:Orientation="6"'}}, 'EXIF or XMP data turn it'),
        (Image.new('F', (WIDTH, HEIGHT)), {}, 'floating-point numbers'),
    ],
)
def test_what_cannot_be_read_later_is_left_out_at_once(folder, image, options, says):
    image.save(folder / 'x.tif', **options)
    data = read(folder, changed(lambda c: c['images'][0].update(file_name='x.tif')))
    assert data.ids == [4] and says in data.report[0]


@pytest.mark.parametrize('mode', ['L', 'CMYK', 'RGBA'])
def test_images_of_other_modes_are_read_as_rgb(folder, mode):
    Image.open(folder / '3.png').convert(mode).save(folder / 'other.tif')
    data = read(folder, changed(lambda c: c['images'][0].update(file_name='other.tif')))
    assert data.ids == [3, 4] and data[0][0].shape == (HEIGHT, WIDTH, 3)


@given(text=st.text(st.characters(min_codepoint=1, max_codepoint=130), max_size=12))
def test_random_run_lengths_never_give_a_mask_of_another_size(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp('random')
    for number in (3, 4):
        Image.new('RGB', (WIDTH, HEIGHT)).save(folder / f'{number}.png')
    data = read(folder, changed(lambda c: (c['annotations'].pop(), counts(text)(c))))
    assert data.ids == [4] if data.report else data[0][1].shape == (HEIGHT, WIDTH)


# What is refused


@settings(max_examples=50)
@given(part=st.floats(0, 0.999))
def test_a_file_that_was_cut_off_is_refused(tmp_path_factory, part):
    whole = json.dumps(CONTENT)
    with refused('cannot be read as JSON'):
        read(tmp_path_factory.mktemp('cut'), whole[: int(part * len(whole))])


def without(section, index, key):
    return changed(lambda content: content[section][index].pop(key))


@pytest.mark.parametrize(
    'content, says',
    [
        ('[]', 'no list of images'),
        ('{"images": []}', 'no list of annotations'),
        ('"\\u00e9"', 'no list of images'),
        (changed(lambda c: c['images'][1].update(id=1.5)), 'entry 1 of its images has no id that is .*, but 1.5'),
        (changed(lambda c: c['images'][1].update(id=True)), 'entry 1 of its images has no id that is .*, but True'),
        (
            changed(lambda c: c['annotations'][1].update(image_id=float('nan'))),
            'of its annotations has no image_id that',
        ),
        (changed(lambda c: c['categories'][1].update(id={})), 'entry 1 of its categories has no id that is'),
        (without('images', 1, 'id'), 'entry 1 of its images has no id'),
        (without('annotations', 2, 'image_id'), 'entry 2 of its annotations has no image_id'),
        (without('annotations', 2, 'category_id'), 'entry 2 of its annotations has no category_id'),
        (without('categories', 0, 'name'), 'entry 0 of its categories has no name'),
        (changed(lambda c: c['annotations'].append(7)), 'entry 4 of its annotations has no id'),
        (changed(lambda c: c['categories'].append({'id': 13, 'name': 'cow'})), 'one id to the categories stop sign'),
        (changed(lambda c: c.update(annotations=[])), 'no image with a stop sign that can be used; no annotation'),
        (
            changed(lambda c: c.update(images=c['images'][:1], annotations=[annotation(7, 3, [])])),
            'can be used; Image 3 .* annotation 7 has no segmentation',
        ),
    ],
)
def test_what_is_no_instances_file_is_refused(folder, content, says):
    with refused(says):
        read(folder, content)


def spots(value, path=()):
    """Paths to all that a JSON value holds."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from spots(inner, (*path, key))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers(-10, 40)
    | st.sampled_from([10**30, -(2**63), 2**32])
    | st.text(max_size=5)
    | st.sampled_from(['3', '13', '24', '3.png', '0' * 50, '../3.png']),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(['counts', 'size', 'id']), inner),
    max_leaves=6,
)


@settings(max_examples=80)
@given(spot=st.sampled_from(list(spots(CONTENT))), value=JSON, crowd=st.booleans())
def test_a_file_with_anything_at_any_spot_is_read_or_refused_in_a_sentence(tmp_path_factory, spot, value, crowd):
    folder = tmp_path_factory.mktemp('any')
    for number in (3, 4):
        Image.new('RGB', (WIDTH, HEIGHT)).save(folder / f'{number}.png')

    def change(content):
        content['annotations'].append(annotation(33, 3, runs(mask_of((8, 3, 9, 9))), iscrowd=int(crowd)))
        *path, last = spot
        for key in path:
            content = content[key]
        content[last] = value

    try:
        data = read(folder, changed(change))
    except ValueError as error:
        assert '\n' not in str(error) and str(folder) in str(error)
        return
    assert all(mask.shape == (HEIGHT, WIDTH) and set(np.unique(mask)) <= {-1, 0, 1} for _, mask in data)
    assert all(line.endswith('.') and '\n' not in line for line in data.report) and set(data.ids) <= {3, 4}


def test_binary_rubbish_is_refused(folder):
    (folder / 'instances.json').write_bytes(b'\x89PNG\r\n\x1a\n\xff\xfe')
    with refused('cannot be read as JSON'):
        CocoSegmentation(str(folder / 'instances.json'), str(folder))


def test_an_unknown_category_is_refused_with_the_nearest_names(folder):
    with refused("Unknown category of .* 'stop sing'; did you mean stop sign"):
        read(folder, category='stop sing')


def test_names_of_categories_are_escaped_in_errors(folder):
    content = changed(
        lambda c: c['categories'].extend([{'id': 9, 'name': 'bo\nat'}, {'id': 20, 'name': 'st\x1bp sign'}])
    )
    with refused(r'did you mean stop sign or st\\x1bp sign\? Known: bo\\nat, boat, '):
        read(folder, content, category='stop sing')
    with refused(r'gives one id to the categories boat and bo\\nat'):
        read(folder, content, category='boat')


def test_a_missing_file_folder_or_library_is_refused(folder, monkeypatch):
    read(folder)
    with refused('no annotation file', FileNotFoundError):
        CocoSegmentation(str(folder / 'no.json'), str(folder))
    with refused('no folder of images', FileNotFoundError):
        CocoSegmentation(str(folder / 'instances.json'), str(folder / 'no'))
    monkeypatch.setattr(coco, 'run_lengths', None)
    with refused('pip install', ImportError):
        read(folder)


# Views


def scene(height, width):
    """An image that shows its own mask, a disc, in its red, and where each pixel is in the other colours."""
    rows, columns = np.mgrid[:height, :width]
    mask = ((rows - 0.4 * height) ** 2 + (columns - 0.6 * width) ** 2 < (min(height, width) / 3) ** 2).astype(np.int32)
    return np.stack([220 * mask, 255 * rows // height, 255 * columns // width], 2).astype(np.uint8), mask


@settings(max_examples=60)
@given(
    height=st.integers(5, 120),
    width=st.integers(5, 120),
    base=st.integers(20, 80),
    crop=st.integers(8, 64),
    seed=st.integers(0, 2**32 - 1),
)
def test_mask_of_a_view_is_where_the_object_is(height, width, base, crop, seed):
    image, mask = scene(height, width)
    view, labels = random_view(image, mask, base, crop, (10, 20, 30), np.random.RandomState(seed))
    assert view.shape == (crop, crop, 3) and view.dtype == np.uint8
    assert labels.shape == (crop, crop) and labels.dtype == np.int32
    inside = labels != IGNORED
    tall, wide = inside.any(1).sum(), inside.any(0).sum()
    assert inside[:tall, :wide].all() and inside.sum() == tall * wide, 'the padding is on the right and below'
    assert (view[~inside] == (10, 20, 30)).all()
    # Bilinear pixels and nearest labels part within two pixels of the object's edge.
    disc = (labels == 1).astype(np.uint8)[:tall, :wide]
    kernel = np.ones((5, 5), np.uint8)
    away = cv2.dilate(disc, kernel) == cv2.erode(disc, kernel)
    np.testing.assert_array_equal((view[:tall, :wide, 0] > 110)[away], disc[away])


def test_views_are_half_to_twice_the_base_size_mirrored_in_half_of_the_cases_and_anywhere():
    image, mask = scene(60, 90)
    sizes, mirrored, tops = [], 0, set()
    for seed in range(300):
        view, labels = random_view(image, mask, 40, 200, (0, 0, 0), np.random.RandomState(seed))
        inside = labels != IGNORED
        tall, wide = inside.any(1).sum(), inside.any(0).sum()
        assert tall == round(60 * wide / 90)
        sizes.append(wide)
        mirrored += view[0, 0, 2] > view[0, wide - 1, 2]
        tops.add(int(random_view(image, mask, 40, 16, (0, 0, 0), np.random.RandomState(seed))[0][0, 0, 1]))
    assert min(sizes) < 23 and max(sizes) > 77 and 20 <= min(sizes) and max(sizes) <= 80
    assert 110 < mirrored < 190 and len(tops) > 50


# Batches


class Scenes:
    """Scenes of several sizes, each of one shade of blue."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image, mask = scene(30 + index, 40)
        image[..., 2] = index
        return image, mask


def shades(images):
    """Which scenes a batch is of; padding is of the mean."""
    return [int(round(float(image[2, 0, 0] * 0.25 + 0.5) * 255)) for image in images]


def batches(count=11, batch_size=2, **options):
    options = {'train': True, 'base_size': 60, 'crop_size': 24, **options}
    return SegmentationBatches(Scenes(count), batch_size, *HALF, **options)


def same(ours, expected):
    return len(ours) == len(expected) and all((a == b).all() for x, y in zip(ours, expected) for a, b in zip(x, y))


def test_training_batches_have_each_image_at_most_once_in_another_order_each_epoch():
    loader = batches(seed=5)
    assert len(loader) == 5 and loader.batch_size == 2 and loader.seed == 5
    orders = []
    for epoch in (1, 2):
        whole = list(loader.epoch(epoch))
        assert [(x.shape, x.dtype, m.shape, m.dtype) for x, m in whole] == [
            ((2, 3, 24, 24), np.float32, (2, 24, 24), np.float32)
        ] * 5
        orders.append([shade for x, _ in whole for shade in shades(x)])
        assert len(set(orders[-1])) == 10 and set(orders[-1]) <= set(range(11))
    assert orders[0] != orders[1]


def test_an_epoch_depends_on_seed_and_number_alone_and_goes_on_from_any_batch():
    whole = list(batches().epoch(3))
    assert same(list(batches().epoch(3)), whole)
    assert same(list(batches().epoch(3, start=2)), whole[2:]) and list(batches().epoch(3, start=5)) == []
    assert not same(list(batches(seed=1).epoch(3)), whole) and not same(list(batches().epoch(4)), whole)


def test_seed_epoch_and_image_decide_a_view():
    order = np.random.RandomState([7, 3]).permutation(11)[:2]
    images, masks = next(batches(seed=7).epoch(3))
    for index, image, mask in zip(order, images, masks):
        view, expected = random_view(*Scenes(11)[index], 60, 24, (127.5,) * 3, np.random.RandomState([7, 3, index]))
        np.testing.assert_allclose((image.transpose(1, 2, 0) * 0.25 + 0.5) * 255, view, atol=1e-3)
        np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize('workers, batch_size', [(2, 2), (3, 2), (2, 5)])
def test_workers_batches_make_up_the_batches_of_one(workers, batch_size):
    one = list(batches(batch_size=workers * batch_size).epoch(1))
    shards = [batches(batch_size=batch_size, shard=(index, workers)) for index in range(workers)]
    assert {len(shard) for shard in shards} == {len(one)}
    together = [
        tuple(np.concatenate(arrays) for arrays in zip(*one_each))
        for one_each in zip(*(shard.epoch(1) for shard in shards))
    ]
    assert same(together, one)


def test_evaluation_takes_every_image_whole_and_in_order():
    loader = batches(batch_size=1, train=False)
    assert len(loader) == 11
    for number, (x, mask) in enumerate(loader.epoch()):
        image, expected = Scenes(11)[number]
        np.testing.assert_allclose(x[0], (image / 255 - 0.5).transpose(2, 0, 1) / 0.25, atol=1e-5)
        np.testing.assert_array_equal(mask, expected[None])
    assert [shades(x) for x, _ in loader.epoch(start=8)] == [[8], [9], [10]]


def test_in_evaluation_the_images_are_dealt_out_in_turn():
    for index, expected in enumerate(([0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8])):
        shard = batches(batch_size=1, train=False, shard=(index, 3))
        assert [shades(x)[0] for x, _ in shard.epoch()] == expected and len(shard) == len(expected)
        assert [shades(x)[0] for x, _ in shard.epoch(start=2)] == expected[2:]


@pytest.mark.parametrize(
    'options, says',
    [
        ({'batch_size': 1}, 'batch_size must be 2 to 11'),
        ({'batch_size': 12}, 'batch_size must be 2 to 11'),
        ({'batch_size': 6, 'shard': (0, 2)}, 'batch_size must be 2 to 5 for each of 2 processes'),
        ({'batch_size': 2, 'train': False}, 'batch_size must be 1 in evaluation'),
        ({'batch_size': 0}, 'batch_size must be a positive'),
        ({'crop_size': 0}, 'crop_size must be a positive'),
        ({'base_size': 1.5}, 'base_size must be a positive'),
        ({'shard': (2, 2)}, 'shard must be'),
        ({'shard': (-1, 2)}, 'shard must be'),
    ],
)
def test_batches_out_of_their_range_are_refused(options, says):
    with refused(says):
        batches(**options)


def test_gluoncvs_metric_and_loss_leave_out_ignored_pixels():
    logits = mx.nd.random.normal(shape=(2, 2, 8, 6))
    target = np.random.RandomState(0).randint(0, 2, (2, 8, 6)).astype('float32')
    target[:, 4:] = IGNORED
    whole, half = SegmentationMetric(2), SegmentationMetric(2)
    whole.update(mx.nd.array(target), logits)
    half.update(mx.nd.array(target[:, :4]), logits[:, :, :4])
    assert whole.get() == half.get()
    right = (logits.asnumpy().argmax(1) == target)[:, :4]
    assert whole.get()[0] == pytest.approx(right.mean())
    loss = SoftmaxCrossEntropyLoss(ignore_label=IGNORED)
    expected = -np.take_along_axis(mx.nd.log_softmax(logits, axis=1).asnumpy(), target[:, None].astype(int) % 2, 1)
    ours = loss(logits, mx.nd.array(target)).asnumpy()
    np.testing.assert_allclose(ours, (expected[:, 0] * (target >= 0)).mean((1, 2)), rtol=1e-5)


# Overlays


def test_overlays_have_names_of_their_own_whatever_their_folders():
    assert overlay_names(['a/p.png', 'a/q.jpg'], '.png') == {'a/p.png': 'p.png', 'a/q.jpg': 'q.png'}
    assert overlay_names(['x/p.png', 'y/p.png', 'q.png'], '-o.png') == {
        'x/p.png': 'x-p-o.png',
        'y/p.png': 'y-p-o.png',
        'q.png': 'q-o.png',
    }
    assert list(overlay_names(['a/p.png', 'a/p.jpg'], '.png').values()) == ['p.png.png', 'p.jpg.png']
    assert list(overlay_names(['x/p.png', 'y/p.png', 'x/p.jpg'], '.png').values()) == [
        'x-p.png.png',
        'y-p.png.png',
        'p.jpg.png',
    ]


@given(
    st.lists(
        st.lists(
            st.sampled_from(['x', 'X', 'y', 'x-y', '..', 'x-p', 'p.png', 'p.jpg', 'x-p.png', 'p-2.png']),
            min_size=1,
            max_size=4,
        ).map('/'.join),
        unique=True,
        max_size=12,
    )
)
def test_no_two_overlays_have_one_name(paths):
    names = overlay_names(paths, '-overlay.png')
    assert list(names) == paths and len({name.lower() for name in names.values()}) == len(paths)
    assert not any('/' in name for name in names.values())


def test_overlays_of_long_names_can_be_written(tmp_path):
    paths = [f'{folder}/{"猫" * 83}{number}.png' for folder in ('x', 'y') for number in range(3)]
    names = set(overlay_names(paths, '-overlay.png').values())
    assert len(names) == 6
    for name in names:
        (tmp_path / name).touch()


# Drawn signs


@pytest.fixture(scope='module')
def maker():
    path = Path(__file__).parents[1] / 'examples' / 'stopsign_data.py'
    spec = importlib.util.spec_from_file_location('stopsign_data', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_masks_of_drawn_signs_are_the_octagons_that_were_drawn(maker, tmp_path):
    photos = [Image.open(path).convert('RGB') for path in maker.photographs()[:2]]
    path = maker.make(tmp_path, 'train', photos, 30, seed=0)
    data, content = CocoSegmentation(path, str(tmp_path / 'train')), json.loads(Path(path).read_text())
    assert data.report == [] and len(data) == 30
    heights = []
    for key, (image, mask) in zip(data.ids, data):
        drawn = np.zeros(mask.shape, np.uint8)
        for entry in content['annotations']:
            if entry['image_id'] == key:
                corners = np.reshape(entry['segmentation'], (8, 2))
                drawn = np.maximum(drawn, np.asarray(maker.coverage(corners)))
                heights.append(np.linalg.norm(corners[0] + corners[7] - corners[3] - corners[4]) / 2)
                assert abs(entry['area'] - np.asarray(maker.coverage(corners)).sum() / 255) < 0.02 * entry['area'] + 1
        assert mask[drawn == 255].all() and not mask[drawn == 0].any()
        assert image.shape == (*mask.shape, 3)
    assert 8 <= min(heights) < 15 and 130 < max(heights) <= 200


def test_signs_and_nothing_else_change_the_photograph(maker):
    photo, random = Image.new('RGB', maker.SIZE, (0, 128, 0)), np.random.RandomState(0)
    corners = maker.draw_sign(photo, [100, 120], 60, 0.1, random)
    touched = (np.asarray(photo) != (0, 128, 0)).any(2)
    np.testing.assert_array_equal(touched, np.asarray(maker.coverage(corners)) > 0)
    np.testing.assert_allclose(corners.mean(0), [100, 120])


def test_training_and_validation_signs_are_on_different_photographs(maker, tmp_path, capsys):
    for number in range(4):
        (tmp_path / 'photos').mkdir(exist_ok=True)
        Image.new('RGB', (300, 280), (0, 60 * number, 90)).save(tmp_path / 'photos' / f'{number}.png')
    maker.main([str(tmp_path / 'signs'), '--photographs', str(tmp_path / 'photos'), '--train', '6', '--val', '3'])
    assert len(capsys.readouterr().out.split()) == 2
    shades = {
        split: {tuple(data[i][0][0, 0]) for i in range(len(data))}
        for split in ('train', 'val')
        for data in [
            CocoSegmentation(str(tmp_path / 'signs' / f'instances_{split}.json'), str(tmp_path / 'signs' / split))
        ]
    }
    assert len(shades['train']) == 3 and len(shades['val']) == 1 and not shades['train'] & shades['val']
    for flag, value in (('--train', '0'), ('--val', '-1')):
        with refused(f'{flag} must be a positive whole number, got {value}'):
            maker.main([str(tmp_path / 'none'), flag, value])
    with refused('two photographs'):
        (tmp_path / 'one').mkdir()
        Image.new('RGB', (300, 280)).save(tmp_path / 'one' / 'a.png')
        maker.main([str(tmp_path / 'none'), '--photographs', str(tmp_path / 'one')])
