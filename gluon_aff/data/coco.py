"""Photographs and the masks of one category in them, from a COCO instances file.

Reference: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict

import numpy as np

try:
    from pycocotools import mask as run_lengths
except ModuleNotFoundError:
    run_lengths = None

from .._deprecated import renamed
from ..errors import unknown
from ..text import printable
from .check import decode_whole
from .images import opened, read_image
from .masks import IGNORED
from .orientation import orientation

__all__ = ['CocoSegmentation']

SLACK = 1.0  # COCO's own polygons and boxes stick out by up to a pixel
MAX_CHARACTERS = 13  # of a number in compressed run lengths, which has 64 bits
WHOLE = re.compile('0|-?[1-9][0-9]{,17}')  # not '007', which may stand beside '7'
# What each entry has to have: a whole number or a text that others refer to, and its name.
KEYS = {'images': ('id',), 'annotations': ('id', 'image_id', 'category_id'), 'categories': ('id', 'name')}


class MaskError(ValueError):
    """Why an image's mask cannot be trusted."""


class CocoSegmentation:
    """The images of a COCO instances file that show one category, and the masks of it.

    A mask is 1 on the category's objects, given as polygons or as run lengths, compressed or not, 0 elsewhere, and
    IGNORED (-1) on crowd regions where no object is.

    Whole numbers (ids, sizes, run lengths, iscrowd) may be written 240, 240.0 or '240', which are one number; other
    texts are ids as they are; coordinates are numbers. iscrowd may be true or false, and is 0 where it is missing.

    An image whose mask could be wrong is left out, and `report` says so: one that is missing, lies outside the folder,
    cannot be read, has another size than the file says, or is stored turned, by its EXIF or XMP data; two images or
    annotations of one id that differ; an annotation without a segmentation, or of a category that the file does not
    list; one with a box of no area, a polygon of fewer than three points or of points on one line, a polygon or a box
    that reaches more than a pixel out of the image, damaged run lengths, or another iscrowd; one that covers no pixel,
    or none of its box. So is an image that shows crowds only. Every image is read once for that.

    Parameters
    ----------
    annotation_file : str
        Such as instances_train2017.json.
    image_dir : str
        Folder of the images.
    category : str, default 'stop sign'
        Name of the category.

    Attributes
    ----------
    class_names : tuple of str
        'background' and the category.
    ids : list
        Of the images, in the file's order. ``len(data)`` is their number, and ``data[i]`` the i-th image, uint8
        (H, W, 3), with its mask, int32 (H, W).
    paths : list of str
        Of the image files.
    report : list of str
        One sentence for each image or annotation that was left out.

    Raises
    ------
    FileNotFoundError
        If there is no such annotation file or folder.
    ValueError
        If the file is not whole, or no COCO instances file, has no such category (it suggests the nearest), or no
        image of it that can be used.
    ImportError
        If pycocotools is missing.
    """

    labels = renamed('class_names')

    def __init__(self, annotation_file, image_dir, category='stop sign'):
        if run_lengths is None:
            raise ImportError("COCO's masks are read with pycocotools; run: pip install 'gluon_aff[coco]'")
        content = _read_json(annotation_file)
        if not os.path.isdir(image_dir):
            raise FileNotFoundError(f'There is no folder of images {image_dir}.')
        ids = _category_ids(content['categories'], category, annotation_file)
        self.class_names = 'background', category
        self.ids, self.paths, self._masks = [], [], []

        images, annotations, doubts, self.report = _by_image(content, ids)
        for key, entry in images.items():
            if key not in annotations and key not in doubts:
                continue
            path = os.path.join(image_dir, str(entry.get('file_name')))
            try:
                if key in doubts:
                    raise MaskError(doubts[key])
                _check_name(entry.get('file_name'))
                # First, so that no mask is larger than an image.
                masks = _read_masks(*_check_image(path, entry), annotations[key])
            except MaskError as error:
                self.report.append(printable(f'Image {key} ({path}) is left out: {error}.'))
            else:
                self.ids.append(key)
                self.paths.append(path)
                self._masks.append(masks)
        if not self.ids:
            raise ValueError(
                f'{annotation_file} has no image with a {category} that can be used; '
                f'{self.report[0] if self.report else "no annotation is of this category."}'
            )

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        image = np.asarray(read_image(self.paths[index]))
        objects, crowds = (rle and run_lengths.decode(rle).astype(bool) for rle in self._masks[index])
        if image.shape[:2] != objects.shape:
            raise ValueError(f'{self.paths[index]} has another size than when it was first read.')
        mask = np.zeros(objects.shape, np.int32)
        if crowds is not None:
            mask[crowds] = IGNORED
        mask[objects] = 1
        return image, mask


