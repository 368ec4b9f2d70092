"""The one reader of pictures and the one walker of folders: every kind of file, and every command that reads them."""

import io
import json
import os
import struct
import threading
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, TiffImagePlugin
from sklearn.datasets import load_sample_image

from gluon_aff.data import images
from gluon_aff.data.augmentation import random_resized_crop
from gluon_aff.data.class_folders import image_folders, readable_images
from gluon_aff.data.imagenet import Images
from gluon_aff.data.images import opened, read_image, upright
from gluon_aff.data.preprocessing import evaluation_crop, short_side
from gluon_aff.data.record_file import RecordFile
from gluon_aff.data.record_writer import write_records
from gluon_aff.data.walk import find_images
from gluon_aff.deploy import Predictor
from model_zoo.cli import main
from model_zoo.loading import load_model

PHOTO = Image.fromarray(load_sample_image('flower.jpg')[100:124, 200:236])
# EXIF's: type: the form in which struct packs it.
TYPES = {1: 'B', 2: 's', 3: 'H', 4: 'I', 6: 'b', 7: 'B', 8: 'h', 9: 'i', 11: 'f'}
# What turns a picture upright, by EXIF's definition: where the stored first row and first column are.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
STATISTICS = ((0,) * 3, (1,) * 3)


def exif(value, kind=3, count=1, order='<', tag=0x0112):
    """EXIF data with one entry of one directory."""
    value = str(value).encode()[:1] if kind == 2 else float(value) if kind == 11 else value
    content = struct.pack(order + TYPES[kind], value).ljust(4, b'\0')
    return (
        b'Exif\0\0'
        + {'<': b'II', '>': b'MM'}[order]
        + struct.pack(order + 'HIHHHI', 42, 8, 1, tag, kind, count)
        + content
        + bytes(4)
    )


