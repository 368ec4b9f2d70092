"""The orientation of an image, from EXIF or else XMP; damaged metadata do no harm.

Pillow's own reader of EXIF stops with a warning at the first damaged tag, and does not check the type.
"""

from __future__ import annotations

import io
import re
import struct

from PIL import Image

__all__ = ['ORIENTATION', 'orientation']

ORIENTATION = 0x0112  # the tag of TIFF and EXIF


def orientation(image: Image.Image) -> int:
    """The orientation in an image's EXIF data, or else in its XMP data: 1 to 8, where 1 is upright.

    Parameters
    ----------
    image : PIL.Image
        A PNG is decoded, as its metadata may follow the pixels.
    """
    if image.format == 'PNG':
        image.load()
    value = None
    if hasattr(image, 'tag_v2'):
        if ORIENTATION in image.tag_v2:  # Pillow removes it when it turns the image
            value = _exif_orientation(image.fp)
    else:
        exif = _exif(image)
        value = _exif_orientation(io.BytesIO(exif)) if exif else None
    return value or _xmp_orientation(image)


def _exif(image):
    """The EXIF data of an image, which begin as a TIFF file does, or b''."""
    try:
        data = image.info.get('exif')
        if data is None:
            # ImageMagick writes it into PNG as three lines, then hexadecimal digits.
            data = bytes.fromhex(''.join(image.info.get('Raw profile type exif', '').split('\n')[3:]))
        while data.startswith(b'Exif\0\0'):
            data = data[6:]
        return data
    except (ValueError, TypeError, AttributeError):
        return b''


def _exif_orientation(file):
    """The orientation in a TIFF file's first directory: 1 if it is not a SHORT of 1 to 8, None if there is none."""
    try:
        file.seek(0)
        head = file.read(16)
        order = {b'II': '<', b'MM': '>'}[head[:2]]
        big = struct.unpack_from(order + 'H', head, 2)[0] == 43
        entry = struct.Struct(order + ('HHQH6x' if big else 'HHIHxx'))
        file.seek(struct.unpack_from(order + 'Q', head, 8)[0] if big else struct.unpack_from(order + 'I', head, 4)[0])
        (count,) = struct.unpack(order + ('Q' if big else 'H'), file.read(8 if big else 2))
        entries = file.read(entry.size * min(count, 2**16))
        for tag, kind, values, value in entry.iter_unpack(entries[: len(entries) // entry.size * entry.size]):
            if tag == ORIENTATION:
                return value if (kind, values) == (3, 1) and 1 <= value <= 8 else 1
    except (KeyError, struct.error, ValueError, OSError, OverflowError, AttributeError):
        pass
    return None


def _xmp_orientation(image):
    text = image.info.get('XML:com.adobe.xmp') or image.info.get('xmp') or ''
    if isinstance(text, bytes):
        text = text.decode('utf-8', 'replace')
    value = isinstance(text, str) and re.search(r'tiff:Orientation(?:\s*=\s*["\']|>)\s*([1-8])\s*["\'<]', text)
    return int(value[1]) if value else 1