def _whole(value):
    """A whole number that is written as one, as 240.0 or as '240'; anything else as it is."""
    if type(value) is float and value.is_integer() or type(value) is str and WHOLE.fullmatch(value):
        return int(value)
    return value


def _read_json(path):
    """The content of a COCO instances file, with all ids and names in place."""
    try:
        with open(path, encoding='utf-8-sig') as file:
            content = json.load(file)
    except FileNotFoundError:
        raise FileNotFoundError(f'There is no annotation file {path}.') from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f'{path} cannot be read as JSON ({error}); fetch it again.') from None
    for part, keys in KEYS.items():
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise ValueError(f'{path} is not a COCO instances file: it has no list of {part}.')
        for number, entry in enumerate(entries):
            for key in keys:
                value = entry.get(key) if isinstance(entry, dict) else None
                if type(value) is int and key != 'name':  # nearly all of a million
                    continue
                value = _whole(value)
                if type(value) not in (int, str):
                    other = '' if value is None else f' that is a whole number or a text, but {repr(value)[:40]}'
                    raise ValueError(
                        f'{path} is not a COCO instances file: entry {number} of its {part} has no {key}{other}.'
                    )
                entry[key] = str(value) if key == 'name' else value
    return content


def _category_ids(categories, name, path):
    """Numbers of the category of this name."""
    ids = {each['id'] for each in categories if each['name'] == name}
    if not ids:
        raise unknown(f'category of {path}:', name, {each['name'] for each in categories})
    others = sorted({each['name'] for each in categories if each['id'] in ids} - {name})
    if others:
        raise ValueError(f'{path} gives one id to the categories {name} and {printable(", ".join(others))}.')
    return ids


def _by_image(content, ids):
    """By image: its entry, its annotations of the categories `ids`, its faults; and sentences on the rest."""
    images, twice, annotations, doubts = {}, set(), defaultdict(list), {}
    for entry in content['images']:
        if images.setdefault(entry['id'], entry) != entry:
            twice.add(entry['id'])
    known, seen = {each['id'] for each in content['categories']}, {}
    for entry in content['annotations']:
        first = seen.setdefault(entry['id'], entry)
        if first != entry and {first['category_id'], entry['category_id']} & ids:
            for key in (first['image_id'], entry['image_id']):
                doubts.setdefault(key, f'the file has two annotations of id {entry["id"]} that differ')
        if entry['category_id'] not in known:
            doubts.setdefault(
                entry['image_id'],
                f'annotation {entry["id"]} is of category {entry["category_id"]}, which the file does not list',
            )
        if entry['category_id'] in ids:
            annotations[entry['image_id']].append(entry)
    doubts.update({key: 'the file has two images of this id' for key in twice if key in annotations or key in doubts})
    lost = [
        printable(f'Annotation {entry["id"]} is of image {entry["image_id"]}, which the file does not list.')
        for entry in content['annotations']
        if entry['image_id'] not in images and (entry['category_id'] in ids or entry['category_id'] not in known)
    ]
    return images, annotations, doubts, lost


def _check_name(name):
    if not isinstance(name, str) or not name:
        raise MaskError('it has no file_name')
    if os.path.isabs(name) or '..' in name.split('/'):
        raise MaskError('its file_name leaves the folder of the images')


def _read_masks(width, height, annotations):
    """Run lengths of an image's objects and of its crowds (None without one)."""
    masks = {0: [], 1: []}
    for each in annotations:
        try:
            crowd = each.get('iscrowd')
            crowd = 0 if crowd is None else _whole(crowd)
            if crowd not in (0, 1):
                raise MaskError(f'has an iscrowd that is neither 0 nor 1, {repr(crowd)[:40]}')
            masks[crowd].append(_read_mask(each, height, width))
        except MaskError as error:
            raise MaskError(f'annotation {each["id"]} {error}') from None
    if not masks[0]:
        raise MaskError('it shows crowds only')
    return _union(masks[0]), _union(masks[1]) if masks[1] else None


def _union(masks):
    """The union of masks as run lengths."""
    # In pairs: pycocotools would merge each with all before it, in quadratic time.
    while len(masks) > 1:
        masks = [run_lengths.merge(masks[i : i + 2]) for i in range(0, len(masks), 2)]
    return masks[0]