def encoded(image, kind='PNG', **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def tiff(value, kind, **options):
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory.tagtype[0x0112] = kind
    directory[0x0112] = bytes([value]) if kind in (1, 7) else str(value) if kind == 2 else value
    return encoded(PHOTO, 'TIFF', tiffinfo=directory, **options)


def read(content, name='x'):
    with opened(io.BytesIO(content), name) as image:
        return np.asarray(upright(image))


@given(
    value=st.one_of(st.integers(0, 9), st.integers(0, 2**16 - 1)),
    kind=st.sampled_from(sorted(TYPES)),
    count=st.sampled_from([1, 1, 1, 0, 2, 2**31]),
    order=st.sampled_from('<>'),
    form=st.sampled_from(['JPEG', 'PNG', 'WEBP', 'TIFF', 'TIFF deflated']),
)
@settings(max_examples=120)
def test_only_one_short_of_1_to_8_turns_an_image_and_every_reader_turns_it_alike(value, kind, count, order, form):
    value %= {1: 256, 6: 128, 7: 256, 8: 2**15}.get(kind, 2**16)
    if form.startswith('TIFF'):
        # libtiff writes it as a SHORT alone.
        deflated = form != 'TIFF' and kind == 3 and 1 <= value <= 8
        count, content = 1, tiff(value, kind, **({'compression': 'tiff_deflate'} if deflated else {}))
    else:
        options = {'lossless': True} if form == 'WEBP' else {'quality': 90} if form == 'JPEG' else {}
        content = encoded(PHOTO, form, exif=exif(value, kind, count, order), **options)
        path = encoded(PHOTO, form, **options)
    stored = read(path) if form == 'JPEG' else np.asarray(PHOTO)
    turn = value if kind == 3 and count == 1 and 1 <= value <= 8 else 1
    np.testing.assert_array_equal(read(content), UPRIGHT[turn](stored))
    with opened(io.BytesIO(content), 'x') as image:
        cropped = random_resized_crop(image, 8, np.random.RandomState(value))
    with opened(io.BytesIO(encoded(Image.fromarray(np.ascontiguousarray(UPRIGHT[turn](stored))))), 'x') as image:
        expected = random_resized_crop(image, 8, np.random.RandomState(value))
    np.testing.assert_array_equal(np.asarray(cropped), np.asarray(expected))


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_xmp_orientation_counts_without_exifs_and_nothing_is_turned_twice(form):
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_itxt('XML:com.adobe.xmp', (XMP % 6).decode())
    packet = b'http://ns.adobe.com/xap/1.0/\0' + XMP % 6
    options = {
        'JPEG': {'extra': b'\xff\xe1' + struct.pack('>H', len(packet) + 2) + packet},
        'PNG': {'pnginfo': text},
        'WEBP': {'xmp': XMP % 6, 'lossless': True},
        'TIFF': {'tiffinfo': {700: XMP % 6}},
    }[form]
    stored = read(encoded(PHOTO, form, **({'lossless': True} if form == 'WEBP' else {})))
    with opened(io.BytesIO(encoded(PHOTO, form, **options)), 'x') as image:
        once = upright(image)
        np.testing.assert_array_equal(np.asarray(once), UPRIGHT[6](stored))
        np.testing.assert_array_equal(np.asarray(upright(once)), np.asarray(once))
    if form != 'TIFF':
        both = encoded(PHOTO, form, exif=exif(3), **options)
        np.testing.assert_array_equal(read(both), UPRIGHT[3](stored))


@given(garbage=st.binary(max_size=60), form=st.sampled_from(['JPEG', 'PNG', 'WEBP']), cut=st.integers(0, 32))
@settings(max_examples=60)
def test_damaged_exif_leaves_the_image_readable(garbage, form, cut):
    for data in (garbage, b'Exif\0\0' + garbage, exif(6)[:cut] + garbage if cut < 28 else garbage):
        options = {'lossless': True} if form == 'WEBP' else {}
        if form == 'JPEG':
            data = b'Exif\0\0' + data
        content = encoded(PHOTO, form, **options, **({'exif': data} if data else {}))
        pixels = read(content)
        assert {pixels.shape, pixels.swapaxes(0, 1).shape} == {(24, 36, 3), (36, 24, 3)}


def chunk(kind, content, crc=None):
    """A PNG's."""
    return (
        struct.pack('>I', len(content))
        + kind
        + content
        + struct.pack('>I', zlib.crc32(kind + content) if crc is None else crc)
    )


@pytest.mark.parametrize(
    'damage',
    [
        chunk(b'tEXt', b'Title\0x', 1),
        chunk(b'iCCP', b'icc\0\1garbage'),
        chunk(b'iCCP', b''),
        chunk(b'pHYs', b'abc'),
        chunk(b'gAMA', b''),
        chunk(b'cHRM', bytes(5)),
        chunk(b'sRGB', b''),
        chunk(b'acTL', b'1'),
        chunk(b'tRNS', b''),
        chunk(b'zTXt', b'a\0\0' + zlib.compress(bytes(2**21))),
        chunk(b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0', 2),
    ],
)
@pytest.mark.parametrize('after_pixels', [False, True])
def test_damaged_metadata_of_a_png_leave_the_picture_and_its_orientation(damage, after_pixels):
    content = encoded(PHOTO, exif=exif(6))
    position = len(content) - 12 if after_pixels else 33
    np.testing.assert_array_equal(read(content[:position] + damage + content[position:]), UPRIGHT[6](np.asarray(PHOTO)))
    spoilt = content[:500] + bytes([content[500] ^ 1]) + content[501:]
    with pytest.raises(ValueError, match='can be read'):
        read(spoilt[:position] + damage + spoilt[position:])


@pytest.mark.parametrize(
    'damage',
    [b'\xff\xe2\0\x0eICC_PROFILE\0', b'\xff\xed\0\x18Photoshop 3.0\x008BIM\4\4', b'\xff\xe2\0\x0eMPF\0II*\0\x08\0\0\0'],
)
def test_damaged_metadata_of_a_jpeg_leave_the_picture_and_its_orientation(damage):
    content = encoded(PHOTO, 'JPEG', exif=exif(6))
    np.testing.assert_array_equal(read(content[:2] + damage + content[2:]), read(content))


@pytest.mark.parametrize(
    'tag, kind, count, value',
    [(254, 3, 2**31, 9), (270, 1, 2**31, 2**32 - 1), (274, 1, 2**31, 0), (700, 4, 1, 2**31), (700, 12, 1, 9)],
)
def test_damaged_tags_of_a_tiff_leave_the_picture(tag, kind, count, value):
    entries = [
        (256, 4, 1, 36),
        (257, 4, 1, 24),
        (259, 4, 1, 1),
        (262, 4, 1, 1),
        (273, 4, 1, 8),
        (277, 4, 1, 1),
        (278, 4, 1, 24),
        (279, 4, 1, 36 * 24),
        (258, 4, 1, 8),
        (tag, kind, count, value),
    ]
    grey = PHOTO.convert('L')
    content = b'II*\0' + struct.pack('<I', 8 + 36 * 24) + grey.tobytes() + struct.pack('<H', len(entries))
    content += b''.join(struct.pack('<HHII', *entry) for entry in sorted(entries)) + bytes(4)
    np.testing.assert_array_equal(read(content)[..., 0], np.asarray(grey))


def grey16(high, low=77):
    return high.astype(np.uint16) * 256 + low


def as_mode(mode):
    """The photograph in one of Pillow's modes, and what is to be read of it, or None where it is to be refused."""
    grey, rgb = np.asarray(PHOTO.convert('L')), np.asarray(PHOTO)
    alpha = Image.fromarray(np.arange(grey.size, dtype=np.uint32).reshape(grey.shape).astype(np.uint8))
    if mode.startswith('I;16'):
        image = Image.frombytes(mode, PHOTO.size, grey16(grey).astype('>u2' if mode.endswith('B') else '<u2').tobytes())
        return image, grey[..., None].repeat(3, 2)
    if mode in 'FI':
        return Image.fromarray(grey.astype(np.float32 if mode == 'F' else np.int32)), None
    if mode in ('LA', 'RGBA', 'PA'):
        image = PHOTO.convert({'LA': 'L', 'RGBA': 'RGB', 'PA': 'P'}[mode])
        expected = np.asarray(image.convert('RGB'))
        if mode == 'PA':
            image = image.convert('PA')
        image.putalpha(alpha)
        return image, expected
    image = PHOTO.convert(mode) if mode not in ('LAB', 'HSV') else Image.merge(mode, PHOTO.split())
    return image, np.asarray(image.convert('RGB')) if mode != 'RGB' else rgb


MODES = ('1', 'L', 'P', 'LA', 'PA', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr', 'LAB', 'HSV', 'I', 'F', 'I;16', 'I;16B')

# Where Pillow converts other modes while it writes, or writes them wrongly.
WRITTEN = {'.webp': ('RGB', 'RGBA'), '.gif': ('1', 'L', 'P', 'RGB'), '.jp2': ('L', 'LA', 'RGB', 'RGBA', 'I;16')}


@pytest.mark.parametrize('mode', MODES)
def test_every_mode_and_bit_depth_keeps_its_colours_or_is_refused(mode, tmp_path):
    image, expected = as_mode(mode)
    formats = 0
    for suffix in ('.png', '.tif', '.bmp', '.ppm', '.pgm', '.webp', '.gif', '.tga', '.jp2'):
        path = tmp_path / f'x{suffix}'
        if mode not in WRITTEN.get(suffix, MODES):
            continue
        try:
            image.save(path, **({'lossless': True, 'exact': True} if suffix == '.webp' else {}))
        except (OSError, KeyError, ValueError):  # Pillow does not write this mode in this format
            continue
        # Where a format stores integers of 32 bits with 16, what was below 256 is black, as stored.
        if mode == 'I' and suffix in ('.png', '.pgm', '.ppm'):
            assert not np.asarray(read_image(path)).any()
            continue
        formats += 1
        if (mode, suffix) == ('YCbCr', '.tif'):  # older versions of Pillow do not read what they wrote
            try:
                assert np.abs(np.asarray(read_image(path), int) - expected).mean() <= 3
            except ValueError as error:
                assert f'{path} is not an image that can be read' in str(error)
        elif expected is None:
            with pytest.raises(ValueError, match='(floating-point|32 bits).*; save it with 8 or 16 bits') as caught:
                read_image(path)
            assert str(path) in str(caught.value) and '\n' not in str(caught.value)
        else:
            near = 12 if suffix == '.gif' else 0
            assert np.abs(np.asarray(read_image(path), int) - expected).mean() <= near, suffix
    assert formats or mode == 'HSV'
    # An image in memory, as a Predictor takes it.
    if expected is None:
        with pytest.raises(ValueError, match='An image has (floating-point|integers of 32)'):
            upright(image)
    else:
        np.testing.assert_array_equal(np.asarray(upright(image)), expected)


def test_twelve_bits_are_scaled_as_sixteen_are():
    values = np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8)
    even, odd = values[:, ::2], values[:, 1::2]
    packed = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], 2)
    entries = [(256, 8), (257, 8), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 8), (279, 96)]
    content = b'II*\0' + struct.pack('<I', 8 + 96) + packed.astype(np.uint8).tobytes() + struct.pack('<H', len(entries))
    content += b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in entries) + bytes(4)
    np.testing.assert_array_equal(read(content)[..., 0], values >> 4)


