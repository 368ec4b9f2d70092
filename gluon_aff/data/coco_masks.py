"""COCO's annotations of one image as masks: polygons and run lengths, checked before pycocotools reads them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

try:
    from pycocotools import mask as run_lengths
except ModuleNotFoundError:
    run_lengths = None

__all__ = ['MaskError', 'read_masks', 'whole']

SLACK = 1.0  # COCO's own polygons and boxes stick out by up to a pixel
MAX_CHARACTERS = 13  # of a number in compressed run lengths, which has 64 bits
WHOLE = re.compile('0|-?[1-9][0-9]{,17}')  # not '007', which may stand beside '7'


class MaskError(ValueError):
    """Why an image's mask cannot be trusted."""


def whole(value: Any) -> Any:
    """A whole number that is written as 240.0 or '240' as an int; any other value unchanged."""
    if type(value) is float and value.is_integer() or type(value) is str and WHOLE.fullmatch(value):
        return int(value)
    return value


def read_masks(width: int, height: int, annotations: list[dict]) -> tuple[dict, dict | None]:
    """The masks of an image's objects and of its crowds, if any, in pycocotools' run-length encoding.

    Raises
    ------
    MaskError
        If an annotation cannot be trusted, or all of them are crowds.
    """
    masks: dict[int, list] = {0: [], 1: []}
    for annotation in annotations:
        try:
            crowd = annotation.get('iscrowd')
            crowd = 0 if crowd is None else whole(crowd)
            if crowd not in (0, 1):
                raise MaskError(f'has an iscrowd that is neither 0 nor 1, {repr(crowd)[:40]}')
            masks[crowd].append(_read_mask(annotation, height, width))
        except MaskError as error:
            raise MaskError(f'annotation {annotation["id"]} {error}') from None
    if not masks[0]:
        raise MaskError('it shows crowds only')
    return _union(masks[0]), _union(masks[1]) if masks[1] else None


def _union(masks):
    """The union of masks as run lengths."""
    # In pairs: pycocotools merges every mask into the union of all before it, in quadratic time.
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
    # Every step along it costs pycocotools time and memory; the bound is twice the edges of all pixels.
    if np.abs(points - np.roll(points, 1, 0)).max(1).sum() > 4 * (height + 1) * (width + 1):
        raise MaskError('has a polygon whose outline is longer than the edges of all pixels')


def _counts(segmentation, height, width):
    """The checked counts of a run-length encoding: pycocotools would write out of bounds for wrong ones."""
    counts, size = segmentation.get('counts'), segmentation.get('size')
    if isinstance(counts, str):
        counts = _decompressed(counts)
    elif isinstance(counts, list):
        counts = list(map(whole, counts))
    if (
        not isinstance(size, list)
        or list(map(whole, size)) != [height, width]
        or type(counts) is not list
        or not all(type(count) is int and 0 <= count <= height * width for count in counts)
        or sum(counts) != height * width
    ):
        raise MaskError(f'has damaged run lengths, or of another image than one of {width} x {height}')
    return counts


def _decompressed(text):
    """Decode COCO's compressed counts, None if damaged: pycocotools would read past the end of a text that is cut off.

    A character is 48 plus five bits, lowest first, plus 32 if more follow; the highest bit of the last is the sign.
    From the fourth on, a count is stored as the difference to the last but one.
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
