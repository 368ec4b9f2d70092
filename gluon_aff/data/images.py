"""The one image reader: :func:`read_image`, or :func:`opened` and :func:`upright` for files in memory and for crops.

Its rules:

- The content decides the format, not the name: BMP, GIF, JPEG, JPEG 2000, PNG, PPM (PBM, PGM), TIFF and WebP, AVIF and
  HEIF if Pillow supports them, and TGA, by its name. The first picture of several in a file is read.
- The image is rotated and mirrored by EXIF's orientation, a SHORT of 1 to 8, or by XMP's if EXIF has none. Any other
  value means as stored. Damaged metadata are ignored.
- The upper 8 of 16 bits are kept. Alpha is dropped, colours stay as stored. Pillow converts CMYK, YCbCr and Lab to RGB.
- Refused are: floating-point numbers and integers of 32 bits, as their range is unknown; truncated files, such as a
  JPEG without its end marker; more than 64 million pixels or 256 MiB (AVIF, HEIF and WebP: 32 million and 64 MiB; JPEG
  2000: 16 million and 64 MiB); anything but a regular file.
"""

from __future__ import annotations

import io
import math
import os
import stat
import threading
from contextlib import contextmanager
from typing import BinaryIO, Iterator

import numpy as np
from PIL import Image, ImageFile

from .._deprecated import deprecated_names
from .metadata import without_metadata
from .orientation import ORIENTATION, orientation

__all__ = ['opened', 'read_image', 'to_image', 'upright']

FORMATS = ('JPEG', 'PNG', 'AVIF', 'BMP', 'GIF', 'HEIF', 'JPEG2000', 'PPM', 'TIFF', 'WEBP')
MAX_PIXELS, MAX_BYTES = 64_000_000, 2**28
# Their decoders hold several copies of the image and of the file.
HEAVY, MAX_HEAVY_BYTES = {'AVIF': 32_000_000, 'HEIF': 32_000_000, 'JPEG2000': 16_000_000, 'WEBP': 32_000_000}, 2**26
END = b'\xff\xd9'  # a JPEG's
BITS_PER_SAMPLE = 0x0102  # TIFF's tag
METADATA = ('exif', 'Raw profile type exif', 'xmp', 'XML:com.adobe.xmp')  # of PIL.Image.info
# For each orientation, the transposition that turns the image upright, and its inverse.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
UNDONE = {**TURNS, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


class ImageError(ValueError):
    """Why an image is refused: the rest of a sentence that begins with its name."""

    def __str__(self):
        return f'An image {self.args[0]}'


class _Strict:
    """Makes Pillow refuse truncated files while any thread is inside the block.

    Importing gluoncv.data tells Pillow, for the whole process, to fill in the missing pixels with grey.
    """

    def __init__(self):
        self.lock, self.inside, self.original = threading.Lock(), 0, False

    def __enter__(self):
        with self.lock:
            if not self.inside:
                self.original, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
            self.inside += 1

    def __exit__(self, *error):
        with self.lock:
            self.inside -= 1
            if not self.inside and not ImageFile.LOAD_TRUNCATED_IMAGES:
                ImageFile.LOAD_TRUNCATED_IMAGES = self.original


strict = _Strict()


@contextmanager
def opened(file: str | os.PathLike | BinaryIO, name: str | None = None) -> Iterator[Image.Image]:
    """Context manager that opens an image without decoding it, but for PNG.

    Parameters
    ----------
    file : str or binary file
    name : str, optional
        Used in errors; default the path.

    Raises
    ------
    ValueError
        If there is no such file, it breaks the module's rules, or the code in the block fails on it.
    """
    name = str(name or file)
    try:
        size = _check_file(file)
        with strict, _open(file, _formats(name), size) as image:
            yield image
    except FileNotFoundError:
        raise ValueError(f'There is no file {name}.') from None
    except ImageError as error:
        raise ValueError(f'{name} {error.args[0]}') from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f'{name} {_too_many_pixels(MAX_PIXELS)}') from None
    except Exception as error:  # Pillow's readers raise anything, such as struct.error, on a damaged file.
        raise ValueError(f'{name} is not an image that can be read ({type(error).__name__}).') from None