def test_the_first_image_is_read_and_its_format_recognised_by_content(tmp_path):
    other = PHOTO.transpose(Image.ROTATE_180)
    for kind in ('GIF', 'WEBP', 'PNG', 'TIFF', 'MPO'):
        options = {'WEBP': {'lossless': True}, 'MPO': {'quality': 95}}.get(kind, {})
        content = encoded(PHOTO, kind, save_all=True, append_images=[other], **options)
        near = {'GIF': 12, 'MPO': 6}.get(kind, 0)
        for padded in (content, content + bytes(16)) if kind == 'MPO' else (content,):
            assert np.abs(read(padded, 'x.jpg').astype(int) - np.asarray(PHOTO)).mean() <= near, kind
    (tmp_path / 'really.tga').write_bytes(encoded(PHOTO))
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / 'really.tga')), np.asarray(PHOTO))


def of_side(side):
    """A small JPEG that says it is a square of this side."""
    content = bytearray(encoded(PHOTO, 'JPEG'))
    begin = content.index(b'\xff\xc0') + 5
    content[begin : begin + 4] = struct.pack('>HH', side, side)
    return bytes(content)


def tiled(side):
    """A TIFF of 9 x 9 pixels in one tile of this side."""
    entries = [(256, 9), (257, 9), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side), (324, 8), (325, 9)]
    return (
        b'II*\0'
        + struct.pack('<I', 8 + 9)
        + zlib.compress(b'')
        + b' '
        + struct.pack('<H', len(entries))
        + b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in entries)
        + bytes(4)
    )


