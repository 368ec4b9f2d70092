"""Removing the metadata that keep Pillow from reading an image file."""

from __future__ import annotations

import struct
import zlib

__all__ = ['without_metadata']

PNG, JPEG = b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff'
# The TIFF tags that say how pixels are stored, and that of the XMP data.
PIXELS = {262, 266, 273, 274, 284, 292, 293, 317, 320, 332, 338, 339, 347, 700}.union(
    range(256, 260), range(277, 280), range(322, 326), range(512, 522), range(529, 533)
)


def without_metadata(content: bytes) -> bytes:
    """A PNG, JPEG or TIFF file without its metadata, except for EXIF and XMP, which hold the orientation.

    Returns
    -------
    bytes
        Empty if the file has another format or is too damaged.
    """
    try:
        if content.startswith(PNG):
            return b''.join(_png(content))
        if content.startswith(JPEG):
            return b''.join(_jpeg(content))
        return _tiff(content) if content[:4] in (b'II*\0', b'MM\0*') else b''
    except (struct.error, IndexError):
        return b''


def _png(content):
    yield PNG
    position, kind = len(PNG), b''
    while kind != b'IEND':
        length, kind = struct.unpack_from('>I4s', content, position)
        chunk = content[position : position + 12 + length]
        if kind in (b'IHDR', b'PLTE', b'IDAT', b'IEND'):
            yield chunk
        elif kind == b'eXIf' or chunk[4:].startswith(b'iTXtXML:com.adobe.xmp\0\0'):
            yield chunk[:-4] + struct.pack('>I', zlib.crc32(chunk[4:-4]))
        position += len(chunk)


def _jpeg(content):
    yield content[:2]
    position, marker = 2, 0
    while marker != 0xDA:  # the pixels follow
        marker, length = struct.unpack_from('>xBH', content, position)
        segment = content[position : position + 2 + length]
        application = 0xE1 <= marker <= 0xEF and marker != 0xEE  # Adobe's says what the colours are
        if not (application or marker == 0xFE) or segment[4:].startswith((b'Exif\0', b'http://ns.adobe.com/xap/')):
            yield segment
        position += len(segment)
    yield content[position:]


def _tiff(content):
    order = '<' if content.startswith(b'I') else '>'
    entry = struct.Struct(order + 'HHII')
    (start,) = struct.unpack_from(order + 'I', content, 4)
    (count,) = struct.unpack_from(order + 'H', content, start)
    entries = []
    for tag, kind, values, value in entry.iter_unpack(content[start + 2 : start + 2 + entry.size * count]):
        damaged = tag == 274 and (kind, values) != (3, 1) or tag == 700 and value + values > len(content)
        if tag in PIXELS and not damaged:
            entries.append(entry.pack(tag, kind, values, value))
    directory = struct.pack(order + 'H', len(entries)) + b''.join(entries) + bytes(4)
    return content[:start] + directory + content[start + len(directory) :]
