"""Finding the image files in folders."""

from __future__ import annotations

import os

from .images import opened

__all__ = ['IMAGE_SUFFIXES', 'find_images']

# Files with these are taken for images without opening them.
IMAGE_SUFFIXES = (
    '.bmp',
    '.gif',
    '.jfif',
    '.jp2',
    '.jpe',
    '.jpeg',
    '.jpg',
    '.pbm',
    '.pgm',
    '.png',
    '.ppm',
    '.tga',
    '.tif',
    '.tiff',
    '.webp',
)


def find_images(paths):
    """The paths as they are, but for each folder the image files in it and in the folders within.

    Links are followed, each folder is looked through once. What is hidden, its name beginning with a dot, is passed
    over. An image is what has an image's suffix, or is one that can be read by its beginning.

    Parameters
    ----------
    paths : sequence of str

    Returns
    -------
    images : list of str
        A folder's by name; a folder without any stays as it is, for the reader to refuse.
    skipped : dict of str: str
        Of the files and folders that are left out, by path: a sentence that says why.
    """
    images, skipped = [], {}
    for path in map(os.fspath, paths):
        images += (os.path.isdir(path) and _inside(path, skipped)) or [path]
    return images, skipped


def _inside(folder, skipped):
    found, seen = [], set()

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
                found.append(path)
    return sorted(found)


def _why_no_image(path):
    if path.lower().endswith(IMAGE_SUFFIXES):
        return None
    try:
        with opened(path):
            return None
    except ValueError as error:
        return str(error)