@pytest.mark.parametrize(
    'make, says',
    [
        (lambda path: os.mkfifo(path), 'can be read but a pipe, a socket or a device'),
        (lambda path: path.symlink_to('/dev/zero'), 'can be read but a pipe, a socket or a device'),
        (lambda path: path.mkdir(), 'can be read but a folder'),
        (lambda path: path.symlink_to(path), 'cannot be read|can be read'),
        (lambda path: path.write_bytes(b''), 'can be read'),
        (lambda path: path.write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'), 'can be read'),
        (lambda path: path.write_bytes(encoded(Image.new('L', (9000, 8000)))), 'is 9000 x 8000: .* 64 million pixels'),
        (lambda path: path.write_bytes(encoded(Image.new('1', (20000, 9500)))), '64 million pixels'),
        (lambda path: path.write_bytes(encoded(Image.new('L', (4100, 4100)), 'JPEG2000')), '16 million pixels'),
        (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 2**28 + 1), 'more than the 256 MiB'),
        (lambda path: path.write_bytes(encoded(PHOTO, 'JPEG')[:-2]), 'can be read whole, as its end is missing'),
        (lambda path: path.write_bytes(of_side(1000)), 'can be read whole, as its end is missing'),
        (lambda path: path.write_bytes(tiled(30000)), 'has tiles of 30000 x 30000: .* 64 million pixels'),
    ],
)
@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_other_files_and_too_large_images_are_refused_in_one_sentence(tmp_path, make, says):
    path = tmp_path / 'x.jpg'
    make(path)
    with pytest.raises(ValueError, match=says) as caught:
        read_image(path)
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)