def _read_mask(annotation, height, width):
    box, segmentation = annotation.get('bbox'), annotation.get('segmentation')
    if box is not None:
        _check_box(box, height, width)
    if isinstance(segmentation, dict):
        encoded = {'size': [height, width], 'counts': _counts(segmentation, height, width)}
        mask = run_lengths.frPyObjects(encoded, height, width)
    elif isinstance(segmentation, list) and segmentation:
        for polygon in segmentation:
            _check_polygon(polygon, height, width)
        mask = _union(run_lengths.frPyObjects(segmentation, height, width))
    else:
        raise MaskError('has no segmentation')
    if not run_lengths.area(mask):
        raise MaskError('covers no pixel')
    if box is not None:
        left, top, wide, tall = run_lengths.toBbox(mask)
        if not (
            max(left, box[0]) < min(left + wide, box[0] + box[2])
            and max(top, box[1]) < min(top + tall, box[1] + box[3])
        ):
            raise MaskError(f'has a box, {box}, outside of its segmentation')
    return mask


def _numbers(values):
    return isinstance(values, list) and all(type(v) in (int, float) and abs(v) < 1e9 for v in values)


def _check_box(box, height, width):
    if not (_numbers(box) and len(box) == 4 and box[2] > 0 and box[3] > 0):
        raise MaskError(f'has a box of no area, {str(box)[:80]}')
    if min(box[0], box[1]) < -SLACK or box[0] + box[2] > width + SLACK or box[1] + box[3] > height + SLACK:
        raise MaskError(f'has a box, {box}, outside the image of {width} x {height}')


def _check_polygon(polygon, height, width):
    if not _numbers(polygon) or len(polygon) % 2 or len(polygon) < 6:
        raise MaskError('has a polygon that is not three points or more, x and y in turn')
    points = np.asarray(polygon, float).reshape(-1, 2)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    if min(left, top) < -SLACK or right > width + SLACK or bottom > height + SLACK:
        raise MaskError(
            f'has a polygon from ({left:g}, {top:g}) to ({right:g}, {bottom:g}), outside the image of '
            f'{width} x {height}'
        )
    if np.linalg.matrix_rank(points - points[0], tol=1e-6) < 2:
        raise MaskError('has a polygon whose points lie on one line')
    # Each step of it costs pycocotools time and memory; this is twice the edges of all pixels.
    if np.abs(points - np.roll(points, 1, 0)).max(1).sum() > 4 * (height + 1) * (width + 1):
        raise MaskError('has a polygon whose outline is longer than the edges of all pixels')


def _counts(segmentation, height, width):
    """The counts of a run-length encoding, checked: pycocotools writes where a wrong one points to."""
    counts, size = segmentation.get('counts'), segmentation.get('size')
    if isinstance(counts, str):
        counts = _decompressed(counts)
    elif isinstance(counts, list):
        counts = list(map(_whole, counts))
    if (
        not isinstance(size, list)
        or list(map(_whole, size)) != [height, width]
        or type(counts) is not list
        or not all(type(count) is int and 0 <= count <= height * width for count in counts)
        or sum(counts) != height * width
    ):
        raise MaskError(f'has damaged run lengths, or of another image than one of {width} x {height}')
    return counts


def _decompressed(text):
    """COCO's compressed counts: five bits a character from the lowest on, and from the fourth count on differences.

    A character is 48 + the bits, + 32 where more follow; the highest bit of the last one is the sign.
    """
    counts, value, shift = [], 0, 0
    for char in text:
        bits = ord(char) - 48
        if not 0 <= bits < 64 or shift == 5 * MAX_CHARACTERS:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= bool(bits & 16) << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return None if shift else counts


def _check_image(path, entry):
    """(width, height) of an image, which must be those of its entry."""
    try:
        with opened(path) as image:
            turn, size = orientation(image), image.size
            decoded = decode_whole(image)
            if image.format == 'TIFF':
                size = decoded  # Pillow may turn a TIFF by an orientation that is none
    except ValueError as error:
        raise MaskError(str(error).rstrip('.')) from None
    if turn != 1:
        raise MaskError('its EXIF or XMP data turn it, so which way up its annotations are is unknown; save it upright')
    stated = tuple(_whole(entry.get(key)) for key in ('width', 'height'))
    if size != stated or bool in map(type, stated):
        raise MaskError(
            f'it is {size[0]} x {size[1]}, not {repr(stated[0])[:20]} x {repr(stated[1])[:20]} as the file says'
        )
    return size
