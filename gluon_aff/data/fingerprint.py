"""The identity of a data set, independent of where it is stored."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Sequence

import numpy as np

__all__ = ['identity']


def identity(class_names: Sequence[str], *loaders: Any) -> dict[str, Any]:
    """The class names of a data set, and a digest of its images and their labels, in order.

    Image files are identified by their paths below their common folder, images in a RecordIO file by their offsets, and
    images in memory by their pixels. So a folder may move, but images must not be added, renamed or relabelled.

    Parameters
    ----------
    class_names : sequence of str
    *loaders
        Of the training and of the held-out images: :class:`gluon_aff.data.loader.Loader` or another with `source`, or
        `images` and `target`. Their shard does not matter.

    Returns
    -------
    dict
        'classes', a list of str, and 'images', 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for loader in loaders:
        source = getattr(loader, 'source', loader)
        target = getattr(source, 'target', None)
        if hasattr(source, 'paths'):
            paths = [os.path.abspath(path) for path in source.paths]
            parent = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ''
            for path in paths:
                digest.update(os.fsencode(os.path.relpath(path, parent)) + b'\0')
        elif hasattr(source, 'offsets'):
            digest.update(np.asarray(source.offsets, '<i8').tobytes())
        elif hasattr(source, 'images'):
            digest.update(repr(source.images.shape).encode() + np.ascontiguousarray(source.images).data)
        digest.update(f'{len(source if target is None else target)}\0'.encode())
        if target is not None:
            digest.update(np.asarray(target, '<i8').tobytes())
    return {'classes': list(class_names), 'images': digest.hexdigest()}
