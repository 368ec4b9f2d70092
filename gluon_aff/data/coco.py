"""Photographs and the masks of one category in them, from a COCO instances file.

Reference: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.
"""
from __future__ import annotations

import json
import os
from collections import defaultdict

import numpy as np

try:
    from pycocotools import mask as run_lengths
except ModuleNotFoundError:
    run_lengths = None

from ..errors import unknown
from .images import opened, read_image
from .segmentation import IGNORED

__all__ = ['CocoSegmentation']

ORIENTATION = 0x0112        # EXIF tag
SLACK = 1.0                 # COCO's own polygons stick out by up to a pixel


class MaskError(ValueError):
    """Why an image's mask cannot be trusted, to go on after "because"."""


class CocoSegmentation:
    """The images of a COCO instances file that show one category, and the masks of it.

    A mask is 1 on the category's objects, given as polygons or as run lengths, compressed or not, 0 elsewhere, and
    IGNORED (-1) on crowd regions where no object is.

    An image whose mask could be wrong is left out, and `report` says so: one that is missing, cannot be read, has
    another size than the file says, or an EXIF orientation; two images or annotations of one id that differ; an
    annotation without a segmentation, with a box of no area, a polygon of fewer than three points or with a point more
    than a pixel outside the image, or with damaged run lengths, or that covers no pixel. So is one that shows crowds
    only. Every image is read once for that.

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
    labels : tuple of str
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

    def __init__(self, annotation_file, image_dir, category='stop sign'):
        if run_lengths is None:
            raise ImportError("COCO's masks are read with pycocotools; run: pip install 'gluon_aff[coco]'")
        content = _read_json(annotation_file)
        if not os.path.isdir(image_dir):
            raise FileNotFoundError(f'There is no folder of images {image_dir}.')
        ids = _category_ids(content['categories'], category, annotation_file)
        self.labels, self.report = ('background', category), []
        self.ids, self.paths, self._masks = [], [], []

        images, twice = {}, set()
        for entry in content['images']:
            if images.setdefault(entry['id'], entry) != entry:
                twice.add(entry['id'])
        annotations, seen, edited = defaultdict(list), {}, {}
        for each in content['annotations']:
            first = seen.setdefault(each['id'], each)
            if first != each:
                edited.update({first['image_id']: each['id'], each['image_id']: each['id']})
            if each['category_id'] in ids:
                annotations[each['image_id']].append(each)

        for missing in [key for key in annotations if key not in images]:
            self.report.append(f'Annotation {annotations[missing][0]["id"]} is of image {missing}, which the file does '
                               'not list.')
        for key in [key for key in images if key in annotations]:
            path = os.path.join(image_dir, str(images[key].get('file_name')))
            try:
                if key in twice:
                    raise MaskError('the file has two images of this id')
                if key in edited:
                    raise MaskError(f'the file has two annotations of id {edited[key]} that differ')
                # First, so that no mask is larger than an image.
                _check_image(path, images[key])
                masks = _read_masks(images[key], annotations[key])
            except MaskError as error:
                self.report.append(f'Image {key} ({path}) is left out: {error}.')
            else:
                self.ids.append(key)
                self.paths.append(path)
                self._masks.append(masks)
        if not self.ids:
            raise ValueError(f'{annotation_file} has no image with a {category} that can be used; '
                             f'{self.report[0] if self.report else "no annotation is of this category."}')

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


def _read_json(path):
    """What a COCO instances file holds; each image, annotation and category has what the others refer to."""
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except FileNotFoundError:
        raise FileNotFoundError(f'There is no annotation file {path}.') from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f'{path} cannot be read as JSON ({error}); fetch it again.') from None
    wanted = {'images': ('id',), 'annotations': ('id', 'image_id', 'category_id'), 'categories': ('id', 'name')}
    for part, keys in wanted.items():
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise ValueError(f'{path} is no COCO instances file: it has no list of {part}.')
        for place, entry in enumerate(entries):
            for key in keys:
                if not isinstance(entry, dict) or not isinstance(entry.get(key), (int, str)):
                    raise ValueError(f'{path} is no COCO instances file: entry {place} of its {part} has no {key}.')
    return content


def _category_ids(categories, name, path):
    """Numbers of the category of this name."""
    ids = {each['id'] for each in categories if each['name'] == name}
    if not ids:
        raise unknown(f'category of {path}:', name, {str(each['name']) for each in categories})
    others = sorted({str(each['name']) for each in categories if each['id'] in ids} - {name})
    if others:
        raise ValueError(f'{path} gives one id to the categories {name} and {", ".join(others)}.')
    return ids


def _read_masks(image, annotations):
    """Run lengths of an image's objects and of its crowds (None without one)."""
    parts = {False: [], True: []}
    for each in annotations:
        try:
            parts[bool(each.get('iscrowd'))].append(_read_mask(each, image['height'], image['width']))
        except MaskError as error:
            raise MaskError(f'annotation {each["id"]} {error}') from None
    if not parts[False]:
        raise MaskError('it shows crowds only')
    return tuple(run_lengths.merge(found) if found else None for found in (parts[False], parts[True]))