def _open(file, formats, size):
    try:
        return _checked(Image.open(file, formats=formats), size)
    except (ImageError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise
    except Exception:  # as in opened()
        content = _content(file)
        stripped = without_metadata(content)
        if stripped in (b'', content):
            raise
    return _checked(Image.open(io.BytesIO(stripped), formats=formats), size)


def _content(file):
    if isinstance(file, (str, bytes, os.PathLike)):
        with open(file, 'rb') as stream:
            return stream.read()
    file.seek(0)
    return file.read()


def _checked(image, size):
    try:
        _check_image(image, size)
        if not isinstance(image.info.get('xmp', b''), bytes):
            del image.info['xmp']  # a damaged tag of a TIFF, which Pillow 13 searches while it loads the pixels
        if image.format == 'PNG':
            image.load()  # its metadata may follow the pixels
        return image
    except BaseException:
        with image:  # which closes it
            raise


def _formats(name):
    Image.init()
    # TGA has no signature, so almost any file looks like one.
    tga = ('TGA',) if str(name).lower().endswith('.tga') else ()
    return [form for form in FORMATS + tga if form in Image.OPEN]


def _check_file(file):
    """The size of a regular file in bytes; raises an ImageError for anything else, and if it is too large."""
    if isinstance(file, (str, bytes, os.PathLike)):
        status = os.stat(file)
        if stat.S_ISDIR(status.st_mode):
            raise ImageError('is not an image that can be read but a folder without one.')
        if not stat.S_ISREG(status.st_mode):
            # Opening it could block forever.
            raise ImageError('is not an image that can be read but a pipe, a socket or a device.')
        size = status.st_size
    else:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
    _check_bytes(size, MAX_BYTES)
    return size


def _check_bytes(size, most):
    if size > most:
        raise ImageError(f'has more than the {most >> 20} MiB that are read; make it smaller.')


def _check_image(image, size):
    if image.format in HEAVY:
        _check_bytes(size, MAX_HEAVY_BYTES)
    most = HEAVY.get(image.format, MAX_PIXELS)
    if image.width * image.height > most:
        raise ImageError(f'is {image.width} x {image.height}: it {_too_many_pixels(most)}')
    if image.format == 'TIFF' and math.prod(_sides(image.tag_v2)) > most:
        raise ImageError(f'has tiles of {" x ".join(map(str, _sides(image.tag_v2)))}: it {_too_many_pixels(most)}')
    # A block of 8 x 8 pixels has at least a bit.
    if image.format == 'JPEG' and (not _has_end(image.fp, size) or image.width * image.height > 512 * size):
        raise ImageError('is not an image that can be read whole, as its end is missing.')


def _sides(tags):
    """Width and height of a TIFF's tiles, 0 without any."""
    return [side if isinstance(side, int) else 0 for side in (tags.get(322), tags.get(323))]


def _too_many_pixels(most):
    return f'has more than the {most // 10**6} million pixels that are read; make it smaller.'


def _has_end(file, size):
    """Whether a JPEG file, read up to its first scan, has an end marker, which coded pixels never contain."""
    try:
        # Without a seek, which would empty the file's buffer.
        if os.pread(file.fileno(), 2, size - 2) == END:
            return True
    except (AttributeError, OSError):  # on Windows, or in memory
        pass
    position, last = file.tell(), b''
    try:
        for chunk in iter(lambda: file.read(2**16), b''):
            if END in last + chunk:
                return True
            last = chunk[-1:]
        return False
    finally:
        file.seek(position)


def upright(image: Image.Image) -> Image.Image:
    """An image decoded, converted to RGB and turned upright, by the module's rules.

    Parameters
    ----------
    image : PIL.Image
        Decoded in place, and itself returned if nothing has to change.

    Raises
    ------
    ValueError
        If its pixels are floating-point numbers or integers of 32 bits.
    """
    turn, exif = orientation(image), None  # before Pillow decodes a TIFF, which turns it
    if hasattr(image, 'tag_v2'):
        exif = image.getexif()
        stored = exif.get(ORIENTATION)
    image.load()
    rgb = _rgb(image)
    if exif is not None and stored in TURNS and ORIENTATION not in exif:
        # Pillow has turned the TIFF while decoding it, whatever the type of its orientation.
        if stored == turn:
            return rgb
        rgb = rgb.transpose(UNDONE[stored])
    if turn != 1:
        rgb = rgb.transpose(TURNS[turn])
        for key in METADATA:  # so that it is not turned again
            rgb.info.pop(key, None)
    return rgb


def _rgb(image):
    """A decoded image as RGB, with the upper 8 of 16 bits and without alpha."""
    # Pillow has mode I, 32 bits, for 16-bit PPM, and in older versions PNG.
    if image.mode == 'F' or image.mode == 'I' and image.format not in ('PNG', 'PPM'):
        kind = 'floating-point numbers' if image.mode == 'F' else 'integers of 32 bits'
        raise ImageError(f'has {kind} for pixels, whose range is unknown; save it with 8 or 16 bits.')
    if image.mode.startswith('I'):
        bits = image.tag_v2.get(BITS_PER_SAMPLE, (16,))[0] if hasattr(image, 'tag_v2') else 16
        image = Image.fromarray((np.asarray(image) >> bits - 8).astype(np.uint8))
    if image.mode in ('La', 'RGBa'):
        # Their colours are multiplied by alpha.
        image = image.convert(image.mode[:-1] + 'A')
    return image if image.mode == 'RGB' else image.convert('RGB')


def read_image(path: str | os.PathLike | BinaryIO) -> Image.Image:
    """Read an image file as an upright RGB PIL.Image, by the module's rules.

    Parameters
    ----------
    path : str or binary file

    Raises
    ------
    ValueError
        If there is no such file, or it breaks the rules.
    """
    with opened(path) as image:
        return upright(image)


def to_image(image: str | os.PathLike | Image.Image | np.ndarray) -> Image.Image:
    """An image in any form as an upright RGB PIL.Image.

    Parameters
    ----------
    image : str, PIL.Image or numpy.ndarray
        A path, an image, or an RGB array (H, W, 3) of uint8.

    Raises
    ------
    ValueError
        If it is none of these, or cannot be read.
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(os.fspath(image))
    if isinstance(image, Image.Image):
        return upright(image)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f'{image.shape} of {image.dtype}' if isinstance(image, np.ndarray) else f'a {type(image).__name__}'
        raise ValueError(f'An image is a path or an RGB array (H, W, 3) of uint8, got {got}.')
    return Image.fromarray(image)


__getattr__ = deprecated_names(__name__)