def test_the_callers_settings_of_pillow_survive_reading_in_threads(monkeypatch):
    """Whatever threads read at once, a file that is cut short is refused, and afterwards all is as it was."""
    whole, results = encoded(PHOTO.resize((400, 300))), []
    for callers in (True, False):
        monkeypatch.setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', callers)

        def work():
            for content in (whole, whole[:-2000]) * 5:
                try:
                    results.append((content is whole, read(content).shape == (300, 400, 3)))
                except ValueError:
                    results.append((content is whole, False))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ImageFile.LOAD_TRUNCATED_IMAGES is callers
    assert len(results) == 80 and all(is_whole == was_read for is_whole, was_read in results)
    monkeypatch.setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', False)
    with opened(io.BytesIO(whole), 'x'):
        ImageFile.LOAD_TRUNCATED_IMAGES = True  # by the caller, meanwhile
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@given(
    width=st.integers(1, 500),
    height=st.integers(1, 500),
    size=st.sampled_from([(3, 32, 32), (3, 20, 48)]),
    crop_ratio=st.sampled_from([0.875, 1.0, 1.25]),
    interpolation=st.sampled_from(['bilinear', 'bicubic']),
    seed=st.integers(0, 9),
)
@settings(max_examples=80)
def test_the_crop_is_that_of_the_whole_image_resized(width, height, size, crop_ratio, interpolation, seed):
    image = Image.fromarray(np.random.RandomState(seed).randint(0, 256, (height, width, 3), np.uint8))
    tall, wide = (short_side(side, crop_ratio) for side in size[1:])
    scaled = (width * tall // height, tall) if width * tall >= height * wide else (wide, height * wide // width)
    whole = image.resize(scaled, getattr(Image, interpolation.upper()))
    left, top = (scaled[0] - size[2]) // 2, (scaled[1] - size[1]) // 2
    expected = np.asarray(whole.crop((left, top, left + size[2], top + size[1])), int)
    assert np.abs(evaluation_crop(image, size, crop_ratio, interpolation) - expected).max() <= 1


@pytest.mark.parametrize('size', [(20000, 1), (1, 20000), (60000, 3), (2_000_000, 1)])
def test_only_the_crop_of_a_long_image_is_computed(size, monkeypatch):
    made, resize = [], Image.Image.resize

    def noted(image, size, *args):
        made.append(size)
        return resize(image, size, *args)

    monkeypatch.setattr(Image.Image, 'resize', noted)
    ramp = np.linspace(0, 255, max(size)).astype(np.uint8).reshape(-1, 1, 1).repeat(3, 2)
    ramp = np.broadcast_to(ramp if size[1] > size[0] else ramp.swapaxes(0, 1), (size[1], size[0], 3))
    crop = evaluation_crop(Image.fromarray(np.ascontiguousarray(ramp)), (3, 224, 224))
    assert made == [(224, 224)] and np.abs(crop.astype(int) - 127).max() <= 1


@pytest.fixture
def folder(tmp_path):
    """A folder of pictures with names of all kinds, what is none, links and a loop."""
    root = tmp_path / 'pictures'
    (root / 'inner').mkdir(parents=True)
    (root / '.hidden').mkdir()
    (root / '__MACOSX').mkdir()
    (tmp_path / 'elsewhere').mkdir()
    content = encoded(PHOTO)
    good = [
        root / 'a.jfif',
        root / 'b.JPE',
        root / 'c.jp2',
        root / 'd.pgm',
        root / 'no_suffix',
        root / 'odd.data',
        root / 'a\tb\nc.png',
        root / f'{"x" * 246}.png',
        root / 'inner' / '写真.png',
        root / 'link' / 'e.png',
        root / 'link.png',
        root / os.fsdecode(b'\xff\xfe.png'),
    ]
    (root / 'link').symlink_to(tmp_path / 'elsewhere')
    (root / 'link.png').symlink_to(tmp_path / 'elsewhere' / 'e.png')
    for path in good:
        if path.name != 'link.png':
            path.write_bytes(content)
    (tmp_path / 'elsewhere' / 'back').symlink_to(root)
    for path in (root / '.x.png', root / '.hidden' / 'x.png', root / '__MACOSX' / '._x.jpg', root / '.DS_Store'):
        path.write_text('no image')
    bad = [root / 'x.heic', root / 'notes.txt', root / 'pipe', root / 'Thumbs.db']
    for path in bad:
        os.mkfifo(path) if path.name == 'pipe' else path.write_bytes(b'\0\0\0\x18ftypheic no image')
    (root / 'broken.png').write_bytes(content[:-30])
    return root, sorted(map(str, good)), sorted(map(str, bad)), str(root / 'broken.png')


def test_one_walker_finds_images_by_name_or_content_follows_links_and_names_what_it_skips(folder):
    root, good, bad, broken = folder
    paths, skipped = find_images([root])
    assert paths == sorted([*good, broken]) and sorted(skipped) == bad
    assert all(path in sentence and '\n' not in sentence for path, sentence in skipped.items())
    paths, skipped = readable_images([root, bad[0]])
    assert paths == good and sorted(skipped) == sorted([*bad, broken])
    named = [root / '.hidden', root / '.x.png', root / 'notes.txt']
    assert find_images(named)[0] == [str(root / '.hidden' / 'x.png'), *map(str, named[1:])]


def test_every_command_reads_the_same_files_names_the_others_and_exits_with_1(folder, tmp_path, capsys, monkeypatch):
    root, good, bad, broken = folder
    left_out = [os.fsencode(path).decode('utf-8', 'backslashreplace') for path in [*bad, broken]]
    calls, figures = [], ('top1_agreement', 'mean_absolute_difference', 'mean_absolute_logit')
    report = {'images': 1, **dict.fromkeys(figures, 1.0)}
    monkeypatch.setattr('model_zoo.pictures.figure.pages', lambda *args, **options: None)  # drawing takes long
    monkeypatch.setattr('model_zoo.pictures.figure.save', lambda *args: [])
    monkeypatch.setattr(
        'gluon_aff.deploy.export',
        lambda model, output, formats, calibration, *rest, **options: (
            calls.append(calibration) or {'files': {}, 'int8': report}
        ),
    )
    for command in (
        ['predict', 'fashion_mnist_aff_resnet8', str(root), '--format', 'jsonl'],
        ['predict', 'fashion_mnist_aff_resnet8', str(root)],
        ['gradcam', str(root), '--models', 'fashion_mnist_aff_resnet8', '-o', str(tmp_path / 'x.png')],
        [
            'export',
            'fashion_mnist_aff_resnet8',
            '-o',
            str(tmp_path / 'e'),
            '--format',
            'int8',
            '--calibrate',
            str(root),
        ],
    ):
        assert main(command) == 1
        out, err = capsys.readouterr()
        assert all(path in err for path in left_out), command
        assert not any(
            'cannot' in line or 'can be read' in line
            for line in err.splitlines()
            if not any(path in line for path in left_out)
        ), err
        if 'jsonl' in command:
            assert sorted(json.loads(line)['image'] for line in out.splitlines()) == good
    assert calls == [good]


def test_images_of_every_kind_are_the_same_in_every_reader(tmp_path):
    turned = Image.fromarray(np.ascontiguousarray(UPRIGHT[8](np.asarray(PHOTO))))
    both = as_mode('RGBA')[0]
    text = {
        'JPEG': {'exif': exif(6), 'quality': 95},
        'WEBP': {'exif': exif(6), 'lossless': True},
        'PNG': {'exif': exif(6)},
        'TIFF': {'tiffinfo': {0x0112: 6}},
    }
    contents = {f'{kind}.png': encoded(turned, kind, **options) for kind, options in text.items()}
    contents.update(
        {
            'alpha.tif': encoded(both, 'TIFF'),
            'alpha.png': encoded(both),
            '300x1.png': encoded(Image.new('RGB', (300, 1))),
        }
    )
    for part in ('train', 'val'):
        for label in 'ab':
            (tmp_path / part / label).mkdir(parents=True)
            for name, content in contents.items():
                (tmp_path / part / label / name).write_bytes(content)
            (tmp_path / part / label / os.fsdecode(b'\xff\t.png')).write_bytes(contents['PNG.png'])
    folders = image_folders(tmp_path)
    assert folders.skipped == {}
    for path in folders.val.paths:
        if '300x1' not in path:
            assert np.abs(np.asarray(read_image(path), int) - np.asarray(PHOTO)).mean() < 5, path
    out = tmp_path / 'records'
    skipped = write_records(tmp_path, out, resize=256, quality=100)
    assert len(skipped) == 4 and all('76800 x 256' in sentence for sentence in skipped.values())
    packed = RecordFile(out / 'val.rec')
    assert len(packed) == 2 * len(contents)
    expected = np.asarray(PHOTO.resize((384, 256), Image.BILINEAR), int)
    for index in range(len(packed)):
        with packed.open(index) as image:
            assert np.abs(np.asarray(upright(image)) - expected).mean() < 5
    predictor = Predictor(load_model('fashion_mnist_aff_resnet8'))
    path = str(tmp_path / 'val' / 'a' / 'WEBP.png')
    scores = [dict(predictor.predict(image, 10)[0]) for image in (path, Image.open(path), np.asarray(PHOTO))]
    assert scores[0] == scores[1] == scores[2]


@pytest.mark.parametrize('size', [32, 64, 224])
def test_records_of_the_training_size_are_read_as_they_are(tmp_path, size):
    """MXNet's own reader resizes such images into themselves."""
    ramp = np.add.outer(np.arange(size), np.arange(size))[..., None] * [1, 0.5, 0.25] % 256
    for label in 'ab':
        for part in ('train', 'val'):
            (tmp_path / part / label).mkdir(parents=True)
            Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / part / label / 'x.png')
    write_records(tmp_path, tmp_path / 'out', resize=0, quality=100)
    source = RecordFile(tmp_path / 'out' / 'val.rec')
    ((data, _),) = Images(source, size, 2, *STATISTICS, crop_ratio=1.0).epoch()
    assert np.abs(data[0].transpose(1, 2, 0) * 255 - ramp.astype(np.uint8)).mean() < 12
    with source.open(0) as image:
        np.testing.assert_allclose(data[0].transpose(1, 2, 0) * 255, np.asarray(image), atol=1e-3)


