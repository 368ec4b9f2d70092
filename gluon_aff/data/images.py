"""Reading images and bringing them to what a network takes.

One reader serves all: :func:`read_image`, or :func:`opened` and :func:`upright` where the file is in memory or only a
part of the image is wanted. Its rules:

- The content says what an image is, not its name. BMP, GIF, JPEG, JPEG 2000, PNG, PPM (PBM, PGM), TIFF and WebP are
  read, TGA by its name, AVIF and HEIF where Pillow has them; of several pictures in a file the first.
- It is turned as EXIF's orientation says, a whole number of 1 to 8 of type SHORT, or, where EXIF has none, XMP's.
  Anything else is 1, as stored, and damaged metadata are passed over.
- Of 16 bits the upper 8 are kept. Alpha is dropped, the colours stay as stored. Pillow brings CMYK, YCbCr and Lab to
  RGB.
- Refused are floating-point numbers and integers of 32 bits, as their range is unknown; files that are cut
  short, a JPEG without its end marker for one; images of more than 64 million pixels and files of more than 256 MiB, of
  AVIF, HEIF and WebP 32 million and 64 MiB, of JPEG 2000 16 million and 64 MiB; what is no regular file.
"""

from __future__ import annotations

import io
import math
import os
import stat
import threading
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageFile

from .metadata import without_metadata
from .orientation import ORIENTATION, orientation

__all__ = [
    'evaluation_array',
    'evaluation_crop',
    'normalise',
    'opened',
    'read_image',
    'short_side',
    'to_image',
    'upright',
]

FORMATS = ('JPEG', 'PNG', 'AVIF', 'BMP', 'GIF', 'HEIF', 'JPEG2000', 'PPM', 'TIFF', 'WEBP')
MAX_PIXELS, MAX_BYTES = 64_000_000, 2**28
# The decoders of these hold several copies of the image and of the file.
HEAVY, MAX_HEAVY_BYTES = {'AVIF': 32_000_000, 'HEIF': 32_000_000, 'JPEG2000': 16_000_000, 'WEBP': 32_000_000}, 2**26
END = b'\xff\xd9'  # a JPEG's
BITS_PER_SAMPLE = 0x0102  # TIFF's tag
METADATA = ('exif', 'Raw profile type exif', 'xmp', 'XML:com.adobe.xmp')  # of PIL.Image.info
# By orientation: the transposition that turns the image upright, and its inverse.
TURNS = {
    2: Image.FLIP_LEFT_RIGHT,
    3: Image.ROTATE_180,
    4: Image.FLIP_TOP_BOTTOM,
    5: Image.TRANSPOSE,
    6: Image.ROTATE_270,
    7: Image.TRANSVERSE,
    8: Image.ROTATE_90,
}
UNDONE = {**TURNS, 6: Image.ROTATE_90, 8: Image.ROTATE_270}


class ImageError(ValueError):
    """Why an image is refused, to go on after its name, if it has one."""

    def __str__(self):
        return f'An image {self.args[0]}'


class _Strict:
    """Pillow refuses files that are cut short while any thread is within.

    Importing gluoncv.data tells it, for the whole process, to fill up what is missing with grey.
    """

    def __init__(self):
        self.lock, self.inside, self.callers = threading.Lock(), 0, False

    def __enter__(self):
        with self.lock:
            if not self.inside:
                self.callers, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
            self.inside += 1

    def __exit__(self, *error):
        with self.lock:
            self.inside -= 1
            if not self.inside and not ImageFile.LOAD_TRUNCATED_IMAGES:
                ImageFile.LOAD_TRUNCATED_IMAGES = self.callers


strict = _Strict()


@contextmanager
def opened(file, name=None):
    """Within the block, the image in a file, the pixels of a JPEG not decoded yet.

    Parameters
    ----------
    file : str or binary file
    name : str, optional
        What errors call it, the path by default.

    Raises
    ------
    ValueError
        If there is no such file, it is larger than the module's rules allow, or what the block does with it fails.
    """
    name = name or file
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
    except Exception as error:  # Pillow's readers raise what a damaged file leads them to, struct.error for one.
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
    # TGA has no signature, so almost any file may look like it.
    tga = ('TGA',) if str(name).lower().endswith('.tga') else ()
    return [each for each in FORMATS + tga if each in Image.OPEN]


def _check_file(file):
    """The size of a file in bytes, if it is one and not too large."""
    if isinstance(file, (str, bytes, os.PathLike)):
        status = os.stat(file)
        if stat.S_ISDIR(status.st_mode):
            raise ImageError('is not an image that can be read but a folder that holds none.')
        if not stat.S_ISREG(status.st_mode):
            # It is not opened, as that could wait for ever.
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
    """Whether a JPEG file, at its first scan, has an end marker, which is not among the coded pixels."""
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


