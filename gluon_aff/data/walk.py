"""Finding image files in folders."""

from __future__ import annotations

import os
from typing import Iterable

from .images import opened

__all__ = ['IMAGE_SUFFIXES', 'find_images']

# A file with one of these is taken for an image without opening it.
IMAGE_SUFFIXES = tuple('.bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .ppm .tga .tif .tiff .webp'.split())


def find_images(paths: Iterable[str | os.PathLike]) -> tuple[list[str], dict[str, str]]:
    """Find the image files in folders, recursively; paths of files are returned as they are.

    Links are followed, and each folder is searched once. Hidden files and folders, whose names begin with a dot, are
    ignored. An image is a file with an image's suffix, or whose beginning can be read as one.

    Parameters
    ----------
    paths : iterable of str

    Returns
    -------
    images : list of str
        Sorted within a folder; a folder without images is returned itself, for the reader to refuse.
    skipped : dict of str: str
        A sentence for each file or folder that is left out, by path.
    """
    images: list[str] = []
    skipped: dict[str, str] = {}
    for path in paths:
        path = os.fspath(path)
        images += (os.path.isdir(path) and _inside(path, skipped)) or [path]
    return images, skipped


def _inside(folder, skipped):
    images, seen = [], set()

    def unreadable(error):
        skipped[error.filename] = f'Folder {error.filename} cannot be read: {error.strerror}.'

    for parent, inner, files in os.walk(folder, followlinks=True, onerror=unreadable):
        real = os.path.realpath(parent)
        if real in seen:
            # A link back to a folder already seen.
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if name[0] != '.')
        for name in files:
            path = os.path.join(parent, name)
            if name[0] == '.':
                continue
            why = _why_no_image(path)
            if why:
                skipped[path] = why
            else:
                images.append(path)
    return sorted(images)


def _why_no_image(path):
    if path.lower().endswith(IMAGE_SUFFIXES):
        return None
    try:
        with opened(path):
            return None
    except ValueError as error:
        return str(error)