def test_records_of_others_are_read_upright_and_bad_images_in_them_are_left_out_by_name(tmp_path):
    import mxnet as mx

    turned = Image.fromarray(np.ascontiguousarray(UPRIGHT[8](np.asarray(PHOTO))))
    contents = [
        encoded(turned, 'PNG', exif=exif(6)),
        encoded(Image.fromarray(np.float32([[0, 1]])), 'TIFF'),
        encoded(turned, 'TIFF', tiffinfo={0x0112: 6}),
        encoded(PHOTO, 'WEBP', lossless=True),
        b'no image',
        b'',
        encoded(PHOTO, 'MPO', save_all=True, append_images=[PHOTO], quality=95) + bytes(12),
    ]
    writer = mx.recordio.MXRecordIO(str(tmp_path / 'x.rec'), 'w')
    for label, content in enumerate(contents):
        writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, label, label, 0), content))
    writer.close()
    source = RecordFile(tmp_path / 'x.rec')
    assert source.target.tolist() == [0, 2, 3, 6] == source.records.tolist() and sorted(source.skipped) == [1, 4, 5]
    assert all(f'image {number} of {tmp_path}/x.rec' in sentence for number, sentence in source.skipped.items())
    for index in range(4):
        with source.open(index) as image:
            assert np.abs(np.asarray(upright(image), int) - np.asarray(PHOTO)).mean() < 5