def upright(image):
    """The image decoded, as RGB, turned upright, by the module's rules.

    Parameters
    ----------
    image : PIL.Image
        It is decoded, and may itself be returned.

    Raises
    ------
    ValueError
        If its pixels are floating-point numbers or integers of 32 bits.
    """
    turn, exif = orientation(image), None
    if hasattr(image, 'tag_v2'):
        exif = image.getexif()
        stored = exif.get(ORIENTATION)
    image.load()
    rgb = _rgb(image)
    if exif is not None and stored in TURNS and ORIENTATION not in exif:
        # Pillow has turned the TIFF while decoding, by an orientation of any type.
        if stored == turn:
            return rgb
        rgb = rgb.transpose(UNDONE[stored])
    if turn != 1:
        rgb = rgb.transpose(TURNS[turn])
        for key in METADATA:  # so that the image is not turned once more
            rgb.info.pop(key, None)
    return rgb


def _rgb(image):
    """A decoded image as RGB: of 16 bits the upper 8, without alpha."""
    # Pillow calls integers of 32 bits what is stored with 16 in PNG, in older versions, and PPM.
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


def read_image(path):
    """The image file at `path` as an RGB PIL.Image, turned upright; see the module for the rules.

    Raises
    ------
    ValueError
        If there is no such file, it is larger than the rules allow, or it is not an image that Pillow reads whole.
    """
    with opened(path) as image:
        return upright(image)


def to_image(image: str | os.PathLike | Image.Image | np.ndarray) -> Image.Image:
    """A path, a PIL.Image or an RGB array (H, W, 3) of uint8 as an upright RGB PIL.Image.

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


def normalise(images, mean, std):
    """uint8 images (N, H, W, C) to float32 (N, 3, H, W): values in 0..1, less mean, by std; grey ones become RGB.

    Parameters
    ----------
    images : numpy.ndarray, uint8, (N, H, W, 1) or (N, H, W, 3)
    mean, std : three floats each
        Of RGB values in 0..1.
    """
    scale = (1 / (255 * np.asarray(std))).astype(np.float32)[:, None, None]
    shift = (np.asarray(mean) / np.asarray(std)).astype(np.float32)[:, None, None]
    # Bytes are transposed, as floats would take five times as long.
    values = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) * scale
    values -= shift
    return values


def short_side(size, crop_ratio):
    """To how many pixels the short side is resized for a centre crop of `size`: ceil(size / crop_ratio)."""
    # Rounded first, as 21 / 0.7 is a little more than 30.
    return math.ceil(round(size / crop_ratio, 6))


def evaluation_crop(image, input_size, crop_ratio=0.875):
    """The part of an RGB image that a network sees: short side resized to ceil(H / crop_ratio), centre cropped.

    Parameters
    ----------
    image : PIL.Image
    input_size : (C, H, W)
    crop_ratio : float, default 0.875

    Returns
    -------
    numpy.ndarray, uint8, (H, W, 3)
    """
    _, height, width = input_size
    tall, wide = short_side(height, crop_ratio), short_side(width, crop_ratio)
    if image.width * tall >= image.height * wide:
        size = (image.width * tall // image.height, tall)
    else:
        size = (wide, image.height * wide // image.width)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    box = left, top, left + width, top + height
    if size == image.size:
        return np.asarray(image.crop(box))
    # The part alone is a little differently rounded, so it is computed only where the rest would be most of the work; a
    # crop_ratio above 1 has a black border.
    if min(left, top) < 0 or size[0] * size[1] <= 8 * width * height:
        return np.asarray(image.resize(size, Image.BILINEAR).crop(box))
    return np.asarray(_resized(image, size, box))


def _resized(image, size, box):
    """The part within `box`, in pixels of the result, of an image resized to `size`; nothing else is computed."""
    # Pillow's box has single precision, so it gets a box in the small part of the image that crop and filter need.
    starts, ends, within = [], [], []
    for old, new, low, high in zip(image.size, size, box[:2], box[2:]):
        margin = math.ceil(max(1, old / new)) + 1
        starts.append(max(low * old // new - margin, 0))
        ends.append(min(-(-high * old // new) + margin, old))
        within.append((low * old / new - starts[-1], high * old / new - starts[-1]))
    (left, right), (top, bottom) = within
    part = image.crop((*starts, *ends))
    return part.resize((box[2] - box[0], box[3] - box[1]), Image.BILINEAR, (left, top, right, bottom))


def evaluation_array(image, input_size, mean, std, crop_ratio=0.875):
    """An RGB image as a network's input: :func:`evaluation_crop`, normalised.

    Parameters
    ----------
    image : PIL.Image
    input_size : (C, H, W)
    mean, std : three floats each
        Of RGB values in 0..1.
    crop_ratio : float, default 0.875

    Returns
    -------
    numpy.ndarray, float32, (3, H, W)
    """
    return normalise(evaluation_crop(image, input_size, crop_ratio)[None], mean, std)[0]