def _read_mask(annotation, height, width):
    box, segmentation = annotation.get('bbox'), annotation.get('segmentation')
    if box is not None and not (_numbers(box) and len(box) == 4 and box[2] > 0 and box[3] > 0):
        raise MaskError(f'has a box of no area, {box}')
    if isinstance(segmentation, dict):
        encoded = {'size': [height, width], 'counts': _counts(segmentation, height, width)}
        found = run_lengths.frPyObjects(encoded, height, width)
    elif isinstance(segmentation, list) and segmentation:
        for polygon in segmentation:
            _check_polygon(polygon, height, width)
        found = run_lengths.merge(run_lengths.frPyObjects(segmentation, height, width))
    else:
        raise MaskError('has no segmentation')
    if not run_lengths.area(found):
        raise MaskError('covers no pixel')
    return found


def _numbers(values):
    return isinstance(values, list) and all(type(v) in (int, float) and abs(v) < 1e9 for v in values)


def _check_polygon(polygon, height, width):
    if not _numbers(polygon) or len(polygon) % 2 or len(polygon) < 6:
        raise MaskError('has a polygon that is not three points or more, x and y in turn')
    x, y = np.asarray(polygon, float).reshape(-1, 2).T
    if min(x.min(), y.min()) < -SLACK or x.max() > width + SLACK or y.max() > height + SLACK:
        raise MaskError(f'has a polygon from ({x.min():g}, {y.min():g}) to ({x.max():g}, {y.max():g}), outside the '
                        f'image of {width} x {height}')


def _counts(segmentation, height, width):
    """The counts of a run-length encoding, checked: pycocotools writes where a wrong one points to."""
    counts, size = segmentation.get('counts'), segmentation.get('size')
    if isinstance(counts, str):
        counts = _decompressed(counts)
    if (size != [height, width] or not isinstance(counts, list)
            or not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != height * width):
        raise MaskError(f'has damaged run lengths, or of another image than one of {width} x {height}')
    return counts


def _decompressed(text):
    """COCO's compressed counts: five bits a character from the lowest on, and from the fourth count on differences.

    A character is 48 + the bits, + 32 where more follow; the highest bit of the last one is the sign.
    """
    counts, value, shift = [], 0, 0
    for char in text:
        bits = ord(char) - 48
        if not 0 <= bits < 64:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= bool(bits & 16) << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return None if shift else counts


def _check_image(path, entry):
    try:
        with opened(path) as image:
            size, orientation = image.size, image.getexif().get(ORIENTATION, 1)
            image.draft(None, (image.width // 8 or 1, image.height // 8 or 1))        # whole, but quicker, for a JPEG
            image.load()
    except ValueError as error:
        raise MaskError(str(error).rstrip('.')) from None
    said = entry.get('width'), entry.get('height')
    if size != said or float in map(type, said):
        raise MaskError(f'it is {size[0]} x {size[1]}, not {said[0]} x {said[1]} as the file says')
    if orientation not in (0, 1):
        raise MaskError('its EXIF data turn it, so which way up its annotations are is unknown; save it upright')
