"""Decoding images once before they are used, to find the unreadable ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Sequence

from PIL import Image
from tqdm import tqdm

from ..text import printable
from .images import upright

__all__ = ['decode_whole', 'unreadable']

CHUNK = 64


def decode_whole(image: Image.Image) -> tuple[int, int]:
    """Decode an image, only to find its errors.

    Parameters
    ----------
    image : PIL.Image
        From :func:`gluon_aff.data.images.opened`.

    Returns
    -------
    (width, height)
        Of the upright image, which is smaller for a JPEG.

    Raises
    ------
    ValueError
        As :func:`gluon_aff.data.images.upright`.
    """
    # Decoding a JPEG at an eighth of its size takes half the time, and still reads all of its bytes.
    image.draft(None, (1, 1))
    return upright(image).size


def unreadable(items: Sequence, opening: Callable, title: str, workers: int) -> dict[Any, str]:
    """Find the images that cannot be read.

    Parameters
    ----------
    items : sequence
        Paths or numbers of the images.
    opening : callable
        (item) -> context manager of the image, see :func:`gluon_aff.data.images.opened`.
    title : str
        Of the progress bar.
    workers : int
        Number of decoding threads.

    Returns
    -------
    dict of item: str
        A sentence for each unreadable image.
    """

    def check(chunk):
        return {item: reason for item, reason in zip(chunk, map(why_unreadable, chunk)) if reason}

    def why_unreadable(item):
        try:
            with opening(item) as image:
                decode_whole(image)
        except ValueError as error:
            return str(error)
        return None

    skipped = {}
    with ThreadPoolExecutor(workers) as pool, tqdm(
        total=len(items), desc=printable(title), unit='image', leave=False, disable=None
    ) as bar:
        # In chunks, as a million futures would take a gigabyte.
        chunks = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
        for chunk, reasons in zip(chunks, pool.map(check, chunks)):
            skipped.update(reasons)
            bar.update(len(chunk))
            bar.set_postfix(unreadable=len(skipped))
    return skipped
