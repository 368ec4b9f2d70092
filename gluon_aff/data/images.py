"""Reading images and bringing them to what a network takes."""
from __future__ import annotations

import math
import os
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageFile, ImageOps

__all__ = ['IMAGE_SUFFIXES', 'evaluation_array', 'evaluation_crop', 'find_images', 'normalise', 'opened', 'read_image',
           'short_side', 'upright']

IMAGE_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')


def find_images(paths):
    """The paths as they are, but for each folder its image files, by name, subfolders included."""
    found = []
    for path in map(os.fspath, paths):
        inside = sorted(os.path.join(folder, file) for folder, _, files in os.walk(path) for file in files
                        if file.lower().endswith(IMAGE_SUFFIXES))
        found += inside or [path]
    return found


@contextmanager
def opened(file, name=None):
    """Within the block, the image in a file, its pixels not decoded yet.

    Parameters
    ----------
    file : str or binary file
    name : str, optional
        What errors call it, the path by default.

    Raises
    ------
    ValueError
        If there is no such file, or what the block does with it fails.
    """
    name = name or file
    # Importing gluoncv.data sets it, for the whole process: what is missing of a file then becomes grey, unnoticed.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(file) as image:
            yield image
    except FileNotFoundError:
        raise ValueError(f'There is no file {name}.') from None
    except Exception as error:  # Pillow's readers raise what a damaged file leads them to, struct.error for one.
        raise ValueError(f'{name} is not an image that can be read ({type(error).__name__}).') from None


def upright(image):
    """The image decoded, as RGB, turned as its EXIF data says; of 16 bits the upper 8 are kept, and alpha is dropped.

    Parameters
    ----------
    image : PIL.Image
        Changed, or returned itself.
    """
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith('I'):
        # Pillow's own conversion would cut everything above 255 to white.
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return image if image.mode == 'RGB' else image.convert('RGB')


def read_image(path):
    """The image file at `path` as an RGB PIL.Image, turned upright as its EXIF data says.

    Raises
    ------
    ValueError
        If there is no such file, or it is not an image that Pillow reads whole.
    """
    if os.path.isdir(path):
        raise ValueError(f'Folder {path} holds no image ({", ".join(IMAGE_SUFFIXES)}).')
    with opened(path) as image:
        return upright(image)


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
    if size != image.size:
        image = image.resize(size, Image.BILINEAR)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return np.asarray(image.crop((left, top, left + width, top + height)))


def evaluation_array(image, input_size, mean, std, crop_ratio=0.875):
    """An RGB image as a network's input: what :func:`evaluation_crop` gives, normalised.

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
