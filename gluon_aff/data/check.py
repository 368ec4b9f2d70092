"""Images are decoded once before they are used, to find those that cannot be."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from ..text import printable
from .images import upright

__all__ = ['decode_whole', 'unreadable']

CHUNK = 64


def decode_whole(image):
    """Decode an image for its errors alone.

    Parameters
    ----------
    image : PIL.Image
        As :func:`gluon_aff.data.images.opened` gives it.

    Returns
    -------
    (width, height)
        Upright, but of a JPEG smaller.

    Raises
    ------
    ValueError
        As :func:`gluon_aff.data.images.upright` does.
    """
    # An eighth of a JPEG is decoded in half of the time, and from all of its bytes.
    image.draft(None, (1, 1))
    return upright(image).size


def unreadable(items, opening, title, workers):
    """Those of many images that cannot be read.

    Parameters
    ----------
    items : sequence
        What stands for each image.
    opening : callable
        (item) -> a context manager that gives the image, see :func:`gluon_aff.data.images.opened`.
    title : str
        Of the progress bar.
    workers : int
        Threads that decode.

    Returns
    -------
    dict of item: str
        A sentence that says why.
    """

    def check(chunk):
        return {item: why for item, why in zip(chunk, map(why_not, chunk)) if why}

    def why_not(item):
        try:
            with opening(item) as image:
                decode_whole(image)
        except ValueError as error:
            return str(error)
        return None

    found = {}
    with ThreadPoolExecutor(workers) as pool, tqdm(
        total=len(items), desc=printable(title), unit='image', leave=False, disable=None
    ) as bar:
        # Chunks, as a future for each of a million files would take a gigabyte.
        chunks = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
        for chunk, bad in zip(chunks, pool.map(check, chunks)):
            found.update(bad)
            bar.update(len(chunk))
            bar.set_postfix(unreadable=len(found))
    return found