@given(words=st.lists(st.sampled_from([b'\x0a\x23\xd7\xce', b'\x0a\x23\xd7', b'\xce', b'text']), max_size=12))
@settings(max_examples=40)
def test_our_records_are_those_of_mxnet(words, tmp_path_factory):
    import mxnet as mx

    from gluon_aff.data.record_file import write_record

    path, content = tmp_path_factory.mktemp('records') / 'x.rec', b''.join(words)
    with open(path, 'wb') as file:
        write_record(file, 3, 7, content)
        write_record(file, 4, 8, b'next')
    ours = path.read_bytes()
    reader = mx.recordio.MXRecordIO(str(path), 'r')
    header, read_back = mx.recordio.unpack(reader.read())
    assert (header.label, header.id, read_back) == (3, 7, content)
    assert mx.recordio.unpack(reader.read())[1] == b'next'
    writer = mx.recordio.MXRecordIO(str(path), 'w')
    for label, key, data in ((3, 7, content), (4, 8, b'next')):
        writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, label, key, 0), data))
    writer.close()
    assert path.read_bytes() == ours


def test_parts_of_a_data_set_are_not_classes_and_class_names_are_text(tmp_path):
    for part in ('train', 'test'):
        for label in 'ab':
            (tmp_path / 'data' / part / label).mkdir(parents=True)
            PHOTO.save(tmp_path / 'data' / part / label / 'x.png')
    with pytest.raises(ValueError, match='has the folders train and test, which are parts of a data set'):
        image_folders(tmp_path / 'data', 0.5)
    (tmp_path / 'data' / 'train' / os.fsdecode(b'\xff')).mkdir()
    (tmp_path / 'data' / 'test').rename(tmp_path / 'data' / 'val')
    with pytest.raises(ValueError, match='not UTF-8, and classes are named after their folders; rename it'):
        image_folders(tmp_path / 'data')


def test_the_bounds_are_stated():
    assert '64 million pixels' in images.__doc__ and images.MAX_PIXELS == 64_000_000
    assert '256 MiB' in images.__doc__ and images.MAX_BYTES == 2**28
    assert '32 million and 64 MiB' in images.__doc__ and images.HEAVY['WEBP'] == 32_000_000
