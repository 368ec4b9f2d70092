"""Photographs with the masks of one category, from a COCO instances file.

Reference: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict

import numpy as np

from .._deprecated import renamed
from ..errors import unknown
from ..text import printable
from .check import decode_whole
from .coco_masks import MaskError, read_masks, run_lengths, whole
from .images import opened, read_image
from .masks import IGNORED
from .orientation import orientation

__all__ = ['CocoSegmentation']

# The required keys of an entry: ids are whole numbers or texts.
KEYS = {'images': ('id',), 'annotations': ('id', 'image_id', 'category_id'), 'categories': ('id', 'name')}


class CocoSegmentation:
    """The images of a COCO instances file that show one category, with their masks.

    A mask is 1 on the category's objects (polygons, or run lengths, compressed or not), IGNORED (-1) on crowd regions
    without an object, and 0 elsewhere.

    Whole numbers (ids, sizes, run lengths, iscrowd) may be written 240, 240.0 or '240'; other texts are ids;
    coordinates are numbers. iscrowd may be true or false, and defaults to 0.

    Every image is decoded once. It is left out, with a sentence in `report`, if its mask could be wrong:

    - the image is missing, outside the folder, unreadable, of another size than the file says, or turned by its EXIF or
      XMP data;
    - two different images or annotations have one id;
    - an annotation has no segmentation, a category that the file does not list, an invalid iscrowd, a box of no area, a
      polygon of fewer than three points or of points on one line, a box or polygon more than a pixel outside the image,
      or damaged run lengths; or covers no pixel, or none in its box;
    - all its annotations are crowds.

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
        Of the images, in the file's order. ``data[i]`` is the i-th image, uint8 (H, W, 3), and its mask, int32 (H, W).
    paths : list of str
        Of the image files.
    report : list of str
        One sentence for each image or annotation that was left out.

    Raises
    ------
    FileNotFoundError
        If there is no such annotation file or folder.
    ValueError
        If the file is damaged or not a COCO instances file, or has no such category or no usable image of it.
    ImportError
        If pycocotools is missing.
    """

    labels = renamed('class_names')

    def __init__(self, annotation_file: str, image_dir: str, category: str = 'stop sign'):
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
                width, height = _check_image(path, entry)  # first, so that no mask is larger than an image
                masks = read_masks(width, height, annotations[key])
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

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image = np.asarray(read_image(self.paths[index]))
        objects, crowds = self._masks[index]
        mask = np.zeros(objects['size'], np.int32)
        if image.shape[:2] != mask.shape:
            raise ValueError(f'{self.paths[index]} has another size than when it was first read.')
        if crowds is not None:
            mask[run_lengths.decode(crowds) > 0] = IGNORED
        mask[run_lengths.decode(objects) > 0] = 1
        return image, mask


def _read_json(path):
    """The content of a COCO instances file, which has all required keys, its ids as int or str."""
    try:
        with open(path, encoding='utf-8-sig') as file:
            content = json.load(file)
    except FileNotFoundError:
        raise FileNotFoundError(f'There is no annotation file {path}.') from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f'{path} cannot be read as JSON ({error}); fetch it again.') from None
    for section, keys in KEYS.items():
        entries = content.get(section) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise ValueError(f'{path} is not a COCO instances file: it has no list of {section}.')
        for number, entry in enumerate(entries):
            for key in keys:
                value = entry.get(key) if isinstance(entry, dict) else None
                if type(value) is int and key != 'name':  # the common case, for speed
                    continue
                value = whole(value)
                if type(value) not in (int, str):
                    other = '' if value is None else f' that is a whole number or a text, but {repr(value)[:40]}'
                    raise ValueError(
                        f'{path} is not a COCO instances file: entry {number} of its {section} has no {key}{other}.'
                    )
                entry[key] = str(value) if key == 'name' else value
    return content


def _category_ids(categories, name, path):
    """Ids of the category of this name."""
    ids = {entry['id'] for entry in categories if entry['name'] == name}
    if not ids:
        raise unknown(f'category of {path}:', name, {entry['name'] for entry in categories})
    others = sorted({entry['name'] for entry in categories if entry['id'] in ids} - {name})
    if others:
        raise ValueError(f'{path} gives one id to the categories {name} and {printable(", ".join(others))}.')
    return ids


def _by_image(content, ids):
    """By image id: its entry, its annotations of the categories `ids`, and its fault; and a report on the others."""
    images, twice, annotations, doubts = {}, set(), defaultdict(list), {}
    for entry in content['images']:
        if images.setdefault(entry['id'], entry) != entry:
            twice.add(entry['id'])
    known, seen = {entry['id'] for entry in content['categories']}, {}
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


def _check_image(path, entry) -> tuple[int, int]:
    """(width, height) of an image, which must be the same in its entry."""
    try:
        with opened(path) as image:
            turn, size = orientation(image), image.size
            decoded = decode_whole(image)
            if image.format == 'TIFF':
                size = decoded  # Pillow may turn a TIFF by an invalid orientation
    except ValueError as error:
        raise MaskError(str(error).rstrip('.')) from None
    if turn != 1:
        raise MaskError('its EXIF or XMP data turn it, so which way up its annotations are is unknown; save it upright')
    stated = tuple(whole(entry.get(key)) for key in ('width', 'height'))
    if size != stated or bool in map(type, stated):
        raise MaskError(
            f'it is {size[0]} x {size[1]}, not {repr(stated[0])[:20]} x {repr(stated[1])[:20]} as the file says'
        )
    return size
